// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Element, ProductRoots, Report, Statement, Vote} from "../types/Evidence.sol";

/// @title Proofs that need no vote
/// @notice The contract decides alone, and slashes at once. A reporter is paid who announced the proof in an earlier
/// block ({ICourt-report}); a copied proof pays its copyist nothing.
interface IProofs {
    /// @notice `claimed` stands in the committed product where `computed` belongs.
    event ElementProved(
        bytes32 indexed device, uint64 indexed epoch, uint256 round, int256 claimed, int256 computed
    );
    event EquivocationProved(bytes32 indexed device, bytes32 indexed evidence);
    event VoteEquivocationProved(uint32 indexed seat, bytes32 indexed caseId, uint8 instance);

    error InvalidSize(uint256 size);
    error InvalidOpening(uint256 round, uint256 row, uint256 column);
    /// @notice The beacon does not know the epoch's seed.
    error SeedUnknown(uint64 epoch);
    /// @notice The opened leaf is not in the tree under the signed root.
    error WrongPath(bytes32 root, bytes32 computed);
    error ElementCorrect(int256 value);
    error AlreadyProved(bytes32 evidence);
    error NotEquivocal();

    /// @notice A wrong element of a committed product: one dot product is recomputed. Slashes a share of the device's
    /// stake, a larger one from the second time on. Epochs have to rise ({IRegistry-slashFault}): a device is punished
    /// once for an epoch's products, however many elements are wrong. Evidence: keccak256(abi.encode(device, "element", epoch)).
    function proveElement(Element calldata element, Report calldata report_) external;

    /// @notice Two different lists of roots that a device signed for one epoch. Evidence:
    /// keccak256(abi.encode(device, "roots", epoch)).
    function proveRoots(
        address provider,
        address key,
        uint64 epoch,
        ProductRoots calldata one,
        ProductRoots calldata other,
        Report calldata report_
    ) external;

    /// @notice Two statements of one topic and sequence with different bodies. Evidence:
    /// keccak256(abi.encode(device, topic, sequence)).
    function proveStatements(
        address provider,
        address key,
        Statement calldata one,
        bytes calldata signatureOfOne,
        Statement calldata other,
        bytes calldata signatureOfOther,
        Report calldata report_
    ) external;

    /// @notice Two different votes of one seat in one instance of a case: the whole seat. Evidence:
    /// keccak256(abi.encode(seat, caseId, instance)).
    function proveVotes(
        uint32 seat,
        Vote calldata one,
        bytes calldata signatureOfOne,
        Vote calldata other,
        bytes calldata signatureOfOther,
        Report calldata report_
    ) external;
}
