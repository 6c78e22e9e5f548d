// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Where a lease stands. `Noticed` says why, since only an unpaid notice can be cured.
///
/// None → Open → (NoticedUnpaid | NoticedReclaim | Closing) → Settled → Closed
enum State {
    None,
    Open,
    NoticedUnpaid,
    NoticedReclaim,
    Closing,
    Settled,
    Closed
}

/// @notice A lease's whole hot state in one word:
/// `spare24 | flags8 | state8 | dueAt40 | noticeAt40 | openedAt40 | paid96`, lowest bits last.
/// @dev `dueAt` is the finalisation time while Closing and the bond's due time once Settled.
type LeaseWord is uint256;

using {
    paid,
    openedAt,
    noticeAt,
    dueAt,
    state,
    flags,
    has,
    withPaid,
    withNoticeAt,
    withDueAt,
    withState,
    withFlag,
    withoutFlag,
    isLive
} for LeaseWord global;

/// @dev A challenge waits for its answer.
uint8 constant CHALLENGED = 1;
/// @dev A dispute waits for the court.
uint8 constant DISPUTED = 2;
/// @dev The lease had its one dispute.
uint8 constant DISPUTE_USED = 4;
/// @dev The provider closed early: its break fee goes to the buyer when the bond is released.
uint8 constant PROVIDER_FEE = 8;
/// @dev The buyer broke a reserved lease: its break fee is set aside.
uint8 constant BUYER_FEE = 16;
/// @dev The court found that the set-aside buyer's fee is owed.
uint8 constant BUYER_FEE_OWED = 32;
/// @dev Part of the bond was paid out as compensation.
uint8 constant COMPENSATED = 64;
/// @dev The provider failed to answer a challenge.
uint8 constant DEFAULTED = 128;

uint256 constant MASK_96 = type(uint96).max;
uint256 constant MASK_40 = type(uint40).max;

uint256 constant OPENED_SHIFT = 96;
uint256 constant NOTICE_SHIFT = 136;
uint256 constant DUE_SHIFT = 176;
uint256 constant STATE_SHIFT = 216;
uint256 constant FLAGS_SHIFT = 224;

/// @dev The word of a lease that was just opened at `time`.
function openedLease(uint256 time) pure returns (LeaseWord) {
    return LeaseWord.wrap(((time & MASK_40) << OPENED_SHIFT) | (uint256(State.Open) << STATE_SHIFT));
}

function paid(LeaseWord self) pure returns (uint96) {
    return uint96(LeaseWord.unwrap(self));
}

function openedAt(LeaseWord self) pure returns (uint40) {
    return uint40(LeaseWord.unwrap(self) >> OPENED_SHIFT);
}

function noticeAt(LeaseWord self) pure returns (uint40) {
    return uint40(LeaseWord.unwrap(self) >> NOTICE_SHIFT);
}

function dueAt(LeaseWord self) pure returns (uint40) {
    return uint40(LeaseWord.unwrap(self) >> DUE_SHIFT);
}

function state(LeaseWord self) pure returns (State) {
    return State(uint8(LeaseWord.unwrap(self) >> STATE_SHIFT));
}

function flags(LeaseWord self) pure returns (uint8) {
    return uint8(LeaseWord.unwrap(self) >> FLAGS_SHIFT);
}

function has(LeaseWord self, uint8 flag) pure returns (bool) {
    return flags(self) & flag != 0;
}

/// @dev Open, noticed or closing: the device's units are busy and vouchers still count.
function isLive(LeaseWord self) pure returns (bool) {
    State current = state(self);
    return current > State.None && current < State.Settled;
}

function withPaid(LeaseWord self, uint96 value) pure returns (LeaseWord) {
    return LeaseWord.wrap((LeaseWord.unwrap(self) & ~MASK_96) | value);
}

function withNoticeAt(LeaseWord self, uint256 value) pure returns (LeaseWord) {
    return _with(self, MASK_40, NOTICE_SHIFT, value & MASK_40);
}

function withDueAt(LeaseWord self, uint256 value) pure returns (LeaseWord) {
    return _with(self, MASK_40, DUE_SHIFT, value & MASK_40);
}

function withState(LeaseWord self, State value) pure returns (LeaseWord) {
    return _with(self, 0xff, STATE_SHIFT, uint256(value));
}

function withFlag(LeaseWord self, uint8 flag) pure returns (LeaseWord) {
    return LeaseWord.wrap(LeaseWord.unwrap(self) | (uint256(flag) << FLAGS_SHIFT));
}

function withoutFlag(LeaseWord self, uint8 flag) pure returns (LeaseWord) {
    return LeaseWord.wrap(LeaseWord.unwrap(self) & ~(uint256(flag) << FLAGS_SHIFT));
}

function _with(LeaseWord self, uint256 mask, uint256 shift, uint256 value) pure returns (LeaseWord) {
    return LeaseWord.wrap((LeaseWord.unwrap(self) & ~(mask << shift)) | (value << shift));
}
