//! `tradewind/directory/1`: who offers what, now.
//!
//! Every record has one writer, a sequence, an end and a signature. A node that gets one checks it, stores it if it is
//! the newest of its slot, and only then passes it on:
//!
//! ```text
//!              ┌──────────────────────────────┐
//!  link A ───▶ │ precheck ▸ verify ▸ insert   │ ──▶ link B   (try_send: a slow peer is dropped, not waited for)
//!              │          Table               │ ──▶ link C
//!  compare ◀─▶ │ 256 part digests             │ ──▶ watchers
//!              └──────────────────────────────┘
//! ```
//!
//! *Links* carry news while they last. *Comparison* repairs what links missed: every node now and then compares part
//! digests with several others, pulls what it lacks and pushes what they lack, so that no single peer can hide a record.
//!
//! Failure paths: a forged record drops its link and shuts the peer out; a slow peer is dropped and catches up by
//! comparison; an unreachable one is dialled again with a growing wait; a full queue or table refuses, never grows.

mod bulletins;
mod compare;
mod link;
mod offers;
mod record;
mod table;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;
use tradewind_proto::units::{Clock, Timestamp};

pub use bulletins::{MarketVerifier, Watchers};
pub use offers::{Membership, OfferVerifier};
pub use record::{Record, RecordDigest, RecordId, RecordVerifier};
pub use table::{PARTS, PartDigest, PartSet, Rejection, Summary, Table, TableLimits, Verdict, part_of};

pub(crate) use link::DirectoryServer;

use crate::limits::DirectoryLimits;
use crate::refusal::{Refusal, RefusalCode};

/// The system's time of day.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        Timestamp::from_unix(since.as_secs())
    })
}

/// Something that happened in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryEvent {
    /// A record is new, or newer than before.
    Stored(Arc<Record>),
    /// A record ended.
    Ended(RecordId),
    /// One writer signed two records under one sequence: evidence.
    Equivocation {
        /// The one that was known.
        first: Arc<Record>,
        /// The one that replaced it.
        second: Arc<Record>,
    },
    /// This watcher was too slow and missed events: read a new snapshot.
    Lagged,
}

/// The directory's news from one moment on.
#[derive(Debug)]
pub struct DirectoryWatch {
    /// Every live record at that moment.
    pub snapshot: Vec<Arc<Record>>,
    events: broadcast::Receiver<DirectoryEvent>,
}

impl DirectoryWatch {
    /// The next event, or `None` when the directory is gone.
    pub async fn next(&mut self) -> Option<DirectoryEvent> {
        match self.events.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(DirectoryEvent::Lagged),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Why a record was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The verifier refused it.
    #[error("the record does not verify")]
    Unverified(#[source] Refusal),
    /// The table refused it.
    #[error("the record is not stored")]
    Rejected(#[from] Rejection),
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Accepted {
    /// What is new here, in order: forward exactly these.
    pub stored: Vec<Arc<Record>>,
    /// The first record that no honest node would have forwarded.
    pub forged: Option<Refusal>,
    /// The first other refusal.
    pub refused: Option<PublishError>,
}

/// The records that one node knows, with verification and news; no I/O. The mesh and the simulator share it.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    table: Mutex<Table>,
    verifier: Arc<dyn RecordVerifier>,
    clock: Clock,
    events: broadcast::Sender<DirectoryEvent>,
}

impl Directory {
    /// An empty directory.
    #[must_use]
    pub fn new(limits: &DirectoryLimits, verifier: Arc<dyn RecordVerifier>, clock: Clock) -> Self {
        let (events, _) = broadcast::channel(limits.watch_queue);
        let table = Mutex::new(Table::new(limits.table.clone()));
        Self { inner: Arc::new(Inner { table, verifier, clock, events }) }
    }

    /// Checks, verifies and stores records, on the calling thread. Only what is returned as stored may be forwarded.
    #[must_use]
    pub fn accept(&self, records: Vec<Record>) -> Accepted {
        let mut accepted = Accepted::default();
        for record in records {
            match self.accept_one(record) {
                Ok(record) => accepted.stored.push(record),
                Err(PublishError::Unverified(refusal)) if refusal.code() == RefusalCode::Forged => {
                    accepted.forged.get_or_insert(refusal);
                }
                Err(error) => {
                    accepted.refused.get_or_insert(error);
                }
            }
        }
        accepted
    }

    fn accept_one(&self, record: Record) -> Result<Arc<Record>, PublishError> {
        let now = (self.inner.clock)();
        self.table().precheck(now, &record)?;
        self.inner.verifier.verify(&record).map_err(PublishError::Unverified)?;
        let record = Arc::new(record);
        // Events are sent under the table's lock, so that a watcher's snapshot and its events never overlap.
        let mut table = self.table();
        match table.insert(now, record.clone()) {
            Verdict::Rejected(rejection) => Err(rejection.into()),
            Verdict::Stored { equivocation } => {
                if let Some(first) = equivocation {
                    self.tell(DirectoryEvent::Equivocation { first, second: record.clone() });
                }
                self.tell(DirectoryEvent::Stored(record.clone()));
                Ok(record)
            }
        }
    }

    /// Every live record.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Arc<Record>> {
        self.purge();
        self.table().iter().cloned().collect()
    }

    /// Every live record, and every change from then on.
    #[must_use]
    pub fn watch(&self) -> DirectoryWatch {
        self.purge();
        let table = self.table();
        DirectoryWatch { snapshot: table.iter().cloned().collect(), events: self.inner.events.subscribe() }
    }

    /// Ends what is over.
    pub fn purge(&self) {
        let mut table = self.table();
        for id in table.purge((self.inner.clock)()) {
            self.tell(DirectoryEvent::Ended(id));
        }
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.inner.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: DirectoryEvent) {
        // Without watchers there is nobody to tell.
        let _ = self.inner.events.send(event);
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("records", &self.table().len()).finish_non_exhaustive()
    }
}
