//! The `slurm` runtime: leases as jobs of a cluster whose owner's jobs always win.
//!
//! ```text
//!      login node                 shared directory                    a node of the partition
//! agent ─ sbatch, squeue, ──► (slurmctld) ──────────────────────────► slurmstepd ─► shim ─► launcher ─► sandbox
//!   │     scancel                                                                    ▲  (as the process runtime's)
//!   └──── order, commands ──► jobs/<lease>/ ◄── log, usage, exit ────────────────────┘
//! ```
//!
//! Slurm decides where and when; the process runtime's shim decides what the job may do there. A lease begins with its
//! allocation: [`Runtime::start`] returns once the job was executed, and while the job is pending it gives up after
//! [`SlurmConfig::start_within`] with [`RuntimeError::Unavailable`], to be called again. Nothing runs before the order is handed
//! over, so a place that comes while nobody waits costs nobody anything. Before terms are signed, [`Runtime::admit`] asks Slurm
//! whether the job would start at once.
//!
//! | fault | outcome |
//! |---|---|
//! | agent killed between `sbatch` and its record | the job is found by its name, which is the lease's |
//! | agent killed at any other time | the shim goes on; the next agent adopts by the directory and the queue |
//! | controller down or restarting | unknown, until it answers; the job goes on |
//! | an owner's job takes the place | the shim tells the job at once, [`Runtime::preempted`] tells the agent |
//! | memory exceeded, time over | an exit, as Slurm or the shim says |
//! | node failed, job cancelled, killed without a word | lost; the log's last line says which |
//!
//! The directory must be the same path on the agent's machine and on every node of the partition.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::terms::LeaseKind;
use tradewind_proto::units::{Seconds, Timestamp};
use tradewind_proto::workload::{LogChunk, LogCursor, Secrets, Usage, WorkloadSpec, WorkloadStatus};

use crate::process::job_dir::{JobDir, ShimRecord};
use crate::process::reins::{self, NOTICE, Notice, OBEYED};
use crate::process::shim::{KILL, PAUSE, RESUME, SIGNAL};
use crate::process::{log, workshop};
use crate::runtime::{Ask, Preemption, Readiness, Runtime, RuntimeError, Volumes};

pub mod advice;
mod cluster;
mod desk;
mod handover;
mod queue;
mod reach;
mod readiness;
pub(crate) mod shim;
mod start;
mod submission;
mod trial;
mod tunnel;

use desk::{Desk, Fate, GLANCE, blocking};
use queue::{End, Job, State};
use trial::Trial;
use tunnel::{Target, Tunnels};

/// How long an order may take to be carried out.
const OBEY_PATIENCE: Duration = Duration::from_secs(15);
/// How long a killed tree may take to be gone before the job is cancelled.
const KILL_PATIENCE: Duration = Duration::from_secs(15);

/// A cluster, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlurmConfig {
    /// A directory of its own that this machine and the nodes share, by the same path.
    pub directory: PathBuf,
    /// A program whose `main` begins with [`dispatch`](crate::process::dispatch): the agent's own. It is copied to the directory.
    pub shim: PathBuf,
    /// Where leases run: a partition from which the owner's jobs take their place.
    pub partition: String,
    /// Who is charged, where the cluster keeps accounts.
    pub account: Option<String>,
    /// The quality of service.
    pub qos: Option<String>,
    /// The accelerators' name in Slurm without a number, such as `gpu:a100`.
    pub gres: Option<String>,
    /// Where Slurm's programs are; `PATH` where absent.
    pub programs: Option<PathBuf>,
    /// The notice that spot leases are sold with. The partition's `GraceTime` must not be shorter.
    pub notice: Seconds,
    /// How long a start waits for its place.
    pub start_within: Duration,
}

impl SlurmConfig {
    /// The partition `lent`, programs from `PATH`, half a minute of waiting.
    #[must_use]
    pub fn new(directory: PathBuf, shim: PathBuf) -> Self {
        Self {
            directory,
            shim,
            partition: "lent".into(),
            account: None,
            qos: None,
            gres: None,
            programs: None,
            notice: Seconds::ZERO,
            start_within: Duration::from_secs(30),
        }
    }
}

/// Leases as jobs of a cluster. See the [module](self).
#[derive(Debug, Clone)]
pub struct SlurmRuntime {
    desk: Arc<Desk>,
    tunnels: Arc<Tunnels>,
    trial: Arc<Trial>,
}

impl SlurmRuntime {
    /// The name in offers and configuration.
    pub const NAME: &'static str = "slurm";

    /// Opens the runtime over its directory; what runs already is adopted by asking for it. Slurm is not asked yet.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn new(config: SlurmConfig) -> Result<Self, RuntimeError> {
        let (tunnels, trial) = (Arc::default(), Arc::default());
        Ok(Self { desk: Arc::new(Desk::open(config)?), tunnels, trial })
    }

    fn dir(&self, lease: LeaseId) -> JobDir {
        self.desk.dir(lease)
    }

    async fn live(&self, lease: LeaseId) -> Result<(Box<ShimRecord>, Job), RuntimeError> {
        match self.desk.fate(lease).await? {
            Fate::Running { record, job } => Ok((record, job)),
            Fate::Absent | Fate::Waiting | Fate::Exited(_) | Fate::Lost => Err(RuntimeError::Absent(lease)),
        }
    }

    /// Gives the shim an order and waits until it is carried out, or the workload is over.
    async fn order(&self, lease: LeaseId, order: [u8; 2]) -> Result<(), RuntimeError> {
        let (dir, begin) = (self.dir(lease), Instant::now());
        let wanted = blocking("tell the shim", move || reins::order(&dir, order)).await?;
        loop {
            let dir = self.dir(lease);
            let obeyed: Option<u64> = blocking("look at the shim", move || dir.read(OBEYED)).await?;
            if obeyed.is_some_and(|obeyed| obeyed >= wanted) {
                return Ok(());
            }
            if !matches!(self.desk.fate(lease).await?, Fate::Running { .. }) {
                return Ok(());
            }
            if begin.elapsed() > OBEY_PATIENCE {
                return Err(RuntimeError::Unavailable("the shim does not answer".into()));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Waits for the workload's end; `false` when it still runs after `patience`.
    async fn ended(&self, lease: LeaseId, patience: Duration) -> Result<bool, RuntimeError> {
        let begin = Instant::now();
        loop {
            if !matches!(self.desk.fate(lease).await?, Fate::Running { .. }) {
                return Ok(true);
            }
            if begin.elapsed() >= patience {
                return Ok(false);
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Lets a frozen job go on, so that it can act on a signal.
    async fn thaw(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        self.order(lease, [RESUME, 0]).await?;
        let dir = self.dir(lease);
        blocking("thaw the job", move || match std::fs::remove_file(dir.file("paused")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        })
        .await
    }

    async fn notice(&self, lease: LeaseId) -> Result<Option<Notice>, RuntimeError> {
        let dir = self.dir(lease);
        blocking("look for a notice", move || dir.read(NOTICE)).await
    }
}

#[async_trait]
impl Runtime for SlurmRuntime {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn readiness(&self) -> Readiness {
        readiness::probe(self, &self.desk).await
    }

    async fn admit(&self, ask: &Ask) -> Result<(), RuntimeError> {
        if ask.kind != LeaseKind::Spot {
            let what = "sell anything but spot leases: jobs of the cluster's owner take their place".into();
            return Err(RuntimeError::Unsupported { runtime: Self::NAME, what });
        }
        self.trial.ask(&self.desk, ask).await
    }

    async fn longest(&self) -> Result<Option<Seconds>, RuntimeError> {
        self.desk.longest().await
    }

    async fn preempted(&self, lease: LeaseId) -> Result<Option<Preemption>, RuntimeError> {
        let told = self.notice(lease).await?.map(|notice| notice.at);
        if let Some(verdict) = self.desk.verdict(lease).await? {
            let preempted = verdict.end == Some(End::Preempted);
            let at = told.or(preempted.then_some(verdict.at));
            return Ok(at.map(|at| Preemption { at, until: verdict.at }));
        }
        let dir = self.dir(lease);
        let id: Option<queue::JobId> = blocking("read the job's number", move || dir.read(desk::JOB)).await?;
        let job = match id {
            Some(id) => self.desk.cluster.recent_jobs().await?.iter().find(|job| job.id == id).cloned(),
            None => None,
        };
        let queued = job.as_ref().and_then(|job| job.preempted);
        let until = |at: Timestamp| {
            job.as_ref()
                .filter(|_| queued.is_some())
                .and_then(|job| job.end)
                .unwrap_or_else(|| at.after(self.desk.config.notice))
        };
        Ok(told.or(queued).map(|at| Preemption { at, until: until(at) }))
    }

    async fn start(
        &self,
        spec: &WorkloadSpec,
        secrets: &Secrets,
        volumes: &Volumes,
    ) -> Result<(), RuntimeError> {
        self.desk.start(spec, secrets, volumes).await
    }

    async fn status(&self, lease: LeaseId) -> Result<WorkloadStatus, RuntimeError> {
        Ok(match self.desk.fate(lease).await? {
            Fate::Absent | Fate::Waiting => WorkloadStatus::Absent,
            Fate::Running { record, job } => {
                let paused = job.state == State::Suspended || self.dir(lease).paused();
                WorkloadStatus::Running { since: record.since, paused }
            }
            Fate::Exited(record) => WorkloadStatus::Exited(record.exit),
            Fate::Lost => WorkloadStatus::Lost,
        })
    }

    async fn list(&self) -> Result<Vec<LeaseId>, RuntimeError> {
        self.desk.leases()
    }

    async fn logs(&self, lease: LeaseId, from: LogCursor, limit: usize) -> Result<LogChunk, RuntimeError> {
        let over = match self.desk.fate(lease).await? {
            Fate::Absent | Fate::Waiting => return Err(RuntimeError::Absent(lease)),
            Fate::Running { .. } => false,
            Fate::Exited(_) | Fate::Lost => true,
        };
        let dir = self.dir(lease);
        blocking("read the log", move || log::read(&dir, from, limit, over)).await
    }

    async fn usage(&self, lease: LeaseId) -> Result<Usage, RuntimeError> {
        match self.desk.fate(lease).await? {
            Fate::Absent | Fate::Waiting => Err(RuntimeError::Absent(lease)),
            Fate::Exited(record) => Ok(record.usage),
            Fate::Running { .. } | Fate::Lost => {
                let dir = self.dir(lease);
                let noted = blocking("read the noted usage", move || dir.read::<Usage>("usage.json")).await?;
                Ok(noted.unwrap_or_default())
            }
        }
    }

    async fn pause(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        self.live(lease).await?;
        let dir = self.dir(lease);
        blocking("freeze the job", move || std::fs::File::create(dir.file("paused"))).await?;
        self.order(lease, [PAUSE, 0]).await
    }

    async fn resume(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        self.live(lease).await?;
        self.thaw(lease).await
    }

    async fn signal(&self, lease: LeaseId, signal: u8) -> Result<(), RuntimeError> {
        if !workshop::can_send(signal) {
            let what = format!("send signal {signal}");
            return Err(RuntimeError::Unsupported { runtime: Self::NAME, what });
        }
        self.live(lease).await?;
        self.order(lease, [SIGNAL, signal]).await
    }

    async fn stop(&self, lease: LeaseId, grace: Seconds) -> Result<(), RuntimeError> {
        match self.desk.fate(lease).await? {
            Fate::Absent | Fate::Exited(_) | Fate::Lost => return Ok(()),
            Fate::Waiting => return self.desk.cancel_all(lease).await,
            Fate::Running { .. } => {}
        }
        if grace > Seconds::ZERO {
            // A job that was told by Slurm's notice has its signal already; twice means haste to some.
            if self.notice(lease).await?.is_none() {
                let order = self.dir(lease).order().map_err(RuntimeError::io("read the job's order"))?;
                let signal = order.map_or(15, |order| order.spec.stop.signal);
                self.order(lease, [SIGNAL, signal]).await?;
            }
            self.thaw(lease).await?;
            if self.ended(lease, Duration::from_secs(grace.get())).await? {
                return Ok(());
            }
        }
        match self.order(lease, [KILL, 0]).await {
            // A node that does not answer keeps nobody from cancelling its job.
            Ok(()) | Err(RuntimeError::Unavailable(_)) => {}
            Err(error) => return Err(error),
        }
        if self.ended(lease, KILL_PATIENCE).await? {
            return Ok(());
        }
        self.desk.cancel_all(lease).await?;
        match self.ended(lease, KILL_PATIENCE).await? {
            true => Ok(()),
            false => Err(RuntimeError::Unavailable("the job does not end".into())),
        }
    }

    async fn address(&self, lease: LeaseId, port: u16) -> Result<std::net::SocketAddr, RuntimeError> {
        let (record, job) = self.live(lease).await?;
        let forwarded = *record.ports.get(&port).ok_or_else(|| RuntimeError::Unsupported {
            runtime: Self::NAME,
            what: format!("port {port} is not one of the job's"),
        })?;
        let node = job.node.ok_or_else(|| RuntimeError::Unavailable("the job has no node yet".into()))?;
        let host = self.desk.cluster.address_of(&node).await?;
        let target = Target { host, port: forwarded, door: self.dir(lease).file(reins::DOOR) };
        self.tunnels.open(lease, port, target).await.map_err(RuntimeError::io("listen for a port"))
    }

    async fn remove(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        let _lock = self.desk.lock(lease).await?;
        match self.desk.fate(lease).await? {
            Fate::Absent => return Ok(()),
            Fate::Running { .. } => return Err(RuntimeError::StillRunning(lease)),
            Fate::Waiting => self.desk.cancel_all(lease).await?,
            Fate::Exited(_) | Fate::Lost => {}
        }
        self.tunnels.close(lease).await;
        self.desk.clear(lease).await
    }
}
