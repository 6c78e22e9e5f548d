// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Auth} from "../types/Authorization.sol";
import {State} from "../types/LeaseWord.sol";
import {LeaseTerms, Settlement, Voucher} from "../types/Terms.sol";

/// @notice What is wrong with terms that `open` refuses.
enum TermsFault {
    Parties,
    Kind,
    OpenBy,
    Start,
    End,
    Device,
    Prepay,
    Deposit,
    Bond,
    CompensationCap,
    BuyerBreakFee,
    Parent,
    Encoding
}

/// @title Leases
/// @notice A lease is two transactions: `open` with both signatures and `close` with the last voucher. Between them
/// a meter signs cumulative vouchers that anyone may settle. Every exit works alone, after a bounded time.
///
/// None → Open → (NoticedUnpaid | NoticedReclaim | Closing) → Settled → Closed
///
/// The terms come back as calldata on every call; their EIP-712 digest is the lease's id.
interface ILeases {
    /// @notice A lease began: `deposit` left the buyer's free balance and `bond` the provider's.
    event LeaseOpened(
        bytes32 indexed id,
        address indexed buyer,
        address indexed provider,
        bytes32 device,
        uint64 units,
        address token,
        uint128 rate,
        uint96 deposit,
        uint96 bond,
        uint8 kind,
        uint40 start,
        uint40 end,
        uint32 version
    );
    /// @notice `parent` closed and `id` opened in the same transaction.
    event LeaseExtended(bytes32 indexed parent, bytes32 indexed id);
    /// @notice The lease's paid amount grew to `paid`; the provider's free balance has it, less the fee.
    event VoucherSettled(bytes32 indexed id, uint96 paid);
    /// @notice One item of a batch failed and was skipped.
    event SettlementFailed(uint256 indexed index, bytes32 indexed id, bytes reason);
    /// @notice A settled voucher covered the time of an unpaid notice.
    event NoticeCured(bytes32 indexed id);
    /// @notice The lease's work and payments are final; the bond waits until `bondDue`.
    /// @param refunded What returned to the buyer so far.
    /// @param forfeited The prepayment that went to the sink because no voucher ever settled.
    /// @param fee Of `paid`, what went to the sink and the watchers.
    event LeaseSettled(
        bytes32 indexed id, uint96 paid, uint96 refunded, uint96 forfeited, uint96 fee, uint40 bondDue
    );
    /// @notice The lease is over. `deposit = paid + refunded + forfeited + buyerFee`, and
    /// of the bond the buyer got `bondToBuyer` and the provider the rest.
    /// @param buyerFee The buyer's break fee that went to the provider.
    /// @param bondToBuyer Compensation, awards and the provider's break fee.
    event LeaseClosed(
        bytes32 indexed id,
        uint96 paid,
        uint96 refunded,
        uint96 forfeited,
        uint96 fee,
        uint96 buyerFee,
        uint96 bondToBuyer
    );
    error WrongState(bytes32 id, State state);
    error InvalidTerms(bytes32 id, TermsFault fault);
    /// @notice No code lies at the address named for {remedies}.
    error InvalidRemedies(address remedies);
    error WrongLease(bytes32 expected, bytes32 found);
    error NotMember(address account);
    /// @notice A voucher outside [prepay, cap].
    error CumulativeOutOfRange(uint256 cumulative, uint256 prepay, uint256 cap);
    error VoucherNotYetValid(uint256 notBefore, uint256 now_);
    /// @notice A `last` voucher where none is taken, or none where one is needed.
    error UnexpectedLast(bool last);
    error TooEarly(uint256 from, uint256 now_);
    error TooLate(uint256 until, uint256 now_);
    /// @notice Opens a lease. Both sign the terms' digest; anyone submits.
    /// @return id The digest.
    function open(LeaseTerms calldata terms, bytes calldata buyerSignature, bytes calldata providerSignature)
        external
        returns (bytes32 id);

    /// @notice Settles one voucher of the meter. A stale one is a no-op.
    /// @dev Prefers no side: whoever holds a voucher may submit it. Refuses `last`.
    function settle(LeaseTerms calldata terms, Voucher calldata voucher, bytes calldata signature) external;

    /// @notice Settles each item that can be settled; the rest emit {SettlementFailed}.
    function settleMany(Settlement[] calldata items) external;

    /// @notice The provider ends the lease. With a `last` voucher it is Closed at once and the bond is free
    /// (Settled, where a dispute is open); else the voucher given (empty signature: none) settles and the bond waits.
    /// Signed as `Close(bytes32 lease,bytes32 voucher,uint40 deadline)` with the voucher's struct hash, or zero for none.
    function close(
        LeaseTerms calldata terms,
        Voucher calldata voucher,
        bytes calldata voucherSignature,
        Auth calldata auth
    ) external;

    /// @notice Closes one lease with its `last` voucher and opens another of the same two parties that names it as
    /// `parent`, or does neither. Only here may terms have a parent.
    /// @param auth The provider's, as for {close}: it binds the voucher, so that nobody can end the old lease with
    /// a smaller one.
    function extend(
        LeaseTerms calldata terms,
        Voucher calldata voucher,
        bytes calldata voucherSignature,
        Auth calldata auth,
        LeaseTerms calldata next,
        bytes calldata buyerSignature,
        bytes calldata providerSignature
    ) external returns (bytes32 id);

    /// @notice The lease's raw state word.
    function word(bytes32 id) external view returns (uint256);

    /// @notice The most that a voucher may say at `time`, in base units:
    /// `min(deposit − buyerBreakFee, rate × (min(time, end, closingAt) − start + slack) / 1e18 + 1)`.
    function cap(LeaseTerms calldata terms, uint40 time) external view returns (uint256);

    /// @notice What an unpaid notice at `time` compares `paid` with, in base units.
    function dueAt(LeaseTerms calldata terms, uint40 time) external view returns (uint256);

    /// @notice The id of the lease with these terms.
    function leaseId(LeaseTerms calldata terms) external view returns (bytes32);

    /// @notice The digest that a voucher's signer signs.
    function voucherDigest(Voucher calldata voucher) external view returns (bytes32);

    /// @notice The registry that this contract made and works with.
    function registry() external view returns (address);

    /// @notice Where the code behind {IRemedyActions} lies.
    function remedies() external view returns (address);
}
