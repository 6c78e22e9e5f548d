//! The `process` runtime: jobs in the host's own userland, in a sandbox that needs no daemon and no image.
//!
//! ```text
//! agent ──► shim ──► launcher ──► hakoniwa ──► PID 1 ──► setup, then run
//!  (tokio)   │ one per workload, outlives the agent     (user, mount, pid, net, ipc, uts, cgroup namespaces,
//!            │ writes the job directory                  landlock, seccomp, no capabilities, one host user per lease)
//!            ├──► port forwarders
//!            └──► sessions: the door's connections, passed to PID 1
//! ```
//!
//! Shim, launcher and forwarders are this same program, executed again with hidden arguments: a program that embeds this runtime
//! calls [`dispatch`] first thing in `main`, before it makes a thread.
//!
//! What is enforced how:
//!
//! | limit | by |
//! |---|---|
//! | memory, processes, CPU | control groups, version 1 or 2; without them data-segment and process rlimits, polling, CPU affinity |
//! | near its accelerators | CPU affinity, where they are at one NUMA node: for speed, and a job may undo it |
//! | disk | one file by an rlimit; the work directory, with deleted files that are still open, by polling: over it, the job is killed and the log says so |
//! | log | the shim keeps the beginning and counts the rest |
//! | network | a network namespace with nothing but loopback; ports of the spec are forwarded from the host's loopback |
//!
//! Failure paths: agent killed → the shim goes on, the next agent adopts; shim killed → PID 1 sees its socket end and takes the
//! tree along, the workload is [`Lost`](WorkloadStatus::Lost); machine restarted → another boot id, lost.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tradewind_proto::access::Session;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::units::Seconds;
use tradewind_proto::workload::{LogChunk, LogCursor, Secrets, Usage, WorkloadSpec, WorkloadStatus};

use crate::inventory::Places;
use crate::runtime::{Readiness, Runtime, RuntimeError, SessionEnds, Volumes};

pub(crate) mod cgroup;
mod control;
pub(crate) mod disk;
mod door;
mod init;
pub(crate) mod job_dir;
pub(crate) mod keep;
mod launch;
pub(crate) mod log;
mod meter;
pub(crate) mod ports;
pub(crate) mod readiness;
pub(crate) mod reins;
pub(crate) mod seccomp;
mod session;
pub(crate) mod shim;
pub(crate) mod tree;
pub(crate) mod workshop;

use job_dir::{Fate, Live};
use workshop::Workshop;

/// The first argument of a re-execution.
pub(crate) const ENTRY: &str = "__tradewind-process";
/// This program, even after its file was replaced by an upgrade.
const SELF: &str = "/proc/self/exe";
/// How long a killed tree may take to be gone.
const END_PATIENCE: Duration = Duration::from_secs(15);
/// How often a shim that shall end is looked at: at first, and later.
const GLANCE: Duration = Duration::from_millis(1);
const GLANCE_MAX: Duration = Duration::from_millis(50);

/// Becomes the process that this program was executed again for, or returns `None` when it was started by a person.
///
/// Call it before anything else in `main`: the processes behind it must have one thread.
#[must_use]
pub fn dispatch() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ENTRY {
        return None;
    }
    let role = arguments.next();
    let rest: Vec<String> = arguments.filter_map(|argument| argument.into_string().ok()).collect();
    Some(match role.as_deref().and_then(OsStr::to_str) {
        Some("shim") => shim::main(),
        Some("launch") => launch::main(),
        Some("port") => ports::main(&rest),
        Some("slurm") => crate::slurm::shim::main(&rest),
        _ => ExitCode::from(init::FAILED),
    })
}

/// Where a process runtime keeps its state, and what it executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessConfig {
    /// A directory of its own, made where missing. It must survive a restart of the agent.
    pub state_dir: PathBuf,
    /// A program whose `main` begins with [`dispatch`]: the agent's own.
    pub shim: PathBuf,
    /// Where jobs with accelerators run.
    pub places: Places,
}

impl ProcessConfig {
    /// The usual settings.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>, shim: impl Into<PathBuf>) -> Self {
        Self { state_dir: state_dir.into(), shim: shim.into(), places: Places::default() }
    }
}

/// Jobs in the host's own userland. See the [module](self).
#[derive(Debug, Clone)]
pub struct ProcessRuntime {
    workshop: Arc<Workshop>,
}

impl ProcessRuntime {
    /// The name in offers and configuration.
    pub const NAME: &'static str = "process";

    /// Opens the runtime over a state directory; what runs there already is adopted by asking for it.
    ///
    /// # Errors
    /// The state directory cannot be made.
    pub fn new(config: ProcessConfig) -> Result<Self, RuntimeError> {
        Ok(Self { workshop: Arc::new(Workshop::open(config)?) })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Workshop) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let workshop = Arc::clone(&self.workshop);
        let outcome = tokio::task::spawn_blocking(move || work(&workshop)).await;
        outcome
            .map_err(|error| RuntimeError::Io { doing: "run a blocking step".into(), source: error.into() })?
    }

    async fn fate(&self, lease: LeaseId) -> Result<Fate, RuntimeError> {
        self.blocking(move |workshop| workshop.fate(lease)).await
    }
}

/// Waits for the shim to end; `false` when it still runs after `patience`.
async fn ended(live: &Live, patience: Duration) -> Result<bool, RuntimeError> {
    let (begin, mut glance) = (Instant::now(), GLANCE);
    loop {
        let mut fds = [PollFd::new(&live.pidfd, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&Timespec::default()));
        if ready.map_err(|error| RuntimeError::io("watch the shim")(error.into()))? > 0 {
            return Ok(true);
        }
        if begin.elapsed() >= patience {
            return Ok(false);
        }
        tokio::time::sleep(glance).await;
        glance = (glance * 2).min(GLANCE_MAX);
    }
}

#[async_trait]
impl Runtime for ProcessRuntime {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn readiness(&self) -> Readiness {
        readiness::probe(self, self.workshop.privileged(), &self.workshop.missing_controllers()).await
    }

    async fn start(
        &self,
        spec: &WorkloadSpec,
        secrets: &Secrets,
        volumes: &Volumes,
    ) -> Result<(), RuntimeError> {
        let (spec, secrets, volumes) = (spec.clone(), secrets.clone(), volumes.clone());
        self.blocking(move |workshop| workshop.start(&spec, secrets, &volumes)).await
    }

    async fn status(&self, lease: LeaseId) -> Result<WorkloadStatus, RuntimeError> {
        self.blocking(move |workshop| {
            Ok(match workshop.fate(lease)? {
                Fate::Absent | Fate::Unstarted => WorkloadStatus::Absent,
                Fate::Running(live) => {
                    WorkloadStatus::Running { since: live.record.since, paused: workshop.dir(lease).paused() }
                }
                Fate::Exited(record) => WorkloadStatus::Exited(record.exit),
                Fate::Lost => WorkloadStatus::Lost,
            })
        })
        .await
    }

    async fn list(&self) -> Result<Vec<LeaseId>, RuntimeError> {
        self.blocking(Workshop::leases).await
    }

    async fn logs(&self, lease: LeaseId, from: LogCursor, limit: usize) -> Result<LogChunk, RuntimeError> {
        self.blocking(move |workshop| workshop.logs(lease, from, limit)).await
    }

    async fn usage(&self, lease: LeaseId) -> Result<Usage, RuntimeError> {
        self.blocking(move |workshop| workshop.usage(lease)).await
    }

    async fn pause(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        self.blocking(move |workshop| workshop.freeze(lease)).await
    }

    async fn resume(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        self.blocking(move |workshop| workshop.thaw(lease)).await
    }

    async fn signal(&self, lease: LeaseId, signal: u8) -> Result<(), RuntimeError> {
        if !workshop::can_send(signal) {
            return Err(RuntimeError::Unsupported {
                runtime: Self::NAME,
                what: format!("send signal {signal}"),
            });
        }
        self.blocking(move |workshop| workshop.command(lease, [shim::SIGNAL, signal])).await
    }

    async fn stop(&self, lease: LeaseId, grace: Seconds) -> Result<(), RuntimeError> {
        let Fate::Running(live) = self.fate(lease).await? else {
            return Ok(());
        };
        if grace > Seconds::new(0) {
            self.blocking(move |workshop| workshop.ask_to_stop(lease)).await?;
            if ended(&live, Duration::from_secs(grace.get())).await? {
                return Ok(());
            }
        }
        match self.blocking(move |workshop| workshop.command(lease, [shim::KILL, 0])).await {
            // It ended by itself after it was looked at.
            Ok(()) | Err(RuntimeError::Absent(_)) => {}
            Err(error) => return Err(error),
        }
        if ended(&live, END_PATIENCE).await? {
            return Ok(());
        }
        let record = live.record.clone();
        self.blocking(move |workshop| workshop.kill_shim(&record)).await?;
        match ended(&live, END_PATIENCE).await? {
            true => Ok(()),
            false => Err(RuntimeError::Unavailable("the shim does not end".into())),
        }
    }

    async fn exec(&self, lease: LeaseId, session: &Session) -> Result<SessionEnds, RuntimeError> {
        let Fate::Running(_) = self.fate(lease).await? else {
            return Err(RuntimeError::Absent(lease));
        };
        door::knock(&self.workshop.dir(lease), session).await
    }

    async fn address(&self, lease: LeaseId, port: u16) -> Result<SocketAddr, RuntimeError> {
        let Fate::Running(live) = self.fate(lease).await? else {
            return Err(RuntimeError::Absent(lease));
        };
        let forwarded = live.record.ports.get(&port).ok_or_else(|| RuntimeError::Unsupported {
            runtime: Self::NAME,
            what: format!("port {port} is not one of the job's"),
        })?;
        Ok((Ipv4Addr::LOCALHOST, *forwarded).into())
    }

    async fn remove(&self, lease: LeaseId) -> Result<(), RuntimeError> {
        self.blocking(move |workshop| workshop.remove(lease)).await
    }
}
