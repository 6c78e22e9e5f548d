//! What a user's ledger promises across restarts, outages and reorganisations.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Bytes, U256};
use alloy::providers::Provider as _;
use alloy::transports::BoxTransport;
use tokio::time::timeout;
use tradewind_chain::client::artifacts;
use tradewind_chain::client::reader::Reader;
use tradewind_chain::client::relayed::{RelayedConfig, RelayedLedger};
use tradewind_chain::client::sender::{Call, Sender, SenderConfig};
use tradewind_chain::client::store::Store;
use tradewind_chain::client::wallet::Wallet;
use tradewind_chain::embedded::Dropped;
use tradewind_chain::ledger::{
    Action, ActionStatus, ChainEvent, EventCursor, Feed, LeaseStage, Ledger as _, LedgerError,
};
use tradewind_proto::units::Money;

use crate::client_faults::{Fault, Faulty};
use crate::client_market::{Market, act, dollars, key, opening, reference};
use crate::client_sender::signing_key;
use crate::fixture::{ALICE, CHAIN_ID, open};

#[tokio::test]
async fn an_action_that_was_taken_survives_an_outage_and_a_restart() {
    let ledger = open();
    let market = Market::open(ledger.provider()).await;
    market.faucet.drip(key(1).address()).await.unwrap();
    let faulty = Faulty::new(BoxTransport::new(ledger.transport()));
    faulty.set_down(true);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("client.redb");
    let start = |store: Store| {
        let reader =
            Reader::new(faulty.provider(), market.deployment.contracts, 0, Arc::new(artifacts::decoder()));
        let wallet = Wallet::new(key(1), market.deployment.contracts);
        let config = RelayedConfig::local(vec![market.relayer_url.clone()], market.deployment.block);
        RelayedLedger::start(reader, wallet, None, store, config).unwrap()
    };
    let token = market.deployment.stablecoin;
    let deposit = Action::Deposit { reference: reference("d"), token, amount: dollars(3) };
    let first = start(Store::open(&path).unwrap());
    let taken = first.submit(deposit.clone()).await.unwrap();
    assert!(matches!(first.lease(Default::default()).await, Err(LedgerError::Unavailable(_))));
    drop(first);
    let store = timeout(Duration::from_secs(5), async {
        loop {
            match Store::open(&path) {
                Ok(store) => return store,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await
    .expect("the ledger lets go of its file");
    let second = start(store);
    assert_eq!(second.status(&taken.key).await.unwrap(), Some(ActionStatus::Pending));
    faulty.set_down(false);
    for method in ["eth_getLogs", "eth_call", "eth_getBlockByNumber"] {
        faulty.next(method, Fault::Answer("\"banana\"".into()));
    }
    act(&second, deposit).await;
    assert_eq!(second.holdings(token, second.account()).await.unwrap(), dollars(997));
}

#[tokio::test]
async fn a_reorg_of_open_and_close_changes_nothing_in_the_end() {
    let ledger = open();
    let market = Market::open_with(ledger.provider(), 6).await;
    let config = || RelayedConfig {
        patience: Duration::from_millis(300),
        ..RelayedConfig::local(vec![market.relayer_url.clone()], market.deployment.block)
    };
    let fund = async |byte: u8| {
        let party = market.ledger_with(key(byte), config(), Store::in_memory().unwrap(), 6);
        market.faucet.drip(party.account()).await.unwrap();
        let token = market.deployment.stablecoin;
        act(&party, Action::Deposit { reference: reference(&byte.to_string()), token, amount: dollars(100) })
            .await;
        party
    };
    let (buyer, seller) = (fund(1).await, fund(2).await);
    ledger.mine(8).await.unwrap();
    let terms = market.terms(buyer.account(), seller.account()).await;
    let lease = terms.id(&buyer.domain()).unwrap();

    let open = opening(&buyer, &seller, &terms);
    act(&buyer, open.clone()).await;
    let included = buyer.status(&open.key(&buyer.domain()).unwrap()).await.unwrap();
    assert!(matches!(included, Some(ActionStatus::Included { .. })), "not final yet: {included:?}");
    ledger.reorg(1, Dropped::Forget).await.unwrap();
    reaches(&buyer, lease, LeaseStage::Open).await;

    let last = market.voucher(&terms, dollars(7), true);
    let close = Action::Close { terms: terms.clone(), voucher: Some(last) };
    act(&seller, close.clone()).await;
    ledger.reorg(2, Dropped::Forget).await.unwrap();
    reaches(&buyer, lease, LeaseStage::Closed).await;
    ledger.mine(8).await.unwrap();
    for (party, action) in [(&buyer, open), (&seller, close)] {
        let key = action.key(&buyer.domain()).unwrap();
        let is_final = async {
            while !matches!(party.status(&key).await.unwrap(), Some(ActionStatus::Final { .. })) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = timeout(Duration::from_secs(10), is_final).await;
        let (status, head) = (party.status(&key).await.unwrap(), party.head().await.unwrap());
        assert!(in_time.is_ok(), "{key} is {status:?} at {head:?}");
    }
    assert_eq!(buyer.lease(lease).await.unwrap().paid, dollars(7));
    let fee = Money::from_base_units(1_000);
    let free = buyer.balance(terms.token, buyer.account()).await.unwrap();
    assert_eq!(free, dollars(93).saturating_sub(fee).saturating_sub(fee), "each fee was paid once");
}

async fn reaches(ledger: &RelayedLedger, lease: tradewind_proto::ids::LeaseId, stage: LeaseStage) {
    let reached = async {
        while ledger.lease(lease).await.unwrap().stage != stage {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(15), reached).await.expect("reaches the stage");
}

#[tokio::test]
async fn an_account_with_gas_needs_no_relayer() {
    let ledger = open();
    let market = Market::open(ledger.provider()).await;
    let decoder = Arc::new(artifacts::decoder());
    let rich = Sender::start(
        ledger.provider(),
        signing_key(ALICE),
        Store::in_memory().unwrap(),
        Arc::clone(&decoder),
        SenderConfig::local(CHAIN_ID),
    )
    .unwrap();
    let gas =
        Call { to: Some(key(1).address()), input: Bytes::new(), value: U256::from(10).pow(U256::from(18)) };
    rich.send("gas", gas).await.unwrap();
    assert!(rich.settled("gas").await.unwrap().is_included());
    let store = Store::in_memory().unwrap();
    let own = Sender::start(ledger.provider(), key(1), store.clone(), decoder, SenderConfig::local(CHAIN_ID))
        .unwrap();
    let wallet = Wallet::new(key(1), market.deployment.contracts);
    let config = RelayedConfig::local(Vec::new(), market.deployment.block);
    let buyer = RelayedLedger::start(market.reader(0), wallet, Some(own), store, config).unwrap();
    market.faucet.drip(buyer.account()).await.unwrap();
    let token = market.deployment.stablecoin;
    act(&buyer, Action::Deposit { reference: reference("d"), token, amount: dollars(100) }).await;
    let seller = market.funded(key(2), dollars(50)).await;
    let terms = market.terms(buyer.account(), seller.account()).await;
    act(&buyer, opening(&buyer, &seller, &terms)).await;
    // The provider asks for the same lease: it is there already, and that is success.
    act(&seller, opening(&buyer, &seller, &terms)).await;
    assert_eq!(buyer.balance(token, buyer.account()).await.unwrap(), dollars(40), "no relayer was paid");
}

async fn read_all(ledger: &RelayedLedger, limit: usize) -> Vec<ChainEvent> {
    let (mut cursor, mut events) = (EventCursor::default(), Vec::new());
    loop {
        let page = ledger.events(cursor, limit).await.unwrap();
        if page.cursor == cursor && page.items.is_empty() {
            return events;
        }
        assert!(page.items.len() <= limit);
        cursor = page.cursor;
        events.extend(page.items.into_iter().map(|item| match item {
            Feed::Happened(event) => *event,
            Feed::Reorged { from } => panic!("no reorg happened, said to be from {from}"),
        }));
    }
}

#[tokio::test]
async fn events_read_one_by_one_are_the_events_read_at_once() {
    let ledger = open();
    let market = Market::open(ledger.provider()).await;
    let (buyer, seller) =
        (market.funded(key(1), dollars(100)).await, market.funded(key(2), dollars(50)).await);
    market.enroll(&seller, key(3).address()).await;
    let terms = market.terms(buyer.account(), seller.account()).await;
    act(&buyer, opening(&buyer, &seller, &terms)).await;
    let at_once = read_all(&buyer, 1_000).await;
    assert!(at_once.len() > 10, "{}", at_once.len());
    for limit in [1, 2, 3] {
        assert_eq!(read_all(&seller, limit).await, at_once);
    }
}

#[tokio::test]
async fn a_reorg_tells_consumers_what_to_undo_and_then_what_happened_instead() {
    let ledger = open();
    let market = Market::open(ledger.provider()).await;
    let buyer = market.funded(key(1), dollars(10)).await;
    let page = buyer.events(EventCursor::default(), 1_000).await.unwrap();
    assert!(!page.items.is_empty());
    let stable = page.cursor;
    ledger.mine(2).await.unwrap();
    let page = buyer.events(stable, 1_000).await.unwrap();
    let abandoned = page.cursor;
    assert_eq!(abandoned.block.number, stable.block.number + 2);
    ledger.reorg(2, Dropped::Forget).await.unwrap();
    let page = buyer.events(abandoned, 1_000).await.unwrap();
    assert_eq!(page.items, [Feed::Reorged { from: stable.block.number + 1 }]);
    assert_eq!(page.cursor.block, stable.block);
    let token = market.deployment.stablecoin;
    act(&buyer, Action::Deposit { reference: reference("more"), token, amount: dollars(1) }).await;
    let page = buyer.events(page.cursor, 1_000).await.unwrap();
    assert!(page.items.iter().any(|item| matches!(item, Feed::Happened(_))));
    assert!(ledger.provider().get_block_number().await.unwrap() >= page.cursor.block.number);
}
