// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {ICourtBook} from "../../src/interfaces/ICourtBook.sol";
import {ISeats, SeatView} from "../../src/interfaces/ISeats.sol";
import {ISignatures} from "../../src/interfaces/ISignatures.sol";
import {ITransfers} from "../../src/interfaces/ITransfers.sol";
import {Auth} from "../../src/types/Authorization.sol";
import {CourtParameters, Setup} from "../../src/types/CourtParameters.sol";
import {CourtBase} from "../CourtBase.sol";

contract SeatsTest is CourtBase {
    function test_ASeatSitsFromTheEpochAfterNext() external {
        _toEpoch(5);
        _joinSeats(0, 3);
        vm.assertEq(court.seatCount(5), 0, "not in the roster of its epoch");
        vm.assertEq(court.seatCount(6), 0, "nor in the next");
        vm.assertEq(court.seatCount(7), 3, "but in the one after");
        vm.assertEq(court.seatAt(7, 2), 3, "in order");
        vm.assertEq(_stakeOf(address(court)), 3 * SEAT_STAKE, "the stakes are the court's balance");
        SeatView memory seat = court.seat(2);
        vm.assertEq(seat.owner, _seatOwner(1), "its owner");
        vm.assertEq(seat.stake, SEAT_STAKE, "its stake");
        vm.assertEq(court.seatOf(vm.addr(_seatKey(1))), 2, "by key");
        _expect(abi.encodeWithSelector(ISeats.NoSuchPlace.selector, 7, 3, 3));
        court.seatAt(7, 3);
    }

    function test_RevertWhen_TheKeyDoesNotAgreeOrIsTaken() external {
        _joinSeats(0, 1);
        address key = vm.addr(_seatKey(0));
        bytes memory signature = _signCourt(_seatKey(0), _joinAction(buyer, key));
        vm.startPrank(buyer);
        leases.allow(address(court), address(twd), SEAT_STAKE);
        _expect(abi.encodeWithSelector(ISeats.KeyTaken.selector, key, 1));
        court.joinSeat(buyer, key, signature, _direct());
        address other = vm.addr(_seatKey(1));
        _expect(abi.encodeWithSelector(ISeats.InvalidKey.selector, other));
        court.joinSeat(buyer, other, signature, _direct());
        vm.stopPrank();
    }

    function test_RevertWhen_NobodyAgreedToPay() external {
        address key = vm.addr(_seatKey(1));
        bytes memory signature = _signCourt(_seatKey(1), _joinAction(buyer, key));
        _expect(
            abi.encodeWithSelector(
                ITransfers.InsufficientAllowance.selector, address(twd), buyer, address(court), 0, SEAT_STAKE
            )
        );
        vm.prank(buyer);
        court.joinSeat(buyer, key, signature, _direct());
        Auth memory auth = _payment(STRANGER_KEY, address(twd), SEAT_STAKE, _joinAction(buyer, key), 1);
        vm.expectPartialRevert(ISignatures.InvalidSignature.selector);
        court.joinSeat(buyer, key, signature, auth);
    }

    function test_AnyoneSubmitsASignedSeatForThatKeyOnly() external {
        address key = vm.addr(_seatKey(1));
        address other = vm.addr(_seatKey(2));
        Auth memory auth = _payment(BUYER_KEY, address(twd), SEAT_STAKE, _joinAction(buyer, key), 1);
        bytes memory ofOther = _signCourt(_seatKey(2), _joinAction(buyer, other));
        bytes memory ofKey = _signCourt(_seatKey(1), _joinAction(buyer, key));
        vm.expectPartialRevert(ISignatures.InvalidSignature.selector);
        vm.prank(relayer);
        court.joinSeat(buyer, other, ofOther, auth);
        uint256 free = _stakeOf(buyer);
        vm.prank(relayer);
        vm.assertEq(court.joinSeat(buyer, key, ofKey, auth), 1, "the first seat");
        vm.assertEq(_stakeOf(buyer), free - SEAT_STAKE, "staked");
    }

    function test_TheLastSeatTakesThePlaceOfOneThatLeaves() external {
        _toEpoch(1);
        _joinSeats(0, 4);
        _toEpoch(4);
        vm.prank(_seatOwner(1));
        court.leaveSeat(2, _direct());
        vm.assertEq(court.seatCount(5), 4, "frozen rosters keep it");
        vm.assertEq(court.seatAt(5, 1), 2, "where it was");
        vm.assertEq(court.seatCount(6), 3, "gone from the epoch after next");
        vm.assertEq(court.seatAt(6, 1), 4, "the last one moved up");
        vm.prank(_seatOwner(3));
        court.leaveSeat(4, _direct());
        vm.assertEq(court.seatCount(6), 2, "that one leaves too");
        vm.assertEq(court.seatAt(6, 0), 1, "first");
        vm.assertEq(court.seatAt(6, 1), 3, "third moved up");
        vm.assertEq(court.seatAt(3, 3), 4, "history stays");
    }

    function test_AStakeWaitsAndReturnsToItsOwner() external {
        _joinSeats(0, 1);
        address holder = _seatOwner(0);
        _expect(abi.encodeWithSelector(ISeats.SeatBonded.selector, 1, 0));
        court.withdrawSeat(1);
        Auth memory none;
        vm.expectPartialRevert(ISignatures.DeadlinePassed.selector);
        vm.prank(stranger);
        court.leaveSeat(1, none);
        vm.prank(holder);
        court.leaveSeat(1, none);
        uint256 from = START + 14 days;
        _expect(abi.encodeWithSelector(ISeats.SeatLeaving.selector, 1, from));
        vm.prank(holder);
        court.leaveSeat(1, none);
        vm.warp(from - 1);
        _expect(abi.encodeWithSelector(ISeats.SeatBonded.selector, 1, from));
        court.withdrawSeat(1);
        vm.warp(from);
        uint256 free = _stakeOf(holder);
        court.withdrawSeat(1);
        vm.assertEq(_stakeOf(holder), free + SEAT_STAKE, "returned");
        court.withdrawSeat(1);
        vm.assertEq(_stakeOf(holder), free + SEAT_STAKE, "once");
        _expect(abi.encodeWithSelector(ISeats.UnknownSeat.selector, 9));
        court.withdrawSeat(9);
    }

    function test_ASeatLeavesBySignature() external {
        _fund(stranger, 1);
        _join(stranger, _seatKey(0));
        Auth memory auth;
        auth.nonce = 3;
        auth.deadline = uint40(START + 60);
        auth.signature = _signCourt(
            STRANGER_KEY,
            keccak256(
                abi.encode(
                    keccak256("LeaveSeat(uint32 seat,uint256 nonce,uint40 deadline)"), 1, 3, auth.deadline
                )
            )
        );
        vm.prank(relayer);
        court.leaveSeat(1, auth);
        vm.assertEq(court.seat(1).withdrawableAt, START + 14 days, "leaving");
    }

    function test_ACourtThatIsNotTheArbiterIsNotMade() external {
        bytes memory code = _courtCode(address(leases));
        address made;
        assembly ("memory-safe") {
            made := create(0, add(code, 0x20), mload(code))
        }
        vm.assertEq(made, address(0), "another address than the arbiter's");
    }

    function test_AVersionWaitsBeforeItCounts() external {
        CourtParameters memory next = _courtParameters();
        next.minBond = 7;
        _expect(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, stranger));
        vm.prank(stranger);
        court.addCourtVersion(next);
        vm.startPrank(owner);
        court.addCourtVersion(next);
        vm.assertEq(court.usableVersion(), 1, "not yet");
        _expect(abi.encodeWithSelector(ICourtBook.VersionPending.selector, 2, START + 2 days));
        court.addCourtVersion(next);
        vm.warp(START + 2 days);
        vm.assertEq(court.usableVersion(), 2, "now");
        (CourtParameters memory first,) = court.courtParameters(1);
        vm.assertEq(first.minBond, 2_000_000, "the first one stays what it was");
        next.quorum = 5;
        _expect(abi.encodeWithSelector(ICourtBook.InvalidCourtParameters.selector));
        court.addCourtVersion(next);
        vm.stopPrank();
        Setup memory setup = court.setup();
        vm.assertEq(setup.registry, address(registry), "the registry of the leases");
        vm.assertEq(setup.genesis, START, "its own genesis");
    }

    function test_AReportIsAnnouncedOnce() external {
        court.announce(keccak256("x"));
        _expect(abi.encodeWithSelector(ICourtBook.AlreadyAnnounced.selector, keccak256("x")));
        court.announce(keccak256("x"));
    }
}
