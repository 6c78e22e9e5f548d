//! Nodes to test with.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tradewind_mesh::{
    BlobsConfig, FrameStream, LeaseService, Limits, Mesh, MeshConfig, MeshSecret, Refusal, RefusalCode,
    Transport,
};
use tradewind_proto::ids::MeshKey;

use crate::records::Signatures;

/// A node's configuration on loopback that believes well-signed records.
pub(crate) fn config() -> MeshConfig {
    log();
    MeshConfig {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        verifier: Arc::new(Signatures),
        limits: quick(),
        ..MeshConfig::new(MeshSecret::generate())
    }
}

/// Shows what nodes log, as `RUST_LOG` asks, when a test fails.
fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Every test of a process comes by here; the first one sets it.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// Limits that make waits short.
pub(crate) fn quick() -> Limits {
    let mut limits = Limits {
        dial: Duration::from_millis(2000),
        call: Duration::from_millis(3000),
        first_frame: Duration::from_millis(800),
        write: Duration::from_millis(1000),
        backoff_min: Duration::from_millis(50),
        backoff_max: Duration::from_millis(400),
        ..Limits::default()
    };
    limits.directory.compare_every = Duration::from_millis(500);
    limits
}

pub(crate) async fn node() -> Mesh {
    Mesh::bind(config()).await.expect("bound")
}

pub(crate) async fn node_with_blobs(root: &Path) -> Mesh {
    let blobs = BlobsConfig { root: root.into(), collect_every: Duration::from_millis(500) };
    Mesh::bind(MeshConfig { blobs: Some(blobs), ..config() }).await.expect("bound")
}

pub(crate) async fn echo_node() -> (Mesh, Arc<Echo>) {
    let mesh = node().await;
    let echo = Arc::new(Echo::default());
    mesh.serve_leases(echo.clone());
    (mesh, echo)
}

pub(crate) async fn close_all<const N: usize>(nodes: [Mesh; N]) {
    for node in nodes {
        node.close().await;
    }
}

/// Runs `test` and fails if it takes longer than `seconds`.
pub(crate) async fn within<T>(seconds: u64, test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), test).await.expect("in time")
}

/// Waits until `holds`.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never: {what}");
}

/// Answers with what it is told; a few requests make it misbehave.
#[derive(Default)]
pub(crate) struct Echo {
    pub(crate) calls: AtomicUsize,
}

#[async_trait]
impl LeaseService for Echo {
    async fn call(&self, peer: MeshKey, request: Bytes) -> Result<Bytes, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match &request[..] {
            b"who am I" => Ok(peer.as_bytes().to_vec().into()),
            b"refuse" => Err(Refusal::new(RefusalCode::Rejected, "the price is too low")),
            b"sleep" => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Ok(request)
            }
            b"panic" => panic!("asked to"),
            b"too much" => Ok(vec![0; 2 << 20].into()),
            _ => Ok(request),
        }
    }

    async fn open(&self, _peer: MeshKey, header: Bytes, mut stream: FrameStream) {
        match &header[..] {
            b"refuse" => {
                let _ = stream.refuse(&Refusal::new(RefusalCode::NotFound, "no such lease")).await;
            }
            b"flood" => {
                let line = Bytes::from(vec![b'x'; 60_000]);
                while stream.send(line.clone()).await.is_ok() {}
            }
            _ => {
                while let Ok(Some(message)) = stream.recv().await {
                    if stream.send(message).await.is_err() {
                        return;
                    }
                }
                let _ = stream.finish().await;
            }
        }
    }
}
