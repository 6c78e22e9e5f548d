// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Parameters} from "../types/Parameters.sol";

/// @title Append-only parameter versions
/// @notice A version can be paused for `open`, and nothing else about it ever changes.
interface IParameterBook {
    event VersionAdded(uint32 indexed version, Parameters parameters);
    /// @notice `open` accepts the version, or (paused) does not; nothing else asks.
    event VersionActive(uint32 indexed version, bool active);

    error VersionInactive(uint32 version);
    error InvalidParameters();

    /// @notice Pauses (false) or resumes (true) `open` for a version. Owner only; nothing but `open` asks.
    function setVersionActive(uint32 version, bool active) external;

    /// @notice The parameters of a version, and whether `open` accepts it.
    function parameters(uint32 version) external view returns (Parameters memory parameters_, bool active);

    /// @notice The newest version; versions count from 1.
    function latestVersion() external view returns (uint32);
}
