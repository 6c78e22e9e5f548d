//! Every way out of a lease, through the user's ledger and without gas.

use alloy::primitives::B256;
use tradewind_chain::embedded::Embedded;
use tradewind_chain::ledger::{Action, ActionStatus, LeaseStage, Ledger as _, NoticeKind};
use tradewind_proto::units::{Money, Timestamp};

use crate::client_market::{Market, Running, act, dollars, outcome};
use crate::fixture::open;

async fn lease() -> (Embedded, Market, Running) {
    let ledger = open();
    let market = Market::open(ledger.provider()).await;
    let running = Running::start(&market).await;
    (ledger, market, running)
}

async fn later(ledger: &Embedded, seconds: u64) {
    ledger.advance_time(seconds).await.unwrap();
    ledger.mine(1).await.unwrap();
}

#[tokio::test]
async fn a_buyer_leaves_alone_after_the_window() {
    let (ledger, market, Running { buyer, terms, lease, .. }) = lease().await;
    act(&buyer, Action::RequestClose { terms: terms.clone() }).await;
    assert_eq!(buyer.lease(lease).await.unwrap().stage, LeaseStage::Closing);
    let early = outcome(&buyer, Action::Finalize { terms: terms.clone() }).await;
    assert!(matches!(&early, ActionStatus::Failed { reason } if reason.starts_with("TooEarly")), "{early:?}");
    later(&ledger, 10).await;
    act(&buyer, Action::Finalize { terms: terms.clone() }).await;
    later(&ledger, 10).await;
    act(&buyer, Action::ReleaseBond { terms: terms.clone() }).await;
    assert_eq!(buyer.lease(lease).await.unwrap().stage, LeaseStage::Closed);
    let free = buyer.balance(market.deployment.stablecoin, buyer.account()).await.unwrap();
    assert!(free > dollars(194) && free < dollars(195), "all but the forfeited prepayment and fees: {free}");
}

#[tokio::test]
async fn a_dead_providers_buyer_is_paid_by_an_unanswered_challenge() {
    let (ledger, _market, running) = lease().await;
    let Running { buyer, terms, .. } = &running;
    act(buyer, Action::Challenge { terms: terms.clone(), sequence: 0 }).await;
    assert!(running.record().await.flags.challenged);
    later(&ledger, 10).await;
    act(buyer, Action::Defaulted { terms: terms.clone() }).await;
    let record = running.record().await;
    assert_eq!((record.stage, record.flags.defaulted), (LeaseStage::Settled, true));
    later(&ledger, 20).await;
    act(buyer, Action::ReleaseBond { terms: terms.clone() }).await;
    assert_eq!(running.record().await.stage, LeaseStage::Closed);
}

#[tokio::test]
async fn a_living_provider_answers_every_challenge() {
    let (ledger, _market, running) = lease().await;
    let Running { buyer, seller, terms, .. } = &running;
    for sequence in 0..2 {
        later(&ledger, 2).await;
        act(buyer, Action::Challenge { terms: terms.clone(), sequence }).await;
        let challenged_at = running.record().await.challenged_at;
        act(seller, Action::Answer { terms: terms.clone(), challenged_at }).await;
        let record = running.record().await;
        assert_eq!((record.challenges, record.flags.challenged), (sequence + 1, false));
    }
}

#[tokio::test]
async fn an_unpaid_notice_is_cured_by_a_voucher_and_may_be_given_again() {
    let (ledger, market, running) = lease().await;
    let Running { seller, terms, .. } = &running;
    later(&ledger, 20).await;
    let notice = |previous: Timestamp, voucher| Action::Notice {
        kind: NoticeKind::Unpaid,
        terms: terms.clone(),
        voucher,
        previous,
    };
    act(seller, notice(Timestamp::default(), None)).await;
    let first = running.record().await;
    assert_eq!(first.stage, LeaseStage::NoticedUnpaid);
    let voucher = market.voucher(terms, dollars(25), false);
    act(seller, Action::Settle { terms: terms.clone(), voucher }).await;
    assert_eq!(running.record().await.stage, LeaseStage::Open);
    later(&ledger, 30).await;
    act(seller, notice(first.notice_at, Some(voucher))).await;
    assert!(running.record().await.notice_at > first.notice_at);
    act(seller, Action::Close { terms: terms.clone(), voucher: None }).await;
    assert_eq!(running.record().await.stage, LeaseStage::Settled);
}

#[tokio::test]
async fn a_forgotten_lease_expires_by_anyones_call() {
    let (ledger, _market, running) = lease().await;
    let Running { seller, terms, .. } = &running;
    later(&ledger, 70).await;
    act(seller, Action::Expire { terms: terms.clone() }).await;
    assert_eq!(running.record().await.stage, LeaseStage::Settled);
}

#[tokio::test]
async fn a_dispute_that_no_court_decides_ends_by_itself() {
    let (ledger, market, running) = lease().await;
    let Running { buyer, seller, terms, .. } = &running;
    let voucher = market.voucher(terms, dollars(6), false);
    act(seller, Action::Settle { terms: terms.clone(), voucher }).await;
    let dispute = Action::Dispute { terms: terms.clone(), claim: dollars(3), evidence: B256::repeat_byte(1) };
    act(buyer, dispute).await;
    let record = running.record().await;
    assert_eq!((record.flags.disputed, record.claim), (true, dollars(3)));
    let ruling = outcome(buyer, Action::Resolve { terms: terms.clone() }).await;
    assert!(
        matches!(&ruling, ActionStatus::Failed { reason } if reason.starts_with("NoRuling")),
        "{ruling:?}"
    );
    act(buyer, Action::RequestClose { terms: terms.clone() }).await;
    later(&ledger, 10).await;
    act(buyer, Action::Finalize { terms: terms.clone() }).await;
    later(&ledger, 30).await;
    act(buyer, Action::ReleaseBond { terms: terms.clone() }).await;
    assert_eq!(running.record().await.stage, LeaseStage::Closed);
}

#[tokio::test]
async fn both_sides_checkpoint_is_acknowledged_and_a_lease_is_extended() {
    let (_ledger, market, running) = lease().await;
    let Running { buyer, seller, terms, lease } = &running;
    let voucher = market.voucher(terms, dollars(6), false);
    act(seller, Action::Settle { terms: terms.clone(), voucher }).await;
    let checkpoint = tradewind_chain::ledger::Checkpoint {
        lease: *lease,
        paid_at: dollars(6),
        root: B256::repeat_byte(2),
        at: running.record().await.opened_at,
    };
    let acknowledge = Action::Acknowledge {
        terms: terms.clone(),
        checkpoint,
        provider: seller.wallet().sign_checkpoint(&checkpoint),
        buyer: buyer.wallet().sign_checkpoint(&checkpoint),
    };
    act(buyer, acknowledge).await;
    assert_eq!(running.record().await.checkpoint_paid, dollars(6));

    let mut next = market.terms(buyer.account(), seller.account()).await;
    next.parent = lease.get();
    let extend = Action::Extend {
        terms: terms.clone(),
        voucher: market.voucher(terms, dollars(7), true),
        next: Box::new(next.clone()),
        buyer: buyer.wallet().sign_terms(&next).unwrap(),
        provider: seller.wallet().sign_terms(&next).unwrap(),
    };
    act(seller, extend).await;
    let next_id = next.id(&buyer.domain()).unwrap();
    assert_eq!(running.record().await.stage, LeaseStage::Closed);
    assert_eq!(buyer.lease(next_id).await.unwrap().stage, LeaseStage::Open);
}

#[tokio::test]
async fn money_and_stake_come_out_again() {
    let ledger = open();
    let market = Market::open(ledger.provider()).await;
    let seller = market.funded(crate::client_market::key(2), dollars(50)).await;
    let device = market.enroll(&seller, crate::client_market::key(3).address()).await;
    let of = crate::client_market::reference;
    act(&seller, Action::Unbond { reference: of("unbond"), device }).await;
    assert!(seller.device(device).await.unwrap().unwrap().unbonding_at.is_some());
    later(&ledger, 10).await;
    act(&seller, Action::WithdrawStake { reference: of("out"), device }).await;
    assert_eq!(seller.device(device).await.unwrap().unwrap().stake, Money::ZERO);
    let token = market.deployment.stablecoin;
    let free = seller.balance(token, seller.account()).await.unwrap();
    let amount = free.saturating_sub(dollars(1));
    let to = alloy::primitives::Address::repeat_byte(0x77);
    act(&seller, Action::Withdraw { reference: of("withdraw"), token, to, amount }).await;
    assert_eq!(seller.holdings(token, to).await.unwrap(), amount);
}
