//! `tradewind/probe/1`: a watcher's question, a device's answer, and how long that took.
//!
//! What the bytes mean is between watcher and device (`tradewind_proto::probe`); here they are bounded, in order, and from a
//! proven key. Calls are served as those of `tradewind/lease/1` are, with smaller frames and no long-lived streams.
//!
//! The round trip is the latency, once the answer costs the device no work. The answer's size over it bounds the bandwidth from
//! below, so that the rows that a device opens measure that without a message of their own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;
use tradewind_proto::ids::MeshKey;

use crate::call::{CallError, ask, open_raw};
use crate::dial::Dialer;
use crate::frame::Kind;
use crate::lease::{LeaseServer, LeaseService};
use crate::limits::Limits;
use crate::peer::PeerAddr;
use crate::protocol::Protocol;
use crate::refusal::{Refusal, RefusalCode};
use crate::stream::FrameStream;

/// A row of the largest product is what needs most.
const MAX_BODY: u32 = 128 << 10;

/// The answering side of `tradewind/probe/1`.
#[async_trait]
pub trait ProbeService: Send + Sync + 'static {
    /// Answers one question of `peer`, whose key the handshake proved.
    ///
    /// It goes on after its caller left, so whatever it commits is committed whole.
    async fn answer(&self, peer: MeshKey, question: Bytes) -> Result<Bytes, Refusal>;
}

/// A node's answer to a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// What it said; the caller verifies it.
    pub answer: Bytes,
    /// From the first byte out to the last byte back, on an open connection.
    pub round_trip: Duration,
}

/// A service of probes behind the server of calls.
struct Calls(Arc<dyn ProbeService>);

#[async_trait]
impl LeaseService for Calls {
    async fn call(&self, peer: MeshKey, request: Bytes) -> Result<Bytes, Refusal> {
        self.0.answer(peer, request).await
    }

    async fn open(&self, peer: MeshKey, _header: Bytes, stream: FrameStream) {
        let refusal = Refusal::new(RefusalCode::Malformed, "probes have no streams");
        if let Err(error) = stream.refuse(&refusal).await {
            tracing::debug!(%peer, %error, "a refusal did not arrive");
        }
    }
}

pub(crate) fn server(limits: &Limits) -> LeaseServer {
    let limits = Limits { max_body: limits.max_body.min(MAX_BODY), ..limits.clone() };
    LeaseServer::new(&limits, "this node answers no probes")
}

pub(crate) fn serve(server: &LeaseServer, service: Arc<dyn ProbeService>) {
    server.set(Arc::new(Calls(service)));
}

pub(crate) async fn probe(
    dialer: &Dialer,
    limits: &Limits,
    peer: &PeerAddr,
    question: &[u8],
) -> Result<Probed, CallError> {
    let (send, recv, connection) = open_raw(dialer, limits, peer, Protocol::Probe).await?;
    let mut stream = FrameStream::new(recv, send, limits.max_body.min(MAX_BODY));
    let sent = Instant::now();
    let asked =
        tokio::time::timeout(limits.call, ask(&mut stream, (Kind::Call, question), Kind::Reply)).await;
    let Ok(answer) = asked else {
        dialer.forget(peer.key, Protocol::Probe, &connection).await;
        return Err(CallError::TimedOut { after: limits.call });
    };
    Ok(Probed { answer: answer?, round_trip: sent.elapsed() })
}
