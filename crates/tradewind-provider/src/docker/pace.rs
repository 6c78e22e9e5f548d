//! Slows the sending of leases that have sent what they bought, by the egress table, until they are allowed more.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use tradewind_proto::egress::{SLOW, allowed};
use tradewind_proto::ids::LeaseId;
use tradewind_proto::units::{Bytes, Timestamp};
use tradewind_proto::workload::WorkloadStatus;

use super::container::{self, Described, Phase};
use super::network::open_bridge;
use super::{Meter, Shared, usage};
use crate::runtime::RuntimeError;

impl Shared {
    /// Notes whether a lease that runs has sent what it is allowed to by now.
    pub(super) async fn pace(&self, lease: LeaseId, found: &Described) -> Result<(), RuntimeError> {
        let bought = found.kept.as_ref().and_then(|kept| kept.egress);
        let (Some(hourly), Some(bridge)) = (bought, open_bridge(&found.network)) else { return Ok(()) };
        let Phase::Known(WorkloadStatus::Running { since, .. }) = found.phase else { return Ok(()) };
        let sample = usage::sample(&self.engine, &container::name(lease)).await;
        let sample = sample.map_err(|error| error.about(lease))?;
        let before = Meter::new(&self.directory(lease)).last().egress;
        let sent = sample.map_or(before, |sample| sample.egress.max(before));
        let is_spent = sent >= allowed(hourly, now().since(since));
        let mut watched = self.watched.lock().await;
        let Some(entry) = watched.get_mut(&lease) else { return Ok(()) };
        if is_spent && entry.slow(bridge) {
            self.say_slowed(lease, sent, hourly)?;
        } else if !is_spent {
            entry.let_send();
        }
        Ok(())
    }

    fn say_slowed(&self, lease: LeaseId, sent: Bytes, hourly: Bytes) -> Result<(), RuntimeError> {
        let reason = format!(
            "what it sends was slowed to {SLOW}/s: by then it had sent {sent}, and {hourly} an hour were bought; \
             `resources.egress` buys more"
        );
        tracing::info!(%lease, reason);
        self.spool(lease).note(&reason).map_err(RuntimeError::io("note that its sending was slowed"))
    }

    /// Has the egress table slow those that [`Shared::pace`] noted.
    pub(super) async fn hold_pace(&self) {
        let watched = self.watched.lock().await;
        let bridges: BTreeSet<String> =
            watched.values().filter_map(|entry| entry.slowed().cloned()).collect();
        drop(watched);
        if let Err(error) = self.egress.slow(bridges).await {
            tracing::error!(%error, "leases that sent what they bought are not slowed");
        }
    }
}

/// By this machine's clock, as the engine's times are.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_unix(since.map_or(0, |since| since.as_secs()))
}
