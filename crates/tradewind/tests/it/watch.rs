//! What a watcher that dies in a case says afterwards. Who is convicted and who is not: the demonstration's scenarios.

use std::time::Duration;

use serde_json::Value;
use tradewind_chain::ledger::court::{CaseStage, Outcome};

use crate::fault::counting;
use crate::market::{BUYER, LEDGER, Market, PROVIDER};

/// Seats of a node that ask every second or so.
const WATCHER: &str = "[watcher]\nseats = 12\ninterval = 1\nwindow = 1000\nbonds = \"50\"\n";
/// Ticks that no test waits for.
const LONG: u32 = 280;

/// Keeps its products to itself.
const SECRETIVE: &[&str] = &["hostile-device", "--lie", "nothing", "--config"];
/// Walks through less memory than it was told to.
const SHIRKING: &[&str] = &["hostile-device", "--lie", "memory", "--config"];

/// What a node says of the one device that is staked.
fn reputation(market: &Market, name: &str) -> Option<(u64, Value)> {
    let view: Value = market.ask(name, "/v1/reputations")?;
    Some((view["pages"].as_u64()?, view["devices"].get(0)?.clone()))
}

#[test]
fn watchers_testimony_comes_to_the_same_reputation_everywhere() {
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    market.start("provider", PROVIDER);
    market.start("buyer", BUYER);
    market.start("watcher-1", WATCHER);
    market.start("watcher-2", WATCHER);
    market.until("pages of two epochs are read", || {
        reputation(&market, "buyer")
            .is_some_and(|(pages, device)| pages > 6 && device["evidence"].as_u64() > Some(6))
    });
    let (_, device) = reputation(&market, "buyer").expect("an answer");
    assert_eq!(device["score"], Value::Null, "a newcomer is not rated: {device}");
    assert!(device["uptime"].as_u64() > Some(0), "it was seen: {device}");
    assert_eq!(device["strikes"], 1_000_000_000, "{device}");
    let rate = &device["memory"];
    assert!(rate["at_least"].as_u64() > Some(0) && rate["class"].is_null(), "it was measured: {device}");
    // A node that comes later reads back to the beginning.
    market.start("explorer", "[explorer]\n");
    market.until("another node comes to the same", || {
        reputation(&market, "explorer").is_some_and(|theirs| reputation(&market, "buyer") == Some(theirs))
    });
}

#[test]
fn a_device_that_walks_through_half_its_memory_is_not_measured_and_its_neighbour_is() {
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    market.start("provider", PROVIDER);
    market.start_hostile("shirking", SHIRKING, PROVIDER);
    market.start("buyer", BUYER);
    market.hears_of(2);
    market.start("watcher-1", WATCHER);
    let devices = || -> Vec<Value> {
        let view = market.ask::<Value>("buyer", "/v1/reputations").unwrap_or_default();
        view["devices"].as_array().cloned().unwrap_or_default()
    };
    market.until("one is found out", || market.logged("watcher-1", "walked wrongly"));
    market.until("both have passed their challenges, and one is measured", || {
        let devices = devices();
        devices.len() == 2
            && devices.iter().all(|device| device["challenges"].as_u64() > Some(0))
            && devices.iter().any(|device| !device["memory"].is_null())
    });
    assert!(devices().iter().any(|device| device["memory"].is_null()), "{:?}", devices());
}

const WATCHERS: [&str; 3] = ["watcher-1", "watcher-2", "watcher-3"];

/// A market whose provider is watched by 36 seats.
fn watched(provider: impl FnOnce(&mut Market)) -> Market {
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    provider(&mut market);
    market.start("buyer", BUYER);
    market.hears_of(1);
    for name in WATCHERS {
        market.start(name, WATCHER);
    }
    market.until("36 seats are frozen into a roster", || {
        let view: Option<Value> = market.ask("watcher-1", "/v1/watcher");
        view.is_some_and(|view| view["roster"] == 36 && view["level"] == "full")
    });
    market
}

#[test]
fn kill_a_watcher_in_a_case_and_it_says_nothing_else_afterwards() {
    let mut market = watched(|market| market.start("provider", PROVIDER));
    let job = market.submit(&counting(LONG));
    market.said(&job, "tick 2");
    market.destroy("provider");
    let chain = market.chain();
    market.until("a panel watches", || {
        chain.cases().first().is_some_and(|(_, case)| case.stage >= CaseStage::Panel)
    });
    drop(chain);
    market.kill("watcher-2");
    std::thread::sleep(Duration::from_secs(1));
    market.again("watcher-2");
    let chain = market.chain();
    market.until("the case is over", || {
        chain.cases().first().is_some_and(|(_, case)| case.stage == CaseStage::Closed)
    });
    let (_, case) = &chain.cases()[0];
    assert_eq!(case.outcome, Outcome::Guilty, "{case:?}");
    drop(chain);
    let took = WATCHERS.iter().any(|name| market.logged(name, "submitted others' ballots"));
    assert!(took, "one node submits what the others show");
    for name in WATCHERS {
        let view: Value = market.ask(name, "/v1/watcher").expect("an answer");
        let struck = |seat: &Value| seat["strikes"] != 0;
        let seats = view["seats"].as_array().expect("seats");
        assert_eq!(seats.len(), 12);
        assert!(seats.iter().all(|seat| seat["stake"] == 10_000_000), "nobody is slashed: {view}");
        assert!(!seats.iter().any(struck), "and nobody withheld a vote: {view}");
    }
}

#[test]
fn a_device_that_keeps_its_products_to_itself_is_convicted_though_it_answers_and_works() {
    let market = watched(|market| market.start_hostile("provider", SECRETIVE, PROVIDER));
    let job = market.submit(&counting(LONG));
    market.said(&job, "tick 2");
    let chain = market.chain();
    market.until("the case is over", || {
        chain.cases().first().is_some_and(|(_, case)| case.stage == CaseStage::Closed)
    });
    let (_, case) = &chain.cases()[0];
    assert_eq!(case.outcome, Outcome::Guilty, "{case:?}");
    drop(chain);
    let (_, device) = reputation(&market, "buyer").expect("an answer");
    assert!(device["strikes"].as_u64() < Some(1_000_000_000), "it has a strike: {device}");
    assert_eq!(device["challenges"], 0, "and passed nothing: {device}");
    assert!(device["uptime"].as_u64() > Some(0), "but it was there: {device}");
}
