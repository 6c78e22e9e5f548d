// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DrandBeacon} from "../../src/DrandBeacon.sol";
import {Bn254} from "../../src/libraries/Bn254.sol";
import {EvmnetBase} from "../EvmnetBase.sol";

contract DrandBeaconTest is EvmnetBase {
    uint40 private constant GENESIS = 1_727_521_075;

    function test_ItHasTheHashByWhichDrandNamesTheChain() external view {
        vm.assertEq(beacon.chainHash(), vm.parseJsonBytes32(json, ".chain.hash"), "hash");
        vm.assertEq(_genesis(), GENESIS, "genesis");
        vm.assertEq(beacon.lag(), LAG, "lag");
        uint256[4] memory key = beacon.key();
        vm.assertEq(keccak256(abi.encode(key)), keccak256(abi.encode(_key())), "key");
    }

    function test_RevertWhen_TheKeyIsNoPointOfTheGroup() external {
        uint256[4] memory infinity;
        _refused(infinity);
        uint256[4] memory off = _key();
        off[3] += 1;
        _refused(off);
        // The same point, written otherwise.
        uint256[4] memory wrapped = _key();
        wrapped[0] += Bn254.P;
        _refused(wrapped);
        // On the twist, but of another order.
        _refused(
            [
                uint256(0),
                1,
                0x0d1271953ed9ea0836846e70a1934187998c7f790cb4d7511b7f8da82de048a4,
                0x2869111d5381f072f8e2728fdb825a51aadd70e52c9830e9ab4b871c0531f1bb
            ]
        );
    }

    function test_RevertWhen_TheSpansMakeNoSense() external {
        (uint256[4] memory key, bytes32 groupSeed) = (_key(), _groupSeed());
        vm.expectRevert(abi.encodeWithSelector(DrandBeacon.InvalidSpans.selector, GENESIS, 0, LAG));
        new DrandBeacon(key, GENESIS, 0, groupSeed, "evmnet", LAG);
        vm.expectRevert(abi.encodeWithSelector(DrandBeacon.InvalidSpans.selector, 60, 3, LAG));
        new DrandBeacon(key, 60, 3, groupSeed, "evmnet", LAG);
    }

    function test_RoundsAreThoseNotBeforeATime() external {
        DrandBeacon sharp = _evmnet(0);
        vm.assertEq(sharp.timeOf(1), GENESIS, "round 1 at genesis");
        vm.assertEq(sharp.timeOf(3), GENESIS + 6, "the third");
        vm.assertEq(sharp.roundAt(0), 1, "there is no round 0");
        vm.assertEq(sharp.roundAt(GENESIS), 1, "the first");
        vm.assertEq(sharp.roundAt(GENESIS + 1), 2, "the next");
        vm.assertEq(sharp.roundAt(GENESIS + 3), 2, "to the second");
        vm.assertEq(sharp.roundAt(GENESIS + 4), 3, "after it");
    }

    function test_ALateBlockKnowsARoundThatMuchEarlier() external view {
        vm.assertEq(beacon.timeOf(1), GENESIS - LAG, "round 1");
        vm.assertEq(beacon.roundAt(GENESIS - LAG), 1, "the first");
        vm.assertEq(beacon.roundAt(GENESIS), 21, "what drand publishes a minute later");
        vm.assertEq(beacon.timeOf(21), GENESIS, "by the chain's clock");
    }

    function test_RevertWhen_ThereIsNoSuchRound() external {
        (, uint256[2] memory signature,) = _round(0);
        vm.expectRevert(abi.encodeWithSelector(DrandBeacon.NoSuchRound.selector, 0));
        beacon.timeOf(0);
        vm.expectRevert(abi.encodeWithSelector(DrandBeacon.NoSuchRound.selector, 0));
        beacon.submit(0, signature);
        vm.expectRevert(abi.encodeWithSelector(DrandBeacon.NoSuchRound.selector, 0));
        beacon.seedFrom(0, signature);
        uint64 last = beacon.roundAt(type(uint40).max - 3);
        beacon.timeOf(last);
        vm.expectRevert(abi.encodeWithSelector(DrandBeacon.NoSuchRound.selector, last + 2));
        beacon.timeOf(last + 2);
        vm.assertEq(beacon.seed(0), bytes32(0), "unknown for ever");
    }

    function test_ASeedIsDrandsRandomnessForGood() external {
        for (uint256 i; i < ROUNDS; ++i) {
            (uint64 round, uint256[2] memory signature, bytes32 randomness) = _round(i);
            vm.assertEq(beacon.seed(round), bytes32(0), "unknown before");
            vm.expectEmit(address(beacon));
            emit DrandBeacon.SeedStored(round, randomness);
            beacon.submit(round, signature);
            vm.assertEq(beacon.seed(round), randomness, "stored");
            vm.assertEq(beacon.seedAt(beacon.timeOf(round)), randomness, "by its time");
            vm.assertEq(beacon.seedAt(beacon.timeOf(round) - 2), randomness, "first not before");
            vm.assertEq(beacon.seedAt(beacon.timeOf(round) + 1), bytes32(0), "not the next");
        }
    }

    function test_AStoredRoundIsLeftAlone() external {
        (uint64 round, uint256[2] memory signature, bytes32 randomness) = _round(2);
        beacon.submit(round, signature);
        vm.recordLogs();
        beacon.submit(round, signature);
        beacon.submit(round, [uint256(1), 2]);
        beacon.submit(round, [type(uint256).max, 0]);
        vm.assertEq(vm.getRecordedLogs().length, 0, "nothing happened");
        vm.assertEq(beacon.seed(round), randomness, "it stays");
    }

    function test_RevertWhen_TheRoundIsNotDue() external {
        (uint64 round, uint256[2] memory signature,) = _round(3);
        uint256 dueAt = beacon.timeOf(round);
        vm.warp(dueAt - 1);
        vm.expectRevert(abi.encodeWithSelector(DrandBeacon.RoundNotDue.selector, round, dueAt));
        beacon.submit(round, signature);
        vm.warp(dueAt);
        beacon.submit(round, signature);
    }

    function test_RevertWhen_ACoordinateIsNotCanonical() external {
        (uint64 round, uint256[2] memory signature,) = _round(3);
        uint256[2] memory x = [signature[0] + Bn254.P, signature[1]];
        vm.expectRevert(abi.encodeWithSelector(DrandBeacon.NotCanonical.selector, x));
        beacon.submit(round, x);
        uint256[2] memory y = [signature[0], signature[1] + Bn254.P];
        vm.expectRevert(abi.encodeWithSelector(DrandBeacon.NotCanonical.selector, y));
        beacon.submit(round, y);
        // Infinity, written so that its words are not zero.
        vm.expectRevert(abi.encodeWithSelector(DrandBeacon.NotCanonical.selector, [Bn254.P, Bn254.P]));
        beacon.submit(round, [Bn254.P, Bn254.P]);
    }

    function test_RevertWhen_ThePointIsNotOnTheCurve() external {
        (uint64 round, uint256[2] memory signature,) = _round(3);
        uint256[2] memory infinity;
        vm.expectRevert(abi.encodeWithSelector(DrandBeacon.NotOnCurve.selector, infinity));
        beacon.submit(round, infinity);
        uint256[2] memory off = [signature[0], signature[1] - 1];
        vm.expectRevert(abi.encodeWithSelector(DrandBeacon.NotOnCurve.selector, off));
        beacon.submit(round, off);
    }

    function test_RevertWhen_TheSignatureIsNotTheRounds() external {
        (uint64 round, uint256[2] memory signature,) = _round(3);
        (, uint256[2] memory other,) = _round(4);
        uint256[2] memory negated = [signature[0], Bn254.P - signature[1]];
        uint256[2][3] memory wrong = [other, negated, [uint256(1), 2]];
        for (uint256 i; i < wrong.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(DrandBeacon.WrongSignature.selector, round, wrong[i]));
            beacon.submit(round, wrong[i]);
        }
        vm.assertEq(beacon.seed(round), bytes32(0), "still unknown");
    }

    function test_RevertWhen_AnotherGroupSigned() external {
        // The generator: a group whose secret is one.
        DrandBeacon others = new DrandBeacon(
            [
                0x198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2,
                0x1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed,
                0x090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b,
                0x12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa
            ],
            GENESIS,
            3,
            bytes32(0),
            "others",
            0
        );
        (uint64 round, uint256[2] memory signature,) = _round(3);
        vm.expectRevert(abi.encodeWithSelector(DrandBeacon.WrongSignature.selector, round, signature));
        others.submit(round, signature);
        // Its signature of a message is the message's point: the check tells this group's from evmnet's.
        uint256[2] memory point = _pair(".hashes[1].point");
        others.submit(round, point);
        vm.expectRevert(abi.encodeWithSelector(DrandBeacon.WrongSignature.selector, round, point));
        beacon.submit(round, point);
    }

    function _refused(uint256[4] memory key) private {
        bytes32 groupSeed = _groupSeed();
        vm.expectRevert(abi.encodeWithSelector(DrandBeacon.InvalidKey.selector, key));
        new DrandBeacon(key, GENESIS, 3, groupSeed, "evmnet", LAG);
    }
}
