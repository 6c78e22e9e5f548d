// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IBeacon} from "./interfaces/IBeacon.sol";
import {Bn254} from "./libraries/Bn254.sol";

/// @title drand's beacon
/// @notice Rounds of a drand chain of the scheme `bls-bn254-unchained-on-g1`, such as evmnet: every few seconds a threshold of
/// the network's members signs the round's number. Anyone brings the rounds that somebody waits for; nobody can bring another
/// seed than drand's, since a key and a round have one signature.
///
/// A block's timestamp may be behind the clock by which drand signs, and whoever makes that block knows what was signed
/// meanwhile. So a round's time here, by the chain's clock, is `lag` seconds before drand publishes it, and who asks for the
/// first round from an instant on gets one that nobody knew in any block up to then, as long as blocks are late by less.
contract DrandBeacon is IBeacon {
    event SeedStored(uint64 indexed round, bytes32 seed);

    /// @notice No point of G2, or infinity.
    error InvalidKey(uint256[4] key);
    error InvalidSpans(uint40 genesis, uint32 period, uint32 lag);
    /// @notice Rounds begin at 1, and end where the clock of this contract does.
    error NoSuchRound(uint64 round);
    error RoundNotDue(uint64 round, uint256 dueAt);
    /// @notice A coordinate is not below the field's prime.
    error NotCanonical(uint256[2] signature);
    /// @notice The point is not on the curve, or it is infinity.
    error NotOnCurve(uint256[2] signature);
    /// @notice Another round's signature, another key's, or none.
    error WrongSignature(uint64 round, uint256[2] signature);

    bytes private constant _TAG = "BLS_SIG_BN254G1_XMD:KECCAK-256_SVDW_RO_NUL_";

    uint256 private immutable _KEY_X1;
    uint256 private immutable _KEY_X0;
    uint256 private immutable _KEY_Y1;
    uint256 private immutable _KEY_Y0;
    bytes32 private immutable _CHAIN_HASH;
    uint40 private immutable _START;
    uint32 private immutable _PERIOD;
    uint32 private immutable _LAG;

    mapping(uint64 round => bytes32) private _seeds;

    /// @param key_ The group's public key, its words in drand's order.
    /// @param genesis When drand publishes round 1, in Unix seconds.
    /// @param period Between two rounds, in seconds.
    /// @param groupSeed What drand calls the genesis seed, for the chain's hash.
    /// @param id drand's name of the beacon, such as "evmnet", for the same; empty for "default".
    /// @param lag_ By how many seconds a block's timestamp may be late.
    constructor(
        uint256[4] memory key_,
        uint40 genesis,
        uint32 period,
        bytes32 groupSeed,
        string memory id,
        uint32 lag_
    ) {
        if (!Bn254.isKey(key_)) revert InvalidKey(key_);
        if (period == 0 || lag_ >= genesis) revert InvalidSpans(genesis, period, lag_);
        (_KEY_X1, _KEY_X0, _KEY_Y1, _KEY_Y0) = (key_[0], key_[1], key_[2], key_[3]);
        (_START, _PERIOD, _LAG) = (genesis - lag_, period, lag_);
        _CHAIN_HASH = sha256(abi.encodePacked(period, uint64(genesis), key_, groupSeed, id));
    }

    /// @notice Stores the round's seed, for good. By anyone; does nothing where it is stored.
    /// @param signature drand's, a point of G1.
    function submit(uint64 round, uint256[2] calldata signature) external {
        if (_seeds[round] != 0) return;
        uint256 dueAt = timeOf(round);
        if (block.timestamp < dueAt) revert RoundNotDue(round, dueAt);
        bytes32 stored = seedFrom(round, signature);
        _seeds[round] = stored;
        emit SeedStored(round, stored);
    }

    /// @inheritdoc IBeacon
    function seed(uint64 round) external view returns (bytes32) {
        return _seeds[round];
    }

    /// @inheritdoc IBeacon
    function seedAt(uint40 time) external view returns (bytes32) {
        return _seeds[roundAt(time)];
    }

    /// @notice By what drand's nodes name the chain: computed from its parameters as they compute it.
    function chainHash() external view returns (bytes32) {
        return _CHAIN_HASH;
    }

    /// @notice By how many seconds a block's timestamp may be late.
    function lag() external view returns (uint32) {
        return _LAG;
    }

    /// @notice The group's public key, its words in drand's order.
    function key() external view returns (uint256[4] memory) {
        return _key();
    }

    /// @notice What drand calls the round's randomness: the hash of its signature, which is checked.
    function seedFrom(uint64 round, uint256[2] calldata signature) public view returns (bytes32) {
        if (round == 0) revert NoSuchRound(round);
        if (signature[0] >= Bn254.P || signature[1] >= Bn254.P) revert NotCanonical(signature);
        if (!Bn254.isOnCurve(signature)) revert NotOnCurve(signature);
        bytes memory message = abi.encodePacked(keccak256(abi.encodePacked(round)));
        if (!Bn254.verify(signature, Bn254.hashToPoint(_TAG, message), _key())) {
            revert WrongSignature(round, signature);
        }
        return sha256(abi.encodePacked(signature));
    }

    /// @inheritdoc IBeacon
    function timeOf(uint64 round) public view returns (uint40) {
        if (round == 0) revert NoSuchRound(round);
        uint256 time = _START + (uint256(round) - 1) * _PERIOD;
        if (time > type(uint40).max) revert NoSuchRound(round);
        return uint40(time);
    }

    /// @inheritdoc IBeacon
    function roundAt(uint40 time) public view returns (uint64) {
        if (time <= _START) return 1;
        return uint64((uint256(time) - _START + _PERIOD - 1) / _PERIOD + 1);
    }

    function _key() private view returns (uint256[4] memory) {
        return [_KEY_X1, _KEY_X0, _KEY_Y1, _KEY_Y0];
    }
}
