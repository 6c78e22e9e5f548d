// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Case, Stage} from "../../src/types/Case.sol";
import {ITradewind, ITradewindRegistry} from "../Base.sol";
import {ITradewindCourt} from "../CourtBase.sol";
import {Test} from "../Test.sol";
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
        bytes4[] memory selectors = new bytes4[](16);
        selectors[0] = Trial.join.selector;
        selectors[1] = Trial.leave.selector;
        selectors[2] = Trial.withdraw.selector;
        selectors[3] = Trial.pass.selector;
        selectors[4] = Trial.open.selector;
        selectors[5] = Trial.draw.selector;
        selectors[6] = Trial.draw.selector;
        selectors[7] = Trial.draw.selector;
        selectors[8] = Trial.vote.selector;
        selectors[9] = Trial.vote.selector;
        selectors[10] = Trial.appeal.selector;
        selectors[11] = Trial.voteBench.selector;
        selectors[12] = Trial.lapse.selector;
        selectors[13] = Trial.execute.selector;
        selectors[14] = Trial.close.selector;
        selectors[15] = Trial.pass.selector;
        _target(address(_trial), selectors);
    }

    /// @notice One campaign checks them all after every call.
    function invariant_TheCourtHolds() external view {
        _seatsAddUp();
        _bondsAddUp();
        _stakesAddUp();
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
