//! Records between nodes: links, comparison, forgery, slow readers, join storms.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tradewind_mesh::directory::{DirectoryEvent, PublishError, Record, Rejection};
use tradewind_mesh::frame::Kind;
use tradewind_mesh::{FrameReader, Limits, Mesh, MeshConfig, PeerAddr, Protocol, Transport};

use crate::hostile::{attacker, connect, framed};
use crate::nodes::{close_all, config, echo_node, node, quick, until, within};
use crate::records::{record, writer};

/// Never compares by itself, so that only links carry news.
fn links_only() -> Limits {
    let mut limits = quick();
    limits.directory.compare_every = Duration::from_secs(3600);
    limits
}

async fn joined(bootstrap: &[&Mesh], limits: Limits) -> Mesh {
    let bootstrap: Vec<PeerAddr> = bootstrap.iter().map(|mesh| mesh.address()).collect();
    Mesh::bind(MeshConfig { bootstrap, limits, ..config() }).await.expect("bound")
}

fn texts(mesh: &Mesh) -> usize {
    mesh.records().len()
}

/// Opens a link as a peer without our rules and returns its stream.
async fn raw_link(
    victim: &Mesh,
) -> (iroh::Endpoint, iroh::endpoint::Connection, iroh::endpoint::SendStream, FrameReader) {
    let attacker = attacker(&[]).await;
    let connection = connect(&attacker, victim, Protocol::Directory).await;
    let (mut send, recv) = connection.open_bi().await.expect("a stream");
    send.write_all(&framed(Kind::Open, 0, &[0])).await.expect("sent");
    let mut reader = FrameReader::new(recv, 1 << 20);
    // `Accept` is no message, so reading one says so; that is how this test sees it.
    let accepted = within(5, reader.recv()).await;
    assert!(format!("{accepted:?}").contains("Kind { got: 4 }"), "{accepted:?}");
    (attacker, connection, send, reader)
}

fn news(sequence: u32, records: Vec<Record>) -> Vec<u8> {
    // `Message::Records` is the first variant.
    let body = [vec![0u8], postcard::to_stdvec(&records).expect("encodes")].concat();
    framed(Kind::Data, sequence, &body)
}

#[tokio::test]
async fn an_offer_reaches_a_node_two_links_away() {
    let middle = node().await;
    let left = joined(&[&middle], links_only()).await;
    let right = joined(&[&middle], links_only()).await;
    until("both are linked", || middle.directory_links() == 2).await;
    let mut watch = right.watch();
    left.publish(record(&writer(1), 0, 1, 60, b"H100, 2.10 an hour")).await.expect("published");
    let event = within(5, watch.next()).await.expect("an event");
    let DirectoryEvent::Stored(seen) = event else { panic!("{event:?}") };
    assert_eq!(seen.sequence, 1);
    left.publish(record(&writer(1), 0, 2, 60, b"H100, 1.90 an hour")).await.expect("published");
    until("the newer one replaced it", || right.records().iter().all(|record| record.sequence == 2)).await;
    assert_eq!(texts(&right), 1);
    close_all([left, right, middle]).await;
}

#[tokio::test]
async fn who_joins_late_gets_what_is_there_and_brings_what_it_has() {
    let first = node().await;
    for slot in 0..150 {
        first.publish(record(&writer(1), slot, 1, 60, &[1; 300])).await.expect("published");
    }
    let late = Mesh::bind(MeshConfig { limits: links_only(), ..config() }).await.expect("bound");
    for slot in 0..50 {
        late.publish(record(&writer(2), slot, 1, 60, b"mine")).await.expect("published");
    }
    late.add_directory_peer(first.address());
    until("both have all", || texts(&late) == 200 && texts(&first) == 200).await;
    close_all([late, first]).await;
}

#[tokio::test]
async fn comparison_repairs_what_links_missed() {
    let (left, right) = (node().await, node().await);
    // No link can be made: the only place for one is taken by comparison alone.
    let mut limits = quick();
    limits.directory.links_out = 0;
    let asking =
        Mesh::bind(MeshConfig { limits, bootstrap: vec![left.address(), right.address()], ..config() });
    let asking = asking.await.expect("bound");
    left.publish(record(&writer(1), 0, 1, 60, b"left")).await.expect("published");
    right.publish(record(&writer(2), 0, 1, 60, b"right")).await.expect("published");
    until("it pulled from both and pushed to both", || {
        [&asking, &left, &right].iter().all(|mesh| texts(mesh) == 2)
    })
    .await;
    assert_eq!(asking.directory_links(), 0);
    close_all([asking, left, right]).await;
}

#[tokio::test]
async fn a_forged_record_is_not_forwarded_and_its_sender_is_shut_out() {
    let victim = node().await;
    let friend = joined(&[&victim], links_only()).await;
    until("linked", || victim.directory_links() == 1).await;
    let (_endpoint, connection, mut send, _reader) = raw_link(&victim).await;
    let honest = record(&writer(1), 0, 1, 60, b"honest");
    let mut forged = record(&writer(2), 0, 1, 60, b"cheap");
    forged.expires_at = record(&writer(2), 0, 1, 120, b"").expires_at;
    send.write_all(&news(1, vec![honest, forged])).await.expect("sent");
    let reason = within(5, connection.closed()).await;
    assert!(format!("{reason:?}").contains("not what its writer signed"), "{reason:?}");
    until("the honest one went on", || texts(&friend) == 1).await;
    assert!(friend.records().iter().all(|record| record.id.provider.account() == writer(1).address()));
    // The key is shut out for a while.
    let again = connect(&_endpoint, &victim, Protocol::Directory).await;
    let reason = within(5, again.closed()).await;
    assert!(format!("{reason:?}").contains("shut you out"), "{reason:?}");
    close_all([friend, victim]).await;
}

#[tokio::test]
async fn a_replayed_or_malformed_record_changes_nothing() {
    let victim = node().await;
    let mut watch = victim.watch();
    let (_endpoint, connection, mut send, _reader) = raw_link(&victim).await;
    let (old, new) = (record(&writer(1), 0, 1, 60, b"old"), record(&writer(1), 0, 2, 60, b"new"));
    send.write_all(&news(1, vec![new.clone()])).await.expect("sent");
    assert_eq!(within(5, watch.next()).await, Some(DirectoryEvent::Stored(Arc::new(new.clone()))));
    send.write_all(&news(2, vec![old.clone(), new.clone()])).await.expect("replayed");
    let own = victim.publish(old).await.expect_err("stale");
    assert_eq!(own, PublishError::Rejected(Rejection::Stale { got: 1, known: 2 }));
    let quiet = tokio::time::timeout(Duration::from_millis(300), watch.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    send.write_all(&framed(Kind::Data, 3, &[9; 40])).await.expect("garbage");
    let reason = within(5, connection.closed()).await;
    assert!(format!("{reason:?}").contains("cannot be decoded"), "{reason:?}");
    victim.close().await;
}

#[tokio::test]
async fn a_record_ends_by_itself_everywhere() {
    let first = node().await;
    let second = joined(&[&first], links_only()).await;
    until("linked", || first.directory_links() == 1).await;
    let mut watch = second.watch();
    let short = record(&writer(1), 0, 1, 2, b"short");
    first.publish(short.clone()).await.expect("published");
    assert!(matches!(within(5, watch.next()).await, Some(DirectoryEvent::Stored(_))));
    assert_eq!(within(6, watch.next()).await, Some(DirectoryEvent::Ended(short.id)));
    assert_eq!((texts(&first), texts(&second)), (0, 0));
    close_all([second, first]).await;
}

#[tokio::test]
async fn two_prices_under_one_sequence_are_evidence() {
    let mesh = node().await;
    let mut watch = mesh.watch();
    let (a, b) = (record(&writer(1), 0, 7, 60, b"one price"), record(&writer(1), 0, 7, 60, b"another"));
    let (smaller, larger) = if a.digest() < b.digest() { (a, b) } else { (b, a) };
    mesh.publish(smaller.clone()).await.expect("published");
    mesh.publish(larger.clone()).await.expect("replaced");
    assert!(matches!(within(5, watch.next()).await, Some(DirectoryEvent::Stored(_))));
    let evidence = DirectoryEvent::Equivocation { first: Arc::new(smaller), second: Arc::new(larger) };
    assert_eq!(within(5, watch.next()).await, Some(evidence));
    mesh.close().await;
}

#[tokio::test]
async fn a_peer_that_stops_reading_is_dropped_and_freezes_nobody() {
    let mut limits = links_only();
    limits.directory.link_queue = 8;
    let victim = Mesh::bind(MeshConfig { limits, ..config() }).await.expect("bound");
    let friend = joined(&[&victim], links_only()).await;
    let (_endpoint, connection, _send, _never_read) = raw_link(&victim).await;
    connection.set_receive_window(1000u32.into());
    until("both are linked", || victim.directory_links() == 2).await;
    let mut sent = 0u32;
    while victim.directory_links() == 2 {
        assert!(sent < 5000, "the slow peer was never dropped");
        let key = writer(u8::try_from(sent % 200 + 1).expect("small"));
        let update = record(&key, 0, u64::from(sent) + 1, 60, &vec![7; 7000]);
        victim.publish(update).await.expect("published");
        sent += 1;
    }
    let reason = within(5, connection.closed()).await;
    assert!(format!("{reason:?}").contains("too slowly"), "{reason:?}");
    let known = victim.records().len();
    until("the friend has everything", || texts(&friend) == known).await;
    close_all([friend, victim]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_storm_leaves_the_bootstrap_node_responsive() {
    let mut limits = quick();
    limits.directory.links_in = 16;
    let (bootstrap, _) = {
        let mesh = Mesh::bind(MeshConfig { limits, ..config() }).await.expect("bound");
        let echo = Arc::new(crate::nodes::Echo::default());
        mesh.serve_leases(echo.clone());
        (mesh, echo)
    };
    for slot in 0..100 {
        bootstrap.publish(record(&writer(1), slot, 1, 60, &[1; 500])).await.expect("published");
    }
    let patient = Limits { call: Duration::from_secs(60), ..quick() };
    let buyer = Mesh::bind(MeshConfig { limits: patient, ..config() }).await.expect("bound");
    let address = bootstrap.address();
    buyer.call(&address, Bytes::from_static(b"x")).await.expect("before the storm");
    let storm = tokio::spawn({
        let address = address.clone();
        async move {
            let joins = (0..60).map(|_| {
                let address = address.clone();
                async move {
                    Mesh::bind(MeshConfig { bootstrap: vec![address], ..config() }).await.expect("bound")
                }
            });
            futures::future::join_all(joins).await
        }
    });
    let mut answered = 0;
    while !storm.is_finished() {
        buyer.call(&address, Bytes::from_static(b"x")).await.expect("answered during the storm");
        answered += usize::from(!storm.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(answered > 0, "nobody was answered before the storm was over");
    let crowd = storm.await.expect("joined");
    until("even those without a link have the records", || crowd.iter().all(|mesh| texts(mesh) == 100)).await;
    assert!(bootstrap.directory_links() <= 16);
    futures::future::join_all(crowd.iter().map(Mesh::close)).await;
    close_all([buyer, bootstrap]).await;
}

#[tokio::test]
async fn a_node_whose_bootstrap_starts_later_joins_all_the_same() {
    let (early, _) = echo_node().await;
    let address = early.address();
    early.close().await;
    let waiting = Mesh::bind(MeshConfig { bootstrap: vec![address.clone()], limits: quick(), ..config() });
    let waiting = waiting.await.expect("bound");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(waiting.directory_links(), 0);
    let late = node().await;
    waiting.add_directory_peer(late.address());
    until("linked", || waiting.directory_links() == 1).await;
    close_all([waiting, late]).await;
}
