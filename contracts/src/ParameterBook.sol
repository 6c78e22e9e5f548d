// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LeaseBook} from "./LeaseBook.sol";
import {Vault} from "./Vault.sol";
import {IParameterBook} from "./interfaces/IParameterBook.sol";
import {ColdParameters, HotWord, Parameters} from "./types/Parameters.sol";
import {ON_DEMAND, RESERVED, SPOT} from "./types/Terms.sol";

/// @title Append-only parameter versions
/// @notice A version can be paused for `open`, and nothing else about it ever changes.
abstract contract ParameterBook is IParameterBook, LeaseBook, Vault {
    /// @inheritdoc IParameterBook
    function setVersionActive(uint32 version, bool active) external onlyOwner {
        if (version == 0 || version > _latestVersion) revert VersionInactive(version);
        _setHot(version, _hotOf(version, address(0)).withActive(active));
        emit VersionActive(version, active);
    }

    /// @dev A token's standing is part of every version's word for it.
    function _tokenSet(address token) internal override {
        uint256 known;
        while (known < _tokens.length && _tokens[known] != token) ++known;
        if (known == _tokens.length) _tokens.push(token);
        for (uint256 version = 1; version <= _latestVersion; ++version) {
            _setHot(version, _hotOf(version, address(0)));
        }
    }

    /// @inheritdoc IParameterBook
    function parameters(uint32 version) external view returns (Parameters memory p, bool active) {
        HotWord hot = _hotOf(version, address(0));
        ColdParameters storage cold = _cold[version];
        p.window = uint32(hot.window());
        p.bondDelay = uint32(hot.bondDelay());
        p.openAhead = uint32(hot.openAhead());
        p.startAhead = uint32(hot.startAhead());
        p.maxDuration = uint32(hot.maxDuration());
        p.minCapOnDemand = uint32(hot.minCap(ON_DEMAND));
        p.minCapSpot = uint32(hot.minCap(SPOT));
        p.minCapReserved = uint32(hot.minCap(RESERVED));
        p.feeBps = uint16(hot.feeBps());
        p.sinkBps = uint16(hot.sinkBps());
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
        active = hot.isActive();
    }

    /// @inheritdoc IParameterBook
    function latestVersion() external view returns (uint32) {
        return _latestVersion;
    }
}
