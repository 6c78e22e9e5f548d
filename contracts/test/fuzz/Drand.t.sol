// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DrandBeacon} from "../../src/DrandBeacon.sol";
import {Bn254} from "../../src/libraries/Bn254.sol";
import {EvmnetBase} from "../EvmnetBase.sol";

/// @notice Only drand's signature of a round gives it a seed.
contract DrandFuzz is EvmnetBase {
    function testFuzz_AFlippedBitNeverVerifies(uint256 which, uint256 bit) external view {
        (uint64 round, uint256[2] memory signature,) = _round(which % ROUNDS);
        signature[(bit >> 8) & 1] ^= 1 << (bit & 255);
        vm.assertFalse(_verifies(round, signature), "flipped");
    }

    function testFuzz_AnotherRoundsSignatureNeverVerifies(uint256 which, uint64 round) external view {
        (uint64 signed, uint256[2] memory signature,) = _round(which % ROUNDS);
        vm.assume(round != signed);
        vm.assertFalse(_verifies(round, signature), "another round");
    }

    function testFuzz_ANegatedSignatureNeverVerifies(uint256 which) external view {
        (uint64 round, uint256[2] memory signature,) = _round(which % ROUNDS);
        vm.assertTrue(_verifies(round, signature), "as drand signed it");
        signature[1] = Bn254.P - signature[1];
        vm.assertFalse(_verifies(round, signature), "negated");
    }

    /// @dev Points of the group that are no signatures: what other numbers hash to.
    function testFuzz_AnotherPointNeverVerifies(uint256 which, bytes32 message) external view {
        (uint64 round,,) = _round(which % ROUNDS);
        uint256[2] memory point = Bn254.hashToPoint("another use", abi.encodePacked(message));
        vm.assertTrue(Bn254.isOnCurve(point), "a point");
        vm.assertFalse(_verifies(round, point), "no signature");
    }

    function testFuzz_EveryElementMapsOntoTheCurve(uint256 u) external view {
        u %= Bn254.P;
        (uint256 x, uint256 y) = Bn254.mapToPoint(u);
        vm.assertTrue(x < Bn254.P && y < Bn254.P, "canonical");
        vm.assertTrue(Bn254.isOnCurve([x, y]), "on the curve");
        vm.assertEq(y & 1, u & 1, "its sign is that of the element");
    }

    function testFuzz_TheRoundAtATimeIsTheFirstNotBeforeIt(uint40 time, uint32 lag) external {
        DrandBeacon late = _evmnet(uint32(lag % _genesis()));
        time = uint40(_bound(time, 0, type(uint40).max - 3));
        uint64 round = late.roundAt(time);
        vm.assertGe(late.timeOf(round), time, "not before");
        if (round > 1) vm.assertLt(late.timeOf(round - 1), time, "the first");
        vm.assertGe(round, 1, "rounds begin at one");
    }

    /// @dev What is fixed by an instant in a block that is late by less than the lag is fixed before the round is public.
    function testFuzz_ARoundIsPublishedALagAfterTheInstantThatAsksForIt(uint40 time, uint32 lag) external {
        DrandBeacon late = _evmnet(uint32(lag % _genesis()));
        DrandBeacon sharp = _evmnet(0);
        time = uint40(_bound(time, 0, type(uint40).max / 2));
        vm.assertGe(sharp.timeOf(late.roundAt(time)), uint256(time) + late.lag(), "published later");
    }

    function _verifies(uint64 round, uint256[2] memory signature) private view returns (bool) {
        try beacon.seedFrom(round, signature) returns (bytes32 seed) {
            vm.assertTrue(seed != 0, "a seed");
            return true;
        } catch {
            return false;
        }
    }
}
