//! An account that signs what it wants and leaves the sending to others.
//!
//! Every contract action has an EIP-712 form; the type strings are the contracts', and golden vectors hold both to them.

use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::sol_types::{Eip712Domain, SolStruct, eip712_domain};
use serde::{Deserialize, Serialize};
use tradewind_proto::evidence::Court;
use tradewind_proto::signature::{Signature, SigningKey};
use tradewind_proto::terms::{Domain, LeaseTerms, TermsError};

use crate::client::bindings::abi;

/// The EIP-712 structs of the actions, named as in Solidity.
pub mod typed {
    alloy::sol! {
        #[derive(Debug)]
        struct Deposit { address token; address account; uint256 amount; uint256 nonce; uint40 deadline; }
        #[derive(Debug)]
        struct Withdraw { address token; address account; address to; uint256 amount; uint256 nonce; uint40 deadline; }
        #[derive(Debug)]
        struct Register { address account; bytes32 meshKey; bytes32 metadata; uint256 nonce; uint40 deadline; }
        #[derive(Debug)]
        struct UpdateAccount { address account; bytes32 meshKey; bytes32 metadata; uint256 nonce; uint40 deadline; }
        #[derive(Debug)]
        struct AddDevice { address provider; address key; address sponsor; uint16 class; uint8 units; uint256 nonce; uint40 deadline; }
        #[derive(Debug)]
        struct Stake { bytes32 device; uint96 amount; uint256 nonce; uint40 deadline; }
        #[derive(Debug)]
        struct PayRent { bytes32 device; address payer; uint32 span; uint256 limit; uint256 nonce; uint40 deadline; }
        #[derive(Debug)]
        struct BeginUnbond { bytes32 device; address account; uint256 nonce; uint40 deadline; }
        #[derive(Debug)]
        struct Notice { bytes32 lease; uint8 reason; uint40 previous; uint40 deadline; }
        #[derive(Debug)]
        struct Close { bytes32 lease; bytes32 voucher; uint40 deadline; }
        #[derive(Debug)]
        struct RequestClose { bytes32 lease; uint40 deadline; }
        #[derive(Debug)]
        struct Challenge { bytes32 lease; uint32 sequence; uint40 deadline; }
        #[derive(Debug)]
        struct Answer { bytes32 lease; uint40 challengedAt; uint40 deadline; }
        #[derive(Debug)]
        struct Dispute { bytes32 lease; uint96 claim; bytes32 evidence; uint40 deadline; }
        #[derive(Debug)]
        struct ReceiveWithAuthorization { address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce; }
        #[derive(Debug)]
        struct LeaveSeat { uint32 seat; uint256 nonce; uint40 deadline; }
        #[derive(Debug)]
        struct OpenCase { address opener; bytes32 device; uint64 epoch; uint96 claim; bytes32 salt; }
        #[derive(Debug)]
        struct Appeal { bytes32 caseId; address appellant; }
        #[derive(Debug)]
        struct JoinSeat { address owner; address key; }
        #[derive(Debug)]
        struct Attest { address issuer; bytes32 subject; bytes32 schema; bytes32 document; uint40 expires; uint40 deadline; }
        #[derive(Debug)]
        struct Revoke { bytes32 id; uint40 deadline; }
        #[derive(Debug)]
        struct Permit { address owner; address spender; uint256 value; uint256 nonce; uint256 deadline; }
    }
}

/// The contracts of a deployment that signatures name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contracts {
    /// The chain's id.
    pub chain_id: u64,
    /// The leases' contract, which holds the balances.
    pub leases: Address,
    /// Its registry.
    pub registry: Address,
    /// The registry's arbiter, where there is one.
    #[serde(default)]
    pub court: Option<Address>,
    /// What auditors vouch for, where there is a contract for it.
    #[serde(default)]
    pub attestations: Option<Address>,
}

impl Contracts {
    /// The domain of leases, vouchers and everything else that the leases' contract checks.
    #[must_use]
    pub const fn domain(&self) -> Domain {
        Domain { chain_id: self.chain_id, contract: self.leases }
    }

    /// Where evidence and votes are sworn.
    #[must_use]
    pub fn court(&self) -> Option<Court> {
        self.court.map(|contract| Court { chain_id: self.chain_id, contract })
    }

    /// Whether both are the same market. One that lacks the contract of attestations may know an older profile.
    #[must_use]
    pub fn is_market_of(&self, other: &Self) -> bool {
        Self { attestations: None, ..*self } == Self { attestations: None, ..*other }
    }

    /// What a fee has to name so that it is paid only with these calls. Nothing where the calls go to the contract of
    /// attestations, which moves no money: a relayer makes such calls and takes its fee in one transaction, and the payer's only
    /// hold on it is that the fee is paid once.
    #[must_use]
    pub fn bound_to(&self, target: Address, calls: &[Bytes]) -> B256 {
        if self.attestations == Some(target) { B256::ZERO } else { calls_digest(target, calls) }
    }

    fn of(&self, contract: Address) -> Eip712Domain {
        if self.attestations == Some(contract) {
            eip712_domain! {
                name: "Tradewind Attestations",
                version: "1",
                chain_id: self.chain_id,
                verifying_contract: contract,
            }
        } else if let Some(court) = self.court().filter(|court| court.contract == contract) {
            court.eip712()
        } else if contract == self.registry {
            eip712_domain! {
                name: "Tradewind Registry",
                version: "1",
                chain_id: self.chain_id,
                verifying_contract: self.registry,
            }
        } else {
            self.domain().eip712()
        }
    }
}

/// A key and the deployment that it signs for.
#[derive(Debug, Clone)]
pub struct Wallet {
    key: Arc<SigningKey>,
    contracts: Contracts,
}

impl Wallet {
    /// The wallet of `key` on a deployment.
    #[must_use]
    pub fn new(key: SigningKey, contracts: Contracts) -> Self {
        Self { key: Arc::new(key), contracts }
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> Address {
        self.key.address()
    }

    /// The deployment.
    #[must_use]
    pub const fn contracts(&self) -> &Contracts {
        &self.contracts
    }

    /// The account's signature of lease terms, as buyer or as provider.
    ///
    /// # Errors
    /// [`TermsError::Range`] when the terms cannot be expressed on chain.
    pub fn sign_terms(&self, terms: &LeaseTerms) -> Result<Signature, TermsError> {
        Ok(self.key.sign(terms.id(&self.contracts.domain())?.get()))
    }

    /// The account's signature of a checkpoint, as either side.
    #[must_use]
    pub fn sign_checkpoint(&self, checkpoint: &crate::ledger::Checkpoint) -> Signature {
        self.sign(self.contracts.leases, &crate::client::bindings::checkpoint(checkpoint))
    }

    /// Signs a typed struct for one of the deployment's contracts.
    #[must_use]
    pub fn sign<T: SolStruct>(&self, contract: Address, action: &T) -> Signature {
        self.key.sign(action.eip712_signing_hash(&self.contracts.of(contract)))
    }

    /// Signs a typed struct for a token.
    #[must_use]
    pub fn sign_for_token<T: SolStruct>(&self, token: &TokenDomain, action: &T) -> Signature {
        self.key.sign(action.eip712_signing_hash(&token.eip712(self.contracts.chain_id)))
    }

    /// Signs an order to pay a relayer.
    #[must_use]
    pub fn sign_fee(&self, fee: &abi::FeeAuthorization) -> Signature {
        self.sign(self.contracts.leases, fee)
    }
}

/// The EIP-712 domain of a token, as the token states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenDomain {
    /// The token.
    pub token: Address,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl TokenDomain {
    fn eip712(&self, chain_id: u64) -> Eip712Domain {
        Eip712Domain {
            name: Some(self.name.clone().into()),
            version: Some(self.version.clone().into()),
            chain_id: Some(U256::from(chain_id)),
            verifying_contract: Some(self.token),
            salt: None,
        }
    }
}

/// What a fee order has to name so that it is paid only with these calls to `contract`.
#[must_use]
pub fn calls_digest(contract: Address, calls: &[Bytes]) -> B256 {
    use alloy::sol_types::SolValue;
    alloy::primitives::keccak256((contract, calls.to_vec()).abi_encode_params())
}
