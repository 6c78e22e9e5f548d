//! Those who may not get in, and those who want in too often.

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tradewind_mesh::{
    FrameError, FrameStream, Mesh, MeshConfig, MeshSecret, PeerAddr, RefusalCode, Transport as _,
};
use tradewind_proto::access::{MAX_OPENING, MAX_SESSIONS, Opening, Output, Session};
use tradewind_proto::ids::LeaseId;

use super::{Standing, is_there, until};

/// Opens at a time, and in all.
const AT_ONCE: usize = 100;
const IN_ALL: usize = 1000;

fn sleep(seconds: u32) -> Session {
    Session::command(vec!["sleep".into(), seconds.to_string()])
}

/// What a provider says first to whoever opens a session with this node.
async fn first(mesh: &Mesh, provider: &PeerAddr, lease: LeaseId) -> Result<Output, RefusalCode> {
    let opening = Opening::Session { lease, session: sleep(98771) };
    let mut stream = mesh.open(provider, opening.encode()).await.expect("the mesh carries it");
    match stream.recv().await {
        Ok(Some(frame)) => Ok(Output::decode(&frame).expect("a message")),
        Err(FrameError::Refused(refusal)) => Err(refusal.code()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_node_gets_no_session_whatever_it_knows() {
    let standing = Standing::begin();
    let market = &standing.market;
    let attempt = market.attempt(&standing.job).expect("a lease");
    market.block_on(async {
        let mesh = Mesh::bind(MeshConfig::new(MeshSecret::from_bytes([9; 32]))).await.expect("a node");
        let lease = attempt.supervision.id;
        assert_eq!(first(&mesh, &attempt.address, lease).await, Err(RefusalCode::Forbidden));
        let unknown = LeaseId::new([7; 32].into());
        assert_eq!(first(&mesh, &attempt.address, unknown).await, Err(RefusalCode::Forbidden));
        let mut nonsense =
            mesh.open(&attempt.address, bytes::Bytes::from_static(b"\xff\xff")).await.expect("carried");
        let Err(FrameError::Refused(refusal)) = nonsense.recv().await else { panic!("it was taken") };
        assert_eq!(refusal.code(), RefusalCode::Malformed);
        mesh.close().await;
    });
    assert!(!is_there("98771"));
}

/// A session through the buyer's local API, as its own program asks for it.
async fn open(socket: std::path::PathBuf, job: String) -> (FrameStream, bool) {
    let mut stream = BufReader::new(UnixStream::connect(socket).await.expect("a node"));
    let head = format!(
        "GET /v1/jobs/{job}/session HTTP/1.1\r\nhost: node\r\nconnection: upgrade\r\nupgrade: tradewind-session\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut answer).await.expect("read") > 0, "{answer}");
    }
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let (read, write) = tokio::io::split(stream);
    let mut stream = FrameStream::new(read, write, u32::try_from(MAX_OPENING).expect("small"));
    let opening = Opening::Session { lease: LeaseId::default(), session: sleep(98772) };
    stream.send(opening.encode()).await.expect("sent");
    let begun = match stream.recv().await {
        Ok(Some(frame)) => matches!(Output::decode(&frame), Ok(Output::Started)),
        Err(FrameError::Refused(_)) => false,
        other => panic!("{other:?}"),
    };
    (stream, begun)
}

#[test]
fn a_thousand_opens_are_bounded_and_leave_nothing() {
    let standing = Standing::begin();
    let socket = standing.market.socket("buyer");
    let job = Arc::new(standing.job.id.clone());
    let held = standing.market.block_on(async {
        let (mut held, mut refused) = (Vec::new(), 0);
        for _ in 0..IN_ALL / AT_ONCE {
            let mut opening = JoinSet::new();
            for _ in 0..AT_ONCE {
                opening.spawn(open(socket.clone(), job.to_string()));
            }
            for (stream, begun) in opening.join_all().await {
                if begun { held.push(stream) } else { refused += 1 }
            }
        }
        assert_eq!((held.len(), refused), (MAX_SESSIONS, IN_ALL - MAX_SESSIONS));
        held
    });
    // The job goes on, and its provider answers others.
    let offers: Vec<Value> = standing.market.ask("buyer", "/v1/offers").expect("an answer");
    assert_eq!(offers.len(), 1);
    drop(held);
    until("nothing is left of them", || !is_there("98772"));
    until("there is room again", || standing.exec("echo room").stdout == b"room\n");
}
