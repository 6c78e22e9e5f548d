//! What goes over the relayer's wire: JSON, amounts as decimal strings.

use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::sol_types::SolCall;
use serde::{Deserialize, Serialize};
use tradewind_proto::units::{Money, Seconds, Timestamp};

use crate::client::bindings::audit::abi::{Call3, Multicall3};
use crate::client::bindings::{abi, amount96, deadline};
use crate::client::encode::SignedCall;
use crate::client::wallet::{Contracts, calls_digest};
use crate::embedded::MULTICALL3;
use crate::ledger::{ActionStatus, Revert};

/// The longest that a request may ask the relayer to hold its answer.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What is asked of `GET /v1/relay/quote`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteRequest {
    /// In which token the fee will be paid.
    pub token: Address,
}

/// What one submission costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// Who has to be named in the fee.
    pub relayer: Address,
    /// The deployment that the relayer submits to.
    pub contracts: Contracts,
    /// The fee's token.
    pub token: Address,
    /// The fee.
    #[serde(with = "decimal")]
    pub amount: Money,
    /// How long the quote is good for.
    pub valid_for: Seconds,
}

/// An order to pay the relayer, tied to the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeeOrder {
    /// Whose free balance pays.
    pub payer: Address,
    /// Who is paid.
    pub relayer: Address,
    /// In which token.
    pub token: Address,
    /// How much.
    #[serde(with = "decimal")]
    pub amount: Money,
    /// The digest of the calls that have to succeed with it.
    pub calls: B256,
    /// Used once by the payer.
    pub nonce: U256,
    /// The last moment that it counts.
    pub deadline: Timestamp,
}

impl FeeOrder {
    /// The struct that the contract takes and the payer signs.
    #[must_use]
    pub fn to_abi(&self) -> abi::FeeAuthorization {
        abi::FeeAuthorization {
            payer: self.payer,
            relayer: self.relayer,
            token: self.token,
            amount: amount96(self.amount),
            calls: self.calls,
            nonce: self.nonce,
            deadline: deadline(self.deadline),
        }
    }
}

/// What is asked of `POST /v1/relay`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayRequest {
    /// Which of the deployment's contracts.
    pub target: Address,
    /// Calls to it, all or nothing.
    pub calls: Vec<Bytes>,
    /// The fee.
    pub fee: FeeOrder,
    /// The payer's signature of the fee.
    pub signature: Bytes,
    /// How long the relayer may hold its answer while the submission is not included yet.
    #[serde(default)]
    pub wait_ms: u32,
}

impl RelayRequest {
    /// The submission's name: the same calls under the same fee are the same submission.
    #[must_use]
    pub fn id(&self) -> B256 {
        let fee = self.fee.to_abi();
        let mut named = calls_digest(self.target, &self.calls).to_vec();
        named.extend_from_slice(&fee.nonce.to_be_bytes::<32>());
        named.extend_from_slice(self.fee.payer.as_slice());
        alloy::primitives::keccak256(named)
    }

    /// The transaction that makes the calls and pays the fee, on the deployment of `contracts`.
    ///
    /// # Errors
    /// For a target that takes no calls.
    pub fn call(&self, contracts: &Contracts) -> Result<SignedCall, &'static str> {
        if self.calls.is_empty() {
            return Err("a request without calls pays for nothing");
        }
        if contracts.attestations == Some(self.target) {
            let pieces = self.pieces(contracts).into_iter();
            let calls = pieces.map(|SignedCall { target, input }| Call3 {
                target,
                allowFailure: false,
                callData: input,
            });
            let whole = Multicall3::aggregate3Call { calls: calls.collect() };
            return Ok(SignedCall { target: MULTICALL3, input: whole.abi_encode().into() });
        }
        let relay = abi::Leases::relayCall {
            fee: self.fee.to_abi(),
            signature: self.signature.clone(),
            calls: self.calls.clone(),
        };
        Ok(SignedCall { target: self.target, input: relay.abi_encode().into() })
    }

    /// The calls and the payment one by one, where the target itself takes no fees.
    pub(crate) fn pieces(&self, contracts: &Contracts) -> Vec<SignedCall> {
        let fee = abi::Leases::payFeeCall { fee: self.fee.to_abi(), signature: self.signature.clone() };
        let fee = SignedCall { target: contracts.leases, input: fee.abi_encode().into() };
        let calls = self.calls.iter().map(|input| SignedCall { target: self.target, input: input.clone() });
        calls.chain([fee]).collect()
    }

    pub(super) fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms.into()).min(LONGEST_WAIT)
    }
}

/// What a submission is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayReply {
    /// The submission's name.
    pub id: B256,
    /// How far it has come, as the relayer says.
    pub status: ActionStatus,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// For people.
    pub error: String,
    /// The contract's refusal, where that was the reason.
    pub revert: Option<Revert>,
}

/// Amounts as decimal strings: JSON numbers end at 2^53 for many readers.
mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
    use tradewind_proto::units::Money;

    pub(super) fn serialize<S: Serializer>(amount: &Money, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(amount)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Money, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse::<u128>().map_err(D::Error::custom).and_then(|n| Money::new(n).map_err(D::Error::custom))
    }
}
