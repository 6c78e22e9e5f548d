//! `tradewind/lease/1`: what buyer and provider say to each other.
//!
//! ```text
//!  unary                               long-lived
//!  buyer ── Call(request) ──▶          buyer ── Open(header) ──▶
//!        ◀── Reply | Refuse ── prov.         ◀── Data … Data ──▶  prov.   (logs, usage, vouchers)
//! ```
//!
//! What the bytes mean is between buyer and provider; here they are only bounded, in order, and from a proven key.
//! `tradewind/meter/1` carries what buyer and meter say to each other in the same way.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tradewind_proto::ids::MeshKey;

use crate::frame::{FrameError, Kind};
use crate::gate::{Incoming, StreamService};
use crate::limits::Limits;
use crate::refusal::{Refusal, RefusalCode};
use crate::stream::FrameStream;

/// The answering side of `tradewind/lease/1`, or of `tradewind/meter/1`.
#[async_trait]
pub trait LeaseService: Send + Sync + 'static {
    /// Answers one request of `peer`, whose key the handshake proved.
    ///
    /// A call goes on after its caller left, so whatever it commits is committed whole.
    async fn call(&self, peer: MeshKey, request: Bytes) -> Result<Bytes, Refusal>;

    /// Serves one long-lived stream of `peer` until either side ends it. Ends it with [`FrameStream::refuse`] to say why.
    async fn open(&self, peer: MeshKey, header: Bytes, stream: FrameStream);
}

/// The answering side of a mesh: answers with the service that was set, if any.
pub(crate) struct LeaseServer {
    /// What is said where none was set.
    absent: &'static str,
    service: RwLock<Option<Arc<dyn LeaseService>>>,
    first_frame: Duration,
    call: Duration,
    write: Duration,
    max_body: u32,
}

impl LeaseServer {
    pub(crate) fn new(limits: &Limits, absent: &'static str) -> Self {
        Self {
            absent,
            service: RwLock::new(None),
            first_frame: limits.first_frame,
            call: limits.call,
            write: limits.write,
            max_body: limits.max_body,
        }
    }

    pub(crate) fn set(&self, service: Arc<dyn LeaseService>) {
        *self.service.write().unwrap_or_else(PoisonError::into_inner) = Some(service);
    }

    async fn serve_stream(&self, peer: MeshKey, mut stream: FrameStream) -> Result<(), FrameError> {
        let first = match stream.reader().recv_frame_within(self.first_frame).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(()),
            Err(error) => return self.refuse(stream, &error.to_refusal()).await,
        };
        let service = self.service.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(service) = service else {
            let refusal = Refusal::new(RefusalCode::Unavailable, self.absent);
            return self.refuse(stream, &refusal).await;
        };
        match first.kind {
            Kind::Call => {
                let answer = tokio::time::timeout(self.call, service.call(peer, first.body)).await;
                let late = || Refusal::new(RefusalCode::TimedOut, "the request took too long");
                match answer.unwrap_or_else(|_| Err(late())) {
                    Ok(reply) => {
                        let sent = stream.writer().send_frame_within(Kind::Reply, &reply, self.write).await;
                        match sent {
                            Err(error @ FrameError::Oversized { .. }) => {
                                tracing::error!(%peer, %error, "an answer does not fit a frame");
                                let refusal =
                                    Refusal::new(RefusalCode::Internal, "the answer does not fit a frame");
                                self.refuse(stream, &refusal).await
                            }
                            Err(error) => Err(error),
                            Ok(()) => stream.finish().await,
                        }
                    }
                    Err(refusal) => self.refuse(stream, &refusal).await,
                }
            }
            Kind::Open => {
                service.open(peer, first.body, stream).await;
                Ok(())
            }
            Kind::Data | Kind::Reply | Kind::Accept | Kind::Refuse => {
                let error = FrameError::Kind { got: first.kind as u8 };
                self.refuse(stream, &error.to_refusal()).await
            }
        }
    }

    async fn refuse(&self, stream: FrameStream, refusal: &Refusal) -> Result<(), FrameError> {
        let timed_out = |_| FrameError::TimedOut { after: self.write };
        tokio::time::timeout(self.write, stream.refuse(refusal)).await.map_err(timed_out)?
    }
}

#[async_trait]
impl StreamService for LeaseServer {
    async fn serve(&self, Incoming { peer, send, recv, .. }: Incoming) {
        if let Err(error) = self.serve_stream(peer, FrameStream::new(recv, send, self.max_body)).await {
            tracing::debug!(%peer, %error, "a lease stream failed");
        }
    }
}

impl std::fmt::Debug for LeaseServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseServer").finish_non_exhaustive()
    }
}
