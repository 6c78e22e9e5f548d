// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

import {IParameterBook} from "../../src/interfaces/IParameterBook.sol";
import {ISignatures} from "../../src/interfaces/ISignatures.sol";
import {IVault} from "../../src/interfaces/IVault.sol";
import {Actions} from "../../src/libraries/Actions.sol";
import {Auth, FeeAuthorization} from "../../src/types/Authorization.sol";
import {Parameters} from "../../src/types/Parameters.sol";
import {LeaseTerms} from "../../src/types/Terms.sol";
import {Base} from "../Base.sol";
import {HookedToken, TaxedToken} from "../mocks/Tokens.sol";

contract VaultTest is Base {
    bytes32 private constant PERMIT =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
    bytes32 private constant RECEIVE = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );

    function _depositAuth(uint256 key, address account, uint256 amount, uint256 nonce)
        private
        view
        returns (Auth memory auth)
    {
        auth.nonce = nonce;
        auth.deadline = uint40(START + 60);
        auth.signature = _signStruct(
            key, abi.encode(Actions.DEPOSIT_TYPEHASH, address(usd), account, amount, nonce, auth.deadline)
        );
    }

    function _withdrawAuth(uint256 key, address to, uint256 amount, uint256 nonce)
        private
        view
        returns (Auth memory auth)
    {
        auth.nonce = nonce;
        auth.deadline = uint40(START + 60);
        auth.signature = _signStruct(
            key, abi.encode(Actions.WITHDRAW_TYPEHASH, address(usd), buyer, to, amount, nonce, auth.deadline)
        );
    }

    function _fee(bytes32 calls, uint256 nonce)
        private
        view
        returns (FeeAuthorization memory fee, bytes memory signature)
    {
        fee = FeeAuthorization(buyer, relayer, address(usd), 1_000, calls, nonce, uint40(START + 60));
        signature = _signStruct(BUYER_KEY, abi.encode(Actions.FEE_TYPEHASH, fee));
    }

    // --- deposit ----------------------------------------------------------------------------------------------

    function test_RevertWhen_TheAccountDidNotAgreeToADeposit() external {
        usd.mint(stranger, 100);
        vm.prank(stranger);
        usd.approve(address(leases), 100);
        Auth memory auth = _depositAuth(BUYER_KEY, stranger, 100, 1);
        vm.expectRevert();
        leases.deposit(address(usd), stranger, 100, auth);
        auth = _depositAuth(STRANGER_KEY, stranger, 100, 1);
        leases.deposit(address(usd), stranger, 100, auth);
        vm.assertEq(_free(stranger), 100, "free");
    }

    function test_ASignatureCountsOnceAndUntilItsDeadline() external {
        usd.mint(buyer, 1_000);
        Auth memory auth = _depositAuth(BUYER_KEY, buyer, 100, 256);
        leases.deposit(address(usd), buyer, 100, auth);
        _expect(abi.encodeWithSelector(ISignatures.NonceAlreadyUsed.selector, buyer, 256));
        leases.deposit(address(usd), buyer, 100, auth);
        vm.assertTrue(leases.nonceUsed(buyer, 256), "spent");
        auth = _depositAuth(BUYER_KEY, buyer, 100, 2);
        vm.prank(buyer);
        leases.cancelNonce(2);
        _expect(abi.encodeWithSelector(ISignatures.NonceAlreadyUsed.selector, buyer, 2));
        leases.deposit(address(usd), buyer, 100, auth);
        auth = _depositAuth(BUYER_KEY, buyer, 100, 3);
        vm.warp(START + 61);
        _expect(abi.encodeWithSelector(ISignatures.DeadlinePassed.selector, START + 60, START + 61));
        leases.deposit(address(usd), buyer, 100, auth);
    }

    function test_RevertWhen_TheTokenIsNotAllowed() external {
        ERC20 other = new TaxedToken();
        Auth memory auth = _direct();
        _expect(abi.encodeWithSelector(IVault.TokenNotAllowed.selector, address(other)));
        leases.deposit(address(other), address(this), 100, auth);
    }

    function test_ATaxedTokenCreditsWhatArrived() external {
        TaxedToken taxed = new TaxedToken();
        vm.prank(owner);
        leases.setToken(address(taxed), true, false);
        taxed.approve(address(leases), 1_000);
        vm.assertEq(leases.deposit(address(taxed), address(this), 1_000, _direct()), 990, "what arrived");
        vm.assertEq(leases.balanceOf(address(taxed), address(this)), 990, "free");
        vm.assertEq(taxed.balanceOf(address(leases)), 990, "held");
    }

    function _permit(uint256 amount) private view returns (bytes memory) {
        bytes32 structHash = keccak256(
            abi.encode(PERMIT, stranger, address(leases), amount, usd.nonces(stranger), START + 60)
        );
        return _sign(STRANGER_KEY, keccak256(abi.encodePacked(hex"1901", usd.DOMAIN_SEPARATOR(), structHash)));
    }

    function test_APermitNeedsNoApprovalBefore() external {
        usd.mint(stranger, 100);
        bytes memory permit = _permit(100);
        Auth memory auth = _depositAuth(STRANGER_KEY, stranger, 100, 1);
        vm.prank(relayer);
        leases.depositWithPermit(address(usd), stranger, 100, START + 60, permit, auth);
        vm.assertEq(_free(stranger), 100, "free");
    }

    function test_AFrontRunPermitDoesNoHarm() external {
        usd.mint(stranger, 100);
        bytes memory permit = _permit(100);
        (bytes32 r, bytes32 s) = abi.decode(permit, (bytes32, bytes32));
        uint8 v = uint8(permit[64]);
        usd.permit(stranger, address(leases), 100, START + 60, v, r, s);
        Auth memory auth = _depositAuth(STRANGER_KEY, stranger, 100, 1);
        leases.depositWithPermit(address(usd), stranger, 100, START + 60, permit, auth);
        vm.assertEq(_free(stranger), 100, "free");
    }

    function _authorization(uint256 key, address from, uint256 amount, bytes32 nonce)
        private
        view
        returns (bytes memory)
    {
        bytes32 structHash =
            keccak256(abi.encode(RECEIVE, from, address(leases), amount, 0, START + 60, nonce));
        return _sign(key, keccak256(abi.encodePacked(hex"1901", usd.DOMAIN_SEPARATOR(), structHash)));
    }

    function test_AnAuthorizationDepositsForItsSigner() external {
        usd.mint(stranger, 100);
        bytes memory signature = _authorization(STRANGER_KEY, stranger, 100, "nonce");
        vm.prank(relayer);
        leases.depositWithAuthorization(address(usd), stranger, 100, 0, START + 60, "nonce", signature);
        vm.assertEq(_free(stranger), 100, "free");
        uint256 again =
            leases.depositWithAuthorization(address(usd), stranger, 100, 0, START + 60, "nonce", signature);
        vm.assertEq(again, 0, "a used one brings nothing");
    }

    function test_RevertWhen_AnAuthorizationIsForged() external {
        usd.mint(stranger, 100);
        bytes memory signature = _authorization(BUYER_KEY, stranger, 100, "nonce");
        vm.expectRevert();
        leases.depositWithAuthorization(address(usd), stranger, 100, 0, START + 60, "nonce", signature);
    }

    // --- withdraw ---------------------------------------------------------------------------------------------

    function test_WithdrawingSendsWhateverTheAllowListSays() external {
        vm.prank(owner);
        leases.setToken(address(usd), false, false);
        vm.expectEmit(address(leases));
        emit IVault.Withdrawn(address(usd), buyer, stranger, 100);
        vm.prank(buyer);
        leases.withdraw(address(usd), buyer, stranger, 100, _direct());
        vm.assertEq(usd.balanceOf(stranger), 100, "sent");
    }

    function test_ARelayerWithdrawsOnlyAsSigned() external {
        Auth memory auth = _withdrawAuth(BUYER_KEY, stranger, 100, 5);
        vm.expectRevert();
        leases.withdraw(address(usd), buyer, relayer, 100, auth);
        leases.withdraw(address(usd), buyer, stranger, 100, auth);
        _expect(abi.encodeWithSelector(ISignatures.NonceAlreadyUsed.selector, buyer, 5));
        leases.withdraw(address(usd), buyer, stranger, 100, auth);
    }

    function test_RevertWhen_WithdrawingTooMuchOrToNobody() external {
        uint256 free = _free(buyer);
        Auth memory auth = _direct();
        _expect(
            abi.encodeWithSelector(IVault.InsufficientBalance.selector, address(usd), buyer, free, free + 1)
        );
        vm.prank(buyer);
        leases.withdraw(address(usd), buyer, buyer, free + 1, auth);
        _expect(abi.encodeWithSelector(IVault.InvalidReceiver.selector, address(0)));
        vm.prank(buyer);
        leases.withdraw(address(usd), buyer, address(0), 1, auth);
        _expect(abi.encodeWithSelector(IVault.InvalidReceiver.selector, address(leases)));
        vm.prank(buyer);
        leases.withdraw(address(usd), buyer, address(leases), 1, auth);
    }

    function test_AHookedTokenCannotEnterAgain() external {
        HookedToken hooked = new HookedToken();
        vm.prank(owner);
        leases.setToken(address(hooked), true, true);
        hooked.transfer(address(hooked), 1_000);
        vm.prank(address(hooked));
        hooked.approve(address(leases), type(uint256).max);
        hooked.approve(address(leases), type(uint256).max);
        bytes[4] memory calls = [
            abi.encodeCall(IVault.deposit, (address(hooked), address(hooked), 10, _direct())),
            abi.encodeCall(IVault.withdraw, (address(hooked), address(hooked), address(1), 1, _direct())),
            abi.encodeCall(IVault.burnSink, (address(hooked))),
            abi.encodeCall(IVault.depositWithPermit, (address(hooked), address(hooked), 10, 0, "", _direct()))
        ];
        vm.prank(address(hooked));
        leases.deposit(address(hooked), address(hooked), 100, _direct());
        for (uint256 i; i < calls.length; ++i) {
            hooked.hook(address(leases), calls[i]);
            leases.deposit(address(hooked), address(this), 100, _direct());
            vm.assertFalse(hooked.reentered(), "entered during a deposit");
            hooked.hook(address(leases), calls[i]);
            leases.withdraw(address(hooked), address(this), stranger, 50, _direct());
            vm.assertFalse(hooked.reentered(), "entered during a withdrawal");
        }
        vm.assertEq(leases.balanceOf(address(hooked), address(this)), 200, "free");
        vm.assertEq(hooked.balanceOf(address(leases)), 300, "held");
    }

    // --- fees -------------------------------------------------------------------------------------------------

    function test_APlainFeeIsPaidOnceByAnyonesHand() external {
        (FeeAuthorization memory fee, bytes memory signature) = _fee(0, 1);
        vm.expectEmit(address(leases));
        emit IVault.FeePaid(buyer, relayer, address(usd), 1_000);
        leases.payFee(fee, signature);
        vm.assertEq(_free(relayer), 1_000, "the relayer's");
        _expect(abi.encodeWithSelector(ISignatures.NonceAlreadyUsed.selector, buyer, 1));
        leases.payFee(fee, signature);
        fee.amount = 2_000;
        vm.expectRevert();
        leases.payFee(fee, signature);
    }

    function _bound(bytes memory call) private view returns (bytes[] memory calls, bytes32 hash) {
        calls = new bytes[](1);
        calls[0] = call;
        hash = keccak256(abi.encode(address(leases), calls));
    }

    function test_ABoundFeeIsPaidOnlyWithItsCalls() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = leases.leaseId(terms);
        (bytes[] memory calls, bytes32 hash) =
            _bound(abi.encodeCall(leases.open, (terms, _sign(BUYER_KEY, id), _sign(PROVIDER_KEY, id))));
        (FeeAuthorization memory fee, bytes memory signature) = _fee(hash, 1);
        _expect(abi.encodeWithSelector(IVault.FeeBoundToCalls.selector, hash, 0));
        leases.payFee(fee, signature);
        bytes[] memory none = new bytes[](0);
        _expect(
            abi.encodeWithSelector(
                IVault.FeeBoundToCalls.selector, hash, keccak256(abi.encode(address(leases), none))
            )
        );
        leases.relay(fee, signature, none);
        vm.prank(stranger);
        leases.relay(fee, signature, calls);
        vm.assertEq(_free(relayer), 1_000, "the relayer's, whoever submits");
    }

    function test_RevertWhen_ABoundCallFails() external {
        LeaseTerms memory terms = _terms();
        (bytes[] memory calls, bytes32 hash) =
            _bound(abi.encodeCall(leases.open, (terms, new bytes(65), new bytes(65))));
        (FeeAuthorization memory fee, bytes memory signature) = _fee(hash, 1);
        vm.expectRevert();
        leases.relay(fee, signature, calls);
        vm.assertEq(_free(relayer), 0, "no fee");
    }

    function test_TheRegistrysRelayPaysAFeeBoundToIt() external {
        bytes32 mesh = keccak256("mesh");
        Auth memory auth;
        auth.deadline = uint40(START + 60);
        auth.signature = _signRegistry(
            BUYER_KEY,
            abi.encode(
                keccak256(
                    "Register(address account,bytes32 meshKey,bytes32 metadata,uint256 nonce,uint40 deadline)"
                ),
                buyer,
                mesh,
                bytes32(0),
                0,
                auth.deadline
            )
        );
        bytes[] memory calls = new bytes[](1);
        calls[0] = abi.encodeCall(registry.register, (buyer, mesh, 0, auth));
        bytes32 hash = keccak256(abi.encode(address(registry), calls));
        (FeeAuthorization memory fee, bytes memory signature) = _fee(hash, 1);
        registry.relay(fee, signature, calls);
        vm.assertEq(registry.account(buyer).meshKey, mesh, "registered");
        vm.assertEq(_free(relayer), 1_000, "the relayer's");
    }

    function test_BundlesKeepTheSender() external {
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(IVault.withdraw, (address(usd), buyer, buyer, 1, _direct()));
        calls[1] = abi.encodeCall(IVault.withdraw, (address(usd), buyer, buyer, 2, _direct()));
        vm.prank(buyer);
        leases.multicall(calls);
        vm.assertEq(usd.balanceOf(buyer), 3, "both");
        vm.expectRevert();
        leases.multicall(calls);
    }

    // --- sink, owner, custodian -------------------------------------------------------------------------------

    function test_TheSinkBurnsWhatCanBurn() external {
        vm.prank(arbiter);
        registry.slash(device, 1_000_000, stranger);
        uint256 supply = twd.totalSupply();
        leases.burnSink(address(twd));
        vm.assertEq(supply - twd.totalSupply(), 900_000, "burned");
        (uint256 sink,,,) = leases.pools(address(twd));
        vm.assertEq(sink, 0, "empty");
        _expect(abi.encodeWithSelector(IVault.TokenNotBurnable.selector, address(usd)));
        leases.burnSink(address(usd));
    }

    function test_OnlyTheOwnerTunes() external {
        Parameters memory parameters = _parameters();
        bytes memory error = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, stranger);
        vm.startPrank(stranger);
        _expect(error);
        leases.setToken(address(usd), false, false);
        _expect(error);
        leases.addVersion(parameters);
        _expect(error);
        leases.setVersionActive(version, false);
        vm.stopPrank();
    }

    function test_OnlyTheRegistryMovesStake() external {
        _expect(abi.encodeWithSelector(ISignatures.NotAllowed.selector, owner));
        vm.prank(owner);
        leases.takeStake(address(usd), buyer, 1);
        _expect(abi.encodeWithSelector(ISignatures.NotAllowed.selector, owner));
        vm.prank(owner);
        leases.returnStake(address(usd), buyer, 1);
        _expect(abi.encodeWithSelector(ISignatures.NotAllowed.selector, owner));
        vm.prank(owner);
        leases.sinkStake(address(usd), 1);
        _expect(abi.encodeWithSelector(ISignatures.NotAllowed.selector, owner));
        vm.prank(owner);
        leases.takeRent(address(usd), buyer, 1);
    }

    function test_VersionsAreAppendedAndKept() external {
        Parameters memory parameters = _parameters();
        parameters.window = 5;
        parameters.minCapReserved = 77;
        parameters.sinkBps = 1;
        vm.prank(owner);
        uint32 second = leases.addVersion(parameters);
        vm.assertEq(second, 2, "counts on");
        (Parameters memory kept, bool active) = leases.parameters(second);
        vm.assertTrue(active, "active");
        vm.assertEq(keccak256(abi.encode(kept)), keccak256(abi.encode(parameters)), "all of it");
        (kept,) = leases.parameters(version);
        vm.assertEq(kept.window, 1 days, "the first is as it was");
    }

    function test_RevertWhen_ParametersAreOutOfBounds() external {
        Parameters memory parameters = _parameters();
        parameters.feeBps = 1_001;
        _refuse(parameters);
        parameters = _parameters();
        parameters.sinkBps = 10_001;
        _refuse(parameters);
        parameters = _parameters();
        parameters.window = 1 << 24;
        _refuse(parameters);
        parameters = _parameters();
        parameters.openAhead = 0;
        _refuse(parameters);
        parameters = _parameters();
        parameters.answerWindow = 0;
        _refuse(parameters);
        parameters = _parameters();
        parameters.minCapSpot = 1 << 24;
        _refuse(parameters);
    }

    function _refuse(Parameters memory parameters) private {
        vm.expectRevert(IParameterBook.InvalidParameters.selector);
        vm.prank(owner);
        leases.addVersion(parameters);
    }
}
