//! Leases through the user's ledger, on the embedded ledger and on anvil: neither party ever holds gas.

use alloy::primitives::{B256, U256};
use alloy::providers::{DynProvider, Provider as _};
use tradewind_chain::ledger::court::Tribunal as _;
use tradewind_chain::ledger::{
    Action, ActionStatus, EventCursor, Feed, LeaseEvent, LeaseStage, Ledger as _, LedgerEvent,
};
use tradewind_proto::ids::LeaseId;
use tradewind_proto::units::Money;

use crate::client_market::{Market, act, dollars, key, opening, outcome, reference};
use crate::fixture::{Anvil, http, open};

async fn opens_settles_and_closes(provider: DynProvider) {
    let market = Market::open(provider).await;
    let (buyer, seller) =
        (market.funded(key(1), dollars(100)).await, market.funded(key(2), dollars(50)).await);
    let device = market.enroll(&seller, key(3).address()).await;
    let mut terms = market.terms(buyer.account(), seller.account()).await;
    (terms.device, terms.units, terms.unstaked) = (device, 1, false);
    let lease = terms.id(&buyer.domain()).unwrap();

    let open = opening(&buyer, &seller, &terms);
    assert_eq!(buyer.lease(lease).await.unwrap().stage, LeaseStage::None);
    act(&buyer, open).await;
    assert_eq!(seller.lease(lease).await.unwrap().stage, LeaseStage::Open);
    assert_eq!(seller.device(device).await.unwrap().unwrap().busy_units, 1);

    let voucher = market.voucher(&terms, dollars(6), false);
    act(&seller, Action::Settle { terms: terms.clone(), voucher }).await;
    assert_eq!(buyer.lease(lease).await.unwrap().paid, dollars(6));
    let last = market.voucher(&terms, dollars(7), true);
    act(&seller, Action::Close { terms: terms.clone(), voucher: Some(last) }).await;

    let record = buyer.lease(lease).await.unwrap();
    assert_eq!((record.stage, record.paid), (LeaseStage::Closed, dollars(7)));
    assert_eq!(seller.device(device).await.unwrap().unwrap().busy_units, 0);
    let fees = |count: u64| Money::from_base_units(1_000 * count);
    let balance = async |account| market.reader(0).clone().provider().get_balance(account).await.unwrap();
    assert_eq!(balance(buyer.account()).await + balance(seller.account()).await, U256::ZERO, "no gas");
    let free = buyer.balance(terms.token, buyer.account()).await.unwrap();
    assert_eq!(free, dollars(93).saturating_sub(fees(2)), "deposit and open cost a fee each");
    let earned = market.relayer.account();
    assert_eq!(buyer.balance(terms.token, earned).await.unwrap(), fees(9));

    let page = buyer.events(EventCursor::default(), 1_000).await.unwrap();
    let opened = page.items.iter().find_map(|item| match item {
        Feed::Happened(event) if matches!(event.event, LedgerEvent::Lease { lease: id, .. } if id == lease) => {
            Some(event.tx)
        }
        Feed::Happened(_) | Feed::Reorged { .. } => None,
    });
    let opened = opened.expect("the opening");
    let reader = market.reader(0);
    assert_eq!(
        reader.terms_of(lease, opened).await.unwrap(),
        Some(terms.clone()),
        "through the relayer's call"
    );
    assert_eq!(reader.terms_of(LeaseId::default(), opened).await.unwrap(), None);
    let story: Vec<LeaseEvent> = page
        .items
        .into_iter()
        .filter_map(|item| {
            let Feed::Happened(event) = item else { return None };
            let LedgerEvent::Lease { lease: id, happened } = event.event else { return None };
            (id == lease).then_some(happened)
        })
        .collect();
    assert!(matches!(story[0], LeaseEvent::Opened(opening) if opening.deposit == dollars(60)), "{story:?}");
    assert_eq!(story[1], LeaseEvent::Settled { paid: dollars(6) });
    assert!(matches!(story.last(), Some(LeaseEvent::Closed { paid, .. }) if *paid == dollars(7)));
}

#[tokio::test]
async fn a_lease_opens_settles_and_closes_without_gas_on_the_embedded_ledger() {
    let ledger = open();
    opens_settles_and_closes(ledger.provider()).await;
}

#[tokio::test]
async fn a_lease_opens_settles_and_closes_without_gas_on_anvil() {
    let anvil = Anvil::start();
    opens_settles_and_closes(http(&anvil.url)).await;
}

#[tokio::test]
async fn a_refused_action_fails_with_the_contracts_words_and_may_be_tried_again() {
    let ledger = open();
    let market = Market::open(ledger.provider()).await;
    let buyer = market.funded(key(1), dollars(20)).await;
    let seller = market.funded(key(2), dollars(50)).await;
    let terms = market.terms(buyer.account(), seller.account()).await;
    let open = opening(&buyer, &seller, &terms);
    let ActionStatus::Failed { reason } = outcome(&buyer, open.clone()).await else { panic!("too little") };
    assert!(reason.starts_with("InsufficientBalance: token="), "{reason}");
    let more = Action::Deposit { reference: reference("more"), token: terms.token, amount: dollars(80) };
    act(&buyer, more).await;
    act(&buyer, open).await;
}

#[tokio::test]
async fn a_deposit_that_is_asked_for_twice_happens_once() {
    let ledger = open();
    let market = Market::open(ledger.provider()).await;
    let buyer = market.funded(key(1), dollars(20)).await;
    let again = Action::Deposit {
        reference: reference(&format!("deposit of {}", buyer.account())),
        token: market.deployment.stablecoin,
        amount: dollars(20),
    };
    act(&buyer, again.clone()).await;
    drop(buyer);
    // A new outbox that knows nothing of the first: the chain remembers.
    let buyer = market.ledger(key(1));
    act(&buyer, again).await;
    let free = buyer.balance(market.deployment.stablecoin, buyer.account()).await.unwrap();
    assert!(free <= dollars(20), "{free}");
}

#[tokio::test]
async fn a_chain_of_actions_may_be_submitted_at_once() {
    let ledger = open();
    let market = Market::open(ledger.provider()).await;
    let seller = market.ledger(key(2));
    market.faucet.drip(seller.account()).await.unwrap();
    let token = market.deployment.stablecoin;
    let device = tradewind_proto::ids::DeviceId::derive(seller.account(), key(3).address());
    let mesh_key = tradewind_proto::ids::MeshKey::from_bytes([1; 32]);
    let chain = [
        Action::Deposit { reference: reference("deposit"), token, amount: dollars(9) },
        Action::Register { reference: reference("entry"), mesh_key, metadata: B256::ZERO },
        Action::AddDevice { key: key(3).address(), sponsor: None, class: 0, units: 4 },
        Action::Stake { reference: reference("stake"), device, amount: dollars(4) },
    ];
    let mut keys = Vec::new();
    for action in chain {
        keys.push(seller.submit(action).await.unwrap().key);
    }
    for key in keys {
        assert!(seller.settled(&key).await.unwrap().is_included(), "{key}");
    }
    assert_eq!(seller.device(device).await.unwrap().unwrap().stake, dollars(4));
    let page = seller.providers(0, 10).await.unwrap();
    assert_eq!((page.providers.len(), page.providers[0].mesh_key, page.next), (1, mesh_key, None));
}
