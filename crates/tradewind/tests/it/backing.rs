//! Who answers for a provider with money: itself, a sponsor, or nobody.

use serde_json::Value;
use tradewind_proto::supervision::Outcome;
use tradewind_proto::units::Money;

use crate::market::{BUYER, Job, LEDGER, Market, PROVIDER};

const SHORT: &str = "name: short\nrun: echo done\nresources: {cpus: 1, memory: 128MiB, disk: 64MiB}\n";

/// What a command of a person at a node prints, as JSON.
fn json(market: &Market, node: &str, arguments: &[&str]) -> Value {
    let output =
        market.command(node, &[&["--json"], arguments].concat()).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What a command says that is refused.
fn refused(market: &Market, node: &str, arguments: &[&str]) -> String {
    let output = market.command(node, arguments).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(125), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn machine(market: &Market) -> Value {
    market.ask("provider", "/v1/provider").expect("an answer")
}

fn runs(market: &Market, job: &Job) {
    let attempt = market.settled(job);
    assert_eq!(attempt.outcome, Some(Outcome::Finished { code: 0 }), "{attempt:?}");
    assert!(attempt.settled.is_some_and(|settled| settled.paid > Money::ZERO), "{attempt:?}");
}

/// Waits until a step of leaving has brought the stake there.
fn leaves(market: &Market, stake: u64) {
    market.until("the stake is where it belongs", || {
        json(market, "provider", &["provider", "leave"])["device"]["stake"].as_u64() == Some(stake)
    });
}

#[test]
fn a_stake_that_came_back_is_staked_and_taken_back_again() {
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    market.start("provider", PROVIDER);
    for round in 1..=2 {
        let device = machine(&market)["device"].clone();
        assert_eq!(
            (&device["state"], &device["stake"]),
            (&"ready".into(), &50_000_000.into()),
            "{round}: {device}"
        );
        leaves(&market, 0);
        market.kill("provider");
        market.again("provider");
    }
    assert_eq!(machine(&market)["device"]["state"], "ready");
}

#[test]
fn a_sponsor_stakes_the_device_of_another_and_gets_the_stake_back() {
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    market.start("sponsor", BUYER);
    market.start("buyer", BUYER);
    let sponsor = market.account("sponsor");
    market.start("provider", &PROVIDER.replace("stake = ", &format!("sponsor = \"{sponsor}\"\nstake = ")));
    let device = machine(&market)["device"].clone();
    assert_eq!(
        (&device["state"], &device["sponsor"]),
        (&"unstaked".into(), &sponsor.to_string().into()),
        "{device}"
    );
    let id = device["id"].as_str().expect("an id").to_owned();
    let job = market.submit(SHORT);
    market.hears_of(1);

    let stranger = refused(&market, "buyer", &["wallet", "stake", &id, "50"]);
    assert!(stranger.contains(&format!("is staked by {sponsor}")), "{stranger}");
    let much = refused(&market, "sponsor", &["wallet", "stake", &id, "5000000"]);
    assert!(much.contains("are missing"), "{much}");
    assert!(
        market.attempt(&job).is_none_or(|attempt| attempt.settled.is_none()),
        "nobody answers for it yet"
    );
    let stake = |market: &Market| {
        let staked = json(market, "sponsor", &["wallet", "stake", &id, "50"]);
        assert_eq!(
            (&staked["device"]["state"], &staked["device"]["stake"]),
            (&"ready".into(), &50_000_000.into())
        );
        staked["free"].as_u64().expect("an amount")
    };
    let free = stake(&market);
    market.until("the stake comes back to the sponsor", || {
        let left = json(&market, "sponsor", &["wallet", "unstake", &id]);
        left["device"]["stake"] == 0
            && left["free"].as_u64().is_some_and(|now| now + 100_000 >= free + 50_000_000)
    });
    market.kill("provider");
    market.again("provider");
    assert_eq!(machine(&market)["device"]["stake"], 0, "its owner stakes nothing for it");
    stake(&market);
    runs(&market, &job);
}

#[test]
fn without_a_stake_a_machine_serves_those_who_accept_that() {
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    market.start("provider", &PROVIDER.replace("stake = \"50\"", "stake = \"0\""));
    market.start("buyer", BUYER);
    market.hears_of(1);
    let view = machine(&market);
    assert_eq!((&view["unstaked"], &view["device"]["stake"]), (&Value::Bool(true), &0.into()), "{view}");
    let careful = market.submit(SHORT);
    let placing = || market.record(&careful).map(|record| format!("{:?}", record.state)).unwrap_or_default();
    market.until("a careful job says why it has no place", || placing().contains("trust_tier"));
    let bold = market.submit(&format!("{SHORT}placement: {{trust_tier: unstaked}}\n"));
    runs(&market, &bold);
    market.kill("provider");
    market.again("provider");
    runs(&market, &market.submit(&format!("{SHORT}placement: {{trust_tier: unstaked}}\n")));
    let left = json(&market, "provider", &["provider", "leave"]);
    assert_eq!(left["device"]["state"], "unstaked", "nothing is to come back: {left}");
}
