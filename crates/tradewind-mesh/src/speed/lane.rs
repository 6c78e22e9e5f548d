//! One stream's raw bytes, until what all streams of its direction may carry is used up, or their time is over.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use iroh::endpoint::{RecvStream, SendStream, VarInt};
use tokio::time::{Instant, timeout_at};

/// What is handed over at once.
const PIECE: usize = 64 << 10;
/// QUIC encrypts what it carries, so that these go over the line as anything else would.
static ZEROS: [u8; PIECE] = [0; PIECE];
/// The code of a stream that its sender or receiver ended because the time was over.
const OVER: VarInt = VarInt::from_u32(0);

/// What the streams of one direction share.
#[derive(Debug)]
pub(super) struct Quota {
    left: AtomicU64,
    until: Instant,
}

impl Quota {
    pub(super) const fn new(bytes: u64, until: Instant) -> Self {
        Self { left: AtomicU64::new(bytes), until }
    }

    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Ends the direction, and says what is not used.
    pub(super) fn close(&self) -> u64 {
        self.left.swap(0, Ordering::Relaxed)
    }

    /// Takes as much of `want` as is left.
    fn take(&self, want: u64) -> u64 {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(want)));
        taken.unwrap_or_default().min(want)
    }
}

/// What came.
pub(super) struct Drained {
    pub(super) bytes: u64,
    pub(super) last: Instant,
    /// More came than the quota had.
    pub(super) is_over: bool,
}

/// Sends as long as the quota lasts and the receiver reads.
pub(super) async fn fill(send: &mut SendStream, quota: &Quota) {
    let filling = async {
        loop {
            let granted = usize::try_from(quota.take(PIECE as u64)).unwrap_or_default();
            let Some(piece) = ZEROS.get(..granted).filter(|piece| !piece.is_empty()) else { break };
            if send.write_chunk(Bytes::from_static(piece)).await.is_err() {
                break;
            }
        }
    };
    // What is not under way yet is let go: a slow line would carry it for minutes.
    let ended = match timeout_at(quota.until, filling).await {
        Ok(()) => send.finish(),
        Err(_) => send.reset(OVER),
    };
    // Its receiver may have stopped it already.
    let _ = ended;
}

/// Reads until the sender ends, the time is over, or more comes than may. `early` bytes are here already.
pub(super) async fn drain(recv: &mut RecvStream, early: usize, quota: &Quota) -> Drained {
    let early = early as u64;
    let bytes = quota.take(early);
    let mut drained = Drained { bytes, last: Instant::now(), is_over: bytes < early };
    while !drained.is_over {
        match timeout_at(quota.until, recv.read_chunk(PIECE)).await {
            Ok(Ok(Some(chunk))) => {
                let came = chunk.len() as u64;
                let counted = quota.take(came);
                drained.bytes += counted;
                drained.last = Instant::now();
                drained.is_over = counted < came;
            }
            Ok(Ok(None) | Err(_)) => return drained,
            Err(_) => break,
        }
    }
    // The stream may have ended meanwhile.
    let _ = recv.stop(OVER);
    drained
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_quota_grants_what_is_left_and_then_nothing() {
        let quota = Quota::new(100, Instant::now());
        assert_eq!([quota.take(70), quota.take(70), quota.take(70)], [70, 30, 0]);
        let quota = Quota::new(100, Instant::now());
        assert_eq!((quota.take(10), quota.close(), quota.take(1), quota.left()), (10, 90, 0, 0));
    }
}
