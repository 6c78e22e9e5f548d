//! A ledger killed at any moment keeps what it acknowledged.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256, TxKind, U256};
use alloy::providers::Provider as _;
use rand::RngExt as _;
use tradewind_chain::embedded::{Embedded, EmbeddedConfig};

use crate::fixture::*;

const DIRECTORY: &str = "TRADEWIND_TEST_LEDGER_DIRECTORY";

fn stored(dir: &Path) -> EmbeddedConfig {
    EmbeddedConfig { dir: Some(dir.to_owned()), ..config() }
}

/// Not a test: the process that is killed. It sends from both accounts, and writes down each acknowledged hash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs only as a child of the test below"]
async fn the_child_that_is_killed() {
    let dir = std::env::var_os(DIRECTORY).expect("started by the test");
    let ledger = Embedded::open(stored(Path::new(&dir))).expect("a ledger");
    let tasks = [ALICE, BOB].map(|key| {
        let provider = ledger.provider();
        tokio::spawn(async move {
            let mut nonce = provider.get_transaction_count(signer(key).address()).await.expect("a nonce");
            loop {
                let transactions = (nonce..nonce + 8).map(|nonce| match nonce % 4 {
                    0 => {
                        raw(key, transaction(nonce, TxKind::Create, U256::ZERO, 200_000, deploying(COUNTER)))
                    }
                    _ => raw(key, transfer(nonce, Address::from_word(U256::from(nonce % 50).into()), 1)),
                });
                let sends = transactions.map(|raw| {
                    let provider = provider.clone();
                    async move {
                        let pending = provider.send_raw_transaction(&raw).await.expect("it is accepted");
                        // One write each, so that a line is whole or absent.
                        let line = format!("{}\n", pending.tx_hash());
                        std::io::stdout().lock().write_all(line.as_bytes()).expect("a pipe");
                    }
                });
                futures::future::join_all(sends).await;
                nonce += 8;
            }
        })
    });
    futures::future::select_all(tasks).await.0.expect("it goes on until it is killed");
}

/// Starts the child, kills it after a while, and answers the hashes that it acknowledged.
fn run_and_kill(dir: &Path, after: Duration) -> Vec<B256> {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "embedded_kill::the_child_that_is_killed", "--ignored", "--nocapture"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the child starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let reader = std::thread::spawn(move || {
        lines.filter_map(|line| line.ok()?.trim().parse().ok()).collect::<Vec<B256>>()
    });
    let deadline = Instant::now() + after;
    while Instant::now() < deadline {
        assert!(child.try_wait().expect("a status").is_none(), "the child ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
    reader.join().expect("the hashes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_ledger_keeps_what_it_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut acknowledged = Vec::new();
    for round in 0..12 {
        // The first rounds end while the ledger is being made or opened.
        let after = Duration::from_millis(rand::rng().random_range(5..if round < 4 { 120 } else { 900 }));
        acknowledged.extend(run_and_kill(dir.path(), after));
        let ledger =
            Embedded::open(stored(dir.path())).unwrap_or_else(|error| panic!("after {after:?}: {error:?}"));
        let provider = ledger.provider();
        for hash in &acknowledged {
            let receipt = provider.get_transaction_receipt(*hash).await.expect("an answer");
            assert!(receipt.is_some(), "{hash} was acknowledged, and lost after {after:?} in round {round}");
        }
        let audit = ledger.audit().expect("the history re-executes");
        assert!(audit.transactions >= acknowledged.len() as u64);
        ledger.close().await;
    }
    assert!(acknowledged.len() > 50, "only {} transactions in all rounds", acknowledged.len());
}
