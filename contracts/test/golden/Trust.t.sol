// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Draw} from "../../src/libraries/Draw.sol";
import {Product} from "../../src/libraries/Product.sol";
import {Test} from "../Test.sol";

/// @notice The Rust crates wrote the file, from the rules as they know them.
contract TrustGoldenTest is Test {
    string private json;

    function setUp() external {
        json = vm.readFile("test/golden/trust.json");
    }

    function test_DotsAreThoseOfTheRules() external view {
        string[4] memory entries = [".dots[0]", ".dots[1]", ".dots[2]", ".dots[3]"];
        for (uint256 i; i < entries.length; ++i) {
            int256 found = Product.dot(
                _word(entries[i], ".seed"),
                _uint(entries[i], ".size"),
                _uint(entries[i], ".row"),
                _uint(entries[i], ".column")
            );
            require(found == vm.parseJsonInt(json, string.concat(entries[i], ".value")), entries[i]);
        }
    }

    function test_AWrongElementLeadsToItsRootAndIsWrong() external view {
        bytes32 root = vm.parseJsonBytes32Array(json, ".element.roots")[1];
        (uint256 size, uint256 row, uint256 column) =
            (_uint(".element", ".size"), _uint(".element", ".row"), _uint(".element", ".column"));
        bytes memory leaf = vm.parseJsonBytes(json, ".element.leaf");
        bytes32[] memory path = vm.parseJsonBytes32Array(json, ".element.path");
        require(leaf.length == Product.LEAF_BYTES && Product.reaches(path.length, size), "shape");
        uint256 index = Product.leafIndex(size, row, column);
        require(this.rootOf(leaf, path, index) == root, "root");
        require(this.elementOf(leaf, column) == vm.parseJsonInt(json, ".element.claimed"), "claimed");
        int256 computed = Product.dot(_word(".seeds", ".second"), size, row, column);
        require(computed == vm.parseJsonInt(json, ".element.computed"), "computed");
    }

    function test_SeedsAndHashesAreThoseOfTheRules() external view {
        (uint256 chain, address court) = (_uint(".court", ".chainId"), _address(".court", ".contract"));
        bytes32 device = _word(".device", ".id");
        require(
            device == keccak256(abi.encode(_address(".device", ".provider"), _address(".device", ".key"))),
            "device"
        );
        uint64 epoch = uint64(_uint(".case", ".epoch"));
        bytes32 caseId = keccak256(abi.encode(chain, court, device, epoch));
        require(caseId == _word(".case", ".id"), "case");
        bytes32 first = keccak256(abi.encode(_word(".seeds", ".beacon"), chain, court, device, epoch));
        require(first == _word(".seeds", ".first"), "first");
        bytes32 second = keccak256(abi.encode(first, _word(".seeds", ".root")));
        require(second == _word(".seeds", ".second"), "second");
        bytes32 pong = keccak256(
            abi.encode(
                _word(".pong", ".nonce"), _uint(".pong", ".seat"), uint64(_uint(".pong", ".unixMillis"))
            )
        );
        require(pong == _word(".pong", ".body"), "pong");
        bytes32 commitment = keccak256(
            abi.encode(
                caseId,
                _uint(".commitment", ".seat"),
                uint8(_uint(".commitment", ".finding")),
                _word(".commitment", ".transcript"),
                _word(".commitment", ".salt")
            )
        );
        require(commitment == _word(".commitment", ".hash"), "commitment");
    }

    function test_DigestsAreThoseOfTheRules() external view {
        bytes32 device = _word(".device", ".id");
        bytes32 statement = keccak256(
            abi.encode(
                keccak256("Statement(bytes32 topic,bytes32 device,uint64 sequence,bytes32 body)"),
                keccak256("tradewind/pong"),
                device,
                _uint(".statement", ".sequence"),
                _word(".statement", ".body")
            )
        );
        require(_digest(statement) == _word(".statement", ".digest"), "statement");
        bytes32 vote = keccak256(
            abi.encode(
                keccak256("Vote(bytes32 caseId,uint8 instance,uint8 finding,bytes32 transcript)"),
                _word(".vote", ".caseId"),
                _uint(".vote", ".instance"),
                _uint(".vote", ".finding"),
                _word(".vote", ".transcript")
            )
        );
        require(_digest(vote) == _word(".vote", ".digest"), "vote");
        bytes32 roots = keccak256(
            abi.encode(
                keccak256("ProductRoots(bytes32 device,uint64 epoch,uint32 size,bytes32[] roots)"),
                device,
                _uint(".element", ".epoch"),
                _uint(".element", ".size"),
                keccak256(abi.encodePacked(vm.parseJsonBytes32Array(json, ".element.roots")))
            )
        );
        bytes32 digest = _digest(roots);
        require(digest == _word(".element", ".digest"), "roots");
        bytes memory signature = vm.parseJsonBytes(json, ".element.signature");
        bytes32 r;
        bytes32 s;
        assembly {
            r := mload(add(signature, 0x20))
            s := mload(add(signature, 0x40))
        }
        require(ecrecover(digest, uint8(signature[64]), r, s) == _address(".device", ".key"), "signer");
    }

    function test_DrawsAreThoseOfTheRules() external view {
        bytes32 caseId = _word(".draws", ".caseId");
        bytes32[] memory seeds = vm.parseJsonBytes32Array(json, ".draws.seeds");
        uint256[] memory all = new uint256[](_uint(".draws", ".seats"));
        for (uint256 i; i < all.length; ++i) {
            all[i] = i;
        }
        _sameDraw(seeds[0], caseId, Draw.PANEL, all, ".draws.predraw");
        uint256[] memory committed = vm.parseJsonUintArray(json, ".draws.committed");
        uint256[] memory committee = vm.parseJsonUintArray(json, ".draws.committee");
        _sameDraw(seeds[1], caseId, Draw.COMMITTEE, committed, ".draws.committee");
        uint256[] memory others = new uint256[](all.length - committee.length);
        uint256 count;
        for (uint256 i; i < all.length; ++i) {
            bool judged;
            for (uint256 j; j < committee.length; ++j) {
                judged = judged || committee[j] == i;
            }
            if (!judged) others[count++] = i;
        }
        _sameDraw(seeds[2], caseId, Draw.BENCH, others, ".draws.appeal");
    }

    function rootOf(bytes calldata leaf, bytes32[] calldata path, uint256 index)
        external
        pure
        returns (bytes32)
    {
        return Product.rootOf(leaf, path, index);
    }

    function elementOf(bytes calldata leaf, uint256 column) external pure returns (int256) {
        return Product.elementOf(leaf, column);
    }

    function _sameDraw(
        bytes32 seed,
        bytes32 caseId,
        uint8 stage,
        uint256[] memory candidates,
        string memory key
    ) private view {
        uint256[] memory expected = vm.parseJsonUintArray(json, key);
        uint256[] memory drawn = Draw.pick(seed, caseId, stage, candidates.length, expected.length);
        for (uint256 i; i < expected.length; ++i) {
            require(candidates[drawn[i]] == expected[i], key);
        }
    }

    function _digest(bytes32 structHash) private view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
                ),
                keccak256("Tradewind Court"),
                keccak256("1"),
                _uint(".court", ".chainId"),
                _address(".court", ".contract")
            )
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, structHash));
    }

    function _word(string memory entry, string memory field) private view returns (bytes32) {
        return vm.parseJsonBytes32(json, string.concat(entry, field));
    }

    function _uint(string memory entry, string memory field) private view returns (uint256) {
        return vm.parseJsonUint(json, string.concat(entry, field));
    }

    function _address(string memory entry, string memory field) private view returns (address) {
        return vm.parseJsonAddress(json, string.concat(entry, field));
    }
}
