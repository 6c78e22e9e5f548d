//! What a runtime starts: the workload of one lease, and what can be said of it afterwards.
//!
//! ```text
//!            start                     exit, signal, OOM
//!  Absent ──────────► Running ───────────────────────────► Exited
//!                      │  ▲ pause, resume
//!                      └──► Lost (reboot, or the supervisor died with it)
//! ```
//!
//! The lease's id is the workload's natural key: starting the same lease twice starts it once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::LeaseId;
use crate::units::{Bytes, Seconds, Timestamp};

/// What to execute: a shell line, or a program with its arguments (for images without a shell).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Run by `/bin/sh -c`.
    Shell(String),
    /// Executed as it is.
    Exec(Vec<String>),
}

impl Command {
    /// The argument vector.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Shell(line) => vec!["/bin/sh".into(), "-c".into(), line.clone()],
            Self::Exec(argv) => argv.clone(),
        }
    }
}

/// A container image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// As the engine takes it: `ghcr.io/org/name:tag`, or a local name.
    pub reference: String,
    /// `sha256:…` of the image that the buyer chose; a tag that moved is refused.
    pub digest: Option<String>,
    /// A BLAKE3 hash of a docker or OCI archive that the provider imports over the mesh instead of pulling.
    pub archive: Option<[u8; 32]>,
}

/// How the registry of the image is logged in to. The password is a secret's value, which the job itself never gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryLogin {
    /// The user.
    pub username: String,
    /// The secret whose value is the password.
    pub secret: String,
}

impl RegistryLogin {
    /// Whether a registry can know such a user: 1 to 256 bytes, without the colon that ends a name in a login.
    #[must_use]
    pub fn is_user(text: &str) -> bool {
        (1..=256).contains(&text.len()) && !text.chars().any(|c| c == ':' || c.is_control())
    }
}

/// What the workload may reach. Never the LAN, the host or the metadata address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Loopback only.
    #[default]
    None,
    /// The Internet.
    Internet,
}

/// Upper bounds that the runtime enforces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Thousandths of a CPU.
    pub cpu_millis: u32,
    /// Resident memory.
    pub memory: Bytes,
    /// Bytes written into the work directory.
    pub disk: Bytes,
    /// Processes and threads.
    pub pids: u32,
    /// Kept log; what exceeds it is counted and dropped.
    pub log: Bytes,
    /// Indices of the host's GPUs.
    pub gpus: Vec<u32>,
    /// What it may send an hour, by [`allowed`](crate::egress::allowed); as much as it likes where absent.
    #[serde(default)]
    pub egress: Option<Bytes>,
}

/// How the workload is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The signal sent first (15 is SIGTERM).
    pub signal: u8,
    /// Time until it is killed.
    pub grace: Seconds,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: 15, grace: Seconds::new(10) }
    }
}

/// Everything a runtime needs to start a lease's workload. Secrets are not in here: they never touch a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadSpec {
    /// The natural key.
    pub lease: LeaseId,
    /// Runs in this image; `None` runs on the host's own userland (`process` only).
    pub image: Option<Image>,
    /// Runs first, with the same limits; a failure ends the workload with its code.
    pub setup: Option<Command>,
    /// The job.
    pub run: Command,
    /// Plain environment.
    pub envs: BTreeMap<String, String>,
    /// Bounds.
    pub limits: Limits,
    /// Reach.
    pub network: Network,
    /// TCP ports that a tunnel may reach.
    pub ports: Vec<u16>,
    /// How it ends.
    pub stop: Stop,
    /// How long its sandbox stays after the job ended by itself, for its buyer to go on in; a stop ends that too. It exits with the
    /// job's own code. The log says when the job ended.
    #[serde(default)]
    pub keep: Option<Seconds>,
    /// How the image is had from its registry, by whoever brings it.
    #[serde(default)]
    pub registry: Option<RegistryLogin>,
}

impl WorkloadSpec {
    /// What the job gets of these secrets: all but its registry's password.
    #[must_use]
    pub fn secrets_of_job(&self, secrets: &Secrets) -> Secrets {
        let mut secrets = secrets.clone();
        if let Some(login) = &self.registry {
            secrets.0.remove(&login.secret);
        }
        secrets
    }
}

/// Environment that exists in memory only. `Debug` shows the names, never the values.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets(pub BTreeMap<String, String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// How a workload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The job's own code; 128 + n after signal n.
    pub code: u8,
    /// The memory limit killed something in it.
    pub out_of_memory: bool,
    /// When.
    pub at: Timestamp,
}

/// What a runtime knows of a lease's workload. An error while asking is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkloadStatus {
    /// Never started here, or removed.
    Absent,
    /// Alive.
    Running {
        /// Since when.
        since: Timestamp,
        /// Frozen by `pause`.
        paused: bool,
    },
    /// Over.
    Exited(Exit),
    /// It was running and cannot have survived: the machine rebooted, or it died without leaving its exit.
    Lost,
}

/// Cumulative consumption of one workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory now.
    pub memory: Bytes,
    /// The highest resident memory so far.
    pub memory_peak: Bytes,
    /// Bytes in the work directory.
    pub disk: Bytes,
    /// Bytes sent to the network.
    pub egress: Bytes,
    /// Bytes received from the network.
    pub ingress: Bytes,
    /// Its accelerators now; nothing where it has none, or nobody can say.
    #[serde(default)]
    pub accelerators: Option<AcceleratorUsage>,
}

/// What a workload's accelerators do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AcceleratorUsage {
    /// How busy they are on average, in percent, over the driver's last sample.
    pub busy: u8,
    /// Their memory that is in use, added up.
    pub memory: Bytes,
    /// Milliseconds in which they worked so far, all of them together, as far as they were looked at.
    #[serde(default)]
    pub busy_ms: u64,
    /// The highest memory in use so far.
    #[serde(default)]
    pub memory_peak: Bytes,
}

/// A place in a workload's log; only the runtime that made it can read it. Zero is the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogCursor(pub u64);

/// A piece of a workload's log, standard output and error in the order they came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogChunk {
    /// The text as the workload wrote it.
    pub bytes: bytes::Bytes,
    /// Where the next piece begins.
    pub next: LogCursor,
    /// Bytes dropped so far because the log's limit was reached.
    pub dropped: u64,
    /// The workload is over and this is the rest.
    pub end: bool,
}
