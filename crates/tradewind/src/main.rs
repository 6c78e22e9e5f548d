//! Tradewind: an open market for AI compute. One binary: the node, and the commands that talk to it.

mod background;
mod cli;
mod client;
mod commands;
mod memory;
mod node;
mod paths;
mod printer;
mod program;
mod service;

use std::process::ExitCode;

use clap::Parser;

/// The exit code of our own failures; every other code is the job's.
const OWN_FAILURE: u8 = 125;

fn main() -> ExitCode {
    // Before any thread exists: this program is also the process runtime's shim.
    if let Some(code) = tradewind_provider::process::dispatch() {
        return code;
    }
    memory::return_large_blocks();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was installed before ours");
    }
    let cli = cli::Cli::parse();
    let printer = printer::Printer::new(cli.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            printer.failure(&anyhow::Error::new(error).context("no threads can be started"));
            return ExitCode::from(OWN_FAILURE);
        }
    };
    let code = match runtime.block_on(commands::dispatch(cli, &printer)) {
        Ok(code) => code,
        Err(error) => {
            printer.failure(&error);
            OWN_FAILURE
        }
    };
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    ExitCode::from(code)
}
