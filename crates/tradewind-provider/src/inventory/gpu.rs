//! Accelerators: what a source says of each, and the groups that an offer sells.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tradewind_proto::offer::{ComputeCapability, DriverVersion, Gpus, Interconnect, Vendor};
use tradewind_proto::units::Bytes;

/// Why accelerators could not be listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("accelerators cannot be listed: {0}")]
pub struct GpuError(pub String);

/// Lists a machine's accelerators.
pub trait GpuSource: Send + Sync {
    /// Those that are there now; none is not an error.
    ///
    /// # Errors
    /// There may be some, but they cannot be listed.
    fn list(&self) -> Result<Vec<Gpu>, GpuError>;
}

/// One accelerator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// The host's number for it, as in [`Limits::gpus`](tradewind_proto::workload::Limits::gpus).
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
    /// Its address on the bus.
    pub bus: String,
    /// The bus addresses at the other ends of its active direct links.
    pub links: Vec<String>,
    /// The most watts that it may draw, where the driver says.
    #[serde(default)]
    pub watts: Option<u32>,
    /// Errors of its memory that could not be corrected, since the driver was loaded; where it counts them.
    #[serde(default)]
    pub uncorrected: Option<u64>,
    /// It is cut into slices (MIG), and cannot be lent whole.
    #[serde(default)]
    pub sliced: bool,
}

impl Gpu {
    /// Why it must not be lent now.
    #[must_use]
    pub fn ailment(&self) -> Option<String> {
        match self.uncorrected {
            Some(errors @ 1..) => Some(format!("its memory had {errors} errors that could not be corrected")),
            Some(0) | None => self.sliced.then(|| "it is cut into slices (MIG)".to_owned()),
        }
    }
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
/// another one.
fn interconnect(group: &[&Gpu]) -> Interconnect {
    let own: BTreeSet<&str> = group.iter().map(|gpu| gpu.bus.as_str()).collect();
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
        fn list(&self) -> Result<Vec<Gpu>, GpuError> {
            self.0.clone().map_err(|why| GpuError(why.into()))
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
            bus: format!("0000:{index:02X}:00.0"),
            links: Vec::new(),
            watts: Some(700),
            uncorrected: Some(0),
            sliced: false,
        }
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
