//! Offers that a node takes from the mesh: verified, stored and told to watchers.
//!
//! On one core as the directory does it, and over QUIC into a node that joins an empty-handed network's bootstrap node.
//! A UDP path in between counts the bytes, of both directions, with everything that QUIC adds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alloy::primitives::{B256, keccak256};
use anyhow::{Context as _, ensure};
use tokio::net::UdpSocket;
use tradewind_mesh::directory::{Directory, OfferVerifier, Record, system_clock};
use tradewind_mesh::{Limits, Mesh, MeshConfig, MeshSecret, PeerAddr, Transport as _};
use tradewind_proto::book::synthetic;
use tradewind_proto::ids::{DeviceId, ProviderId};
use tradewind_proto::offer::SignedOffer;
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::{Clock, Seconds};

use crate::figure::{Figure, length, median, number, per_second};
use crate::progress::say;

const OFFERS: u32 = 20_000;
const ROUNDS: usize = 5;
const BATCH: usize = 256;
const JOINED: Duration = Duration::from_secs(120);

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let clock = system_clock();
    let records = records(&clock)?;
    let encoded: usize = records
        .iter()
        .map(|record| postcard::to_stdvec(record).map(|bytes| bytes.len()))
        .sum::<Result<_, _>>()?;
    let (mut verified, mut joined, mut wire) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        verified.push(accept(&records, &clock)?);
        let (rate, bytes) = join(&records, &clock).await?;
        joined.push(rate);
        wire.push(bytes);
        say(format_args!("  {:?} on one core, {:?} over the mesh a second", verified.last(), joined.last()));
    }
    Ok(vec![
        Figure::new("directory: offers accepted on one core", median(verified), "1/s"),
        Figure::new("directory: offers accepted by a node that joins", median(joined), "1/s"),
        Figure::new("directory: one offer, encoded", length(encoded) / length(records.len()), "B"),
        Figure::new("directory: one offer, as UDP both ways", median(wire), "B"),
    ])
}

/// A synthetic market's offers, each signed by a key of its own, as of now.
fn records(clock: &Clock) -> anyhow::Result<Vec<Record>> {
    let now = clock();
    let book = synthetic(11, OFFERS);
    let offers = book.offers().cloned().zip(1u32..);
    offers
        .map(|(mut offer, number)| {
            let key = SigningKey::from_bytes(keccak256(number.to_be_bytes()).0)?;
            let device = keccak256([number.to_be_bytes(), [1; 4]].concat());
            offer.provider = ProviderId::new(key.address());
            offer.device = DeviceId::new(B256::from(device));
            (offer.issued_at, offer.expires_at) = (now, now.after(Seconds::new(3_000)));
            offer.address = Some("198.51.100.7:41641".into());
            let signed = SignedOffer::sign(&offer, &key)?;
            Ok(Record::of_offer(&offer, &signed))
        })
        .collect()
}

/// Records a second that a directory without a network takes.
fn accept(records: &[Record], clock: &Clock) -> anyhow::Result<f64> {
    let verifier = Arc::new(OfferVerifier::open(clock.clone()));
    let directory = Directory::new(&Limits::default().directory, verifier, clock.clone());
    let batches: Vec<Vec<Record>> = records.chunks(BATCH).map(<[Record]>::to_vec).collect();
    let began = Instant::now();
    let stored: usize = batches.into_iter().map(|batch| directory.accept(batch).stored.len()).sum();
    let span = began.elapsed();
    ensure!(stored == records.len(), "{stored} of {} records were stored", records.len());
    Ok(per_second(u64::from(OFFERS), span))
}

async fn node(clock: &Clock) -> anyhow::Result<Mesh> {
    let config = MeshConfig {
        bind: ([127, 0, 0, 1], 0).into(),
        verifier: Arc::new(OfferVerifier::open(clock.clone())),
        ..MeshConfig::new(MeshSecret::generate())
    };
    Ok(Mesh::bind(config).await?)
}

/// Records a second, and bytes a record, until a newcomer has everything that another node knows.
async fn join(records: &[Record], clock: &Clock) -> anyhow::Result<(f64, f64)> {
    let (known, newcomer) = (node(clock).await?, node(clock).await?);
    for batch in records.chunks(BATCH) {
        ensure!(known.directory().accept(batch.to_vec()).stored.len() == batch.len(), "a record was refused");
    }
    let target = *known.local_addresses().first().context("the node has no address")?;
    let path = UdpPath::open(target).await?;
    let began = Instant::now();
    newcomer.add_directory_peer(PeerAddr::new(known.key()).with_direct(path.address));
    while newcomer.records().len() < records.len() {
        ensure!(began.elapsed() < JOINED, "the newcomer got {} records only", newcomer.records().len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rate = per_second(u64::from(OFFERS), began.elapsed());
    let bytes = number(path.bytes.load(Ordering::Relaxed)) / length(records.len());
    newcomer.close().await;
    known.close().await;
    Ok((rate, bytes))
}

/// A UDP path for one client that counts what passes, both ways.
struct UdpPath {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl UdpPath {
    async fn open(target: SocketAddr) -> anyhow::Result<Self> {
        let (inner, outer) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
        outer.connect(target).await?;
        let address = inner.local_addr()?;
        let bytes = Arc::new(AtomicU64::new(0));
        let counted = bytes.clone();
        let task = tokio::spawn(async move {
            let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
            let mut client = None;
            loop {
                tokio::select! {
                    Ok((size, from)) = inner.recv_from(&mut up) => {
                        client = Some(from);
                        counted.fetch_add(u64::try_from(size).unwrap_or_default(), Ordering::Relaxed);
                        // A lost datagram is the transport's to repair.
                        let _ = outer.send(&up[..size]).await;
                    }
                    Ok(size) = outer.recv(&mut down) => {
                        counted.fetch_add(u64::try_from(size).unwrap_or_default(), Ordering::Relaxed);
                        if let Some(client) = client {
                            let _ = inner.send_to(&down[..size], client).await;
                        }
                    }
                }
            }
        });
        Ok(Self { address, bytes, task })
    }
}

impl Drop for UdpPath {
    fn drop(&mut self) {
        self.task.abort();
    }
}
