// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {UnknownCourt} from "../src/UnknownCourt.sol";
import {ILeases} from "../src/interfaces/ILeases.sol";
import {IMembership} from "../src/interfaces/IMembership.sol";
import {IParameterBook} from "../src/interfaces/IParameterBook.sol";
import {IRegistry, RegistryConfig} from "../src/interfaces/IRegistry.sol";
import {IRemedies, Reason} from "../src/interfaces/IRemedies.sol";
import {ISignatures} from "../src/interfaces/ISignatures.sol";
import {ITransfers} from "../src/interfaces/ITransfers.sol";
import {IVault} from "../src/interfaces/IVault.sol";
import {Actions} from "../src/libraries/Actions.sol";
import {NetworkToken} from "../src/tokens/NetworkToken.sol";
import {TestStablecoin} from "../src/tokens/TestStablecoin.sol";
import {Auth, FeeAuthorization} from "../src/types/Authorization.sol";
import {State} from "../src/types/LeaseWord.sol";
import {Parameters} from "../src/types/Parameters.sol";
import {LeaseTerms, Schedule, Voucher} from "../src/types/Terms.sol";
import {Test} from "./Test.sol";

/// @notice Everything that the leases' contract answers.
interface ITradewind is ILeases, IRemedies, IParameterBook, IVault, ISignatures, ITransfers {
    function relay(FeeAuthorization calldata fee, bytes calldata signature, bytes[] calldata calls) external;
    function multicall(bytes[] calldata data) external returns (bytes[] memory);
    function transferOwnership(address next) external;
}

/// @notice Everything that the registry answers.
interface ITradewindRegistry is IRegistry, ISignatures {
    function relay(FeeAuthorization calldata fee, bytes calldata signature, bytes[] calldata calls) external;
    function multicall(bytes[] calldata data) external returns (bytes[] memory);
}

/// @title A deployment with a buyer and a provider
/// @notice Deployed by name, so that tests compile without the IR pipeline.
abstract contract Base is Test {
    uint256 internal constant START = 1_800_000_000;
    uint256 internal constant BUYER_KEY = 0xB0;
    uint256 internal constant PROVIDER_KEY = 0xA0;
    uint256 internal constant METER_KEY = 0xE0;
    uint256 internal constant DEVICE_KEY = 0xD0;
    uint256 internal constant STRANGER_KEY = 0xC0;

    /// @dev 1,000 base units a second.
    uint128 internal constant RATE = 1_000e18;
    uint96 internal constant MINIMUM_STAKE = 1_000_000;

    address internal owner = address(0x0FF1CE);
    address internal arbiter = address(0xA1B1);
    address internal relayer = address(0x4E1A);
    address internal buyer = vm.addr(BUYER_KEY);
    address internal provider = vm.addr(PROVIDER_KEY);
    address internal meter = vm.addr(METER_KEY);
    address internal deviceKey = vm.addr(DEVICE_KEY);
    address internal stranger = vm.addr(STRANGER_KEY);

    TestStablecoin internal usd;
    NetworkToken internal twd;
    ITradewind internal leases;
    ITradewindRegistry internal registry;
    bytes32 internal device;
    uint32 internal version;

    function setUp() public virtual {
        vm.warp(START);
        usd = new TestStablecoin(address(this));
        twd = new NetworkToken(address(this), 1e27);
        _deploy();
        _fund(buyer, 1e12);
        _fund(provider, 1e12);
        device = _listDevice(provider, deviceKey, 4);
    }

    // --- deployment -------------------------------------------------------------------------------------------

    function _deploy() internal virtual {
        address remedies = _create(vm.getCode("Remedies.sol:Remedies"));
        bytes memory args =
            abi.encode(owner, address(twd), address(usd), arbiter, _registryConfig(), remedies);
        leases = ITradewind(_create(bytes.concat(vm.getCode("Leases.sol:Leases"), args)));
        registry = ITradewindRegistry(leases.registry());
        vm.startPrank(owner);
        leases.setToken(address(usd), true, false);
        leases.setToken(address(twd), true, true);
        version = leases.addVersion(_parameters());
        registry.setClass(1, MINIMUM_STAKE);
        vm.stopPrank();
    }

    function _create(bytes memory code) internal returns (address made) {
        assembly ("memory-safe") {
            made := create(0, add(code, 0x20), mload(code))
        }
        vm.assertTrue(made != address(0), "the contract deploys");
    }

    function _registryConfig() internal pure virtual returns (RegistryConfig memory) {
        return RegistryConfig({
            rentPerDay: 86_400, unbonding: 14 days, maxRent: 400 days, membership: IMembership(address(0))
        });
    }

    function _parameters() internal virtual returns (Parameters memory) {
        return Parameters({
            window: 1 days,
            bondDelay: 1 days,
            openAhead: 60,
            startAhead: 30 days,
            maxDuration: 90 days,
            minCapOnDemand: 1 hours,
            minCapSpot: 10 minutes,
            minCapReserved: 1 hours,
            feeBps: 250,
            sinkBps: 6_000,
            answerWindow: 15 minutes,
            hardLimit: 7 days,
            refundWindow: 10 minutes,
            repeatWindow: 7 days,
            compensationSpan: 6 hours,
            bonusSpan: 30 minutes,
            challengeSpan: 30 minutes,
            disputeBps: 1_000,
            court: new UnknownCourt(),
            membership: IMembership(address(0))
        });
    }

    function _fund(address account, uint256 amount) internal {
        usd.mint(account, amount);
        twd.transfer(account, 1e24);
        vm.startPrank(account);
        usd.approve(address(leases), type(uint256).max);
        twd.approve(address(leases), type(uint256).max);
        leases.deposit(address(usd), account, amount, _direct());
        leases.deposit(address(twd), account, 1e24, _direct());
        vm.stopPrank();
    }

    function _listDevice(address owner_, address key, uint8 units) internal returns (bytes32 id) {
        vm.startPrank(owner_);
        if (registry.account(owner_).meshKey == 0) {
            registry.register(owner_, keccak256("mesh key"), 0, _direct());
        }
        id = registry.addDevice(owner_, key, address(0), 1, units, _direct());
        registry.stake(id, MINIMUM_STAKE * units, _direct());
        registry.payRent(id, owner_, 365 days, type(uint256).max, _direct());
        vm.stopPrank();
    }

    // --- terms and vouchers -----------------------------------------------------------------------------------

    /// @dev One hour on demand from now on, on unit 0.
    function _terms() internal view returns (LeaseTerms memory terms) {
        uint40 now_ = uint40(vm.getBlockTimestamp());
        terms.buyer = buyer;
        terms.provider = provider;
        terms.device = device;
        terms.units = 1;
        terms.meter = meter;
        terms.token = address(usd);
        terms.rate = RATE;
        terms.deposit = 3_600_000;
        terms.prepay = 60_000;
        terms.compensationCap = 3_600_000;
        terms.providerBreakFee = 1_000_000;
        terms.bond = terms.compensationCap + terms.providerBreakFee;
        terms.schedule = Schedule({
            start: now_, end: now_ + 1 hours, openBy: now_ + 30, prepare: 0, notice: 5 minutes, slack: 60
        });
        terms.version = version;
        terms.jobDigest = keccak256("job");
        terms.tosHash = keccak256("terms of service");
    }

    function _reserved() internal view returns (LeaseTerms memory terms) {
        terms = _terms();
        terms.kind = 2;
        terms.buyerBreakFee = 500_000;
    }

    function _spot() internal view returns (LeaseTerms memory terms) {
        terms = _terms();
        terms.kind = 1;
        terms.providerBreakFee = 0;
    }

    function _open(LeaseTerms memory terms) internal returns (bytes32 id) {
        id = leases.leaseId(terms);
        leases.open(terms, _sign(BUYER_KEY, id), _sign(PROVIDER_KEY, id));
    }

    function _voucher(LeaseTerms memory terms, uint96 cumulative, bool last)
        internal
        view
        returns (Voucher memory)
    {
        return Voucher(leases.leaseId(terms), cumulative, 0, last);
    }

    function _settle(LeaseTerms memory terms, uint96 cumulative) internal {
        Voucher memory voucher = _voucher(terms, cumulative, false);
        leases.settle(terms, voucher, _signVoucher(METER_KEY, voucher));
    }

    function _closeWell(LeaseTerms memory terms, uint96 cumulative) internal {
        Voucher memory voucher = _voucher(terms, cumulative, true);
        bytes memory signature = _signVoucher(BUYER_KEY, voucher);
        vm.prank(terms.provider);
        leases.close(terms, voucher, signature, _direct());
    }

    function _closeWith(LeaseTerms memory terms, uint96 cumulative) internal {
        Voucher memory voucher = _voucher(terms, cumulative, false);
        bytes memory signature = _signVoucher(METER_KEY, voucher);
        vm.prank(terms.provider);
        leases.close(terms, voucher, signature, _direct());
    }

    function _closeBare(LeaseTerms memory terms) internal {
        Voucher memory none;
        vm.prank(terms.provider);
        leases.close(terms, none, "", _direct());
    }

    function _noticeUnpaid(LeaseTerms memory terms) internal {
        Voucher memory none;
        vm.prank(terms.provider);
        leases.notice(terms, Reason.Unpaid, none, "", _direct());
    }

    function _noticeReclaim(LeaseTerms memory terms) internal {
        Voucher memory none;
        vm.prank(terms.provider);
        leases.notice(terms, Reason.Reclaim, none, "", _direct());
    }

    function _requestClose(LeaseTerms memory terms) internal {
        vm.prank(terms.buyer);
        leases.requestClose(terms, _direct());
    }

    function _challenge(LeaseTerms memory terms) internal {
        vm.prank(terms.buyer);
        leases.challenge(terms, _direct());
    }

    function _stateOf(LeaseTerms memory terms) internal view returns (State) {
        return leases.lease(leases.leaseId(terms)).state;
    }

    function _assertState(LeaseTerms memory terms, State expected) internal view {
        vm.assertEq(uint256(_stateOf(terms)), uint256(expected), "state");
    }

    // --- signatures -------------------------------------------------------------------------------------------

    /// @dev For calls that the account makes itself.
    function _direct() internal pure returns (Auth memory auth) {}

    function _sign(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function _signVoucher(uint256 key, Voucher memory voucher) internal view returns (bytes memory) {
        return _sign(key, leases.voucherDigest(voucher));
    }

    /// @dev A signature over a struct of the leases' contract.
    function _signStruct(uint256 key, bytes memory encoded) internal view returns (bytes memory) {
        return _sign(key, _digest(leases.DOMAIN_SEPARATOR(), encoded));
    }

    /// @dev A signature over a struct of the registry.
    function _signRegistry(uint256 key, bytes memory encoded) internal view returns (bytes memory) {
        return _sign(key, _digest(registry.DOMAIN_SEPARATOR(), encoded));
    }

    function _digest(bytes32 domain, bytes memory encoded) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domain, keccak256(encoded)));
    }

    function _voucherHash(Voucher memory voucher) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                Actions.VOUCHER_TYPEHASH, voucher.lease, voucher.cumulative, voucher.notBefore, voucher.last
            )
        );
    }

    function _closeAuth(uint256 key, bytes32 id, Voucher memory voucher)
        internal
        view
        returns (Auth memory auth)
    {
        auth.deadline = uint40(vm.getBlockTimestamp() + 60);
        auth.signature =
            _signStruct(key, abi.encode(Actions.CLOSE_TYPEHASH, id, _voucherHash(voucher), auth.deadline));
    }

    // --- money ------------------------------------------------------------------------------------------------

    function _free(address account) internal view returns (uint256) {
        return leases.balanceOf(address(usd), account);
    }

    function _expect(bytes memory error) internal {
        vm.expectRevert(error);
    }
}
