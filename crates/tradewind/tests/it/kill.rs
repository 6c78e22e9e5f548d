//! What goes wrong in the demonstration's scenarios, and what their reports claim: read again, and added up again.

use serde::Deserialize;

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
