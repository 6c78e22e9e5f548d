// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Drawing by lot, without replacement
/// @notice A Fisher–Yates shuffle over 0..population−1 that stops after `count` places.
library Draw {
    /// @dev The panel of a case.
    uint8 internal constant PANEL = 1;
    /// @dev The committee, among the panel's members that committed.
    uint8 internal constant COMMITTEE = 2;
    /// @dev The bench of an appeal, among the seats outside the committee.
    uint8 internal constant BENCH = 3;

    /// @param count At most `population`.
    /// @return drawn The numbers drawn, in order of drawing.
    function pick(bytes32 seed, bytes32 caseId, uint8 stage, uint256 population, uint256 count)
        internal
        pure
        returns (uint256[] memory drawn)
    {
        drawn = new uint256[](count);
        // A place holds what stands there plus one; zero is a place that was never moved.
        uint256[] memory places = new uint256[](population);
        for (uint256 i; i < count; ++i) {
            uint256 roll = uint256(keccak256(abi.encode(seed, caseId, stage, i)));
            uint256 j = i + roll % (population - i);
            drawn[i] = places[j] == 0 ? j : places[j] - 1;
            places[j] = places[i] == 0 ? i + 1 : places[i];
        }
    }
}
