//! The public samples. `tests/samples/README.md` says where each comes from.

use std::error::Error;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tradewind_proto::attestation::{Attestation, GpuEvidence, MachineEvidence};
use tradewind_proto::units::Timestamp;
use tradewind_tee::{Expected, Policy, Refused, Roots, Verified, verify};

/// Evidence, what it was asked with, and a time at which it held.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) attestation: Attestation,
    pub(crate) expected: Expected,
    pub(crate) now: u64,
}

impl Sample {
    fn new(machine: MachineEvidence, now: u64) -> Self {
        let expected = Expected { report_data: [0; 64], document_nonce: None, gpu_nonce: [0; 32] };
        Self { attestation: Attestation { machine, gpus: Vec::new() }, expected, now }
    }

    fn saying(mut self, report_data: &[u8]) -> Self {
        self.expected.report_data = report_data.try_into().unwrap();
        self
    }

    pub(crate) fn verify(&self) -> Result<Verified, Refused> {
        self.verify_with(&Policy::default(), &Roots::makers())
    }

    pub(crate) fn verify_with(&self, policy: &Policy, roots: &Roots) -> Result<Verified, Refused> {
        verify(&self.attestation, &self.expected, policy, roots, Timestamp::from_unix(self.now))
    }

    /// The same at another time.
    pub(crate) fn at(&self, now: u64) -> Result<Verified, Refused> {
        Self { now, ..self.clone() }.verify()
    }

    /// The same with bytes of one part changed.
    pub(crate) fn with(&self, part: Part, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut copy = self.clone();
        change(part(&mut copy.attestation));
        copy
    }

    pub(crate) fn bytes(&self, part: Part) -> Vec<u8> {
        part(&mut self.attestation.clone()).clone()
    }
}

/// Picks one part of evidence.
pub(crate) type Part = fn(&mut Attestation) -> &mut Vec<u8>;

/// A quote, a report or a document.
pub(crate) fn statement(attestation: &mut Attestation) -> &mut Vec<u8> {
    match &mut attestation.machine {
        MachineEvidence::Intel { quote, .. } => quote,
        MachineEvidence::SevSnp { report, .. } => report,
        MachineEvidence::Nitro { document } => document,
    }
}

pub(crate) fn collateral(attestation: &mut Attestation) -> &mut Vec<u8> {
    match &mut attestation.machine {
        MachineEvidence::Intel { collateral, .. } => collateral,
        MachineEvidence::SevSnp { chip, .. } => chip,
        MachineEvidence::Nitro { document } => document,
    }
}

pub(crate) fn issuer(attestation: &mut Attestation) -> &mut Vec<u8> {
    match &mut attestation.machine {
        MachineEvidence::SevSnp { issuer, .. } => issuer,
        MachineEvidence::Intel { .. } | MachineEvidence::Nitro { .. } => unreachable!("it has no such part"),
    }
}

pub(crate) fn gpu_report(attestation: &mut Attestation) -> &mut Vec<u8> {
    &mut attestation.gpus[0].report
}

pub(crate) fn gpu_certificate<const N: usize>(attestation: &mut Attestation) -> &mut Vec<u8> {
    &mut attestation.gpus[0].chain[N]
}

/// A refusal with all that caused it.
pub(crate) fn told(refused: &Refused) -> String {
    let mut text = refused.to_string();
    let mut cause = refused.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

macro_rules! sample {
    ($name:literal) => {
        include_bytes!(concat!("../samples/", $name)).to_vec()
    };
}

pub(crate) fn sgx() -> Sample {
    let (quote, collateral) = (sample!("sgx-quote.bin"), sample!("sgx-collateral.json"));
    let said = quote[48 + 320..48 + 384].to_vec();
    Sample::new(MachineEvidence::Intel { quote, collateral }, 1_751_000_000).saying(&said)
}

pub(crate) fn tdx() -> Sample {
    let (quote, collateral) = (sample!("tdx-quote.bin"), sample!("tdx-collateral.json"));
    let said = quote[48 + 520..48 + 584].to_vec();
    Sample::new(MachineEvidence::Intel { quote, collateral }, 1_751_000_000).saying(&said)
}

/// A guest on firmware that no level of Intel's covers.
pub(crate) fn outdated() -> Sample {
    let (quote, collateral) = (sample!("tdx-outdated-quote.bin"), sample!("tdx-outdated-collateral.json"));
    // Version 5 names the body's kind and length before it.
    let said = quote[54 + 520..54 + 584].to_vec();
    Sample::new(MachineEvidence::Intel { quote, collateral }, 1_772_000_000).saying(&said)
}

pub(crate) fn snp() -> Sample {
    let report = sample!("milan-report.bin");
    let said = report[0x50..0x90].to_vec();
    let (chip, issuer) = (sample!("milan-vcek.der"), sample!("milan-ask.der"));
    Sample::new(MachineEvidence::SevSnp { report, chip, issuer }, 1_750_000_000).saying(&said)
}

pub(crate) fn nitro() -> Sample {
    Sample::new(MachineEvidence::Nitro { document: sample!("nitro-document.cbor") }, 1_736_179_625)
}

/// An enclave that was started for debugging.
pub(crate) fn nitro_debug() -> Sample {
    Sample::new(MachineEvidence::Nitro { document: sample!("nitro-debug-document.cbor") }, 1_614_967_200)
}

/// NVIDIA's sample comes without the machine that held the card: AMD's stands in, each with its own nonce.
pub(crate) fn hopper() -> Sample {
    let mut sample = snp();
    let report = sample!("hopper-report.bin");
    sample.expected.gpu_nonce = report[4..36].try_into().unwrap();
    let chain = CertificateDer::pem_slice_iter(include_bytes!("../samples/hopper-chain.pem"));
    let chain = chain.map(|certificate| certificate.unwrap().to_vec()).collect();
    sample.attestation.gpus = vec![GpuEvidence { report, chain }];
    sample
}
