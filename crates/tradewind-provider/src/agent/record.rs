//! What the agent keeps of a lease, so that a restart changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify, Semaphore, watch};
use tradewind_proto::access::MAX_SESSIONS;
use tradewind_proto::hosting::Hosting;
use tradewind_proto::ids::{BuyerId, LeaseId, MeshKey};
use tradewind_proto::manifest::JobManifest;
use tradewind_proto::report::{OutputFile, Report};
use tradewind_proto::signature::Signature;
use tradewind_proto::statement::{SignedDeletion, SignedStatement};
use tradewind_proto::trace::{self, Context};
use tradewind_proto::units::{Seconds, Timestamp};
use tradewind_proto::workload::{Secrets, Usage};
use tradewind_store::{Batch, Store, StoreError};

use super::saving::Snapshots;

/// The kind of the agent's records in the store.
pub(super) const KIND: &str = "hosting";

/// What the store calls the word that a lease's data were deleted.
pub(super) const DELETED: &str = "deleted";
/// How long it is there to be asked for.
pub(super) const DELETED_KEPT: Seconds = Seconds::new(30 * 86_400);

/// A lease that was forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Deleted {
    /// The mesh key that may ask.
    pub(super) owner: MeshKey,
    pub(super) at: Timestamp,
    pub(super) word: SignedDeletion,
}

/// One lease, durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The pure state.
    pub(super) hosting: Hosting,
    /// The job.
    pub(super) manifest: JobManifest,
    /// The mesh key that may speak about the lease.
    pub(super) owner: MeshKey,
    /// Where its node is.
    pub(super) owner_address: String,
    /// The mesh key that the owner lets read reports and pay.
    #[serde(default)]
    pub(super) meter: Option<MeshKey>,
    /// The device's units that it holds.
    pub(super) units: u64,
    /// The host's GPUs that it has.
    pub(super) gpus: Vec<u32>,
    /// The buyer's signature of the terms.
    pub(super) buyer_signature: Signature,
    /// Ours.
    pub(super) provider_signature: Signature,
    /// What the job left.
    pub(super) outputs: Vec<OutputFile>,
    /// What it consumed, signed once.
    #[serde(default)]
    pub(super) statement: Option<SignedStatement>,
}

/// A lease in memory: the record, what was last seen, and the worker's bell.
#[derive(Debug)]
pub(super) struct Hosted {
    pub(super) id: LeaseId,
    pub(super) buyer: BuyerId,
    pub(super) units: u64,
    pub(super) start: Timestamp,
    /// Where its job is in a trace, as its environment says.
    pub(super) parent: Option<Context>,
    pub(super) record: Mutex<Record>,
    pub(super) secrets: Mutex<Option<Secrets>>,
    pub(super) bell: Notify,
    pub(super) report: watch::Sender<Report>,
    /// Places for sessions.
    pub(super) sessions: Arc<Semaphore>,
    /// Snapshots of what it saved.
    pub(super) snapshots: std::sync::Mutex<Snapshots>,
    over: AtomicBool,
}

impl Hosted {
    pub(super) fn new(id: LeaseId, record: Record, secrets: Option<Secrets>, report: Report) -> Arc<Self> {
        Arc::new(Self {
            id,
            buyer: record.hosting.terms.buyer,
            units: record.units,
            start: record.hosting.terms.start,
            parent: record.manifest.envs.get(trace::VARIABLE).and_then(|text| text.parse().ok()),
            over: AtomicBool::new(record.hosting.over_at.is_some()),
            record: Mutex::new(record),
            secrets: Mutex::new(secrets),
            bell: Notify::new(),
            report: watch::Sender::new(report),
            sessions: Arc::new(Semaphore::new(MAX_SESSIONS)),
            snapshots: std::sync::Mutex::default(),
        })
    }

    /// Over on chain: what is left of it here holds no unit any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(super) fn set_over(&self, over: bool) {
        self.over.store(over, Ordering::Relaxed);
    }

    /// Publishes a report when anything but its revision changed.
    pub(super) fn publish(&self, mut report: Report) {
        self.report.send_if_modified(|known| {
            report.revision = known.revision;
            if *known == report {
                return false;
            }
            report.revision += 1;
            *known = report;
            true
        });
    }
}

/// Lets go of words that nobody asked for in time.
pub(super) async fn prune(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let words: Vec<(String, Deleted)> = store.all(DELETED).await?;
    let old = words.into_iter().filter(|(_, deleted)| now.since(deleted.at) > DELETED_KEPT);
    let batch = old.fold(Batch::new(), |batch, (key, _)| batch.remove(DELETED, key));
    store.commit(batch).await
}

/// A life's first report of a lease. Its revision is beyond all that earlier lives gave out: seconds grow over restarts, so no
/// counter has to be stored.
pub(super) fn first_report(record: &Record, now: Timestamp) -> Report {
    Report {
        lease: record.hosting.id,
        revision: now.unix() << 20,
        stage: tradewind_proto::report::Stage::Opening,
        run: record.hosting.run,
        exit: record.hosting.exit,
        usage: Usage::default(),
        paid: record.hosting.held(),
        voucher: record.hosting.best,
        reclaimed: reclaimed(record),
        outputs: record.outputs.clone(),
        statement: record.statement.clone(),
        saved: None,
        lent_until: None,
    }
}

/// When the job was told that its lease is taken back.
pub(super) fn reclaimed(record: &Record) -> Option<Timestamp> {
    record.hosting.reclaim.and_then(|reclaim| reclaim.told)
}
