//! A party that never comes back, or too late: what the other one loses is bounded, and the lease is closed all the same.

use std::time::{Duration, Instant};

use tradewind_chain::ledger::{LeaseEvent, LeaseStage};
use tradewind_proto::meter::exposure;
use tradewind_proto::supervision::Outcome;
use tradewind_proto::units::{Money, Seconds};

use super::{books_balance, counting, impatient, market_with};
use crate::market::{Job, Market};

/// What a relayer takes for ten submissions.
const FEES: Money = Money::from_base_units(10_000);

/// What the buyer has in the end: all that it had, less what was paid, plus what it was compensated with, less a few fees.
fn buyer_has_the_rest(market: &Market, before: Money, paid: Money, from_bond: Money) {
    let after = market.chain().money(market.account("buyer"));
    let least = before.saturating_sub(paid).checked_add(from_bond).expect("an amount");
    assert!(
        after >= least.saturating_sub(FEES),
        "{after} of {before}, {paid} paid, {from_bond} from the bond"
    );
    assert!(after <= least, "{after} of {before}, {paid} paid, {from_bond} from the bond");
}

fn job_of_a_vanishing_provider(market: &mut Market) -> (Job, Money) {
    let before = market.chain().money(market.account("buyer"));
    let job = market.submit(&counting(200));
    market.said(&job, "tick 2");
    market.destroy("provider");
    (job, before)
}

#[test]
fn the_buyer_of_a_provider_that_is_gone_is_compensated_by_its_challenge() {
    let mut market = market_with(&format!("{}challenge = true\n", impatient()));
    let (job, before) = job_of_a_vanishing_provider(&mut market);
    let gone = Instant::now();
    let attempt = market.settled(&job);
    assert_eq!(attempt.outcome, Some(Outcome::ProviderFailed));
    // Patience, the answer window and two inclusions, on a machine that does much else.
    assert!(gone.elapsed() < Duration::from_secs(60), "{:?}", gone.elapsed());
    let closed = books_balance(&market, &attempt);
    let chain = market.chain();
    assert!(chain.history().iter().any(|(_, event)| matches!(event, LeaseEvent::Defaulted { .. })));
    assert!(closed.bond_to_buyer >= closed.paid, "{closed:?}: a failure this early is refunded in full");
    buyer_has_the_rest(&market, before, closed.paid, closed.bond_to_buyer);
}

#[test]
fn the_buyer_of_a_provider_that_is_gone_gets_its_deposit_back_by_the_chain_alone() {
    let mut market = market_with(&impatient());
    let (job, before) = job_of_a_vanishing_provider(&mut market);
    let attempt = market.settled(&job);
    assert_eq!(attempt.outcome, Some(Outcome::ProviderFailed));
    let closed = books_balance(&market, &attempt);
    let worked = attempt.supervision.terms.rate.over(Seconds::new(2));
    let most = worked.checked_add(exposure(&attempt.supervision.terms)).expect("an amount");
    assert!(closed.paid.checked_add(closed.forfeited).expect("an amount") <= most, "{closed:?}");
    buyer_has_the_rest(
        &market,
        before,
        closed.paid.checked_add(closed.forfeited).expect("an amount"),
        Money::ZERO,
    );
}

#[test]
fn a_provider_whose_buyer_is_gone_stops_working_and_closes_with_its_last_voucher() {
    let mut market = market_with(&impatient());
    let job = market.submit(&counting(200));
    market.said(&job, "tick 3");
    let attempt = market.attempt(&job).expect("a lease");
    let (id, terms) = (attempt.supervision.id, attempt.supervision.terms.clone());
    market.kill("buyer");

    let work = market.path("provider").join(format!("provider/work/{id}/output/ticks"));
    let mut ticks = 0;
    let chain = market.chain();
    let begin = Instant::now();
    while chain.closed(id).is_none() {
        let said = std::fs::read_to_string(&work).unwrap_or_default();
        ticks = ticks.max(u64::try_from(said.lines().count()).expect("a count"));
        assert!(begin.elapsed() < crate::market::LONG, "never closed: {:?}", chain.lease(id));
        std::thread::sleep(Duration::from_millis(100));
    }
    let closed = books_balance(&market, &attempt);
    assert!(closed.paid >= terms.prepay, "what the meter signed is paid: {closed:?}");
    // The first tick is said when no second has passed.
    let worked = Seconds::new(ticks.saturating_sub(1));
    let lost = terms.rate.over(worked).saturating_sub(closed.paid);
    assert!(lost <= exposure(&terms), "{ticks} ticks of work, {} paid, {lost} lost", closed.paid);
    assert!(chain.history().iter().any(|(_, event)| matches!(event, LeaseEvent::Noticed { .. })));
    let hosted = || market.ask::<Vec<serde_json::Value>>("provider", "/v1/leases");
    market.until("nothing of the lease is left", || hosted().is_some_and(|leases| leases.is_empty()));
}

#[test]
fn a_provider_that_sleeps_through_the_window_keeps_what_it_settled_and_stops() {
    let mut market = market_with(&impatient());
    let before = market.chain().money(market.account("buyer"));
    let job = market.submit(&counting(200));
    market.said(&job, "tick 4");
    market.kill("provider");
    let attempt = market.settled(&job);
    assert_eq!(attempt.outcome, Some(Outcome::ProviderFailed));
    let id = attempt.supervision.id;
    assert!(market.chain().lease(id).stage >= LeaseStage::Settled, "the window is over");
    market.again("provider");

    let closed = books_balance(&market, &attempt);
    assert!(closed.paid >= attempt.supervision.terms.prepay || closed.forfeited > Money::ZERO, "{closed:?}");
    let spent = closed.paid.checked_add(closed.forfeited).expect("an amount");
    buyer_has_the_rest(&market, before, spent, closed.bond_to_buyer);
    let hosted = || market.ask::<Vec<serde_json::Value>>("provider", "/v1/leases");
    market.until("its sandbox is ended and removed", || hosted().is_some_and(|leases| leases.is_empty()));
}
