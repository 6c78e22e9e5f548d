//! Brings a job's inputs and image to this machine: from the buyer over the mesh, or from the web by the provider itself.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tradewind_mesh::PeerAddr;
use tradewind_mesh::blobs::{BlobHash, FetchError, FetchOptions, Progress};
use tradewind_proto::manifest::{Input, Source};
use tradewind_proto::units::Bytes;

use super::record::Record;
use super::{Inner, outputs};
use crate::at_rest;
use crate::runtime::{Runtime, RuntimeError};
use crate::web::PullError;

/// Why a job could not be prepared.
#[derive(Debug)]
pub(super) enum PrepareError {
    /// The job's own fault: it will not get better.
    Job(String),
    /// It may get better.
    Later(String),
}

impl From<PullError> for PrepareError {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Job(reason) => Self::Job(reason),
            PullError::Later(reason) => Self::Later(reason),
        }
    }
}

/// Progress, shared with the worker's reports.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulled(Arc<(AtomicU64, AtomicU64)>);

impl Pulled {
    pub(super) fn get(&self) -> (Bytes, Bytes) {
        (Bytes::new(self.0.0.load(Ordering::Relaxed)), Bytes::new(self.0.1.load(Ordering::Relaxed)))
    }

    fn set_total(&self, total: u64) {
        self.0.0.store(0, Ordering::Relaxed);
        self.0.1.store(total, Ordering::Relaxed);
    }

    fn add(&self, bytes: u64) {
        self.0.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Puts every input in its place, and the image into the runtime.
pub(super) async fn prepare(
    inner: &Inner,
    record: &Record,
    runtime: &dyn Runtime,
    pulled: &Pulled,
    token: Option<&str>,
) -> Result<(), PrepareError> {
    let known = |input: &Input| match &input.source {
        Source::Blob { size, .. } => size.get(),
        Source::Https(file) => file.size.map_or(0, Bytes::get),
        Source::Git(_) => 0,
    };
    let total = record.manifest.inputs.iter().fold(0u64, |sum, input| sum.saturating_add(known(input)));
    if total > inner.config.max_input.get() || total > record.manifest.share.disk.get() {
        let limit = inner.config.max_input.min(record.manifest.share.disk);
        return Err(PrepareError::Job(format!("the inputs have {}, at most {limit} fit", Bytes::new(total))));
    }
    pulled.set_total(total);
    let work = inner.work_dir(record.hosting.id);
    make_work_dir(inner.config.encrypts, work.clone()).await?;
    // Repositories go first, the outer ones before those in them: what else lies below them is laid over their files.
    let (mut repositories, files): (Vec<&Input>, Vec<&Input>) =
        record.manifest.inputs.iter().partition(|input| matches!(input.source, Source::Git(_)));
    repositories.sort_by_key(|input| &input.target);
    for input in repositories.into_iter().chain(files) {
        place(inner, record, input, &work, pulled, token).await?;
    }
    if let Some(image) = &record.manifest.image
        && let Some(archive) = image.archive
    {
        let file = inner.config.state_dir.join("work").join(format!("{}.image", record.hosting.id));
        fetch(inner, record, BlobHash::from_bytes(archive), inner.config.max_input.get(), &file, pulled)
            .await?;
        let imported = runtime.import(record.hosting.id, &file, image).await;
        let removed = tokio::fs::remove_file(&file).await;
        if let Err(error) = removed {
            tracing::warn!(%error, file = %file.display(), "an image archive is left behind");
        }
        imported.map_err(|error| match error {
            RuntimeError::Unavailable(_) | RuntimeError::Io { .. } => PrepareError::Later(error.to_string()),
            RuntimeError::Conflict(_)
            | RuntimeError::Absent(_)
            | RuntimeError::StillRunning(_)
            | RuntimeError::Unsupported { .. }
            | RuntimeError::Start(_) => PrepareError::Job(error.to_string()),
        })?;
    }
    Ok(())
}

async fn make_work_dir(encrypted: bool, work: PathBuf) -> Result<(), PrepareError> {
    if !encrypted {
        return std::fs::create_dir_all(&work)
            .map_err(|error| later("cannot make the work directory", &error));
    }
    let made = tokio::task::spawn_blocking(move || at_rest::make(&work)).await;
    let made = made.map_err(|error| PrepareError::Later(error.to_string()))?;
    made.map_err(|error| PrepareError::Later(format!("cannot make an encrypted work directory: {error}")))
}

async fn place(
    inner: &Inner,
    record: &Record,
    input: &Input,
    work: &Path,
    pulled: &Pulled,
    token: Option<&str>,
) -> Result<(), PrepareError> {
    let target = work.join(&input.target);
    let in_the_way =
        || PrepareError::Job(format!("what another input brought is in the way of `{}`", input.target));
    if let Some(parent) = target.parent() {
        tokio::fs::create_dir_all(parent).await.map_err(|error| {
            let is_in_the_way = matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::AlreadyExists);
            if is_in_the_way { in_the_way() } else { later("cannot make an input's directory", &error) }
        })?;
    }
    if !matches!(input.source, Source::Git(_)) && target.is_dir() {
        return Err(in_the_way());
    }
    match &input.source {
        Source::Blob { hash, size } => {
            fetch(inner, record, BlobHash::from_bytes(*hash), size.get(), &target, pulled).await?;
        }
        Source::Https(file) => {
            let (disk, progress) = (record.manifest.share.disk, |bytes| pulled.add(bytes));
            inner.web.pull(file, disk, inner.now(), &target, progress).await?;
        }
        Source::Git(commit) => {
            let (disk, progress) = (record.manifest.share.disk, |bytes| pulled.add(bytes));
            return Ok(inner.web.pull_commit(commit, token, disk, &target, progress).await?);
        }
    }
    let mode = if input.executable { 0o755 } else { 0o644 };
    tokio::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode))
        .await
        .map_err(|error| later("cannot set an input's mode", &error))
}

async fn fetch(
    inner: &Inner,
    record: &Record,
    hash: BlobHash,
    limit: u64,
    target: &Path,
    pulled: &Pulled,
) -> Result<(), PrepareError> {
    let address: PeerAddr = record
        .owner_address
        .parse()
        .map_err(|_| PrepareError::Job("the buyer's address is malformed".into()))?;
    let options = FetchOptions::new(limit, outputs::label(record.hosting.id));
    let before = AtomicU64::new(0);
    let progress = |now: Progress| {
        pulled.add(now.done.saturating_sub(before.swap(now.done, Ordering::Relaxed)));
    };
    let transport = &inner.parts.transport;
    match transport.fetch(&address, hash, &options, &progress).await {
        Ok(_) => {}
        Err(error @ (FetchError::TooLarge { .. } | FetchError::NotGranted(_))) => {
            return Err(PrepareError::Job(format!("an input cannot be fetched from the buyer: {error}")));
        }
        Err(error) => return Err(PrepareError::Later(format!("fetching an input from the buyer: {error}"))),
    }
    transport.export(hash, target).await.map(|_| ()).map_err(|error| PrepareError::Later(error.to_string()))
}

fn later(what: &str, error: &std::io::Error) -> PrepareError {
    PrepareError::Later(format!("{what}: {error}"))
}
