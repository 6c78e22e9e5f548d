//! `tradewind/probe/1`: a nonce goes out, the same nonce comes back with a proof that the node signed it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tradewind_proto::ids::MeshKey;

use crate::call::{CallError, ask, open_raw};
use crate::dial::Dialer;
use crate::frame::{FrameError, Kind};
use crate::gate::{Incoming, StreamService};
use crate::limits::Limits;
use crate::peer::PeerAddr;
use crate::protocol::Protocol;
use crate::stream::FrameStream;

/// A ping's nonce. Never use one twice: a proof over an old nonce proves nothing.
pub type Nonce = [u8; 32];

/// A nonce is all that a ping carries.
const MAX_PROBE_BODY: u32 = 4096;

/// Signs this node's answers to pings.
pub trait ProbeSigner: Send + Sync + 'static {
    /// The proof that this node saw `nonce`, asked by `asker`, for instance a signature by its device key.
    fn sign(&self, asker: MeshKey, nonce: Nonce) -> Bytes;
}

/// A node's answer to a ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pong {
    /// From the first byte out to the last byte back, on an open connection.
    pub round_trip: Duration,
    /// What the node's [`ProbeSigner`] made of the nonce; empty if it has none. The caller verifies it.
    pub proof: Bytes,
}

#[derive(Serialize, Deserialize)]
struct WirePong {
    nonce: Nonce,
    proof: Bytes,
}

#[derive(Default)]
pub(crate) struct ProbeServer {
    signer: RwLock<Option<Arc<dyn ProbeSigner>>>,
    first_frame: Duration,
}

impl ProbeServer {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { signer: RwLock::new(None), first_frame: limits.first_frame }
    }

    pub(crate) fn set(&self, signer: Arc<dyn ProbeSigner>) {
        *self.signer.write().unwrap_or_else(PoisonError::into_inner) = Some(signer);
    }

    async fn answer(&self, peer: MeshKey, stream: &mut FrameStream) -> Result<(), FrameError> {
        let Some(frame) = stream.reader().recv_frame_within(self.first_frame).await? else { return Ok(()) };
        if frame.kind != Kind::Call {
            return Err(FrameError::Kind { got: frame.kind as u8 });
        }
        let nonce = Nonce::try_from(&frame.body[..]).map_err(|_| FrameError::Malformed)?;
        let signer = self.signer.read().unwrap_or_else(PoisonError::into_inner).clone();
        let proof = signer.map_or_else(Bytes::new, |signer| signer.sign(peer, nonce));
        let pong = postcard::to_stdvec(&WirePong { nonce, proof }).map_err(|_| FrameError::Malformed)?;
        stream.writer().send_frame_within(Kind::Reply, &pong, self.first_frame).await
    }
}

#[async_trait]
impl StreamService for ProbeServer {
    async fn serve(&self, Incoming { peer, send, recv, .. }: Incoming) {
        let mut stream = FrameStream::new(recv, send, MAX_PROBE_BODY);
        let ended = match self.answer(peer, &mut stream).await {
            Ok(()) => stream.finish().await,
            Err(error) => stream.refuse(&error.to_refusal()).await,
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a ping was not answered");
        }
    }
}

impl std::fmt::Debug for ProbeServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProbeServer").finish_non_exhaustive()
    }
}

pub(crate) async fn ping(
    dialer: &Dialer,
    limits: &Limits,
    peer: &PeerAddr,
    nonce: Nonce,
) -> Result<Pong, CallError> {
    let (send, recv, connection) = open_raw(dialer, limits, peer, Protocol::Probe).await?;
    let mut stream = FrameStream::new(recv, send, MAX_PROBE_BODY);
    let sent = Instant::now();
    let asked = tokio::time::timeout(limits.dial, ask(&mut stream, (Kind::Call, &nonce), Kind::Reply)).await;
    let Ok(answer) = asked else {
        dialer.forget(peer.key, Protocol::Probe, &connection).await;
        return Err(CallError::TimedOut { after: limits.dial });
    };
    let round_trip = sent.elapsed();
    let pong: WirePong = postcard::from_bytes(&answer?).map_err(|_| FrameError::Malformed)?;
    if pong.nonce != nonce {
        return Err(CallError::Mismatch("another nonce came back: an old answer was replayed"));
    }
    Ok(Pong { round_trip, proof: pong.proof })
}
