//! How much of a raw QUIC stream a tunnel keeps. A measurement: run it optimised, on an idle machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iroh::endpoint::{QuicTransportConfig, VarInt, presets};
use iroh::{Endpoint, EndpointAddr, RelayMode};
use noq_proto::congestion::Bbr3Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tradewind_mesh::Transport;

use crate::nodes::{close_all, node, within};
use crate::tunnel::{OneWorkload, target};

const BYTES: usize = 512 << 20;
const CHUNK: usize = 256 << 10;
const ALPN: &[u8] = b"raw";

/// An endpoint with the mesh's windows and congestion control, and nothing else of it.
async fn endpoint() -> Endpoint {
    let transport = QuicTransportConfig::builder()
        .stream_receive_window(VarInt::from_u32(16 << 20))
        .receive_window(VarInt::from_u32(32 << 20))
        .send_window(32 << 20)
        .congestion_controller_factory(Arc::new(Bbr3Config::default()))
        .build();
    Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .transport_config(transport)
        .alpns(vec![ALPN.to_vec()])
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .expect("address")
        .bind()
        .await
        .expect("bound")
}

async fn raw_stream() -> Duration {
    let (left, right) = (endpoint().await, endpoint().await);
    let address = EndpointAddr::new(right.id()).with_ip_addr(right.bound_sockets()[0]);
    let receiving = tokio::spawn(async move {
        let connection = right.accept().await.expect("open").await.expect("connected");
        let (_send, mut recv) = connection.accept_bi().await.expect("a stream");
        let mut buffer = vec![0; CHUNK];
        let mut seen = 0;
        while let Some(read) = recv.read(&mut buffer).await.expect("read") {
            seen += read;
        }
        connection.close(0u32.into(), b"done");
        right.close().await;
        seen
    });
    let connection = left.connect(address, ALPN).await.expect("connected");
    let (mut send, _recv) = connection.open_bi().await.expect("a stream");
    let chunk = vec![1; CHUNK];
    let started = Instant::now();
    for _ in 0..BYTES / CHUNK {
        send.write_all(&chunk).await.expect("sent");
    }
    send.finish().expect("finished");
    connection.closed().await;
    let took = started.elapsed();
    assert_eq!(receiving.await.expect("joined"), BYTES);
    left.close().await;
    took
}

/// A TCP sink that says how long after the first byte it had everything.
async fn sink() -> (SocketAddr, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("address");
    let receiving = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.expect("accepted");
        let mut buffer = vec![0; CHUNK];
        let mut seen = 0;
        loop {
            match tcp.read(&mut buffer).await.expect("read") {
                0 => return seen,
                read => seen += read,
            }
        }
    });
    (address, receiving)
}

async fn send_to(address: SocketAddr) -> Duration {
    let mut tcp = TcpStream::connect(address).await.expect("connected");
    let chunk = vec![1; CHUNK];
    let started = Instant::now();
    for _ in 0..BYTES / CHUNK {
        tcp.write_all(&chunk).await.expect("sent");
    }
    tcp.shutdown().await.expect("finished");
    tcp.read_to_end(&mut Vec::new()).await.expect("the other side finished");
    started.elapsed()
}

async fn tunnel() -> Duration {
    let (provider, buyer) = (node().await, node().await);
    let (address, receiving) = sink().await;
    provider.serve_tunnels(Arc::new(OneWorkload { buyer: buyer.key(), address }));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let local = listener.local_addr().expect("address");
    let forwarding = tokio::spawn({
        let (buyer, peer) = (buyer.clone(), provider.address());
        async move { buyer.forward(listener, peer, target(8080)).await }
    });
    let took = send_to(local).await;
    assert_eq!(receiving.await.expect("joined"), BYTES);
    forwarding.abort();
    close_all([buyer, provider]).await;
    took
}

fn rate(took: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let bytes = BYTES as f64;
    bytes / took.as_secs_f64() / 1e9
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run it optimised, on an idle machine"]
async fn a_tunnel_keeps_nine_tenths_of_a_raw_stream() {
    within(300, async {
        let (mut best_raw, mut best_tunnel) = (Duration::MAX, Duration::MAX);
        for _ in 0..5 {
            best_raw = best_raw.min(raw_stream().await);
            best_tunnel = best_tunnel.min(tunnel().await);
        }
        let (address, receiving) = sink().await;
        let tcp = send_to(address).await;
        receiving.await.expect("joined");
        let (raw, tunnel) = (rate(best_raw), rate(best_tunnel));
        println!(
            "raw {raw:.3} GB/s, tunnel {tunnel:.3} GB/s, ratio {:.2}, tcp {:.3} GB/s",
            tunnel / raw,
            rate(tcp)
        );
        assert!(tunnel >= 0.9 * raw);
    })
    .await;
}
