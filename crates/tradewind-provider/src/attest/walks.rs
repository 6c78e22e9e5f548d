//! Walks through the device's memory, for the seats that are drawn to watch it.
//!
//! A walk takes the memory that a lease would have, and some seconds. So it is done while no lease has the device, one at a time, and once an
//! epoch for each seat; nothing is stored, since nobody is punished for a walk that was lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::{Address, B256};
use tokio::sync::oneshot;
use tradewind_challenge::{Walked, Walker};
use tradewind_proto::challenge::memory::Stretch;
use tradewind_proto::challenge::{WalkOrder, WalkProfile};
use tradewind_proto::evidence::{Court, Epoch, Seat, Sworn};
use tradewind_proto::probe::Why;

use super::beacon::{Beacon, Present};

/// Walks that are kept: three sentinels' in two epochs.
const KEPT: usize = 6;

/// Seats and their keys.
type Sentinels = Arc<[(Seat, Address)]>;

/// Walks by epoch and seat; nothing of one that goes on or failed.
type Kept = BTreeMap<(Epoch, u32), Option<Arc<Walked>>>;

/// How the device walks.
pub struct WalkParts {
    /// The network's walks.
    pub profile: WalkProfile,
    /// What walks.
    pub walker: Box<dyn Walker>,
}

/// What was walked.
pub(super) struct Walks {
    court: Court,
    profile: WalkProfile,
    beacon: Arc<dyn Beacon>,
    present: Present,
    drawn: tokio::sync::Mutex<BTreeMap<Epoch, Sentinels>>,
    /// Held by the one walk that goes on.
    walker: Arc<tokio::sync::Mutex<Box<dyn Walker>>>,
    walked: Mutex<Kept>,
}

impl Walks {
    pub(super) fn new(court: Court, parts: WalkParts, beacon: Arc<dyn Beacon>) -> Self {
        let WalkParts { profile, walker } = parts;
        let (present, walker) = (Present::new(beacon.clone()), Arc::new(tokio::sync::Mutex::new(walker)));
        let (drawn, walked) = (tokio::sync::Mutex::default(), Mutex::default());
        Self { court, profile, beacon, present, drawn, walker, walked }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.walked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Walks, and says where it led.
    pub(super) async fn walk(&self, order: &Sworn<WalkOrder>) -> Result<B256, Why> {
        let WalkOrder { epoch, seat, walk, .. } = order.body;
        if !self.profile.asks_for(&walk) {
            return Err(Why::NotOrdered);
        }
        self.present.check(epoch).await?;
        let drawn = self.sentinels(epoch).await?;
        let key = drawn.iter().find(|(drawn, _)| *drawn == seat).map(|(_, key)| *key);
        order.verify(&self.court, key.ok_or(Why::NotOrdered)?).map_err(|_| Why::NotOrdered)?;
        if self.kept().contains_key(&(epoch, seat.get())) {
            return Err(Why::WalkedAlready);
        }
        if !self.beacon.is_free().await.map_err(unknown)? {
            return Err(Why::AtWork);
        }
        let mut walker = self.walker.clone().try_lock_owned().map_err(|_| Why::Computing)?;
        self.keep((epoch, seat.get()), None);
        let (done, ended) = oneshot::channel();
        let work = move || {
            let walked = walker.walk(walk);
            drop(walker);
            // Nobody waits where the node ends.
            let _ = done.send(walked);
        };
        std::thread::Builder::new().name("walk".into()).spawn(work).map_err(|error| {
            tracing::error!(%epoch, %error, "no thread to walk on");
            Why::Failed
        })?;
        let walked = match ended.await {
            Ok(Ok(walked)) => Arc::new(walked),
            Ok(Err(error)) => {
                tracing::warn!(%epoch, %error, "the memory is not measured");
                return Err(Why::Failed);
            }
            Err(error) => {
                tracing::error!(%epoch, %error, "the walk ended without an answer");
                return Err(Why::Failed);
            }
        };
        let root = walked.root();
        self.keep((epoch, seat.get()), Some(walked));
        Ok(root)
    }

    /// Who is drawn in an epoch, asked of the chain once whatever strangers ask.
    async fn sentinels(&self, epoch: Epoch) -> Result<Sentinels, Why> {
        let mut drawn = self.drawn.lock().await;
        if let Some(known) = drawn.get(&epoch) {
            return Ok(known.clone());
        }
        let known: Sentinels =
            self.beacon.sentinels(epoch).await.map_err(unknown)?.ok_or(Why::NoSeed)?.into();
        drawn.insert(epoch, known.clone());
        drawn.retain(|old, _| old.age(epoch) <= 1);
        Ok(known)
    }

    /// Remembers a walk, and forgets those of epochs that nobody asks about any more.
    fn keep(&self, of: (Epoch, u32), walked: Option<Arc<Walked>>) {
        let mut kept = self.kept();
        kept.insert(of, walked);
        kept.retain(|(epoch, _), _| epoch.age(of.0) <= 1);
        while kept.len() > KEPT {
            kept.pop_first();
        }
    }

    /// A stretch of a walk.
    pub(super) fn stretch(&self, of: (Epoch, u32), walker: u32, stretch: u32) -> Result<Stretch, Why> {
        let walked = self.kept().get(&of).cloned().flatten().ok_or(Why::Unsigned)?;
        walked.open(walker, stretch).ok_or(Why::NoSuchRow)
    }
}

fn unknown(error: tradewind_chain::ledger::LedgerError) -> Why {
    tracing::warn!(%error, "who may order a walk is not known");
    Why::NoSeed
}
