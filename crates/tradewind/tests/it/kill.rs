//! What goes wrong in the demonstration's scenarios, and what their reports claim: read again, and added up again.

mod storm;

use std::time::Duration;

use alloy::primitives::Address;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tradewind_chain::client::deploy::Timings;
use tradewind_chain::ledger::Parameters;
use tradewind_proto::claim::{Ending, Stage};
use tradewind_proto::units::{Money, Seconds};

use crate::fault::counting;
use crate::market::{BUYER, Market, PROVIDER};

/// The claims that every scenario makes. Supplies have more digits than a JSON library's own number type holds.
#[derive(Debug, Deserialize)]
struct Report {
    scenario: String,
    verdict: String,
    seats: u32,
    committee: u32,
    signatures: u32,
    buyer_loss: u128,
    buyer_compensation: u128,
    slashed: u128,
    sunk: u128,
    reporter_reward: u128,
    jailed_until: u64,
    seconds_to_verdict: Option<u64>,
    seconds_to_compensation: Option<u64>,
    supply_before: u128,
    supply_after: u128,
    burned: u128,
    convictions: Option<u32>,
    healthy: Option<Healthy>,
}

#[derive(Debug, Deserialize)]
struct Healthy {
    slashed: u128,
    jailed_until: u64,
    cases: usize,
    state: String,
    paid_before: u128,
    paid: u128,
    outage_seconds: u64,
}

/// What a device stakes, in base units of the network's token.
const STAKE: u128 = 50_000_000_000_000_000_000;

/// Plays a scenario to its end. All it says on stdout is one JSON object.
fn play(scenario: &str) -> Report {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("market");
    let place = place.to_str().expect("a path");
    let arguments = ["demo", "--scenario", scenario, "--exit", "--json", "--dir", place];
    let output = super::tradewind(dir.path(), &arguments);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let report: Report = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!(report.scenario, scenario);
    assert_eq!(report.slashed, report.reporter_reward + report.sunk, "{text}");
    assert!(report.reporter_reward * 10 <= report.slashed, "{text}");
    assert_eq!(report.supply_before, report.supply_after + report.burned, "{text}");
    assert_eq!(report.burned, report.sunk, "{text}");
    assert!(report.buyer_compensation >= report.buyer_loss, "{text}");
    println!("{text}");
    report
}

#[test]
fn a_dead_providers_buyer_is_compensated_where_too_few_watch_and_nobody_is_slashed() {
    let report = play("lonely");
    assert_eq!((report.verdict.as_str(), report.slashed, report.jailed_until), ("none", 0, 0));
    assert_eq!((report.seats, report.committee), (3, 0), "{report:?}");
    assert!(report.buyer_loss > 0 && report.seconds_to_compensation.is_some_and(|after| after < 120));
}

#[test]
fn a_dead_provider_is_convicted_slashed_and_burned_and_its_healthy_neighbour_is_not() {
    let report = play("blackout");
    assert_eq!((report.verdict.as_str(), report.seats, report.committee), ("guilty", 40, 11));
    assert!((8..=11).contains(&report.signatures), "{report:?}");
    let convictions = report.convictions.expect("a trial");
    let left = (0..convictions).fold(STAKE, |stake, _| stake - stake / 20);
    assert!(convictions > 0 && report.slashed == STAKE - left, "a twentieth for each epoch: {report:?}");
    assert!(report.buyer_loss > 0 && report.jailed_until > 0, "{report:?}");
    let healthy = report.healthy.expect("another provider");
    assert_eq!((healthy.slashed, healthy.jailed_until, healthy.cases), (0, 0, 0), "{healthy:?}");
    assert_eq!((healthy.state.as_str(), healthy.outage_seconds), ("open", 60));
    assert!(healthy.paid > healthy.paid_before, "{healthy:?}");
}

#[test]
fn a_cheating_device_is_slashed_by_one_dot_product_and_no_vote() {
    let report = play("cheat");
    assert_eq!((report.verdict.as_str(), report.committee, report.signatures), ("wrong element", 0, 0));
    assert_eq!(report.slashed, STAKE * 3 / 100, "silicon flips bits: the first costs three in a hundred");
    assert!(report.seconds_to_verdict.is_some(), "{report:?}");
}

#[test]
fn a_device_that_contradicts_itself_loses_all_its_stake_and_no_vote_is_cast() {
    let report = play("equivocate");
    assert_eq!((report.verdict.as_str(), report.committee, report.signatures), ("equivocation", 0, 0));
    assert_eq!(report.slashed, STAKE);
    assert_eq!(report.reporter_reward, STAKE / 10);
}

/// A ledger whose bonds are held for as long as its court may take.
fn patient_ledger() -> String {
    #[derive(Serialize)]
    struct Section {
        timings: Timings,
    }
    let windows = Parameters {
        window: Seconds::new(15),
        hard_limit: Seconds::new(240),
        min_cap_on_demand: Seconds::new(600),
        ..Timings::Tests.parameters(Address::ZERO)
    };
    let timings = toml::to_string(&Section { timings: Timings::Stated(windows) }).expect("a section");
    format!("[ledger]\nheartbeat = 1\n{}", timings.replace("[timings", "[ledger.timings"))
}

#[test]
fn a_buyer_killed_before_the_court_takes_its_claim_up_and_is_compensated() {
    let mut market = Market::new();
    market.start_ledger(&patient_ledger());
    market.start("provider", PROVIDER);
    market.start("buyer", &BUYER.replace("patience = 150", "patience = 5"));
    market.hears_of(1);
    for name in ["watcher-1", "watcher-2", "watcher-3"] {
        market.start(name, "[watcher]\nseats = 12\ninterval = 1\nwindow = 1000\nbonds = \"50\"\n");
    }
    market.until("36 seats are frozen into a roster", || {
        market.ask::<Value>("watcher-1", "/v1/watcher").is_some_and(|view| view["roster"] == 36)
    });
    let job = market.submit(&counting(280));
    market.said(&job, "tick 3");
    let lease = market.attempt(&job).expect("a lease").supervision.id;
    {
        let chain = market.chain();
        market.until("the provider was paid", || chain.lease(lease).paid > Money::ZERO);
    }
    market.destroy("provider");
    {
        let chain = market.chain();
        market.until("the buyer disputes the lease", || chain.lease(lease).flags.disputed);
    }
    market.kill("buyer");
    std::thread::sleep(Duration::from_secs(3));
    market.again("buyer");
    let claimed = || market.attempt(&job).and_then(|attempt| attempt.claim);
    market.until("the claim is over", || claimed().is_some_and(|claim| claim.is_over()));
    let claim = claimed().expect("a claim");
    assert_eq!(claim.stage, Stage::Over(Ending::Compensated), "{claim:?}");
    let chain = market.chain();
    market.until("the lease is closed", || chain.closed(lease).is_some());
    let closed = chain.closed(lease).expect("closed");
    assert!(closed.bond_to_buyer >= closed.paid && closed.bond_to_buyer == claim.awarded, "{closed:?}");
    let settled = market.attempt(&job).and_then(|attempt| attempt.settled).expect("settled");
    assert_eq!(settled.compensated, claim.awarded, "and the receipt says so");
}
