//! `tradewind node`: one process that hosts whichever roles its configuration names.
//!
//! ```text
//!   lock ─► node.toml ─► ledger ─► relay ─► mesh ─► provider, buyer, meter, watcher, explorer ─► local API
//!   shutdown (signal, API): API ─► roles ─► mesh ─► ledger; workloads go on and are adopted at the next start
//! ```

pub(crate) mod admission;
pub(crate) mod api;
pub(crate) mod attest;
pub(crate) mod buyer;
pub(crate) mod config;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod mesh;
pub(crate) mod meter;
pub(crate) mod metrics;
pub(crate) mod provider;
mod roles;
mod rounds;
mod sponsor;
mod traces;
pub(crate) mod watcher;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tradewind_mesh::directory::system_clock;
use tradewind_mesh::{Mesh, Transport};
use tradewind_proto::profile::{NetworkProfile, VerifiedProfile};
use tradewind_proto::units::MillisClock;
use tradewind_store::Store;

use config::NodeConfig;
use roles::Roles;

/// How long roles may take to end.
const GOODBYE: Duration = Duration::from_secs(20);

/// Runs a node until it is told to stop.
pub(crate) async fn run(config: NodeConfig, background: bool) -> anyhow::Result<()> {
    make_private(&config.data_dir)?;
    // Until the process ends: threads that still write outlive this function.
    std::mem::forget(lock::Lock::take(&config.data_dir)?);
    let shutdown = CancellationToken::new();
    stop_on_signals(shutdown.clone())?;
    let key = keys::wallet(&config.data_dir, config.password_file.as_deref())?;
    let clock = system_clock();
    let exporter = config.traces.as_ref().map(traces::Exporter::new).transpose()?;

    let relay = mesh::relay(config.relay.as_ref()).await?;
    let endpoint_secret = keys::mesh(&config.data_dir)?;
    let hosted = match &config.ledger {
        Some(section) => Some(ledger::host(section, &config, &key, shutdown.clone()).await?),
        None => None,
    };
    let profile = match &hosted {
        Some(hosted) => hosted.profile.clone(),
        None => read_profile(&config)?,
    };
    let sender = hosted.as_ref().map(|hosted| hosted.sender.clone());
    let chain = ledger::client(&profile, key.clone(), &config.data_dir, sender).await?;
    let relayer = chain.relay(config.relayer.as_ref(), &profile, shutdown.clone()).await?;
    chain.bring_rounds(config.watcher.as_ref(), &profile, shutdown.clone()).await?;
    let client = chain.ledger.clone();
    let mesh = mesh::bind(&config, &profile, endpoint_secret, client.clone(), clock.clone()).await?;
    if let Some(hosted) = &hosted {
        hosted.publish(&config, &key, relay.as_ref(), &mesh.address())?;
    }
    let transport: Arc<dyn Transport> = Arc::new(mesh.clone());
    let store = Store::open(&config.data_dir.join("node.db")).await?;

    let started = Roles::start(&config, &profile, &key, &client, &transport, &store, &shutdown).await?;
    let asset = profile.quote().context("the network's profile names no asset")?.clone();
    let served = api::Served {
        status: api::view::Status {
            account: client.account().to_string(),
            mesh_key: mesh.key().to_string(),
            mesh_address: mesh.address().to_string(),
            network: profile.name.clone(),
            asset: asset.clone(),
            roles: config.roles(),
            explorer: started.explorer.as_ref().map(|explorer| explorer.url().to_owned()),
            rpc: profile.chain.rpc.first().cloned(),
            relayer,
            meter: config.buyer.as_ref().and_then(|buyer| buyer.meter.clone()),
            pid: std::process::id(),
            background,
            version: env!("CARGO_PKG_VERSION").into(),
        },
        staked: profile.staked().unwrap_or(&asset).clone(),
        asset,
        device: roles::device(client.account(), &config.data_dir),
        ledger: client,
        clock,
        first_nodes: mesh::first_nodes(&profile, mesh.key())?,
        mesh: mesh.clone(),
        buyer: started.buyer.clone(),
        meter: started.meter.clone(),
        watcher: started.watcher.clone(),
        provider: started.provider.clone(),
        reputations: started.reputations.clone(),
        walk: profile.walk.clone(),
        sponsor: profile.sponsor,
        shutdown: shutdown.clone(),
    };
    tracing::info!(account = %served.status.account, roles = ?served.status.roles, "the node is up");
    let result = serve(served, &config, exporter).await;

    shutdown.cancel();
    // A socket that is left behind is replaced by the next start.
    let _ = std::fs::remove_file(config.socket());
    end(started, &mesh, hosted).await;
    result
}

/// Answers people and Prometheus, and sends traces, until the node is told to stop.
async fn serve(
    served: api::Served,
    config: &NodeConfig,
    exporter: Option<traces::Exporter>,
) -> anyhow::Result<()> {
    let served = Arc::new(served);
    if let Some(section) = &config.metrics {
        metrics::start(section.listen, served.clone(), served.shutdown.clone()).await?;
    }
    if let Some(exporter) = exporter {
        traces::start(exporter, served.clone());
    }
    api::serve(served, &config.socket()).await
}

/// Milliseconds since 1970, by this machine's clock.
pub(crate) fn millis() -> MillisClock {
    Arc::new(|| {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Ends roles, mesh and ledger, in this order.
async fn end(roles: Roles, mesh: &Mesh, hosted: Option<ledger::Hosted>) {
    let goodbye = async {
        roles.shutdown().await;
        mesh.close().await;
        if let Some(hosted) = hosted {
            hosted.close().await;
        }
    };
    if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
        tracing::warn!("a role did not end in time; everything acknowledged is stored");
    }
}

/// The network's profile; with a publisher in the configuration, only by their signature.
pub(crate) fn read_profile(config: &NodeConfig) -> anyhow::Result<NetworkProfile> {
    let path = config.profile.display().to_string();
    let text = std::fs::read_to_string(&config.profile)
        .with_context(|| format!("cannot read the network's profile {path}; `tradewind setup` takes one"))?;
    match config.publisher {
        Some(publisher) => Ok(VerifiedProfile::parse(&path, &text, Some(publisher))?.profile),
        None => Ok(NetworkProfile::parse(&path, &text)?),
    }
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
