// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title A deployment's gate, where it has one
/// @notice Asked when an account registers and when a lease opens; never at an exit.
interface IMembership {
    /// @return Whether `account` may register and open leases.
    function isMember(address account) external view returns (bool);
}
