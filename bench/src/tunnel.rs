//! A workload's port through the mesh, beside one raw QUIC stream with the same settings, and beside plain TCP.
//!
//! ```text
//! tunnel   client ─TCP─ buyer ═QUIC═ provider ─TCP─ workload
//! raw             sender ═QUIC═ receiver
//! TCP             sender ─TCP─ receiver
//! ```
//!
//! All of it runs on loopback in this process, so all of it shares the cores: the tunnel's two TCP hops have to fit beside
//! QUIC's encryption.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use iroh::endpoint::{Connection, RecvStream, SendStream, presets};
use iroh::{Endpoint, EndpointAddr, RelayMode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tradewind_mesh::tunnel::{TunnelGate, TunnelTarget};
use tradewind_mesh::{Limits, Mesh, MeshConfig, MeshSecret, Refusal, Transport as _, quic_settings};
use tradewind_proto::ids::{LeaseId, MeshKey};

use crate::figure::{Figure, length, median};
use crate::progress::say;

const ROUNDS: usize = 7;
const BYTES: usize = 256 << 20;
const CHUNK: usize = 256 << 10;
const PINGS: usize = 2_000;
const ALPN: &[u8] = b"raw";
const RAW: &str = "raw iroh stream";
const TCP: &str = "TCP";
/// The budget: what a tunnel keeps of a raw stream.
const SHARE: f64 = 0.9;
const TARGET: TunnelTarget = TunnelTarget { lease: LeaseId::new(alloy::primitives::B256::ZERO), port: 8080 };

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let workload = Workload::serve().await?;
    let tunnel = Tunnel::open(workload.address).await?;
    let raw = Raw::open().await?;
    let (mut bulk, mut trips) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    for _ in 0..ROUNDS {
        let (mut send, mut recv) = raw.connection.open_bi().await?;
        bulk[0].push(throughput(&mut send, &mut recv).await?);
        let (mut recv, mut send) = TcpStream::connect(tunnel.local).await?.into_split();
        bulk[1].push(throughput(&mut send, &mut recv).await?);
        let (mut recv, mut send) = TcpStream::connect(workload.address).await?.into_split();
        bulk[2].push(throughput(&mut send, &mut recv).await?);

        let (mut send, mut recv) = raw.connection.open_bi().await?;
        trips[0].push(round_trip(&mut send, &mut recv).await?);
        let (mut recv, mut send) = quick(tunnel.local).await?.into_split();
        trips[1].push(round_trip(&mut send, &mut recv).await?);
        let (mut recv, mut send) = quick(workload.address).await?.into_split();
        trips[2].push(round_trip(&mut send, &mut recv).await?);
        let last = |of: &[Vec<f64>; 3], which: usize| of[which].last().copied().unwrap_or_default();
        say(format_args!(
            "  raw {:.0}, tunnel {:.0}, TCP {:.0} MB/s; {:.0}, {:.0}, {:.0} µs",
            last(&bulk, 0),
            last(&bulk, 1),
            last(&bulk, 2),
            last(&trips, 0),
            last(&trips, 1),
            last(&trips, 2),
        ));
    }
    let shares = bulk[1].iter().zip(&bulk[0]).map(|(tunnel, raw)| tunnel / raw).collect();
    raw.close().await;
    tunnel.close().await;
    let ([raw, tunnel, tcp], [raw_trip, tunnel_trip, tcp_trip]) = (bulk.map(median), trips.map(median));
    Ok(vec![
        Figure::new("tunnel: share of a raw iroh stream's throughput", median(shares), "×").at_least(SHARE),
        Figure::new("tunnel: throughput", tunnel, "MB/s").beside(RAW, raw),
        Figure::new("tunnel: throughput", tunnel, "MB/s").beside(TCP, tcp),
        Figure::new("tunnel: round trip", tunnel_trip, "µs").beside(RAW, raw_trip),
        Figure::new("tunnel: round trip", tunnel_trip, "µs").beside(TCP, tcp_trip),
    ])
}

async fn quick(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Megabytes a second from the first byte sent to the receiver's word that it has them all.
async fn throughput(
    send: &mut (impl AsyncWrite + Unpin),
    recv: &mut (impl AsyncRead + Unpin),
) -> anyhow::Result<f64> {
    let chunk = vec![1; CHUNK];
    let began = Instant::now();
    for _ in 0..BYTES / CHUNK {
        send.write_all(&chunk).await?;
    }
    send.shutdown().await?;
    let seen = recv.read_u64().await?;
    let span = began.elapsed();
    ensure!(usize::try_from(seen).ok() == Some(BYTES), "{seen} bytes arrived");
    Ok(length(BYTES) / span.as_secs_f64() / 1e6)
}

/// Microseconds of the usual small question and its answer.
async fn round_trip(
    send: &mut (impl AsyncWrite + Unpin),
    recv: &mut (impl AsyncRead + Unpin),
) -> anyhow::Result<f64> {
    let (question, mut answer) = ([b'p'; 64], [0; 64]);
    let mut spans = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let began = Instant::now();
        send.write_all(&question).await?;
        recv.read_exact(&mut answer).await?;
        spans.push(began.elapsed().as_secs_f64() * 1e6);
    }
    send.shutdown().await?;
    Ok(median(spans))
}

/// Answers small questions at once, and bulk with its size when it ended.
async fn answer(mut recv: impl AsyncRead + Unpin, mut send: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut seen: u64 = 0;
    loop {
        match recv.read(&mut buffer).await? {
            0 => break,
            64 if buffer[0] == b'p' => send.write_all(&buffer[..64]).await?,
            read => seen += u64::try_from(read).unwrap_or_default(),
        }
    }
    send.write_u64(seen).await?;
    send.shutdown().await
}

struct Workload {
    address: SocketAddr,
    task: JoinHandle<std::io::Result<()>>,
}

impl Workload {
    async fn serve() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await?;
                tcp.set_nodelay(true)?;
                let (recv, send) = tcp.into_split();
                tokio::spawn(answer(recv, send));
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct OneWorkload(SocketAddr);

#[async_trait]
impl TunnelGate for OneWorkload {
    async fn allow(&self, _: MeshKey, _: TunnelTarget) -> Result<SocketAddr, Refusal> {
        Ok(self.0)
    }
}

struct Tunnel {
    buyer: Mesh,
    provider: Mesh,
    local: SocketAddr,
    forwarding: JoinHandle<std::io::Result<()>>,
}

impl Tunnel {
    async fn open(workload: SocketAddr) -> anyhow::Result<Self> {
        let node = || {
            Mesh::bind(MeshConfig {
                bind: ([127, 0, 0, 1], 0).into(),
                ..MeshConfig::new(MeshSecret::generate())
            })
        };
        let (buyer, provider) = (node().await?, node().await?);
        provider.serve_tunnels(Arc::new(OneWorkload(workload)));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let local = listener.local_addr()?;
        let (from, to) = (buyer.clone(), provider.address());
        let forwarding = tokio::spawn(async move { from.forward(listener, to, TARGET).await });
        Ok(Self { buyer, provider, local, forwarding })
    }

    async fn close(self) {
        self.forwarding.abort();
        self.buyer.close().await;
        self.provider.close().await;
    }
}

/// Two endpoints with the mesh's QUIC settings, and nothing else of it.
struct Raw {
    left: Endpoint,
    right: Endpoint,
    connection: Connection,
    serving: JoinHandle<()>,
}

impl Raw {
    async fn open() -> anyhow::Result<Self> {
        let (left, right) = (endpoint().await?, endpoint().await?);
        let bound = *right.bound_sockets().first().context("the endpoint has no address")?;
        let address = EndpointAddr::new(right.id()).with_ip_addr(bound);
        let accepting = right.clone();
        let serving = tokio::spawn(async move {
            let Some(incoming) = accepting.accept().await else { return };
            let Ok(connection) = incoming.await else { return };
            while let Ok((send, recv)) = connection.accept_bi().await {
                tokio::spawn(answer_raw(recv, send));
            }
        });
        let connection = tokio::time::timeout(Duration::from_secs(10), left.connect(address, ALPN)).await??;
        Ok(Self { left, right, connection, serving })
    }

    async fn close(self) {
        self.serving.abort();
        self.left.close().await;
        self.right.close().await;
    }
}

async fn answer_raw(recv: RecvStream, send: SendStream) {
    // The asking side sees what broke.
    let _ = answer(recv, send).await;
}

async fn endpoint() -> anyhow::Result<Endpoint> {
    Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .transport_config(quic_settings(&Limits::default()))
        .alpns(vec![ALPN.to_vec()])
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")?
        .bind()
        .await
        .map_err(|error| anyhow::anyhow!("{error:#}"))
}
