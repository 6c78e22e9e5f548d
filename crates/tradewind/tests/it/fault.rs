//! What happens to a job and its money when a process of the market dies, hangs, or never comes back.
//!
//! The job says `tick n` each second and writes down every start, so that a second run, a lost output or a second payment would
//! show. What each end of it owes is checked on the chain itself.

mod crash;
mod loss;

use tradewind_buyer::job::record::Attempt;
use tradewind_chain::ledger::LeaseEvent;
use tradewind_proto::meter::exposure;
use tradewind_proto::supervision::Outcome;
use tradewind_proto::units::Money;

use crate::market::{BUYER, Closed, Job, LEDGER, Market, PROVIDER};

/// A job of so many seconds.
pub(crate) fn counting(seconds: u32) -> String {
    format!(
        "name: counting\n\
         run: |\n\
        \x20 mkdir -p output && echo started >> output/starts\n\
        \x20 for i in $(seq 1 {seconds}); do echo \"tick $i\" | tee -a output/ticks; sleep 1; done\n\
         outputs: [output]\n\
         resources: {{cpus: 1, memory: 128MiB, disk: 64MiB}}\n\
         max_cost: 1\n\
         timeout: 5m\n"
    )
}

/// Waits for the good end of a job that something happened to: it ran once, and all that it left is here.
pub(crate) fn finished_whole(market: &Market, job: &Job, seconds: u32) -> Attempt {
    let attempt = market.settled(job);
    assert_eq!(attempt.outcome, Some(Outcome::Finished { code: 0 }), "{attempt:?}");
    let output =
        |name: &str| std::fs::read_to_string(job.output.join("output").join(name)).expect("an output");
    assert_eq!(output("starts"), "started\n", "the job ran once");
    let ticks: String = (1..=seconds).map(|tick| format!("tick {tick}\n")).collect();
    assert_eq!(output("ticks"), ticks, "and to its end");
    assert_eq!(market.log(job), ticks, "its log is whole, and no line came twice");
    attempt
}

/// Waits for the good end of a job that something happened to, and checks what everybody owes everybody.
fn ends_well(market: &Market, job: &Job, seconds: u32) -> Attempt {
    let attempt = finished_whole(market, job, seconds);
    let closed = books_balance(market, &attempt);
    assert_eq!(closed.refunded, attempt.settled.expect("settled").refunded);
    let report = attempt.supervision.report.as_ref().expect("a report");
    let terms = &attempt.supervision.terms;
    let owed = report.run.due(terms, report.run.until.expect("it ended"));
    assert!(closed.paid <= owed.checked_add(exposure(terms)).expect("an amount"), "{closed:?}, {owed} owed");
    attempt
}

/// Waits until the lease is closed on chain; it is the only one, and its money adds up.
fn books_balance(market: &Market, attempt: &Attempt) -> Closed {
    let (chain, lease) = (market.chain(), attempt.supervision.id);
    market.until("the lease is closed on chain", || chain.closed(lease).is_some());
    let closed = chain.closed(lease).expect("closed");
    let parts = [closed.paid, closed.refunded, closed.forfeited, closed.buyer_fee];
    let sum = parts.iter().try_fold(Money::ZERO, |sum, part| sum.checked_add(*part)).expect("a sum");
    assert_eq!(sum, attempt.supervision.terms.deposit, "{closed:?}");
    assert_eq!(chain.opened(), 1, "one job, one lease");
    let ends = |event: &&LeaseEvent| matches!(event, LeaseEvent::Closed { .. });
    assert_eq!(chain.history().iter().map(|(_, event)| event).filter(ends).count(), 1, "paid once");
    closed
}

/// Ledger, a provider that closes an unpaid lease soon, and this buyer.
fn market_with(buyer: &str) -> Market {
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    market.start("provider", &format!("{PROVIDER}notice = 3\nkeep = 1\n"));
    market.start("buyer", buyer);
    market.hears_of(1);
    market
}

/// A buyer that gives a silent provider up soon.
fn impatient() -> String {
    BUYER.replace("patience = 150", "patience = 5")
}
