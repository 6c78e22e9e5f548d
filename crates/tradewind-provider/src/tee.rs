//! Where a provider's evidence of trusted execution comes from.
//!
//! Each cloud and each board has its own way to the hardware, so the owner's command asks it: [`CommandAttester`]. A provider
//! without an attester claims nothing and refuses to be asked.

use std::fmt::Debug;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tradewind_proto::attestation::{Attestation, Binding, GpuEvidence, MachineEvidence, Tees};

/// The longest that evidence may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most that a command may print: all evidence, in hex.
const MAX_OUTPUT: u64 = 2 << 20;

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// The command did not run, or failed.
    #[error("the command for evidence failed")]
    Command(#[source] std::io::Error),
    /// It did not end well.
    #[error("the command for evidence ended with {0}")]
    Status(std::process::ExitStatus),
    /// It took too long.
    #[error("the command for evidence took longer than {} s", PATIENCE.as_secs())]
    Late,
    /// It printed something else.
    #[error("the command for evidence printed no evidence")]
    Output(#[source] serde_json::Error),
    /// It printed more than evidence can be.
    #[error("the command's evidence is larger than its limits")]
    Size,
}

/// Shows that a machine runs in trusted execution.
#[async_trait]
pub trait Attester: Debug + Send + Sync {
    /// What it can show; the offer claims it.
    fn kinds(&self) -> Tees;

    /// Evidence that repeats `binding`.
    ///
    /// # Errors
    /// [`AttestError`].
    async fn attest(&self, binding: &Binding) -> Result<Attestation, AttestError>;
}

/// Runs the owner's command. It finds what to repeat in `TRADEWIND_REPORT_DATA` (64 bytes) and `TRADEWIND_GPU_NONCE` (32), in hex, and
/// prints `{"machine": {"sev-snp": {"report": …, "chip": …, "issuer": …}}, "gpus": [{"report": …, "chain": […]}]}`, bytes in hex.
/// A machine may also be `{"intel": {"quote": …, "collateral": …}}` or `{"nitro": {"document": …}}`.
#[derive(Debug, Clone)]
pub struct CommandAttester {
    /// What it shows.
    pub kinds: Tees,
    /// The program and its arguments.
    pub command: Vec<String>,
}

#[async_trait]
impl Attester for CommandAttester {
    fn kinds(&self) -> Tees {
        self.kinds
    }

    async fn attest(&self, binding: &Binding) -> Result<Attestation, AttestError> {
        let run = tokio::time::timeout(PATIENCE, self.run(binding));
        let output = run.await.map_err(|_| AttestError::Late)??;
        let printed: Printed = serde_json::from_slice(&output).map_err(AttestError::Output)?;
        let attestation = Attestation::from(printed);
        if attestation.is_bounded() { Ok(attestation) } else { Err(AttestError::Size) }
    }
}

impl CommandAttester {
    async fn run(&self, binding: &Binding) -> Result<Vec<u8>, AttestError> {
        let (program, arguments) = self.command.split_first().ok_or_else(|| {
            AttestError::Command(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it names no program"))
        })?;
        let mut child = Command::new(program)
            .args(arguments)
            .env("TRADEWIND_REPORT_DATA", hex::encode(binding.wide()))
            .env("TRADEWIND_GPU_NONCE", hex::encode(binding.narrow()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(AttestError::Command)?;
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output).await.map_err(AttestError::Command)?;
        }
        if u64::try_from(output.len()).unwrap_or(u64::MAX) > MAX_OUTPUT {
            return Err(AttestError::Size);
        }
        let status = child.wait().await.map_err(AttestError::Command)?;
        if status.success() { Ok(output) } else { Err(AttestError::Status(status)) }
    }
}

/// Bytes in hex.
#[derive(Deserialize)]
#[serde(transparent)]
struct Hex(#[serde(with = "hex::serde")] Vec<u8>);

/// What a command prints.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Printed {
    machine: PrintedMachine,
    #[serde(default)]
    gpus: Vec<PrintedGpu>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum PrintedMachine {
    Intel { quote: Hex, collateral: Hex },
    SevSnp { report: Hex, chip: Hex, issuer: Hex },
    Nitro { document: Hex },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrintedGpu {
    report: Hex,
    chain: Vec<Hex>,
}

impl From<Printed> for Attestation {
    fn from(printed: Printed) -> Self {
        let machine = match printed.machine {
            PrintedMachine::Intel { quote, collateral } => {
                MachineEvidence::Intel { quote: quote.0, collateral: collateral.0 }
            }
            PrintedMachine::SevSnp { report, chip, issuer } => {
                MachineEvidence::SevSnp { report: report.0, chip: chip.0, issuer: issuer.0 }
            }
            PrintedMachine::Nitro { document } => MachineEvidence::Nitro { document: document.0 },
        };
        let gpu = |gpu: PrintedGpu| GpuEvidence {
            report: gpu.report.0,
            chain: gpu.chain.into_iter().map(|certificate| certificate.0).collect(),
        };
        Self { machine, gpus: printed.gpus.into_iter().map(gpu).collect() }
    }
}

#[cfg(test)]
mod tests {
    use tradewind_proto::ids::{DeviceId, MeshKey};

    use super::*;

    fn binding() -> Binding {
        Binding {
            chain_id: 1,
            device: DeviceId::NONE,
            mesh_key: MeshKey::from_bytes([2; 32]),
            nonce: Default::default(),
        }
    }

    async fn printed(script: &str) -> Result<Attestation, AttestError> {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        CommandAttester { kinds: Tees::NITRO, command }.attest(&binding()).await
    }

    #[tokio::test]
    async fn the_owners_command_is_told_what_to_repeat() {
        let script = r#"printf '{"machine":{"nitro":{"document":"%s"}},"gpus":[{"report":"%s","chain":["0a"]}]}' \
            "$TRADEWIND_REPORT_DATA" "$TRADEWIND_GPU_NONCE""#;
        let attestation = printed(script).await.unwrap();
        assert_eq!(attestation.machine, MachineEvidence::Nitro { document: binding().wide().to_vec() });
        let gpu = GpuEvidence { report: binding().narrow().to_vec(), chain: vec![vec![10]] };
        assert_eq!(attestation.gpus, [gpu]);
    }

    #[tokio::test]
    async fn a_command_that_fails_or_prints_something_else_shows_nothing() {
        assert!(matches!(printed("exit 3").await, Err(AttestError::Status(_))));
        assert!(matches!(printed("echo yes").await, Err(AttestError::Output(_))));
        assert!(matches!(printed("head -c 3000000 /dev/zero").await, Err(AttestError::Size)));
        let large = r#"printf '{"machine":{"nitro":{"document":"%040000d"}}}' 0"#;
        assert!(matches!(printed(large).await, Err(AttestError::Size)));
        let none = CommandAttester { kinds: Tees::NITRO, command: Vec::new() };
        assert!(matches!(none.attest(&binding()).await, Err(AttestError::Command(_))));
    }
}
