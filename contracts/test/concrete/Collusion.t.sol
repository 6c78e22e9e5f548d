// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Verdict} from "../../src/interfaces/ICourt.sol";
import {ICases} from "../../src/interfaces/ICases.sol";
import {ICourtBook} from "../../src/interfaces/ICourtBook.sol";
import {ISignatures} from "../../src/interfaces/ISignatures.sol";
import {IVerdicts} from "../../src/interfaces/IVerdicts.sol";
import {Ballot, Case, Finding, Stage} from "../../src/types/Case.sol";
import {LeaseTerms} from "../../src/types/Terms.sol";
import {CaseBase} from "../CaseBase.sol";

/// @notice Who pays what when somebody cheats, to the unit.
contract CollusionTest is CaseBase {
    // --- several cases of one device --------------------------------------------------------------------------

    function _twoConvictions() private returns (bytes32 first, bytes32 second) {
        _seat(40);
        first = _convict(device);
        _toEpoch(TRIED + 1);
        second = _convict(device);
    }

    function _overturn(bytes32 id) private {
        _appealCase(id);
        court.voteBench(id, _benchBallots(id, 21, CLEAR));
        _assertOutcome(id, Finding.Clear);
    }

    function test_AnOverturnedCaseLeavesTheFreezeToTheOthers() external {
        (bytes32 first, bytes32 second) = _twoConvictions();
        uint40 until = registry.frozenUntil(device);
        _overturn(first);
        vm.assertEq(registry.frozenUntil(device), until, "the other case holds it still");
        _overturn(second);
        vm.assertLe(registry.frozenUntil(device), vm.getBlockTimestamp(), "nobody holds it any more");
    }

    function test_AGuiltyCaseHoldsItsStakeWhateverBecomesOfALaterOne() external {
        (bytes32 first, bytes32 second) = _twoConvictions();
        uint256 held = uint256(court.caseOf(first).convictedAt) + 5 days;
        _appealCase(second);
        court.voteBench(second, _benchBallots(second, 14, CLEAR));
        vm.warp(uint256(court.caseOf(first).convictedAt) + 1 days + 1);
        court.lapse(first);
        court.lapse(second);
        _assertOutcome(first, Finding.Guilty);
        _assertOutcome(second, Finding.Unknown);
        vm.assertEq(registry.frozenUntil(device), held, "as long as the guilty one's");
        court.execute(first);
        vm.assertEq(_stake(device), STAKE - 200_000, "and slashed");
    }

    function test_AnOverturnedCaseIsNoStepOfTheJail() external {
        (bytes32 first, bytes32 second) = _twoConvictions();
        vm.assertEq(registry.device(device).jailedUntil, vm.getBlockTimestamp() + 6 hours, "the second step");
        _overturn(first);
        _overturn(second);
        _toEpoch(TRIED + 30);
        _convict(device);
        vm.assertEq(registry.device(device).jailedUntil, vm.getBlockTimestamp() + 1 hours, "the first again");
    }

    // --- a pair's second failure ------------------------------------------------------------------------------

    /// @dev A disputed lease in a case against its device, guilty for good.
    function _failByCase(bytes32 salt) private returns (LeaseTerms memory terms) {
        uint64 epoch = _epoch();
        terms = _harmedWith(salt);
        _toEpoch(epoch + 1);
        _dispute(terms, 4_000_000);
        bytes32 id = _openCase(device, 0);
        court.join(id, terms);
        _drawPanel(id);
        _commitAll(id, GUILTY);
        _drawCommittee(id);
        court.vote(id, _ballots(id, 0, 8));
        vm.warp(vm.getBlockTimestamp() + 1 days + 1);
        court.lapse(id);
    }

    function _harmedWith(bytes32 salt) private returns (LeaseTerms memory terms) {
        terms = _harmedTerms();
        terms.jobDigest = salt;
        _open(terms);
        vm.warp(vm.getBlockTimestamp() + 30 minutes);
        _settle(terms, 1_800_000);
    }

    function _awardOf(LeaseTerms memory terms) private view returns (uint96 award) {
        (, award) = court.ruling(leases.leaseId(terms));
    }

    function test_ASecondFailureOfThePairWithinAWeekEarnsNoBonus() external {
        _joinSeats(0, 40);
        _toEpoch(TRIED - 1);
        LeaseTerms memory first = _failByCase("first");
        vm.assertEq(_awardOf(first), 3_600_000, "the loss and half an hour");
        leases.resolve(first);
        _closeWell(first, 1_800_000);
        _toEpoch(_epoch() + 8);
        LeaseTerms memory second = _failByCase("second");
        vm.assertEq(_awardOf(second), 1_800_000, "the loss alone");
        uint256 free = _free(buyer);
        leases.resolve(second);
        vm.assertEq(_free(buyer) - free, 1_800_000 + 400_000, "and the dispute's bond");
        vm.warp(vm.getBlockTimestamp() + 7 days - 1);
        vm.assertEq(_awardOf(second), 1_800_000, "for a week");
        vm.warp(vm.getBlockTimestamp() + 1);
        vm.assertEq(_awardOf(second), 3_600_000, "and no longer");
    }

    function test_AnUnansweredChallengeAndAVerdictAreOneMemory() external {
        _joinSeats(0, 40);
        _toEpoch(TRIED - 1);
        LeaseTerms memory first = _failByCase("first");
        leases.resolve(first);
        _closeWell(first, 1_800_000);
        LeaseTerms memory second = _harmedWith("second");
        _challenge(second);
        vm.warp(vm.getBlockTimestamp() + 15 minutes + 1);
        leases.defaulted(second);
        vm.assertEq(leases.lease(leases.leaseId(second)).compensated, 1_800_000, "no bonus after a verdict");
        vm.assertEq(_awardOf(first), 1_800_000, "nor a verdict's after a default");
    }

    // --- buyer and provider together --------------------------------------------------------------------------

    function _wealth(address token) private view returns (uint256 sum) {
        sum = leases.balanceOf(token, buyer) + leases.balanceOf(token, provider)
            + leases.balanceOf(token, opener);
        if (token == address(twd)) sum += _stake(device);
    }

    /// @dev The three of them are one: it leases to itself, fails, accuses itself and is convicted.
    function test_ColludersForCompensationPayForIt() external {
        _joinSeats(0, 40);
        _toEpoch(TRIED - 1);
        (uint256 usdBefore, uint256 twdBefore) = (_wealth(address(usd)), _wealth(address(twd)));
        LeaseTerms memory terms = _failByCase("own");
        bytes32 id = court.joined(leases.leaseId(terms)).caseId;
        leases.resolve(terms);
        court.execute(id);
        _close(id);
        vm.warp(uint256(terms.schedule.end) + 1 days);
        leases.expire(terms);
        vm.warp(vm.getBlockTimestamp() + 1 days);
        leases.releaseBond(terms);
        vm.assertEq(
            usdBefore - _wealth(address(usd)),
            8 * FEE + 45_000,
            "the watchers' fees and the lease's 2.5 %: compensation moved from one pocket to the other"
        );
        vm.assertEq(twdBefore - _wealth(address(twd)), 180_000, "and nine tenths of the slash");
    }

    // --- who reports ------------------------------------------------------------------------------------------

    function test_ACaseIsNotCopiedOnItsWay() external {
        _seat(40);
        _fund(stranger, 1e9);
        bytes32 commitment = keccak256(abi.encode(opener, device, TRIED, bytes32("salt")));
        bytes32 copied = keccak256(abi.encode(stranger, device, TRIED, bytes32("salt")));
        court.announce(commitment);
        vm.roll(vm.getBlockNumber() + 1);
        // The opener's call is seen before it is in: the copyist can only announce now, a block too late.
        court.announce(copied);
        _expect(abi.encodeWithSelector(ICourtBook.NotAnnounced.selector, copied));
        vm.prank(stranger);
        court.openCase(stranger, device, TRIED, 0, "salt", _direct());
        vm.prank(opener);
        bytes32 id = court.openCase(opener, device, TRIED, 0, "salt", _direct());
        vm.roll(vm.getBlockNumber() + 1);
        _expect(abi.encodeWithSelector(ICases.CaseExists.selector, id));
        vm.prank(stranger);
        court.openCase(stranger, device, TRIED, 0, "salt", _direct());
        vm.assertEq(court.caseOf(id).opener, opener, "who was first");
        vm.assertEq(_free(stranger), 1e9, "the copyist paid nothing and gets nothing");
    }

    // --- replays ----------------------------------------------------------------------------------------------

    function test_AVoteCountsInNoOtherEpochDeviceOrChain() external {
        _seat(40);
        bytes32 other = _listDevice(provider, address(0xD2), 4);
        bytes32 id = _tryCase(device, GUILTY);
        Ballot[] memory votes = _ballots(id, 0, 11);
        _toEpoch(TRIED + 2);
        bytes32 later = _tryCase(device, GUILTY);
        _refused(later, votes);
        bytes32 ofOther = _tryCase(other, GUILTY);
        _refused(ofOther, votes);
        Ballot[] memory own = _ballots(ofOther, 0, 1);
        vm.chainId(99);
        vm.expectPartialRevert(ISignatures.InvalidSignature.selector);
        court.vote(ofOther, own);
        vm.assertEq(_stake(device) + _stake(other), 2 * STAKE, "nobody is slashed");
        vm.assertEq(registry.device(device).jailedUntil, 0, "nor jailed");
    }

    /// @dev Each at its own place, with this case's position and the other's words.
    function _refused(bytes32 id, Ballot[] memory votes) private {
        uint256[] memory positions = _committee(id);
        for (uint256 i; i < votes.length; ++i) {
            Ballot[] memory one = new Ballot[](1);
            one[0] = votes[i];
            one[0].position = uint8(positions[i]);
            (bool counted,) = address(court).call(abi.encodeCall(court.vote, (id, one)));
            vm.assertFalse(counted, "another case's vote");
        }
        vm.assertEq(court.caseOf(id).guilty, 0, "none counts");
    }

    function test_ALeaseJoinsOneCaseOfItsOwnDevice() external {
        _joinSeats(0, 40);
        bytes32 other = _listDevice(provider, address(0xD2), 4);
        _toEpoch(TRIED - 1);
        LeaseTerms memory terms = _harmed();
        _toEpoch(TRIED);
        bytes32 lease = _dispute(terms, 4_000_000);
        bytes32 ofOther = _openCase(other, 0);
        _expect(abi.encodeWithSelector(IVerdicts.NotHarmed.selector, lease));
        court.join(ofOther, terms);
        bytes32 id = _openCase(device, 0);
        court.join(id, terms);
        _toEpoch(TRIED + 1);
        bytes32 later = _openCase(device, 0);
        _expect(abi.encodeWithSelector(IVerdicts.NotHarmed.selector, lease));
        court.join(later, terms);
    }

    // --- the beacon stalls, the breaker trips -----------------------------------------------------------------

    function test_ABeaconThatStallsAfterTheCommitmentsDecidesNothing() external {
        _seat(40);
        uint256 free = _free(opener);
        bytes32 id = _openCase(device, 0);
        _drawPanel(id);
        _commitAll(id, GUILTY);
        vm.warp(uint256(court.caseOf(id).openedAt) + 15 minutes + 1);
        vm.expectPartialRevert(ICases.LotsUnknown.selector);
        court.drawCommittee(id);
        vm.warp(vm.getBlockTimestamp() + 15 minutes);
        court.lapse(id);
        _assertOutcome(id, Finding.Unknown);
        _close(id);
        vm.assertEq(_free(opener), free, "bond and fees return");
        vm.assertEq(_stake(device), STAKE, "no slash");
        _assertNothingLeft();
    }

    /// @dev Three owners go dark together to save their stakes: their buyers are paid at once, the burning waits, and
    /// comes.
    function test_SybilsThatTripTheBreakerPayLater() external {
        _joinSeats(0, 40);
        _toEpoch(TRIED);
        (bytes32[] memory dark, LeaseTerms[] memory paid) = _sybils(3);
        court.count(TRIED, paid);
        bytes32[] memory ids = _convictAll(dark, paid);
        vm.assertTrue(court.tripped(TRIED), "all owners at once");
        for (uint256 i; i < 3; ++i) {
            uint256 free = _free(buyer);
            leases.resolve(paid[i]);
            vm.assertEq(_free(buyer) - free, 60_000 + 100_000, "the refund and the dispute's bond, at once");
            vm.expectPartialRevert(IVerdicts.BreakerTripped.selector);
            court.execute(ids[i]);
        }
        vm.warp(uint256(court.caseOf(ids[2]).decidedAt) + 2 days);
        (uint256 sink,,,) = leases.pools(address(twd));
        for (uint256 i; i < 3; ++i) {
            court.execute(ids[i]);
            vm.assertEq(_stake(dark[i]), STAKE - 200_000, "5 % all the same");
        }
        (uint256 sunk,,,) = leases.pools(address(twd));
        vm.assertEq(sunk - sink, 3 * 180_000, "into the sink");
    }

    function _sybils(uint256 count) private returns (bytes32[] memory ids, LeaseTerms[] memory paid) {
        ids = new bytes32[](count);
        paid = new LeaseTerms[](count);
        for (uint256 i; i < count; ++i) {
            uint256 key = 0xAA00 + i;
            _fund(vm.addr(key), 1e10);
            ids[i] = _listDevice(vm.addr(key), address(uint160(0xDE00 + i)), 4);
            LeaseTerms memory terms = _terms();
            (terms.provider, terms.device) = (vm.addr(key), ids[i]);
            bytes32 lease = leases.leaseId(terms);
            leases.open(terms, _sign(BUYER_KEY, lease), _sign(key, lease));
            _settle(terms, 60_000);
            paid[i] = terms;
        }
    }

    function _convictAll(bytes32[] memory dark, LeaseTerms[] memory harmed)
        private
        returns (bytes32[] memory ids)
    {
        ids = new bytes32[](dark.length);
        for (uint256 i; i < dark.length; ++i) {
            _dispute(harmed[i], 1_000_000);
            ids[i] = _openCase(dark[i], 0);
            court.join(ids[i], harmed[i]);
        }
        for (uint256 i; i < dark.length; ++i) {
            if (i == 0) _drawPanel(ids[i]);
            else court.drawPanel(ids[i]);
            _commitAll(ids[i], GUILTY);
        }
        for (uint256 i; i < dark.length; ++i) {
            if (i == 0) _drawCommittee(ids[i]);
            else court.drawCommittee(ids[i]);
            court.vote(ids[i], _ballots(ids[i], 0, 11));
        }
        vm.warp(vm.getBlockTimestamp() + 1 days + 1);
        for (uint256 i; i < dark.length; ++i) {
            court.lapse(ids[i]);
        }
    }

    // --- reorgs -----------------------------------------------------------------------------------------------

    /// @dev What a case left behind, money included.
    function _trace(bytes32 id) private view returns (bytes32) {
        Case memory it = court.caseOf(id);
        uint256 paid;
        for (uint256 i; i < 40; ++i) {
            paid = paid * 31 + _free(_seatOwner(i)) + court.seat(uint32(i + 1)).strikes;
        }
        return keccak256(
            abi.encode(
                it.outcome,
                it.downs,
                it.revealed,
                registry.device(device),
                registry.frozenUntil(device),
                paid,
                _free(opener),
                _free(provider)
            )
        );
    }

    function test_VotesSurviveAReorgInAnyOrder() external {
        _seat(40);
        bytes32 id = _tryCase(device, GUILTY);
        Ballot[] memory votes = _ballots(id, 0, 11);
        uint256 before = vm.snapshotState();
        court.vote(id, votes);
        bytes32 once = _endOf(id);
        vm.revertToState(before);
        _assertStage(id, Stage.Voting);
        vm.roll(vm.getBlockNumber() + 1);
        for (uint256 i = 11; i > 0; --i) {
            Ballot[] memory one = new Ballot[](1);
            one[0] = votes[i - 1];
            court.vote(id, one);
        }
        court.vote(id, votes);
        vm.assertEq(_endOf(id), once, "the same end to the unit");
    }

    function _endOf(bytes32 id) private returns (bytes32) {
        vm.warp(uint256(court.caseOf(id).convictedAt) + 1 days + 1);
        court.lapse(id);
        court.execute(id);
        _close(id);
        _assertNothingLeft();
        return _trace(id);
    }
}
