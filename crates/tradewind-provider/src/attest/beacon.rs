//! What a device learns from the chain, and how seldom it asks.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tradewind_chain::ledger::LedgerError;
use tradewind_proto::evidence::{Epoch, Seat};
use tradewind_proto::probe::Why;

/// How long an epoch counts as the present one without asking again.
const FRESH: Duration = Duration::from_millis(250);

/// The chain's epochs and their seeds.
#[async_trait]
pub trait Beacon: Send + Sync + 'static {
    /// The epoch that the chain is in.
    async fn epoch(&self) -> Result<Epoch, LedgerError>;

    /// The seed of an epoch; none while the beacon has none.
    async fn seed(&self, epoch: Epoch) -> Result<Option<B256>, LedgerError>;

    /// The seats that are drawn to watch the device in an epoch, with their keys; none while the beacon has no seed.
    async fn sentinels(&self, epoch: Epoch) -> Result<Option<Vec<(Seat, Address)>>, LedgerError>;

    /// Whether no lease has any of the device.
    async fn is_free(&self) -> Result<bool, LedgerError>;
}

/// The present epoch, asked for by one question at a time whatever strangers ask.
pub(super) struct Present {
    beacon: Arc<dyn Beacon>,
    seen: Mutex<Option<(Instant, Epoch)>>,
}

impl Present {
    pub(super) fn new(beacon: Arc<dyn Beacon>) -> Self {
        Self { beacon, seen: Mutex::new(None) }
    }

    /// Passes the present epoch and the one before it.
    pub(super) async fn check(&self, epoch: Epoch) -> Result<(), Why> {
        let mut seen = self.seen.lock().await;
        let now = match *seen {
            Some((at, now)) if at.elapsed() < FRESH => now,
            Some(_) | None => {
                let now = self.beacon.epoch().await.map_err(|error| {
                    tracing::warn!(%epoch, %error, "the present epoch is not known");
                    Why::NoSeed
                })?;
                *seen = Some((Instant::now(), now));
                now
            }
        };
        if epoch <= now && epoch.age(now) <= 1 { Ok(()) } else { Err(Why::OtherEpoch) }
    }

    pub(super) async fn seed(&self, epoch: Epoch) -> Result<B256, Why> {
        let seed = self.beacon.seed(epoch).await.map_err(|error| {
            tracing::warn!(%epoch, %error, "the epoch's seed is not known");
            Why::NoSeed
        })?;
        seed.ok_or(Why::NoSeed)
    }
}
