//! The buyer's node: places jobs, supervises their leases, pays, and brings outputs home.
//!
//! ```text
//! submit ─► Placing ─ plan, negotiate ─► Leased ─ reports, vouchers, logs ─► Ended
//!              ▲                            │ provider lost: the old lease winds down by itself
//!              └────────────────────────────┘ (never the same provider first)
//! ```
//!
//! The store is the truth: a voucher is stored before it is sent, and a restarted buyer takes every job up again.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use alloy_primitives::keccak256;
use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tradewind_chain::ledger::{Ledger, LedgerError, Parameters};
use tradewind_mesh::blobs::{BlobHash, Label};
use tradewind_mesh::{PeerAddr, Transport};
use tradewind_proto::ids::{BuyerId, JobId, MeshKey, ProviderId};
use tradewind_proto::job::{JobSpec, SecretSource};
use tradewind_proto::manifest::{JobManifest, MAX_INPUTS, Source};
use tradewind_proto::negotiation::TermsParameters;
use tradewind_proto::plan::{self, Plan};
use tradewind_proto::saving::MAX_FILES;
use tradewind_proto::signature::SigningKey;
use tradewind_proto::terms::Domain;
use tradewind_proto::units::{Clock, Money, Seconds, Timestamp};
use tradewind_proto::workload::Secrets;
use tradewind_reputation::Reputations;
use tradewind_store::{Store, StoreError};
use tradewind_tee::Roots;

use crate::delegate::{self, MeterError, MeterNode};
use crate::image::{self, ImageError};
use crate::inputs::{self, Addresses, InputError, Keep};
use crate::job::record::{Attempt, JobRecord, JobState, KIND};
use crate::place::Places;
use crate::{job, market};

/// Offers that are asked in one look.
const ASKED: usize = 16;

/// Where salts and names come from; the simulator's repeat with its seed.
pub type Entropy = Arc<dyn Fn() -> [u8; 32] + Send + Sync>;

/// The operating system's randomness.
#[must_use]
pub fn system_entropy() -> Entropy {
    Arc::new(rand::random)
}

/// How the buyer works.
#[derive(Debug, Clone)]
pub struct BuyerConfig {
    /// Logs live here, a directory a job.
    pub state_dir: PathBuf,
    /// What jobs are paid in.
    pub token: alloy_primitives::Address,
    /// That token's decimals, for the amounts in job files.
    pub decimals: u8,
    /// Kept free in the contract beyond deposits, for relayers' fees.
    pub reserve: Money,
    /// The parameter version that leases are made under.
    pub version: u32,
    /// How far payment may run ahead of work, or lag behind it.
    pub slack: Seconds,
    /// Unbilled time for the provider to pull data.
    pub prepare: Seconds,
    /// How long a job without `timeout` may run.
    pub default_duration: Seconds,
    /// How long a provider may be silent before it is given up.
    pub patience: Seconds,
    /// Challenge silent providers on chain.
    pub challenge: bool,
    /// Open a bonded case about a provider that fell silent so long ago, where no watcher did; never where absent.
    pub sue: Option<Seconds>,
    /// How often a job is looked at without being rung.
    pub tick: Duration,
    /// Nodes that may be named as meters.
    pub meters: BTreeMap<String, PeerAddr>,
    /// Who meters jobs that name nobody; this node where absent.
    pub meter: Option<String>,
    /// Whose evidence of trusted execution counts.
    pub roots: Roots,
    /// Tell jobs and their providers the place in a trace, in the job's environment.
    pub traces: bool,
}

/// Why the buyer could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BuyerError {
    /// The store for checkpoints cannot be used.
    #[error("checkpoints cannot be kept where `checkpoint.store` says: {0}")]
    Offsite(String),
    /// The store failed.
    #[error("the buyer's store failed")]
    Store(#[from] StoreError),
    /// The chain did not answer.
    #[error("the chain did not answer")]
    Ledger(#[from] LedgerError),
    /// The state directory cannot be used.
    #[error("the directory {path} cannot be used")]
    Directory {
        /// Which one.
        path: PathBuf,
        /// The failure.
        #[source]
        source: std::io::Error,
    },
    /// The chain has no such parameter version.
    #[error("the chain has no parameter version {0}; take the network's profile anew")]
    Version(u32),
    /// An input cannot be used.
    #[error("an input cannot be used")]
    Input(#[from] InputError),
    /// The image cannot be used.
    #[error("the image cannot be used")]
    Image(#[from] ImageError),
    /// No such job.
    #[error("there is no job {0}; `tradewind ps --all` lists them")]
    NoJob(String),
    /// The node that was to meter the job does not.
    #[error(transparent)]
    Meter(#[from] MeterError),
    /// The job names a secret whose value was not given.
    #[error("the secret `{0}` has no value")]
    Secret(String),
}

/// The parts that a buyer drives.
pub struct Parts {
    /// The chain, as the buyer's account.
    pub ledger: Arc<dyn Ledger>,
    /// The mesh.
    pub transport: Arc<dyn Transport>,
    /// What survives.
    pub store: Store,
    /// The account's key: signs terms and last vouchers.
    pub key: SigningKey,
    /// Signs vouchers.
    pub meter: SigningKey,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub entropy: Entropy,
    /// What chain and watchers say of devices; without, a job that asks for reliability finds none.
    pub reputations: Option<Reputations>,
}

/// A job to be run.
#[derive(Debug, Clone)]
pub struct Submission {
    /// What it is.
    pub spec: JobSpec,
    /// Local inputs are relative to this directory.
    pub base_dir: PathBuf,
    /// Where outputs are put.
    pub output_dir: PathBuf,
    /// The values of its secrets, and of the keys of its stores.
    pub secrets: Secrets,
    /// Sign vouchers ahead, so that the job goes on when this node is gone.
    pub unattended: bool,
    /// Who meters it: a configured name, a mesh key, an address, or `own`; the configured meter where absent.
    pub meter: Option<String>,
}

/// A running buyer; clones share it.
#[derive(Clone)]
pub struct Buyer {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: BuyerConfig,
    pub(crate) parts: Parts,
    pub(crate) domain: Domain,
    pub(crate) parameters: Parameters,
    pub(crate) market: market::Market,
    pub(crate) places: Places,
    pub(crate) jobs: RwLock<HashMap<JobId, Arc<Tracked>>>,
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// A job in memory.
pub(crate) struct Tracked {
    pub(crate) id: JobId,
    pub(crate) record: Mutex<JobRecord>,
    pub(crate) secrets: Mutex<Secrets>,
    /// Addresses of its stored inputs that no attempt has yet.
    pub(crate) addresses: Mutex<Option<Addresses>>,
    pub(crate) bell: Notify,
    pub(crate) view: watch::Sender<JobRecord>,
    /// Those who are in it now.
    pub(crate) attended: Arc<()>,
}

impl Buyer {
    /// Starts the buyer and takes every job up again that is not over.
    ///
    /// # Errors
    /// [`BuyerError`]; nothing runs then.
    pub async fn start(config: BuyerConfig, parts: Parts) -> Result<Self, BuyerError> {
        make_dir(&config.state_dir)?;
        let parameters = parts.ledger.parameters(config.version).await?;
        let parameters = parameters.ok_or(BuyerError::Version(config.version))?;
        let stored: Vec<(String, JobRecord)> = parts.store.all(KIND).await?;
        let cancel = CancellationToken::new();
        let market = market::Market::follow(parts.transport.clone(), parts.clock.clone(), cancel.clone());
        if let Some(reputations) = &parts.reputations {
            tokio::spawn(market.clone().rate(reputations.clone(), cancel.clone()));
        }
        let domain = parts.ledger.domain();
        let (jobs, tasks, places) = (RwLock::default(), TaskTracker::new(), Places::default());
        let inner =
            Arc::new(Inner { config, parts, domain, parameters, market, places, jobs, cancel, tasks });
        let buyer = Self { inner };
        for (_, record) in stored {
            buyer.inner.regrant(&record);
            let secrets = buyer.inner.generated(record.id, &record.spec);
            buyer.track(record, secrets);
        }
        Ok(buyer)
    }

    /// Takes a job over: stored before this returns, and carried on after a restart.
    ///
    /// # Errors
    /// [`BuyerError::Input`], [`BuyerError::Image`], [`BuyerError::Secret`], [`BuyerError::Meter`], [`BuyerError::Store`].
    pub async fn submit(&self, submission: Submission) -> Result<JobId, BuyerError> {
        let Submission { spec, base_dir, output_dir, mut secrets, unattended, meter } = submission;
        let id = JobId::new((self.inner.parts.entropy)().into());
        secrets.0.extend(self.inner.generated(id, &spec).0);
        let needed = spec.secrets.iter().cloned().chain(spec.store_secrets());
        if let Some(missing) = needed.into_iter().find(|secret| !secrets.0.contains_key(&secret.name)) {
            return Err(BuyerError::Secret(missing.name));
        }
        let meter = self.meter(meter.as_deref(), unattended).await?;
        let label = label(id);
        let transport = self.inner.parts.transport.as_ref();
        let image = image::pack(&spec, &base_dir, transport, &label).await?;
        let keep = Keep { transport, label: &label };
        let gathered = inputs::gather(&spec, &base_dir, &secrets, keep, self.inner.now()).await?;
        if spec.checkpoint.is_some() && gathered.len() + MAX_FILES > MAX_INPUTS {
            return Err(InputError::NoRoom(gathered.len()).into());
        }
        make_dir(&self.inner.job_dir(id))?;
        if let Err(error) = job::offsite::announce(&spec, id, &secrets, &self.inner.job_dir(id)).await {
            // Empty: the job never was.
            let _ = std::fs::remove_dir(self.inner.job_dir(id));
            return Err(error);
        }
        let record = JobRecord {
            id,
            spec,
            inputs: gathered.inputs,
            stored: gathered.stored,
            image,
            output_dir,
            submitted_at: self.inner.now(),
            attempts: Vec::new(),
            state: JobState::Placing { problem: String::new() },
            stop_requested: false,
            unattended,
            meter,
            checkpoint: None,
            checkpoints: 0,
            offsite: Vec::new(),
        };
        self.inner.parts.store.put(KIND, id.to_string(), &record).await?;
        self.track(record, secrets);
        Ok(id)
    }

    /// The node that would meter a job, once it said that it is willing; `None` where this one does. A job that names no meter
    /// gets the configured one, unless it goes unattended.
    ///
    /// # Errors
    /// [`MeterError`].
    pub async fn meter(
        &self,
        named: Option<&str>,
        unattended: bool,
    ) -> Result<Option<MeterNode>, MeterError> {
        let found = delegate::find(&self.inner.config, named, unattended)?;
        if let Some(meter) = &found {
            delegate::ask(&self.inner, meter).await?;
        }
        Ok(found)
    }

    /// Every job, in the order of their submission.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobRecord> {
        let jobs = self.inner.jobs.read().unwrap_or_else(PoisonError::into_inner);
        let mut records: Vec<JobRecord> = jobs.values().map(|job| job.view.borrow().clone()).collect();
        records.sort_by_key(|record| (record.submitted_at, record.id));
        records
    }

    /// The jobs that are not over.
    #[must_use]
    pub fn unfinished(&self) -> Vec<JobRecord> {
        let jobs = self.inner.jobs.read().unwrap_or_else(PoisonError::into_inner);
        let views = jobs.values().map(|job| job.view.borrow());
        views.filter(|record| !record.is_over()).map(|record| record.clone()).collect()
    }

    /// A job's record, and every change from then on.
    ///
    /// # Errors
    /// [`BuyerError::NoJob`].
    pub fn watch(&self, id: JobId) -> Result<watch::Receiver<JobRecord>, BuyerError> {
        self.inner.job(id).map(|job| job.view.subscribe()).ok_or_else(|| BuyerError::NoJob(id.to_string()))
    }

    /// Asks a job to end. It is stopped on its provider, and its lease is settled.
    ///
    /// # Errors
    /// [`BuyerError::NoJob`], [`BuyerError::Store`].
    pub async fn stop(&self, id: JobId) -> Result<(), BuyerError> {
        let job = self.inner.job(id).ok_or_else(|| BuyerError::NoJob(id.to_string()))?;
        self.inner.update(&job, |record| record.stop_requested = true).await?;
        Ok(())
    }

    /// The value of a secret that was generated for a job; `None` where the job has no such one.
    ///
    /// # Errors
    /// [`BuyerError::NoJob`].
    pub fn generated(&self, id: JobId, name: &str) -> Result<Option<String>, BuyerError> {
        let spec = self.watch(id)?.borrow().spec.clone();
        Ok(self.inner.generated(id, &spec).0.remove(name))
    }

    /// The file that holds the log of a job's attempt, counted from zero.
    #[must_use]
    pub fn log_path(&self, id: JobId, attempt: usize) -> PathBuf {
        self.inner.log_path(id, attempt)
    }

    /// The live offers, as the mesh knows them now.
    #[must_use]
    pub fn offers(&self) -> Vec<tradewind_proto::offer::Offer> {
        self.inner.market.read(|book| book.offers().cloned().collect())
    }

    /// What a job would get now, and why every other offer would not do. Costs nothing.
    #[must_use]
    pub fn plan(&self, spec: &JobSpec, unattended: bool, delegated: bool) -> Plan {
        let context = self.inner.context(&BTreeMap::new(), unattended, delegated);
        self.inner.market.read(|book| plan::explain(spec, book, &context))
    }

    /// Ends the workers. Leases go on and are taken up by the next start.
    pub async fn shutdown(&self) {
        self.inner.cancel.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn track(&self, record: JobRecord, secrets: Secrets) {
        let id = record.id;
        let tracked = Arc::new(Tracked {
            id,
            view: watch::Sender::new(record.clone()),
            record: Mutex::new(record),
            secrets: Mutex::new(secrets),
            addresses: Mutex::default(),
            bell: Notify::new(),
            attended: Arc::new(()),
        });
        self.inner.jobs.write().unwrap_or_else(PoisonError::into_inner).insert(id, tracked.clone());
        self.inner.tasks.spawn(job::run(self.inner.clone(), tracked.clone()));
        self.inner.tasks.spawn(job::offsite::follow(self.inner.clone(), tracked));
    }
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        (self.parts.clock)()
    }

    /// A job's generated secrets. They follow from the account's key, so that they are kept nowhere and the same after a restart.
    fn generated(&self, id: JobId, spec: &JobSpec) -> Secrets {
        let drawn = spec.secrets.iter().filter(|secret| secret.source == SecretSource::Generated);
        let value = |name: &str| {
            let topic = [b"tradewind generated secret\0", id.get().as_slice(), name.as_bytes()].concat();
            let signed = self.parts.key.sign(keccak256(topic));
            alloy_primitives::hex::encode(keccak256(signed.as_bytes()))
        };
        Secrets(drawn.map(|secret| (secret.name.clone(), value(&secret.name))).collect())
    }

    pub(crate) fn job(&self, id: JobId) -> Option<Arc<Tracked>> {
        self.jobs.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn job_dir(&self, id: JobId) -> PathBuf {
        self.config.state_dir.join("jobs").join(id.to_string())
    }

    pub(crate) fn log_path(&self, id: JobId, attempt: usize) -> PathBuf {
        self.job_dir(id).join(format!("attempt-{attempt}.log"))
    }

    /// Changes a job's record, durably, then rings its worker and shows the change. Writes nothing when nothing changed.
    pub(crate) async fn update(
        &self,
        job: &Tracked,
        change: impl FnOnce(&mut JobRecord),
    ) -> Result<JobRecord, StoreError> {
        let mut record = job.record.lock().await;
        let mut next = record.clone();
        change(&mut next);
        if next != *record {
            self.parts.store.put(KIND, job.id.to_string(), &next).await?;
            record.clone_from(&next);
            job.view.send_replace(next.clone());
            job.bell.notify_waiters();
        }
        Ok(next)
    }

    /// Lets the providers of running attempts fetch inputs again: grants live in memory only.
    fn regrant(&self, record: &JobRecord) {
        for attempt in record.attempts.iter().filter(|attempt| attempt.outcome.is_none()) {
            self.grant(record.id, &attempt.manifest, attempt.address.key);
        }
    }

    /// Lets the provider of an attempt fetch what it runs.
    pub(crate) fn grant(&self, job: JobId, manifest: &JobManifest, peer: MeshKey) {
        let label = label(job);
        let inputs = manifest.inputs.iter().filter_map(|input| match input.source {
            Source::Blob { hash, .. } => Some(hash),
            Source::Https(_) | Source::Git(_) => None,
        });
        for hash in inputs.chain(manifest.image.as_ref().and_then(|image| image.archive)) {
            if let Err(error) = self.parts.transport.grant(&label, BlobHash::from_bytes(hash), peer) {
                tracing::warn!(%error, "an input cannot be shared");
            }
        }
    }

    /// Where an attempt's provider is now.
    pub(crate) fn address(&self, attempt: &Attempt) -> PeerAddr {
        self.market.address(attempt.provider, attempt.supervision.terms.device, &attempt.address)
    }

    /// What a plan depends on besides job and offers.
    pub(crate) fn context(
        &self,
        failed: &BTreeMap<ProviderId, u32>,
        unattended: bool,
        delegated: bool,
    ) -> plan::Context {
        let config = &self.config;
        let buyer = BuyerId::new(self.parts.key.address());
        plan::Context {
            seed: self.now().unix(),
            failed: failed.clone(),
            default_duration: config.default_duration,
            prepare: config.prepare,
            slack: config.slack,
            choices: ASKED,
            unattended,
            delegated,
            ..plan::Context::new(self.now(), buyer, config.token, config.decimals, self.terms_parameters())
        }
    }

    /// What the chain demands of terms.
    pub(crate) fn terms_parameters(&self) -> TermsParameters {
        TermsParameters {
            version: self.config.version,
            max_duration: self.parameters.max_duration,
            min_cap_on_demand: self.parameters.min_cap_on_demand,
            min_cap_spot: self.parameters.min_cap_spot,
            min_cap_reserved: self.parameters.min_cap_reserved,
        }
    }

    /// The providers that failed this job, with how often.
    pub(crate) fn failed_providers(record: &JobRecord) -> BTreeMap<ProviderId, u32> {
        let mut failed = BTreeMap::new();
        for attempt in &record.attempts {
            *failed.entry(attempt.provider).or_insert(0) += 1;
        }
        failed
    }
}

/// The label under which a job's blobs are kept.
pub(crate) fn label(id: JobId) -> Label {
    #[expect(clippy::expect_used, reason = "a job id is 0x and 64 hex digits, which every label may hold")]
    id.to_string().parse().expect("a job id is a label")
}

fn make_dir(path: &Path) -> Result<(), BuyerError> {
    let error = |source| BuyerError::Directory { path: path.to_owned(), source };
    std::fs::create_dir_all(path).map_err(error)
}

impl std::fmt::Debug for Buyer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buyer").field("account", &self.inner.parts.key.address()).finish_non_exhaustive()
    }
}
