//! The runtime trait: what starts, watches and ends workloads.
//!
//! A runtime owns everything it starts and survives the agent's death: after a restart the agent asks [`Runtime::list`] and
//! [`Runtime::status`] and adopts what it finds. Every call is idempotent and keyed by the lease.
//!
//! Rules for an implementation:
//! - `start` of a lease that already runs with the same spec succeeds and starts nothing; with another spec it is
//!   [`RuntimeError::Conflict`]. It returns once the workload's first process was executed, or the failure is known.
//! - An error says nothing about the workload. Only [`WorkloadStatus::Absent`] and [`WorkloadStatus::Lost`] mean "not there".
//! - `remove` leaves nothing behind: no process, no mount, no container, no network, no file. It is refused while it runs.
//!
//! To write one:
//!
//! 1. Make something durable that is named after the lease (a directory with a lock, a container's name, a job's name) and that
//!    only one of two concurrent starts can have. It keeps the spec, to tell a repeated start from a conflict.
//! 2. Let something that outlives the agent run the job and write down its exit. The agent only reads: each call begins with
//!    what is there, so a restarted agent adopts by nothing but [`Runtime::list`] and [`Runtime::status`].
//! 3. Sort what can go wrong. The job's fault is [`RuntimeError::Start`]: the lease fails. What the runtime never does is
//!    [`RuntimeError::Unsupported`], before anything is made. What may get better is [`RuntimeError::Unavailable`] or
//!    [`RuntimeError::Io`]: the agent asks again, after 1 to 60 seconds.
//! 4. Return soon: `start` and `stop` may take their time, in a task of their own; every other call is made once a second and
//!    cut off after 20 seconds.
//! 5. Keep secrets in memory on the way to the job: not on disk, in argv, in an engine's labels or in logs.
//!    The password of a registry is for whatever brings the image: the job gets [`WorkloadSpec::secrets_of_job`].
//! 6. Run the conformance suite (`tests/it/conformance.rs`): give it a fixture, and it makes one test of every claim.
//!
//! Where something above the runtime schedules (a cluster), `start` returns when the job runs, not when it is queued; it gives
//! up as unavailable after a while and is called again. Until then the workload is [`WorkloadStatus::Absent`], and `remove` takes
//! it out of the queue. Such a runtime answers [`Runtime::admit`] and [`Runtime::preempted`] too.

use std::any::Any;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tradewind_proto::access::{Input, Output, Session};
use tradewind_proto::ids::LeaseId;
use tradewind_proto::manifest::Share;
use tradewind_proto::terms::LeaseKind;
use tradewind_proto::units::{Seconds, Timestamp};
use tradewind_proto::workload::{Image, LogChunk, LogCursor, Secrets, Usage, WorkloadSpec, WorkloadStatus};

/// The host's side of a workload: directories that the agent prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volumes {
    /// Becomes `/work`, the current directory, writable; inputs lie in it, outputs are left in it.
    pub work: PathBuf,
    /// When the lease is over at the latest, where it is known. A runtime above which something schedules passes it on.
    pub until: Option<Timestamp>,
}

/// What somebody asks terms for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Under which promise.
    pub kind: LeaseKind,
    /// For how long at most, preparation included.
    pub duration: Seconds,
    /// How much of the machine.
    pub share: Share,
}

/// Something above the runtime gives the workload's place to the owner's own work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preemption {
    /// When it did.
    pub at: Timestamp,
    /// Until when the workload may still run.
    pub until: Timestamp,
}

/// Whether and how well a runtime works on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// It can start workloads now.
    pub ready: bool,
    /// What is missing or degraded, each with its fix.
    pub findings: Vec<Finding>,
}

/// One thing an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// No lease is taken because of it.
    pub grave: bool,
    /// What was found.
    pub problem: String,
    /// What to do about it.
    pub fix: String,
}

/// Why a runtime could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The lease is known here with another spec.
    #[error("lease {0} already has another workload here")]
    Conflict(LeaseId),
    /// There is no such workload.
    #[error("lease {0} has no workload here")]
    Absent(LeaseId),
    /// It still runs.
    #[error("lease {0} still runs; stop it first")]
    StillRunning(LeaseId),
    /// The spec asks for something that this runtime cannot give.
    #[error("the {runtime} runtime cannot do this: {what}")]
    Unsupported {
        /// Which runtime.
        runtime: &'static str,
        /// What was asked.
        what: String,
    },
    /// The workload could not be started, and it is the job's fault: no such program, no such image.
    #[error("the workload did not start: {0}")]
    Start(String),
    /// The engine did not answer in time or is down. The workload's state is unknown.
    #[error("the engine is unavailable: {0}")]
    Unavailable(String),
    /// The host failed.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// The failure.
        #[source]
        source: std::io::Error,
    },
}

impl RuntimeError {
    /// An I/O failure while `doing` something.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// What was brought for a start. It may be removed again once this is dropped.
#[derive(Debug, Default)]
pub struct Fetched {
    _kept: Option<Box<dyn Any + Send>>,
}

impl Fetched {
    /// Kept as long as `guard` lives.
    pub fn by(guard: impl Any + Send) -> Self {
        Self { _kept: Some(Box::new(guard)) }
    }
}

/// The two ends of a session. Both are bounded; dropping either ends the session.
#[derive(Debug)]
pub struct SessionEnds {
    /// What goes in.
    pub input: mpsc::Sender<Input>,
    /// What comes out.
    pub output: mpsc::Receiver<Output>,
}

/// Starts, watches and ends workloads.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// The name used in offers and configuration: `process`, `docker`, `slurm`.
    fn name(&self) -> &'static str;

    /// Whether it works on this machine.
    async fn readiness(&self) -> Readiness;

    /// Takes in an image archive that the agent fetched; the image is named by the archive's BLAKE3 hash from then on, and is
    /// there at least until the lease is removed.
    async fn import(&self, _lease: LeaseId, archive: &Path, image: &Image) -> Result<(), RuntimeError> {
        let what = format!("import the image {} from {}", image.reference, archive.display());
        Err(RuntimeError::Unsupported { runtime: self.name(), what })
    }

    /// Whether a lease like this could begin now. Asked before terms are signed; a runtime that has the machine to itself
    /// leaves it to the agent, which counts units.
    ///
    /// # Errors
    /// [`RuntimeError::Unsupported`] where it never could, [`RuntimeError::Unavailable`] where it could not now.
    async fn admit(&self, _ask: &Ask) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// How long a lease that begins now can last, by what schedules above this runtime: [`Seconds::ZERO`] where none can begin,
    /// `None` where nothing bounds it. Asked now and then, for the offer; [`Runtime::admit`] decides.
    async fn longest(&self) -> Result<Option<Seconds>, RuntimeError> {
        Ok(None)
    }

    /// Whether the workload's place was given to the owner's own work, by what schedules above this runtime. The agent then
    /// gives the lease's notice, tells the job with [`Runtime::stop`], and ends the lease as taken back, not as failed. The
    /// answer stays the same after the workload has ended, for as long as it is known.
    async fn preempted(&self, _lease: LeaseId) -> Result<Option<Preemption>, RuntimeError> {
        Ok(None)
    }

    /// Brings here what a start of this workload would wait long for, and keeps it as long as the answer lives. A caller may stop
    /// waiting at any moment: nothing is started by this. A runtime that a start fetches nothing for leaves it as it is.
    async fn fetch(&self, _spec: &WorkloadSpec, _secrets: &Secrets) -> Result<Fetched, RuntimeError> {
        Ok(Fetched::default())
    }

    /// Starts the workload, once.
    async fn start(
        &self,
        spec: &WorkloadSpec,
        secrets: &Secrets,
        volumes: &Volumes,
    ) -> Result<(), RuntimeError>;

    /// What became of it.
    async fn status(&self, lease: LeaseId) -> Result<WorkloadStatus, RuntimeError>;

    /// Every lease with anything left here, running or not.
    async fn list(&self) -> Result<Vec<LeaseId>, RuntimeError>;

    /// Up to `limit` bytes of log from `from` on; returns at once, with an empty chunk when there is nothing new.
    async fn logs(&self, lease: LeaseId, from: LogCursor, limit: usize) -> Result<LogChunk, RuntimeError>;

    /// Its consumption so far.
    async fn usage(&self, lease: LeaseId) -> Result<Usage, RuntimeError>;

    /// Freezes it; freezing twice is no error.
    async fn pause(&self, lease: LeaseId) -> Result<(), RuntimeError>;

    /// Thaws it.
    async fn resume(&self, lease: LeaseId) -> Result<(), RuntimeError>;

    /// Sends a signal to the job (for a checkpoint).
    async fn signal(&self, lease: LeaseId, signal: u8) -> Result<(), RuntimeError>;

    /// Sends the spec's stop signal, waits up to `grace`, kills what is left. Returns when nothing of it runs.
    async fn stop(&self, lease: LeaseId, grace: Seconds) -> Result<(), RuntimeError>;

    /// Begins a session beside the job: a command, or a connection to a port of the workload's own loopback.
    ///
    /// Rules for an implementation:
    /// - The command runs as the job does: its user, sandbox, limits and directory, and its environment with secrets, under
    ///   `session.envs`. With a terminal, `TERM` is set and the terminal is the command's controlling one.
    /// - It returns soon. The first output is [`Output::Started`] or [`Output::NotBegun`]; the last is that, or
    ///   [`Output::Exited`] once everything that the command said before its end was put out. A runtime never sends
    ///   [`Output::Alive`].
    /// - Nothing is dropped and nothing grows: output waits while nobody takes it, input while the command takes none.
    /// - When an end of it is dropped, what still runs in the command's session of processes (as `setsid` makes them) is killed.
    ///   It ends with the workload in any case. It survives nothing else: a restarted agent finds no session.
    /// - A workload that does not run is [`RuntimeError::Absent`]. The caller begins none while it is paused; a session that
    ///   runs is paused with it.
    async fn exec(&self, lease: LeaseId, session: &Session) -> Result<SessionEnds, RuntimeError> {
        let what = format!("begin {session:?} in the workload of {lease}");
        Err(RuntimeError::Unsupported { runtime: self.name(), what })
    }

    /// Where a tunnel reaches one of the spec's ports.
    async fn address(&self, lease: LeaseId, port: u16) -> Result<SocketAddr, RuntimeError>;

    /// Deletes everything of an ended workload, except the volumes, which are the agent's.
    async fn remove(&self, lease: LeaseId) -> Result<(), RuntimeError>;
}

/// Refuses names that no environment can hold, and words that would end early, before anything is made.
pub(crate) fn refuse_environment(
    runtime: &'static str,
    spec: &WorkloadSpec,
    secrets: &Secrets,
) -> Result<(), RuntimeError> {
    let refusal = |what: &str| Err(RuntimeError::Unsupported { runtime, what: what.into() });
    let variables = || spec.envs.iter().chain(&secrets.0);
    let odd = |name: &str| name.is_empty() || name.contains(|c: char| c == '=' || c.is_control());
    if variables().any(|(name, _)| odd(name)) {
        return refusal("set a variable without a name, or with `=` or a control character in it");
    }
    let commands = || spec.setup.iter().chain([&spec.run]).flat_map(|command| command.argv());
    if variables().any(|(_, value)| value.contains('\0')) || commands().any(|word| word.contains('\0')) {
        return refusal("take a zero byte in a variable or command");
    }
    Ok(())
}
