//! The `slurm` runtime on a real cluster: the one that `SLURM_CONF` names, as `scripts/with-slurm` starts it, with a partition
//! `lent` below a partition `owner`. No cluster is a failure with a hint, never a skip.

mod advice;
mod faults;
mod preemption;
mod queue;
mod reach;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tradewind_proto::units::Seconds;
use tradewind_proto::workload::Network;
use tradewind_provider::runtime::Runtime;
use tradewind_provider::slurm::{SlurmConfig, SlurmRuntime};
use tradewind_testbed::cluster::slurm;

use crate::conformance::{Fixture, Job};

crate::conformance_suite!(crate::slurm::fixture);
crate::escape_suite!(crate::slurm::fixture);

/// The partition's `GraceTime` in `scripts/with-slurm`.
const GRACE: Duration = Duration::from_secs(6);
/// Nothing of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(directory: &Path) -> SlurmConfig {
    SlurmConfig {
        notice: Seconds::new(5),
        ..SlurmConfig::new(directory.into(), env!("CARGO_BIN_EXE_tradewind-process-shim").into())
    }
}

fn open(config: SlurmConfig) -> Arc<SlurmRuntime> {
    Arc::new(SlurmRuntime::new(config).expect("open the runtime"))
}

/// Where [`fixture`] keeps the runtime's state.
fn state(fixture: &Fixture) -> PathBuf {
    fixture.root.path().join("state")
}

fn job_dir(fixture: &Fixture, job: &Job) -> PathBuf {
    state(fixture).join("jobs").join(hex::encode(job.lease().get()))
}

/// The name that the lease's job has in Slurm.
fn name(job: &Job) -> String {
    format!("tw-{}", hex::encode(job.lease().get()))
}

/// Submits a job of the owner's that takes the whole machine for `seconds`; its number.
fn owners_job(seconds: u32) -> String {
    let line = format!("sleep {seconds}");
    let all = ["--parsable", "--partition=owner", "--exclusive", "--output=/dev/null", "--wrap", &line];
    slurm("sbatch", &all).trim().to_owned()
}

/// How many jobs of this name the queue has that are not over.
fn living(name: &str) -> usize {
    slurm("squeue", &["--noheader", "--format=%i", &format!("--name={name}")]).lines().count()
}

/// The state of a job, in Slurm's word.
fn state_of(id: &str) -> String {
    slurm("squeue", &["--noheader", "--states=all", "--format=%T", "--jobs", id]).trim().to_owned()
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn fixture() -> Fixture {
    let root = tempfile::tempdir().expect("make a directory");
    let state = root.path().join("state");
    Fixture {
        runtime: open(config(&state)),
        reopen: Box::new(move || open(config(&state)) as Arc<dyn Runtime>),
        image: None,
        network_of_ports: Network::None,
        has_own_kernel: false,
        root,
    }
}
