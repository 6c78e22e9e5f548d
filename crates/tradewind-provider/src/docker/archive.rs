//! Importing an image archive that a stranger made.
//!
//! ```text
//!  file ─► BLAKE3 as named ─► layout (docker's or OCI's) ─► every layer unpacked and counted ─► a new docker archive ─► engine
//!                              entries, links, JSON bounded   bytes, files, digests, no sparse    our tag only
//! ```
//!
//! The engine never sees the stranger's archive: it would honour its tags (`busybox:latest`) and unpack a bomb. What it gets is
//! written anew from checked parts, as a docker archive, which engines of every age take.

mod layer;
mod layout;

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::ImportImageOptionsBuilder;
use bytes::Bytes as Piece;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::units::Bytes;

use super::engine::{CallError, Engine};
use super::{Shared, image};
use crate::runtime::RuntimeError;
use layout::{Layout, Part};

/// What is sent to the engine at once, and how many of them wait.
const PIECE: usize = 1 << 18;
const PIECES_WAITING: usize = 8;

/// Bounds of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Of the archive's file.
    pub archive: Bytes,
    /// Of all its layers, unpacked; of a pulled image too.
    pub unpacked: Bytes,
    /// Files in all layers.
    pub files: u64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self { archive: Bytes::gib(40), unpacked: Bytes::gib(100), files: 4_000_000 }
    }
}

/// Why an archive was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Its bytes are not those that its name promises.
    #[error("the archive's hash is {found}, not {expected}")]
    WrongHash {
        /// As named.
        expected: String,
        /// As read.
        found: String,
    },
    /// It is larger than this provider takes.
    #[error("the archive has more than {limit} {what}")]
    TooLarge {
        /// What is too much.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// It is no image archive, or contradicts itself.
    #[error("it is no sound image archive: {0}")]
    Malformed(String),
    /// It is sound but not for this machine.
    #[error("the image does not run here: {0}")]
    Foreign(String),
    /// It cannot be read.
    #[error("the archive cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// The engine did not take it.
    #[error(transparent)]
    Engine(#[from] RuntimeError),
}

impl From<CallError> for ImportError {
    fn from(error: CallError) -> Self {
        Self::Engine(error.into())
    }
}

fn malformed(why: impl Into<String>) -> ImportError {
    ImportError::Malformed(why.into())
}

/// An image whose every part was checked.
struct Checked {
    file: File,
    layout: Layout,
    digest: String,
    diff_ids: Vec<String>,
}

impl Shared {
    /// Imports the archive at `path`, and lists its image as brought.
    pub(super) async fn import(
        &self,
        lease: Option<LeaseId>,
        path: &Path,
        archive: [u8; 32],
    ) -> Result<String, ImportError> {
        let (engine, name) = (&self.engine, image::imported_name(&archive));
        // Else what is here already could be removed before it is listed for this lease.
        let _held = self.cache.hold_named(&name).await?;
        let announced = self.cache.announce(engine, &name, false).await?;
        let outcome = import(engine, path, archive, self.config.images, self.config.pull_within).await;
        match image::inspect(engine, &name).await? {
            Some(found) => self.cache.arrived(announced, &found, lease).await?,
            None if is_final(&outcome) => self.cache.did_not_come(announced).await?,
            None => {}
        }
        outcome
    }
}

/// Whether nothing more can come of it. An engine that was not heard of any more may have the image soon.
fn is_final(outcome: &Result<String, ImportError>) -> bool {
    !matches!(outcome, Err(ImportError::Engine(_)))
}

/// Checks the archive and gives what is sound of it to the engine; returns the image's digest.
async fn import(
    engine: &Engine,
    path: &Path,
    archive: [u8; 32],
    limits: ImageLimits,
    within: Duration,
) -> Result<String, ImportError> {
    let name = image::imported_name(&archive);
    let source = path.to_owned();
    let checked = blocking(move || check(&source, &archive, limits)).await?;
    let (digest, diff_ids) = (checked.digest.clone(), checked.diff_ids.clone());
    if image::inspect(engine, &name).await?.is_some_and(|found| found.id.as_ref() == Some(&digest)) {
        return Ok(digest);
    }
    load(engine, checked, name.clone(), within).await?;
    let found = image::inspect(engine, &name).await?.ok_or_else(|| {
        RuntimeError::Unavailable(format!("the engine took the archive and does not know {name}"))
    })?;
    let layers = found.root_fs.and_then(|root| root.layers).unwrap_or_default();
    if found.id.as_ref() != Some(&digest) && layers != diff_ids {
        return Err(RuntimeError::Unavailable(format!("the engine has another image as {name}")).into());
    }
    Ok(digest)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImportError> + Send + 'static,
) -> Result<T, ImportError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.unwrap_or_else(|panic| Err(std::io::Error::other(panic).into()))
}

fn check(path: &PathBuf, archive: &[u8; 32], limits: ImageLimits) -> Result<Checked, ImportError> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() > limits.archive.get() {
        return Err(ImportError::TooLarge { what: "bytes", limit: limits.archive.get() });
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut file)?;
    let found = hasher.finalize();
    if found.as_bytes() != archive {
        return Err(ImportError::WrongHash { expected: hex::encode(archive), found: found.to_string() });
    }
    file.seek(SeekFrom::Start(0))?;
    let layout = Layout::read(&file)?;
    let config = layout.config(&file)?;
    let digest = sha256(&config);
    let diff_ids = layout::diff_ids(&config)?;
    if diff_ids.len() != layout.layers.len() {
        return Err(malformed(format!(
            "{} layers and {} digests of layers",
            layout.layers.len(),
            diff_ids.len()
        )));
    }
    let mut budget = layer::Budget::new(limits);
    for (number, (part, expected)) in layout.layers.iter().zip(&diff_ids).enumerate() {
        let found = layer::check(part.open(&file)?, &mut budget)?;
        if found != *expected {
            return Err(malformed(format!("layer {number} is {found}, and its image says {expected}")));
        }
    }
    Ok(Checked { file, layout, digest, diff_ids })
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

async fn load(engine: &Engine, checked: Checked, name: String, within: Duration) -> Result<(), ImportError> {
    let (sender, receiver) = mpsc::channel(PIECES_WAITING);
    let writing = tokio::spawn(blocking(move || {
        let mut pieces = Pieces { sender, piece: Vec::with_capacity(PIECE) };
        write(&checked, &name, &mut pieces)?;
        Ok(pieces.flush()?)
    }));
    let body = futures::stream::unfold(receiver, |mut receiver| async move {
        let piece: Piece = receiver.recv().await?;
        Some((Ok::<_, std::io::Error>(piece), receiver))
    });
    let loaded = engine
        .call_within(within, "load an image", |docker| async move {
            let mut progress =
                docker.import_image_stream(ImportImageOptionsBuilder::default().build(), body, None);
            while let Some(step) = progress.next().await {
                step?;
            }
            Ok::<(), Error>(())
        })
        .await;
    let written = writing.await.unwrap_or_else(|panic| Err(std::io::Error::other(panic).into()));
    // Where the engine refused, the writer failed only because nobody read on.
    loaded?;
    written
}

/// Writes the archive anew: the configuration and the layers as they came, under our name alone.
fn write(checked: &Checked, name: &str, to: &mut impl Write) -> Result<(), ImportError> {
    let mut tar = tar::Builder::new(to);
    let config = format!("{}.json", checked.digest.trim_start_matches("sha256:"));
    append(&mut tar, &config, checked.layout.config.length, checked.layout.config.open(&checked.file)?)?;
    let mut layers = Vec::new();
    for (number, part) in checked.layout.layers.iter().enumerate() {
        let path = format!("{number}/layer.tar");
        append(&mut tar, &path, part.length, part.open(&checked.file)?)?;
        layers.push(path);
    }
    let manifest =
        serde_json::json!([{ "Config": config, "RepoTags": [name], "Layers": layers }]).to_string();
    append(&mut tar, "manifest.json", u64::try_from(manifest.len()).unwrap_or(0), manifest.as_bytes())?;
    tar.finish()?;
    Ok(())
}

fn append(
    tar: &mut tar::Builder<&mut impl Write>,
    path: &str,
    length: u64,
    data: impl Read,
) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    tar.append_data(&mut header, path, data)
}

/// A writer that hands pieces to the request's body; its reader bounds it.
struct Pieces {
    sender: mpsc::Sender<Piece>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = PIECE - self.piece.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.piece.extend_from_slice(taken);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.sender
            .blocking_send(piece.into())
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))
    }
}

impl Part {
    fn open<'a>(&self, file: &'a File) -> std::io::Result<impl Read + 'a> {
        let mut file = file;
        file.seek(SeekFrom::Start(self.offset))?;
        Ok(std::io::BufReader::with_capacity(1 << 16, file).take(self.length))
    }
}

#[cfg(test)]
mod tests;
