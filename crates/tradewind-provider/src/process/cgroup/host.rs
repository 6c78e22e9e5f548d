//! Where this host keeps its control groups, and which of them the agent may use.
//!
//! Under version 2 a group that has children with controllers may hold no process itself, so an agent alone in a delegated group
//! (systemd's `Delegate=yes`) first moves into a leaf below it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use tradewind_proto::ids::LeaseId;

use super::{Cgroup, Controller, Version, pids_in};

/// The leaf that an agent moves into.
const AGENT_LEAF: &str = "tradewind-agent";

/// The parent directories of this agent's workloads, by controller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::process) struct Host {
    memory: Option<Controller>,
    pids: Option<Controller>,
    cpu: Option<Controller>,
    cpu_meter: Option<Controller>,
    freezer: Option<Controller>,
}

impl Host {
    /// Finds what is mounted here and may be written, and enables controllers for children.
    pub(in crate::process) fn discover() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let mut host = Self::parse(&mounts, &own);
        for slot in host.slots() {
            if slot.as_ref().is_some_and(|controller| access(&controller.dir, Access::WRITE_OK).is_err()) {
                *slot = None;
            }
        }
        Ok(host)
    }

    fn slots(&mut self) -> [&mut Option<Controller>; 5] {
        [&mut self.memory, &mut self.pids, &mut self.cpu, &mut self.cpu_meter, &mut self.freezer]
    }

    /// The group for one lease's workload; nothing is made yet.
    pub(in crate::process) fn of(&self, lease: LeaseId) -> Cgroup {
        let name = format!("tradewind-{}", hex::encode(&lease.get()[..16]));
        let below = |slot: &Option<Controller>| {
            slot.as_ref().map(|base| Controller { version: base.version, dir: base.dir.join(&name) })
        };
        Cgroup {
            memory: below(&self.memory),
            pids: below(&self.pids),
            cpu: below(&self.cpu),
            cpu_meter: below(&self.cpu_meter),
            freezer: below(&self.freezer),
        }
    }

    /// The limits that this host cannot enforce by groups.
    pub(in crate::process) fn missing(&self) -> Vec<&'static str> {
        let slots =
            [("memory", &self.memory), ("pids", &self.pids), ("cpu", &self.cpu), ("freezer", &self.freezer)];
        slots.into_iter().filter(|(_, slot)| slot.is_none()).map(|(name, _)| name).collect()
    }

    fn parse(mounts: &str, own: &str) -> Self {
        let v1 = |name: &str| {
            let dir = locate(mounts, own, "cgroup", name)?;
            Some(Controller { version: Version::V1, dir })
        };
        let unified = Unified::choose(mounts, own);
        let v2 = |name: &str| {
            let unified = unified.as_ref()?;
            let given = name.is_empty() || unified.enabled.contains(&name);
            given.then(|| Controller { version: Version::V2, dir: unified.base.clone() })
        };
        Self {
            memory: v1("memory").or_else(|| v2("memory")),
            pids: v1("pids").or_else(|| v2("pids")),
            cpu: v1("cpu").or_else(|| v2("cpu")),
            cpu_meter: v1("cpuacct").or_else(|| v2("")),
            freezer: v1("freezer").or_else(|| v2("")),
        }
    }
}

/// The version 2 hierarchy: below which group workloads get theirs, and what can be limited there.
struct Unified {
    base: PathBuf,
    enabled: Vec<&'static str>,
}

impl Unified {
    /// Below the agent's own group where it is delegated. Where it is not, root still has the hierarchy's top, which may hold
    /// processes and children at once; limits there are worth more than a place below the agent's slice.
    fn choose(mounts: &str, own: &str) -> Option<Self> {
        let dir = locate(mounts, own, "cgroup2", "")?;
        let leaf = dir.file_name().is_some_and(|name| name == AGENT_LEAF);
        let own_group = if leaf { dir.parent().map_or(dir.clone(), Path::to_owned) } else { dir };
        let own_group = Self::below(own_group);
        let offered = offered(&own_group.base);
        if own_group.enabled.len() == offered.len() {
            return Some(own_group);
        }
        let top = Self::below(locate(mounts, "0::/\n", "cgroup2", "")?);
        Some(if top.enabled.len() > own_group.enabled.len() { top } else { own_group })
    }

    fn below(base: PathBuf) -> Self {
        let enabled = offered(&base).into_iter().filter(|name| enable(&base, name)).collect();
        Self { enabled, base }
    }
}

/// The controllers of interest that `base` has to give.
fn offered(base: &Path) -> Vec<&'static str> {
    let listed = fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
    let listed = |name: &&str| listed.split_whitespace().any(|each| each == *name);
    ["memory", "pids", "cpu"].into_iter().filter(listed).collect()
}

/// Gives a controller to the children of `base`.
fn enable(base: &Path, name: &str) -> bool {
    let control = base.join("cgroup.subtree_control");
    let write = || fs::write(&control, format!("+{name}"));
    write().is_ok() || (step_into_leaf(base).is_ok() && write().is_ok())
}

/// Moves this process out of `base` into a leaf below it, if it is alone there.
fn step_into_leaf(base: &Path) -> io::Result<()> {
    if pids_in(base) != [std::process::id()] {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    let leaf = base.join(AGENT_LEAF);
    fs::create_dir_all(&leaf)?;
    fs::write(leaf.join("cgroup.procs"), std::process::id().to_string())
}

/// This process's own group in the hierarchy of `controller`, as a path on this host.
fn locate(mounts: &str, own: &str, fstype: &str, controller: &str) -> Option<PathBuf> {
    let (root, point) = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let right: Vec<&str> = right.split_whitespace().collect();
        let options = right.get(2).copied().unwrap_or_default();
        let fits = controller.is_empty() || options.split(',').any(|option| option == controller);
        let left: Vec<&str> = left.split_whitespace().collect();
        (right.first() == Some(&fstype) && fits).then(|| Some((*left.get(3)?, *left.get(4)?)))?
    })?;
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        let fits = if controller.is_empty() {
            names.is_empty()
        } else {
            names.split(',').any(|name| name == controller)
        };
        fits.then_some(path)
    })?;
    let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    Some(Path::new(point).join(below.strip_prefix("/").unwrap_or(below)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn each_controller_is_found_in_its_own_hierarchy() {
        let own = "8:pids:/\n4:memory:/slice/agent\n0::/\n";
        let host = Host::parse(HYBRID, own);
        assert_eq!(host.memory.unwrap().dir, Path::new("/sys/fs/cgroup/memory/slice/agent"));
        assert_eq!(host.pids.unwrap().dir, Path::new("/sys/fs/cgroup/pids"));
        let freezer = host.freezer.unwrap();
        assert_eq!(
            (freezer.version, freezer.dir.as_path()),
            (Version::V2, Path::new("/sys/fs/cgroup/unified"))
        );
    }

    #[test]
    fn a_mount_of_a_subtree_is_seen_from_its_root() {
        let mounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let dir = locate(mounts, "4:memory:/docker/abc/inner\n", "cgroup", "memory");
        assert_eq!(dir.unwrap(), Path::new("/sys/fs/cgroup/memory/inner"));
    }

    #[test]
    fn a_delegated_unified_group_gives_its_controllers_to_children() {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().join("agent.service");
        fs::create_dir_all(&base).unwrap();
        fs::write(base.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        let mounts = format!("29 23 0:26 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        for own in ["0::/agent.service\n", "0::/agent.service/tradewind-agent\n"] {
            let host = Host::parse(&mounts, own);
            assert!(host.missing().is_empty(), "{host:?}");
            assert_eq!(host.memory.as_ref().unwrap().dir, base);
        }
    }

    #[test]
    fn root_falls_back_to_the_top_when_its_own_group_is_full() {
        let root = tempfile::tempdir().unwrap();
        let session = root.path().join("session.scope");
        // A directory in the control file's place stands for the kernel's refusal.
        fs::create_dir_all(session.join("cgroup.subtree_control")).unwrap();
        fs::write(session.join("cgroup.procs"), "1\n2\n").unwrap();
        for dir in [root.path(), &session] {
            fs::write(dir.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        }
        let mounts = format!("29 23 0:26 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        let host = Host::parse(&mounts, "0::/session.scope\n");
        assert!(host.missing().is_empty(), "{host:?}");
        assert_eq!(host.memory.unwrap().dir, root.path());
        assert_eq!(host.freezer.unwrap().dir, root.path());
    }

    #[test]
    fn a_host_without_groups_says_what_is_missing() {
        assert_eq!(Host::parse("", "").missing(), ["memory", "pids", "cpu", "freezer"]);
    }
}
