//! Accelerators: what a source says of each, and the groups that an offer sells.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tradewind_proto::offer::{ComputeCapability, DriverVersion, Gpus, Interconnect, Vendor};
use tradewind_proto::units::Bytes;
use tradewind_proto::workload::AcceleratorUsage;

use super::mig;
use super::nvml::Nvml;
use super::sysfs::Sysfs;

/// The first number of the kernel's render nodes, and so of the accelerators that are handed over by one.
pub(super) const FIRST_RENDER_NODE: u32 = 128;
/// Where they end: the kernel's device numbers have 20 bits. Slices have the numbers from here on.
pub(super) const RENDER_NODES_END: u32 = 1 << 20;

/// Why accelerators that may be there are not listed, or not lent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{vendor} accelerators: {why}")]
pub struct GpuError {
    /// Whose they are.
    pub vendor: Vendor,
    /// What stands in the way.
    pub why: String,
}

/// A machine's accelerators as far as they can be listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Those that are there now; none is not an error.
    pub gpus: Vec<Gpu>,
    /// What keeps others from being listed.
    pub problems: Vec<GpuError>,
}

impl From<Result<Vec<Gpu>, GpuError>> for Listing {
    fn from(listed: Result<Vec<Gpu>, GpuError>) -> Self {
        match listed {
            Ok(gpus) => Self { gpus, problems: Vec::new() },
            Err(problem) => Self { gpus: Vec::new(), problems: vec![problem] },
        }
    }
}

/// Lists a machine's accelerators.
pub trait GpuSource: Send + Sync {
    /// Those that are there now.
    fn list(&self) -> Listing;
}

/// The accelerators of every maker. What keeps one source from listing its own hides none of another's.
pub struct AllGpus(Vec<Box<dyn GpuSource>>);

impl Default for AllGpus {
    fn default() -> Self {
        Self(vec![Box::new(Nvml), Box::new(Sysfs::default())])
    }
}

impl GpuSource for AllGpus {
    fn list(&self) -> Listing {
        let mut all = Listing::default();
        for mut listing in self.0.iter().map(|source| source.list()) {
            all.problems.append(&mut listing.problems);
            for gpu in listing.gpus {
                match all.gpus.iter().find(|other| other.index == gpu.index) {
                    Some(other) => all.problems.push(GpuError {
                        vendor: gpu.vendor,
                        why: format!("{} has the number {} of {}", gpu.bus, gpu.index, other.bus),
                    }),
                    None => all.gpus.push(gpu),
                }
            }
        }
        all
    }
}

/// A version of CUDA: 12.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CudaVersion {
    /// 12 of 12.4.
    pub major: u32,
    /// 4 of 12.4.
    pub minor: u32,
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A text is no version of CUDA.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version of CUDA such as 12.4")]
pub struct NoCudaVersion(String);

impl FromStr for CudaVersion {
    type Err = NoCudaVersion;

    /// Reads one or two numbers; a missing one is zero.
    fn from_str(text: &str) -> Result<Self, NoCudaVersion> {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        let number = |part: &str| part.parse::<u32>().map_err(|_| NoCudaVersion(text.into()));
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

/// One accelerator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// The host's number for it, as in [`Limits::gpus`](tradewind_proto::workload::Limits::gpus): NVML's, or its render node's,
    /// which begin with 128, or a slice's, which begin with 2^20.
    pub index: u32,
    /// The maker's name for this one piece.
    pub uuid: String,
    /// Who made it.
    pub vendor: Vendor,
    /// As its driver names it: `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Its memory.
    pub vram: Bytes,
    /// Where the maker has such a number.
    pub compute_capability: Option<ComputeCapability>,
    /// The driver on the host.
    pub driver: Option<DriverVersion>,
    /// The newest CUDA that the driver runs.
    #[serde(default)]
    pub cuda: Option<CudaVersion>,
    /// Its address on the bus.
    pub bus: String,
    /// The NUMA node that it is at, on a machine with several and where the kernel knows.
    #[serde(default)]
    pub node: Option<u32>,
    /// The bus addresses at the other ends of its active direct links.
    pub links: Vec<String>,
    /// The most watts that it may draw, where the driver says.
    #[serde(default)]
    pub watts: Option<u32>,
    /// Errors of its memory that could not be corrected, since the driver was loaded; where it counts them.
    #[serde(default)]
    pub uncorrected: Option<u64>,
    /// It is cut into slices (MIG, or AMD's compute partitions), and cannot be lent whole. MIG's slices that can be lent are listed in its
    /// place.
    #[serde(default)]
    pub sliced: bool,
    /// What it does now, where the driver says.
    #[serde(default)]
    pub load: Option<AcceleratorUsage>,
}

impl Gpu {
    /// Whether it is a slice of a card (MIG), and not a card.
    #[must_use]
    pub fn is_slice(&self) -> bool {
        mig::device(self.index).is_some()
    }

    /// Why it must not be lent now.
    #[must_use]
    pub fn ailment(&self) -> Option<String> {
        match self.uncorrected {
            Some(errors @ 1..) => Some(format!("its memory had {errors} errors that could not be corrected")),
            Some(0) | None => self.sliced.then(|| "it is cut into slices".to_owned()),
        }
    }
}

/// The device file of the accelerator with this number where it is handed over by its render node alone.
pub(crate) fn render_node(index: u32) -> Option<String> {
    (FIRST_RENDER_NODE..RENDER_NODES_END).contains(&index).then(|| format!("/dev/dri/renderD{index}"))
}

/// What the maker's tools, and engines, call the accelerator with this number: `2`, and `2:0` for a slice of that card.
#[must_use]
pub fn named(index: u32) -> String {
    mig::device(index).unwrap_or_else(|| index.to_string())
}

/// Accelerators that are alike, and so can be sold by the number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuGroup {
    /// The host's numbers for them.
    pub indices: Vec<u32>,
    /// As an offer describes all of them together.
    pub gpus: Gpus,
}

/// Puts alike accelerators that are well together, the largest group first.
pub(super) fn groups(all: &[Gpu]) -> Vec<GpuGroup> {
    let mut groups: Vec<Vec<&Gpu>> = Vec::new();
    for gpu in all.iter().filter(|gpu| gpu.ailment().is_none()) {
        let alike = |other: &Gpu| {
            (other.vendor, &other.name, other.vram, other.driver)
                == (gpu.vendor, &gpu.name, gpu.vram, gpu.driver)
        };
        match groups.iter_mut().find(|group| group.first().is_some_and(|first| alike(first))) {
            Some(group) => group.push(gpu),
            None => groups.push(vec![gpu]),
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    groups.iter().filter_map(|group| describe(group)).collect()
}

fn describe(group: &[&Gpu]) -> Option<GpuGroup> {
    let first = group.first()?;
    Some(GpuGroup {
        indices: group.iter().map(|gpu| gpu.index).collect(),
        gpus: Gpus {
            count: u16::try_from(group.len()).unwrap_or(u16::MAX),
            vendor: first.vendor,
            model: Gpus::canonical_model(&first.name),
            vram: first.vram,
            compute_capability: first.compute_capability,
            driver: first.driver,
            interconnect: (group.len() > 1).then(|| interconnect(group)),
        },
    })
}

/// Through a switch when every one has a link to something that is not an accelerator, by bridges when every one has a link to
/// another one. AMD's fabric has no switch: it links every pair.
fn interconnect(group: &[&Gpu]) -> Interconnect {
    let own: BTreeSet<&str> = group.iter().map(|gpu| gpu.bus.as_str()).collect();
    if group.iter().all(|gpu| gpu.vendor == Vendor::Amd) {
        let reached = |gpu: &&Gpu| gpu.links.iter().filter(|end| own.contains(end.as_str())).count();
        let least = group.iter().map(reached).min().unwrap_or(0);
        return match least {
            0 => Interconnect::Pcie,
            least if least + 1 >= group.len() => Interconnect::NvSwitch,
            _ => Interconnect::NvLink,
        };
    }
    if group.iter().all(|gpu| gpu.links.iter().any(|end| !own.contains(end.as_str()))) {
        Interconnect::NvSwitch
    } else if group.iter().all(|gpu| !gpu.links.is_empty()) {
        Interconnect::NvLink
    } else {
        Interconnect::Pcie
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) struct Fake(pub(crate) Result<Vec<Gpu>, &'static str>);

    impl GpuSource for Fake {
        fn list(&self) -> Listing {
            self.0.clone().map_err(|why| GpuError { vendor: Vendor::Nvidia, why: why.into() }).into()
        }
    }

    pub(crate) fn h100(index: u32) -> Gpu {
        Gpu {
            index,
            uuid: format!("GPU-{index}"),
            vendor: Vendor::Nvidia,
            name: "NVIDIA H100 80GB HBM3".into(),
            vram: Bytes::gib(80),
            compute_capability: Some(ComputeCapability { major: 9, minor: 0 }),
            driver: "570.86.15".parse().ok(),
            cuda: "12.8".parse().ok(),
            bus: format!("0000:{index:02X}:00.0"),
            node: None,
            links: Vec::new(),
            watts: Some(700),
            uncorrected: Some(0),
            load: None,
            sliced: false,
        }
    }

    pub(crate) fn mi300x(index: u32) -> Gpu {
        Gpu {
            index,
            uuid: format!("unit-{index}"),
            vendor: Vendor::Amd,
            name: "AMD Instinct MI300X".into(),
            vram: Bytes::gib(192),
            compute_capability: None,
            cuda: None,
            ..h100(index)
        }
    }

    #[test]
    fn a_maker_s_driver_that_fails_hides_no_card_of_another() {
        let all = AllGpus(vec![
            Box::new(Fake(Err("the driver and the library differ"))),
            Box::new(Fake(Ok(vec![mi300x(128), mi300x(129)]))),
        ]);
        let found = all.list();
        assert_eq!(found.gpus, [mi300x(128), mi300x(129)]);
        assert_eq!(
            found.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["nvidia accelerators: the driver and the library differ"]
        );
    }

    #[test]
    fn no_two_cards_have_one_number() {
        let all = AllGpus(vec![Box::new(Fake(Ok(vec![h100(0)]))), Box::new(Fake(Ok(vec![mi300x(0)])))]);
        let found = all.list();
        assert_eq!((found.gpus, found.problems.len()), (vec![h100(0)], 1));
    }

    #[test]
    fn the_fabric_of_amd_links_every_pair() {
        let all = |ends: &[&[usize]]| {
            let bus = |index: usize| format!("0000:{index:02X}:00.0");
            let card = |(index, ends): (usize, &&[usize])| Gpu {
                bus: bus(index),
                links: ends.iter().map(|end| bus(*end)).collect(),
                ..mi300x(128)
            };
            interconnect_of(&ends.iter().enumerate().map(card).collect::<Vec<_>>())
        };
        assert_eq!(all(&[&[1, 2], &[0, 2], &[0, 1]]), Some(Interconnect::NvSwitch));
        assert_eq!(all(&[&[1], &[0], &[3], &[2]]), Some(Interconnect::NvLink));
        assert_eq!(all(&[&[1], &[0], &[]]), Some(Interconnect::Pcie));
        assert_eq!(all(&[&[9], &[9]]), Some(Interconnect::Pcie), "what is not sold carries nothing");
    }

    #[test]
    fn what_ails_a_card_keeps_it_from_being_sold() {
        let failing = Gpu { uncorrected: Some(2), ..h100(1) };
        let sliced = Gpu { sliced: true, ..h100(2) };
        assert!(failing.ailment().is_some_and(|why| why.contains("2 errors")));
        let groups = groups(&[h100(0), failing, sliced, Gpu { uncorrected: None, ..h100(3) }]);
        assert_eq!(groups.iter().map(|group| group.indices.clone()).collect::<Vec<_>>(), [[0, 3]]);
    }

    fn linked(index: u32, ends: &[&str]) -> Gpu {
        Gpu { links: ends.iter().map(|end| (*end).to_owned()).collect(), ..h100(index) }
    }

    fn interconnect_of(all: &[Gpu]) -> Option<Interconnect> {
        groups(all).first().and_then(|group| group.gpus.interconnect)
    }

    #[test]
    fn alike_ones_are_sold_together_under_the_market_s_name() {
        let other = Gpu { name: "NVIDIA GeForce RTX 4090".into(), vram: Bytes::gib(24), ..h100(0) };
        let found = groups(&[other, h100(1), h100(2)]);
        let models: Vec<_> =
            found.iter().map(|group| (group.gpus.model.as_str(), &group.indices[..])).collect();
        assert_eq!(models, [("H100", &[1, 2][..]), ("RTX4090", &[0][..])]);
        assert_eq!((found[0].gpus.count, found[0].gpus.vram), (2, Bytes::gib(80)));
    }

    #[test]
    fn the_way_between_them_is_told_from_the_ends_of_their_links() {
        assert_eq!(interconnect_of(&[h100(0)]), None, "one reaches nobody");
        assert_eq!(interconnect_of(&[h100(0), h100(1)]), Some(Interconnect::Pcie));
        let bridged = [linked(0, &["0000:01:00.0"]), linked(1, &["0000:00:00.0"])];
        assert_eq!(interconnect_of(&bridged), Some(Interconnect::NvLink));
        let switched = [linked(0, &["0000:C5:00.0"]), linked(1, &["0000:C5:00.0"])];
        assert_eq!(interconnect_of(&switched), Some(Interconnect::NvSwitch));
        let partly = [linked(0, &["0000:01:00.0"]), linked(1, &["0000:00:00.0"]), h100(2)];
        assert_eq!(interconnect_of(&partly), Some(Interconnect::Pcie));
    }
}
