//! A party that never comes back, or too late: what the other one loses is bounded, and the lease is closed all the same.

use tradewind_chain::ledger::LeaseStage;
use tradewind_proto::supervision::Outcome;
use tradewind_proto::units::Money;

use super::{books_balance, counting, impatient, market_with};
use crate::market::Market;

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
