//! The ledger of a user: reads by JSON-RPC, writes by the account's own gas or by a relayer.
//!
//! ```text
//! submit(action) ─► outbox on disk ─► Open ── account has gas ──► own Sender ─────────────┐
//!                                      ▲ │                                               ├─► evidence on chain ─► Included ─► Final
//!                                      │ └── else: sign, simulate, quote, POST ─► relayer ┘         │
//!                                      └────────────────── reorg ──────────────────────────────────┘
//! ```
//!
//! Nothing that a relayer says is believed: an action is included when the contracts' logs or state show it, and refused
//! when our own simulation refuses it. A relayer that takes a request and does nothing is passed over for the next; signing
//! the same intent for two relayers is harmless, because the nonces of action and fee derive from the action's key.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//! use tradewind_chain::client::artifacts;
//! use tradewind_chain::client::failover::{Endpoint, Failover, FailoverConfig};
//! use tradewind_chain::client::reader::Reader;
//! use tradewind_chain::client::relayed::{RelayedConfig, RelayedLedger};
//! use tradewind_chain::client::store::Store;
//! use tradewind_chain::client::wallet::{Contracts, Wallet};
//! use tradewind_chain::ledger::{Action, Ledger, LedgerError};
//! use tradewind_proto::signature::{Signature, SigningKey};
//! use tradewind_proto::terms::LeaseTerms;
//! use tradewind_proto::voucher::SignedVoucher;
//!
//! fn connect(
//!     rpc: &str,
//!     relayer: &str,
//!     contracts: Contracts,
//!     key: SigningKey,
//!     file: &Path,
//! ) -> Result<RelayedLedger, Box<dyn std::error::Error>> {
//!     let failover = Failover::new(vec![Endpoint::http(rpc)?], FailoverConfig::for_chain(contracts.chain_id));
//!     let reader = Reader::new(failover.provider(), contracts, 0, Arc::new(artifacts::decoder()));
//!     let config = RelayedConfig::local(vec![relayer.into()], 0);
//!     Ok(RelayedLedger::start(reader, Wallet::new(key, contracts), None, Store::open(file)?, config)?)
//! }
//!
//! /// As the provider, with the buyer's signature of the terms and the vouchers that its meter signed.
//! async fn whole_lease(
//!     provider: &RelayedLedger,
//!     terms: LeaseTerms,
//!     buyer: Signature,
//!     voucher: SignedVoucher,
//!     last: SignedVoucher,
//! ) -> Result<(), LedgerError> {
//!     let own = provider.wallet().sign_terms(&terms)?;
//!     let open = provider.submit(Action::Open { terms: terms.clone(), buyer, provider: own }).await?;
//!     assert!(provider.settled(&open.key).await?.is_included());
//!     let settle = provider.submit(Action::Settle { terms: terms.clone(), voucher }).await?;
//!     assert!(provider.settled(&settle.key).await?.is_included());
//!     let close = provider.submit(Action::Close { terms, voucher: Some(last) }).await?;
//!     assert!(provider.settled(&close.key).await?.is_included());
//!     Ok(())
//! }
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::primitives::{Address, U256};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tradewind_proto::ids::{DeviceId, LeaseId};
use tradewind_proto::terms::Domain;
use tradewind_proto::units::{Money, Seconds, Timestamp};

use crate::client::events::{EventFeed, FeedConfig};
use crate::client::reader::Reader;
use crate::client::relayed::worker::Worker;
use crate::client::sender::Sender;
use crate::client::store::{ACTION_KEYS, ACTIONS, Change, Store, StoreError, whole};
use crate::client::wallet::Wallet;
use crate::ledger::audit::Auditing;
use crate::ledger::court::Tribunal;
use crate::ledger::{
    AccountRecord, Action, ActionKey, ActionStatus, ChainHead, DeviceRecord, EventCursor, EventPage,
    LeaseRecord, Ledger, LedgerError, Parameters, ProviderPage, RegistryTerms, Submission,
};

mod relay;
mod worker;

/// How a user's ledger behaves.
#[derive(Debug, Clone)]
pub struct RelayedConfig {
    /// Relayers' base URLs, the preferred one first.
    pub relayers: Vec<String>,
    /// The most that one submission may cost, in base units of its fee's token.
    pub max_fee: Money,
    /// How often the chain is asked while an action is under way.
    pub poll: Duration,
    /// How often the newest head is asked for otherwise.
    pub head_poll: Duration,
    /// How long a relayer has until another is asked.
    pub patience: Duration,
    /// How long a relayer may hold its answer while it waits for inclusion.
    pub relay_wait: Duration,
    /// How long signatures count.
    pub signature_ttl: Seconds,
    /// With relayers configured, the account's own gas is used from this amount on, in wei.
    pub min_gas: U256,
    /// How many actions may be unfinished.
    pub max_pending: usize,
    /// How events are read.
    pub feed: FeedConfig,
}

impl RelayedConfig {
    /// For a ledger that includes at once, on this machine or nearby, deployed at block `start`.
    #[must_use]
    pub const fn local(relayers: Vec<String>, start: u64) -> Self {
        Self {
            relayers,
            max_fee: Money::from_base_units(100_000),
            poll: Duration::from_millis(25),
            head_poll: Duration::from_millis(250),
            patience: Duration::from_secs(3),
            relay_wait: Duration::from_millis(1_500),
            signature_ttl: Seconds::new(300),
            min_gas: U256::from_limbs([1_000_000_000_000_000, 0, 0, 0]),
            max_pending: 10_000,
            feed: FeedConfig::from(start),
        }
    }

    /// For a public chain, deployed at block `start`.
    #[must_use]
    pub fn public(relayers: Vec<String>, start: u64) -> Self {
        Self {
            poll: Duration::from_secs(2),
            head_poll: Duration::from_secs(4),
            patience: Duration::from_secs(45),
            relay_wait: Duration::ZERO,
            signature_ttl: Seconds::new(600),
            ..Self::local(relayers, start)
        }
    }
}

/// The ledger of one account. Stops when the last clone is dropped; what was taken stays in the store.
#[derive(Debug, Clone)]
pub struct RelayedLedger {
    shared: Arc<Shared>,
    _stop: Arc<DropGuard>,
}

#[derive(Debug)]
struct Shared {
    reader: Reader,
    wallet: Wallet,
    sender: Option<Sender>,
    config: RelayedConfig,
    feed: EventFeed,
    outbox: Outbox,
    heads: watch::Sender<ChainHead>,
}

impl RelayedLedger {
    /// Starts the ledger of `wallet`'s account with what `store` holds. With `sender` (of the same account) the account's
    /// own gas is used while it has any.
    ///
    /// # Errors
    /// [`LedgerError::Store`] when the store cannot be read, [`LedgerError::Invalid`] when `sender` is another account's.
    pub fn start(
        reader: Reader,
        wallet: Wallet,
        sender: Option<Sender>,
        store: Store,
        config: RelayedConfig,
    ) -> Result<Self, LedgerError> {
        if sender.as_ref().is_some_and(|sender| sender.account() != wallet.account()) {
            return Err(LedgerError::Invalid("the sender belongs to another account".into()));
        }
        let feed = EventFeed::new(reader.clone(), store.clone(), config.feed)?;
        let outbox = Outbox::load(wallet.account(), store, config.max_pending)?;
        let heads = watch::Sender::new(ChainHead::default());
        let shared = Arc::new(Shared { reader, wallet, sender, config, feed, outbox, heads });
        let stop = CancellationToken::new();
        tokio::spawn(Worker::new(Arc::clone(&shared)).run(stop.clone()));
        tokio::spawn(watch_heads(Arc::clone(&shared), stop.clone()));
        Ok(Self { shared, _stop: Arc::new(stop.drop_guard()) })
    }

    /// The account's wallet.
    #[must_use]
    pub fn wallet(&self) -> &Wallet {
        &self.shared.wallet
    }
}

/// Publishes every new head, as often as configured.
async fn watch_heads(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        if let Ok(head) = shared.reader.head().await {
            shared.publish(head);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(shared.config.head_poll) => {}
        }
    }
}

impl Shared {
    /// Until when signatures made now count: one to two spans ahead, and the same moment for a whole span, so that an action
    /// that is handed over again is the same request to the bit. A ledger that makes blocks on demand may be behind the clock.
    fn deadline(&self, head: ChainHead) -> Timestamp {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (now, span) = (head.timestamp.unix().max(clock), self.config.signature_ttl.get().max(1));
        Timestamp::from_unix((now / span).saturating_add(2).saturating_mul(span))
    }

    fn publish(&self, head: ChainHead) {
        self.heads.send_if_modified(|known| {
            let is_new = *known != head;
            *known = head;
            is_new
        });
    }
}

#[async_trait]
impl Ledger for RelayedLedger {
    fn account(&self) -> Address {
        self.shared.wallet.account()
    }

    fn domain(&self) -> Domain {
        self.shared.wallet.contracts().domain()
    }

    async fn head(&self) -> Result<ChainHead, LedgerError> {
        let head = self.shared.reader.head().await?;
        self.shared.publish(head);
        Ok(head)
    }

    fn heads(&self) -> watch::Receiver<ChainHead> {
        self.shared.heads.subscribe()
    }

    async fn current_version(&self) -> Result<u32, LedgerError> {
        self.shared.reader.current_version().await
    }

    async fn parameters(&self, version: u32) -> Result<Option<Parameters>, LedgerError> {
        self.shared.reader.parameters(version).await
    }

    async fn balance(&self, token: Address, account: Address) -> Result<Money, LedgerError> {
        self.shared.reader.balance(token, account).await
    }

    async fn holdings(&self, token: Address, account: Address) -> Result<Money, LedgerError> {
        self.shared.reader.holdings(token, account).await
    }

    async fn account_record(&self, account: Address) -> Result<Option<AccountRecord>, LedgerError> {
        self.shared.reader.account(account).await
    }

    async fn device(&self, device: DeviceId) -> Result<Option<DeviceRecord>, LedgerError> {
        self.shared.reader.device(device).await
    }

    async fn registry_terms(&self) -> Result<RegistryTerms, LedgerError> {
        self.shared.reader.registry_terms().await
    }

    async fn minimum_stake(&self, class: u16, units: u8) -> Result<Money, LedgerError> {
        self.shared.reader.minimum_stake(class, units).await
    }

    async fn lease(&self, lease: LeaseId) -> Result<LeaseRecord, LedgerError> {
        self.shared.reader.lease(lease).await
    }

    async fn providers(&self, start: u64, limit: u32) -> Result<ProviderPage, LedgerError> {
        self.shared.reader.providers(start, limit).await
    }

    fn tribunal(&self) -> Option<&dyn Tribunal> {
        self.shared.reader.contracts().court?;
        Some(&self.shared.reader)
    }

    fn auditing(&self) -> Option<&dyn Auditing> {
        self.shared.reader.contracts().attestations?;
        Some(&self.shared.reader)
    }

    async fn submit(&self, action: Action) -> Result<Submission, LedgerError> {
        let key = action.key(&self.domain())?;
        let (shared, added) = (Arc::clone(&self.shared), key.clone());
        whole(async move { shared.outbox.add(&added, action).await }).await?;
        Ok(Submission { key })
    }

    async fn status(&self, key: &ActionKey) -> Result<Option<ActionStatus>, LedgerError> {
        self.shared.outbox.status(key)
    }

    async fn events(&self, cursor: EventCursor, limit: usize) -> Result<EventPage, LedgerError> {
        self.shared.feed.page(cursor, limit).await
    }

    async fn settled(&self, key: &ActionKey) -> Result<ActionStatus, LedgerError> {
        let mut changes = self.shared.outbox.changes.subscribe();
        loop {
            match self.shared.outbox.status(key)? {
                None => return Err(LedgerError::Invalid(format!("no action {key} was submitted here"))),
                Some(ActionStatus::Pending) => {}
                Some(status) => return Ok(status),
            }
            if changes.changed().await.is_err() {
                return Err(LedgerError::Unavailable("the ledger has shut down".into()));
            }
        }
    }
}

/// How an action goes out. Chosen once: the account's own transactions spend no nonce of the contracts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Route {
    Own,
    Relayer,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Job {
    seq: u64,
    key: ActionKey,
    action: Action,
    /// The newest block when it was first tried.
    since: Option<u64>,
    route: Option<Route>,
    /// The newest block when a reorg took it off the chain: what it rests on may be gone too, and come back later.
    #[serde(default)]
    reorged_at: Option<u64>,
    /// Counts the account's own transactions for it.
    #[serde(default)]
    transactions: u32,
    status: ActionStatus,
}

impl Job {
    const fn is_open(&self) -> bool {
        matches!(self.status, ActionStatus::Pending | ActionStatus::Included { .. })
    }
}

/// The actions that the account asked for, in memory as they are in the store.
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

impl From<StoreError> for LedgerError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl Outbox {
    fn load(account: Address, store: Store, max_pending: usize) -> Result<Self, LedgerError> {
        let stored: Vec<(String, Job)> = store.scan(ACTIONS, &format!("{account}/"))?;
        let next = stored.last().map_or(0, |(_, job)| job.seq + 1);
        let open = stored.into_iter().map(|(_, job)| job).filter(Job::is_open);
        Ok(Self {
            account,
            store,
            max_pending,
            jobs: Mutex::new(open.map(|job| (job.seq, job)).collect()),
            adding: tokio::sync::Mutex::new(next),
            wake: Notify::new(),
            changes: watch::Sender::new(0),
        })
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<u64, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_jobs(&self) -> Vec<Job> {
        self.jobs().values().cloned().collect()
    }

    fn job_key(&self, seq: u64) -> String {
        format!("{}/{seq:016x}", self.account)
    }

    async fn add(&self, key: &ActionKey, action: Action) -> Result<(), LedgerError> {
        let mut next = self.adding.lock().await;
        if self.status(key)?.is_some_and(|status| !matches!(status, ActionStatus::Failed { .. })) {
            return Ok(());
        }
        let unfinished = self.jobs().len();
        if unfinished >= self.max_pending {
            return Err(LedgerError::Unavailable(format!("{unfinished} actions are unfinished")));
        }
        let seq = *next;
        let job = Job {
            seq,
            key: key.clone(),
            action,
            since: None,
            route: None,
            reorged_at: None,
            transactions: 0,
            status: ActionStatus::Pending,
        };
        self.store
            .commit(vec![
                Change::put(ACTIONS, self.job_key(seq), &job)?,
                Change::put(ACTION_KEYS, format!("{}/{key}", self.account), &seq)?,
            ])
            .await?;
        *next = seq + 1;
        self.jobs().insert(seq, job);
        self.wake.notify_one();
        Ok(())
    }

    fn status(&self, key: &ActionKey) -> Result<Option<ActionStatus>, LedgerError> {
        let Some(seq) = self.store.get::<u64>(ACTION_KEYS, &format!("{}/{key}", self.account))? else {
            return Ok(None);
        };
        if let Some(job) = self.jobs().get(&seq) {
            return Ok(Some(job.status.clone()));
        }
        Ok(self.store.get::<Job>(ACTIONS, &self.job_key(seq))?.map(|job| job.status))
    }

    async fn save(&self, job: Job) -> Result<(), LedgerError> {
        self.store.commit(vec![Change::put(ACTIONS, self.job_key(job.seq), &job)?]).await?;
        if job.is_open() {
            self.jobs().insert(job.seq, job);
        } else {
            self.jobs().remove(&job.seq);
        }
        self.changes.send_modify(|version| *version = version.wrapping_add(1));
        Ok(())
    }
}
