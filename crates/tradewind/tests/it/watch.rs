//! Watchers over real providers: who is convicted, who is not, and what a watcher that dies in a case says afterwards.

use std::time::Duration;

use serde_json::Value;
use tradewind_chain::ledger::court::{CaseStage, Outcome};
use tradewind_proto::ids::DeviceId;

use crate::fault::counting;
use crate::market::{BUYER, Job, LEDGER, Market, PROVIDER};

/// Seats of a node that ask every second or so.
const WATCHER: &str = "[watcher]\nseats = 12\ninterval = 1\nwindow = 1000\nbonds = \"50\"\n";
/// Ticks that no test waits for.
const LONG: u32 = 280;

/// A market whose providers are watched by 36 seats.
fn watched(providers: &[&str]) -> Market {
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    for name in providers {
        market.start(name, PROVIDER);
    }
    market.start("buyer", BUYER);
    market.hears_of(providers.len());
    for name in ["watcher-1", "watcher-2", "watcher-3"] {
        market.start(name, WATCHER);
    }
    market.until("36 seats are frozen into a roster", || {
        let view: Option<Value> = market.ask("watcher-1", "/v1/watcher");
        view.is_some_and(|view| view["roster"] == 36 && view["level"] == "full")
    });
    market
}

fn device(market: &Market, job: &Job) -> DeviceId {
    market.attempt(job).expect("a lease").supervision.terms.device
}

#[test]
fn kill_a_provider_at_work_and_its_watchers_convict_and_slash_it() {
    let mut market = watched(&["provider"]);
    let job = market.submit(&counting(LONG));
    market.said(&job, "tick 2");
    let accused = device(&market, &job);
    let chain = market.chain();
    let before = chain.device(accused).stake.base_units();
    drop(chain);
    market.destroy("provider");
    let chain = market.chain();
    market.until("a committee convicts it", || {
        chain.cases().first().is_some_and(|(_, case)| case.stage >= CaseStage::Convicted)
    });
    assert!(chain.device(accused).jailed_until.unix() > 0);
    market.until("the appeal's window passes and the stake is slashed", || {
        chain.cases().iter().any(|(_, case)| case.outcome == Outcome::Guilty && !case.slash_due)
    });
    assert_eq!(chain.device(accused).stake.base_units(), before * 95 / 100);
    market.until("fees and bond are paid out", || {
        chain.cases().iter().all(|(_, case)| case.stage == CaseStage::Closed)
    });
    let (_, case) = &chain.cases()[0];
    assert_eq!(chain.cases().len(), 1, "a device is accused once an epoch");
    assert!(case.guilty >= 8 && case.clear == 0, "{case:?}");
}

#[test]
fn kill_a_watcher_in_a_case_and_it_says_nothing_else_afterwards() {
    let mut market = watched(&["provider"]);
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
    for name in ["watcher-1", "watcher-2", "watcher-3"] {
        let view: Value = market.ask(name, "/v1/watcher").expect("an answer");
        let struck = |seat: &Value| seat["strikes"] != 0;
        let seats = view["seats"].as_array().expect("seats");
        assert_eq!(seats.len(), 12);
        assert!(seats.iter().all(|seat| seat["stake"] == 10_000_000), "nobody is slashed: {view}");
        assert!(!seats.iter().any(struck), "and nobody withheld a vote: {view}");
    }
}

#[test]
fn kill_nobody_and_nobody_is_accused() {
    let market = watched(&["provider"]);
    let job = market.submit(&counting(LONG));
    market.said(&job, "tick 30");
    let accused = device(&market, &job);
    let chain = market.chain();
    assert_eq!(chain.cases(), []);
    let record = chain.device(accused);
    assert_eq!((record.jailed_until.unix(), record.stake.base_units()), (0, 50_000_000));
}
