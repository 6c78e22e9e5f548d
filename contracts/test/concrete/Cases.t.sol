// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Verdict} from "../../src/interfaces/ICourt.sol";
import {ICases} from "../../src/interfaces/ICases.sol";
import {ICourtBook} from "../../src/interfaces/ICourtBook.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {ISignatures} from "../../src/interfaces/ISignatures.sol";
import {IVerdicts} from "../../src/interfaces/IVerdicts.sol";
import {Ballot, Case, Finding, Stage} from "../../src/types/Case.sol";
import {LeaseTerms} from "../../src/types/Terms.sol";
import {CaseBase} from "../CaseBase.sol";

contract CasesTest is CaseBase {
    // --- opening ----------------------------------------------------------------------------------------------

    function test_RevertWhen_OnlyThreeWatch() external {
        _seat(3);
        court.announce(keccak256(abi.encode(opener, device, TRIED, bytes32("salt"))));
        vm.roll(vm.getBlockNumber() + 1);
        uint256 free = _free(opener);
        _expect(abi.encodeWithSelector(ICases.TooFewSeats.selector, 3, 11));
        vm.prank(opener);
        court.openCase(opener, device, TRIED, 0, "salt", _direct());
        vm.assertEq(_free(opener), free, "nobody pays");
    }

    function test_RevertWhen_ACaseIsNotAdmissible() external {
        _seat(11);
        bytes32 commitment = keccak256(abi.encode(opener, device, TRIED, bytes32("salt")));
        _expect(abi.encodeWithSelector(ICourtBook.NotAnnounced.selector, commitment));
        vm.prank(opener);
        court.openCase(opener, device, TRIED, 0, "salt", _direct());
        court.announce(commitment);
        _expect(abi.encodeWithSelector(ICourtBook.NotAnnounced.selector, commitment));
        vm.prank(opener);
        court.openCase(opener, device, TRIED, 0, "salt", _direct());
        _expect(abi.encodeWithSelector(ICases.NotAdmissible.selector, TRIED + 1, TRIED));
        vm.prank(opener);
        court.openCase(opener, device, TRIED + 1, 0, "salt", _direct());
        _expect(abi.encodeWithSelector(IRegistry.UnknownDevice.selector, bytes32("none")));
        vm.prank(opener);
        court.openCase(opener, "none", TRIED, 0, "salt", _direct());
        vm.roll(vm.getBlockNumber() + 1);
        vm.prank(opener);
        bytes32 id = court.openCase(opener, device, TRIED, 30_000_000, "salt", _direct());
        vm.assertEq(id, court.caseId(device, TRIED), "its id");
        vm.assertEq(court.caseOf(id).bond, 3_000_000, "a tenth of the claim");
        _expect(abi.encodeWithSelector(ICases.CaseExists.selector, id));
        vm.prank(opener);
        court.openCase(opener, device, TRIED, 0, "salt", _direct());
        _toEpoch(TRIED + 26);
        _expect(abi.encodeWithSelector(ICases.NotAdmissible.selector, TRIED + 1, TRIED + 26));
        vm.prank(opener);
        court.openCase(opener, device, TRIED + 1, 0, "salt", _direct());
    }

    function test_SeatsThatFlashUpJudgeNothing() external {
        _seat(11);
        _joinSeats(11, 40);
        bytes32 id = _openCase(device, 0);
        vm.assertEq(court.caseOf(id).seats, 11, "only the frozen ones");
        _toEpoch(TRIED + 1);
        vm.assertEq(court.seatCount(TRIED + 1), 11, "nor in the next epoch");
        vm.assertEq(court.seatCount(TRIED + 2), 40, "only in the one after");
    }

    // --- panel and committee ----------------------------------------------------------------------------------

    function test_NobodyKnowsTheCommitteeBeforeTheLastCommitment() external {
        _seat(40);
        bytes32 id = _openCase(device, 0);
        _expect(abi.encodeWithSelector(ICases.LotsUnknown.selector, court.caseOf(id).openedAt + 1));
        court.drawPanel(id);
        _drawPanel(id);
        _commit(id, 0, GUILTY);
        _expect(abi.encodeWithSelector(ICases.AlreadyCommitted.selector, id, 0));
        court.commitFinding(id, 0, "other", "");
        _expect(abi.encodeWithSelector(ICases.NotDrawn.selector, id, 33));
        court.commitFinding(id, 33, "other", "");
        vm.expectPartialRevert(ISignatures.InvalidSignature.selector);
        court.commitFinding(id, 1, "other", "");
        uint256 commitBy = uint256(court.caseOf(id).openedAt) + 15 minutes;
        _expect(abi.encodeWithSelector(ICases.CaseTooEarly.selector, commitBy + 1, vm.getBlockTimestamp()));
        court.drawCommittee(id);
        vm.warp(commitBy + 1);
        _expect(abi.encodeWithSelector(ICases.CaseTooLate.selector, commitBy, commitBy + 1));
        court.commitFinding(id, 1, "other", "");
        _expect(abi.encodeWithSelector(ICases.TooFewCommitted.selector, 1, 11));
        court.drawCommittee(id);
    }

    function test_ACommitmentCountsByItsKeysSignature() external {
        _seat(11);
        bytes32 id = _openCase(device, 0);
        _drawPanel(id);
        bytes32 structHash = keccak256(
            abi.encode(keccak256("Commitment(bytes32 caseId,bytes32 commitment)"), id, bytes32("hidden"))
        );
        bytes memory signature = _signCourt(_seatKey(_panelSeat(id, 4)), structHash);
        vm.prank(relayer);
        court.commitFinding(id, 4, "hidden", signature);
        vm.assertEq(court.caseOf(id).committed, 1 << 4, "committed");
    }

    function test_AStalledBeaconLeavesACaseUnknown() external {
        _seat(40);
        uint256 free = _free(opener);
        bytes32 id = _openCase(device, 0);
        vm.assertEq(_free(opener), free - BOND - 11 * FEE, "bond and fees are there");
        vm.warp(vm.getBlockTimestamp() + 15 minutes + 1);
        court.lapse(id);
        _assertOutcome(id, Finding.Unknown);
        _close(id);
        vm.assertEq(_free(opener), free, "all of it returns");
        vm.assertEq(_stake(device), STAKE, "nobody is slashed");
        _assertNothingLeft();
    }

    // --- verdicts ---------------------------------------------------------------------------------------------

    function test_AConvictionJailsFreezesAndSlashesOnceNobodyAppeals() external {
        _seat(40);
        uint256 free = _free(opener);
        bytes32 id = _convict(device);
        uint256 now_ = vm.getBlockTimestamp();
        _assertStage(id, Stage.Convicted);
        vm.assertEq(registry.device(device).jailedUntil, now_ + 1 hours, "jailed");
        vm.assertEq(registry.frozenUntil(device), now_ + 5 days, "frozen");
        vm.assertEq(_stake(device), STAKE, "not slashed before the appeal's window ends");
        _expect(abi.encodeWithSelector(IVerdicts.NothingDue.selector, id));
        court.execute(id);
        vm.warp(now_ + 1 days);
        _expect(abi.encodeWithSelector(ICases.CaseTooEarly.selector, now_ + 1 days + 1, now_ + 1 days));
        court.lapse(id);
        vm.warp(now_ + 1 days + 1);
        court.lapse(id);
        (uint256 sinkBefore,,,) = leases.pools(address(twd));
        uint256 reward = _stakeOf(opener);
        court.execute(id);
        (uint256 sink,,,) = leases.pools(address(twd));
        vm.assertEq(_stake(device), STAKE - 200_000, "5 %");
        vm.assertEq(_stakeOf(opener) - reward, 20_000, "a tenth to the reporter");
        vm.assertEq(sink - sinkBefore, 180_000, "the rest to the sink");
        _expect(abi.encodeWithSelector(IVerdicts.NothingDue.selector, id));
        court.execute(id);
        uint256 before = _free(_seatOwner(_panelSeat(id, _committee(id)[0])));
        _close(id);
        vm.assertEq(_free(opener), free - 11 * FEE, "the bond returns; the pool had nothing to pay with");
        vm.assertEq(_free(_seatOwner(_panelSeat(id, _committee(id)[0]))), before + FEE, "watchers are paid");
        _assertNothingLeft();
    }

    function test_ThePoolPaysWatchersOfAGuiltyDevice() external {
        LeaseTerms memory terms = _terms();
        terms.deposit = 3_600_000;
        _open(terms);
        vm.warp(START + 1 hours);
        _closeWell(terms, 3_600_000);
        (, uint256 pool,,) = leases.pools(address(usd));
        _seatFrom(40);
        uint256 free = _free(opener);
        bytes32 id = _convict(device);
        vm.warp(vm.getBlockTimestamp() + 1 days + 1);
        court.lapse(id);
        _close(id);
        vm.assertEq(_free(opener), free - 11 * FEE + pool / 10, "a tenth of the pool in a day");
        _assertNothingLeft();
    }

    /// @dev Seats that join in epoch 1 sit in epoch 3.
    function _seatFrom(uint256 seats) private {
        _joinSeats(0, seats);
        _toEpoch(TRIED);
    }

    function test_AMinorityCanDoNothingAndIsStruck() external {
        _seat(40);
        bytes32 id = _openCase(device, 0);
        _drawPanel(id);
        // The lots do not depend on what is committed, only on who commits: three of the committee are lazy.
        uint256 state = vm.snapshotState();
        _commitAll(id, CLEAR);
        _drawCommittee(id);
        uint256[] memory positions = _committee(id);
        vm.revertToState(state);
        for (uint256 i; i < 33; ++i) {
            bool looksAway = i == positions[2] || i == positions[5] || i == positions[10];
            _commit(id, i, looksAway ? GUILTY : CLEAR);
        }
        _drawCommittee(id);
        uint256 before = _free(provider);
        uint256 free = _free(opener);
        court.vote(id, _ballots(id, 0, 11));
        Case memory it = court.caseOf(id);
        vm.assertEq(it.guilty, 3, "three look away");
        vm.assertEq(it.clear, 8, "the others do not");
        _assertOutcome(id, Finding.Clear);
        _close(id);
        vm.assertEq(_free(provider), before + BOND, "the bond is the provider's");
        vm.assertEq(_free(opener), free + it.guilty * FEE, "and the fees that nobody earned the opener's");
        for (uint256 i; i < 11; ++i) {
            uint256 number = _panelSeat(id, positions[i]);
            bool lazy = i == 2 || i == 5 || i == 10;
            vm.assertEq(court.seat(uint32(number + 1)).strikes, lazy ? 1 : 0, "a strike for a lazy down");
            vm.assertEq(_free(_seatOwner(number)), lazy ? 1e9 : 1e9 + FEE, "and no fee");
        }
        vm.assertEq(_stake(device), STAKE, "untouched");
        vm.assertEq(registry.device(device).jailedUntil, 0, "free");
        _assertNothingLeft();
    }

    function test_WithheldVotesEndUnknownAndAreStruck() external {
        _seat(40);
        uint256 free = _free(opener);
        bytes32 id = _tryCase(device, GUILTY);
        court.vote(id, _ballots(id, 0, 7));
        _assertStage(id, Stage.Voting);
        vm.warp(uint256(court.caseOf(id).voteBy) + 1);
        Ballot[] memory late = _ballots(id, 7, 8);
        vm.expectPartialRevert(ICases.CaseTooLate.selector);
        court.vote(id, late);
        court.lapse(id);
        _assertOutcome(id, Finding.Unknown);
        _close(id);
        vm.assertEq(_free(opener), free - 7 * FEE, "all back less the watchers' cost");
        uint256[] memory positions = _committee(id);
        for (uint256 i; i < 11; ++i) {
            vm.assertEq(
                court.seat(uint32(_panelSeat(id, positions[i]) + 1)).strikes, i < 7 ? 0 : 1, "a strike"
            );
        }
        vm.assertEq(_stake(device), STAKE, "nobody is slashed");
        _assertNothingLeft();
    }

    function test_RevertWhen_ABallotIsNotOfThisCase() external {
        _seat(40);
        bytes32 id = _tryCase(device, GUILTY);
        Ballot[] memory list = _ballots(id, 0, 1);
        list[0].finding = CLEAR;
        _expect(abi.encodeWithSelector(ICases.InvalidBallot.selector, list[0].position));
        court.vote(id, list);
        list[0].finding = GUILTY;
        list[0].signature =
            _signVote(_panelSeat(id, list[0].position), keccak256("other"), 1, GUILTY, list[0].transcript);
        vm.expectPartialRevert(ISignatures.InvalidSignature.selector);
        court.vote(id, list);
        list[0].signature = _signVote(_panelSeat(id, list[0].position), id, 2, GUILTY, list[0].transcript);
        vm.expectPartialRevert(ISignatures.InvalidSignature.selector);
        court.vote(id, list);
        list = _ballots(id, 0, 1);
        court.vote(id, list);
        court.vote(id, list);
        vm.assertEq(court.caseOf(id).guilty, 1, "a vote counts once");
    }

    function test_ThirtyOneSeatsJailAndNeverSlash() external {
        _seat(31);
        bytes32 id = _convict(device);
        _assertOutcome(id, Finding.Guilty);
        vm.assertGt(registry.device(device).jailedUntil, vm.getBlockTimestamp(), "jailed");
        vm.assertGt(registry.frozenUntil(device), vm.getBlockTimestamp(), "frozen");
        _expect(abi.encodeWithSelector(IVerdicts.NothingDue.selector, id));
        court.execute(id);
        _close(id);
        vm.assertEq(_stake(device), STAKE, "20: no slash below 32 seats");
        _assertNothingLeft();
    }

    function test_ThirtyTwoSeatsSlash() external {
        _seat(32);
        bytes32 id = _convict(device);
        _assertStage(id, Stage.Convicted);
        vm.warp(vm.getBlockTimestamp() + 1 days + 1);
        court.lapse(id);
        court.execute(id);
        vm.assertEq(_stake(device), STAKE - 200_000, "the first number that does");
    }

    /// @dev With eleven seats all of them are the committee, and nobody votes.
    function test_TheThirdStrikeTakesAPlaceAndNoStake() external {
        _seat(11);
        for (uint64 i; i < 3; ++i) {
            vm.assertEq(court.seat(1).withdrawableAt, 0, "it sits");
            _toEpoch(TRIED + 2 * i);
            bytes32 id = _tryCase(device, GUILTY);
            vm.warp(uint256(court.caseOf(id).voteBy) + 1);
            court.lapse(id);
            _close(id);
            vm.assertEq(court.seat(1).strikes, i + 1, "a strike each");
        }
        vm.assertEq(court.seat(1).withdrawableAt, vm.getBlockTimestamp() + 14 days, "it leaves");
        vm.assertEq(court.seat(1).stake, SEAT_STAKE, "with its stake");
        vm.assertEq(court.seatCount(_epoch() + 2), 0, "and so do all");
    }

    function test_JailGrowsFromOneHourToADay() external {
        _seat(40);
        uint32[4] memory spans = [uint32(1 hours), 6 hours, 24 hours, 7 days];
        for (uint64 i; i < 4; ++i) {
            _toEpoch(TRIED + 2 * i);
            _convict(device);
            vm.assertEq(registry.device(device).jailedUntil, vm.getBlockTimestamp() + spans[i], "the ladder");
        }
    }

    // --- appeals ----------------------------------------------------------------------------------------------

    function test_ABenchConfirms() external {
        _seat(40);
        bytes32 id = _convict(device);
        uint256 free = _free(provider);
        _appealCase(id);
        vm.assertEq(_free(provider), free - 21 * FEE, "prepaid");
        _assertDisjoint(id);
        court.voteBench(id, _benchBallots(id, 14, GUILTY));
        _assertStage(id, Stage.Appealing);
        court.voteBench(id, _benchBallots(id, 15, GUILTY));
        _assertOutcome(id, Finding.Guilty);
        court.execute(id);
        vm.assertEq(_stake(device), STAKE - 200_000, "slashed");
        _close(id);
        vm.assertEq(_free(provider), free - 15 * FEE, "what nobody earned returns");
        _assertNothingLeft();
    }

    function _assertDisjoint(bytes32 id) private view {
        uint256[] memory positions = _committee(id);
        Case memory it = court.caseOf(id);
        for (uint256 i; i < 21; ++i) {
            uint256 number = _number(it.bench[i / 16], i);
            vm.assertLt(number, 40, "a seat of the roster");
            for (uint256 j; j < i; ++j) {
                vm.assertTrue(_number(it.bench[j / 16], j) != number, "once");
            }
            for (uint256 j; j < 11; ++j) {
                vm.assertTrue(_panelSeat(id, positions[j]) != number, "none of the committee");
            }
        }
    }

    function test_ABenchOverturns() external {
        _seat(40);
        bytes32 id = _convict(device);
        uint256 free = _free(provider);
        _appealCase(id);
        court.voteBench(id, _benchBallots(id, 21, CLEAR));
        _assertOutcome(id, Finding.Clear);
        vm.assertLe(registry.frozenUntil(device), vm.getBlockTimestamp(), "the stake is free");
        _expect(abi.encodeWithSelector(IVerdicts.NothingDue.selector, id));
        court.execute(id);
        _close(id);
        vm.assertEq(_free(provider), free - 21 * FEE + BOND, "the provider has the opener's bond");
        vm.assertEq(_stake(device), STAKE, "20: no slash while the appeal decides");
        _assertNothingLeft();
    }

    function test_ABenchThatStaysSilentSlashesNobody() external {
        _seat(40);
        bytes32 id = _convict(device);
        _appealCase(id);
        court.voteBench(id, _benchBallots(id, 14, GUILTY));
        uint256 benchBy = court.caseOf(id).benchBy;
        vm.warp(benchBy);
        _expect(abi.encodeWithSelector(ICases.CaseTooEarly.selector, benchBy + 1, benchBy));
        court.lapse(id);
        vm.warp(benchBy + 1);
        court.lapse(id);
        _assertOutcome(id, Finding.Unknown);
        _close(id);
        vm.assertEq(_stake(device), STAKE, "no quorum, no slash");
        _assertNothingLeft();
    }

    function test_AStakeIsNotMovedAwayBeforeTheVerdict() external {
        vm.prank(provider);
        registry.beginUnbond(device, provider, _direct());
        _joinSeats(0, 40);
        uint64 last = uint64(14 days / EPOCH) - 1;
        _toEpoch(last);
        bytes32 id = _convict(device);
        vm.warp(vm.getBlockTimestamp() + 1 days + 1);
        vm.assertGt(vm.getBlockTimestamp(), START + 14 days, "unbonded by now");
        vm.expectPartialRevert(IRegistry.StillBonded.selector);
        registry.withdrawStake(device);
        court.lapse(id);
        court.execute(id);
        vm.assertEq(_stake(device), STAKE - 200_000, "16: slashable until withdrawn");
    }

    // --- leases -----------------------------------------------------------------------------------------------

    function test_AHarmedBuyerIsPaidFromItsLeasesBond() external {
        _joinSeats(0, 40);
        _toEpoch(TRIED - 1);
        LeaseTerms memory terms = _harmed();
        _toEpoch(TRIED);
        bytes32 lease = _dispute(terms, 4_000_000);
        bytes32 id = _openCase(device, 0);
        court.join(id, terms);
        _expect(abi.encodeWithSelector(IVerdicts.NotHarmed.selector, lease));
        court.join(id, terms);
        _drawPanel(id);
        _commitAll(id, GUILTY);
        _drawCommittee(id);
        (Verdict verdict,) = court.ruling(lease);
        vm.assertEq(uint256(verdict), uint256(Verdict.Unknown), "not yet");
        court.vote(id, _ballots(id, 0, 8));
        vm.warp(vm.getBlockTimestamp() + 1 days + 1);
        court.lapse(id);
        uint96 award;
        (verdict, award) = court.ruling(lease);
        vm.assertEq(uint256(verdict), uint256(Verdict.ForBuyer), "guilty");
        vm.assertEq(award, 1_800_000 + 1_800_000, "what was paid, and half an hour of the rate");
        uint256 free = _free(buyer);
        leases.resolve(terms);
        vm.assertEq(_free(buyer) - free, 3_600_000 + 400_000, "compensated, and the dispute's bond");
        vm.assertEq(_stake(device), STAKE, "15: from the bond alone; the stake is another matter");
    }

    function test_AClearedDeviceKeepsItsBondAndEarnsCredit() external {
        _joinSeats(0, 40);
        _toEpoch(TRIED - 1);
        LeaseTerms memory terms = _harmed();
        _toEpoch(TRIED);
        bytes32 lease = _dispute(terms, 4_000_000);
        bytes32 id = _openCase(device, 0);
        court.join(id, terms);
        _drawPanel(id);
        _commitAll(id, CLEAR);
        _drawCommittee(id);
        court.vote(id, _ballots(id, 0, 11));
        (Verdict verdict,) = court.ruling(lease);
        vm.assertEq(uint256(verdict), uint256(Verdict.ForProvider), "clear");
        uint40 from = uint40(START + uint256(TRIED) * EPOCH);
        vm.assertTrue(court.uptimeCredit(device, from - 1, from + 9 hours), "credited");
        vm.assertTrue(court.uptimeCredit(device, from, from), "its first second");
        vm.assertFalse(court.uptimeCredit(device, from - 9 hours, from - 1), "not before");
        vm.assertFalse(court.uptimeCredit(device, from + EPOCH, from + 9 hours), "not after");
        _toEpoch(TRIED + 2);
        bytes32 other = _convict(device);
        vm.warp(vm.getBlockTimestamp() + 1 days + 1);
        court.lapse(other);
        vm.assertFalse(court.uptimeCredit(device, from, from + 9 hours), "a guilty epoch spoils it");
        vm.assertTrue(court.uptimeCredit(device, from, from + EPOCH), "not what was before");
    }

    function test_RevertWhen_ALeaseWasNotHarmed() external {
        _joinSeats(0, 40);
        _toEpoch(TRIED);
        LeaseTerms memory terms = _terms();
        _open(terms);
        bytes32 lease = leases.leaseId(terms);
        bytes32 id = _openCase(device, 0);
        _expect(abi.encodeWithSelector(IVerdicts.NotHarmed.selector, lease));
        court.join(id, terms);
        _dispute(terms, 1_000_000);
        _toEpoch(TRIED + 2);
        bytes32 later = _openCase(device, 0);
        _expect(abi.encodeWithSelector(IVerdicts.NotHarmed.selector, lease));
        court.join(later, terms);
        court.join(id, terms);
        vm.assertEq(court.joined(lease).caseId, id, "joined");
    }

    function test_ACaseCoversItsOpenersOwnClaimAndNoMore() external {
        vm.prank(buyer);
        leases.allow(address(court), address(usd), type(uint256).max);
        _joinSeats(0, 40);
        _toEpoch(TRIED - 1);
        LeaseTerms memory terms = _harmed();
        bytes32 lease = _dispute(terms, 4_000_000);
        _toEpoch(TRIED);
        opener = buyer;
        bytes32 id = _openCase(device, 3_999_999);
        _expect(abi.encodeWithSelector(IVerdicts.NotHarmed.selector, lease));
        court.join(id, terms);
        _toEpoch(TRIED + 1);
        id = _openCase(device, 4_000_000);
        court.join(id, terms);
        vm.assertEq(court.joined(lease).caseId, id, "joined");
    }

    // --- breaker ----------------------------------------------------------------------------------------------

    /// @dev Four owners with a device each, of which `paid` had a lease that was paid.
    function _owners(uint256 paid) private returns (bytes32[] memory ids, LeaseTerms[] memory all) {
        ids = new bytes32[](4);
        all = new LeaseTerms[](paid);
        for (uint256 i; i < 4; ++i) {
            uint256 key = 0xAA00 + i;
            address owner_ = vm.addr(key);
            _fund(owner_, 1e10);
            ids[i] = _listDevice(owner_, address(uint160(0xDE00 + i)), 4);
            if (i >= paid) continue;
            LeaseTerms memory terms = _terms();
            (terms.provider, terms.device) = (owner_, ids[i]);
            terms.schedule.end += 10 hours;
            bytes32 lease = leases.leaseId(terms);
            leases.open(terms, _sign(BUYER_KEY, lease), _sign(key, lease));
            _settle(terms, 60_000);
            all[i] = terms;
        }
    }

    function _convictMany(bytes32[] memory devices, uint256 count) private returns (bytes32[] memory ids) {
        ids = new bytes32[](count);
        for (uint256 i; i < count; ++i) {
            ids[i] = _openCase(devices[i], 0);
        }
        for (uint256 i; i < count; ++i) {
            court.caseOf(ids[i]);
            if (i == 0) _drawPanel(ids[i]);
            else court.drawPanel(ids[i]);
            _commitAll(ids[i], GUILTY);
        }
        for (uint256 i; i < count; ++i) {
            if (i == 0) _drawCommittee(ids[i]);
            else court.drawCommittee(ids[i]);
            court.vote(ids[i], _ballots(ids[i], 0, 11));
        }
        vm.warp(vm.getBlockTimestamp() + 1 days + 1);
        for (uint256 i; i < count; ++i) {
            court.lapse(ids[i]);
        }
    }

    function test_AMassOutageDefersBurningAndNothingElse() external {
        _joinSeats(0, 40);
        _toEpoch(TRIED);
        (bytes32[] memory devices, LeaseTerms[] memory paid) = _owners(4);
        court.count(TRIED, paid);
        bytes32[] memory ids = _convictMany(devices, 3);
        vm.assertTrue(court.tripped(TRIED), "three of four owners at once");
        uint256 until = uint256(court.caseOf(ids[0]).decidedAt) + 2 days;
        _expect(abi.encodeWithSelector(IVerdicts.BreakerTripped.selector, TRIED, until));
        court.execute(ids[0]);
        _close(ids[0]);
        vm.assertEq(_stake(devices[0]), STAKE, "deferred");
        vm.warp(until);
        court.execute(ids[0]);
        vm.assertEq(_stake(devices[0]), STAKE - 200_000, "never cancelled");
    }

    function test_SybilsThatWereNeverPaidTripNothing() external {
        _joinSeats(0, 40);
        _toEpoch(TRIED);
        (bytes32[] memory devices, LeaseTerms[] memory paid) = _owners(2);
        bytes32[] memory ids = _convictMany(devices, 4);
        court.count(TRIED, paid);
        vm.assertEq(court.census(TRIED).downOwners, 2, "the two that were paid");
        vm.assertFalse(court.tripped(TRIED), "two are too few");
        court.execute(ids[0]);
        LeaseTerms[] memory none = new LeaseTerms[](1);
        none[0] = paid[0];
        none[0].jobDigest = keccak256("never opened");
        vm.expectPartialRevert(IVerdicts.NotHarmed.selector);
        court.count(TRIED, none);
    }

    function test_SybilsWithLittleStakeTripNothing() external {
        _joinSeats(0, 40);
        _toEpoch(TRIED);
        (bytes32[] memory devices, LeaseTerms[] memory paid) = _owners(4);
        address whale = vm.addr(0xAA03);
        vm.prank(whale);
        registry.stake(devices[3], 44_000_000, _direct());
        court.count(TRIED, paid);
        court.count(TRIED, paid);
        vm.assertEq(court.census(TRIED).owners, 4, "each counts once");
        _convictMany(devices, 3);
        vm.assertFalse(court.tripped(TRIED), "a fifth of the stake, and no more");
    }
}
