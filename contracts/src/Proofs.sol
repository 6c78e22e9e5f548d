// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CourtBook} from "./CourtBook.sol";
import {IBeacon} from "./interfaces/IBeacon.sol";
import {IRegistry} from "./interfaces/IRegistry.sol";
import {IProofs} from "./interfaces/IProofs.sol";
import {Product} from "./libraries/Product.sol";
import {Setup} from "./types/CourtParameters.sol";
import {Element, ProductRoots, Report, Statement, Vote} from "./types/Evidence.sol";

/// @title Proofs that need no vote
/// @notice See {IProofs}.
abstract contract Proofs is IProofs, CourtBook {
    bytes32 internal constant PRODUCT_ROOTS_TYPEHASH =
        keccak256("ProductRoots(bytes32 device,uint64 epoch,uint32 size,bytes32[] roots)");
    bytes32 internal constant STATEMENT_TYPEHASH =
        keccak256("Statement(bytes32 topic,bytes32 device,uint64 sequence,bytes32 body)");

    uint256 private constant MAX_ROUNDS = 64;

    /// @inheritdoc IProofs
    function proveElement(Element calldata element, Report calldata report_) external {
        bytes32 device = _device(element.provider, element.key);
        uint64 epoch = element.epoch;
        ProductRoots calldata product = element.product;
        _checkRoots(device, element.key, epoch, product);

        Setup memory s = _setup();
        bytes32 seed = IBeacon(s.beacon).seedAt(_epochStart(s, epoch));
        if (seed == 0) revert SeedUnknown(epoch);
        seed = keccak256(abi.encode(seed, block.chainid, address(this), device, epoch));
        (int256 claimed, int256 computed) = _open(element, product.roots, product.size, seed);
        if (claimed == computed) revert ElementCorrect(claimed);

        emit ElementProved(device, epoch, element.round, claimed, computed);
        address reporter = _reporter(keccak256(abi.encode(device, "element", epoch)), report_);
        Latest storage latest = _latest;
        bool waits = block.timestamp < latest.usableAt;
        uint16 firstBps = waits ? latest.elementFirstBpsBefore : latest.elementFirstBps;
        uint16 againBps = waits ? latest.elementAgainBpsBefore : latest.elementAgainBps;
        IRegistry(s.registry).slashFault(device, epoch, firstBps, againBps, reporter);
    }

    /// @inheritdoc IProofs
    function proveRoots(
        address provider,
        address key,
        uint64 epoch,
        ProductRoots calldata one,
        ProductRoots calldata other,
        Report calldata report_
    ) external {
        bytes32 device = _device(provider, key);
        bytes32 hashOfOne = _checkRoots(device, key, epoch, one);
        if (hashOfOne == _checkRoots(device, key, epoch, other)) revert NotEquivocal();
        _equivocate(device, keccak256(abi.encode(device, "roots", epoch)), report_);
    }

    /// @inheritdoc IProofs
    function proveStatements(
        address provider,
        address key,
        Statement calldata one,
        bytes calldata signatureOfOne,
        Statement calldata other,
        bytes calldata signatureOfOther,
        Report calldata report_
    ) external {
        bytes32 device = _device(provider, key);
        if (
            one.device != device || other.device != device || one.topic != other.topic
                || one.sequence != other.sequence || one.body == other.body
        ) {
            revert NotEquivocal();
        }
        _checkKey(key, _hash(one), signatureOfOne);
        _checkKey(key, _hash(other), signatureOfOther);
        _equivocate(device, keccak256(abi.encode(device, one.topic, one.sequence)), report_);
    }

    /// @inheritdoc IProofs
    function proveVotes(
        uint32 seat_,
        Vote calldata one,
        bytes calldata signatureOfOne,
        Vote calldata other,
        bytes calldata signatureOfOther,
        Report calldata report_
    ) external {
        if (
            one.caseId != other.caseId || one.instance != other.instance
                || (one.finding == other.finding && one.transcript == other.transcript)
        ) {
            revert NotEquivocal();
        }
        bytes32 evidence = keccak256(abi.encode(seat_, one.caseId, one.instance));
        if (_seats[seat_].stake == 0) revert AlreadyProved(evidence);
        address key = _seats[seat_].key;
        _checkKey(key, _hash(one), signatureOfOne);
        _checkKey(key, _hash(other), signatureOfOther);
        address reporter = _reporter(evidence, report_);
        emit VoteEquivocationProved(seat_, one.caseId, one.instance);
        _slashSeat(_setup(), seat_, reporter);
    }

    /// @return claimed What the leaf says.
    /// @return computed What the matrices of the round give.
    function _open(Element calldata element, bytes32[] calldata roots, uint256 size, bytes32 seed)
        private
        pure
        returns (int256 claimed, int256 computed)
    {
        bytes calldata leaf = element.leaf;
        bytes32[] calldata path = element.path;
        (uint256 round, uint256 row, uint256 column) = (element.round, element.row, element.column);
        if (
            round >= roots.length || row >= size || column >= size || leaf.length != Product.LEAF_BYTES
                || !Product.reaches(path.length, size)
        ) {
            revert InvalidOpening(round, row, column);
        }
        for (uint256 i; i < round; ++i) {
            seed = keccak256(abi.encode(seed, roots[i]));
        }
        bytes32 root = Product.rootOf(leaf, path, Product.leafIndex(size, row, column));
        if (root != roots[round]) revert WrongPath(roots[round], root);
        claimed = Product.elementOf(leaf, column);
        computed = Product.dot(seed, size, row, column);
    }

    function _checkRoots(bytes32 device, address key, uint64 epoch, ProductRoots calldata product)
        private
        view
        returns (bytes32 structHash)
    {
        uint256 size = product.size;
        bytes32[] calldata roots = product.roots;
        if (
            size < 256 || size > 16_384 || size & (size - 1) != 0 || roots.length == 0
                || roots.length > MAX_ROUNDS
        ) {
            revert InvalidSize(size);
        }
        structHash = keccak256(
            abi.encode(PRODUCT_ROOTS_TYPEHASH, device, epoch, size, keccak256(abi.encodePacked(roots)))
        );
        _checkKey(key, structHash, product.signature);
    }

    function _equivocate(bytes32 device, bytes32 evidence, Report calldata report_) private {
        if (_proved[evidence]) revert AlreadyProved(evidence);
        _proved[evidence] = true;
        emit EquivocationProved(device, evidence);
        Latest memory latest = _latest;
        uint16 bps = block.timestamp < latest.usableAt ? latest.equivocationBpsBefore : latest.equivocationBps;
        IRegistry(_setup().registry).slashShare(device, bps, _reporter(evidence, report_));
    }

    function _reporter(bytes32 evidence, Report calldata report_) private returns (address reporter) {
        reporter = report_.reporter;
        if (reporter != address(0)) _redeem(keccak256(abi.encode(reporter, evidence, report_.salt)));
    }

    function _checkKey(address key, bytes32 structHash, bytes calldata signature) private view {
        bytes32 digest = _digest(structHash);
        if (!_signedByKey(key, digest, signature)) revert InvalidSignature(key, digest);
    }

    /// @dev The registry's id of a device.
    function _device(address provider, address key) private pure returns (bytes32) {
        return keccak256(abi.encode(provider, key));
    }

    function _hash(Statement calldata s) private pure returns (bytes32) {
        return keccak256(abi.encode(STATEMENT_TYPEHASH, s.topic, s.device, s.sequence, s.body));
    }

    function _hash(Vote calldata v) private pure returns (bytes32) {
        return _hashVote(v.caseId, v.instance, v.finding, v.transcript);
    }
}
