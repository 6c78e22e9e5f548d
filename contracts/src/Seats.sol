// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";

import {CourtBook} from "./CourtBook.sol";
import {ISeats, SeatView} from "./interfaces/ISeats.sol";
import {Auth} from "./types/Authorization.sol";
import {Setup} from "./types/CourtParameters.sol";

/// @title Seats of watchers
/// @notice See {ISeats}.
abstract contract Seats is ISeats, CourtBook {
    using Checkpoints for Checkpoints.Trace208;

    bytes32 internal constant JOIN_SEAT_TYPEHASH = keccak256("JoinSeat(address owner,address key)");
    bytes32 internal constant LEAVE_SEAT_TYPEHASH =
        keccak256("LeaveSeat(uint32 seat,uint256 nonce,uint40 deadline)");

    /// @inheritdoc ISeats
    function joinSeat(address owner_, address key, bytes calldata keySignature, Auth calldata auth)
        external
        returns (uint32 id)
    {
        if (owner_ == address(0)) revert InvalidKey(owner_);
        if (_seatOf[key] != 0) revert KeyTaken(key, _seatOf[key]);
        bytes32 action = keccak256(abi.encode(JOIN_SEAT_TYPEHASH, owner_, key));
        if (!_signedByKey(key, _digest(action), keySignature)) revert InvalidKey(key);
        Setup memory s = _setup();
        uint208 place = _rosterSize.latest();
        if (place >= MAX_SEATS) revert TooManySeats(MAX_SEATS);
        _collect(s, s.stakeToken, owner_, s.seatStake, action, auth);

        id = ++_seatsEver;
        _seats[id] = Seat({
            owner: owner_, withdrawableAt: 0, place: uint32(place), strikes: 0, key: key, stake: s.seatStake
        });
        _seatOf[key] = id;
        uint64 from = _epochAt(s, block.timestamp) + FREEZE_EPOCHS;
        _roster[place].push(uint48(from), id);
        _rosterSize.push(uint48(from), place + 1);
        emit SeatJoined(id, owner_, key, from);
    }

    /// @inheritdoc ISeats
    function leaveSeat(uint32 id, Auth calldata auth) external {
        Seat storage it = _known(id);
        _authorizeOnce(
            it.owner, keccak256(abi.encode(LEAVE_SEAT_TYPEHASH, id, auth.nonce, auth.deadline)), auth
        );
        if (it.withdrawableAt != 0) revert SeatLeaving(id, it.withdrawableAt);
        _leave(_setup(), id);
    }

    /// @inheritdoc ISeats
    function withdrawSeat(uint32 id) external {
        Seat storage it = _known(id);
        if (it.withdrawableAt == 0 || block.timestamp < it.withdrawableAt) {
            revert SeatBonded(id, it.withdrawableAt);
        }
        uint96 amount = it.stake;
        it.stake = 0;
        Setup memory s = _setup();
        _pay(s, s.stakeToken, it.owner, amount);
        emit SeatWithdrawn(id, it.owner, amount);
    }

    /// @inheritdoc ISeats
    function seat(uint32 id) external view returns (SeatView memory) {
        Seat storage it = _seats[id];
        return SeatView(it.owner, it.key, it.stake, it.withdrawableAt, it.strikes);
    }

    /// @inheritdoc ISeats
    function seatOf(address key) external view returns (uint32) {
        return _seatOf[key];
    }

    /// @inheritdoc ISeats
    function seatCount(uint64 epoch) external view returns (uint256) {
        return _seatCount(epoch);
    }

    /// @inheritdoc ISeats
    function seatAt(uint64 epoch, uint256 number) external view returns (uint32) {
        uint256 count = _seatCount(epoch);
        if (number >= count) revert NoSuchPlace(epoch, number, count);
        return _seatAt(epoch, number);
    }

    function _known(uint32 id) private view returns (Seat storage it) {
        it = _seats[id];
        if (it.owner == address(0)) revert UnknownSeat(id);
    }
}
