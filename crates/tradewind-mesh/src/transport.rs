//! What buyer and provider need of a mesh. [`crate::Mesh`] is one over QUIC; the simulator has another, in memory, with
//! faults.

use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use tradewind_proto::ids::MeshKey;

use std::sync::Arc;

use crate::blobs::{BlobError, BlobHash, BlobRef, FetchError, FetchOptions, Fetched, Label, Progress};
use crate::call::CallError;
use crate::directory::{DirectoryWatch, PublishError, Record};
use crate::lease::LeaseService;
use crate::peer::PeerAddr;
use crate::probe::{ProbeService, Probed};
use crate::stream::FrameStream;
use crate::tunnel::{Duplex, TunnelGate, TunnelTarget};

/// A node's place in the mesh, whatever carries it.
///
/// Every operation ends within a bounded time. An error of [`Transport::call`] other than
/// [`CallError::Dial`] leaves open whether the peer acted: callers reconcile.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// This node's key.
    fn key(&self) -> MeshKey;

    /// This node's key and where others reach it, for its offers.
    fn address(&self) -> PeerAddr;

    /// Answers `lease/1` from now on.
    fn serve_leases(&self, service: Arc<dyn LeaseService>);

    /// Answers `meter/1` from now on.
    fn serve_meters(&self, service: Arc<dyn LeaseService>);

    /// Decides on `tunnel/1` from now on.
    fn serve_tunnels(&self, gate: Arc<dyn TunnelGate>);

    /// Answers `probe/1` from now on.
    fn serve_probes(&self, service: Arc<dyn ProbeService>);

    /// One request of `lease/1` and its answer.
    async fn call(&self, peer: &PeerAddr, request: Bytes) -> Result<Bytes, CallError>;

    /// One request of `meter/1` and its answer.
    async fn ask_meter(&self, peer: &PeerAddr, request: Bytes) -> Result<Bytes, CallError>;

    /// A long-lived stream of `lease/1`. A refusal arrives as the first `recv`.
    async fn open(&self, peer: &PeerAddr, header: Bytes) -> Result<FrameStream, CallError>;

    /// One question of `probe/1`, its answer, and how long that took without the connection's setup.
    async fn probe(&self, peer: &PeerAddr, question: Bytes) -> Result<Probed, CallError>;

    /// Bytes to and from a port of a workload.
    async fn open_tunnel(&self, peer: &PeerAddr, target: TunnelTarget) -> Result<Box<dyn Duplex>, CallError>;

    /// Stores this node's signed record and passes it on.
    async fn publish(&self, record: Record) -> Result<(), PublishError>;

    /// Every live record of the directory.
    fn records(&self) -> Vec<Arc<Record>>;

    /// Every live record, and every change from then on.
    fn watch(&self) -> DirectoryWatch;

    /// Stores a copy of a file, kept under `label`.
    async fn add_file(&self, path: &Path, label: &Label) -> Result<BlobRef, BlobError>;

    /// Stores bytes, kept under `label`.
    async fn add_bytes(&self, content: Bytes, label: &Label) -> Result<BlobRef, BlobError>;

    /// Lets `peer` fetch `hash` until `label` is released.
    fn grant(&self, label: &Label, hash: BlobHash, peer: MeshKey) -> Result<(), BlobError>;

    /// Lets anybody fetch `hash` until `label` is released.
    fn share(&self, label: &Label, hash: BlobHash) -> Result<(), BlobError>;

    /// Ends a label: its grants now, its blobs when the collector next runs.
    async fn release(&self, label: &Label) -> Result<(), BlobError>;

    /// Brings a blob here, verified, taking up what an earlier fetch left.
    async fn fetch(
        &self,
        peer: &PeerAddr,
        hash: BlobHash,
        options: &FetchOptions,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Fetched, FetchError>;

    /// A complete blob of at most `limit` bytes.
    async fn read(&self, hash: BlobHash, limit: u64) -> Result<Bytes, BlobError>;

    /// Writes a complete blob to a file, which appears whole or not at all.
    async fn export(&self, hash: BlobHash, target: &Path) -> Result<u64, BlobError>;
}
