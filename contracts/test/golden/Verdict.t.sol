// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IBeacon} from "../../src/interfaces/IBeacon.sol";
import {IProofs} from "../../src/interfaces/IProofs.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Draw} from "../../src/libraries/Draw.sol";
import {Element, ProductRoots, Report} from "../../src/types/Evidence.sol";
import {CourtBase, ITradewindCourt} from "../CourtBase.sol";

/// @notice The vectors that the Rust crates write: the contracts agree, with a court at the vectors' address.
contract CourtGoldenTest is CourtBase {
    string private _json;
    ITradewindCourt private _there;

    function setUp() public override {
        vm.chainId(31_337);
        super.setUp();
        _json = vm.readFile("test/golden/trust.json");
        address at = vm.parseJsonAddress(_json, ".court.contract");
        vm.etch(at, address(court).code);
        _there = ITradewindCourt(at);
    }

    function _word(string memory key) private view returns (bytes32) {
        return vm.parseJsonBytes32(_json, key);
    }

    function _device() private view returns (bytes32) {
        return registry.deviceId(
            vm.parseJsonAddress(_json, ".device.provider"), vm.parseJsonAddress(_json, ".device.key")
        );
    }

    function test_IdsAndDigestsAgree() external view {
        vm.assertEq(vm.parseJsonUint(_json, ".court.chainId"), block.chainid, "chain");
        vm.assertEq(_device(), _word(".device.id"), "device");
        bytes32 id = _there.caseId(_device(), 7);
        vm.assertEq(id, _word(".case.id"), "case");
        bytes32 commitment = keccak256(
            abi.encode(id, 5, uint8(1), _word(".commitment.transcript"), _word(".commitment.salt"))
        );
        vm.assertEq(commitment, _word(".commitment.hash"), "commitment");
        bytes32 pong = keccak256(abi.encode(_word(".pong.nonce"), 5, uint64(1_800_000_000_123)));
        vm.assertEq(pong, _word(".pong.body"), "pong");
        bytes32 statement = keccak256(
            abi.encode(
                keccak256("Statement(bytes32 topic,bytes32 device,uint64 sequence,bytes32 body)"),
                keccak256("tradewind/pong"),
                _device(),
                9,
                pong
            )
        );
        vm.assertEq(_digestThere(statement), _word(".statement.digest"), "statement");
        bytes32 vote = keccak256(
            abi.encode(
                keccak256("Vote(bytes32 caseId,uint8 instance,uint8 finding,bytes32 transcript)"),
                id,
                1,
                1,
                _word(".vote.transcript")
            )
        );
        vm.assertEq(_digestThere(vote), _word(".vote.digest"), "vote");
    }

    function _digestThere(bytes32 structHash) private view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", _there.DOMAIN_SEPARATOR(), structHash));
    }

    function test_LotsFallAlike() external view {
        bytes32[] memory seeds = vm.parseJsonBytes32Array(_json, ".draws.seeds");
        bytes32 id = _word(".draws.caseId");
        uint256[] memory panel = Draw.pick(seeds[0], id, Draw.PANEL, 40, 33);
        _assertSame(panel, vm.parseJsonUintArray(_json, ".draws.predraw"), "panel");
        uint256[] memory committed = vm.parseJsonUintArray(_json, ".draws.committed");
        uint256[] memory committee = Draw.pick(seeds[1], id, Draw.COMMITTEE, committed.length, 11);
        bool[40] memory votes;
        for (uint256 i; i < 11; ++i) {
            committee[i] = committed[committee[i]];
            votes[committee[i]] = true;
        }
        _assertSame(committee, vm.parseJsonUintArray(_json, ".draws.committee"), "committee");
        uint256[] memory others = new uint256[](29);
        uint256 found;
        for (uint256 i; i < 40; ++i) {
            if (!votes[i]) others[found++] = i;
        }
        uint256[] memory bench = Draw.pick(seeds[2], id, Draw.BENCH, 29, 21);
        for (uint256 i; i < 21; ++i) {
            bench[i] = others[bench[i]];
        }
        _assertSame(bench, vm.parseJsonUintArray(_json, ".draws.appeal"), "bench");
    }

    function _assertSame(uint256[] memory left, uint256[] memory right, string memory what) private pure {
        vm.assertEq(keccak256(abi.encode(left)), keccak256(abi.encode(right)), what);
    }

    function test_TheCourtConvictsTheWrongElement() external {
        vm.mockCall(
            address(beacon),
            abi.encodeWithSelector(IBeacon.seedAt.selector),
            abi.encode(_word(".seeds.beacon"))
        );
        vm.mockCall(address(registry), abi.encodeWithSelector(IRegistry.slashFault.selector), "");
        Element memory element;
        element.provider = vm.parseJsonAddress(_json, ".device.provider");
        element.key = vm.parseJsonAddress(_json, ".device.key");
        element.epoch = 7;
        element.product = ProductRoots(
            uint32(vm.parseJsonUint(_json, ".element.size")),
            vm.parseJsonBytes32Array(_json, ".element.roots"),
            vm.parseJsonBytes(_json, ".element.signature")
        );
        element.round = vm.parseJsonUint(_json, ".element.round");
        element.row = vm.parseJsonUint(_json, ".element.row");
        element.column = vm.parseJsonUint(_json, ".element.column");
        element.leaf = vm.parseJsonBytes(_json, ".element.leaf");
        element.path = vm.parseJsonBytes32Array(_json, ".element.path");
        Report memory nobody;
        vm.expectEmit(address(_there));
        emit IProofs.ElementProved(
            _word(".device.id"),
            7,
            element.round,
            vm.parseJsonInt(_json, ".element.claimed"),
            vm.parseJsonInt(_json, ".element.computed")
        );
        _there.proveElement(element, nobody);
    }
}
