// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EvmnetBase} from "./EvmnetBase.sol";

/// @title What a round of drand's beacon costs as a whole transaction
/// @notice Intrinsic gas and calldata included, every slot cold.
contract GasOfBeaconTest is EvmnetBase {
    uint256 private constant BUDGET = 200_000;

    /// forge-config: default.isolate = true
    function test_ARoundStaysWithinItsBudget() external {
        uint256 dearest;
        for (uint256 i; i < ROUNDS; ++i) {
            (uint64 round, uint256[2] memory signature,) = _round(i);
            beacon.submit(round, signature);
            uint256 gas = vm.lastCallGas().gasTotalUsed;
            if (gas > dearest) dearest = gas;
        }
        _log("the dearest of eight rounds", dearest);
        vm.assertLe(dearest, BUDGET, "a round");
        (uint64 again, uint256[2] memory same,) = _round(0);
        beacon.submit(again, same);
        _log("a round that is stored", vm.lastCallGas().gasTotalUsed);
    }
}
