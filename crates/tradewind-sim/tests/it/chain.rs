use tradewind_chain::ledger::{LeaseStage, Ledger as _};
use tradewind_sim::{Market, Setup, Weather, runs};

use crate::{Verdict, expect, undisturbed};

#[test]
fn an_rpc_that_is_down_for_two_minutes_ends_no_healthy_lease() {
    runs(4, async |seed| {
        let market = Market::open(seed, Setup::default()).await;
        let job = market.submit("run: work 170 0").await;
        assert!(market.until_running(job).await);
        market.pass(5 + seed).await;
        market.world.turn(Weather { rpc_down: true, ..Weather::default() });
        market.pass(120).await;
        let busy = market.providers[0].host.is_busy();
        market.world.turn(Weather::default());
        let (mut problems, world) = undisturbed(market).await;
        expect(&mut problems, busy, "the workload ended during the outage");
        (problems, world)
    });
}

#[test]
fn an_rpc_that_hangs_and_talks_nonsense_costs_nothing() {
    runs(4, async |seed| {
        let market = Market::open(seed, Setup::default()).await;
        market.world.turn(Weather { rpc_nonsense: 120, rpc_hangs: 20, ..Weather::default() });
        market.submit("run: work 60 0").await;
        let (mut problems, world) = undisturbed(market).await;
        expect(&mut problems, world.counted("rpc nonsense") > 0, "there was no nonsense");
        (problems, world)
    });
}

#[test]
fn transactions_that_are_dropped_or_denied_after_all_count_once() {
    runs(4, async |seed| {
        let market = Market::open(seed, Setup::default()).await;
        market.world.turn(Weather { rpc_swallows: 450, rpc_denies: 450, ..Weather::default() });
        market.submit("run: work 60 0").await;
        let (mut problems, world) = undisturbed(market).await;
        let faults = world.counted("rpc swallows") + world.counted("rpc denies");
        expect(&mut problems, faults > 0, "nothing was dropped or denied");
        (problems, world)
    });
}

#[test]
fn a_deposit_that_takes_longer_than_terms_wait_costs_no_provider() {
    runs(4, async |seed| {
        let market = Market::open(seed, Setup::default()).await;
        market.world.turn(Weather { rpc_swallows: 1_000, ..Weather::default() });
        market.submit("run: work 60 0").await;
        market.pass(50).await;
        market.world.turn(Weather::default());
        let (mut problems, world) = undisturbed(market).await;
        expect(&mut problems, world.counted("rpc swallows") > 0, "no transaction was dropped");
        (problems, world)
    });
}

/// Waits until the chain shows the lease in `stage`, and removes the block that brought it there.
async fn forget(seed: u64, stage: LeaseStage) -> Verdict {
    let market = Market::open(seed, Setup::default()).await;
    let job = market.submit("run: work 40 0").await;
    let ledger = market.buyer.seat.ledger();
    let mut shown = LeaseStage::None;
    for _ in 0..1_000 {
        market.pass(1).await;
        let Some(attempt) = market.attempt(job) else { continue };
        shown = ledger.lease(attempt.supervision.id).await.map_or(shown, |record| record.stage);
        if shown == stage {
            break;
        }
    }
    let late = seed % 3;
    market.pass(late).await;
    market.chain.reorganise(2).await;
    let lease = market.attempt(job).map(|attempt| attempt.supervision.id).unwrap_or_default();
    let after = ledger.lease(lease).await.map(|record| record.stage);
    let (mut problems, world) = undisturbed(market).await;
    expect(&mut problems, shown == stage, format!("the lease was {shown:?}"));
    expect(&mut problems, late == 2 || after.is_ok_and(|after| after < stage), "the reorg took nothing back");
    (problems, world)
}

#[test]
fn a_reorg_of_open_is_opened_again() {
    runs(6, |seed| forget(seed, LeaseStage::Open));
}

#[test]
fn a_reorg_of_close_is_closed_again() {
    runs(4, |seed| forget(seed, LeaseStage::Closed));
}
