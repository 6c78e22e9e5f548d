// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Verdict} from "../../src/interfaces/ICourt.sol";
import {ILeases, TermsFault} from "../../src/interfaces/ILeases.sol";
import {IRemedyActions, Reason} from "../../src/interfaces/IRemedies.sol";
import {ISignatures} from "../../src/interfaces/ISignatures.sol";
import {Actions} from "../../src/libraries/Actions.sol";
import {Auth} from "../../src/types/Authorization.sol";
import {State} from "../../src/types/LeaseWord.sol";
import {Parameters} from "../../src/types/Parameters.sol";
import {CheckpointRecord, LeaseTerms, Voucher} from "../../src/types/Terms.sol";
import {Base} from "../Base.sol";
import {Judge} from "../mocks/Judge.sol";

contract RemediesTest is Base {
    Judge private _court;

    function _parameters() internal override returns (Parameters memory parameters) {
        parameters = super._parameters();
        _court = new Judge();
        parameters.court = _court;
    }

    function _auth(uint256 key, bytes memory encoded) private view returns (Auth memory auth) {
        auth.deadline = uint40(vm.getBlockTimestamp() + 60);
        auth.signature = _signStruct(key, bytes.concat(encoded, abi.encode(auth.deadline)));
    }

    function _wrongSigner(address signer, bytes memory encoded) private {
        bytes32 digest = _digest(
            leases.DOMAIN_SEPARATOR(), bytes.concat(encoded, abi.encode(vm.getBlockTimestamp() + 60))
        );
        _expect(abi.encodeWithSelector(ISignatures.InvalidSignature.selector, signer, digest));
    }

    // --- notice -----------------------------------------------------------------------------------------------

    function test_NoticeByTheProvidersSignatureOnly() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        vm.warp(START + 200);
        Voucher memory none;
        bytes memory encoded = abi.encode(Actions.NOTICE_TYPEHASH, id, Reason.Unpaid, 0);
        Auth memory auth = _auth(BUYER_KEY, encoded);
        _wrongSigner(provider, encoded);
        leases.notice(terms, Reason.Unpaid, none, "", auth);
        auth = _auth(PROVIDER_KEY, encoded);
        leases.notice(terms, Reason.Unpaid, none, "", auth);
        _assertState(terms, State.NoticedUnpaid);
        _settle(terms, 200_000);
        // Once cured, the signature is spent: it names the notice before.
        encoded = abi.encode(Actions.NOTICE_TYPEHASH, id, Reason.Unpaid, START + 200);
        _wrongSigner(provider, encoded);
        leases.notice(terms, Reason.Unpaid, none, "", auth);
    }

    function test_RevertWhen_NoticeFindsItPaid() external {
        LeaseTerms memory terms = _terms();
        terms.schedule.prepare = 30;
        _open(terms);
        Voucher memory none;
        Auth memory auth = _direct();
        vm.warp(START + 90);
        _expect(abi.encodeWithSelector(IRemedyActions.NotOwed.selector, 0, 0));
        vm.prank(provider);
        leases.notice(terms, Reason.Unpaid, none, "", auth);
        vm.warp(START + 190);
        _settle(terms, 100_000);
        _expect(abi.encodeWithSelector(IRemedyActions.NotOwed.selector, 100_000, 100_000));
        vm.prank(provider);
        leases.notice(terms, Reason.Unpaid, none, "", auth);
        vm.warp(START + 191);
        _noticeUnpaid(terms);
    }

    function test_NoticeSettlesTheVoucherFirst() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        vm.warp(START + 200);
        Voucher memory voucher = _voucher(terms, 140_000, false);
        bytes memory signature = _signVoucher(METER_KEY, voucher);
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(IRemedyActions.NotOwed.selector, 140_000, 140_000));
        vm.prank(provider);
        leases.notice(terms, Reason.Unpaid, voucher, signature, auth);
        vm.warp(START + 201);
        vm.expectEmit(address(leases));
        emit IRemedyActions.LeaseNoticed(id, Reason.Unpaid, uint40(START + 201 + 5 minutes));
        vm.prank(provider);
        leases.notice(terms, Reason.Unpaid, voucher, signature, auth);
        vm.assertEq(leases.lease(id).paid, 140_000, "settled");
    }

    function test_RevertWhen_NoticeComesTwiceWithinASlack() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        vm.warp(START + 200);
        _noticeUnpaid(terms);
        Voucher memory none;
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(ILeases.WrongState.selector, id, State.NoticedUnpaid));
        vm.prank(provider);
        leases.notice(terms, Reason.Unpaid, none, "", auth);
        _settle(terms, 200_000);
        vm.warp(START + 259);
        _expect(abi.encodeWithSelector(ILeases.TooEarly.selector, START + 260, START + 259));
        vm.prank(provider);
        leases.notice(terms, Reason.Unpaid, none, "", auth);
        vm.warp(START + 261);
        _noticeUnpaid(terms);
    }

    function test_RevertWhen_AReclaimIsNotSpot() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        Voucher memory none;
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(ILeases.InvalidTerms.selector, id, TermsFault.Kind));
        vm.prank(provider);
        leases.notice(terms, Reason.Reclaim, none, "", auth);
    }

    // --- requestClose, finalize, expire -----------------------------------------------------------------------

    function test_RequestCloseByTheBuyersSignatureOnly() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        bytes memory encoded = abi.encode(Actions.REQUEST_CLOSE_TYPEHASH, id);
        Auth memory auth = _auth(PROVIDER_KEY, encoded);
        _wrongSigner(buyer, encoded);
        leases.requestClose(terms, auth);
        auth = _auth(BUYER_KEY, encoded);
        vm.expectEmit(address(leases));
        emit IRemedyActions.CloseRequested(id, uint40(START + 1 days), false);
        leases.requestClose(terms, auth);
        _expect(abi.encodeWithSelector(ILeases.WrongState.selector, id, State.Closing));
        leases.requestClose(terms, auth);
    }

    function test_FinalizeWaitsForTheWindow() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        uint256 before = _free(buyer);
        vm.warp(START + 100);
        _expect(abi.encodeWithSelector(ILeases.WrongState.selector, id, State.Open));
        leases.finalize(terms);
        _requestClose(terms);
        vm.warp(START + 100 + 1 days - 1);
        _settle(terms, 100_000);
        _expect(
            abi.encodeWithSelector(ILeases.TooEarly.selector, START + 100 + 1 days, START + 100 + 1 days - 1)
        );
        leases.finalize(terms);
        vm.warp(START + 100 + 1 days);
        leases.finalize(terms);
        _assertState(terms, State.Settled);
        vm.assertEq(_free(buyer) - before, 3_500_000, "the refund");
        vm.assertEq(registry.device(device).busyUnits, 0, "the unit is free");
    }

    function test_ExpireWaitsForTheWindowAfterTheEnd() external {
        LeaseTerms memory terms = _terms();
        _open(terms);
        uint256 from = START + 1 hours + 1 days;
        vm.warp(from - 1);
        _expect(abi.encodeWithSelector(ILeases.TooEarly.selector, from, from - 1));
        leases.expire(terms);
        vm.warp(from);
        leases.expire(terms);
        _assertState(terms, State.Settled);
    }

    function test_RevertWhen_AnExitMeetsAPendingChallenge() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        vm.warp(START + 1 hours + 1 days - 1);
        _challenge(terms);
        vm.warp(START + 1 hours + 1 days);
        _expect(abi.encodeWithSelector(IRemedyActions.ChallengePending.selector, id));
        leases.expire(terms);
        vm.warp(START + 1 hours + 1 days + 15 minutes);
        leases.defaulted(terms);
        _assertState(terms, State.Settled);
    }

    // --- challenge, answer, defaulted -------------------------------------------------------------------------

    function test_ChallengeAndAnswerBySignature() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        bytes memory encoded = abi.encode(Actions.CHALLENGE_TYPEHASH, id, 0);
        Auth memory challenging = _auth(BUYER_KEY, encoded);
        leases.challenge(terms, challenging);
        bytes memory answering = abi.encode(Actions.ANSWER_TYPEHASH, id, START);
        Auth memory auth = _auth(BUYER_KEY, answering);
        _wrongSigner(provider, answering);
        leases.answer(terms, auth);
        uint256 before = _free(provider);
        auth = _auth(PROVIDER_KEY, answering);
        leases.answer(terms, auth);
        vm.assertEq(_free(provider) - before, 1_800_000, "the provider keeps the bond");
        // The same signature challenges only once: it names how many came before.
        _wrongSigner(buyer, abi.encode(Actions.CHALLENGE_TYPEHASH, id, 1));
        leases.challenge(terms, challenging);
    }

    function test_RevertWhen_AChallengeIsOutOfTime() external {
        LeaseTerms memory terms = _terms();
        terms.schedule.start = uint40(START + 10);
        _open(terms);
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(ILeases.TooEarly.selector, START + 10, START));
        vm.prank(buyer);
        leases.challenge(terms, auth);
        uint256 until = START + 1 hours + 1 days;
        vm.warp(until);
        _expect(abi.encodeWithSelector(ILeases.TooLate.selector, until, until));
        vm.prank(buyer);
        leases.challenge(terms, auth);
    }

    function test_RevertWhen_AChallengeIsPendingAlready() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        _challenge(terms);
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(IRemedyActions.ChallengePending.selector, id));
        vm.prank(buyer);
        leases.challenge(terms, auth);
    }

    function test_RevertWhen_AnAnswerIsLateOrADefaultEarly() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(IRemedyActions.NoChallenge.selector, id));
        leases.answer(terms, auth);
        _challenge(terms);
        uint256 until = START + 15 minutes;
        vm.warp(until);
        _expect(abi.encodeWithSelector(ILeases.TooEarly.selector, until + 1, until));
        leases.defaulted(terms);
        vm.warp(until + 1);
        _expect(abi.encodeWithSelector(ILeases.TooLate.selector, until, until + 1));
        vm.prank(provider);
        leases.answer(terms, auth);
        leases.defaulted(terms);
    }

    function test_AnAnswerCountsInTheLastSecond() external {
        LeaseTerms memory terms = _terms();
        _open(terms);
        _challenge(terms);
        vm.warp(START + 15 minutes);
        Auth memory auth = _direct();
        uint256 before = _free(provider);
        vm.prank(provider);
        leases.answer(terms, auth);
        vm.assertEq(_free(provider) - before, 1_800_000, "the challenge's bond");
    }

    /// @dev The buyer's gain over what it had after opening: refund, challenge bond and compensation.
    function _default(LeaseTerms memory terms, uint256 at) private returns (uint256) {
        vm.warp(at);
        uint256 before = _free(terms.buyer);
        _challenge(terms);
        vm.warp(at + 15 minutes + 1);
        leases.defaulted(terms);
        vm.assertTrue(leases.lease(leases.leaseId(terms)).defaulted, "defaulted");
        return _free(terms.buyer) - before;
    }

    function test_ADefaultInTheFirstTenMinutesRefundsAllAndNoMore() external {
        LeaseTerms memory terms = _terms();
        _open(terms);
        vm.warp(START + 500);
        _settle(terms, 500_000);
        vm.assertEq(_default(terms, START + 599), terms.deposit, "3,100,000 refunded, 500,000 from the bond");
    }

    function test_ALaterDefaultPaysTheLossAndHalfAnHour() external {
        LeaseTerms memory terms = _terms();
        _open(terms);
        vm.warp(START + 600);
        _settle(terms, 600_000);
        vm.assertEq(_default(terms, START + 600), terms.deposit + 1_800_000, "and the bonus");
    }

    function test_ASecondDefaultOfThePairWithinAWeekHasNoBonus() external {
        LeaseTerms memory terms = _terms();
        _open(terms);
        vm.warp(START + 600);
        _settle(terms, 600_000);
        _default(terms, START + 600);
        vm.warp(START + 7 days);
        terms = _terms();
        _open(terms);
        vm.warp(START + 7 days + 600);
        _settle(terms, 600_000);
        vm.assertEq(_default(terms, START + 7 days + 600 - 1), terms.deposit, "a refund only");
    }

    function test_ACheckpointLimitsTheLoss() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        vm.warp(START + 1_000);
        _settle(terms, 1_000_000);
        CheckpointRecord memory record = CheckpointRecord(id, 700_000, keccak256("root"), uint40(START + 900));
        bytes32 digest = leases.checkpointDigest(record);
        leases.acknowledge(terms, record, _sign(PROVIDER_KEY, digest), _sign(METER_KEY, digest));
        uint256 gained = _default(terms, START + 1_000);
        vm.assertEq(gained, 2_600_000 + 300_000 + 1_800_000, "refund, loss since the checkpoint, bonus");
    }

    function test_CompensationStopsAtTheCap() external {
        LeaseTerms memory terms = _terms();
        _open(terms);
        vm.warp(START + 3_000);
        _settle(terms, 3_000_000);
        vm.assertEq(_default(terms, START + 3_000), 600_000 + 3_600_000, "not 4,800,000");
    }

    function test_ADefaultWithoutAVoucherReturnsThePrepayment() external {
        LeaseTerms memory terms = _terms();
        _open(terms);
        vm.assertEq(_default(terms, START), terms.deposit, "all of it");
    }

    function test_AfterADefaultTheRestOfTheBondWaits() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        vm.warp(START + 600);
        _settle(terms, 600_000);
        _default(terms, START + 600);
        uint256 before = _free(provider);
        vm.warp(vm.getBlockTimestamp() + 1 days);
        vm.expectEmit(address(leases));
        emit ILeases.LeaseClosed(id, 600_000, 3_000_000, 0, 15_000, 0, 2_400_000);
        leases.releaseBond(terms);
        vm.assertEq(_free(provider) - before, 4_600_000 - 2_400_000, "bond less compensation");
    }

    // --- acknowledge ------------------------------------------------------------------------------------------

    function test_RevertWhen_ACheckpointIsNotSignedByBoth() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        CheckpointRecord memory record = CheckpointRecord(id, 1, 0, uint40(START));
        bytes32 digest = leases.checkpointDigest(record);
        bytes memory byProvider = _sign(PROVIDER_KEY, digest);
        bytes memory byStranger = _sign(STRANGER_KEY, digest);
        _expect(abi.encodeWithSelector(ISignatures.InvalidSignature.selector, buyer, digest));
        leases.acknowledge(terms, record, byProvider, byStranger);
        _expect(abi.encodeWithSelector(ISignatures.InvalidSignature.selector, provider, digest));
        leases.acknowledge(terms, record, byStranger, byProvider);
        leases.acknowledge(terms, record, byProvider, _sign(BUYER_KEY, digest));
    }

    function test_RevertWhen_ACheckpointIsOlderOrAnothers() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        CheckpointRecord memory record = CheckpointRecord(id, 1, 0, uint40(START));
        bytes32 digest = leases.checkpointDigest(record);
        bytes memory byProvider = _sign(PROVIDER_KEY, digest);
        bytes memory byMeter = _sign(METER_KEY, digest);
        leases.acknowledge(terms, record, byProvider, byMeter);
        _expect(abi.encodeWithSelector(IRemedyActions.StaleCheckpoint.selector, START, 1));
        leases.acknowledge(terms, record, byProvider, byMeter);
        record.at = uint40(START + 1);
        _expect(abi.encodeWithSelector(IRemedyActions.StaleCheckpoint.selector, START + 1, 1));
        leases.acknowledge(terms, record, byProvider, byMeter);
        record.lease = keccak256("another");
        _expect(abi.encodeWithSelector(ILeases.WrongLease.selector, id, record.lease));
        leases.acknowledge(terms, record, byProvider, byMeter);
    }

    // --- dispute, resolve, releaseBond ------------------------------------------------------------------------

    function _settled(LeaseTerms memory terms) private returns (bytes32 id) {
        id = _open(terms);
        vm.warp(START + 1 hours);
        _closeWith(terms, 3_000_000);
    }

    function _dispute(LeaseTerms memory terms, uint96 claim) private {
        vm.prank(buyer);
        leases.dispute(terms, claim, keccak256("evidence"), _direct());
    }

    function test_DisputeBySignatureOnceAndInRange() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _settled(terms);
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(IRemedyActions.ClaimOutOfRange.selector, 0, 3_600_000));
        vm.prank(buyer);
        leases.dispute(terms, 0, 0, auth);
        _expect(abi.encodeWithSelector(IRemedyActions.ClaimOutOfRange.selector, 3_600_001, 3_600_000));
        vm.prank(buyer);
        leases.dispute(terms, 3_600_001, 0, auth);
        uint256 before = _free(buyer);
        auth = _auth(BUYER_KEY, abi.encode(Actions.DISPUTE_TYPEHASH, id, 1_001, bytes32(uint256(7))));
        leases.dispute(terms, 1_001, bytes32(uint256(7)), auth);
        vm.assertEq(before - _free(buyer), 101, "a tenth, rounded up");
        _expect(abi.encodeWithSelector(IRemedyActions.DisputeAlreadyUsed.selector, id));
        leases.dispute(terms, 1_001, bytes32(uint256(7)), auth);
    }

    function test_RevertWhen_ADisputeClaimsWhatADefaultPaidAlready() external {
        LeaseTerms memory terms = _terms();
        _open(terms);
        vm.warp(START + 1_000);
        _settle(terms, 1_000_000);
        _default(terms, START + 1_000);
        uint256 rest = terms.compensationCap - leases.lease(leases.leaseId(terms)).compensated;
        vm.assertEq(rest, 800_000, "of 3,600,000");
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(IRemedyActions.ClaimOutOfRange.selector, rest + 1, rest));
        vm.prank(buyer);
        leases.dispute(terms, uint96(rest + 1), 0, auth);
        vm.prank(buyer);
        leases.dispute(terms, uint96(rest), 0, auth);
    }

    function test_RevertWhen_TheBondWasDueAlready() external {
        LeaseTerms memory terms = _terms();
        _settled(terms);
        uint256 due = START + 1 hours + 1 days;
        vm.warp(due);
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(ILeases.TooLate.selector, due, due));
        vm.prank(buyer);
        leases.dispute(terms, 1, 0, auth);
    }

    function test_RevertWhen_TheCourtIsSilent() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _settled(terms);
        _dispute(terms, 1_000_000);
        _expect(abi.encodeWithSelector(IRemedyActions.NoRuling.selector, id));
        leases.resolve(terms);
    }

    function test_ARulingForTheBuyerPaysTheClaimAtMost() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _settled(terms);
        _dispute(terms, 1_000_000);
        _court.rule(Verdict.ForBuyer, type(uint96).max);
        uint256 before = _free(buyer);
        leases.resolve(terms);
        vm.assertEq(_free(buyer) - before, 1_000_000 + 100_000, "the claim and the dispute's bond");
        vm.warp(START + 1 hours + 1 days);
        vm.expectEmit(address(leases));
        emit ILeases.LeaseClosed(id, 3_000_000, 600_000, 0, 75_000, 0, 1_000_000);
        leases.releaseBond(terms);
    }

    function test_ADefaultAndARulingTogetherStopAtTheCap() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        vm.warp(START + 600);
        _settle(terms, 600_000);
        _dispute(terms, 3_600_000);
        _default(terms, START + 600);
        _court.rule(Verdict.ForBuyer, type(uint96).max);
        leases.resolve(terms);
        vm.assertEq(leases.lease(id).compensated, 3_600_000, "the cap");
        vm.warp(START + 3 days);
        leases.releaseBond(terms);
    }

    function test_ARulingForTheProviderGivesItTheDisputesBond() external {
        LeaseTerms memory terms = _terms();
        _settled(terms);
        _dispute(terms, 1_000_000);
        _court.rule(Verdict.ForProvider, type(uint96).max);
        uint256 before = _free(provider);
        leases.resolve(terms);
        vm.assertEq(_free(provider) - before, 100_000, "the dispute's bond, and nothing from the lease's");
    }

    function test_ADisputeHoldsTheBondUntilTheHardLimit() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _settled(terms);
        _dispute(terms, 1_000_000);
        _court.breakDown();
        vm.warp(START + 1 hours + 7 days - 1);
        _expect(abi.encodeWithSelector(IRemedyActions.DisputePending.selector, id));
        leases.releaseBond(terms);
        vm.warp(START + 1 hours + 7 days);
        uint256 buyerBefore = _free(buyer);
        uint256 providerBefore = _free(provider);
        leases.releaseBond(terms);
        vm.assertEq(_free(buyer) - buyerBefore, 100_000, "the dispute's bond returns");
        vm.assertEq(_free(provider) - providerBefore, terms.bond, "the whole bond");
    }

    function test_ABuyersBreakFeeReturnsUnlessTheCourtCreditsTheProvider() external {
        LeaseTerms memory terms = _reserved();
        bytes32 id = _open(terms);
        vm.warp(START + 100);
        uint256 before = _free(buyer);
        _requestClose(terms);
        _closeWith(terms, 100_000);
        vm.assertEq(_free(buyer) - before, 3_000_000, "less the fee set aside");
        _expect(abi.encodeWithSelector(IRemedyActions.NoRuling.selector, id));
        leases.resolve(terms);
        vm.warp(START + 100 + 1 days);
        leases.releaseBond(terms);
        vm.assertEq(_free(buyer) - before, 3_500_000, "unknown returns it");
    }

    function test_ABuyersBreakFeeIsOwedWithCredit() external {
        LeaseTerms memory terms = _reserved();
        bytes32 id = _open(terms);
        vm.warp(START + 100);
        _requestClose(terms);
        _closeWith(terms, 100_000);
        _court.credit(true);
        leases.resolve(terms);
        vm.warp(START + 100 + 1 days);
        vm.expectEmit(address(leases));
        emit ILeases.LeaseClosed(id, 100_000, 3_000_000, 0, 2_500, 500_000, 0);
        leases.releaseBond(terms);
    }

    function test_RevertWhen_TheBondIsReleasedEarly() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        _expect(abi.encodeWithSelector(ILeases.WrongState.selector, id, State.Open));
        leases.releaseBond(terms);
        _closeBare(terms);
        _expect(abi.encodeWithSelector(ILeases.TooEarly.selector, START + 1 days, START));
        leases.releaseBond(terms);
        vm.warp(START + 1 days);
        leases.releaseBond(terms);
        _expect(abi.encodeWithSelector(ILeases.WrongState.selector, id, State.Closed));
        leases.releaseBond(terms);
    }
}
