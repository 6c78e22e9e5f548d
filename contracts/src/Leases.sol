// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {LeaseBook} from "./LeaseBook.sol";
import {ParameterBook} from "./ParameterBook.sol";
import {Registry} from "./Registry.sol";
import {Vault} from "./Vault.sol";
import {Verdict} from "./interfaces/ICourt.sol";
import {ILeases, TermsFault} from "./interfaces/ILeases.sol";
import {IRegistry, RegistryConfig} from "./interfaces/IRegistry.sol";
import {IRemedies, IRemedyActions, LeaseView, Reason} from "./interfaces/IRemedies.sol";
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
    State,
    openedLease
} from "./types/LeaseWord.sol";
import {HotParameters, Parameters, VERSION_ACTIVE, VERSION_HAS_MEMBERS} from "./types/Parameters.sol";
import {
    BASIS_POINTS,
    CheckpointRecord,
    LeaseTerms,
    RESERVED,
    SPOT,
    Settlement,
    Voucher
} from "./types/Terms.sol";

/// @title Leases
/// @notice See {ILeases}. One word a lease; the terms come back as calldata.
/// @dev No exit reads pause, membership, court or any token: they move balances in here, and {withdraw} sends coins.
contract Leases is ILeases, IRemedies, ParameterBook, Vault {
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
        LeaseWord next = _apply(terms, id, before, _hot[terms.version], voucher, signature, false);
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
    ) external returns (bytes32) {
        if (!voucher.last) revert UnexpectedLast(false);
        bytes32 parent = _close(terms, voucher, voucherSignature, auth);
        if (next.parent != parent || next.buyer != terms.buyer || next.provider != terms.provider) {
            revert InvalidTerms(leaseId(next), TermsFault.Parent);
        }
        return _open(next, buyerSignature, providerSignature);
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
        return Rules.cap(terms, _moment(current, _hot[terms.version].window, time));
    }

    /// @inheritdoc ILeases
    function dueAt(LeaseTerms calldata terms, uint40 time) external pure returns (uint256) {
        return Rules.due(terms, time, terms.schedule.slack);
    }

    /// @inheritdoc ILeases
    function leaseId(LeaseTerms calldata terms) public view returns (bytes32) {
        return _hashTypedDataV4(Actions.hash(terms));
    }

    /// @inheritdoc ILeases
    function voucherDigest(Voucher calldata voucher) external view returns (bytes32) {
        return _hashTypedDataV4(Actions.hash(voucher));
    }

    /// @inheritdoc IRemedies
    function checkpointDigest(CheckpointRecord calldata record) external view returns (bytes32) {
        return _hashTypedDataV4(Actions.hash(record));
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
        HotParameters memory hot = _hot[terms.version];
        if (hot.flags & VERSION_ACTIVE == 0) revert VersionInactive(terms.version);
        _requireAllowed(terms.token);
        Rules.check(terms, id, hot);
        _checkSigner(terms.buyer, id, buyerSignature);
        _checkSigner(terms.provider, id, providerSignature);
        if (hot.flags & VERSION_HAS_MEMBERS != 0) {
            _requireMember(terms.version, terms.buyer);
            _requireMember(terms.version, terms.provider);
        }

        _words[id] = openedLease(block.timestamp);
        _debit(terms.token, terms.buyer, terms.deposit);
        _debit(terms.token, terms.provider, terms.bond);
        if (terms.device != 0) {
            uint40 until = terms.schedule.end + hot.tail;
            _registry().reserve(terms.device, terms.provider, terms.units, !terms.unstaked, until);
        }
        emit LeaseOpened(
            id,
            terms.buyer,
            terms.provider,
            terms.device,
            terms.units,
            terms.token,
            terms.rate,
            terms.deposit,
            terms.bond,
            terms.kind,
            terms.schedule.start,
            terms.schedule.end,
            terms.version,
            terms.parent
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
            terms.provider,
            keccak256(
                abi.encode(
                    Actions.CLOSE_TYPEHASH, id, given ? Actions.hash(voucher) : bytes32(0), auth.deadline
                )
            ),
            auth
        );
        HotParameters memory hot = _hot[terms.version];
        if (given && voucher.last) {
            current = _apply(terms, id, current, hot, voucher, voucherSignature, true);
            _closeWell(terms, id, current, hot);
        } else {
            _unchallenged(id, current);
            if (given) current = _apply(terms, id, current, hot, voucher, voucherSignature, false);
            if (_early(terms, current)) current = current.withFlag(PROVIDER_FEE);
            _settleLease(terms, id, current, hot);
        }
    }

    /// @dev Both sides are content: everything moves at once, and no break fee is owed. An open dispute keeps the
    /// bond waiting; a pending challenge has lost its point.
    function _closeWell(LeaseTerms calldata terms, bytes32 id, LeaseWord current, HotParameters memory hot)
        private
    {
        if (current.has(CHALLENGED)) {
            uint256 bond = Rules.challengeBond(terms, _cold[terms.version].challengeSpan);
            _credit(terms.token, terms.buyer, bond);
            emit ChallengeDropped(id, uint96(bond));
        }
        current = current.withoutFlag(CHALLENGED | BUYER_FEE);
        if (current.has(DISPUTED)) {
            _settleLease(terms, id, current, hot);
            return;
        }
        uint96 bondToBuyer = current.has(COMPENSATED) ? _remedies[id].compensated : 0;
        _words[id] = current.withState(State.Closed);
        _collectFee(terms.token, current.paid(), 0, hot);
        _credit(terms.token, terms.buyer, terms.deposit - current.paid());
        _credit(terms.token, terms.provider, terms.bond - bondToBuyer);
        _release(terms);
        _emitClosed(terms, id, current, 0, bondToBuyer);
    }

    /// @dev The provider leaves before the end, unwarned and unasked.
    function _early(LeaseTerms calldata terms, LeaseWord current) private view returns (bool) {
        if (terms.providerBreakFee == 0 || block.timestamp >= terms.schedule.end) return false;
        State state = current.state();
        if (state == State.Closing) return false;
        bool noticed = state == State.NoticedUnpaid || state == State.NoticedReclaim;
        return !noticed || block.timestamp < uint256(current.noticeAt()) + terms.schedule.notice;
    }

    function _requireMember(uint32 version, address account) private view {
        if (!_cold[version].membership.isMember(account)) revert NotMember(account);
    }
}
