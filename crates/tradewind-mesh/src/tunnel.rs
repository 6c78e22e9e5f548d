//! `tradewind/tunnel/1`: TCP streams to a workload's ports.
//!
//! ```text
//!  ssh ──TCP──▶ forward ══ Open(lease, port) ══▶ provider: TunnelGate ──TCP──▶ workload
//!                       ◀══ Accept | Refuse ════
//!                       ◀══ raw bytes, half-close, reset ══▶
//! ```
//!
//! After `Accept` the bytes are raw: no copy more than a TCP proxy needs. A side that ends cleanly finishes its
//! direction and still receives; a side that breaks resets it, so that nobody takes a torn stream for a whole one.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use iroh::endpoint::{RecvStream, SendStream, VarInt};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tradewind_proto::ids::{LeaseId, MeshKey};

use crate::call::{CallError, open_raw};
use crate::causes::Causes;
use crate::dial::Dialer;
use crate::frame::{self, Decoder, FrameError, Kind};
use crate::gate::{Incoming, StreamService};
use crate::limits::Limits;
use crate::peer::PeerAddr;
use crate::protocol::Protocol;
use crate::refusal::{Refusal, RefusalCode};
use crate::stream::read_frame;
use crate::transport::Transport;

/// The largest frame before the raw bytes.
const MAX_HEADER_BODY: u32 = 4096;
/// What is copied at once in each direction.
const COPY: usize = 64 << 10;
/// Local connections that one forwarder carries at once.
const FORWARDED: usize = 200;
/// The reset code of a direction that broke.
const BROKEN: VarInt = VarInt::from_u32(1);

/// Where a tunnel leads: a port of the workload of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TunnelTarget {
    /// The lease that pays for the workload.
    pub lease: LeaseId,
    /// The workload's port.
    pub port: u16,
}

/// A provider's decision on who may reach what.
#[async_trait]
pub trait TunnelGate: Send + Sync + 'static {
    /// The address behind `target`, if `peer` may reach it.
    async fn allow(&self, peer: MeshKey, target: TunnelTarget) -> Result<SocketAddr, Refusal>;
}

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// One open tunnel over QUIC. Dropping it before `shutdown` resets its sending direction.
#[derive(Debug)]
pub(crate) struct TunnelStream {
    send: SendStream,
    recv: RecvStream,
    /// What arrived together with the last frame.
    early: BytesMut,
    finished: bool,
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if !this.early.is_empty() {
            let taken = this.early.split_to(this.early.len().min(into.remaining()));
            into.put_slice(&taken);
            return Poll::Ready(Ok(()));
        }
        AsyncRead::poll_read(Pin::new(&mut this.recv), cx, into)
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.finished = true;
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        if !self.finished {
            // Already closed otherwise: then there is nothing to reset.
            let _ = self.send.reset(BROKEN);
        }
    }
}

#[derive(Default)]
pub(crate) struct TunnelServer {
    gate: RwLock<Option<Arc<dyn TunnelGate>>>,
    first_frame: Duration,
    dial: Duration,
}

impl TunnelServer {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { gate: RwLock::new(None), first_frame: limits.first_frame, dial: limits.dial }
    }

    pub(crate) fn set(&self, gate: Arc<dyn TunnelGate>) {
        *self.gate.write().unwrap_or_else(PoisonError::into_inner) = Some(gate);
    }

    async fn accept(&self, peer: MeshKey, recv: &mut RecvStream) -> Result<(TcpStream, BytesMut), Refusal> {
        let mut buffer = BytesMut::new();
        let mut decoder = Decoder::new(MAX_HEADER_BODY);
        let timed_out = |_| FrameError::TimedOut { after: self.first_frame };
        let first = tokio::time::timeout(self.first_frame, read_frame(recv, &mut decoder, &mut buffer)).await;
        let first = first.map_err(timed_out).flatten().map_err(|error| error.to_refusal())?;
        let frame = first.ok_or_else(|| FrameError::Truncated.to_refusal())?;
        if frame.kind != Kind::Open {
            return Err(FrameError::Kind { got: frame.kind as u8 }.to_refusal());
        }
        let target: TunnelTarget =
            postcard::from_bytes(&frame.body).map_err(|_| FrameError::Malformed.to_refusal())?;
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner).clone();
        let gate =
            gate.ok_or_else(|| Refusal::new(RefusalCode::Unavailable, "this node has no workloads"))?;
        let address = gate.allow(peer, target).await?;
        let unreachable = |reason: String| {
            let port = target.port;
            Refusal::new(
                RefusalCode::Unavailable,
                format_args!("the workload does not listen on port {port}: {reason}"),
            )
        };
        let dialed = tokio::time::timeout(self.dial, TcpStream::connect(address)).await;
        let tcp = dialed
            .map_err(|_| unreachable("no answer".into()))?
            .map_err(|error| unreachable(error.to_string()))?;
        Ok((tcp, buffer))
    }
}

#[async_trait]
impl StreamService for TunnelServer {
    async fn serve(&self, Incoming { peer, mut send, mut recv, .. }: Incoming) {
        let (kind, body, accepted) = match self.accept(peer, &mut recv).await {
            Ok(accepted) => (Kind::Accept, Vec::new(), Some(accepted)),
            Err(refusal) => (Kind::Refuse, refusal.to_wire(), None),
        };
        let mut out = BytesMut::new();
        let framed = frame::encode(&mut out, kind, 0, &body, MAX_HEADER_BODY);
        if framed.is_err() || send.write_all(&out).await.is_err() {
            return;
        }
        match accepted {
            Some((tcp, early)) => pump(tcp, TunnelStream { send, recv, early, finished: false }).await,
            None => {
                // The peer may be gone already.
                let _ = send.finish();
            }
        }
    }
}

impl std::fmt::Debug for TunnelServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TunnelServer").finish_non_exhaustive()
    }
}

/// Opens a tunnel to `target` at `peer`.
pub(crate) async fn open(
    dialer: &Dialer,
    limits: &Limits,
    peer: &PeerAddr,
    target: TunnelTarget,
) -> Result<TunnelStream, CallError> {
    let (mut send, mut recv, connection) = open_raw(dialer, limits, peer, Protocol::Tunnel).await?;
    let header = postcard::to_stdvec(&target).map_err(|_| FrameError::Malformed)?;
    let mut out = BytesMut::new();
    frame::encode(&mut out, Kind::Open, 0, &header, MAX_HEADER_BODY)?;
    let mut decoder = Decoder::new(MAX_HEADER_BODY);
    let mut early = BytesMut::new();
    let shaken = async {
        let written = send.write_all(&out).await;
        let answer = read_frame(&mut recv, &mut decoder, &mut early).await?;
        written.map_err(|error| FrameError::Io(error.into()))?;
        Ok::<_, FrameError>(answer)
    };
    let Ok(answer) = tokio::time::timeout(limits.call, shaken).await else {
        dialer.forget(peer.key, Protocol::Tunnel, &connection).await;
        return Err(CallError::TimedOut { after: limits.call });
    };
    match answer? {
        Some(frame) if frame.kind == Kind::Accept => Ok(TunnelStream { send, recv, early, finished: false }),
        Some(frame) => Err(FrameError::Kind { got: frame.kind as u8 }.into()),
        None => Err(CallError::NoAnswer),
    }
}

/// Forwards each connection to `listener` through a tunnel of its own, until the future is dropped.
///
/// Connections beyond 200 at once wait in the listener's backlog. One that cannot be tunnelled is reset, so that its
/// client sees an error at once.
///
/// # Errors
/// When the listener fails.
pub async fn forward(
    transport: Arc<dyn Transport>,
    listener: TcpListener,
    peer: PeerAddr,
    target: TunnelTarget,
) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(FORWARDED));
    let mut running = tokio::task::JoinSet::new();
    loop {
        let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
        let tcp = loop {
            tokio::select! {
                accepted = listener.accept() => break accepted?.0,
                Some(ended) = running.join_next() => {
                    if let Err(error) = ended { tracing::error!(%error, "a tunnel's task failed"); }
                }
            }
        };
        let (transport, peer) = (transport.clone(), peer.clone());
        running.spawn(async move {
            match transport.open_tunnel(&peer, target).await {
                Ok(tunnel) => pump(tcp, tunnel).await,
                Err(error) => {
                    tracing::warn!(peer = %peer.key, lease = %target.lease, port = target.port, error = %Causes(&error), "no tunnel");
                    reset(&tcp);
                }
            }
            drop(place);
        });
    }
}

/// Copies both ways until both ends are done or one breaks; then both are reset.
async fn pump(mut tcp: TcpStream, mut tunnel: impl Duplex) {
    // Latency first: what an application writes goes out at once. A kernel that refuses is no reason to stop.
    let _ = tcp.set_nodelay(true);
    let copied = tokio::io::copy_bidirectional_with_sizes(&mut tcp, &mut tunnel, COPY, COPY).await;
    if let Err(error) = copied {
        tracing::debug!(error = %Causes(&error), "a tunnel broke");
        reset(&tcp);
    }
}

/// Makes the drop of `tcp` send RST instead of FIN.
fn reset(tcp: &TcpStream) {
    let _ = tcp.set_zero_linger();
}
