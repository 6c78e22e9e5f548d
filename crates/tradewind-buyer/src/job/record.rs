//! What the buyer keeps of a job, so that a restart changes nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tradewind_mesh::PeerAddr;
use tradewind_proto::claim::Claim;
use tradewind_proto::ids::{JobId, ProviderId};
use tradewind_proto::job::JobSpec;
use tradewind_proto::manifest::JobManifest;
use tradewind_proto::report::OutputFile;
use tradewind_proto::signature::Signature;
use tradewind_proto::statement::SignedDeletion;
use tradewind_proto::supervision::{Outcome, Supervision};
use tradewind_proto::trace::{self, Context};
use tradewind_proto::units::{Money, Timestamp};
use tradewind_proto::voucher::SignedVoucher;
use tradewind_proto::workload::LogCursor;

use crate::delegate::MeterNode;
pub use crate::inputs::stored::{Origin, Stored};

/// The kind of the buyer's records in the store.
pub(crate) const KIND: &str = "job";

/// A job and everything that was tried for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Which job.
    pub id: JobId,
    /// The job as it was read.
    pub spec: JobSpec,
    /// Local inputs, as they were when the job was submitted, in the blob store.
    pub inputs: Vec<tradewind_proto::manifest::Input>,
    /// Inputs in stores, as they were then; every attempt gets new addresses of them.
    #[serde(default)]
    pub stored: Vec<Stored>,
    /// What it runs in; an archive lies in the blob store.
    #[serde(default)]
    pub image: Option<tradewind_proto::workload::Image>,
    /// Where outputs are put.
    pub output_dir: PathBuf,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// The leases, in order; the last one is the current.
    pub attempts: Vec<Attempt>,
    /// Where it stands.
    pub state: JobState,
    /// Somebody asked to stop it.
    pub stop_requested: bool,
    /// Vouchers are signed ahead: it goes on when this node is gone.
    pub unattended: bool,
    /// Another node signs the vouchers: it goes on when this one is gone.
    #[serde(default)]
    pub meter: Option<MeterNode>,
    /// What it saved of its progress, and is here: the next attempt goes on from it.
    #[serde(default)]
    pub checkpoint: Option<Checkpoint>,
    /// How many checkpoints were brought here.
    #[serde(default)]
    pub checkpoints: u32,
    /// Those that lie in the buyer's store too, the newest last.
    #[serde(default)]
    pub offsite: Vec<Offsite>,
}

/// A checkpoint in the buyer's own store, encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsite {
    /// Which one of the job's.
    pub number: u32,
    /// The object's key.
    pub key: String,
    /// When it was put there.
    pub at: Timestamp,
}

/// A job's saved progress, in this node's blob store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Which one of the job's.
    pub number: u32,
    /// The attempt that saved it.
    pub attempt: usize,
    /// When its provider took it.
    pub at: Timestamp,
    /// Its files.
    pub files: Vec<OutputFile>,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum JobState {
    /// Looking for a provider.
    Placing {
        /// Why the last look found none; empty at first.
        problem: String,
    },
    /// Under a lease.
    Leased,
    /// Over.
    Ended {
        /// The job's own exit code, where it had one.
        code: Option<u8>,
        /// How it ended, for people.
        reason: String,
    },
}

/// One lease of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The pure state.
    pub supervision: Supervision,
    /// With whom.
    pub provider: ProviderId,
    /// Where its node is.
    pub address: PeerAddr,
    /// What it runs.
    pub manifest: JobManifest,
    /// Ours, over the terms.
    pub buyer_signature: Signature,
    /// The provider's.
    pub provider_signature: Signature,
    /// Who signs its vouchers, where this node does not.
    #[serde(default)]
    pub delegate: Option<Delegate>,
    /// How much of its log is here.
    pub log: LogCursor,
    /// The length of the local log file there.
    pub log_length: u64,
    /// How many vouchers were signed; of a delegated meter's, those that were seen.
    pub vouchers: u32,
    /// Why the provider did not take the job after it had signed.
    pub refused: Option<String>,
    /// It had no room any more: that is no attempt of the job's.
    #[serde(default)]
    pub busy: bool,
    /// The checkpoint that it went on from.
    #[serde(default)]
    pub resumed: Option<u32>,
    /// The newest of its provider's snapshots that is here.
    #[serde(default)]
    pub saved: u64,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What the chain says was paid in the end.
    pub settled: Option<Settlement>,
    /// What is claimed from the bond of a provider that fell silent.
    #[serde(default)]
    pub claim: Option<Claim>,
    /// The chain shows it closed: bond and fees are paid out too.
    #[serde(default)]
    pub closed: bool,
    /// The provider's word that it deleted everything of the lease.
    #[serde(default)]
    pub deleted: Option<SignedDeletion>,
}

/// A lease's meter that is another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegate {
    /// Which node.
    pub meter: MeterNode,
    /// The first voucher, which it signed when it took the lease.
    pub prepayment: SignedVoucher,
}

/// The money of a lease that is over. `deposited = paid + refunded + forfeited` unless a break fee was owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// Locked at opening.
    pub deposited: Money,
    /// Paid to the provider, its fee included.
    pub paid: Money,
    /// Returned.
    pub refunded: Money,
    /// Lost to the sink: the prepayment of a lease without any voucher.
    pub forfeited: Money,
    /// Compensation from the provider's bond.
    pub compensated: Money,
}

impl JobRecord {
    /// The lease that is being worked on.
    #[must_use]
    pub fn current(&self) -> Option<&Attempt> {
        self.attempts.last().filter(|attempt| attempt.outcome.is_none())
    }

    /// Its place in a trace: under its caller's, where its environment names one.
    #[must_use]
    pub fn trace(&self) -> Context {
        let caller = self.spec.envs.get(trace::VARIABLE).and_then(|text| text.parse().ok());
        Context::of_job(self.id, caller)
    }

    /// The place in the trace of the attempt at this index.
    #[must_use]
    pub fn trace_of(&self, attempt: usize) -> Context {
        self.trace().of_attempt(self.id, u64::try_from(attempt).unwrap_or(u64::MAX))
    }

    /// True once nothing more will happen.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.state, JobState::Ended { .. })
    }
}
