//! The node's access to the chain, and the development ledger that it may host: contracts, relayer and faucet with it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, U256};
use alloy::providers::{DynProvider, Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tradewind_chain::client::artifacts;
use tradewind_chain::client::beacon::{self, BeaconKind, Maker};
use tradewind_chain::client::deploy::{self, DeployPlan, Deployment};
use tradewind_chain::client::failover::{Endpoint, Failover, FailoverConfig};
use tradewind_chain::client::faucet::{Faucet, FaucetConfig};
use tradewind_chain::client::reader::Reader;
use tradewind_chain::client::relayed::{RelayedConfig, RelayedLedger};
use tradewind_chain::client::relayer::{Relayer, RelayerConfig};
use tradewind_chain::client::sender::{Sender, SenderConfig};
use tradewind_chain::client::store::Store;
use tradewind_chain::client::wallet::{Contracts, Wallet};
use tradewind_chain::embedded::{BlockPolicy, Embedded, EmbeddedConfig, Genesis, MULTICALL3, ServerGuard};
use tradewind_chain::ledger::Ledger;
use tradewind_mesh::PeerAddr;
use tradewind_mesh::relay::RelayGuard;
use tradewind_proto::challenge::WalkProfile;
use tradewind_proto::profile::{
    self, Asset, AssetKind, Bootstrap, ChainProfile, ChallengeProfile, NetworkProfile,
};
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::Money;

use super::config::{LedgerSection, NodeConfig, RelayerSection, WatcherSection};
use super::rounds;

/// The host's gas on its own ledger: a million ether.
const GAS: u128 = 1_000_000_000_000_000_000_000_000;

/// What devices of a development network answer once an epoch: a second's work for the smallest of them.
const CHALLENGE: ChallengeProfile = ChallengeProfile { size: 256, rounds: 2 };
/// What devices walk there: a hundredth of a second of a small machine.
pub(super) const WALK: WalkProfile =
    WalkProfile { memory: 1, walkers: 4, stretches: 64, stride: 512, opened: 2, classes: Vec::new() };

/// A ledger that this node hosts.
pub(crate) struct Hosted {
    pub(crate) profile: NetworkProfile,
    embedded: Embedded,
    /// The only way out for this node's own transactions: two would take one another's nonces.
    pub(crate) sender: Sender,
    _server: ServerGuard,
}

/// Who asks the faucet, and for what.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Drip {
    pub(crate) account: Address,
    /// The quote asset where absent.
    #[serde(default)]
    pub(crate) token: Option<Address>,
}

/// Opens the ledger, deploys the contracts where they are missing, and serves JSON-RPC, relayer and faucet.
pub(crate) async fn host(
    section: &LedgerSection,
    config: &NodeConfig,
    key: &SigningKey,
    shutdown: CancellationToken,
) -> anyhow::Result<Hosted> {
    let dir = config.data_dir.join("ledger");
    let genesis = Genesis::new(section.chain_id).fund(key.address(), U256::from(GAS));
    let heartbeat = (section.heartbeat > 0).then(|| Duration::from_secs(section.heartbeat));
    let blocks = BlockPolicy::OnDemand { heartbeat };
    let opening = EmbeddedConfig { blocks, ..EmbeddedConfig::stored(&dir, genesis) };
    let embedded = Embedded::open(opening).context("the ledger cannot be opened")?;
    let (rpc, server) = embedded.serve(section.rpc).await.context("JSON-RPC cannot be served")?;
    let store = Store::open(&dir.join("outbox.redb")).context("the ledger's outbox cannot be opened")?;
    let provider = embedded.provider();
    let decoder = Arc::new(artifacts::decoder());
    let sending = SenderConfig::local(section.chain_id);
    let sender = Sender::start(provider.clone(), key.clone(), store.clone(), decoder.clone(), sending)?;
    let plan = DeployPlan::development(section.timings).staking(section.stake).drawing(section.beacon);
    let deployment = deploy::deploy(&sender, &provider, section.chain_id, &plan).await?;
    let reader = Reader::new(provider, deployment.contracts, 0, decoder);
    if let Some(beacon) = deployment.beacon
        && reader.beacon_kind(beacon).await? == BeaconKind::Local
    {
        tokio::spawn(beacon::keep(sender.clone(), reader.clone(), Maker::Blocks, shutdown.clone()));
    }
    let relayer = Relayer::new(reader, sender.clone(), RelayerConfig::small_fee(deployment.stablecoin));
    let faucets = faucets(&deployment, &sender, &store);
    let router = relayer.router().merge(Router::new().route("/v1/faucet", post(drip)).with_state(faucets));
    let relaying = serve(section.relayer, router, shutdown).await?;
    let profile = NetworkProfile {
        sponsor: config.sponsor.as_ref().map(|_| key.address()),
        ..profile(section, &deployment, &format!("http://{rpc}"), &relaying)
    };
    Ok(Hosted { profile, embedded, sender, _server: server })
}

/// Serves a relayer's routes until `shutdown`; returns its URL.
async fn serve(listen: SocketAddr, router: Router, shutdown: CancellationToken) -> anyhow::Result<String> {
    let listener = tokio::net::TcpListener::bind(listen).await;
    let listener = listener.with_context(|| format!("the relayer cannot listen on {listen}"))?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "the relayer ended");
        }
    });
    Ok(url)
}

/// Test dollars, and what is staked where that is something else.
fn faucets(deployment: &Deployment, sender: &Sender, store: &Store) -> Arc<[Faucet]> {
    let staked = Some(deployment.stake_token).filter(|token| *token != deployment.stablecoin);
    let dollars = FaucetConfig::test_dollars(deployment.stablecoin);
    let configs = std::iter::once(dollars).chain(staked.map(FaucetConfig::network_token));
    configs.map(|config| Faucet::new(sender.clone(), store.clone(), config)).collect()
}

fn profile(section: &LedgerSection, deployment: &Deployment, rpc: &str, relayer: &str) -> NetworkProfile {
    NetworkProfile {
        name: format!("development {}", section.chain_id),
        development: true,
        relayers: vec![relayer.into()],
        faucet: Some(format!("{relayer}/v1/faucet")),
        relays: Vec::new(),
        explorer: section.explorer.clone(),
        sponsor: None,
        chain: ChainProfile { id: section.chain_id, rpc: vec![rpc.into()], finality: 0 },
        contracts: profile::Contracts {
            leases: deployment.contracts.leases,
            registry: deployment.contracts.registry,
            court: deployment.contracts.court,
            network_token: deployment.network_token,
            multicall: Some(MULTICALL3),
            attestations: deployment.contracts.attestations,
        },
        challenge: deployment.beacon.map(|_| CHALLENGE),
        walk: deployment.beacon.map(|_| WALK),
        stake: deployment
            .network_token
            .filter(|token| *token == deployment.stake_token)
            .map(|address| Asset { symbol: "TWD".into(), address, decimals: 18, kind: AssetKind::Erc2612 }),
        assets: vec![Asset {
            symbol: "tUSD".into(),
            address: deployment.stablecoin,
            decimals: 6,
            kind: AssetKind::Erc3009,
        }],
        bootstrap: Vec::new(),
    }
}

async fn drip(
    State(faucets): State<Arc<[Faucet]>>,
    Json(drip): Json<Drip>,
) -> Result<Json<u128>, (StatusCode, String)> {
    let mut faucets = faucets.iter();
    let found = faucets.find(|faucet| drip.token.is_none_or(|token| token == faucet.token()));
    let faucet = found.ok_or_else(|| (StatusCode::NOT_FOUND, "the faucet has no such token".to_owned()))?;
    let given = faucet.drip(drip.account).await;
    given
        .map(|money| Json(money.base_units()))
        .map_err(|error| (StatusCode::TOO_MANY_REQUESTS, error.to_string()))
}

impl Hosted {
    /// Writes the signed profile, with this node as the first of the mesh.
    pub(crate) fn publish(
        &self,
        config: &NodeConfig,
        key: &SigningKey,
        relay: Option<&RelayGuard>,
        address: &PeerAddr,
    ) -> anyhow::Result<()> {
        let bootstrap = Bootstrap { key: address.key, addresses: address.direct.clone() };
        let profile = NetworkProfile {
            bootstrap: vec![bootstrap],
            relays: relay.map(|relay| relay.url().to_string()).into_iter().collect(),
            ..self.profile.clone()
        };
        let text = profile.sign(key)?;
        let fresh = config.profile.with_extension("new");
        std::fs::write(&fresh, text).with_context(|| format!("cannot write {}", fresh.display()))?;
        std::fs::rename(&fresh, &config.profile)
            .with_context(|| format!("cannot write {}", config.profile.display()))
    }

    /// Closes the ledger; everything acknowledged is on disk already.
    pub(crate) async fn close(self) {
        self.embedded.close().await;
    }
}

/// The chain of the profile, as this node's account uses it.
pub(crate) struct Chain {
    pub(crate) ledger: Arc<dyn Ledger>,
    reader: Reader,
    sender: Sender,
}

impl Chain {
    /// Serves the relayer role, where the node has it; returns its URL.
    pub(crate) async fn relay(
        &self,
        section: Option<&RelayerSection>,
        profile: &NetworkProfile,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Option<String>> {
        let (Some(section), Some(asset)) = (section, profile.quote()) else { return Ok(None) };
        let fee = Money::parse(&section.fee, asset.decimals).context("`relayer.fee` in node.toml")?;
        let config =
            RelayerConfig { fees: vec![(asset.address, fee)], ..RelayerConfig::small_fee(asset.address) };
        let relayer = Relayer::new(self.reader.clone(), self.sender.clone(), config);
        serve(section.listen, relayer.router(), shutdown).await.map(Some)
    }

    /// Brings the beacon's rounds, where the node watches a network that draws by drand.
    pub(crate) async fn bring_rounds(
        &self,
        section: Option<&WatcherSection>,
        profile: &NetworkProfile,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        rounds::bring(section, profile, &self.reader, &self.sender, shutdown).await
    }
}

/// The chain of the profile, to look at.
pub(crate) fn reader(profile: &NetworkProfile) -> anyhow::Result<Reader> {
    let endpoints: Vec<Endpoint> = profile
        .chain
        .rpc
        .iter()
        .map(|url| {
            Endpoint::http(url).with_context(|| format!("the profile's endpoint `{url}` cannot be used"))
        })
        .collect::<anyhow::Result<_>>()?;
    let failover = Failover::new(endpoints, FailoverConfig::for_chain(profile.chain.id));
    let provider: DynProvider = RootProvider::new(RpcClient::new(failover, profile.development)).erased();
    let contracts = Contracts {
        chain_id: profile.chain.id,
        leases: profile.contracts.leases,
        registry: profile.contracts.registry,
        court: profile.contracts.court,
        attestations: profile.contracts.attestations,
    };
    let finality = u64::from(profile.chain.finality);
    Ok(Reader::new(provider, contracts, finality, Arc::new(artifacts::decoder())))
}

/// Reads from any of the profile's endpoints, writes by own gas or a relayer. The node that hosts the ledger has its `sender`.
pub(crate) async fn client(
    profile: &NetworkProfile,
    key: SigningKey,
    data_dir: &Path,
    sender: Option<Sender>,
) -> anyhow::Result<Chain> {
    let finality = u64::from(profile.chain.finality);
    let reader = reader(profile)?;
    let contracts = *reader.contracts();
    let store = Store::open(&data_dir.join("outbox.redb")).context("the outbox cannot be opened")?;
    let sending = if profile.development {
        SenderConfig::local(profile.chain.id)
    } else {
        SenderConfig::public(profile.chain.id, finality)
    };
    let sender = match sender {
        Some(sender) => sender,
        None => {
            let (provider, decoder) = (reader.provider().clone(), Arc::new(artifacts::decoder()));
            Sender::start(provider, key.clone(), store.clone(), decoder, sending)?
        }
    };
    let relayers = profile.relayers.clone();
    let config = if profile.development {
        RelayedConfig::local(relayers, 0)
    } else {
        RelayedConfig::public(relayers, 0)
    };
    let wallet = Wallet::new(key, contracts);
    let ledger = RelayedLedger::start(reader.clone(), wallet, Some(sender.clone()), store, config)?;
    Ok(Chain { ledger: Arc::new(ledger), reader, sender })
}

/// Asks a development network's faucet until the account's wallet holds at least `wanted` of `token`.
pub(crate) async fn fill(
    profile: &NetworkProfile,
    ledger: &dyn Ledger,
    token: Address,
    wanted: Money,
) -> anyhow::Result<()> {
    let account = ledger.account();
    let held = async || Ok(ledger.holdings(token, account).await?);
    drip_until(profile, account, token, wanted, &held).await
}

/// Asks the faucet for `token` until what `held` says is enough; at once where the network has none.
pub(crate) async fn drip_until(
    profile: &NetworkProfile,
    account: Address,
    token: Address,
    wanted: Money,
    held: &impl AsyncFn() -> anyhow::Result<Money>,
) -> anyhow::Result<()> {
    let Some(faucet) = &profile.faucet else { return Ok(()) };
    let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
    for _ in 0..MAX_DRIPS {
        if held().await? >= wanted {
            return Ok(());
        }
        let answer = client.post(faucet).json(&Drip { account, token: Some(token) }).send().await;
        let answer = answer.context("the faucet does not answer")?;
        if !answer.status().is_success() {
            anyhow::bail!("the faucet refused: {}", answer.text().await.unwrap_or_default());
        }
    }
    Ok(())
}

/// Drips asked for at one start.
const MAX_DRIPS: u32 = 10;
