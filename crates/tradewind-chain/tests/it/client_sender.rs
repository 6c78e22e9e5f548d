//! The sender's promise: whatever the endpoint does, a call takes effect exactly once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy::consensus::{Transaction as _, TxEnvelope};
use alloy::eips::eip2718::Decodable2718 as _;
use alloy::primitives::{Address, Bytes, U256};
use alloy::providers::Provider as _;
use alloy::transports::BoxTransport;
use tokio::time::timeout;
use tradewind_chain::client::failover::{Endpoint, Failover, FailoverConfig};
use tradewind_chain::client::revert::RevertDecoder;
use tradewind_chain::client::sender::{Call, Sender, SenderConfig, SenderError};
use tradewind_chain::client::store::Store;
use tradewind_chain::embedded::{Dropped, Embedded};
use tradewind_chain::ledger::ActionStatus;
use tradewind_proto::signature::SigningKey;

use crate::client_faults::{Fault, Faulty};
use crate::fixture::{ALICE, Anvil, BOB, CHAIN_ID, http, open, raw, signer, transfer};

const RAW: &str = "eth_sendRawTransaction";

pub(crate) fn signing_key(key: &str) -> SigningKey {
    SigningKey::from_bytes(signer(key).to_bytes().0).unwrap()
}

fn config() -> SenderConfig {
    SenderConfig { stuck_after: Duration::from_millis(300), ..SenderConfig::local(CHAIN_ID) }
}

fn start_with(faulty: &Faulty, store: &Store, config: SenderConfig) -> Sender {
    let decoder = Arc::new(RevertDecoder::default());
    Sender::start(faulty.provider(), signing_key(ALICE), store.clone(), decoder, config).unwrap()
}

fn start(faulty: &Faulty, store: &Store) -> Sender {
    start_with(faulty, store, config())
}

fn pay(to: Address) -> Call {
    Call { to: Some(to), input: Bytes::new(), value: U256::from(7) }
}

fn someone(byte: u8) -> Address {
    Address::repeat_byte(byte)
}

async fn included(sender: &Sender, key: &str) -> ActionStatus {
    timeout(Duration::from_secs(20), sender.settled(key)).await.expect("settles in time").unwrap()
}

/// What `to` got: seven wei for each time that the payment took effect.
async fn received(ledger: &Embedded, to: Address) -> U256 {
    ledger.provider().get_balance(to).await.unwrap()
}

struct Bench {
    ledger: Embedded,
    faulty: Faulty,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let ledger = open();
        let faulty = Faulty::new(BoxTransport::new(ledger.transport()));
        Self { ledger, faulty, store: Store::in_memory().unwrap() }
    }

    /// One payment through an endpoint that was told to misbehave took effect once.
    async fn pays_once(&self) {
        let sender = start(&self.faulty, &self.store);
        sender.send("pay", pay(someone(1))).await.unwrap();
        assert!(included(&sender, "pay").await.is_included());
        assert!(self.faulty.is_played(), "the fault was met");
        assert_eq!(received(&self.ledger, someone(1)).await, U256::from(7));
    }
}

#[tokio::test]
async fn a_call_is_made_once_however_often_it_is_asked_for() {
    let bench = Bench::new();
    let sender = start(&bench.faulty, &bench.store);
    for _ in 0..5 {
        sender.send("pay", pay(someone(1))).await.unwrap();
    }
    assert!(included(&sender, "pay").await.is_included());
    sender.send("pay", pay(someone(1))).await.unwrap();
    sender.send("other", pay(someone(2))).await.unwrap();
    assert!(included(&sender, "other").await.is_included());
    assert_eq!(received(&bench.ledger, someone(1)).await, U256::from(7));
    assert_eq!(sender.status("never").unwrap(), None);
}

#[tokio::test]
async fn a_caller_that_stops_waiting_leaves_no_call_undone_and_no_other_in_its_place() {
    let bench = Bench::new();
    let sender = start(&bench.faulty, &bench.store);
    {
        let send = std::pin::pin!(sender.send("pay", pay(someone(1))));
        assert!(futures::poll!(send).is_pending(), "it is on its way to the disk");
    }
    sender.send("other", pay(someone(2))).await.unwrap();
    for (key, to) in [("pay", someone(1)), ("other", someone(2))] {
        assert!(included(&sender, key).await.is_included());
        assert_eq!(received(&bench.ledger, to).await, U256::from(7), "{key}");
    }
}

#[tokio::test]
async fn a_transaction_that_was_accepted_and_dropped_is_sent_again() {
    let bench = Bench::new();
    bench.faulty.next(RAW, Fault::Swallow);
    bench.pays_once().await;
}

#[tokio::test]
async fn a_transaction_that_was_included_and_reported_as_failed_is_not_paid_twice() {
    let bench = Bench::new();
    bench.faulty.next(RAW, Fault::DoneButFailed);
    bench.pays_once().await;
    assert_eq!(bench.faulty.raw().len(), 1);
}

#[tokio::test]
async fn nonsense_and_broken_connections_at_every_question_change_nothing() {
    let bench = Bench::new();
    for method in [
        "eth_getBlockByNumber",
        "eth_getTransactionCount",
        "eth_estimateGas",
        "eth_feeHistory",
        RAW,
        "eth_getTransactionReceipt",
    ] {
        bench.faulty.next(method, Fault::Answer("\"banana\"".into()));
        bench.faulty.next(method, Fault::Break);
    }
    bench.pays_once().await;
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_left_behind() {
    let bench = Bench::new();
    for method in [RAW, "eth_estimateGas", "eth_getTransactionReceipt"] {
        bench.faulty.next(method, Fault::Hang);
    }
    let patience = FailoverConfig {
        attempt: Duration::from_millis(100),
        min_backoff: Duration::ZERO,
        ..FailoverConfig::for_chain(CHAIN_ID)
    };
    let failover = Failover::new(vec![Endpoint::through("faulty", bench.faulty.boxed())], patience);
    let guarded = Faulty::new(BoxTransport::new(failover));
    let sender = start(&guarded, &bench.store);
    sender.send("pay", pay(someone(1))).await.unwrap();
    assert!(included(&sender, "pay").await.is_included());
    assert!(bench.faulty.is_played());
    assert_eq!(received(&bench.ledger, someone(1)).await, U256::from(7));
}

#[tokio::test(start_paused = true)]
async fn two_minutes_without_an_endpoint_delay_and_lose_nothing() {
    let bench = Bench::new();
    bench.faulty.set_down(true);
    let sender = start(&bench.faulty, &bench.store);
    for n in 1..=3 {
        sender.send(&format!("pay-{n}"), pay(someone(n))).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(sender.status("pay-1").unwrap(), Some(ActionStatus::Pending));
    assert!(bench.faulty.calls() < 60, "the sender backs off while nobody answers");
    bench.faulty.set_down(false);
    for n in 1..=3 {
        assert!(sender.settled(&format!("pay-{n}")).await.unwrap().is_included());
        assert_eq!(received(&bench.ledger, someone(n)).await, U256::from(7));
    }
}

#[tokio::test]
async fn a_restart_between_signing_and_inclusion_goes_on_with_the_same_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outbox.redb");
    let bench = Bench::new();
    bench.faulty.next(RAW, Fault::Swallow);
    {
        let store = Store::open(&path).unwrap();
        let sender = start_with(
            &bench.faulty,
            &store,
            SenderConfig { stuck_after: Duration::from_secs(60), ..config() },
        );
        sender.send("pay", pay(someone(1))).await.unwrap();
        while bench.faulty.raw().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(received(&bench.ledger, someone(1)).await, U256::ZERO);
    let store = reopened(&path).await;
    let sender = start(&bench.faulty, &store);
    sender.send("pay", pay(someone(1))).await.unwrap();
    assert!(included(&sender, "pay").await.is_included());
    assert_eq!(received(&bench.ledger, someone(1)).await, U256::from(7));
    let sent = bench.faulty.raw();
    assert!(sent.len() >= 2 && sent.iter().all(|raw| *raw == sent[0]), "the stored bytes were sent again");
}

/// The store, as soon as the stopped worker let go of it.
async fn reopened(path: &Path) -> Store {
    timeout(Duration::from_secs(5), async {
        loop {
            match Store::open(path) {
                Ok(store) => return store,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await
    .expect("the worker stops")
}

#[tokio::test]
async fn a_stuck_transaction_is_replaced_under_its_nonce_with_a_raised_fee() {
    let bench = Bench::new();
    bench.faulty.next(RAW, Fault::Swallow);
    bench.faulty.next(RAW, Fault::Swallow);
    bench.faulty.next(RAW, Fault::Swallow);
    let stuck_after = Duration::from_millis(60);
    let sender = start_with(&bench.faulty, &bench.store, SenderConfig { stuck_after, ..config() });
    sender.send("pay", pay(someone(1))).await.unwrap();
    assert!(included(&sender, "pay").await.is_included());
    assert_eq!(received(&bench.ledger, someone(1)).await, U256::from(7));
    let sent: Vec<TxEnvelope> =
        bench.faulty.raw().iter().map(|raw| TxEnvelope::decode_2718(&mut &raw[..]).unwrap()).collect();
    let (first, last) = (&sent[0], &sent[sent.len() - 1]);
    assert_eq!(first.nonce(), last.nonce());
    assert!(last.max_fee_per_gas() * 8 >= first.max_fee_per_gas() * 9);
}

#[tokio::test]
async fn a_nonce_that_another_transaction_took_is_given_up() {
    let bench = Bench::new();
    bench.faulty.next(RAW, Fault::Swallow);
    let slow = SenderConfig {
        stuck_after: Duration::from_secs(60),
        lost_after: Duration::from_millis(200),
        ..config()
    };
    let sender = start_with(&bench.faulty, &bench.store, slow);
    sender.send("pay", pay(someone(1))).await.unwrap();
    while bench.faulty.raw().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stranger = raw(ALICE, transfer(0, someone(9), 1));
    let _sent = bench.ledger.provider().send_raw_transaction(&stranger).await.unwrap();
    assert!(included(&sender, "pay").await.is_included());
    assert_eq!(received(&bench.ledger, someone(1)).await, U256::from(7));
}

#[tokio::test]
async fn a_call_that_the_chain_refuses_fails_without_spending_a_nonce_and_may_be_asked_for_again() {
    let bench = Bench::new();
    // PUSH0 PUSH0 REVERT
    let reverts = bench.ledger.provider();
    let code = Bytes::from_static(&[0x62, 0x5f, 0x5f, 0xfd, 0x5f, 0x52, 0x60, 0x03, 0x60, 0x1d, 0xf3]);
    let sender = start(&bench.faulty, &bench.store);
    sender.send("create", Call { to: None, input: code, value: U256::ZERO }).await.unwrap();
    let created = included(&sender, "create").await;
    let (ActionStatus::Final { tx, .. } | ActionStatus::Included { tx, .. }) = created else {
        panic!("not created: {created:?}")
    };
    let receipt = reverts.get_transaction_receipt(tx).await.unwrap().unwrap();
    let target = receipt.contract_address.unwrap();
    for _ in 0..2 {
        sender.send("refused", Call::new(target, Bytes::new())).await.unwrap();
        assert!(matches!(included(&sender, "refused").await, ActionStatus::Failed { .. }));
    }
    assert_eq!(reverts.get_transaction_count(sender.account()).await.unwrap(), 1);
    sender.send("pay", pay(someone(1))).await.unwrap();
    assert!(included(&sender, "pay").await.is_included());
}

#[tokio::test]
async fn a_reorg_sends_an_included_call_back_and_it_takes_effect_once_again() {
    let bench = Bench::new();
    let sender = start_with(&bench.faulty, &bench.store, SenderConfig { finality: 4, ..config() });
    sender.send("pay", pay(someone(1))).await.unwrap();
    let ActionStatus::Included { tx, .. } = included(&sender, "pay").await else { panic!("final too early") };
    bench.ledger.reorg(1, Dropped::Forget).await.unwrap();
    timeout(Duration::from_secs(10), async {
        while bench.ledger.provider().get_transaction_receipt(tx).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the transaction comes back");
    assert_eq!(received(&bench.ledger, someone(1)).await, U256::from(7));
    bench.ledger.mine(5).await.unwrap();
    timeout(Duration::from_secs(10), async {
        while !matches!(sender.status("pay").unwrap(), Some(ActionStatus::Final { .. })) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("becomes final");
}

#[tokio::test]
async fn a_full_outbox_says_so_and_takes_nothing() {
    let bench = Bench::new();
    bench.faulty.set_down(true);
    let sender = start_with(&bench.faulty, &bench.store, SenderConfig { max_pending: 2, ..config() });
    sender.send("a", pay(someone(1))).await.unwrap();
    sender.send("b", pay(someone(2))).await.unwrap();
    assert!(matches!(sender.send("c", pay(someone(3))).await, Err(SenderError::Full(2))));
    assert_eq!(sender.status("c").unwrap(), None);
}

#[tokio::test]
async fn fifty_calls_in_a_row_all_take_effect_on_anvil() {
    let anvil = Anvil::start();
    let store = Store::in_memory().unwrap();
    let decoder = Arc::new(RevertDecoder::default());
    let sender = Sender::start(http(&anvil.url), signing_key(BOB), store, decoder, config()).unwrap();
    for n in 0..50 {
        sender.send(&format!("pay-{n}"), pay(someone(5))).await.unwrap();
    }
    for n in 0..50 {
        assert!(included(&sender, &format!("pay-{n}")).await.is_included());
    }
    assert_eq!(http(&anvil.url).get_balance(someone(5)).await.unwrap(), U256::from(350));
    assert_eq!(sender.pending(), 0);
}
