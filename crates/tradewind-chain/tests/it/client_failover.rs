//! Several endpoints, none of them trusted.

use std::time::Duration;

use alloy::primitives::Address;
use alloy::providers::{DynProvider, Provider as _, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::TransactionRequest;
use alloy::transports::{BoxTransport, RpcError};
use tradewind_chain::client::failover::{Endpoint, Failover, FailoverConfig};
use tradewind_chain::embedded::{Embedded, EmbeddedConfig, Genesis};

use crate::client_faults::{Fault, Faulty};
use crate::fixture::{CHAIN_ID, open};

fn faulty(ledger: &Embedded) -> Faulty {
    Faulty::new(BoxTransport::new(ledger.transport()))
}

fn over(endpoints: &[&Faulty]) -> DynProvider {
    over_with(
        endpoints,
        FailoverConfig { attempt: Duration::from_millis(500), ..FailoverConfig::for_chain(CHAIN_ID) },
    )
}

fn over_with(endpoints: &[&Faulty], config: FailoverConfig) -> DynProvider {
    let endpoints = endpoints
        .iter()
        .enumerate()
        .map(|(n, faulty)| Endpoint::through(&format!("endpoint-{n}"), faulty.boxed()))
        .collect();
    RootProvider::new(RpcClient::new(Failover::new(endpoints, config), true)).erased()
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over_and_rests() {
    let ledger = open();
    let (dead, alive) = (faulty(&ledger), faulty(&ledger));
    dead.set_down(true);
    let provider = over(&[&dead, &alive]);
    for _ in 0..10 {
        assert_eq!(provider.get_block_number().await.unwrap(), 0);
    }
    assert!(dead.calls() <= 2, "a resting endpoint is not asked: {}", dead.calls());
}

#[tokio::test]
async fn nonsense_and_hanging_are_failures_of_the_endpoint() {
    let ledger = open();
    let (bad, good) = (faulty(&ledger), faulty(&ledger));
    let provider = over_with(
        &[&bad, &good],
        FailoverConfig {
            attempt: Duration::from_millis(100),
            min_backoff: Duration::ZERO,
            ..FailoverConfig::for_chain(CHAIN_ID)
        },
    );
    assert_eq!(provider.get_block_number().await.unwrap(), 0);
    bad.next("eth_getTransactionCount", Fault::Answer("[1,2,3]".into()));
    assert_eq!(provider.get_transaction_count(Address::ZERO).await.unwrap(), 0);
    bad.next("eth_getTransactionCount", Fault::Hang);
    assert_eq!(provider.get_transaction_count(Address::ZERO).await.unwrap(), 0);
    assert!(bad.is_played());
}

#[tokio::test(start_paused = true)]
async fn an_only_endpoint_is_asked_twice() {
    let ledger = open();
    let only = faulty(&ledger);
    let provider = over(&[&only]);
    assert_eq!(provider.get_block_number().await.unwrap(), 0);
    only.next("eth_getTransactionCount", Fault::Answer("[1,2,3]".into()));
    assert_eq!(provider.get_transaction_count(Address::ZERO).await.unwrap(), 0);
    only.next("eth_getTransactionCount", Fault::Hang);
    assert_eq!(provider.get_transaction_count(Address::ZERO).await.unwrap(), 0);
    only.next("eth_getTransactionCount", Fault::Hang);
    only.next("eth_getTransactionCount", Fault::Break);
    let error = provider.get_transaction_count(Address::ZERO).await.unwrap_err().to_string();
    assert!(error.contains("connection reset") && error.contains("no answer within"), "{error}");
    assert!(only.is_played());
}

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_is_not_waited_for_alone_and_then_asked_last() {
    let ledger = open();
    let (slow, quick) = (faulty(&ledger), faulty(&ledger));
    let provider = over_with(&[&slow, &quick], FailoverConfig::for_chain(CHAIN_ID));
    assert_eq!(provider.get_block_number().await.unwrap(), 0);
    slow.next("eth_getTransactionCount", Fault::Hang);
    let begin = tokio::time::Instant::now();
    assert_eq!(provider.get_transaction_count(Address::ZERO).await.unwrap(), 0);
    let hedge = FailoverConfig::for_chain(CHAIN_ID).hedge;
    assert!((hedge..2 * hedge).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    let calls = slow.calls();
    assert_eq!(provider.get_transaction_count(Address::ZERO).await.unwrap(), 0);
    assert_eq!(slow.calls(), calls, "it rests");
}

#[tokio::test]
async fn a_json_rpc_error_is_an_answer_and_nobody_else_is_asked() {
    let ledger = open();
    let (first, second) = (faulty(&ledger), faulty(&ledger));
    let provider = over(&[&first, &second]);
    provider.get_block_number().await.unwrap();
    let before = second.calls();
    let from = Address::repeat_byte(1);
    let broke =
        TransactionRequest::default().from(from).to(from).value(alloy::primitives::U256::from(1u64) << 200);
    assert!(matches!(provider.estimate_gas(broke).await, Err(RpcError::ErrorResp(_))));
    assert_eq!(second.calls(), before);
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_never_believed() {
    let other = Embedded::open(EmbeddedConfig::in_memory(Genesis::new(1))).unwrap();
    let ours = open();
    let (wrong, right) = (faulty(&other), faulty(&ours));
    let provider = over(&[&wrong, &right]);
    assert_eq!(provider.get_chain_id().await.unwrap(), CHAIN_ID);
    let alone = over(&[&wrong]);
    let error = alone.get_block_number().await.unwrap_err().to_string();
    assert!(error.contains("answers for chain 1, not 31337"), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_lags_behind_is_asked_last() {
    let (late, level) = (open(), open());
    level.mine(20).await.unwrap();
    let (behind, ahead) = (faulty(&late), faulty(&level));
    let provider = over(&[&behind, &ahead]);
    assert_eq!(provider.get_block_number().await.unwrap(), 20);
    ahead.set_down(true);
    assert_eq!(provider.get_block_number().await.unwrap(), 0, "late is better than nobody");
}
