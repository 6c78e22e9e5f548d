//! Devices' reputations, as anyone computes them who reads the chain and watchers' pages of testimony.
//!
//! ```text
//! chain events ──► payments, highest price ─┐
//! the court ─────► strikes ─────────────────┼─► Evidence ─► Record (proto) ─► Reputation of a device
//! bulletins ─► pages, newest to oldest ─────┘     ▲
//!      roster, lots, keys of the chain ── checks ─┘
//! ```
//!
//! A page counts if the seat's key on chain signed it, and of it what the seat saw of devices that the lots gave it. A seat that signs two
//! pages for one epoch tells nothing of that epoch. So two nodes that read the same chain and the same pages answer the same; one that
//! lacks pages answers as of what it has, and says how many it read.
//!
//! Failure paths: a chain or a watcher that does not answer delays evidence and is asked again; a page that is too large, malformed or
//! forged is left out; a reorg takes payments and strikes back.

mod evidence;
mod follow;
mod lots;
mod pages;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tradewind_chain::ledger::Ledger;
use tradewind_mesh::Transport;
use tradewind_proto::challenge::Measured;
use tradewind_proto::evidence::Epoch;
use tradewind_proto::ids::DeviceId;
use tradewind_proto::reputation::Reputation;
use tradewind_proto::units::Clock;

use crate::evidence::Evidence;

/// Reputations as far as this node has read; clones share them.
#[derive(Clone)]
pub struct Reputations {
    shared: Arc<Shared>,
}

struct Shared {
    evidence: RwLock<Evidence>,
    /// The last answers, with what they were computed from.
    answers: RwLock<Answers>,
}

#[derive(Default)]
struct Answers {
    version: u64,
    epoch: Epoch,
    by_device: BTreeMap<DeviceId, Rated>,
}

/// A device's reputation and how much it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rated {
    /// What it comes to.
    pub reputation: Reputation,
    /// Pieces of evidence.
    pub evidence: usize,
    /// How fast it walked through its memory, in the newest epoch in which anybody measured it: the middle one of the seats' measurements, or
    /// the slower of two. It is no part of the score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Measured>,
}

impl Reputations {
    /// Follows the chain and the mesh until `shutdown`. A network without a court has no testimony and no strikes, and every device
    /// says "insufficient data".
    #[must_use]
    pub fn follow(
        ledger: Arc<dyn Ledger>,
        transport: Arc<dyn Transport>,
        clock: Clock,
        shutdown: CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared { evidence: RwLock::default(), answers: RwLock::default() });
        let follower = follow::Follower::new(shared.clone(), ledger, transport, clock);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = follower.run() => {}
            }
        });
        Self { shared }
    }

    /// Grows with every piece of evidence.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.read().version()
    }

    /// What is known of a device; `None` for one that the registry does not have.
    #[must_use]
    pub fn of(&self, device: DeviceId) -> Option<Rated> {
        self.refresh();
        self.shared.answers.read().unwrap_or_else(PoisonError::into_inner).by_device.get(&device).cloned()
    }

    /// Every device's.
    #[must_use]
    pub fn all(&self) -> BTreeMap<DeviceId, Rated> {
        self.refresh();
        self.shared.answers.read().unwrap_or_else(PoisonError::into_inner).by_device.clone()
    }

    /// Pages of testimony that were read and count.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.shared.read().pages()
    }

    fn refresh(&self) {
        let evidence = self.shared.read();
        let (version, epoch) = (evidence.version(), evidence.epoch());
        {
            let answers = self.shared.answers.read().unwrap_or_else(PoisonError::into_inner);
            if (answers.version, answers.epoch) == (version, epoch) && version != 0 {
                return;
            }
        }
        let by_device = evidence.rate();
        drop(evidence);
        let mut answers = self.shared.answers.write().unwrap_or_else(PoisonError::into_inner);
        *answers = Answers { version, epoch, by_device };
    }
}

impl Shared {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Evidence> {
        self.evidence.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Evidence> {
        self.evidence.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Reputations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reputations").finish_non_exhaustive()
    }
}
