//! What a provider tells the buyer about a lease's work.

use serde::{Deserialize, Serialize};

use crate::ids::LeaseId;
use crate::meter::Run;
use crate::saving::Saved;
use crate::statement::SignedStatement;
use crate::units::{Bytes, Money, Timestamp};
use crate::voucher::SignedVoucher;
use crate::workload::{Exit, Usage};

/// The most files that a job may leave as outputs.
pub const MAX_OUTPUTS: usize = 4_096;

/// Where a lease's work stands on the provider's side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Waiting for the chain to show the lease as open.
    Opening,
    /// Pulling inputs and images.
    Preparing {
        /// Bytes pulled.
        done: Bytes,
        /// Bytes in all, zero while unknown.
        total: Bytes,
    },
    /// The job runs.
    Running,
    /// Frozen until it is paid.
    Paused,
    /// The stop signal was sent.
    Stopping,
    /// The job is over and its outputs are being collected.
    Collecting,
    /// Outputs are ready; waiting for the last voucher.
    Finished,
    /// It could not be started, or was lost.
    Failed {
        /// What happened and what to do.
        reason: String,
    },
}

/// One file that the job left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// Relative to the work directory, without `..`, with forward slashes.
    pub path: String,
    /// BLAKE3.
    pub hash: [u8; 32],
    /// Its size.
    pub size: Bytes,
    /// Executable by its owner.
    pub executable: bool,
}

/// The state of a lease as its provider sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which lease.
    pub lease: LeaseId,
    /// Grows with every change.
    pub revision: u64,
    /// Where the work stands.
    pub stage: Stage,
    /// When the job ran.
    pub run: Run,
    /// How it ended.
    pub exit: Option<Exit>,
    /// What it consumed.
    pub usage: Usage,
    /// What the best voucher held promises.
    pub paid: Money,
    /// That voucher: the proof for a buyer whose vouchers another node signs.
    #[serde(default)]
    pub voucher: Option<SignedVoucher>,
    /// When the job was told to end because the owner takes a spot lease back.
    pub reclaimed: Option<Timestamp>,
    /// What it left; complete once the stage is `Finished`.
    pub outputs: Vec<OutputFile>,
    /// What it consumed, signed, once its job is over.
    #[serde(default)]
    pub statement: Option<SignedStatement>,
    /// The newest snapshot of what it saved while it runs.
    #[serde(default)]
    pub saved: Option<Saved>,
    /// When the owner's hours end or maintenance begins, where a spot lease is taken back for that before its end.
    #[serde(default)]
    pub lent_until: Option<Timestamp>,
}

impl Report {
    /// Within the limits on what a provider may tell.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.outputs.len() <= MAX_OUTPUTS && self.statement.as_ref().is_none_or(SignedStatement::is_bounded)
    }
}
