// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IMembership} from "../../src/interfaces/IMembership.sol";

/// @notice A membership list; once broken, it answers nobody.
contract Club is IMembership {
    mapping(address account => bool) private _members;
    bool private _broken;

    error Broken();

    function admit(address account, bool member) external {
        _members[account] = member;
    }

    function breakDown() external {
        _broken = true;
    }

    function isMember(address account) external view returns (bool) {
        if (_broken) revert Broken();
        return _members[account];
    }
}
