// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice One version of what a court's owner may tune. Versions are only ever added; a case keeps its own. Spans in
/// seconds, shares in basis points, amounts in base units of the fee token.
/// @param jailSeats With fewer seats than this in the snapshot the court takes no case.
/// @param fullSeats With fewer than this it jails and freezes, and never slashes.
/// @param panel How many seats a case draws first; all where there are fewer.
/// @param committee How many of those that committed decide.
/// @param quorum How many of the committee have to agree.
/// @param bench How many seats hear an appeal, none of them the committee's.
/// @param benchQuorum How many of the bench have to agree.
/// @param strikes A seat with this many strikes loses its place, not its stake.
/// @param admissible A case may be opened up to this many epochs after its own.
/// @param commitWindow From the opening until the last commitment.
/// @param voteWindow From a committee's draw until its last vote; and how long a draw may be late.
/// @param appealWindow From a conviction until the last appeal.
/// @param benchWindow From a bench's draw until its last vote; and how long that draw may be late.
/// @param freezeSpan How long a convicted device's stake is held; covers appeal and deferral.
/// @param deferSpan The breaker defers a slash no longer than this.
/// @param downBps Of a device's stake, for being down.
/// @param elementFirstBps For the first wrong element of a product.
/// @param elementAgainBps For every further one.
/// @param equivocationBps For two statements where there may be one.
/// @param bondBps A case's bond, of the claim.
/// @param minBond A case's bond is at least this.
/// @param transcriptFee What a vote of a drawn seat earns.
/// @param jail How long the first, second, third and every further conviction jails a device.
struct CourtParameters {
    uint16 jailSeats;
    uint16 fullSeats;
    uint8 panel;
    uint8 committee;
    uint8 quorum;
    uint8 bench;
    uint8 benchQuorum;
    uint8 strikes;
    uint16 admissible;
    uint32 commitWindow;
    uint32 voteWindow;
    uint32 appealWindow;
    uint32 benchWindow;
    uint32 freezeSpan;
    uint32 deferSpan;
    uint16 downBps;
    uint16 elementFirstBps;
    uint16 elementAgainBps;
    uint16 equivocationBps;
    uint16 bondBps;
    uint96 minBond;
    uint96 transcriptFee;
    uint32[4] jail;
}

/// @notice What never changes about a court.
/// @param leases The leases' contract: vault and source of what leases say.
/// @param registry Its registry, whose arbiter the court is.
/// @param beacon Where its lots come from.
/// @param stakeToken What seats and devices stake.
/// @param feeToken What bonds and watchers' fees are paid in.
/// @param genesis When epoch 0 began, in Unix seconds.
/// @param epochSpan Seconds of an epoch.
/// @param seatStake The stake of every seat, in base units of the stake token.
/// @param seatUnbonding From leaving until the stake may be withdrawn, in seconds.
/// @param versionDelay From adding a parameter version until it counts, in seconds.
struct Setup {
    address leases;
    address registry;
    address beacon;
    address stakeToken;
    address feeToken;
    uint40 genesis;
    uint32 epochSpan;
    uint96 seatStake;
    uint32 seatUnbonding;
    uint32 versionDelay;
}
