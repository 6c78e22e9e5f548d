//! A watcher and a device, each with a node of its own.

use std::net::Ipv4Addr;
use std::num::NonZeroUsize;
use std::time::Duration;

use alloy_primitives::keccak256;
use bytes::Bytes;
use tradewind_challenge::{Answer, Secret, Threads, Verifier};
use tradewind_mesh::{Mesh, MeshConfig, MeshSecret, PeerAddr, RefusalCode, Transport};
use tradewind_proto::challenge::Claim;
use tradewind_proto::evidence::{Epoch, Seat};
use tradewind_proto::probe::{MAX_QUESTION, Prober, Question, ReplyError, Response, Watch, Why};

use super::device::{Chain, Disk, ROUNDS, court, device, honest, key, roots, row, size};

async fn node() -> Mesh {
    let bind = (Ipv4Addr::LOCALHOST, 0).into();
    Mesh::bind(MeshConfig { bind, ..MeshConfig::new(MeshSecret::generate()) }).await.expect("bound")
}

fn prober() -> Prober {
    let watch = Watch { court: court(), device: device(), key: key().address(), watcher: Seat::new(3) };
    Prober::new(watch, 5_000, NonZeroUsize::new(8).expect("room"))
}

async fn probe(watcher: &Mesh, device: &PeerAddr, question: Question) -> (Response, Duration) {
    for _ in 0..1_000 {
        let probed = watcher.probe(device, question.encode()).await.expect("answered");
        let response = Response::decode(&probed.answer).expect("a response");
        if response != Response::Unanswered(Why::Computing) {
            return (response, probed.round_trip);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still computing: {question:?}");
}

#[tokio::test]
async fn a_ping_over_the_mesh_is_the_devices_signed_answer_to_this_question() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let (provider, watcher) = (node().await, node().await);
    provider.serve_probes(honest(&disk, &chain).await);
    let (mut prober, mut replies) = (prober(), Vec::new());
    for number in 0..3u64 {
        let ask = prober.ask(number, keccak256(number.to_be_bytes())).expect("nothing is open");
        let question = Question::Ping { device: device(), ask };
        let (response, round_trip) = probe(&watcher, &provider.address(), question).await;
        let Response::Pong(reply) = response else { panic!("no pong: {response:?}") };
        for old in &replies {
            assert!(matches!(prober.hear(number, old), Err(ReplyError::Signature(_))), "a replay");
        }
        let heard = prober.hear(number, &reply).expect("the device's");
        assert_eq!((heard.equivocation, reply.unix_millis), (None, 1_800_000_000_123));
        assert!(round_trip < Duration::from_secs(2), "{round_trip:?}");
        replies.push(reply);
    }
    assert_eq!(replies.iter().map(|reply| reply.sequence).collect::<Vec<_>>(), [0, 1, 2]);
    watcher.close().await;
    provider.close().await;
}

#[tokio::test]
async fn a_list_is_claimed_and_its_rows_hold_over_the_mesh() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let (provider, watcher) = (node().await, node().await);
    provider.serve_probes(honest(&disk, &chain).await);
    let address = provider.address();
    let (response, _) = probe(&watcher, &address, roots(7)).await;
    let Response::Roots(signed) = response else { panic!("no list: {response:?}") };
    let claim = Claim::accept(signed, &chain.challenge(7), key().address(), size(), ROUNDS);
    let claim = claim.expect("the answer to this challenge");
    let mut verifier = Verifier::new(claim, Secret::new([6; 32]), Threads::available());
    let picks = verifier.picks(ROUNDS, 16);
    assert_eq!(picks.len(), 16 * ROUNDS);
    for pick in picks {
        let question = row(7, u32::try_from(pick.round).expect("few"), pick.row);
        let (response, _) = probe(&watcher, &address, question).await;
        let Response::Row(opening) = response else { panic!("no row: {response:?}") };
        assert_eq!(verifier.check(pick, &opening), Ok(Answer::Holds));
    }
    watcher.close().await;
    provider.close().await;
}

#[tokio::test]
async fn garbage_over_the_mesh_is_refused_and_another_epoch_unanswered() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let (provider, watcher) = (node().await, node().await);
    provider.serve_probes(honest(&disk, &chain).await);
    for garbage in [Bytes::new(), Bytes::from(vec![0xff; 64]), Bytes::from(vec![0; MAX_QUESTION + 1])] {
        let error = watcher.probe(&provider.address(), garbage).await.expect_err("garbage");
        assert_eq!(error.refusal().expect("a refusal").code(), RefusalCode::Malformed);
    }
    let old = Question::Roots { device: device(), epoch: Epoch::new(5) };
    let (response, _) = probe(&watcher, &provider.address(), old).await;
    assert_eq!(response, Response::Unanswered(Why::OtherEpoch));
    watcher.close().await;
    provider.close().await;
}
