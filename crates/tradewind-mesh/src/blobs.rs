//! iroh-blobs: inputs, checkpoints and results by their BLAKE3 hash.
//!
//! **A hash is not a capability.** Hashes appear in receipts and job manifests, so a blob is served only to a key that
//! was granted it, under a label: usually the lease's id. Only what is meant for everybody is shared with any key. Releasing the label ends the grants, and lets the collector
//! take what no other label keeps.
//!
//! ```text
//!  add ──▶ kept under a label ──▶ grant(label, hash, key) ──▶ served ──▶ release(label) ──▶ collected
//! ```
//!
//! Labels of kept blobs live on disk beside them; grants live in memory, so a node that restarts grants again what its
//! leases still need. Push stays off: nobody writes into another's store.

mod fetch;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use iroh_blobs::api::Store;
use iroh_blobs::api::blobs::{AddPathOptions, BlobStatus, ExportMode, ExportOptions, ImportMode};
use iroh_blobs::provider::events::{
    AbortReason, ConnectMode, EventMask, EventSender, ObserveMode, ProviderMessage, RequestMode,
};
use iroh_blobs::store::GcConfig;
use iroh_blobs::store::fs::FsStore;
use iroh_blobs::store::fs::options::Options;
use iroh_blobs::{BlobFormat, BlobsProtocol, Hash};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tradewind_proto::ids::MeshKey;

pub use fetch::{FetchError, FetchOptions, Fetched, Progress};
pub(crate) use fetch::{Fetcher, fetch};

/// Grants under one label at most.
const GRANTS_PER_LABEL: usize = 10_000;
/// Labels at most.
const LABELS: usize = 10_000;

/// A blob's BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobHash([u8; 32]);

/// A text that is no blob hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a blob hash (64 hex digits)")]
pub struct BlobHashError(String);

impl BlobHash {
    /// The hash with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash of `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }

    fn raw(self) -> Hash {
        Hash::from_bytes(self.0)
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobHash({self})")
    }
}

impl FromStr for BlobHash {
    type Err = BlobHashError;
    fn from_str(text: &str) -> Result<Self, BlobHashError> {
        let mut bytes = [0; 32];
        let error = |_| BlobHashError(text.chars().take(80).collect());
        hex::decode_to_slice(text, &mut bytes).map_err(error)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for BlobHash {
    type Error = BlobHashError;
    fn try_from(text: String) -> Result<Self, BlobHashError> {
        text.parse()
    }
}

impl From<BlobHash> for String {
    fn from(hash: BlobHash) -> Self {
        hash.to_string()
    }
}

/// A stored blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    /// Its hash.
    pub hash: BlobHash,
    /// Its size in bytes.
    pub size: u64,
}

/// The name under which blobs are kept, for instance a lease's id: letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

/// A text that is no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a label is 1 to 128 letters, digits, `-`, `_` or `.`")]
pub struct LabelError;

impl FromStr for Label {
    type Err = LabelError;
    fn from_str(text: &str) -> Result<Self, LabelError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let valid = (1..=128).contains(&text.len()) && text.chars().all(allowed);
        if valid { Ok(Self(text.into())) } else { Err(LabelError) }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Label {
    fn tag(&self, hash: BlobHash) -> String {
        format!("{}{hash}", self.tag_prefix())
    }

    fn tag_prefix(&self) -> String {
        format!("keep/{}/", self.0)
    }
}

/// Why the blob store failed.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// A path was not usable.
    #[error("cannot use {}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The blob is not here, or not whole.
    #[error("blob {0} is not complete on this node")]
    Incomplete(BlobHash),
    /// The blob is larger than allowed.
    #[error("a blob of {size} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// There are too many grants.
    #[error("too many grants")]
    TooManyGrants,
    /// The store failed.
    #[error("the blob store failed: {0}")]
    Store(String),
}

impl BlobError {
    fn store(error: impl fmt::Display) -> Self {
        // The store's errors carry backtraces in `Debug` and borrow no source; their text is what helps.
        Self::Store(format!("{error:#}"))
    }
}

/// A blob and who may fetch it: one key, or any.
type Grant = (BlobHash, Option<MeshKey>);

#[derive(Debug, Default)]
struct Grants {
    by_label: HashMap<Label, HashSet<Grant>>,
    /// How many labels grant the same blob to the same key.
    granted: HashMap<Grant, usize>,
}

impl Grants {
    fn allow(&self, hash: BlobHash, peer: MeshKey) -> bool {
        [Some(peer), None].into_iter().any(|to| self.granted.contains_key(&(hash, to)))
    }

    fn add(&mut self, label: &Label, hash: BlobHash, peer: Option<MeshKey>) -> Result<(), BlobError> {
        if self.by_label.len() >= LABELS && !self.by_label.contains_key(label) {
            return Err(BlobError::TooManyGrants);
        }
        let of_label = self.by_label.entry(label.clone()).or_default();
        if of_label.len() >= GRANTS_PER_LABEL {
            return Err(BlobError::TooManyGrants);
        }
        if of_label.insert((hash, peer)) {
            *self.granted.entry((hash, peer)).or_default() += 1;
        }
        Ok(())
    }

    fn release(&mut self, label: &Label) {
        for grant in self.by_label.remove(label).unwrap_or_default() {
            if let Some(labels) = self.granted.get_mut(&grant) {
                *labels -= 1;
                if *labels == 0 {
                    self.granted.remove(&grant);
                }
            }
        }
    }
}

/// The blobs of one node, on disk.
#[derive(Clone)]
pub struct Blobs {
    store: Store,
    grants: Arc<Mutex<Grants>>,
}

impl Blobs {
    /// Opens the store in `root`. What no label keeps is collected every `collect_every`.
    ///
    /// # Errors
    /// When the directory cannot be used or its database is damaged.
    pub async fn open(root: &Path, collect_every: Duration) -> Result<Self, BlobError> {
        let path_error = |source| BlobError::Path { path: root.into(), source };
        let root = std::path::absolute(root).map_err(path_error)?;
        tokio::fs::create_dir_all(&root).await.map_err(path_error)?;
        let mut options = Options::new(&root);
        options.gc = Some(GcConfig { interval: collect_every, add_protected: None });
        let store =
            FsStore::load_with_opts(root.join("blobs.db"), options).await.map_err(BlobError::store)?;
        Ok(Self { store: store.into(), grants: Arc::default() })
    }

    /// Stores a copy of a file, kept under `label`.
    ///
    /// # Errors
    /// When the file cannot be read or the store fails.
    pub async fn add_path(&self, path: &Path, label: &Label) -> Result<BlobRef, BlobError> {
        let absolute =
            std::path::absolute(path).map_err(|source| BlobError::Path { path: path.into(), source })?;
        let options = AddPathOptions { path: absolute, format: BlobFormat::Raw, mode: ImportMode::Copy };
        let tag =
            self.store.blobs().add_path_with_opts(options).temp_tag().await.map_err(BlobError::store)?;
        self.keep(BlobHash(*tag.hash().as_bytes()), label).await
    }

    /// Stores bytes, kept under `label`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn add_bytes(&self, content: Bytes, label: &Label) -> Result<BlobRef, BlobError> {
        let tag = self.store.blobs().add_bytes(content).temp_tag().await.map_err(BlobError::store)?;
        self.keep(BlobHash(*tag.hash().as_bytes()), label).await
    }

    /// The whole blob, if it is no larger than `limit`.
    ///
    /// # Errors
    /// When the blob is not complete here, is larger, or the store fails.
    pub async fn read(&self, hash: BlobHash, limit: u64) -> Result<Bytes, BlobError> {
        let size = self.complete_size(hash).await?;
        if size > limit {
            return Err(BlobError::TooLarge { size, limit });
        }
        self.store.blobs().get_bytes(hash.raw()).await.map_err(BlobError::store)
    }

    /// Writes a complete blob to `target`, which appears whole or not at all.
    ///
    /// # Errors
    /// When the blob is not complete here, or the file cannot be written.
    pub async fn export(&self, hash: BlobHash, target: &Path) -> Result<u64, BlobError> {
        let path_error = |source| BlobError::Path { path: target.into(), source };
        let size = self.complete_size(hash).await?;
        let target = std::path::absolute(target).map_err(path_error)?;
        let mut side = target.clone().into_os_string();
        side.push(format!(".part-{:08x}", rand::random::<u32>()));
        let side = PathBuf::from(side);
        let options = ExportOptions { hash: hash.raw(), mode: ExportMode::Copy, target: side.clone() };
        let exported = self.store.blobs().export_with_opts(options).finish().await.map_err(BlobError::store);
        let moved = match exported {
            Ok(_) => tokio::fs::rename(&side, &target).await.map_err(path_error),
            Err(error) => Err(error),
        };
        if moved.is_err() {
            // Whatever was written is of no use; the error that matters is the first one.
            let _ = tokio::fs::remove_file(&side).await;
        }
        moved.map(|()| size)
    }

    /// Whether the whole blob is here.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has(&self, hash: BlobHash) -> Result<bool, BlobError> {
        self.store.blobs().has(hash.raw()).await.map_err(BlobError::store)
    }

    /// Lets `peer` fetch `hash` until `label` is released.
    ///
    /// # Errors
    /// When there are too many grants.
    pub fn grant(&self, label: &Label, hash: BlobHash, peer: MeshKey) -> Result<(), BlobError> {
        self.grants().add(label, hash, Some(peer))
    }

    /// Lets anybody fetch `hash` until `label` is released.
    ///
    /// # Errors
    /// When there are too many grants.
    pub fn share(&self, label: &Label, hash: BlobHash) -> Result<(), BlobError> {
        self.grants().add(label, hash, None)
    }

    /// Ends a label: its grants at once, its blobs when the collector next runs, unless another label keeps them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn release(&self, label: &Label) -> Result<(), BlobError> {
        self.grants().release(label);
        self.store.tags().delete_prefix(label.tag_prefix()).await.map_err(BlobError::store)?;
        Ok(())
    }

    /// Keeps a blob, whole or partial, under `label`.
    async fn keep(&self, hash: BlobHash, label: &Label) -> Result<BlobRef, BlobError> {
        self.pin(hash, label).await?;
        Ok(BlobRef { hash, size: self.complete_size(hash).await? })
    }

    async fn pin(&self, hash: BlobHash, label: &Label) -> Result<(), BlobError> {
        let value = iroh_blobs::HashAndFormat::raw(hash.raw());
        self.store.tags().set(label.tag(hash), value).await.map_err(BlobError::store)
    }

    async fn unpin(&self, hash: BlobHash, label: &Label) -> Result<(), BlobError> {
        self.store.tags().delete(label.tag(hash)).await.map_err(BlobError::store)?;
        Ok(())
    }

    async fn complete_size(&self, hash: BlobHash) -> Result<u64, BlobError> {
        match self.store.blobs().status(hash.raw()).await.map_err(BlobError::store)? {
            BlobStatus::Complete { size } => Ok(size),
            BlobStatus::NotFound | BlobStatus::Partial { .. } => Err(BlobError::Incomplete(hash)),
        }
    }

    /// The serving side, which asks the grants about every request.
    pub(crate) fn protocol(&self) -> BlobsProtocol {
        let mask = EventMask {
            connected: ConnectMode::Intercept,
            get: RequestMode::Intercept,
            get_many: RequestMode::Disabled,
            push: RequestMode::Disabled,
            observe: ObserveMode::Intercept,
            ..EventMask::DEFAULT
        };
        let (events, requests) = EventSender::channel(64, mask);
        tokio::spawn(answer_requests(requests, self.grants.clone()));
        BlobsProtocol::new(&self.store, Some(events))
    }

    /// Writes everything down and stops the store.
    ///
    /// # Errors
    /// When the store failed before.
    pub async fn close(&self) -> Result<(), BlobError> {
        self.store.shutdown().await.map_err(BlobError::store)
    }

    fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Allows a request if its blob was granted to the key that the connection's handshake proved.
async fn answer_requests(mut requests: mpsc::Receiver<ProviderMessage>, grants: Arc<Mutex<Grants>>) {
    let mut peers: HashMap<u64, MeshKey> = HashMap::new();
    while let Some(message) = requests.recv().await {
        match message {
            ProviderMessage::ClientConnected(connected) => {
                let verdict = match connected.endpoint_id {
                    Some(id) => {
                        peers.insert(connected.connection_id, MeshKey::from_bytes(*id.as_bytes()));
                        Ok(())
                    }
                    None => Err(AbortReason::Permission),
                };
                // The connection may be gone: then nobody waits for the answer.
                let _ = connected.tx.send(verdict).await;
            }
            ProviderMessage::ConnectionClosed(closed) => {
                peers.remove(&closed.connection_id);
            }
            ProviderMessage::GetRequestReceived(asked) => {
                let hash = BlobHash(*asked.request.hash.as_bytes());
                let granted = asked.request.ranges.is_blob()
                    && peers.get(&asked.connection_id).is_some_and(|peer| {
                        grants.lock().unwrap_or_else(PoisonError::into_inner).allow(hash, *peer)
                    });
                let verdict = if granted { Ok(()) } else { Err(AbortReason::Permission) };
                let _ = asked.tx.send(verdict).await;
            }
            ProviderMessage::ObserveRequestReceived(asked) => {
                let _ = asked.tx.send(Err(AbortReason::Permission)).await;
            }
            // The mask asks for none of these, and push and get-many are off.
            ProviderMessage::ClientConnectedNotify(_)
            | ProviderMessage::GetRequestReceivedNotify(_)
            | ProviderMessage::GetManyRequestReceived(_)
            | ProviderMessage::GetManyRequestReceivedNotify(_)
            | ProviderMessage::PushRequestReceived(_)
            | ProviderMessage::PushRequestReceivedNotify(_)
            | ProviderMessage::ObserveRequestReceivedNotify(_)
            | ProviderMessage::Throttle(_) => {}
        }
    }
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blobs").finish_non_exhaustive()
    }
}
