// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice When a lease runs. Instants are Unix seconds, spans are seconds.
/// @param start Billing starts.
/// @param end The lease ends.
/// @param openBy The last moment at which {ILeases-open} accepts the terms; at most a parameter's `openAhead` away.
/// @param prepare Span after `start` before the unpaid clock runs, for pulling data.
/// @param notice Span between a notice and the provider's right to leave without a break fee.
/// @param slack How far payment may run ahead of time, and how far it may lag before an unpaid notice.
struct Schedule {
    uint40 start;
    uint40 end;
    uint40 openBy;
    uint32 prepare;
    uint32 notice;
    uint32 slack;
}

/// @notice What buyer and provider both sign; the EIP-712 digest is the lease's id. Amounts are base units of
/// `token`. The times are a struct of their own because a generated Rust binding holds at most 24 members.
/// @param buyer Pays. Its free balance locks `deposit` at opening.
/// @param provider Works. Its free balance locks `bond` at opening.
/// @param device The registry's device, or zero on the unstaked tier.
/// @param units Which of the device's units, as a bit mask; zero where `device` is zero.
/// @param unstaked The buyer accepts a device without stake, or no device at all.
/// @param meter The key that signs vouchers: a plain secp256k1 key, never a contract.
/// @param meterMaySignLast Whether the meter, and not the buyer alone, may sign the `last` voucher.
/// @param token The payment token.
/// @param rate Price in base units a second, times 1e18.
/// @param deposit The buyer's escrow: all it can ever pay for this lease.
/// @param prepay No voucher below this counts; forfeited when no voucher ever settles.
/// @param bond The provider's bond: compensates the buyer and pays the provider's break fee, nothing else.
/// @param compensationCap The most the bond pays as compensation.
/// @param providerBreakFee Owed from the bond by a provider that closes early.
/// @param buyerBreakFee Owed from the deposit by a buyer that closes a reserved lease early; zero for other kinds.
/// @param kind 0 on-demand, 1 spot, 2 reserved.
/// @param schedule When it runs.
/// @param uptimePromise In basis points.
/// @param version The parameter version that rules this lease for its whole life.
/// @param jobDigest Digest of the salted job manifest.
/// @param tosHash Digest of the provider's terms of service.
/// @param parent The lease that this one extends, or zero.
struct LeaseTerms {
    address buyer;
    address provider;
    bytes32 device;
    uint64 units;
    bool unstaked;
    address meter;
    bool meterMaySignLast;
    address token;
    uint128 rate;
    uint96 deposit;
    uint96 prepay;
    uint96 bond;
    uint96 compensationCap;
    uint96 providerBreakFee;
    uint96 buyerBreakFee;
    uint8 kind;
    Schedule schedule;
    uint16 uptimePromise;
    uint32 version;
    bytes32 jobDigest;
    bytes32 tosHash;
    bytes32 parent;
}

/// @notice A cumulative promise to pay, signed by the meter (by the buyer, or a meter that may, where `last`).
/// @param lease The lease's id.
/// @param cumulative All that is owed so far, in base units.
/// @param notBefore Counts from this instant on; a ladder of these pays for an unattended lease.
/// @param last Ends the lease well: only the provider may submit it, and it frees the bond at once.
struct Voucher {
    bytes32 lease;
    uint96 cumulative;
    uint40 notBefore;
    bool last;
}

/// @notice A checkpoint that both sides acknowledged: what was paid before it was not lost with the provider.
/// @param lease The lease's id.
/// @param paidAt Cumulative payment when the checkpoint was stored, in base units.
/// @param root Digest of the checkpoint's contents.
/// @param at When it was stored.
struct CheckpointRecord {
    bytes32 lease;
    uint96 paidAt;
    bytes32 root;
    uint40 at;
}

/// @notice One voucher for {ILeases-settleMany}.
struct Settlement {
    LeaseTerms terms;
    Voucher voucher;
    bytes signature;
}

/// @dev Kinds of lease, as in `LeaseTerms.kind`.
uint8 constant ON_DEMAND = 0;
uint8 constant SPOT = 1;
uint8 constant RESERVED = 2;

/// @dev What `LeaseTerms.rate` is multiplied by.
uint256 constant RATE_SCALE = 1e18;

/// @dev Ten thousand basis points are the whole.
uint256 constant BASIS_POINTS = 10_000;
