// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What a device says once for a topic and sequence, signed by its key.
/// @param topic For example keccak256("tradewind/heartbeat").
/// @param body Digest of what is said.
struct Statement {
    bytes32 topic;
    bytes32 device;
    uint64 sequence;
    bytes32 body;
}

/// @notice What a seat found, signed by its key.
/// @param instance 1 is the committee, 2 the bench of an appeal.
/// @param finding 1 guilty, 2 clear, 3 unknown.
/// @param transcript Digest of what the seat saw.
struct Vote {
    bytes32 caseId;
    uint8 instance;
    uint8 finding;
    bytes32 transcript;
}

/// @notice The products that a device committed to in an epoch, signed by its key.
/// @param size n of the n × n matrices: a power of two from 256 to 16,384.
/// @param roots The Merkle root of every round's product, in order; at most 64.
struct ProductRoots {
    uint32 size;
    bytes32[] roots;
    bytes signature;
}

/// @notice One element of a committed product, opened.
/// @param provider The device's provider, and
/// @param key the device's key: the device is keccak256(abi.encode(provider, key)).
/// @param product What the device signed.
/// @param round Which of the roots.
/// @param row Of the element.
/// @param column Of the element.
/// @param leaf The 1,024 bytes of the leaf that holds it: 256 numbers of four bytes.
/// @param path The leaf's siblings, from the leaf up.
struct Element {
    address provider;
    address key;
    uint64 epoch;
    ProductRoots product;
    uint256 round;
    uint256 row;
    uint256 column;
    bytes leaf;
    bytes32[] path;
}

/// @notice For whom a proof was prepared. Whoever wants the reward committed to keccak256(abi.encode(reporter,
/// evidence, salt)) in an earlier block; without a reporter there is no reward and no need to.
struct Report {
    address reporter;
    bytes32 salt;
}
