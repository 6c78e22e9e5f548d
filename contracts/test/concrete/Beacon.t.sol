// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LocalBeacon} from "../../src/LocalBeacon.sol";
import {Test} from "../Test.sol";

contract BeaconTest is Test {
    uint40 private constant GENESIS = 1_800_000_000;

    LocalBeacon private _beacon;

    function setUp() external {
        vm.warp(GENESIS);
        vm.roll(1_000);
        _beacon = new LocalBeacon(GENESIS, 30, 600, true);
    }

    function test_RevertWhen_NobodySaidThatItIsForDevelopment() external {
        vm.expectRevert(LocalBeacon.NotForProduction.selector);
        new LocalBeacon(GENESIS, 30, 600, false);
        vm.expectRevert(abi.encodeWithSelector(LocalBeacon.InvalidSpans.selector, 0, 600));
        new LocalBeacon(GENESIS, 0, 600, true);
        vm.expectRevert(abi.encodeWithSelector(LocalBeacon.InvalidSpans.selector, 30, 0));
        new LocalBeacon(GENESIS, 30, 0, true);
    }

    function test_RoundsAreThoseNotBeforeATime() external view {
        vm.assertEq(_beacon.timeOf(3), GENESIS + 90, "time");
        vm.assertEq(_beacon.roundAt(GENESIS - 5), 0, "before the first");
        vm.assertEq(_beacon.roundAt(GENESIS), 0, "the first");
        vm.assertEq(_beacon.roundAt(GENESIS + 1), 1, "the next");
        vm.assertEq(_beacon.roundAt(GENESIS + 30), 1, "to the second");
        vm.assertEq(_beacon.roundAt(GENESIS + 31), 2, "after it");
    }

    function test_ASeedComesFromALaterBlockAndStays() external {
        vm.expectRevert(abi.encodeWithSelector(LocalBeacon.RoundNotDue.selector, 1, GENESIS + 30));
        _beacon.advance(1);
        vm.warp(GENESIS + 30);
        _beacon.advance(1);
        vm.assertEq(_beacon.seed(1), bytes32(0), "unknown while only marked");
        vm.expectRevert(abi.encodeWithSelector(LocalBeacon.SeedNotReady.selector, 1, 1_000));
        _beacon.advance(1);
        vm.roll(1_001);
        _beacon.advance(1);
        bytes32 seed = _beacon.seed(1);
        vm.assertTrue(seed != 0, "known");
        vm.assertEq(_beacon.seedAt(GENESIS + 1), seed, "by time");
        vm.roll(1_400);
        _beacon.advance(1);
        vm.assertEq(_beacon.seed(1), seed, "it stays");
    }

    function test_AMissedWindowIsMarkedAnew() external {
        vm.warp(GENESIS + 60);
        _beacon.advance(2);
        vm.roll(1_257);
        _beacon.advance(2);
        vm.assertEq(_beacon.seed(2), bytes32(0), "the hash is gone: a zero never counts");
        vm.roll(1_258);
        _beacon.advance(2);
        vm.assertTrue(_beacon.seed(2) != 0, "from the second mark");
    }

    function test_AStalledRoundStaysUnknown() external {
        vm.warp(GENESIS + 30 + 601);
        vm.expectRevert(abi.encodeWithSelector(LocalBeacon.RoundExpired.selector, 1, GENESIS + 630));
        _beacon.advance(1);
        vm.assertEq(_beacon.seed(1), bytes32(0), "unknown");
    }
}
