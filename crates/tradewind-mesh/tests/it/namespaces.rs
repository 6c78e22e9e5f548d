//! Two nodes that cannot reach each other, and a node that nobody else hears.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tradewind_mesh::blobs::{FetchOptions, Label};
use tradewind_mesh::relay::{self, RelayConfig};
use tradewind_mesh::{BlobsConfig, CallError, Mesh, MeshConfig, PeerAddr, RelayUrl, Transport};
use tradewind_testbed::net::{MIDDLE, Net};

use crate::nodes::{Echo, config, until, within};
use crate::probe::Prover;
use crate::proxy::{self, Path};
use crate::tunnel::{OneWorkload, target, workload};

fn label() -> Label {
    "lease-1".parse().expect("a label")
}

fn anywhere(relays: Vec<RelayUrl>, root: &std::path::Path) -> MeshConfig {
    MeshConfig {
        bind: SocketAddr::from(([0, 0, 0, 0], 0)),
        relays,
        blobs: Some(BlobsConfig { root: root.into(), collect_every: Duration::from_secs(60) }),
        ..config()
    }
}

#[tokio::test]
async fn two_nodes_that_share_only_a_relay_call_fetch_and_tunnel() {
    let net = Net::new();
    let (url_known, url) = oneshot::channel();
    let (stop_relay, relay_stopped) = oneshot::channel::<()>();
    let serving = net.run("middle", || async {
        let bind = SocketAddr::new(MIDDLE.parse().expect("address"), 0);
        let relay = relay::serve(RelayConfig::new(bind)).await.expect("a relay");
        url_known.send(relay.url().clone()).expect("told");
        let _ = relay_stopped.await;
        relay.shutdown().await.expect("stopped");
    });
    let url = within(10, url).await.expect("the relay's url");
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));

    let (provider_known, provider) = oneshot::channel();
    let (buyer_known, buyer_key) = oneshot::channel();
    let (hash_known, hash) = oneshot::channel();
    let (stop_provider, provider_stopped) = oneshot::channel::<()>();
    let relays = vec![url.clone()];
    let providing = net.run("right", move || async move {
        let mesh = Mesh::bind(anywhere(relays, &a)).await.expect("bound");
        mesh.online(Duration::from_secs(10)).await.expect("online");
        mesh.serve_leases(Arc::new(Echo::default()));
        mesh.serve_probes(Arc::new(Prover::default()));
        let blob = mesh.add_bytes(Bytes::from(vec![7; 3 << 20]), &label()).await.expect("added");
        let (address, _serving) = workload().await;
        provider_known.send(mesh.address()).expect("told");
        let buyer = buyer_key.await.expect("told");
        mesh.grant(&label(), blob.hash, buyer).expect("granted");
        mesh.serve_tunnels(Arc::new(OneWorkload { buyer, address }));
        hash_known.send(blob.hash).expect("told");
        let _ = provider_stopped.await;
        mesh.close().await;
    });
    let provider = within(20, provider).await.expect("the provider's address");
    assert_eq!(provider.relay.as_ref(), Some(&url), "{provider}");

    let relays = vec![url];
    let buying = net.run("left", move || async move {
        let mesh = Mesh::bind(anywhere(relays, &b)).await.expect("bound");
        mesh.online(Duration::from_secs(10)).await.expect("online");
        buyer_known.send(mesh.key()).expect("told");
        let hash = hash.await.expect("told");
        let direct = PeerAddr { relay: None, ..provider.clone() };
        let unreachable = mesh.probe(&direct, Bytes::from_static(b"ping")).await.expect_err("no route");
        assert!(matches!(unreachable, CallError::Dial(_)), "{unreachable:?}");
        let answer = mesh.call(&provider, Bytes::from_static(b"quote")).await.expect("answered");
        assert_eq!(&answer[..], b"quote");
        let only_key = PeerAddr::new(provider.key);
        let found = mesh.probe(&only_key, Bytes::from_static(b"ping")).await;
        found.expect("found by its key and the profile's relays");
        let options = FetchOptions::new(10 << 20, label());
        let fetched = mesh.fetch(&provider, hash, &options, &|_| {}).await.expect("fetched");
        let mut tunnel = mesh.open_tunnel(&provider, target(8080)).await.expect("a tunnel");
        tunnel.write_all(b"over the relay").await.expect("sent");
        tunnel.shutdown().await.expect("half closed");
        let mut got = Vec::new();
        tunnel.read_to_end(&mut got).await.expect("read");
        mesh.close().await;
        (fetched.size, got)
    });
    let (size, got) = within(40, buying).await.expect("the buyer finished");
    assert_eq!((size, &got[..]), (3 << 20, &b"over the relay"[..]));
    for stop in [stop_provider, stop_relay] {
        let _ = stop.send(());
    }
    within(10, async { (providing.await, serving.await) }).await.0.expect("the provider stopped");
}

#[tokio::test]
async fn a_private_node_sends_nothing_to_anyone_it_was_not_told_of() {
    let net = Net::new();
    let name = net.name("left");
    // A packet to anywhere would first ask for the gateway: with the answer fixed, only real traffic is counted.
    for (place, device) in [("left", "v1"), ("middle", "m1")] {
        net.sysctl(place, &format!("net.ipv6.conf.{device}.disable_ipv6=1"));
    }
    net.inside("left", &["neigh", "replace", "10.71.1.1", "lladdr", "02:00:00:00:00:01", "dev", "v1"]);
    let sent = move || {
        let output = Command::new("ip")
            .args(["netns", "exec", &name, "cat", "/sys/class/net/v1/statistics/tx_packets"])
            .output()
            .expect("read");
        String::from_utf8_lossy(&output.stdout).trim().parse::<u64>().expect("a number")
    };
    let before = sent();
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let living = net.run("left", move || async move {
        let provider = Mesh::bind(anywhere(Vec::new(), &a)).await.expect("bound");
        provider.serve_leases(Arc::new(Echo::default()));
        let buyer = Mesh::bind(anywhere(Vec::new(), &b)).await.expect("bound");
        let port = provider.local_addresses()[0].port();
        let here = PeerAddr::new(provider.key()).with_direct(SocketAddr::from(([127, 0, 0, 1], port)));
        buyer.call(&here, Bytes::from_static(b"x")).await.expect("answered");
        tokio::time::sleep(Duration::from_secs(3)).await;
        buyer.call(&here, Bytes::from_static(b"x")).await.expect("answered");
        buyer.close().await;
        provider.close().await;
    });
    within(20, living).await.expect("lived");
    assert_eq!(sent() - before, 0, "packets left the machine");
    drop(net);
}

#[tokio::test]
async fn calls_and_fetches_survive_delay_and_loss() {
    let net = Net::new();
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let (provider_known, provider) = oneshot::channel();
    let (buyer_known, buyer_key) = oneshot::channel();
    let (hash_known, hash) = oneshot::channel();
    let (stop_provider, provider_stopped) = oneshot::channel::<()>();
    let providing = net.run("right", move || async move {
        let mesh = Mesh::bind(anywhere(Vec::new(), &a)).await.expect("bound");
        mesh.serve_leases(Arc::new(Echo::default()));
        mesh.serve_probes(Arc::new(Prover::default()));
        let blob = mesh.add_bytes(Bytes::from(vec![9; 2 << 20]), &label()).await.expect("added");
        provider_known.send((mesh.key(), mesh.local_addresses()[0].port())).expect("told");
        mesh.grant(&label(), blob.hash, buyer_key.await.expect("told")).expect("granted");
        hash_known.send(blob.hash).expect("told");
        let _ = provider_stopped.await;
        mesh.close().await;
    });
    let (key, port) = within(20, provider).await.expect("the provider");
    let (proxy_known, proxy) = oneshot::channel();
    let path = Path { delay: Duration::from_millis(25), loss: 20 };
    let _proxying = net.run("middle", move || async move {
        let listen = tokio::net::UdpSocket::bind((MIDDLE, 0)).await.expect("bound");
        proxy_known.send(listen.local_addr().expect("address")).expect("told");
        let target = SocketAddr::from(([10, 71, 2, 2], port));
        let _ = tokio::time::timeout(Duration::from_secs(40), proxy::run(listen, target, path)).await;
    });
    let proxy = within(10, proxy).await.expect("the proxy");
    let buying = net.run("left", move || async move {
        let mesh = Mesh::bind(anywhere(Vec::new(), &b)).await.expect("bound");
        let peer = PeerAddr::new(key).with_direct(proxy);
        buyer_known.send(mesh.key()).expect("told");
        let hash = hash.await.expect("told");
        for _ in 0..20 {
            mesh.call(&peer, Bytes::from_static(b"x")).await.expect("answered");
        }
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let probed = mesh.probe(&peer, Bytes::from_static(b"ping")).await.expect("answered");
            best = best.min(probed.round_trip);
        }
        let options = FetchOptions::new(10 << 20, label());
        let fetched = mesh.fetch(&peer, hash, &options, &|_| {}).await.expect("fetched");
        mesh.close().await;
        (best, fetched.size)
    });
    let (best, size) = within(40, buying).await.expect("the buyer finished");
    assert!(best >= Duration::from_millis(50), "the path adds 50 ms, the best ping took {best:?}");
    assert_eq!(size, 2 << 20);
    let _ = stop_provider.send(());
    until("the provider stopped", {
        let mut providing = providing;
        move || providing.try_recv().is_ok()
    })
    .await;
}
