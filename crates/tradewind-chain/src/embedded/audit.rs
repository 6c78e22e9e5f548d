//! Re-execution of a ledger's whole history, to show that what is stored follows from its transactions.

use std::sync::Arc;

use alloy::primitives::B256;

use super::config::Genesis;
use super::execution::{Rules, execute_block};
use super::genesis::genesis_block;
use super::pool::Pooled;
use super::state::StateDb;
use super::store::{Commit, Medium, Store, StoreError, View};

/// What a re-execution covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audit {
    /// The newest block.
    pub head: u64,
    /// Its hash.
    pub hash: B256,
    /// Transactions that were executed again.
    pub transactions: u64,
    /// Accounts whose state was compared.
    pub accounts: u64,
}

/// The stored ledger does not follow from its transactions.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The storage could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A block came out differently.
    #[error("block {number} re-executes to {actual}, but {stored} is stored")]
    Block {
        /// The block.
        number: u64,
        /// The stored hash.
        stored: B256,
        /// The hash that re-execution gives.
        actual: B256,
    },
    /// The blocks agree, but the stored state does not.
    #[error("the stored state differs from the re-executed state")]
    State,
}

pub(crate) fn audit(view: &View, genesis: &Genesis, rules: &Rules) -> Result<Audit, AuditError> {
    let replica = Arc::new(Store::open(Medium::Memory)?);
    let head = view.head()?.ok_or(StoreError::Corrupt("head"))?;
    let (block, diff) = genesis_block(genesis, &genesis_rules(view, rules)?);
    let mut parent = check(view, block.hash, 0)?;
    replica.commit(&Commit { block: Some((&block, &diff)), ..Commit::default() })?;
    let mut state = StateDb::new(replica.view()?);
    let mut transactions = 0;
    for number in 1..=head {
        let stored = view.block(number)?.ok_or(StoreError::Corrupt("missing block"))?;
        transactions += stored.transactions.len() as u64;
        let ready: Vec<Pooled> = stored
            .transactions
            .iter()
            .zip(&stored.senders)
            .map(|(transaction, sender)| Pooled {
                hash: *transaction.tx_hash(),
                sender: *sender,
                transaction: transaction.clone(),
                arrival: 0,
            })
            .collect();
        let executed = execute_block(&mut state, rules, stored.header, parent, &ready)?;
        check(view, executed.block.hash, number)?;
        parent = executed.block.header.state_root;
        replica.commit(&Commit { block: Some((&executed.block, &executed.diff)), ..Commit::default() })?;
        state.advance(replica.view()?);
    }
    let copy = replica.view()?;
    let accounts = view.all_accounts()?;
    if accounts != copy.all_accounts()? || view.all_slots()? != copy.all_slots()? {
        return Err(AuditError::State);
    }
    let hash = view.block_hash(head)?.unwrap_or_default();
    Ok(Audit { head, hash, transactions, accounts: accounts.len() as u64 })
}

/// The rules that block 0 was made with, which a later configuration may have changed.
fn genesis_rules(view: &View, rules: &Rules) -> Result<Rules, StoreError> {
    let (_, header) = view.header(0)?.ok_or(StoreError::Corrupt("missing genesis"))?;
    Ok(Rules {
        gas_limit: header.gas_limit,
        min_base_fee: header.base_fee_per_gas.unwrap_or(rules.min_base_fee),
        beneficiary: header.beneficiary,
        ..*rules
    })
}

/// Compares a re-executed block with the stored one and answers the state commitment to go on from.
fn check(view: &View, actual: B256, number: u64) -> Result<B256, AuditError> {
    let (stored, header) = view.header(number)?.ok_or(StoreError::Corrupt("missing header"))?;
    if stored != actual || header.hash_slow() != stored {
        return Err(AuditError::Block { number, stored, actual });
    }
    Ok(header.state_root)
}
