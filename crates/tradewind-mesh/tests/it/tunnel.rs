//! TCP through the mesh.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tradewind_mesh::tunnel::{TunnelGate, TunnelTarget};
use tradewind_mesh::{Mesh, Refusal, RefusalCode, Transport};
use tradewind_proto::ids::{LeaseId, MeshKey};

use crate::nodes::{close_all, node, within};

/// One workload at one address, for one buyer.
pub(crate) struct OneWorkload {
    pub(crate) buyer: MeshKey,
    pub(crate) address: SocketAddr,
}

#[async_trait]
impl TunnelGate for OneWorkload {
    async fn allow(&self, peer: MeshKey, target: TunnelTarget) -> Result<SocketAddr, Refusal> {
        if peer != self.buyer {
            return Err(Refusal::new(RefusalCode::Forbidden, "this lease is not yours"));
        }
        if target.port != 8080 {
            return Err(Refusal::new(RefusalCode::NotFound, "the workload opens port 8080 only"));
        }
        Ok(self.address)
    }
}

pub(crate) fn target(port: u16) -> TunnelTarget {
    TunnelTarget { lease: LeaseId::default(), port }
}

/// A workload that answers with what it got, after the client finished.
pub(crate) async fn workload() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("address");
    let serving = tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.expect("accepted");
            tokio::spawn(async move {
                let mut all = Vec::new();
                if tcp.read_to_end(&mut all).await.is_ok() {
                    let _ = tcp.write_all(&all).await;
                }
            });
        }
    });
    (address, serving)
}

struct Setup {
    provider: Mesh,
    buyer: Mesh,
    local: SocketAddr,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

async fn setup(address: SocketAddr, port: u16) -> Setup {
    let (provider, buyer) = (node().await, node().await);
    provider.serve_tunnels(Arc::new(OneWorkload { buyer: buyer.key(), address }));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let local = listener.local_addr().expect("address");
    let forwarding = tokio::spawn({
        let (buyer, peer) = (buyer.clone(), provider.address());
        async move {
            buyer.forward(listener, peer, target(port)).await.expect("forwarding");
        }
    });
    Setup { provider, buyer, local, tasks: vec![forwarding] }
}

impl Setup {
    async fn end(self) {
        for task in &self.tasks {
            task.abort();
        }
        close_all([self.buyer, self.provider]).await;
    }
}

#[tokio::test]
async fn half_closed_connections_carry_every_byte_both_ways() {
    let (address, serving) = workload().await;
    let setup = setup(address, 8080).await;
    let sent: Vec<u8> = (0u32..3_000_000).map(|n| u8::try_from(n % 251).expect("small")).collect();
    let tcp = TcpStream::connect(setup.local).await.expect("connected");
    let (mut read, mut write) = tcp.into_split();
    let mut got = Vec::new();
    let writing = async {
        write.write_all(&sent).await.expect("sent");
        write.shutdown().await.expect("half closed");
    };
    let reading = async { read.read_to_end(&mut got).await.expect("read") };
    within(20, async { tokio::join!(writing, reading) }).await;
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    serving.abort();
    setup.end().await;
}

#[tokio::test]
async fn many_connections_share_one_forwarder() {
    let (address, serving) = workload().await;
    let setup = setup(address, 8080).await;
    let local = setup.local;
    let clients = (0u8..60).map(|number| async move {
        let mut tcp = TcpStream::connect(local).await.expect("connected");
        tcp.write_all(&[number; 5000]).await.expect("sent");
        tcp.shutdown().await.expect("half closed");
        let mut got = Vec::new();
        tcp.read_to_end(&mut got).await.expect("read");
        assert_eq!(got, [number; 5000]);
    });
    within(20, futures::future::join_all(clients)).await;
    serving.abort();
    setup.end().await;
}

#[tokio::test]
async fn what_the_gate_refuses_is_reset_at_once() {
    let (address, serving) = workload().await;
    let setup = setup(address, 22).await;
    let mut tcp = TcpStream::connect(setup.local).await.expect("connected");
    let error = within(5, tcp.read_to_end(&mut Vec::new())).await.expect_err("reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let refused =
        setup.buyer.open_tunnel(&setup.provider.address(), target(22)).await.err().expect("refused");
    assert_eq!(refused.refusal().expect("a refusal").message(), "the workload opens port 8080 only");
    let stranger = node().await;
    let refused = stranger.open_tunnel(&setup.provider.address(), target(8080)).await.err().expect("refused");
    assert_eq!(refused.refusal().expect("a refusal").code(), RefusalCode::Forbidden);
    serving.abort();
    setup.end().await;
}

#[tokio::test]
async fn a_workload_that_does_not_listen_is_said_so() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("address");
    let setup = setup(closed, 8080).await;
    let refused =
        setup.buyer.open_tunnel(&setup.provider.address(), target(8080)).await.err().expect("refused");
    let refusal = refused.refusal().expect("a refusal");
    assert!(refusal.message().starts_with("the workload does not listen on port 8080"), "{refusal}");
    setup.end().await;
}

#[tokio::test]
async fn a_torn_connection_is_never_taken_for_a_whole_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("address");
    let crashing = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.expect("accepted");
        tcp.write_all(b"half of the ans").await.expect("sent");
        tokio::time::sleep(Duration::from_millis(200)).await;
        tcp.set_zero_linger().expect("linger");
    });
    let setup = setup(address, 8080).await;
    let mut tcp = TcpStream::connect(setup.local).await.expect("connected");
    tcp.write_all(b"question").await.expect("sent");
    let error = within(5, tcp.read_to_end(&mut Vec::new())).await.expect_err("reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    crashing.abort();
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_late_gets_every_byte_and_keeps_the_connection() {
    const SIZE: usize = 24 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("address");
    let serving = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.expect("accepted");
        let _ = tcp.write_all(&vec![7; SIZE]).await;
        let _ = tcp.shutdown().await;
    });
    let setup = setup(address, 8080).await;
    let peer = setup.provider.address();
    let mut tunnel = setup.buyer.open_tunnel(&peer, target(8080)).await.expect("a tunnel");
    // Long enough for every window on the way to fill.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut seen = 0;
    let mut buffer = vec![0; 1 << 16];
    within(20, async {
        loop {
            match tunnel.read(&mut buffer).await.expect("the connection lives") {
                0 => return,
                read => seen += read,
            }
        }
    })
    .await;
    assert_eq!(seen, SIZE);
    serving.abort();
    setup.end().await;
}
