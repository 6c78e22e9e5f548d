//! Pulls one commit of a git repository, without its history, and lays its files out.
//!
//! ```text
//! POST git-upload-pack ──lines──► pack, in a file that has no name ──► objects by what they hash to ──► commit ─► trees ─► files
//!   by the client of all inputs            at most the job's disk           the commit must be one
//! ```
//!
//! Nothing here trusts the server. An object is known by the hash of its own content, so what hangs on the commit's id is what its buyer
//! named, or it is not laid out.

mod pack;
mod tree;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use gix_hash::ObjectId;
use gix_packetline::decode::{Stream, streaming};
use gix_packetline::{BandRef, PacketLineRef};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, Url};
use tokio::io::AsyncWriteExt;
use tradewind_proto::git;
use tradewind_proto::manifest::GitCommit;
use tradewind_proto::units::Bytes;

use self::pack::Pack;
use super::pull::{PullError, Puller, told};
use super::{Private, is_public_url};

/// The longest that one repository is unpacked and laid out.
const PATIENCE: Duration = Duration::from_secs(600);
/// How much is shown of what a server says.
const MAX_SAID: usize = 200;

/// What a pack and its trees may take of this machine.
#[derive(Debug, Clone)]
struct Limits {
    /// Bytes of all objects, and of all files.
    bytes: u64,
    /// Bytes of one object: it is held in memory.
    object: u64,
    /// Objects in the pack, and then files, links and directories.
    entries: u32,
    /// Directories.
    directories: u32,
    /// Until when.
    until: Instant,
    /// Nobody waits for it any more.
    stop: Arc<AtomicBool>,
}

impl Limits {
    fn new(bytes: Bytes) -> Self {
        Self {
            bytes: bytes.get(),
            object: 128 << 20,
            entries: 250_000,
            directories: 25_000,
            until: Instant::now() + PATIENCE,
            stop: Arc::default(),
        }
    }

    /// Whether to go on.
    fn check(&self) -> Result<(), Refused> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Refused::Here(std::io::ErrorKind::Interrupted.into()));
        }
        if Instant::now() > self.until {
            return Err(Refused::Content(format!("takes more than {} s to unpack", PATIENCE.as_secs())));
        }
        Ok(())
    }
}

/// Why a pack is not laid out.
#[derive(Debug)]
enum Refused {
    /// What came is not what may be laid out: said so that it goes on from the repository's address.
    Content(String),
    /// This machine's fault.
    Here(std::io::Error),
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        Self::Here(error)
    }
}

/// Ends the work when its lease no longer waits for it.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Puller {
    /// Lays a commit's files out as the directory `target`, whose parent is there. What was there before is removed. `progress` hears
    /// of every piece of the pack, which has at most `most` bytes, as its files have.
    pub(crate) async fn pull_commit(
        &self,
        commit: &GitCommit,
        token: Option<&str>,
        most: Bytes,
        target: &Path,
        progress: impl Fn(u64),
    ) -> Result<(), PullError> {
        commit.check().map_err(|error| PullError::Job(error.to_string()))?;
        if let Some(pack) = self.kept_pack(commit, most, target).await {
            let size = pack.metadata().map_or(0, |data| data.len());
            match self.lay_out(commit, pack, most, target).await {
                Ok(_) => {
                    tracing::info!(url = commit.url, "a repository was here already");
                    progress(size);
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(url = commit.url, ?error, "a repository that was kept is fetched again");
                    self.drop_pack(commit).await;
                }
            }
        }
        let response = self.ask_for(commit, token).await?;
        let pack = receive(response, &commit.url, most, draft(target)?, progress).await?;
        let pack = self.lay_out(commit, pack, most, target).await?;
        self.keep_pack(commit, pack).await;
        Ok(())
    }

    async fn ask_for(&self, commit: &GitCommit, token: Option<&str>) -> Result<Response, PullError> {
        let shown = &commit.url;
        let job = |what: String| PullError::Job(format!("{shown} {what}"));
        let url = format!("{}/{}", shown.trim_end_matches('/'), git::UPLOAD_PACK);
        let url = Url::parse(&url).map_err(|error| job(format!("is no address: {error}")))?;
        if !self.allow_private && !is_public_url(&url) {
            return Err(job(format!("cannot be fetched: {Private}")));
        }
        let (version, number) = git::VERSION;
        let mut request = self.client.post(url).header(version, number).header(CONTENT_TYPE, git::REQUEST);
        if commit.private {
            let token = token.ok_or_else(|| {
                PullError::Later("waiting for the token of a repository after a restart".into())
            })?;
            request = request.basic_auth(git::USER, Some(token));
        }
        let response = request.body(git::fetch(&commit.commit)).send().await;
        let response = response
            .map_err(|error| PullError::Later(format!("{shown} cannot be fetched: {}", told(error))))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_server_error() || matches!(status.as_u16(), 408 | 429) {
            return Err(PullError::Later(format!("{shown} answered {status}")));
        }
        Err(job(format!("answered {status}")))
    }

    /// Unpacks and lays out, one repository at a time: each may take some memory. The pack comes back.
    async fn lay_out(
        &self,
        commit: &GitCommit,
        pack: File,
        most: Bytes,
        target: &Path,
    ) -> Result<File, PullError> {
        let turn = self.unpacking.clone().acquire_owned().await;
        let turn = turn.map_err(|error| PullError::Later(error.to_string()))?;
        let limits = Limits::new(most);
        let _stop = StopOnDrop(limits.stop.clone());
        let (id, target) = (commit.commit.clone(), target.to_owned());
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            lay_out(&pack, &id, &target, &limits).map(|()| pack)
        });
        match done.await {
            Ok(Ok(pack)) => Ok(pack),
            Ok(Err(Refused::Content(what))) => Err(PullError::Job(format!("{} {what}", commit.url))),
            Ok(Err(Refused::Here(error))) => {
                Err(PullError::Later(format!("cannot lay out {}: {error}", commit.url)))
            }
            Err(error) => Err(PullError::Later(error.to_string())),
        }
    }

    /// A pack of an earlier lease.
    async fn kept_pack(&self, commit: &GitCommit, most: Bytes, target: &Path) -> Option<File> {
        let (cache, wanted) = (self.cache.clone(), commit.clone());
        let to = draft(target).ok()?;
        let taken = tokio::task::spawn_blocking(move || cache.take_pack(&wanted, most, to)).await;
        match taken.map_err(std::io::Error::other).and_then(|taken| taken) {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(url = commit.url, %error, "a repository cannot be taken from the cache");
                None
            }
        }
    }

    async fn keep_pack(&self, commit: &GitCommit, pack: File) {
        let (cache, wanted) = (self.cache.clone(), commit.clone());
        let kept = tokio::task::spawn_blocking(move || cache.keep_pack(&wanted, pack)).await;
        if let Err(error) = kept.map_err(std::io::Error::other).and_then(|kept| kept) {
            tracing::warn!(url = commit.url, %error, "a repository is not kept for others");
        }
    }

    async fn drop_pack(&self, commit: &GitCommit) {
        let (cache, wanted) = (self.cache.clone(), commit.clone());
        let dropped = tokio::task::spawn_blocking(move || cache.drop_pack(&wanted)).await;
        if let Err(error) = dropped.map_err(std::io::Error::other).and_then(|dropped| dropped) {
            tracing::warn!(url = commit.url, %error, "a damaged repository stays in the cache");
        }
    }
}

/// A file beside the target that has no name: it is encrypted where the target is, and gone with its last user.
fn draft(target: &Path) -> Result<File, PullError> {
    let dir: PathBuf = target.parent().map_or_else(PathBuf::new, Path::to_owned);
    tempfile::tempfile_in(dir)
        .map_err(|error| PullError::Later(format!("cannot make a file for a repository: {error}")))
}

/// Writes the pack that an answer holds.
async fn receive(
    response: Response,
    shown: &str,
    most: Bytes,
    to: File,
    progress: impl Fn(u64),
) -> Result<File, PullError> {
    let later = |error: std::io::Error| PullError::Later(format!("cannot write a repository: {error}"));
    let (mut stream, mut to) = (response.bytes_stream(), tokio::fs::File::from_std(to));
    let (mut answer, mut total) = (Answer { shown, buffer: Vec::new(), in_pack: false }, 0u64);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| PullError::Later(format!("{shown} broke off: {}", told(error))))?;
        total = total.saturating_add(chunk.len() as u64);
        if total > most.get() {
            return Err(PullError::Job(format!("{shown} is larger than the job's disk of {most}")));
        }
        let pack = answer.take(&chunk)?;
        progress(pack.len() as u64);
        to.write_all(&pack).await.map_err(later)?;
    }
    if !answer.in_pack || !answer.buffer.is_empty() {
        return Err(PullError::Later(format!("{shown} broke off")));
    }
    to.flush().await.map_err(later)?;
    Ok(to.into_std().await)
}

/// An answer to `fetch`: sections of lines, the last of which holds the pack on one of three bands.
struct Answer<'a> {
    shown: &'a str,
    buffer: Vec<u8>,
    in_pack: bool,
}

impl Answer<'_> {
    /// What a piece of the answer holds of the pack. No more is kept than one line that is not whole.
    fn take(&mut self, chunk: &[u8]) -> Result<Vec<u8>, PullError> {
        self.buffer.extend_from_slice(chunk);
        let (mut pack, mut at) = (Vec::new(), 0);
        loop {
            let (line, length) = match streaming(&self.buffer[at..]) {
                Ok(Stream::Complete { line, bytes_consumed }) => (line, bytes_consumed),
                Ok(Stream::Incomplete { .. }) => break,
                Err(_) => return Err(self.foreign()),
            };
            match line {
                PacketLineRef::Data(_) if self.in_pack => match line.decode_band() {
                    Ok(BandRef::Data(data)) => pack.extend_from_slice(data),
                    Ok(BandRef::Progress(_)) => {}
                    Ok(BandRef::Error(error)) => {
                        return Err(PullError::Later(format!("{} says: {}", self.shown, said(error))));
                    }
                    Err(_) => return Err(self.foreign()),
                },
                PacketLineRef::Data(text) => {
                    if let Some(error) = line.check_error() {
                        return Err(PullError::Job(format!("{} says: {}", self.shown, said(error.0))));
                    }
                    self.in_pack = text.trim_ascii_end() == b"packfile";
                }
                PacketLineRef::Flush | PacketLineRef::Delimiter | PacketLineRef::ResponseEnd => {}
            }
            at += length;
        }
        self.buffer.drain(..at);
        Ok(pack)
    }

    fn foreign(&self) -> PullError {
        PullError::Job(format!("{} does not answer as a git server does", self.shown))
    }
}

/// What a server says, as it may be shown.
fn said(text: &[u8]) -> String {
    String::from_utf8_lossy(text.trim_ascii()).chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
}

/// Lays the files of a commit out that a pack holds.
fn lay_out(pack: &File, commit: &str, target: &Path, limits: &Limits) -> Result<(), Refused> {
    let id = ObjectId::from_hex(commit.as_bytes())
        .map_err(|_| Refused::Content(format!("has no commit `{commit}`")))?;
    let mut pack = Pack::open(pack, id.kind(), limits)?;
    tree::clear(target)?;
    tree::lay_out(&mut pack, id, target, limits)
}

#[cfg(test)]
mod tests;
