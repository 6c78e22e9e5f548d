//! What needs no vote: a device that computes wrongly, or contradicts itself, is proved to do so by whoever watches it.
//!
//! ```text
//! a hostile device registers, stakes, and answers watchers ─► one of them finds the lie ─► one transaction: the court recomputes
//!   a dot product, or compares two statements ─► slash; a tenth to the reporter, the rest burns
//! ```

use anyhow::Context;
use tradewind_proto::units::Timestamp;

use super::hostile::Lie;
use super::market::{Market, provider};
use super::report::Report;
use super::scene::{Scene, now, until};
use crate::printer::Printer;

/// Each with a seat. A proof needs no more: nobody votes.
const WATCHERS: u32 = 3;
/// The hostile device's process.
const HOSTILE: &str = "hostile";

pub(super) async fn show(
    scenario: &'static str,
    lie: Lie,
    printer: Printer,
    market: &mut Market,
) -> anyhow::Result<Scene> {
    let scene = Scene::open(printer, market).await?;
    let chain = &scene.chain;
    let supply_before = chain.supply().await?;
    scene.watch(printer, market, WATCHERS, 1).await?;
    let bar = printer.spinner("a device joins whose answers are lies");
    market.start_hostile(HOSTILE, lie, |config| config.provider = Some(provider("0.36")))?;
    let device = until("the device is in the registry", async || chain.first_device().await).await?;
    let began = Timestamp::from_unix(now());
    bar.finish_and_clear();
    let bar = printer.spinner("watchers question it");
    let (verdict, at) = until("the lie is proved", async || chain.proved(device).await).await?;
    bar.finish_and_clear();
    market.kill(HOSTILE).await?;
    printer.step(&format!("proved on chain: {verdict}"));
    let cases = chain.cases(device).await?;
    anyhow::ensure!(cases.is_empty(), "nobody was to vote: {cases:?}");
    chain.burn_sink().await?;
    let slashes = chain.slashes(device).await?;
    let (seats, jail_seats) = chain.seats().await?;
    let report = Report {
        scenario,
        verdict,
        seats,
        jail_seats,
        committee: 0,
        signatures: 0,
        device,
        lease: None,
        buyer_loss: 0,
        buyer_compensation: 0,
        slashed: slashes.amount,
        sunk: slashes.sunk,
        reporter_reward: slashes.reward,
        jailed_until: chain.jailed_until(device).await?,
        seconds_to_verdict: Some(at.since(began).get()),
        seconds_to_compensation: None,
        supply_before,
        supply_after: chain.supply().await?,
        burned: chain.burned().await?,
        asset: chain.quote.clone(),
        staked: chain.staked.clone(),
        trial: None,
        healthy: None,
    };
    anyhow::ensure!(verdict == lie.verdict(), "another lie was proved: {verdict}");
    report.check().with_context(|| format!("the scenario `{scenario}`"))?;
    printer.data(&report, Report::text)?;
    Ok(scene)
}
