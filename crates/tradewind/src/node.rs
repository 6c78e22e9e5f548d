//! `tradewind node`: one process that hosts whichever roles its configuration names.
//!
//! ```text
//!            node.toml ─► ledger ─► relay ─► mesh ─► provider, buyer, explorer ─► local API
//!  shutdown (signal, API): API ─► roles ─► mesh ─► ledger; workloads go on and are adopted at the next start
//! ```

pub(crate) mod admission;
pub(crate) mod api;
pub(crate) mod buyer;
pub(crate) mod config;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod mesh;
pub(crate) mod provider;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tradewind_buyer::buyer::Buyer;
use tradewind_chain::ledger::Ledger;
use tradewind_explorer::Explorer;
use tradewind_mesh::Transport;
use tradewind_mesh::directory::system_clock;
use tradewind_proto::profile::NetworkProfile;
use tradewind_proto::signature::SigningKey;
use tradewind_provider::agent::Agent;
use tradewind_store::Store;

use config::NodeConfig;

/// How long roles may take to end.
const GOODBYE: Duration = Duration::from_secs(20);

/// Runs a node until it is told to stop.
pub(crate) async fn run(config: NodeConfig) -> anyhow::Result<()> {
    make_private(&config.data_dir)?;
    let shutdown = CancellationToken::new();
    stop_on_signals(shutdown.clone())?;
    let password_file = config.password_file.as_deref();
    let key = keys::wallet(&config.data_dir, password_file)?;
    let clock = system_clock();

    let relay = mesh::relay(config.relay.as_ref()).await?;
    let endpoint_secret = keys::mesh(&config.data_dir)?;
    let hosted = match &config.ledger {
        Some(section) => Some(ledger::host(section, &config, &key, shutdown.clone()).await?),
        None => None,
    };
    let profile = match &hosted {
        Some(hosted) => hosted.profile.clone(),
        None => read_profile(&config.profile)?,
    };
    let sender = hosted.as_ref().map(|hosted| hosted.sender.clone());
    let chain = ledger::client(&profile, key.clone(), &config.data_dir, sender).await?;
    let relayer = chain.relay(config.relayer.as_ref(), &profile, shutdown.clone()).await?;
    let client = chain.ledger.clone();
    let mesh = mesh::bind(&config, &profile, endpoint_secret, client.clone(), clock.clone()).await?;
    if let Some(hosted) = &hosted {
        hosted.publish(
            &config,
            &key,
            relay.as_ref().map(|relay| relay.url().to_string()),
            &mesh.address(),
        )?;
    }
    let transport: Arc<dyn Transport> = Arc::new(mesh.clone());
    let store = Store::open(&config.data_dir.join("node.db")).await?;

    let started = Started::start(&config, &profile, &key, &client, &transport, &store, &shutdown).await?;
    let asset = profile.quote().context("the network's profile names no asset")?.clone();
    let status = api::Status {
        account: key.address().to_string(),
        mesh_key: mesh.key().to_string(),
        mesh_address: mesh.address().to_string(),
        network: profile.name.clone(),
        roles: config.roles(),
        explorer: started.explorer.as_ref().map(|explorer| explorer.url().to_owned()),
        rpc: profile.chain.rpc.first().cloned(),
        relayer,
        pid: std::process::id(),
    };
    tracing::info!(account = %status.account, roles = ?status.roles, "the node is up");
    let served = api::Roles {
        status,
        ledger: client,
        asset,
        buyer: started.buyer.clone(),
        provider: started.provider.clone(),
        shutdown: shutdown.clone(),
    };
    let result = api::serve(served, &config.socket()).await;

    shutdown.cancel();
    let goodbye = async {
        started.shutdown().await;
        mesh.close().await;
        if let Some(hosted) = hosted {
            hosted.close().await;
        }
    };
    if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
        tracing::warn!("a role did not end in time; everything acknowledged is stored");
    }
    // A socket that is left behind is replaced by the next start.
    let _ = std::fs::remove_file(config.socket());
    result
}

/// The roles that take part in the market.
struct Started {
    provider: Option<Agent>,
    buyer: Option<Buyer>,
    explorer: Option<Explorer>,
}

impl Started {
    async fn start(
        config: &NodeConfig,
        profile: &NetworkProfile,
        key: &SigningKey,
        ledger: &Arc<dyn Ledger>,
        transport: &Arc<dyn Transport>,
        store: &Store,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let (data_dir, password_file) = (config.data_dir.as_path(), config.password_file.as_deref());
        let clock = system_clock();
        let (ledger, transport, store) = (ledger.clone(), transport.clone(), store.clone());
        let mut started = Self { provider: None, buyer: None, explorer: None };
        if let Some(section) = &config.provider {
            let needs = provider::Needs {
                section,
                profile,
                data_dir,
                password_file,
                key: key.clone(),
                ledger: ledger.clone(),
                transport: transport.clone(),
                store: store.clone(),
                clock: clock.clone(),
            };
            started.provider = Some(provider::start(needs).await.context("the provider role cannot start")?);
        }
        if let Some(section) = &config.buyer {
            let needs = buyer::Needs {
                section,
                profile,
                data_dir,
                password_file,
                key: key.clone(),
                ledger: ledger.clone(),
                transport: transport.clone(),
                store,
                clock: clock.clone(),
            };
            started.buyer = Some(buyer::start(needs).await.context("the buyer role cannot start")?);
        }
        if let Some(section) = &config.explorer {
            let explorer =
                Explorer::start(section.listen, ledger, transport, profile.clone(), clock, shutdown.clone())
                    .await?;
            started.explorer = Some(explorer);
        }
        Ok(started)
    }

    async fn shutdown(self) {
        if let Some(buyer) = self.buyer {
            buyer.shutdown().await;
        }
        if let Some(provider) = self.provider {
            provider.shutdown().await;
        }
    }
}

fn read_profile(path: &Path) -> anyhow::Result<NetworkProfile> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read the network's profile {}; `tradewind setup` takes one", path.display())
    })?;
    Ok(NetworkProfile::parse(&path.display().to_string(), &text)?)
}

fn make_private(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make {}", dir.display()))
}

fn stop_on_signals(shutdown: CancellationToken) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
    });
    Ok(())
}
