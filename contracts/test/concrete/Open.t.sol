// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILeases, TermsFault} from "../../src/interfaces/ILeases.sol";
import {IMembership} from "../../src/interfaces/IMembership.sol";
import {IParameterBook} from "../../src/interfaces/IParameterBook.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {ISignatures} from "../../src/interfaces/ISignatures.sol";
import {IVault} from "../../src/interfaces/IVault.sol";
import {State} from "../../src/types/LeaseWord.sol";
import {Parameters} from "../../src/types/Parameters.sol";
import {LeaseTerms} from "../../src/types/Terms.sol";
import {Base} from "../Base.sol";
import {Club} from "../mocks/Club.sol";
import {Wallet} from "../mocks/Wallet.sol";

contract OpenTest is Base {
    uint256 private constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function _faulty(LeaseTerms memory terms, TermsFault fault) private {
        bytes32 id = leases.leaseId(terms);
        _refused(terms, abi.encodeWithSelector(ILeases.InvalidTerms.selector, id, fault));
    }

    function _refused(LeaseTerms memory terms, bytes memory error) private {
        bytes32 id = leases.leaseId(terms);
        bytes memory buyerSignature = _sign(BUYER_KEY, id);
        bytes memory providerSignature = _sign(PROVIDER_KEY, id);
        vm.expectRevert(error);
        leases.open(terms, buyerSignature, providerSignature);
    }

    // --- what terms must hold ---------------------------------------------------------------------------------

    function test_RevertWhen_TheTermsNameAParent() external {
        LeaseTerms memory terms = _terms();
        terms.parent = keccak256("parent");
        _faulty(terms, TermsFault.Parent);
    }

    function test_RevertWhen_TheIdWasOpenedBefore() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        _refused(terms, abi.encodeWithSelector(ILeases.WrongState.selector, id, State.Open));
        _closeWell(terms, 60_000);
        _refused(terms, abi.encodeWithSelector(ILeases.WrongState.selector, id, State.Closed));
    }

    function test_RevertWhen_ThePartiesAreOne() external {
        LeaseTerms memory terms = _terms();
        terms.provider = buyer;
        _faulty(terms, TermsFault.Parties);
    }

    function test_RevertWhen_ThereIsNoMeter() external {
        LeaseTerms memory terms = _terms();
        terms.meter = address(0);
        _faulty(terms, TermsFault.Parties);
    }

    function test_RevertWhen_TheKindIsUnknown() external {
        LeaseTerms memory terms = _terms();
        terms.kind = 3;
        _faulty(terms, TermsFault.Kind);
    }

    function test_RevertWhen_ThereIsNoDeviceAndNoOptIn() external {
        LeaseTerms memory terms = _terms();
        terms.device = 0;
        terms.units = 0;
        _faulty(terms, TermsFault.Device);
        terms = _terms();
        terms.device = 0;
        terms.unstaked = true;
        _faulty(terms, TermsFault.Device);
        terms = _terms();
        terms.units = 0;
        _faulty(terms, TermsFault.Device);
    }

    function test_RevertWhen_OpenByIsPastOrTooFarAhead() external {
        LeaseTerms memory terms = _terms();
        terms.schedule.openBy = uint40(START - 1);
        _faulty(terms, TermsFault.OpenBy);
        terms.schedule.openBy = uint40(START + 61);
        _faulty(terms, TermsFault.OpenBy);
    }

    function test_RevertWhen_StartIsOutOfBounds() external {
        LeaseTerms memory terms = _terms();
        terms.schedule.start = uint40(START - 61);
        _faulty(terms, TermsFault.Start);
        terms.schedule.start = uint40(START + 30 days + 1);
        terms.schedule.end = terms.schedule.start + 1;
        _faulty(terms, TermsFault.Start);
    }

    function test_RevertWhen_EndIsOutOfBounds() external {
        LeaseTerms memory terms = _terms();
        terms.schedule.end = terms.schedule.start;
        _faulty(terms, TermsFault.End);
        terms.schedule.end = terms.schedule.start + 90 days + 1;
        _faulty(terms, TermsFault.End);
        terms.schedule.start = uint40(START - 60);
        terms.schedule.end = uint40(START);
        _faulty(terms, TermsFault.End);
    }

    function test_RevertWhen_PrepayIsTooHigh() external {
        LeaseTerms memory terms = _terms();
        terms.prepay = 60_001;
        _faulty(terms, TermsFault.Prepay);
        terms.prepay = 60_000;
        terms.deposit = 59_999;
        _faulty(terms, TermsFault.Prepay);
    }

    function test_RevertWhen_TheDepositDoesNotHoldPrepayAndBreakFee() external {
        LeaseTerms memory terms = _reserved();
        terms.deposit = terms.prepay + terms.buyerBreakFee - 1;
        _faulty(terms, TermsFault.Deposit);
    }

    function test_RevertWhen_TheBondDoesNotHoldCapAndBreakFee() external {
        LeaseTerms memory terms = _terms();
        terms.bond -= 1;
        _faulty(terms, TermsFault.Bond);
    }

    function test_RevertWhen_TheCapIsBelowTheKindsMinimum() external {
        LeaseTerms memory terms = _terms();
        terms.compensationCap -= 1;
        _faulty(terms, TermsFault.CompensationCap);
        terms.kind = 1;
        _open(terms);
    }

    function test_RevertWhen_ABuyersBreakFeeIsNotOnAReservedLease() external {
        LeaseTerms memory terms = _reserved();
        terms.kind = 0;
        _faulty(terms, TermsFault.BuyerBreakFee);
    }

    function test_RevertWhen_AWordHasStrayHighBits() external {
        // Calldata is written by hand, since no encoder makes it: every narrow field in turn, dirty above its type.
        LeaseTerms memory terms = _terms();
        uint256[23] memory fields =
            [uint256(0), 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23];
        for (uint256 i; i < fields.length; ++i) {
            bytes memory data = abi.encodeCall(ILeases.open, (terms, "", ""));
            uint256 at = 4 + 32 * (fields[i] + 1);
            assembly ("memory-safe") {
                mstore(add(data, at), or(mload(add(data, at)), shl(255, 1)))
            }
            (bool done, bytes memory answer) = address(leases).call(data);
            vm.assertFalse(done, "opens with stray bits");
            uint256 fault;
            assembly ("memory-safe") {
                fault := mload(add(answer, 0x44))
            }
            vm.assertEq(fault, uint256(TermsFault.Encoding), vm.toString(fields[i]));
        }
    }

    function test_RevertWhen_TheVersionIsPausedOrUnknown() external {
        LeaseTerms memory terms = _terms();
        vm.prank(owner);
        leases.setVersionActive(version, false);
        _refused(terms, abi.encodeWithSelector(IParameterBook.VersionInactive.selector, version));
        vm.prank(owner);
        leases.setVersionActive(version, true);
        _open(terms);
        terms.version = 9;
        _refused(terms, abi.encodeWithSelector(IParameterBook.VersionInactive.selector, 9));
    }

    function test_RevertWhen_TheTokenIsNotAllowed() external {
        LeaseTerms memory terms = _terms();
        vm.prank(owner);
        leases.setToken(address(usd), false, false);
        _refused(terms, abi.encodeWithSelector(IVault.TokenNotAllowed.selector, address(usd)));
        vm.prank(owner);
        leases.setToken(address(usd), true, false);
        _open(terms);
    }

    function test_ANewTokenAndANewVersionWorkTogetherInEitherOrder() external {
        vm.startPrank(owner);
        uint32 second = leases.addVersion(_parameters());
        leases.setVersionActive(version, false);
        vm.stopPrank();
        LeaseTerms memory terms = _terms();
        terms.version = second;
        terms.token = address(twd);
        _open(terms);
        terms.version = version;
        terms.units = 2;
        _refused(terms, abi.encodeWithSelector(IParameterBook.VersionInactive.selector, version));
    }

    // --- who must sign ----------------------------------------------------------------------------------------

    function test_RevertWhen_ASignatureIsNotTheBuyers() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = leases.leaseId(terms);
        bytes memory wrong = _sign(STRANGER_KEY, id);
        bytes memory right = _sign(PROVIDER_KEY, id);
        _expect(abi.encodeWithSelector(ISignatures.InvalidSignature.selector, buyer, id));
        leases.open(terms, wrong, right);
    }

    function test_RevertWhen_ASignatureIsNotTheProviders() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = leases.leaseId(terms);
        bytes memory right = _sign(BUYER_KEY, id);
        _expect(abi.encodeWithSelector(ISignatures.InvalidSignature.selector, provider, id));
        leases.open(terms, right, right);
    }

    function test_RevertWhen_ASignatureIsTheMalleableTwin() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = leases.leaseId(terms);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(BUYER_KEY, id);
        bytes memory twin = abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        bytes memory right = _sign(PROVIDER_KEY, id);
        _expect(abi.encodeWithSelector(ISignatures.InvalidSignature.selector, buyer, id));
        leases.open(terms, twin, right);
    }

    function test_RevertWhen_ASignatureIsForAnotherChainOrContract() external {
        LeaseTerms memory terms = _terms();
        bytes memory buyerSignature = _sign(BUYER_KEY, leases.leaseId(terms));
        bytes memory providerSignature = _sign(PROVIDER_KEY, leases.leaseId(terms));
        bytes32 here = leases.leaseId(terms);
        vm.chainId(1);
        vm.assertTrue(here != leases.leaseId(terms), "the id names the chain");
        _expect(abi.encodeWithSelector(ISignatures.InvalidSignature.selector, buyer, leases.leaseId(terms)));
        leases.open(terms, buyerSignature, providerSignature);
    }

    function test_RevertWhen_TheZeroAddressIsAParty() external {
        LeaseTerms memory terms = _terms();
        terms.buyer = address(0);
        bytes32 id = leases.leaseId(terms);
        bytes memory right = _sign(PROVIDER_KEY, id);
        _expect(abi.encodeWithSelector(ISignatures.InvalidSignature.selector, address(0), id));
        leases.open(terms, new bytes(65), right);
    }

    function test_AContractWalletSigns() external {
        Wallet wallet = new Wallet(buyer);
        usd.mint(address(this), 1e9);
        usd.transfer(address(wallet), 1e9);
        wallet.call(address(usd), abi.encodeCall(usd.approve, (address(leases), 1e9)));
        wallet.call(
            address(leases), abi.encodeCall(IVault.deposit, (address(usd), address(wallet), 1e9, _direct()))
        );
        LeaseTerms memory terms = _terms();
        terms.buyer = address(wallet);
        _open(terms);
        _assertState(terms, State.Open);
    }

    function test_AnAccountWithDelegatedCodeStillSignsWithItsKey() external {
        LeaseTerms memory terms = _terms();
        vm.etch(buyer, hex"60006000fd");
        _open(terms);
        _assertState(terms, State.Open);
    }

    // --- money, members, device -------------------------------------------------------------------------------

    function test_RevertWhen_TheBuyerLacksTheDeposit() external {
        LeaseTerms memory terms = _terms();
        terms.deposit = 1e12 + 1;
        _refused(
            terms,
            abi.encodeWithSelector(IVault.InsufficientBalance.selector, address(usd), buyer, 1e12, 1e12 + 1)
        );
    }

    function test_RevertWhen_TheProviderLacksTheBond() external {
        LeaseTerms memory terms = _terms();
        uint256 left = _free(provider);
        terms.bond = uint96(left + 1);
        _refused(
            terms,
            abi.encodeWithSelector(
                IVault.InsufficientBalance.selector, address(usd), provider, left, left + 1
            )
        );
    }

    function test_RevertWhen_AMemberHookRefusesAParty() external {
        Club club = new Club();
        Parameters memory parameters = _parameters();
        parameters.membership = IMembership(address(club));
        vm.prank(owner);
        uint32 gated = leases.addVersion(parameters);
        LeaseTerms memory terms = _terms();
        terms.version = gated;
        club.admit(buyer, true);
        _refused(terms, abi.encodeWithSelector(ILeases.NotMember.selector, provider));
        club.admit(provider, true);
        club.admit(buyer, false);
        _refused(terms, abi.encodeWithSelector(ILeases.NotMember.selector, buyer));
        club.admit(buyer, true);
        _open(terms);
        club.breakDown();
        _requestClose(terms);
        vm.warp(START + 1 days);
        leases.finalize(terms);
        vm.warp(START + 2 days);
        leases.releaseBond(terms);
        _assertState(terms, State.Closed);
    }

    function test_RevertWhen_TheDeviceIsAnothers() external {
        LeaseTerms memory terms = _terms();
        terms.device = keccak256("unknown");
        _refused(terms, abi.encodeWithSelector(IRegistry.WrongProvider.selector, terms.device, provider));
    }

    function test_RevertWhen_TheRentLapsed() external {
        uint40 until = registry.device(device).rentUntil;
        vm.warp(until + 1);
        LeaseTerms memory terms = _terms();
        _refused(terms, abi.encodeWithSelector(IRegistry.RentLapsed.selector, device, until));
    }

    function test_RevertWhen_TheDeviceIsJailed() external {
        vm.prank(arbiter);
        registry.jail(device, uint40(START + 1));
        LeaseTerms memory terms = _terms();
        _refused(terms, abi.encodeWithSelector(IRegistry.DeviceJailed.selector, device, START + 1));
        vm.warp(START + 1);
        _open(terms);
    }

    function test_RevertWhen_TheDeviceIsUnbonding() external {
        vm.prank(provider);
        registry.beginUnbond(device, provider, _direct());
        LeaseTerms memory terms = _terms();
        _refused(terms, abi.encodeWithSelector(IRegistry.DeviceUnbonding.selector, device, START + 14 days));
    }

    function test_RevertWhen_TheStakeIsTooLowAndTheBuyerDidNotOptOut() external {
        vm.prank(arbiter);
        registry.slash(device, 1, address(0));
        LeaseTerms memory terms = _terms();
        _refused(
            terms,
            abi.encodeWithSelector(
                IRegistry.StakeTooLow.selector, device, 4 * MINIMUM_STAKE - 1, 4 * MINIMUM_STAKE
            )
        );
        terms.unstaked = true;
        _open(terms);
        vm.assertEq(registry.device(device).busyUnits, 1, "the units are taken all the same");
    }

    function test_RevertWhen_TheUnitsAreNotThereOrBusy() external {
        LeaseTerms memory terms = _terms();
        terms.units = 16;
        _refused(terms, abi.encodeWithSelector(IRegistry.UnitsUnavailable.selector, device, 16, 0, 4));
        terms.units = 3;
        _open(terms);
        terms.units = 6;
        _refused(terms, abi.encodeWithSelector(IRegistry.UnitsUnavailable.selector, device, 6, 3, 4));
        terms.units = 12;
        _open(terms);
        vm.assertEq(registry.device(device).busyUnits, 15, "all four units");
    }

    function test_ItLocksTheMoneyAndTakesTheUnits() external {
        LeaseTerms memory terms = _terms();
        uint256 buyerBefore = _free(buyer);
        uint256 providerBefore = _free(provider);
        bytes32 id = leases.leaseId(terms);
        vm.expectEmit(address(leases));
        emit ILeases.LeaseOpened(
            id,
            buyer,
            provider,
            device,
            1,
            address(usd),
            RATE,
            terms.deposit,
            terms.bond,
            0,
            terms.schedule.start,
            terms.schedule.end,
            version
        );
        _open(terms);
        vm.assertEq(buyerBefore - _free(buyer), terms.deposit, "the deposit is locked");
        vm.assertEq(providerBefore - _free(provider), terms.bond, "the bond is locked");
        vm.assertEq(registry.device(device).busyUnits, 1, "the unit is busy");
        uint256 tail = 1 days + 1 days + 7 days;
        vm.assertEq(registry.device(device).lastEnd, terms.schedule.end + tail, "the stake is bound");
        vm.assertEq(leases.lease(id).openedAt, START, "opened now");
        _assertState(terms, State.Open);
    }

    function test_ItOpensWithoutADeviceWhereTheBuyerSignedSo() external {
        LeaseTerms memory terms = _terms();
        terms.device = 0;
        terms.units = 0;
        terms.unstaked = true;
        _open(terms);
        _closeWell(terms, 60_000);
        _assertState(terms, State.Closed);
    }
}
