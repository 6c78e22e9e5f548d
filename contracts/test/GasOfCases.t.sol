// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ballot} from "../src/types/Case.sol";
import {CaseBase} from "./CaseBase.sol";

/// @title What a verdict costs as whole transactions
/// @notice Intrinsic gas and calldata included, every slot cold; 40 seats.
contract GasOfCasesTest is CaseBase {
    /// forge-config: default.isolate = true
    function test_AVerdictAndAnAppeal() external {
        _seat(40);
        bytes32 id = _tryCase(device, GUILTY);
        Ballot[] memory ballots = _ballots(id, 0, 8);
        court.vote(id, ballots);
        uint256 verdict = vm.lastCallGas().gasTotalUsed;
        _log("a verdict by 8 signatures, with jail and freeze", verdict);
        _appealCase(id);
        _log("the draw of a bench of 21", vm.lastCallGas().gasTotalUsed);
        ballots = _benchBallots(id, 15, GUILTY);
        court.voteBench(id, ballots);
        uint256 confirmed = vm.lastCallGas().gasTotalUsed;
        _log("an appeal's 15 signatures", confirmed);
        vm.assertLe(verdict, 450_000, "a verdict");
        vm.assertLe(confirmed, 450_000, "an appeal");
    }
}
