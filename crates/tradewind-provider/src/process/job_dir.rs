//! The directory of one workload: all that survives the agent and the shim.
//!
//! ```text
//! jobs/<lease>/
//!   spec.json    what was asked, and the host user that was lent        written by the agent, once
//!   lock         held by the shim for its life; never unlinked alone
//!   shim.json    pid, its start time, boot id, cgroup, ports            written by the shim before anything runs
//!   control      a pipe that takes commands                             made by the shim
//!   door         a socket that takes sessions                           made by the shim
//!   log, dropped what the job said, and how much of it was not kept     written by the shim
//!   usage.json   consumption at the last tick
//!   paused       there while the job is frozen                          written by the agent
//!   exit.json    how it ended                                           written by the shim, last
//! ```
//!
//! Adoption reads them in this order: `exit.json` is there → ended; another boot id → lost; the pid is gone or has another start
//! time → look for `exit.json` once more, else lost.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tradewind_proto::ids::LeaseId;
use tradewind_proto::units::Timestamp;
use tradewind_proto::workload::{Exit, Usage, WorkloadSpec};

use super::cgroup::Cgroup;
use super::tree;

/// What was asked of this runtime for a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) spec: WorkloadSpec,
    pub(crate) work: PathBuf,
    /// The host user lent to this lease alone; `None` when the agent is not root.
    pub(crate) user: Option<u32>,
}

/// The shim that runs a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShimRecord {
    pub(crate) pid: u32,
    /// In clock ticks since boot: tells this process from a later one with the same pid.
    pub(crate) start_time: u64,
    pub(crate) boot_id: String,
    pub(crate) since: Timestamp,
    pub(crate) cgroup: Cgroup,
    /// Host loopback port of each of the spec's ports.
    pub(crate) ports: BTreeMap<u16, u16>,
}

/// Why nothing was executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// The job's fault: asking again changes nothing.
    Job(String),
    /// The host's: it may be asked again.
    Host(String),
}

/// How a workload ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    pub(crate) exit: Exit,
    pub(crate) usage: Usage,
    pub(crate) failure: Option<Failure>,
}

/// A living shim.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) record: ShimRecord,
    pub(crate) pidfd: OwnedFd,
}

/// What became of a lease's workload.
#[derive(Debug)]
pub(crate) enum Fate {
    Absent,
    /// Asked for, but no shim took it: nothing was executed.
    Unstarted,
    Running(Live),
    Exited(ExitRecord),
    Lost,
}

/// A workload's directory.
#[derive(Debug, Clone)]
pub(crate) struct JobDir {
    path: PathBuf,
}

impl JobDir {
    pub(crate) fn of(jobs: &Path, lease: LeaseId) -> Self {
        Self { path: jobs.join(hex::encode(lease.get())) }
    }

    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes it, readable by the agent's user only.
    pub(crate) fn create(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        open_lock(&self.file("lock")).map(drop)
    }

    /// What was asked. An order that a power loss tore was never followed: the shim's record is written after it is whole.
    pub(crate) fn order(&self) -> io::Result<Option<Order>> {
        match self.read("spec.json") {
            Err(error)
                if error.kind() == io::ErrorKind::InvalidData
                    || error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                Ok(None)
            }
            outcome => outcome,
        }
    }

    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.file(name)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces a file so that a crash leaves the old or the new one, and the new one stays.
    pub(crate) fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let draft = self.file(&format!("{name}.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.sync_all()?;
        fs::rename(&draft, self.file(name))?;
        File::open(&self.path)?.sync_all()
    }

    /// Sees to it that what [`note`](Self::note) wrote stays.
    pub(crate) fn settle(&self, name: &str) -> io::Result<()> {
        File::open(self.file(name))?.sync_all()
    }

    /// Replaces a file that may be lost with the machine.
    pub(crate) fn note<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let draft = self.file(&format!("{name}.new"));
        fs::write(&draft, serde_json::to_vec(value)?)?;
        fs::rename(&draft, self.file(name))
    }

    pub(crate) fn paused(&self) -> bool {
        self.file("paused").exists()
    }

    /// Takes the shim's lock, or `None` when a shim has it.
    pub(crate) fn claim(&self) -> io::Result<Option<OwnedFd>> {
        let file = OpenOptions::new().write(true).open(self.file("lock"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file.into())),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn fate(&self) -> io::Result<Fate> {
        if !self.path.exists() {
            return Ok(Fate::Absent);
        }
        if let Some(exit) = self.read("exit.json")? {
            return Ok(Fate::Exited(exit));
        }
        let Some(record) = self.read::<ShimRecord>("shim.json")? else {
            return Ok(Fate::Unstarted);
        };
        if record.boot_id != boot_id()? {
            return Ok(Fate::Lost);
        }
        if let Some(pidfd) = open_process(record.pid, record.start_time)? {
            return Ok(Fate::Running(Live { record, pidfd }));
        }
        match self.read("exit.json")? {
            Some(exit) => Ok(Fate::Exited(exit)),
            None => Ok(Fate::Lost),
        }
    }
}

/// Opens a lock file, making it where needed.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The kernel's name for this boot.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// A handle on the process `pid` if it is the one that started at `start_time` and still runs.
fn open_process(pid: u32, start_time: u64) -> io::Result<Option<OwnedFd>> {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    let pidfd = match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let same = tree::process(pid).is_some_and(|process| process.start_time == start_time && !process.zombie);
    Ok(same.then_some(pidfd))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ShimRecord {
        let me = tree::process(std::process::id()).unwrap();
        ShimRecord {
            pid: std::process::id(),
            start_time: me.start_time,
            boot_id: boot_id().unwrap(),
            since: Timestamp::from_unix(1),
            cgroup: Cgroup::default(),
            ports: BTreeMap::new(),
        }
    }

    fn fate_of(record: &ShimRecord) -> Fate {
        let root = tempfile::tempdir().unwrap();
        let dir = JobDir::of(root.path(), LeaseId::default());
        dir.create().unwrap();
        dir.write("shim.json", record).unwrap();
        dir.fate().unwrap()
    }

    #[test]
    fn a_living_shim_is_known_by_pid_start_time_and_boot() {
        assert!(matches!(fate_of(&record()), Fate::Running(_)));
    }

    #[test]
    fn a_reboot_loses_it() {
        let stale = ShimRecord { boot_id: "b".into(), ..record() };
        assert!(matches!(fate_of(&stale), Fate::Lost));
    }

    #[test]
    fn a_reused_pid_is_not_the_shim() {
        let stale = ShimRecord { start_time: 1, ..record() };
        assert!(matches!(fate_of(&stale), Fate::Lost));
    }

    #[test]
    fn no_directory_is_absent_and_no_shim_is_unstarted() {
        let root = tempfile::tempdir().unwrap();
        let dir = JobDir::of(root.path(), LeaseId::default());
        assert!(matches!(dir.fate().unwrap(), Fate::Absent));
        dir.create().unwrap();
        assert!(matches!(dir.fate().unwrap(), Fate::Unstarted));
    }

    #[test]
    fn a_torn_order_is_none() {
        let root = tempfile::tempdir().unwrap();
        let dir = JobDir::of(root.path(), LeaseId::default());
        dir.create().unwrap();
        for torn in ["", "{\"spec\":", "\0\0\0"] {
            fs::write(dir.file("spec.json"), torn).unwrap();
            assert_eq!(dir.order().unwrap(), None);
        }
    }

    #[test]
    fn the_lock_is_held_once() {
        let root = tempfile::tempdir().unwrap();
        let dir = JobDir::of(root.path(), LeaseId::default());
        dir.create().unwrap();
        let held = dir.claim().unwrap();
        assert!(held.is_some() && dir.claim().unwrap().is_none());
        drop(held);
        assert!(dir.claim().unwrap().is_some());
    }
}
