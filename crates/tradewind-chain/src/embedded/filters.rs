//! Polling filters of `eth_newFilter` and its kin: bounded in number, forgotten when nobody polls them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use alloy::primitives::{B256, U256};
use alloy::rpc::types::{Filter, Log};
use rand::RngExt as _;

use super::block::Block;

/// Filters that may be installed at once.
const FILTERS: usize = 256;
/// How long a filter lives without being polled, as geth has it.
const IDLE: Duration = Duration::from_secs(300);
/// Removed logs that one filter keeps for its next poll.
const REMOVED: usize = 10_000;

/// What a filter reports.
#[derive(Debug, Clone)]
pub(crate) enum Subject {
    Logs(Box<Filter>),
    Blocks,
    /// Hashes of waiting transactions that were reported already.
    Pending(Vec<B256>),
}

#[derive(Debug, Clone)]
pub(crate) struct Installed {
    pub(crate) subject: Subject,
    /// The last block that was reported.
    pub(crate) seen: u64,
    /// Logs that were reported and that a reorganisation took back.
    pub(crate) removed: Vec<Log>,
    polled: Instant,
}

/// All installed filters.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    installed: BTreeMap<U256, Installed>,
}

impl Filters {
    /// Installs a filter that reports what comes after block `seen`; none if there are too many.
    pub(crate) fn install(&mut self, subject: Subject, seen: u64) -> Option<U256> {
        self.installed.retain(|_, filter| filter.polled.elapsed() < IDLE);
        if self.installed.len() >= FILTERS {
            return None;
        }
        let id = U256::from(rand::rng().random::<u128>());
        self.installed.insert(id, Installed { subject, seen, removed: Vec::new(), polled: Instant::now() });
        Some(id)
    }

    pub(crate) fn uninstall(&mut self, id: U256) -> bool {
        self.installed.remove(&id).is_some()
    }

    /// The filter as it is now, without what it has yet to report.
    pub(crate) fn peek(&mut self, id: U256) -> Option<Installed> {
        let filter = self.installed.get_mut(&id).filter(|filter| filter.polled.elapsed() < IDLE)?;
        filter.polled = Instant::now();
        Some(filter.clone())
    }

    /// The filter as it is now, with its pending removals handed over and its life prolonged.
    pub(crate) fn poll(&mut self, id: U256) -> Option<Installed> {
        let filter = self.installed.get_mut(&id).filter(|filter| filter.polled.elapsed() < IDLE)?;
        filter.polled = Instant::now();
        let removed = std::mem::take(&mut filter.removed);
        Some(Installed { removed, ..filter.clone() })
    }

    /// Notes what a poll reported.
    pub(crate) fn advance(&mut self, id: U256, seen: u64, pending: Option<Vec<B256>>) {
        if let Some(filter) = self.installed.get_mut(&id) {
            filter.seen = seen;
            if let (Subject::Pending(known), Some(pending)) = (&mut filter.subject, pending) {
                *known = pending;
            }
        }
    }

    /// Takes back what was reported of blocks that a reorganisation removed above `height`.
    pub(crate) fn on_removed(&mut self, height: u64, blocks: &[Block]) {
        for filter in self.installed.values_mut().filter(|filter| filter.seen > height) {
            if let Subject::Logs(wanted) = &filter.subject {
                let reported = blocks.iter().filter(|block| block.header.number <= filter.seen);
                let logs = reported.flat_map(Block::rpc_logs).filter(|log| wanted.rpc_matches(log));
                let room = REMOVED.saturating_sub(filter.removed.len());
                filter.removed.extend(logs.take(room).map(|log| Log { removed: true, ..log }));
            }
            filter.seen = height;
        }
    }
}
