// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Golden} from "./Golden.sol";

/// @notice `forge script test/golden/Write.s.sol` rewrites the vectors.
contract Write is Golden {
    function run() external {
        vm.writeFile(PATH, _document());
    }
}
