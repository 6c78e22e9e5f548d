// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Auth} from "../types/Authorization.sol";
import {Ballot, Finding, Stage} from "../types/Case.sol";

/// @title Cases
/// @notice One case for a device and an epoch, judged by seats drawn from the roster that was frozen two epochs before
/// it. A panel commits to what it saw, a committee is drawn among those that committed by a later round of the
/// beacon, and a conviction can be appealed to a bench of other seats. Called at the court.
interface ICases {
    event CaseOpened(
        bytes32 indexed caseId, bytes32 indexed device, uint64 indexed epoch, address opener, uint96 bond
    );
    event PanelDrawn(bytes32 indexed caseId, uint256[] seats);
    event FindingCommitted(bytes32 indexed caseId, uint32 indexed seat, bytes32 commitment);
    /// @notice Positions of the panel, in order of drawing.
    event CommitteeDrawn(bytes32 indexed caseId, uint256[] positions, uint40 voteBy);
    event Voted(bytes32 indexed caseId, uint32 indexed seat, uint8 instance, uint8 finding);
    event Convicted(bytes32 indexed caseId, bytes32 indexed device, uint40 jailedUntil);
    event Appealed(bytes32 indexed caseId, address indexed appellant);
    event BenchDrawn(bytes32 indexed caseId, uint256[] seats, uint40 benchBy);
    event CaseDecided(bytes32 indexed caseId, Finding outcome);

    error CaseExists(bytes32 caseId);
    error WrongStage(bytes32 caseId, Stage stage);
    error NotAdmissible(uint64 epoch, uint64 current);
    /// @notice Too few seats judge: the court only observes.
    error TooFewSeats(uint256 seats, uint256 needed);
    /// @notice The beacon does not know the seed of the first round from `time` on.
    error LotsUnknown(uint40 time);
    error CaseTooLate(uint256 until, uint256 now_);
    error CaseTooEarly(uint256 from, uint256 now_);
    error NotDrawn(bytes32 caseId, uint256 position);
    error AlreadyCommitted(bytes32 caseId, uint256 position);
    error TooFewCommitted(uint256 committed, uint256 needed);
    error InvalidBallot(uint256 position);

    /// @notice Opens a case that was announced in an earlier block. Collects max(minBond, bondBps of `claim`) and the
    /// committee's fees in the fee token, with consent to `OpenCase(address opener,bytes32 device,uint64 epoch,uint96 claim,bytes32 salt)`.
    /// @param claim What the opener's own lease may claim, in base units of the fee token.
    function openCase(
        address opener,
        bytes32 device,
        uint64 epoch,
        uint96 claim,
        bytes32 salt,
        Auth calldata auth
    ) external returns (bytes32 caseId);

    /// @notice Draws the panel by the first round after the opening. By anyone, as all that follows.
    function drawPanel(bytes32 caseId) external;

    /// @notice A panel's member commits to keccak256(abi.encode(caseId, seat, finding, transcript, salt)), `seat` being
    /// its number in the roster. Its key calls, or signed `Commitment(bytes32 caseId,bytes32 commitment)`.
    function commitFinding(bytes32 caseId, uint256 position, bytes32 commitment, bytes calldata signature)
        external;

    /// @notice Draws the committee by the first round after the last commitment.
    function drawCommittee(bytes32 caseId) external;

    /// @notice Takes votes of the committee. Those that are in already are passed over; later ones still earn their fee.
    function vote(bytes32 caseId, Ballot[] calldata ballots) external;

    /// @notice Takes a conviction to a bench, and prepays it. With consent to `Appeal(bytes32 caseId,address appellant)`.
    function appeal(bytes32 caseId, address appellant, Auth calldata auth) external;

    /// @notice Draws the bench by the first round after the appeal, among the seats outside the committee.
    function drawBench(bytes32 caseId) external;

    /// @notice Takes votes of the bench.
    function voteBench(bytes32 caseId, Ballot[] calldata ballots) external;

    /// @notice Moves a case on whose stage ran out: without an answer to Unknown, without an appeal to Guilty.
    function lapse(bytes32 caseId) external;
}
