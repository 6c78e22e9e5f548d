// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {ISignatures} from "../../src/interfaces/ISignatures.sol";
import {ITransfers} from "../../src/interfaces/ITransfers.sol";
import {IVault} from "../../src/interfaces/IVault.sol";
import {FeeAuthorization} from "../../src/types/Authorization.sol";
import {Actions} from "../../src/libraries/Actions.sol";
import {LeaseTerms} from "../../src/types/Terms.sol";
import {Base} from "../Base.sol";

contract TransfersTest is Base {
    function test_TransferMovesTheCallersBalance() external {
        uint256 free = _free(buyer);
        vm.prank(buyer);
        leases.transfer(address(usd), stranger, 1_000);
        vm.assertEq(_free(buyer), free - 1_000, "paid");
        vm.assertEq(_free(stranger), 1_000, "got");
        vm.prank(stranger);
        leases.forfeit(address(usd), 400);
        (uint256 sink,,,) = leases.pools(address(usd));
        vm.assertEq(_free(stranger), 600, "sunk");
        // What the rents of the setup brought is there too.
        vm.assertEq(sink, 365 * 86_400 + 400, "the sink");
    }

    function test_RevertWhen_TheMoneyIsNotThereOrGoesNowhere() external {
        _expect(abi.encodeWithSelector(IVault.InsufficientBalance.selector, address(usd), stranger, 0, 1));
        vm.prank(stranger);
        leases.transfer(address(usd), buyer, 1);
        _expect(abi.encodeWithSelector(IVault.InvalidReceiver.selector, address(0)));
        vm.prank(buyer);
        leases.transfer(address(usd), address(0), 1);
        _expect(abi.encodeWithSelector(IVault.InsufficientBalance.selector, address(usd), stranger, 0, 1));
        vm.prank(stranger);
        leases.forfeit(address(usd), 1);
    }

    function test_TakeMovesWhatWasAllowedOnce() external {
        vm.prank(buyer);
        leases.allow(stranger, address(usd), 1_000);
        vm.prank(stranger);
        leases.takeFrom(address(usd), buyer, 700);
        vm.assertEq(_free(stranger), 700, "taken");
        vm.assertEq(leases.allowanceOf(address(usd), buyer, stranger), 300, "left");
        _expect(
            abi.encodeWithSelector(
                ITransfers.InsufficientAllowance.selector, address(usd), buyer, stranger, 300, 301
            )
        );
        vm.prank(stranger);
        leases.takeFrom(address(usd), buyer, 301);
    }

    function test_OnlyTheArbiterCollectsAFeeThatNamesItsPurpose() external {
        FeeAuthorization memory fee = FeeAuthorization({
            payer: buyer,
            relayer: arbiter,
            token: address(usd),
            amount: 5_000,
            calls: keccak256("what it is for"),
            nonce: 1,
            deadline: uint40(START + 60)
        });
        bytes memory signature = _signStruct(BUYER_KEY, abi.encode(Actions.FEE_TYPEHASH, fee));
        _expect(abi.encodeWithSelector(IVault.FeeBoundToCalls.selector, fee.calls, bytes32(0)));
        vm.prank(relayer);
        leases.payFee(fee, signature);
        vm.prank(arbiter);
        leases.payFee(fee, signature);
        vm.assertEq(_free(arbiter), 5_000, "collected");
    }

    function test_TheWatcherPoolPaysATenthADay() external {
        LeaseTerms memory terms = _terms();
        _open(terms);
        vm.warp(START + 1 hours);
        _closeWell(terms, 3_600_000);
        (, uint256 pool,,) = leases.pools(address(usd));
        vm.assertEq(pool, 36_000, "two fifths of the fee");
        _expect(abi.encodeWithSelector(ISignatures.NotAllowed.selector, stranger));
        vm.prank(stranger);
        leases.rewardWatchers(address(usd), stranger, 1);
        vm.startPrank(arbiter);
        vm.assertEq(leases.rewardWatchers(address(usd), stranger, 3_000), 3_000, "within the tenth");
        vm.assertEq(leases.rewardWatchers(address(usd), stranger, 3_000), 600, "the rest of the tenth");
        vm.assertEq(leases.rewardWatchers(address(usd), stranger, 3_000), 0, "nothing more");
        vm.warp(START + 1 hours + 1 minutes);
        vm.assertEq(leases.rewardWatchers(address(usd), stranger, 3_000), 0, "on the same day");
        vm.warp(START + 1 hours + 1 days);
        vm.assertEq(leases.rewardWatchers(address(usd), stranger, 1e6), 3_240, "a tenth of what is left");
        vm.stopPrank();
        (, uint256 left,,) = leases.pools(address(usd));
        vm.assertEq(left + _free(stranger), pool, "the pool paid");
    }

    function test_AFrozenStakeWaits() external {
        vm.prank(provider);
        registry.beginUnbond(device, provider, _direct());
        vm.warp(START + 14 days);
        _expect(abi.encodeWithSelector(ISignatures.NotAllowed.selector, stranger));
        vm.prank(stranger);
        registry.freezeStake(device, uint40(START + 15 days));
        vm.prank(arbiter);
        registry.freezeStake(device, type(uint40).max);
        uint256 limit = START + 21 days;
        vm.assertEq(registry.frozenUntil(device), limit, "seven days at most");
        vm.warp(limit - 1);
        _expect(abi.encodeWithSelector(IRegistry.StillBonded.selector, device, limit));
        registry.withdrawStake(device);
        vm.warp(limit);
        vm.prank(arbiter);
        registry.freezeStake(device, type(uint40).max);
        vm.assertEq(registry.frozenUntil(device), limit, "no second freeze on its heels");
        registry.withdrawStake(device);
    }

    function test_TheArbiterEndsAFreezeAndBeginsAnotherAfterTheThaw() external {
        vm.startPrank(arbiter);
        registry.freezeStake(device, uint40(START + 2 days));
        vm.warp(START + 1 days);
        registry.freezeStake(device, 0);
        vm.assertEq(registry.frozenUntil(device), START, "ended");
        vm.warp(START + 3 days);
        registry.freezeStake(device, uint40(START + 5 days));
        vm.assertEq(registry.frozenUntil(device), START + 5 days, "another");
        vm.warp(START + 8 days);
        registry.freezeStake(device, uint40(START + 30 days));
        vm.assertEq(registry.frozenUntil(device), START + 15 days, "a third after as long a thaw");
        vm.stopPrank();
    }
}
