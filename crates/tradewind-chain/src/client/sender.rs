//! The one way out for transactions of a key: a durable outbox that owns the key's nonces.
//!
//! ```text
//! send(key, call) ─► Queued ── simulate, sign, store ──► Sent ── receipt ──► Included ── depth ──► Final
//!                      │  ▲                               │ ▲                  │
//!                refused  │ its nonce went to another     │ └─── reorg ────────┘
//!                      ▼  └───────── transaction ─────────┘
//!                   Failed            (rebroadcast; stuck: same nonce, higher fee)
//! ```
//!
//! The raw bytes are on disk before the network sees them. From then on only the chain decides: a failed broadcast, a
//! timeout, or an answer that makes no sense changes nothing, and a restart goes on from the file. A transaction is given
//! up only before it was signed, when the chain's own simulation refuses it and nothing else of this key is in flight.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::Address;
use alloy::providers::DynProvider;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tradewind_proto::signature::SigningKey;

use crate::client::revert::RevertDecoder;
use crate::client::sender::job::{Job, JobState};
use crate::client::sender::worker::Worker;
use crate::client::store::{Change, Store, StoreError, TRANSACTION_KEYS, TRANSACTIONS, whole};
use crate::ledger::ActionStatus;

pub use crate::client::sender::job::Call;

mod job;
mod worker;

/// How a sender behaves.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// The chain's id.
    pub chain_id: u64,
    /// Blocks on top of a transaction's that make it final.
    pub finality: u64,
    /// How often the chain is asked while something is under way.
    pub poll: Duration,
    /// Resent with a raised fee after that long without inclusion.
    pub stuck_after: Duration,
    /// Signed anew under another nonce after that long without a receipt though its nonce is spent.
    pub lost_after: Duration,
    /// The highest price of a unit of gas that is ever bid, in wei.
    pub max_fee_per_gas: u128,
    /// How many transactions may be unfinished.
    pub max_pending: usize,
    /// How many may be signed and not included.
    pub max_in_flight: usize,
}

impl SenderConfig {
    /// For a public chain with blocks every few seconds.
    #[must_use]
    pub const fn public(chain_id: u64, finality: u64) -> Self {
        Self {
            chain_id,
            finality,
            poll: Duration::from_secs(2),
            stuck_after: Duration::from_secs(45),
            lost_after: Duration::from_secs(120),
            max_fee_per_gas: 500_000_000_000,
            max_pending: 10_000,
            max_in_flight: 16,
        }
    }

    /// For a ledger that includes at once, on this machine or nearby.
    #[must_use]
    pub const fn local(chain_id: u64) -> Self {
        Self {
            chain_id,
            finality: 0,
            poll: Duration::from_millis(25),
            stuck_after: Duration::from_secs(5),
            lost_after: Duration::from_secs(10),
            max_fee_per_gas: 500_000_000_000,
            max_pending: 10_000,
            max_in_flight: 16,
        }
    }
}

/// Why a transaction was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SenderError {
    /// The outbox is full.
    #[error("{0} transactions are unfinished; no more are taken")]
    Full(usize),
    /// The outbox cannot be written or read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The outbox of one key. Stops when the last clone is dropped; what was taken stays in the store.
#[derive(Debug, Clone)]
pub struct Sender {
    outbox: Arc<Outbox>,
    _stop: Arc<DropGuard>,
}

impl Sender {
    /// Starts the outbox of `key` with what `store` holds of it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub fn start(
        provider: DynProvider,
        key: SigningKey,
        store: Store,
        decoder: Arc<RevertDecoder>,
        config: SenderConfig,
    ) -> Result<Self, StoreError> {
        let outbox = Arc::new(Outbox::load(key.address(), store, config.max_pending)?);
        let stop = CancellationToken::new();
        let worker = Worker::new(provider, key, Arc::clone(&outbox), decoder, config);
        tokio::spawn(worker.run(stop.clone()));
        Ok(Self { outbox, _stop: Arc::new(stop.drop_guard()) })
    }

    /// The account that pays the gas.
    #[must_use]
    pub fn account(&self) -> Address {
        self.outbox.account
    }

    /// Takes `call` under `key`, once: a key that is under way or done is not taken again, one that failed is.
    ///
    /// # Errors
    /// [`SenderError`]; nothing was taken then.
    pub async fn send(&self, key: &str, call: Call) -> Result<(), SenderError> {
        let (outbox, key) = (Arc::clone(&self.outbox), key.to_owned());
        whole(async move { outbox.add(&key, call).await }).await
    }

    /// How far the transaction under `key` has come.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub fn status(&self, key: &str) -> Result<Option<ActionStatus>, StoreError> {
        self.outbox.status(key)
    }

    /// How many transactions are unfinished.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.outbox.jobs().values().filter(|job| job.status() == ActionStatus::Pending).count()
    }

    /// Changes whenever a transaction's status may have.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.outbox.changes.subscribe()
    }

    /// Waits until the transaction under `key` is included or failed. Waits as long as it takes.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read, or the key was never taken.
    pub async fn settled(&self, key: &str) -> Result<ActionStatus, StoreError> {
        let mut changes = self.changes();
        loop {
            match self.status(key)? {
                None => return Err(StoreError::Record(format!("no transaction {key} was taken"))),
                Some(ActionStatus::Pending) => {}
                Some(status) => return Ok(status),
            }
            // The worker holds the sending half for as long as this handle lives.
            if changes.changed().await.is_err() {
                return Err(StoreError::Database("the sender has stopped".into()));
            }
        }
    }
}

/// What the handle and the worker share: the open jobs, in memory as they are in the store.
#[derive(Debug)]
struct Outbox {
    account: Address,
    store: Store,
    max_pending: usize,
    jobs: Mutex<BTreeMap<u64, Job>>,
    adding: tokio::sync::Mutex<u64>,
    wake: Notify,
    changes: watch::Sender<u64>,
}

impl Outbox {
    fn load(account: Address, store: Store, max_pending: usize) -> Result<Self, StoreError> {
        let stored: Vec<(String, Job)> = store.scan(TRANSACTIONS, &format!("{account}/"))?;
        let next = stored.last().map_or(0, |(_, job)| job.seq + 1);
        let jobs =
            stored.into_iter().filter(|(_, job)| job.is_open()).map(|(_, job)| (job.seq, job)).collect();
        Ok(Self {
            account,
            store,
            max_pending,
            jobs: Mutex::new(jobs),
            adding: tokio::sync::Mutex::new(next),
            wake: Notify::new(),
            changes: watch::Sender::new(0),
        })
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<u64, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn job_key(&self, seq: u64) -> String {
        format!("{}/{seq:016x}", self.account)
    }

    async fn add(&self, key: &str, call: Call) -> Result<(), SenderError> {
        let mut next = self.adding.lock().await;
        if self.status(key)?.is_some_and(|status| !matches!(status, ActionStatus::Failed { .. })) {
            return Ok(());
        }
        let unfinished = self.jobs().len();
        if unfinished >= self.max_pending {
            return Err(SenderError::Full(unfinished));
        }
        let seq = *next;
        let job = Job::queued(seq, key.to_owned(), call);
        let pointer = format!("{}/{key}", self.account);
        self.store
            .commit(vec![
                Change::put(TRANSACTIONS, self.job_key(seq), &job)?,
                Change::put(TRANSACTION_KEYS, pointer, &seq)?,
            ])
            .await?;
        *next = seq + 1;
        self.jobs().insert(seq, job);
        self.wake.notify_one();
        Ok(())
    }

    fn status(&self, key: &str) -> Result<Option<ActionStatus>, StoreError> {
        let Some(seq) = self.store.get::<u64>(TRANSACTION_KEYS, &format!("{}/{key}", self.account))? else {
            return Ok(None);
        };
        if let Some(job) = self.jobs().get(&seq) {
            return Ok(Some(job.status()));
        }
        let stored = self.store.get::<Job>(TRANSACTIONS, &self.job_key(seq))?;
        Ok(stored.map(|job| job.status()))
    }

    /// Writes `job` as it is now; a finished one keeps no raw bytes.
    async fn save(&self, mut job: Job) -> Result<(), StoreError> {
        if matches!(job.state, JobState::Final { .. } | JobState::Failed { .. }) {
            job.attempts.clear();
        }
        self.store.commit(vec![Change::put(TRANSACTIONS, self.job_key(job.seq), &job)?]).await?;
        if job.is_open() {
            self.jobs().insert(job.seq, job);
        } else {
            self.jobs().remove(&job.seq);
        }
        self.changes.send_modify(|version| *version = version.wrapping_add(1));
        Ok(())
    }
}
