// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IMembership} from "../../src/interfaces/IMembership.sol";
import {AccountView, DeviceView, IRegistry, RegistryConfig} from "../../src/interfaces/IRegistry.sol";
import {ISignatures} from "../../src/interfaces/ISignatures.sol";
import {Auth} from "../../src/types/Authorization.sol";
import {LeaseTerms} from "../../src/types/Terms.sol";
import {Base} from "../Base.sol";
import {Club} from "../mocks/Club.sol";

contract RegistryTest is Base {
    bytes32 private constant MESH = keccak256("mesh");

    /// @dev `encoded` is everything before nonce and deadline.
    function _auth(uint256 key, string memory text, bytes memory encoded, uint256 nonce)
        private
        view
        returns (Auth memory auth)
    {
        auth.nonce = nonce;
        auth.deadline = uint40(vm.getBlockTimestamp() + 60);
        auth.signature = _signRegistry(
            key, bytes.concat(keccak256(bytes(text)), encoded, abi.encode(nonce, auth.deadline))
        );
    }

    // --- accounts ---------------------------------------------------------------------------------------------

    function test_RegisterAndUpdateBySignature() external {
        string memory text =
            "Register(address account,bytes32 meshKey,bytes32 metadata,uint256 nonce,uint40 deadline)";
        bytes memory encoded = abi.encode(buyer, MESH, bytes32(uint256(1)));
        Auth memory auth = _auth(STRANGER_KEY, text, encoded, 1);
        vm.expectRevert();
        registry.register(buyer, MESH, bytes32(uint256(1)), auth);
        auth = _auth(BUYER_KEY, text, encoded, 1);
        registry.register(buyer, MESH, bytes32(uint256(1)), auth);
        text = "UpdateAccount(address account,bytes32 meshKey,bytes32 metadata,uint256 nonce,uint40 deadline)";
        auth = _auth(BUYER_KEY, text, abi.encode(buyer, bytes32(uint256(2)), bytes32(uint256(3))), 2);
        registry.updateAccount(buyer, bytes32(uint256(2)), bytes32(uint256(3)), auth);
        AccountView[] memory page = registry.accountsPage(0, 10);
        vm.assertEq(page.length, 2, "two accounts");
        vm.assertEq(page[0].account, provider, "in order");
        vm.assertEq(page[0].rentUntil, START + 365 days, "its latest rent");
        vm.assertEq(page[1].account, buyer, "in order");
        vm.assertEq(page[1].meshKey, bytes32(uint256(2)), "updated");
        vm.assertEq(page[1].metadata, bytes32(uint256(3)), "updated");
        vm.assertEq(registry.accountsPage(1, 10).length, 1, "the rest");
        vm.assertEq(registry.accountsPage(0, 1).length, 1, "as many as asked");
        vm.assertEq(registry.accountsPage(2, 1).length, 0, "past the end");
        vm.assertEq(registry.accountsPage(0, type(uint256).max).length, 2, "all");
        vm.assertEq(registry.accountCount(), 2, "count");
    }

    function test_RevertWhen_RegisteringTwiceOrWithoutAKey() external {
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(IRegistry.AlreadyRegistered.selector, provider));
        vm.prank(provider);
        registry.register(provider, MESH, 0, auth);
        _expect(abi.encodeWithSelector(IRegistry.InvalidMeshKey.selector));
        vm.prank(buyer);
        registry.register(buyer, 0, 0, auth);
        _expect(abi.encodeWithSelector(IRegistry.NotRegistered.selector, buyer));
        vm.prank(buyer);
        registry.updateAccount(buyer, MESH, 0, auth);
    }

    function test_RevertWhen_TheAccountIsNoMember() external {
        Club club = new Club();
        RegistryConfig memory config = _registryConfig();
        config.membership = IMembership(address(club));
        vm.prank(owner);
        registry.setConfig(config);
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(IRegistry.NotMember.selector, buyer));
        vm.prank(buyer);
        registry.register(buyer, MESH, 0, auth);
        club.admit(buyer, true);
        vm.prank(buyer);
        registry.register(buyer, MESH, 0, auth);
    }

    // --- devices ----------------------------------------------------------------------------------------------

    function test_AddADeviceBySignature() external {
        string memory text =
            "AddDevice(address provider,address key,address sponsor,uint16 class,uint8 units,uint256 nonce,uint40 deadline)";
        Auth memory auth = _auth(PROVIDER_KEY, text, abi.encode(provider, stranger, buyer, 2, 64), 9);
        bytes32 id = registry.addDevice(provider, stranger, buyer, 2, 64, auth);
        vm.assertEq(id, keccak256(abi.encode(provider, stranger)), "its id");
        DeviceView memory found = registry.devicesPage(1, 5)[0];
        vm.assertEq(found.id, id, "listed");
        vm.assertEq(found.key, stranger, "key");
        vm.assertEq(found.sponsor, buyer, "sponsor");
        vm.assertEq(found.units, 64, "units");
        vm.assertEq(found.class, 2, "class");
        vm.assertEq(registry.deviceCount(), 2, "count");
    }

    function test_RevertWhen_ADeviceIsMalformedOrExists() external {
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(IRegistry.DeviceExists.selector, device));
        vm.prank(provider);
        registry.addDevice(provider, deviceKey, address(0), 1, 4, auth);
        _expect(abi.encodeWithSelector(IRegistry.InvalidDevice.selector, address(0), 4));
        vm.prank(provider);
        registry.addDevice(provider, address(0), address(0), 1, 4, auth);
        _expect(abi.encodeWithSelector(IRegistry.InvalidDevice.selector, stranger, 65));
        vm.prank(provider);
        registry.addDevice(provider, stranger, address(0), 1, 65, auth);
        _expect(abi.encodeWithSelector(IRegistry.InvalidDevice.selector, stranger, 0));
        vm.prank(provider);
        registry.addDevice(provider, stranger, address(0), 1, 0, auth);
        _expect(abi.encodeWithSelector(IRegistry.NotRegistered.selector, buyer));
        vm.prank(buyer);
        registry.addDevice(buyer, stranger, address(0), 1, 1, auth);
    }

    function test_ASponsorStakesAndGetsItBack() external {
        vm.prank(provider);
        bytes32 id = registry.addDevice(provider, stranger, buyer, 1, 1, _direct());
        Auth memory auth = _auth(
            PROVIDER_KEY,
            "Stake(bytes32 device,uint96 amount,uint256 nonce,uint40 deadline)",
            abi.encode(id, 5_000),
            1
        );
        vm.expectRevert();
        registry.stake(id, 5_000, auth);
        uint256 before = leases.balanceOf(address(twd), buyer);
        auth = _auth(
            BUYER_KEY,
            "Stake(bytes32 device,uint96 amount,uint256 nonce,uint40 deadline)",
            abi.encode(id, 5_000),
            1
        );
        registry.stake(id, 5_000, auth);
        vm.assertEq(before - leases.balanceOf(address(twd), buyer), 5_000, "the sponsor's money");
        auth = _direct();
        _expect(abi.encodeWithSelector(IRegistry.StakeNotEmpty.selector, id, 5_000));
        vm.prank(provider);
        registry.setSponsor(id, provider, auth);
        // The sponsor leaves without asking the provider.
        auth = _auth(
            BUYER_KEY,
            "BeginUnbond(bytes32 device,address account,uint256 nonce,uint40 deadline)",
            abi.encode(id, buyer),
            2
        );
        registry.beginUnbond(id, buyer, auth);
        vm.warp(START + 14 days);
        vm.prank(stranger);
        registry.withdrawStake(id);
        vm.assertEq(leases.balanceOf(address(twd), buyer), before, "all of it");
        vm.prank(provider);
        registry.setSponsor(id, address(0), _direct());
        vm.assertEq(registry.device(id).sponsor, provider, "the provider itself");
    }

    function test_RevertWhen_StakingAnUnknownOrUnbondingDevice() external {
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(IRegistry.UnknownDevice.selector, MESH));
        registry.stake(MESH, 1, auth);
        _expect(abi.encodeWithSelector(IRegistry.InvalidAmount.selector, 0));
        vm.prank(provider);
        registry.stake(device, 0, auth);
        vm.prank(provider);
        registry.beginUnbond(device, provider, auth);
        _expect(abi.encodeWithSelector(IRegistry.DeviceUnbonding.selector, device, START + 14 days));
        vm.prank(provider);
        registry.stake(device, 1, auth);
    }

    // --- rent -------------------------------------------------------------------------------------------------

    function test_RentExtendsFromWhatIsPaidOrFromNow() external {
        uint256 before = _free(buyer);
        string memory text =
            "PayRent(bytes32 device,address payer,uint32 span,uint256 limit,uint256 nonce,uint40 deadline)";
        Auth memory auth = _auth(BUYER_KEY, text, abi.encode(device, buyer, 10 days, 864_000), 1);
        registry.payRent(device, buyer, 10 days, 864_000, auth);
        vm.assertEq(before - _free(buyer), 864_000, "anyone may pay");
        vm.assertEq(registry.device(device).rentUntil, START + 375 days, "on top");
        vm.warp(START + 500 days);
        vm.prank(provider);
        registry.payRent(device, provider, 1, 1, _direct());
        vm.assertEq(registry.device(device).rentUntil, START + 500 days + 1, "from now; rounded up");
    }

    function test_RevertWhen_RentIsTooDearOrTooFar() external {
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(IRegistry.RentTooDear.selector, 86_400, 86_399));
        vm.prank(provider);
        registry.payRent(device, provider, 1 days, 86_399, auth);
        _expect(abi.encodeWithSelector(IRegistry.RentTooFar.selector, START + 401 days, START + 400 days));
        vm.prank(provider);
        registry.payRent(device, provider, 36 days, type(uint256).max, auth);
    }

    // --- unbonding and punishment -----------------------------------------------------------------------------

    function test_UnbondingWaitsForTheLastLeasesDisputes() external {
        LeaseTerms memory terms = _terms();
        terms.schedule.end = terms.schedule.start + 30 days;
        _open(terms);
        vm.prank(provider);
        registry.beginUnbond(device, provider, _direct());
        uint256 from = START + 30 days + 1 days + 1 days + 7 days;
        vm.assertEq(registry.device(device).unbondingAt, from, "not 14 days");
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(IRegistry.DeviceUnbonding.selector, device, from));
        vm.prank(provider);
        registry.beginUnbond(device, provider, auth);
        vm.warp(from - 1);
        _expect(abi.encodeWithSelector(IRegistry.StillBonded.selector, device, from));
        registry.withdrawStake(device);
        vm.prank(arbiter);
        registry.slash(device, 1_000_000, address(0));
        vm.warp(from);
        uint256 before = leases.balanceOf(address(twd), provider);
        registry.withdrawStake(device);
        vm.assertEq(
            leases.balanceOf(address(twd), provider) - before, 3_000_000, "slashed until the last second"
        );
        _expect(abi.encodeWithSelector(IRegistry.NotUnbonding.selector, device));
        registry.withdrawStake(device);
    }

    function test_RevertWhen_AStrangerUnbonds() external {
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(ISignatures.NotAllowed.selector, stranger));
        vm.prank(stranger);
        registry.beginUnbond(device, stranger, auth);
    }

    function test_ASlashGivesATenthToTheReporter() external {
        vm.prank(arbiter);
        registry.slash(device, 1_000_009, stranger);
        vm.assertEq(leases.balanceOf(address(twd), stranger), 100_000, "a tenth, rounded down");
        (uint256 sink,,,) = leases.pools(address(twd));
        vm.assertEq(sink, 900_009, "the rest");
        vm.assertEq(registry.device(device).stake, 4_000_000 - 1_000_009, "one device's stake");
        vm.prank(arbiter);
        registry.slash(device, type(uint96).max, address(0));
        vm.assertEq(registry.device(device).stake, 0, "at most all of it");
        vm.assertEq(leases.staked(address(twd)), 0, "nothing at stake");
    }

    function test_WhatASlashAndAForfeitSankBurnsTogetherAndOnce() external {
        vm.prank(provider);
        leases.forfeit(address(twd), 700);
        (uint256 before,,,) = leases.pools(address(twd));
        uint256 supply = twd.totalSupply();
        vm.prank(arbiter);
        registry.slash(device, 1_000, address(0));
        (uint256 sink,,,) = leases.pools(address(twd));
        vm.assertEq(sink, before + 1_000, "both are in the sink");
        leases.burnSink(address(twd));
        vm.assertEq(twd.totalSupply(), supply - sink, "burned");
        (sink,,,) = leases.pools(address(twd));
        vm.assertEq(sink, 0, "nothing stays");
        leases.burnSink(address(twd));
        vm.assertEq(twd.totalSupply(), supply - before - 1_000, "nor burns again");
    }

    function test_RevertWhen_AnyoneButTheArbiterPunishes() external {
        _expect(abi.encodeWithSelector(ISignatures.NotAllowed.selector, owner));
        vm.prank(owner);
        registry.slash(device, 1, address(0));
        _expect(abi.encodeWithSelector(ISignatures.NotAllowed.selector, owner));
        vm.prank(owner);
        registry.jail(device, 1);
    }

    function test_ASentenceNeverShortens() external {
        vm.startPrank(arbiter);
        registry.jail(device, uint40(START + 10));
        registry.jail(device, uint40(START + 5));
        vm.stopPrank();
        vm.assertEq(registry.device(device).jailedUntil, START + 10, "the longer one");
    }

    function test_ARaisedMinimumCountsWhenSomebodyAsks() external {
        vm.prank(owner);
        registry.setClass(1, MINIMUM_STAKE + 1);
        LeaseTerms memory terms = _terms();
        _open(terms);
        registry.qualify(device);
        terms.units = 2;
        bytes32 id = leases.leaseId(terms);
        bytes memory buyerSignature = _sign(BUYER_KEY, id);
        bytes memory providerSignature = _sign(PROVIDER_KEY, id);
        _expect(
            abi.encodeWithSelector(
                IRegistry.StakeTooLow.selector, device, 4 * MINIMUM_STAKE, 4 * MINIMUM_STAKE + 4
            )
        );
        leases.open(terms, buyerSignature, providerSignature);
        vm.prank(provider);
        registry.stake(device, 4, _direct());
        _open(terms);
    }

    function test_AClassWithoutAMinimumQualifiesNobody() external {
        vm.startPrank(provider);
        bytes32 id = registry.addDevice(provider, stranger, address(0), 999, 1, _direct());
        registry.payRent(id, provider, 1 days, type(uint256).max, _direct());
        registry.stake(id, 1, _direct());
        vm.stopPrank();
        registry.qualify(id);
        LeaseTerms memory terms = _terms();
        terms.device = id;
        bytes32 lease = leases.leaseId(terms);
        bytes memory buyerSignature = _sign(BUYER_KEY, lease);
        bytes memory providerSignature = _sign(PROVIDER_KEY, lease);
        _expect(abi.encodeWithSelector(IRegistry.StakeTooLow.selector, id, 1, 0));
        leases.open(terms, buyerSignature, providerSignature);
        terms.unstaked = true;
        _open(terms);
    }

    function test_RevertWhen_TheOwnerWouldHoldStakesForever() external {
        RegistryConfig memory config = _registryConfig();
        config.unbonding = 60 days + 1;
        _expect(abi.encodeWithSelector(IRegistry.UnbondingTooLong.selector, 60 days + 1, 60 days));
        vm.prank(owner);
        registry.setConfig(config);
        config.unbonding = 60 days;
        vm.prank(owner);
        registry.setConfig(config);
    }

    function test_PunishmentAltersNoRunningLease() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        uint256 word = leases.word(id);
        vm.startPrank(arbiter);
        registry.slash(device, type(uint96).max, address(0));
        registry.jail(device, type(uint40).max);
        vm.stopPrank();
        vm.assertEq(leases.word(id), word, "as it was");
        vm.warp(START + 1 hours);
        _settle(terms, 3_000_000);
        _closeWell(terms, 3_600_000);
    }

    function test_RevertWhen_AnyoneButTheLeasesMovesUnits() external {
        _expect(abi.encodeWithSelector(ISignatures.NotAllowed.selector, owner));
        vm.prank(owner);
        registry.assign(device, provider, 1, true, 0);
        _expect(abi.encodeWithSelector(ISignatures.NotAllowed.selector, owner));
        vm.prank(owner);
        registry.releaseUnits(device, 1);
    }

    function test_AFaultIsPunishedOncePerEpochAndHarderAgain() external {
        _expect(abi.encodeWithSelector(ISignatures.NotAllowed.selector, stranger));
        vm.prank(stranger);
        registry.slashFault(device, 7, 300, 5_000, address(0));
        _expect(abi.encodeWithSelector(ISignatures.NotAllowed.selector, stranger));
        vm.prank(stranger);
        registry.slashShare(device, 300, address(0));
        vm.startPrank(arbiter);
        _expect(abi.encodeWithSelector(IRegistry.InvalidAmount.selector, 10_001));
        registry.slashShare(device, 10_001, address(0));
        registry.slashFault(device, 7, 300, 5_000, address(0));
        vm.assertEq(registry.device(device).stake, 3_880_000, "3 %");
        _expect(abi.encodeWithSelector(IRegistry.FaultPunished.selector, device, 7));
        registry.slashFault(device, 7, 300, 5_000, address(0));
        _expect(abi.encodeWithSelector(IRegistry.FaultPunished.selector, device, 6));
        registry.slashFault(device, 6, 300, 5_000, address(0));
        registry.slashFault(device, 8, 300, 5_000, address(0));
        vm.assertEq(registry.device(device).stake, 1_940_000, "half of the rest");
        vm.assertEq(registry.slashShare(device, 10_000, address(0)), 1_940_000, "all of it");
        vm.stopPrank();
        vm.assertEq(registry.device(device).key, deviceKey, "the key beside it stays");
    }
}
