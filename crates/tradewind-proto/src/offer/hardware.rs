//! What one unit of a device is made of.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::units::Bytes;

/// Runtimes that an offer can start a workload on, as a set. Bits that this version does not know are kept and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Runtimes(u32);

impl Runtimes {
    /// No runtime.
    pub const NONE: Self = Self(0);
    /// Linux itself: namespaces, limits and landlock. No image needed.
    pub const PROCESS: Self = Self(1);
    /// Docker or Podman.
    pub const DOCKER: Self = Self(1 << 1);
    /// A Slurm cluster.
    pub const SLURM: Self = Self(1 << 2);
    /// A Kubernetes cluster.
    pub const KUBERNETES: Self = Self(1 << 3);

    const NAMES: [(Self, &str); 4] = [
        (Self::PROCESS, "process"),
        (Self::DOCKER, "docker"),
        (Self::SLURM, "slurm"),
        (Self::KUBERNETES, "kubernetes"),
    ];

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// At least one runtime is in both.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Nothing in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of the known runtimes in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(set, _)| self.intersects(*set)).map(|(_, name)| name)
    }
}

impl fmt::Display for Runtimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.names().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

macro_rules! worded {
    ($(#[$doc:meta])* $name:ident: $what:literal { $($(#[$vdoc:meta])* $n:literal $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
        #[cbor(index_only)]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            $($(#[$vdoc])* #[n($n)] $variant,)*
        }

        impl $name {
            /// Every word that names a value, for error messages.
            pub const WORDS: &[&str] = &[$($word),*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)*
                })
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text.to_ascii_lowercase().as_str() {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("`{text}` is not {}: one of {}", $what, Self::WORDS.join(", "))),
                }
            }
        }
    };
}

worded!(
    /// Who made an accelerator.
    Vendor: "a vendor" {
        /// NVIDIA.
        0 Nvidia = "nvidia",
        /// AMD.
        1 Amd = "amd",
        /// Intel.
        2 Intel = "intel",
        /// Anybody else.
        3 Other = "other",
    }
);

worded!(
    /// How a device's accelerators reach each other, slowest first.
    Interconnect: "an interconnect" {
        /// Over the host's bus.
        0 Pcie = "pcie",
        /// Bridges between pairs.
        1 NvLink = "nvlink",
        /// Every pair at full speed (NVSwitch, or AMD's fabric).
        2 NvSwitch = "nvswitch",
    }
);

worded!(
    /// What stands behind a provider's word, weakest first. A claim until chain and watchers confirm it.
    TrustTier: "a trust tier" {
        /// Nothing on chain; buyers must opt in.
        0 Unstaked = "unstaked",
        /// A stake that can be slashed.
        1 Staked = "staked",
        /// Named auditors have attested the host.
        2 Attested = "attested",
        /// A trusted execution environment, with its report.
        3 Confidential = "confidential",
    }
);

/// An accelerator's compute capability, such as 9.0.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct ComputeCapability {
    /// The architecture.
    #[n(0)]
    pub major: u8,
    /// Its revision.
    #[n(1)]
    pub minor: u8,
}

impl fmt::Display for ComputeCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ComputeCapability {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("`{text}` is not a compute capability such as 9.0");
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Ok(Self { major: major.parse().map_err(|_| error())?, minor: minor.parse().map_err(|_| error())? })
    }
}

impl TryFrom<String> for ComputeCapability {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ComputeCapability> for String {
    fn from(capability: ComputeCapability) -> Self {
        capability.to_string()
    }
}

/// A driver's version, compared number by number: 570.86.15.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct DriverVersion(#[n(0)] u32, #[n(1)] u32, #[n(2)] u32);

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl FromStr for DriverVersion {
    type Err = String;

    /// Reads one to three numbers; missing ones are zero.
    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("`{text}` is not a driver version such as 570.86.15");
        let mut numbers = [0u32; 3];
        for (index, part) in text.split('.').enumerate() {
            *numbers.get_mut(index).ok_or_else(error)? = part.parse().map_err(|_| error())?;
        }
        Ok(Self(numbers[0], numbers[1], numbers[2]))
    }
}

impl TryFrom<String> for DriverVersion {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DriverVersion> for String {
    fn from(version: DriverVersion) -> Self {
        version.to_string()
    }
}

/// The accelerators in one unit.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Gpus {
    /// How many in one unit, at least one.
    #[n(0)]
    pub count: u16,
    /// The maker.
    #[n(1)]
    pub vendor: Vendor,
    /// The model as buyers write it: `H100`, `RTX4090`, `MI300X`. See [`Gpus::canonical_model`].
    #[n(2)]
    pub model: String,
    /// Memory of each.
    #[n(3)]
    pub vram: Bytes,
    /// Where the maker has such a number.
    #[n(4)]
    pub compute_capability: Option<ComputeCapability>,
    /// The driver on the host.
    #[n(5)]
    pub driver: Option<DriverVersion>,
    /// How they reach each other.
    #[n(6)]
    pub interconnect: Option<Interconnect>,
}

impl Gpus {
    /// The spelling that offers and jobs are matched by: letters and digits only, upper case, without the maker and the
    /// memory's size. `NVIDIA H100 80GB HBM3` and `h100-80gb` are both `H100`. The size in a slice's profile stays:
    /// `NVIDIA H100 80GB HBM3 MIG 1g.10gb` and `h100-1g.10gb` are both `H1001G10GB`.
    #[must_use]
    pub fn canonical_model(model: &str) -> String {
        const NOISE: [&str; 12] = [
            "NVIDIA", "AMD", "INTEL", "GEFORCE", "TESLA", "INSTINCT", "RADEON", "HBM2", "HBM2E", "HBM3",
            "HBM3E", "MIG",
        ];
        let is_number_of = |word: &str, unit: &str| {
            word.strip_suffix(unit).is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let mut is_profile = false;
        model
            .to_ascii_uppercase()
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !NOISE.contains(word))
            .filter(|word| {
                let is_kept = is_profile || !is_number_of(word, "GB");
                is_profile = is_number_of(word, "G");
                is_kept
            })
            .collect()
    }
}

/// What one unit of a device consists of. A lease takes whole units.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Resources {
    /// Thousandths of a CPU.
    #[n(0)]
    pub cpu_millis: u32,
    /// Memory.
    #[n(1)]
    pub memory: Bytes,
    /// Scratch disk.
    #[n(2)]
    pub disk: Bytes,
    /// Accelerators, if any.
    #[n(3)]
    pub gpus: Option<Gpus>,
}
