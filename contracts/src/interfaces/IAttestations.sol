// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Auth} from "../types/Authorization.sol";

/// @notice What an auditor vouches for.
/// @param issuer Who vouches.
/// @param subject A device's id, or an account's address as 32 bytes.
/// @param schema Digest of what is said, for example keccak256("SOC2").
/// @param document Digest of the report.
/// @param expires The last second at which it holds, in Unix seconds.
struct Attestation {
    address issuer;
    bytes32 subject;
    bytes32 schema;
    bytes32 document;
    uint40 expires;
}

/// @title Attestations
/// @notice Audits on record: SOC reports, ISO certificates, locations, hardware. The contract says who vouched and
/// whether it still holds; whom to believe is the buyer's choice.
interface IAttestations {
    event Attested(
        bytes32 indexed id,
        address indexed issuer,
        bytes32 indexed subject,
        bytes32 schema,
        bytes32 document,
        uint40 expires
    );
    event Revoked(bytes32 indexed id, address indexed issuer);

    error AlreadyAttested(bytes32 id);
    error AlreadyExpired(uint256 expires, uint256 now_);
    error NotStanding(bytes32 id);

    /// @notice Records an attestation, once. The issuer calls, or signed
    /// `Attest(address issuer,bytes32 subject,bytes32 schema,bytes32 document,uint40 expires,uint40 deadline)`.
    function attest(Attestation calldata attestation, Auth calldata auth) external returns (bytes32 id);

    /// @notice Takes it back for good. The issuer calls, or signed `Revoke(bytes32 id,uint40 deadline)`.
    function revoke(bytes32 id, Auth calldata auth) external;

    /// @notice Its id: keccak256(abi.encode(attestation)).
    function attestationId(Attestation calldata attestation) external pure returns (bytes32);

    /// @notice Whether it is on record, not revoked and not expired.
    function holds(bytes32 id) external view returns (bool);
}
