//! Pings.

use std::sync::Arc;

use bytes::Bytes;
use tradewind_mesh::frame::Kind;
use tradewind_mesh::{CallError, PeerAddr, ProbeSigner, Protocol, Transport};
use tradewind_proto::ids::MeshKey;

use crate::hostile::{attacker, framed};
use crate::nodes::{close_all, node, within};

struct Stamp;

impl ProbeSigner for Stamp {
    fn sign(&self, asker: MeshKey, nonce: [u8; 32]) -> Bytes {
        [asker.as_bytes().as_slice(), &nonce].concat().into()
    }
}

#[tokio::test]
async fn a_pong_proves_that_the_node_saw_the_nonce() {
    let (prover, asker) = (node().await, node().await);
    prover.sign_probes(Arc::new(Stamp));
    let pong = within(5, asker.ping(&prover.address(), [9; 32])).await.expect("a pong");
    assert_eq!(pong.proof, [asker.key().as_bytes().as_slice(), &[9; 32]].concat());
    assert!(pong.round_trip.as_millis() < 1000);
    close_all([asker, prover]).await;
}

#[tokio::test]
async fn a_node_without_a_signer_answers_without_a_proof() {
    let (prover, asker) = (node().await, node().await);
    assert!(within(5, asker.ping(&prover.address(), [9; 32])).await.expect("a pong").proof.is_empty());
    close_all([asker, prover]).await;
}

#[tokio::test]
async fn an_old_answer_does_not_count_for_a_new_nonce() {
    let replayer = attacker(&[Protocol::Probe.alpn()]).await;
    let serving = tokio::spawn({
        let replayer = replayer.clone();
        async move {
            let connection = replayer.accept().await.expect("open").await.expect("connected");
            let (mut send, _recv) = connection.accept_bi().await.expect("a stream");
            // nonce (32 bytes), then an empty proof.
            let old = [[1u8; 32].as_slice(), &[0]].concat();
            send.write_all(&framed(Kind::Reply, 0, &old)).await.expect("sent");
            send.finish().expect("finished");
            connection.closed().await;
        }
    });
    let asker = node().await;
    let mut peer = PeerAddr::new(MeshKey::from_bytes(*replayer.id().as_bytes()));
    peer.direct.extend(replayer.bound_sockets());
    let error = within(5, asker.ping(&peer, [2; 32])).await.expect_err("a replay");
    assert!(matches!(error, CallError::Mismatch(_)), "{error:?}");
    asker.close().await;
    serving.abort();
}
