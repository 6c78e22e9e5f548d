//! Transactions a second of the embedded ledger beside anvil's: the same client, the same transfers, over the same HTTP.
//!
//! The ledger writes every block to disk before it answers; anvil keeps everything in memory. The senders sign beforehand,
//! each has one request in flight, and one waits for inclusion.

use std::time::Instant;

use alloy::consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy::eips::Encodable2718 as _;
use alloy::primitives::{Address, TxKind, U256};
use alloy::providers::{DynProvider, Provider as _, ProviderBuilder};
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use tradewind_chain::embedded::{Embedded, EmbeddedConfig, Genesis};

use crate::anvil::{Anvil, BLOCK_GAS, CHAIN_ID};
use crate::figure::{Figure, median, millis, per_second};
use crate::progress::say;

const SENDERS: u8 = 16;
const EACH: u64 = 60;
const ROUNDS: u64 = 5;
const ALONE: u64 = 30;
const GWEI: u128 = 1_000_000_000;

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let anvil = Anvil::start()?;
    for number in 1..=SENDERS {
        anvil.account(number).await?;
    }
    let mut genesis = Genesis::new(CHAIN_ID);
    for number in 1..=SENDERS {
        genesis = genesis.fund(signer(number)?.address(), U256::from(10).pow(U256::from(24)));
    }
    let dir = tempfile::tempdir()?;
    let config = EmbeddedConfig { gas_limit: BLOCK_GAS, ..EmbeddedConfig::stored(dir.path(), genesis) };
    let ledger = Embedded::open(config)?;
    let (address, server) = ledger.serve(([127, 0, 0, 1], 0).into()).await?;
    let (ours, theirs) = (http(&format!("http://{address}"))?, http(&anvil.url)?);

    let (mut our_rates, mut their_rates) = (Vec::new(), Vec::new());
    let (mut our_spans, mut their_spans) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // What the first sender did alone comes on top.
        let first = |sender: u8| round * EACH + if sender == 1 { round * ALONE } else { 0 };
        our_rates.push(crowd(&ours, first).await?);
        their_rates.push(crowd(&theirs, first).await?);
        let next = first(1) + EACH;
        our_spans.push(alone(&ours, next).await?);
        their_spans.push(alone(&theirs, next).await?);
        say(format_args!("  {:?} against {:?} a second", our_rates.last(), their_rates.last()));
    }
    drop(server);
    ledger.close().await;
    Ok(vec![
        Figure::new("ledger: transactions included, 16 senders", median(our_rates), "1/s")
            .beside("anvil", median(their_rates)),
        Figure::new("ledger: one transaction until included", median(our_spans), "ms")
            .beside("anvil", median(their_spans)),
    ])
}

fn signer(number: u8) -> anyhow::Result<PrivateKeySigner> {
    PrivateKeySigner::from_slice(&[number; 32]).context("no key")
}

fn http(url: &str) -> anyhow::Result<DynProvider> {
    Ok(ProviderBuilder::default().connect_http(url.parse()?).erased())
}

/// Signed transfers of one sender from a nonce on.
fn transfers(number: u8, nonces: std::ops::Range<u64>) -> anyhow::Result<Vec<Vec<u8>>> {
    let signer = signer(number)?;
    nonces
        .map(|nonce| {
            let transaction = TxEip1559 {
                chain_id: CHAIN_ID,
                nonce,
                gas_limit: 21_000,
                max_fee_per_gas: 100 * GWEI,
                max_priority_fee_per_gas: GWEI,
                to: TxKind::Call(Address::repeat_byte(number)),
                value: U256::from(1),
                ..TxEip1559::default()
            };
            let signature = signer.sign_hash_sync(&transaction.signature_hash())?;
            Ok(TxEnvelope::from(transaction.into_signed(signature)).encoded_2718())
        })
        .collect()
}

/// Sends one after the other, each as soon as the one before is included.
async fn send(provider: &DynProvider, transfers: Vec<Vec<u8>>) -> anyhow::Result<()> {
    for transfer in transfers {
        let receipt = provider.send_raw_transaction_sync(&transfer).await?;
        ensure!(receipt.status(), "a transfer was reverted");
    }
    Ok(())
}

async fn crowd(provider: &DynProvider, first: impl Fn(u8) -> u64) -> anyhow::Result<f64> {
    let mut tasks = Vec::new();
    for number in 1..=SENDERS {
        let nonce = first(number);
        tasks.push((provider.clone(), transfers(number, nonce..nonce + EACH)?));
    }
    let began = Instant::now();
    try_join_all(tasks.into_iter().map(|(provider, transfers)| {
        let task = tokio::spawn(async move { send(&provider, transfers).await });
        async move { task.await? }
    }))
    .await?;
    Ok(per_second(u64::from(SENDERS) * EACH, began.elapsed()))
}

async fn alone(provider: &DynProvider, nonce: u64) -> anyhow::Result<f64> {
    let mut spans = Vec::new();
    for transfer in transfers(1, nonce..nonce + ALONE)? {
        let began = Instant::now();
        send(provider, vec![transfer]).await?;
        spans.push(millis(began.elapsed()));
    }
    Ok(median(spans))
}
