// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Case, Stage} from "../../src/types/Case.sol";
import {ITradewind, ITradewindRegistry} from "../Base.sol";
import {ITradewindCourt} from "../CourtBase.sol";
import {LeaseView} from "../../src/interfaces/IRemedies.sol";
import {State} from "../../src/types/LeaseWord.sol";
import {LeaseTerms} from "../../src/types/Terms.sol";
import {Test} from "../Test.sol";
import {Tenancy} from "./Tenancy.sol";
import {Trial} from "./Trial.sol";

/// @notice The numbers are those of README.md in this folder.
contract TrialInvariants is Test {
    Trial private _trial;
    ITradewind private _leases;
    ITradewindRegistry private _registry;
    ITradewindCourt private _court;
    address private _usd;
    address private _twd;

    function setUp() external {
        _trial = new Trial();
        _trial.setUp();
        (address leases, address registry, address court, address usd, address twd) = _trial.parts();
        (_leases, _registry, _court) =
        (ITradewind(leases), ITradewindRegistry(registry), ITradewindCourt(court));
        (_usd, _twd) = (usd, twd);
        bytes4[32] memory all = [
            Trial.join.selector,
            Trial.leave.selector,
            Trial.withdraw.selector,
            Trial.open.selector,
            Trial.appeal.selector,
            Trial.voteBench.selector,
            Trial.lapse.selector,
            Trial.execute.selector,
            Trial.close.selector,
            Trial.accuse.selector,
            Trial.cheat.selector,
            Trial.contradict.selector,
            Trial.burn.selector,
            Tenancy.part.selector,
            Tenancy.challenge.selector,
            Tenancy.answer.selector,
            Tenancy.fail.selector,
            Tenancy.exit.selector,
            Tenancy.dispute.selector,
            Tenancy.resolve.selector,
            Tenancy.stake.selector,
            Tenancy.unbond.selector,
            // What happens most.
            Trial.draw.selector,
            Trial.draw.selector,
            Trial.draw.selector,
            Trial.vote.selector,
            Trial.vote.selector,
            Trial.pass.selector,
            Trial.pass.selector,
            Tenancy.rent.selector,
            Tenancy.settle.selector,
            Tenancy.exit.selector
        ];
        bytes4[] memory selectors = new bytes4[](all.length);
        for (uint256 i; i < all.length; ++i) {
            selectors[i] = all[i];
        }
        _target(address(_trial), selectors);
    }

    /// @notice One campaign checks them all after every call.
    function invariant_TheCourtHolds() external view {
        _seatsAddUp();
        _bondsAddUp();
        _stakesAddUp();
        _heldIsAccountedFor();
        _unitsAreThoseOfLiveLeases();
    }

    /// @dev 1, over leases and trust together, to the unit: nothing comes from nowhere, so that no set of accounts gains
    /// what another does not lose (18).
    function _heldIsAccountedFor() private view {
        vm.assertEq(IERC20(_usd).balanceOf(address(_leases)), _balances(_usd) + _trial.locked(), "1: tUSD");
        vm.assertEq(IERC20(_twd).balanceOf(address(_leases)), _balances(_twd), "1: TWD");
    }

    /// @dev Pools, stakes and everyone's balance, the court's among them.
    function _balances(address token) private view returns (uint256 sum) {
        (uint256 sink, uint256 watchers,,) = _leases.pools(token);
        sum = sink + watchers + _leases.staked(token) + _leases.balanceOf(token, address(_court));
        address[] memory all = _trial.everyone();
        for (uint256 i; i < all.length; ++i) {
            sum += _leases.balanceOf(token, all[i]);
        }
    }

    /// @dev 9, and 7 on the way: compensation stays within its cap.
    function _unitsAreThoseOfLiveLeases() private view {
        uint64[2] memory busy;
        for (uint256 i; i < _trial.tenancies(); ++i) {
            LeaseTerms memory terms = _trial.tenancy(i);
            LeaseView memory it = _leases.lease(_leases.leaseId(terms));
            vm.assertLe(it.compensated, terms.compensationCap, "7: compensation");
            vm.assertLe(it.paid, terms.deposit, "2: paid");
            if (it.state >= State.Settled) continue;
            uint256 which = terms.device == _trial.devices(0) ? 0 : 1;
            vm.assertEq(busy[which] & terms.units, 0, "9: disjoint");
            busy[which] |= terms.units;
        }
        for (uint256 d; d < 2; ++d) {
            vm.assertEq(_registry.device(_trial.devices(d)).busyUnits, busy[d], "9: the union");
        }
    }

    /// @dev 1: what the court holds of the stake token is the seats', one by one.
    function _seatsAddUp() private view {
        uint256 sum;
        for (uint32 i = 1; i <= _trial.joined(); ++i) {
            sum += _court.seat(i).stake;
        }
        vm.assertEq(_leases.balanceOf(_twd, address(_court)), sum, "1: seats");
    }

    /// @dev 1: and of the fee token the bonds and prepayments of cases that are not closed.
    function _bondsAddUp() private view {
        bytes32[] memory ids = _trial.ids();
        uint256 sum;
        for (uint256 i; i < ids.length; ++i) {
            Case memory it = _court.caseOf(ids[i]);
            if (it.stage != Stage.Closed) sum += uint256(it.bond) + it.prepaid + it.appealPrepaid;
        }
        vm.assertEq(_leases.balanceOf(_usd, address(_court)), sum, "1: bonds");
    }

    /// @dev 15 and 16: what is at stake is what the devices say.
    function _stakesAddUp() private view {
        uint256 sum = _registry.device(_trial.devices(0)).stake + _registry.device(_trial.devices(1)).stake;
        vm.assertEq(_leases.staked(_twd), sum, "16: at stake");
    }
}
