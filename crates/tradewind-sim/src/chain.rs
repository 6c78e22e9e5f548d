//! The chain of a run: the real contracts on the embedded ledger, blocks every two seconds, and endpoints that misbehave.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use alloy::primitives::{Address, Bytes, U256, keccak256};
use alloy::providers::{DynProvider, Provider as _, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::json_rpc::{RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest};
use alloy::transports::{BoxTransport, TransportError, TransportErrorKind, TransportFut};
use serde_json::value::RawValue;
use tower::Service;
use tradewind_chain::client::artifacts;
use tradewind_chain::client::deploy::{DeployPlan, Deployment, Timings, deploy};
use tradewind_chain::client::failover::{Endpoint, Failover, FailoverConfig};
use tradewind_chain::client::faucet::{Faucet, FaucetConfig};
use tradewind_chain::client::reader::Reader;
use tradewind_chain::client::relayed::{RelayedConfig, RelayedLedger};
use tradewind_chain::client::revert::RevertDecoder;
use tradewind_chain::client::sender::{Sender, SenderConfig};
use tradewind_chain::client::store::{Gate, Store};
use tradewind_chain::client::wallet::Wallet;
use tradewind_chain::embedded::{BlockPolicy, Clock, Dropped, Embedded, EmbeddedConfig, Genesis};
use tradewind_chain::ledger::Parameters;
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::{Money, Seconds};

use crate::life::Life;
use crate::world::World;

/// The chain's id.
const CHAIN_ID: u64 = 31_337;
/// The time between blocks.
pub const BLOCK: Duration = Duration::from_secs(2);
/// Blocks on top that make one final.
const FINALITY: u64 = 3;
/// What a request to the chain takes.
const FAST: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(60));
/// Ten ether for each account.
const GAS: u64 = 10_000_000_000_000_000_000;

/// Timings that are short and still leave every window many blocks.
pub(crate) const PARAMETERS: Parameters = Parameters {
    active: true,
    window: Seconds::new(90),
    bond_delay: Seconds::new(30),
    open_ahead: Seconds::new(60),
    start_ahead: Seconds::new(3_600),
    max_duration: Seconds::new(86_400),
    min_cap_on_demand: Seconds::new(120),
    min_cap_spot: Seconds::new(30),
    min_cap_reserved: Seconds::new(120),
    fee_bps: 250,
    sink_bps: 6_000,
    answer_window: Seconds::new(30),
    hard_limit: Seconds::new(120),
    refund_window: Seconds::new(20),
    repeat_window: Seconds::new(600),
    compensation_span: Seconds::new(600),
    bonus_span: Seconds::new(30),
    challenge_span: Seconds::new(60),
    dispute_bps: 1_000,
    court: Address::ZERO,
    membership: Address::ZERO,
};

/// The chain and its deployment.
pub struct Chain {
    world: Arc<World>,
    embedded: Embedded,
    /// Where the contracts are.
    pub deployment: Deployment,
    faucet: Faucet,
    decoder: Arc<RevertDecoder>,
}

#[derive(Debug)]
struct SimulatedClock(Arc<World>);

impl Clock for SimulatedClock {
    fn now(&self) -> u64 {
        self.0.now().unix()
    }
}

/// A gate that lets everything pass: for parties that never crash.
#[derive(Debug)]
struct Open;

#[async_trait::async_trait]
impl Gate for Open {
    async fn before(&self) {}

    async fn after(&self) {}
}

/// An outbox in memory that works within a paused clock.
pub(crate) fn outbox() -> Store {
    Store::in_memory().expect("memory holds an outbox").behind(Arc::new(Open))
}

impl Chain {
    /// Deploys the contracts on a fresh chain where `accounts` have gas, and makes blocks from then on.
    pub(crate) async fn open(world: &Arc<World>, accounts: &[Address]) -> Arc<Self> {
        let owner = SigningKey::from_bytes([0x0f; 32]).expect("a key");
        let genesis = accounts
            .iter()
            .fold(Genesis::new(CHAIN_ID), |genesis, account| genesis.fund(*account, U256::from(GAS)))
            .fund(owner.address(), U256::from(GAS) * U256::from(1_000));
        let config = EmbeddedConfig {
            blocks: BlockPolicy::Manual,
            finality_depth: FINALITY,
            clock: Arc::new(SimulatedClock(world.clone())),
            inline: true,
            ..EmbeddedConfig::in_memory(genesis)
        };
        let embedded = Embedded::open(config).expect("memory holds a chain");
        tokio::spawn(mine(embedded.clone()));
        let (provider, decoder, store) = (embedded.provider(), Arc::new(artifacts::decoder()), outbox());
        let config = SenderConfig { poll: Duration::from_millis(500), ..SenderConfig::local(CHAIN_ID) };
        let sender = Sender::start(provider.clone(), owner, store.clone(), decoder.clone(), config);
        let sender = sender.expect("a sender");
        let plan = DeployPlan::development(Timings::Stated(PARAMETERS));
        let deployment = deploy(&sender, &provider, CHAIN_ID, &plan).await.expect("the contracts");
        let faucet = Faucet::new(sender, store, FaucetConfig::test_dollars(deployment.stablecoin));
        Arc::new(Self { world: world.clone(), embedded, deployment, faucet, decoder })
    }

    /// Gives test dollars to an account.
    pub(crate) async fn drip(&self, account: Address) {
        self.faucet.drip(account).await.expect("test dollars");
    }

    /// The ledger of an account that nothing disturbs.
    #[must_use]
    pub fn calm(&self, key: SigningKey, store: Store) -> RelayedLedger {
        self.ledger(key, store, self.embedded.provider())
    }

    /// The ledger that a life sees: through an endpoint in the weather, with an outbox that may be its end.
    pub(crate) fn stormy(&self, key: SigningKey, store: &Store, life: &Arc<Life>) -> RelayedLedger {
        let line = Line { life: life.clone(), inner: BoxTransport::new(self.embedded.transport()) };
        let endpoints = vec![Endpoint::through("simulated", BoxTransport::new(line))];
        let failover = Failover::new(endpoints, FailoverConfig::for_chain(CHAIN_ID));
        let provider = RootProvider::new(RpcClient::new(failover, false)).erased();
        self.ledger(key, store.behind(life.clone()), provider)
    }

    fn ledger(&self, key: SigningKey, store: Store, provider: DynProvider) -> RelayedLedger {
        let sending = SenderConfig {
            finality: FINALITY,
            poll: Duration::from_secs(1),
            stuck_after: Duration::from_secs(9),
            lost_after: Duration::from_secs(30),
            ..SenderConfig::local(CHAIN_ID)
        };
        let decoder = self.decoder.clone();
        let sender = Sender::start(provider.clone(), key.clone(), store.clone(), decoder.clone(), sending);
        let reader = Reader::new(provider, self.deployment.contracts, FINALITY, decoder);
        let config = RelayedConfig {
            poll: Duration::from_secs(1),
            head_poll: Duration::from_secs(30),
            ..RelayedConfig::local(Vec::new(), self.deployment.block)
        };
        let wallet = Wallet::new(key, self.deployment.contracts);
        let ledger = RelayedLedger::start(reader, wallet, sender.ok(), store, config);
        ledger.expect("an outbox that can be read")
    }

    /// Replaces the newest `depth` blocks by others without their transactions.
    pub async fn reorganise(&self, depth: u64) {
        self.world.note("chain", &format!("forgets {depth} blocks"));
        self.embedded.reorg(depth, Dropped::Forget).await.expect("blocks to forget");
    }

    /// What leases are paid in.
    #[must_use]
    pub const fn token(&self) -> Address {
        self.deployment.stablecoin
    }

    /// The number of the newest block.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.embedded.head().number
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").field("height", &self.height()).finish_non_exhaustive()
    }
}

async fn mine(embedded: Embedded) {
    loop {
        tokio::time::sleep(BLOCK).await;
        if embedded.mine(1).await.is_err() {
            return;
        }
    }
}

/// The way to an endpoint, in the weather.
#[derive(Debug, Clone)]
struct Line {
    life: Arc<Life>,
    inner: BoxTransport,
}

impl Line {
    async fn serve(mut self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let RequestPacket::Single(request) = &packet else { return self.inner.call(packet).await };
        let request = request.clone();
        let (name, method) = (self.life.name().to_owned(), request.method().to_owned());
        let sends = method == "eth_sendRawTransaction";
        if sends {
            self.life.point("before a transaction").await;
        } else {
            self.life.alive().await;
        }
        let world = self.life.world().clone();
        // What a request meets follows from the request, not from the order of those under way.
        let parameters = request.params().map(|params| params.get().as_bytes()).unwrap_or_default();
        let (purpose, weather) = (format!("{name} {method} {}", blake3::hash(parameters)), world.weather());
        world.detail(&name, || purpose.clone());
        tokio::time::sleep(world.seed.span(&purpose, FAST.0, FAST.1)).await;
        if weather.rpc_down {
            return Err(TransportErrorKind::custom_str("connection refused"));
        }
        if world.seed.chance(&format!("{purpose} hangs"), weather.rpc_hangs) {
            world.count("rpc hangs");
            return std::future::pending().await;
        }
        if world.seed.chance(&format!("{purpose} nonsense"), weather.rpc_nonsense) {
            world.count("rpc nonsense");
            return Ok(success(&request, nonsense(&world, &purpose)));
        }
        if sends && world.seed.chance(&format!("{purpose} swallowed"), weather.rpc_swallows) {
            world.count("rpc swallows");
            world.note(&name, "sends a transaction that is dropped");
            return Ok(success(&request, &swallowed(&request)));
        }
        let answer = self.inner.call(packet).await;
        if sends {
            world.note(&name, "sends a transaction");
            self.life.point("after a transaction").await;
            if world.seed.chance(&format!("{purpose} denied"), weather.rpc_denies) {
                world.count("rpc denies");
                return Err(TransportErrorKind::http_error(502, "bad gateway".into()));
            }
        }
        self.life.alive().await;
        answer
    }
}

impl Service<RequestPacket> for Line {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        Box::pin(self.clone().serve(packet))
    }
}

/// Answers that some endpoint or the proxy before it has given.
fn nonsense(world: &World, purpose: &str) -> &'static str {
    const ANSWERS: [&str; 6] = ["null", "\"0x\"", "\"<html>\"", "{}", "[1]", "\"0xzz\""];
    let at = world.seed.below(&format!("{purpose} which nonsense"), ANSWERS.len() as u64);
    usize::try_from(at).ok().and_then(|at| ANSWERS.get(at)).copied().unwrap_or("null")
}

fn swallowed(request: &SerializedRequest) -> String {
    let raw = request.params().and_then(|params| serde_json::from_str::<(Bytes,)>(params.get()).ok());
    format!("\"{}\"", keccak256(raw.unwrap_or_default().0))
}

fn success(request: &SerializedRequest, json: &str) -> ResponsePacket {
    let payload = RawValue::from_string(json.into()).expect("these answers are JSON");
    let payload = ResponsePayload::Success(payload);
    ResponsePacket::Single(Response { id: request.id().clone(), payload })
}

/// Whole test dollars.
#[must_use]
pub const fn dollars(amount: u64) -> Money {
    Money::from_base_units(amount * 1_000_000)
}
