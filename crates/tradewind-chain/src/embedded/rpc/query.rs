//! State, blocks, transactions and fees.

use alloy::consensus::Transaction as _;
use alloy::consensus::transaction::{Recovered, TransactionInfo};
use alloy::eips::{BlockId, BlockNumberOrTag, Encodable2718 as _};
use alloy::primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U64, U256};
use alloy::rpc::types::{FeeHistory, Transaction};
use alloy::serde::JsonStorageKey;

use super::super::block::Block;
use super::super::engine::lock;
use super::super::fault::Fault;
use super::super::state::StateDb;
use super::super::store::View;
use super::{Answer, Params, Rpc, raw};

/// Blocks that one `eth_feeHistory` may span, as geth has it.
const FEE_BLOCKS: u64 = 1024;
/// Percentiles that one `eth_feeHistory` may ask for.
const FEE_PERCENTILES: usize = 100;

impl Rpc {
    /// The state at the end of a block.
    pub(super) fn state_at(&self, id: BlockId) -> Result<StateDb, Fault> {
        let view = self.shared.store.view()?;
        let number = self.block_number(&view, id)?.ok_or_else(|| Fault::server("header not found"))?;
        if view.head()? == Some(number) {
            return Ok(StateDb::new(view));
        }
        match view.undo_above(number)? {
            Some(undo) => Ok(StateDb::before(view, undo)),
            None => Err(Fault::server(format!(
                "historical state of block {number} is not available: {} blocks are kept",
                self.shared.history
            ))),
        }
    }

    pub(super) fn balance(&self, params: &Params) -> Answer {
        let account = self.state_at(params.block(1)?)?.account(params.required(0)?)?;
        raw(&account.map_or(U256::ZERO, |account| account.balance))
    }

    pub(super) fn transaction_count(&self, params: &Params) -> Answer {
        let address: Address = params.required(0)?;
        let id = params.block(1)?;
        // The pool first: a transaction that is mined between the two looks must not be missed by both.
        let waiting = (id == BlockId::pending()).then(|| lock(&self.shared.pool).nonces(address));
        let mut nonce = self.state_at(id)?.account(address)?.map_or(0, |account| account.nonce);
        while waiting.as_ref().is_some_and(|waiting| waiting.contains(&nonce)) {
            nonce += 1;
        }
        raw(&U64::from(nonce))
    }

    pub(super) fn code(&self, params: &Params) -> Answer {
        let mut state = self.state_at(params.block(1)?)?;
        let hash = state.account(params.required(0)?)?.map_or(KECCAK256_EMPTY, |account| account.code_hash);
        raw(&state.code(hash)?.original_bytes())
    }

    pub(super) fn storage_at(&self, params: &Params) -> Answer {
        let key: JsonStorageKey = params.required(1)?;
        let value = self.state_at(params.block(2)?)?.slot(params.required(0)?, key.as_b256().into())?;
        raw(&B256::from(value))
    }

    pub(super) fn block_by_number(&self, params: &Params) -> Answer {
        let tag: BlockNumberOrTag = params.required(0)?;
        self.rpc_block(tag.into(), params.optional(1)?.unwrap_or(false))
    }

    pub(super) fn block_by_hash(&self, params: &Params) -> Answer {
        let hash: B256 = params.required(0)?;
        self.rpc_block(hash.into(), params.optional(1)?.unwrap_or(false))
    }

    fn rpc_block(&self, id: BlockId, full: bool) -> Answer {
        let view = self.shared.store.view()?;
        raw(&self.block_of(&view, id)?.map(|block| block.rpc(full)))
    }

    pub(super) fn block_transaction_count(&self, params: &Params) -> Answer {
        let view = self.shared.store.view()?;
        let block = self.block_of(&view, params.required(0)?)?;
        raw(&block.map(|block| U64::from(block.transactions.len())))
    }

    pub(super) fn block_receipts(&self, params: &Params) -> Answer {
        let view = self.shared.store.view()?;
        let block = self.block_of(&view, params.required(0)?)?;
        raw(&block.map(|block| {
            (0..block.transactions.len()).filter_map(|index| block.rpc_receipt(index)).collect::<Vec<_>>()
        }))
    }

    pub(super) fn transaction_by_hash(&self, params: &Params) -> Answer {
        let hash = params.required(0)?;
        let waiting = lock(&self.shared.pool).get(hash).cloned();
        let view = self.shared.store.view()?;
        if let Some((block, index)) = self.mined(&view, hash)? {
            return raw(&block.rpc_transaction(index));
        }
        raw(&waiting.map(|pooled| {
            let recovered = Recovered::new_unchecked(pooled.transaction, pooled.sender);
            Transaction::from_transaction(recovered, TransactionInfo::default())
        }))
    }

    pub(super) fn raw_transaction_by_hash(&self, params: &Params) -> Answer {
        let hash = params.required(0)?;
        let waiting = lock(&self.shared.pool).get(hash).cloned();
        let view = self.shared.store.view()?;
        let mined =
            self.mined(&view, hash)?.and_then(|(block, index)| block.transactions.get(index).cloned());
        let transaction = mined.or(waiting.map(|pooled| pooled.transaction));
        raw(&transaction.map(|transaction| Bytes::from(transaction.encoded_2718())))
    }

    pub(super) fn transaction_by_index(&self, params: &Params) -> Answer {
        let view = self.shared.store.view()?;
        let index: U64 = params.required(1)?;
        let block = self.block_of(&view, params.required(0)?)?;
        raw(&block.and_then(|block| block.rpc_transaction(usize::try_from(index.to::<u64>()).ok()?)))
    }

    pub(super) fn transaction_receipt(&self, params: &Params) -> Answer {
        let view = self.shared.store.view()?;
        let mined = self.mined(&view, params.required(0)?)?;
        raw(&mined.and_then(|(block, index)| block.rpc_receipt(index)))
    }

    pub(super) fn pool_status(&self) -> Answer {
        let pool = lock(&self.shared.pool).len();
        raw(&serde_json::json!({ "pending": U64::from(pool), "queued": U64::ZERO }))
    }

    pub(super) fn fee_history(&self, params: &Params) -> Answer {
        let count: U64 = params.required(0)?;
        let newest: BlockNumberOrTag = params.required(1)?;
        let percentiles: Vec<f64> = params.optional(2)?.unwrap_or_default();
        let ordered = percentiles.windows(2).all(|pair| pair[0] <= pair[1]);
        let in_range = percentiles.iter().all(|percentile| (0.0..=100.0).contains(percentile));
        if percentiles.len() > FEE_PERCENTILES || !ordered || !in_range {
            return Err(Fault::server("invalid reward percentile"));
        }
        let view = self.shared.store.view()?;
        let newest = self
            .block_number(&view, newest.into())?
            .ok_or_else(|| Fault::server("request beyond head block"))?;
        let count = count.to::<u64>().clamp(1, FEE_BLOCKS).min(newest + 1);
        let oldest = newest + 1 - count;
        let mut history = FeeHistory { oldest_block: oldest, ..FeeHistory::default() };
        let mut rewards = Vec::new();
        for number in oldest..=newest {
            let Some((_, header)) = view.header(number)? else { break };
            history.base_fee_per_gas.push(header.base_fee_per_gas.unwrap_or(0).into());
            history.base_fee_per_blob_gas.push(1);
            history.gas_used_ratio.push(ratio(header.gas_used, header.gas_limit));
            history.blob_gas_used_ratio.push(0.0);
            if number == newest {
                history.base_fee_per_gas.push(self.shared.rules.next_base_fee(&header).into());
                history.base_fee_per_blob_gas.push(1);
            }
            if !percentiles.is_empty() {
                rewards.push(self.rewards(&view, number, &percentiles)?);
            }
        }
        history.reward = (!percentiles.is_empty()).then_some(rewards);
        raw(&history)
    }

    /// The priority fees at the given percentiles of the gas that a block used.
    fn rewards(&self, view: &View, number: u64, percentiles: &[f64]) -> Result<Vec<u128>, Fault> {
        let block = self.block(view, number)?;
        let Some(block) = block.filter(|block| !block.transactions.is_empty()) else {
            return Ok(vec![0; percentiles.len()]);
        };
        let mut tips = tips(&block);
        tips.sort_unstable();
        let total: u64 = tips.iter().map(|(_, gas)| gas).sum();
        let at = |percentile: &f64| {
            let mut sum = 0;
            let reached = tips.iter().find(|(_, gas)| {
                sum += gas;
                ratio(sum, total) * 100.0 >= *percentile
            });
            reached.or(tips.last()).map_or(0, |(tip, _)| *tip)
        };
        Ok(percentiles.iter().map(at).collect())
    }
}

/// The priority fee and gas of each transaction.
fn tips(block: &Block) -> Vec<(u128, u64)> {
    let base_fee = block.base_fee();
    let tip = |(index, transaction): (usize, &alloy::consensus::TxEnvelope)| {
        (transaction.effective_tip_per_gas(base_fee).unwrap_or(0), block.gas_used(index))
    };
    block.transactions.iter().enumerate().map(tip).collect()
}

#[expect(clippy::cast_precision_loss, reason = "the interface asks for an approximate ratio")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
