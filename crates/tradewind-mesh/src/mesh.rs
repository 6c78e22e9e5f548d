//! The endpoint: one QUIC socket, one router, all protocols.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use iroh::endpoint::{PortmapperConfig, QuicTransportConfig, VarInt, presets};
use iroh::protocol::{AcceptError, ProtocolHandler, Router};
use iroh::{Endpoint, NetReportConfig, RelayMode, RelayUrl, TransportAddr};
use iroh_blobs::BlobsProtocol;
use tokio::task::JoinHandle;
use tradewind_proto::ids::MeshKey;
use tradewind_proto::units::Clock;

use crate::admission::Admission;
use crate::blobs::{
    BlobError, BlobHash, BlobRef, Blobs, FetchError, FetchOptions, Fetched, Fetcher, Label, Progress, fetch,
};
use crate::call::{self, CallError, open_raw, send_first};
use crate::dial::Dialer;
use crate::directory::{
    Directory, DirectoryServer, DirectoryWatch, PublishError, Record, RecordVerifier, system_clock,
};
use crate::frame::Kind;
use crate::gate::{Gate, StreamService, close, key_of};
use crate::lease::{LeaseServer, LeaseService};
use crate::limits::Limits;
use crate::pacing::FlooredBbr;
use crate::peer::{MAX_DIRECT_ADDRS, PeerAddr};
use crate::probe::{self, ProbeService, Probed};
use crate::protocol::Protocol;
use crate::refusal::{Refusal, RefusalCode};
use crate::secret::MeshSecret;
use crate::speed::{self, Measured, SpeedError, SpeedServer};
use crate::stream::FrameStream;
use crate::transport::Transport;
use crate::tunnel::{self, Duplex, TunnelGate, TunnelServer, TunnelTarget};

/// What one stream may have in flight. noq 1.4 ends the whole connection when about 1,024 full packets of one stream wait
/// for a slow reader, although none is missing; a window below that many never gets there. Bulk data takes more streams.
const STREAM_WINDOW: u32 = 1 << 20;
/// What one connection may have in flight: 80 MB/s and more at 50 ms, over several streams.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// When a silent connection is given up.
const SILENCE: Duration = Duration::from_secs(15);
/// How often an idle connection shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// Where blobs are kept.
#[derive(Debug, Clone)]
pub struct BlobsConfig {
    /// The store's directory.
    pub root: PathBuf,
    /// How often what no label keeps is collected.
    pub collect_every: Duration,
}

/// How to join the mesh. Nothing that is not named here is ever contacted.
#[derive(Clone)]
pub struct MeshConfig {
    /// This node's secret.
    pub secret: MeshSecret,
    /// The UDP address to bind.
    pub bind: SocketAddr,
    /// Addresses that reach this node from outside, if it cannot see them itself.
    pub external: Vec<SocketAddr>,
    /// The network profile's relays.
    pub relays: Vec<RelayUrl>,
    /// Nodes whose directories to join.
    pub bootstrap: Vec<PeerAddr>,
    /// Who may write to the directory. Without one, no record is accepted.
    pub verifier: Arc<dyn RecordVerifier>,
    /// Where to keep blobs, if at all.
    pub blobs: Option<BlobsConfig>,
    /// Whether peers may measure their lines to this node, at the cost of its own.
    pub answers_speed: bool,
    /// Every bound.
    pub limits: Limits,
    /// The time of day.
    pub clock: Clock,
}

impl MeshConfig {
    /// A node with `secret` on any port, without relays, bootstrap nodes or blobs, that accepts no records and measures no lines for others.
    #[must_use]
    pub fn new(secret: MeshSecret) -> Self {
        Self {
            secret,
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            external: Vec::new(),
            relays: Vec::new(),
            bootstrap: Vec::new(),
            verifier: Arc::new(RefuseAll),
            blobs: None,
            answers_speed: false,
            limits: Limits::default(),
            clock: system_clock(),
        }
    }
}

impl std::fmt::Debug for MeshConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshConfig")
            .field("secret", &self.secret)
            .field("bind", &self.bind)
            .field("relays", &self.relays)
            .field("bootstrap", &self.bootstrap)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct RefuseAll;

impl RecordVerifier for RefuseAll {
    fn verify(&self, _: &Record) -> Result<(), Refusal> {
        Err(Refusal::new(RefusalCode::Unavailable, "this node verifies no records"))
    }
}

/// Why a node could not join the mesh.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The address could not be bound.
    #[error("cannot bind the mesh to {bind}")]
    Bind {
        /// The address.
        bind: SocketAddr,
        /// What the transport said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The blob store could not be opened.
    #[error("cannot open the blob store")]
    Blobs(#[from] BlobError),
    /// No relay answered in time.
    #[error("no relay answered within {} s", .after.as_secs())]
    Offline {
        /// How long this node waited.
        after: Duration,
    },
}

/// A node of the mesh. Clones share it; [`Mesh::close`] ends it for all.
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    router: Router,
    limits: Limits,
    relays: Vec<RelayUrl>,
    external: Vec<SocketAddr>,
    dialer: Arc<Dialer>,
    lease: Arc<LeaseServer>,
    meter: Arc<LeaseServer>,
    tunnel: Arc<TunnelServer>,
    probe: Arc<LeaseServer>,
    directory: Arc<DirectoryServer>,
    blobs: Option<Blobs>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Mesh {
    /// Binds the socket and starts serving.
    ///
    /// # Errors
    /// When the address cannot be bound or the blob store cannot be opened.
    pub async fn bind(config: MeshConfig) -> Result<Self, MeshError> {
        let endpoint = bind_endpoint(&config).await?;
        let limits = config.limits;
        let blobs = match &config.blobs {
            Some(blobs) => Some(Blobs::open(&blobs.root, blobs.collect_every).await?),
            None => None,
        };
        let admission = Admission::new(limits.clone());
        let dialer = Arc::new(Dialer::new(endpoint.clone(), config.relays.clone(), &limits));
        let lease = Arc::new(LeaseServer::new(&limits, "this node provides nothing now"));
        let meter = Arc::new(LeaseServer::new(&limits, "this node meters nothing"));
        let tunnel = Arc::new(TunnelServer::new(&limits));
        let probe = Arc::new(probe::server(&limits));
        let me = config.secret.key();
        let known = config.bootstrap.into_iter().filter(|peer| peer.key != me).collect();
        let table = Directory::new(&limits.directory, config.verifier, config.clock);
        let directory = DirectoryServer::new(table, limits.clone(), dialer.clone(), admission.clone(), known);

        let filter = admission.clone();
        let gate = |protocol, service: Arc<dyn StreamService>| Gate {
            protocol,
            admission: admission.clone(),
            service,
            max_body: limits.max_body,
        };
        let mut router = Router::builder(endpoint.clone())
            .incoming_filter(Arc::new(move |incoming| filter.filter(incoming)))
            .accept(Protocol::Lease.alpn(), gate(Protocol::Lease, lease.clone()))
            .accept(Protocol::Meter.alpn(), gate(Protocol::Meter, meter.clone()))
            .accept(Protocol::Directory.alpn(), gate(Protocol::Directory, directory.clone()))
            .accept(Protocol::Tunnel.alpn(), gate(Protocol::Tunnel, tunnel.clone()))
            .accept(Protocol::Probe.alpn(), gate(Protocol::Probe, probe.clone()));
        if let Some(blobs) = &blobs {
            let handler = BlobsGate { inner: blobs.protocol(), admission: admission.clone() };
            router = router.accept(Protocol::Blobs.alpn(), handler);
        }
        if config.answers_speed {
            let speed = Arc::new(SpeedServer::new(&limits));
            router = router.accept(Protocol::Speed.alpn(), gate(Protocol::Speed, speed));
        }
        let router = router.spawn();
        let tasks = vec![
            tokio::spawn(directory.clone().run()),
            tokio::spawn(sweep(Arc::downgrade(&dialer), Arc::downgrade(&admission))),
        ];
        let (relays, external) = (config.relays, config.external);
        let inner = Inner {
            endpoint,
            router,
            limits,
            relays,
            external,
            dialer,
            lease,
            meter,
            tunnel,
            probe,
            directory,
            blobs,
            tasks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Waits until a relay of the network profile answered; at once when there are none.
    ///
    /// # Errors
    /// When none answered in time. The node goes on trying all the same.
    pub async fn online(&self, within: Duration) -> Result<(), MeshError> {
        if self.inner.relays.is_empty() {
            return Ok(());
        }
        let offline = |_| MeshError::Offline { after: within };
        tokio::time::timeout(within, self.inner.endpoint.online()).await.map_err(offline)
    }

    /// The local addresses of the socket.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.inner.endpoint.bound_sockets()
    }

    /// The records that this node knows.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.inner.directory.directory
    }

    /// Directory links that are up.
    #[must_use]
    pub fn directory_links(&self) -> usize {
        self.inner.directory.link_count()
    }

    /// Adds a node whose directory to join, for instance one that the registry names.
    pub fn add_directory_peer(&self, peer: PeerAddr) {
        if peer.key != self.key() {
            self.inner.directory.add_peer(peer);
        }
    }

    /// Measures the line to `peer`, both ways: seconds, and bytes within [`Limits::speed`].
    ///
    /// # Errors
    /// When the peer is not reached, or by a relay only; does not answer `tradewind/speed/1`, or not now.
    pub async fn measure(&self, peer: &PeerAddr) -> Result<Measured, SpeedError> {
        speed::measure(&self.inner.dialer, &self.inner.limits, peer).await
    }

    /// This node's blobs.
    #[must_use]
    pub fn blobs(&self) -> Option<&Blobs> {
        self.inner.blobs.as_ref()
    }

    /// Forwards local TCP connections: [`tunnel::forward`].
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn forward(
        &self,
        listener: tokio::net::TcpListener,
        peer: PeerAddr,
        target: TunnelTarget,
    ) -> std::io::Result<()> {
        tunnel::forward(Arc::new(self.clone()), listener, peer, target).await
    }

    /// Tells every peer that this node leaves, writes the blob store down and frees the socket.
    pub async fn close(&self) {
        for task in &self.inner.tasks {
            task.abort();
        }
        // Shuts the protocols down (the blob store with them), then the endpoint, which notifies peers.
        if let Err(error) = self.inner.router.shutdown().await {
            tracing::error!(%error, "the mesh did not shut down cleanly");
        }
    }

    fn blobs_or_none(&self) -> Result<&Blobs, BlobError> {
        self.inner.blobs.as_ref().ok_or_else(|| BlobError::Store("this node keeps no blobs".into()))
    }
}

async fn bind_endpoint(config: &MeshConfig) -> Result<Endpoint, MeshError> {
    let error =
        |source: Box<dyn std::error::Error + Send + Sync>| MeshError::Bind { bind: config.bind, source };
    let mut builder = Endpoint::builder(presets::Minimal)
        .secret_key(config.secret.to_iroh())
        .transport_config(quic_settings(&config.limits))
        .portmapper_config(PortmapperConfig::Disabled)
        .clear_ip_transports()
        .bind_addr(config.bind)
        .map_err(|source| error(source.to_string().into()))?;
    builder = if config.relays.is_empty() {
        builder.relay_mode(RelayMode::Disabled).net_report_config(NetReportConfig::minimal())
    } else {
        builder.relay_mode(RelayMode::custom(config.relays.clone()))
    };
    for address in &config.external {
        builder = builder.external_addr(*address);
    }
    builder.bind().await.map_err(|source| error(format!("{source:#}").into()))
}

/// The QUIC settings of every node, for what has to be compared with one.
#[must_use]
pub fn quic_settings(limits: &Limits) -> QuicTransportConfig {
    let builder = QuicTransportConfig::builder()
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        // Above the served number, so that a peer beyond it is told so instead of left waiting.
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams_per_peer.saturating_add(64)))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .keep_alive_interval(KEEP_ALIVE)
        .congestion_controller_factory(Arc::new(FlooredBbr::default()));
    match SILENCE.try_into() {
        Ok(silence) => builder.max_idle_timeout(Some(silence)).build(),
        Err(_) => builder.build(),
    }
}

async fn sweep(dialer: std::sync::Weak<Dialer>, admission: std::sync::Weak<Admission>) {
    let mut every = tokio::time::interval(Duration::from_secs(10));
    loop {
        every.tick().await;
        let (Some(dialer), Some(admission)) = (dialer.upgrade(), admission.upgrade()) else { return };
        dialer.sweep();
        admission.sweep();
    }
}

/// The blobs protocol behind the same limits on connections as the others.
#[derive(Debug)]
struct BlobsGate {
    inner: BlobsProtocol,
    admission: Arc<Admission>,
}

impl ProtocolHandler for BlobsGate {
    async fn accept(&self, connection: iroh::endpoint::Connection) -> Result<(), AcceptError> {
        match self.admission.connection(key_of(&connection)) {
            Ok(_permit) => self.inner.accept(connection).await,
            Err(refusal) => {
                close(&connection, &refusal);
                Ok(())
            }
        }
    }

    async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}

#[async_trait]
impl Transport for Mesh {
    fn key(&self) -> MeshKey {
        MeshKey::from_bytes(*self.inner.endpoint.id().as_bytes())
    }

    fn address(&self) -> PeerAddr {
        let mut address = PeerAddr::new(self.key());
        address.direct.extend(&self.inner.external);
        for place in self.inner.endpoint.addr().addrs {
            if let TransportAddr::Relay(relay) = place {
                address.relay = Some(relay);
            } else if let TransportAddr::Ip(ip) = place
                && !address.direct.contains(&ip)
            {
                address.direct.push(ip);
            }
        }
        if address.direct.is_empty() {
            let bound = self.inner.endpoint.bound_sockets();
            address.direct.extend(bound.into_iter().filter(|socket| !socket.ip().is_unspecified()));
        }
        address.direct.truncate(MAX_DIRECT_ADDRS);
        address
    }

    fn serve_leases(&self, service: Arc<dyn LeaseService>) {
        self.inner.lease.set(service);
    }

    fn serve_meters(&self, service: Arc<dyn LeaseService>) {
        self.inner.meter.set(service);
    }

    fn serve_tunnels(&self, gate: Arc<dyn TunnelGate>) {
        self.inner.tunnel.set(gate);
    }

    fn serve_probes(&self, service: Arc<dyn ProbeService>) {
        probe::serve(&self.inner.probe, service);
    }

    async fn call(&self, peer: &PeerAddr, request: Bytes) -> Result<Bytes, CallError> {
        call::call(&self.inner.dialer, &self.inner.limits, peer, Protocol::Lease, &request).await
    }

    async fn ask_meter(&self, peer: &PeerAddr, request: Bytes) -> Result<Bytes, CallError> {
        call::call(&self.inner.dialer, &self.inner.limits, peer, Protocol::Meter, &request).await
    }

    async fn open(&self, peer: &PeerAddr, header: Bytes) -> Result<FrameStream, CallError> {
        let limits = &self.inner.limits;
        let opened = async {
            let (send, recv, _) = open_raw(&self.inner.dialer, limits, peer, Protocol::Lease).await?;
            let mut stream = FrameStream::new(recv, send, limits.max_body);
            send_first(&mut stream, Kind::Open, &header).await?;
            Ok(stream)
        };
        let timed_out = |_| CallError::TimedOut { after: limits.call };
        tokio::time::timeout(limits.call, opened).await.map_err(timed_out)?
    }

    async fn probe(&self, peer: &PeerAddr, question: Bytes) -> Result<Probed, CallError> {
        probe::probe(&self.inner.dialer, &self.inner.limits, peer, &question).await
    }

    async fn open_tunnel(&self, peer: &PeerAddr, target: TunnelTarget) -> Result<Box<dyn Duplex>, CallError> {
        let tunnel = tunnel::open(&self.inner.dialer, &self.inner.limits, peer, target).await?;
        Ok(Box::new(tunnel))
    }

    async fn publish(&self, record: Record) -> Result<(), PublishError> {
        self.inner.directory.publish(record).await
    }

    fn records(&self) -> Vec<Arc<Record>> {
        self.directory().snapshot()
    }

    fn watch(&self) -> DirectoryWatch {
        self.directory().watch()
    }

    async fn add_file(&self, path: &Path, label: &Label) -> Result<BlobRef, BlobError> {
        self.blobs_or_none()?.add_path(path, label).await
    }

    async fn add_bytes(&self, content: Bytes, label: &Label) -> Result<BlobRef, BlobError> {
        self.blobs_or_none()?.add_bytes(content, label).await
    }

    fn grant(&self, label: &Label, hash: BlobHash, peer: MeshKey) -> Result<(), BlobError> {
        self.blobs_or_none()?.grant(label, hash, peer)
    }

    fn share(&self, label: &Label, hash: BlobHash) -> Result<(), BlobError> {
        self.blobs_or_none()?.share(label, hash)
    }

    async fn release(&self, label: &Label) -> Result<(), BlobError> {
        self.blobs_or_none()?.release(label).await
    }

    async fn fetch(
        &self,
        peer: &PeerAddr,
        hash: BlobHash,
        options: &FetchOptions,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Fetched, FetchError> {
        let blobs = self.inner.blobs.as_ref().ok_or(FetchError::NoStore)?;
        let on = Fetcher { blobs, dialer: &self.inner.dialer };
        fetch(on, peer, hash, options, progress).await
    }

    async fn read(&self, hash: BlobHash, limit: u64) -> Result<Bytes, BlobError> {
        self.blobs_or_none()?.read(hash, limit).await
    }

    async fn export(&self, hash: BlobHash, target: &Path) -> Result<u64, BlobError> {
        self.blobs_or_none()?.export(hash, target).await
    }
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("key", &self.key()).finish_non_exhaustive()
    }
}
