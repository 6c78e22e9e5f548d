//! What came from the web for one lease and may serve another: files that anybody may have, by their hash, and commits of repositories.
//!
//! An entry's name is the hash that the job named, and whoever asks names it too: nobody learns from it what others ran. Entries are copied,
//! never linked, and hashed again on the way; a damaged one is deleted. Those used least recently go first.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tradewind_proto::manifest::{GitCommit, WebFile};
use tradewind_proto::units::Bytes;

use super::sums::Sums;

/// How names of files begin that are still being written.
const DRAFT: &str = "draft-";
/// Read and written at once.
const CHUNK: usize = 256 << 10;

/// A directory of files by their hash, up to a limit; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    dir: PathBuf,
    limit: u64,
    /// Held while something is added, so that the limit holds.
    adding: Arc<Mutex<()>>,
}

/// What became of asking for an entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in its place.
    Whole(Bytes),
    /// It has to be fetched.
    Absent,
}

impl Cache {
    /// Opens the cache, and brings it below a limit that may have become smaller. Files that were being written are dropped.
    pub(crate) fn open(dir: PathBuf, limit: Bytes) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(DRAFT) {
                fs::remove_file(entry.path())?;
            }
        }
        let cache = Self { dir, limit: limit.get(), adding: Arc::default() };
        cache.make_room(0)?;
        Ok(cache)
    }

    /// Where a file would be, where it may be kept at all.
    fn entry(&self, file: &WebFile) -> Option<PathBuf> {
        let name = match (file.sha256, file.blake3) {
            (Some(hash), _) => format!("sha256-{}", hex::encode(hash)),
            (None, Some(hash)) => format!("blake3-{}", hex::encode(hash)),
            (None, None) => return None,
        };
        (file.public && self.limit > 0).then(|| self.dir.join(name))
    }

    /// Puts a file in its place from what is here, where it is here and still whole. What is larger than `most` is for others.
    pub(crate) fn take(&self, file: &WebFile, most: Bytes, target: &Path) -> io::Result<Taken> {
        let Some(path) = self.entry(file) else { return Ok(Taken::Absent) };
        let mut from = match File::open(&path) {
            Ok(from) => from,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Taken::Absent),
            Err(error) => return Err(error),
        };
        if from.metadata()?.len() > most.get() {
            return Ok(Taken::Absent);
        }
        let (sums, size) = copy(&mut from, &mut File::create(target)?)?;
        if let Err(wrong) = sums.check(file) {
            tracing::warn!(entry = %path.display(), wrong, "an input that was kept is damaged; it is fetched again");
            fs::remove_file(&path)?;
            return Ok(Taken::Absent);
        }
        mark_used(&path);
        Ok(Taken::Whole(Bytes::new(size)))
    }

    /// Keeps a copy of a file that has its hash. What does not fit is not kept.
    pub(crate) fn keep(&self, file: &WebFile, from: &Path) -> io::Result<()> {
        let Some(path) = self.entry(file) else { return Ok(()) };
        self.keep_at(&path, &mut File::open(from)?)
    }

    fn keep_at(&self, path: &Path, from: &mut File) -> io::Result<()> {
        let size = from.metadata()?.len();
        if size > self.limit {
            return Ok(());
        }
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        if path.exists() {
            return Ok(());
        }
        self.make_room(size)?;
        let draft = self.dir.join(format!("{DRAFT}{}", hex::encode(rand::random::<[u8; 8]>())));
        let written = File::create_new(&draft)
            .and_then(|mut to| copy(from, &mut to))
            .and_then(|_| fs::rename(&draft, path));
        if written.is_err() {
            // It is dropped at the next start where it stays.
            let _ = fs::remove_file(&draft);
        }
        written
    }

    /// Where a commit's pack would be. Whoever asks names both its repository and its id.
    fn pack(&self, commit: &GitCommit) -> Option<PathBuf> {
        let name = blake3::hash(format!("{} {}", commit.url, commit.commit).as_bytes());
        (!commit.private && self.limit > 0).then(|| self.dir.join(format!("git-{name}")))
    }

    /// Copies a commit's pack, where it is here. Whoever unpacks it sees whether it is whole.
    pub(crate) fn take_pack(
        &self,
        commit: &GitCommit,
        most: Bytes,
        mut to: File,
    ) -> io::Result<Option<File>> {
        let Some(path) = self.pack(commit) else { return Ok(None) };
        let mut from = match File::open(&path) {
            Ok(from) => from,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if from.metadata()?.len() > most.get() {
            return Ok(None);
        }
        io::copy(&mut from, &mut to)?;
        mark_used(&path);
        Ok(Some(to))
    }

    /// Keeps a copy of a commit's pack that was unpacked.
    pub(crate) fn keep_pack(&self, commit: &GitCommit, mut from: File) -> io::Result<()> {
        let Some(path) = self.pack(commit) else { return Ok(()) };
        from.rewind()?;
        self.keep_at(&path, &mut from)
    }

    /// Removes a commit's pack.
    pub(crate) fn drop_pack(&self, commit: &GitCommit) -> io::Result<()> {
        match self.pack(commit).map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Some(_) | None => Ok(()),
        }
    }

    /// Removes entries until so much more fits.
    fn make_room(&self, more: u64) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let data = entry.metadata()?;
            entries.push((data.modified()?, data.len(), entry.path()));
        }
        entries.sort();
        let mut used = entries.iter().fold(more, |sum, (_, size, _)| sum.saturating_add(*size));
        for (_, size, path) in entries {
            if used <= self.limit {
                break;
            }
            fs::remove_file(&path)?;
            used = used.saturating_sub(size);
        }
        Ok(())
    }
}

fn mark_used(entry: &Path) {
    // What another lease pushes out meanwhile is gone, and that is all.
    let used =
        File::options().append(true).open(entry).and_then(|entry| entry.set_modified(SystemTime::now()));
    if let Err(error) = used {
        tracing::debug!(%error, "an input that was used is not marked so");
    }
}

fn copy(from: &mut File, to: &mut File) -> io::Result<(Sums, u64)> {
    let (mut sums, mut size, mut chunk) = (Sums::default(), 0, vec![0; CHUNK]);
    loop {
        let read = match from.read(&mut chunk) {
            Ok(0) => return Ok((sums, size)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        sums.update(&chunk[..read]);
        to.write_all(&chunk[..read])?;
        size += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn file(content: &[u8]) -> WebFile {
        let blake3 = Some(*blake3::hash(content).as_bytes());
        WebFile { url: "https://example.org/x".into(), blake3, public: true, ..WebFile::default() }
    }

    struct Bench {
        dir: tempfile::TempDir,
        cache: Cache,
    }

    impl Bench {
        fn new(limit: u64) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let cache = Cache::open(dir.path().join("cache"), Bytes::new(limit)).unwrap();
            Self { dir, cache }
        }

        fn keep(&self, content: &[u8]) {
            let from = self.dir.path().join("from");
            fs::write(&from, content).unwrap();
            self.cache.keep(&file(content), &from).unwrap();
        }

        fn has(&self, content: &[u8]) -> bool {
            let target = self.dir.path().join("target");
            let taken = self.cache.take(&file(content), Bytes::gib(1), &target).unwrap();
            taken != Taken::Absent && fs::read(target).unwrap() == content
        }

        /// Makes an entry look as if it had been used long ago.
        fn age(&self, content: &[u8], by: u64) {
            let path = self.cache.entry(&file(content)).unwrap();
            let then = SystemTime::now() - Duration::from_secs(by);
            File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
        }
    }

    #[test]
    fn what_was_used_least_recently_goes_first() {
        let bench = Bench::new(10);
        bench.keep(b"aaaa");
        bench.keep(b"bbbb");
        bench.age(b"aaaa", 50);
        bench.age(b"bbbb", 40);
        assert!(bench.has(b"aaaa"), "which uses it");
        bench.keep(b"cccc");
        assert!(!bench.has(b"bbbb"));
        assert!(bench.has(b"aaaa") && bench.has(b"cccc"));
        bench.keep(b"larger than all of it");
        assert!(bench.has(b"aaaa") && !bench.has(b"larger than all of it"));
    }

    #[test]
    fn a_damaged_entry_is_deleted_and_not_given_out() {
        let bench = Bench::new(100);
        bench.keep(b"weights");
        fs::write(bench.cache.entry(&file(b"weights")).unwrap(), b"weightS").unwrap();
        assert!(!bench.has(b"weights"));
        assert!(!bench.cache.entry(&file(b"weights")).unwrap().exists());
    }

    #[test]
    fn a_start_drops_drafts_and_what_a_smaller_limit_has_no_room_for() {
        let bench = Bench::new(100);
        bench.keep(b"aaaa");
        let dir = bench.dir.path().join("cache");
        fs::write(dir.join("draft-1"), "half").unwrap();
        Cache::open(dir.clone(), Bytes::new(100)).unwrap();
        assert!(bench.has(b"aaaa") && !dir.join("draft-1").exists());
        Cache::open(dir.clone(), Bytes::ZERO).unwrap();
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
    }

    #[test]
    fn only_what_anybody_may_have_and_has_a_hash_is_kept() {
        let bench = Bench::new(100);
        let whole = file(b"x");
        assert!(bench.cache.entry(&whole).is_some());
        assert!(bench.cache.entry(&WebFile { public: false, ..whole.clone() }).is_none());
        assert!(bench.cache.entry(&WebFile { blake3: None, ..whole }).is_none());
        assert!(Bench::new(0).cache.entry(&file(b"x")).is_none());
    }
}
