//! `kill -9` of each process at each step, and a ledger that hangs.

use std::time::Duration;

use tradewind_chain::ledger::{LeaseEvent, LeaseStage};
use tradewind_proto::meter::voucher_interval;
use tradewind_proto::report::Stage;
use tradewind_proto::units::Money;

use super::{counting, ends_well};
use crate::market::{Job, Market};

/// How long a killed process stays away.
const AWAY: Duration = Duration::from_secs(2);
const TICKS: u32 = 10;

/// A step of a lease, as its buyer sees it begin.
type Step = fn(&Market, &Job) -> bool;

const RUNNING: Step = |market, job| market.log(job).contains("tick 3\n");
const OPENING: Step = |market, job| market.attempt(job).is_some();
const CLOSING: Step = |market, job| {
    market.attempt(job).and_then(|attempt| attempt.supervision.report).is_some_and(|report| {
        matches!(report.stage, Stage::Collecting | Stage::Finished) || report.exit.is_some()
    })
};

/// Kills `who` as soon as the job has come so far, and lets it come back.
fn dies(who: &str, step: Step) {
    let mut market = Market::of_two();
    let job = market.submit(&counting(TICKS));
    market.until("the step begins", || step(&market, &job));
    market.kill(who);
    std::thread::sleep(AWAY);
    market.again(who);
    ends_well(&market, &job, TICKS);
    assert_eq!(market.record(&job).expect("a record").attempts.len(), 1, "it is not placed again");
}

#[test]
fn a_job_is_adopted_by_a_provider_that_was_killed_under_it() {
    dies("provider", RUNNING);
}

#[test]
fn a_buyer_that_was_killed_under_its_job_pays_and_gets_the_outputs() {
    dies("buyer", RUNNING);
}

#[test]
fn a_ledger_and_relayer_killed_under_a_lease_lose_and_double_nothing() {
    dies("ledger", RUNNING);
}

#[test]
fn a_provider_killed_while_a_lease_opens_opens_it_once() {
    dies("provider", OPENING);
}

#[test]
fn a_buyer_killed_while_a_lease_opens_takes_it_up() {
    dies("buyer", OPENING);
}

#[test]
fn a_ledger_killed_while_a_lease_opens_opens_it_once() {
    dies("ledger", OPENING);
}

#[test]
fn a_provider_killed_while_a_lease_closes_is_paid_once() {
    dies("provider", CLOSING);
}

#[test]
fn a_buyer_killed_while_a_lease_closes_pays_once() {
    dies("buyer", CLOSING);
}

#[test]
fn a_ledger_killed_while_a_lease_closes_closes_it_once() {
    dies("ledger", CLOSING);
}

#[test]
fn a_hanging_ledger_stops_neither_work_nor_vouchers() {
    const LONG: u32 = 24;
    let market = Market::of_two();
    let job = market.submit(&counting(LONG));
    market.said(&job, "tick 3");
    let signed = || market.attempt(&job).map_or(Money::ZERO, |attempt| attempt.supervision.signed);
    let (terms, before) = (market.attempt(&job).expect("a lease").supervision.terms, signed());

    market.freeze("ledger");
    // Longer than either side gives the other credit for.
    let credit = terms.slack.plus(voucher_interval(&terms)).get();
    let meanwhile = 3 + credit + 2;
    market.said(&job, &format!("tick {meanwhile}"));
    let grown = signed().saturating_sub(before);
    market.thaw("ledger");
    assert!(grown > terms.rate.over(voucher_interval(&terms)), "vouchers went on: {grown} more");

    let attempt = ends_well(&market, &job, LONG);
    let chain = market.chain();
    let harm = |event: &LeaseEvent| {
        matches!(
            event,
            LeaseEvent::Noticed { .. } | LeaseEvent::CloseRequested { .. } | LeaseEvent::Challenged { .. }
        )
    };
    assert!(!chain.history().iter().any(|(_, event)| harm(event)), "no healthy lease is killed");
    assert_eq!(chain.lease(attempt.supervision.id).stage, LeaseStage::Closed);
}
