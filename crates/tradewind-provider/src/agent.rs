//! The provider's agent: quotes terms, takes jobs over, and runs one worker per lease.
//!
//! ```text
//! mesh ── lease/1 ──► requests ──► store (commit) ──► answer
//!                        │ bell
//!                        ▼
//!                     worker: load ─► observe chain and runtime ─► Hosting::next ─► act ─► again
//! ```
//!
//! The store is the truth: an answer goes out only after the commit, and a restarted agent takes every lease up where the store,
//! the runtime and the chain say it is. A workload is adopted, never started twice.

mod access;
mod default_job;
mod lending;
mod market;
mod outputs;
mod owner;
mod place;
mod prepare;
mod reach;
mod record;
mod requests;
mod saving;
mod units;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tradewind_chain::ledger::{Ledger, LedgerError};
use tradewind_mesh::Transport;
use tradewind_proto::ids::{BuyerId, LeaseId};
use tradewind_proto::lending::{Lending, Standing};
use tradewind_proto::offer::{Follow, Offer, TrustTier};
use tradewind_proto::owner::OwnerRules;
use tradewind_proto::place::PlaceWord;
use tradewind_proto::report::Report;
use tradewind_proto::signature::SigningKey;
use tradewind_proto::terms::Domain;
use tradewind_proto::trace::Context;
use tradewind_proto::units::{Bytes, Clock, Money, Seconds, Timestamp};
use tradewind_proto::workload::AcceleratorUsage;
use tradewind_store::{Store, StoreError};

pub use self::default_job::{DEFAULT_JOB, DefaultJob, LONGEST_GRACE};
pub use self::owner::ReclaimError;
use self::record::{Hosted, KIND, Record, first_report};
use self::units::Promises;
use crate::inventory::GpuSource;
use crate::runtime::Runtime;
use crate::tee::Attester;
use crate::web::{Cache, Puller, SourcePolicy};

/// How the agent works.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Work directories and downloads live here.
    pub state_dir: PathBuf,
    /// What is sold: prices, conditions and the unit. Sequence, times and free units are filled in at each heartbeat.
    pub offer: Offer,
    /// GPUs that leases may use, by the host's index; shared out unit by unit.
    pub gpus: Vec<u32>,
    /// Settle as soon as this much is unsettled.
    pub settle_amount: Money,
    /// How often a worker looks again without being rung.
    pub tick: Duration,
    /// Whose attestations of its place the offer repeats; anybody's where empty, the oldest first.
    pub auditors: Vec<alloy_primitives::Address>,
    /// How often the offer is re-issued.
    pub heartbeat: Duration,
    /// The largest input that is pulled, in all.
    pub max_input: Bytes,
    /// Where inputs from the web may come from.
    pub sources: SourcePolicy,
    /// How much of them is kept for later leases, where anybody may have it and its hash is known; nothing where zero.
    pub input_cache: Bytes,
    /// To whom the machine is leased, and what may run on it.
    pub rules: OwnerRules,
    /// When it is leased.
    pub lending: Lending,
    /// How the price follows the market's, where it does.
    pub follow: Option<Follow>,
    /// How long log and outputs of a lease that is over wait for a buyer that has not taken them.
    pub keep: Seconds,
    /// Work directories are encrypted on disk; where one cannot be, its lease does not begin.
    pub encrypts: bool,
    /// What runs while nobody leases the machine.
    pub default_job: Option<DefaultJob>,
}

/// Why the agent could not start or answer.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The store failed.
    #[error("the agent's store failed")]
    Store(#[from] StoreError),
    /// The chain did not answer.
    #[error("the chain did not answer")]
    Ledger(#[from] LedgerError),
    /// The state directory cannot be used.
    #[error("the state directory cannot be used")]
    StateDir(#[source] std::io::Error),
    /// An authority for sources is no certificate.
    #[error("the client for inputs cannot be made")]
    Sources(#[source] reqwest::Error),
    /// The chain has no such parameter version.
    #[error("the chain has no parameter version {0}; take the network's profile anew")]
    Version(u32),
}

/// The parts that an agent drives.
pub struct Parts {
    /// The chain, as the provider's account.
    pub ledger: Arc<dyn Ledger>,
    /// The mesh.
    pub transport: Arc<dyn Transport>,
    /// What starts workloads, by name.
    pub runtimes: BTreeMap<&'static str, Arc<dyn Runtime>>,
    /// What survives.
    pub store: Store,
    /// The account's key: signs terms and offers.
    pub key: SigningKey,
    /// The time.
    pub clock: Clock,
    /// What shows that the machine runs in trusted execution, where it does.
    pub attester: Option<Arc<dyn Attester>>,
    /// What lists accelerators, where some are sold: those that fall ill leave the offer.
    pub gpus: Option<Arc<dyn GpuSource>>,
}

/// A hosted lease, as its course is recorded.
#[derive(Debug, Clone)]
pub struct Traced {
    /// Where its work stands.
    pub report: Report,
    /// Whose it is.
    pub buyer: BuyerId,
    /// When it began.
    pub start: Timestamp,
    /// Where its job is in a trace, as its environment says.
    pub parent: Option<Context>,
    /// Over on chain: only what it left is here still.
    pub is_over: bool,
}

/// A running agent; clones share it.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

struct Inner {
    config: AgentConfig,
    parts: Parts,
    domain: Domain,
    parameters: tradewind_chain::ledger::Parameters,
    leases: RwLock<HashMap<LeaseId, Arc<Hosted>>>,
    /// Held while a lease is taken over.
    beginning: tokio::sync::Mutex<()>,
    /// Held while the hardware is asked for evidence, which strangers may ask for.
    attesting: tokio::sync::Mutex<()>,
    promised: RwLock<Promises>,
    accepting: RwLock<bool>,
    /// What the owner's hours and limits say.
    standing: RwLock<Standing>,
    /// How long a lease can last by what schedules above the runtimes.
    longest: RwLock<Option<Seconds>>,
    /// What is asked for a unit, as it was last offered.
    prices: RwLock<market::Asking>,
    /// Units with accelerators that are ill.
    ill: RwLock<lending::Ill>,
    /// What each accelerator did at the last look, by its number on the host.
    loads: RwLock<BTreeMap<u32, AcceleratorUsage>>,
    default_job: default_job::State,
    /// Who attests where the device stands, at the last look.
    attested: RwLock<Vec<PlaceWord>>,
    /// Rings when the offer changed before its next heartbeat.
    republish: Notify,
    web: Puller,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Agent {
    /// Starts the agent: adopts every stored lease, answers on the mesh and publishes offers.
    ///
    /// # Errors
    /// [`AgentError`]; nothing runs then.
    pub async fn start(config: AgentConfig, parts: Parts) -> Result<Self, AgentError> {
        std::fs::create_dir_all(config.state_dir.join("work")).map_err(AgentError::StateDir)?;
        let version = config.offer.version;
        let parameters = parts.ledger.parameters(version).await?.ok_or(AgentError::Version(version))?;
        let stored: Vec<(String, Record)> = parts.store.all(KIND).await?;
        record::prune(&parts.store, (parts.clock)()).await?;
        let accepting = owner::is_accepting(&parts.store).await?;
        let kept = config.state_dir.join("inputs");
        let cache = Cache::open(kept, config.input_cache).map_err(AgentError::StateDir)?;
        let web = Puller::new(&config.sources, cache).map_err(AgentError::Sources)?;
        let prices = RwLock::new(market::Asking::new(config.offer.prices.clone()));
        let standing = lending::first(&config, (parts.clock)());
        let inner = Arc::new(Inner {
            domain: parts.ledger.domain(),
            config,
            parts,
            parameters,
            leases: RwLock::default(),
            beginning: tokio::sync::Mutex::default(),
            attesting: tokio::sync::Mutex::default(),
            promised: RwLock::default(),
            accepting: RwLock::new(accepting),
            standing: RwLock::new(standing),
            longest: RwLock::default(),
            prices,
            ill: RwLock::default(),
            loads: RwLock::default(),
            default_job: default_job::State::default(),
            attested: RwLock::default(),
            republish: Notify::new(),
            web,
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let agent = Self { inner };
        for (_, record) in stored {
            tracing::info!(lease = %record.hosting.id, "taking a lease up again");
            agent.inner.tasks.spawn(outputs::collect_again(agent.inner.clone(), record.clone()));
            let report = first_report(&record, agent.inner.now());
            agent.adopt(Hosted::new(record.hosting.id, record, None, report));
        }
        agent.inner.parts.transport.serve_leases(Arc::new(agent.clone()));
        agent.inner.parts.transport.serve_tunnels(Arc::new(agent.clone()));
        agent.inner.tasks.spawn(market::publish(agent.inner.clone()));
        agent.inner.tasks.spawn(lending::follow(agent.clone()));
        agent.inner.tasks.spawn(reach::follow(agent.inner.clone()));
        agent.inner.tasks.spawn(place::follow(agent.inner.clone()));
        agent.inner.tasks.spawn(default_job::follow(agent.clone()));
        Ok(agent)
    }

    /// Ends the workers. Workloads go on and are adopted by the next start.
    pub async fn shutdown(&self) {
        self.inner.cancel.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// The reports of all leases that are hosted now.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.inner.hosted().iter().map(|hosted| hosted.report.borrow().clone()).collect()
    }

    /// Whether its offer is on the unstaked tier.
    #[must_use]
    pub fn is_unstaked(&self) -> bool {
        self.inner.config.offer.trust == TrustTier::Unstaked
    }

    /// The leases that are hosted now, for who records their course.
    #[must_use]
    pub fn traced(&self) -> Vec<Traced> {
        let hosted = self.inner.hosted();
        let traced = hosted.iter().map(|hosted| Traced {
            report: hosted.report.borrow().clone(),
            buyer: hosted.buyer,
            start: hosted.start,
            parent: hosted.parent,
            is_over: hosted.is_over(),
        });
        traced.collect()
    }

    /// How many leases still run or are being settled; those that are over and only wait for their buyer do not count.
    #[must_use]
    pub fn live_leases(&self) -> usize {
        self.inner.hosted().iter().filter(|hosted| !hosted.is_over()).count()
    }

    fn adopt(&self, hosted: Arc<Hosted>) {
        self.inner.leases.write().unwrap_or_else(PoisonError::into_inner).insert(hosted.id, hosted.clone());
        self.inner.tasks.spawn(worker::run(self.inner.clone(), hosted));
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        (self.parts.clock)()
    }

    fn lease(&self, id: LeaseId) -> Option<Arc<Hosted>> {
        self.leases.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn hosted(&self) -> Vec<Arc<Hosted>> {
        self.leases.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn work_dir(&self, lease: LeaseId) -> PathBuf {
        self.config.state_dir.join("work").join(lease.to_string())
    }

    /// How many leases an account has here.
    fn leases_of(&self, buyer: BuyerId) -> usize {
        self.hosted().iter().filter(|hosted| hosted.buyer == buyer && !hosted.is_over()).count()
    }

    /// The units that no lease holds, and that are well.
    fn unheld_units(&self) -> u64 {
        let all = if self.config.offer.units >= 64 { u64::MAX } else { (1 << self.config.offer.units) - 1 };
        let held = self.hosted().into_iter().filter(|hosted| !hosted.is_over());
        let ill = self.ill.read().unwrap_or_else(PoisonError::into_inner).units;
        all & !ill & !held.fold(0, |mask, hosted| mask | hosted.units)
    }

    fn settlement_policy(&self) -> tradewind_proto::hosting::SettlementPolicy {
        let window = self.parameters.window;
        tradewind_proto::hosting::SettlementPolicy {
            amount: self.config.settle_amount,
            age: Seconds::new(window.get() / 3),
            window,
            keep: self.config.keep,
        }
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("account", &self.inner.parts.key.address()).finish_non_exhaustive()
    }
}
