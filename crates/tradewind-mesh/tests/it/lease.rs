//! Calls and streams between two nodes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tradewind_mesh::{
    CallError, DialError, FrameError, Mesh, MeshConfig, MeshSecret, PeerAddr, RefusalCode, Transport,
};

use crate::nodes::{close_all, config, echo_node, node, within};

fn ask(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn a_call_is_answered_and_the_callers_key_is_proven() {
    let (provider, _) = echo_node().await;
    let buyer = node().await;
    let answer = within(10, buyer.call(&provider.address(), ask("who am I"))).await.expect("answered");
    assert_eq!(&answer[..], buyer.key().as_bytes());
    close_all([buyer, provider]).await;
}

#[tokio::test]
async fn a_stream_carries_messages_both_ways_until_it_is_finished() {
    let (provider, _) = echo_node().await;
    let buyer = node().await;
    let stream = within(10, buyer.open(&provider.address(), ask("logs"))).await.expect("opened");
    let (mut reader, mut writer) = stream.split();
    for number in 0u8..100 {
        writer.send(Bytes::from(vec![number; 1000])).await.expect("sent");
        let echoed = within(5, reader.recv()).await.expect("received").expect("not the end");
        assert_eq!((echoed.len(), echoed[0]), (1000, number));
    }
    writer.finish().await.expect("finished");
    assert_eq!(within(5, reader.recv()).await.expect("ended"), None);
    close_all([buyer, provider]).await;
}

#[tokio::test]
async fn a_refusal_reaches_the_caller_with_its_reason() {
    let (provider, _) = echo_node().await;
    let buyer = node().await;
    let error = buyer.call(&provider.address(), ask("refuse")).await.expect_err("refused");
    let refusal = error.refusal().expect("a refusal");
    assert_eq!((refusal.code(), refusal.message()), (RefusalCode::Rejected, "the price is too low"));
    let mut stream = buyer.open(&provider.address(), ask("refuse")).await.expect("opened");
    let Err(FrameError::Refused(refusal)) = within(5, stream.recv()).await else { panic!("not refused") };
    assert_eq!(refusal.message(), "no such lease");
    close_all([buyer, provider]).await;
}

#[tokio::test]
async fn a_node_without_a_service_says_so() {
    let (silent, buyer) = (node().await, node().await);
    let error = buyer.call(&silent.address(), ask("x")).await.expect_err("refused");
    assert_eq!(error.refusal().expect("a refusal").code(), RefusalCode::Unavailable);
    close_all([buyer, silent]).await;
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_at_the_limit_and_others_go_on() {
    let (provider, _) = echo_node().await;
    let buyer = node().await;
    let address = provider.address();
    let slow = buyer.call(&address, ask("sleep"));
    let quick = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        buyer.call(&address, ask("x")).await
    };
    let (slow, quick) = within(10, async { tokio::join!(slow, quick) }).await;
    quick.expect("the same connection serves others meanwhile");
    let error = slow.expect_err("too slow");
    let told = matches!(&error, CallError::TimedOut { .. })
        || error.refusal().is_some_and(|refusal| refusal.code() == RefusalCode::TimedOut);
    assert!(told, "{error}");
    close_all([buyer, provider]).await;
}

#[tokio::test]
async fn an_answer_that_does_not_fit_a_frame_is_an_error_not_a_hang() {
    let (provider, _) = echo_node().await;
    let buyer = node().await;
    let error = within(5, buyer.call(&provider.address(), ask("too much"))).await.expect_err("too large");
    assert_eq!(error.refusal().expect("a refusal").message(), "the answer does not fit a frame");
    let own = buyer.call(&provider.address(), Bytes::from(vec![0; 2 << 20])).await.expect_err("too large");
    assert!(matches!(own, CallError::Frame(FrameError::Oversized { .. })), "{own}");
    close_all([buyer, provider]).await;
}

#[tokio::test]
async fn a_panic_costs_its_own_call_only() {
    let (provider, echo) = echo_node().await;
    let buyer = node().await;
    let error = within(5, buyer.call(&provider.address(), ask("panic"))).await.expect_err("no answer");
    assert!(matches!(error, CallError::NoAnswer | CallError::Frame(_)), "{error}");
    within(5, buyer.call(&provider.address(), ask("x"))).await.expect("the node goes on");
    assert_eq!(echo.calls.load(Ordering::SeqCst), 2);
    close_all([buyer, provider]).await;
}

#[tokio::test]
async fn a_dead_peer_costs_the_dial_limit_once_and_then_little() {
    let buyer = node().await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a silent socket");
    let dead = PeerAddr::new(MeshSecret::generate().key()).with_direct(socket.local_addr().expect("address"));
    let error = within(10, buyer.call(&dead, ask("x"))).await.expect_err("dead");
    assert!(matches!(error, CallError::Dial(DialError::TimedOut { .. })), "{error:?}");
    let error = buyer.call(&dead, ask("x")).await.expect_err("dead");
    assert!(matches!(error, CallError::Dial(DialError::Backoff { .. })), "{error:?}");
    buyer.close().await;
}

#[tokio::test]
async fn many_callers_share_one_dial() {
    let (provider, echo) = echo_node().await;
    let buyer = node().await;
    let address = provider.address();
    let calls = (0..50).map(|_| buyer.call(&address, ask("x")));
    for answer in within(10, futures::future::join_all(calls)).await {
        answer.expect("answered");
    }
    assert_eq!(echo.calls.load(Ordering::SeqCst), 50);
    close_all([buyer, provider]).await;
}

#[tokio::test]
async fn a_peer_that_restarted_elsewhere_is_found_again() {
    let secret = MeshSecret::generate();
    let start = async || {
        let mesh = Mesh::bind(MeshConfig { secret: secret.clone(), ..config() }).await.expect("bound");
        mesh.serve_leases(std::sync::Arc::new(crate::nodes::Echo::default()));
        mesh
    };
    let buyer = node().await;
    let first = start().await;
    buyer.call(&first.address(), ask("x")).await.expect("answered");
    first.close().await;
    let second = start().await;
    let answer = within(8, async {
        loop {
            if let Ok(answer) = buyer.call(&second.address(), ask("again")).await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert_eq!(&answer.await[..], b"again");
    close_all([buyer, second]).await;
}

#[tokio::test]
async fn a_relay_that_the_operator_did_not_name_is_never_contacted() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let stranger = format!("http://{}", listener.local_addr().expect("address"));
    let buyer = node().await;
    let peer = PeerAddr::new(MeshSecret::generate().key()).with_relay(stranger.parse().expect("url"));
    let error = buyer.call(&peer, ask("x")).await.expect_err("refused");
    assert!(matches!(error, CallError::Dial(DialError::RelayNotNamed { .. })), "{error:?}");
    let contact = tokio::time::timeout(Duration::from_millis(300), listener.accept()).await;
    assert!(contact.is_err(), "the relay was contacted");
    buyer.close().await;
}

#[tokio::test]
async fn a_node_neither_dials_itself_nor_a_key_without_an_address() {
    let buyer = node().await;
    let error = buyer.call(&buyer.address(), ask("x")).await.expect_err("itself");
    assert!(matches!(error, CallError::Dial(DialError::Myself)), "{error:?}");
    let nowhere = PeerAddr::new(MeshSecret::generate().key());
    let error = buyer.call(&nowhere, ask("x")).await.expect_err("nowhere");
    assert!(matches!(error, CallError::Dial(DialError::NoAddress(_))), "{error:?}");
    buyer.close().await;
}
