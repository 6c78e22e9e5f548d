//! The deployed contracts on an embedded ledger, whose clock stands still until it is moved.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy::eips::Encodable2718 as _;
use alloy::primitives::{Address, B256, Bytes, LogData, Signature, TxKind, U256};
use alloy::providers::{DynProvider, Provider as _};
use alloy::rpc::types::{TransactionInput, TransactionRequest};
use alloy::sol_types::{SolCall as _, SolValue as _};
use tradewind_chain::client::artifacts::{self, Artifact};
use tradewind_chain::client::revert::RevertDecoder;
use tradewind_chain::embedded::{Embedded, EmbeddedConfig, Genesis, MULTICALL3, ManualClock};
use tradewind_proto::signature::SigningKey;

use super::refusal::Refusal;

/// The chain's id.
pub(crate) const CHAIN_ID: u64 = 31_337;
const GWEI: u128 = 1_000_000_000;
/// More than any call here needs.
const GAS: u64 = 4_000_000;

alloy::sol! {
    struct Read { address target; bool allowFailure; bytes callData; }
    struct Answer { bool success; bytes returnData; }
    function aggregate3(Read[] calls) returns (Answer[] answers);
}

/// What a read must answer.
#[derive(Debug)]
pub(crate) struct Fact {
    pub(crate) label: String,
    pub(crate) target: Address,
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
}

pub(crate) struct Chain {
    clock: ManualClock,
    ledger: Embedded,
    provider: DynProvider,
    keys: BTreeMap<Address, SigningKey>,
    nonces: BTreeMap<Address, u64>,
    errors: RevertDecoder,
}

impl Chain {
    /// A chain on which all `keys` have gas.
    pub(crate) fn open(now: u64, keys: BTreeMap<Address, SigningKey>) -> Self {
        let clock = ManualClock::new(now);
        let genesis =
            keys.keys().fold(Genesis::new(CHAIN_ID), |genesis, account| genesis.fund(*account, plenty()));
        let config = EmbeddedConfig { clock: Arc::new(clock.clone()), ..EmbeddedConfig::in_memory(genesis) };
        let ledger = Embedded::open(config).expect("an embedded ledger");
        let provider = ledger.provider();
        Self { clock, ledger, provider, keys, nonces: BTreeMap::new(), errors: artifacts::decoder() }
    }

    /// How many blocks there are beside the first.
    pub(crate) async fn height(&self) -> u64 {
        self.provider.get_block_number().await.expect("an answer")
    }

    pub(crate) async fn hash(&self, number: u64) -> B256 {
        let block = self.provider.get_block_by_number(number.into()).await.expect("an answer");
        block.expect("a block").header.hash
    }

    /// The address of the contract that `by` creates with its transaction after `more` others.
    pub(crate) fn created(&self, by: Address, more: u64) -> Address {
        by.create(self.nonces.get(&by).copied().unwrap_or(0) + more)
    }

    pub(crate) fn now(&self) -> u64 {
        self.ledger.now()
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.advance(seconds);
    }

    pub(crate) fn key(&self, account: Address) -> SigningKey {
        self.keys.get(&account).expect("somebody's key").clone()
    }

    pub(crate) async fn create(&mut self, by: Address, artifact: &Artifact, arguments: &[u8]) -> Address {
        let code = [artifact.bytecode.as_ref(), arguments].concat();
        let receipt = self.transact(by, TxKind::Create, code.into(), 30_000_000).await;
        assert!(receipt.status(), "the contract deploys");
        receipt.contract_address.expect("a contract")
    }

    /// Sends the call in a block of its own; what it told, or why it was refused.
    pub(crate) async fn send(
        &mut self,
        by: Address,
        to: Address,
        input: Bytes,
    ) -> Result<Vec<LogData>, Refusal> {
        let receipt = self.transact(by, to.into(), input.clone(), GAS).await;
        if receipt.status() {
            return Ok(receipt.inner.logs().iter().map(|log| log.inner.data.clone()).collect());
        }
        let input = TransactionInput::new(input);
        let request = TransactionRequest {
            from: Some(by),
            to: Some(to.into()),
            input,
            gas: Some(GAS),
            ..TransactionRequest::default()
        };
        let error = self.provider.call(request).await.expect_err("what failed in a block fails again");
        let error = error.as_error_resp().unwrap_or_else(|| panic!("not an answer: {error}"));
        let revert = self.errors.refusal(error).unwrap_or_else(|| panic!("not a refusal: {error}"));
        Err(Refusal {
            name: revert.name,
            values: Some(revert.values.into_iter().map(|(_, value)| value).collect()),
        })
    }

    async fn transact(
        &mut self,
        by: Address,
        to: TxKind,
        input: Bytes,
        gas: u64,
    ) -> alloy::rpc::types::TransactionReceipt {
        let nonce = self.nonces.entry(by).or_default();
        let transaction = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce: *nonce,
            gas_limit: gas,
            max_fee_per_gas: 100 * GWEI,
            max_priority_fee_per_gas: GWEI,
            to,
            input,
            ..TxEip1559::default()
        };
        *nonce += 1;
        let signature = self.keys[&by].sign(transaction.signature_hash());
        let signature = Signature::from_raw(signature.as_bytes()).expect("a signature");
        let raw = TxEnvelope::from(transaction.into_signed(signature)).encoded_2718();
        let hash = *self.provider.send_raw_transaction(&raw).await.expect("it is accepted").tx_hash();
        let receipt = self.provider.get_transaction_receipt(hash).await.expect("an answer");
        receipt.expect("on demand, a transaction is in a block at once")
    }

    /// The facts that do not hold.
    pub(crate) async fn differences(&self, facts: &[Fact]) -> Vec<String> {
        let calls = facts
            .iter()
            .map(|fact| Read { target: fact.target, allowFailure: true, callData: fact.input.clone().into() })
            .collect();
        let input = TransactionInput::new(aggregate3Call { calls }.abi_encode().into());
        let request =
            TransactionRequest { to: Some(MULTICALL3.into()), input, ..TransactionRequest::default() };
        let answer = self.provider.call(request).await.expect("reads are answered");
        let answers = <Vec<Answer>>::abi_decode(&answer).expect("a list of answers");
        assert_eq!(answers.len(), facts.len());
        let wrong =
            facts.iter().zip(answers).filter(|(fact, answer)| answer.returnData[..] != fact.output[..]);
        wrong
            .map(|(fact, answer)| {
                let difference = words(&fact.output, &answer.returnData);
                format!("{}: {difference}", fact.label)
            })
            .collect()
    }

    pub(crate) async fn read(&self, to: Address, input: Vec<u8>) -> Bytes {
        let request = TransactionRequest {
            to: Some(to.into()),
            input: TransactionInput::new(input.into()),
            ..TransactionRequest::default()
        };
        self.provider.call(request).await.expect("a read is answered")
    }
}

/// Gas for everything.
fn plenty() -> U256 {
    U256::from(10).pow(U256::from(24))
}

/// Where two answers differ, word by word.
fn words(model: &[u8], chain: &[u8]) -> String {
    let word = |bytes: &[u8], at: usize| {
        bytes
            .get(32 * at..32 * at + 32)
            .map_or("nothing".to_owned(), |word| B256::from_slice(word).to_string())
    };
    let count = model.len().max(chain.len()).div_ceil(32);
    (0..count)
        .filter(|at| word(model, *at) != word(chain, *at))
        .map(|at| format!("word {at}: model {} chain {}", word(model, at), word(chain, at)))
        .collect::<Vec<_>>()
        .join("; ")
}
