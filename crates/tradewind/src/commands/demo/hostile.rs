//! A hostile device, for demonstrations only: an ordinary provider's place in the network, and answers of its own to watchers.
//!
//! | lie | it says |
//! |---|---|
//! | element | products of which one element in each row is wrong, signed as if they were right |
//! | statement | every pong under the same number |
//! | memory | a walk through half of the memory that it was told to fill |
//! | nothing | it signs right products and opens none of their rows |

use std::path::Path;
use std::sync::Arc;

use alloy::primitives::B256;
use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tradewind_challenge::{
    AnyEngine, AnyError, CpuEngine, CpuError, CpuWalker, Engine, Threads, Walked, Walker,
};
use tradewind_mesh::directory::system_clock;
use tradewind_mesh::{ProbeService, Refusal, RefusalCode, Transport};
use tradewind_proto::challenge::memory::{BLOCK_BYTES, Walk};
use tradewind_proto::challenge::{RowOpening, Size, Tree, row_root};
use tradewind_proto::evidence::Court;
use tradewind_proto::ids::{DeviceId, MeshKey};
use tradewind_proto::probe::{Ask, Pulse, Question, Response, Why};
use tradewind_proto::signature::SigningKey;
use tradewind_provider::attest::Attendant;
use tradewind_store::Store;

use crate::node::config::NodeConfig;
use crate::node::{self, attest, keys, ledger, mesh, provider};

/// What the engine may hold.
const MEMORY: usize = 64 << 20;

/// What a hostile device lies about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lie {
    /// Its products.
    Element,
    /// Its statements.
    Statement,
    /// How much memory it has.
    Memory,
    /// It does not lie: it keeps its products to itself.
    Nothing,
}

impl Lie {
    /// As the command line says it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Element => "element",
            Self::Statement => "statement",
            Self::Memory => "memory",
            Self::Nothing => "nothing",
        }
    }

    /// What it is called once it is proved.
    pub(super) const fn verdict(self) -> &'static str {
        match self {
            Self::Element => "wrong element",
            Self::Statement => "equivocation",
            Self::Memory => "not measured",
            Self::Nothing => "guilty",
        }
    }
}

/// Joins as `file` says and lies until it is told to end.
pub(crate) async fn serve(file: &Path, lie: Lie) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let config = NodeConfig::load(file)?;
    let section = config.provider.as_ref().context("the configuration has no [provider]")?;
    let (data_dir, password_file) = (config.data_dir.as_path(), config.password_file.as_deref());
    let (key, clock) = (keys::wallet(data_dir, password_file)?, system_clock());
    let profile = node::read_profile(&config)?;
    let chain = ledger::client(&profile, key.clone(), data_dir, None).await?;
    let place =
        mesh::bind(&config, &profile, keys::mesh(data_dir)?, chain.ledger.clone(), clock.clone()).await?;
    let transport: Arc<dyn Transport> = Arc::new(place.clone());
    let store = Store::open(&data_dir.join("node.db")).await?;
    let needs = provider::Needs {
        section,
        profile: &profile,
        data_dir,
        password_file,
        key: key.clone(),
        ledger: chain.ledger.clone(),
        transport: transport.clone(),
        store: store.clone(),
        clock,
        shutdown: CancellationToken::new(),
    };
    let agent = provider::start(needs).await?;
    let device_key = keys::wallet(&data_dir.join("device"), password_file)?;
    let device = DeviceId::derive(key.address(), device_key.address());
    let court = chain.ledger.tribunal().context("this network has no court")?.court();
    let answers = attest::Needs {
        profile: &profile,
        ledger: chain.ledger.clone(),
        transport: transport.clone(),
        // The provider's own attendant may have answered already: what it said is said again, and no number of its twice.
        store,
        device,
        key: device_key.clone(),
    };
    let hardware = match lie {
        Lie::Element => {
            let engines: attest::Engines = Box::new(|size| AnyEngine::new(Flipping::new(size)));
            attest::Hardware { engines, walker: None }
        }
        Lie::Memory => attest::Hardware { walker: Some(Box::new(Shirking)), ..attest::processor() },
        Lie::Statement | Lie::Nothing => attest::processor(),
    };
    // A device that checked itself would sign no wrong product.
    let attendant = attest::attendant(answers, hardware, 0).await?.context("nobody asks on this network")?;
    let liar = Liar { attendant, lie, device, court, key: device_key };
    transport.serve_probes(Arc::new(liar));
    terminate.recv().await;
    agent.shutdown().await;
    place.close().await;
    Ok(())
}

/// Answers in place of the provider's own attendant.
struct Liar {
    attendant: Arc<Attendant>,
    lie: Lie,
    device: DeviceId,
    court: Court,
    key: SigningKey,
}

impl Liar {
    fn pong(&self, ask: Ask) -> Response {
        let mut pulse = Pulse::resume(0);
        if let Some(mark) = pulse.wants() {
            pulse.stored(mark);
        }
        let reply = pulse.reply(ask, node::millis()(), self.device, &self.court, &self.key);
        reply.map_or(Response::Unanswered(Why::Failed), Response::Pong)
    }
}

#[async_trait]
impl ProbeService for Liar {
    async fn answer(&self, peer: MeshKey, question: Bytes) -> Result<Bytes, Refusal> {
        let asked = Question::decode(&question)
            .map_err(|error| Refusal::new(RefusalCode::Malformed, error.to_string()))?;
        match asked {
            Question::Ping { ask, .. } if self.lie == Lie::Statement => Ok(self.pong(ask).encode()),
            Question::Row { .. } if self.lie == Lie::Nothing => {
                Ok(Response::Unanswered(Why::NoSuchRow).encode())
            }
            Question::Ping { .. }
            | Question::Roots { .. }
            | Question::Row { .. }
            | Question::Walk(_)
            | Question::Stretch { .. } => self.attendant.answer(peer, question).await,
        }
    }
}

/// Walks through half of the memory that it was told to fill.
struct Shirking;

impl Walker for Shirking {
    fn walk(&mut self, walk: Walk) -> Result<Walked, AnyError> {
        let [lanes, lane_blocks, walkers, stretches, stride] = walk.numbers();
        let half = Walk::new(walk.seed(), [(lanes / 2).max(1), lane_blocks], [walkers, stretches, stride]);
        let room = walk.blocks().saturating_mul(BLOCK_BYTES);
        CpuWalker { threads: Threads::available(), room }.walk(half.unwrap_or(walk))
    }
}

/// Multiplies rightly, and changes one element of every row before it says so.
struct Flipping {
    engine: CpuEngine,
    trees: Vec<Tree>,
}

impl Flipping {
    fn new(size: Size) -> Self {
        Self { engine: CpuEngine::new(size, Threads::available(), MEMORY), trees: Vec::new() }
    }

    fn values(&mut self, round: usize, row: u32) -> Result<Vec<i32>, CpuError> {
        let mut values = self.engine.open(round, row)?.values;
        if let Some(element) = values.first_mut() {
            *element = element.wrapping_add(1);
        }
        Ok(values)
    }
}

impl Engine for Flipping {
    type Error = CpuError;

    fn size(&self) -> Size {
        self.engine.size()
    }

    fn multiply(&mut self, round: usize, seed: B256) -> Result<B256, CpuError> {
        self.engine.multiply(round, seed)?;
        self.trees.truncate(round);
        let rows = 0..self.size().get();
        let roots = rows.map(|row| self.values(round, row).map(|values| row_root(&values)));
        let tree = Tree::new(roots.collect::<Result<_, _>>()?);
        let root = tree.root();
        self.trees.push(tree);
        Ok(root)
    }

    fn open(&mut self, round: usize, row: u32) -> Result<RowOpening, CpuError> {
        let values = self.values(round, row)?;
        let number = usize::try_from(row).map_err(|_| CpuError::NoSuchRow { round, row })?;
        let tree = self.trees.get(round).ok_or(CpuError::NoSuchRow { round, row })?;
        Ok(RowOpening { row, values, path: tree.path(number) })
    }
}

#[cfg(test)]
mod tests {
    use tradewind_proto::challenge::element;

    use super::*;

    #[test]
    fn a_flipping_engine_opens_what_it_committed_to_and_that_is_wrong() {
        let (size, seed) = (Size::new(256).unwrap(), B256::repeat_byte(3));
        let mut engine = Flipping::new(size);
        let roots = [engine.multiply(0, seed).unwrap(), engine.multiply(1, B256::repeat_byte(4)).unwrap()];
        for row in [0, 17, 255] {
            let opening = engine.open(0, row).unwrap();
            opening.check(row, size, roots[0]).unwrap();
            assert_eq!(opening.values[0], element(seed, row, 0, size) + 1);
            assert_eq!(opening.values[1], element(seed, row, 1, size));
            engine.open(1, row).unwrap().check(row, size, roots[1]).unwrap();
        }
    }
}
