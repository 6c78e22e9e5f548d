//! A device's memory, measured: a walk that it could not foresee, timed from the order to its root, and some of it repeated.
//!
//! Nobody is accused by it. A device that is at work, refuses or walks wrongly is not measured, and shows no class.

use std::num::NonZeroU64;
use std::time::Duration;

use alloy_primitives::B256;
use rand::RngExt as _;
use tradewind_chain::ledger::DeviceRecord;
use tradewind_proto::challenge::memory::Walk;
use tradewind_proto::challenge::{Measured, WalkOrder, WalkProfile};
use tradewind_proto::evidence::{Epoch, Seat, Sworn};
use tradewind_proto::ids::DeviceId;
use tradewind_proto::probe::{Question, Response};

use crate::watcher::{Inner, WatcherError};

/// The longest that a device may walk.
const WALKS: Duration = Duration::from_secs(15);

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walking {
    /// It walked as the rules say.
    Measured(Measured),
    /// Not now: it is at work, or computes.
    Later,
    /// Not in this epoch.
    Never,
}

impl Inner {
    /// Has a device without leases walk for a seat.
    pub(crate) async fn measure(
        &self,
        record: &DeviceRecord,
        epoch: Epoch,
        seat: u32,
    ) -> Result<Walking, WatcherError> {
        let Some(profile) = &self.config.walk else { return Ok(Walking::Never) };
        if record.busy_units != 0 {
            return Ok(Walking::Later);
        }
        let device = record.device;
        let Some(key) = self.seats.own(self.tribunal()?, seat).await? else { return Ok(Walking::Never) };
        let seed = B256::from(rand::random::<[u8; 32]>());
        let Ok(walk) = profile.walk(seed, self.model(device).as_deref()) else { return Ok(Walking::Never) };
        let order = WalkOrder { device, epoch, seat: Seat::new(seat), walk };
        let order = Question::Walk(Sworn::sign(order, &self.court, key));

        let Some(before) = self.round_trip(record, seat).await else { return Ok(Walking::Later) };
        let Some(Ok(answer)) = self.ask_timed(order, WALKS).await else { return Ok(Walking::Never) };
        let root = match answer.response {
            Response::Walked(root) => root,
            Response::Unanswered(why) if why.is_transient() => return Ok(Walking::Later),
            Response::Unanswered(why) => {
                tracing::debug!(%device, %epoch, %why, "a device did not walk");
                return Ok(Walking::Never);
            }
            Response::Pong(_) | Response::Roots(_) | Response::Row(_) | Response::Stretch(_) => {
                return Ok(Walking::Never);
            }
        };
        let Some(after) = self.round_trip(record, seat).await else { return Ok(Walking::Never) };
        if !self.repeat(device, epoch, seat, walk, root, profile).await {
            return Ok(Walking::Never);
        }
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let elapsed = NonZeroU64::new(micros(answer.took)).unwrap_or(NonZeroU64::MIN);
        let network = micros(before.max(after));
        Ok(Walking::Measured(Measured { work: walk.bytes_read(), elapsed, network }))
    }

    /// How long a ping takes, and the device's answer to it.
    async fn round_trip(&self, record: &DeviceRecord, seat: u32) -> Option<Duration> {
        let (_, entry, took) = self.ping_timed(record.device, record.key, seat).await?;
        entry.answer.map(|_| took)
    }

    /// Repeats stretches that the device could not foresee.
    async fn repeat(
        &self,
        device: DeviceId,
        epoch: Epoch,
        seat: u32,
        walk: Walk,
        root: B256,
        profile: &WalkProfile,
    ) -> bool {
        for _ in 0..profile.opened {
            let (walker, stretch) = {
                let mut random = rand::rng();
                (random.random_range(0..walk.walkers()), random.random_range(0..walk.stretches()))
            };
            let question = Question::Stretch { device, epoch, seat: Seat::new(seat), walker, stretch };
            let Some(Ok(Response::Stretch(opened))) = self.ask(question, self.config.window).await else {
                tracing::info!(%device, %epoch, "a device did not show a part of its walk");
                return false;
            };
            let asked = (opened.walker, opened.stretch) == (walker, stretch);
            let checked = tokio::task::spawn_blocking(move || opened.check(&walk, root)).await;
            if !asked || !matches!(checked, Ok(Ok(()))) {
                tracing::info!(%device, %epoch, ?checked, "a device walked wrongly");
                return false;
            }
        }
        true
    }
}
