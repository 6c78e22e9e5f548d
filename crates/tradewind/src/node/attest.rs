//! The device's answers to watchers, where the network has a court.

use std::sync::Arc;

use alloy::primitives::B256;
use anyhow::Context;
use async_trait::async_trait;
use tradewind_chain::ledger::court::CourtSetup;
use tradewind_chain::ledger::{Ledger, LedgerError};
use tradewind_challenge::{AnyEngine, CpuEngine, Threads};
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

/// The processor's engine.
pub(crate) fn processor() -> Engines {
    Box::new(|size| AnyEngine::new(CpuEngine::new(size, Threads::available(), MEMORY)))
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
