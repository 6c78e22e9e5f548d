// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title A beacon of public randomness
/// @notice Rounds follow one another at fixed instants; nobody knows a round's seed before its time. Whoever draws
/// by lot names a round that lies ahead.
interface IBeacon {
    /// @return The round's seed; zero while, or for ever if, it is unknown.
    function seed(uint64 round) external view returns (bytes32);

    /// @return When the round's seed can be known at the earliest, in Unix seconds by the chain's clock.
    function timeOf(uint64 round) external view returns (uint40);

    /// @return The first round whose time is not before `time`.
    function roundAt(uint40 time) external view returns (uint64);

    /// @return The seed of `roundAt(time)`; zero is unknown.
    function seedAt(uint40 time) external view returns (bytes32);
}
