// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {CaseBook} from "./CaseBook.sol";
import {IBeacon} from "./interfaces/IBeacon.sol";
import {ICases} from "./interfaces/ICases.sol";
import {ICourtBook} from "./interfaces/ICourtBook.sol";
import {IRegistry} from "./interfaces/IRegistry.sol";
import {Draw} from "./libraries/Draw.sol";
import {Auth} from "./types/Authorization.sol";
import {Ballot, Case, Finding, Stage} from "./types/Case.sol";
import {CourtParameters, Setup} from "./types/CourtParameters.sol";

/// @title Cases
/// @notice The code behind {ICases}. {Court} delegates to it whatever it does not know itself, and it in turn to
/// {Verdicts}, so that both act on the court's storage; called directly they find no court and hold nothing.
contract Cases is ICases, CaseBook {
    bytes32 internal constant OPEN_CASE_TYPEHASH =
        keccak256("OpenCase(address opener,bytes32 device,uint64 epoch,uint96 claim,bytes32 salt)");
    bytes32 internal constant COMMITMENT_TYPEHASH =
        keccak256("Commitment(bytes32 caseId,bytes32 commitment)");
    bytes32 internal constant APPEAL_TYPEHASH = keccak256("Appeal(bytes32 caseId,address appellant)");

    uint8 private constant COMMITTEE = 1;
    uint8 private constant BENCH = 2;

    address private immutable _VERDICTS;

    /// @param verdicts_ The code of {Verdicts}, for good.
    constructor(address verdicts_) {
        if (verdicts_.code.length == 0) revert ICourtBook.InvalidSetup();
        _VERDICTS = verdicts_;
    }

    /// @dev See {IVerdicts} and {ICourt}.
    fallback() external {
        _delegate(_VERDICTS);
    }

    /// @inheritdoc ICases
    function openCase(
        address opener,
        bytes32 device,
        uint64 epoch,
        uint96 claim,
        bytes32 salt,
        Auth calldata auth
    ) external returns (bytes32 id) {
        Setup memory s = _setup();
        id = _caseId(device, epoch);
        if (_cases[id].stage != Stage.None) revert CaseExists(id);
        if (IRegistry(s.registry).device(device).provider == address(0)) {
            revert IRegistry.UnknownDevice(device);
        }
        uint32 version = _usableVersion();
        CourtParameters memory p = _versions[version].parameters;
        uint64 current = _epochAt(s, block.timestamp);
        if (epoch > current || current - epoch > p.admissible) revert NotAdmissible(epoch, current);
        uint256 seats = _seatCount(epoch);
        if (seats < p.jailSeats) revert TooFewSeats(seats, p.jailSeats);
        _redeem(keccak256(abi.encode(opener, device, epoch, salt)));

        Case storage it = _cases[id];
        (it.opener, it.openedAt, it.version) = (opener, uint40(block.timestamp), version);
        (it.stage, it.seats, it.device) = (Stage.Opened, uint16(seats), device);
        (it.epoch, it.claim) = (epoch, claim);
        it.bond = uint96(Math.max(p.minBond, Math.ceilDiv(uint256(claim) * p.bondBps, WHOLE)));
        it.prepaid = p.committee * p.transcriptFee;
        bytes32 action = keccak256(abi.encode(OPEN_CASE_TYPEHASH, opener, device, epoch, claim, salt));
        _collect(s, s.feeToken, opener, uint256(it.bond) + it.prepaid, action, auth);
        emit CaseOpened(id, device, epoch, opener, it.bond);
    }

    /// @inheritdoc ICases
    function drawPanel(bytes32 id) external {
        (Case storage it, CourtParameters memory p) = _at(id, Stage.Opened);
        _notAfter(uint256(it.openedAt) + p.commitWindow);
        uint256[] memory drawn =
            Draw.pick(_lots(it.openedAt + 1), id, Draw.PANEL, it.seats, Math.min(p.panel, it.seats));
        for (uint256 i; i < drawn.length; ++i) {
            it.panel[i >> 4] |= drawn[i] << (16 * (i & 15));
        }
        it.stage = Stage.Panel;
        emit PanelDrawn(id, drawn);
    }

    /// @inheritdoc ICases
    function commitFinding(bytes32 id, uint256 position, bytes32 commitment, bytes calldata signature)
        external
    {
        (Case storage it, CourtParameters memory p) = _at(id, Stage.Panel);
        _notAfter(uint256(it.openedAt) + p.commitWindow);
        if (position >= Math.min(p.panel, it.seats)) revert NotDrawn(id, position);
        if ((it.committed >> position) & 1 == 1 || commitment == 0) revert AlreadyCommitted(id, position);
        uint32 seat = _seatIn(it, _numberAt(it.panel[position >> 4], position));
        if (_seats[seat].stake == 0) revert NotDrawn(id, position);
        address key = _seats[seat].key;
        bytes32 digest = _digest(keccak256(abi.encode(COMMITMENT_TYPEHASH, id, commitment)));
        if (msg.sender != key && !_signedByKey(key, digest, signature)) {
            revert InvalidSignature(key, digest);
        }
        it.committed |= uint64(1 << position);
        _commitments[id][position] = commitment;
        emit FindingCommitted(id, seat, commitment);
    }

    /// @inheritdoc ICases
    function drawCommittee(bytes32 id) external {
        (Case storage it, CourtParameters memory p) = _at(id, Stage.Panel);
        uint40 commitBy = it.openedAt + p.commitWindow;
        if (block.timestamp <= commitBy) revert CaseTooEarly(commitBy + 1, block.timestamp);
        _notAfter(uint256(commitBy) + p.voteWindow);
        uint256[] memory positions = _positions(it.committed);
        if (positions.length < p.committee) revert TooFewCommitted(positions.length, p.committee);
        uint256[] memory drawn =
            Draw.pick(_lots(commitBy + 1), id, Draw.COMMITTEE, positions.length, p.committee);
        for (uint256 i; i < drawn.length; ++i) {
            drawn[i] = positions[drawn[i]];
            it.committee |= uint64(1 << drawn[i]);
        }
        it.voteBy = uint40(block.timestamp + p.voteWindow);
        it.stage = Stage.Voting;
        emit CommitteeDrawn(id, drawn, it.voteBy);
    }

    /// @inheritdoc ICases
    function vote(bytes32 id, Ballot[] calldata ballots) external {
        Case storage it = _cases[id];
        if (it.committee == 0) revert NotDrawn(id, 0);
        _notAfter(it.voteBy);
        for (uint256 i; i < ballots.length; ++i) {
            _hear(id, it, ballots[i]);
        }
        if (it.stage != Stage.Voting) return;
        CourtParameters memory p = _versions[it.version].parameters;
        Setup memory s = _setup();
        if (it.guilty >= p.quorum) _convict(s, id, it, p);
        else if (it.clear >= p.quorum) _decide(s, id, it, Finding.Clear);
    }

    /// @inheritdoc ICases
    function appeal(bytes32 id, address appellant, Auth calldata auth) external {
        (Case storage it, CourtParameters memory p) = _at(id, Stage.Convicted);
        _notAfter(uint256(it.convictedAt) + p.appealWindow);
        it.stage = Stage.Appealing;
        it.appellant = appellant;
        it.appealedAt = uint40(block.timestamp);
        it.appealPrepaid = p.bench * p.transcriptFee;
        Setup memory s = _setup();
        bytes32 action = keccak256(abi.encode(APPEAL_TYPEHASH, id, appellant));
        _collect(s, s.feeToken, appellant, it.appealPrepaid, action, auth);
        emit Appealed(id, appellant);
    }

    /// @inheritdoc ICases
    function drawBench(bytes32 id) external {
        (Case storage it, CourtParameters memory p) = _at(id, Stage.Appealing);
        if (it.benchBy != 0) revert WrongStage(id, it.stage);
        _notAfter(uint256(it.appealedAt) + p.benchWindow);
        uint256[] memory voters = _committeeSorted(it);
        uint256[] memory drawn =
            Draw.pick(_lots(it.appealedAt + 1), id, Draw.BENCH, it.seats - voters.length, p.bench);
        for (uint256 i; i < drawn.length; ++i) {
            // The number among the others becomes one among all: each voter at or below it moves it up.
            for (uint256 j; j < voters.length && voters[j] <= drawn[i]; ++j) {
                ++drawn[i];
            }
            it.bench[i >> 4] |= drawn[i] << (16 * (i & 15));
        }
        it.benchBy = uint40(block.timestamp + p.benchWindow);
        emit BenchDrawn(id, drawn, it.benchBy);
    }

    /// @inheritdoc ICases
    function voteBench(bytes32 id, Ballot[] calldata ballots) external {
        Case storage it = _cases[id];
        if (it.benchBy == 0) revert NotDrawn(id, 0);
        _notAfter(it.benchBy);
        CourtParameters memory p = _versions[it.version].parameters;
        for (uint256 i; i < ballots.length; ++i) {
            Ballot calldata ballot = ballots[i];
            uint256 position = ballot.position;
            if (position >= p.bench) revert NotDrawn(id, position);
            if ((it.heard >> position) & 1 == 1) continue;
            uint32 seat = _seatIn(it, _numberAt(it.bench[position >> 4], position));
            if (!_counts(id, seat, BENCH, ballot)) continue;
            it.heard |= uint32(1 << position);
            if (it.stage != Stage.Appealing) continue;
            if (ballot.finding == uint8(Finding.Guilty)) ++it.benchGuilty;
            else if (ballot.finding == uint8(Finding.Clear)) ++it.benchClear;
        }
        if (it.stage != Stage.Appealing) return;
        Setup memory s = _setup();
        if (it.benchGuilty >= p.benchQuorum) _decide(s, id, it, Finding.Guilty);
        else if (it.benchClear >= p.benchQuorum) _decide(s, id, it, Finding.Clear);
    }

    /// @inheritdoc ICases
    function lapse(bytes32 id) external {
        Case storage it = _cases[id];
        CourtParameters memory p = _versions[it.version].parameters;
        Stage stage = it.stage;
        uint256 until;
        if (stage == Stage.Opened) until = uint256(it.openedAt) + p.commitWindow;
        else if (stage == Stage.Panel) until = uint256(it.openedAt) + p.commitWindow + p.voteWindow;
        else if (stage == Stage.Voting) until = it.voteBy;
        else if (stage == Stage.Convicted) until = uint256(it.convictedAt) + p.appealWindow;
        else if (stage != Stage.Appealing) revert WrongStage(id, stage);
        else until = it.benchBy == 0 ? uint256(it.appealedAt) + p.benchWindow : it.benchBy;
        if (block.timestamp <= until) revert CaseTooEarly(until + 1, block.timestamp);
        _decide(_setup(), id, it, stage == Stage.Convicted ? Finding.Guilty : Finding.Unknown);
    }

    /// @dev A committee's ballot opens its commitment.
    function _hear(bytes32 id, Case storage it, Ballot calldata ballot) private {
        uint256 position = ballot.position;
        if (position > 63 || (it.committee >> position) & 1 == 0) revert NotDrawn(id, position);
        if ((it.revealed >> position) & 1 == 1) return;
        uint256 number = _numberAt(it.panel[position >> 4], position);
        bytes32 opened = keccak256(abi.encode(id, number, ballot.finding, ballot.transcript, ballot.salt));
        if (opened != _commitments[id][position]) revert InvalidBallot(position);
        if (!_counts(id, _seatIn(it, number), COMMITTEE, ballot)) return;
        it.revealed |= uint64(1 << position);
        bool down = ballot.finding == uint8(Finding.Guilty);
        if (down) it.downs |= uint64(1 << position);
        if (it.stage != Stage.Voting) return;
        if (down) ++it.guilty;
        else if (ballot.finding == uint8(Finding.Clear)) ++it.clear;
    }

    /// @dev Checks the signature; a seat that lost its stake has no voice.
    function _counts(bytes32 id, uint32 seat, uint8 instance, Ballot calldata ballot) private returns (bool) {
        uint8 finding = ballot.finding;
        if (finding == 0 || finding > uint8(Finding.Unknown)) revert InvalidBallot(ballot.position);
        address key = _seats[seat].key;
        bytes32 digest = _digest(_hashVote(id, instance, finding, ballot.transcript));
        if (!_signedByKey(key, digest, ballot.signature)) revert InvalidSignature(key, digest);
        if (_seats[seat].stake == 0) return false;
        emit Voted(id, seat, instance, finding);
        return true;
    }

    function _at(bytes32 id, Stage stage) private view returns (Case storage it, CourtParameters memory p) {
        it = _cases[id];
        if (it.stage != stage) revert WrongStage(id, it.stage);
        p = _versions[it.version].parameters;
    }

    function _notAfter(uint256 until) private view {
        if (block.timestamp > until) revert CaseTooLate(until, block.timestamp);
    }

    /// @dev The seed of the first round from `time` on, which nobody knew before.
    function _lots(uint40 time) private view returns (bytes32 seed) {
        seed = IBeacon(_setup().beacon).seedAt(time);
        if (seed == 0) revert LotsUnknown(time);
    }

    /// @dev The set bits, in order.
    function _positions(uint64 mask) private pure returns (uint256[] memory positions) {
        positions = new uint256[](64);
        uint256 found;
        for (uint256 i; i < 64; ++i) {
            if ((mask >> i) & 1 == 1) positions[found++] = i;
        }
        assembly ("memory-safe") {
            mstore(positions, found)
        }
    }

    /// @dev The committee's seat numbers, ascending.
    function _committeeSorted(Case storage it) private view returns (uint256[] memory numbers) {
        numbers = _positions(it.committee);
        for (uint256 i; i < numbers.length; ++i) {
            uint256 number = _numberAt(it.panel[numbers[i] >> 4], numbers[i]);
            uint256 j = i;
            for (; j > 0 && numbers[j - 1] > number; --j) {
                numbers[j] = numbers[j - 1];
            }
            numbers[j] = number;
        }
    }
}
