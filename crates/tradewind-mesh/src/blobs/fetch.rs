//! Fetching a blob in ranges, so that whatever arrived whole is never asked for again.
//!
//! ```text
//!  size? ──▶ within the limit? ──▶ for each 16 MiB range: what is missing ──▶ get ──▶ verified, on disk
//!    ▲                                                              │ broken, stalled
//!    └────────────────── a new connection, a few times ─────────────┘
//! ```
//!
//! One request for the whole blob keeps nothing when it is cut; a range that finished is on disk, and the next fetch,
//! even of another process after `kill -9`, starts behind it.

use std::time::Duration;

use futures::StreamExt;
use iroh::endpoint::Connection;
use iroh_blobs::api::proto::Bitfield;
use iroh_blobs::api::remote::GetProgressItem;
use iroh_blobs::get::GetError;
use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt, ERR_PERMISSION, GetRequest};

use super::{BlobError, BlobHash, Blobs, Label};
use crate::dial::{DialError, Dialer};
use crate::peer::PeerAddr;
use crate::protocol::Protocol;

/// What one request asks for at most.
const RANGE: u64 = 16 << 20;
/// How often a broken transfer is taken up again without progress in between.
const RETRIES: u32 = 3;

/// What to fetch and under which bounds.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// The largest blob to take.
    pub max_size: u64,
    /// Keeps the blob, from its first range on.
    pub label: Label,
    /// How long the transfer may stand still before it is taken up anew.
    pub stall: Duration,
}

impl FetchOptions {
    /// At most `max_size` bytes, kept under `label`, given up on after 20 seconds without a byte.
    #[must_use]
    pub const fn new(max_size: u64, label: Label) -> Self {
        Self { max_size, label, stall: Duration::from_secs(20) }
    }
}

/// How far a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Verified bytes that are here.
    pub done: u64,
    /// The blob's size.
    pub size: u64,
}

/// A finished fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// The blob's size.
    pub size: u64,
    /// What crossed the network this time; less than the size when an earlier fetch was cut.
    pub transferred: u64,
}

/// Why a blob could not be fetched. What arrived stays for the next try.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// This node keeps no blobs.
    #[error("this node keeps no blobs")]
    NoStore,
    /// The peer could not be reached.
    #[error("the peer could not be reached")]
    Dial(#[from] DialError),
    /// The peer did not grant the blob to this node.
    #[error("the peer does not serve {0} to this node")]
    NotGranted(BlobHash),
    /// The blob is larger than allowed.
    #[error("the blob has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its verified size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// No byte came for too long.
    #[error("the transfer stood still for {} s", .after.as_secs())]
    Stalled {
        /// How long.
        after: Duration,
    },
    /// The transfer broke, or the peer sent something else than the blob.
    #[error("the transfer failed: {0}")]
    Broken(String),
    /// This node's store failed.
    #[error("the local store failed")]
    Store(#[from] BlobError),
}

/// The parts of a mesh that a fetch needs.
pub(crate) struct Fetcher<'a> {
    pub(crate) blobs: &'a Blobs,
    pub(crate) dialer: &'a Dialer,
}

/// Fetches `hash` from `peer`, taking up what an earlier fetch left.
pub(crate) async fn fetch(
    on: Fetcher<'_>,
    peer: &PeerAddr,
    hash: BlobHash,
    options: &FetchOptions,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Fetched, FetchError> {
    let was_here = on.blobs.has(hash).await?;
    on.blobs.pin(hash, &options.label).await?;
    let mut transfer = Transfer { on, peer, hash, options, progress, transferred: 0 };
    let mut failures = 0;
    loop {
        let before = transfer.transferred;
        let error = match transfer.run().await {
            Ok(size) => return Ok(Fetched { size, transferred: transfer.transferred }),
            Err(error) => error,
        };
        failures = if transfer.transferred > before { 1 } else { failures + 1 };
        let worth_another = matches!(error, FetchError::Broken(_) | FetchError::Stalled { .. });
        if !worth_another || failures > RETRIES {
            let hopeless = matches!(error, FetchError::TooLarge { .. } | FetchError::NotGranted(_));
            if hopeless && !was_here {
                transfer.on.blobs.unpin(hash, &options.label).await?;
            }
            return Err(error);
        }
        tracing::debug!(peer = %peer.key, %hash, %error, "a transfer is taken up anew");
        tokio::time::sleep(Duration::from_millis(100).saturating_mul(1 << failures)).await;
    }
}

struct Transfer<'a> {
    on: Fetcher<'a>,
    peer: &'a PeerAddr,
    hash: BlobHash,
    options: &'a FetchOptions,
    progress: &'a (dyn Fn(Progress) + Send + Sync),
    transferred: u64,
}

impl Transfer<'_> {
    async fn run(&mut self) -> Result<u64, FetchError> {
        if let Ok(size) = self.on.blobs.complete_size(self.hash).await {
            self.within_limit(size)?;
            (self.progress)(Progress { done: size, size });
            return Ok(size);
        }
        let dialed = self.on.dialer.connection(self.peer, Protocol::Blobs).await?;
        let fetched = self.ranges(&dialed.connection).await;
        if fetched.is_err() {
            self.on.dialer.forget(self.peer.key, Protocol::Blobs, &dialed.connection).await;
        }
        fetched
    }

    async fn ranges(&mut self, connection: &Connection) -> Result<u64, FetchError> {
        let size = match self.local().await?.validated_size() {
            Some(size) => size,
            None => {
                // The last chunk and its path prove the size before anything large is asked for.
                self.get(connection, ChunkRanges::last_chunk(), None).await?;
                let local = self.local().await?;
                let unproven = || FetchError::Broken("the peer did not prove the blob's size".into());
                local.validated_size().ok_or_else(unproven)?
            }
        };
        self.within_limit(size)?;
        let mut start = 0;
        while start < size {
            let end = start.saturating_add(RANGE).min(size);
            let local = self.local().await?;
            let missing = ChunkRanges::bytes(start..end) - local.ranges.clone();
            if !missing.is_empty() {
                self.get(connection, missing, Some(size)).await?;
            }
            start = end;
        }
        (self.progress)(Progress { done: size, size });
        match self.on.blobs.complete_size(self.hash).await {
            Ok(size) => Ok(size),
            Err(_) => Err(FetchError::Broken("the peer left something out".into())),
        }
    }

    /// One request. Every byte is verified against the hash before it is stored.
    async fn get(
        &mut self,
        connection: &Connection,
        ranges: ChunkRanges,
        size: Option<u64>,
    ) -> Result<(), FetchError> {
        let done = match size {
            Some(_) => self.local().await?.total_bytes(),
            None => 0,
        };
        let request = GetRequest::blob_ranges(self.hash.raw(), ranges);
        let mut stream = self.on.blobs.store.remote().execute_get(connection.clone(), request).stream();
        let mut of_this = 0;
        let stall = self.options.stall;
        loop {
            let item = tokio::time::timeout(stall, stream.next());
            match item.await.map_err(|_| FetchError::Stalled { after: stall })? {
                Some(GetProgressItem::Progress(bytes)) => {
                    self.transferred = self.transferred.saturating_add(bytes.saturating_sub(of_this));
                    of_this = bytes;
                    if let Some(size) = size {
                        (self.progress)(Progress { done: done.saturating_add(bytes).min(size), size });
                    }
                }
                Some(GetProgressItem::Done(stats)) => {
                    let rest = stats.payload_bytes_read.saturating_sub(of_this);
                    self.transferred = self.transferred.saturating_add(rest);
                    return Ok(());
                }
                Some(GetProgressItem::Error(error)) => return Err(self.explain(&error)),
                None => return Err(FetchError::Broken("the transfer ended early".into())),
            }
        }
    }

    fn explain(&self, error: &GetError) -> FetchError {
        if error.iroh_error_code() == Some(ERR_PERMISSION) {
            return FetchError::NotGranted(self.hash);
        }
        FetchError::Broken(format!("{error:#}"))
    }

    fn within_limit(&self, size: u64) -> Result<(), FetchError> {
        let limit = self.options.max_size;
        if size > limit { Err(FetchError::TooLarge { size, limit }) } else { Ok(()) }
    }

    async fn local(&self) -> Result<Bitfield, FetchError> {
        let observed = self.on.blobs.store.blobs().observe(self.hash.raw()).await;
        observed.map_err(|error| BlobError::store(error).into())
    }
}
