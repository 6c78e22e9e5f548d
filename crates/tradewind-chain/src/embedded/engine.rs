//! The one writer: a thread that takes commands, group-commits blocks, and answers only what is durable.
//!
//! ```text
//! commands ──► admit all that is queued ──► execute ──► commit + fsync ──► publish ──► answer
//!                      │ refused: answer                    │ failed: reopen, ask which head is durable,
//!                      ▼                                     ▼         forget what is not, answer with the error
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alloy::consensus::Header;
use alloy::primitives::{B256, Bytes};
use tokio::sync::{mpsc, oneshot, watch};

use super::block::Block;
use super::cache::BlockCache;
use super::config::{BlockPolicy, Clock};
use super::execution::{Executed, Rules, execute_block};
use super::filters::Filters;
use super::pool::{Pool, Pooled, Refused};
use super::state::StateDb;
use super::store::{Commit, Store, StoreError};

mod control;

pub(crate) use control::Control;
pub use control::Dropped;

/// Commands that may wait for the engine.
pub(crate) const QUEUE: usize = 16_384;
/// Submissions that are admitted before the next block is made of them.
const BATCH: usize = 4096;
/// How long submissions are refused after the storage failed, before it is tried again.
const STORAGE_PAUSE: Duration = Duration::from_millis(250);
/// How often a block is made only so that a raised base fee falls again for those who wait.
const FEE_RELIEF: Duration = Duration::from_secs(1);

/// The newest block.
#[derive(Debug, Clone)]
pub(crate) struct Tip {
    pub(crate) header: Header,
    pub(crate) hash: B256,
}

/// Why the ledger did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// The transaction was refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The disk failed or is full; nothing of the request was kept.
    #[error("ledger storage failed: {0}")]
    Storage(Arc<str>),
    /// More blocks were to be removed than the ledger can undo.
    #[error("cannot remove {depth} blocks: only {kept} can be undone")]
    TooDeep {
        /// How many were asked for.
        depth: u64,
        /// How many are possible.
        kept: u64,
    },
    /// The ledger was closed.
    #[error("the ledger is closed")]
    Closed,
    /// Too much waits for the ledger already.
    #[error("the ledger is busy")]
    Busy,
}

impl From<StoreError> for LedgerError {
    fn from(error: StoreError) -> Self {
        Self::Storage(error.to_string().into())
    }
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

/// What the engine is asked to do.
pub(crate) enum Command {
    Submit { pooled: Box<Pooled>, reply: Reply<()> },
    Control(Control),
    Close { reply: Reply<()> },
}

/// What the engine shares with readers.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) rules: Rules,
    pub(crate) store: Arc<Store>,
    pub(crate) pool: Arc<Mutex<Pool>>,
    pub(crate) blocks: Arc<Mutex<BlockCache>>,
    pub(crate) filters: Arc<Mutex<Filters>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Seconds by which the ledger's time is ahead of the clock.
    pub(crate) time_offset: Arc<std::sync::atomic::AtomicU64>,
    pub(crate) history: u64,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn now(&self) -> u64 {
        self.clock.now().saturating_add(self.time_offset.load(std::sync::atomic::Ordering::SeqCst))
    }
}

/// The writer's own state.
pub(crate) struct Engine {
    shared: Shared,
    policy: BlockPolicy,
    automine: bool,
    state: StateDb,
    tip: watch::Sender<Arc<Tip>>,
    /// Accepted transactions whose senders wait for them to be durable.
    waiting: HashMap<B256, Reply<()>>,
    /// Waiting transactions that the database holds.
    durable: HashSet<B256>,
    /// Transactions that the database holds and should forget.
    stale: Vec<B256>,
    next_timestamp: Option<u64>,
    forks: u64,
    failed: Option<(Instant, Arc<str>)>,
    last_block: Instant,
}

impl Engine {
    pub(crate) fn new(
        shared: Shared,
        policy: BlockPolicy,
        tip: watch::Sender<Arc<Tip>>,
    ) -> Result<Self, StoreError> {
        let mut engine = Self {
            state: StateDb::new(shared.store.view()?),
            shared,
            policy,
            automine: true,
            tip,
            waiting: HashMap::new(),
            durable: HashSet::new(),
            stale: Vec::new(),
            next_timestamp: None,
            forks: 0,
            failed: None,
            last_block: Instant::now(),
        };
        engine.load_pool()?;
        Ok(engine)
    }

    /// Serves commands until all senders are gone or the ledger is closed.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        if self.on_demand() {
            self.make_blocks_on_demand();
        }
        loop {
            let command = match self.next_tick() {
                // A stream of commands must not keep a block from its time.
                Some(Duration::ZERO) => {
                    self.tick();
                    continue;
                }
                Some(wait) => match tokio::time::timeout(wait, commands.recv()).await {
                    Ok(command) => command,
                    Err(_) => {
                        self.tick();
                        continue;
                    }
                },
                None => commands.recv().await,
            };
            let Some(mut command) = command else { return };
            let mut taken = 0;
            loop {
                match command {
                    Command::Submit { pooled, reply } => self.admit(*pooled, reply),
                    Command::Close { reply } => {
                        self.settle();
                        let _ = reply.send(Ok(()));
                        return;
                    }
                    Command::Control(control) => {
                        self.settle();
                        self.obey(control);
                    }
                }
                taken += 1;
                match commands.try_recv() {
                    Ok(next) if taken < BATCH => command = next,
                    Ok(next) => {
                        self.settle();
                        taken = 0;
                        command = next;
                    }
                    Err(_) => break,
                }
            }
            self.settle();
        }
    }

    fn on_demand(&self) -> bool {
        self.automine && matches!(self.policy, BlockPolicy::OnDemand { .. })
    }

    fn next_tick(&self) -> Option<Duration> {
        let interval = match self.policy {
            BlockPolicy::Every(interval) => Some(interval),
            BlockPolicy::OnDemand { heartbeat } if self.automine => {
                let relief = self.fees_hold_back().then_some(FEE_RELIEF);
                match (heartbeat, relief) {
                    (Some(heartbeat), Some(relief)) => Some(heartbeat.min(relief)),
                    (heartbeat, relief) => heartbeat.or(relief),
                }
            }
            BlockPolicy::OnDemand { .. } | BlockPolicy::Manual => None,
        }?;
        Some(interval.saturating_sub(self.last_block.elapsed()))
    }

    fn fees_hold_back(&self) -> bool {
        let next = self.shared.rules.next_base_fee(&self.tip.borrow().header);
        next > self.shared.rules.min_base_fee && !lock(&self.shared.pool).is_empty()
    }

    fn tick(&mut self) {
        self.last_block = Instant::now();
        if self.usable().is_ok()
            && let Err(error) = self.make_block(true, Bytes::new())
        {
            tracing::error!(%error, "no block could be made");
        }
    }

    fn admit(&mut self, pooled: Pooled, reply: Reply<()>) {
        if let Err(error) = self.usable() {
            let _ = reply.send(Err(error));
            return;
        }
        let account = match self.state.account(pooled.sender) {
            Ok(account) => account,
            Err(error) => {
                let error = self.recover(&error);
                let _ = reply.send(Err(error));
                return;
            }
        };
        let hash = pooled.hash;
        let outcome = lock(&self.shared.pool).admit(pooled, account, &self.shared.rules);
        match outcome {
            Ok(replaced) => {
                if let Some(replaced) = replaced {
                    self.forget(replaced);
                    self.answer(replaced, Err(Refused::Invalid("replaced".to_owned()).into()));
                }
                self.waiting.insert(hash, reply);
            }
            Err(refused) => {
                let _ = reply.send(Err(refused.into()));
            }
        }
    }

    fn forget(&mut self, hash: B256) {
        if self.durable.remove(&hash) {
            self.stale.push(hash);
        }
    }

    fn answer(&mut self, hash: B256, outcome: Result<(), LedgerError>) {
        if let Some(reply) = self.waiting.remove(&hash) {
            let _ = reply.send(outcome);
        }
    }

    /// Makes the blocks that are due and everything accepted durable.
    fn settle(&mut self) {
        if self.on_demand() {
            self.make_blocks_on_demand();
        }
        if self.waiting.is_empty() && self.stale.is_empty() {
            return;
        }
        let pool_added = self.not_durable();
        let commit = Commit {
            pool_added: pool_added.clone(),
            pool_removed: std::mem::take(&mut self.stale),
            ..Commit::default()
        };
        match self.shared.store.commit(&commit) {
            Ok(()) => {
                for (hash, _) in pool_added {
                    self.durable.insert(hash);
                    self.answer(hash, Ok(()));
                }
            }
            Err(error) => {
                self.recover(&error);
            }
        }
    }

    fn not_durable(&self) -> Vec<(B256, Bytes)> {
        let pool = lock(&self.shared.pool);
        self.waiting
            .keys()
            .filter_map(|hash| pool.get(*hash))
            .map(|pooled| (pooled.hash, pooled.raw()))
            .collect()
    }

    fn make_blocks_on_demand(&mut self) {
        loop {
            match self.make_block(false, Bytes::new()) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(%error, "no block could be made");
                    return;
                }
            }
        }
    }

    /// Makes one block of what is ready, and answers whether it did; an empty one only if `even_empty`.
    fn make_block(&mut self, even_empty: bool, extra: Bytes) -> Result<bool, LedgerError> {
        let parent = self.tip.borrow().clone();
        let timestamp = self.next_timestamp.unwrap_or_else(|| self.shared.now());
        let mut header = self.shared.rules.next_header(&parent.header, parent.hash, timestamp);
        header.extra_data = extra;
        let base_fee = header.base_fee_per_gas.unwrap_or(0);
        let state = &mut self.state;
        let ready = lock(&self.shared.pool).executable(base_fee, header.gas_limit, |sender| {
            state.account(sender).map(|account| account.map_or(0, |account| account.nonce))
        });
        let ready = ready.map_err(|error| self.recover(&error))?;
        if ready.is_empty() && !even_empty {
            return Ok(false);
        }
        let executed =
            execute_block(&mut self.state, &self.shared.rules, header, parent.header.state_root, &ready)
                .map_err(|error| self.recover(&error))?;
        for (hash, reason) in &executed.rejected {
            lock(&self.shared.pool).remove(*hash);
            self.forget(*hash);
            self.answer(*hash, Err(Refused::Invalid(reason.to_string()).into()));
        }
        if executed.block.transactions.is_empty() && !even_empty {
            return Ok(!executed.rejected.is_empty());
        }
        self.store_block(executed)?;
        Ok(true)
    }

    fn store_block(&mut self, executed: Executed) -> Result<(), LedgerError> {
        let Executed { block, diff, .. } = executed;
        let mut pool_removed = std::mem::take(&mut self.stale);
        let mined: Vec<B256> = block.transactions.iter().map(|transaction| *transaction.tx_hash()).collect();
        pool_removed.extend(mined.iter().filter(|hash| self.durable.contains(*hash)));
        let commit = Commit {
            block: Some((&block, &diff)),
            forget_undo_below: (block.header.number + 1).saturating_sub(self.shared.history),
            pool_removed,
            ..Commit::default()
        };
        if let Err(error) = self.shared.store.commit(&commit) {
            let failure = self.recover(&error);
            if self.tip.borrow().hash != block.hash {
                return Err(failure);
            }
        }
        self.next_timestamp = None;
        self.last_block = Instant::now();
        for hash in &mined {
            self.durable.remove(hash);
        }
        self.publish(block).map_err(|error| self.recover(&error))?;
        for hash in mined {
            lock(&self.shared.pool).remove(hash);
            self.answer(hash, Ok(()));
        }
        Ok(())
    }

    /// Shows a durable block to readers.
    fn publish(&mut self, block: Block) -> Result<(), StoreError> {
        let tip = Arc::new(Tip { header: block.header.clone(), hash: block.hash });
        lock(&self.shared.blocks).insert(Arc::new(block));
        self.tip.send_replace(tip);
        self.state.advance(self.shared.store.view()?);
        Ok(())
    }

    fn usable(&mut self) -> Result<(), LedgerError> {
        match &self.failed {
            Some((since, reason)) if since.elapsed() < STORAGE_PAUSE => {
                Err(LedgerError::Storage(reason.clone()))
            }
            Some(_) => self.reload().map_err(|error| {
                let reason: Arc<str> = error.to_string().into();
                self.failed = Some((Instant::now(), reason.clone()));
                LedgerError::Storage(reason)
            }),
            None => Ok(()),
        }
    }

    /// After a storage failure: goes back to what is durable, and tells everyone whose transaction is not.
    fn recover(&mut self, error: &StoreError) -> LedgerError {
        let reason: Arc<str> = error.to_string().into();
        tracing::error!(%error, "the ledger's storage failed");
        self.failed = Some((Instant::now(), reason.clone()));
        if let Err(error) = self.reload() {
            tracing::error!(%error, "the ledger's storage stays unusable");
            self.failed = Some((Instant::now(), reason.clone()));
        }
        let failure = LedgerError::Storage(reason);
        for (_, reply) in self.waiting.drain() {
            let _ = reply.send(Err(failure.clone()));
        }
        failure
    }

    fn reload(&mut self) -> Result<(), StoreError> {
        self.shared.store.reopen()?;
        let view = self.shared.store.view()?;
        let number = view.head()?.ok_or(StoreError::Corrupt("head"))?;
        let block = view.block(number)?.ok_or(StoreError::Corrupt("missing head"))?;
        for transaction in &block.transactions {
            self.answer(*transaction.tx_hash(), Ok(()));
        }
        self.state = StateDb::new(view);
        self.stale.clear();
        self.tip.send_replace(Arc::new(Tip { header: block.header, hash: block.hash }));
        self.load_pool()?;
        self.failed = None;
        Ok(())
    }

    /// Fills the pool with what the database holds of it.
    fn load_pool(&mut self) -> Result<(), StoreError> {
        let stored = self.state.view().pooled()?;
        let mut pool = Pool::default();
        self.durable.clear();
        for raw in stored {
            let Ok(pooled) = Pooled::decode(&raw, self.shared.rules.chain_id) else {
                return Err(StoreError::Corrupt("pooled transaction"));
            };
            let (hash, account) = (pooled.hash, self.state.account(pooled.sender)?);
            match pool.admit(pooled, account, &self.shared.rules) {
                Ok(_) => {
                    self.durable.insert(hash);
                }
                Err(_) => self.stale.push(hash),
            }
        }
        *lock(&self.shared.pool) = pool;
        Ok(())
    }
}
