// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {ParameterBook} from "./ParameterBook.sol";
import {Registry} from "./Registry.sol";
import {ILeases, TermsFault} from "./interfaces/ILeases.sol";
import {IRegistry, RegistryConfig} from "./interfaces/IRegistry.sol";
import {IRemedies, IRemedyActions, LeaseView, Reason} from "./interfaces/IRemedies.sol";
import {ITransfers} from "./interfaces/ITransfers.sol";
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
    State,
    openedLease
} from "./types/LeaseWord.sol";
import {HotWord, Parameters} from "./types/Parameters.sol";
import {CheckpointRecord, LeaseTerms, Settlement, Voucher} from "./types/Terms.sol";

/// @title Leases
/// @notice See {ILeases}. One word a lease; the terms come back as calldata.
/// @dev No exit reads pause, membership, court or any token: they move balances in here, and {withdraw} sends coins.
contract Leases is ILeases, IRemedies, ITransfers, ParameterBook {
    IRegistry private immutable _REGISTRY;
    address private immutable _REMEDIES;

    /// @notice Makes the registry too: the pair is one deployment.
    /// @param arbiter Who may slash and jail; zero for a deployment without a trust layer.
    constructor(
        address owner_,
        address stakeToken,
        address feeToken,
        address arbiter,
        RegistryConfig memory config,
        address remedies_
    ) EIP712("Tradewind", "1") Ownable(owner_) {
        _REGISTRY = new Registry(owner_, stakeToken, feeToken, arbiter, config);
        if (remedies_.code.length == 0) revert InvalidRemedies(remedies_);
        _REMEDIES = remedies_;
    }

    /// @inheritdoc ILeases
    function remedies() external view returns (address) {
        return _REMEDIES;
    }

    /// @inheritdoc ILeases
    function open(LeaseTerms calldata terms, bytes calldata buyerSignature, bytes calldata providerSignature)
        external
        returns (bytes32)
    {
        if (terms.parent != 0) revert InvalidTerms(leaseId(terms), TermsFault.Parent);
        return _open(terms, buyerSignature, providerSignature);
    }

    /// @inheritdoc ILeases
    function settle(LeaseTerms calldata terms, Voucher calldata voucher, bytes calldata signature) external {
        (bytes32 id, LeaseWord before) = _live(terms);
        LeaseWord next = _apply(terms, id, before, _hot(terms), voucher, signature);
        if (LeaseWord.unwrap(next) != LeaseWord.unwrap(before)) _words[id] = next;
    }

    /// @inheritdoc ILeases
    function settleMany(Settlement[] calldata items) external {
        for (uint256 i; i < items.length; ++i) {
            Settlement calldata item = items[i];
            try this.settle(item.terms, item.voucher, item.signature) {}
            catch (bytes memory reason) {
                emit SettlementFailed(i, item.voucher.lease, reason);
            }
        }
    }

    /// @inheritdoc ILeases
    function close(
        LeaseTerms calldata terms,
        Voucher calldata voucher,
        bytes calldata voucherSignature,
        Auth calldata auth
    ) external {
        _close(terms, voucher, voucherSignature, auth);
    }

    /// @inheritdoc ILeases
    function extend(
        LeaseTerms calldata terms,
        Voucher calldata voucher,
        bytes calldata voucherSignature,
        Auth calldata auth,
        LeaseTerms calldata next,
        bytes calldata buyerSignature,
        bytes calldata providerSignature
    ) external returns (bytes32 id) {
        if (!voucher.last || voucherSignature.length == 0) {
            revert UnexpectedLast(false);
        }
        bytes32 parent = _close(terms, voucher, voucherSignature, auth);
        if (
            next.parent != parent || Clean.buyer(next) != Clean.buyer(terms)
                || Clean.provider(next) != Clean.provider(terms)
        ) {
            revert InvalidTerms(leaseId(next), TermsFault.Parent);
        }
        id = _open(next, buyerSignature, providerSignature);
        emit LeaseExtended(parent, id);
    }

    /// @inheritdoc IRemedyActions
    function addVersion(Parameters calldata) external onlyOwner returns (uint32) {
        _delegate();
    }

    /// @inheritdoc IRemedyActions
    function notice(LeaseTerms calldata, Reason, Voucher calldata, bytes calldata, Auth calldata) external {
        _delegate();
    }

    /// @inheritdoc IRemedyActions
    function requestClose(LeaseTerms calldata, Auth calldata) external {
        _delegate();
    }

    /// @inheritdoc IRemedyActions
    function finalize(LeaseTerms calldata) external {
        _delegate();
    }

    /// @inheritdoc IRemedyActions
    function expire(LeaseTerms calldata) external {
        _delegate();
    }

    /// @inheritdoc IRemedyActions
    function releaseBond(LeaseTerms calldata) external {
        _delegate();
    }

    /// @inheritdoc IRemedyActions
    function challenge(LeaseTerms calldata, Auth calldata) external {
        _delegate();
    }

    /// @inheritdoc IRemedyActions
    function answer(LeaseTerms calldata, Auth calldata) external {
        _delegate();
    }

    /// @inheritdoc IRemedyActions
    function defaulted(LeaseTerms calldata) external {
        _delegate();
    }

    /// @inheritdoc IRemedyActions
    function acknowledge(LeaseTerms calldata, CheckpointRecord calldata, bytes calldata, bytes calldata)
        external
    {
        _delegate();
    }

    /// @inheritdoc IRemedyActions
    function dispute(LeaseTerms calldata, uint96, bytes32, Auth calldata) external {
        _delegate();
    }

    /// @inheritdoc IRemedyActions
    function resolve(LeaseTerms calldata) external {
        _delegate();
    }

    /// @inheritdoc ITransfers
    function transfer(address, address, uint256) external {
        _delegate();
    }

    /// @inheritdoc ITransfers
    function forfeit(address, uint256) external {
        _delegate();
    }

    /// @inheritdoc ITransfers
    function allow(address, address, uint256) external {
        _delegate();
    }

    /// @inheritdoc ITransfers
    function takeFrom(address, address, uint256) external {
        _delegate();
    }

    /// @inheritdoc ITransfers
    function rewardWatchers(address, address, uint256) external returns (uint256) {
        _delegate();
    }

    /// @inheritdoc ITransfers
    function allowanceOf(address token, address account, address spender) external view returns (uint256) {
        return _allowances[token][account][spender];
    }

    /// @inheritdoc IRemedies
    function failedAt(bytes32 pair) external view returns (uint256) {
        return _failedAt[pair];
    }

    /// @inheritdoc IRemedies
    function lease(bytes32 id) external view returns (LeaseView memory) {
        LeaseWord current = _words[id];
        Remedy memory remedy = _remedies[id];
        return LeaseView({
            state: current.state(),
            paid: current.paid(),
            openedAt: current.openedAt(),
            noticeAt: current.noticeAt(),
            dueAt: current.dueAt(),
            challenged: current.has(CHALLENGED),
            disputed: current.has(DISPUTED),
            disputeUsed: current.has(DISPUTE_USED),
            providerFeeAside: current.has(PROVIDER_FEE),
            buyerFeeAside: current.has(BUYER_FEE),
            buyerFeeOwed: current.has(BUYER_FEE_OWED),
            defaulted: current.has(DEFAULTED),
            challenges: remedy.challenges,
            challengedAt: remedy.challengedAt,
            checkpointPaid: remedy.checkpointPaid,
            checkpointAt: remedy.checkpointAt,
            compensated: remedy.compensated,
            claim: remedy.claim,
            disputedAt: remedy.disputedAt
        });
    }

    /// @inheritdoc ILeases
    function word(bytes32 id) external view returns (uint256) {
        return LeaseWord.unwrap(_words[id]);
    }

    /// @inheritdoc ILeases
    function cap(LeaseTerms calldata terms, uint40 time) external view returns (uint256) {
        (, LeaseWord current) = _find(terms);
        return Rules.cap(terms, _moment(current, _hot(terms), time));
    }

    /// @inheritdoc ILeases
    function dueAt(LeaseTerms calldata terms, uint40 time) external pure returns (uint256) {
        return Rules.due(terms, time, Clean.slack(terms));
    }

    /// @inheritdoc ILeases
    function leaseId(LeaseTerms calldata terms) public view returns (bytes32) {
        return _digest(Actions.hash(terms));
    }

    /// @inheritdoc ILeases
    function voucherDigest(Voucher calldata voucher) external view returns (bytes32) {
        return _digest(Actions.hash(voucher));
    }

    /// @inheritdoc IRemedies
    function checkpointDigest(CheckpointRecord calldata record) external view returns (bytes32) {
        return _digest(Actions.hash(record));
    }

    /// @inheritdoc ILeases
    function registry() external view returns (address) {
        return address(_REGISTRY);
    }

    /// @dev Runs the same call with the code of {Remedies}, and returns or reverts as it does.
    function _delegate() private {
        address remedies_ = _REMEDIES;
        assembly ("memory-safe") {
            let ptr := mload(0x40)
            calldatacopy(ptr, 0, calldatasize())
            let done := delegatecall(gas(), remedies_, ptr, calldatasize(), 0, 0)
            returndatacopy(ptr, 0, returndatasize())
            if iszero(done) { revert(ptr, returndatasize()) }
            return(ptr, returndatasize())
        }
    }

    function _registry() internal view override returns (IRegistry) {
        return _REGISTRY;
    }

    function _custodian() internal view override returns (address) {
        return address(_REGISTRY);
    }

    function _open(LeaseTerms calldata terms, bytes calldata buyerSignature, bytes calldata providerSignature)
        private
        returns (bytes32 id)
    {
        id = leaseId(terms);
        State found = _words[id].state();
        if (found != State.None) revert WrongState(id, found);
        HotWord hot = _hot(terms);
        Rules.requireClean(terms, id);
        if (!hot.isActive()) _refuse(terms);
        Rules.check(terms, id, hot);
        _checkSigner(Clean.buyer(terms), id, buyerSignature);
        _checkSigner(Clean.provider(terms), id, providerSignature);
        if (hot.hasMembers()) {
            _requireMember(Clean.version(terms), Clean.buyer(terms));
            _requireMember(Clean.version(terms), Clean.provider(terms));
        }

        _words[id] = openedLease(block.timestamp);
        _debit(Clean.token(terms), Clean.buyer(terms), Clean.deposit(terms));
        _debit(Clean.token(terms), Clean.provider(terms), Clean.bond(terms));
        if (terms.device != 0) {
            uint40 until = uint40(Clean.end(terms) + hot.tail());
            _registry()
                .assign(
                    terms.device, Clean.provider(terms), Clean.units(terms), !Clean.unstaked(terms), until
                );
        }
        emit LeaseOpened(
            id,
            Clean.buyer(terms),
            Clean.provider(terms),
            terms.device,
            Clean.units(terms),
            Clean.token(terms),
            Clean.rate(terms),
            Clean.deposit(terms),
            Clean.bond(terms),
            Clean.kind(terms),
            Clean.start(terms),
            Clean.end(terms),
            Clean.version(terms)
        );
    }

    function _close(
        LeaseTerms calldata terms,
        Voucher calldata voucher,
        bytes calldata voucherSignature,
        Auth calldata auth
    ) private returns (bytes32 id) {
        LeaseWord current;
        (id, current) = _live(terms);
        bool given = voucherSignature.length != 0;
        _authorize(
            Clean.provider(terms),
            Actions.hashClose(id, given ? Actions.hash(voucher) : bytes32(0), auth.deadline),
            auth
        );
        HotWord hot = _hot(terms);
        if (given && voucher.last) {
            _closeWell(terms, id, current, hot, voucher, voucherSignature);
        } else {
            _unchallenged(id, current);
            if (given) current = _apply(terms, id, current, hot, voucher, voucherSignature);
            if (_early(terms, current)) current = current.withFlag(PROVIDER_FEE);
            _settleLease(terms, id, current, hot);
        }
    }

    /// @dev Both sides are content: everything moves at once, and no break fee is owed. An open dispute keeps the
    /// bond waiting; a pending challenge has lost its point. A `last` voucher below `paid` still ends the lease.
    function _closeWell(
        LeaseTerms calldata terms,
        bytes32 id,
        LeaseWord current,
        HotWord hot,
        Voucher calldata voucher,
        bytes calldata signature
    ) private {
        if (voucher.lease != id) revert WrongLease(id, voucher.lease);
        bytes32 digest = _checkVoucher(terms, current, hot, voucher);
        if (!Clean.meterMaySignLast(terms) || !_signedByKey(Clean.meter(terms), digest, signature)) {
            _checkSigner(Clean.buyer(terms), digest, signature);
        }
        uint256 earned;
        if (voucher.cumulative > current.paid()) {
            earned = _earnings(current.paid(), voucher.cumulative, hot);
            current = current.withPaid(voucher.cumulative);
        }
        if (current.has(CHALLENGED | BUYER_FEE)) current = _dropQuarrels(terms, id, current);
        if (current.has(DISPUTED)) {
            _credit(Clean.token(terms), Clean.provider(terms), earned);
            _settleLease(terms, id, current, hot);
            return;
        }
        uint96 bondToBuyer = current.has(COMPENSATED) ? _remedies[id].compensated : 0;
        _words[id] = current.withState(State.Closed);
        uint256 fee = Rules.fee(current.paid(), hot.feeBps());
        _collectFee(Clean.token(terms), fee, 0, hot);
        _credit(Clean.token(terms), Clean.buyer(terms), Clean.deposit(terms) - current.paid());
        _credit(Clean.token(terms), Clean.provider(terms), earned + (Clean.bond(terms) - bondToBuyer));
        _release(terms);
        _emitClosed(terms, id, current, fee, 0, bondToBuyer);
    }

    function _dropQuarrels(LeaseTerms calldata terms, bytes32 id, LeaseWord current)
        private
        returns (LeaseWord)
    {
        if (current.has(CHALLENGED)) {
            uint256 bond = Rules.challengeBond(terms, _cold[Clean.version(terms)].challengeSpan);
            _credit(Clean.token(terms), Clean.buyer(terms), bond);
            emit ChallengeDropped(id, uint96(bond));
        }
        return current.withoutFlag(CHALLENGED | BUYER_FEE);
    }

    /// @dev The provider leaves before the end, unwarned and unasked.
    function _early(LeaseTerms calldata terms, LeaseWord current) private view returns (bool) {
        if (Clean.providerBreakFee(terms) == 0 || block.timestamp >= Clean.end(terms)) return false;
        State state = current.state();
        if (state == State.Closing) return false;
        bool noticed = state == State.NoticedUnpaid || state == State.NoticedReclaim;
        return !noticed || block.timestamp < uint256(current.noticeAt()) + Clean.noticeSpan(terms);
    }

    /// @dev Says which of the two is not active.
    function _refuse(LeaseTerms calldata terms) private view {
        _requireAllowed(Clean.token(terms));
        revert VersionInactive(Clean.version(terms));
    }

    function _requireMember(uint32 version, address account) private view {
        if (!_cold[version].membership.isMember(account)) revert NotMember(account);
    }
}
