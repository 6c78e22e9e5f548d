// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ballot, Case, Finding, Stage} from "../../src/types/Case.sol";
import {Element, Report, Vote} from "../../src/types/Evidence.sol";
import {LeaseTerms} from "../../src/types/Terms.sol";
import {Tenancy} from "./Tenancy.sol";

/// @title A court that the invariants are checked on
/// @notice Seats come and go, and cases and proofs against two devices take every turn while these are leased. Every
/// handler makes what the fuzzer drew and asserts what holds for that step; what the rules refuse is simply refused.
contract Trial is Tenancy {
    bytes32[] private _ids;
    uint256 public joined;
    uint256 private _salts;

    function setUp() public override {
        super.setUp();
        for (uint256 i; i < 38; ++i) {
            this.join();
        }
        _toEpoch(TRIED);
    }

    function parts() external view returns (address, address, address, address, address) {
        return (address(leases), address(registry), address(court), address(usd), address(twd));
    }

    function ids() external view returns (bytes32[] memory) {
        return _ids;
    }

    /// @dev Whoever has a balance, but for the court.
    function everyone() external view returns (address[] memory all) {
        all = new address[](joined + 5);
        (all[0], all[1], all[2], all[3], all[4]) = (buyer, provider, opener, relayer, stranger);
        for (uint256 i; i < joined; ++i) {
            all[5 + i] = _seatOwner(i);
        }
    }

    function join() external {
        if (joined >= 48) return;
        _joinSeats(joined, joined + 1);
        ++joined;
        ++done[this.join.selector];
    }

    function leave(uint256 pick) external {
        uint256 i = pick % joined;
        vm.prank(_seatOwner(i));
        try court.leaveSeat(uint32(i + 1), _direct()) {
            ++done[this.leave.selector];
        } catch {}
    }

    function withdraw(uint256 pick) external {
        uint256 i = pick % joined;
        uint256 held = court.seat(uint32(i + 1)).stake;
        uint256 free = _stakeOf(_seatOwner(i));
        try court.withdrawSeat(uint32(i + 1)) {
            vm.assertEq(_stakeOf(_seatOwner(i)) - free, held, "a seat's whole stake returns to its owner");
            ++done[this.withdraw.selector];
        } catch {}
    }

    function pass(uint32 span) external {
        vm.warp(vm.getBlockTimestamp() + _bound(span >> 2, 1, span % 4 == 0 ? 30 hours : 5 minutes));
        vm.roll(vm.getBlockNumber() + 1);
    }

    function open(uint256 pick) external altersNoLease {
        bytes32 target = devices[pick % 2];
        uint64 epoch = _epoch();
        bytes32 salt = bytes32(++_salts);
        court.announce(keccak256(abi.encode(opener, target, epoch, salt)));
        vm.roll(vm.getBlockNumber() + 1);
        vm.prank(opener);
        try court.openCase(opener, target, epoch, uint96(pick % 1e9), salt, _direct()) returns (bytes32 id) {
            vm.assertGe(court.caseOf(id).seats, 11, "no case below eleven seats");
            _ids.push(id);
            ++done[this.open.selector];
        } catch {}
    }

    /// @dev Takes one of the last cases one stage on: panel, commitments and committee, or bench.
    function draw(uint256 pick, uint256 findings) external {
        if (_ids.length == 0) return;
        try this.drawNext(_pick(pick), findings) {
            ++done[this.draw.selector];
        } catch {}
    }

    function drawNext(bytes32 id, uint256 findings) external {
        Case memory it = court.caseOf(id);
        uint256 now_ = vm.getBlockTimestamp();
        if (it.stage == Stage.Opened && now_ <= it.openedAt + 5 minutes) {
            _drawPanel(id);
            for (uint256 i; i < 33 && i < it.seats; ++i) {
                if (court.seat(_seatAt(id, i)).stake != 0) _commitAs(id, i, findings);
            }
            if (findings % 4 != 0) _drawCommittee(id);
        } else if (it.stage == Stage.Panel && now_ <= it.openedAt + 20 minutes) {
            _drawCommittee(id);
        } else if (it.stage == Stage.Appealing && it.benchBy == 0 && now_ <= it.appealedAt + 5 minutes) {
            _reveal(uint256(it.appealedAt) + 1);
            court.drawBench(id);
        }
    }

    function _seatAt(bytes32 id, uint256 position) private view returns (uint32) {
        return court.seatAt(court.caseOf(id).epoch, _panelSeat(id, position));
    }

    /// @dev Most agree, as the fuzzer chose for the case.
    function _commitAs(bytes32 id, uint256 position, uint256 findings) private {
        uint8 finding = (findings >> 8) % 4 == 0 ? CLEAR : GUILTY;
        if ((findings >> (16 + position)) % 16 == 0) finding = UNKNOWN;
        _commitSeat(id, position, finding, court.seat(_seatAt(id, position)).key);
    }

    function vote(uint256 pick, uint256 count) external altersNoLease {
        if (_ids.length == 0) return;
        bytes32 id = _pick(pick);
        Case memory it = court.caseOf(id);
        if (it.committee == 0) return;
        uint256 stake = registry.device(it.device).stake;
        try this.castVotes(id, _bound(count, 1, 11)) {
            ++done[this.vote.selector];
        } catch {}
        vm.assertEq(registry.device(it.device).stake, stake, "20: no vote slashes");
    }

    function castVotes(bytes32 id, uint256 count) external {
        court.vote(id, _ballots(id, 0, count));
    }

    function appeal(uint256 pick) external altersNoLease {
        if (_ids.length == 0) return;
        bytes32 id = _pick(pick);
        vm.prank(provider);
        try court.appeal(id, provider, _direct()) {
            ++done[this.appeal.selector];
        } catch {}
    }

    function voteBench(uint256 pick, uint256 count, uint8 finding) external altersNoLease {
        if (_ids.length == 0) return;
        bytes32 id = _pick(pick);
        if (court.caseOf(id).benchBy == 0) return;
        Ballot[] memory list = _benchBallots(id, _bound(count, 1, 21), 1 + finding % 3);
        try court.voteBench(id, list) {
            ++done[this.voteBench.selector];
        } catch {}
    }

    function lapse(uint256 pick) external altersNoLease {
        if (_ids.length == 0) return;
        try court.lapse(_pick(pick)) {
            ++done[this.lapse.selector];
        } catch {}
    }

    function execute(uint256 pick) external altersNoLease {
        if (_ids.length == 0) return;
        bytes32 id = _pick(pick);
        Case memory it = court.caseOf(id);
        bytes32 other = it.device == devices[0] ? devices[1] : devices[0];
        uint256 stakeOfOther = registry.device(other).stake;
        uint256 stake = registry.device(it.device).stake;
        (uint256 sink,,,) = leases.pools(address(twd));
        uint256 reporter = _stakeOf(opener);
        try court.execute(id) {
            (uint256 sunk,,,) = leases.pools(address(twd));
            uint256 took = stake - registry.device(it.device).stake;
            uint256 reward = _stakeOf(opener) - reporter;
            vm.assertEq(uint256(it.outcome), uint256(Finding.Guilty), "only the guilty");
            vm.assertGe(it.seats, 32, "20: not below 32 seats");
            bool heard = it.appealedAt != 0 || it.decidedAt > it.convictedAt + 1 days;
            vm.assertTrue(heard, "20: not before the appeal ended");
            vm.assertEq(took, stake * 500 / 10_000, "5 %");
            vm.assertEq(took, reward + sunk - sink, "17: slashed = reporter + sunk");
            vm.assertLe(reward * 10, took, "17: a tenth at most");
            vm.assertEq(registry.device(other).stake, stakeOfOther, "15: one device's stake");
            ++done[this.execute.selector];
        } catch {}
    }

    function close(uint256 pick) external altersNoLease {
        if (_ids.length == 0) return;
        try court.closeCase(_pick(pick)) {
            ++done[this.close.selector];
        } catch {}
    }

    /// @dev A disputed lease and one of the last cases, of its device or not.
    function accuse(uint256 pick, uint256 which) external altersNoLease {
        if (_ids.length == 0 || this.tenancies() == 0) return;
        LeaseTerms memory terms = _tenancy(which);
        bytes32 id = _pick(pick);
        try court.join(id, terms) {
            vm.assertEq(court.caseOf(id).device, terms.device, "a case of the lease's device");
            ++done[this.accuse.selector];
        } catch {}
    }

    /// @dev The next epoch's product has a wrong element.
    function cheat(uint256 pick, bool reported) external altersNoLease {
        if (pick % 8 != 0) return;
        uint64 epoch = _epoch() + 1;
        _toEpoch(epoch);
        _reveal(vm.getBlockTimestamp());
        Element memory element = _element(256, 1, 5, 6, 1);
        element.epoch = epoch;
        element.product = _signRoots(DEVICE_KEY, device, epoch, 256, element.product.roots);
        Report memory report;
        if (reported) report = _announce(opener, keccak256(abi.encode(device, "element", epoch)));
        uint256 stakeOfOther = registry.device(devices[1]).stake;
        uint256 stake = registry.device(device).stake;
        (uint256 sink,,,) = leases.pools(address(twd));
        uint256 reporter = _stakeOf(opener);
        court.proveElement(element, report);
        (uint256 sunk,,,) = leases.pools(address(twd));
        uint256 took = stake - registry.device(device).stake;
        uint256 reward = _stakeOf(opener) - reporter;
        uint256 bps = done[this.cheat.selector]++ == 0 ? 300 : 5_000;
        vm.assertEq(took, stake * bps / 10_000, "3 %, then half");
        vm.assertEq(took, reward + sunk - sink, "17: slashed = reporter + sunk");
        vm.assertEq(reward, reported ? took / 10 : 0, "17: a tenth to who announced it");
        vm.assertEq(registry.device(devices[1]).stake, stakeOfOther, "15: one device's stake");
    }

    /// @dev A seat says two things: all of its stake, and nobody else's.
    function contradict(uint256 pick) external altersNoLease {
        if (pick % 8 != 0) return;
        uint256 i = (pick >> 3) % joined;
        bytes32 id = keccak256(abi.encode("case", pick));
        uint256 held = court.seat(uint32(i + 1)).stake;
        (uint256 sink,,,) = leases.pools(address(twd));
        uint256 stakes = _stakes();
        Report memory none;
        try court.proveVotes(
            uint32(i + 1),
            Vote(id, 1, GUILTY, 0),
            _signVote(i, id, 1, GUILTY, 0),
            Vote(id, 1, CLEAR, 0),
            _signVote(i, id, 1, CLEAR, 0),
            none
        ) {
            (uint256 sunk,,,) = leases.pools(address(twd));
            vm.assertEq(sunk - sink, held, "17: the whole seat");
            vm.assertEq(_stakes(), stakes, "15: and no device's stake");
            ++done[this.contradict.selector];
        } catch {}
    }

    function burn() external altersNoLease {
        uint256 supply = twd.totalSupply();
        (uint256 sink,,,) = leases.pools(address(twd));
        leases.burnSink(address(twd));
        vm.assertEq(supply, twd.totalSupply() + sink, "17: supply before = after + burned");
        ++done[this.burn.selector];
    }

    function _pick(uint256 pick) private view returns (bytes32) {
        uint256 count = _ids.length;
        uint256 recent = count < 3 ? count : 3;
        return pick % 4 == 0 ? _ids[pick % count] : _ids[count - 1 - (pick >> 2) % recent];
    }
}
