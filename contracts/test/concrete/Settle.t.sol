// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILeases} from "../../src/interfaces/ILeases.sol";
import {ISignatures} from "../../src/interfaces/ISignatures.sol";
import {State} from "../../src/types/LeaseWord.sol";
import {LeaseTerms, Settlement, Voucher} from "../../src/types/Terms.sol";
import {Base} from "../Base.sol";

contract SettleTest is Base {
    LeaseTerms private _lease;
    bytes32 private _id;

    function setUp() public override {
        super.setUp();
        _lease = _terms();
        _id = _open(_lease);
    }

    function _paid() private view returns (uint256) {
        return leases.lease(_id).paid;
    }

    function _refused(Voucher memory voucher, uint256 key, bytes memory error) private {
        bytes memory signature = _signVoucher(key, voucher);
        vm.expectRevert(error);
        leases.settle(_lease, voucher, signature);
    }

    function _outOfRange(uint256 amount, uint256 most) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ILeases.CumulativeOutOfRange.selector, amount, 60_000, most);
    }

    function test_RevertWhen_TheLeaseIsNotLive() external {
        LeaseTerms memory other = _terms();
        other.units = 2;
        Voucher memory voucher = _voucher(other, 60_000, false);
        bytes memory signature = _signVoucher(METER_KEY, voucher);
        _expect(abi.encodeWithSelector(ILeases.WrongState.selector, voucher.lease, State.None));
        leases.settle(other, voucher, signature);
        _closeBare(_lease);
        _refused(
            _voucher(_lease, 60_000, false),
            METER_KEY,
            abi.encodeWithSelector(ILeases.WrongState.selector, _id, State.Settled)
        );
    }

    function test_RevertWhen_TheVoucherIsAnotherLeases() external {
        bytes32 other = keccak256("other");
        _refused(
            Voucher(other, 60_000, 0, false),
            METER_KEY,
            abi.encodeWithSelector(ILeases.WrongLease.selector, _id, other)
        );
    }

    function test_RevertWhen_TheVoucherIsALastOne() external {
        _refused(
            Voucher(_id, 60_000, 0, true),
            METER_KEY,
            abi.encodeWithSelector(ILeases.UnexpectedLast.selector, true)
        );
    }

    function test_AStaleVoucherDoesNothing() external {
        vm.warp(START + 100);
        _settle(_lease, 100_000);
        uint256 before = _free(provider);
        _settle(_lease, 100_000);
        _settle(_lease, 60_000);
        leases.settle(_lease, _voucher(_lease, 99_999, false), "no signature at all");
        vm.assertEq(_paid(), 100_000, "paid");
        vm.assertEq(_free(provider), before, "free");
    }

    function test_RevertWhen_TheMeterDidNotSign() external {
        Voucher memory voucher = _voucher(_lease, 60_000, false);
        bytes32 digest = leases.voucherDigest(voucher);
        bytes memory error = abi.encodeWithSelector(ISignatures.InvalidSignature.selector, meter, digest);
        _refused(voucher, BUYER_KEY, error);
        _refused(voucher, PROVIDER_KEY, error);
        bytes memory cut = new bytes(64);
        _expect(error);
        leases.settle(_lease, voucher, cut);
    }

    function test_RevertWhen_TheVoucherIsNotDueYet() external {
        Voucher memory rung = Voucher(_id, 60_000, uint40(START + 60), false);
        _refused(
            rung, METER_KEY, abi.encodeWithSelector(ILeases.VoucherNotYetValid.selector, START + 60, START)
        );
        vm.warp(START + 60);
        leases.settle(_lease, rung, _signVoucher(METER_KEY, rung));
        vm.assertEq(_paid(), 60_000, "paid");
    }

    function test_RevertWhen_TheBuyerClosedBeforeARungWasDue() external {
        vm.warp(START + 100);
        _requestClose(_lease);
        vm.warp(START + 200);
        _refused(
            Voucher(_id, 60_000, uint40(START + 101), false),
            METER_KEY,
            abi.encodeWithSelector(ILeases.VoucherNotYetValid.selector, START + 101, START + 100)
        );
        Voucher memory rung = Voucher(_id, 60_000, uint40(START + 100), false);
        leases.settle(_lease, rung, _signVoucher(METER_KEY, rung));
    }

    function test_RevertWhen_TheAmountIsBelowPrepay() external {
        _refused(_voucher(_lease, 59_999, false), METER_KEY, _outOfRange(59_999, 60_001));
    }

    function test_RevertWhen_TheAmountIsAboveTheCap() external {
        _refused(_voucher(_lease, 60_002, false), METER_KEY, _outOfRange(60_002, 60_001));
        vm.warp(START + 1_000);
        vm.assertEq(leases.cap(_lease, uint40(START + 1_000)), 1_060_001, "cap");
        _refused(_voucher(_lease, 1_060_002, false), METER_KEY, _outOfRange(1_060_002, 1_060_001));
        _settle(_lease, 1_060_001);
    }

    function test_TheCapStopsAtTheDeposit() external {
        vm.warp(START + 1 hours);
        vm.assertEq(leases.cap(_lease, uint40(START + 1 hours)), 3_600_000, "cap");
        _refused(_voucher(_lease, 3_600_001, false), METER_KEY, _outOfRange(3_600_001, 3_600_000));
        _settle(_lease, 3_600_000);
    }

    function test_TheCapLeavesTheBuyersBreakFee() external {
        LeaseTerms memory terms = _reserved();
        terms.units = 2;
        _open(terms);
        vm.warp(START + 1 hours);
        vm.assertEq(leases.cap(terms, uint40(START + 1 hours)), 3_100_000, "cap");
    }

    function test_TheCapStopsAtTheEnd() external {
        LeaseTerms memory terms = _terms();
        terms.units = 2;
        terms.deposit = 10_000_000;
        _open(terms);
        vm.warp(START + 2 hours);
        vm.assertEq(leases.cap(terms, uint40(START + 2 hours)), 3_660_001, "cap");
    }

    function test_TheCapStopsWhenTheBuyerAsksToClose() external {
        vm.warp(START + 500);
        _requestClose(_lease);
        vm.warp(START + 900);
        vm.assertEq(leases.cap(_lease, uint40(START + 900)), 560_001, "cap");
        _refused(_voucher(_lease, 560_002, false), METER_KEY, _outOfRange(560_002, 560_001));
        _settle(_lease, 560_001);
        _assertState(_lease, State.Closing);
    }

    function test_TheCapBeforeStartIsTheSlack() external {
        LeaseTerms memory terms = _terms();
        terms.units = 2;
        terms.schedule.start = uint40(START + 1 days);
        terms.schedule.end = uint40(START + 1 days + 1 hours);
        _open(terms);
        vm.assertEq(leases.cap(terms, uint40(START)), 60_001, "cap");
        _settle(terms, 60_000);
    }

    function test_AVoucherThatCoversTheNoticeReopens() external {
        vm.warp(START + 200);
        _noticeUnpaid(_lease);
        vm.warp(START + 230);
        vm.expectEmit(address(leases));
        emit ILeases.NoticeCured(_id);
        _settle(_lease, 200_000);
        _assertState(_lease, State.Open);
    }

    function test_AVoucherThatDoesNotCoverTheNoticeCuresNothing() external {
        vm.warp(START + 200);
        _noticeUnpaid(_lease);
        _settle(_lease, 199_999);
        _assertState(_lease, State.NoticedUnpaid);
    }

    function test_AReclaimIsNotCured() external {
        LeaseTerms memory terms = _spot();
        terms.units = 2;
        _open(terms);
        vm.warp(START + 200);
        _noticeReclaim(terms);
        _settle(terms, 260_000);
        _assertState(terms, State.NoticedReclaim);
    }

    function test_ItCreditsTheProviderLessTheFee() external {
        uint256 before = _free(provider);
        vm.warp(START + 100);
        vm.expectEmit(address(leases));
        emit ILeases.VoucherSettled(_id, 100_000);
        _settle(_lease, 100_000);
        vm.assertEq(_free(provider) - before, 97_500, "all but 2.5 %");
        vm.assertEq(_paid(), 100_000, "paid");
    }

    function test_BatchesSkipWhatFails() external {
        LeaseTerms memory second = _terms();
        second.units = 2;
        _open(second);
        vm.warp(START + 100);
        Settlement[] memory items = new Settlement[](3);
        Voucher memory voucher = _voucher(_lease, 100_000, false);
        items[0] = Settlement(_lease, voucher, _signVoucher(STRANGER_KEY, voucher));
        items[1] = Settlement(_lease, voucher, _signVoucher(METER_KEY, voucher));
        voucher = _voucher(second, 90_000, false);
        items[2] = Settlement(second, voucher, _signVoucher(METER_KEY, voucher));
        bytes32 digest = leases.voucherDigest(items[0].voucher);
        vm.expectEmit(address(leases));
        emit ILeases.SettlementFailed(
            0, _id, abi.encodeWithSelector(ISignatures.InvalidSignature.selector, meter, digest)
        );
        leases.settleMany(items);
        vm.assertEq(_paid(), 100_000, "the good one");
        vm.assertEq(leases.lease(leases.leaseId(second)).paid, 90_000, "the one after");
    }
}
