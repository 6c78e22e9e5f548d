// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Auth} from "../types/Authorization.sol";

/// @notice A watcher's seat.
/// @param owner Gets its fees and, in the end, its stake.
/// @param key Signs its commitments and votes: a plain secp256k1 key, which no other seat ever had.
/// @param stake In base units of the stake token; zero once withdrawn or slashed.
/// @param withdrawableAt When the stake may be withdrawn, or zero while the seat has its place.
/// @param strikes For votes withheld or against the evidence.
struct SeatView {
    address owner;
    address key;
    uint96 stake;
    uint40 withdrawableAt;
    uint8 strikes;
}

/// @title Seats of watchers
/// @notice Each has the same stake and the same weight. Who joins or leaves in an epoch does so in the roster two
/// epochs later, so that a roster is frozen before anybody knows what it will judge, and every epoch's can be read.
interface ISeats {
    event SeatJoined(uint32 indexed seat, address indexed owner, address indexed key, uint64 fromEpoch);
    event SeatLeft(uint32 indexed seat, uint64 fromEpoch, uint40 withdrawableAt);
    event SeatWithdrawn(uint32 indexed seat, address indexed owner, uint96 amount);
    event SeatStruck(uint32 indexed seat, uint8 strikes);
    event SeatSlashed(
        uint32 indexed seat, uint96 amount, address indexed reporter, uint96 reward, uint96 sunk
    );

    error KeyTaken(address key, uint256 seat);
    error InvalidKey(address key);
    error UnknownSeat(uint256 seat);
    error SeatLeaving(uint256 seat, uint256 withdrawableAt);
    error SeatBonded(uint256 seat, uint256 withdrawableAt);
    error TooManySeats(uint256 limit);
    error NoSuchPlace(uint64 epoch, uint256 number, uint256 seats);

    /// @notice Takes a seat, for its stake out of the owner's free balance in the vault. The owner allowed the court
    /// that much there and calls, or signs the vault's `FeeAuthorization` to the court over the stake with `calls` =
    /// keccak256(abi.encode(court, structHash)) of `JoinSeat(address owner,address key)`.
    /// @param keySignature The key's own signature over JoinSeat, in the court's domain.
    function joinSeat(address owner, address key, bytes calldata keySignature, Auth calldata auth)
        external
        returns (uint32 seat);

    /// @notice Gives a seat up. It serves in the rosters already frozen, and its stake stays slashable until withdrawn.
    /// Signed by the owner as `LeaveSeat(uint32 seat,uint256 nonce,uint40 deadline)`.
    function leaveSeat(uint32 seat, Auth calldata auth) external;

    /// @notice Returns the stake of a seat that left to its owner's free balance. By anyone. Reads no parameter.
    function withdrawSeat(uint32 seat) external;

    function seat(uint32 id) external view returns (SeatView memory);
    /// @notice The seat that has or had this key, or zero.
    function seatOf(address key) external view returns (uint32);
    /// @notice How many seats the roster of `epoch` has. Frozen two epochs before.
    function seatCount(uint64 epoch) external view returns (uint256);
    /// @notice The seat at a place of the roster of `epoch`; places count from 0.
    function seatAt(uint64 epoch, uint256 number) external view returns (uint32);
}
