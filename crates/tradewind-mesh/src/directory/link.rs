//! Links between directories: news in, verified; news out, without waiting for anyone.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tradewind_proto::ids::MeshKey;

use super::wire::{self, Message, Purpose};
use super::{Accepted, Directory, PublishError, Record, Rejection, compare};
use crate::admission::Admission;
use crate::call::{CallError, open_raw};
use crate::causes::Causes;
use crate::dial::Dialer;
use crate::frame::{FrameError, Kind};
use crate::gate::{Incoming, StreamService, close};
use crate::limits::Limits;
use crate::peer::PeerAddr;
use crate::protocol::Protocol;
use crate::refusal::{Refusal, RefusalCode};
use crate::stream::{FrameReader, FrameStream, FrameWriter};

/// Comparisons that are served at once; more are refused as busy.
const COMPARISONS: usize = 8;
/// Batches that are verified at once.
const VERIFIERS: usize = 2;

/// The directory's network side: links in and out, comparison, publishing.
pub(crate) struct DirectoryServer {
    pub(crate) directory: Directory,
    pub(crate) limits: Limits,
    pub(crate) dialer: Arc<Dialer>,
    admission: Arc<Admission>,
    links: Mutex<HashMap<u64, Link>>,
    next_link: AtomicU64,
    known: Mutex<Vec<PeerAddr>>,
    changed: Notify,
    comparisons: Semaphore,
    verifiers: Semaphore,
}

#[derive(Debug)]
struct Link {
    peer: MeshKey,
    incoming: bool,
    queue: mpsc::Sender<Bytes>,
    dropped: CancellationToken,
}

/// Why a link or a comparison ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("the stream failed")]
    Frame(#[from] FrameError),
    #[error("the peer could not be asked")]
    Call(#[from] CallError),
    #[error("this node ended it: {0}")]
    Ended(Refusal),
}

impl DirectoryServer {
    pub(crate) fn new(
        directory: Directory,
        limits: Limits,
        dialer: Arc<Dialer>,
        admission: Arc<Admission>,
        known: Vec<PeerAddr>,
    ) -> Arc<Self> {
        Arc::new(Self {
            directory,
            limits,
            dialer,
            admission,
            links: Mutex::default(),
            next_link: AtomicU64::new(0),
            known: Mutex::new(known),
            changed: Notify::new(),
            comparisons: Semaphore::new(COMPARISONS),
            verifiers: Semaphore::new(VERIFIERS),
        })
    }

    /// Stores this node's own record and passes it on.
    pub(crate) async fn publish(&self, record: Record) -> Result<(), PublishError> {
        let accepted = self.accept(vec![record]).await;
        self.forward(&accepted.stored, None);
        match (accepted.forged, accepted.refused) {
            (Some(refusal), _) => Err(PublishError::Unverified(refusal)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(()),
        }
    }

    /// Adds a node to link and compare with. The oldest makes room.
    pub(crate) fn add_peer(&self, peer: PeerAddr) {
        let mut known = self.known();
        known.retain(|other| other.key != peer.key);
        if known.len() >= self.limits.directory.known_peers {
            known.remove(0);
        }
        known.push(peer);
        drop(known);
        self.changed.notify_one();
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Vec<PeerAddr>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Live links: incoming and outgoing.
    pub(crate) fn link_count(&self) -> usize {
        self.links().len()
    }

    /// Verifies a batch on a blocking thread; batches of different links take turns.
    pub(crate) async fn accept(&self, records: Vec<Record>) -> Accepted {
        let Ok(_turn) = self.verifiers.acquire().await else { return Accepted::default() };
        let directory = self.directory.clone();
        tokio::task::spawn_blocking(move || directory.accept(records)).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the record verifier failed");
            Accepted::default()
        })
    }

    /// Accepts a peer's batch and passes on what is new. A forged record ends the relationship.
    pub(crate) async fn accept_from(
        &self,
        peer: MeshKey,
        link: Option<u64>,
        records: Vec<Record>,
    ) -> Result<(), LinkError> {
        let accepted = self.accept(records).await;
        self.forward(&accepted.stored, link);
        if let Some(refusal) = accepted.forged {
            tracing::warn!(%peer, %refusal, "a peer forwarded a forged record");
            self.admission.ban(peer);
            return Err(LinkError::Ended(refusal));
        }
        if let Some(error) = accepted.refused
            && !matches!(error, PublishError::Rejected(Rejection::Stale { .. }))
        {
            tracing::debug!(%peer, %error, "a record was dropped");
        }
        Ok(())
    }

    /// Passes records on to every link but the one that they came over. Never waits.
    fn forward(&self, records: &[Arc<Record>], except: Option<u64>) {
        if records.is_empty() {
            return;
        }
        let messages = wire::batches(records, self.limits.max_body);
        for (id, link) in self.links().iter().filter(|(id, _)| Some(**id) != except) {
            let full = messages.iter().any(|message| link.queue.try_send(message.clone()).is_err());
            if full && !link.dropped.is_cancelled() {
                tracing::info!(link = id, peer = %link.peer, "dropping a peer that reads too slowly");
                link.dropped.cancel();
            }
        }
    }

    /// Runs one link until either side ends it.
    async fn run_link(&self, peer: MeshKey, incoming: bool, stream: FrameStream) -> Result<(), LinkError> {
        let Some((id, news, dropped)) = self.add_link(peer, incoming) else {
            let limit = self.limits.directory.links_in;
            let refusal =
                Refusal::new(RefusalCode::Busy, format_args!("this node has {limit} links already"));
            stream.refuse(&refusal).await?;
            return Err(LinkError::Ended(refusal));
        };
        let _removed = RemoveLink { server: self, id };
        let (reader, writer) = stream.split();
        let slow = || LinkError::Ended(Refusal::new(RefusalCode::SlowReader, "you read too slowly"));
        tokio::select! {
            ended = self.read_news(peer, id, reader) => ended,
            ended = self.write_news(writer, news) => ended,
            () = dropped.cancelled() => Err(slow()),
        }
    }

    /// Makes room for a link, unless there are too many.
    fn add_link(
        &self,
        peer: MeshKey,
        incoming: bool,
    ) -> Option<(u64, mpsc::Receiver<Bytes>, CancellationToken)> {
        let mut links = self.links();
        let limit = self.limits.directory.links_in;
        if incoming && links.values().filter(|link| link.incoming).count() >= limit {
            return None;
        }
        let (queue, news) = mpsc::channel(self.limits.directory.link_queue);
        let dropped = CancellationToken::new();
        let id = self.next_link.fetch_add(1, Ordering::Relaxed);
        links.insert(id, Link { peer, incoming, queue, dropped: dropped.clone() });
        Some((id, news, dropped))
    }

    async fn read_news(&self, peer: MeshKey, link: u64, mut from: FrameReader) -> Result<(), LinkError> {
        while let Some(body) = from.recv().await? {
            let Message::Records(records) = Message::decode(&body)? else {
                return Err(FrameError::Malformed.into());
            };
            self.accept_from(peer, Some(link), records).await?;
        }
        Ok(())
    }

    async fn write_news(
        &self,
        mut to: FrameWriter,
        mut news: mpsc::Receiver<Bytes>,
    ) -> Result<(), LinkError> {
        while let Some(message) = news.recv().await {
            to.send_frame_within(Kind::Data, &message, self.limits.write).await?;
        }
        Ok(())
    }

    async fn serve_stream(&self, peer: MeshKey, mut stream: FrameStream) -> Result<(), LinkError> {
        let first = stream.reader().recv_frame_within(self.limits.first_frame).await;
        let purpose = match first {
            Ok(None) => return Ok(()),
            Ok(Some(frame)) if frame.kind == Kind::Open => {
                postcard::from_bytes::<Purpose>(&frame.body).map_err(|_| FrameError::Malformed)
            }
            Ok(Some(frame)) => Err(FrameError::Kind { got: frame.kind as u8 }),
            Err(error) => Err(error),
        };
        match purpose {
            Err(error) => Ok(stream.refuse(&error.to_refusal()).await?),
            Ok(Purpose::Link) => {
                stream.writer().send_frame_within(Kind::Accept, &[], self.limits.write).await?;
                self.run_link(peer, true, stream).await
            }
            Ok(Purpose::Compare) => {
                let Ok(_place) = self.comparisons.try_acquire() else {
                    let refusal = Refusal::new(RefusalCode::Busy, "too many nodes compare at once");
                    return Ok(stream.refuse(&refusal).await?);
                };
                stream.writer().send_frame_within(Kind::Accept, &[], self.limits.write).await?;
                compare::serve(self, peer, stream).await
            }
        }
    }

    /// Opens a stream of the directory protocol to `peer`.
    pub(crate) async fn open(&self, peer: &PeerAddr, purpose: Purpose) -> Result<FrameStream, LinkError> {
        if self.admission.is_banned(peer.key) {
            let refusal = Refusal::new(RefusalCode::Forged, "the peer forwarded a forged record a while ago");
            return Err(LinkError::Ended(refusal));
        }
        let (send, recv, _) = open_raw(&self.dialer, &self.limits, peer, Protocol::Directory).await?;
        let mut stream = FrameStream::new(recv, send, self.limits.max_body);
        let header = postcard::to_stdvec(&purpose).map_err(|_| FrameError::Malformed)?;
        let asked = crate::call::ask(&mut stream, (Kind::Open, &header), Kind::Accept);
        let timed_out = |_| CallError::TimedOut { after: self.limits.call };
        tokio::time::timeout(self.limits.call, asked).await.map_err(timed_out)??;
        Ok(stream)
    }

    /// Keeps links to known nodes, compares tables now and then, and ends what is over.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(self.clone().keep_links());
        tasks.spawn(compare::keep_comparing(self.clone()));
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            second.tick().await;
            self.directory.purge();
        }
    }

    /// One task for each linked node, at most `links_out` at once.
    async fn keep_links(self: Arc<Self>) {
        let mut busy: HashSet<MeshKey> = HashSet::new();
        let mut failures: HashMap<MeshKey, u32> = HashMap::new();
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            let candidates: Vec<_> = self.known().iter().rev().cloned().collect();
            failures.retain(|key, _| candidates.iter().any(|peer| peer.key == *key));
            for peer in candidates {
                if busy.len() >= self.limits.directory.links_out || !busy.insert(peer.key) {
                    continue;
                }
                let pause = self.pause(failures.get(&peer.key).copied().unwrap_or_default());
                tasks.spawn(self.clone().keep_link(peer, pause));
            }
            tokio::select! {
                () = self.changed.notified() => {}
                Some(ended) = tasks.join_next() => match ended {
                    Ok((key, lasted)) => {
                        busy.remove(&key);
                        let failed = failures.entry(key).or_default();
                        *failed = if lasted { 0 } else { failed.saturating_add(1) };
                    }
                    Err(error) => tracing::error!(%error, "a link's task failed"),
                }
            }
        }
    }

    /// How long to wait before a link: not at all at first, then doubling, never in step with others.
    fn pause(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let doubled = self.limits.backoff_min.saturating_mul(1 << doublings.min(16));
        let pause = doubled.min(self.limits.backoff_max);
        pause + pause.mul_f64(rand::random::<f64>())
    }

    /// One link from its start to its end, and whether it was up for a while.
    async fn keep_link(self: Arc<Self>, peer: PeerAddr, pause: Duration) -> (MeshKey, bool) {
        tokio::time::sleep(pause).await;
        let started = tokio::time::Instant::now();
        let linked = async {
            let stream = self.open(&peer, Purpose::Link).await?;
            tokio::select! {
                ended = self.run_link(peer.key, false, stream) => ended,
                // What was said before the link began is not repeated on it.
                error = compare_once(&self, &peer) => Err(error),
            }
        };
        if let Err(error) = linked.await {
            tracing::debug!(peer = %peer.key, error = %Causes(&error), "a link ended");
        }
        (peer.key, started.elapsed() > self.limits.backoff_max)
    }

    fn links(&self) -> MutexGuard<'_, HashMap<u64, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compares once when a link begins; returns only if that shows the link must end.
async fn compare_once(server: &DirectoryServer, peer: &PeerAddr) -> LinkError {
    match compare::compare(server, peer).await {
        Err(error @ LinkError::Ended(_)) => error,
        Err(error) => {
            tracing::debug!(peer = %peer.key, error = %Causes(&error), "a comparison failed; the next one repairs it");
            std::future::pending().await
        }
        Ok(()) => std::future::pending().await,
    }
}

#[async_trait]
impl StreamService for DirectoryServer {
    async fn serve(&self, Incoming { peer, connection, send, recv }: Incoming) {
        let stream = FrameStream::new(recv, send, self.limits.max_body);
        if let Err(error) = self.serve_stream(peer, stream).await {
            tracing::debug!(%peer, error = %Causes(&error), "a directory stream ended");
            let refusal = match error {
                LinkError::Ended(refusal) if refusal.code() == RefusalCode::Busy => return,
                LinkError::Ended(refusal) => refusal,
                LinkError::Frame(error @ (FrameError::Io(_) | FrameError::Refused(_))) => {
                    tracing::trace!(%peer, %error, "the peer left");
                    return;
                }
                LinkError::Frame(FrameError::TimedOut { .. }) => {
                    Refusal::new(RefusalCode::SlowReader, "you read too slowly")
                }
                LinkError::Frame(error) => error.to_refusal(),
                LinkError::Call(_) => return,
            };
            // The peer may not be reading: the reason travels with the connection's end.
            close(&connection, &refusal);
        }
    }
}

struct RemoveLink<'a> {
    server: &'a DirectoryServer,
    id: u64,
}

impl Drop for RemoveLink<'_> {
    fn drop(&mut self) {
        self.server.links().remove(&self.id);
    }
}

impl std::fmt::Debug for DirectoryServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirectoryServer").field("directory", &self.directory).finish_non_exhaustive()
    }
}
