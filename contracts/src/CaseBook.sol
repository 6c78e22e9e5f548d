// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {CourtBook} from "./CourtBook.sol";
import {ICases} from "./interfaces/ICases.sol";
import {ICourtBook} from "./interfaces/ICourtBook.sol";
import {IRegistry} from "./interfaces/IRegistry.sol";
import {Case, Census, Finding, Stage} from "./types/Case.sol";
import {CourtParameters, Setup} from "./types/CourtParameters.sol";

/// @title How a case ends
/// @notice What {Cases} and {Verdicts} share: convictions, decisions, and who looked down at once.
/// @dev Code that runs as {Court}, on its storage.
abstract contract CaseBook is CourtBook {
    constructor() EIP712("Tradewind Court", "1") {}

    /// @dev Runs as {Court}, which knows.
    function _setup() internal view override returns (Setup memory) {
        return ICourtBook(address(this)).setup();
    }

    /// @dev The committee found against the device: it opens no lease and its stake stays, both for a while.
    function _convict(Setup memory s, bytes32 id, Case storage it, CourtParameters memory p) internal {
        it.stage = Stage.Convicted;
        it.convictedAt = uint40(block.timestamp);
        bytes32 device = it.device;
        uint256 step = Math.min(_convictions[device].count++, p.jail.length - 1);
        ++_convictions[device].pending;
        uint40 until = uint40(block.timestamp + p.jail[step]);
        IRegistry(s.registry).jail(device, until);
        IRegistry(s.registry).freezeStake(device, uint40(block.timestamp + p.freezeSpan));
        emit ICases.Convicted(id, device, until);
        _fall(s, it.epoch, device);
        if (it.seats < p.fullSeats) _decide(s, id, it, Finding.Guilty);
    }

    /// @dev For good. Whoever was convicted and is not guilty after all goes free.
    function _decide(Setup memory s, bytes32 id, Case storage it, Finding outcome) internal {
        it.stage = Stage.Decided;
        it.outcome = outcome;
        it.decidedAt = uint40(block.timestamp);
        if (it.convictedAt != 0) _settleFreeze(s, it, outcome);
        uint256 bit = 1 << (it.epoch & 0xff);
        if (outcome == Finding.Guilty) {
            _guiltyEpochs[it.device][it.epoch >> 8] |= bit;
            it.slashDue = it.seats >= _versions[it.version].parameters.fullSeats;
        } else if (outcome == Finding.Clear) {
            _clearEpochs[it.device][it.epoch >> 8] |= bit;
        }
        emit ICases.CaseDecided(id, outcome);
    }

    /// @dev The last conviction to be overturned gives the stake back to what the guilty ones hold it for; one that
    /// leaves others pending leaves their freeze alone.
    function _settleFreeze(Setup memory s, Case storage it, Finding outcome) private {
        Convictions storage its = _convictions[it.device];
        --its.pending;
        if (outcome == Finding.Guilty) {
            uint256 until = uint256(it.convictedAt) + _versions[it.version].parameters.freezeSpan;
            its.frozenUntil = uint40(Math.max(its.frozenUntil, until));
        } else {
            --its.count;
            if (its.pending == 0) IRegistry(s.registry).freezeStake(it.device, its.frozenUntil);
        }
    }

    /// @dev The seat at a place of a list of numbers, 16 a word.
    function _seatIn(Case storage it, uint256 number) internal view returns (uint32) {
        return _seatAt(it.epoch, number);
    }

    function _numberAt(uint256 word, uint256 position) internal pure returns (uint256) {
        return (word >> (16 * (position & 15))) & 0xffff;
    }

    function _fall(Setup memory s, uint64 epoch, bytes32 device) private {
        Standing storage its = _standing[epoch][device];
        its.down = true;
        if (its.counted) _countDown(epoch, IRegistry(s.registry).device(device).provider, its.stake);
    }

    function _countDown(uint64 epoch, address owner_, uint96 stake) internal {
        Census storage seen = _census[epoch];
        seen.downStake += stake;
        if (!_owners[epoch][owner_].down) {
            _owners[epoch][owner_].down = true;
            ++seen.downOwners;
        }
    }
}
