//! Reorganisations, which our clients must survive.

use alloy::consensus::TxEip1559;
use alloy::primitives::{Address, TxKind, U256};
use alloy::providers::Provider as _;
use serde_json::json;
use tradewind_chain::embedded::{Dropped, Embedded, EmbeddedConfig, LedgerError};

use crate::fixture::*;

const CAROL: Address = Address::repeat_byte(0xca);

#[tokio::test]
async fn a_reorganisation_replaces_blocks_and_takes_their_effects_back() {
    let ledger = open();
    let provider = ledger.provider();
    for nonce in 0..4 {
        send(&provider, ALICE, transfer(nonce, CAROL, 1)).await;
    }
    let kept = provider.get_block(2.into()).await.expect("an answer").expect("a block").header.hash;
    let lost = provider.get_block(3.into()).await.expect("an answer").expect("a block").header.hash;
    ledger.reorg(2, Dropped::Forget).await.expect("a reorganisation");
    assert_eq!(ledger.head().number, 5);
    assert_eq!(provider.get_balance(CAROL).await.expect("a balance"), U256::from(2));
    assert_eq!(provider.get_transaction_count(signer(ALICE).address()).await.expect("a nonce"), 2);
    let third = provider.get_block(3.into()).await.expect("an answer").expect("a block");
    assert_ne!(third.header.hash, lost);
    assert_eq!(third.header.parent_hash, kept);
    assert!(provider.get_block(lost.into()).await.expect("an answer").is_none());
    ledger.audit().expect("the history re-executes");
}

#[tokio::test]
async fn requeued_transactions_move_to_another_block() {
    let ledger = open();
    let provider = ledger.provider();
    let first = send(&provider, ALICE, transfer(0, CAROL, 1)).await;
    let second = send(&provider, ALICE, transfer(1, CAROL, 1)).await;
    ledger.reorg(2, Dropped::Requeue).await.expect("a reorganisation");
    for receipt in [first, second] {
        let again = provider.get_transaction_receipt(receipt.transaction_hash).await.expect("an answer");
        let again = again.expect("it is mined again");
        assert_eq!(again.block_number, Some(3));
        assert_ne!(again.block_hash, receipt.block_hash);
    }
    assert_eq!(provider.get_balance(CAROL).await.expect("a balance"), U256::from(2));
}

#[tokio::test]
async fn a_forgotten_transaction_can_be_sent_again() {
    let ledger = open();
    let provider = ledger.provider();
    let receipt = send(&provider, ALICE, transfer(0, CAROL, 1)).await;
    ledger.reorg(1, Dropped::Forget).await.expect("a reorganisation");
    assert!(provider.get_transaction_receipt(receipt.transaction_hash).await.expect("an answer").is_none());
    assert!(provider.get_transaction_by_hash(receipt.transaction_hash).await.expect("an answer").is_none());
    let again = send(&provider, ALICE, transfer(0, CAROL, 1)).await;
    assert_eq!(again.transaction_hash, receipt.transaction_hash);
    assert_eq!(again.block_number, Some(3));
}

#[tokio::test]
async fn a_filter_takes_back_the_logs_of_removed_blocks() {
    let ledger = open();
    let provider = ledger.provider();
    let deployed =
        send(&provider, ALICE, transaction(0, TxKind::Create, U256::ZERO, 200_000, deploying(COUNTER))).await;
    let counter = deployed.contract_address.expect("an address");
    let filter = request(&provider, "eth_newFilter", json!([{ "address": counter }])).await;
    let call = |nonce| -> TxEip1559 { transaction(nonce, counter.into(), U256::ZERO, 100_000, []) };
    send(&provider, ALICE, call(1)).await;
    let seen = request(&provider, "eth_getFilterChanges", json!([filter])).await;
    assert_eq!(seen[0]["removed"], json!(false));
    send(&provider, ALICE, call(2)).await;
    ledger.reorg(2, Dropped::Requeue).await.expect("a reorganisation");
    let changes = request(&provider, "eth_getFilterChanges", json!([filter])).await;
    let changes: Vec<(bool, &str)> = changes
        .as_array()
        .expect("logs")
        .iter()
        .map(|log| {
            (log["removed"].as_bool().expect("a flag"), log["blockNumber"].as_str().expect("a number"))
        })
        .collect();
    assert_eq!(changes, [(true, "0x2"), (false, "0x4"), (false, "0x4")]);
}

#[tokio::test]
async fn a_reorganisation_is_no_deeper_than_the_history() {
    let ledger = Embedded::open(EmbeddedConfig { history: 4, ..config() }).expect("a ledger");
    ledger.mine(10).await.expect("blocks");
    let error = ledger.reorg(8, Dropped::Forget).await.expect_err("it is too deep");
    assert!(matches!(error, LedgerError::TooDeep { depth: 8, .. }), "{error}");
    assert_eq!(ledger.head().number, 10);
    assert!(ledger.reorg(11, Dropped::Forget).await.is_err());
    ledger.reorg(4, Dropped::Forget).await.expect("a reorganisation");
    assert_eq!(ledger.head().number, 11);
}
