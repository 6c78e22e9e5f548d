// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A device's hot state in one word:
/// `class16 | lastEnd40 | jailedUntil40 | busyUnits64 | stake96`, lowest bits last.
/// @dev `lastEnd` is when the last dispute about the device's latest lease can still be open.
type DeviceWord is uint256;

using {
    stake,
    busyUnits,
    jailedUntil,
    lastEnd,
    class,
    withStake,
    withBusyUnits,
    withJailedUntil,
    withLastEnd
} for DeviceWord global;

uint256 constant STAKE_MASK = type(uint96).max;
uint256 constant UNITS_MASK = type(uint64).max;
uint256 constant TIME_MASK = type(uint40).max;

uint256 constant UNITS_SHIFT = 96;
uint256 constant JAIL_SHIFT = 160;
uint256 constant END_SHIFT = 200;
uint256 constant CLASS_SHIFT = 240;

function newDevice(uint16 class_) pure returns (DeviceWord) {
    return DeviceWord.wrap(uint256(class_) << CLASS_SHIFT);
}

/// @dev Base units of the stake token.
function stake(DeviceWord self) pure returns (uint96) {
    return uint96(DeviceWord.unwrap(self));
}

function busyUnits(DeviceWord self) pure returns (uint64) {
    return uint64(DeviceWord.unwrap(self) >> UNITS_SHIFT);
}

function jailedUntil(DeviceWord self) pure returns (uint40) {
    return uint40(DeviceWord.unwrap(self) >> JAIL_SHIFT);
}

function lastEnd(DeviceWord self) pure returns (uint40) {
    return uint40(DeviceWord.unwrap(self) >> END_SHIFT);
}

function class(DeviceWord self) pure returns (uint16) {
    return uint16(DeviceWord.unwrap(self) >> CLASS_SHIFT);
}

function withStake(DeviceWord self, uint96 value) pure returns (DeviceWord) {
    return _with(self, STAKE_MASK, 0, value);
}

function withBusyUnits(DeviceWord self, uint64 value) pure returns (DeviceWord) {
    return _with(self, UNITS_MASK, UNITS_SHIFT, value);
}

function withJailedUntil(DeviceWord self, uint40 value) pure returns (DeviceWord) {
    return _with(self, TIME_MASK, JAIL_SHIFT, value);
}

function withLastEnd(DeviceWord self, uint40 value) pure returns (DeviceWord) {
    return _with(self, TIME_MASK, END_SHIFT, value);
}

function _with(DeviceWord self, uint256 mask, uint256 shift, uint256 value) pure returns (DeviceWord) {
    return DeviceWord.wrap((DeviceWord.unwrap(self) & ~(mask << shift)) | (value << shift));
}
