// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Auth} from "../types/Authorization.sol";
import {Parameters} from "../types/Parameters.sol";
import {State} from "../types/LeaseWord.sol";
import {CheckpointRecord, LeaseTerms, Voucher} from "../types/Terms.sol";
import {Verdict} from "./ICourt.sol";

/// @notice Why a provider gives notice.
enum Reason {
    Unpaid,
    Reclaim
}

/// @notice A lease's state, decoded. Amounts in base units, instants in Unix seconds.
/// @param paid What the vouchers moved so far, the provider's fee included.
/// @param openedAt When it opened.
/// @param noticeAt When the provider last gave notice, or zero.
/// @param dueAt While Closing: when anyone may finalize. Once Settled: when anyone may release the bond.
/// @param challenged A challenge waits for its answer since `challengedAt`.
/// @param disputed A dispute waits for the court since `disputedAt`.
/// @param disputeUsed The lease had its one dispute.
/// @param providerFeeAside The provider closed early and its break fee goes to the buyer.
/// @param buyerFeeAside The buyer broke a reserved lease and its break fee is set aside.
/// @param buyerFeeOwed The court said that the set-aside fee is owed.
/// @param defaulted The provider failed to answer a challenge.
/// @param challenges How many challenges the lease has seen; the next challenge signs this number.
/// @param checkpointPaid `paid` at the last checkpoint that both sides acknowledged.
/// @param checkpointAt When that checkpoint was stored.
/// @param compensated What the bond already paid the buyer as compensation.
/// @param claim What the dispute asks for.
struct LeaseView {
    State state;
    uint96 paid;
    uint40 openedAt;
    uint40 noticeAt;
    uint40 dueAt;
    bool challenged;
    bool disputed;
    bool disputeUsed;
    bool providerFeeAside;
    bool buyerFeeAside;
    bool buyerFeeOwed;
    bool defaulted;
    uint32 challenges;
    uint40 challengedAt;
    uint96 checkpointPaid;
    uint40 checkpointAt;
    uint96 compensated;
    uint96 claim;
    uint40 disputedAt;
}

/// @title Remedies
/// @notice What a lease knows beside paying and ending: challenges, checkpoints and disputes. Called at the leases'
/// contract like everything else; the code lies in another contract for size.
interface IRemedyActions {
    /// @notice The provider gave notice. It may leave without a break fee from `matureAt` on.
    event LeaseNoticed(bytes32 indexed id, Reason reason, uint40 matureAt);
    /// @notice The buyer asked to close; anyone may finalize from `dueAt` on.
    event CloseRequested(bytes32 indexed id, uint40 dueAt, bool feeAside);
    event Challenged(bytes32 indexed id, uint32 sequence, uint96 bond, uint40 answerBy);
    event ChallengeAnswered(bytes32 indexed id, uint96 bondToProvider);
    /// @notice The lease closed well while a challenge was pending; its bond returned to the buyer.
    event ChallengeDropped(bytes32 indexed id, uint96 bondToBuyer);
    /// @notice Nobody answered: the buyer got its challenge bond back and `compensation` from the lease's bond.
    event LeaseDefaulted(bytes32 indexed id, uint96 compensation, bool repeated);
    event CheckpointAcknowledged(bytes32 indexed id, uint96 paidAt, bytes32 root, uint40 storedAt);
    event Disputed(bytes32 indexed id, uint96 claim, uint96 bond, bytes32 evidence);
    /// @notice A dispute ended. `Unknown` when the hard limit passed without a ruling.
    event DisputeEnded(bytes32 indexed id, Verdict verdict, uint96 award, uint96 bondToBuyer);
    /// @notice The court found that the buyer's set-aside break fee is owed.
    event BuyerFeeOwed(bytes32 indexed id);

    /// @notice An unpaid notice while `paid` covers what is `due`.
    error NotOwed(uint256 paid, uint256 due);
    error ChallengePending(bytes32 id);
    error NoChallenge(bytes32 id);
    error DisputePending(bytes32 id);
    error NoDispute(bytes32 id);
    error DisputeAlreadyUsed(bytes32 id);
    error ClaimOutOfRange(uint256 claim, uint256 limit);
    /// @notice The court does not know yet.
    error NoRuling(bytes32 id);
    /// @notice A record older than the one on chain, or claiming more than was paid.
    error StaleCheckpoint(uint256 storedAt, uint256 paidAt);

    /// @notice Adds a parameter version. Owner only; versions never change.
    function addVersion(Parameters calldata parameters_) external returns (uint32 version);

    /// @notice The provider's warning. `Unpaid`: settles the voucher given (empty signature: none), then what is
    /// paid must be less than what is due with all slack. `Reclaim`: spot leases only.
    /// Signed as `Notice(bytes32 lease,uint8 reason,uint40 previous,uint40 deadline)` with `previous` the lease's
    /// current `noticeAt`.
    function notice(
        LeaseTerms calldata terms,
        Reason reason,
        Voucher calldata voucher,
        bytes calldata voucherSignature,
        Auth calldata auth
    ) external;

    /// @notice The buyer stops. Vouchers not due yet are void, the provider has the window to settle.
    /// Signed as `RequestClose(bytes32 lease,uint40 deadline)`.
    function requestClose(LeaseTerms calldata terms, Auth calldata auth) external;

    /// @notice Closing → Settled, by anyone once the window passed.
    function finalize(LeaseTerms calldata terms) external;

    /// @notice Open or noticed → Settled, by anyone once the window after `end` passed.
    function expire(LeaseTerms calldata terms) external;

    /// @notice Settled → Closed, by anyone once the bond is due and no dispute holds it. Asks no court.
    function releaseBond(LeaseTerms calldata terms) external;

    /// @notice The buyer asks for a sign of life and locks a bond for it.
    /// Signed as `Challenge(bytes32 lease,uint32 sequence,uint40 deadline)` with `sequence` the number of challenges so far.
    function challenge(LeaseTerms calldata terms, Auth calldata auth) external;

    /// @notice The provider answers in time and keeps the challenge's bond.
    /// Signed as `Answer(bytes32 lease,uint40 challengedAt,uint40 deadline)`.
    function answer(LeaseTerms calldata terms, Auth calldata auth) external;

    /// @notice Nobody answered: the buyer is refunded and compensated. By anyone.
    /// @dev Compensation = min(compensationCap, min(paid − paid at the last acknowledged checkpoint,
    /// `compensationSpan` × rate) + `bonusSpan` × rate). In the first `refundWindow` all that was paid, without
    /// bonus; a second failure of the pair within `repeatWindow` has no bonus either.
    function defaulted(LeaseTerms calldata terms) external;

    /// @notice Presents a checkpoint that the provider and the buyer (or its meter) both signed. By anyone, while live.
    function acknowledge(
        LeaseTerms calldata terms,
        CheckpointRecord calldata record,
        bytes calldata providerSignature,
        bytes calldata buyerSignature
    ) external;

    /// @notice The buyer takes the lease to the court, once, and locks a bond for it.
    /// Signed as `Dispute(bytes32 lease,uint96 claim,bytes32 evidence,uint40 deadline)`.
    /// @param claim At most `compensationCap` less what was compensated already.
    /// @param evidence Digest of what the court shall look at.
    function dispute(LeaseTerms calldata terms, uint96 claim, bytes32 evidence, Auth calldata auth) external;

    /// @notice Asks the court about an open dispute and a set-aside buyer's fee, and acts on what it knows. By anyone.
    function resolve(LeaseTerms calldata terms) external;
}

/// @notice {IRemedyActions} and what only the leases' contract answers.
interface IRemedies is IRemedyActions {
    /// @notice The digest that both sign under a checkpoint.
    function checkpointDigest(CheckpointRecord calldata record) external view returns (bytes32);

    /// @notice When a lease of the pair last failed: by an unanswered challenge, or as the court ruled.
    /// @param pair keccak256(abi.encode(buyer, provider)).
    function failedAt(bytes32 pair) external view returns (uint256);

    /// @notice The lease's state, decoded.
    function lease(bytes32 id) external view returns (LeaseView memory);
}
