// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";

import {Signatures} from "./Signatures.sol";
import {ICourtBook} from "./interfaces/ICourtBook.sol";
import {ISeats} from "./interfaces/ISeats.sol";
import {ITransfers} from "./interfaces/ITransfers.sol";
import {IVault} from "./interfaces/IVault.sol";
import {Auth, FeeAuthorization} from "./types/Authorization.sol";
import {Case, Census} from "./types/Case.sol";
import {CourtParameters, Setup} from "./types/CourtParameters.sol";

/// @title The state of a court
/// @notice What {Court} and {Cases} share: all storage, which only the former owns; who sits; whose money is whose.
/// @dev {Cases} runs in the storage of {Court}. Neither adds a variable after this contract that the other one would
/// have to know. The court's money is its balance in the vault: what is not somebody's stake or bond is not there.
abstract contract CourtBook is Signatures {
    using Checkpoints for Checkpoints.Trace208;

    /// @dev `place` is the seat's in the latest roster.
    struct Seat {
        address owner;
        uint40 withdrawableAt;
        uint32 place;
        uint8 strikes;
        address key;
        uint96 stake;
    }

    /// @dev In one epoch's census. A device's stake is what it was when it was counted; an owner's is not used.
    struct Standing {
        bool counted;
        bool down;
        uint96 stake;
    }

    /// @dev `count` is the step of the next jail, `pending` how many of its cases may still be appealed or overturned.
    /// The freezes of those that ended Guilty last until `frozenUntil`, whatever becomes of the others.
    struct Convictions {
        uint32 count;
        uint32 pending;
        uint40 frozenUntil;
    }

    /// @dev `award` includes `bonus`, which a pair with another failure in the last `repeatWindow` does not get.
    struct Harm {
        bytes32 caseId;
        bytes32 pair;
        uint96 award;
        uint96 bonus;
        uint32 repeatWindow;
    }

    struct Version {
        CourtParameters parameters;
        uint40 usableAt;
    }

    /// @dev The latest version, which may still wait, and the shares of it and of the one before: all that a proof
    /// reads of the parameters, in one word.
    struct Latest {
        uint32 version;
        uint40 usableAt;
        uint16 elementFirstBps;
        uint16 elementAgainBps;
        uint16 equivocationBps;
        uint16 elementFirstBpsBefore;
        uint16 elementAgainBpsBefore;
        uint16 equivocationBpsBefore;
    }

    bytes32 internal constant VOTE_TYPEHASH =
        keccak256("Vote(bytes32 caseId,uint8 instance,uint8 finding,bytes32 transcript)");

    /// @dev A roster bounds the work of a draw.
    uint256 internal constant MAX_SEATS = 4_096;
    uint256 internal constant WHOLE = 10_000;
    /// @dev What joins or leaves in an epoch does so in the roster this many epochs later.
    uint64 internal constant FREEZE_EPOCHS = 2;
    /// @dev A reporter gets at most one part in this many of what it had slashed.
    uint256 internal constant REWARD_PARTS = 10;

    mapping(uint32 version => Version) internal _versions;
    Latest internal _latest;
    uint32 internal _seatsEver;
    mapping(uint32 id => Seat) internal _seats;
    mapping(address key => uint32 id) internal _seatOf;
    /// @dev By the epoch from which it holds.
    Checkpoints.Trace208 internal _rosterSize;
    mapping(uint256 place => Checkpoints.Trace208) internal _roster;
    /// @dev The block in which it was announced.
    mapping(bytes32 commitment => uint256) internal _announced;
    mapping(bytes32 evidence => bool) internal _proved;
    mapping(bytes32 id => Case) internal _cases;
    mapping(bytes32 id => mapping(uint256 position => bytes32)) internal _commitments;
    mapping(bytes32 lease => Harm) internal _joined;
    mapping(bytes32 device => Convictions) internal _convictions;
    /// @dev One bit an epoch.
    mapping(bytes32 device => mapping(uint256 word => uint256)) internal _guiltyEpochs;
    mapping(bytes32 device => mapping(uint256 word => uint256)) internal _clearEpochs;
    mapping(uint64 epoch => Census) internal _census;
    mapping(uint64 epoch => mapping(bytes32 device => Standing)) internal _standing;
    mapping(uint64 epoch => mapping(address owner => Standing)) internal _owners;

    function _setup() internal view virtual returns (Setup memory);

    /// @dev Runs the same call with other code, and returns or reverts as it does.
    function _delegate(address code) internal {
        assembly ("memory-safe") {
            let ptr := mload(0x40)
            calldatacopy(ptr, 0, calldatasize())
            let done := delegatecall(gas(), code, ptr, calldatasize(), 0, 0)
            returndatacopy(ptr, 0, returndatasize())
            if iszero(done) { revert(ptr, returndatasize()) }
            return(ptr, returndatasize())
        }
    }

    // --- time -------------------------------------------------------------------------------------------------

    function _epochAt(Setup memory s, uint256 time) internal pure returns (uint64) {
        if (time < s.genesis) revert ICourtBook.EpochUnknown(0);
        return uint64((time - s.genesis) / s.epochSpan);
    }

    function _epochStart(Setup memory s, uint64 epoch) internal pure returns (uint40) {
        uint256 start = s.genesis + uint256(epoch) * s.epochSpan;
        if (start > type(uint40).max) revert ICourtBook.EpochUnknown(epoch);
        return uint40(start);
    }

    function _caseId(bytes32 device, uint64 epoch) internal view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), device, epoch));
    }

    // --- parameters -------------------------------------------------------------------------------------------

    /// @dev At most one version waits, so it is the latest or the one before.
    function _usableVersion() internal view returns (uint32 version) {
        version = _latest.version;
        if (block.timestamp < _latest.usableAt) --version;
    }

    // --- reports ----------------------------------------------------------------------------------------------

    /// @dev The commitment was made in an earlier block, and counts once.
    function _redeem(bytes32 commitment) internal {
        uint256 announcedIn = _announced[commitment];
        if (announcedIn == 0 || announcedIn >= block.number) revert ICourtBook.NotAnnounced(commitment);
        _announced[commitment] = type(uint256).max;
    }

    // --- roster -----------------------------------------------------------------------------------------------

    function _seatCount(uint64 epoch) internal view returns (uint256) {
        return _rosterSize.upperLookupRecent(uint48(epoch));
    }

    function _seatAt(uint64 epoch, uint256 place) internal view returns (uint32) {
        return uint32(_roster[place].upperLookupRecent(uint48(epoch)));
    }

    /// @dev The last seat of the roster takes the place of the one that leaves. Its stake waits from now on.
    function _leave(Setup memory s, uint32 id) internal {
        Seat storage it = _seats[id];
        uint48 from = uint48(_epochAt(s, block.timestamp) + FREEZE_EPOCHS);
        uint208 last = _rosterSize.latest() - 1;
        uint32 place = it.place;
        if (place != last) {
            uint32 moved = uint32(_roster[last].latest());
            _roster[place].push(from, moved);
            _seats[moved].place = place;
        }
        _rosterSize.push(from, last);
        it.withdrawableAt = uint40(block.timestamp + s.seatUnbonding);
        emit ISeats.SeatLeft(id, from, it.withdrawableAt);
    }

    /// @dev Takes a seat's whole stake: a tenth to the reporter, the rest to the sink.
    function _slashSeat(Setup memory s, uint32 id, address reporter) internal {
        Seat storage it = _seats[id];
        uint96 amount = it.stake;
        it.stake = 0;
        if (it.withdrawableAt == 0) _leave(s, id);
        uint96 reward = reporter == address(0) ? 0 : uint96(amount / REWARD_PARTS);
        if (reward != 0) ITransfers(s.leases).transfer(s.stakeToken, reporter, reward);
        ITransfers(s.leases).forfeit(s.stakeToken, amount - reward);
        emit ISeats.SeatSlashed(id, amount, reporter, reward, amount - reward);
    }

    // --- votes ------------------------------------------------------------------------------------------------

    function _hashVote(bytes32 id, uint8 instance, uint8 finding, bytes32 transcript)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(VOTE_TYPEHASH, id, instance, finding, transcript));
    }

    // --- money ------------------------------------------------------------------------------------------------

    /// @dev Moves `amount` of an account's balance in the vault into the court's, with the account's consent to
    /// `action`: it calls itself and allowed the court that much, or it signed a fee to the court that names the action.
    function _collect(
        Setup memory s,
        address token,
        address account,
        uint256 amount,
        bytes32 action,
        Auth calldata auth
    ) internal {
        if (msg.sender == account && auth.signature.length == 0) {
            ITransfers(s.leases).takeFrom(token, account, amount);
            return;
        }
        FeeAuthorization memory fee = FeeAuthorization({
            payer: account,
            relayer: address(this),
            token: token,
            amount: SafeCast.toUint96(amount),
            calls: keccak256(abi.encode(address(this), action)),
            nonce: auth.nonce,
            deadline: auth.deadline
        });
        IVault(s.leases).payFee(fee, auth.signature);
    }

    function _pay(Setup memory s, address token, address to, uint256 amount) internal {
        if (amount != 0) ITransfers(s.leases).transfer(token, to, amount);
    }
}
