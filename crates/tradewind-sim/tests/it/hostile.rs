use tradewind_chain::ledger::{Action, ActionStatus, Ledger};
use tradewind_proto::conversation::{Answer, Request};
use tradewind_proto::ids::JobId;
use tradewind_proto::supervision::Outcome;
use tradewind_proto::units::{Money, Seconds, Timestamp};
use tradewind_proto::voucher::{SignedVoucher, Voucher};
use tradewind_sim::{Bounds, Closing, Market, Setup, runs};

use crate::{Verdict, expect, outcomes, undisturbed, verdict};

async fn running(seed: u64, setup: Setup, text: &str) -> (Market, JobId) {
    let market = Market::open(seed, setup).await;
    let job = market.submit(text).await;
    assert!(market.until_running(job).await);
    market.pass(15 + seed).await;
    (market, job)
}

/// How the job's first lease closed.
async fn closing(market: &Market, job: JobId) -> Option<Closing> {
    let id = market.job(job)?.attempts.first()?.supervision.id;
    market.leases().await.get(&id)?.closing
}

fn voucher(market: &Market, job: JobId, cumulative: Money, last: bool) -> SignedVoucher {
    let attempt = market.attempt(job).unwrap();
    let voucher =
        Voucher { lease: attempt.supervision.id, cumulative, not_before: Timestamp::default(), last };
    let key = if last { market.buyer.seat.key.clone() } else { market.buyer.meter() };
    voucher.sign(&market.chain.deployment.contracts.domain(), &key).unwrap()
}

/// What becomes of an action that a party sends beside its node.
async fn outcome_of(ledger: impl Ledger, action: Action) -> ActionStatus {
    let submission = ledger.submit(action).await.unwrap();
    ledger.settled(&submission.key).await.unwrap()
}

#[test]
fn a_buyer_that_stops_paying_gets_no_more_than_the_bound() {
    runs(4, async |seed| {
        let (market, job) = running(seed, Setup::default(), "run: work 200 0").await;
        market.buyer.seat.is_silent_about(|request| matches!(request, Request::Pay(_)));
        market.until_settled(1_200).await;
        market.pass(60).await;
        let closed = closing(&market, job).await;
        let free = closed.is_some_and(|closing| closing.bond_to_buyer.is_zero());
        let mut problems = Vec::new();
        expect(&mut problems, free, format!("the provider paid for leaving: {closed:?}"));
        verdict(market, Bounds::default(), problems).await
    });
}

#[test]
fn a_provider_that_stops_serving_and_bills_on_gets_no_more_than_the_bound() {
    runs(4, async |seed| {
        let (market, _) = running(seed, Setup::default(), "run: work 200 0\nretry: {attempts: 2}").await;
        let provider = &market.providers[0];
        provider.host.idle();
        provider.seat.is_silent_about(|request| !matches!(request, Request::Pay(_)));
        market.until_settled(1_200).await;
        let mut problems = Vec::new();
        let ends = outcomes(&market);
        let expected = [Some(Outcome::ProviderFailed), Some(Outcome::Finished { code: 0 })];
        expect(&mut problems, ends == expected, format!("outcomes: {ends:?}"));
        verdict(market, Bounds::default(), problems).await
    });
}

#[test]
fn a_last_voucher_over_nothing_erases_nothing() {
    runs(3, async |seed| {
        let (market, job) = running(seed, Setup::default(), "run: work 60 0").await;
        let mut problems = Vec::new();
        let terms = market.attempt(job).unwrap().supervision.terms;
        for cumulative in [Money::ZERO, terms.prepay] {
            let voucher = voucher(&market, job, cumulative, true);
            let answer = market.ask(&market.buyer.seat, &Request::Pay(voucher)).await;
            let refused = matches!(answer, Some(Answer::Refused(_)));
            expect(
                &mut problems,
                refused,
                format!("the provider took a last voucher of {cumulative}: {answer:?}"),
            );
            let ledger = market.buyer.seat.ledger();
            let lease = voucher.voucher.lease;
            let before = ledger.lease(lease).await.unwrap();
            // What is below the amount paid already counts as done; what is not is refused. Neither changes anything.
            outcome_of(ledger.clone(), Action::Settle { terms: terms.clone(), voucher }).await;
            let after = ledger.lease(lease).await.unwrap();
            let same = after.stage.is_live() && after.paid >= before.paid;
            expect(&mut problems, same, format!("the chain took a last voucher of {cumulative}: {after:?}"));
        }
        let (more, world) = undisturbed(market).await;
        problems.extend(more);
        (problems, world)
    });
}

#[test]
fn a_stolen_meter_key_takes_no_more_than_the_cap() {
    runs(3, async |seed| {
        let (market, job) = running(seed, Setup::default(), "run: work 60 0").await;
        let mut problems = Vec::new();
        let terms = market.attempt(job).unwrap().supervision.terms;
        let thief = market.providers[0].seat.ledger();
        let greedy = voucher(&market, job, terms.deposit, false);
        let status =
            outcome_of(thief.clone(), Action::Settle { terms: terms.clone(), voucher: greedy }).await;
        let refused = matches!(status, ActionStatus::Failed { .. });
        expect(&mut problems, refused, format!("the whole deposit: {status:?}"));
        for _ in 0..4 {
            // The most that will count when the next block is made.
            let most = terms.cap(market.world.now());
            let voucher = voucher(&market, job, most, false);
            let status = outcome_of(thief.clone(), Action::Settle { terms: terms.clone(), voucher }).await;
            expect(&mut problems, status.is_included(), format!("{most}: {status:?}"));
        }
        let bounds = Bounds { only_signed_is_paid: false, ..Bounds::default() };
        verdict(market, bounds, problems).await
    });
}

/// The provider is gone from the middle of the lease until long after its window.
async fn asleep(seed: u64, challenge: bool) -> Verdict {
    let setup = Setup { providers: 1, challenge, ..Setup::default() };
    let (market, job) = running(seed, setup, "run: work 60 0").await;
    market.providers[0].seat.keep_down(true);
    let settled = market.until_settled(600).await;
    let mut problems = Vec::new();
    expect(&mut problems, settled, "the buyer alone did not get out");
    let ends = outcomes(&market);
    expect(&mut problems, ends == [Some(Outcome::ProviderFailed)], format!("outcomes: {ends:?}"));
    market.providers[0].seat.keep_down(false);
    market.pass(120).await;
    let closed = closing(&market, job).await;
    let compensated = closed.is_some_and(|closing| !closing.bond_to_buyer.is_zero());
    expect(&mut problems, compensated == challenge, format!("compensation: {closed:?}"));
    let bounds = Bounds { provider_is_paid: false, grace: Seconds::new(6), ..Bounds::default() };
    verdict(market, bounds, problems).await
}

#[test]
fn a_provider_that_sleeps_through_the_window_loses_what_it_did_not_settle() {
    runs(3, |seed| asleep(seed, false));
}

#[test]
fn a_dead_providers_buyer_challenges_and_is_compensated() {
    runs(3, |seed| asleep(seed, true));
}

#[test]
fn a_provider_that_leaves_early_pays_its_break_fee() {
    runs(3, async |seed| {
        let (market, job) = running(seed, Setup::default(), "run: work 200 0").await;
        let terms = market.attempt(job).unwrap().supervision.terms;
        let close = Action::Close { terms: terms.clone(), voucher: None };
        let status = outcome_of(market.providers[0].seat.ledger(), close).await;
        let mut problems = Vec::new();
        expect(&mut problems, status.is_included(), format!("{status:?}"));
        market.until_settled(600).await;
        market.pass(60).await;
        let closed = closing(&market, job).await;
        let paid = closed.is_some_and(|closing| closing.bond_to_buyer == terms.provider_break_fee);
        expect(&mut problems, paid, format!("the break fee is {}: {closed:?}", terms.provider_break_fee));
        // Who leaves like that forgoes the vouchers that it did not settle.
        verdict(market, Bounds { provider_is_paid: false, ..Bounds::default() }, problems).await
    });
}

#[test]
fn a_provider_that_drives_a_reserved_buyer_away_earns_no_break_fee() {
    runs(3, async |seed| {
        let text = "run: work 200 0\nmarket: reserved\ntimeout: 4m";
        let (market, job) = running(seed, Setup { providers: 1, ..Setup::default() }, text).await;
        market.providers[0].host.idle();
        market.providers[0].seat.is_silent_about(|_| true);
        market.until_settled(1_200).await;
        market.pass(120).await;
        let closed = closing(&market, job).await;
        let mut problems = Vec::new();
        let unrewarded = closed.is_some_and(|closing| closing.buyer_fee.is_zero());
        expect(&mut problems, unrewarded, format!("{closed:?}"));
        verdict(market, Bounds::default(), problems).await
    });
}
