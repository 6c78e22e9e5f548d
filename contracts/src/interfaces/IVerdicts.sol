// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Case, Census, Joined} from "../types/Case.sol";
import {LeaseTerms} from "../types/Terms.sol";

/// @title What follows from a case
/// @notice Slashes, payments, harmed leases and the breaker. Called at the court.
interface IVerdicts {
    event CaseSlashed(bytes32 indexed caseId, bytes32 indexed device, uint96 amount);
    event LeaseJoined(bytes32 indexed caseId, bytes32 indexed lease, uint96 award);
    event DeviceCounted(uint64 indexed epoch, bytes32 indexed device, address indexed owner, uint96 stake);
    error NothingDue(bytes32 caseId);
    /// @notice Watchers got `paid`, of it `fromPool` out of the watcher pool.
    event CaseClosed(
        bytes32 indexed caseId, uint256 paid, uint256 fromPool, uint256 toOpener, uint256 toProvider
    );
    /// @notice The lease was not of this device, not in this epoch, not disputed, or claims more than the case.
    error NotHarmed(bytes32 lease);
    /// @notice Too many owners went down at once: burning waits.
    error BreakerTripped(uint64 epoch, uint256 until);

    /// @notice Slashes a device that is guilty for good, unless the breaker defers it.
    function execute(bytes32 caseId) external;

    /// @notice Pays watchers and bonds once the last vote is due.
    function closeCase(bytes32 caseId) external;

    /// @notice Adds a lease of the device, disputed and live in the epoch, to the case: {ICourt-ruling} will answer it.
    function join(bytes32 caseId, LeaseTerms calldata terms) external;

    /// @notice Shows leases that were paid in the seven days before the epoch's end: their devices count for the breaker.
    function count(uint64 epoch, LeaseTerms[] calldata leases) external;

    function caseOf(bytes32 caseId) external view returns (Case memory);
    function joined(bytes32 lease) external view returns (Joined memory);
    function census(uint64 epoch) external view returns (Census memory);
    /// @notice Whether so many looked down in the epoch that burning waits.
    function tripped(uint64 epoch) external view returns (bool);
}
