// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {LeaseBook} from "./LeaseBook.sol";
import {Verdict} from "./interfaces/ICourt.sol";
import {ILeases, TermsFault} from "./interfaces/ILeases.sol";
import {IParameterBook} from "./interfaces/IParameterBook.sol";
import {IRegistry} from "./interfaces/IRegistry.sol";
import {IRemedyActions, Reason} from "./interfaces/IRemedies.sol";
import {ITransfers} from "./interfaces/ITransfers.sol";
import {IVault} from "./interfaces/IVault.sol";
import {Actions} from "./libraries/Actions.sol";
import {Clean} from "./libraries/Clean.sol";
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
import {ColdParameters, HotWord, Parameters, packHot} from "./types/Parameters.sol";
import {BASIS_POINTS, CheckpointRecord, LeaseTerms, RESERVED, SPOT, Voucher} from "./types/Terms.sol";

/// @title Remedies
/// @notice The code behind {IRemedyActions}. {Leases} delegates to it, so that it acts on the leases' storage; called
/// directly it finds no lease and holds nothing.
contract Remedies is IRemedyActions, ITransfers, LeaseBook {
    /// @dev A tenth: no owner can add a version that takes more of what is paid.
    uint256 private constant MAX_FEE_BPS = 1_000;
    /// @dev In a day the watcher pool pays at most one part in this many.
    uint256 private constant STIPEND_PARTS = 10;

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
            Clean.provider(terms),
            keccak256(abi.encode(Actions.NOTICE_TYPEHASH, id, reason, previous, auth.deadline)),
            auth
        );
        if (reason == Reason.Reclaim) {
            if (Clean.kind(terms) != SPOT) revert ILeases.InvalidTerms(id, TermsFault.Kind);
            current = current.withState(State.NoticedReclaim);
        } else {
            if (previous != 0 && block.timestamp < uint256(previous) + Clean.slack(terms)) {
                revert ILeases.TooEarly(uint256(previous) + Clean.slack(terms), block.timestamp);
            }
            if (voucherSignature.length != 0) {
                current = _apply(terms, id, current, _hot(terms), voucher, voucherSignature);
            }
            uint256 due = Rules.due(terms, block.timestamp, Clean.slack(terms));
            if (current.paid() >= due) revert NotOwed(current.paid(), due);
            current = current.withState(State.NoticedUnpaid);
        }
        _words[id] = current.withNoticeAt(block.timestamp);
        emit LeaseNoticed(id, reason, uint40(block.timestamp + Clean.noticeSpan(terms)));
    }

    /// @inheritdoc IRemedyActions
    function requestClose(LeaseTerms calldata terms, Auth calldata auth) external {
        (bytes32 id, LeaseWord current) = _live(terms);
        if (current.state() == State.Closing) revert ILeases.WrongState(id, State.Closing);
        _authorize(
            Clean.buyer(terms), keccak256(abi.encode(Actions.REQUEST_CLOSE_TYPEHASH, id, auth.deadline)), auth
        );
        uint256 due = block.timestamp + _hot(terms).window();
        current = current.withState(State.Closing).withDueAt(due);
        bool aside = Clean.kind(terms) == RESERVED && Clean.buyerBreakFee(terms) != 0
            && block.timestamp < Clean.end(terms);
        _words[id] = aside ? current.withFlag(BUYER_FEE) : current;
        emit CloseRequested(id, uint40(due), aside);
    }

    /// @inheritdoc IRemedyActions
    function finalize(LeaseTerms calldata terms) external {
        (bytes32 id, LeaseWord current) = _live(terms);
        if (current.state() != State.Closing) revert ILeases.WrongState(id, current.state());
        if (block.timestamp < current.dueAt()) revert ILeases.TooEarly(current.dueAt(), block.timestamp);
        _settleLease(terms, id, _unchallenged(id, current), _hot(terms));
    }

    /// @inheritdoc IRemedyActions
    function expire(LeaseTerms calldata terms) external {
        (bytes32 id, LeaseWord current) = _live(terms);
        if (current.state() == State.Closing) revert ILeases.WrongState(id, State.Closing);
        HotWord hot = _hot(terms);
        uint256 from = uint256(Clean.end(terms)) + hot.window();
        if (block.timestamp < from) revert ILeases.TooEarly(from, block.timestamp);
        _settleLease(terms, id, _unchallenged(id, current), hot);
    }

    /// @inheritdoc IRemedyActions
    function releaseBond(LeaseTerms calldata terms) external {
        (bytes32 id, LeaseWord current) = _find(terms);
        if (current.state() != State.Settled) revert ILeases.WrongState(id, current.state());
        if (block.timestamp < current.dueAt()) revert ILeases.TooEarly(current.dueAt(), block.timestamp);
        if (current.has(DISPUTED)) {
            ColdParameters storage cold = _cold[Clean.version(terms)];
            if (block.timestamp < uint256(_remedies[id].disputedAt) + cold.hardLimit) {
                revert DisputePending(id);
            }
            uint256 bond = Rules.disputeBond(_remedies[id].claim, cold.disputeBps);
            _credit(Clean.token(terms), Clean.buyer(terms), bond);
            emit DisputeEnded(id, Verdict.Unknown, 0, uint96(bond));
            current = current.withoutFlag(DISPUTED);
        }

        uint96 buyerFee = current.has(BUYER_FEE_OWED) ? Clean.buyerBreakFee(terms) : 0;
        uint96 returned = current.has(BUYER_FEE) ? Clean.buyerBreakFee(terms) - buyerFee : 0;
        uint96 providerFee = current.has(PROVIDER_FEE) ? Clean.providerBreakFee(terms) : 0;
        uint96 bondToBuyer = providerFee;
        if (current.has(COMPENSATED)) bondToBuyer += _remedies[id].compensated;
        _words[id] = current.withState(State.Closed);
        _credit(Clean.token(terms), Clean.buyer(terms), uint256(returned) + providerFee);
        _credit(
            Clean.token(terms), Clean.provider(terms), uint256(buyerFee) + (Clean.bond(terms) - bondToBuyer)
        );
        _emitClosed(
            terms, id, current, Rules.fee(current.paid(), _hot(terms).feeBps()), buyerFee, bondToBuyer
        );
    }

    /// @inheritdoc IRemedyActions
    /// @dev Only while the other side could still settle, so that no chain of challenges outlasts a lease.
    function challenge(LeaseTerms calldata terms, Auth calldata auth) external {
        (bytes32 id, LeaseWord current) = _live(terms);
        Remedy storage remedy = _remedies[id];
        uint32 sequence = remedy.challenges;
        _authorize(
            Clean.buyer(terms),
            keccak256(abi.encode(Actions.CHALLENGE_TYPEHASH, id, sequence, auth.deadline)),
            auth
        );
        _unchallenged(id, current);
        if (block.timestamp < Clean.start(terms)) {
            revert ILeases.TooEarly(Clean.start(terms), block.timestamp);
        }
        uint256 until = current.state() == State.Closing
            ? current.dueAt()
            : uint256(Clean.end(terms)) + _hot(terms).window();
        if (block.timestamp >= until) revert ILeases.TooLate(until, block.timestamp);

        ColdParameters storage cold = _cold[Clean.version(terms)];
        uint256 bond = Rules.challengeBond(terms, cold.challengeSpan);
        _debit(Clean.token(terms), Clean.buyer(terms), bond);
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
            Clean.provider(terms),
            keccak256(abi.encode(Actions.ANSWER_TYPEHASH, id, challengedAt, auth.deadline)),
            auth
        );
        ColdParameters storage cold = _cold[Clean.version(terms)];
        uint256 until = uint256(challengedAt) + cold.answerWindow;
        if (block.timestamp > until) revert ILeases.TooLate(until, block.timestamp);
        uint256 bond = Rules.challengeBond(terms, cold.challengeSpan);
        _words[id] = current.withoutFlag(CHALLENGED);
        _credit(Clean.token(terms), Clean.provider(terms), bond);
        emit ChallengeAnswered(id, uint96(bond));
    }

    /// @inheritdoc IRemedyActions
    function defaulted(LeaseTerms calldata terms) external {
        (bytes32 id, LeaseWord current) = _challenged(terms);
        Remedy storage remedy = _remedies[id];
        ColdParameters memory cold = _cold[Clean.version(terms)];
        uint256 from = uint256(remedy.challengedAt) + cold.answerWindow + 1;
        if (block.timestamp < from) revert ILeases.TooEarly(from, block.timestamp);

        bool repeated = _recordFailure(terms, cold.repeatWindow);
        uint256 compensation = Math.min(
            Rules.compensation(terms, current, remedy.checkpointPaid, remedy.challengedAt, repeated, cold),
            Clean.compensationCap(terms) - remedy.compensated
        );
        remedy.compensated += uint96(compensation);
        _credit(
            Clean.token(terms),
            Clean.buyer(terms),
            compensation + Rules.challengeBond(terms, cold.challengeSpan)
        );
        emit LeaseDefaulted(id, uint96(compensation), repeated);

        current = current.withoutFlag(CHALLENGED | BUYER_FEE).withFlag(DEFAULTED);
        if (compensation != 0) current = current.withFlag(COMPENSATED);
        _settleLease(terms, id, current, _hot(terms));
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
                || record.paidAt < remedy.checkpointPaid || record.paidAt > Clean.deposit(terms)
        ) {
            revert StaleCheckpoint(record.at, record.paidAt);
        }
        bytes32 digest = _digest(Actions.hash(record));
        _checkSigner(Clean.provider(terms), digest, providerSignature);
        if (!_signedByKey(Clean.meter(terms), digest, buyerSignature)) {
            _checkSigner(Clean.buyer(terms), digest, buyerSignature);
        }
        remedy.checkpointPaid = record.paidAt;
        remedy.checkpointAt = record.at;
        emit CheckpointAcknowledged(id, record.paidAt, record.root, record.at);
    }

    /// @inheritdoc IRemedyActions
    function dispute(LeaseTerms calldata terms, uint96 claim, bytes32 evidence, Auth calldata auth) external {
        (bytes32 id, LeaseWord current) = _unclosed(terms);
        _authorize(
            Clean.buyer(terms),
            keccak256(abi.encode(Actions.DISPUTE_TYPEHASH, id, claim, evidence, auth.deadline)),
            auth
        );
        if (current.has(DISPUTE_USED)) revert DisputeAlreadyUsed(id);
        if (current.state() == State.Settled && block.timestamp >= current.dueAt()) {
            revert ILeases.TooLate(current.dueAt(), block.timestamp);
        }
        Remedy storage remedy = _remedies[id];
        uint256 limit = Clean.compensationCap(terms) - remedy.compensated;
        if (claim == 0 || claim > limit) revert ClaimOutOfRange(claim, limit);
        uint256 bond = Rules.disputeBond(claim, _cold[Clean.version(terms)].disputeBps);
        _debit(Clean.token(terms), Clean.buyer(terms), bond);
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
        uint256 longest = Math.max(
            Math.max(uint256(p.window) + p.bondDelay + p.hardLimit, p.startAhead),
            Math.max(Math.max(p.minCapOnDemand, p.minCapSpot), p.minCapReserved)
        );
        if (
            longest > type(uint24).max || p.openAhead == 0 || p.openAhead > type(uint16).max
                || p.feeBps > MAX_FEE_BPS || p.sinkBps > BASIS_POINTS || p.disputeBps > BASIS_POINTS
                || p.maxDuration == 0 || p.answerWindow == 0 || address(p.court).code.length == 0
        ) {
            revert IParameterBook.InvalidParameters();
        }
        version = ++_latestVersion;
        _setHot(version, packHot(p));
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

    /// @inheritdoc ITransfers
    function transfer(address token, address to, uint256 amount) external {
        _move(token, msg.sender, to, amount);
    }

    /// @inheritdoc ITransfers
    function forfeit(address token, uint256 amount) external {
        _debit(token, msg.sender, amount);
        _sink(token, amount);
        emit Sunk(token, msg.sender, amount);
    }

    /// @inheritdoc ITransfers
    function allow(address spender, address token, uint256 amount) external {
        _allowances[token][msg.sender][spender] = amount;
        emit Allowed(token, msg.sender, spender, amount);
    }

    /// @inheritdoc ITransfers
    function takeFrom(address token, address account, uint256 amount) external {
        uint256 allowed = _allowances[token][account][msg.sender];
        if (allowed < amount) revert InsufficientAllowance(token, account, msg.sender, allowed, amount);
        _allowances[token][account][msg.sender] = allowed - amount;
        _move(token, account, msg.sender, amount);
    }

    /// @inheritdoc ITransfers
    function rewardWatchers(address token, address account, uint256 amount) external returns (uint256 paid) {
        if (msg.sender != _registry().arbiter()) revert NotAllowed(msg.sender);
        if (account == address(0)) revert IVault.InvalidReceiver(account);
        Stipend storage stipend = _stipends[token];
        uint128 day = uint128(block.timestamp / 1 days);
        if (stipend.day != day) {
            (stipend.day, stipend.left) = (day, uint128(_pools[token].watchers / STIPEND_PARTS));
        }
        paid = Math.min(amount, stipend.left);
        stipend.left -= uint128(paid);
        _pools[token].watchers -= uint120(paid);
        _credit(token, account, paid);
        emit WatchersPaid(token, account, paid);
    }

    /// @inheritdoc ITransfers
    function allowanceOf(address token, address account, address spender) external view returns (uint256) {
        return _allowances[token][account][spender];
    }

    function _move(address token, address from, address to, uint256 amount) private {
        if (to == address(0)) revert IVault.InvalidReceiver(to);
        _debit(token, from, amount);
        _credit(token, to, amount);
        emit Transferred(token, from, to, amount);
    }

    /// @dev Runs as {Leases}, which knows.
    function _registry() internal view override returns (IRegistry) {
        return IRegistry(ILeases(address(this)).registry());
    }

    /// @return repeated Whether the pair had another failure within `span`.
    function _recordFailure(LeaseTerms calldata terms, uint256 span) private returns (bool repeated) {
        bytes32 pair = keccak256(abi.encode(Clean.buyer(terms), Clean.provider(terms)));
        uint256 last = _failedAt[pair];
        repeated = last != 0 && block.timestamp < last + span;
        _failedAt[pair] = block.timestamp;
    }

    function _askRuling(LeaseTerms calldata terms, bytes32 id, LeaseWord current)
        private
        returns (LeaseWord)
    {
        ColdParameters storage cold = _cold[Clean.version(terms)];
        (Verdict verdict, uint96 award) = cold.court.ruling(id);
        if (verdict == Verdict.Unknown) return current;
        Remedy storage remedy = _remedies[id];
        uint256 bond = Rules.disputeBond(remedy.claim, cold.disputeBps);
        current = current.withoutFlag(DISPUTED);
        if (verdict == Verdict.ForBuyer) {
            uint256 most = Math.min(remedy.claim, Clean.compensationCap(terms) - remedy.compensated);
            award = uint96(Math.min(award, most));
            _recordFailure(terms, cold.repeatWindow);
            remedy.compensated += award;
            current = current.withFlag(COMPENSATED);
            _credit(Clean.token(terms), Clean.buyer(terms), bond + award);
            emit DisputeEnded(id, verdict, award, uint96(bond));
        } else {
            _credit(Clean.token(terms), Clean.provider(terms), bond);
            emit DisputeEnded(id, verdict, 0, 0);
        }
        return current;
    }

    function _askCredit(LeaseTerms calldata terms, LeaseWord current) private view returns (bool) {
        uint40 settledAt = current.dueAt() - uint40(_hot(terms).bondDelay());
        return _cold[Clean.version(terms)].court.uptimeCredit(terms.device, Clean.start(terms), settledAt);
    }

    function _challenged(LeaseTerms calldata terms) private view returns (bytes32 id, LeaseWord current) {
        (id, current) = _find(terms);
        if (!current.has(CHALLENGED)) revert NoChallenge(id);
    }
}
