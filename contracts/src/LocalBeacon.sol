// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IBeacon} from "./interfaces/IBeacon.sol";

/// @title A beacon for development networks
/// @notice Its seeds come from block hashes, which whoever makes the blocks can choose: it is no beacon for money. The
/// first call after a round's time marks a block; a later one, within 256 blocks, stores what that block's
/// hash makes of the round. If all of them come too late the round is marked anew, until it expires and stays unknown.
contract LocalBeacon is IBeacon {
    event RoundMarked(uint64 indexed round, uint256 blockNumber);
    event SeedStored(uint64 indexed round, bytes32 seed);

    /// @notice Deployed without saying that this is a development network.
    error NotForProduction();
    error InvalidSpans(uint32 period, uint32 expiry);
    error RoundNotDue(uint64 round, uint256 dueAt);
    /// @notice Nobody stored the round's seed in time: it stays unknown.
    error RoundExpired(uint64 round, uint256 expiredAt);
    /// @notice The marked block's hash is known from the next block on.
    error SeedNotReady(uint64 round, uint256 blockNumber);

    uint40 private immutable _GENESIS;
    uint32 private immutable _PERIOD;
    uint32 private immutable _EXPIRY;

    mapping(uint64 round => bytes32) private _seeds;
    /// @dev The block whose hash decides.
    mapping(uint64 round => uint256) private _marks;

    /// @param genesis When round 0 is due, in Unix seconds.
    /// @param period Between two rounds, in seconds.
    /// @param expiry How long after its time a round may be marked, in seconds.
    /// @param development The deployer knows that this beacon protects nothing on a public chain.
    constructor(uint40 genesis, uint32 period, uint32 expiry, bool development) {
        if (!development) revert NotForProduction();
        if (period == 0 || expiry == 0) revert InvalidSpans(period, expiry);
        (_GENESIS, _PERIOD, _EXPIRY) = (genesis, period, expiry);
    }

    /// @notice Marks the round's block or, later, stores its seed. By anyone; does nothing to a stored seed.
    function advance(uint64 round) external {
        if (_seeds[round] != 0) return;
        uint256 mark = _marks[round];
        bytes32 hash = mark == 0 ? bytes32(0) : blockhash(mark);
        if (hash != 0) {
            bytes32 stored = keccak256(abi.encode(address(this), round, hash));
            _seeds[round] = stored;
            emit SeedStored(round, stored);
            return;
        }
        if (mark == block.number) revert SeedNotReady(round, mark);
        uint256 dueAt = timeOf(round);
        if (block.timestamp < dueAt) revert RoundNotDue(round, dueAt);
        if (block.timestamp > dueAt + _EXPIRY) revert RoundExpired(round, dueAt + _EXPIRY);
        _marks[round] = block.number;
        emit RoundMarked(round, block.number);
    }

    /// @inheritdoc IBeacon
    function seed(uint64 round) public view returns (bytes32) {
        return _seeds[round];
    }

    /// @inheritdoc IBeacon
    function timeOf(uint64 round) public view returns (uint40) {
        return uint40(_GENESIS + uint256(round) * _PERIOD);
    }

    /// @inheritdoc IBeacon
    function roundAt(uint40 time) public view returns (uint64) {
        if (time <= _GENESIS) return 0;
        return uint64((uint256(time) - _GENESIS + _PERIOD - 1) / _PERIOD);
    }

    /// @inheritdoc IBeacon
    function seedAt(uint40 time) external view returns (bytes32) {
        return _seeds[roundAt(time)];
    }
}
