// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DeviceWord, newDevice} from "../../src/types/DeviceWord.sol";
import {LeaseWord, State, openedLease} from "../../src/types/LeaseWord.sol";
import {HotWord, Parameters, packHot} from "../../src/types/Parameters.sol";
import {Test} from "../Test.sol";

/// @notice Packed words: every field reads back, and writing one disturbs no other.
contract WordsFuzz is Test {
    struct LeaseFields {
        uint96 paid;
        uint40 openedAt;
        uint40 noticeAt;
        uint40 dueAt;
        uint8 state;
        uint8 flags;
    }

    function testFuzz_ALeaseWordKeepsItsFields(LeaseFields calldata drawn) external pure {
        State held = State(drawn.state % 7);
        LeaseWord word = openedLease(drawn.openedAt).withFlag(drawn.flags).withState(held);
        word = word.withDueAt(drawn.dueAt).withNoticeAt(drawn.noticeAt).withPaid(drawn.paid);
        vm.assertEq(word.paid(), drawn.paid, "paid");
        vm.assertEq(word.openedAt(), drawn.openedAt, "openedAt");
        vm.assertEq(word.noticeAt(), drawn.noticeAt, "noticeAt");
        vm.assertEq(word.dueAt(), drawn.dueAt, "dueAt");
        vm.assertEq(uint256(word.state()), uint256(held), "state");
        vm.assertEq(word.flags(), drawn.flags, "flags");
        word = word.withoutFlag(drawn.flags);
        vm.assertEq(word.flags(), 0, "no flags");
        vm.assertEq(word.dueAt(), drawn.dueAt, "dueAt without flags");
        vm.assertEq(word.withPaid(0).openedAt(), drawn.openedAt, "openedAt without paid");
    }

    function testFuzz_ADeviceWordKeepsItsFields(
        uint96 stake,
        uint64 busy,
        uint40 jailed,
        uint40 end,
        uint16 class
    ) external pure {
        DeviceWord word = newDevice(class).withLastEnd(end).withJailedUntil(jailed).withBusyUnits(busy)
            .withStake(stake);
        vm.assertEq(word.stake(), stake, "stake");
        vm.assertEq(word.busyUnits(), busy, "busyUnits");
        vm.assertEq(word.jailedUntil(), jailed, "jailedUntil");
        vm.assertEq(word.lastEnd(), end, "lastEnd");
        vm.assertEq(word.class(), class, "class");
        vm.assertEq(word.withStake(0).busyUnits(), busy, "busyUnits without stake");
    }

    function testFuzz_AHotWordKeepsItsFields(Parameters calldata drawn) external view {
        HotWord word = this.pack(_inBounds(drawn));
        vm.assertEq(word.window(), drawn.window & 0x3fffff, "window");
        vm.assertEq(word.bondDelay(), drawn.bondDelay & 0x3fffff, "bondDelay");
        vm.assertEq(
            word.tail(),
            uint256(drawn.window & 0x3fffff) + (drawn.bondDelay & 0x3fffff) + (drawn.hardLimit & 0x3fffff),
            "tail"
        );
        vm.assertEq(word.startAhead(), drawn.startAhead & 0xffffff, "startAhead");
        vm.assertEq(word.maxDuration(), drawn.maxDuration, "maxDuration");
        vm.assertEq(word.minCap(0), drawn.minCapOnDemand & 0xffffff, "minCapOnDemand");
        vm.assertEq(word.minCap(1), drawn.minCapSpot & 0xffffff, "minCapSpot");
        vm.assertEq(word.minCap(2), drawn.minCapReserved & 0xffffff, "minCapReserved");
        vm.assertEq(word.openAhead(), drawn.openAhead & 0xffff, "openAhead");
        vm.assertEq(word.feeBps(), drawn.feeBps, "feeBps");
        vm.assertEq(word.sinkBps(), drawn.sinkBps, "sinkBps");
        vm.assertTrue(word.isActive(), "active");
        vm.assertEq(word.hasMembers(), address(drawn.membership) != address(0), "members");
        vm.assertFalse(word.withActive(false).isActive(), "paused");
        vm.assertEq(word.withActive(false).sinkBps(), drawn.sinkBps, "sinkBps of a paused version");
    }

    function pack(Parameters calldata parameters) external pure returns (HotWord) {
        return packHot(parameters);
    }

    /// @dev As `addVersion` demands.
    function _inBounds(Parameters memory p) private pure returns (Parameters memory) {
        p.window &= 0x3fffff;
        p.bondDelay &= 0x3fffff;
        p.hardLimit &= 0x3fffff;
        p.startAhead &= 0xffffff;
        p.minCapOnDemand &= 0xffffff;
        p.minCapSpot &= 0xffffff;
        p.minCapReserved &= 0xffffff;
        p.openAhead &= 0xffff;
        return p;
    }
}
