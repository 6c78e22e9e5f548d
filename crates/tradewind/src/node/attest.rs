//! The device's answers to watchers, where the network has a court.

use std::sync::Arc;

use alloy::primitives::{Address, B256};
use anyhow::Context;
use async_trait::async_trait;
use tradewind_chain::ledger::court::{CourtSetup, Tribunal};
use tradewind_chain::ledger::{Ledger, LedgerError};
use tradewind_challenge::{AnyEngine, CpuEngine, CpuWalker, GpuEngine, GpuPick, GpuWalker, Threads, Walker};
use tradewind_mesh::Transport;
use tradewind_proto::challenge::{Size, WalkProfile};
use tradewind_proto::evidence::{Epoch, Seat, sentinels};
use tradewind_proto::ids::DeviceId;
use tradewind_proto::profile::NetworkProfile;
use tradewind_proto::signature::SigningKey;
use tradewind_provider::attest::{Attendant, AttendantConfig, AttendantParts, Beacon, WalkParts};
use tradewind_store::Store;

/// Rows of each product that a device checks before it signs.
const SELF_CHECK: usize = 64;
/// What an engine may hold while it multiplies.
const MEMORY: usize = 64 << 20;
/// The same in an accelerator's own memory.
const ACCELERATOR_MEMORY: usize = 4 << 30;

/// What a walk may fill of the machine's own memory.
const WALKED: u64 = 256 << 20;

/// What makes an engine for products of this size.
pub(crate) type Engines = Box<dyn Fn(Size) -> AnyEngine + Send + Sync>;

/// What the device computes with, and what it fills.
pub(crate) struct Hardware {
    pub(crate) engines: Engines,
    /// None where nobody asks, or the owner lets nobody measure the memory.
    pub(crate) walker: Option<Box<dyn Walker>>,
}

/// What the answers need.
pub(crate) struct Needs<'a> {
    pub(crate) profile: &'a NetworkProfile,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) store: Store,
    pub(crate) device: DeviceId,
    pub(crate) key: SigningKey,
}

/// What the device has: accelerators of this model, or none. It walks where `walk` says how.
pub(crate) fn hardware(model: Option<&str>, walk: Option<&WalkProfile>) -> Hardware {
    if model.is_none() {
        return Hardware { walker: walk.map(|_| on_foot()), ..processor() };
    }
    Hardware {
        engines: Box::new(|size| accelerator(size, GpuPick::Accelerator)),
        walker: walk.and_then(|walk| through_accelerator(walk.filled(model), GpuPick::Accelerator)),
    }
}

/// The processor's engine, and memory that nobody measures.
pub(crate) fn processor() -> Hardware {
    Hardware { engines: Box::new(on_processor), walker: None }
}

/// Walks through the machine's own memory.
fn on_foot() -> Box<dyn Walker> {
    Box::new(CpuWalker { threads: Threads::available(), room: WALKED })
}

/// Walks through so many MiB of the accelerator's memory. The machine's own says nothing of it, so that nothing walks where none opens.
fn through_accelerator(mib: u32, pick: GpuPick) -> Option<Box<dyn Walker>> {
    match GpuWalker::open(u64::from(mib) << 20, pick) {
        Ok(walker) => {
            tracing::info!(device = walker.name(), mib, "an accelerator's memory may be measured");
            Some(Box::new(walker))
        }
        Err(error) => {
            tracing::warn!(%error, "nobody can measure the accelerator's memory");
            None
        }
    }
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
pub(crate) async fn start(needs: Needs<'_>, hardware: Hardware) -> anyhow::Result<()> {
    let transport = needs.transport.clone();
    if let Some(attendant) = attendant(needs, hardware, SELF_CHECK).await? {
        transport.serve_probes(attendant);
    }
    Ok(())
}

/// What answers for the device, after a check of so many rows of its own; none where nobody asks.
pub(crate) async fn attendant(
    needs: Needs<'_>,
    Hardware { engines, walker }: Hardware,
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
        walks: walker.zip(needs.profile.walk.clone()).map(|(walker, profile)| WalkParts { profile, walker }),
        beacon: Arc::new(Rounds { ledger: needs.ledger.clone(), setup, device: needs.device }),
        clock: super::millis(),
    };
    Ok(Some(Attendant::start(config, parts).await?))
}

/// The court's epochs and their seeds.
struct Rounds {
    ledger: Arc<dyn Ledger>,
    setup: CourtSetup,
    device: DeviceId,
}

impl Rounds {
    fn tribunal(&self) -> Result<&dyn Tribunal, LedgerError> {
        let tribunal = self.ledger.tribunal();
        tribunal.ok_or_else(|| LedgerError::Invalid("this network has no court".into()))
    }
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
        self.tribunal()?.seed(self.setup.start_of(epoch)).await
    }

    async fn sentinels(&self, epoch: Epoch) -> Result<Option<Vec<(Seat, Address)>>, LedgerError> {
        let tribunal = self.tribunal()?;
        let Some(seed) = self.seed(epoch).await? else { return Ok(None) };
        let (case, mut drawn) = (tribunal.court().case(self.device, epoch), Vec::new());
        for place in sentinels(seed, case, tribunal.seats(epoch).await?) {
            let seat = tribunal.seat_at(epoch, place.get()).await?;
            drawn.push((Seat::new(seat), tribunal.seat(seat).await?.key));
        }
        Ok(Some(drawn))
    }

    async fn is_free(&self) -> Result<bool, LedgerError> {
        let record = self.ledger.device(self.device).await?;
        Ok(record.is_some_and(|record| record.busy_units == 0))
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
        let [none, some] = [None, Some("H100")].map(|model| (hardware(model, None).engines)(size));
        for mut engine in [none, some, accelerator(size, GpuPick::Any)] {
            assert_eq!(engine.multiply(0, seed).unwrap(), root);
        }
    }

    #[test]
    fn whatever_opens_walks_as_the_processor_does() {
        let profile = crate::node::ledger::WALK;
        let walk = profile.walk(B256::repeat_byte(4), None).unwrap();
        let root = on_foot().walk(walk).unwrap().root();
        let mut ours =
            through_accelerator(1, GpuPick::Any).expect("scripts/tools installs a software device");
        assert_eq!(ours.walk(walk).unwrap().root(), root);
        assert!(hardware(None, None).walker.is_none() && hardware(None, Some(&profile)).walker.is_some());
    }
}
