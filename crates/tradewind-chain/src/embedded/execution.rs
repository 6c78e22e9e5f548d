//! Execution: transactions on the EVM, blocks of them, and calls that leave no trace.

use alloy::consensus::{Header, Receipt, ReceiptEnvelope, Transaction as _, TxEnvelope};
use alloy::eips::eip1559::BaseFeeParams;
use alloy::primitives::{Address, B256, U256, keccak256};
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction};
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::primitives::hardfork::SpecId;
use revm::{Context, ExecuteCommitEvm as _, ExecuteEvm as _, MainBuilder as _, MainContext as _};

use super::block::Block;
use super::pool::Pooled;
use super::state::{StateDb, StateDiff};
use super::store::StoreError;

/// The rules of Ethereum that the ledger runs.
pub(crate) const SPEC: SpecId = SpecId::CANCUN;

/// What is fixed for the life of a ledger process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) chain_id: u64,
    pub(crate) gas_limit: u64,
    pub(crate) min_base_fee: u64,
    pub(crate) beneficiary: Address,
}

impl Rules {
    /// The base fee of the block after `parent`, by EIP-1559 with a floor.
    pub(crate) fn next_base_fee(&self, parent: &Header) -> u64 {
        let base_fee = parent.base_fee_per_gas.unwrap_or(self.min_base_fee);
        BaseFeeParams::ethereum()
            .next_block_base_fee(parent.gas_used, parent.gas_limit, base_fee)
            .max(self.min_base_fee)
    }

    /// The header of the block after `parent`, without what only execution can fill in.
    pub(crate) fn next_header(&self, parent: &Header, parent_hash: B256, timestamp: u64) -> Header {
        Header {
            parent_hash,
            number: parent.number + 1,
            beneficiary: self.beneficiary,
            gas_limit: self.gas_limit,
            timestamp: timestamp.max(parent.timestamp),
            base_fee_per_gas: Some(self.next_base_fee(parent)),
            mix_hash: keccak256(parent_hash),
            ..Header::default()
        }
    }

    fn cfg(&self) -> CfgEnv {
        let mut cfg = CfgEnv::new_with_spec(SPEC);
        cfg.chain_id = self.chain_id;
        cfg
    }
}

pub(crate) fn block_env(header: &Header) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or(0),
        difficulty: U256::ZERO,
        prevrandao: Some(header.mix_hash),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice::new_with_spec(0, SPEC)),
        slot_num: 0,
    }
}

pub(crate) fn tx_env(transaction: &TxEnvelope, sender: Address) -> TxEnv {
    TxEnv {
        tx_type: transaction.tx_type() as u8,
        caller: sender,
        gas_limit: transaction.gas_limit(),
        gas_price: transaction.max_fee_per_gas(),
        gas_priority_fee: transaction.max_priority_fee_per_gas(),
        kind: transaction.kind(),
        value: transaction.value(),
        data: transaction.input().clone(),
        nonce: transaction.nonce(),
        chain_id: transaction.chain_id(),
        access_list: transaction.access_list().cloned().unwrap_or_default(),
        ..TxEnv::default()
    }
}

/// A block that was executed and sealed, but not stored yet.
pub(crate) struct Executed {
    pub(crate) block: Block,
    pub(crate) diff: StateDiff,
    /// Transactions that can never be included, with the reason.
    pub(crate) rejected: Vec<(B256, InvalidTransaction)>,
}

/// Executes `transactions` in order on top of `parent_root` until the gas limit, and seals the block.
pub(crate) fn execute_block(
    state: &mut StateDb,
    rules: &Rules,
    mut header: Header,
    parent_root: B256,
    transactions: &[Pooled],
) -> Result<Executed, StoreError> {
    let mut senders = Vec::with_capacity(transactions.len());
    let mut included = Vec::with_capacity(transactions.len());
    let mut receipts: Vec<ReceiptEnvelope> = Vec::with_capacity(transactions.len());
    let mut rejected = Vec::new();
    let mut gas_used = 0u64;
    let mut evm = Context::mainnet()
        .with_cfg(rules.cfg())
        .with_block(block_env(&header))
        .with_db(&mut *state)
        .build_mainnet();
    for pooled in transactions {
        if pooled.transaction.gas_limit() > header.gas_limit.saturating_sub(gas_used) {
            break;
        }
        match evm.transact_commit(tx_env(&pooled.transaction, pooled.sender)) {
            Ok(result) => {
                gas_used = gas_used.saturating_add(result.tx_gas_used());
                receipts.push(receipt(&pooled.transaction, result, gas_used));
                senders.push(pooled.sender);
                included.push(pooled.transaction.clone());
            }
            // Both can become valid later: once a gap is filled, once the base fee falls.
            Err(EVMError::Transaction(
                InvalidTransaction::NonceTooHigh { .. } | InvalidTransaction::GasPriceLessThanBasefee,
            )) => {}
            Err(EVMError::Transaction(reason)) => rejected.push((pooled.hash, reason)),
            Err(EVMError::Database(error)) => return Err(error),
            Err(EVMError::Header(_) | EVMError::Custom(_) | EVMError::CustomAny(_)) => {
                rejected.push((pooled.hash, InvalidTransaction::Str("execution failed".into())));
            }
        }
    }
    drop(evm);
    let diff = state.take_diff();
    header.state_root = diff.commitment(parent_root);
    Ok(Executed { block: Block::seal(header, senders, included, receipts), diff, rejected })
}

fn receipt(transaction: &TxEnvelope, result: ExecutionResult, cumulative_gas_used: u64) -> ReceiptEnvelope {
    let success = result.is_success();
    // A failed transaction reports the logs that it rolled back.
    let logs = if success { result.into_logs() } else { Vec::new() };
    let receipt = Receipt { status: success.into(), cumulative_gas_used, logs };
    ReceiptEnvelope::from_typed(transaction.tx_type(), receipt.with_bloom())
}

/// Why a call did not run at all.
#[derive(Debug)]
pub(crate) enum CallError {
    Invalid(InvalidTransaction),
    Store(StoreError),
    Evm(String),
}

/// Runs `call` without nonce, base fee and sender-code checks, as `eth_call` does, and forgets its effects.
pub(crate) fn simulate(
    state: &mut StateDb,
    rules: &Rules,
    block: BlockEnv,
    call: TxEnv,
) -> Result<ExecutionResult, CallError> {
    let mut cfg = rules.cfg();
    cfg.disable_nonce_check = true;
    cfg.disable_eip3607 = true;
    cfg.disable_base_fee = call.gas_price == 0;
    cfg.tx_chain_id_check = false;
    let mut evm = Context::mainnet().with_cfg(cfg).with_block(block).with_db(state).build_mainnet();
    evm.transact(call).map(|outcome| outcome.result).map_err(|error| match error {
        EVMError::Transaction(reason) => CallError::Invalid(reason),
        EVMError::Database(error) => CallError::Store(error),
        EVMError::Header(error) => CallError::Evm(error.to_string()),
        EVMError::Custom(error) => CallError::Evm(error),
        EVMError::CustomAny(error) => CallError::Evm(error.to_string()),
    })
}
