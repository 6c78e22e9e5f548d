// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Bn254} from "../../src/libraries/Bn254.sol";
import {EvmnetBase} from "../EvmnetBase.sol";

/// @notice Other implementations' points; see {EvmnetBase}.
contract EvmnetGoldenTest is EvmnetBase {
    function test_AMessageHasThePointThatOthersFind() external view {
        for (uint256 i; i < 3; ++i) {
            string memory entry = string.concat(".hashes[", vm.toString(i), "]");
            bytes memory tag = bytes(vm.parseJsonString(json, string.concat(entry, ".tag")));
            bytes memory message = vm.parseJsonBytes(json, string.concat(entry, ".message"));
            uint256[2] memory point = _pair(string.concat(entry, ".point"));
            uint256[2] memory found = Bn254.hashToPoint(tag, message);
            vm.assertEq(found[0], point[0], entry);
            vm.assertEq(found[1], point[1], entry);
        }
    }

    /// @dev All three candidates of the map occur.
    function test_AnElementHasThePointThatOthersFind() external view {
        for (uint256 i; i < 14; ++i) {
            string memory entry = string.concat(".maps[", vm.toString(i), "]");
            uint256[2] memory point = _pair(string.concat(entry, ".point"));
            (uint256 x, uint256 y) = Bn254.mapToPoint(vm.parseJsonUint(json, string.concat(entry, ".u")));
            vm.assertEq(x, point[0], entry);
            vm.assertEq(y, point[1], entry);
        }
    }

    /// @dev Zero and the two elements for which the map inverts zero lead to the same x.
    function test_TheMapHasNoHole() external view {
        uint256 half = (Bn254.P + 1) / 2;
        uint256[3] memory elements = [0, half, Bn254.P - half];
        for (uint256 i; i < elements.length; ++i) {
            (uint256 x, uint256 y) = Bn254.mapToPoint(elements[i]);
            vm.assertEq(x, (Bn254.P - 1) / 2, "x");
            vm.assertTrue(Bn254.isOnCurve([x, y]), "on the curve");
            vm.assertEq(y & 1, elements[i] & 1, "its sign");
        }
    }
}
