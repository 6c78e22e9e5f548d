// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {CaseBook} from "./CaseBook.sol";
import {ICases} from "./interfaces/ICases.sol";
import {ICourt, Verdict} from "./interfaces/ICourt.sol";
import {ILeases} from "./interfaces/ILeases.sol";
import {IParameterBook} from "./interfaces/IParameterBook.sol";
import {IRegistry} from "./interfaces/IRegistry.sol";
import {IRemedies, LeaseView} from "./interfaces/IRemedies.sol";
import {ISeats} from "./interfaces/ISeats.sol";
import {ITransfers} from "./interfaces/ITransfers.sol";
import {IVerdicts} from "./interfaces/IVerdicts.sol";
import {Case, Census, Finding, Joined, Stage} from "./types/Case.sol";
import {Setup} from "./types/CourtParameters.sol";
import {State} from "./types/LeaseWord.sol";
import {Parameters} from "./types/Parameters.sol";
import {LeaseTerms, RATE_SCALE} from "./types/Terms.sol";

/// @title What follows from a verdict
/// @notice The code behind {IVerdicts} and {ICourt}; it runs as the court.
contract Verdicts is IVerdicts, ICourt, CaseBook {
    /// @dev A provider counts for the breaker while one of its devices was paid this recently.
    uint256 private constant PAID_SPAN = 7 days;
    /// @dev One part in this many owners, and of their stake, may look down before the breaker trips.
    uint256 private constant BREAKER_PARTS = 5;
    /// @dev So many may look down in any case.
    uint256 private constant BREAKER_LEAST = 2;
    /// @dev A longer promise of uptime is not credited.
    uint256 private constant MAX_EPOCHS = 4_096;

    /// @inheritdoc IVerdicts
    function execute(bytes32 id) external {
        Case storage it = _cases[id];
        if (!it.slashDue) revert NothingDue(id);
        uint256 until = uint256(it.decidedAt) + _versions[it.version].parameters.deferSpan;
        if (block.timestamp < until && tripped(it.epoch)) revert BreakerTripped(it.epoch, until);
        it.slashDue = false;
        uint96 amount = IRegistry(_setup().registry)
            .slashShare(it.device, _versions[it.version].parameters.downBps, it.opener);
        emit CaseSlashed(id, it.device, amount);
    }

    /// @inheritdoc IVerdicts
    function closeCase(bytes32 id) external {
        Case storage it = _cases[id];
        if (it.stage != Stage.Decided) revert ICases.WrongStage(id, it.stage);
        uint256 from = Math.max(it.voteBy, it.benchBy);
        if (block.timestamp <= from) revert ICases.CaseTooEarly(from + 1, block.timestamp);
        it.stage = Stage.Closed;
        Setup memory s = _setup();
        uint96 fee = _versions[it.version].parameters.transcriptFee;
        uint256 cost = _payCommittee(s, it, fee);
        uint256 benchCost = _payBench(s, it, fee);
        uint256 fromPool;
        if (it.outcome == Finding.Guilty) {
            fromPool = ITransfers(s.leases).rewardWatchers(s.feeToken, address(this), cost);
        }
        uint256 toProvider = it.outcome == Finding.Clear ? it.bond : 0;
        uint256 toOpener = it.prepaid - cost + fromPool + it.bond - toProvider;
        _pay(s, s.feeToken, it.opener, toOpener);
        _pay(s, s.feeToken, IRegistry(s.registry).device(it.device).provider, toProvider);
        _pay(s, s.feeToken, it.appellant, it.appealPrepaid - benchCost);
        emit CaseClosed(id, cost + benchCost, fromPool, toOpener, toProvider);
    }

    /// @inheritdoc IVerdicts
    function join(bytes32 id, LeaseTerms calldata terms) external {
        Case storage it = _cases[id];
        if (it.stage == Stage.None) revert ICases.WrongStage(id, Stage.None);
        Setup memory s = _setup();
        bytes32 lease = ILeases(s.leases).leaseId(terms);
        LeaseView memory now_ = IRemedies(s.leases).lease(lease);
        (Parameters memory p,) = IParameterBook(s.leases).parameters(terms.version);
        uint256 start = _epochStart(s, it.epoch);
        bool known = now_.state != State.None && now_.disputed && terms.device == it.device;
        bool live = now_.openedAt < start + s.epochSpan && terms.schedule.end > start
            && (now_.state != State.Settled || now_.dueAt > start + p.bondDelay);
        bool covered = terms.buyer != it.opener || terms.token != s.feeToken || now_.claim <= it.claim;
        if (!known || !live || !covered || _joined[lease].caseId != 0) revert NotHarmed(lease);
        Harm storage harm = _joined[lease];
        (harm.caseId, harm.pair) = (id, keccak256(abi.encode(terms.buyer, terms.provider)));
        (uint256 lost, uint256 bonus) = _award(terms, now_, p, start);
        harm.award = uint96(Math.min(lost + bonus, type(uint96).max));
        harm.bonus = uint96(Math.min(bonus, harm.award));
        harm.repeatWindow = p.repeatWindow;
        emit LeaseJoined(id, lease, harm.award);
    }

    /// @inheritdoc IVerdicts
    function count(uint64 epoch, LeaseTerms[] calldata leases) external {
        Setup memory s = _setup();
        uint256 start = _epochStart(s, epoch);
        for (uint256 i; i < leases.length; ++i) {
            LeaseTerms calldata terms = leases[i];
            bytes32 lease = ILeases(s.leases).leaseId(terms);
            LeaseView memory now_ = IRemedies(s.leases).lease(lease);
            bool recent = terms.schedule.end + PAID_SPAN > start && now_.openedAt < start + s.epochSpan;
            if (now_.paid == 0 || terms.device == 0 || !recent) revert NotHarmed(lease);
            _count(s, epoch, terms.device, terms.provider);
        }
    }

    /// @inheritdoc ICourt
    /// @dev A case that ended Unknown says nothing: the dispute runs out, and its bond returns. The pair's second failure
    /// within a while, however it was found, earns no bonus; the leases remember.
    function ruling(bytes32 lease) external view returns (Verdict, uint96) {
        Harm memory found = _joined[lease];
        Finding outcome = _cases[found.caseId].outcome;
        if (outcome == Finding.Guilty) {
            uint256 last = IRemedies(_setup().leases).failedAt(found.pair);
            bool repeated = last != 0 && block.timestamp < last + found.repeatWindow;
            return (Verdict.ForBuyer, repeated ? found.award - found.bonus : found.award);
        }
        return (outcome == Finding.Clear ? Verdict.ForProvider : Verdict.Unknown, 0);
    }

    /// @inheritdoc ICourt
    /// @dev A case of an epoch in the span ended Clear, and none ended Guilty.
    function uptimeCredit(bytes32 device, uint40 from, uint40 to) external view returns (bool credited) {
        Setup memory s = _setup();
        if (to < from || from < s.genesis) return false;
        (uint256 first, uint256 last) = (_epochAt(s, from), _epochAt(s, to));
        if (last - first > MAX_EPOCHS) return false;
        for (uint256 word = first >> 8; word <= last >> 8; ++word) {
            uint256 mask = type(uint256).max;
            if (word == first >> 8) mask &= type(uint256).max << (first & 0xff);
            if (word == last >> 8) mask &= type(uint256).max >> (255 - (last & 0xff));
            if (_guiltyEpochs[device][word] & mask != 0) return false;
            if (_clearEpochs[device][word] & mask != 0) credited = true;
        }
    }

    /// @inheritdoc IVerdicts
    function caseOf(bytes32 id) external view returns (Case memory) {
        return _cases[id];
    }

    /// @inheritdoc IVerdicts
    function joined(bytes32 lease) external view returns (Joined memory) {
        return Joined(_joined[lease].caseId, _joined[lease].award);
    }

    /// @inheritdoc IVerdicts
    function census(uint64 epoch) external view returns (Census memory) {
        return _census[epoch];
    }

    /// @inheritdoc IVerdicts
    function tripped(uint64 epoch) public view returns (bool) {
        Census memory seen = _census[epoch];
        return seen.downOwners > Math.max(seen.owners / BREAKER_PARTS, BREAKER_LEAST)
            && uint256(seen.downStake) * BREAKER_PARTS > seen.stake;
    }

    /// @dev Pays who voted. A vote of guilty on a device that a quorum saw well earns a strike, and so does none.
    function _payCommittee(Setup memory s, Case storage it, uint256 fee) private returns (uint256 cost) {
        uint8 limit = _versions[it.version].parameters.strikes;
        for (uint256 i; i < 64; ++i) {
            if ((it.committee >> i) & 1 == 0) continue;
            uint32 seat = _seatIn(it, _numberAt(it.panel[i >> 4], i));
            bool lazy = it.outcome == Finding.Clear && (it.downs >> i) & 1 == 1;
            if ((it.revealed >> i) & 1 == 0 || lazy) {
                _strike(s, seat, limit);
            } else {
                _pay(s, s.feeToken, _seats[seat].owner, fee);
                cost += fee;
            }
        }
    }

    function _payBench(Setup memory s, Case storage it, uint256 fee) private returns (uint256 cost) {
        for (uint256 i; i < 32; ++i) {
            if ((it.heard >> i) & 1 == 0) continue;
            _pay(s, s.feeToken, _seats[_seatIn(it, _numberAt(it.bench[i >> 4], i))].owner, fee);
            cost += fee;
        }
    }

    function _strike(Setup memory s, uint32 id, uint8 limit) private {
        Seat storage it = _seats[id];
        if (it.strikes < type(uint8).max) ++it.strikes;
        emit ISeats.SeatStruck(id, it.strikes);
        if (it.strikes >= limit && it.withdrawableAt == 0) _leave(s, id);
    }

    /// @dev As for an unanswered challenge: what was paid since the last checkpoint, at most `compensationSpan` of the
    /// rate, and `bonusSpan` of it; in the first `refundWindow` all that was paid. The lease clips it to its claim.
    function _award(LeaseTerms calldata terms, LeaseView memory now_, Parameters memory p, uint256 start)
        private
        pure
        returns (uint256 lost, uint256 bonus)
    {
        uint256 began = Math.max(terms.schedule.start, now_.openedAt);
        if (start < began + p.refundWindow) return (now_.paid, 0);
        lost = Math.saturatingSub(now_.paid, now_.checkpointPaid);
        lost = Math.min(lost, uint256(terms.rate) * p.compensationSpan / RATE_SCALE);
        bonus = uint256(terms.rate) * p.bonusSpan / RATE_SCALE;
    }

    function _count(Setup memory s, uint64 epoch, bytes32 device, address owner_) private {
        Standing storage its = _standing[epoch][device];
        if (its.counted) return;
        its.counted = true;
        its.stake = IRegistry(s.registry).device(device).stake;
        Census storage seen = _census[epoch];
        seen.stake += its.stake;
        if (!_owners[epoch][owner_].counted) {
            _owners[epoch][owner_].counted = true;
            ++seen.owners;
        }
        emit DeviceCounted(epoch, device, owner_, its.stake);
        if (its.down) _countDown(epoch, owner_, its.stake);
    }
}
