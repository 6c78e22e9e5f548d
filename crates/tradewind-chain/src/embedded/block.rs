//! Blocks as Ethereum defines them, and their JSON-RPC forms.

use alloy::consensus::constants::EMPTY_WITHDRAWALS;
use alloy::consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy::consensus::transaction::{Recovered, TransactionInfo};
use alloy::consensus::{Header, ReceiptEnvelope, Transaction as _, TxEnvelope};
use alloy::eips::eip4895::Withdrawals;
use alloy::primitives::{Address, B256, Bloom, U256};
use alloy::rlp::Encodable as _;
use alloy::rpc::types::{
    Block as RpcBlock, BlockTransactions, Header as RpcHeader, Log as RpcLog, Transaction, TransactionReceipt,
};

/// A sealed block with its receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) header: Header,
    pub(crate) hash: B256,
    pub(crate) senders: Vec<Address>,
    pub(crate) transactions: Vec<TxEnvelope>,
    pub(crate) receipts: Vec<ReceiptEnvelope>,
}

impl Block {
    /// Completes `header` with the roots of the given lists and hashes it.
    pub(crate) fn seal(
        mut header: Header,
        senders: Vec<Address>,
        transactions: Vec<TxEnvelope>,
        receipts: Vec<ReceiptEnvelope>,
    ) -> Self {
        header.transactions_root = calculate_transaction_root(&transactions);
        header.receipts_root = calculate_receipt_root(&receipts);
        header.logs_bloom = receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom());
        header.gas_used = receipts.last().map_or(0, ReceiptEnvelope::cumulative_gas_used);
        header.withdrawals_root = Some(EMPTY_WITHDRAWALS);
        header.blob_gas_used = Some(0);
        header.excess_blob_gas = Some(0);
        header.parent_beacon_block_root = Some(B256::ZERO);
        let hash = header.hash_slow();
        Self { header, hash, senders, transactions, receipts }
    }

    pub(crate) fn base_fee(&self) -> u64 {
        self.header.base_fee_per_gas.unwrap_or(0)
    }

    pub(crate) fn gas_used(&self, index: usize) -> u64 {
        let upto = |index: usize| self.receipts.get(index).map_or(0, ReceiptEnvelope::cumulative_gas_used);
        let before = index.checked_sub(1).map_or(0, upto);
        upto(index).saturating_sub(before)
    }

    /// The JSON-RPC form, with whole transactions or only their hashes.
    pub(crate) fn rpc(&self, full: bool) -> RpcBlock {
        let body = alloy::consensus::BlockBody {
            transactions: self.transactions.clone(),
            ommers: Vec::<Header>::new(),
            withdrawals: Some(Withdrawals::default()),
        };
        let size = U256::from(body.into_block(self.header.clone()).length());
        let header = RpcHeader {
            hash: self.hash,
            inner: self.header.clone(),
            total_difficulty: Some(U256::ZERO),
            size: Some(size),
        };
        let transactions = if full {
            BlockTransactions::Full(
                (0..self.transactions.len()).filter_map(|index| self.rpc_transaction(index)).collect(),
            )
        } else {
            BlockTransactions::Hashes(self.transactions.iter().map(|tx| *tx.tx_hash()).collect())
        };
        RpcBlock::new(header, transactions).with_withdrawals(Some(Withdrawals::default()))
    }

    pub(crate) fn rpc_transaction(&self, index: usize) -> Option<Transaction> {
        let transaction = self.transactions.get(index)?.clone();
        let sender = *self.senders.get(index)?;
        let info = TransactionInfo {
            hash: Some(*transaction.tx_hash()),
            index: Some(index as u64),
            block_hash: Some(self.hash),
            block_number: Some(self.header.number),
            base_fee: self.header.base_fee_per_gas,
            block_timestamp: Some(self.header.timestamp),
        };
        Some(Transaction::from_transaction(Recovered::new_unchecked(transaction, sender), info))
    }

    pub(crate) fn rpc_receipt(&self, index: usize) -> Option<TransactionReceipt> {
        let transaction = self.transactions.get(index)?;
        let receipt = self.receipts.get(index)?;
        let sender = *self.senders.get(index)?;
        let mut log_index = self.first_log_index(index);
        let inner = receipt.clone().map_logs(|inner| {
            let log = self.rpc_log(inner, *transaction.tx_hash(), index, log_index);
            log_index += 1;
            log
        });
        let contract_address = (transaction.to().is_none()).then(|| sender.create(transaction.nonce()));
        Some(TransactionReceipt {
            inner,
            transaction_hash: *transaction.tx_hash(),
            transaction_index: Some(index as u64),
            block_hash: Some(self.hash),
            block_number: Some(self.header.number),
            gas_used: self.gas_used(index),
            effective_gas_price: transaction.effective_gas_price(self.header.base_fee_per_gas),
            blob_gas_used: None,
            blob_gas_price: None,
            from: sender,
            to: transaction.to(),
            contract_address,
        })
    }

    /// Every log of the block with its position.
    pub(crate) fn rpc_logs(&self) -> impl Iterator<Item = RpcLog> + '_ {
        self.receipts
            .iter()
            .zip(&self.transactions)
            .enumerate()
            .flat_map(|(index, (receipt, transaction))| {
                receipt.logs().iter().map(move |log| (index, *transaction.tx_hash(), log))
            })
            .enumerate()
            .map(|(position, (index, hash, log))| self.rpc_log(log.clone(), hash, index, position as u64))
    }

    fn first_log_index(&self, index: usize) -> u64 {
        self.receipts.iter().take(index).map(|receipt| receipt.logs().len() as u64).sum()
    }

    fn rpc_log(&self, inner: alloy::primitives::Log, hash: B256, index: usize, position: u64) -> RpcLog {
        RpcLog {
            inner,
            block_hash: Some(self.hash),
            block_number: Some(self.header.number),
            block_timestamp: Some(self.header.timestamp),
            transaction_hash: Some(hash),
            transaction_index: Some(index as u64),
            log_index: Some(position),
            removed: false,
        }
    }
}
