//! What this machine is made of: the basis of offers, and of what `provider` shows its owner.
//!
//! What it is made of is read; [`Speed`] is measured. Accelerators come from a [`GpuSource`], so that a test can have some; a machine
//! without them, or without a maker's driver, is no error.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::thread::available_parallelism;

use serde::{Deserialize, Serialize};
use tradewind_proto::offer::{Gpus, Resources, Vendor};
use tradewind_proto::units::Bytes;

use numa::Numa;

pub mod capacity;
pub mod gpu;
mod mig;
mod models;
mod numa;
mod nvml;
mod places;
mod speed;
mod sysfs;

pub use capacity::{CapacityError, Reserve, Sold, Wanted};
pub use gpu::{AllGpus, CudaVersion, Gpu, GpuError, GpuGroup, GpuSource, Listing};
pub use numa::{NoThreads, NumaNode, Threads};
pub use nvml::Nvml;
pub use places::{Place, Places};
pub use speed::Speed;
pub use sysfs::Sysfs;

/// What a thread of a processor draws that says nothing: a server's 200 W over 32 threads, and something.
const WATTS_A_THREAD: u32 = 8;
/// What a card draws that says nothing.
const WATTS_A_CARD: u32 = 300;

/// Why accelerators are not sold that `process` cannot hand over.
pub(crate) const ONLY_CONTAINERS: &str =
    "jobs get them by the runtime `docker` only; let `provider.runtimes` name it alone";

/// Why the machine could not be described.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The state directory's file system could not be asked.
    #[error("the file system of {path} does not answer")]
    Disk {
        /// The directory.
        path: String,
        /// The failure.
        #[source]
        source: io::Error,
    },
}

/// The processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// As the maker names it; empty where the machine does not say.
    pub model: String,
    /// The instruction set: `x86_64`, `aarch64`.
    pub architecture: String,
    /// Hardware threads that this process may use.
    pub threads: usize,
    /// Physical cores, where known.
    pub cores: Option<usize>,
    /// The most watts that the package may draw for long, where the kernel says (RAPL).
    #[serde(default)]
    pub watts: Option<u32>,
}

/// Main memory, within the agent's own control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// All of it.
    pub total: Bytes,
    /// What could be used now without swapping.
    pub available: Bytes,
}

/// The file system of the state directory, where work directories lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its size.
    pub total: Bytes,
    /// What this user may still write.
    pub free: Bytes,
}

/// A network interface that is up, other than loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name here.
    pub name: String,
    /// The link's speed in megabits per second, where the driver says one.
    pub megabits: Option<u64>,
    /// Bytes since boot.
    pub received: Bytes,
    /// Bytes since boot.
    pub sent: Bytes,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// The processor.
    pub cpu: Cpu,
    /// Main memory.
    pub memory: Memory,
    /// Its NUMA nodes by number, where it has several; else none.
    #[serde(default)]
    pub nodes: Vec<NumaNode>,
    /// Where work directories lie.
    pub disk: Disk,
    /// The network, by name.
    pub interfaces: Vec<Interface>,
    /// Accelerators, by index.
    pub gpus: Vec<Gpu>,
    /// What keeps accelerators that may be there from being listed, or from being lent.
    pub gpu_problems: Vec<GpuError>,
}

impl Inventory {
    /// Describes this machine; `state_dir` exists and lies where work directories will.
    ///
    /// # Errors
    /// The state directory's file system cannot be asked.
    pub fn take(state_dir: &Path, gpus: &dyn GpuSource) -> Result<Self, InventoryError> {
        Self::take_with(state_dir, gpus, &Numa::default())
    }

    fn take_with(state_dir: &Path, gpus: &dyn GpuSource, numa: &Numa) -> Result<Self, InventoryError> {
        let Listing { mut gpus, problems: gpu_problems } = gpus.list();
        gpus.sort_by_key(|gpu| gpu.index);
        let nodes = numa.nodes();
        for gpu in &mut gpus {
            let at = numa.node_of(&gpu.bus);
            gpu.node = at.filter(|at| nodes.iter().any(|node| node.number == *at));
        }
        let system = sysinfo::System::new_with_specifics(
            sysinfo::RefreshKind::nothing()
                .with_cpu(sysinfo::CpuRefreshKind::nothing())
                .with_memory(sysinfo::MemoryRefreshKind::nothing().with_ram()),
        );
        let system = system.ok();
        Ok(Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            cpu: cpu(system.as_ref()),
            memory: memory(system.as_ref()),
            nodes,
            disk: disk(state_dir)?,
            interfaces: interfaces(),
            gpus,
            gpu_problems,
        })
    }

    /// Without the accelerators that no sandbox of this machine's own hands over, each maker's with the reason: ROCm's and Intel's libraries look
    /// for their card below `/sys`, which only a container shows, and a slice has device files of its own that NVIDIA's toolkit finds.
    #[must_use]
    pub fn without_containers(&self) -> Self {
        let (gpus, kept): (Vec<Gpu>, Vec<Gpu>) = self
            .gpus
            .iter()
            .cloned()
            .partition(|gpu| gpu::render_node(gpu.index).is_none() && !gpu.is_slice());
        let makers: BTreeSet<Vendor> = kept.iter().map(|gpu| gpu.vendor).collect();
        let kept = makers.into_iter().map(|vendor| GpuError { vendor, why: ONLY_CONTAINERS.into() });
        let gpu_problems = self.gpu_problems.iter().cloned().chain(kept).collect();
        Self { gpus, gpu_problems, ..self.clone() }
    }

    /// About how many watts `unit` draws at work: its share of the processor's most, and its accelerators' most.
    #[must_use]
    pub fn watts(&self, unit: &Resources) -> u32 {
        let threads = u32::try_from(self.cpu.threads.max(1)).unwrap_or(u32::MAX);
        let whole = self.cpu.watts.unwrap_or(threads.saturating_mul(WATTS_A_THREAD));
        let share = u64::from(whole) * u64::from(unit.cpu_millis) / (u64::from(threads) * 1_000);
        let model = |gpus: &Gpus| {
            let alike = self.gpus.iter().find(|gpu| Gpus::canonical_model(&gpu.name) == gpus.model);
            alike.and_then(|gpu| gpu.watts).unwrap_or(WATTS_A_CARD).saturating_mul(gpus.count.into())
        };
        let cards = unit.gpus.as_ref().map_or(0, model);
        u32::try_from(share).unwrap_or(u32::MAX).saturating_add(cards)
    }

    /// The accelerators as an offer describes them: alike ones together, the largest group first.
    #[must_use]
    pub fn gpu_groups(&self) -> Vec<GpuGroup> {
        gpu::groups(&self.gpus)
    }
}

fn cpu(system: Option<&sysinfo::System>) -> Cpu {
    let model = system.and_then(|system| system.cpus().first()).map(|cpu| cpu.brand().trim().to_owned());
    Cpu {
        model: model.unwrap_or_default(),
        architecture: std::env::consts::ARCH.into(),
        threads: available_parallelism().map_or(1, usize::from),
        cores: sysinfo::System::physical_core_count().ok(),
        watts: package_watts(),
    }
}

fn package_watts() -> Option<u32> {
    let text =
        std::fs::read_to_string("/sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw").ok()?;
    u32::try_from(text.trim().parse::<u64>().ok()?.div_ceil(1_000_000)).ok()
}

fn memory(system: Option<&sysinfo::System>) -> Memory {
    let Some(system) = system else {
        return Memory { total: Bytes::ZERO, available: Bytes::ZERO };
    };
    let (mut total, mut available) = (system.total_memory(), system.available_memory());
    if let Some(group) = system.cgroup_limits() {
        total = total.min(group.total_memory);
        available = available.min(group.free_memory);
    }
    Memory { total: Bytes::new(total), available: Bytes::new(available) }
}

fn disk(state_dir: &Path) -> Result<Disk, InventoryError> {
    let found = rustix::fs::statvfs(state_dir).map_err(|error| InventoryError::Disk {
        path: state_dir.display().to_string(),
        source: error.into(),
    })?;
    let bytes = |blocks: u64| Bytes::new(blocks.saturating_mul(found.f_frsize));
    Ok(Disk { total: bytes(found.f_blocks), free: bytes(found.f_bavail) })
}

fn interfaces() -> Vec<Interface> {
    let Ok(networks) = sysinfo::Networks::new_with_refreshed_list() else {
        return Vec::new();
    };
    let up = networks.iter().filter(|(name, data)| {
        name.as_os_str() != "lo" && data.operational_state() == sysinfo::InterfaceOperationalState::Up
    });
    let mut interfaces: Vec<Interface> = up
        .map(|(name, data)| Interface {
            name: name.to_string_lossy().into_owned(),
            megabits: data.receive_link_speed().map(|bits| bits / 1_000_000).filter(|megabits| *megabits > 0),
            received: Bytes::new(data.total_received()),
            sent: Bytes::new(data.total_transmitted()),
        })
        .collect();
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    interfaces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::gpu::tests::{Fake, h100, mi300x};

    #[test]
    fn this_machine_describes_itself() {
        let dir = tempfile::tempdir().unwrap();
        let found = Inventory::take(dir.path(), &Nvml).unwrap();
        assert!(found.cpu.threads >= 1 && !found.kernel.is_empty());
        assert!(
            found.memory.total > Bytes::mib(64) && found.memory.available <= found.memory.total,
            "{found:?}"
        );
        assert!(found.disk.total > found.disk.free && found.disk.free > Bytes::ZERO, "{found:?}");
        assert!(found.interfaces.iter().all(|interface| interface.name != "lo"));
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Inventory>(&text).unwrap(), found);
    }

    #[test]
    fn accelerators_that_cannot_be_listed_are_a_problem_and_not_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let found = Inventory::take(dir.path(), &Fake(Err("the driver and the library differ"))).unwrap();
        assert!(found.gpus.is_empty());
        assert!(found.gpu_problems[0].why.contains("differ"));
    }

    #[test]
    fn cards_that_only_a_container_shows_are_not_sold_without_one() {
        let dir = tempfile::tempdir().unwrap();
        let name = "NVIDIA H100 80GB HBM3 MIG 1g.10gb".into();
        let slice = Gpu { name, ..h100(gpu::RENDER_NODES_END) };
        let cards = vec![mi300x(128), mi300x(129), h100(0), slice];
        let found = Inventory::take(dir.path(), &Fake(Ok(cards))).unwrap();
        assert_eq!(found.gpu_groups()[0].indices, [128, 129]);
        let bare = found.without_containers();
        assert_eq!(bare.gpus, [h100(0)]);
        let makers: Vec<Vendor> = bare.gpu_problems.iter().map(|problem| problem.vendor).collect();
        assert_eq!(makers, [Vendor::Nvidia, Vendor::Amd]);
    }

    #[test]
    fn accelerators_are_listed_by_index() {
        let dir = tempfile::tempdir().unwrap();
        let found = Inventory::take(dir.path(), &Fake(Ok(vec![h100(1), h100(0)]))).unwrap();
        assert_eq!(found.gpus.iter().map(|gpu| gpu.index).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(found.gpu_groups().len(), 1);
    }

    #[test]
    fn accelerators_are_at_their_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let made = numa::tests::Made::new()
            .node(0, "0-23,48-71")
            .node(1, "24-47,72-95")
            .card("0000:00:00.0", "1")
            .card("0000:01:00.0", "-1")
            .card("0000:02:00.0", "7");
        let cards = || Fake(Ok((0..4).map(h100).collect()));
        let found = Inventory::take_with(dir.path(), &cards(), &made.seen("0-95")).unwrap();
        let nodes: Vec<_> = found.gpus.iter().map(|gpu| gpu.node).collect();
        assert_eq!(nodes, [Some(1), None, None, None], "nobody knows of a node 7");
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(
            (&json["nodes"][1]["threads"], &json["gpus"][0]["node"]),
            (&"24-47,72-95".into(), &1.into())
        );
        let one = Inventory::take_with(dir.path(), &cards(), &made.seen("0-23")).unwrap();
        assert_eq!((one.nodes, one.gpus[0].node), (Vec::new(), None));
    }

    #[test]
    fn a_unit_draws_its_share() {
        let dir = tempfile::tempdir().unwrap();
        let mut found = Inventory::take(dir.path(), &Fake(Ok(vec![h100(0), h100(1)]))).unwrap();
        (found.cpu.threads, found.cpu.watts) = (32, Some(320));
        let gpus = found.gpu_groups().pop().map(|group| group.gpus);
        let plain = Resources { cpu_millis: 4_000, memory: Bytes::gib(8), disk: Bytes::gib(8), gpus: None };
        assert_eq!(found.watts(&plain), 40);
        assert_eq!(found.watts(&Resources { gpus, ..plain }), 40 + 1_400);
        found.cpu.watts = None;
        assert_eq!(found.watts(&plain), 32);
    }

    #[test]
    fn a_missing_state_directory_is_an_error_that_names_it() {
        let error = Inventory::take(Path::new("/no/such/dir"), &Fake(Ok(Vec::new()))).unwrap_err();
        assert!(error.to_string().contains("/no/such/dir"));
    }
}
