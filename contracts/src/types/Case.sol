// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What a seat finds, and how a case ends.
enum Finding {
    None,
    Guilty,
    Clear,
    Unknown
}

/// @notice Where a case stands.
///
/// None → Opened → Panel → Voting → (Convicted → (Appealing)) → Decided → Closed. Each has a last instant, after which
/// anybody moves it on by {ICases-lapse}; all that lack an answer end Unknown.
enum Stage {
    None,
    Opened,
    Panel,
    Voting,
    Convicted,
    Appealing,
    Decided,
    Closed
}

/// @notice A case. Amounts in base units of the fee token, instants in Unix seconds.
/// @param opener Who pays for it and gets the reporter's share.
/// @param version The parameter version that rules it.
/// @param seats How many seats the frozen roster has; they are numbered from 0.
/// @param claim The most that the opener's own lease may claim.
/// @param bond Back unless the device is cleared; then the provider's.
/// @param prepaid For the committee's transcripts.
/// @param committed Bit mask over the panel's positions: who committed.
/// @param committee The same: who was drawn to decide.
/// @param revealed The same: whose vote is in.
/// @param downs The same: who voted guilty.
/// @param voteBy The committee's last instant.
/// @param benchBy The bench's last instant, or zero while there is none.
/// @param heard Bit mask over the bench: whose vote is in.
/// @param slashDue Guilty for good, not slashed yet.
/// @param panel The panel's seat numbers, 16 bits each, 16 a word, lowest first.
/// @param bench The bench's, the same way.
struct Case {
    address opener;
    uint40 openedAt;
    uint32 version;
    Stage stage;
    uint16 seats;
    bytes32 device;
    uint64 epoch;
    uint96 claim;
    uint96 bond;
    uint96 prepaid;
    uint64 committed;
    uint64 committee;
    uint64 revealed;
    uint64 downs;
    address appellant;
    uint96 appealPrepaid;
    uint40 voteBy;
    uint40 convictedAt;
    uint40 appealedAt;
    uint40 benchBy;
    uint32 heard;
    uint8 guilty;
    uint8 clear;
    uint8 benchGuilty;
    uint8 benchClear;
    Finding outcome;
    bool slashDue;
    uint40 decidedAt;
    uint256[3] panel;
    uint256[2] bench;
}

/// @notice A seat's vote on its way.
/// @param position In the panel or on the bench.
/// @param finding 1 guilty, 2 clear, 3 unknown.
/// @param salt Of the commitment; a bench has none.
/// @param signature The seat's key under the `Vote`.
struct Ballot {
    uint8 position;
    uint8 finding;
    bytes32 transcript;
    bytes32 salt;
    bytes signature;
}

/// @notice A lease that joined a case.
/// @param award What its bond pays at most if the device is guilty, in base units of the lease's token; a second failure
/// of the same pair is paid without the bonus in it.
struct Joined {
    bytes32 caseId;
    uint96 award;
}

/// @notice Who looked down at once in an epoch, among those that were paid not long before.
/// @param owners Providers with a device that was paid.
/// @param downOwners Those of them with such a device convicted in this epoch.
/// @param stake Of all such devices, in base units of the stake token.
/// @param downStake Of those convicted.
struct Census {
    uint32 owners;
    uint32 downOwners;
    uint96 stake;
    uint96 downStake;
}
