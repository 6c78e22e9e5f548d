// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What a court says about a dispute. Unknown is the answer until it knows, and forever if it never does.
enum Verdict {
    Unknown,
    ForBuyer,
    ForProvider
}

/// @title A court of leases
/// @notice Named by the parameter version. Only {ILeases-resolve} asks it; no exit does.
interface ICourt {
    /// @param lease The lease's id.
    /// @return verdict Who is right.
    /// @return award What the buyer gets from the bond, in base units of the lease's token; at most the claim counts.
    function ruling(bytes32 lease) external view returns (Verdict verdict, uint96 award);

    /// @notice Whether the device served well while a buyer that broke a reserved lease held it.
    /// @param device The registry's device.
    /// @param from The first second in question.
    /// @param to The last second in question.
    /// @return credited True only with positive evidence; unknown is false.
    function uptimeCredit(bytes32 device, uint40 from, uint40 to) external view returns (bool credited);
}
