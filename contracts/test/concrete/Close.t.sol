// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILeases, TermsFault} from "../../src/interfaces/ILeases.sol";
import {IRemedyActions} from "../../src/interfaces/IRemedies.sol";
import {ISignatures} from "../../src/interfaces/ISignatures.sol";
import {Auth} from "../../src/types/Authorization.sol";
import {State} from "../../src/types/LeaseWord.sol";
import {LeaseTerms, Voucher} from "../../src/types/Terms.sol";
import {Base} from "../Base.sol";

contract CloseTest is Base {
    function _digestOfClose(bytes32 id, bytes32 voucher, uint40 deadline) private view returns (bytes32) {
        bytes32 typeHash = keccak256("Close(bytes32 lease,bytes32 voucher,uint40 deadline)");
        return _digest(leases.DOMAIN_SEPARATOR(), abi.encode(typeHash, id, voucher, deadline));
    }

    // --- who ends a lease -------------------------------------------------------------------------------------

    function test_RevertWhen_TheBuyerCloses() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        Voucher memory voucher = _voucher(terms, 60_000, true);
        bytes memory signature = _signVoucher(BUYER_KEY, voucher);
        Auth memory auth = _direct();
        auth.deadline = uint40(START);
        bytes32 digest = _digestOfClose(id, _voucherHash(voucher), auth.deadline);
        _expect(abi.encodeWithSelector(ISignatures.InvalidSignature.selector, provider, digest));
        vm.prank(buyer);
        leases.close(terms, voucher, signature, auth);
    }

    function test_ARelayerClosesWithTheProvidersSignature() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        Voucher memory voucher = _voucher(terms, 60_000, true);
        bytes memory signature = _signVoucher(BUYER_KEY, voucher);
        Auth memory auth = _closeAuth(PROVIDER_KEY, id, voucher);
        vm.prank(relayer);
        leases.close(terms, voucher, signature, auth);
        _assertState(terms, State.Closed);
    }

    function test_RevertWhen_ARelayerSwapsTheVoucher() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        Voucher memory meant = _voucher(terms, 60_001, true);
        Voucher memory lower = _voucher(terms, 60_000, true);
        bytes memory signature = _signVoucher(BUYER_KEY, lower);
        Auth memory auth = _closeAuth(PROVIDER_KEY, id, meant);
        bytes32 digest = _digestOfClose(id, _voucherHash(lower), auth.deadline);
        _expect(abi.encodeWithSelector(ISignatures.InvalidSignature.selector, provider, digest));
        leases.close(terms, lower, signature, auth);
        Voucher memory none;
        digest = _digestOfClose(id, 0, auth.deadline);
        _expect(abi.encodeWithSelector(ISignatures.InvalidSignature.selector, provider, digest));
        leases.close(terms, none, "", auth);
    }

    function test_RevertWhen_TheSignatureIsTooOld() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        Voucher memory voucher = _voucher(terms, 60_000, true);
        bytes memory signature = _signVoucher(BUYER_KEY, voucher);
        Auth memory auth = _closeAuth(PROVIDER_KEY, id, voucher);
        vm.warp(START + 61);
        _expect(abi.encodeWithSelector(ISignatures.DeadlinePassed.selector, START + 60, START + 61));
        leases.close(terms, voucher, signature, auth);
    }

    // --- well, with a last voucher ----------------------------------------------------------------------------

    function test_ALastVoucherFreesEverythingAtOnce() external {
        LeaseTerms memory terms = _terms();
        uint256 buyerBefore = _free(buyer);
        uint256 providerBefore = _free(provider);
        bytes32 id = _open(terms);
        vm.warp(START + 30 minutes);
        _settle(terms, 1_000_000);
        vm.expectEmit(address(leases));
        emit ILeases.LeaseClosed(id, 1_800_000, 1_800_000, 0, 45_000, 0, 0);
        _closeWell(terms, 1_800_000);
        vm.assertEq(buyerBefore - _free(buyer), 1_800_000, "the buyer paid");
        vm.assertEq(_free(provider) - providerBefore, 1_755_000, "the provider earned all but 2.5 %");
        (uint256 sink, uint256 watchers,,) = leases.pools(address(usd));
        vm.assertEq(watchers, 18_000, "40 % of the fee");
        vm.assertEq(sink, 27_000 + 4 * 365 days / 4, "60 % of the fee, beside the rent");
        vm.assertEq(registry.device(device).busyUnits, 0, "the unit is free");
        _assertState(terms, State.Closed);
    }

    function test_RevertWhen_TheMeterSignsLastUnasked() external {
        LeaseTerms memory terms = _terms();
        _open(terms);
        Voucher memory voucher = _voucher(terms, 60_000, true);
        bytes memory signature = _signVoucher(METER_KEY, voucher);
        Auth memory auth = _direct();
        bytes32 digest = leases.voucherDigest(voucher);
        _expect(abi.encodeWithSelector(ISignatures.InvalidSignature.selector, buyer, digest));
        vm.prank(provider);
        leases.close(terms, voucher, signature, auth);
    }

    function test_TheMeterSignsLastWhereTheTermsAllow() external {
        LeaseTerms memory terms = _terms();
        terms.meterMaySignLast = true;
        _open(terms);
        Voucher memory voucher = _voucher(terms, 60_000, true);
        bytes memory signature = _signVoucher(METER_KEY, voucher);
        Auth memory auth = _direct();
        vm.prank(provider);
        leases.close(terms, voucher, signature, auth);
        _assertState(terms, State.Closed);
    }

    function test_RevertWhen_ABuyerSignsLastAtZero() external {
        LeaseTerms memory terms = _terms();
        _open(terms);
        Voucher memory voucher = _voucher(terms, 0, true);
        bytes memory signature = _signVoucher(BUYER_KEY, voucher);
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(ILeases.CumulativeOutOfRange.selector, 0, 60_000, 60_001));
        vm.prank(provider);
        leases.close(terms, voucher, signature, auth);
    }

    function test_ALowerLastVoucherErasesNothing() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        vm.warp(START + 30 minutes);
        _settle(terms, 1_000_000);
        _closeWell(terms, 60_000);
        vm.assertEq(leases.lease(id).paid, 1_000_000, "paid stays");
        _assertState(terms, State.Closed);
    }

    function test_ALastVoucherReturnsAChallengesBond() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        uint256 before = _free(buyer);
        _challenge(terms);
        vm.expectEmit(address(leases));
        emit IRemedyActions.ChallengeDropped(id, 1_800_000);
        _closeWell(terms, 60_000);
        vm.assertEq(_free(buyer) - before, terms.deposit - 60_000, "refund; the bond is back");
    }

    function test_ADisputeKeepsTheBondWaiting() external {
        LeaseTerms memory terms = _terms();
        _open(terms);
        vm.prank(buyer);
        leases.dispute(terms, 100, 0, _direct());
        uint256 before = _free(provider);
        _closeWell(terms, 60_000);
        _assertState(terms, State.Settled);
        vm.assertEq(_free(provider) - before, 58_500, "paid, but no bond yet");
    }

    function test_AGoodEndWaivesTheBuyersBreakFee() external {
        LeaseTerms memory terms = _reserved();
        _open(terms);
        uint256 before = _free(buyer);
        _requestClose(terms);
        _closeWell(terms, 60_000);
        vm.assertEq(_free(buyer) - before, terms.deposit - 60_000, "all but what was paid");
    }

    // --- else -------------------------------------------------------------------------------------------------

    function test_RevertWhen_AChallengeIsPending() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        _challenge(terms);
        Voucher memory none;
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(IRemedyActions.ChallengePending.selector, id));
        vm.prank(provider);
        leases.close(terms, none, "", auth);
    }

    function test_AnEarlyCloseSetsTheBreakFeeAside() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        uint256 buyerBefore = _free(buyer);
        uint256 providerBefore = _free(provider);
        vm.warp(START + 100);
        _closeWith(terms, 100_000);
        vm.assertTrue(leases.lease(id).providerFeeAside, "set aside");
        vm.warp(START + 100 + 1 days);
        vm.expectEmit(address(leases));
        emit ILeases.LeaseClosed(id, 100_000, 3_500_000, 0, 2_500, 0, 1_000_000);
        leases.releaseBond(terms);
        vm.assertEq(_free(buyer) - buyerBefore, 3_500_000 + 1_000_000, "refund and break fee");
        vm.assertEq(_free(provider) - providerBefore, 97_500 + 3_600_000, "earnings and the rest");
    }

    function test_AMaturedNoticeFreesTheProvider() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        vm.warp(START + 200);
        _noticeUnpaid(terms);
        vm.warp(START + 200 + 5 minutes);
        _closeWith(terms, 199_999);
        vm.assertFalse(leases.lease(id).providerFeeAside, "no break fee");
    }

    function test_AnUnripeNoticeDoesNot() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        vm.warp(START + 200);
        _noticeUnpaid(terms);
        vm.warp(START + 200 + 5 minutes - 1);
        _closeBare(terms);
        vm.assertTrue(leases.lease(id).providerFeeAside, "break fee");
    }

    function test_AProviderThatWithheldTheVoucherCannotLeaveAsUnpaid() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        vm.warp(START + 200);
        _noticeUnpaid(terms);
        vm.warp(START + 200 + 5 minutes);
        _closeWith(terms, 200_000);
        vm.assertTrue(leases.lease(id).providerFeeAside, "the voucher itself proves that it was paid");
    }

    function test_ASpotReclaimIsFreeOnceRipe() external {
        LeaseTerms memory terms = _spot();
        terms.providerBreakFee = 10;
        terms.bond += 10;
        bytes32 id = _open(terms);
        vm.warp(START + 200);
        _noticeReclaim(terms);
        vm.warp(START + 200 + 5 minutes);
        _closeWith(terms, 500_000);
        vm.assertFalse(leases.lease(id).providerFeeAside, "no break fee");
    }

    function test_NoBreakFeeOnceTheBuyerAskedToClose() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        _requestClose(terms);
        _closeWith(terms, 60_000);
        vm.assertFalse(leases.lease(id).providerFeeAside, "no break fee");
    }

    function test_NoBreakFeeAfterTheEnd() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        vm.warp(START + 1 hours);
        _closeWith(terms, 3_600_000);
        vm.assertFalse(leases.lease(id).providerFeeAside, "no break fee");
        _assertState(terms, State.Settled);
    }

    function test_WithoutAnyVoucherThePrepaymentIsForfeited() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        uint256 before = _free(buyer);
        (uint256 sinkBefore,,,) = leases.pools(address(usd));
        vm.expectEmit(address(leases));
        emit ILeases.LeaseSettled(id, 0, 3_540_000, 60_000, 0, uint40(START + 1 days));
        _closeBare(terms);
        (uint256 sink,,,) = leases.pools(address(usd));
        vm.assertEq(sink - sinkBefore, 60_000, "into the sink");
        vm.assertEq(_free(buyer) - before, 3_540_000, "the rest returns");
    }

    // --- extend -----------------------------------------------------------------------------------------------

    function _extend(LeaseTerms memory terms, LeaseTerms memory next, bool last, bytes memory error) private {
        bytes32 id = leases.leaseId(terms);
        bytes32 nextId = leases.leaseId(next);
        Voucher memory voucher = _voucher(terms, 60_000, last);
        bytes memory signature = _signVoucher(BUYER_KEY, voucher);
        Auth memory auth = _closeAuth(PROVIDER_KEY, id, voucher);
        bytes memory buyerSignature = _sign(BUYER_KEY, nextId);
        bytes memory providerSignature = _sign(PROVIDER_KEY, nextId);
        if (error.length != 0) vm.expectRevert(error);
        leases.extend(terms, voucher, signature, auth, next, buyerSignature, providerSignature);
    }

    function test_ExtendingClosesOneAndOpensTheOther() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        LeaseTerms memory next = _terms();
        next.parent = id;
        vm.expectEmit(address(leases));
        emit ILeases.LeaseExtended(id, leases.leaseId(next));
        _extend(terms, next, true, "");
        _assertState(terms, State.Closed);
        _assertState(next, State.Open);
        vm.assertEq(registry.device(device).busyUnits, 1, "the same unit");
    }

    function test_RevertWhen_ExtendingWithoutALastVoucher() external {
        LeaseTerms memory terms = _terms();
        LeaseTerms memory next = _terms();
        next.parent = _open(terms);
        _extend(terms, next, false, abi.encodeWithSelector(ILeases.UnexpectedLast.selector, false));
    }

    function test_RevertWhen_ExtendingWithALastVoucherThatNobodySigned() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        LeaseTerms memory next = _terms();
        next.parent = id;
        Voucher memory voucher = _voucher(terms, 60_000, true);
        bytes memory buyerSignature = _sign(BUYER_KEY, leases.leaseId(next));
        bytes memory providerSignature = _sign(PROVIDER_KEY, leases.leaseId(next));
        vm.prank(provider);
        vm.expectRevert(abi.encodeWithSelector(ILeases.UnexpectedLast.selector, false));
        leases.extend(terms, voucher, "", _direct(), next, buyerSignature, providerSignature);
    }

    function test_RevertWhen_TheNextTermsNameAnotherParent() external {
        LeaseTerms memory terms = _terms();
        _open(terms);
        LeaseTerms memory next = _terms();
        next.parent = keccak256("another");
        bytes32 id = leases.leaseId(next);
        _extend(
            terms, next, true, abi.encodeWithSelector(ILeases.InvalidTerms.selector, id, TermsFault.Parent)
        );
        _assertState(terms, State.Open);
    }
}
