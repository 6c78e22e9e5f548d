// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Element, Report} from "../src/types/Evidence.sol";
import {ProductBase} from "./ProductBase.sol";

/// @title What a proof of a wrong element costs as a whole transaction
/// @notice Intrinsic gas and calldata included, every slot cold, the device's first offence, the token's sink not
/// empty, the stake above its minimum before and after. A reporter announced itself a block before, and had a balance.
contract GasOfProofsTest is ProductBase {
    uint256 private constant SMALL_BUDGET = 150_000;
    uint256 private constant LARGE_BUDGET = 330_000;

    function setUp() public override {
        super.setUp();
        _fund(relayer, 1e9);
        vm.prank(relayer);
        leases.forfeit(address(twd), 1);
        // A provider stakes more than the least, so that a small slash costs it no qualification.
        vm.prank(provider);
        registry.stake(device, MINIMUM_STAKE, _direct());
    }

    /// forge-config: default.isolate = true
    function test_AProofAt4096StaysWithinItsBudget() external {
        uint256 gas = _prove(4_096, 1, address(0));
        _log("element at 4096, 1 round", gas);
        vm.assertLe(gas, SMALL_BUDGET, "at 4096");
    }

    /// forge-config: default.isolate = true
    function test_AProofAt16384StaysWithinItsBudget() external {
        uint256 gas = _prove(16_384, 1, address(0));
        _log("element at 16384, 1 round", gas);
        vm.assertLe(gas, LARGE_BUDGET, "at 16384");
    }

    /// forge-config: default.isolate = true
    function test_RewardsAndRoundsCostExtra() external {
        uint256 state = vm.snapshotState();
        _log("element at 4096, 1 round, with a reward", _prove(4_096, 1, relayer));
        vm.revertToState(state);
        _log("element at 4096, the last of 16 rounds", _prove(4_096, 16, address(0)));
    }

    function _prove(uint32 size, uint256 rounds, address reporter) private returns (uint256) {
        Report memory report;
        if (reporter != address(0)) report = _announce(reporter, _elementEvidence());
        Element memory element = _element(size, rounds, size - 3, size / 2 + 5, 1);
        court.proveElement(element, report);
        return vm.lastCallGas().gasTotalUsed;
    }
}
