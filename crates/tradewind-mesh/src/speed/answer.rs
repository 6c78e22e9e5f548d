//! The answering side: who is measured, when, and how much that costs this node at most.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use iroh::endpoint::{Connection, RecvStream, SendStream};
use tokio::time::Instant;
use tradewind_proto::ids::MeshKey;

use super::lane::{Quota, drain, fill};
use super::{LANES, MAX_BODY, Tally, Terms, Way, is_direct};
use crate::frame::{Decoder, Frame, FrameError, Kind};
use crate::gate::{Incoming, StreamService, close};
use crate::limits::{Limits, SpeedLimits};
use crate::refusal::{Refusal, RefusalCode};
use crate::stream::{FrameWriter, read_frame};

/// How long a new connection may take to leave the relay on which it began.
const DIRECT: Duration = Duration::from_secs(2);
/// What a measurement may take beside the time of its bytes.
const SLACK: Duration = Duration::from_secs(4);
/// Keys that are remembered as measured; while there are more, nobody new is.
const REMEMBERED: usize = 4096;
const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
pub(crate) struct SpeedServer {
    limits: SpeedLimits,
    first_frame: Duration,
    write: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    running: Option<Arc<Running>>,
    measured: HashMap<MeshKey, Instant>,
    allowance: Allowance,
}

/// Bytes that may be spent: half of an hour's at once, and as many again over an hour.
#[derive(Debug)]
struct Allowance {
    most: u64,
    left: u64,
    filled_at: Instant,
}

/// One measurement.
#[derive(Debug)]
struct Running {
    peer: MeshKey,
    connection: usize,
    terms: Terms,
    begun: Instant,
    until: Instant,
    up: Direction,
    down: Direction,
}

#[derive(Debug, Default)]
struct Direction {
    lanes: AtomicU32,
    quota: OnceLock<Quota>,
}

/// The one place for a measurement; dropping it frees the place and gives back what was not spent.
struct Place<'a> {
    server: &'a SpeedServer,
    running: Arc<Running>,
}

impl SpeedServer {
    pub(crate) fn new(limits: &Limits) -> Self {
        let most = limits.speed.hourly / 2;
        let state = State {
            running: None,
            measured: HashMap::new(),
            allowance: Allowance { most, left: most, filled_at: Instant::now() },
        };
        Self {
            limits: limits.speed.clone(),
            first_frame: limits.first_frame,
            write: limits.write,
            state: Mutex::new(state),
        }
    }

    fn begin(&self, peer: MeshKey, connection: usize, wish: Terms) -> Result<Place<'_>, Refusal> {
        let now = Instant::now();
        let state = &mut *self.lock();
        if let Some(running) = &state.running {
            let wait = seconds(running.until.saturating_duration_since(now));
            return refused(
                RefusalCode::Busy,
                format!("another measurement runs here; ask again in {wait} s"),
            );
        }
        let pause = self.limits.pause;
        state.measured.retain(|_, at| now.duration_since(*at) < pause);
        if let Some(at) = state.measured.get(&peer) {
            let wait = seconds(pause.saturating_sub(now.duration_since(*at)));
            return refused(
                RefusalCode::RateLimited,
                format!("you were measured just now; ask again in {wait} s"),
            );
        }
        if state.measured.len() >= REMEMBERED {
            let wait = seconds(pause);
            return refused(
                RefusalCode::Busy,
                format!("too many others were measured just now; ask again in {wait} s"),
            );
        }
        let terms = Terms::new(self.limits.bytes, self.limits.time).least(wish);
        if let Err(wait) = state.allowance.take(terms.bytes.saturating_mul(2), now) {
            let wait = seconds(wait);
            return refused(
                RefusalCode::RateLimited,
                format!("what this node gives for measurements in an hour is used up; ask again in {wait} s"),
            );
        }
        state.measured.insert(peer, now);
        let until = now + terms.time() * 2 + SLACK;
        let (up, down) = (Direction::default(), Direction::default());
        let running = Arc::new(Running { peer, connection, terms, begun: now, until, up, down });
        state.running = Some(running.clone());
        Ok(Place { server: self, running })
    }

    /// The measurement and the direction that a stream belongs to.
    fn lane(&self, peer: MeshKey, connection: usize, way: Way) -> Result<Arc<Running>, Refusal> {
        let running = self.lock().running.clone();
        let running =
            running.filter(|running| (running.peer, running.connection) == (peer, connection)).ok_or_else(
                || Refusal::new(RefusalCode::Forbidden, "no measurement of yours runs on this connection"),
            )?;
        let direction = running.direction(way);
        if direction.lanes.fetch_add(1, Ordering::Relaxed) >= LANES {
            return refused(RefusalCode::Rejected, format!("more than {LANES} streams each way"));
        }
        let until = (Instant::now() + running.terms.time()).min(running.until);
        direction.quota.get_or_init(|| Quota::new(running.terms.bytes, until));
        Ok(running)
    }

    async fn answer(
        &self,
        Incoming { peer, connection, send, mut recv }: Incoming,
    ) -> Result<(), FrameError> {
        let (frame, early) = match self.first(&mut recv).await {
            Ok(Some(first)) => first,
            Ok(None) => return Ok(()),
            Err(error) => return self.refuse(send, &error.to_refusal()).await,
        };
        let way = match frame.kind {
            Kind::Call => match postcard::from_bytes(&frame.body) {
                Ok(wish) => return self.measure(peer, &connection, wish, (send, recv)).await,
                Err(_) => Err(FrameError::Malformed),
            },
            Kind::Open => postcard::from_bytes::<Way>(&frame.body).map_err(|_| FrameError::Malformed),
            Kind::Data | Kind::Reply | Kind::Accept | Kind::Refuse => {
                Err(FrameError::Kind { got: frame.kind as u8 })
            }
        };
        let way = match way {
            Ok(way) => way,
            Err(error) => return self.refuse(send, &error.to_refusal()).await,
        };
        let running = match self.lane(peer, connection.stable_id(), way) {
            Ok(running) => running,
            Err(refusal) => return self.refuse(send, &refusal).await,
        };
        let Some(quota) = running.direction(way).quota.get() else { return Ok(()) };
        match way {
            Way::Up => self.take(&running, quota, &connection, (send, recv, early)).await,
            Way::Down => self.give(quota, send).await,
        }
    }

    async fn first(&self, recv: &mut RecvStream) -> Result<Option<(Frame, BytesMut)>, FrameError> {
        let (mut decoder, mut early) = (Decoder::new(MAX_BODY), BytesMut::new());
        let read = tokio::time::timeout(self.first_frame, read_frame(recv, &mut decoder, &mut early)).await;
        let frame = read.map_err(|_| FrameError::TimedOut { after: self.first_frame })??;
        Ok(frame.map(|frame| (frame, early)))
    }

    /// Holds the place until the asker ends the stream, its connection ends, or its time is over.
    async fn measure(
        &self,
        peer: MeshKey,
        connection: &Connection,
        wish: Terms,
        (send, mut recv): (SendStream, RecvStream),
    ) -> Result<(), FrameError> {
        if !is_direct(connection, DIRECT).await {
            let why = "you come by a relay, whose owner would pay for the traffic";
            return self.refuse(send, &Refusal::new(RefusalCode::Forbidden, why)).await;
        }
        let place = match self.begin(peer, connection.stable_id(), wish) {
            Ok(place) => place,
            Err(refusal) => return self.refuse(send, &refusal).await,
        };
        let terms = postcard::to_stdvec(&place.running.terms).map_err(|_| FrameError::Malformed)?;
        let mut writer = FrameWriter::new(send, MAX_BODY);
        writer.send_frame_within(Kind::Reply, &terms, self.write).await?;
        // Nothing more is expected but the end; anything else ends it too.
        let _ = tokio::time::timeout_at(place.running.until, recv.read_to_end(0)).await;
        drop(place);
        writer.finish().await
    }

    /// Receives what a lane brings and tells how much that was. Whoever sends more than agreed loses the connection.
    async fn take(
        &self,
        running: &Running,
        quota: &Quota,
        connection: &Connection,
        (send, mut recv, early): (SendStream, RecvStream, BytesMut),
    ) -> Result<(), FrameError> {
        let from = Instant::now();
        let drained = drain(&mut recv, early.len(), quota).await;
        if drained.is_over {
            let most = running.terms.bytes;
            let why = format!("more than the {most} bytes that were agreed");
            close(connection, &Refusal::new(RefusalCode::Oversized, why));
            return Ok(());
        }
        let tally = Tally::new(drained.bytes, running.begun, (from, drained.last));
        let tally = postcard::to_stdvec(&tally).map_err(|_| FrameError::Malformed)?;
        let mut writer = FrameWriter::new(send, MAX_BODY);
        writer.send_frame_within(Kind::Reply, &tally, self.write).await?;
        writer.finish().await
    }

    async fn give(&self, quota: &Quota, mut send: SendStream) -> Result<(), FrameError> {
        let mut accept = BytesMut::new();
        crate::frame::encode(&mut accept, Kind::Accept, 0, &[], MAX_BODY)?;
        let timed_out = |_| FrameError::TimedOut { after: self.write };
        let accepted = tokio::time::timeout(self.write, send.write_all(&accept)).await.map_err(timed_out)?;
        accepted.map_err(|error| FrameError::Io(error.into()))?;
        fill(&mut send, quota).await;
        Ok(())
    }

    async fn refuse(&self, send: SendStream, refusal: &Refusal) -> Result<(), FrameError> {
        let timed_out = |_| FrameError::TimedOut { after: self.write };
        let refusing = FrameWriter::new(send, MAX_BODY).refuse(refusal);
        tokio::time::timeout(self.write, refusing).await.map_err(timed_out)?
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused<T>(code: RefusalCode, why: String) -> Result<T, Refusal> {
    Err(Refusal::new(code, why))
}

/// Whole seconds, rounded up.
fn seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX)
}

impl Running {
    const fn direction(&self, way: Way) -> &Direction {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }
}

impl Allowance {
    /// Takes `bytes`, or says how long until there are so many.
    fn take(&mut self, bytes: u64, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.filled_at);
        let gained = u128::from(self.most) * passed.as_millis() / HOUR.as_millis();
        self.give(u64::try_from(gained).unwrap_or(u64::MAX));
        self.filled_at = now;
        let missing = bytes.saturating_sub(self.left);
        if missing > 0 {
            let millis = u128::from(missing) * HOUR.as_millis() / u128::from(self.most.max(1));
            return Err(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)));
        }
        self.left -= bytes;
        Ok(())
    }

    fn give(&mut self, bytes: u64) {
        self.left = self.left.saturating_add(bytes).min(self.most);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let bytes = self.running.terms.bytes;
        let unused = |way| self.running.direction(way).quota.get().map_or(bytes, Quota::close);
        let unused = unused(Way::Up).saturating_add(unused(Way::Down));
        let mut state = self.server.lock();
        state.running = None;
        state.allowance.give(unused);
    }
}

#[async_trait]
impl StreamService for SpeedServer {
    async fn serve(&self, from: Incoming) {
        let peer = from.peer;
        if let Err(error) = self.answer(from).await {
            tracing::debug!(%peer, %error, "a measurement's stream failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const MUCH: Terms = Terms { bytes: u64::MAX, millis: u32::MAX };

    fn peer(number: u8) -> MeshKey {
        MeshKey::from_bytes([number; 32])
    }

    /// Three measurements at once, and three more in an hour.
    fn server() -> SpeedServer {
        let speed = SpeedLimits { bytes: MIB, hourly: 12 * MIB, ..SpeedLimits::default() };
        SpeedServer::new(&Limits { speed, ..Limits::default() })
    }

    fn refusal(server: &SpeedServer, number: u8) -> (RefusalCode, String) {
        let Err(refusal) = server.begin(peer(number), 1, MUCH) else { panic!("measured") };
        (refusal.code(), refusal.message().to_owned())
    }

    fn spend(place: &Place<'_>) {
        for way in [Way::Up, Way::Down] {
            let spent = Quota::new(0, Instant::now());
            place.running.direction(way).quota.set(spent).expect("nothing went yet");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_measured_at_a_time_and_others_are_told_when() {
        let server = server();
        let place = server.begin(peer(1), 1, MUCH).expect("the first");
        tokio::time::advance(Duration::from_secs(1)).await;
        let (code, told) = refusal(&server, 2);
        assert_eq!((code, &*told), (RefusalCode::Busy, "another measurement runs here; ask again in 9 s"));
        drop(place);
        drop(server.begin(peer(2), 1, MUCH).expect("the place is free"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_measured_once_a_minute() {
        let server = server();
        drop(server.begin(peer(1), 1, MUCH).expect("the first"));
        tokio::time::advance(Duration::from_secs(20)).await;
        let told = refusal(&server, 1);
        assert_eq!(
            told,
            (RefusalCode::RateLimited, "you were measured just now; ask again in 40 s".to_owned())
        );
        tokio::time::advance(Duration::from_secs(40)).await;
        drop(server.begin(peer(1), 1, MUCH).expect("a minute later"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_hours_measurements_are_bounded_whoever_asks() {
        let server = server();
        for number in 0..3 {
            spend(&server.begin(peer(number), 1, MUCH).expect("within the allowance"));
        }
        let (code, told) = refusal(&server, 9);
        assert_eq!(code, RefusalCode::RateLimited);
        assert!(told.contains("used up; ask again in 1200 s"), "{told}");
        tokio::time::advance(Duration::from_secs(1_200)).await;
        spend(&server.begin(peer(9), 1, MUCH).expect("a third of an hour later, one more"));
        refusal(&server, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_spent_is_given_back_and_no_more() {
        let server = server();
        for number in 0..20 {
            drop(server.begin(peer(number), 1, MUCH).expect("nothing was spent"));
        }
        assert_eq!(server.lock().allowance.left, 6 * MIB);
    }

    #[tokio::test(start_paused = true)]
    async fn streams_belong_to_the_measurement_of_their_connection_and_are_few() {
        let server = server();
        assert_eq!(server.lane(peer(1), 1, Way::Up).expect_err("none runs").code(), RefusalCode::Forbidden);
        let _place = server.begin(peer(1), 1, MUCH).expect("the first");
        for (number, connection) in [(2, 1), (1, 2)] {
            let refusal = server.lane(peer(number), connection, Way::Up).expect_err("another's");
            assert_eq!(refusal.code(), RefusalCode::Forbidden);
        }
        for way in [Way::Up, Way::Down] {
            for _ in 0..LANES {
                server.lane(peer(1), 1, way).expect("a lane");
            }
            let refusal = server.lane(peer(1), 1, way).expect_err("one more");
            assert_eq!(refusal.message(), "more than 8 streams each way");
        }
    }
}
