//! Evidence of trusted execution, as it travels: what a buyer asks with, what the hardware must repeat, what comes back.
//!
//! ```text
//! buyer: Binding {chain, device, mesh key, fresh nonce} ──► provider ──wide()──► CPU: report data, or a document's nonce
//!                                                                   └narrow()──► each GPU: the nonce of its report
//! Attestation {machine, gpus} ──► tradewind-tee verifies it against the makers' roots
//! ```
//!
//! One binding for all members ties a machine and its GPUs to one another: each of them signed the same question, which names
//! the chain, the device and the node that asked, so that evidence answers once, for one provider. Nothing here is verified.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::B256;
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};

use crate::ids::{DeviceId, MeshKey};

/// The largest quote, report or document.
pub const MAX_REPORT: usize = 16 << 10;
/// The largest collateral: the revocation lists and levels that Intel publishes.
pub const MAX_COLLATERAL: usize = 64 << 10;
/// The largest certificate.
pub const MAX_CERTIFICATE: usize = 4 << 10;
/// The longest chain of certificates.
pub const MAX_CHAIN: usize = 6;
/// The most GPUs that one machine shows.
pub const MAX_GPUS: usize = 16;

const DOMAIN: &[u8] = b"tradewind tee evidence 1";

/// Kinds of trusted execution, as a set. Bits that this version does not know are kept and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Tees(u32);

impl Tees {
    /// None.
    pub const NONE: Self = Self(0);
    /// Intel TDX: a virtual machine.
    pub const TDX: Self = Self(1);
    /// Intel SGX: an enclave in a process.
    pub const SGX: Self = Self(1 << 1);
    /// AMD SEV-SNP: a virtual machine.
    pub const SEV_SNP: Self = Self(1 << 2);
    /// AWS Nitro: an enclave beside a virtual machine.
    pub const NITRO: Self = Self(1 << 3);
    /// NVIDIA's confidential computing, on every GPU of a unit.
    pub const NVIDIA: Self = Self(1 << 4);
    /// Every kind of machine.
    pub const MACHINES: Self = Self(0b1111);

    const NAMES: [(Self, &str); 5] = [
        (Self::TDX, "tdx"),
        (Self::SGX, "sgx"),
        (Self::SEV_SNP, "sev-snp"),
        (Self::NITRO, "nitro"),
        (Self::NVIDIA, "nvidia"),
    ];

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// At least one kind is in both.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Nothing in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of the known kinds in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(set, _)| self.intersects(*set)).map(|(_, name)| name)
    }
}

impl fmt::Display for Tees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(", "))
    }
}

/// Not the name of a kind of trusted execution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not one of `tdx`, `sgx`, `sev-snp`, `nitro`, `nvidia`")]
pub struct TeeError(String);

impl FromStr for Tees {
    type Err = TeeError;

    /// One kind by its name.
    fn from_str(text: &str) -> Result<Self, TeeError> {
        let found = Self::NAMES.into_iter().find(|(_, name)| *name == text);
        found.map(|(set, _)| set).ok_or_else(|| TeeError(text.into()))
    }
}

/// What a job asks of the machine that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TeeDemand {
    /// One of these kinds of machine; [`Tees::NONE`] where none is asked for.
    pub machine: Tees,
    /// And NVIDIA's evidence for the GPUs.
    pub gpus: bool,
}

impl TeeDemand {
    /// Whether anything is asked for.
    #[must_use]
    pub const fn is_some(self) -> bool {
        !self.machine.is_empty()
    }

    /// Whether an offer that claims `claimed` will do.
    #[must_use]
    pub const fn is_met_by(self, claimed: Tees) -> bool {
        let machine = self.machine.is_empty() || self.machine.intersects(claimed);
        machine && (!self.gpus || claimed.intersects(Tees::NVIDIA))
    }
}

/// The question that evidence answers. Every member of an [`Attestation`] repeats its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The chain that the lease will be opened on.
    pub chain_id: u64,
    /// The device that is on offer.
    pub device: DeviceId,
    /// The node that answers.
    pub mesh_key: MeshKey,
    /// Fresh randomness of whoever asks.
    pub nonce: B256,
}

impl Binding {
    /// SHA-512, for the 64 bytes of a CPU's report.
    #[must_use]
    pub fn wide(&self) -> [u8; 64] {
        self.hash::<Sha512>().into()
    }

    /// SHA-256, for the 32 bytes of a GPU's nonce.
    #[must_use]
    pub fn narrow(&self) -> [u8; 32] {
        self.hash::<Sha256>().into()
    }

    fn hash<D: Digest>(&self) -> sha2::digest::Output<D> {
        D::new()
            .chain_update(DOMAIN)
            .chain_update(self.chain_id.to_be_bytes())
            .chain_update(self.device.get())
            .chain_update(self.mesh_key.as_bytes())
            .chain_update(self.nonce)
            .finalize()
    }
}

/// What a machine's processor, or its maker's module, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MachineEvidence {
    /// Intel TDX or SGX.
    Intel {
        /// The quote.
        quote: Vec<u8>,
        /// Intel's collateral for it as JSON: issuer chains, revocation lists, levels.
        collateral: Vec<u8>,
    },
    /// AMD SEV-SNP.
    SevSnp {
        /// The report.
        report: Vec<u8>,
        /// The chip's certificate (VCEK).
        chip: Vec<u8>,
        /// Its issuer's (ASK).
        issuer: Vec<u8>,
    },
    /// AWS Nitro.
    Nitro {
        /// The document, which brings its certificates along.
        document: Vec<u8>,
    },
}

/// What an NVIDIA GPU signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuEvidence {
    /// The report: SPDM's request for measurements and its answer.
    pub report: Vec<u8>,
    /// The GPU's certificates, its own first.
    pub chain: Vec<Vec<u8>>,
}

/// All evidence of one machine. A GPU's report says nothing of who can read the memory that feeds it, so the machine always
/// comes along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// Of the machine.
    pub machine: MachineEvidence,
    /// Of its GPUs.
    pub gpus: Vec<GpuEvidence>,
}

impl Attestation {
    /// Whether every part keeps its limit.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let certificate = |bytes: &Vec<u8>| bytes.len() <= MAX_CERTIFICATE;
        let machine = match &self.machine {
            MachineEvidence::Intel { quote, collateral } => {
                quote.len() <= MAX_REPORT && collateral.len() <= MAX_COLLATERAL
            }
            MachineEvidence::SevSnp { report, chip, issuer } => {
                report.len() <= MAX_REPORT && certificate(chip) && certificate(issuer)
            }
            MachineEvidence::Nitro { document } => document.len() <= MAX_REPORT,
        };
        let gpu = |gpu: &GpuEvidence| {
            gpu.report.len() <= MAX_REPORT
                && gpu.chain.len() <= MAX_CHAIN
                && gpu.chain.iter().all(certificate)
        };
        machine && self.gpus.len() <= MAX_GPUS && self.gpus.iter().all(gpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding {
            chain_id: 31_337,
            device: DeviceId::new(B256::repeat_byte(1)),
            mesh_key: MeshKey::from_bytes([2; 32]),
            nonce: B256::repeat_byte(3),
        }
    }

    #[test]
    fn every_part_of_a_binding_changes_what_the_hardware_must_repeat() {
        let one = binding();
        let others = [
            Binding { chain_id: 1, ..one },
            Binding { device: DeviceId::new(B256::repeat_byte(9)), ..one },
            Binding { mesh_key: MeshKey::from_bytes([9; 32]), ..one },
            Binding { nonce: B256::repeat_byte(9), ..one },
        ];
        for other in others {
            assert_ne!(one.wide(), other.wide());
            assert_ne!(one.narrow(), other.narrow());
        }
        assert_eq!(binding().wide(), one.wide());
    }

    #[test]
    fn a_demand_is_met_by_a_kind_that_it_names() {
        let any = TeeDemand { machine: Tees::MACHINES, gpus: false };
        let both = TeeDemand { machine: Tees::TDX, gpus: true };
        assert!(TeeDemand::default().is_met_by(Tees::NONE));
        assert!(any.is_met_by(Tees::SEV_SNP) && !any.is_met_by(Tees::NVIDIA));
        assert!(both.is_met_by(Tees::TDX.with(Tees::NVIDIA)));
        assert!(!both.is_met_by(Tees::TDX) && !both.is_met_by(Tees::SGX.with(Tees::NVIDIA)));
    }

    #[test]
    fn an_attestation_is_bounded() {
        let machine = MachineEvidence::Nitro { document: vec![0; MAX_REPORT] };
        let gpu =
            GpuEvidence { report: vec![0; MAX_REPORT], chain: vec![vec![0; MAX_CERTIFICATE]; MAX_CHAIN] };
        let whole = Attestation { machine, gpus: vec![gpu; MAX_GPUS] };
        assert!(whole.is_bounded());
        let large = MachineEvidence::Nitro { document: vec![0; MAX_REPORT + 1] };
        assert!(!Attestation { machine: large, gpus: Vec::new() }.is_bounded());
        let mut many = whole.clone();
        many.gpus.push(whole.gpus[0].clone());
        assert!(!many.is_bounded());
        let mut long = whole;
        long.gpus[0].chain.push(Vec::new());
        assert!(!long.is_bounded());
    }
}
