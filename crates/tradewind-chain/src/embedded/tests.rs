//! A disk that fails where a real one could.

use std::time::Duration;

use alloy::consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy::eips::Encodable2718 as _;
use alloy::primitives::{Address, U256};
use alloy::providers::Provider as _;
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;

use super::store::faulty::Disk;
use super::*;

const CAROL: Address = Address::repeat_byte(0xca);

struct Bench {
    disk: Disk,
    key: PrivateKeySigner,
    ledger: Embedded,
}

impl Bench {
    fn new() -> Self {
        let key = PrivateKeySigner::random();
        let disk = Disk::default();
        let ledger = open(&disk, &key);
        Self { disk, key, ledger }
    }

    async fn send(&self, nonce: u64) -> Result<(), String> {
        let transaction = TxEip1559 {
            chain_id: 5,
            nonce,
            gas_limit: 21_000,
            max_fee_per_gas: 100_000_000_000,
            to: CAROL.into(),
            value: U256::ONE,
            ..TxEip1559::default()
        };
        let signature = self.key.sign_hash_sync(&transaction.signature_hash()).expect("a signature");
        let raw = TxEnvelope::from(transaction.into_signed(signature)).encoded_2718();
        self.ledger.provider().send_raw_transaction(&raw).await.map(|_| ()).map_err(|error| error.to_string())
    }

    async fn received(&self) -> u64 {
        self.ledger.provider().get_balance(CAROL).await.expect("a balance").to()
    }
}

fn open(disk: &Disk, key: &PrivateKeySigner) -> Embedded {
    let genesis = Genesis::new(5).fund(key.address(), U256::MAX >> 1);
    Embedded::open_on(Medium::Faulty(disk.clone()), EmbeddedConfig::in_memory(genesis)).expect("a ledger")
}

#[tokio::test]
async fn a_write_that_fails_refuses_its_transactions_and_keeps_the_others() {
    let bench = Bench::new();
    bench.send(0).await.expect("it is accepted");
    bench.disk.set_full(true);
    let error = bench.send(1).await.expect_err("the disk is full");
    assert!(error.contains("ledger storage failed"), "{error}");
    bench.disk.set_full(false);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bench.received().await, 1);
    bench.send(1).await.expect("it is accepted now");
    assert_eq!(bench.received().await, 2);
    bench.ledger.audit().expect("the history re-executes");
}

#[tokio::test]
async fn a_sync_that_fails_is_answered_by_what_is_durable() {
    for _ in 0..4 {
        let bench = Bench::new();
        bench.send(0).await.expect("it is accepted");
        bench.disk.set_lying(true);
        let accepted = bench.send(1).await.is_ok();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let sent = if accepted { 2 } else { 1 };
        assert_eq!(bench.received().await, sent, "the answer and the state agree");
        bench.send(sent).await.expect("it goes on");
        let head = bench.ledger.head();
        bench.ledger.close().await;
        assert_eq!(open(&bench.disk, &bench.key).head(), head);
    }
}
