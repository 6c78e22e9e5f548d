//! Too few watchers for a court: a provider dies in mid-lease, and its buyer is made good by the chain alone.
//!
//! ```text
//! a job runs, and is paid for ─► kill -9 ─► the buyer challenges ─► nobody answers ─► defaulted: compensation from the bond
//! ```

use std::time::Duration;

use tradewind_chain::ledger::LeaseEvent;
use tradewind_proto::units::Timestamp;

use super::market::{Market, provider};
use super::report::Report;
use super::scene::{Scene, attempt, buyer, now, until};
use crate::printer::Printer;

/// Each with a seat: too few for a case.
const WATCHERS: u32 = 3;
/// How long the endpoint is away. The buyer takes no error for an answer, and waits.
const OUTAGE: Duration = Duration::from_secs(4);

pub(super) async fn show(printer: Printer, market: &mut Market) -> anyhow::Result<Scene> {
    let mut scene = Scene::open(printer, market).await?;
    let supply_before = scene.chain.supply().await?;
    let bar = printer.spinner("starting a provider and a buyer");
    let seller = market.start("provider", |config| config.provider = Some(provider("0.36")))?;
    let payer = market.start("buyer", |config| config.buyer = Some(buyer(true)))?;
    for node in [&seller, &payer] {
        market.up(node).await?;
    }
    market.offers(&payer, 1).await?;
    bar.finish_and_clear();
    scene.watch(printer, market, WATCHERS, 1).await?;
    let bar = printer.spinner("a job runs and is paid for");
    let running = scene.run(market, &payer, "job").await?;
    bar.finish_and_clear();

    market.kill("provider").await?;
    let killed = now();
    printer.step("the provider's machine is gone, and the RPC endpoint too for some seconds");
    scene.outage(OUTAGE).await;
    let chain = &scene.chain;
    printer.step("the buyer challenges the provider on chain");
    let defaulted = |event: &LeaseEvent| {
        let LeaseEvent::Defaulted { compensation } = event else { return None };
        Some(*compensation)
    };
    let (at, compensation) =
        until("the challenge goes unanswered", async || chain.find(running.lease, defaulted).await).await?;
    printer.step("nobody answered: the bond compensates the buyer");
    let closed = until("the lease is closed", async || chain.closed(running.lease).await).await?;
    let known = async || Ok(attempt(&payer, running.job).await?.and_then(|attempt| attempt.settled));
    let known = until("the buyer knows what it got", known).await?;
    anyhow::ensure!(known.compensated == compensation, "the buyer's node says {known:?}");

    let cases = chain.cases(running.device).await?;
    anyhow::ensure!(cases.is_empty(), "so few watchers cannot open a case: {cases:?}");
    let (seats, jail_seats) = chain.seats().await?;
    chain.burn_sink().await?;
    let slashes = chain.slashes(running.device).await?;
    let report = Report {
        scenario: "lonely",
        verdict: "none",
        seats,
        jail_seats,
        trial: None,
        committee: 0,
        signatures: 0,
        device: running.device,
        lease: Some(running.lease),
        buyer_loss: closed.paid.checked_add(closed.forfeited)?.base_units(),
        buyer_compensation: compensation.base_units(),
        slashed: slashes.amount,
        sunk: slashes.sunk,
        reporter_reward: slashes.reward,
        jailed_until: chain.jailed_until(running.device).await?,
        seconds_to_verdict: None,
        seconds_to_compensation: Some(at.since(Timestamp::from_unix(killed)).get()),
        supply_before,
        supply_after: chain.supply().await?,
        burned: chain.burned().await?,
        healthy: None,
        asset: chain.quote.clone(),
        staked: chain.staked.clone(),
    };
    report.check()?;
    printer.data(&report, Report::text)?;
    Ok(scene)
}
