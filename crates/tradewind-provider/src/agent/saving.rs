//! Snapshots of what a running job saves, for its buyer to fetch while the job goes on.
//!
//! ```text
//! work/checkpoint ── look, look again ──► copy by open descriptors ── same as before? ──► granted, reported
//!                                                   └ changed meanwhile: dropped, tried again
//! ```
//!
//! The job may change its directory at any moment, so nothing is found by its path twice: what is copied is what was opened
//! below the work directory, without links. The snapshot whose files the buyer was told last stays until it asks again, however
//! long it fetches; beside it there are the newest one, and the one that is being taken.
//!
//! Failure paths: too many files, too much, or a disk that is nearly full is told in the log and no snapshot is taken; after a
//! restart of the agent the next snapshot is taken anew.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, statvfs};
use rustix::io::Errno;
use tokio::time::Instant;
use tradewind_mesh::blobs::{BlobError, Label};
use tradewind_proto::ids::LeaseId;
use tradewind_proto::manifest::check_path;
use tradewind_proto::report::{OutputFile, Stage};
use tradewind_proto::saving::{self, MAX_FILES, Rest, Saved};
use tradewind_proto::units::Bytes;

use super::Inner;
use super::record::Hosted;

/// Between two looks. A snapshot that took long is followed by a pause of so many times as long.
const LOOK: Duration = Duration::from_secs(1);
const PAUSE: u32 = 4;
/// Entries of the checkpoint's directories that are looked at.
const MAX_ENTRIES: usize = 8 * MAX_FILES;
/// What a snapshot leaves free on the provider's disk.
const SPARE: Bytes = Bytes::mib(512);

/// Why no snapshot was taken.
#[derive(Debug, thiserror::Error)]
enum SaveError {
    #[error("cannot read the checkpoint: {0}")]
    Read(#[from] std::io::Error),
    #[error("the checkpoint has more than {MAX_FILES} files; pack them into fewer")]
    TooMany,
    #[error("the checkpoint of {size} does not fit into the disk's free {free}")]
    Full { size: Bytes, free: Bytes },
    #[error("{0}")]
    Limit(#[from] saving::SnapshotError),
    #[error("cannot share it: {0}")]
    Share(#[from] BlobError),
}

/// One file as a look finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    path: String,
    state: FileState,
}

/// What tells two states of a file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileState {
    inode: u64,
    size: u64,
    changed: (i64, u64),
    executable: bool,
}

impl FileState {
    fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            executable: stat.st_mode & 0o100 != 0,
        }
    }
}

/// Places for snapshots: the newest, the one that the buyer fetches, and the one that is being taken.
const PLACES: usize = 3;

/// The labels of a lease's snapshots, by place.
pub(super) fn labels(lease: LeaseId) -> [Label; PLACES] {
    #[expect(clippy::expect_used, reason = "a lease id and a suffix of letters are a label")]
    ["a", "b", "c"].map(|place| format!("{lease}.saved-{place}").parse().expect("a label"))
}

/// A job's snapshots.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    newest: Option<Snapshot>,
    /// Where the one is that the buyer was told of last.
    told: Option<usize>,
}

#[derive(Debug)]
struct Snapshot {
    saved: Saved,
    files: Vec<OutputFile>,
    place: usize,
}

impl Snapshots {
    pub(super) fn newest(&self) -> Option<Saved> {
        self.newest.as_ref().map(|newest| newest.saved)
    }

    /// The newest one, for its buyer to fetch; it stays until the next is asked for.
    pub(super) fn tell(&mut self) -> Option<(Saved, Vec<OutputFile>)> {
        let newest = self.newest.as_ref()?;
        self.told = Some(newest.place);
        Some((newest.saved, newest.files.clone()))
    }

    /// A place that nobody needs.
    fn free(&self) -> usize {
        let newest = self.newest.as_ref().map(|newest| newest.place);
        let is_free = |place: &usize| Some(*place) != newest && Some(*place) != self.told;
        (0..PLACES).find(is_free).unwrap_or_default()
    }
}

/// Takes snapshots of a job that has a checkpoint, until it ends.
pub(super) async fn follow(inner: Arc<Inner>, hosted: Arc<Hosted>) {
    let (checkpoint, disk) = {
        let record = hosted.record.lock().await;
        let Some(checkpoint) = record.manifest.checkpoint.clone() else { return };
        (checkpoint, record.manifest.share.disk)
    };
    let mut saver = Saver { inner, hosted, checkpoint, disk, rest: Rest::default(), told: String::new() };
    saver.work().await;
}

struct Saver {
    inner: Arc<Inner>,
    hosted: Arc<Hosted>,
    checkpoint: String,
    disk: Bytes,
    rest: Rest<Vec<Found>>,
    /// The last problem that was told.
    told: String,
}

impl Saver {
    async fn work(&mut self) {
        let mut reports = self.hosted.report.subscribe();
        loop {
            let running = |stage: &Stage| matches!(stage, Stage::Running | Stage::Paused | Stage::Stopping);
            let over =
                |stage: &Stage| matches!(stage, Stage::Collecting | Stage::Finished | Stage::Failed { .. });
            let seen = reports.wait_for(|report| running(&report.stage) || over(&report.stage)).await;
            if seen.is_ok_and(|report| over(&report.stage)) {
                return;
            }
            let begun = Instant::now();
            match self.look().await {
                Ok(()) => self.told.clear(),
                Err(error) => {
                    let problem = error.to_string();
                    if problem != self.told {
                        tracing::warn!(lease = %self.hosted.id, %problem, "no snapshot of a job's checkpoint");
                    }
                    self.told = problem;
                }
            }
            tokio::time::sleep((begun.elapsed() * PAUSE).max(LOOK)).await;
        }
    }

    /// One look at the checkpoint, and a snapshot where it is due.
    async fn look(&mut self) -> Result<(), SaveError> {
        let found = self.find().await?;
        if found.is_empty() || !self.rest.is_due(&found) {
            return Ok(());
        }
        let (known, place) = {
            let snapshots = self.hosted.snapshots();
            (snapshots.newest(), snapshots.free())
        };
        // Greater than those of earlier lives of this agent, too.
        let number = known.map_or(0, |saved| saved.number) + 1;
        let number = number.max(self.inner.now().unix());
        let label = &labels(self.hosted.id)[place];
        let transport = &self.inner.parts.transport;
        transport.release(label).await?;
        let Some(files) = self.copy(&found, label).await? else {
            transport.release(label).await?;
            return Ok(());
        };
        let size = saving::check(&files, &self.checkpoint, self.disk)?;
        let owner = self.hosted.record.lock().await.owner;
        for file in &files {
            transport.grant(label, tradewind_mesh::blobs::BlobHash::from_bytes(file.hash), owner)?;
        }
        let count = u32::try_from(files.len()).unwrap_or(u32::MAX);
        let saved = Saved { number, at: self.inner.now(), files: count, size };
        tracing::debug!(lease = %self.hosted.id, number, files = count, %size, "took a snapshot");
        self.hosted.snapshots().newest = Some(Snapshot { saved, files, place });
        self.rest.took(found);
        self.hosted.bell.notify_one();
        Ok(())
    }

    async fn find(&self) -> Result<Vec<Found>, SaveError> {
        let (work, checkpoint) = (self.inner.work_dir(self.hosted.id), self.checkpoint.clone());
        let (limit, state_dir) = (self.disk, self.inner.config.state_dir.clone());
        let looked = tokio::task::spawn_blocking(move || -> Result<Vec<Found>, SaveError> {
            let found = find(&work, &checkpoint)?;
            let size = Bytes::new(found.iter().fold(0, |sum: u64, file| sum.saturating_add(file.state.size)));
            if size > limit {
                return Err(saving::SnapshotError::TooLarge { size, limit }.into());
            }
            let disk = statvfs(&state_dir).map_err(std::io::Error::from)?;
            let free = Bytes::new(disk.f_bavail.saturating_mul(disk.f_frsize));
            if size.get().saturating_add(SPARE.get()) > free.get() && size != Bytes::ZERO {
                return Err(SaveError::Full { size, free });
            }
            Ok(found)
        });
        looked.await.map_err(std::io::Error::other)?
    }

    /// Copies what was found; `None` where the job changed it meanwhile.
    async fn copy(&self, found: &[Found], label: &Label) -> Result<Option<Vec<OutputFile>>, SaveError> {
        let root = open_root(&self.inner.work_dir(self.hosted.id))?;
        let mut files = Vec::with_capacity(found.len());
        for Found { path, state } in found {
            let Some(file) = open_below(&root, path)? else { return Ok(None) };
            if !is_still(&file, *state)? {
                return Ok(None);
            }
            // The descriptor's own name: it leads to what was opened, whatever stands at the path by now.
            let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
            let blob = self.inner.parts.transport.add_file(Path::new(&opened), label).await?;
            if !is_still(&file, *state)? || blob.size != state.size {
                return Ok(None);
            }
            files.push(OutputFile {
                path: path.clone(),
                hash: *blob.hash.as_bytes(),
                size: Bytes::new(blob.size),
                executable: state.executable,
            });
        }
        Ok((self.find().await? == found).then_some(files))
    }
}

fn is_still(file: &OwnedFd, state: FileState) -> Result<bool, SaveError> {
    let stat = fstat(file).map_err(std::io::Error::from)?;
    Ok(FileState::of(&stat) == state)
}

fn open_root(work: &Path) -> std::io::Result<OwnedFd> {
    Ok(openat(CWD, work, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// What stands at `path` below `root` when no link leads there; `None` where nothing does.
fn open_below(root: &OwnedFd, path: &str) -> std::io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let below = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, path, flags, Mode::empty(), below) {
        Ok(opened) => Ok(Some(opened)),
        // A directory that moves while it is opened is looked at next time.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::ACCESS | Errno::AGAIN) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The regular files of the checkpoint, sorted by path.
fn find(work: &Path, checkpoint: &str) -> Result<Vec<Found>, SaveError> {
    let root = open_root(work)?;
    let (mut found, mut open, mut entries) = (Vec::new(), vec![checkpoint.to_owned()], 0usize);
    while let Some(path) = open.pop() {
        entries += 1;
        if entries > MAX_ENTRIES {
            return Err(SaveError::TooMany);
        }
        let Some(opened) = open_below(&root, &path)? else { continue };
        let stat = fstat(&opened).map_err(std::io::Error::from)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                open.extend(names(&opened)?.into_iter().map(|name| format!("{path}/{name}")))
            }
            FileType::RegularFile if check_path(&path).is_ok() => {
                if found.len() == MAX_FILES {
                    return Err(SaveError::TooMany);
                }
                found.push(Found { path, state: FileState::of(&stat) });
            }
            FileType::RegularFile
            | FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {}
        }
    }
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The names in a directory; those that no portable path can hold are left out.
fn names(directory: &OwnedFd) -> std::io::Result<Vec<String>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = match openat(directory.as_fd(), ".", flags, Mode::empty()) {
        Err(Errno::ACCESS) => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(&readable)?.take(MAX_ENTRIES) {
        match entry?.file_name().to_str() {
            Ok("." | "..") | Err(_) => {}
            Ok(name) => names.push(name.to_owned()),
        }
    }
    Ok(names)
}

impl Hosted {
    pub(super) fn snapshots(&self) -> MutexGuard<'_, Snapshots> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tradewind_proto::units::Timestamp;

    use super::*;

    fn paths(work: &Path, checkpoint: &str) -> Vec<String> {
        find(work, checkpoint).unwrap().into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn only_files_of_the_checkpoint_are_found_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        std::fs::create_dir_all(work.join("state/deep")).unwrap();
        assert!(paths(&work, "missing").is_empty() && paths(&work, "state").is_empty());
        std::fs::write(dir.path().join("secret"), "host").unwrap();
        std::fs::write(work.join("state/deep/weights"), "1").unwrap();
        std::fs::write(work.join("state/step"), "2").unwrap();
        std::fs::write(work.join("statement"), "3").unwrap();
        symlink(dir.path(), work.join("state/out")).unwrap();
        symlink(dir.path().join("secret"), work.join("state/link")).unwrap();
        rustix::fs::mkfifoat(CWD, work.join("state/pipe"), Mode::RUSR | Mode::WUSR).unwrap();
        assert_eq!(paths(&work, "state"), ["state/deep/weights", "state/step"]);
        assert_eq!(paths(&work, "state/step"), ["state/step"], "one file is a checkpoint too");
        assert!(paths(&work, "state/out/secret").is_empty() && paths(&work, "state/link").is_empty());
    }

    #[test]
    fn a_file_that_a_link_replaced_is_not_opened_and_one_that_was_written_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        std::fs::create_dir(&work).unwrap();
        std::fs::write(work.join("state"), "one").unwrap();
        let before = find(&work, "state").unwrap();
        let root = open_root(&work).unwrap();
        let opened = open_below(&root, "state").unwrap().expect("a file");
        assert!(is_still(&opened, before[0].state).unwrap());
        std::fs::write(work.join("state"), "two").unwrap();
        assert!(!is_still(&opened, before[0].state).unwrap() && find(&work, "state").unwrap() != before);
        std::fs::remove_file(work.join("state")).unwrap();
        symlink("/etc/passwd", work.join("state")).unwrap();
        let link = open_below(&root, "state").unwrap().expect("the link itself");
        assert!(!is_still(&link, before[0].state).unwrap() && find(&work, "state").unwrap().is_empty());
    }

    #[test]
    fn what_a_buyer_fetches_stays_while_newer_snapshots_come() {
        let mut snapshots = Snapshots::default();
        let take = |snapshots: &mut Snapshots, number: u64| {
            let place = snapshots.free();
            let saved = Saved { number, at: Timestamp::default(), files: 0, size: Bytes::ZERO };
            snapshots.newest = Some(Snapshot { saved, files: Vec::new(), place });
            place
        };
        assert!(snapshots.tell().is_none());
        let first = take(&mut snapshots, 1);
        assert_eq!(snapshots.tell().unwrap().0.number, 1);
        let later: Vec<usize> = (2..9).map(|number| take(&mut snapshots, number)).collect();
        assert!(!later.contains(&first) && later.windows(2).all(|pair| pair[0] != pair[1]), "{later:?}");
        assert_eq!(snapshots.tell().unwrap().0.number, 8);
        let kept = later[later.len() - 1];
        let later: Vec<usize> = (9..16).map(|number| take(&mut snapshots, number)).collect();
        assert!(!later.contains(&kept) && later.contains(&first), "{later:?}");
    }

    #[test]
    fn more_files_than_a_snapshot_takes_are_refused_and_not_cut() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        for number in 0..=MAX_FILES {
            std::fs::write(dir.path().join(format!("state/{number}")), "").unwrap();
        }
        assert!(matches!(find(dir.path(), "state"), Err(SaveError::TooMany)));
    }
}
