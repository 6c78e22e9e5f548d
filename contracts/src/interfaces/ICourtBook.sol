// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CourtParameters, Setup} from "../types/CourtParameters.sol";

/// @title What a court rests on
interface ICourtBook {
    /// @notice From `usableAt` on, what begins begins under this version.
    event CourtVersionAdded(uint32 indexed version, uint40 usableAt, CourtParameters parameters);
    /// @notice Somebody announced a report without saying which.
    event Announced(bytes32 indexed commitment);

    error InvalidCourtParameters();
    error InvalidSetup();
    /// @notice One version waits already: owners change one thing at a time, in the open.
    error VersionPending(uint32 version, uint256 usableAt);
    error AlreadyAnnounced(bytes32 commitment);
    /// @notice Reports are announced at least one block ahead, or they could be copied on their way.
    error NotAnnounced(bytes32 commitment);
    error EpochUnknown(uint64 epoch);

    /// @notice Announces a report by its commitment: for a case keccak256(abi.encode(opener, device, epoch, salt)), for
    /// a proof keccak256(abi.encode(reporter, evidence, salt)). By anyone: the commitment names who is paid.
    function announce(bytes32 commitment) external;

    /// @notice Adds a parameter version, which counts after the setup's delay. Owner only.
    function addCourtVersion(CourtParameters calldata parameters) external returns (uint32 version);

    function setup() external view returns (Setup memory);
    function epochAt(uint40 time) external view returns (uint64);
    function caseId(bytes32 device, uint64 epoch) external view returns (bytes32);
    function courtParameters(uint32 version)
        external
        view
        returns (CourtParameters memory parameters, uint40 usableAt);
    /// @notice The version that a case opened now would keep.
    function usableVersion() external view returns (uint32);
}
