// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {ITradewind, ITradewindRegistry} from "../Base.sol";
import {LeaseView} from "../../src/interfaces/IRemedies.sol";
import {State} from "../../src/types/LeaseWord.sol";
import {Parameters} from "../../src/types/Parameters.sol";
import {Test} from "../Test.sol";
import {Market} from "./Market.sol";

/// @notice The numbers are those of README.md in this folder.
contract MarketInvariants is Test {
    Market private _market;
    ITradewind private _leases;
    ITradewindRegistry private _registry;
    address private _usd;
    address private _twd;

    function setUp() external {
        _market = new Market();
        _market.setUp();
        (address leases, address registry, address usd, address twd) = _market.tradewind();
        _leases = ITradewind(leases);
        _registry = ITradewindRegistry(registry);
        (_usd, _twd) = (usd, twd);
        bytes4[] memory selectors = new bytes4[](32);
        bytes4[21] memory once = [
            Market.reopen.selector,
            Market.closeWell.selector,
            Market.closeEarly.selector,
            Market.notice.selector,
            Market.answer.selector,
            Market.requestClose.selector,
            Market.challenge.selector,
            Market.dispute.selector,
            Market.acknowledge.selector,
            Market.defaulted.selector,
            Market.resolve.selector,
            Market.tamper.selector,
            Market.move.selector,
            Market.donate.selector,
            Market.stake.selector,
            Market.unbond.selector,
            Market.slash.selector,
            Market.jail.selector,
            Market.burn.selector,
            Market.pass.selector,
            Market.exit.selector
        ];
        for (uint256 i; i < once.length; ++i) {
            selectors[i] = once[i];
        }
        // What a market does most.
        selectors[21] = Market.open.selector;
        selectors[22] = Market.open.selector;
        selectors[23] = Market.open.selector;
        selectors[24] = Market.settle.selector;
        selectors[25] = Market.settle.selector;
        selectors[26] = Market.exit.selector;
        selectors[27] = Market.exit.selector;
        selectors[28] = Market.pass.selector;
        selectors[29] = Market.settle.selector;
        selectors[30] = Market.settle.selector;
        selectors[31] = Market.settle.selector;
        _target(address(_market), selectors);
    }

    /// @notice One campaign checks them all after every call.
    function invariant_TheMarketHolds() external view {
        _heldIsAccountedFor();
        _paidAndParametersStay();
        _busyUnitsAreThoseOfLiveLeases();
        _stakesAddUp();
        _compensationStaysBelowItsCap();
    }

    /// @dev 1: to the unit, since every coin in here is somebody's or was donated.
    function _heldIsAccountedFor() private view {
        vm.assertEq(IERC20(_usd).balanceOf(address(_leases)), _accounted(_usd) + _market.donated(), "1: tUSD");
        vm.assertEq(IERC20(_twd).balanceOf(address(_leases)), _accounted(_twd), "1: TWD");
    }

    /// @dev 2 and 14.
    function _paidAndParametersStay() private view {
        for (uint256 i; i < _market.ghosts(); ++i) {
            Market.Ghost memory it = _market.ghost(i);
            vm.assertLe(_leases.lease(it.id).paid, it.terms.deposit - it.terms.buyerBreakFee, "2: paid");
            (Parameters memory parameters,) = _leases.parameters(it.terms.version);
            vm.assertEq(keccak256(abi.encode(parameters)), it.parameters, "14: a lease's parameters");
        }
    }

    /// @dev 9.
    function _busyUnitsAreThoseOfLiveLeases() private view {
        for (uint256 d; d < 3; ++d) {
            bytes32 device = _market.devices(d);
            uint64 busy;
            for (uint256 i; i < _market.ghosts(); ++i) {
                Market.Ghost memory it = _market.ghost(i);
                State state = _leases.lease(it.id).state;
                bool live = state > State.None && state < State.Settled;
                if (it.terms.device != device || !live) continue;
                vm.assertEq(busy & it.terms.units, 0, "9: disjoint");
                busy |= it.terms.units;
            }
            vm.assertEq(_registry.device(device).busyUnits, busy, "9: the union");
        }
    }

    /// @dev 15 and 16: what is at stake is what the devices say, one by one.
    function _stakesAddUp() private view {
        uint256 sum = _registry.device(_registry.devicesPage(0, 1)[0].id).stake;
        for (uint256 d; d < 3; ++d) {
            sum += _registry.device(_market.devices(d)).stake;
        }
        vm.assertEq(_leases.staked(_twd), sum, "16: at stake");
    }

    /// @dev 7: at every step, not only at the end.
    function _compensationStaysBelowItsCap() private view {
        for (uint256 i; i < _market.ghosts(); ++i) {
            Market.Ghost memory it = _market.ghost(i);
            vm.assertLe(_leases.lease(it.id).compensated, it.terms.compensationCap, "7: compensation");
        }
    }

    /// @dev 11, 12, 13: at the end of every run everyone leaves, whatever is broken.
    function afterInvariant() external {
        _market.leave();
        vm.assertEq(
            IERC20(_usd).balanceOf(address(_leases)),
            _pooled(_usd) + _market.donated(),
            "13: only the pools and gifts stay"
        );
        vm.assertEq(
            IERC20(_twd).balanceOf(address(_leases)), _pooled(_twd) + _leases.staked(_twd), "13: and stakes"
        );
    }

    function _pooled(address token) private view returns (uint256) {
        (uint256 sink, uint256 watchers,,) = _leases.pools(token);
        return sink + watchers;
    }

    function _accounted(address token) private view returns (uint256 sum) {
        sum = _pooled(token) + _leases.staked(token);
        address[9] memory all = _market.everyone();
        for (uint256 i; i < all.length; ++i) {
            sum += _leases.balanceOf(token, all[i]);
        }
        for (uint256 i; i < _market.ghosts(); ++i) {
            Market.Ghost memory it = _market.ghost(i);
            if (it.terms.token == token) sum += _locked(it);
        }
    }

    /// @dev What a lease holds: of the deposit what nobody was credited with, of the bond what is left, and the bonds
    /// of a pending challenge and an open dispute.
    function _locked(Market.Ghost memory it) private view returns (uint256 sum) {
        LeaseView memory now_ = _leases.lease(it.id);
        if (now_.state == State.Closed) return 0;
        sum = it.terms.bond - now_.compensated + it.disputeBond + it.challengeBond;
        if (now_.state == State.Settled) return sum + (now_.buyerFeeAside ? it.terms.buyerBreakFee : 0);
        uint256 fee = uint256(now_.paid) * 250 / 10_000;
        return sum + it.terms.deposit - (now_.paid - fee);
    }
}
