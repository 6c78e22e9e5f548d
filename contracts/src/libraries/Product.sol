// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title One element of a product of two pseudo-random matrices
/// @notice Both matrices are int8, n × n. 32 elements of a row of A, or of a column of B, are one hash; B's are
/// laid out so that one multiplication of masked hashes has the dot product of eight elements in its top limb.
library Product {
    uint256 internal constant LEAF_BYTES = 1_024;

    /// @dev The lowest byte of each of eight 32-bit limbs.
    uint256 private constant LANES = 0x000000ff000000ff000000ff000000ff000000ff000000ff000000ff000000ff;
    /// @dev 128 in each limb.
    uint256 private constant HALVES = 0x0000008000000080000000800000008000000080000000800000008000000080;
    /// @dev 2^31 in each limb but the top one.
    uint256 private constant LIFT = 0x0000000080000000800000008000000080000000800000008000000080000000;

    /// @notice Whether so many siblings lead from a leaf to the root of the tree over n·n/256 leaves.
    /// @param size A power of two.
    function reaches(uint256 siblings, uint256 size) internal pure returns (bool) {
        return 1 << siblings == (size * size) >> 8;
    }

    function leafIndex(uint256 size, uint256 row, uint256 column) internal pure returns (uint256) {
        return row * (size >> 8) + (column >> 8);
    }

    /// @param path An even number of siblings, as every power of two has that {reaches} allows.
    /// @return result The root over a leaf.
    function rootOf(bytes calldata leaf, bytes32[] calldata path, uint256 index)
        internal
        pure
        returns (bytes32 result)
    {
        assembly ("memory-safe") {
            let ptr := mload(0x40)
            calldatacopy(ptr, leaf.offset, leaf.length)
            result := keccak256(ptr, leaf.length)
            let end := add(path.offset, shl(5, path.length))
            // The lowest bit left says on which side of its sibling the node is: at 0x00 or 0x20.
            index := shl(5, index)
            for { let at := path.offset } lt(at, end) { at := add(at, 0x40) } {
                let side := and(index, 0x20)
                mstore(side, result)
                mstore(xor(side, 0x20), calldataload(at))
                side := and(shr(1, index), 0x20)
                mstore(side, keccak256(0x00, 0x40))
                mstore(xor(side, 0x20), calldataload(add(at, 0x20)))
                result := keccak256(0x00, 0x40)
                index := shr(2, index)
            }
        }
    }

    /// @return value The element of a leaf in `column`: four bytes, big-endian, two's complement.
    function elementOf(bytes calldata leaf, uint256 column) internal pure returns (int256 value) {
        assembly ("memory-safe") {
            value := sar(224, calldataload(add(leaf.offset, shl(2, and(column, 0xff)))))
        }
    }

    /// @notice The exact dot product of row `row` of A and column `column` of B.
    /// @dev An element is a byte less 128. Eight of them, limb by limb, are one number modulo 2^256, and so is their
    /// product, whose top limb is the dot. No limb of the sum leaves its 32 bits: n ≤ 16,384, and n · 128² ≤ 2^28.
    function dot(bytes32 seed, uint256 size, uint256 row, uint256 column)
        internal
        pure
        returns (int256 value)
    {
        assembly ("memory-safe") {
            // Divided by one, a constant stays on the stack. The optimizer would compute a bare one anew at each use.
            let one := iszero(iszero(size))
            let lanes := div(LANES, one)
            let halves := div(HALVES, one)
            let a := or(shl(128, 1), shl(64, row))
            let end := add(a, shr(5, size))
            let toB := sub(or(shl(128, 2), shl(64, column)), a)
            mstore(0x00, seed)
            // Four hashes of each matrix a turn; n has at least eight.
            for {} lt(a, end) { a := add(a, 4) } {
                {
                    mstore(0x20, a)
                    let u := keccak256(0x00, 0x40)
                    mstore(0x20, add(a, toB))
                    let v := keccak256(0x00, 0x40)
                    value := add(mul(sub(and(lanes, v), halves), sub(and(lanes, u), halves)), value)
                    value := add(
                        mul(sub(and(lanes, shr(8, v)), halves), sub(and(lanes, shr(8, u)), halves)),
                        value
                    )
                    value := add(
                        mul(sub(and(lanes, shr(16, v)), halves), sub(and(lanes, shr(16, u)), halves)),
                        value
                    )
                    value := add(
                        mul(sub(and(lanes, shr(24, v)), halves), sub(and(lanes, shr(24, u)), halves)),
                        value
                    )
                }
                {
                    mstore(0x20, add(a, 1))
                    let u := keccak256(0x00, 0x40)
                    mstore(0x20, add(add(a, 1), toB))
                    let v := keccak256(0x00, 0x40)
                    value := add(mul(sub(and(lanes, v), halves), sub(and(lanes, u), halves)), value)
                    value := add(
                        mul(sub(and(lanes, shr(8, v)), halves), sub(and(lanes, shr(8, u)), halves)),
                        value
                    )
                    value := add(
                        mul(sub(and(lanes, shr(16, v)), halves), sub(and(lanes, shr(16, u)), halves)),
                        value
                    )
                    value := add(
                        mul(sub(and(lanes, shr(24, v)), halves), sub(and(lanes, shr(24, u)), halves)),
                        value
                    )
                }
                {
                    mstore(0x20, add(a, 2))
                    let u := keccak256(0x00, 0x40)
                    mstore(0x20, add(add(a, 2), toB))
                    let v := keccak256(0x00, 0x40)
                    value := add(mul(sub(and(lanes, v), halves), sub(and(lanes, u), halves)), value)
                    value := add(
                        mul(sub(and(lanes, shr(8, v)), halves), sub(and(lanes, shr(8, u)), halves)),
                        value
                    )
                    value := add(
                        mul(sub(and(lanes, shr(16, v)), halves), sub(and(lanes, shr(16, u)), halves)),
                        value
                    )
                    value := add(
                        mul(sub(and(lanes, shr(24, v)), halves), sub(and(lanes, shr(24, u)), halves)),
                        value
                    )
                }
                {
                    mstore(0x20, add(a, 3))
                    let u := keccak256(0x00, 0x40)
                    mstore(0x20, add(add(a, 3), toB))
                    let v := keccak256(0x00, 0x40)
                    value := add(mul(sub(and(lanes, v), halves), sub(and(lanes, u), halves)), value)
                    value := add(
                        mul(sub(and(lanes, shr(8, v)), halves), sub(and(lanes, shr(8, u)), halves)),
                        value
                    )
                    value := add(
                        mul(sub(and(lanes, shr(16, v)), halves), sub(and(lanes, shr(16, u)), halves)),
                        value
                    )
                    value := add(
                        mul(sub(and(lanes, shr(24, v)), halves), sub(and(lanes, shr(24, u)), halves)),
                        value
                    )
                }
            }
            // The lower limbs may be negative: lifted, they borrow nothing from the top one.
            value := sar(224, add(value, LIFT))
        }
    }
}
