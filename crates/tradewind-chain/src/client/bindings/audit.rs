//! The contract of attestations as the client calls it, and the one that makes several calls one.

use alloy::primitives::B256;
use tradewind_proto::place::Audit;

use super::{deadline, time};

/// The generated types, named as in Solidity.
pub mod abi {
    alloy::sol! {
        #[derive(Debug, PartialEq, Eq)]
        struct Attestation {
            address issuer;
            bytes32 subject;
            bytes32 schema;
            bytes32 document;
            uint40 expires;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct Auth {
            uint256 nonce;
            uint40 deadline;
            bytes signature;
        }

        #[sol(rpc)]
        #[derive(Debug)]
        contract Attestations {
            event Attested(bytes32 indexed id, address indexed issuer, bytes32 indexed subject, bytes32 schema, bytes32 document, uint40 expires);
            event Revoked(bytes32 indexed id, address indexed issuer);

            function attest(Attestation attestation, Auth auth) external returns (bytes32 id);
            function revoke(bytes32 id, Auth auth) external;
            function attestationId(Attestation attestation) external pure returns (bytes32);
            function holds(bytes32 id) external view returns (bool);
        }

        #[derive(Debug, PartialEq, Eq)]
        struct Call3 {
            address target;
            bool allowFailure;
            bytes callData;
        }

        #[derive(Debug)]
        contract Multicall3 {
            function aggregate3(Call3[] calls) external payable;
        }
    }
}

/// The attestation as the contract takes it.
#[must_use]
pub fn attestation(audit: &Audit) -> abi::Attestation {
    let Audit { issuer, subject, schema, document, .. } = *audit;
    abi::Attestation { issuer, subject, schema, document, expires: deadline(audit.expires) }
}

impl From<abi::Attestations::Attested> for Audit {
    fn from(event: abi::Attestations::Attested) -> Self {
        let (subject, schema, document): (B256, B256, B256) = (event.subject, event.schema, event.document);
        Self { issuer: event.issuer, subject, schema, document, expires: time(event.expires) }
    }
}
