//! The node's place in the mesh, and the relay that it may host.

use std::sync::Arc;

use anyhow::Context;
use tradewind_chain::ledger::Ledger;
use tradewind_mesh::relay::{self, RelayConfig, RelayGuard};
use tradewind_mesh::{BlobsConfig, Mesh, MeshConfig, MeshSecret, PeerAddr, RelayUrl};
use tradewind_proto::profile::NetworkProfile;
use tradewind_proto::units::Clock;

use super::admission;
use super::config::{NodeConfig, RelaySection};
use super::provider::encryption;

/// How often blobs that nothing keeps are collected.
const COLLECT: std::time::Duration = std::time::Duration::from_secs(600);

/// Serves a relay where the node is one.
pub(crate) async fn relay(section: Option<&RelaySection>) -> anyhow::Result<Option<RelayGuard>> {
    let Some(section) = section else { return Ok(None) };
    let guard = relay::serve(RelayConfig::new(section.listen)).await;
    guard.map(Some).with_context(|| format!("cannot serve a relay on {}", section.listen))
}

/// Joins the mesh of the profile.
pub(crate) async fn bind(
    config: &NodeConfig,
    profile: &NetworkProfile,
    secret: MeshSecret,
    ledger: Arc<dyn Ledger>,
    clock: Clock,
) -> anyhow::Result<Mesh> {
    let relays: Vec<RelayUrl> = profile
        .relays
        .iter()
        .map(|url| url.parse().with_context(|| format!("the profile's relay `{url}` is no URL")))
        .collect::<anyhow::Result<_>>()?;
    let own = secret.key();
    let bootstrap = profile.bootstrap.iter().filter(|node| node.key != own).map(|node| {
        let peer =
            node.addresses.iter().fold(PeerAddr::new(node.key), |peer, address| peer.with_direct(*address));
        match relays.first() {
            Some(relay) => peer.with_relay(relay.clone()),
            None => peer,
        }
    });
    let only_hosts = config.provider.as_ref().filter(|_| config.buyer.is_none());
    let hosting = only_hosts.map(|provider| provider.encrypt);
    let mesh = MeshConfig {
        bind: config.mesh.bind,
        external: config.mesh.external.clone(),
        bootstrap: bootstrap.collect(),
        relays: relays.clone(),
        verifier: Arc::new(admission::registered(ledger, clock.clone())),
        blobs: Some(BlobsConfig {
            root: encryption::blobs(hosting, &config.data_dir)?,
            collect_every: COLLECT,
        }),
        clock,
        ..MeshConfig::new(secret)
    };
    Mesh::bind(mesh).await.context("cannot join the mesh")
}
