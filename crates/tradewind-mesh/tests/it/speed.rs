//! Measurements of the line between two nodes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use iroh::endpoint::{Connection, RecvStream, SendStream, presets};
use iroh::{Endpoint, EndpointAddr, RelayMode};
use tokio::sync::oneshot;
use tradewind_mesh::frame::{HEADER, Kind};
use tradewind_mesh::relay::{self, RelayConfig};
use tradewind_mesh::{
    CallError, DialError, Limits, Mesh, MeshConfig, PeerAddr, Protocol, RefusalCode, RelayUrl, SpeedError,
    SpeedLimits, Transport,
};
use tradewind_proto::ids::MeshKey;
use tradewind_testbed::net::{MIDDLE, Net};

use crate::hostile::{attacker, connect, framed, refusal_for};
use crate::nodes::{close_all, config, node, quick, within};

const MIB: u64 = 1 << 20;
/// The header of a stream that brings bytes, and of one that wants some.
const UP: &[u8] = &[0];
const DOWN: &[u8] = &[1];

fn small() -> SpeedLimits {
    SpeedLimits { bytes: 4 * MIB, time: Duration::from_millis(1500), ..SpeedLimits::default() }
}

fn answering(speed: SpeedLimits) -> MeshConfig {
    MeshConfig { answers_speed: true, limits: Limits { speed, ..quick() }, ..config() }
}

async fn answerer(speed: SpeedLimits) -> Mesh {
    Mesh::bind(answering(speed)).await.expect("bound")
}

fn refused(error: &SpeedError) -> (RefusalCode, &str) {
    let SpeedError::Call(error) = error else { panic!("not refused: {error:?}") };
    let refusal = error.refusal().unwrap_or_else(|| panic!("not refused: {error:?}"));
    (refusal.code(), refusal.message())
}

async fn stream(connection: &Connection, kind: Kind, body: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, recv) = connection.open_bi().await.expect("a stream");
    send.write_all(&framed(kind, 0, body)).await.expect("sent");
    (send, recv)
}

/// The kind and body of the one frame that a stream answers.
async fn answer(recv: &mut RecvStream) -> (u8, Vec<u8>) {
    let mut header = [0; HEADER];
    within(5, recv.read_exact(&mut header)).await.expect("a header");
    let length = u32::from_be_bytes([header[6], header[7], header[8], header[9]]);
    let mut body = vec![0; length as usize];
    within(5, recv.read_exact(&mut body)).await.expect("a body");
    (header[1], body)
}

/// A question for more than anybody gives: a TiB, and an hour.
fn greed() -> Vec<u8> {
    postcard::to_stdvec(&(1u64 << 40, 3_600_000u32)).expect("encodes")
}

/// Begins a measurement as an attacker would, and goes on as it likes.
async fn begun(attacker: &Endpoint, victim: &Mesh) -> (Connection, (SendStream, RecvStream)) {
    let connection = connect(attacker, victim, Protocol::Speed).await;
    let mut place = stream(&connection, Kind::Call, &greed()).await;
    assert_eq!(answer(&mut place.1).await.0, Kind::Reply as u8);
    (connection, place)
}

#[tokio::test]
async fn a_line_is_measured_both_ways_within_its_bytes() {
    let (asker, public) = (node().await, answerer(small()).await);
    let measured = within(10, asker.measure(&public.address())).await.expect("measured");
    for flow in [measured.sent, measured.received] {
        assert!((1..=4 * MIB).contains(&flow.bytes), "{measured:?}");
        assert!(flow.took < Duration::from_secs(3) && flow.per_second() > 100_000, "{measured:?}");
    }
    close_all([asker, public]).await;
}

#[tokio::test]
async fn a_line_that_is_slower_than_its_bytes_is_measured_within_its_time() {
    let endless =
        SpeedLimits { bytes: 1 << 40, hourly: 1 << 43, time: Duration::from_millis(300), ..small() };
    let asker = Mesh::bind(answering(endless.clone())).await.expect("bound");
    let (public, begin) = (answerer(endless).await, Instant::now());
    let measured = within(10, asker.measure(&public.address())).await.expect("measured");
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    for flow in [measured.sent, measured.received] {
        assert!(flow.bytes > 0 && flow.took < Duration::from_secs(2), "{measured:?}");
    }
    close_all([asker, public]).await;
}

#[tokio::test]
async fn an_asker_that_wants_less_gets_less() {
    let mine = Limits { speed: SpeedLimits { bytes: MIB, ..small() }, ..quick() };
    let asker = Mesh::bind(MeshConfig { limits: mine, ..config() }).await.expect("bound");
    let public = answerer(small()).await;
    let measured = within(10, asker.measure(&public.address())).await.expect("measured");
    assert_eq!((measured.sent.bytes, measured.received.bytes), (MIB, MIB), "{measured:?}");
    close_all([asker, public]).await;
}

#[tokio::test]
async fn who_asks_meanwhile_is_told_when_to_come_and_who_asks_again_to_wait() {
    let (attacker, asker, public) = (attacker(&[]).await, node().await, answerer(small()).await);
    let (_connection, (mut send, _recv)) = begun(&attacker, &public).await;
    let error = within(10, asker.measure(&public.address())).await.expect_err("busy");
    let (code, told) = refused(&error);
    assert_eq!(code, RefusalCode::Busy);
    assert!(told.starts_with("another measurement runs here; ask again in "), "{told}");

    send.finish().expect("the attacker leaves");
    tokio::time::sleep(Duration::from_millis(300)).await;
    within(10, asker.measure(&public.address())).await.expect("the place is free");
    let error = within(10, asker.measure(&public.address())).await.expect_err("too soon");
    let (code, told) = refused(&error);
    assert_eq!(code, RefusalCode::RateLimited);
    assert!(told.starts_with("you were measured just now; ask again in "), "{told}");
    close_all([asker, public]).await;
}

#[tokio::test]
async fn a_node_whose_hour_is_used_up_says_so() {
    let few = SpeedLimits { hourly: 4 * small().bytes, ..small() };
    let (first, second, public) = (node().await, node().await, answerer(few).await);
    let measured = within(10, first.measure(&public.address())).await.expect("measured");
    assert!(measured.sent.bytes + measured.received.bytes > MIB, "{measured:?}");
    let error = within(10, second.measure(&public.address())).await.expect_err("used up");
    assert_eq!(refused(&error).0, RefusalCode::RateLimited);
    assert!(refused(&error).1.contains("is used up; ask again in "), "{error:?}");
    close_all([first, second, public]).await;
}

#[tokio::test]
async fn a_node_that_measures_nothing_for_others_is_told_apart() {
    let (asker, home) = (node().await, node().await);
    let error = within(10, asker.measure(&home.address())).await.expect_err("unknown");
    let SpeedError::Call(CallError::Dial(DialError::UnknownProtocol { protocol, .. })) = error else {
        panic!("{error:?}")
    };
    assert_eq!(protocol.to_string(), "tradewind/speed/1");
    close_all([asker, home]).await;
}

#[tokio::test]
async fn who_sends_more_than_agreed_is_cut_off() {
    let (attacker, public) = (attacker(&[]).await, answerer(small()).await);
    let (connection, _place) = begun(&attacker, &public).await;
    let mut lanes = Vec::new();
    for _ in 0..4 {
        lanes.push(stream(&connection, Kind::Open, UP).await);
    }
    let flooding = lanes.iter_mut().map(|(send, _)| async {
        let piece = vec![7; 1 << 20];
        while send.write_all(&piece).await.is_ok() {}
    });
    within(10, futures::future::join_all(flooding)).await;
    let reason = format!("{:?}", within(5, connection.closed()).await);
    assert!(reason.contains("more than the 4194304 bytes that were agreed"), "{reason}");
    public.close().await;
}

#[tokio::test]
async fn who_neither_reads_nor_writes_ends_by_the_limit() {
    let brief = SpeedLimits { time: Duration::from_millis(300), ..small() };
    let (attacker, asker, public) = (attacker(&[]).await, node().await, answerer(brief).await);
    let (connection, _place) = begun(&attacker, &public).await;
    let mut silent = stream(&connection, Kind::Open, UP).await;
    let mut deaf = stream(&connection, Kind::Open, DOWN).await;
    assert_eq!(answer(&mut deaf.1).await.0, Kind::Accept as u8);
    let (kind, tally) = answer(&mut silent.1).await;
    assert_eq!((kind, tally[0]), (Kind::Reply as u8, 0), "nothing came");
    tokio::time::sleep(Duration::from_millis(600)).await;
    let rest = within(5, deaf.1.read_to_end(8 << 20)).await;
    assert!(rest.is_err(), "what was not read in time is let go");
    // The place is given up too, though the attacker still holds its stream.
    let measured = within(10, async {
        loop {
            match asker.measure(&public.address()).await {
                Ok(measured) => return measured,
                Err(error) => assert_eq!(refused(&error).0, RefusalCode::Busy),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    assert!(measured.await.received.bytes > 0);
    close_all([asker, public]).await;
}

#[tokio::test]
async fn streams_without_a_measurement_and_bad_frames_are_refused() {
    let (attacker, public) = (attacker(&[]).await, answerer(small()).await);
    let connection = connect(&attacker, &public, Protocol::Speed).await;
    let cases: [(&str, Vec<u8>, RefusalCode); 6] = [
        ("no measurement", framed(Kind::Open, 0, DOWN), RefusalCode::Forbidden),
        ("no terms", framed(Kind::Call, 0, b""), RefusalCode::Malformed),
        ("no direction", framed(Kind::Open, 0, b"\x09"), RefusalCode::Malformed),
        ("a kind out of place", framed(Kind::Data, 0, b""), RefusalCode::Malformed),
        ("an oversized frame", framed(Kind::Call, 0, &[0; 1025]), RefusalCode::Oversized),
        ("one byte", vec![1], RefusalCode::TimedOut),
    ];
    for (what, wire, expected) in cases {
        assert_eq!(refusal_for(&connection, &wire).await, expected, "{what}");
    }
    public.close().await;
}

/// Answers as a peer that lies would: `reply` on streams up, `flood` bytes on streams down.
async fn lying(hostile: Endpoint, reply: Vec<u8>, flood: usize) {
    let connection = hostile.accept().await.expect("open").await.expect("connected");
    let mut held = Vec::new();
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        let mut wire = [0; HEADER];
        recv.read_exact(&mut wire).await.expect("a header");
        let is_open = wire[1] == Kind::Open as u8;
        let mut way = [0];
        if is_open {
            recv.read_exact(&mut way).await.expect("a way");
        }
        let answer = match (is_open, way[0]) {
            (false, _) => framed(Kind::Reply, 0, &greed()),
            (true, 0) => framed(Kind::Reply, 0, &reply),
            (true, _) => [framed(Kind::Accept, 0, b""), vec![0; flood]].concat(),
        };
        held.push(tokio::spawn(async move {
            let _ = send.write_all(&answer).await;
            let _ = send.finish();
            let _ = recv.read_to_end(8 << 20).await;
        }));
    }
}

#[tokio::test]
async fn a_peer_that_lies_about_what_came_or_sends_too_much_measures_nothing() {
    let cases = [
        (vec![0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 1], 0, "it claims more than was sent"),
        (vec![0x00, 0, 1], 0, "nothing that was sent arrived"),
        (vec![0x10, 0], 0, "it names no tally"),
        (vec![0x10, 0, 1], 0, "nothing that was asked for arrived"),
        (vec![0x10, 0, 1], 1 << 20, "more came than was agreed"),
    ];
    for (reply, flood, told) in cases {
        let hostile = attacker(&[Protocol::Speed.alpn()]).await;
        let mut peer = PeerAddr::new(MeshKey::from_bytes(*hostile.id().as_bytes()));
        peer.direct.extend(hostile.bound_sockets());
        let serving = tokio::spawn(lying(hostile, reply, flood));
        let speed = SpeedLimits { bytes: 4 * MIB, time: Duration::from_millis(400), ..small() };
        let asker = Mesh::bind(answering(speed)).await.expect("bound");
        let error = within(10, asker.measure(&peer)).await.expect_err(told);
        assert!(error.to_string().contains(told), "{told}: {error}");
        asker.close().await;
        serving.abort();
    }
}

#[tokio::test]
async fn a_line_by_a_relay_is_measured_by_neither_side() {
    let net = Net::new();
    let (url_known, url) = oneshot::channel();
    let (stop_relay, relay_stopped) = oneshot::channel::<()>();
    let serving = net.run("middle", || async {
        let bind = SocketAddr::new(MIDDLE.parse().expect("address"), 0);
        let relay = relay::serve(RelayConfig::new(bind)).await.expect("a relay");
        url_known.send(relay.url().clone()).expect("told");
        let _ = relay_stopped.await;
    });
    let url: RelayUrl = within(10, url).await.expect("the relay's url");
    let anywhere = |relays| MeshConfig { bind: ([0, 0, 0, 0], 0).into(), relays, ..answering(small()) };
    let (config, (public_known, public)) = (anywhere(vec![url.clone()]), oneshot::channel());
    let (stop_public, public_stopped) = oneshot::channel::<()>();
    let answering = net.run("right", move || async move {
        let mesh = Mesh::bind(config).await.expect("bound");
        mesh.online(Duration::from_secs(10)).await.expect("online");
        public_known.send(mesh.address()).expect("told");
        let _ = public_stopped.await;
        mesh.close().await;
    });
    let public: PeerAddr = within(20, public).await.expect("the answerer's address");
    let config = anywhere(vec![url.clone()]);
    let asking = net.run("left", move || async move {
        let mesh = Mesh::bind(config).await.expect("bound");
        mesh.online(Duration::from_secs(10)).await.expect("online");
        let error = mesh.measure(&public).await.expect_err("relayed");
        assert!(matches!(error, SpeedError::Relayed(key) if key == public.key), "{error:?}");
        mesh.close().await;
        // Who asks all the same is refused.
        let stranger = Endpoint::builder(presets::Minimal).relay_mode(RelayMode::custom([url.clone()]));
        let stranger = stranger.bind().await.expect("bound");
        let id = iroh::PublicKey::from_bytes(public.key.as_bytes()).expect("a key");
        let address = EndpointAddr::new(id).with_relay_url(url);
        let connection = within(10, stranger.connect(address, Protocol::Speed.alpn())).await;
        let connection = connection.expect("connected");
        refusal_for(&connection, &framed(Kind::Call, 0, &greed())).await
    });
    assert_eq!(within(40, asking).await.expect("asked"), RefusalCode::Forbidden);
    for stop in [stop_public, stop_relay] {
        let _ = stop.send(());
    }
    within(10, async { (answering.await, serving.await) }).await.0.expect("the answerer stopped");
}
