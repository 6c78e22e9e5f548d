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

/// @notice The one word that open, settle and close read. Spans of 24 bits hold 194 days.
/// @param tail From a lease's end until the last dispute about it is over.
/// @param flags {VERSION_ACTIVE}, {VERSION_HAS_MEMBERS}.
struct HotParameters {
    uint24 window;
    uint24 bondDelay;
    uint24 tail;
    uint24 startAhead;
    uint32 maxDuration;
    uint24 minCapOnDemand;
    uint24 minCapSpot;
    uint24 minCapReserved;
    uint16 openAhead;
    uint16 feeBps;
    uint16 sinkBps;
    uint8 flags;
}

/// @dev `open` accepts the version.
uint8 constant VERSION_ACTIVE = 1;
/// @dev The version names a membership hook.
uint8 constant VERSION_HAS_MEMBERS = 2;

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
