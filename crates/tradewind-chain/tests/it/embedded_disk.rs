//! A disk that is full: an error that says so, and nothing lost or half done.

use std::path::Path;
use std::process::Command;

use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::providers::{DynProvider, Provider as _};
use serde_json::json;
use tradewind_chain::embedded::{Embedded, EmbeddedConfig};

use crate::fixture::*;

const DIRECTORY: &str = "TRADEWIND_TEST_SMALL_DISK";
const CAROL: Address = Address::repeat_byte(0xca);

/// Fills the ledger with code until the disk is full; answers the next nonce and the error.
async fn fill(provider: &DynProvider) -> (u64, String) {
    for nonce in 0..5_000u64 {
        let mut runtime = vec![0; 20_000];
        runtime[..8].copy_from_slice(&nonce.to_be_bytes());
        let deploy = transaction(nonce, TxKind::Create, U256::ZERO, 6_000_000, deploying(&runtime));
        if let Err(error) = provider.send_raw_transaction(&raw(ALICE, deploy)).await {
            return (nonce, error.to_string());
        }
    }
    panic!("the disk was never full");
}

/// Not a test of its own: runs where [`DIRECTORY`] is a small file system.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs only as a child of the test below, on a small file system"]
async fn the_child_on_a_small_disk() {
    let dir = std::env::var_os(DIRECTORY).expect("started by the test");
    let dir = Path::new(&dir);
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![1; 2 << 20]).expect("a file to delete later");
    let stored = || EmbeddedConfig { dir: Some(dir.join("ledger")), ..config() };
    let ledger = Embedded::open(stored()).expect("a ledger");
    let provider = ledger.provider();
    let (nonce, error) = fill(&provider).await;
    assert!(error.contains("ledger storage failed") && error.contains("No space left on device"), "{error}");
    assert!(nonce > 5, "{nonce}");
    let count = || async { provider.get_transaction_count(signer(ALICE).address()).await };

    assert_eq!(count().await.expect("reads go on"), nonce, "the failed transaction is not executed");
    let blocked = json!([Bytes::from(raw(ALICE, transfer(nonce, CAROL, 1)))]);
    failure(&provider, "eth_sendRawTransaction", blocked).await;
    assert_eq!(provider.get_balance(CAROL).await.expect("reads go on"), U256::ZERO);

    std::fs::remove_file(&ballast).expect("there is room again");
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    send(&provider, ALICE, transfer(nonce, CAROL, 7)).await;
    assert_eq!(provider.get_balance(CAROL).await.expect("a balance"), U256::from(7));
    let head = ledger.head();
    ledger.audit().expect("the history re-executes");
    ledger.close().await;
    let ledger = Embedded::open(stored()).expect("the ledger");
    assert_eq!(ledger.head(), head);
}

#[test]
fn a_full_disk_is_a_clear_error_and_the_ledger_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().expect("a directory");
    // A mount namespace of its own: nothing is left behind, whatever happens.
    let script = format!(
        "mount -t tmpfs -o size=8m tmpfs '{}' && exec \"$0\" --exact embedded_disk::the_child_on_a_small_disk --ignored --nocapture",
        dir.path().display()
    );
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", &script])
        .arg(std::env::current_exe().expect("this binary"))
        .env(DIRECTORY, dir.path())
        .output()
        .expect("unshare (util-linux) is installed");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}
