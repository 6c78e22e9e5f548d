// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {LeaseBook} from "./LeaseBook.sol";
import {Verdict} from "./interfaces/ICourt.sol";
import {ILeases, TermsFault} from "./interfaces/ILeases.sol";
import {IParameterBook} from "./interfaces/IParameterBook.sol";
import {IRegistry} from "./interfaces/IRegistry.sol";
import {IRemedyActions, Reason} from "./interfaces/IRemedies.sol";
import {Actions} from "./libraries/Actions.sol";
import {Rules} from "./libraries/Rules.sol";
import {Auth} from "./types/Authorization.sol";
import {
    BUYER_FEE,
    BUYER_FEE_OWED,
    CHALLENGED,
    COMPENSATED,
    DEFAULTED,
    DISPUTED,
    DISPUTE_USED,
    LeaseWord,
    PROVIDER_FEE,
    State
} from "./types/LeaseWord.sol";
import {
    ColdParameters,
    HotParameters,
    Parameters,
    VERSION_ACTIVE,
    VERSION_HAS_MEMBERS
} from "./types/Parameters.sol";
import {BASIS_POINTS, CheckpointRecord, LeaseTerms, RESERVED, SPOT, Voucher} from "./types/Terms.sol";

/// @title Remedies
/// @notice The code behind {IRemedyActions}. {Leases} delegates to it, so that it acts on the leases' storage; called
/// directly it finds no lease and holds nothing.
contract Remedies is IRemedyActions, LeaseBook {
    using SafeCast for uint256;

    /// @dev A tenth: no owner can add a version that takes more of what is paid.
    uint256 private constant MAX_FEE_BPS = 1_000;

    constructor() EIP712("Tradewind", "1") {}

    /// @inheritdoc IRemedyActions
    function notice(
        LeaseTerms calldata terms,
        Reason reason,
        Voucher calldata voucher,
        bytes calldata voucherSignature,
        Auth calldata auth
    ) external {
        (bytes32 id, LeaseWord current) = _find(terms);
        if (current.state() != State.Open) revert ILeases.WrongState(id, current.state());
        uint40 previous = current.noticeAt();
        _authorize(
            terms.provider,
            keccak256(abi.encode(Actions.NOTICE_TYPEHASH, id, reason, previous, auth.deadline)),
            auth
        );
        if (reason == Reason.Reclaim) {
            if (terms.kind != SPOT) revert ILeases.InvalidTerms(id, TermsFault.Kind);
            current = current.withState(State.NoticedReclaim);
        } else {
            if (previous != 0 && block.timestamp < uint256(previous) + terms.schedule.slack) {
                revert ILeases.TooEarly(uint256(previous) + terms.schedule.slack, block.timestamp);
            }
            if (voucherSignature.length != 0) {
                current = _apply(terms, id, current, _hot[terms.version], voucher, voucherSignature, false);
            }
            uint256 due = Rules.due(terms, block.timestamp, terms.schedule.slack);
            if (current.paid() >= due) revert NotOwed(current.paid(), due);
            current = current.withState(State.NoticedUnpaid);
        }
        _words[id] = current.withNoticeAt(block.timestamp);
        emit LeaseNoticed(id, reason, uint40(block.timestamp + terms.schedule.notice));
    }

    /// @inheritdoc IRemedyActions
    function requestClose(LeaseTerms calldata terms, Auth calldata auth) external {
        (bytes32 id, LeaseWord current) = _live(terms);
        if (current.state() == State.Closing) revert ILeases.WrongState(id, State.Closing);
        _authorize(
            terms.buyer, keccak256(abi.encode(Actions.REQUEST_CLOSE_TYPEHASH, id, auth.deadline)), auth
        );
        uint256 due = block.timestamp + _hot[terms.version].window;
        current = current.withState(State.Closing).withDueAt(due);
        bool aside =
            terms.kind == RESERVED && terms.buyerBreakFee != 0 && block.timestamp < terms.schedule.end;
        _words[id] = aside ? current.withFlag(BUYER_FEE) : current;
        emit CloseRequested(id, uint40(due), aside);
    }

    /// @inheritdoc IRemedyActions
    function finalize(LeaseTerms calldata terms) external {
        (bytes32 id, LeaseWord current) = _live(terms);
        if (current.state() != State.Closing) revert ILeases.WrongState(id, current.state());
        if (block.timestamp < current.dueAt()) revert ILeases.TooEarly(current.dueAt(), block.timestamp);
        _settleLease(terms, id, _unchallenged(id, current), _hot[terms.version]);
    }

    /// @inheritdoc IRemedyActions
    function expire(LeaseTerms calldata terms) external {
        (bytes32 id, LeaseWord current) = _live(terms);
        if (current.state() == State.Closing) revert ILeases.WrongState(id, State.Closing);
        HotParameters memory hot = _hot[terms.version];
        uint256 from = uint256(terms.schedule.end) + hot.window;
        if (block.timestamp < from) revert ILeases.TooEarly(from, block.timestamp);
        _settleLease(terms, id, _unchallenged(id, current), hot);
    }

    /// @inheritdoc IRemedyActions
    function releaseBond(LeaseTerms calldata terms) external {
        (bytes32 id, LeaseWord current) = _find(terms);
        if (current.state() != State.Settled) revert ILeases.WrongState(id, current.state());
        if (block.timestamp < current.dueAt()) revert ILeases.TooEarly(current.dueAt(), block.timestamp);
        if (current.has(DISPUTED)) {
            ColdParameters storage cold = _cold[terms.version];
            if (block.timestamp < uint256(_remedies[id].disputedAt) + cold.hardLimit) {
                revert DisputePending(id);
            }
            uint256 bond = Rules.disputeBond(_remedies[id].claim, cold.disputeBps);
            _credit(terms.token, terms.buyer, bond);
            emit DisputeEnded(id, Verdict.Unknown, 0, uint96(bond));
            current = current.withoutFlag(DISPUTED);
        }

        uint96 buyerFee = current.has(BUYER_FEE_OWED) ? terms.buyerBreakFee : 0;
        uint96 returned = current.has(BUYER_FEE) ? terms.buyerBreakFee - buyerFee : 0;
        uint96 providerFee = current.has(PROVIDER_FEE) ? terms.providerBreakFee : 0;
        uint96 bondToBuyer = providerFee;
        if (current.has(COMPENSATED)) bondToBuyer += _remedies[id].compensated;
        _words[id] = current.withState(State.Closed);
        _credit(terms.token, terms.buyer, uint256(returned) + providerFee);
        _credit(terms.token, terms.provider, uint256(buyerFee) + (terms.bond - bondToBuyer));
        _emitClosed(terms, id, current, buyerFee, bondToBuyer);
    }

    /// @inheritdoc IRemedyActions
    /// @dev Only while the other side could still settle, so that no chain of challenges outlasts a lease.
    function challenge(LeaseTerms calldata terms, Auth calldata auth) external {
        (bytes32 id, LeaseWord current) = _live(terms);
        Remedy storage remedy = _remedies[id];
        uint32 sequence = remedy.challenges;
        _authorize(
            terms.buyer, keccak256(abi.encode(Actions.CHALLENGE_TYPEHASH, id, sequence, auth.deadline)), auth
        );
        _unchallenged(id, current);
        if (block.timestamp < terms.schedule.start) {
            revert ILeases.TooEarly(terms.schedule.start, block.timestamp);
        }
        uint256 until = current.state() == State.Closing
            ? current.dueAt()
            : uint256(terms.schedule.end) + _hot[terms.version].window;
        if (block.timestamp >= until) revert ILeases.TooLate(until, block.timestamp);

        ColdParameters storage cold = _cold[terms.version];
        uint256 bond = Rules.challengeBond(terms, cold.challengeSpan);
        _debit(terms.token, terms.buyer, bond);
        remedy.challengedAt = uint40(block.timestamp);
        remedy.challenges = sequence + 1;
        _words[id] = current.withFlag(CHALLENGED);
        emit Challenged(id, sequence, uint96(bond), uint40(block.timestamp + cold.answerWindow));
    }

    /// @inheritdoc IRemedyActions
    function answer(LeaseTerms calldata terms, Auth calldata auth) external {
        (bytes32 id, LeaseWord current) = _challenged(terms);
        uint40 challengedAt = _remedies[id].challengedAt;
        _authorize(
            terms.provider,
            keccak256(abi.encode(Actions.ANSWER_TYPEHASH, id, challengedAt, auth.deadline)),
            auth
        );
        ColdParameters storage cold = _cold[terms.version];
        uint256 until = uint256(challengedAt) + cold.answerWindow;
        if (block.timestamp > until) revert ILeases.TooLate(until, block.timestamp);
        uint256 bond = Rules.challengeBond(terms, cold.challengeSpan);
        _words[id] = current.withoutFlag(CHALLENGED);
        _credit(terms.token, terms.provider, bond);
        emit ChallengeAnswered(id, uint96(bond));
    }

    /// @inheritdoc IRemedyActions
    function defaulted(LeaseTerms calldata terms) external {
        (bytes32 id, LeaseWord current) = _challenged(terms);
        Remedy storage remedy = _remedies[id];
        ColdParameters memory cold = _cold[terms.version];
        uint256 from = uint256(remedy.challengedAt) + cold.answerWindow + 1;
        if (block.timestamp < from) revert ILeases.TooEarly(from, block.timestamp);

        bool repeated = _recordDefault(terms, cold.repeatWindow);
        uint256 compensation = Math.min(
            Rules.compensation(terms, current, remedy.checkpointPaid, remedy.challengedAt, repeated, cold),
            terms.compensationCap - remedy.compensated
        );
        remedy.compensated += uint96(compensation);
        _credit(terms.token, terms.buyer, compensation + Rules.challengeBond(terms, cold.challengeSpan));
        emit LeaseDefaulted(id, uint96(compensation), repeated);

        current = current.withoutFlag(CHALLENGED | BUYER_FEE).withFlag(DEFAULTED);
        if (compensation != 0) current = current.withFlag(COMPENSATED);
        _settleLease(terms, id, current, _hot[terms.version]);
    }

    /// @inheritdoc IRemedyActions
    function acknowledge(
        LeaseTerms calldata terms,
        CheckpointRecord calldata record,
        bytes calldata providerSignature,
        bytes calldata buyerSignature
    ) external {
        (bytes32 id,) = _live(terms);
        if (record.lease != id) revert ILeases.WrongLease(id, record.lease);
        Remedy storage remedy = _remedies[id];
        if (
            record.at <= remedy.checkpointAt || record.at > block.timestamp
                || record.paidAt < remedy.checkpointPaid || record.paidAt > terms.deposit
        ) {
            revert StaleCheckpoint(record.at, record.paidAt);
        }
        bytes32 digest = _hashTypedDataV4(Actions.hash(record));
        _checkSigner(terms.provider, digest, providerSignature);
        if (!_signedByKey(terms.meter, digest, buyerSignature)) {
            _checkSigner(terms.buyer, digest, buyerSignature);
        }
        remedy.checkpointPaid = record.paidAt;
        remedy.checkpointAt = record.at;
        emit CheckpointAcknowledged(id, record.paidAt, record.root, record.at);
    }

    /// @inheritdoc IRemedyActions
    function dispute(LeaseTerms calldata terms, uint96 claim, bytes32 evidence, Auth calldata auth) external {
        (bytes32 id, LeaseWord current) = _unclosed(terms);
        _authorize(
            terms.buyer,
            keccak256(abi.encode(Actions.DISPUTE_TYPEHASH, id, claim, evidence, auth.deadline)),
            auth
        );
        if (current.has(DISPUTE_USED)) revert DisputeAlreadyUsed(id);
        if (current.state() == State.Settled && block.timestamp >= current.dueAt()) {
            revert ILeases.TooLate(current.dueAt(), block.timestamp);
        }
        Remedy storage remedy = _remedies[id];
        uint256 limit = terms.compensationCap - remedy.compensated;
        if (claim == 0 || claim > limit) revert ClaimOutOfRange(claim, limit);
        uint256 bond = Rules.disputeBond(claim, _cold[terms.version].disputeBps);
        _debit(terms.token, terms.buyer, bond);
        remedy.claim = claim;
        remedy.disputedAt = uint40(block.timestamp);
        _words[id] = current.withFlag(DISPUTED | DISPUTE_USED);
        emit Disputed(id, claim, uint96(bond), evidence);
    }

    /// @inheritdoc IRemedyActions
    function resolve(LeaseTerms calldata terms) external {
        (bytes32 id, LeaseWord before) = _unclosed(terms);
        LeaseWord current = before;
        if (current.has(DISPUTED)) current = _askRuling(terms, id, current);
        if (
            current.state() == State.Settled && current.has(BUYER_FEE) && !current.has(BUYER_FEE_OWED)
                && _askCredit(terms, current)
        ) {
            current = current.withFlag(BUYER_FEE_OWED);
            emit BuyerFeeOwed(id);
        }
        if (LeaseWord.unwrap(current) == LeaseWord.unwrap(before)) revert NoRuling(id);
        _words[id] = current;
    }

    /// @inheritdoc IRemedyActions
    /// @dev {Leases} asks who calls; in here a version means nothing.
    function addVersion(Parameters calldata p) external returns (uint32 version) {
        if (
            p.feeBps > MAX_FEE_BPS || p.sinkBps > BASIS_POINTS || p.disputeBps > BASIS_POINTS
                || p.maxDuration == 0 || p.openAhead == 0 || p.answerWindow == 0
                || address(p.court).code.length == 0
        ) {
            revert IParameterBook.InvalidParameters();
        }
        version = ++_latestVersion;
        _hot[version] = HotParameters({
            window: uint256(p.window).toUint24(),
            bondDelay: uint256(p.bondDelay).toUint24(),
            tail: (uint256(p.window) + p.bondDelay + p.hardLimit).toUint24(),
            startAhead: uint256(p.startAhead).toUint24(),
            maxDuration: p.maxDuration,
            minCapOnDemand: uint256(p.minCapOnDemand).toUint24(),
            minCapSpot: uint256(p.minCapSpot).toUint24(),
            minCapReserved: uint256(p.minCapReserved).toUint24(),
            openAhead: uint256(p.openAhead).toUint16(),
            feeBps: p.feeBps,
            sinkBps: p.sinkBps,
            flags: VERSION_ACTIVE | (address(p.membership) == address(0) ? 0 : VERSION_HAS_MEMBERS)
        });
        _cold[version] = ColdParameters({
            answerWindow: p.answerWindow,
            hardLimit: p.hardLimit,
            refundWindow: p.refundWindow,
            repeatWindow: p.repeatWindow,
            compensationSpan: p.compensationSpan,
            bonusSpan: p.bonusSpan,
            challengeSpan: p.challengeSpan,
            disputeBps: p.disputeBps,
            court: p.court,
            membership: p.membership
        });
        emit IParameterBook.VersionAdded(version, p);
        emit IParameterBook.VersionActive(version, true);
    }

    /// @dev Runs as {Leases}, which knows.
    function _registry() internal view override returns (IRegistry) {
        return IRegistry(ILeases(address(this)).registry());
    }

    /// @return repeated Whether the pair had another default within `span`.
    function _recordDefault(LeaseTerms calldata terms, uint256 span) private returns (bool repeated) {
        bytes32 pair = keccak256(abi.encode(terms.buyer, terms.provider));
        uint256 last = _lastDefault[pair];
        repeated = last != 0 && block.timestamp < last + span;
        _lastDefault[pair] = block.timestamp;
    }

    function _askRuling(LeaseTerms calldata terms, bytes32 id, LeaseWord current)
        private
        returns (LeaseWord)
    {
        ColdParameters storage cold = _cold[terms.version];
        (Verdict verdict, uint96 award) = cold.court.ruling(id);
        if (verdict == Verdict.Unknown) return current;
        Remedy storage remedy = _remedies[id];
        uint256 bond = Rules.disputeBond(remedy.claim, cold.disputeBps);
        current = current.withoutFlag(DISPUTED);
        if (verdict == Verdict.ForBuyer) {
            uint256 most = Math.min(remedy.claim, terms.compensationCap - remedy.compensated);
            award = uint96(Math.min(award, most));
            remedy.compensated += award;
            current = current.withFlag(COMPENSATED);
            _credit(terms.token, terms.buyer, bond + award);
            emit DisputeEnded(id, verdict, award, uint96(bond));
        } else {
            _credit(terms.token, terms.provider, bond);
            emit DisputeEnded(id, verdict, 0, 0);
        }
        return current;
    }

    function _askCredit(LeaseTerms calldata terms, LeaseWord current) private view returns (bool) {
        uint40 settledAt = current.dueAt() - _hot[terms.version].bondDelay;
        return _cold[terms.version].court.uptimeCredit(terms.device, terms.schedule.start, settledAt);
    }

    function _challenged(LeaseTerms calldata terms) private view returns (bytes32 id, LeaseWord current) {
        (id, current) = _find(terms);
        if (!current.has(CHALLENGED)) revert NoChallenge(id);
    }
}
