// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DrandBeacon} from "../src/DrandBeacon.sol";
import {Test} from "./Test.sol";

/// @title drand's evmnet, and rounds that it published
/// @notice What `golden/evmnet.json` holds comes from public sources: the chain as the relays' `/info` answers it, and rounds as
/// https://api.drand.sh/04f1e9…c8c3/public/<round> answers them, found in the test suites of randa-mu/bls-solidity
/// (9337227) and of other projects that verify evmnet. The randomness of 1000 and 18710192 was published with them, that of
/// the others is the hash of their signatures. None needs trust: they verify under the group's key, and the chain's hash
/// covers that key. Points hashed to are from randa-mu/bls-solidity, mapped ones from Consensys/gnark-crypto (the first ten) and
/// from a Sage reference in randa-mu/randomness-solidity.
abstract contract EvmnetBase is Test {
    uint32 internal constant LAG = 60;
    uint256 internal constant ROUNDS = 8;

    string internal json;
    DrandBeacon internal beacon;

    function setUp() public virtual {
        json = vm.readFile("test/golden/evmnet.json");
        beacon = _evmnet(LAG);
        vm.warp(beacon.timeOf(20_000_000));
    }

    function _evmnet(uint32 lag) internal returns (DrandBeacon) {
        return new DrandBeacon(_key(), _genesis(), _period(), _groupSeed(), "evmnet", lag);
    }

    function _key() internal view returns (uint256[4] memory key) {
        uint256[] memory words = vm.parseJsonUintArray(json, ".chain.key");
        for (uint256 i; i < 4; ++i) {
            key[i] = words[i];
        }
    }

    function _genesis() internal view returns (uint40) {
        return uint40(vm.parseJsonUint(json, ".chain.genesis"));
    }

    function _period() internal view returns (uint32) {
        return uint32(vm.parseJsonUint(json, ".chain.period"));
    }

    function _groupSeed() internal view returns (bytes32) {
        return vm.parseJsonBytes32(json, ".chain.groupSeed");
    }

    /// @dev The `i`-th published round, its signature and its randomness.
    function _round(uint256 i)
        internal
        view
        returns (uint64 round, uint256[2] memory signature, bytes32 randomness)
    {
        string memory entry = string.concat(".rounds[", vm.toString(i), "]");
        round = uint64(vm.parseJsonUint(json, string.concat(entry, ".round")));
        signature = _pair(string.concat(entry, ".signature"));
        randomness = vm.parseJsonBytes32(json, string.concat(entry, ".randomness"));
    }

    function _pair(string memory path) internal view returns (uint256[2] memory) {
        uint256[] memory words = vm.parseJsonUintArray(json, path);
        return [words[0], words[1]];
    }
}
