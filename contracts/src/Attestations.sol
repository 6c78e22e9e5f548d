// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {Signatures} from "./Signatures.sol";
import {Attestation, IAttestations} from "./interfaces/IAttestations.sol";
import {Auth} from "./types/Authorization.sol";

/// @title Attestations
/// @notice See {IAttestations}. Nobody owns it, and nothing else here reads it.
contract Attestations is IAttestations, Signatures {
    struct Record {
        address issuer;
        uint40 expires;
        bool revoked;
    }

    bytes32 internal constant ATTEST_TYPEHASH = keccak256(
        "Attest(address issuer,bytes32 subject,bytes32 schema,bytes32 document,uint40 expires,uint40 deadline)"
    );
    bytes32 internal constant REVOKE_TYPEHASH = keccak256("Revoke(bytes32 id,uint40 deadline)");

    mapping(bytes32 id => Record) private _records;

    constructor() EIP712("Tradewind Attestations", "1") {}

    /// @inheritdoc IAttestations
    function attest(Attestation calldata a, Auth calldata auth) external returns (bytes32 id) {
        bytes32 structHash = keccak256(
            abi.encode(ATTEST_TYPEHASH, a.issuer, a.subject, a.schema, a.document, a.expires, auth.deadline)
        );
        _authorize(a.issuer, structHash, auth);
        if (block.timestamp > a.expires) revert AlreadyExpired(a.expires, block.timestamp);
        id = attestationId(a);
        if (_records[id].issuer != address(0)) revert AlreadyAttested(id);
        _records[id] = Record(a.issuer, a.expires, false);
        emit Attested(id, a.issuer, a.subject, a.schema, a.document, a.expires);
    }

    /// @inheritdoc IAttestations
    function revoke(bytes32 id, Auth calldata auth) external {
        Record storage it = _records[id];
        if (it.issuer == address(0) || it.revoked) revert NotStanding(id);
        _authorize(it.issuer, keccak256(abi.encode(REVOKE_TYPEHASH, id, auth.deadline)), auth);
        it.revoked = true;
        emit Revoked(id, it.issuer);
    }

    /// @inheritdoc IAttestations
    function attestationId(Attestation calldata a) public pure returns (bytes32) {
        return keccak256(abi.encode(a));
    }

    /// @inheritdoc IAttestations
    function holds(bytes32 id) external view returns (bool) {
        Record memory it = _records[id];
        return it.issuer != address(0) && !it.revoked && block.timestamp <= it.expires;
    }
}
