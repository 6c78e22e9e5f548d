//! Chains to test on, accounts that have money there, and small programs in bytecode.

use alloy::consensus::{SignableTransaction as _, TxEip1559, TxEnvelope, TypedTransaction};
use alloy::eips::Encodable2718 as _;
use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::providers::{DynProvider, Provider as _, ProviderBuilder};
use alloy::rpc::types::TransactionReceipt;
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use serde_json::Value;
use serde_json::value::RawValue;
use tradewind_chain::embedded::{Embedded, EmbeddedConfig, Genesis};
pub(crate) use tradewind_testbed::anvil::{ALICE, Anvil, BOB, CHAIN_ID, GAS_LIMIT, GWEI, foundry};

pub(crate) fn signer(key: &str) -> PrivateKeySigner {
    key.parse().expect("a private key")
}

pub(crate) fn ether(amount: u64) -> U256 {
    U256::from(amount) * U256::from(10).pow(U256::from(18))
}

/// Alice and Bob with anvil's balances.
pub(crate) fn genesis() -> Genesis {
    Genesis::new(CHAIN_ID)
        .fund(signer(ALICE).address(), ether(10_000))
        .fund(signer(BOB).address(), ether(10_000))
}

pub(crate) fn config() -> EmbeddedConfig {
    EmbeddedConfig { gas_limit: GAS_LIMIT, dev: true, ..EmbeddedConfig::in_memory(genesis()) }
}

pub(crate) fn open() -> Embedded {
    Embedded::open(config()).expect("an embedded ledger")
}

pub(crate) fn http(url: &str) -> DynProvider {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    ProviderBuilder::default().connect_http(url.parse().expect("a URL")).erased()
}

/// A fee-market transaction with generous fees.
pub(crate) fn transaction(
    nonce: u64,
    to: TxKind,
    value: U256,
    gas_limit: u64,
    input: impl Into<Bytes>,
) -> TxEip1559 {
    TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit,
        max_fee_per_gas: 100 * GWEI,
        max_priority_fee_per_gas: GWEI,
        to,
        value,
        input: input.into(),
        ..TxEip1559::default()
    }
}

pub(crate) fn transfer(nonce: u64, to: Address, value: u64) -> TxEip1559 {
    transaction(nonce, to.into(), U256::from(value), 21_000, Bytes::new())
}

pub(crate) fn sign(key: &str, transaction: impl Into<TypedTransaction>) -> TxEnvelope {
    let transaction = transaction.into();
    let signature = signer(key).sign_hash_sync(&transaction.signature_hash()).expect("a signature");
    transaction.into_envelope(signature)
}

pub(crate) fn raw(key: &str, transaction: impl Into<TypedTransaction>) -> Vec<u8> {
    sign(key, transaction).encoded_2718()
}

/// Sends a transaction and waits for its receipt.
pub(crate) async fn send(
    provider: &DynProvider,
    key: &str,
    transaction: impl Into<TypedTransaction>,
) -> TransactionReceipt {
    let pending = provider.send_raw_transaction(&raw(key, transaction)).await.expect("it is accepted");
    pending.get_receipt().await.expect("a receipt")
}

/// The code and message of a request that must fail, and its data.
pub(crate) async fn failure(
    provider: &DynProvider,
    method: &'static str,
    params: Value,
) -> (i64, String, Option<Value>) {
    let params = serde_json::value::to_raw_value(&params).expect("JSON");
    let error = provider.raw_request_dyn(method.into(), &params).await.expect_err("it fails");
    let error = error.as_error_resp().unwrap_or_else(|| panic!("not an answer: {error}")).clone();
    let data = error.data.as_deref().map(RawValue::get).map(|data| serde_json::from_str(data).expect("JSON"));
    (error.code, error.message.into_owned(), data)
}

pub(crate) async fn request(provider: &DynProvider, method: &'static str, params: Value) -> Value {
    let params = serde_json::value::to_raw_value(&params).expect("JSON");
    let answer = provider.raw_request_dyn(method.into(), &params).await;
    let answer = answer.unwrap_or_else(|error| panic!("{method}: {error}"));
    serde_json::from_str(answer.get()).expect("JSON")
}

/// Initcode that deploys `runtime`.
pub(crate) fn deploying(runtime: &[u8]) -> Vec<u8> {
    let length = u16::try_from(runtime.len()).expect("a short program").to_be_bytes();
    // PUSH2 length, DUP1, PUSH1 11, PUSH0, CODECOPY, PUSH0, RETURN
    let mut code = vec![0x61, length[0], length[1], 0x80, 0x60, 0x0a, 0x5f, 0x39, 0x5f, 0xf3];
    code.extend_from_slice(runtime);
    code
}

/// Adds one to slot 0, logs the new value under the first argument as topic, and returns it.
pub(crate) const COUNTER: &[u8] = &[
    0x5f, 0x54, // SLOAD(0)
    0x60, 0x01, 0x01, // + 1
    0x80, 0x5f, 0x55, // SSTORE(0, value)
    0x5f, 0x52, // MSTORE(0, value)
    0x5f, 0x35, // CALLDATALOAD(0)
    0x60, 0x20, 0x5f, 0xa1, // LOG1(0, 32, topic)
    0x60, 0x20, 0x5f, 0xf3, // RETURN(0, 32)
];

/// Stores its second argument in the slot that its first one names.
pub(crate) const STORE: &[u8] = &[0x60, 0x20, 0x35, 0x5f, 0x35, 0x55, 0x00];

/// Reverts with its calldata.
pub(crate) const REVERT: &[u8] = &[0x36, 0x5f, 0x5f, 0x37, 0x36, 0x5f, 0xfd];

/// Logs and stores, and then reverts with nothing.
pub(crate) const LATE_REVERT: &[u8] = &[0x60, 0x01, 0x5f, 0x55, 0x5f, 0x5f, 0xa0, 0x5f, 0x5f, 0xfd];

/// Never ends.
pub(crate) const LOOP: &[u8] = &[0x5b, 0x5f, 0x56];

/// An invalid instruction.
pub(crate) const INVALID: &[u8] = &[0xfe];
