use std::cell::Cell;

use tradewind_proto::supervision::Outcome;
use tradewind_sim::{Bounds, Market, Setup, run, runs};

use crate::{Verdict, expect, outcomes, undisturbed, verdict};

/// Crash points that are tried unless `TRADEWIND_SIM_RUNS` asks for more.
const TRIED: u64 = 8;

async fn a_lease(seed: u64, setup: Setup, points: &Cell<(u64, u64)>) -> Verdict {
    let market = Market::open(seed, setup).await;
    market.submit("run: work 30 0").await;
    market.until_settled(1_200).await;
    // Until the bond is back and everything of the lease is forgotten.
    market.pass(30).await;
    points.set((market.buyer.seat.points(), market.providers[0].seat.points()));
    undisturbed(market).await
}

/// Runs without a crash to count the points, then with one at points spread over all of them.
fn at_every_point(setup: impl Fn(u64) -> Setup, count: impl Fn((u64, u64)) -> u64) {
    let points = Cell::new((0, 0));
    run(1, async |seed| a_lease(seed, Setup::default(), &points).await);
    let total = count(points.get());
    assert!(total > 20, "only {total} points");
    let tried = std::env::var("TRADEWIND_SIM_RUNS").ok().and_then(|text| text.parse().ok());
    let tried = tried.unwrap_or(TRIED).min(total);
    for at in 0..tried {
        let point = 1 + at * total / tried;
        run(1, async |seed| {
            let (mut problems, world) = a_lease(seed, setup(point), &points).await;
            if !problems.is_empty() {
                problems.push(format!("crashed at point {point} of {total}"));
            }
            (problems, world)
        });
    }
}

#[test]
fn a_provider_that_crashes_anywhere_adopts_its_workload_and_is_paid() {
    at_every_point(
        |point| Setup { provider_crashes: vec![point], ..Setup::default() },
        |(_, provider)| provider,
    );
}

#[test]
fn a_buyer_that_crashes_anywhere_opens_once_and_pays_once() {
    at_every_point(|point| Setup { buyer_crashes: vec![point], ..Setup::default() }, |(buyer, _)| buyer);
}

#[test]
fn parties_that_crash_again_and_again_finish_their_lease() {
    runs(6, async |seed| {
        let crash = |n: u64| 5 + (seed * 37 + n * 53) % 60;
        let setup = Setup {
            buyer_crashes: (0..3).map(crash).collect(),
            provider_crashes: (3..6).map(crash).collect(),
            ..Setup::default()
        };
        let market = Market::open(seed, setup).await;
        market.submit("run: work 90 0").await;
        undisturbed(market).await
    });
}

#[test]
fn a_rebooted_machine_loses_the_work_and_no_money() {
    runs(3, async |seed| {
        let market = Market::open(seed, Setup::default()).await;
        let job = market.submit("run: work 60 0\nretry: {attempts: 3}").await;
        assert!(market.until_running(job).await);
        market.pass(15 + seed).await;
        market.providers[0].host.reboot();
        market.providers[0].seat.crash();
        market.until_settled(1_200).await;
        let mut problems = Vec::new();
        let ends = outcomes(&market);
        let expected = [Some(Outcome::ProviderFailed), Some(Outcome::Finished { code: 0 })];
        expect(&mut problems, ends == expected, format!("outcomes: {ends:?}"));
        verdict(market, Bounds::default(), problems).await
    });
}
