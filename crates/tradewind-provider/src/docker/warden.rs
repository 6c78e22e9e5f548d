//! What happens to leases while nobody asks: their logs are taken, their directories measured, bridges made ready, the egress
//! table kept, and those slowed that sent what they bought.
//!
//! One task for a runtime. It holds the runtime weakly and ends with it.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bollard::query_parameters::KillContainerOptionsBuilder;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::units::Bytes;
use tradewind_proto::workload::Usage;

use super::container::{Described, Kept};
use super::work::Processes;
use super::{Meter, Shared, container, logs, usage, work};
use crate::runtime::RuntimeError;

/// How often a small directory is measured. Between two looks a job can write past its limit.
const TICK: Duration = Duration::from_millis(500);
/// A walk takes at most one part in so many of the time.
const WALK_SHARE: u32 = 20;
/// Consumption is sampled this often, in ticks, so that the last sample of an ended job is not old.
const SAMPLE_EVERY: u32 = 10;
/// What a lease sent is looked at this often, in ticks, where it may send so much only: between two looks it can send more.
const PACE_EVERY: u32 = 2;
/// While a log is taken, its readers ask the engine for the container this often, all together.
const GLANCE: Duration = Duration::from_millis(500);
/// The egress table is looked at this often, in ticks.
const EGRESS_EVERY: u32 = 60;

/// A lease that is looked after.
#[derive(Debug)]
pub(super) struct Watched {
    work: PathBuf,
    disk: u64,
    log: u64,
    processes: Option<Processes>,
    collector: Option<JoinHandle<()>>,
    next_walk: Instant,
    /// When its container was last seen at work.
    seen: Option<Instant>,
    ended: bool,
    /// It may send so much an hour only.
    is_counted: bool,
    /// Its bridge, while its sending is slowed.
    slowed: Option<String>,
    /// Its log will say that its sending was slowed.
    is_told: bool,
}

impl Watched {
    pub(super) fn new(kept: &Kept) -> Self {
        Self {
            work: PathBuf::from(&kept.work),
            disk: kept.disk,
            log: kept.log,
            processes: None,
            collector: None,
            next_walk: Instant::now(),
            seen: None,
            ended: false,
            is_counted: kept.egress.is_some(),
            slowed: None,
            is_told: false,
        }
    }

    /// Notes that its sending is to be slowed; `true` where nobody was told yet.
    pub(super) fn slow(&mut self, bridge: String) -> bool {
        self.slowed = Some(bridge);
        !std::mem::replace(&mut self.is_told, true)
    }

    /// Notes that it may send again as it likes.
    pub(super) fn let_send(&mut self) {
        self.slowed = None;
    }

    /// Its bridge, while its sending is slowed.
    pub(super) const fn slowed(&self) -> Option<&String> {
        self.slowed.as_ref()
    }

    /// Takes the log, unless that is being done or was done.
    pub(super) fn collect(&mut self, shared: &Arc<Shared>, lease: LeaseId) {
        if self.is_collected() {
            return;
        }
        let spool = shared.spool(lease);
        if spool.has_ended() {
            self.ended = true;
            return;
        }
        let (shared, limit) = (Arc::downgrade(shared), self.log);
        self.collector = Some(tokio::spawn(async move {
            let Some(shared) = shared.upgrade() else { return };
            if let Err(error) = logs::collect(&shared.engine, &container::name(lease), &spool, limit).await {
                tracing::debug!(%lease, %error, "the log is taken later");
            }
        }));
    }

    fn is_collected(&self) -> bool {
        self.collector.as_ref().is_some_and(|collector| !collector.is_finished())
    }

    /// Notes that the container was seen, at work or not.
    pub(super) fn see(&mut self, works: bool) {
        self.seen = works.then(Instant::now);
    }

    /// Whether the log has all that there is: it is being taken, and the job was at work a moment ago.
    pub(super) fn is_current(&self) -> bool {
        self.is_collected() && self.seen.is_some_and(|at| at.elapsed() < GLANCE)
    }

    /// Leaves the log to another agent.
    pub(super) fn let_go(&self) {
        if let Some(collector) = &self.collector {
            collector.abort();
        }
    }

    /// Stops taking the log; returns when nothing of it is open.
    pub(super) async fn abandon(mut self) {
        if let Some(collector) = self.collector.take() {
            collector.abort();
            // An aborted task has no result.
            let _ = collector.await;
        }
    }
}

/// Looks after the leases of a runtime as long as it exists.
pub(super) async fn watch(shared: Weak<Shared>) {
    let mut tick = 0_u32;
    loop {
        {
            let Some(shared) = shared.upgrade() else { return };
            shared.look(tick).await;
        }
        tick = tick.wrapping_add(1);
        tokio::time::sleep(TICK).await;
    }
}

impl Shared {
    async fn look(self: &Arc<Self>, tick: u32) {
        if let Err(error) = self.take_over().await {
            tracing::debug!(?error, "the engine's containers are looked through later");
            return;
        }
        if let Err(error) = self.pool.refill(&self.engine).await {
            tracing::debug!(?error, "bridges are made later");
        }
        let leases: Vec<LeaseId> = self.watched.lock().await.keys().copied().collect();
        if !leases.is_empty()
            && tick % EGRESS_EVERY == EGRESS_EVERY - 1
            && let Err(error) = self.egress.ensure().await
        {
            tracing::error!(%error, "leases run without the egress table");
        }
        for lease in leases {
            if let Err(error) = self.look_after(lease, tick).await {
                tracing::warn!(%lease, %error, "a lease cannot be looked after now");
            }
        }
        self.hold_pace().await;
    }

    /// Once: watches what an earlier agent left.
    async fn take_over(self: &Arc<Self>) -> Result<(), RuntimeError> {
        if self.adopted.initialized() && self.taken_over.initialized() {
            return Ok(());
        }
        self.adopt().await?;
        let taking = async || {
            for lease in self.containers().await?.0 {
                if let Some(found) = self.ours(lease).await?
                    && found.phase != container::Phase::Created
                {
                    self.watch(lease, &found).await?;
                }
            }
            Ok::<(), RuntimeError>(())
        };
        self.taken_over.get_or_try_init(taking).await?;
        Ok(())
    }

    async fn look_after(self: &Arc<Self>, lease: LeaseId, tick: u32) -> Result<(), RuntimeError> {
        let is_counted;
        let due = {
            let mut watched = self.watched.lock().await;
            let Some(entry) = watched.get_mut(&lease) else { return Ok(()) };
            entry.collect(self, lease);
            if entry.ended {
                watched.remove(&lease);
                return Ok(());
            }
            is_counted = entry.is_counted;
            (entry.next_walk <= Instant::now())
                .then(|| (entry.work.clone(), entry.disk, entry.processes.clone()))
        };
        if let Some((directory, limit, known)) = due {
            let processes = match known {
                Some(processes) => Some(processes),
                None => self.ours(lease).await?.and_then(|found| found.processes()),
            };
            if let Some(entry) = self.watched.lock().await.get_mut(&lease) {
                entry.processes.clone_from(&processes);
            }
            self.bound_disk(lease, directory, limit, processes).await?;
        }
        if tick.is_multiple_of(SAMPLE_EVERY)
            && let Some(found) = self.ours(lease).await?
            && found.runs()
        {
            self.measure(lease, &found).await?;
        }
        if is_counted
            && tick.is_multiple_of(PACE_EVERY)
            && let Some(found) = self.ours(lease).await?
        {
            self.pace(lease, &found).await?;
        }
        Ok(())
    }

    async fn bound_disk(
        &self,
        lease: LeaseId,
        directory: PathBuf,
        limit: u64,
        processes: Option<Processes>,
    ) -> Result<(), RuntimeError> {
        let begin = Instant::now();
        let used = disk(directory, processes).await?;
        let pause = begin.elapsed().saturating_mul(WALK_SHARE);
        if let Some(entry) = self.watched.lock().await.get_mut(&lease) {
            entry.next_walk = Instant::now() + pause;
        }
        let reason = match used {
            Some(used) if used <= limit => return Ok(()),
            Some(_) => format!("stopped: the work directory passed its limit of {}", Bytes::new(limit)),
            None => {
                "stopped: the work directory is nested too deep or shut, and cannot be measured".to_owned()
            }
        };
        if !self.ours(lease).await?.is_some_and(|found| found.runs()) {
            return Ok(());
        }
        tracing::info!(%lease, reason);
        self.spool(lease).note(&reason).map_err(RuntimeError::io("note why it was stopped"))?;
        let name = container::name(lease);
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let outcome =
            self.engine
                .call("kill a container", |docker| async move {
                    docker.kill_container(&name, Some(options)).await
                })
                .await;
        match outcome {
            Err(error) if error.is_missing() || error.is_conflict() => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// The lease's consumption, measured now if it runs.
    pub(super) async fn measure(&self, lease: LeaseId, found: &Described) -> Result<Usage, RuntimeError> {
        let meter = Meter::new(&self.directory(lease));
        if !found.runs() {
            return Ok(meter.last());
        }
        let name = container::name(lease);
        let Some(mut sample) =
            usage::sample(&self.engine, &name).await.map_err(|error| error.about(lease))?
        else {
            return Ok(meter.last());
        };
        if let Some(kept) = &found.kept {
            let used = disk(PathBuf::from(&kept.work), found.processes()).await?;
            sample.disk = Bytes::new(used.unwrap_or(u64::MAX));
        }
        meter.add(sample).map_err(RuntimeError::io("keep a sample of the usage"))
    }
}

async fn disk(directory: PathBuf, processes: Option<Processes>) -> Result<Option<u64>, RuntimeError> {
    let measure = move || {
        let hidden = processes.map_or(0, |processes| processes.unlinked(&directory));
        Ok(work::used(&directory)?.map(|used| used.saturating_add(hidden)))
    };
    let walk = tokio::task::spawn_blocking(measure).await;
    walk.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
        .map_err(RuntimeError::io("measure the work directory"))
}
