//! Bending time and history: blocks made by hand, clocks moved, blocks removed again.

use std::sync::atomic::Ordering;

use alloy::primitives::{B256, Bytes};

use super::super::pool::Pooled;
use super::super::state::StateDb;
use super::super::store::{Commit, StoreError};
use super::{Arc, Command, Engine, LedgerError, Reply, Tip, lock};

/// What becomes of the transactions of blocks that a reorganisation removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// They are forgotten, as when a competing chain never saw them.
    Forget,
    /// They are mined again, in the last block of the new branch.
    Requeue,
}

/// What the engine is asked to do beside taking transactions.
pub(crate) enum Control {
    Mine { blocks: u64, timestamp: Option<u64>, reply: Reply<()> },
    Reorg { depth: u64, dropped: Dropped, reply: Reply<()> },
    Rewind { number: u64, hash: B256, reply: Reply<bool> },
    AdvanceTime { seconds: u64, reply: Reply<u64> },
    NextTimestamp { timestamp: u64, reply: Reply<()> },
    Automine { on: bool, reply: Reply<()> },
}

impl From<Control> for Command {
    fn from(control: Control) -> Self {
        Self::Control(control)
    }
}

impl Engine {
    /// Does what it is told and answers. An answer that nobody waits for any more is dropped.
    pub(super) fn obey(&mut self, control: Control) {
        match control {
            Control::Mine { blocks, timestamp, reply } => drop(reply.send(self.mine(blocks, timestamp))),
            Control::Reorg { depth, dropped, reply } => drop(reply.send(self.reorg(depth, dropped))),
            Control::Rewind { number, hash, reply } => drop(reply.send(self.rewind_to(number, hash))),
            Control::AdvanceTime { seconds, reply } => {
                let ahead = self.shared.time_offset.fetch_add(seconds, Ordering::SeqCst);
                let _ = reply.send(Ok(ahead.saturating_add(seconds)));
            }
            Control::NextTimestamp { timestamp, reply } => {
                self.next_timestamp = Some(timestamp);
                let ahead = timestamp.saturating_sub(self.shared.clock.now());
                self.shared.time_offset.store(ahead, Ordering::SeqCst);
                let _ = reply.send(Ok(()));
            }
            Control::Automine { on, reply } => {
                self.automine = on;
                let _ = reply.send(Ok(()));
            }
        }
    }

    fn mine(&mut self, blocks: u64, timestamp: Option<u64>) -> Result<(), LedgerError> {
        self.usable()?;
        if timestamp.is_some() {
            self.next_timestamp = timestamp;
        }
        for _ in 0..blocks {
            self.make_block(true, Bytes::new())?;
        }
        Ok(())
    }

    /// Replaces the last `depth` blocks by `depth + 1` others.
    fn reorg(&mut self, depth: u64, dropped: Dropped) -> Result<(), LedgerError> {
        self.usable()?;
        let head = self.tip.borrow().header.number;
        let height = head.checked_sub(depth).ok_or(LedgerError::TooDeep { depth, kept: head })?;
        let lost = self.rewind(height)?;
        self.forks += 1;
        let extra = Bytes::from(format!("fork {}", self.forks).into_bytes());
        let waiting = std::mem::take(&mut *lock(&self.shared.pool));
        for _ in 0..depth {
            self.make_block(true, extra.clone())?;
        }
        *lock(&self.shared.pool) = waiting;
        if dropped == Dropped::Requeue {
            for pooled in lost {
                let account = self.state.account(pooled.sender)?;
                // A sender that also queued another transaction for the same nonce keeps that one.
                let _ = lock(&self.shared.pool).admit(pooled, account, &self.shared.rules);
            }
        }
        self.make_block(true, extra)?;
        Ok(())
    }

    fn rewind_to(&mut self, number: u64, hash: B256) -> Result<bool, LedgerError> {
        self.usable()?;
        if self.state.view().block_hash(number)? != Some(hash) {
            return Ok(false);
        }
        if number < self.tip.borrow().header.number {
            self.rewind(number)?;
        }
        Ok(true)
    }

    /// Removes the blocks above `height`, and answers their transactions.
    fn rewind(&mut self, height: u64) -> Result<Vec<Pooled>, LedgerError> {
        let head = self.tip.borrow().header.number;
        let view = self.state.view();
        let undo = view.undo_above(height)?;
        let undo = undo.ok_or(LedgerError::TooDeep { depth: head - height, kept: self.shared.history })?;
        let mut removed = Vec::new();
        for number in height + 1..=head {
            removed.push(view.block(number)?.ok_or(StoreError::Corrupt("missing block"))?);
        }
        let (hash, header) = view.header(height)?.ok_or(StoreError::Corrupt("missing header"))?;
        let commit = Commit { rewind: Some((height, undo)), ..Commit::default() };
        self.shared.store.commit(&commit).map_err(|error| self.recover(&error))?;
        self.state = StateDb::new(self.shared.store.view().map_err(|error| self.recover(&error))?);
        lock(&self.shared.filters).on_removed(height, &removed);
        self.tip.send_replace(Arc::new(Tip { header, hash }));
        let lost = removed.into_iter().flat_map(|block| {
            block.transactions.into_iter().zip(block.senders).map(|(transaction, sender)| Pooled {
                hash: *transaction.tx_hash(),
                sender,
                transaction,
                arrival: 0,
            })
        });
        Ok(lost.collect())
    }
}
