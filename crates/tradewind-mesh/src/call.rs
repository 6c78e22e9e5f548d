//! Opening streams to peers and waiting for their answers, within time limits.

use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{ConnectionError, RecvStream, SendStream};

use crate::dial::{DialError, Dialer, refusal_of};
use crate::frame::{FrameError, Kind};
use crate::limits::Limits;
use crate::peer::PeerAddr;
use crate::protocol::Protocol;
use crate::refusal::Refusal;
use crate::stream::FrameStream;

/// How long to look for the reason after a peer stopped reading.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a peer did not answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The peer could not be reached; nothing was sent.
    #[error("the peer could not be reached")]
    Dial(#[from] DialError),
    /// The peer refused.
    #[error("the peer refused")]
    Refused(#[source] Refusal),
    /// The peer did not answer in time. It may have acted all the same.
    #[error("no answer within {} ms", .after.as_millis())]
    TimedOut {
        /// How long this node waited.
        after: Duration,
    },
    /// The stream broke, or the peer broke the protocol. It may have acted all the same.
    #[error("the answer could not be read")]
    Frame(#[source] FrameError),
    /// The peer ended the stream without an answer.
    #[error("the peer ended the stream without an answer")]
    NoAnswer,
    /// The peer's answer does not fit the question.
    #[error("the peer's answer does not fit the question: {0}")]
    Mismatch(&'static str),
}

impl CallError {
    /// The peer's refusal, wherever it was said.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Refusal> {
        if let Self::Refused(refusal)
        | Self::Frame(FrameError::Refused(refusal))
        | Self::Dial(DialError::Refused { refusal, .. }) = self
        {
            return Some(refusal);
        }
        None
    }
}

impl From<FrameError> for CallError {
    fn from(error: FrameError) -> Self {
        if let Some(refusal) = refusal_in(&error) {
            return Self::Refused(refusal);
        }
        if let FrameError::TimedOut { after } = error {
            return Self::TimedOut { after };
        }
        Self::Frame(error)
    }
}

/// The peer's reason: in a frame, or in the connection's end, which surfaces as an I/O error of the stream.
fn refusal_in(error: &FrameError) -> Option<Refusal> {
    if let FrameError::Refused(refusal) = error {
        return Some(refusal.clone());
    }
    let FrameError::Io(io) = error else { return None };
    let mut source: Option<&(dyn std::error::Error + 'static)> = io.get_ref().map(|inner| inner as _);
    while let Some(inner) = source {
        if let Some(connection) = inner.downcast_ref::<ConnectionError>() {
            return refusal_of(connection);
        }
        source = inner.source();
    }
    None
}

/// Opens one stream to `peer`; a pooled connection that turns out to be dead is replaced once.
pub(crate) async fn open_raw(
    dialer: &Dialer,
    limits: &Limits,
    peer: &PeerAddr,
    protocol: Protocol,
) -> Result<(SendStream, RecvStream, iroh::endpoint::Connection), CallError> {
    loop {
        let dialed = dialer.connection(peer, protocol).await?;
        let opened = tokio::time::timeout(limits.dial, dialed.connection.open_bi()).await;
        let error = match opened {
            Ok(Ok((send, recv))) => return Ok((send, recv, dialed.connection)),
            Ok(Err(error)) => error,
            Err(_) => return Err(CallError::TimedOut { after: limits.dial }),
        };
        dialer.forget(peer.key, protocol, &dialed.connection).await;
        if let Some(refusal) = refusal_of(&error) {
            return Err(CallError::Refused(refusal));
        }
        if dialed.fresh {
            return Err(DialError::Unreachable { key: peer.key, source: Box::new(error) }.into());
        }
    }
}

/// Sends one frame and waits for one frame of kind `want`.
pub(crate) async fn ask(
    stream: &mut FrameStream,
    (kind, body): (Kind, &[u8]),
    want: Kind,
) -> Result<Bytes, CallError> {
    send_first(stream, kind, body).await?;
    match stream.reader().recv_frame().await? {
        Some(frame) if frame.kind == want => Ok(frame.body),
        Some(frame) => Err(FrameError::Kind { got: frame.kind as u8 }.into()),
        None => Err(CallError::NoAnswer),
    }
}

/// Sends a stream's first frame. A peer that stops reading has usually said why.
pub(crate) async fn send_first(stream: &mut FrameStream, kind: Kind, body: &[u8]) -> Result<(), CallError> {
    let Err(error) = stream.writer().send_frame(kind, body).await else { return Ok(()) };
    if matches!(error, FrameError::Io(_))
        && let Ok(Err(FrameError::Refused(refusal))) =
            tokio::time::timeout(LAST_WORDS, stream.reader().recv_frame()).await
    {
        return Err(CallError::Refused(refusal));
    }
    Err(error.into())
}

/// One unary call: a new stream, one frame out, one frame back, all within the limit.
pub(crate) async fn call(
    dialer: &Dialer,
    limits: &Limits,
    peer: &PeerAddr,
    protocol: Protocol,
    request: &[u8],
) -> Result<Bytes, CallError> {
    let deadline = tokio::time::Instant::now() + limits.call;
    let timed_out = CallError::TimedOut { after: limits.call };
    let opened = tokio::time::timeout_at(deadline, open_raw(dialer, limits, peer, protocol)).await;
    let Ok(opened) = opened else { return Err(timed_out) };
    let (send, recv, connection) = opened?;
    let mut stream = FrameStream::new(recv, send, limits.max_body);
    let asked = ask(&mut stream, (Kind::Call, request), Kind::Reply);
    let Ok(answer) = tokio::time::timeout_at(deadline, asked).await else {
        dialer.forget(peer.key, protocol, &connection).await;
        return Err(timed_out);
    };
    answer
}
