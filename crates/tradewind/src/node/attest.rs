//! The device's answers to watchers, where the network has a court.

use std::sync::Arc;

use alloy::primitives::B256;
use anyhow::Context;
use async_trait::async_trait;
use tradewind_chain::ledger::court::CourtSetup;
use tradewind_chain::ledger::{Ledger, LedgerError};
use tradewind_challenge::{AnyEngine, CpuEngine, GpuEngine, GpuPick, Threads};
use tradewind_mesh::Transport;
use tradewind_proto::challenge::Size;
use tradewind_proto::evidence::Epoch;
use tradewind_proto::ids::DeviceId;
use tradewind_proto::profile::NetworkProfile;
use tradewind_proto::signature::SigningKey;
use tradewind_provider::attest::{Attendant, AttendantConfig, AttendantParts, Beacon};
use tradewind_store::Store;

/// Rows of each product that a device checks before it signs.
const SELF_CHECK: usize = 64;
/// What an engine may hold while it multiplies.
const MEMORY: usize = 64 << 20;
/// The same in an accelerator's own memory.
const ACCELERATOR_MEMORY: usize = 4 << 30;

/// What makes an engine for products of this size.
pub(crate) type Engines = Box<dyn Fn(Size) -> AnyEngine + Send + Sync>;

/// What the answers need.
pub(crate) struct Needs<'a> {
    pub(crate) profile: &'a NetworkProfile,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) store: Store,
    pub(crate) device: DeviceId,
    pub(crate) key: SigningKey,
}

/// The engine of what the device has.
pub(crate) fn hardware(has_accelerators: bool) -> Engines {
    if has_accelerators { Box::new(|size| accelerator(size, GpuPick::Accelerator)) } else { processor() }
}

/// The processor's engine.
pub(crate) fn processor() -> Engines {
    Box::new(on_processor)
}

fn on_processor(size: Size) -> AnyEngine {
    AnyEngine::new(CpuEngine::new(size, Threads::available(), MEMORY))
}

/// The accelerator's engine; the processor's where none opens: it answers as well, and more slowly.
fn accelerator(size: Size, pick: GpuPick) -> AnyEngine {
    match GpuEngine::open(size, ACCELERATOR_MEMORY, pick) {
        Ok(engine) => {
            tracing::info!(device = engine.name(), "an accelerator answers watchers");
            AnyEngine::new(engine)
        }
        Err(error) => {
            tracing::warn!(%error, "no accelerator answers watchers; the processor does");
            on_processor(size)
        }
    }
}

/// Answers watchers from now on; on a network without a court nobody asks.
pub(crate) async fn start(needs: Needs<'_>, engines: Engines) -> anyhow::Result<()> {
    let transport = needs.transport.clone();
    if let Some(attendant) = attendant(needs, engines, SELF_CHECK).await? {
        transport.serve_probes(attendant);
    }
    Ok(())
}

/// What answers for the device, after a check of so many rows of its own; none where nobody asks.
pub(crate) async fn attendant(
    needs: Needs<'_>,
    engines: Engines,
    self_check: usize,
) -> anyhow::Result<Option<Arc<Attendant>>> {
    let (Some(tribunal), Some(asked)) = (needs.ledger.tribunal(), needs.profile.challenge) else {
        return Ok(None);
    };
    let size = Size::new(asked.size)?;
    let setup = tribunal.setup().await.context("the court's setup cannot be read")?;
    let config = AttendantConfig {
        device: needs.device,
        court: tribunal.court(),
        rounds: usize::try_from(asked.rounds)?,
        self_check,
    };
    let parts = AttendantParts {
        key: needs.key,
        store: needs.store,
        engine: Box::new(move || engines(size)),
        beacon: Arc::new(Rounds { ledger: needs.ledger.clone(), setup }),
        clock: super::millis(),
    };
    Ok(Some(Attendant::start(config, parts).await?))
}

/// The court's epochs and their seeds.
struct Rounds {
    ledger: Arc<dyn Ledger>,
    setup: CourtSetup,
}

#[async_trait]
impl Beacon for Rounds {
    async fn epoch(&self) -> Result<Epoch, LedgerError> {
        // Where blocks are made on demand the chain's last one may be older than the epoch.
        let clock = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let chain = self.ledger.head().await?.timestamp.unix();
        let now = tradewind_proto::units::Timestamp::from_unix(clock.max(chain));
        self.setup.epoch_at(now).ok_or_else(|| LedgerError::Unavailable("the court has not begun".into()))
    }

    async fn seed(&self, epoch: Epoch) -> Result<Option<B256>, LedgerError> {
        let tribunal = self.ledger.tribunal();
        let tribunal = tribunal.ok_or_else(|| LedgerError::Invalid("this network has no court".into()))?;
        tribunal.seed(self.setup.start_of(epoch)).await
    }
}

#[cfg(test)]
mod tests {
    use tradewind_challenge::Engine as _;

    use super::*;

    #[test]
    fn whatever_opens_answers_as_the_processor_does() {
        let (size, seed) = (Size::new(256).unwrap(), B256::repeat_byte(4));
        let root = on_processor(size).multiply(0, seed).unwrap();
        for mut engine in [hardware(false)(size), hardware(true)(size), accelerator(size, GpuPick::Any)] {
            assert_eq!(engine.multiply(0, seed).unwrap(), root);
        }
    }
}
