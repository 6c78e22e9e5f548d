// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "../Test.sol";
import {Market} from "./Market.sol";

/// @notice An invariant that no handler can threaten holds for nothing: over one long seeded run every handler
/// gets its call through.
contract ReachTest is Test {
    uint256 private constant STEPS = 2_500;

    Market private _market;
    bytes4[] private _selectors;
    uint256 private _state = 7;

    function setUp() external {
        _market = new Market();
        _market.setUp();
    }

    function _next() private returns (uint256) {
        _state = uint256(keccak256(abi.encode(_state)));
        return _state;
    }

    function test_EveryHandlerGetsItsCallThrough() external {
        for (uint256 i; i < STEPS; ++i) {
            _step(_next() % 32);
        }
        _reached("open", Market.open.selector);
        _reached("settle", Market.settle.selector);
        _reached("closeWell", Market.closeWell.selector);
        _reached("closeEarly", Market.closeEarly.selector);
        _reached("notice", Market.notice.selector);
        _reached("answer", Market.answer.selector);
        _reached("requestClose", Market.requestClose.selector);
        _reached("challenge", Market.challenge.selector);
        _reached("dispute", Market.dispute.selector);
        _reached("acknowledge", Market.acknowledge.selector);
        _reached("defaulted", Market.defaulted.selector);
        _reached("resolve", Market.resolve.selector);
        _reached("exit", Market.exit.selector);
        _reached("stake", Market.stake.selector);
        _reached("slash", Market.slash.selector);
        _reached("burn", Market.burn.selector);
        _market.leave();
    }

    function _reached(string memory name, bytes4 selector) private view {
        _log(name, _market.done(selector));
        vm.assertGt(_market.done(selector), 0, name);
    }

    function _step(uint256 kind) private {
        (uint256 a, uint256 b, uint256 c) = (_next(), _next(), _next());
        bool flag = c % 5 == 0;
        if (kind < 8) _market.open(a, uint96(b), uint32(c), uint128(a >> 100));
        else if (kind < 13) _market.settle(a, uint96(b), uint40(c), flag);
        else if (kind < 14) _market.closeWell(a, uint96(b), flag, c % 7 == 0);
        else if (kind < 15) _market.closeEarly(a, uint96(b), flag);
        else if (kind < 17) _market.notice(a, flag);
        else if (kind < 18) _market.answer(a);
        else if (kind < 19) _market.requestClose(a, flag);
        else if (kind < 21) _market.challenge(a);
        else if (kind < 22) _market.dispute(a, uint96(b));
        else if (kind < 23) _market.acknowledge(a, uint96(b % 1e9), uint40(c));
        else if (kind < 24) _market.defaulted(a);
        else if (kind < 25) _market.resolve(a, uint8(b), uint96(c), flag);
        else if (kind < 28) _market.exit(a, uint8(b));
        else if (kind < 30) _market.pass(uint32(b % 200));
        else _housekeeping(a % 6, b, c);
    }

    function _housekeeping(uint256 kind, uint256 a, uint256 b) private {
        if (kind == 0) _market.stake(a, uint96(b));
        else if (kind == 1) _market.slash(a, uint96(b % 1e5), true);
        else if (kind == 2) _market.move(a, uint96(b), a % 2 == 0);
        else if (kind == 3) _market.burn();
        else if (kind == 4) _market.reopen(a);
        else _market.donate(uint96(b));
    }
}
