// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Ledger} from "./Ledger.sol";
import {ILeases} from "./interfaces/ILeases.sol";
import {IRegistry} from "./interfaces/IRegistry.sol";
import {IRemedyActions} from "./interfaces/IRemedies.sol";
import {Actions} from "./libraries/Actions.sol";
import {Rules} from "./libraries/Rules.sol";
import {BUYER_FEE, CHALLENGED, LeaseWord, State} from "./types/LeaseWord.sol";
import {ColdParameters, HotParameters} from "./types/Parameters.sol";
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

    mapping(bytes32 id => LeaseWord) internal _words;
    mapping(bytes32 id => Remedy) internal _remedies;
    /// @dev When a buyer's lease with a provider last defaulted, by `_pair`.
    mapping(bytes32 pair => uint256) internal _lastDefault;
    mapping(uint32 version => HotParameters) internal _hot;
    mapping(uint32 version => ColdParameters) internal _cold;
    uint32 internal _latestVersion;

    function _registry() internal view virtual returns (IRegistry);

    /// @dev Ends the work and the payments; the bond waits until `bondDelay` passed.
    function _settleLease(LeaseTerms calldata terms, bytes32 id, LeaseWord current, HotParameters memory hot)
        internal
    {
        uint96 paid = current.paid();
        uint96 forfeited = Rules.forfeited(terms, current);
        uint96 refunded = terms.deposit - paid - forfeited;
        if (current.has(BUYER_FEE)) refunded -= terms.buyerBreakFee;
        uint256 bondDue = block.timestamp + hot.bondDelay;
        _words[id] = current.withState(State.Settled).withDueAt(bondDue);
        uint96 fee = _collectFee(terms.token, paid, forfeited, hot);
        _credit(terms.token, terms.buyer, refunded);
        _release(terms);
        emit ILeases.LeaseSettled(id, paid, refunded, forfeited, fee, uint40(bondDue));
    }

    function _collectFee(address token, uint96 paid, uint96 forfeited, HotParameters memory hot)
        internal
        returns (uint96 fee)
    {
        fee = Rules.fee(paid, hot.feeBps);
        uint256 toSink = uint256(fee) * hot.sinkBps / BASIS_POINTS;
        _fill(token, toSink + forfeited, fee - toSink);
    }

    function _release(LeaseTerms calldata terms) internal {
        if (terms.device != 0) _registry().release(terms.device, terms.units);
    }

    function _find(LeaseTerms calldata terms) internal view returns (bytes32 id, LeaseWord current) {
        id = _hashTypedDataV4(Actions.hash(terms));
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
    /// Fees are reckoned on the cumulative, so that splitting settlements changes nothing.
    function _apply(
        LeaseTerms calldata terms,
        bytes32 id,
        LeaseWord current,
        HotParameters memory hot,
        Voucher calldata voucher,
        bytes calldata signature,
        bool last
    ) internal returns (LeaseWord) {
        if (voucher.lease != id) revert ILeases.WrongLease(id, voucher.lease);
        if (voucher.last != last) revert ILeases.UnexpectedLast(voucher.last);
        uint96 paid = current.paid();
        uint96 cumulative = voucher.cumulative;
        if (!last && cumulative <= paid) return current;

        uint256 moment = _moment(current, hot.window, block.timestamp);
        if (voucher.notBefore > moment) revert ILeases.VoucherNotYetValid(voucher.notBefore, moment);
        uint256 most = Rules.cap(terms, moment);
        if (cumulative < terms.prepay || cumulative > most) {
            revert ILeases.CumulativeOutOfRange(cumulative, terms.prepay, most);
        }
        bytes32 digest = _hashTypedDataV4(Actions.hash(voucher));
        bool byMeter = (!last || terms.meterMaySignLast) && _signedByKey(terms.meter, digest, signature);
        if (!byMeter) {
            if (!last) revert InvalidSignature(terms.meter, digest);
            _checkSigner(terms.buyer, digest, signature);
        }
        if (cumulative <= paid) return current;

        uint256 feeGrowth = Rules.fee(cumulative, hot.feeBps) - Rules.fee(paid, hot.feeBps);
        _credit(terms.token, terms.provider, cumulative - paid - feeGrowth);
        current = current.withPaid(cumulative);
        if (!last) {
            emit ILeases.VoucherSettled(id, cumulative);
            if (
                current.state() == State.NoticedUnpaid
                    && cumulative >= Rules.due(terms, current.noticeAt(), 0)
            ) {
                current = current.withState(State.Open);
                emit ILeases.NoticeCured(id);
            }
        }
        return current;
    }

    /// @dev The instant that counts at `time`: a closing lease's clock stopped when the buyer asked.
    function _moment(LeaseWord current, uint256 window, uint256 time) internal pure returns (uint256) {
        if (current.state() != State.Closing) return time;
        return Math.min(time, current.dueAt() - window);
    }

    function _emitClosed(
        LeaseTerms calldata terms,
        bytes32 id,
        LeaseWord current,
        uint96 buyerFee,
        uint96 bondToBuyer
    ) internal {
        uint96 paid = current.paid();
        uint96 forfeited = Rules.forfeited(terms, current);
        emit ILeases.LeaseClosed(
            id,
            paid,
            terms.deposit - paid - forfeited - buyerFee,
            forfeited,
            Rules.fee(paid, _hot[terms.version].feeBps),
            buyerFee,
            bondToBuyer,
            terms.bond - bondToBuyer
        );
    }
}
