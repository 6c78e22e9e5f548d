// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICourt, Verdict} from "./interfaces/ICourt.sol";

/// @title The court of a deployment without a trust layer
/// @notice Knows nothing, ever: disputes run out at the hard limit, a buyer's break fee always returns.
contract UnknownCourt is ICourt {
    /// @inheritdoc ICourt
    function ruling(bytes32) external pure returns (Verdict, uint96) {
        return (Verdict.Unknown, 0);
    }

    /// @inheritdoc ICourt
    function uptimeCredit(bytes32, uint40, uint40) external pure returns (bool) {
        return false;
    }
}
