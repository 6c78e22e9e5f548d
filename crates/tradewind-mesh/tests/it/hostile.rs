//! What a hostile peer can send, and what it gets for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{Connection, presets};
use iroh::{Endpoint, EndpointAddr, PublicKey, RelayMode};
use tradewind_mesh::frame::{self, Kind, VERSION};
use tradewind_mesh::{
    CallError, DialError, FrameError, FrameReader, Limits, Mesh, MeshConfig, PeerAddr, Protocol, RefusalCode,
    Transport,
};
use tradewind_proto::ids::MeshKey;

use crate::nodes::{config, echo_node, node, quick, within};
use crate::probe::Prover;

/// An attacker: an endpoint without any of our rules.
pub(crate) async fn attacker(alpns: &[&[u8]]) -> Endpoint {
    Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .alpns(alpns.iter().map(|alpn| alpn.to_vec()).collect())
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .expect("address")
        .bind()
        .await
        .expect("bound")
}

pub(crate) fn raw(peer: &PeerAddr) -> EndpointAddr {
    let mut address = EndpointAddr::new(PublicKey::from_bytes(peer.key.as_bytes()).expect("key"));
    for direct in &peer.direct {
        address = address.with_ip_addr(*direct);
    }
    address
}

pub(crate) async fn connect(attacker: &Endpoint, victim: &Mesh, protocol: Protocol) -> Connection {
    within(5, attacker.connect(raw(&victim.address()), protocol.alpn())).await.expect("connected")
}

pub(crate) fn framed(kind: Kind, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    frame::encode(&mut out, kind, sequence, body, u32::MAX).expect("fits");
    out.to_vec()
}

/// Sends raw bytes on a stream of its own and returns the refusal's code.
pub(crate) async fn refusal_for(connection: &Connection, wire: &[u8]) -> RefusalCode {
    let (mut send, recv) = connection.open_bi().await.expect("a stream");
    send.write_all(wire).await.expect("sent");
    let mut reader = FrameReader::new(recv, 1 << 20);
    match within(5, reader.recv()).await {
        Err(FrameError::Refused(refusal)) => refusal.code(),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn every_bad_frame_gets_its_own_refusal_and_the_node_goes_on() {
    let (victim, _) = echo_node().await;
    let attacker = attacker(&[]).await;
    let connection = connect(&attacker, &victim, Protocol::Lease).await;
    let mut other_version = framed(Kind::Call, 0, b"x");
    other_version[0] = VERSION + 1;
    let mut unknown_kind = framed(Kind::Call, 0, b"x");
    unknown_kind[1] = 200;
    let oversized = framed(Kind::Call, 0, &vec![0; (1 << 20) + 1])[..frame::HEADER].to_vec();
    let cases: [(&str, Vec<u8>, RefusalCode); 6] = [
        ("another version", other_version, RefusalCode::Version),
        ("an unknown kind", unknown_kind, RefusalCode::Malformed),
        ("an oversized frame", oversized, RefusalCode::Oversized),
        ("a frame out of order", framed(Kind::Call, 3, b"x"), RefusalCode::Malformed),
        ("a kind out of place", framed(Kind::Reply, 0, b"x"), RefusalCode::Malformed),
        ("random bytes", vec![0x5a; 64], RefusalCode::Version),
    ];
    for (what, wire, expected) in cases {
        assert_eq!(refusal_for(&connection, &wire).await, expected, "{what}");
    }
    let buyer = node().await;
    within(5, buyer.call(&victim.address(), Bytes::from_static(b"x"))).await.expect("served");
    victim.close().await;
}

#[tokio::test]
async fn a_replayed_frame_ends_the_stream_it_came_on() {
    let (victim, _) = echo_node().await;
    let attacker = attacker(&[]).await;
    let connection = connect(&attacker, &victim, Protocol::Lease).await;
    let (mut send, recv) = connection.open_bi().await.expect("a stream");
    send.write_all(&framed(Kind::Open, 0, b"echo")).await.expect("sent");
    let voucher = framed(Kind::Data, 1, b"voucher 1");
    send.write_all(&voucher).await.expect("sent");
    let mut reader = FrameReader::new(recv, 1 << 20);
    assert_eq!(within(5, reader.recv()).await.expect("echoed").as_deref(), Some(&b"voucher 1"[..]));
    send.write_all(&voucher).await.expect("replayed");
    let replay = within(5, reader.recv()).await;
    assert!(!matches!(replay, Ok(Some(_))), "the replay was taken: {replay:?}");
    victim.close().await;
}

#[tokio::test]
async fn a_peer_that_opens_a_stream_and_says_nothing_is_let_go() {
    let (victim, _) = echo_node().await;
    let attacker = attacker(&[]).await;
    let connection = connect(&attacker, &victim, Protocol::Lease).await;
    let (mut send, recv) = connection.open_bi().await.expect("a stream");
    send.write_all(&[VERSION]).await.expect("one byte");
    let mut reader = FrameReader::new(recv, 1 << 20);
    let Err(FrameError::Refused(refusal)) = within(5, reader.recv()).await else { panic!("not refused") };
    assert_eq!(refusal.code(), RefusalCode::TimedOut);
    victim.close().await;
}

#[tokio::test]
async fn an_unknown_protocol_or_version_is_refused_in_the_handshake() {
    let (victim, _) = echo_node().await;
    let stranger = attacker(&[b"tradewind/lease/2"]).await;
    let error = within(5, stranger.connect(raw(&victim.address()), b"tradewind/lease/2")).await;
    assert!(
        format!("{:?}", error.expect_err("refused")).contains("no_application_protocol")
            || stranger.connect(raw(&victim.address()), b"tradewind/lease/2").await.is_err()
    );
    // And the other way round: this node names what the peer does not speak.
    let serving = tokio::spawn({
        let stranger = stranger.clone();
        async move {
            while let Some(incoming) = stranger.accept().await {
                let _ = incoming.await;
            }
        }
    });
    let mut peer = PeerAddr::new(MeshKey::from_bytes(*stranger.id().as_bytes()));
    peer.direct.extend(stranger.bound_sockets());
    let error = within(5, victim.call(&peer, Bytes::from_static(b"x"))).await.expect_err("unknown");
    let CallError::Dial(DialError::UnknownProtocol { protocol, .. }) = error else { panic!("{error:?}") };
    assert_eq!(protocol.to_string(), "tradewind/lease/1");
    serving.abort();
    victim.close().await;
}

#[tokio::test]
async fn too_many_streams_are_refused_as_busy_and_too_many_refusals_end_the_connection() {
    let limits = Limits { streams_per_peer: 4, stream_burst: 50, streams_per_second: 1, ..quick() };
    let victim = Mesh::bind(MeshConfig { limits, ..config() }).await.expect("bound");
    victim.serve_leases(Arc::new(crate::nodes::Echo::default()));
    let attacker = attacker(&[]).await;
    let connection = connect(&attacker, &victim, Protocol::Lease).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let (mut send, recv) = connection.open_bi().await.expect("a stream");
        send.write_all(&framed(Kind::Open, 0, b"echo")).await.expect("sent");
        send.write_all(&framed(Kind::Data, 1, b"x")).await.expect("sent");
        let mut reader = FrameReader::new(recv, 1 << 20);
        within(5, reader.recv()).await.expect("served");
        held.push((send, reader));
    }
    assert_eq!(refusal_for(&connection, &framed(Kind::Call, 0, b"x")).await, RefusalCode::Busy);
    let closed = within(10, async {
        loop {
            let Ok((mut send, _)) = connection.open_bi().await else { break };
            if send.write_all(&framed(Kind::Call, 0, b"x")).await.is_err()
                && connection.close_reason().is_some()
            {
                break;
            }
        }
        connection.closed().await
    });
    assert!(format!("{:?}", closed.await).contains("ApplicationClosed"));
    victim.close().await;
}

#[tokio::test]
async fn a_slow_reader_does_not_slow_others_down() {
    let (provider, _) = echo_node().await;
    let (slow, quick) = (node().await, node().await);
    let address = provider.address();
    let mut stuck = Vec::new();
    for _ in 0..8 {
        stuck.push(slow.open(&address, Bytes::from_static(b"flood")).await.expect("opened"));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..20 {
        within(5, quick.call(&address, Bytes::from_static(b"x"))).await.expect("answered");
    }
    provider.close().await;
}

#[tokio::test]
async fn one_peer_cannot_take_every_connection() {
    let limits = Limits { connections_per_peer: 2, ..quick() };
    let victim = Mesh::bind(MeshConfig { limits, ..config() }).await.expect("bound");
    victim.serve_probes(Arc::new(Prover::default()));
    let ask = Bytes::from_static(b"ping");
    let attacker = attacker(&[]).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(connect(&attacker, &victim, Protocol::Probe).await);
    }
    let third = connect(&attacker, &victim, Protocol::Probe).await;
    let reason = within(5, third.closed()).await;
    assert!(format!("{reason:?}").contains("you have 2 connections already"), "{reason:?}");
    let other = node().await;
    within(5, other.probe(&victim.address(), ask)).await.expect("another peer is served");
    victim.close().await;
}
