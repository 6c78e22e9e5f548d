//! One life of a process, from its start to its crash.
//!
//! A simulated process touches the world through its disk, its outbox, the network, the chain and the runtime. Each of them asks
//! its life first; after the death nothing answers any more, so the process has no further effect, as after `kill -9`. Before and
//! behind every commit and every effect lies a point, and a life may be given the point at which it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tradewind_chain::client::store::Gate;

use crate::world::World;

/// A process from start to death.
#[derive(Debug)]
pub struct Life {
    name: String,
    world: Arc<World>,
    fatal: Option<u64>,
    points: AtomicU64,
    dead: CancellationToken,
}

impl Life {
    /// A life that ends at its point number `fatal`, counted from one, or when it is ended.
    pub(crate) fn new(name: &str, world: &Arc<World>, fatal: Option<u64>) -> Arc<Self> {
        world.note(name, "starts");
        Arc::new(Self {
            name: name.into(),
            world: world.clone(),
            fatal,
            points: AtomicU64::new(0),
            dead: CancellationToken::new(),
        })
    }

    /// Whose life it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// Ends it now.
    pub fn end(&self) {
        if !self.dead.is_cancelled() {
            self.world.note(&self.name, &format!("dies after {} points", self.points()));
            self.dead.cancel();
        }
    }

    /// How many points it passed.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.points.load(Ordering::SeqCst)
    }

    /// Waits for its end.
    pub async fn ended(&self) {
        self.dead.cancelled().await;
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.dead.is_cancelled()
    }

    /// Returns while it lives, and never afterwards.
    pub async fn alive(&self) {
        if self.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    /// Passes a point, unless it is the fatal one.
    pub async fn point(&self, place: &str) {
        self.alive().await;
        let point = self.points.fetch_add(1, Ordering::SeqCst) + 1;
        self.world.detail(&self.name, || format!("point {point}: {place}"));
        if self.fatal == Some(point) {
            self.world.note(&self.name, &format!("point {point}: {place}"));
            self.end();
            self.alive().await;
        }
    }
}

#[async_trait]
impl Gate for Life {
    async fn before(&self) {
        self.point("before an outbox commit").await;
    }

    async fn after(&self) {
        self.point("after an outbox commit").await;
    }
}
