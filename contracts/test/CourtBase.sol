// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LocalBeacon} from "../src/LocalBeacon.sol";
import {ICases} from "../src/interfaces/ICases.sol";
import {ICourt} from "../src/interfaces/ICourt.sol";
import {ICourtBook} from "../src/interfaces/ICourtBook.sol";
import {IProofs} from "../src/interfaces/IProofs.sol";
import {ISeats} from "../src/interfaces/ISeats.sol";
import {ISignatures} from "../src/interfaces/ISignatures.sol";
import {IVerdicts} from "../src/interfaces/IVerdicts.sol";
import {Auth, FeeAuthorization} from "../src/types/Authorization.sol";
import {CourtParameters, Setup} from "../src/types/CourtParameters.sol";
import {Report} from "../src/types/Evidence.sol";
import {Parameters} from "../src/types/Parameters.sol";
import {Actions} from "../src/libraries/Actions.sol";
import {Base, ITradewind, ITradewindRegistry} from "./Base.sol";

/// @notice Everything that a court answers.
interface ITradewindCourt is ICourt, ICases, IVerdicts, ICourtBook, ISeats, IProofs, ISignatures {
    function relay(FeeAuthorization calldata fee, bytes calldata signature, bytes[] calldata calls) external;
    function multicall(bytes[] calldata data) external returns (bytes[] memory);
    function owner() external view returns (address);
    function transferOwnership(address next) external;
}

/// @title A deployment with a court
/// @notice Epochs of an hour, a beacon round a minute.
abstract contract CourtBase is Base {
    uint32 internal constant EPOCH = 1 hours;
    uint32 internal constant ROUND = 1 minutes;
    uint96 internal constant SEAT_STAKE = 1e15;
    uint96 internal constant FEE = 10_000;
    uint256 internal constant SEAT_KEY = 0x5EA700;

    ITradewindCourt internal court;
    address internal cases;
    LocalBeacon internal beacon;

    function _deploy() internal virtual override {
        beacon = new LocalBeacon(uint40(START), ROUND, 10 minutes, true);
        address verdicts = _create(vm.getCode("Verdicts.sol:Verdicts"));
        cases = _create(bytes.concat(vm.getCode("Cases.sol:Cases"), abi.encode(verdicts)));
        address remedies = _create(vm.getCode("Remedies.sol:Remedies"));
        arbiter = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        bytes memory args =
            abi.encode(owner, address(twd), address(usd), arbiter, _registryConfig(), remedies);
        leases = ITradewind(_create(bytes.concat(vm.getCode("Leases.sol:Leases"), args)));
        registry = ITradewindRegistry(leases.registry());
        court = ITradewindCourt(_create(_courtCode(address(leases))));
        vm.assertEq(address(court), arbiter, "the court is where it was said to be");
        vm.startPrank(owner);
        leases.setToken(address(usd), true, false);
        leases.setToken(address(twd), true, true);
        vm.stopPrank();
        Parameters memory parameters = _parameters();
        vm.startPrank(owner);
        version = leases.addVersion(parameters);
        registry.setClass(1, MINIMUM_STAKE);
        vm.stopPrank();
    }

    function _courtCode(address leases_) internal view returns (bytes memory) {
        return bytes.concat(
            vm.getCode("Court.sol:Court"), abi.encode(owner, _courtSetup(leases_), _courtParameters(), cases)
        );
    }

    function _courtSetup(address leases_) internal view virtual returns (Setup memory s) {
        s.leases = leases_;
        s.beacon = address(beacon);
        s.epochSpan = EPOCH;
        s.seatStake = SEAT_STAKE;
        s.seatUnbonding = 14 days;
        s.versionDelay = 2 days;
    }

    function _courtParameters() internal pure virtual returns (CourtParameters memory) {
        return CourtParameters({
            jailSeats: 11,
            fullSeats: 32,
            panel: 33,
            committee: 11,
            quorum: 8,
            bench: 21,
            benchQuorum: 15,
            strikes: 3,
            admissible: 24,
            commitWindow: 15 minutes,
            voteWindow: 15 minutes,
            appealWindow: 1 days,
            benchWindow: 1 hours,
            freezeSpan: 5 days,
            deferSpan: 2 days,
            downBps: 500,
            elementFirstBps: 300,
            elementAgainBps: 5_000,
            equivocationBps: 10_000,
            bondBps: 1_000,
            minBond: 2_000_000,
            transcriptFee: FEE,
            jail: [uint32(1 hours), 6 hours, 24 hours, 7 days]
        });
    }

    function _parameters() internal virtual override returns (Parameters memory parameters) {
        parameters = super._parameters();
        parameters.court = court;
    }

    // --- seats ------------------------------------------------------------------------------------------------

    function _seatKey(uint256 i) internal pure returns (uint256) {
        return SEAT_KEY + i;
    }

    function _seatOwner(uint256 i) internal pure returns (address) {
        return address(uint160(0x0A11CE00 + i));
    }

    /// @dev Seats `from` to `to − 1`, each with an owner and a key of its own.
    function _joinSeats(uint256 from, uint256 to) internal {
        for (uint256 i = from; i < to; ++i) {
            address owner_ = _seatOwner(i);
            _fund(owner_, 1e9);
            _join(owner_, _seatKey(i));
        }
    }

    function _join(address owner_, uint256 key) internal returns (uint32) {
        bytes memory signature = _signCourt(key, _joinAction(owner_, vm.addr(key)));
        vm.startPrank(owner_);
        leases.allow(address(court), address(twd), SEAT_STAKE);
        uint32 id = court.joinSeat(owner_, vm.addr(key), signature, _direct());
        vm.stopPrank();
        return id;
    }

    function _joinAction(address owner_, address key) internal pure returns (bytes32) {
        return keccak256(abi.encode(keccak256("JoinSeat(address owner,address key)"), owner_, key));
    }

    /// @dev A signature over a struct hash of the court.
    function _signCourt(uint256 key, bytes32 structHash) internal view returns (bytes memory) {
        return _sign(key, _courtDigest(structHash));
    }

    function _courtDigest(bytes32 structHash) internal view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", court.DOMAIN_SEPARATOR(), structHash));
    }

    /// @dev The vault's fee to the court that names what it is for.
    function _payment(uint256 key, address token, uint256 amount, bytes32 action, uint256 nonce)
        internal
        view
        returns (Auth memory auth)
    {
        auth.nonce = nonce;
        auth.deadline = uint40(vm.getBlockTimestamp() + 60);
        bytes32 calls = keccak256(abi.encode(address(court), action));
        auth.signature = _signStruct(
            key,
            abi.encode(
                Actions.FEE_TYPEHASH, vm.addr(key), address(court), token, amount, calls, nonce, auth.deadline
            )
        );
    }

    // --- time and lots ----------------------------------------------------------------------------------------

    function _epoch() internal view returns (uint64) {
        return court.epochAt(uint40(vm.getBlockTimestamp()));
    }

    function _toEpoch(uint64 epoch) internal {
        vm.warp(START + uint256(epoch) * EPOCH);
        vm.roll(vm.getBlockNumber() + 1);
    }

    /// @dev The first round not before `time` has its seed afterwards; the clock moves on to it where it must.
    function _reveal(uint256 time) internal {
        uint64 round = beacon.roundAt(uint40(time));
        if (vm.getBlockTimestamp() < beacon.timeOf(round)) vm.warp(beacon.timeOf(round));
        beacon.advance(round);
        vm.roll(vm.getBlockNumber() + 1);
        beacon.advance(round);
    }

    function _announce(address reporter, bytes32 evidence) internal returns (Report memory report) {
        report = Report(reporter, keccak256("salt"));
        court.announce(keccak256(abi.encode(reporter, evidence, report.salt)));
        vm.roll(vm.getBlockNumber() + 1);
    }

    function _stakeOf(address account) internal view returns (uint256) {
        return leases.balanceOf(address(twd), account);
    }
}
