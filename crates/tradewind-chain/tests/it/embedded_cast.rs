//! The real `cast` against the ledger.

use std::process::Command;

use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider as _;
use serde_json::Value;

use crate::fixture::*;

/// Runs `cast` away from the runtime's threads and answers its standard output.
async fn cast(url: &str, args: &[&str]) -> String {
    let mut command = Command::new(foundry("cast"));
    command.args(&args[..1]).args(["--rpc-url", url]).args(&args[1..]).env("NO_COLOR", "1");
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("it runs").expect("cast starts");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cast_sends_calls_and_reads_blocks_and_logs() {
    let ledger = open();
    let (addr, _guard) = ledger.serve("127.0.0.1:0".parse().expect("an address")).await.expect("it serves");
    let url = format!("http://{addr}");
    let bob = signer(BOB).address().to_string();

    assert_eq!(cast(&url, &["chain-id"]).await, CHAIN_ID.to_string());
    assert_eq!(cast(&url, &["block-number"]).await, "0");

    let sent = cast(&url, &["send", "--private-key", ALICE, "--value", "1ether", "--json", &bob]).await;
    let receipt: Value = serde_json::from_str(&sent).expect("a receipt");
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(cast(&url, &["balance", &bob]).await, (ether(10_001)).to_string());

    let code = alloy::primitives::hex::encode_prefixed(deploying(COUNTER));
    let sent = cast(&url, &["send", "--private-key", ALICE, "--json", "--create", &code]).await;
    let receipt: Value = serde_json::from_str(&sent).expect("a receipt");
    let counter = receipt["contractAddress"].as_str().expect("an address").to_owned();
    let topic = B256::with_last_byte(7).to_string();
    assert_eq!(cast(&url, &["call", &counter, "--data", &topic]).await, B256::with_last_byte(1).to_string());
    cast(&url, &["send", "--private-key", ALICE, "--json", &counter, &topic]).await;
    let logs = cast(&url, &["logs", "--from-block", "0", "--address", &counter, "--json"]).await;
    let logs: Value = serde_json::from_str(&logs).expect("logs");
    assert_eq!(logs.as_array().map(Vec::len), Some(1));
    assert_eq!(logs[0]["topics"][0], Value::String(topic));

    assert_eq!(cast(&url, &["block-number"]).await, "3");
    let block = cast(&url, &["block", "latest", "--json"]).await;
    let block: Value = serde_json::from_str(&block).expect("a block");
    let head = ledger.head();
    assert_eq!(block["hash"], Value::String(head.hash.to_string()));
    let parent = cast(&url, &["block", "2", "--field", "hash"]).await;
    assert_eq!(block["parentHash"], Value::String(parent));
    let counter: Address = counter.parse().expect("an address");
    assert_eq!(ledger.provider().get_storage_at(counter, U256::ZERO).await.expect("a slot"), U256::from(1));
}
