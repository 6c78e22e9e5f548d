// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {CourtBook} from "./CourtBook.sol";
import {Proofs} from "./Proofs.sol";
import {Relay} from "./Relay.sol";
import {Seats} from "./Seats.sol";
import {ICourtBook} from "./interfaces/ICourtBook.sol";
import {ILeases} from "./interfaces/ILeases.sol";
import {IRegistry} from "./interfaces/IRegistry.sol";
import {IVault} from "./interfaces/IVault.sol";
import {FeeAuthorization} from "./types/Authorization.sol";
import {CourtParameters, Setup} from "./types/CourtParameters.sol";

/// @title Court
/// @notice The registry's arbiter: watchers' seats, what is proved against devices and seats, and, by the code of
/// {Cases}, what watchers judge. It holds its money as balances in the leases' vault, and takes nobody's without consent.
/// Its owner adds parameter versions, which wait before they count, and can do nothing else.
contract Court is ICourtBook, Seats, Proofs, Relay, Ownable2Step {
    address private immutable _CASES;
    address private immutable _LEASES;
    address private immutable _REGISTRY;
    address private immutable _BEACON;
    address private immutable _STAKE_TOKEN;
    address private immutable _FEE_TOKEN;
    uint40 private immutable _GENESIS;
    uint32 private immutable _EPOCH_SPAN;
    uint96 private immutable _SEAT_STAKE;
    uint32 private immutable _SEAT_UNBONDING;
    uint32 private immutable _VERSION_DELAY;

    /// @notice The leases' contract is made first, with this court's address, which follows from the deployer's nonce, as
    /// its arbiter. Anything else is refused, so nobody ever binds the two.
    /// @param s `registry` and the tokens are read from the leases' contract, and `genesis` is now.
    /// @param parameters Version 1, which counts at once.
    /// @param cases_ The code of {Cases}, for good.
    constructor(address owner_, Setup memory s, CourtParameters memory parameters, address cases_)
        EIP712("Tradewind Court", "1")
        Ownable(owner_)
    {
        IRegistry registry = IRegistry(ILeases(s.leases).registry());
        if (
            registry.arbiter() != address(this) || s.beacon.code.length == 0 || s.epochSpan == 0
                || s.seatStake == 0 || cases_.code.length == 0
        ) {
            revert InvalidSetup();
        }
        _CASES = cases_;
        _LEASES = s.leases;
        _REGISTRY = address(registry);
        _BEACON = s.beacon;
        _STAKE_TOKEN = registry.stakeToken();
        _FEE_TOKEN = registry.feeToken();
        _GENESIS = uint40(block.timestamp);
        _EPOCH_SPAN = s.epochSpan;
        _SEAT_STAKE = s.seatStake;
        _SEAT_UNBONDING = s.seatUnbonding;
        _VERSION_DELAY = s.versionDelay;
        _addVersion(parameters, 0);
    }

    /// @dev Whatever else it is asked it answers with the code of {Cases}: see {ICases}, {IVerdicts} and {ICourt}.
    fallback() external {
        _delegate(_CASES);
    }

    /// @inheritdoc ICourtBook
    function announce(bytes32 commitment) external {
        if (_announced[commitment] != 0) revert AlreadyAnnounced(commitment);
        _announced[commitment] = block.number;
        emit Announced(commitment);
    }

    /// @inheritdoc ICourtBook
    function addCourtVersion(CourtParameters calldata parameters) external onlyOwner returns (uint32) {
        if (block.timestamp < _latest.usableAt) revert VersionPending(_latest.version, _latest.usableAt);
        return _addVersion(parameters, _VERSION_DELAY);
    }

    /// @inheritdoc ICourtBook
    function setup() external view returns (Setup memory) {
        return _setup();
    }

    /// @inheritdoc ICourtBook
    function epochAt(uint40 time) external view returns (uint64) {
        return _epochAt(_setup(), time);
    }

    /// @inheritdoc ICourtBook
    function caseId(bytes32 device, uint64 epoch) external view returns (bytes32) {
        return _caseId(device, epoch);
    }

    /// @inheritdoc ICourtBook
    function courtParameters(uint32 version)
        external
        view
        returns (CourtParameters memory parameters, uint40 usableAt)
    {
        return (_versions[version].parameters, _versions[version].usableAt);
    }

    /// @notice Whose code answers for {ICases}, {IVerdicts} and {ICourt}.
    function cases() external view returns (address) {
        return _CASES;
    }

    /// @inheritdoc ICourtBook
    function usableVersion() external view returns (uint32) {
        return _usableVersion();
    }

    function _setup() internal view override returns (Setup memory) {
        return Setup({
            leases: _LEASES,
            registry: _REGISTRY,
            beacon: _BEACON,
            stakeToken: _STAKE_TOKEN,
            feeToken: _FEE_TOKEN,
            genesis: _GENESIS,
            epochSpan: _EPOCH_SPAN,
            seatStake: _SEAT_STAKE,
            seatUnbonding: _SEAT_UNBONDING,
            versionDelay: _VERSION_DELAY
        });
    }

    function _payRelayer(FeeAuthorization calldata fee, bytes calldata signature) internal override {
        IVault(_LEASES).payFee(fee, signature);
    }

    function _addVersion(CourtParameters memory p, uint256 delay) private returns (uint32 version) {
        uint256 appeal = uint256(p.appealWindow) + 2 * uint256(p.benchWindow) + p.deferSpan;
        if (
            p.committee == 0 || p.quorum * 2 <= p.committee || p.quorum > p.committee || p.panel < p.committee
                || p.panel > 48 || p.benchQuorum * 2 <= p.bench || p.benchQuorum > p.bench || p.bench > 32
                || p.jailSeats < p.committee || p.fullSeats < uint256(p.committee) + p.bench
                || p.fullSeats < p.jailSeats || p.strikes == 0 || p.commitWindow == 0 || p.voteWindow == 0
                || p.appealWindow == 0 || p.benchWindow == 0 || p.freezeSpan < appeal
        ) {
            revert InvalidCourtParameters();
        }
        if (
            p.downBps > WHOLE || p.elementFirstBps > WHOLE || p.elementAgainBps > WHOLE
                || p.equivocationBps > WHOLE || p.bondBps > WHOLE
        ) {
            revert InvalidCourtParameters();
        }
        Latest memory last = _latest;
        version = last.version + 1;
        uint40 usableAt = uint40(block.timestamp + delay);
        _versions[version] = Version(p, usableAt);
        _latest = Latest({
            version: version,
            usableAt: usableAt,
            elementFirstBps: p.elementFirstBps,
            elementAgainBps: p.elementAgainBps,
            equivocationBps: p.equivocationBps,
            elementFirstBpsBefore: last.elementFirstBps,
            elementAgainBpsBefore: last.elementAgainBps,
            equivocationBpsBefore: last.equivocationBps
        });
        emit CourtVersionAdded(version, usableAt, p);
    }
}
