//! `make bench`: every figure that Tradewind claims, beside the same work done by a peer, on one machine in one run.
//!
//! ```text
//! gas · voucher · plan · challenge · ledger · directory · tunnel · start · rest · egress ──► figures ──► table on stdout, bench.json
//!  │                                   │                    │        │
//!  anvil: iExec, Sablier               anvil                iroh,    docker run
//!                                                           TCP
//! ```
//!
//! A group takes its figures and its peers' in turns and reports medians. A group that fails is said so on stderr, the
//! others go on, and the run ends with an error; a missed budget is a figure like any other.

mod anvil;
mod challenge;
mod directory;
mod egress;
mod figure;
mod gas;
mod ledger;
mod machine;
mod market;
mod plan;
mod progress;
mod rest;
mod start;
mod tunnel;
mod voucher;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

use figure::Figure;
use progress::say;

/// What belongs together in one measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Whole leases on anvil, beside iExec and Sablier.
    Gas,
    /// Vouchers signed and verified on one core.
    Voucher,
    /// The best offer among a million.
    Plan,
    /// Rows of a device's product checked by a watcher.
    Challenge,
    /// The embedded ledger's transactions, beside anvil's.
    Ledger,
    /// Offers that a node takes from another.
    Directory,
    /// A workload's port through the mesh, beside raw QUIC and TCP.
    Tunnel,
    /// From `run` to the first line of the log, beside `docker run`.
    Start,
    /// What a provider's node costs while nobody leases.
    Rest,
    /// What a lease uploads, beside `docker run`.
    Egress,
}

#[derive(Debug, Parser)]
#[command(about = "Measures Tradewind beside its peers")]
struct Options {
    /// Only these groups.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Group>,
    /// Where to write the figures as JSON.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// The program to measure; beside this one unless named.
    #[arg(long)]
    tradewind: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    // A second provider cannot have been installed before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let machine = machine::describe();
    let (mut figures, mut failed) = (Vec::new(), Vec::new());
    for group in Group::value_variants() {
        if !options.only.is_empty() && !options.only.contains(group) {
            continue;
        }
        say(format_args!("{group:?}"));
        match measure(*group, &options) {
            Ok(taken) => figures.extend(taken),
            Err(error) => failed.push(format!("{group:?} could not be measured: {error:#}")),
        }
    }
    for figure in &mut figures {
        figure.machine.clone_from(&machine);
    }
    if let Some(directory) = options.json.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    std::fs::write(&options.json, serde_json::to_vec_pretty(&figures)?)
        .with_context(|| format!("cannot write {}", options.json.display()))?;
    writeln!(std::io::stdout(), "{machine}\n{}", figure::table(&figures))?;
    for problem in &failed {
        say(format_args!("error: {problem}"));
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(group: Group, options: &Options) -> anyhow::Result<Vec<Figure>> {
    let program = || match &options.tradewind {
        Some(named) => std::path::absolute(named).map_err(anyhow::Error::from),
        None => market::beside(),
    };
    match group {
        Group::Gas => runtime()?.block_on(gas::measure()),
        Group::Voucher => voucher::measure(),
        Group::Plan => plan::measure(),
        Group::Challenge => challenge::measure(),
        Group::Ledger => runtime()?.block_on(ledger::measure()),
        Group::Directory => runtime()?.block_on(directory::measure()),
        Group::Tunnel => runtime()?.block_on(tunnel::measure()),
        Group::Start => runtime()?.block_on(start::measure(&program()?)),
        Group::Egress => runtime()?.block_on(egress::measure(&program()?)),
        Group::Rest => runtime()?.block_on(rest::measure(&program()?)),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")
}
