// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Ledger} from "./Ledger.sol";
import {ILeases} from "./interfaces/ILeases.sol";
import {IRegistry} from "./interfaces/IRegistry.sol";
import {IRemedyActions} from "./interfaces/IRemedies.sol";
import {Actions} from "./libraries/Actions.sol";
import {Clean} from "./libraries/Clean.sol";
import {Rules} from "./libraries/Rules.sol";
import {BUYER_FEE, CHALLENGED, LeaseWord, State} from "./types/LeaseWord.sol";
import {ColdParameters, HotWord} from "./types/Parameters.sol";
import {BASIS_POINTS, LeaseTerms, Voucher} from "./types/Terms.sol";

/// @title The state of every lease
/// @notice What {Leases} and {Remedies} share: all storage, which only the former owns, and the way to Settled.
/// @dev {Remedies} runs in the storage of {Leases}. Neither adds a variable after this contract that the other one
/// would have to know.
abstract contract LeaseBook is Ledger {
    /// @dev What only challenges, checkpoints and disputes touch.
    struct Remedy {
        uint96 checkpointPaid;
        uint40 checkpointAt;
        uint40 challengedAt;
        uint32 challenges;
        uint96 claim;
        uint96 compensated;
        uint40 disputedAt;
    }

    /// @dev What the watcher pool may still pay on a day of Unix time.
    struct Stipend {
        uint128 left;
        uint128 day;
    }

    mapping(bytes32 id => LeaseWord) internal _words;
    mapping(bytes32 id => Remedy) internal _remedies;
    /// @dev When a buyer's lease with a provider last failed, by the hash of both.
    mapping(bytes32 pair => uint256) internal _failedAt;
    /// @dev A version's word for each token, so that an opening reads one word to know that both are active. The
    /// word under the zero token is the version's own.
    mapping(uint256 versionAndToken => HotWord) private _hotWords;
    address[] internal _tokens;
    mapping(uint32 version => ColdParameters) internal _cold;
    uint32 internal _latestVersion;
    mapping(address token => mapping(address account => mapping(address spender => uint256))) internal
        _allowances;
    mapping(address token => Stipend) internal _stipends;

    function _hot(LeaseTerms calldata terms) internal view returns (HotWord) {
        return _hotOf(Clean.version(terms), Clean.token(terms));
    }

    function _hotOf(uint256 version, address token) internal view returns (HotWord) {
        return _hotWords[version << 160 | uint160(token)];
    }

    /// @dev Writes a version's own word and, from it, the word of each token.
    function _setHot(uint256 version, HotWord own) internal {
        _hotWords[version << 160] = own;
        for (uint256 i; i < _tokens.length; ++i) {
            address token = _tokens[i];
            _hotWords[version << 160 | uint160(token)] =
                own.withActive(own.isActive() && _pools[token].allowed);
        }
    }

    function _registry() internal view virtual returns (IRegistry);

    /// @dev Ends the work and the payments; the bond waits until `bondDelay` passed.
    function _settleLease(LeaseTerms calldata terms, bytes32 id, LeaseWord current, HotWord hot) internal {
        uint96 paid = current.paid();
        uint96 forfeited = Rules.forfeited(terms, current);
        uint96 refunded = Clean.deposit(terms) - paid - forfeited;
        if (current.has(BUYER_FEE)) refunded -= Clean.buyerBreakFee(terms);
        uint256 bondDue = block.timestamp + hot.bondDelay();
        _words[id] = current.withState(State.Settled).withDueAt(bondDue);
        uint256 fee = Rules.fee(paid, hot.feeBps());
        _collectFee(Clean.token(terms), fee, forfeited, hot);
        _credit(Clean.token(terms), Clean.buyer(terms), refunded);
        _release(terms);
        emit ILeases.LeaseSettled(id, paid, refunded, forfeited, uint96(fee), uint40(bondDue));
    }

    /// @dev Moves the fee on what was paid, and a forfeited prepayment, into the pools.
    function _collectFee(address token, uint256 fee, uint256 forfeited, HotWord hot) internal {
        unchecked {
            uint256 toSink = fee * hot.sinkBps() / BASIS_POINTS;
            _fill(token, toSink + forfeited, fee - toSink);
        }
    }

    function _release(LeaseTerms calldata terms) internal {
        if (terms.device != 0) _registry().releaseUnits(terms.device, Clean.units(terms));
    }

    function _find(LeaseTerms calldata terms) internal view returns (bytes32 id, LeaseWord current) {
        id = _digest(Actions.hash(terms));
        current = _words[id];
    }

    function _live(LeaseTerms calldata terms) internal view returns (bytes32 id, LeaseWord current) {
        (id, current) = _find(terms);
        if (!current.isLive()) revert ILeases.WrongState(id, current.state());
    }

    function _unclosed(LeaseTerms calldata terms) internal view returns (bytes32 id, LeaseWord current) {
        (id, current) = _find(terms);
        if (!current.isLive() && current.state() != State.Settled) {
            revert ILeases.WrongState(id, current.state());
        }
    }

    function _unchallenged(bytes32 id, LeaseWord current) internal pure returns (LeaseWord) {
        if (current.has(CHALLENGED)) revert IRemedyActions.ChallengePending(id);
        return current;
    }

    /// @dev Raises `paid` to a voucher's amount and credits the provider with the difference, less the fee on it.
    function _apply(
        LeaseTerms calldata terms,
        bytes32 id,
        LeaseWord current,
        HotWord hot,
        Voucher calldata voucher,
        bytes calldata signature
    ) internal returns (LeaseWord) {
        if (voucher.last) revert ILeases.UnexpectedLast(true);
        if (voucher.lease != id) revert ILeases.WrongLease(id, voucher.lease);
        uint96 cumulative = voucher.cumulative;
        uint256 paid = current.paid();
        if (cumulative <= paid) return current;

        bytes32 digest = _checkVoucher(terms, current, hot, voucher);
        address meter = Clean.meter(terms);
        if (!_signedByKey(meter, digest, signature)) revert InvalidSignature(meter, digest);
        _credit(Clean.token(terms), Clean.provider(terms), _earnings(paid, cumulative, hot));
        current = current.withPaid(cumulative);
        emit ILeases.VoucherSettled(id, cumulative);
        if (current.state() == State.NoticedUnpaid && cumulative >= Rules.due(terms, current.noticeAt(), 0)) {
            current = current.withState(State.Open);
            emit ILeases.NoticeCured(id);
        }
        return current;
    }

    /// @dev What a voucher says is due by now and within [prepay, cap].
    /// @return digest What its signer signed.
    function _checkVoucher(
        LeaseTerms calldata terms,
        LeaseWord current,
        HotWord hot,
        Voucher calldata voucher
    ) internal view returns (bytes32 digest) {
        uint256 moment = _moment(current, hot, block.timestamp);
        if (voucher.notBefore > moment) revert ILeases.VoucherNotYetValid(voucher.notBefore, moment);
        uint256 most = Rules.cap(terms, moment);
        uint256 cumulative = voucher.cumulative;
        if (cumulative < Clean.prepay(terms) || cumulative > most) {
            revert ILeases.CumulativeOutOfRange(cumulative, Clean.prepay(terms), most);
        }
        return _digest(Actions.hash(voucher));
    }

    /// @dev The provider's share when `paid` grows. Fees are reckoned on the cumulative, so that splitting
    /// settlements changes nothing; a fee grows slower than what it is on.
    function _earnings(uint256 paid, uint256 cumulative, HotWord hot) internal pure returns (uint256) {
        unchecked {
            uint256 feeBps = hot.feeBps();
            return cumulative - paid - (Rules.fee(cumulative, feeBps) - Rules.fee(paid, feeBps));
        }
    }

    /// @dev The instant that counts at `time`: a closing lease's clock stopped when the buyer asked.
    function _moment(LeaseWord current, HotWord hot, uint256 time) internal pure returns (uint256) {
        if (current.state() != State.Closing) return time;
        return Math.min(time, current.dueAt() - hot.window());
    }

    function _emitClosed(
        LeaseTerms calldata terms,
        bytes32 id,
        LeaseWord current,
        uint256 fee,
        uint96 buyerFee,
        uint96 bondToBuyer
    ) internal {
        uint96 paid = current.paid();
        uint96 forfeited = Rules.forfeited(terms, current);
        uint256 kept;
        unchecked {
            kept = uint256(paid) + forfeited + buyerFee;
        }
        uint96 refunded = uint96(Clean.deposit(terms) - kept);
        emit ILeases.LeaseClosed(id, paid, refunded, forfeited, uint96(fee), buyerFee, bondToBuyer);
    }
}
