//! A disk that fails where a real one could.

use std::time::Duration;

use alloy::consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy::eips::Encodable2718 as _;
use alloy::primitives::{Address, U256};
use alloy::providers::Provider as _;
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use rand::{RngExt as _, SeedableRng as _};

use super::store::faulty::Disk;
use super::*;

const CAROL: Address = Address::repeat_byte(0xca);

#[derive(Clone)]
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_of_power_takes_nothing_acknowledged() {
    let seed = rand::rng().random();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let bench = Bench::new();
    let mut acknowledged = 0;
    for _ in 0..25 {
        let sending = tokio::spawn({
            let bench = bench.clone();
            async move { bench.send(acknowledged).await.expect("it is accepted") }
        });
        let mut lost = vec![(acknowledged, bench.disk.after_power_loss(&mut random))];
        while !sending.is_finished() {
            lost.push((acknowledged, bench.disk.after_power_loss(&mut random)));
            tokio::time::sleep(Duration::from_micros(random.random_range(0..2000))).await;
        }
        sending.await.expect("it is sent");
        acknowledged += 1;
        lost.push((acknowledged, bench.disk.after_power_loss(&mut random)));
        for (certain, disk) in lost {
            let survivor = open(&disk, &bench.key);
            let sent = survivor.audit().unwrap_or_else(|error| panic!("seed {seed}: {error}")).transactions;
            assert!(sent >= certain, "seed {seed}: {sent} of {certain} acknowledged transactions are left");
        }
    }
}

#[tokio::test]
async fn a_sync_that_fails_is_answered_by_what_is_durable() {
    for _ in 0..4 {
        let bench = Bench::new();
        bench.send(0).await.expect("it is accepted");
        bench.disk.fail_next_sync();
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
