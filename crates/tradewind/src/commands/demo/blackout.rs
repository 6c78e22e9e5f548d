//! A court's case: a provider dies in mid-lease, a committee convicts it, and another one that did nothing wrong is left alone.
//!
//! ```text
//! two jobs run on two providers, and are paid for ─► kill -9 of one ─► the buyer disputes; watchers open a case
//!   ─► 8 of 11 convict: jail ─► the appeal passes unused: slash, compensation, burn ─► the RPC endpoint fails for a minute
//! ```

use std::time::Duration;

use anyhow::Context;
use tradewind_chain::ledger::court::{CaseStage, Outcome};
use tradewind_chain::ledger::{LeaseEvent, Ledger as _};
use tradewind_proto::units::Timestamp;

use super::chain::Chain;
use super::market::{Market, provider};
use super::report::{self, Healthy, Report, Trial};
use super::scene::{Running, Scene, buyer, now, until};
use crate::printer::Printer;

/// Processes that watch,
const WATCHERS: u32 = 5;
/// with so many seats each.
const SEATS: u16 = 8;
/// How long the RPC endpoint is down.
const OUTAGE: Duration = Duration::from_secs(60);
/// The providers' nodes.
const PROVIDERS: [&str; 2] = ["provider-1", "provider-2"];

pub(super) async fn show(printer: Printer, market: &mut Market) -> anyhow::Result<Scene> {
    let mut scene = Scene::open(printer, market).await?;
    let supply_before = scene.chain.supply().await?;
    let bar = printer.spinner("starting two providers and a buyer");
    let mut sellers = Vec::new();
    for name in PROVIDERS {
        sellers.push((name, market.start(name, |config| config.provider = Some(provider("0.36")))?));
    }
    let payer = market.start("buyer", |config| config.buyer = Some(buyer(false)))?;
    for node in sellers.iter().map(|(_, node)| node).chain([&payer]) {
        market.up(node).await?;
    }
    market.offers(&payer, PROVIDERS.len()).await?;
    bar.finish_and_clear();
    scene.watch(printer, market, WATCHERS, SEATS).await?;
    let bar = printer.spinner("a job runs on each provider and is paid for");
    let lost = scene.run(market, &payer, "lost").await?;
    let kept = scene.run(market, &payer, "kept").await?;
    bar.finish_and_clear();
    anyhow::ensure!(lost.device != kept.device, "both jobs run on one device");
    let mut victim = None;
    for (name, node) in &sellers {
        if node.status().await?.account == lost.provider.account().to_string() {
            victim = Some(*name);
        }
    }
    market.kill(victim.context("no node is the job's provider")?).await?;
    let killed = Timestamp::from_unix(now());
    printer.step("one provider's machine is gone; its watchers miss it, and its buyer disputes the lease");

    let mut report = convicted(printer, &scene.chain, &lost, killed, supply_before).await?;
    let paid_before = scene.chain.ledger.lease(kept.lease).await?.paid;
    let bar = printer.spinner("the RPC endpoint is down for a minute");
    scene.outage(OUTAGE).await;
    bar.finish_and_clear();
    report.healthy = Some(healthy(&scene.chain, &kept, paid_before.base_units()).await?);
    report.check()?;
    printer.data(&report, Report::text)?;
    Ok(scene)
}

/// Follows the case to its end, and the money with it.
async fn convicted(
    printer: Printer,
    chain: &Chain,
    lost: &Running,
    killed: Timestamp,
    supply_before: u128,
) -> anyhow::Result<Report> {
    let judged =
        async || Ok(chain.cases(lost.device).await?.into_iter().find(|case| case.convicted_at.is_some()));
    let convicted = until("a committee convicts it", judged).await?.convicted_at.unwrap_or_default();
    printer.step("a committee convicts it: it is jailed, and an appeal may be made");
    let slashed = async || {
        let cases = chain.cases(lost.device).await?;
        Ok(cases.into_iter().find(|case| case.outcome == Outcome::Guilty && !case.slash_due))
    };
    let case = until("the appeal's window passes and its stake is slashed", slashed).await?;
    let slashed_at = Timestamp::from_unix(now());
    printer.step("nobody appealed: its stake is slashed");
    let closed = until("the lease is closed", async || chain.closed(lost.lease).await).await?;
    let (at, awarded) = awarded(chain, lost).await?.context("the court awarded nothing")?;
    printer.step("the buyer is compensated out of the lease's bond");
    // Where one epoch went over into the next, a second watcher may have accused it of the next one too.
    let over = async || {
        let cases = chain.cases(lost.device).await?;
        let is_over = cases.iter().all(|case| case.stage >= CaseStage::Decided && !case.slash_due);
        Ok(is_over.then_some(cases))
    };
    let cases = until("every case is over", over).await?;
    let convictions = cases.iter().filter(|case| case.outcome == Outcome::Guilty).count();
    chain.burn_sink().await?;
    let slashes = chain.slashes(lost.device).await?;
    let (seats, jail_seats) = chain.seats().await?;
    Ok(Report {
        scenario: "blackout",
        verdict: report::verdict(case.outcome),
        seats,
        jail_seats,
        committee: case.committee.count_ones(),
        signatures: case.revealed.count_ones(),
        device: lost.device,
        lease: Some(lost.lease),
        buyer_loss: closed.paid.checked_add(closed.forfeited)?.base_units(),
        buyer_compensation: awarded,
        slashed: slashes.amount,
        sunk: slashes.sunk,
        reporter_reward: slashes.reward,
        jailed_until: chain.jailed_until(lost.device).await?,
        seconds_to_verdict: Some(convicted.since(killed).get()),
        seconds_to_compensation: Some(at.since(killed).get()),
        supply_before,
        supply_after: chain.supply().await?,
        burned: chain.burned().await?,
        asset: chain.quote.clone(),
        staked: chain.staked.clone(),
        trial: Some(Trial {
            watchers: WATCHERS,
            guilty: case.guilty.into(),
            convictions,
            seconds_to_slash: slashed_at.since(killed).get(),
        }),
        healthy: None,
    })
}

/// When the court's word was carried out, and what it gave the buyer.
async fn awarded(chain: &Chain, lost: &Running) -> anyhow::Result<Option<(Timestamp, u128)>> {
    let ended = |event: &LeaseEvent| {
        let LeaseEvent::DisputeEnded { award } = event else { return None };
        Some(award.base_units())
    };
    chain.find(lost.lease, ended).await
}

/// The other provider, once it settled after the outage.
async fn healthy(chain: &Chain, kept: &Running, paid_before: u128) -> anyhow::Result<Healthy> {
    let settled = async || {
        let record = chain.ledger.lease(kept.lease).await?;
        Ok((record.paid.base_units() > paid_before).then_some(record))
    };
    let record = until("the other provider settles again", settled).await?;
    Ok(Healthy {
        device: kept.device,
        slashed: chain.slashes(kept.device).await?.amount,
        jailed_until: chain.jailed_until(kept.device).await?,
        cases: chain.cases(kept.device).await?.len(),
        lease: kept.lease,
        state: record.stage,
        paid_before,
        paid: record.paid.base_units(),
        outage_seconds: OUTAGE.as_secs(),
    })
}
