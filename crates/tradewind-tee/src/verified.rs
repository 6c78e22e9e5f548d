//! What verified evidence says.

use tradewind_proto::attestation::Tees;
use tradewind_proto::units::Timestamp;

/// Evidence that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Of the machine.
    pub machine: Machine,
    /// Of its GPUs, in the order of the evidence.
    pub gpus: Vec<Gpu>,
    /// Until when all of it can be believed.
    pub expires: Timestamp,
}

/// A machine, enclave or guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Which kind.
    pub kind: Tees,
    /// What it runs.
    pub measurements: Vec<Measurement>,
    /// What it runs on, by version.
    pub firmware: Vec<(&'static str, String)>,
    /// What its maker says of that firmware.
    pub level: Level,
    /// Whether its host may look into it.
    pub debug: bool,
    /// The first of its certificates and lists to end.
    pub expires: Timestamp,
}

/// A GPU in confidential mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// The key that it signed with, which is its own.
    pub key: Vec<u8>,
    /// Of its firmware, by index.
    pub measurements: Vec<Measurement>,
    /// Of the driver that asked it.
    pub driver: String,
    /// Of its firmware.
    pub vbios: String,
    /// The first of its certificates to end.
    pub expires: Timestamp,
}

/// The digest of something that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement {
    /// In the maker's words: `mrtd`, `PCR0`.
    pub name: String,
    /// The digest.
    pub value: Vec<u8>,
}

impl Measurement {
    pub(crate) fn new(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// What the maker says of the firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Level {
    /// No fix is missing.
    UpToDate,
    /// It depends on the owner's configuration or on the guest's software; the maker's word, and its advisories.
    Advised(String, Vec<String>),
    /// A published fix is missing; the maker's word, and its advisories.
    OutOfDate(String, Vec<String>),
    /// This maker rates no versions: compare them with its bulletins.
    Unrated,
}
