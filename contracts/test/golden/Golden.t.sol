// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Golden} from "./Golden.sol";

contract GoldenTest is Golden {
    function test_TheFileSaysWhatTheContractsSay() external view {
        vm.assertEq(vm.readFile(PATH), _document(), "rewrite it: forge script test/golden/Write.s.sol");
    }
}
