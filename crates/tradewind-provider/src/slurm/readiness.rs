//! Whether the cluster lends: asked of itself, and tried with an empty job.

use std::error::Error as _;

use super::SlurmRuntime;
use super::advice::Advice;
use super::desk::Desk;
use crate::process::readiness::run_empty_job;
use crate::runtime::{Finding, Readiness, RuntimeError};

/// Compares the cluster with what lending needs, and runs an empty job in it: that shows programs, directory, nodes and sandbox
/// at once. A cluster that is full now cannot be tried, and is not worse for it.
pub(super) async fn probe(runtime: &SlurmRuntime, desk: &Desk) -> Readiness {
    let mut findings = match desk.advice().await {
        Ok(advice) => advice.findings(),
        Err(error) => vec![silent(&error)],
    };
    findings.push(userland());
    let answers = !findings.iter().any(|finding| finding.grave);
    if answers && let Err(error) = run_empty_job(runtime, &desk.config.directory).await {
        findings.insert(0, untried(&error, desk));
    }
    Readiness { ready: !findings.iter().any(|finding| finding.grave), findings }
}

fn silent(error: &RuntimeError) -> Finding {
    Finding {
        grave: true,
        problem: format!("the cluster does not answer: {error}"),
        fix: "run the node where `sinfo` and `sbatch` work: a login node, with slurm.conf (or SLURM_CONF) and munge; \
              name the programs' directory as `provider.slurm.programs` where it is not in PATH"
            .into(),
    }
}

/// Said always: nobody should lend a cluster by mistake.
fn userland() -> Finding {
    Finding {
        grave: false,
        problem: "jobs run in the nodes' own userland, in a sandbox, not in images".into(),
        fix: "keep secrets out of /usr and /etc/ssl of the nodes, and see docs/threat-model.md".into(),
    }
}

fn untried(error: &RuntimeError, desk: &Desk) -> Finding {
    if let RuntimeError::Unavailable(why) = error {
        return Finding {
            grave: false,
            problem: format!("an empty job was not begun in time: {why}"),
            fix: "run it again when the partition has a free place".into(),
        };
    }
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    Finding {
        grave: true,
        problem: format!("an empty job does not start: {error}{cause}"),
        fix: format!(
            "see the message; {} must be the same directory on every node of the partition, and user namespaces must be \
             allowed there",
            desk.config.directory.display()
        ),
    }
}

impl SlurmRuntime {
    /// The cluster against what lending needs. Asks only.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub async fn advice(&self) -> Result<Advice, RuntimeError> {
        self.desk.advice().await
    }
}
