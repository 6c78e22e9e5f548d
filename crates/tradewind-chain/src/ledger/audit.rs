//! What auditors vouch for, as the ledger keeps it.

use alloy::primitives::{Address, B256};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tradewind_proto::place::Audit;

use crate::ledger::LedgerError;

/// An intent that is about an attestation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditAction {
    /// Puts one on record, for good. By its issuer, the account.
    Attest(Audit),
    /// Takes one back, for good. By its issuer.
    Revoke {
        /// [`Audit::id`].
        id: B256,
    },
}

impl AuditAction {
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Attest(audit) => format!("attest:{}", audit.id()),
            Self::Revoke { id } => format!("revoke:{id}"),
        }
    }
}

/// The contract of attestations, as anybody reads it.
#[async_trait]
pub trait Auditing: Send + Sync {
    /// Whether an attestation is on record, not revoked and not expired, as the chain says now.
    async fn holds(&self, id: B256) -> Result<bool, LedgerError>;

    /// The attestation with this id, whether it holds or not; `None` where none is found.
    async fn audit(&self, id: B256) -> Result<Option<Audit>, LedgerError>;

    /// What was ever attested of `subject` under `schema` by one of `issuers`, or by anybody where that is empty: the oldest
    /// first, [`MOST_AUDITS`] at most. Anybody may attest anything, so that whose word counts is the reader's choice. An
    /// endpoint that does not answer for all blocks at once is asked for the newest 128,000.
    async fn audits(
        &self,
        subject: B256,
        schema: B256,
        issuers: &[Address],
    ) -> Result<Vec<Audit>, LedgerError>;
}

/// The most attestations that one answer lists.
pub const MOST_AUDITS: usize = 256;
