//! `tradewind/speed/1`: how many bytes a second go between two nodes, each way, counted where they arrive.
//!
//! ```text
//!  asker ── Call(terms) ───────────────▶ answerer   one measurement at a time, seldom for one key, so much an hour
//!        ◀── Reply(terms) | Refuse ─────            bytes and time each way, the lesser of both
//!   up   ══ Open, raw bytes … end ══════▶
//!        ◀══ Reply(tally) ══════════════            on 8 streams side by side, as one stream's window bounds its rate
//!   down ══ Open ═══════════════════════▶
//!        ◀══ Accept, raw bytes … end ═══            the same
//!        ── the first stream's end ─────▶            the place is free
//! ```
//!
//! The download is the asker's own finding; the upload is what the answerer says that it got. Both include how the rate grew
//! at first, so a line may do a little better. A node that is reached by a relay is not measured: the relay's owner would pay.

mod answer;
mod lane;

use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt as _;
use iroh::endpoint::{Connection, PathList, RecvStream, SendStream};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tradewind_proto::ids::MeshKey;

pub(crate) use self::answer::SpeedServer;
use self::lane::{Quota, drain, fill};
use crate::call::{CallError, ask, open_raw};
use crate::dial::Dialer;
use crate::frame::{self, Decoder, Frame, FrameError, Kind};
use crate::limits::Limits;
use crate::peer::PeerAddr;
use crate::protocol::Protocol;
use crate::stream::{FrameStream, read_frame};

/// The largest frame; what is measured goes without frames.
const MAX_BODY: u32 = 1024;
/// Streams side by side, each way.
const LANES: u32 = 8;
/// How much longer than agreed the asker waits for the end of what comes.
const GRACE: Duration = Duration::from_secs(1);

/// What went one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Bytes that arrived.
    pub bytes: u64,
    /// From the first stream's begin to the last byte.
    pub took: Duration,
}

impl Flow {
    /// Bytes a second.
    #[must_use]
    pub fn per_second(&self) -> u64 {
        let nanoseconds = self.took.as_nanos().max(1);
        u64::try_from(u128::from(self.bytes) * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX)
    }
}

/// The line between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// What this node sent: the peer's word, bounded by what was sent.
    pub sent: Flow,
    /// What this node received.
    pub received: Flow,
}

/// Why a line was not measured.
#[derive(Debug, thiserror::Error)]
pub enum SpeedError {
    /// The peer is reached by a relay.
    #[error("{0} is reached by a relay, whose owner would pay for the traffic")]
    Relayed(MeshKey),
    /// The peer was not reached, refused, or broke the protocol.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// What a measurement may take, each way.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Terms {
    bytes: u64,
    millis: u32,
}

impl Terms {
    fn new(bytes: u64, time: Duration) -> Self {
        Self { bytes, millis: u32::try_from(time.as_millis()).unwrap_or(u32::MAX) }
    }

    fn least(self, other: Self) -> Self {
        Self { bytes: self.bytes.min(other.bytes), millis: self.millis.min(other.millis) }
    }

    fn time(self) -> Duration {
        Duration::from_millis(self.millis.into())
    }
}

/// Which way a stream's bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Way {
    /// From the asker.
    Up,
    /// To the asker.
    Down,
}

/// What arrived on one stream, in microseconds since the measurement began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Tally {
    bytes: u64,
    from: u64,
    to: u64,
}

impl Tally {
    fn new(bytes: u64, begun: Instant, (from, to): (Instant, Instant)) -> Self {
        let since = |at: Instant| u64::try_from(at.duration_since(begun).as_micros()).unwrap_or(u64::MAX);
        Self { bytes, from: since(from), to: since(to) }
    }

    fn sum(all: &[Self]) -> Flow {
        let from = all.iter().map(|tally| tally.from).min().unwrap_or_default();
        let to = all.iter().map(|tally| tally.to).max().unwrap_or_default();
        let bytes = all.iter().fold(0u64, |sum, tally| sum.saturating_add(tally.bytes));
        Flow { bytes, took: Duration::from_micros(to.saturating_sub(from)) }
    }
}

/// Measures the line to `peer`, both ways, one after the other.
pub(crate) async fn measure(
    dialer: &Dialer,
    limits: &Limits,
    peer: &PeerAddr,
) -> Result<Measured, SpeedError> {
    let (send, recv, connection) =
        open_raw(dialer, limits, peer, Protocol::Speed).await.map_err(SpeedError::Call)?;
    if !is_direct(&connection, limits.dial).await {
        return Err(SpeedError::Relayed(peer.key));
    }
    let mut place = FrameStream::new(recv, send, MAX_BODY);
    let wish = Terms::new(limits.speed.bytes, limits.speed.time);
    let question = postcard::to_stdvec(&wish).map_err(|_| CallError::Frame(FrameError::Malformed))?;
    let asking = ask(&mut place, (Kind::Call, &question), Kind::Reply);
    let asked = tokio::time::timeout(limits.call, asking).await;
    let Ok(answer) = asked else {
        dialer.forget(peer.key, Protocol::Speed, &connection).await;
        return Err(CallError::TimedOut { after: limits.call }.into());
    };
    let terms: Terms =
        postcard::from_bytes(&answer?).map_err(|_| CallError::Mismatch("it names no terms"))?;
    let asker = Asker { connection: &connection, wait: limits.call, begun: Instant::now() };
    let terms = terms.least(wish);
    let (bytes, time) = (terms.bytes, terms.time());
    let sent = asker.up(&Quota::new(bytes, Instant::now() + time)).await?;
    let received = asker.down(&Quota::new(bytes, Instant::now() + time + GRACE)).await?;
    // The place ends with the connection otherwise.
    let _ = place.finish().await;
    if !is_direct(&connection, Duration::ZERO).await {
        return Err(SpeedError::Relayed(peer.key));
    }
    Ok(Measured { sent, received })
}

/// The asking side of one measurement.
struct Asker<'a> {
    connection: &'a Connection,
    wait: Duration,
    begun: Instant,
}

impl Asker<'_> {
    async fn up(&self, quota: &Quota) -> Result<Flow, CallError> {
        let before = quota.left();
        let lanes = (0..LANES).map(|_| self.up_lane(quota));
        let flow = Tally::sum(&futures::future::try_join_all(lanes).await?);
        match flow.bytes {
            0 => Err(CallError::Mismatch("nothing that was sent arrived")),
            bytes if bytes > before - quota.left() => {
                Err(CallError::Mismatch("it claims more than was sent"))
            }
            _ => Ok(flow),
        }
    }

    async fn up_lane(&self, quota: &Quota) -> Result<Tally, CallError> {
        let (mut send, mut recv) = self.open(Way::Up).await?;
        fill(&mut send, quota).await;
        let (frame, _) = self.answer(&mut recv, Kind::Reply).await?;
        postcard::from_bytes(&frame.body).map_err(|_| CallError::Mismatch("it names no tally"))
    }

    async fn down(&self, quota: &Quota) -> Result<Flow, CallError> {
        let lanes = (0..LANES).map(|_| self.down_lane(quota));
        let flow = Tally::sum(&futures::future::try_join_all(lanes).await?);
        if flow.bytes == 0 {
            return Err(CallError::Mismatch("nothing that was asked for arrived"));
        }
        Ok(flow)
    }

    async fn down_lane(&self, quota: &Quota) -> Result<Tally, CallError> {
        let from = Instant::now();
        let (mut send, mut recv) = self.open(Way::Down).await?;
        // Everything is said; a stream that is closed already says why when it is read.
        let _ = send.finish();
        let (_, early) = self.answer(&mut recv, Kind::Accept).await?;
        let drained = drain(&mut recv, early.len(), quota).await;
        if drained.is_over {
            return Err(CallError::Mismatch("more came than was agreed"));
        }
        Ok(Tally::new(drained.bytes, self.begun, (from, drained.last)))
    }

    async fn open(&self, way: Way) -> Result<(SendStream, RecvStream), CallError> {
        let header = postcard::to_stdvec(&way).map_err(|_| FrameError::Malformed)?;
        let mut out = BytesMut::new();
        frame::encode(&mut out, Kind::Open, 0, &header, MAX_BODY)?;
        let opened = async {
            let (mut send, recv) = self.connection.open_bi().await.map_err(std::io::Error::from)?;
            send.write_all(&out).await.map_err(std::io::Error::from)?;
            Ok::<_, std::io::Error>((send, recv))
        };
        let opened = tokio::time::timeout(self.wait, opened).await;
        let opened = opened.map_err(|_| CallError::TimedOut { after: self.wait })?;
        Ok(opened.map_err(FrameError::Io)?)
    }

    /// A lane's one frame, and what came together with it.
    async fn answer(&self, recv: &mut RecvStream, want: Kind) -> Result<(Frame, BytesMut), CallError> {
        let (mut decoder, mut early) = (Decoder::new(MAX_BODY), BytesMut::new());
        let read = tokio::time::timeout(self.wait, read_frame(recv, &mut decoder, &mut early)).await;
        match read.map_err(|_| CallError::TimedOut { after: self.wait })?? {
            Some(frame) if frame.kind == want => Ok((frame, early)),
            Some(frame) => Err(FrameError::Kind { got: frame.kind as u8 }.into()),
            None => Err(CallError::NoAnswer),
        }
    }
}

/// Whether packets go to the peer itself; a new connection may leave the relay on which it began, `within` a while.
async fn is_direct(connection: &Connection, within: Duration) -> bool {
    let direct = |paths: &PathList<'_>| {
        let chosen = paths.iter().find(iroh::endpoint::Path::is_selected);
        chosen.map_or_else(|| !paths.is_empty() && paths.iter().all(|path| path.is_ip()), |path| path.is_ip())
    };
    if direct(&connection.paths()) {
        return true;
    }
    let mut paths = connection.paths_stream();
    let changed = async {
        while let Some(paths) = paths.next().await {
            if direct(&paths) {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(within, changed).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_lasts_from_the_first_begin_to_the_last_byte() {
        let tallies = [Tally { bytes: 10, from: 5, to: 300_000 }, Tally { bytes: 20, from: 7, to: 500_005 }];
        let flow = Tally::sum(&tallies);
        assert_eq!(flow, Flow { bytes: 30, took: Duration::from_millis(500) });
        assert_eq!(flow.per_second(), 60);
    }

    #[test]
    fn a_liars_tally_neither_overflows_nor_divides_by_zero() {
        let liar = Tally { bytes: u64::MAX, from: 9, to: 3 };
        let flow = Tally::sum(&[liar, liar]);
        assert_eq!((flow.bytes, flow.took, flow.per_second()), (u64::MAX, Duration::ZERO, u64::MAX));
        assert_eq!(Tally::sum(&[]).per_second(), 0);
    }
}
