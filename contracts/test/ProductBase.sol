// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Element, ProductRoots} from "../src/types/Evidence.sol";
import {CourtBase} from "./CourtBase.sol";

/// @title A prover of hardware products
/// @notice The matrices element by element, as the rule is worded, and a tree around one leaf: what the other
/// leaves hold no proof of one element asks.
abstract contract ProductBase is CourtBase {
    uint64 internal constant PROVED = 1;

    function setUp() public virtual override {
        super.setUp();
        _toEpoch(PROVED);
        _reveal(vm.getBlockTimestamp());
    }

    function _seed(bytes32 device_, uint64 epoch) internal view returns (bytes32) {
        bytes32 drawn = beacon.seedAt(uint40(START + uint256(epoch) * EPOCH));
        return keccak256(abi.encode(drawn, block.chainid, address(court), device_, epoch));
    }

    /// @dev Element (row, column) of A·B, eight bits at a time.
    function _product(bytes32 seed, uint256 size, uint256 row, uint256 column)
        internal
        pure
        returns (int256 sum)
    {
        for (uint256 c; c < size / 32; ++c) {
            bytes32 a = keccak256(abi.encode(seed, uint256(1) << 128 | row << 64 | c));
            bytes32 b = keccak256(abi.encode(seed, uint256(2) << 128 | column << 64 | c));
            for (uint256 lane; lane < 32; ++lane) {
                (uint256 k, uint256 limb) = ((31 - lane) % 4, (31 - lane) / 4);
                int256 x = int256(uint256(uint8(a[lane]))) - 128;
                int256 y = int256(uint256(uint8(b[31 - 4 * (7 - limb) - k]))) - 128;
                sum += x * y;
            }
        }
    }

    /// @dev An element of the last of `rounds` rounds, off by `error`, whose device signed the roots.
    function _element(uint32 size, uint256 rounds, uint256 row, uint256 column, int256 error)
        internal
        view
        returns (Element memory element)
    {
        element.provider = provider;
        element.key = deviceKey;
        element.epoch = PROVED;
        element.round = rounds - 1;
        (element.row, element.column) = (row, column);
        bytes32[] memory roots = new bytes32[](rounds);
        bytes32 seed = _seed(device, PROVED);
        for (uint256 i; i + 1 < rounds; ++i) {
            roots[i] = keccak256(abi.encode("root", i));
            seed = keccak256(abi.encode(seed, roots[i]));
        }
        element.leaf = _leaf(column, _product(seed, size, row, column) + error);
        element.path = new bytes32[](_depth(size));
        bytes32 node = keccak256(element.leaf);
        uint256 index = row * (size / 256) + column / 256;
        for (uint256 i; i < element.path.length; ++i) {
            bytes32 sibling = keccak256(abi.encode("sibling", i));
            element.path[i] = sibling;
            node = (index >> i) & 1 == 0
                ? keccak256(abi.encodePacked(node, sibling))
                : keccak256(abi.encodePacked(sibling, node));
        }
        roots[rounds - 1] = node;
        element.product = _signRoots(DEVICE_KEY, device, PROVED, size, roots);
    }

    function _signRoots(uint256 key, bytes32 device_, uint64 epoch, uint32 size, bytes32[] memory roots)
        internal
        view
        returns (ProductRoots memory)
    {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256("ProductRoots(bytes32 device,uint64 epoch,uint32 size,bytes32[] roots)"),
                device_,
                epoch,
                size,
                keccak256(abi.encodePacked(roots))
            )
        );
        return ProductRoots(size, roots, _signCourt(key, structHash));
    }

    /// @dev Numbers of the magnitude that products have, and `value` in its place.
    function _leaf(uint256 column, int256 value) private pure returns (bytes memory leaf) {
        for (uint256 i; i < 256; ++i) {
            int256 filler = int256(uint256(keccak256(abi.encode("filler", i))) % 2_000_000) - 1_000_000;
            leaf = bytes.concat(leaf, bytes4(uint32(int32(i == column % 256 ? value : filler))));
        }
    }

    function _depth(uint256 size) private pure returns (uint256 depth) {
        for (uint256 leaves = size * size / 256; leaves > 1; leaves >>= 1) {
            ++depth;
        }
    }

    function _elementEvidence() internal view returns (bytes32) {
        return keccak256(abi.encode(device, "element", PROVED));
    }
}
