// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Attestation, IAttestations} from "../../src/interfaces/IAttestations.sol";
import {ISignatures} from "../../src/interfaces/ISignatures.sol";
import {Auth} from "../../src/types/Authorization.sol";
import {Test} from "../Test.sol";

interface ISignedAttestations is IAttestations, ISignatures {}

contract AttestationsTest is Test {
    uint256 private constant KEY = 0xA0D1;
    uint40 private constant NOW = 1_800_000_000;

    ISignedAttestations private _book;
    address private _issuer = vm.addr(KEY);
    Auth private _direct;

    function setUp() external {
        vm.warp(NOW);
        bytes memory code = vm.getCode("Attestations.sol:Attestations");
        address made;
        assembly ("memory-safe") {
            made := create(0, add(code, 0x20), mload(code))
        }
        _book = ISignedAttestations(made);
    }

    function _attestation() private view returns (Attestation memory) {
        return Attestation(_issuer, keccak256("device"), keccak256("SOC2"), keccak256("report"), NOW + 10);
    }

    function _auth(bytes memory encoded) private view returns (Auth memory auth) {
        auth.deadline = NOW + 60;
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", _book.DOMAIN_SEPARATOR(), keccak256(encoded)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, digest);
        auth.signature = abi.encodePacked(r, s, v);
    }

    function test_AnAttestationHoldsUntilItExpires() external {
        Attestation memory a = _attestation();
        bytes32 typeHash = keccak256(
            "Attest(address issuer,bytes32 subject,bytes32 schema,bytes32 document,uint40 expires,uint40 deadline)"
        );
        Auth memory auth =
            _auth(abi.encode(typeHash, a.issuer, a.subject, a.schema, a.document, a.expires, NOW + 60));
        bytes32 id = _book.attest(a, auth);
        vm.assertTrue(_book.holds(id), "on record");
        vm.expectRevert(abi.encodeWithSelector(IAttestations.AlreadyAttested.selector, id));
        _book.attest(a, auth);
        a.subject = keccak256("another");
        vm.expectPartialRevert(ISignatures.InvalidSignature.selector);
        _book.attest(a, auth);
        vm.warp(NOW + 10);
        vm.assertTrue(_book.holds(id), "its last second");
        vm.warp(NOW + 11);
        vm.assertFalse(_book.holds(id), "expired");
        vm.expectRevert(abi.encodeWithSelector(IAttestations.AlreadyExpired.selector, NOW + 10, NOW + 11));
        vm.prank(_issuer);
        _book.attest(a, _direct);
    }

    function test_ARevokedAttestationIsGoneForGood() external {
        Attestation memory a = _attestation();
        vm.prank(_issuer);
        bytes32 id = _book.attest(a, _direct);
        Auth memory none = _direct;
        vm.expectPartialRevert(ISignatures.DeadlinePassed.selector);
        _book.revoke(id, none);
        _book.revoke(id, _auth(abi.encode(keccak256("Revoke(bytes32 id,uint40 deadline)"), id, NOW + 60)));
        vm.assertFalse(_book.holds(id), "revoked");
        vm.expectRevert(abi.encodeWithSelector(IAttestations.NotStanding.selector, id));
        vm.prank(_issuer);
        _book.revoke(id, none);
        vm.expectRevert(abi.encodeWithSelector(IAttestations.AlreadyAttested.selector, id));
        vm.prank(_issuer);
        _book.attest(a, none);
    }
}
