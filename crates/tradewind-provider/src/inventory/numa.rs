//! The machine's NUMA nodes as the kernel describes them below `/sys`: which hardware threads, memory and accelerators are near each other.
//!
//! Only nodes with threads that this process may use count, and only where there are several: elsewhere nothing is to be chosen. Files that
//! contradict each other say nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tradewind_proto::units::Bytes;

use super::sysfs::names;

/// More hardware threads than a kernel can be built for.
const THREADS_END: u32 = 1 << 14;
/// A list of that many threads, none beside another.
const TEXT_MAX: u64 = 1 << 17;

/// Hardware threads by the kernel's numbers; written as the kernel does, `0-23,48-71`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Threads(BTreeSet<u32>);

/// A text is no list of hardware threads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("that is no list of hardware threads such as `0-23,48-71`, each below {THREADS_END}")]
pub struct NoThreads;

impl Threads {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether this thread is one of them.
    #[must_use]
    pub fn contains(&self, thread: usize) -> bool {
        u32::try_from(thread).is_ok_and(|thread| self.0.contains(&thread))
    }

    /// These, and the `other` ones.
    pub(super) fn add(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    fn shared(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }
}

impl FromStr for Threads {
    type Err = NoThreads;

    fn from_str(text: &str) -> Result<Self, NoThreads> {
        let number =
            |text: &str| text.trim().parse::<u32>().ok().filter(|it| *it < THREADS_END).ok_or(NoThreads);
        let mut all = BTreeSet::new();
        for part in text.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(NoThreads);
            }
            all.extend(first..=last);
        }
        Ok(Self(all))
    }
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let starts = self.0.iter().filter(|it| it.checked_sub(1).is_none_or(|one| !self.0.contains(&one)));
        for (place, first) in starts.enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match (*first..).take_while(|it| self.0.contains(it)).last() {
                Some(last) if last > *first => write!(f, "{comma}{first}-{last}")?,
                Some(_) | None => write!(f, "{comma}{first}")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Threads {
    type Error = NoThreads;
    fn try_from(text: String) -> Result<Self, NoThreads> {
        text.parse()
    }
}

impl From<Threads> for String {
    fn from(threads: Threads) -> Self {
        threads.to_string()
    }
}

/// One NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaNode {
    /// The kernel's number for it.
    pub number: u32,
    /// Its hardware threads that this process may use.
    pub threads: Threads,
    /// Its memory.
    pub memory: Bytes,
}

/// Reads them.
#[derive(Debug, Clone)]
pub(super) struct Numa {
    root: PathBuf,
    /// The threads that this process may use; unknown where the kernel does not say.
    usable: Option<Threads>,
}

impl Default for Numa {
    fn default() -> Self {
        let status = text(Path::new("/proc/self/status")).unwrap_or_default();
        let usable = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        Self { root: "/sys".into(), usable: usable.and_then(|list| list.parse().ok()) }
    }
}

impl Numa {
    /// The nodes by number, where there are several with threads that this process may use; else none.
    pub(super) fn nodes(&self) -> Vec<NumaNode> {
        let Some(usable) = &self.usable else { return Vec::new() };
        let directory = self.root.join("devices/system/node");
        let node = |name: String| {
            let number = name.strip_prefix("node")?.parse().ok()?;
            let threads = text(&directory.join(&name).join("cpulist"))?.parse::<Threads>().ok()?;
            let threads = threads.shared(usable);
            let memory = text(&directory.join(&name).join("meminfo")).and_then(|text| total(&text));
            Some(NumaNode { number, threads, memory: memory.unwrap_or(Bytes::ZERO) })
        };
        let mut nodes: Vec<NumaNode> = names(&directory).into_iter().filter_map(node).collect();
        nodes.retain(|node| node.threads.count() > 0);
        nodes.sort_by_key(|node| node.number);
        let mut all = Threads::default();
        nodes.iter().for_each(|node| all.add(&node.threads));
        let is_disjoint = nodes.iter().map(|node| node.threads.count()).sum::<usize>() == all.count();
        if nodes.len() > 1 && is_disjoint { nodes } else { Vec::new() }
    }

    /// The node of the device at this address on the bus, where the kernel knows one.
    pub(super) fn node_of(&self, bus: &str) -> Option<u32> {
        let device = self.root.join("bus/pci/devices").join(address(bus)?);
        text(&device.join("numa_node"))?.trim().parse().ok()
    }
}

/// An address on the bus as the kernel's directories have it: NVML writes `00000000:C1:00.0` for `0000:c1:00.0`.
fn address(bus: &str) -> Option<String> {
    let number = |text: &str| u32::from_str_radix(text, 16).ok();
    let (domain, rest) = bus.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let (domain, bus, device) = (number(domain)?, number(bus)?, number(device)?);
    Some(format!("{domain:04x}:{bus:02x}:{device:02x}.{:x}", number(function)?))
}

/// The memory in a node's `Node 0 MemTotal:       24684092 kB`.
fn total(meminfo: &str) -> Option<Bytes> {
    let (_, rest) = meminfo.lines().find_map(|line| line.split_once(" MemTotal:"))?;
    let kibibytes: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024).map(Bytes::new)
}

/// A file of the kernel's; nothing where it is not there, no text, or longer than any.
fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(TEXT_MAX).read_to_string(&mut text));
    let read = u64::try_from(read.ok()?).ok()?;
    (read < TEXT_MAX).then_some(text)
}

#[cfg(test)]
pub(super) mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A `/sys` made of files, of a machine with the threads 0 to 95.
    pub(in crate::inventory) struct Made(TempDir);

    impl Made {
        pub(in crate::inventory) fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn with(self, path: &str, text: impl AsRef<[u8]>) -> Self {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            self
        }

        pub(in crate::inventory) fn node(self, number: u32, threads: &str) -> Self {
            let at = format!("devices/system/node/node{number}");
            let memory = format!("Node {number} MemTotal:       1048576 kB\nNode {number} MemFree:  8 kB\n");
            self.with(&format!("{at}/cpulist"), format!("{threads}\n")).with(&format!("{at}/meminfo"), memory)
        }

        pub(in crate::inventory) fn card(self, bus: &str, node: &str) -> Self {
            self.with(&format!("bus/pci/devices/{bus}/numa_node"), format!("{node}\n"))
        }

        /// What a process sees of it that may use these threads.
        pub(in crate::inventory) fn seen(&self, usable: &str) -> Numa {
            Numa { root: self.0.path().into(), usable: usable.parse().ok() }
        }

        fn shown(&self, usable: &str) -> Vec<(u32, String)> {
            let nodes = self.seen(usable).nodes().into_iter();
            nodes.map(|node| (node.number, node.threads.to_string())).collect()
        }
    }

    #[test]
    fn threads_are_written_as_the_kernel_writes_them() {
        for text in ["", "0", "0-1", "0-23,48-71", "3,5,7-9", "16383"] {
            assert_eq!(text.parse::<Threads>().unwrap().to_string(), text);
        }
        assert_eq!(" 1,0,2\n".parse::<Threads>().unwrap().to_string(), "0-2");
        for wrong in ["0-4294967295", "0-16384", "4294967296", "2-1", "-1", "0--3", "a", "0-1;2", "1-2-3"] {
            assert_eq!(wrong.parse::<Threads>(), Err(NoThreads), "{wrong}");
        }
    }

    #[test]
    fn two_sockets_are_two_nodes_of_the_threads_that_may_be_used() {
        let made = Made::new().node(0, "0-23,48-71").node(1, "24-47,72-95").node(10, "");
        assert_eq!(made.shown("0-95"), [(0, "0-23,48-71".to_owned()), (1, "24-47,72-95".to_owned())]);
        assert_eq!(made.shown("0-3,90-200"), [(0, "0-3".to_owned()), (1, "90-95".to_owned())]);
        assert_eq!(made.seen("0-95").nodes()[1].memory, Bytes::gib(1));
    }

    #[test]
    fn where_nothing_is_to_be_chosen_there_are_no_nodes() {
        assert_eq!(Made::new().shown("0-95"), []);
        assert_eq!(Made::new().node(0, "0-95").shown("0-95"), []);
        let two = Made::new().node(0, "0-47").node(1, "48-95");
        assert_eq!(two.shown("0-47"), [], "this process may use one of them");
        assert_eq!(two.shown("unknown"), []);
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        let two = || Made::new().node(0, "0-47").node(1, "48-95");
        for list in ["0-4294967295", "48-47", "\u{1b}[2J", "48-95,"] {
            let seen = two().node(2, list).shown("0-95");
            assert!(seen.len() == 2 || seen.is_empty(), "{list}: {seen:?}");
        }
        assert_eq!(two().node(2, "40-50").shown("0-95"), [], "a thread is at one node");
        let long = two().with("devices/system/node/node2/cpulist", "1,".repeat(1 << 17));
        assert_eq!(long.shown("0-95").len(), 2);
        let broken = two().with("devices/system/node/node2/cpulist", [0xff, 0xfe]);
        assert_eq!(broken.shown("0-95").len(), 2);
        let silent =
            two().with("devices/system/node/node1/meminfo", "Node 1 MemTotal: 99999999999999999999 kB");
        assert_eq!(silent.seen("0-95").nodes()[1].memory, Bytes::ZERO);
    }

    #[test]
    fn a_card_is_found_however_its_address_is_written() {
        let made = Made::new().card("0000:c1:00.0", "1").card("0000:03:00.0", "-1").card("0000:04:00.0", "x");
        let seen = made.seen("0");
        for bus in ["00000000:C1:00.0", "0000:c1:00.0", "0000:C1:00.0"] {
            assert_eq!(seen.node_of(bus), Some(1), "{bus}");
        }
        for bus in ["0000:03:00.0", "0000:04:00.0", "0000:05:00.0", "../..", "0000:../:00.0", "", "a:b:c.d.e"]
        {
            assert_eq!(seen.node_of(bus), None, "{bus}");
        }
    }
}
