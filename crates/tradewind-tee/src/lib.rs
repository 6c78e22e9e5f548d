//! Verifies evidence of trusted execution: TDX and SGX, SEV-SNP, Nitro, and the report of an NVIDIA GPU.
//!
//! ```text
//! Attestation ─ bounded? ─ parts readable? ─ debug? ─ bound to our question? ─ certificates up to a maker's root, at `now`
//!                                                                                  └ signature ─ firmware ─► Verified
//! ```
//!
//! The cheap questions come first and each of them refuses; nothing is believed before the signature held. The roots are
//! pinned here, the clock is handed in, and nothing is fetched: whoever attests brings the collateral along.
//!
//! Failure paths: every refusal is one [`Refused`], which says what failed; a GPU's names the GPU. Bytes of a peer never panic.
//!
//! What verified evidence does not say: that the buyer's job runs inside what was measured (that takes a comparison of the
//! measurements with an image that the buyer knows), that no certificate of AMD, AWS or NVIDIA was revoked (Intel's are
//! checked), that an NVIDIA GPU runs the firmware that NVIDIA published, or is not in its mode for developers.
//!
//! ```
//! use tradewind_proto::attestation::{Attestation, MachineEvidence};
//! use tradewind_proto::units::Timestamp;
//! use tradewind_tee::{Expected, Policy, Refused, Roots, verify};
//!
//! let forged = Attestation { machine: MachineEvidence::Nitro { document: vec![0x84] }, gpus: Vec::new() };
//! let expected = Expected { report_data: [0; 64], document_nonce: None, gpu_nonce: [0; 32] };
//! let now = Timestamp::from_unix(1_736_179_625);
//! let refused = verify(&forged, &expected, &Policy::default(), &Roots::makers(), now);
//! assert!(matches!(refused, Err(Refused::Malformed("the document"))));
//! ```

mod chain;
mod field;
mod intel;
mod nitro;
mod nvidia;
mod refused;
mod roots;
mod snp;
mod verified;

use tradewind_proto::attestation::{Attestation, Binding, MachineEvidence};
use tradewind_proto::units::{Seconds, Timestamp};

pub use refused::Refused;
pub use roots::Roots;
pub use verified::{Gpu, Level, Machine, Measurement, Verified};

/// The longest that evidence is believed: its nonce was fresh only once.
pub const MAX_AGE: Seconds = Seconds::new(86_400);

/// What every member has to repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// In a quote or report of a CPU.
    pub report_data: [u8; 64],
    /// In a Nitro document; `None` where the document must hold none, as the public samples do.
    pub document_nonce: Option<[u8; 64]>,
    /// In the report of a GPU.
    pub gpu_nonce: [u8; 32],
}

impl From<&Binding> for Expected {
    fn from(binding: &Binding) -> Self {
        let wide = binding.wide();
        Self { report_data: wide, document_nonce: Some(wide), gpu_nonce: binding.narrow() }
    }
}

/// What a verifier puts up with besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Machines that their host may look into.
    pub debug: bool,
    /// Machines for whose firmware Intel published a fix that they lack.
    pub out_of_date: bool,
}

/// Verifies all of `attestation`: the machine, and every GPU that comes with it.
///
/// # Errors
/// [`Refused`], with the first thing that failed.
pub fn verify(
    attestation: &Attestation,
    expected: &Expected,
    policy: &Policy,
    roots: &Roots,
    now: Timestamp,
) -> Result<Verified, Refused> {
    if !attestation.is_bounded() {
        return Err(Refused::Size);
    }
    let machine = match &attestation.machine {
        MachineEvidence::Intel { quote, collateral } => {
            intel::verify(quote, collateral, &expected.report_data, policy, &roots.intel, now)
        }
        MachineEvidence::SevSnp { report, chip, issuer } => {
            let evidence = snp::Evidence { report, chip, issuer };
            snp::verify(&evidence, &expected.report_data, policy, &roots.amd, now)
        }
        MachineEvidence::Nitro { document } => {
            nitro::verify(document, expected.document_nonce.as_ref(), policy, &roots.aws, now)
        }
    }?;
    let mut gpus = Vec::with_capacity(attestation.gpus.len());
    for (index, evidence) in attestation.gpus.iter().enumerate() {
        let gpu = nvidia::verify(evidence, &expected.gpu_nonce, &roots.nvidia, now)
            .map_err(|source| Refused::Gpu { index, source: Box::new(source) })?;
        // One card that answers twice is one card.
        if gpus.iter().any(|known: &Gpu| known.key == gpu.key) {
            return Err(Refused::Gpu {
                index,
                source: Box::new(Refused::Mismatch("it showed itself before")),
            });
        }
        gpus.push(gpu);
    }
    let expires = gpus.iter().map(|gpu| gpu.expires).fold(machine.expires, Timestamp::min);
    Ok(Verified { expires: expires.min(now.after(MAX_AGE)), machine, gpus })
}
