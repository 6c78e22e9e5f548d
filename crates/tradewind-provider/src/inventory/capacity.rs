//! What a machine can sell: its inventory less what the owner keeps, cut into alike units.
//!
//! ```text
//! Inventory ─ less Reserve ─► there to sell ─ Wanted (units, and what each has) ─► unit of the offer, GPUs by index
//!                                   └─ more wanted than there is: CapacityError, and nothing is offered
//! ```

use tradewind_proto::offer::{Gpus, MAX_UNITS, Resources};
use tradewind_proto::units::Bytes;

use super::Inventory;
use super::places::{self, At, Places};

/// What the owner keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reserve {
    /// Hardware threads.
    pub cpus: u32,
    /// Memory.
    pub memory: Bytes,
    /// Disk.
    pub disk: Bytes,
    /// Accelerators, those with the highest numbers.
    pub gpus: u16,
}

/// What the owner wants to sell. What a unit has is an equal share of all there is where it is not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Units, leased one by one.
    pub units: u8,
    /// Hardware threads of a unit.
    pub cpus: Option<u32>,
    /// Memory of a unit.
    pub memory: Option<Bytes>,
    /// Disk of a unit.
    pub disk: Option<Bytes>,
    /// Accelerators of a unit.
    pub gpus: Option<u16>,
}

/// What is sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sold {
    /// What one unit consists of.
    pub unit: Resources,
    /// The host's numbers of the accelerators, unit by unit; units are at one NUMA node each where that can be.
    pub gpus: Vec<u32>,
    /// Where jobs with these accelerators run.
    pub places: Places,
}

/// Why the machine cannot sell that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapacityError {
    /// The configuration says more than is there.
    #[error(
        "{units} units of {each} {what} are more than the {there} that this machine has to sell; lower `provider.{field}` or `provider.units`"
    )]
    TooMuch {
        /// How many units.
        units: u8,
        /// What each should have.
        each: String,
        /// Of what.
        what: &'static str,
        /// What there is, less the reserve.
        there: String,
        /// The field in `[provider]`.
        field: &'static str,
    },
    /// Nothing is left for a unit.
    #[error(
        "not enough {what} is left after the reserve for `provider.units = {units}`; lower it, or `provider.reserve.{field}`"
    )]
    Nothing {
        /// How many units.
        units: u8,
        /// Of what.
        what: &'static str,
        /// The field in `[provider.reserve]`.
        field: &'static str,
    },
    /// A device has 1 to 64 units.
    #[error("`provider.units` must be 1 to {MAX_UNITS}")]
    Units,
    /// Accelerators are there or not, but they cannot be listed.
    #[error("`provider.gpus` cannot be honoured: {0}")]
    Gpus(String),
}

impl Reserve {
    /// What an owner who says nothing keeps: a thread of several, an eighth of the memory and a tenth of the disk.
    #[must_use]
    pub fn usual(inventory: &Inventory) -> Self {
        Self {
            cpus: u32::from(inventory.cpu.threads > 1),
            memory: Bytes::new(inventory.memory.total.get() / 8),
            disk: Bytes::new(inventory.disk.total.get() / 10),
            gpus: 0,
        }
    }
}

impl Inventory {
    /// Cuts the machine into units. Without a stated `reserve`, amounts that are stated may be all there is, and shares are of what
    /// the [usual reserve](Reserve::usual) leaves.
    ///
    /// # Errors
    /// [`CapacityError`].
    pub fn sell(&self, wanted: &Wanted, reserve: Option<Reserve>) -> Result<Sold, CapacityError> {
        let units = wanted.units;
        if !(1..=MAX_UNITS).contains(&units) {
            return Err(CapacityError::Units);
        }
        let (stated, shared) = (reserve.unwrap_or_default(), reserve.unwrap_or_else(|| Reserve::usual(self)));
        let threads = u64::try_from(self.cpu.threads).unwrap_or(u64::MAX);
        let plain = |amount: u64| amount.to_string();
        let size = |amount: u64| Bytes::new(amount).to_string();
        let cut = |amount: &Amount, show: &dyn Fn(u64) -> String| amount.cut(units, show);
        let cpus = Amount {
            what: "CPUs",
            field: "cpus",
            all: threads,
            wanted: wanted.cpus.map(u64::from),
            kept: (u64::from(stated.cpus), u64::from(shared.cpus)),
        };
        let memory = Amount {
            what: "memory",
            field: "memory",
            all: self.memory.total.get(),
            wanted: wanted.memory.map(Bytes::get),
            kept: (stated.memory.get(), shared.memory.get()),
        };
        let disk = Amount {
            what: "disk",
            field: "disk",
            all: self.disk.total.get(),
            wanted: wanted.disk.map(Bytes::get),
            kept: (stated.disk.get(), shared.disk.get()),
        };
        let millis = cut(&cpus, &plain)?.saturating_mul(1_000);
        let (gpus, sold) = self.lend(wanted, stated.gpus)?;
        let unit = Resources {
            cpu_millis: u32::try_from(millis).unwrap_or(u32::MAX),
            memory: Bytes::new(cut(&memory, &size)?),
            disk: Bytes::new(cut(&disk, &size)?),
            gpus,
        };
        let each = unit.gpus.as_ref().map_or(0, |gpus| usize::from(gpus.count));
        let places = Places::of(&sold, each, unit.cpu_millis, &self.nodes);
        Ok(Sold { unit, gpus: sold.into_iter().map(|(index, _)| index).collect(), places })
    }

    /// The machine's NUMA nodes in a line, and how many of the units run at one of them; nothing where it has one node.
    #[must_use]
    pub fn describe_nodes(&self, sold: &Sold) -> Option<String> {
        let each = sold.unit.gpus.as_ref().map_or(0, |gpus| usize::from(gpus.count));
        let units = match each {
            0 => String::new(),
            each => {
                let (near, all) = (sold.places.gpus() / each, sold.gpus.len() / each);
                format!("; {near} of {all} units run at the node of their accelerators")
            }
        };
        (self.nodes.len() > 1).then(|| format!("{} NUMA nodes{units}", self.nodes.len()))
    }

    /// The accelerators of a unit, and all that are sold, unit by unit: alike ones, of the largest group.
    fn lend(&self, wanted: &Wanted, kept: u16) -> Result<(Option<Gpus>, Vec<At>), CapacityError> {
        let units = u16::from(wanted.units);
        let group = self.gpu_groups().into_iter().next();
        let there = group.as_ref().map_or(0, |group| group.gpus.count.saturating_sub(kept));
        let each = wanted.gpus.unwrap_or(there / units);
        if each == 0 {
            return Ok((None, Vec::new()));
        }
        let Some(group) = group.filter(|_| each.saturating_mul(units) <= there) else {
            let problems: Vec<String> = self.gpu_problems.iter().map(ToString::to_string).collect();
            if !problems.is_empty() {
                return Err(CapacityError::Gpus(problems.join("; ")));
            }
            return Err(CapacityError::TooMuch {
                units: wanted.units,
                each: each.to_string(),
                what: "alike accelerators",
                there: there.to_string(),
                field: "gpus",
            });
        };
        let node = |index: &u32| self.gpus.iter().find(|gpu| gpu.index == *index)?.node;
        let lent = group.indices.iter().take(there.into()).map(|index| (*index, node(index)));
        let sold = places::arranged(&lent.collect::<Vec<At>>(), each.into(), units.into());
        let interconnect = group.gpus.interconnect.filter(|_| each > 1);
        let gpus = Gpus { count: each, interconnect, ..group.gpus };
        Ok((Some(gpus), sold))
    }
}

/// One kind of thing that is cut into units.
struct Amount {
    what: &'static str,
    field: &'static str,
    all: u64,
    wanted: Option<u64>,
    /// Kept where the amount is stated, and where it is a share.
    kept: (u64, u64),
}

impl Amount {
    fn cut(&self, units: u8, show: &dyn Fn(u64) -> String) -> Result<u64, CapacityError> {
        let count = u64::from(units);
        let Some(each) = self.wanted else {
            let each = self.all.saturating_sub(self.kept.1) / count;
            let nothing = CapacityError::Nothing { units, what: self.what, field: self.field };
            return if each == 0 { Err(nothing) } else { Ok(each) };
        };
        let there = self.all.saturating_sub(self.kept.0);
        if each.saturating_mul(count) <= there {
            return Ok(each);
        }
        Err(CapacityError::TooMuch {
            units,
            each: show(each),
            what: self.what,
            there: show(there),
            field: self.field,
        })
    }
}

#[cfg(test)]
mod tests {
    use tradewind_proto::offer::Vendor;

    use super::super::gpu::tests::h100;
    use super::super::{Cpu, Disk, Gpu, GpuError, Memory, NumaNode};
    use super::*;

    /// Eight H100, as NVML describes them, in a machine of 96 threads and a tebibyte.
    fn server() -> Inventory {
        Inventory {
            kernel: "6.12.0".into(),
            cpu: Cpu {
                model: "EPYC".into(),
                architecture: "x86_64".into(),
                threads: 96,
                cores: Some(48),
                watts: None,
            },
            memory: Memory { total: Bytes::gib(1024), available: Bytes::gib(1000) },
            disk: Disk { total: Bytes::gib(8000), free: Bytes::gib(7000) },
            nodes: Vec::new(),
            interfaces: Vec::new(),
            gpus: (0..8).map(h100).collect(),
            gpu_problems: Vec::new(),
        }
    }

    const SHARES: Wanted = Wanted { units: 1, cpus: None, memory: None, disk: None, gpus: None };

    #[test]
    fn a_machine_is_sold_in_equal_shares_less_what_its_owner_keeps() {
        let reserve = Reserve { cpus: 16, memory: Bytes::gib(64), disk: Bytes::gib(800), gpus: 2 };
        let sold = server().sell(&Wanted { units: 2, ..SHARES }, Some(reserve)).unwrap();
        assert_eq!(sold.unit.cpu_millis, 40_000);
        assert_eq!((sold.unit.memory, sold.unit.disk), (Bytes::gib(480), Bytes::gib(3_600)));
        let gpus = sold.unit.gpus.unwrap();
        assert_eq!((gpus.count, gpus.model.as_str(), gpus.vram), (3, "H100", Bytes::gib(80)));
        assert_eq!(sold.gpus, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn an_owner_who_says_nothing_keeps_some_of_it() {
        let sold = server().sell(&SHARES, None).unwrap();
        assert_eq!(sold.unit.cpu_millis, 95_000);
        assert_eq!((sold.unit.memory, sold.unit.disk), (Bytes::gib(896), Bytes::gib(7_200)));
        assert_eq!(sold.gpus.len(), 8);
    }

    /// The same with two sockets, to which the cards are numbered in turns.
    fn two_sockets() -> Inventory {
        let node = |number, threads: &str| NumaNode {
            number,
            threads: threads.parse().unwrap(),
            memory: Bytes::gib(512),
        };
        let gpus = (0..8).map(|index| Gpu { node: Some(index % 2), ..h100(index) }).collect();
        Inventory { nodes: vec![node(0, "0-23,48-71"), node(1, "24-47,72-95")], gpus, ..server() }
    }

    #[test]
    fn units_are_made_of_accelerators_at_one_node_and_run_there() {
        let sold = two_sockets().sell(&Wanted { units: 2, ..SHARES }, None).unwrap();
        assert_eq!(sold.gpus, [0, 2, 4, 6, 1, 3, 5, 7]);
        assert_eq!((sold.unit.cpu_millis, sold.places.gpus()), (47_000, 8));
        let line = two_sockets().describe_nodes(&sold);
        assert_eq!(line.unwrap(), "2 NUMA nodes; 2 of 2 units run at the node of their accelerators");
        assert_eq!(server().describe_nodes(&sold), None);
        let whole = two_sockets().sell(&SHARES, None).unwrap();
        assert_eq!((whole.gpus, whole.places), ((0..8).collect(), Places::default()));
        let few = Wanted { units: 2, gpus: Some(2), ..SHARES };
        let kept = Reserve { gpus: 2, ..Reserve::default() };
        let sold = two_sockets().sell(&few, Some(kept)).unwrap();
        assert_eq!((sold.gpus, sold.places.gpus()), (vec![0, 2, 1, 3], 4));
        let server = server().sell(&Wanted { units: 2, ..SHARES }, None).unwrap();
        assert_eq!((server.gpus, server.places), ((0..8).collect(), Places::default()), "nothing to choose");
    }

    #[test]
    fn more_than_there_is_is_an_error_that_names_the_field() {
        let refused =
            |wanted: Wanted| server().sell(&wanted, Some(Reserve::default())).unwrap_err().to_string();
        let cpus = refused(Wanted { units: 2, cpus: Some(49), ..SHARES });
        assert!(cpus.contains("2 units of 49 CPUs") && cpus.contains("`provider.cpus`"), "{cpus}");
        let memory = refused(Wanted { memory: Some(Bytes::gib(1025)), ..SHARES });
        assert!(memory.contains("1 TiB") && memory.contains("`provider.memory`"), "{memory}");
        assert!(refused(Wanted { disk: Some(Bytes::gib(9000)), ..SHARES }).contains("`provider.disk`"));
        assert!(refused(Wanted { gpus: Some(9), ..SHARES }).contains("`provider.gpus`"));
        assert!(refused(Wanted { units: 65, ..SHARES }).contains("1 to 64"));
    }

    #[test]
    fn a_reserve_that_takes_all_is_an_error_and_not_an_empty_offer() {
        let all = Reserve { memory: Bytes::gib(2048), ..Reserve::default() };
        let error = server().sell(&SHARES, Some(all)).unwrap_err().to_string();
        assert!(error.contains("`provider.reserve.memory`"), "{error}");
    }

    #[test]
    fn accelerators_that_cannot_be_listed_are_not_promised() {
        let broken = Inventory {
            gpus: Vec::new(),
            gpu_problems: vec![GpuError {
                vendor: Vendor::Nvidia,
                why: "the driver and the library differ".into(),
            }],
            ..server()
        };
        assert_eq!(broken.sell(&SHARES, None).unwrap().unit.gpus, None);
        let error = broken.sell(&Wanted { gpus: Some(1), ..SHARES }, None).unwrap_err();
        assert!(error.to_string().contains("the driver and the library differ"), "{error}");
    }
}
