// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {LeaseBook} from "./LeaseBook.sol";
import {IParameterBook} from "./interfaces/IParameterBook.sol";
import {ColdParameters, HotParameters, Parameters, VERSION_ACTIVE} from "./types/Parameters.sol";

/// @title Append-only parameter versions
/// @notice A version can be paused for `open`, and nothing else about it ever changes.
abstract contract ParameterBook is IParameterBook, LeaseBook, Ownable2Step {
    /// @inheritdoc IParameterBook
    function setVersionActive(uint32 version, bool active) external onlyOwner {
        if (version == 0 || version > _latestVersion) revert VersionInactive(version);
        uint8 flags = _hot[version].flags;
        _hot[version].flags = active ? flags | VERSION_ACTIVE : flags & ~VERSION_ACTIVE;
        emit VersionActive(version, active);
    }

    /// @inheritdoc IParameterBook
    function parameters(uint32 version) external view returns (Parameters memory p, bool active) {
        HotParameters storage hot = _hot[version];
        ColdParameters storage cold = _cold[version];
        p.window = hot.window;
        p.bondDelay = hot.bondDelay;
        p.openAhead = hot.openAhead;
        p.startAhead = hot.startAhead;
        p.maxDuration = hot.maxDuration;
        p.minCapOnDemand = hot.minCapOnDemand;
        p.minCapSpot = hot.minCapSpot;
        p.minCapReserved = hot.minCapReserved;
        p.feeBps = hot.feeBps;
        p.sinkBps = hot.sinkBps;
        p.answerWindow = cold.answerWindow;
        p.hardLimit = cold.hardLimit;
        p.refundWindow = cold.refundWindow;
        p.repeatWindow = cold.repeatWindow;
        p.compensationSpan = cold.compensationSpan;
        p.bonusSpan = cold.bonusSpan;
        p.challengeSpan = cold.challengeSpan;
        p.disputeBps = cold.disputeBps;
        p.court = cold.court;
        p.membership = cold.membership;
        active = hot.flags & VERSION_ACTIVE != 0;
    }

    /// @inheritdoc IParameterBook
    function latestVersion() external view returns (uint32) {
        return _latestVersion;
    }
}
