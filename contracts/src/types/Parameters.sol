// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICourt} from "../interfaces/ICourt.sol";
import {IMembership} from "../interfaces/IMembership.sol";

/// @notice One version of everything that a deployment may tune. Versions are only ever added; a lease keeps its own.
/// @param window After requestClose, and after `end`: how long the other side may still settle, in seconds.
/// @param bondDelay From Settled until the bond may be released, in seconds.
/// @param openAhead How far ahead `openBy` may lie, and how far back `start`, in seconds.
/// @param startAhead How far ahead `start` may lie, in seconds.
/// @param maxDuration The longest `end - start`, in seconds.
/// @param minCapOnDemand `compensationCap` covers at least this many seconds of an on-demand lease's rate.
/// @param minCapSpot The same for spot.
/// @param minCapReserved The same for reserved.
/// @param feeBps Fee on what is finally paid, in basis points, borne by the provider.
/// @param sinkBps The sink's share of the fee, in basis points; the watcher pool has the rest.
/// @param answerWindow How long a challenged provider may answer, in seconds.
/// @param hardLimit After this many seconds an open dispute no longer holds the bond.
/// @param refundWindow A failure in the first seconds of a lease refunds all that was paid, without bonus.
/// @param repeatWindow A second failure of the same pair within this many seconds earns no bonus.
/// @param compensationSpan Compensation looks back at most this many seconds of the rate.
/// @param bonusSpan Compensation adds this many seconds of the rate.
/// @param challengeSpan A challenge's bond is this many seconds of the rate.
/// @param disputeBps A dispute's bond, in basis points of the claim.
/// @param court Decides disputes.
/// @param membership Asked about both parties at opening, never later; zero asks nobody.
struct Parameters {
    uint32 window;
    uint32 bondDelay;
    uint32 openAhead;
    uint32 startAhead;
    uint32 maxDuration;
    uint32 minCapOnDemand;
    uint32 minCapSpot;
    uint32 minCapReserved;
    uint16 feeBps;
    uint16 sinkBps;
    uint32 answerWindow;
    uint32 hardLimit;
    uint32 refundWindow;
    uint32 repeatWindow;
    uint32 compensationSpan;
    uint32 bonusSpan;
    uint32 challengeSpan;
    uint16 disputeBps;
    ICourt court;
    IMembership membership;
}

/// @notice The one word that open, settle and close read; spans of 24 bits hold 194 days. Lowest bits last:
/// `flags8 | sinkBps16 | feeBps16 | openAhead16 | minCapReserved24 | minCapSpot24 | minCapOnDemand24 |
/// maxDuration32 | startAhead24 | tail24 | bondDelay24 | window24`.
/// @dev `tail` is the span from a lease's end until the last dispute about it is over.
type HotWord is uint256;

using {
    window,
    bondDelay,
    tail,
    startAhead,
    maxDuration,
    minCap,
    openAhead,
    feeBps,
    sinkBps,
    isActive,
    hasMembers,
    withActive
} for HotWord global;

/// @dev `open` accepts the version.
uint256 constant VERSION_ACTIVE = 1 << 248;
/// @dev The version names a membership hook.
uint256 constant VERSION_HAS_MEMBERS = 2 << 248;

function packHot(Parameters calldata p) pure returns (HotWord) {
    uint256 bits = uint256(p.window) | uint256(p.bondDelay) << 24
        | (uint256(p.window) + p.bondDelay + p.hardLimit) << 48 | uint256(p.startAhead) << 72
        | uint256(p.maxDuration) << 96;
    bits |= uint256(p.minCapOnDemand) << 128 | uint256(p.minCapSpot) << 152 | uint256(p.minCapReserved) << 176;
    bits |= uint256(p.openAhead) << 200 | uint256(p.feeBps) << 216 | uint256(p.sinkBps) << 232;
    if (address(p.membership) != address(0)) bits |= VERSION_HAS_MEMBERS;
    return HotWord.wrap(bits | VERSION_ACTIVE);
}

function window(HotWord self) pure returns (uint256) {
    return HotWord.unwrap(self) & 0xffffff;
}

function bondDelay(HotWord self) pure returns (uint256) {
    return (HotWord.unwrap(self) >> 24) & 0xffffff;
}

function tail(HotWord self) pure returns (uint256) {
    return (HotWord.unwrap(self) >> 48) & 0xffffff;
}

function startAhead(HotWord self) pure returns (uint256) {
    return (HotWord.unwrap(self) >> 72) & 0xffffff;
}

function maxDuration(HotWord self) pure returns (uint256) {
    return (HotWord.unwrap(self) >> 96) & 0xffffffff;
}

/// @dev In seconds of the rate; `kind` is 0, 1 or 2.
function minCap(HotWord self, uint256 kind) pure returns (uint256) {
    return (HotWord.unwrap(self) >> (128 + 24 * kind)) & 0xffffff;
}

function openAhead(HotWord self) pure returns (uint256) {
    return (HotWord.unwrap(self) >> 200) & 0xffff;
}

function feeBps(HotWord self) pure returns (uint256) {
    return (HotWord.unwrap(self) >> 216) & 0xffff;
}

function sinkBps(HotWord self) pure returns (uint256) {
    return (HotWord.unwrap(self) >> 232) & 0xffff;
}

function isActive(HotWord self) pure returns (bool) {
    return HotWord.unwrap(self) & VERSION_ACTIVE != 0;
}

function hasMembers(HotWord self) pure returns (bool) {
    return HotWord.unwrap(self) & VERSION_HAS_MEMBERS != 0;
}

function withActive(HotWord self, bool active) pure returns (HotWord) {
    uint256 bits = HotWord.unwrap(self) & ~VERSION_ACTIVE;
    return HotWord.wrap(active ? bits | VERSION_ACTIVE : bits);
}

/// @notice What only the rare calls read.
struct ColdParameters {
    uint32 answerWindow;
    uint32 hardLimit;
    uint32 refundWindow;
    uint32 repeatWindow;
    uint32 compensationSpan;
    uint32 bonusSpan;
    uint32 challengeSpan;
    uint16 disputeBps;
    ICourt court;
    IMembership membership;
}
