//! A seeded market in one process: the real buyer, the real provider agents and the real contracts, in simulated time, with faults.
//!
//! ```text
//!              Buyer ──────── Wire ──────── Agent          real code
//!                │    loss, lag, partition    │
//!              Disk, outbox              Disk, outbox, Host     outlive the process
//!                │   crash at every commit    │
//!                └──► RelayedLedger ◄─────────┘            real code
//!                     Failover ─ Line: down, hangs, nonsense, swallowed, denied
//!                          │
//!                     Embedded: the contracts' bytecode, a block every two seconds, reorgs
//! ```
//!
//! Everything runs on one thread with tokio's paused clock, and every chance follows from the seed, so a seed repeats its run: the
//! trace's digest says so. What touches no network, disk, chain or machine but the file system (logs, work directories) is real and
//! in a directory of the run.
//!
//! A [`Market`] is driven by a scenario; [`Market::audit`] then checks what must hold whatever happened: each lease closes in bounded
//! time, its deposit is accounted for to the unit, nobody's wealth differs from what the leases say, no workload runs twice, every
//! acknowledged voucher is paid, and neither side lost more than the exposure bound.
//!
//! ```
//! use tradewind_sim::{Bounds, Market, Setup, run};
//!
//! run(1, async |seed| {
//!     let market = Market::open(seed, Setup::default()).await;
//!     market.submit("run: work 20 0").await;
//!     assert!(market.until_settled(300).await);
//!     (market.audit(Bounds::default()).await, market.world)
//! });
//! ```

#![expect(clippy::expect_used, clippy::panic, reason = "a broken bench stops the test that stands on it")]

mod audit;
mod chain;
mod disk;
mod host;
mod life;
mod market;
mod network;
mod party;
mod seed;
mod world;

use std::sync::Arc;

pub use audit::{Bounds, Closing, Lease};
pub use chain::{BLOCK, Chain, dollars};
pub use disk::Disk;
pub use host::Host;
pub use life::Life;
pub use market::{Market, Setup};
pub use network::Silence;
pub use party::{BuyerSeat, ProviderSeat, Seat, key};
pub use seed::Seed;
pub use world::{Weather, World};

/// Lines of the trace that a failure shows.
const SHOWN: usize = 120;

/// One run; its trace is appended to the file that `TRADEWIND_SIM_TRACE` names. Fails with the seed and the end of the trace when there are problems; else gives the trace's digest.
///
/// # Panics
/// When the scenario reports a problem.
pub fn run(seed: u64, scenario: impl AsyncFnOnce(u64) -> (Vec<String>, Arc<World>)) -> String {
    // Another run of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let (problems, world) = runtime.expect("a runtime").block_on(scenario(seed));
    if let Some(path) = std::env::var_os("TRADEWIND_SIM_TRACE") {
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the trace's file");
        std::io::Write::write_all(&mut file, world.trace().as_bytes()).expect("the trace's file");
    }
    if !problems.is_empty() {
        let trace = world.trace();
        let lines: Vec<&str> = trace.lines().collect();
        let end = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
        panic!("seed {seed}: {}\n(TRADEWIND_SIM_SEED={seed} repeats it)\n{end}", problems.join("; "));
    }
    world.digest()
}

/// The scenario over several seeds: `count` of them, or as many as `TRADEWIND_SIM_RUNS` says, or the one in `TRADEWIND_SIM_SEED`.
///
/// # Panics
/// As [`run`].
pub fn runs(count: u64, scenario: impl AsyncFn(u64) -> (Vec<String>, Arc<World>)) {
    let variable = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    if let Some(seed) = variable("TRADEWIND_SIM_SEED") {
        run(seed, &scenario);
        return;
    }
    for seed in 1..=variable("TRADEWIND_SIM_RUNS").unwrap_or(count) {
        run(seed, &scenario);
    }
}
