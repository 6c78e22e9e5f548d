//! Snapshots of what a running job saved: when one is taken, what one may hold, and what the next provider is given of it.
//!
//! ```text
//! provider: look, look again ── unchanged for a whole look, and new ──► Saved in the report
//! buyer:    Saved ──► ask for its files ──► check ──► fetch ──► the next attempt's inputs
//! ```
//!
//! A job that writes a file beside its checkpoint and renames it over, as most frameworks do, is never seen half-way; a directory
//! that is written file by file counts once it rests for a look. One that never rests is taken all the same, now and then, and
//! may hold files of two moments, each of them whole.
//!
//! Failure paths: a snapshot that names a file elsewhere, twice, or more than the lease's disk is refused, and the one
//! before it stays.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::manifest::{Input, Source, check_path};
use crate::report::OutputFile;
use crate::units::{Bytes, Timestamp};

/// The most files of a snapshot.
pub const MAX_FILES: usize = 1_024;

/// A snapshot that a provider holds for its buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Grows with every snapshot of the lease.
    pub number: u64,
    /// When it was taken.
    pub at: Timestamp,
    /// How many files it has.
    pub files: u32,
    /// What they hold together.
    pub size: Bytes,
}

/// Why a snapshot is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Too many files.
    #[error("the snapshot has {0} files, at most {MAX_FILES} are taken")]
    TooMany(usize),
    /// More than the lease's disk holds.
    #[error("the snapshot has {size}, more than the job's disk of {limit}")]
    TooLarge {
        /// What its files hold.
        size: Bytes,
        /// The lease's disk.
        limit: Bytes,
    },
    /// A file that is no part of the checkpoint, stands there twice, or lies in another file.
    #[error(
        "the snapshot names `{0}`, which is no file of the checkpoint, stands there twice, or lies in another file"
    )]
    Path(String),
}

/// Whether `path` is the checkpoint, or lies in it.
#[must_use]
pub fn is_part(path: &str, checkpoint: &str) -> bool {
    path.strip_prefix(checkpoint).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The size of a snapshot that may replace the checkpoint of a lease with so much disk.
///
/// # Errors
/// [`SnapshotError`].
pub fn check(files: &[OutputFile], checkpoint: &str, limit: Bytes) -> Result<Bytes, SnapshotError> {
    if files.len() > MAX_FILES {
        return Err(SnapshotError::TooMany(files.len()));
    }
    let mut paths = BTreeSet::new();
    let is_file = |path: &str| check_path(path).is_ok() && is_part(path, checkpoint);
    if let Some(stray) = files.iter().find(|file| !is_file(&file.path) || !paths.insert(file.path.as_str())) {
        return Err(SnapshotError::Path(stray.path.clone()));
    }
    let ends = |path: &str| path.match_indices('/').any(|(end, _)| paths.contains(&path[..end]));
    if let Some(under) = files.iter().find(|file| ends(&file.path)) {
        return Err(SnapshotError::Path(under.path.clone()));
    }
    let size = Bytes::new(files.iter().fold(0u64, |sum, file| sum.saturating_add(file.size.get())));
    if size > limit { Err(SnapshotError::TooLarge { size, limit }) } else { Ok(size) }
}

/// The inputs of a job that goes on from `files`. What they bring takes the place of an input of the same checkpoint.
#[must_use]
pub fn resumed(inputs: &[Input], files: &[OutputFile], checkpoint: &str) -> Vec<Input> {
    let kept = inputs.iter().filter(|input| !is_part(&input.target, checkpoint)).cloned();
    let brought = files.iter().map(|file| Input {
        target: file.path.clone(),
        source: Source::Blob { hash: file.hash, size: file.size },
        executable: file.executable,
    });
    kept.chain(brought).collect()
}

/// Looks after which a checkpoint that never rests is taken all the same.
const RESTLESS: u32 = 10;

/// Decides when what lies in the checkpoint is taken: `T` tells two states of its files apart.
#[derive(Debug)]
pub struct Rest<T> {
    seen: Option<T>,
    taken: Option<T>,
    /// Looks since the last time that nothing had changed.
    restless: u32,
}

impl<T> Default for Rest<T> {
    fn default() -> Self {
        Self { seen: None, taken: None, restless: 0 }
    }
}

impl<T: PartialEq + Clone> Rest<T> {
    /// Whether `found` is to be taken: not as it was taken last, and as it was a look ago, or changed at every look for long.
    pub fn is_due(&mut self, found: &T) -> bool {
        let rests = self.seen.as_ref() == Some(found);
        self.restless = if rests { 0 } else { self.restless.saturating_add(1) };
        self.seen = Some(found.clone());
        (rests || self.restless >= RESTLESS) && self.taken.as_ref() != Some(found)
    }

    /// `found` was taken.
    pub fn took(&mut self, found: T) {
        self.taken = Some(found);
        self.restless = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64) -> OutputFile {
        OutputFile { path: path.into(), hash: [1; 32], size: Bytes::new(size), executable: false }
    }

    #[test]
    fn a_snapshot_holds_files_of_its_checkpoint_only() {
        let limit = Bytes::new(100);
        let good = [file("state/a", 60), file("state/deep/b", 40)];
        assert_eq!(check(&good, "state", limit), Ok(limit));
        assert_eq!(
            check(&[file("state", 1)], "state", limit),
            Ok(Bytes::new(1)),
            "one file is a checkpoint too"
        );
        for stray in ["statement", "other", "state/../other", "/state/a", "state/", "out/state/a"] {
            assert_eq!(check(&[file(stray, 1)], "state", limit), Err(SnapshotError::Path(stray.into())));
        }
        let twice = [file("state/a", 1), file("state/a", 1)];
        assert_eq!(check(&twice, "state", limit), Err(SnapshotError::Path("state/a".into())));
        let under = [file("state/a/b", 1), file("state/a-b", 1), file("state/a", 1)];
        assert_eq!(check(&under, "state", limit), Err(SnapshotError::Path("state/a/b".into())));
        let large = [file("state/a", u64::MAX), file("state/b", 1)];
        assert!(matches!(check(&large, "state", limit), Err(SnapshotError::TooLarge { .. })));
        let many = vec![file("state/a", 0); MAX_FILES + 1];
        assert_eq!(check(&many, "state", limit), Err(SnapshotError::TooMany(MAX_FILES + 1)));
    }

    #[test]
    fn a_resumed_job_finds_what_it_saved_in_the_place_of_what_it_began_with() {
        let input = |target: &str| Input {
            target: target.into(),
            source: Source::Blob { hash: [7; 32], size: Bytes::new(9) },
            executable: true,
        };
        let inputs = [input("train"), input("state/first"), input("statement")];
        let resumed = resumed(&inputs, &[file("state/second", 3)], "state");
        let targets: Vec<&str> = resumed.iter().map(|input| input.target.as_str()).collect();
        assert_eq!(targets, ["train", "statement", "state/second"]);
        assert_eq!(resumed[2].source, Source::Blob { hash: [1; 32], size: Bytes::new(3) });
    }

    #[test]
    fn what_changes_is_left_to_rest_and_what_was_taken_is_not_taken_again() {
        let mut rest = Rest::default();
        assert!(!rest.is_due(&1), "seen once");
        assert!(!rest.is_due(&2), "it changed");
        assert!(rest.is_due(&2));
        assert!(rest.is_due(&2), "until it was taken");
        rest.took(2);
        assert!(!rest.is_due(&2));
        assert!(!rest.is_due(&3) && rest.is_due(&3));
        rest.took(3);
        let due: Vec<u32> = (4..4 + 2 * RESTLESS)
            .filter(|state| {
                let is_due = rest.is_due(state);
                if is_due {
                    rest.took(*state);
                }
                is_due
            })
            .collect();
        assert_eq!(due, [3 + RESTLESS, 3 + 2 * RESTLESS], "what never rests is taken now and then");
    }
}
