// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ballot, Case, Finding, Stage} from "../src/types/Case.sol";
import {LeaseTerms} from "../src/types/Terms.sol";
import {CourtBase} from "./CourtBase.sol";

/// @title Cases from opening to end
/// @notice Seats join in epoch 0 in order, so that a seat's number in the roster is its key's. Cases are of epoch 3.
abstract contract CaseBase is CourtBase {
    uint64 internal constant TRIED = 3;
    uint8 internal constant GUILTY = 1;
    uint8 internal constant CLEAR = 2;
    uint8 internal constant UNKNOWN = 3;
    uint96 internal constant BOND = 2_000_000;
    /// @dev Of a device.
    uint256 internal constant STAKE = 4_000_000;

    address internal opener = address(0x0E4);
    mapping(bytes32 id => mapping(uint256 position => uint8)) private _findings;

    function setUp() public virtual override {
        super.setUp();
        _fund(opener, 1e10);
        vm.startPrank(opener);
        leases.allow(address(court), address(usd), type(uint256).max);
        vm.stopPrank();
        vm.prank(provider);
        leases.allow(address(court), address(usd), type(uint256).max);
    }

    function _seat(uint256 seats) internal {
        _joinSeats(0, seats);
        _toEpoch(TRIED);
    }

    function _dispute(LeaseTerms memory terms, uint96 claim) internal returns (bytes32 lease) {
        lease = leases.leaseId(terms);
        vm.prank(buyer);
        leases.dispute(terms, claim, "evidence", _direct());
    }

    /// @dev A lease of three hours and more on the device, half an hour of it paid.
    function _harmed() internal returns (LeaseTerms memory terms) {
        terms = _harmedTerms();
        _open(terms);
        vm.warp(vm.getBlockTimestamp() + 30 minutes);
        _settle(terms, 1_800_000);
    }

    function _harmedTerms() internal view returns (LeaseTerms memory terms) {
        terms = _terms();
        terms.schedule.start -= 40;
        terms.schedule.end += 3 hours;
        terms.deposit = 20_000_000;
        terms.compensationCap = 8_000_000;
        terms.bond = 9_000_000;
    }

    function _stake(bytes32 device_) internal view returns (uint256) {
        return registry.device(device_).stake;
    }

    // --- the way of a case ------------------------------------------------------------------------------------

    function _openCase(bytes32 device_, uint96 claim) internal returns (bytes32 id) {
        uint64 epoch = _epoch();
        court.announce(keccak256(abi.encode(opener, device_, epoch, bytes32("salt"))));
        vm.roll(vm.getBlockNumber() + 1);
        vm.prank(opener);
        return court.openCase(opener, device_, epoch, claim, "salt", _direct());
    }

    function _drawPanel(bytes32 id) internal {
        _reveal(uint256(court.caseOf(id).openedAt) + 1);
        court.drawPanel(id);
    }

    function _number(uint256 word, uint256 position) internal pure returns (uint256) {
        return (word >> (16 * (position % 16))) & 0xffff;
    }

    function _panelSeat(bytes32 id, uint256 position) internal view returns (uint256) {
        return _number(court.caseOf(id).panel[position / 16], position);
    }

    function _transcript(uint256 position) internal pure returns (bytes32) {
        return keccak256(abi.encode("transcript", position));
    }

    function _commit(bytes32 id, uint256 position, uint8 finding) internal {
        _commitSeat(id, position, finding, vm.addr(_seatKey(_panelSeat(id, position))));
    }

    function _commitSeat(bytes32 id, uint256 position, uint8 finding, address key) internal {
        uint256 number = _panelSeat(id, position);
        bytes32 commitment =
            keccak256(abi.encode(id, number, finding, _transcript(position), bytes32("grain")));
        _findings[id][position] = finding;
        vm.prank(key);
        court.commitFinding(id, position, commitment, "");
    }

    function _commitAll(bytes32 id, uint8 finding) internal {
        uint256 seats = court.caseOf(id).seats;
        for (uint256 i; i < (seats < 33 ? seats : 33); ++i) {
            _commit(id, i, finding);
        }
    }

    function _drawCommittee(bytes32 id) internal {
        uint256 commitBy = uint256(court.caseOf(id).openedAt) + 15 minutes;
        if (vm.getBlockTimestamp() <= commitBy) vm.warp(commitBy + 1);
        _reveal(commitBy + 1);
        court.drawCommittee(id);
    }

    /// @dev The committee's positions, in order.
    function _committee(bytes32 id) internal view returns (uint256[] memory positions) {
        uint64 mask = court.caseOf(id).committee;
        positions = new uint256[](11);
        uint256 found;
        for (uint256 i; i < 64; ++i) {
            if ((mask >> i) & 1 == 1) positions[found++] = i;
        }
        vm.assertEq(found, 11, "eleven");
    }

    function _ballot(bytes32 id, uint256 position) internal view returns (Ballot memory) {
        return Ballot({
            position: uint8(position),
            finding: _findings[id][position],
            transcript: _transcript(position),
            salt: "grain",
            signature: _signVote(
                _keyOf(id, _panelSeat(id, position)), id, 1, _findings[id][position], _transcript(position)
            )
        });
    }

    /// @dev The votes of the committee's members `from` to `to − 1`.
    function _ballots(bytes32 id, uint256 from, uint256 to) internal view returns (Ballot[] memory list) {
        uint256[] memory positions = _committee(id);
        list = new Ballot[](to - from);
        for (uint256 i = from; i < to; ++i) {
            list[i - from] = _ballot(id, positions[i]);
        }
    }

    function _benchBallots(bytes32 id, uint256 count, uint8 finding)
        internal
        view
        returns (Ballot[] memory list)
    {
        Case memory it = court.caseOf(id);
        list = new Ballot[](count);
        for (uint256 i; i < count; ++i) {
            uint256 number = _number(it.bench[i / 16], i);
            bytes memory signature = _signVote(_keyOf(id, number), id, 2, finding, _transcript(i));
            list[i] = Ballot(uint8(i), finding, _transcript(i), 0, signature);
        }
    }

    /// @dev Which key the seat at a place of the case's roster has: seats and keys count alike, seats from 1.
    function _keyOf(bytes32 id, uint256 number) internal view returns (uint256) {
        return court.seatAt(court.caseOf(id).epoch, number) - 1;
    }

    function _signVote(uint256 index, bytes32 id, uint8 instance, uint8 finding, bytes32 transcript)
        internal
        view
        returns (bytes memory)
    {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256("Vote(bytes32 caseId,uint8 instance,uint8 finding,bytes32 transcript)"),
                id,
                instance,
                finding,
                transcript
            )
        );
        return _signCourt(_seatKey(index), structHash);
    }

    /// @dev A case whose whole panel found the same, with the committee drawn.
    function _tryCase(bytes32 device_, uint8 finding) internal returns (bytes32 id) {
        id = _openCase(device_, 0);
        _drawPanel(id);
        _commitAll(id, finding);
        _drawCommittee(id);
    }

    function _convict(bytes32 device_) internal returns (bytes32 id) {
        id = _tryCase(device_, GUILTY);
        court.vote(id, _ballots(id, 0, 11));
    }

    function _appealCase(bytes32 id) internal {
        vm.prank(provider);
        court.appeal(id, provider, _direct());
        _reveal(uint256(court.caseOf(id).appealedAt) + 1);
        court.drawBench(id);
    }

    function _close(bytes32 id) internal {
        Case memory it = court.caseOf(id);
        uint256 from = it.voteBy > it.benchBy ? it.voteBy : it.benchBy;
        if (vm.getBlockTimestamp() <= from) vm.warp(from + 1);
        court.closeCase(id);
    }

    function _assertOutcome(bytes32 id, Finding expected) internal view {
        vm.assertEq(uint256(court.caseOf(id).outcome), uint256(expected), "outcome");
    }

    function _assertStage(bytes32 id, Stage expected) internal view {
        vm.assertEq(uint256(court.caseOf(id).stage), uint256(expected), "stage");
    }

    /// @dev What the court holds of the fee token is bonds and prepayments of open cases alone.
    function _assertNothingLeft() internal view {
        vm.assertEq(_free(address(court)), 0, "the court keeps nothing of a closed case");
    }
}
