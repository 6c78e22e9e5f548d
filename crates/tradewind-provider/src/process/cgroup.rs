//! The workload's control group: limits, consumption, freezing and killing, by plain files.
//!
//! Both versions are spoken, and on a host that mixes them each controller in its own: [`host`] finds out which is where. A
//! controller that the host lacks or does not delegate is absent here, and the caller falls back (rlimits, polling, signals).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tradewind_proto::units::Bytes;
use tradewind_proto::workload::Limits;

pub(super) mod host;

/// Length of the CPU accounting period.
const CPU_PERIOD_US: u64 = 100_000;
/// The kernel refuses a smaller quota.
const CPU_QUOTA_MIN_US: u64 = 1_000;
/// How long freezing, killing and removing may take; the kernel does each in milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a change in progress is looked at.
const GLANCE: Duration = Duration::from_millis(2);

/// Which of the kernel's two interfaces a controller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Version {
    V1,
    V2,
}

/// A controller's directory for one workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Controller {
    pub(super) version: Version,
    pub(super) dir: PathBuf,
}

impl Controller {
    fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.dir.join(file))
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let path = self.dir.join(file);
        fs::write(&path, value)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.read(file).ok()?.trim().parse().ok()
    }

    /// The number behind `key` in a file of `key number` lines.
    fn field(&self, file: &str, key: &str) -> Option<u64> {
        let text = self.read(file).ok()?;
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
    }
}

/// A workload's control group, one directory per controller (the same one for all under version 2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cgroup {
    pub(super) memory: Option<Controller>,
    pub(super) pids: Option<Controller>,
    pub(super) cpu: Option<Controller>,
    pub(super) cpu_meter: Option<Controller>,
    pub(super) freezer: Option<Controller>,
}

impl Cgroup {
    fn controllers(&self) -> impl Iterator<Item = &Controller> {
        [&self.memory, &self.pids, &self.cpu, &self.cpu_meter, &self.freezer].into_iter().flatten()
    }

    fn dirs(&self) -> Vec<&Path> {
        let mut dirs: Vec<&Path> = self.controllers().map(|controller| controller.dir.as_path()).collect();
        dirs.sort_unstable();
        dirs.dedup();
        dirs
    }

    /// Makes the directories and sets the limits.
    pub(super) fn create(&self, limits: &Limits) -> io::Result<()> {
        for dir in self.dirs() {
            match fs::create_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        if let Some(memory) = &self.memory {
            limit_memory(memory, limits.memory)?;
        }
        if let Some(pids) = &self.pids {
            pids.write("pids.max", &limits.pids.to_string())?;
        }
        if let Some(cpu) = &self.cpu {
            let quota = (u64::from(limits.cpu_millis) * CPU_PERIOD_US / 1000).max(CPU_QUOTA_MIN_US);
            match cpu.version {
                Version::V1 => {
                    cpu.write("cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
                    cpu.write("cpu.cfs_quota_us", &quota.to_string())?;
                }
                Version::V2 => cpu.write("cpu.max", &format!("{quota} {CPU_PERIOD_US}"))?,
            }
        }
        Ok(())
    }

    /// Moves the calling process, and so all its later children, into the group.
    pub(super) fn join(&self) -> io::Result<()> {
        let me = std::process::id().to_string();
        self.dirs().into_iter().try_for_each(|dir| fs::write(dir.join("cgroup.procs"), &me))
    }

    /// CPU time so far, in milliseconds.
    pub(super) fn cpu_ms(&self) -> Option<u64> {
        let meter = self.cpu_meter.as_ref()?;
        match meter.version {
            Version::V1 => Some(meter.number("cpuacct.usage")? / 1_000_000),
            Version::V2 => Some(meter.field("cpu.stat", "usage_usec")? / 1_000),
        }
    }

    /// Memory now.
    pub(super) fn memory(&self) -> Option<Bytes> {
        let memory = self.memory.as_ref()?;
        memory.number(memory.either("memory.usage_in_bytes", "memory.current")).map(Bytes::new)
    }

    /// The most memory so far.
    pub(super) fn memory_peak(&self) -> Option<Bytes> {
        let memory = self.memory.as_ref()?;
        memory.number(memory.either("memory.max_usage_in_bytes", "memory.peak")).map(Bytes::new)
    }

    /// How many processes the memory limit has killed.
    pub(super) fn memory_kills(&self) -> Option<u64> {
        let memory = self.memory.as_ref()?;
        memory.field(memory.either("memory.oom_control", "memory.events"), "oom_kill")
    }

    /// Freezes it; `false` when there is no freezer.
    pub(super) fn freeze(&self) -> io::Result<bool> {
        self.set_frozen(true)
    }

    /// Thaws it; `false` when there is no freezer.
    pub(super) fn thaw(&self) -> io::Result<bool> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> io::Result<bool> {
        let Some(freezer) = &self.freezer else {
            return Ok(false);
        };
        let (file, value) = match (freezer.version, frozen) {
            (Version::V1, true) => ("freezer.state", "FROZEN"),
            (Version::V1, false) => ("freezer.state", "THAWED"),
            (Version::V2, true) => ("cgroup.freeze", "1"),
            (Version::V2, false) => ("cgroup.freeze", "0"),
        };
        let reached = || match freezer.version {
            Version::V1 => Ok(freezer.read(file)?.trim() == value),
            Version::V2 => {
                io::Result::Ok(freezer.field("cgroup.events", "frozen") == Some(u64::from(frozen)))
            }
        };
        match freezer.write(file, value).and_then(|()| wait_until("the freezer", reached)) {
            // It ended meanwhile, and its group with it.
            Err(_) if !freezer.dir.exists() => Ok(true),
            outcome => outcome.map(|()| true),
        }
    }

    /// The processes in it.
    fn members(&self) -> Vec<u32> {
        self.controllers().next().map(|any| pids_in(&any.dir)).unwrap_or_default()
    }

    /// Kills what is in it, frozen or not. Does nothing when there is no group.
    pub(super) fn kill(&self) -> io::Result<()> {
        self.thaw()?;
        let unified = self.controllers().find(|controller| controller.dir.join("cgroup.kill").exists());
        if let Some(unified) = unified.filter(|controller| controller.version == Version::V2) {
            return match unified.write("cgroup.kill", "1") {
                Err(_) if !unified.dir.exists() => Ok(()),
                outcome => outcome,
            };
        }
        for pid in self.members() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                match kill_process(pid, Signal::KILL) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Kills what is in it and removes the directories.
    pub(super) fn remove(&self) -> io::Result<()> {
        wait_until("removing the control group", || {
            self.kill()?;
            Ok(self.dirs().into_iter().filter(|dir| dir.exists()).all(|dir| fs::remove_dir(dir).is_ok()))
        })
    }
}

impl Controller {
    fn either(&self, v1: &'static str, v2: &'static str) -> &'static str {
        match self.version {
            Version::V1 => v1,
            Version::V2 => v2,
        }
    }
}

fn limit_memory(memory: &Controller, limit: Bytes) -> io::Result<()> {
    let limit = limit.get().to_string();
    match memory.version {
        Version::V1 => {
            memory.write("memory.limit_in_bytes", &limit)?;
            let with_swap = "memory.memsw.limit_in_bytes";
            if memory.dir.join(with_swap).exists() { memory.write(with_swap, &limit) } else { Ok(()) }
        }
        Version::V2 => {
            memory.write("memory.max", &limit)?;
            let swap = "memory.swap.max";
            if memory.dir.join(swap).exists() { memory.write(swap, "0") } else { Ok(()) }
        }
    }
}

fn pids_in(dir: &Path) -> Vec<u32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn wait_until(what: &str, mut reached: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let begin = Instant::now();
    while !reached()? {
        if begin.elapsed() > PATIENCE {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{what} took longer than {PATIENCE:?}"),
            ));
        }
        std::thread::sleep(GLANCE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            cpu_millis: 1500,
            memory: Bytes::mib(64),
            disk: Bytes::ZERO,
            pids: 32,
            log: Bytes::ZERO,
            gpus: Vec::new(),
            egress: None,
        }
    }

    fn unified(dir: &Path) -> Cgroup {
        let all = Some(Controller { version: Version::V2, dir: dir.to_owned() });
        Cgroup {
            memory: all.clone(),
            pids: all.clone(),
            cpu: all.clone(),
            cpu_meter: all.clone(),
            freezer: all,
        }
    }

    #[test]
    fn version_2_limits_and_counters_use_the_unified_names() {
        let root = tempfile::tempdir().unwrap();
        let group = unified(root.path());
        fs::write(root.path().join("memory.swap.max"), "max").unwrap();
        group.create(&limits()).unwrap();
        let file = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
        assert_eq!(file("memory.max"), (64u64 << 20).to_string());
        assert_eq!(file("memory.swap.max"), "0");
        assert_eq!(file("pids.max"), "32");
        assert_eq!(file("cpu.max"), "150000 100000");
        fs::write(root.path().join("cpu.stat"), "usage_usec 1234567\nuser_usec 1\n").unwrap();
        fs::write(root.path().join("memory.events"), "oom 3\noom_kill 2\noom_group_kill 0\n").unwrap();
        fs::write(root.path().join("memory.current"), "4096\n").unwrap();
        assert_eq!((group.cpu_ms(), group.memory_kills()), (Some(1234), Some(2)));
        assert_eq!((group.memory(), group.memory_peak()), (Some(Bytes::new(4096)), None));
    }

    #[test]
    fn version_1_limits_use_a_directory_for_each_controller() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| Some(Controller { version: Version::V1, dir: root.path().join(name) });
        let group = Cgroup { memory: at("memory"), cpu: at("cpu"), pids: at("pids"), ..Cgroup::default() };
        group.create(&limits()).unwrap();
        let file = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
        assert_eq!(file("memory/memory.limit_in_bytes"), (64u64 << 20).to_string());
        assert_eq!(file("cpu/cpu.cfs_quota_us"), "150000");
        assert_eq!(file("pids/pids.max"), "32");
        fs::write(
            root.path().join("memory/memory.oom_control"),
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        )
        .unwrap();
        assert_eq!(group.memory_kills(), Some(1));
    }

    /// The kernel's version 2 files, wherever a hierarchy is mounted that this user may write.
    #[test]
    fn a_unified_group_freezes_thaws_and_kills() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).unwrap_or_default();
        let top = line.split_whitespace().nth(4).unwrap_or("/nowhere");
        let dir = Path::new(top).join(format!("tradewind-test-{}", std::process::id()));
        let freezer = Some(Controller { version: Version::V2, dir: dir.clone() });
        let group = Cgroup { freezer, ..Cgroup::default() };
        if group.create(&limits()).is_err() {
            return;
        }
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(dir.join("cgroup.procs"), child.id().to_string()).unwrap();
        assert_eq!(group.members(), [child.id()]);
        assert!(group.freeze().unwrap() && group.freeze().unwrap());
        assert!(group.thaw().unwrap());
        assert!(child.try_wait().unwrap().is_none());
        assert!(group.freeze().unwrap(), "a frozen group is killed too");
        group.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        group.remove().unwrap();
        assert!(!dir.exists());
        assert!(group.thaw().unwrap(), "a group that is gone is not frozen");
    }

    #[test]
    fn without_a_group_nothing_is_done_and_nothing_fails() {
        let group = Cgroup::default();
        group.create(&limits()).unwrap();
        assert!(!group.freeze().unwrap());
        group.kill().unwrap();
        group.remove().unwrap();
        assert_eq!(group.cpu_ms(), None);
    }
}
