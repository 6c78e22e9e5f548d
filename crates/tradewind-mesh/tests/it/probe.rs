//! Probes between two nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tradewind_mesh::frame::{self, Kind, VERSION};
use tradewind_mesh::{
    CallError, FrameError, Mesh, PeerAddr, ProbeService, Protocol, Refusal, RefusalCode, Transport,
};
use tradewind_proto::challenge::RowOpening;
use tradewind_proto::ids::MeshKey;
use tradewind_proto::probe::{MAX_RESPONSE, Response};

use crate::hostile::{attacker, connect, framed, refusal_for};
use crate::nodes::{close_all, node, within};

/// Answers with what it was asked, after the asker's key; a few questions make it misbehave.
#[derive(Default)]
pub(crate) struct Prover {
    asked: AtomicUsize,
}

#[async_trait]
impl ProbeService for Prover {
    async fn answer(&self, asker: MeshKey, question: Bytes) -> Result<Bytes, Refusal> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match &question[..] {
            b"row" => Ok(largest_row()),
            b"slow" => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(question)
            }
            b"never" => std::future::pending().await,
            b"refuse" => Err(Refusal::new(RefusalCode::RateLimited, "slow down")),
            b"too much" => Ok(vec![0; 129 << 10].into()),
            _ => Ok([asker.as_bytes().as_slice(), &question].concat().into()),
        }
    }
}

fn largest_row() -> Bytes {
    let path = vec![[0xff; 32].into(); 14];
    Response::Row(RowOpening { row: 16_383, values: vec![i32::MIN; 16_384], path }).encode()
}

fn ask(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn prover() -> (Mesh, Arc<Prover>) {
    let (mesh, prover) = (node().await, Arc::new(Prover::default()));
    mesh.serve_probes(prover.clone());
    (mesh, prover)
}

#[tokio::test]
async fn a_question_is_answered_and_the_askers_key_is_proven() {
    let ((device, _), watcher) = (prover().await, node().await);
    let probed = within(5, watcher.probe(&device.address(), ask("ping"))).await.expect("answered");
    assert_eq!(probed.answer, [watcher.key().as_bytes().as_slice(), b"ping"].concat());
    assert!(probed.round_trip < Duration::from_secs(1), "{probed:?}");
    close_all([watcher, device]).await;
}

#[tokio::test]
async fn the_round_trip_is_the_answers_time_without_the_connections() {
    let ((device, _), watcher) = (prover().await, node().await);
    let slow = within(5, watcher.probe(&device.address(), ask("slow"))).await.expect("answered");
    assert!(slow.round_trip >= Duration::from_millis(300), "{slow:?}");
    close_all([watcher, device]).await;
}

#[tokio::test]
async fn a_row_of_the_largest_matrix_fits_an_answer() {
    let ((device, _), watcher) = (prover().await, node().await);
    let probed = within(5, watcher.probe(&device.address(), ask("row"))).await.expect("answered");
    assert_eq!(probed.answer, largest_row());
    assert!(probed.answer.len() > 80 << 10 && probed.answer.len() <= MAX_RESPONSE);
    close_all([watcher, device]).await;
}

#[tokio::test]
async fn a_node_without_a_service_says_so() {
    let (silent, watcher) = (node().await, node().await);
    let error = within(5, watcher.probe(&silent.address(), ask("ping"))).await.expect_err("refused");
    let refusal = error.refusal().expect("a refusal");
    assert_eq!(
        (refusal.code(), refusal.message()),
        (RefusalCode::Unavailable, "this node answers no probes")
    );
    close_all([watcher, silent]).await;
}

#[tokio::test]
async fn a_refused_or_oversized_answer_is_an_error_with_its_reason() {
    let ((device, _), watcher) = (prover().await, node().await);
    for (question, code) in [("refuse", RefusalCode::RateLimited), ("too much", RefusalCode::Internal)] {
        let error = within(5, watcher.probe(&device.address(), ask(question))).await.expect_err("refused");
        assert_eq!(error.refusal().expect("a refusal").code(), code, "{question}");
    }
    let own = watcher.probe(&device.address(), vec![0; 129 << 10].into()).await.expect_err("too large");
    assert!(matches!(own, CallError::Frame(FrameError::Oversized { .. })), "{own}");
    close_all([watcher, device]).await;
}

#[tokio::test]
async fn a_device_that_never_answers_costs_the_call_limit_and_others_are_answered_meanwhile() {
    let ((device, _), watcher) = (prover().await, node().await);
    let address = device.address();
    let never = watcher.probe(&address, ask("never"));
    let quick = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        watcher.probe(&address, ask("ping")).await
    };
    let (never, quick) = within(10, async { tokio::join!(never, quick) }).await;
    assert!(quick.expect("answered").round_trip < Duration::from_secs(1));
    let error = never.expect_err("too late");
    let told = matches!(&error, CallError::TimedOut { .. })
        || error.refusal().is_some_and(|refusal| refusal.code() == RefusalCode::TimedOut);
    assert!(told, "{error}");
    close_all([watcher, device]).await;
}

#[tokio::test]
async fn bad_frames_are_refused_before_the_device_sees_them() {
    let (device, prover) = prover().await;
    let attacker = attacker(&[]).await;
    let connection = connect(&attacker, &device, Protocol::Probe).await;
    let mut other_version = framed(Kind::Call, 0, b"ping");
    other_version[0] = VERSION + 1;
    let oversized = framed(Kind::Call, 0, &vec![0; 129 << 10])[..frame::HEADER].to_vec();
    let cases: [(&str, Vec<u8>, RefusalCode); 6] = [
        ("another version", other_version, RefusalCode::Version),
        ("an oversized frame", oversized, RefusalCode::Oversized),
        ("a frame out of order", framed(Kind::Call, 3, b"ping"), RefusalCode::Malformed),
        ("a kind out of place", framed(Kind::Reply, 0, b"ping"), RefusalCode::Malformed),
        ("a stream", framed(Kind::Open, 0, b"ping"), RefusalCode::Malformed),
        ("random bytes", vec![0x5a; 64], RefusalCode::Version),
    ];
    for (what, wire, expected) in cases {
        assert_eq!(refusal_for(&connection, &wire).await, expected, "{what}");
    }
    assert_eq!(prover.asked.load(Ordering::SeqCst), 0);
    device.close().await;
}

#[tokio::test]
async fn a_device_that_answers_more_than_an_answer_holds_is_cut_off() {
    let hostile = attacker(&[Protocol::Probe.alpn()]).await;
    let serving = tokio::spawn({
        let hostile = hostile.clone();
        async move {
            let connection = hostile.accept().await.expect("open").await.expect("connected");
            let (mut send, _recv) = connection.accept_bi().await.expect("a stream");
            let flood = framed(Kind::Reply, 0, &vec![0; 129 << 10]);
            // The watcher stops reading after the header.
            let _ = send.write_all(&flood).await;
            connection.closed().await;
        }
    });
    let watcher = node().await;
    let mut peer = PeerAddr::new(MeshKey::from_bytes(*hostile.id().as_bytes()));
    peer.direct.extend(hostile.bound_sockets());
    let error = within(5, watcher.probe(&peer, ask("ping"))).await.expect_err("too large");
    assert!(matches!(error, CallError::Frame(FrameError::Oversized { .. })), "{error:?}");
    watcher.close().await;
    serving.abort();
}
