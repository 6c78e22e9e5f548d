//! What a lease costs as whole transactions on anvil, and what the nearest contracts of others cost for the same steps.
//!
//! | step | ours | iExec Boost | iExec classic | Sablier Flow |
//! |---|---|---|---|---|
//! | begin | `open` | `matchOrdersBoost` | `matchOrders` | `createAndDeposit` |
//! | one more payment | `settle` | – | – | `withdrawMax` |
//! | end | `close` | `pushResultBoost` | `initialize`, `contributeAndFinalize` | `void`, `withdrawMax`, `refundMax` |
//!
//! Everybody does it all once before the measured round, so that nobody pays for the first use of a slot. iExec has stake
//! and signed orders but no metering; Sablier has payment only: no bond, no stake, no signed terms. Neither has a court.

mod court;
mod iexec;
mod sablier;
mod tradewind;

use crate::anvil::Anvil;
use crate::figure::{Figure, number};
use crate::progress::say;

const UNIT: &str = "gas";
const BOOST: &str = "iExec PoCo Boost 6.1.0";
const CLASSIC: &str = "iExec PoCo classic 6.1.0";
const SABLIER: &str = "Sablier Flow 3.0.1";
/// The budgets of a whole lease and of one more settlement.
const LEASE: f64 = 170_000.0;
const SETTLE: f64 = 52_000.0;
/// The same of the proof of a wrong element.
const ELEMENT_SMALL: f64 = 150_000.0;
const ELEMENT_LARGE: f64 = 330_000.0;

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let anvil = Anvil::start()?;
    let ours = tradewind::measure(&anvil).await?;
    say(format_args!("  ours: {ours:?}"));
    let iexec = iexec::measure(&anvil).await?;
    say(format_args!("  iExec: {iexec:?}"));
    let sablier = sablier::measure(&anvil).await?;
    say(format_args!("  Sablier: {sablier:?}"));

    let court = court::measure(&Anvil::start()?).await?;
    say(format_args!("  court: {court:?}"));

    let figure = |name: &str, ours: u64, peer: &str, theirs: u64| {
        Figure::new(format!("gas: {name}"), number(ours), UNIT).beside(peer, number(theirs))
    };
    let boost = iexec.match_boost + iexec.push_boost;
    let classic = iexec.match_classic + iexec.initialize + iexec.finalize;
    let flow = sablier.create + sablier.end + sablier.withdraw_last + sablier.refund;
    let (relayed, direct) = (ours.open + ours.close_relayed, ours.open + ours.close_direct);
    let alone = |name: &str, gas: u64| Figure::new(format!("gas: {name}"), number(gas), UNIT);
    Ok(vec![
        alone("a verdict with 8 signatures", court.verdict),
        alone("an appeal", court.appeal),
        alone("a wrong element proved, n = 4096", court.small).at_most(ELEMENT_SMALL),
        alone("a wrong element proved, n = 16384", court.large).at_most(ELEMENT_LARGE),
        figure("open", ours.open, BOOST, iexec.match_boost),
        figure("open", ours.open, CLASSIC, iexec.match_classic),
        figure("open", ours.open, SABLIER, sablier.create),
        figure("one more settlement", ours.settle, SABLIER, sablier.withdraw).at_most(SETTLE),
        figure("close, relayed", ours.close_relayed, BOOST, iexec.push_boost),
        figure("close, relayed", ours.close_relayed, CLASSIC, iexec.initialize + iexec.finalize),
        figure("close, by the provider", ours.close_direct, SABLIER, flow - sablier.create),
        figure("a whole lease, relayed", relayed, BOOST, boost).at_most(LEASE),
        figure("a whole lease, relayed", relayed, CLASSIC, classic).at_most(LEASE),
        figure("a whole lease, relayed", relayed, SABLIER, flow).at_most(LEASE),
        figure("a whole lease, closed by the provider", direct, BOOST, boost).at_most(LEASE),
    ])
}
