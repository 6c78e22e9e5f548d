//! What a job asks of the machine that runs it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::offer::{ComputeCapability, DriverVersion, Interconnect, Vendor};
use crate::units::Bytes;

/// Accelerators of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accelerators {
    /// The model in the spelling of [`crate::offer::Gpus::canonical_model`].
    pub model: String,
    /// How many, at least one.
    pub count: u16,
}

impl fmt::Display for Accelerators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.model, self.count)
    }
}

/// One set of resources that would do. Every number is a lower bound; `None` asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResourceRequest {
    /// Accelerators.
    pub accelerators: Option<Accelerators>,
    /// Thousandths of a CPU.
    pub cpu_millis: Option<u32>,
    /// Memory.
    pub memory: Option<Bytes>,
    /// Scratch disk.
    pub disk: Option<Bytes>,
    /// What it may send an hour, where that has a price; as much as it likes elsewhere.
    #[serde(default)]
    pub egress: Option<Bytes>,
    /// The accelerators' maker.
    pub vendor: Option<Vendor>,
    /// Memory of each accelerator.
    pub vram: Option<Bytes>,
    /// Their compute capability.
    pub compute_capability: Option<ComputeCapability>,
    /// The host's driver.
    pub driver: Option<DriverVersion>,
    /// How the accelerators reach each other.
    pub interconnect: Option<Interconnect>,
}

impl ResourceRequest {
    /// Whether anything in it can only be met by an accelerator.
    #[must_use]
    pub const fn needs_accelerator(&self) -> bool {
        self.accelerators.is_some()
            || self.vendor.is_some()
            || self.vram.is_some()
            || self.compute_capability.is_some()
            || self.driver.is_some()
            || self.interconnect.is_some()
    }

    /// How many accelerators it takes: one when only their properties are named.
    #[must_use]
    pub fn accelerator_count(&self) -> u16 {
        match &self.accelerators {
            Some(accelerators) => accelerators.count,
            None => u16::from(self.needs_accelerator()),
        }
    }
}

/// The sets that would do: any of them, or the first that can be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// An earlier set is preferred whatever it costs; otherwise the best offer of all sets wins.
    pub ordered: bool,
    /// At least one set.
    pub sets: Vec<ResourceRequest>,
}

impl Default for Resources {
    fn default() -> Self {
        Self { ordered: false, sets: vec![ResourceRequest::default()] }
    }
}
