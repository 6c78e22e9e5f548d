//! One transaction of the outbox, from intent to finality.

use alloy::primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Serialize};

use crate::ledger::ActionStatus;

/// A call to make by transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The contract; `None` creates one.
    pub to: Option<Address>,
    /// The call data, or the creation code.
    pub input: Bytes,
    /// Gas token to send along.
    pub value: U256,
}

impl Call {
    /// A call of `to` with `input` and no value.
    #[must_use]
    pub const fn new(to: Address, input: Bytes) -> Self {
        Self { to: Some(to), input, value: U256::ZERO }
    }
}

/// A signed transaction, stored before it was sent anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempt {
    pub(super) hash: B256,
    pub(super) raw: Bytes,
    pub(super) gas: u64,
    pub(super) max_fee: u128,
    pub(super) tip: u128,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum JobState {
    /// Not signed yet.
    Queued,
    /// Signed and stored; the network may know any of the attempts.
    Sent,
    /// In a block that may still be reorganised away.
    Included { block: u64, hash: B256, tx: B256, refusal: Option<String> },
    /// In a final block.
    Final { block: u64, tx: B256 },
    /// Refused before it was signed, or reverted in a final block.
    Failed { reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) seq: u64,
    pub(super) key: String,
    pub(super) call: Call,
    pub(super) nonce: Option<u64>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) state: JobState,
}

impl Job {
    pub(super) const fn queued(seq: u64, key: String, call: Call) -> Self {
        Self { seq, key, call, nonce: None, attempts: Vec::new(), state: JobState::Queued }
    }

    /// True while the sender still has to look after it.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, JobState::Queued | JobState::Sent | JobState::Included { .. })
    }

    pub(super) fn status(&self) -> ActionStatus {
        match &self.state {
            JobState::Queued | JobState::Sent => ActionStatus::Pending,
            JobState::Included { refusal: Some(reason), .. } | JobState::Failed { reason } => {
                ActionStatus::Failed { reason: reason.clone() }
            }
            JobState::Included { block, tx, refusal: None, .. } => {
                ActionStatus::Included { block: *block, tx: *tx }
            }
            JobState::Final { block, tx } => ActionStatus::Final { block: *block, tx: *tx },
        }
    }
}
