//! The device's numbered statements.

use tokio::sync::Mutex;
use tradewind_proto::evidence::Court;
use tradewind_proto::ids::DeviceId;
use tradewind_proto::probe::{Ask, Pulse, Reply, Why};
use tradewind_proto::signature::SigningKey;
use tradewind_store::{Store, StoreError};

use super::{AttendantConfig, place};

const KIND: &str = "pulse";

/// Answers pings, and never says one number twice.
pub(super) struct Voice {
    device: DeviceId,
    court: Court,
    key: SigningKey,
    store: Store,
    place: String,
    pulse: Mutex<Pulse>,
}

impl Voice {
    pub(super) async fn resume(
        config: &AttendantConfig,
        key: SigningKey,
        store: Store,
    ) -> Result<Self, StoreError> {
        let place = place(config);
        let mark: u64 = store.get(KIND, &place).await?.unwrap_or_default();
        let pulse = Mutex::new(Pulse::resume(mark));
        Ok(Self { device: config.device, court: config.court, key, store, place, pulse })
    }

    pub(super) async fn reply(&self, ask: Ask, unix_millis: u64) -> Result<Reply, Why> {
        let mut pulse = self.pulse.lock().await;
        if let Some(mark) = pulse.wants() {
            if let Err(error) = self.store.put(KIND, self.place.as_str(), &mark).await {
                tracing::error!(%error, "a ping is not answered: the mark of its number cannot be stored");
                return Err(Why::Failed);
            }
            pulse.stored(mark);
        }
        pulse.reply(ask, unix_millis, self.device, &self.court, &self.key).ok_or(Why::Failed)
    }
}
