use std::time::Duration;

use tradewind_proto::supervision::Outcome;
use tradewind_proto::units::Seconds;
use tradewind_sim::{Bounds, Market, Setup, Weather, runs};

use crate::{expect, outcomes, undisturbed, verdict};

#[test]
fn lost_doubled_garbled_and_forged_messages_change_nothing() {
    runs(6, async |seed| {
        // Longer than the calls that hang when two or three in a row are lost.
        let setup = Setup { patience: Seconds::new(60), ..Setup::default() };
        let market = Market::open(seed, setup).await;
        market.world.turn(Weather {
            loss: 15,
            duplicates: 200,
            garbled: 40,
            replays: 300,
            lag: Duration::from_secs(2),
            ..Weather::default()
        });
        market.submit("run: work 60 0").await;
        let (mut problems, world) = undisturbed(market).await;
        expect(&mut problems, world.counted("replays") > 0, "nobody replayed anything");
        (problems, world)
    });
}

#[test]
fn a_short_partition_ends_no_lease() {
    runs(4, async |seed| {
        let market = Market::open(seed, Setup::default()).await;
        let job = market.submit("run: work 80 0").await;
        assert!(market.until_running(job).await);
        market.pass(10 + seed).await;
        market.world.cut("buyer", "provider 1", true);
        // Less than the buyer's patience, with the calls that hang in it.
        market.pass(8).await;
        market.world.cut("buyer", "provider 1", false);
        undisturbed(market).await
    });
}

#[test]
fn a_partitioned_provider_is_replaced_and_both_leases_close() {
    runs(4, async |seed| {
        let market = Market::open(seed, Setup::default()).await;
        let job = market.submit("run: work 60 0\nretry: {attempts: 3}").await;
        assert!(market.until_running(job).await);
        market.pass(10 + seed).await;
        market.world.cut("buyer", "provider 1", true);
        market.until_settled(1_200).await;
        let mut problems = Vec::new();
        let ends = outcomes(&market);
        let expected = [Some(Outcome::ProviderFailed), Some(Outcome::Finished { code: 0 })];
        expect(&mut problems, ends == expected, format!("outcomes: {ends:?}"));
        // It works on, unpaid, until its slack is used up; the buyer's patience and the chain come on top.
        let bounds = Bounds { grace: Seconds::new(60), ..Bounds::default() };
        verdict(market, bounds, problems).await
    });
}
