//! Decoded blocks that were read or made lately, bounded by the number of their transactions.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use alloy::primitives::B256;

use super::block::Block;

/// Transactions that all cached blocks together may hold, plus one for each block.
const CAPACITY: usize = 32_768;

/// Blocks by hash, which a reorganisation cannot make wrong.
#[derive(Default)]
pub(crate) struct BlockCache {
    blocks: HashMap<B256, Arc<Block>>,
    order: VecDeque<B256>,
    weight: usize,
}

impl BlockCache {
    pub(crate) fn get(&self, hash: B256) -> Option<Arc<Block>> {
        self.blocks.get(&hash).cloned()
    }

    pub(crate) fn insert(&mut self, block: Arc<Block>) {
        let hash = block.hash;
        let weight = 1 + block.transactions.len();
        if self.blocks.insert(hash, block).is_some() {
            return;
        }
        self.order.push_back(hash);
        self.weight += weight;
        while self.weight > CAPACITY && self.order.len() > 1 {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(block) = self.blocks.remove(&oldest) {
                self.weight -= 1 + block.transactions.len();
            }
        }
    }
}
