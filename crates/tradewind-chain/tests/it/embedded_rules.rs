//! The ledger's own rules: the pool, blocks, time, history and persistence.

use std::time::Duration;

use alloy::consensus::TxEip1559;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::providers::{DynProvider, Provider as _};
use alloy::rpc::types::{BlockTransactions, Filter, TransactionRequest};
use serde_json::json;
use tradewind_chain::embedded::{
    BlockPolicy, Embedded, EmbeddedConfig, Genesis, MULTICALL3, ManualClock, OpenError,
};

use crate::fixture::*;

const CAROL: Address = Address::repeat_byte(0xca);

async fn submit(provider: &DynProvider, key: &str, transaction: TxEip1559) -> B256 {
    *provider.send_raw_transaction(&raw(key, transaction)).await.expect("it is accepted").tx_hash()
}

async fn refusal(provider: &DynProvider, key: &str, transaction: TxEip1559) -> String {
    failure(provider, "eth_sendRawTransaction", json!([Bytes::from(raw(key, transaction))])).await.1
}

fn manual() -> Embedded {
    Embedded::open(EmbeddedConfig { blocks: BlockPolicy::Manual, ..config() }).expect("a ledger")
}

#[tokio::test]
async fn a_block_names_its_parent_and_hashes_to_its_header() {
    let ledger = open();
    let provider = ledger.provider();
    for nonce in 0..3 {
        send(&provider, ALICE, transfer(nonce, CAROL, 1)).await;
    }
    let mut parent = B256::ZERO;
    for number in 0..=3u64 {
        let block = provider.get_block(number.into()).full().await.expect("an answer").expect("a block");
        assert_eq!(block.header.inner.hash_slow(), block.header.hash);
        assert_eq!(block.header.parent_hash, parent);
        let root = block.header.transactions_root;
        let block = block.map_transactions(|transaction| transaction.into_inner());
        assert_eq!(block.calculate_transactions_root(), Some(root));
        let receipts =
            provider.get_block_receipts(number.into()).await.expect("an answer").expect("receipts");
        let receipts: Vec<_> =
            receipts.into_iter().map(|receipt| receipt.into_inner().into_primitives_receipt()).collect();
        assert_eq!(alloy::consensus::proofs::calculate_receipt_root(&receipts), block.header.receipts_root);
        assert!(block.header.base_fee_per_gas.expect("a base fee") > 0);
        parent = block.header.hash;
    }
    assert_eq!(ledger.head().hash, parent);
}

#[tokio::test]
async fn a_block_takes_everything_that_waits_in_nonce_order() {
    let ledger = manual();
    let provider = ledger.provider();
    let late = submit(&provider, ALICE, transfer(1, CAROL, 1)).await;
    let other = submit(&provider, BOB, transfer(0, CAROL, 1)).await;
    let early = submit(&provider, ALICE, transfer(0, CAROL, 1)).await;
    let gap = submit(&provider, ALICE, transfer(5, CAROL, 1)).await;
    assert_eq!(provider.get_transaction_count(signer(ALICE).address()).pending().await.expect("a nonce"), 2);
    assert_eq!(provider.get_transaction_count(signer(ALICE).address()).await.expect("a nonce"), 0);
    ledger.mine(1).await.expect("a block");
    let block = provider.get_block(BlockId::latest()).await.expect("an answer").expect("a block");
    let BlockTransactions::Hashes(hashes) = block.transactions else { panic!("hashes") };
    assert_eq!(hashes.len(), 3);
    assert!(hashes.contains(&other));
    let place = |hash| hashes.iter().position(|mined| *mined == hash).expect("it is mined");
    assert!(place(early) < place(late));
    let waiting = provider.get_transaction_by_hash(gap).await.expect("an answer").expect("it waits");
    assert_eq!(waiting.block_number, None);
}

#[tokio::test]
async fn a_waiting_transaction_is_replaced_only_for_a_tenth_more() {
    let ledger = manual();
    let provider = ledger.provider();
    let base =
        TxEip1559 { max_fee_per_gas: 10 * GWEI, max_priority_fee_per_gas: GWEI, ..transfer(0, CAROL, 1) };
    let first = submit(&provider, ALICE, base.clone()).await;
    assert_eq!(refusal(&provider, ALICE, base.clone()).await, "already known");
    let cheap = TxEip1559 { max_fee_per_gas: 11 * GWEI, value: U256::from(2), ..base.clone() };
    assert_eq!(refusal(&provider, ALICE, cheap).await, "replacement transaction underpriced");
    let enough = TxEip1559 {
        max_fee_per_gas: 11 * GWEI,
        max_priority_fee_per_gas: GWEI * 11 / 10,
        value: U256::from(3),
        ..base
    };
    let second = submit(&provider, ALICE, enough).await;
    ledger.mine(1).await.expect("a block");
    assert!(provider.get_transaction_receipt(first).await.expect("an answer").is_none());
    assert!(provider.get_transaction_receipt(second).await.expect("an answer").is_some());
    assert_eq!(provider.get_balance(CAROL).await.expect("a balance"), U256::from(3));
}

#[tokio::test]
async fn a_sender_cannot_queue_far_ahead_or_below_the_least_fee() {
    let provider = open().provider();
    assert!(refusal(&provider, ALICE, transfer(5_000, CAROL, 1)).await.starts_with("nonce too high"));
    let cheap = TxEip1559 { max_fee_per_gas: 1, max_priority_fee_per_gas: 1, ..transfer(0, CAROL, 1) };
    assert!(refusal(&provider, ALICE, cheap).await.starts_with("transaction underpriced"));
}

#[tokio::test]
async fn malformed_and_unprotected_transactions_are_refused() {
    let provider = open().provider();
    for bytes in ["0x", "0x02", "0x02c0", "0xdeadbeef", "0xc0"] {
        let (code, ..) = failure(&provider, "eth_sendRawTransaction", json!([bytes])).await;
        assert_eq!(code, -32000, "{bytes}");
    }
    let mut trailing = raw(ALICE, transfer(0, CAROL, 1));
    trailing.push(0);
    let (_, message, _) = failure(&provider, "eth_sendRawTransaction", json!([Bytes::from(trailing)])).await;
    assert!(message.contains("trailing") || message.contains("decode"), "{message}");
    let unprotected = alloy::consensus::TxLegacy {
        chain_id: None,
        gas_price: 5 * GWEI,
        gas_limit: 21_000,
        to: CAROL.into(),
        ..Default::default()
    };
    let params = json!([Bytes::from(raw(ALICE, unprotected))]);
    let (_, message, _) = failure(&provider, "eth_sendRawTransaction", params).await;
    assert!(message.contains("replay-protected"), "{message}");
    let oversized = transaction(0, CAROL.into(), U256::ZERO, 5_000_000, vec![0; 200_000]);
    assert!(refusal(&provider, ALICE, oversized).await.starts_with("oversized data"));
}

#[tokio::test]
async fn the_sync_form_answers_the_receipt() {
    let provider = open().provider();
    let receipt = request(
        &provider,
        "eth_sendRawTransactionSync",
        json!([Bytes::from(raw(ALICE, transfer(0, CAROL, 9)))]),
    )
    .await;
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(receipt["gasUsed"], "0x5208");
    let stuck = json!([Bytes::from(raw(ALICE, transfer(7, CAROL, 9))), "0x32"]);
    let (code, ..) = failure(&provider, "eth_sendRawTransactionSync", stuck).await;
    assert_eq!(code, 4);
}

#[tokio::test]
async fn old_state_is_readable_within_the_history() {
    let ledger = Embedded::open(EmbeddedConfig { history: 3, ..config() }).expect("a ledger");
    let provider = ledger.provider();
    let deployed =
        send(&provider, ALICE, transaction(0, TxKind::Create, U256::ZERO, 200_000, deploying(COUNTER))).await;
    let counter = deployed.contract_address.expect("an address");
    for nonce in 1..=4 {
        send(&provider, ALICE, transaction(nonce, counter.into(), U256::ZERO, 100_000, [])).await;
    }
    let slot = |number: u64| provider.get_storage_at(counter, U256::ZERO).number(number);
    assert_eq!(slot(5).await.expect("a value"), U256::from(4));
    assert_eq!(slot(3).await.expect("a value"), U256::from(2));
    assert_eq!(slot(2).await.expect("a value"), U256::from(1));
    let error = slot(1).await.expect_err("it is gone").to_string();
    assert!(error.contains("historical state of block 1 is not available"), "{error}");
    let next = TransactionRequest::default().to(counter);
    let at = |number: u64| provider.call(next.clone()).block(number.into());
    assert_eq!(U256::from_be_slice(&at(3).await.expect("a value")), U256::from(3));
    assert_eq!(U256::from_be_slice(&provider.call(next.clone()).await.expect("a value")), U256::from(5));
}

#[tokio::test]
async fn calls_and_estimates_see_the_present_time_on_an_idle_ledger() {
    let clock = ManualClock::new(1_000_000);
    let ledger = Embedded::open(EmbeddedConfig { clock: std::sync::Arc::new(clock.clone()), ..config() })
        .expect("a ledger");
    let provider = ledger.provider();
    // TIMESTAMP, PUSH0, MSTORE, PUSH1 32, PUSH0, RETURN
    let runtime = [0x42, 0x5f, 0x52, 0x60, 0x20, 0x5f, 0xf3];
    let deployed =
        send(&provider, ALICE, transaction(0, TxKind::Create, U256::ZERO, 200_000, deploying(&runtime)))
            .await;
    let watch = deployed.contract_address.expect("an address");
    clock.advance(500);
    let time = |id: BlockId| provider.call(TransactionRequest::default().to(watch)).block(id);
    assert_eq!(U256::from_be_slice(&time(BlockId::latest()).await.expect("a time")), U256::from(1_000_500));
    assert_eq!(U256::from_be_slice(&time(BlockId::pending()).await.expect("a time")), U256::from(1_000_500));
    assert_eq!(U256::from_be_slice(&time(1.into()).await.expect("a time")), U256::from(1_000_000));
    ledger.advance_time(100).await.expect("time moves");
    ledger.mine(1).await.expect("a block");
    assert_eq!(ledger.head().timestamp, 1_000_600);
    assert_eq!(ledger.now(), 1_000_600);
}

#[tokio::test]
async fn overrides_change_what_a_call_sees_and_nothing_else() {
    let provider = open().provider();
    let nowhere = Address::repeat_byte(9);
    let params = json!([
        { "to": nowhere }, "latest",
        { nowhere.to_string(): { "code": Bytes::from_static(COUNTER), "stateDiff": { B256::ZERO.to_string(): B256::with_last_byte(41) } } }
    ]);
    let answer = request(&provider, "eth_call", params).await;
    assert_eq!(answer, json!(B256::with_last_byte(42)));
    assert_eq!(request(&provider, "eth_call", json!([{ "to": nowhere }, "latest"])).await, json!("0x"));
}

#[tokio::test]
async fn multicall_is_there_from_the_beginning() {
    let provider = open().provider();
    let height = provider
        .multicall()
        .block(BlockId::latest())
        .get_block_number()
        .aggregate()
        .await
        .expect("an answer")
        .0;
    assert_eq!(height, U256::ZERO);
    assert!(!provider.get_code_at(MULTICALL3).await.expect("code").is_empty());
}

async fn blocks_with(provider: &DynProvider, filter: Filter) -> Vec<u64> {
    provider
        .get_logs(&filter)
        .await
        .expect("logs")
        .iter()
        .map(|log| log.block_number.expect("a number"))
        .collect()
}

#[tokio::test]
async fn logs_are_found_by_range_address_topic_and_hash() {
    let ledger = open();
    let provider = ledger.provider();
    let deployed =
        send(&provider, ALICE, transaction(0, TxKind::Create, U256::ZERO, 200_000, deploying(COUNTER))).await;
    let counter = deployed.contract_address.expect("an address");
    for nonce in 1..=4u64 {
        let topic = B256::from(U256::from(nonce % 2));
        send(&provider, ALICE, transaction(nonce, counter.into(), U256::ZERO, 100_000, topic.to_vec())).await;
    }
    let odd = B256::with_last_byte(1);
    assert_eq!(blocks_with(&provider, Filter::new().from_block(0)).await, [2, 3, 4, 5]);
    assert_eq!(blocks_with(&provider, Filter::new().from_block(3).to_block(4)).await, [3, 4]);
    assert_eq!(blocks_with(&provider, Filter::new().from_block(0).event_signature(odd)).await, [2, 4]);
    assert_eq!(blocks_with(&provider, Filter::new().from_block(0).address(CAROL)).await, Vec::<u64>::new());
    assert_eq!(blocks_with(&provider, Filter::new().at_block_hash(ledger.head().hash)).await, [5]);
    assert_eq!(blocks_with(&provider, Filter::new()).await, [5]);
}

#[tokio::test]
async fn filters_report_each_thing_once() {
    let ledger = open();
    let provider = ledger.provider();
    let deployed =
        send(&provider, ALICE, transaction(0, TxKind::Create, U256::ZERO, 200_000, deploying(COUNTER))).await;
    let counter = deployed.contract_address.expect("an address");
    let blocks = request(&provider, "eth_newBlockFilter", json!([])).await;
    let logs = request(&provider, "eth_newFilter", json!([{ "address": counter }])).await;
    send(&provider, ALICE, transaction(1, counter.into(), U256::ZERO, 100_000, [])).await;
    let changes = |id: &serde_json::Value| request(&provider, "eth_getFilterChanges", json!([id]));
    assert_eq!(changes(&blocks).await, json!([ledger.head().hash]));
    assert_eq!(changes(&blocks).await, json!([]));
    assert_eq!(changes(&logs).await.as_array().expect("logs").len(), 1);
    assert_eq!(changes(&logs).await, json!([]));
    assert_eq!(
        request(&provider, "eth_getFilterLogs", json!([logs])).await.as_array().expect("logs").len(),
        1
    );
    assert_eq!(request(&provider, "eth_uninstallFilter", json!([logs])).await, json!(true));
    assert_eq!(failure(&provider, "eth_getFilterChanges", json!([logs])).await.1, "filter not found");
}

#[tokio::test]
async fn a_pending_filter_reports_what_waits() {
    let ledger = manual();
    let provider = ledger.provider();
    let filter = request(&provider, "eth_newPendingTransactionFilter", json!([])).await;
    let hash = submit(&provider, ALICE, transfer(0, CAROL, 1)).await;
    assert_eq!(request(&provider, "eth_getFilterChanges", json!([filter])).await, json!([hash]));
    assert_eq!(request(&provider, "eth_getFilterChanges", json!([filter])).await, json!([]));
}

#[tokio::test]
async fn fees_follow_demand_and_fall_back_to_the_floor() {
    let ledger =
        Embedded::open(EmbeddedConfig { gas_limit: 1_000_000, blocks: BlockPolicy::Manual, ..config() })
            .expect("a ledger");
    let provider = ledger.provider();
    for nonce in 0..47 {
        submit(
            &provider,
            ALICE,
            TxEip1559 { max_priority_fee_per_gas: 3 * GWEI, ..transfer(nonce, CAROL, 1) },
        )
        .await;
    }
    ledger.mine(1).await.expect("a block");
    let history = provider.get_fee_history(5, BlockNumberOrTag::Latest, &[50.0]).await.expect("a history");
    assert_eq!(history.oldest_block, 0);
    assert_eq!(history.base_fee_per_gas.len(), 3);
    assert!(history.base_fee_per_gas[2] > history.base_fee_per_gas[1]);
    assert_eq!(history.reward.expect("rewards")[1], [3 * GWEI]);
    assert!(history.gas_used_ratio[1] > 0.9);
    assert!(provider.get_gas_price().await.expect("a price") > GWEI);
    ledger.mine(10).await.expect("blocks");
    assert_eq!(provider.get_gas_price().await.expect("a price"), GWEI);
}

#[tokio::test]
async fn a_full_block_leaves_the_rest_for_the_next() {
    let ledger = Embedded::open(EmbeddedConfig { gas_limit: 1_000_000, ..config() }).expect("a ledger");
    let provider = ledger.provider();
    let sends = (0..120).map(|nonce| submit(&provider, ALICE, transfer(nonce, CAROL, 1)));
    futures::future::join_all(sends).await;
    assert_eq!(provider.get_balance(CAROL).await.expect("a balance"), U256::from(120));
    assert!(ledger.head().number >= 3);
    ledger.audit().expect("the history re-executes");
}

#[tokio::test]
async fn blocks_come_at_an_interval_or_a_heartbeat_without_transactions() {
    for blocks in [
        BlockPolicy::Every(Duration::from_millis(20)),
        BlockPolicy::OnDemand { heartbeat: Some(Duration::from_millis(20)) },
    ] {
        let ledger = Embedded::open(EmbeddedConfig { blocks, ..config() }).expect("a ledger");
        let provider = ledger.provider();
        send(&provider, ALICE, transfer(0, CAROL, 1)).await;
        tokio::time::timeout(Duration::from_secs(20), async {
            while ledger.head().number < 5 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("blocks come");
    }
}

#[tokio::test]
async fn a_ledger_goes_on_where_it_was_closed() {
    let dir = tempfile::tempdir().expect("a directory");
    let stored =
        || EmbeddedConfig { dir: Some(dir.path().to_owned()), blocks: BlockPolicy::Manual, ..config() };
    let ledger = Embedded::open(stored()).expect("a ledger");
    let provider = ledger.provider();
    submit(&provider, ALICE, transfer(0, CAROL, 5)).await;
    ledger.mine(1).await.expect("a block");
    let waiting = submit(&provider, ALICE, transfer(1, CAROL, 6)).await;
    let head = ledger.head();
    ledger.close().await;
    let error =
        provider.send_raw_transaction(&raw(ALICE, transfer(2, CAROL, 7))).await.expect_err("it is closed");
    assert!(error.to_string().contains("the ledger is closed"), "{error}");

    let ledger = Embedded::open(stored()).expect("the ledger");
    let provider = ledger.provider();
    // Its answer says that the engine has started: what waits must wait on until a block is asked for.
    submit(&provider, ALICE, transfer(2, CAROL, 7)).await;
    assert_eq!(ledger.head(), head);
    assert_eq!(provider.get_balance(CAROL).await.expect("a balance"), U256::from(5));
    assert!(provider.get_transaction_by_hash(waiting).await.expect("an answer").is_some());
    ledger.mine(1).await.expect("a block");
    assert!(provider.get_transaction_receipt(waiting).await.expect("an answer").is_some());
    assert_eq!(ledger.audit().expect("an audit").transactions, 3);
}

#[tokio::test]
async fn a_ledger_is_opened_once_and_only_with_its_own_genesis() {
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = Embedded::open(EmbeddedConfig::stored(dir.path(), genesis())).expect("a ledger");
    assert!(matches!(
        Embedded::open(EmbeddedConfig::stored(dir.path(), genesis())),
        Err(OpenError::Store(_))
    ));
    ledger.close().await;
    let other = Embedded::open(EmbeddedConfig::stored(dir.path(), Genesis::new(5)));
    assert!(matches!(other, Err(OpenError::OtherGenesis { stored: CHAIN_ID, wanted: 5 })));
    Embedded::open(EmbeddedConfig::stored(dir.path(), genesis())).expect("the ledger");
}

#[tokio::test]
async fn senseless_configurations_are_refused() {
    for config in [
        EmbeddedConfig { gas_limit: 1, ..config() },
        EmbeddedConfig { min_base_fee: 0, ..config() },
        EmbeddedConfig { blocks: BlockPolicy::Every(Duration::ZERO), ..config() },
    ] {
        assert!(matches!(Embedded::open(config), Err(OpenError::Config(_))));
    }
}

#[tokio::test]
async fn development_methods_answer_only_when_asked_for() {
    let plain = Embedded::open(EmbeddedConfig { dev: false, ..config() }).expect("a ledger").provider();
    for method in ["evm_mine", "evm_increaseTime", "evm_snapshot", "tradewind_reorg"] {
        assert_eq!(failure(&plain, method, json!([])).await.0, -32601, "{method}");
    }
    let ledger = open();
    let provider = ledger.provider();
    let snapshot = request(&provider, "evm_snapshot", json!([])).await;
    request(&provider, "evm_setNextBlockTimestamp", json!([4_000_000_000u64])).await;
    request(&provider, "evm_mine", json!([])).await;
    assert_eq!(ledger.head().timestamp, 4_000_000_000);
    request(&provider, "evm_increaseTime", json!([60])).await;
    request(&provider, "evm_mine", json!([])).await;
    assert!(ledger.head().timestamp >= 4_000_000_060);
    assert_eq!(request(&provider, "evm_revert", json!([snapshot])).await, json!(true));
    assert_eq!(ledger.head().number, 0);
}

#[tokio::test]
async fn odd_requests_get_clear_errors() {
    let provider = open().provider();
    for (method, params, code) in [
        ("eth_nothing", json!([]), -32601),
        ("eth_getProof", json!([CAROL, [], "latest"]), -32601),
        ("eth_getBalance", json!([]), -32602),
        ("eth_getBalance", json!(["0x12"]), -32602),
        ("eth_getBalance", json!({ "address": CAROL }), -32602),
        ("eth_getBalance", json!([CAROL, "0x5"]), -32000),
        ("eth_feeHistory", json!(["0x1", "latest", [50.0, 20.0]]), -32000),
        ("eth_call", json!([{ "to": CAROL, "value": "0x1", "from": CAROL }, "latest"]), -32000),
    ] {
        assert_eq!(failure(&provider, method, params.clone()).await.0, code, "{method} {params}");
    }
    assert_eq!(request(&provider, "eth_getBlockByNumber", json!(["0x99", false])).await, json!(null));
    assert_eq!(request(&provider, "eth_getTransactionReceipt", json!([B256::ZERO])).await, json!(null));
}
