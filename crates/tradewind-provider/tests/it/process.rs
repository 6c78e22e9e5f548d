//! The `process` runtime: the conformance suite, and what is particular to it.

use std::path::Path;
use std::sync::Arc;

use tradewind_proto::workload::Network;
use tradewind_provider::process::{ProcessConfig, ProcessRuntime};
use tradewind_provider::runtime::Runtime;

use crate::conformance::Fixture;

crate::conformance_suite!(crate::process::fixture);

fn open(state_dir: &Path) -> Arc<dyn Runtime> {
    let shim = env!("CARGO_BIN_EXE_tradewind-process-shim").into();
    let runtime = ProcessRuntime::new(ProcessConfig { state_dir: state_dir.into(), shim });
    Arc::new(runtime.expect("open the runtime"))
}

async fn fixture() -> Fixture {
    let root = tempfile::tempdir().expect("make a directory");
    let state = root.path().join("state");
    Fixture {
        runtime: open(&state),
        reopen: Box::new(move || open(&state)),
        image: None,
        network_of_ports: Network::None,
        root,
    }
}
