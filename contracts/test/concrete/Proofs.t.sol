// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICourtBook} from "../../src/interfaces/ICourtBook.sol";
import {IProofs} from "../../src/interfaces/IProofs.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {ISignatures} from "../../src/interfaces/ISignatures.sol";
import {Element, ProductRoots, Report, Statement, Vote} from "../../src/types/Evidence.sol";
import {ProductBase} from "../ProductBase.sol";

contract ProofsTest is ProductBase {
    uint256 private constant STAKE = 4_000_000;

    Report private _nobody;

    function _stake() private view returns (uint256) {
        return registry.device(device).stake;
    }

    // --- elements ---------------------------------------------------------------------------------------------

    function test_ADotProductIsThatOfTheWordedRule() external {
        for (uint256 i; i < 6; ++i) {
            uint256 row = uint256(keccak256(abi.encode(i))) % 256;
            Element memory element = _element(256, 1 + i, row, 255 - row, 0);
            int256 value = _product(_roundSeed(element), 256, row, 255 - row);
            _expect(abi.encodeWithSelector(IProofs.ElementCorrect.selector, value));
            court.proveElement(element, _nobody);
        }
    }

    function _roundSeed(Element memory element) private view returns (bytes32 seed) {
        seed = _seed(device, PROVED);
        for (uint256 i; i < element.round; ++i) {
            seed = keccak256(abi.encode(seed, element.product.roots[i]));
        }
    }

    function test_AWrongElementCostsThreePercentThenHalf() external {
        Report memory report = _announce(relayer, _elementEvidence());
        (uint256 sinkBefore,,,) = leases.pools(address(twd));
        court.proveElement(_element(512, 2, 300, 301, 1), report);
        vm.assertEq(_stake(), STAKE - 120_000, "3 %");
        vm.assertEq(_stakeOf(relayer), 12_000, "a tenth to the reporter");
        (uint256 sink,,,) = leases.pools(address(twd));
        vm.assertEq(sink - sinkBefore, 108_000, "the rest to the sink");

        Element memory again = _element(512, 2, 1, 2, -1);
        _expect(abi.encodeWithSelector(IRegistry.FaultPunished.selector, device, PROVED));
        court.proveElement(again, _nobody);

        _toEpoch(2);
        _reveal(vm.getBlockTimestamp());
        Element memory next = _elementOf(2);
        court.proveElement(next, _nobody);
        vm.assertEq(_stake(), (STAKE - 120_000) / 2, "half of what was left");
    }

    /// @dev A leaf of zeros is wrong somewhere: here.
    function _elementOf(uint64 epoch) private view returns (Element memory element) {
        element = _element(256, 1, 5, 6, 0);
        element.epoch = epoch;
        element.product = _signRoots(DEVICE_KEY, device, epoch, 256, element.product.roots);
    }

    function test_RevertWhen_TheRootsAreNotSignedForThis() external {
        Element memory element = _element(256, 1, 5, 6, 1);
        element.epoch = 0;
        vm.expectPartialRevert(ISignatures.InvalidSignature.selector);
        court.proveElement(element, _nobody);
        element.epoch = PROVED;
        element.provider = buyer;
        vm.expectPartialRevert(ISignatures.InvalidSignature.selector);
        court.proveElement(element, _nobody);
        element.provider = provider;
        element.product = _signRoots(STRANGER_KEY, device, PROVED, 256, element.product.roots);
        vm.expectPartialRevert(ISignatures.InvalidSignature.selector);
        court.proveElement(element, _nobody);
        element.product = _signRoots(DEVICE_KEY, device, PROVED, 300, element.product.roots);
        _expect(abi.encodeWithSelector(IProofs.InvalidSize.selector, 300));
        court.proveElement(element, _nobody);
        vm.assertEq(_stake(), STAKE, "untouched");
    }

    function test_RevertWhen_TheOpeningIsNotTheTrees() external {
        Element memory element = _element(256, 1, 5, 6, 1);
        element.leaf[0] ^= 0x01;
        vm.expectPartialRevert(IProofs.WrongPath.selector);
        court.proveElement(element, _nobody);
        element.leaf[0] ^= 0x01;
        element.row = 4;
        vm.expectPartialRevert(IProofs.WrongPath.selector);
        court.proveElement(element, _nobody);
        element.row = 256;
        _expect(abi.encodeWithSelector(IProofs.InvalidOpening.selector, 0, 256, 6));
        court.proveElement(element, _nobody);
        (element.row, element.round) = (5, 1);
        _expect(abi.encodeWithSelector(IProofs.InvalidOpening.selector, 1, 5, 6));
        court.proveElement(element, _nobody);
        element.round = 0;
        element.path = new bytes32[](7);
        _expect(abi.encodeWithSelector(IProofs.InvalidOpening.selector, 0, 5, 6));
        court.proveElement(element, _nobody);
    }

    function test_RevertWhen_TheBeaconDoesNotKnowTheEpoch() external {
        _toEpoch(3);
        Element memory element = _elementOf(3);
        _expect(abi.encodeWithSelector(IProofs.SeedUnknown.selector, 3));
        court.proveElement(element, _nobody);
    }

    function test_RevertWhen_AProofIsCopiedOnItsWay() external {
        Element memory element = _element(256, 1, 5, 6, 1);
        Report memory copied = Report(stranger, keccak256("salt"));
        bytes32 commitment = keccak256(abi.encode(stranger, _elementEvidence(), copied.salt));
        _expect(abi.encodeWithSelector(ICourtBook.NotAnnounced.selector, commitment));
        court.proveElement(element, copied);
        court.announce(commitment);
        _expect(abi.encodeWithSelector(ICourtBook.NotAnnounced.selector, commitment));
        court.proveElement(element, copied);
        Report memory report = _announce(relayer, _elementEvidence());
        court.proveElement(element, report);
        vm.assertEq(_stakeOf(stranger), 0, "nothing for the copyist");
        vm.assertEq(_stakeOf(relayer), 12_000, "the one who announced it first");
    }

    function testFuzz_NoRightElementIsEverPunished(uint256 row, uint256 column, uint8 rounds) external {
        uint256 size = 256 << (rounds % 2);
        (row, column) = (row % size, column % size);
        Element memory element = _element(uint32(size), 1 + rounds % 4, row, column, 0);
        vm.expectPartialRevert(IProofs.ElementCorrect.selector);
        court.proveElement(element, _nobody);
    }

    function testFuzz_EveryWrongElementIsPunished(uint256 row, uint256 column, int16 error) external {
        vm.assume(error != 0);
        court.proveElement(_element(256, 2, row % 256, column % 256, error), _nobody);
        vm.assertEq(_stake(), STAKE - 120_000, "3 %");
    }

    // --- equivocation -----------------------------------------------------------------------------------------

    function test_TwoListsOfRootsCostTheWholeStake() external {
        bytes32[] memory roots = new bytes32[](2);
        ProductRoots memory one = _signRoots(DEVICE_KEY, device, PROVED, 256, roots);
        bytes32[] memory others = new bytes32[](2);
        others[1] = keccak256("other");
        ProductRoots memory other = _signRoots(DEVICE_KEY, device, PROVED, 256, others);
        _expect(abi.encodeWithSelector(IProofs.NotEquivocal.selector));
        court.proveRoots(provider, deviceKey, PROVED, one, one, _nobody);
        Report memory report = _announce(relayer, keccak256(abi.encode(device, "roots", PROVED)));
        court.proveRoots(provider, deviceKey, PROVED, one, other, report);
        vm.assertEq(_stake(), 0, "all of it");
        vm.assertEq(_stakeOf(relayer), STAKE / 10, "a tenth to the reporter");

        vm.prank(provider);
        registry.stake(device, 1_000, _direct());
        _expect(
            abi.encodeWithSelector(
                IProofs.AlreadyProved.selector, keccak256(abi.encode(device, "roots", PROVED))
            )
        );
        court.proveRoots(provider, deviceKey, PROVED, other, one, _nobody);
        vm.assertEq(_stake(), 1_000, "a new stake does not pay for the old deed");
    }

    function _statement(uint64 sequence, bytes32 body) private view returns (Statement memory) {
        return Statement(keccak256("tradewind/heartbeat"), device, sequence, body);
    }

    function _signStatement(Statement memory s) private view returns (bytes memory) {
        return _signCourt(
            DEVICE_KEY,
            keccak256(
                abi.encode(
                    keccak256("Statement(bytes32 topic,bytes32 device,uint64 sequence,bytes32 body)"),
                    s.topic,
                    s.device,
                    s.sequence,
                    s.body
                )
            )
        );
    }

    function _prove(Statement memory one, Statement memory other) private {
        bytes memory first = _signStatement(one);
        court.proveStatements(provider, deviceKey, one, first, other, _signStatement(other), _nobody);
    }

    function test_TwoBodiesForOneSequenceCostTheWholeStake() external {
        _prove(_statement(7, "one"), _statement(7, "other"));
        vm.assertEq(_stake(), 0, "all of it");
    }

    function test_RevertWhen_StatementsAreNotEquivocal() external {
        Statement memory one = _statement(7, "one");
        Statement memory other = _statement(8, "other");
        vm.expectPartialRevert(IProofs.NotEquivocal.selector);
        this.prove(one, other);
        vm.expectPartialRevert(IProofs.NotEquivocal.selector);
        this.prove(one, one);
        other = _statement(7, "other");
        other.topic = keccak256("tradewind/pong");
        vm.expectPartialRevert(IProofs.NotEquivocal.selector);
        this.prove(one, other);
        other = _statement(7, "other");
        other.device = keccak256("another device");
        vm.expectPartialRevert(IProofs.NotEquivocal.selector);
        this.prove(one, other);
        vm.assertEq(_stake(), STAKE, "untouched");
    }

    function test_RevertWhen_AStatementComesFromAnotherChain() external {
        Statement memory one = _statement(7, "one");
        Statement memory other = _statement(7, "other");
        bytes memory first = _signStatement(one);
        bytes memory second = _signStatement(other);
        vm.chainId(5);
        vm.expectPartialRevert(ISignatures.InvalidSignature.selector);
        court.proveStatements(provider, deviceKey, one, first, other, second, _nobody);
    }

    function prove(Statement calldata one, Statement calldata other) external {
        _prove(one, other);
    }

    // --- votes ------------------------------------------------------------------------------------------------

    function _signVote(uint256 key, Vote memory v) private view returns (bytes memory) {
        return _signCourt(
            key,
            keccak256(
                abi.encode(
                    keccak256("Vote(bytes32 caseId,uint8 instance,uint8 finding,bytes32 transcript)"),
                    v.caseId,
                    v.instance,
                    v.finding,
                    v.transcript
                )
            )
        );
    }

    function test_ASeatThatVotesTwiceLosesIt() external {
        _joinSeats(0, 2);
        Vote memory one = Vote(keccak256("case"), 1, 1, "seen");
        Vote memory other = Vote(keccak256("case"), 1, 2, "seen");
        bytes memory first = _signVote(_seatKey(0), one);
        bytes memory second = _signVote(_seatKey(0), other);
        _expect(abi.encodeWithSelector(IProofs.NotEquivocal.selector));
        court.proveVotes(1, one, first, one, first, _nobody);
        vm.expectPartialRevert(ISignatures.InvalidSignature.selector);
        court.proveVotes(2, one, first, other, second, _nobody);
        vm.prank(_seatOwner(0));
        court.leaveSeat(1, _direct());
        (uint256 sinkBefore,,,) = leases.pools(address(twd));
        bytes32 evidence = keccak256(abi.encode(uint32(1), one.caseId, uint8(1)));
        Report memory report = _announce(relayer, evidence);
        court.proveVotes(1, one, first, other, second, report);
        (uint256 sink,,,) = leases.pools(address(twd));
        vm.assertEq(_stakeOf(relayer), SEAT_STAKE / 10, "a tenth to the reporter");
        vm.assertEq(sink - sinkBefore, SEAT_STAKE - SEAT_STAKE / 10, "the rest to the sink");
        vm.assertEq(court.seat(1).stake, 0, "the whole seat, though it was leaving");
        vm.assertEq(court.seatCount(PROVED + 2), 1, "and its place");
        vm.assertEq(_stakeOf(address(court)), SEAT_STAKE, "the other seat's stake lies where it lay");
        _expect(abi.encodeWithSelector(IProofs.AlreadyProved.selector, evidence));
        court.proveVotes(1, one, first, other, second, _nobody);
        vm.warp(START + 30 days);
        court.withdrawSeat(1);
        vm.assertEq(_stakeOf(address(court)), SEAT_STAKE, "it gets nothing");
    }
}
