//! The device's answers to watchers: signed pings, one signed list of products an epoch, and rows opened from it.
//!
//! ```text
//! probe/1 ─► Attendant ─┬─ Ping ──► Voice ── a mark stored first ──► Pong
//!                       ├─ Roots ─► Products ── signed before? ─┬─ yes ─► the same bytes again
//!                       │             ▲                         └─ no ──► multiply ─► own check ─► sign ─► store ─► Roots
//!                       ├─ Row ───────┘ only of a list that is stored
//!                       └─ Walk, Stretch ─► Walks: for a sentinel, while no lease has the device
//! ```
//!
//! Two lists for one epoch, or one number under two statements, cost the whole stake. So nothing is said before what keeps it from
//! being said differently is on the disk, and only one attendant may speak for a device. After a restart a list is not signed
//! anew: its products are computed again from the stored seed, to open rows, and only if they are the same.
//!
//! Products are computed on a thread of their own, one epoch at a time, so that pings are answered meanwhile. Those of two epochs are
//! kept, since watchers of the last one may still open rows: 2·rounds·4·n² bytes, and n² while one is computed.
//!
//! Failure paths: a question for another device or epoch, or one that comes too early, gets [`Why`]; an engine that fails, or whose
//! check does, signs nothing and is tried again; a chain that does not answer delays a list and nothing else; who asks too
//! often is refused by the mesh's code; a walk that does not fit its memory is [`Why::Failed`] and measures nothing.

mod allowance;
mod beacon;
mod products;
mod voice;
mod walks;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;
use tradewind_challenge::AnyEngine;
use tradewind_mesh::{ProbeService, Refusal, RefusalCode};
use tradewind_proto::evidence::Court;
use tradewind_proto::ids::{DeviceId, MeshKey};
use tradewind_proto::probe::{Question, Response, Why};
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::MillisClock;
use tradewind_store::{Store, StoreError};

pub use self::beacon::Beacon;
pub use self::walks::WalkParts;

use self::allowance::Allowances;
use self::products::Products;
use self::voice::Voice;
use self::walks::Walks;

/// Who answers, and how much it computes.
#[derive(Debug, Clone, Copy)]
pub struct AttendantConfig {
    /// The device.
    pub device: DeviceId,
    /// Where its word counts.
    pub court: Court,
    /// Products of one epoch, as the network asks for them.
    pub rounds: usize,
    /// Rows of each that the device checks itself before it signs; without any a flipped bit costs its stake.
    pub self_check: usize,
}

/// The parts that an attendant drives.
pub struct AttendantParts {
    /// The device's key.
    pub key: SigningKey,
    /// What survives.
    pub store: Store,
    /// Makes what multiplies; one is made for even epochs and one for odd.
    pub engine: Box<dyn Fn() -> AnyEngine + Send + Sync>,
    /// Walks through the memory; none where nobody asks, or the owner lets nobody.
    pub walks: Option<WalkParts>,
    /// Where seeds come from.
    pub beacon: Arc<dyn Beacon>,
    /// The time.
    pub clock: MillisClock,
}

/// Speaks for one device.
pub struct Attendant {
    device: DeviceId,
    clock: MillisClock,
    voice: Voice,
    products: Arc<Products>,
    walks: Option<Walks>,
    allowances: Mutex<Allowances>,
}

impl Attendant {
    /// Takes up what was said before. Hand it to the mesh to have it answer.
    ///
    /// # Errors
    /// [`StoreError`]: what was said before is not known, so nothing can be said.
    pub async fn start(config: AttendantConfig, parts: AttendantParts) -> Result<Arc<Self>, StoreError> {
        let voice = Voice::resume(&config, parts.key.clone(), parts.store.clone()).await?;
        let engines = [(parts.engine)(), (parts.engine)()];
        let walks = parts.walks.map(|walks| Walks::new(config.court, walks, parts.beacon.clone()));
        let products = Products::resume(&config, parts.key, parts.store, engines, parts.beacon).await?;
        Ok(Arc::new(Self {
            device: config.device,
            clock: parts.clock,
            voice,
            products: Arc::new(products),
            walks,
            allowances: Mutex::new(Allowances::new(Instant::now())),
        }))
    }

    fn walks(&self) -> Result<&Walks, Why> {
        self.walks.as_ref().ok_or(Why::AtWork)
    }

    async fn respond(&self, question: Question) -> Result<Response, Why> {
        if question.device() != self.device {
            return Err(Why::OtherDevice);
        }
        match question {
            Question::Ping { ask, .. } => self.voice.reply(ask, (self.clock)()).await.map(Response::Pong),
            Question::Roots { epoch, .. } => self.products.roots(epoch).await.map(Response::Roots),
            Question::Row { epoch, round, row, .. } => {
                self.products.row(epoch, round, row).await.map(Response::Row)
            }
            Question::Walk(order) => self.walks()?.walk(&order).await.map(Response::Walked),
            Question::Stretch { epoch, seat, walker, stretch, .. } => {
                self.walks()?.stretch((epoch, seat.get()), walker, stretch).map(Response::Stretch)
            }
        }
    }
}

#[async_trait]
impl ProbeService for Attendant {
    async fn answer(&self, peer: MeshKey, question: Bytes) -> Result<Bytes, Refusal> {
        let question = Question::decode(&question)
            .map_err(|error| Refusal::new(RefusalCode::Malformed, error.to_string()))?;
        let granted = {
            let mut allowances = self.allowances.lock().unwrap_or_else(PoisonError::into_inner);
            allowances.take(peer, &question, Instant::now())
        };
        if !granted {
            return Err(Refusal::new(RefusalCode::RateLimited, "you ask this device too often"));
        }
        Ok(self.respond(question).await.unwrap_or_else(Response::Unanswered).encode())
    }
}

impl std::fmt::Debug for Attendant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attendant").field("device", &self.device).finish_non_exhaustive()
    }
}

/// Where the device's records before a court lie in the store.
fn place(config: &AttendantConfig) -> String {
    let Court { chain_id, contract } = config.court;
    format!("{chain_id}/{contract}/{}", config.device)
}
