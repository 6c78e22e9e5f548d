//! The node's place in the mesh, and the relay that it may host.

use std::sync::Arc;

use anyhow::Context;
use tradewind_chain::ledger::Ledger;
use tradewind_mesh::relay::{self, RelayConfig, RelayGuard};
use tradewind_mesh::{BlobsConfig, Mesh, MeshConfig, MeshSecret, PeerAddr, RelayUrl};
use tradewind_proto::ids::MeshKey;
use tradewind_proto::profile::{Bootstrap, NetworkProfile};
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
    let own = secret.key();
    let only_hosts = config.provider.as_ref().filter(|_| config.buyer.is_none());
    let hosting = only_hosts.map(|provider| provider.encrypt);
    let mesh = MeshConfig {
        bind: config.mesh.bind,
        external: config.mesh.external.clone(),
        bootstrap: first_nodes(profile, own)?,
        relays: relays(profile)?,
        answers_speed: answers_speed(config, &profile.bootstrap, own),
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

fn relays(profile: &NetworkProfile) -> anyhow::Result<Vec<RelayUrl>> {
    let parse = |url: &String| url.parse().with_context(|| format!("the profile's relay `{url}` is no URL"));
    profile.relays.iter().map(parse).collect()
}

/// The nodes by which others join the network, without this one.
pub(crate) fn first_nodes(profile: &NetworkProfile, own: MeshKey) -> anyhow::Result<Vec<PeerAddr>> {
    let relays = relays(profile)?;
    let others = profile.bootstrap.iter().filter(|node| node.key != own).map(|node| {
        let peer =
            node.addresses.iter().fold(PeerAddr::new(node.key), |peer, address| peer.with_direct(*address));
        match relays.first() {
            Some(relay) => peer.with_relay(relay.clone()),
            None => peer,
        }
    });
    Ok(others.collect())
}

/// Whether strangers may use this node's line to measure theirs: as its owner says; else the nodes by which a network begins.
fn answers_speed(config: &NodeConfig, first: &[Bootstrap], own: MeshKey) -> bool {
    let is_first = || config.ledger.is_some() || first.iter().any(|node| node.key == own);
    config.mesh.speed.unwrap_or_else(is_first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_gives_its_line_to_nobody_unless_its_owner_says_so() {
        let own = MeshKey::from_bytes([1; 32]);
        let named = [Bootstrap { key: own, addresses: Vec::new() }];
        let answers = |text: &str, first: &[Bootstrap]| {
            let text = format!("data_dir = \"d\"\nprofile = \"p\"\n{text}");
            answers_speed(&toml::from_str(&text).unwrap(), first, own)
        };
        assert!(!answers("[provider]\n[buyer]\n", &[]));
        assert!(answers("", &named), "the network's profile names it");
        assert!(answers("[ledger]\n", &[]));
        assert!(answers("[mesh]\nspeed = true\n", &[]));
        assert!(!answers("[mesh]\nspeed = false\n[ledger]\n", &named));
    }
}
