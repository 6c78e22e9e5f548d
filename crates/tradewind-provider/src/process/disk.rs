//! The work directory seen from the host: how much is in it, and whose it is.
//!
//! The job may change the tree while it is walked, so every step is relative to an open directory and follows no link.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fstat, openat, statat};
use tradewind_proto::units::Bytes;

/// Deeper trees are refused: no honest job needs them, and walking one takes a descriptor for each level.
const DEPTH_MAX: usize = 128;
/// Open files of one process that are looked at.
const DESCRIPTORS_MAX: usize = 4096;
/// What a file costs its file system besides its blocks; without it a job could exhaust inodes for nothing.
const INODE_BYTES: u64 = 256;

/// What a walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) bytes: Bytes,
    /// Something lies deeper than a walk goes, or where this user may not look.
    pub(super) partial: bool,
}

/// Measures `dir`. What disappears during the walk is not counted.
pub(super) fn usage(dir: &Path) -> io::Result<Usage> {
    let (mut bytes, mut partial) = (0u64, false);
    walk(open_dir(CWD, dir)?.as_fd(), 0, &mut |step| {
        match step {
            Step::Entry { stat, .. } => {
                let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
                bytes = bytes.saturating_add(blocks.saturating_mul(512)).saturating_add(INODE_BYTES);
            }
            Step::Closed => partial = true,
        }
        Ok(())
    })?;
    Ok(Usage { bytes: Bytes::new(bytes), partial })
}

/// Bytes in files on `dir`'s file system that the processes `pids` hold open and that have no name any more.
pub(super) fn unlinked(dir: &Path, pids: impl Iterator<Item = u32>) -> Bytes {
    let Ok(top) = open_dir(CWD, dir).and_then(|top| Ok(fstat(top)?)) else { return Bytes::ZERO };
    let mut files = BTreeMap::new();
    for pid in pids {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for descriptor in descriptors.flatten().take(DESCRIPTORS_MAX) {
            let Ok(found) = fs::metadata(descriptor.path()) else { continue };
            if found.is_file() && found.nlink() == 0 && found.dev() == top.st_dev {
                files.insert(found.ino(), found.blocks().saturating_mul(512));
            }
        }
    }
    Bytes::new(files.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes)))
}

/// Gives `dir` and all in it to `user` (and the group of the same number). A file with several names is refused: giving it away
/// would give away what it is elsewhere too.
pub(crate) fn lend(dir: &Path, user: u32) -> io::Result<()> {
    give(dir, user, |stat| {
        let shared = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink > 1;
        if shared {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "an input is a hard link"))
        } else {
            Ok(())
        }
    })
}

/// Takes `dir` and all in it back for the calling user. Set-id bits that the job may have left are cleared by the kernel.
pub(crate) fn reclaim(dir: &Path) -> io::Result<()> {
    give(dir, rustix::process::geteuid().as_raw(), |_| Ok(()))
}

fn give(dir: &Path, user: u32, allowed: impl Fn(&Stat) -> io::Result<()>) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(user)));
    let top = match open_dir(CWD, dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    walk(top.as_fd(), 0, &mut |step| match step {
        Step::Entry { parent, name, stat } => {
            allowed(stat)?;
            match chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
        Step::Closed => Ok(()),
    })?;
    rustix::fs::fchown(&top, uid, gid)?;
    Ok(())
}

enum Step<'a> {
    Entry {
        parent: BorrowedFd<'a>,
        name: &'a std::ffi::CStr,
        stat: &'a Stat,
    },
    /// A directory that is not entered.
    Closed,
}

fn open_dir(parent: BorrowedFd<'_>, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

/// Visits what is below `dir`, each directory's contents before itself.
fn walk(
    dir: BorrowedFd<'_>,
    depth: usize,
    visit: &mut dyn FnMut(Step<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let device = fstat(dir)?.st_dev;
    for entry in Dir::read_from(dir)? {
        let Ok(entry) = entry else { break };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && stat.st_dev == device {
            if depth >= DEPTH_MAX {
                visit(Step::Closed)?;
            } else {
                match open_dir(dir, name) {
                    Ok(child) => walk(child.as_fd(), depth + 1, visit)?,
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => visit(Step::Closed)?,
                    // It was removed or replaced meanwhile.
                    Err(_) => {}
                }
            }
        }
        visit(Step::Entry { parent: dir, name, stat: &stat })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn blocks_are_counted_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let work = root.path().join("work");
        fs::create_dir_all(work.join("a/b")).unwrap();
        fs::write(root.path().join("elsewhere"), vec![1; 4 << 20]).unwrap();
        symlink(root.path(), work.join("out")).unwrap();
        fs::write(work.join("a/b/file"), vec![1; 1 << 20]).unwrap();
        let usage = usage(&work).unwrap();
        assert!(usage.bytes >= Bytes::mib(1) && usage.bytes < Bytes::mib(2), "{}", usage.bytes);
        assert!(!usage.partial);
    }

    #[test]
    fn a_deleted_file_counts_while_it_is_open() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("hidden");
        fs::write(&path, vec![1; 1 << 20]).unwrap();
        let file = fs::File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let me = || std::iter::once(std::process::id());
        assert!(unlinked(root.path(), me()) >= Bytes::mib(1));
        drop(file);
        assert!(unlinked(root.path(), me()) < Bytes::mib(1));
    }

    #[test]
    fn a_tree_without_bottom_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let mut deep = root.path().to_owned();
        for _ in 0..=DEPTH_MAX + 1 {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        assert!(usage(root.path()).unwrap().partial);
    }

    #[test]
    fn a_hard_link_is_not_lent() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("one"), "x").unwrap();
        fs::hard_link(root.path().join("one"), root.path().join("two")).unwrap();
        let me = rustix::process::geteuid().as_raw();
        assert_eq!(lend(root.path(), me).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
