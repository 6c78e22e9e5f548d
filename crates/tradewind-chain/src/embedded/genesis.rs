//! Block 0.

use std::collections::BTreeMap;

use alloy::consensus::Header;
use alloy::primitives::{B256, KECCAK256_EMPTY, U256};
use revm::state::Bytecode;

use super::block::Block;
use super::config::Genesis;
use super::execution::Rules;
use super::state::{Account, Change, StateDiff};

/// The first block, and the state that it brings.
pub(crate) fn genesis_block(genesis: &Genesis, rules: &Rules) -> (Block, StateDiff) {
    let mut diff = StateDiff { accounts: BTreeMap::new(), ..StateDiff::default() };
    for (address, given) in &genesis.accounts {
        let mut code_hash = KECCAK256_EMPTY;
        if !given.code.is_empty() {
            let code = Bytecode::new_legacy(given.code.clone());
            code_hash = code.hash_slow();
            diff.codes.insert(code_hash, code);
        }
        let after = Some(Account { nonce: given.nonce, balance: given.balance, code_hash });
        diff.accounts.insert(*address, Change { before: None, after });
        for (slot, value) in &given.storage {
            let change = Change { before: U256::ZERO, after: U256::from_be_bytes(value.0) };
            diff.slots.insert((*address, U256::from_be_bytes(slot.0)), change);
        }
    }
    let header = Header {
        number: 0,
        gas_limit: rules.gas_limit,
        timestamp: genesis.timestamp,
        base_fee_per_gas: Some(rules.min_base_fee),
        beneficiary: rules.beneficiary,
        state_root: diff.commitment(B256::ZERO),
        ..Header::default()
    };
    (Block::seal(header, Vec::new(), Vec::new(), Vec::new()), diff)
}
