// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "../Test.sol";
import {Tenancy} from "./Tenancy.sol";
import {Trial} from "./Trial.sol";

/// @notice Over one long seeded run every handler of the court gets its call through.
contract ReachTrialTest is Test {
    uint256 private constant STEPS = 60;

    Trial private _trial;
    uint256 private _state = 11;

    function setUp() external {
        _trial = new Trial();
        _trial.setUp();
    }

    function _next() private returns (uint256) {
        _state = uint256(keccak256(abi.encode(_state)));
        return _state;
    }

    function test_EveryHandlerOfTheLeasesGetsItsCallThrough() external {
        for (uint256 kind; kind < 6; ++kind) {
            _lease(kind);
        }
        _trial.cheat(0, true);
        _trial.cheat(0, false);
        _trial.contradict(0);
        _trial.burn();
        _trial.unbond(0, false);
        for (uint256 i; i < 13; ++i) {
            _trial.pass(uint32(30 hours << 2));
        }
        _trial.unbond(0, true);
        _reached("rent", Tenancy.rent.selector);
        _reached("settle", Tenancy.settle.selector);
        _reached("part", Tenancy.part.selector);
        _reached("challenge", Tenancy.challenge.selector);
        _reached("answer", Tenancy.answer.selector);
        _reached("fail", Tenancy.fail.selector);
        _reached("exit", Tenancy.exit.selector);
        _reached("dispute", Tenancy.dispute.selector);
        _reached("resolve", Tenancy.resolve.selector);
        _reached("stake", Tenancy.stake.selector);
        _reached("unbond", Tenancy.unbond.selector);
        _reached("accuse", Trial.accuse.selector);
        _reached("cheat", Trial.cheat.selector);
        _reached("contradict", Trial.contradict.selector);
        _reached("burn", Trial.burn.selector);
    }

    /// @dev A lease of the first device from its opening to its end, by one of the ways there are.
    function _lease(uint256 kind) private {
        _trial.rent(kind << 8, 4 hours);
        uint256 last = (_trial.tenancies() - 1) << 2;
        _trial.settle(last, 60_001);
        if (kind == 0) _trial.part(last, 70_000, true);
        if (kind == 1 || kind == 2) _trial.challenge(last);
        if (kind == 1) _trial.answer(last);
        if (kind == 2) _trial.fail(last);
        if (kind == 3) _trial.exit(last, 0);
        if (kind == 4) _trial.stake(0, 1_000);
        if (kind == 5) {
            _trial.dispute(last, 1_000);
            _trial.open(0);
            _trial.accuse(1, last);
            _trial.draw(1, type(uint256).max);
            _trial.vote(1, 11);
        }
        _trial.pass(uint32(30 hours << 2));
        if (kind == 3) _trial.exit(last, 1);
        if (kind == 1 || kind == 4) _trial.exit(last, 2);
        if (kind == 5) {
            _trial.lapse(1);
            _trial.resolve(last);
        }
        _trial.pass(uint32(30 hours << 2));
        _trial.exit(last, 3);
    }

    function test_EveryHandlerOfTheCourtGetsItsCallThrough() external {
        for (uint256 i; i < STEPS; ++i) {
            _step(_next() % 8);
        }
        _reached("join", Trial.join.selector);
        _reached("leave", Trial.leave.selector);
        _reached("withdraw", Trial.withdraw.selector);
        _reached("open", Trial.open.selector);
        _reached("draw", Trial.draw.selector);
        _reached("vote", Trial.vote.selector);
        _reached("appeal", Trial.appeal.selector);
        _reached("voteBench", Trial.voteBench.selector);
        _reached("lapse", Trial.lapse.selector);
        _reached("execute", Trial.execute.selector);
        _reached("close", Trial.close.selector);
    }

    function _reached(string memory name, bytes4 selector) private view {
        _log(name, _trial.done(selector));
        vm.assertGt(_trial.done(selector), 0, name);
    }

    /// @dev One case from its opening to its end, by one of the ways there are; the handlers pick the last one at 1.
    function _step(uint256 kind) private {
        uint256 a = _next();
        if (kind == 0) _trial.join();
        if (kind == 1) _trial.leave(a);
        _trial.open(a);
        _trial.draw(1, a | 3);
        _trial.vote(1, kind == 2 ? 7 : 11);
        if (kind % 2 == 0) {
            _trial.appeal(1);
            _trial.draw(1, a);
            _trial.voteBench(1, kind == 4 ? 14 : 21, uint8(a >> 8));
        }
        // Thirty hours or five minutes.
        _trial.pass(uint32(30 hours << 2));
        _trial.lapse(1);
        _trial.execute(1);
        _trial.close(1);
        if (kind == 3) {
            for (uint256 i; i < 12; ++i) {
                _trial.pass(uint32(30 hours << 2));
            }
            _trial.withdraw(a);
        }
    }
}
