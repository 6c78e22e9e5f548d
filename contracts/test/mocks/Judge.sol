// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICourt, Verdict} from "../../src/interfaces/ICourt.sol";

/// @notice A court that says what it is told.
contract Judge is ICourt {
    Verdict private _verdict;
    uint96 private _award;
    bool private _credited;
    bool private _broken;

    error Broken();

    function rule(Verdict verdict, uint96 award) external {
        (_verdict, _award) = (verdict, award);
    }

    function credit(bool credited) external {
        _credited = credited;
    }

    function breakDown() external {
        _broken = true;
    }

    function ruling(bytes32) external view returns (Verdict, uint96) {
        if (_broken) revert Broken();
        return (_verdict, _award);
    }

    function uptimeCredit(bytes32, uint40, uint40) external view returns (bool) {
        if (_broken) revert Broken();
        return _credited;
    }
}
