//! A provider's machine: workloads that run in simulated time and outlive the agent.
//!
//! A job says in its `run` line how long it works and how it ends: `work 30 0` works for thirty seconds and exits with 0.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::units::{Seconds, Timestamp};
use tradewind_proto::workload::{
    Command, Exit, LogChunk, LogCursor, Secrets, Usage, WorkloadSpec, WorkloadStatus,
};
use tradewind_provider::runtime::{Readiness, Runtime, RuntimeError, Volumes};

use crate::life::Life;
use crate::world::{World, lock};

/// One workload: it worked for `worked` until `since`, and works since then.
#[derive(Debug, Clone)]
struct Workload {
    spec: WorkloadSpec,
    started: Timestamp,
    worked: Duration,
    since: Option<Duration>,
    length: Duration,
    code: u8,
    exit: Option<Exit>,
    lost: bool,
    gone: bool,
    idles: bool,
}

/// The machine. It outlives its agent.
#[derive(Debug)]
pub struct Host {
    world: Arc<World>,
    name: String,
    workloads: Mutex<BTreeMap<LeaseId, Workload>>,
}

impl Host {
    pub(crate) fn new(world: &Arc<World>, name: &str) -> Arc<Self> {
        Arc::new(Self { world: world.clone(), name: name.into(), workloads: Mutex::default() })
    }

    /// How long a lease's workload truly worked.
    #[must_use]
    pub fn worked(&self, lease: LeaseId) -> Duration {
        self.progress();
        lock(&self.workloads).get(&lease).map_or(Duration::ZERO, |workload| {
            workload.worked + workload.since.map_or(Duration::ZERO, |since| self.world.elapsed() - since)
        })
    }

    /// When a lease's workload was started, where it was.
    #[must_use]
    pub fn started(&self, lease: LeaseId) -> Option<Timestamp> {
        lock(&self.workloads).get(&lease).map(|workload| workload.started)
    }

    /// True while any workload is at work or frozen.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.progress();
        lock(&self.workloads).values().any(|workload| workload.exit.is_none() && !workload.lost)
    }

    /// The machine reboots: whatever ran is lost.
    pub fn reboot(&self) {
        self.progress();
        self.world.note(&self.name, "reboots");
        for workload in lock(&self.workloads).values_mut().filter(|workload| workload.exit.is_none()) {
            workload.pause(self.world.elapsed());
            workload.lost = true;
        }
    }

    /// The machine's owner stops all work and goes on saying that it runs.
    pub fn idle(&self) {
        self.progress();
        self.world.note(&self.name, "idles");
        for workload in lock(&self.workloads).values_mut().filter(|workload| workload.exit.is_none()) {
            workload.pause(self.world.elapsed());
            workload.idles = true;
        }
    }

    /// Brings every workload to the present.
    fn progress(&self) {
        let (now, begin) = (self.world.elapsed(), self.world.now());
        for workload in lock(&self.workloads).values_mut() {
            let Some(since) = workload.since else { continue };
            let left = workload.length.saturating_sub(workload.worked);
            let over = (now - since).saturating_sub(left);
            if now - since >= left {
                workload.worked = workload.length;
                workload.since = None;
                let at = begin.before(Seconds::new(over.as_secs()));
                workload.exit = Some(Exit { code: workload.code, out_of_memory: false, at });
            }
        }
    }

    fn with<T>(
        &self,
        lease: LeaseId,
        look: impl FnOnce(&mut Workload) -> Result<T, RuntimeError>,
    ) -> Result<T, RuntimeError> {
        self.progress();
        let mut workloads = lock(&self.workloads);
        let workload = workloads.get_mut(&lease).filter(|workload| !workload.gone);
        look(workload.ok_or(RuntimeError::Absent(lease))?)
    }

    fn begin(&self, spec: &WorkloadSpec) -> Result<(), RuntimeError> {
        self.progress();
        let mut workloads = lock(&self.workloads);
        if let Some(known) = workloads.get(&spec.lease) {
            if known.gone {
                drop(workloads);
                self.world.broke(format!("the workload of {} was started a second time", spec.lease.short()));
                return Ok(());
            }
            return if known.spec == *spec { Ok(()) } else { Err(RuntimeError::Conflict(spec.lease)) };
        }
        let (length, code) = script(&spec.run);
        let workload = Workload {
            spec: spec.clone(),
            started: self.world.now(),
            worked: Duration::ZERO,
            since: Some(self.world.elapsed()),
            length,
            code,
            exit: None,
            lost: false,
            gone: false,
            idles: false,
        };
        workloads.insert(spec.lease, workload);
        self.world.count("workloads started");
        Ok(())
    }
}

impl Workload {
    fn pause(&mut self, now: Duration) {
        if let Some(since) = self.since.take() {
            self.worked += now - since;
        }
    }
}

fn script(command: &Command) -> (Duration, u8) {
    let line = match command {
        Command::Shell(line) => line.clone(),
        Command::Exec(words) => words.join(" "),
    };
    let mut words = line.split_whitespace().skip(1);
    let seconds = words.next().and_then(|word| word.parse().ok()).unwrap_or(1);
    (Duration::from_secs(seconds), words.next().and_then(|word| word.parse().ok()).unwrap_or(0))
}

/// The machine's runtime, as one life of its agent sees it.
pub(crate) struct Engine {
    pub(crate) host: Arc<Host>,
    pub(crate) life: Arc<Life>,
}

impl Engine {
    async fn effect(&self, what: &str, lease: LeaseId) {
        self.life.point(&format!("before {what}")).await;
        self.life.world().note(self.life.name(), &format!("{what} {}", lease.short()));
    }
}

#[async_trait]
impl Runtime for Engine {
    fn name(&self) -> &'static str {
        "process"
    }

    async fn readiness(&self) -> Readiness {
        Readiness { ready: true, findings: Vec::new() }
    }

    async fn start(&self, spec: &WorkloadSpec, _: &Secrets, _: &Volumes) -> Result<(), RuntimeError> {
        self.effect("starts", spec.lease).await;
        let begun = self.host.begin(spec);
        self.life.point("after starts").await;
        begun
    }

    async fn status(&self, lease: LeaseId) -> Result<WorkloadStatus, RuntimeError> {
        self.life.alive().await;
        let status = self.host.with(lease, |workload| {
            Ok(match workload.exit {
                Some(exit) => WorkloadStatus::Exited(exit),
                None if workload.lost => WorkloadStatus::Lost,
                None => WorkloadStatus::Running {
                    since: workload.started,
                    paused: workload.since.is_none() && !workload.idles,
                },
            })
        });
        Ok(status.unwrap_or(WorkloadStatus::Absent))
    }

    async fn list(&self) -> Result<Vec<LeaseId>, RuntimeError> {
        self.life.alive().await;
        let workloads = lock(&self.host.workloads);
        Ok(workloads.iter().filter(|(_, workload)| !workload.gone).map(|(lease, _)| *lease).collect())
    }

    async fn logs(&self, lease: LeaseId, from: LogCursor, _: usize) -> Result<LogChunk, RuntimeError> {
        self.life.alive().await;
        self.host.with(lease, |workload| {
            // One line, as soon as it works.
            let text = &b"at work\n"[usize::try_from(from.0).unwrap_or(usize::MAX).min(8)..];
            let end = workload.exit.is_some() || workload.lost;
            Ok(LogChunk { bytes: bytes::Bytes::from_static(text), next: LogCursor(8), dropped: 0, end })
        })
    }

    async fn usage(&self, _: LeaseId) -> Result<Usage, RuntimeError> {
        self.life.alive().await;
        Ok(Usage::default())
    }

    async fn pause(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        self.effect("pauses", lease).await;
        let now = self.host.world.elapsed();
        self.host.with(lease, |workload| {
            workload.pause(now);
            Ok(())
        })
    }

    async fn resume(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        self.effect("resumes", lease).await;
        let now = self.host.world.elapsed();
        self.host.with(lease, |workload| {
            if workload.exit.is_none() && !workload.lost && !workload.idles {
                workload.since.get_or_insert(now);
            }
            Ok(())
        })
    }

    async fn signal(&self, _: LeaseId, _: u8) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn stop(&self, lease: LeaseId, _: Seconds) -> Result<(), RuntimeError> {
        self.effect("stops", lease).await;
        let (now, at) = (self.host.world.elapsed(), self.host.world.now());
        let stopped = self.host.with(lease, |workload| {
            workload.pause(now);
            workload.exit.get_or_insert(Exit { code: 143, out_of_memory: false, at });
            Ok(())
        });
        self.life.point("after stops").await;
        stopped
    }

    async fn address(&self, lease: LeaseId, _: u16) -> Result<SocketAddr, RuntimeError> {
        Err(RuntimeError::Absent(lease))
    }

    async fn remove(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        self.effect("removes", lease).await;
        let removed = self.host.with(lease, |workload| {
            if workload.exit.is_none() && !workload.lost {
                return Err(RuntimeError::StillRunning(lease));
            }
            workload.gone = true;
            Ok(())
        });
        self.life.point("after removes").await;
        removed
    }
}
