//! The `process` runtime: the conformance suite, and what is particular to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tradewind_proto::workload::Network;
use tradewind_provider::process::{ProcessConfig, ProcessRuntime};
use tradewind_provider::runtime::Runtime;

use crate::conformance::{Fixture, Job};

mod adoption;
mod limits;
mod places;
mod sandbox;
mod unprivileged;

crate::conformance_suite!(crate::process::fixture);
crate::session_suite!(crate::process::fixture);
crate::escape_suite!(crate::process::fixture);

/// Names another copy of the shim, for a test run by a user who cannot read this one.
const SHIM: &str = "TRADEWIND_TEST_SHIM";

fn shim() -> PathBuf {
    std::env::var_os(SHIM).map_or(env!("CARGO_BIN_EXE_tradewind-process-shim").into(), Into::into)
}

fn open(state_dir: &Path) -> Arc<dyn Runtime> {
    let runtime = ProcessRuntime::new(ProcessConfig::new(state_dir, shim()));
    Arc::new(runtime.expect("open the runtime"))
}

/// Where [`fixture`] keeps the runtime's state.
fn state(fixture: &Fixture) -> PathBuf {
    fixture.root.path().join("state")
}

/// The directory of a workload.
fn job_dir(fixture: &Fixture, job: &Job) -> PathBuf {
    state(fixture).join("jobs").join(hex::encode(job.lease().get()))
}

/// A field of a workload's `shim.json`.
fn shim_record(fixture: &Fixture, job: &Job) -> serde_json::Value {
    let text = std::fs::read(job_dir(fixture, job).join("shim.json")).expect("read shim.json");
    serde_json::from_slice(&text).expect("JSON")
}

/// The host's processes of `user`.
fn processes_of(user: u32) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc").expect("list processes");
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let numbered = paths
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().parse::<u32>().is_ok()));
    // The owner of a process's directory is root when it is undumpable; its status is not.
    numbered
        .filter(|path| {
            let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
            let own = status.lines().find_map(|line| line.strip_prefix("Uid:"));
            own.and_then(|ids| ids.split_whitespace().next()?.parse().ok()) == Some(user)
        })
        .collect()
}

async fn fixture() -> Fixture {
    let root = tempfile::tempdir().expect("make a directory");
    let state = root.path().join("state");
    Fixture {
        runtime: open(&state),
        reopen: Box::new(move || open(&state)),
        image: None,
        network_of_ports: Network::None,
        has_own_kernel: false,
        root,
    }
}
