//! The work directory: whose it is, and how full.

use std::collections::HashSet;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, openat, statat};

use super::JobUser;

/// A directory nested deeper than this is refused: nobody needs it, and a walk must end.
const DEEPEST: usize = 128;
/// What any file costs at least, so that empty ones are bounded too.
const LEAST: u64 = 4096;

/// Gives everything in the directory to the job's user, before the job runs. Links are not followed.
pub(super) fn give_to(directory: &Path, user: JobUser) -> std::io::Result<()> {
    let meta = std::fs::symlink_metadata(directory)?;
    if (meta.uid(), meta.gid()) != (user.uid, user.gid) {
        lchown(directory, Some(user.uid), Some(user.gid))?;
    }
    if !meta.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(directory)? {
        give_to(&entry?.path(), user)?;
    }
    Ok(())
}

/// Bytes that the directory takes, each hard link once. The job may change it meanwhile: nothing is followed, and what
/// vanishes does not count. `None` where it is nested too deep to be counted.
pub(super) fn used(directory: &Path) -> std::io::Result<Option<u64>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut open_directories = vec![Dir::new(open(directory, flags, Mode::empty())?)?];
    let (mut total, mut linked) = (0_u64, HashSet::new());
    while let Some(current) = open_directories.last_mut() {
        let Some(entry) = current.next() else {
            open_directories.pop();
            continue;
        };
        let Ok(entry) = entry else { continue };
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let parent = current.fd()?;
        let Ok(stat) = statat(parent, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if stat.st_nlink < 2
            || FileType::from_raw_mode(stat.st_mode).is_dir()
            || linked.insert((stat.st_dev, stat.st_ino))
        {
            let blocks = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
            total = total.saturating_add(blocks.max(LEAST));
        }
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            let Ok(child) = openat(parent, entry.file_name(), flags, Mode::empty()) else { continue };
            if open_directories.len() >= DEEPEST {
                return Ok(None);
            }
            open_directories.push(Dir::new(child)?);
        }
    }
    Ok(Some(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_out_of_the_directory_are_not_counted() {
        let home = tempfile::tempdir().expect("a directory");
        let work = home.path().join("work");
        std::fs::create_dir_all(work.join("a/b")).expect("mkdir");
        std::fs::write(home.path().join("large"), vec![1; 1 << 20]).expect("write");
        std::os::unix::fs::symlink(home.path(), work.join("a/out")).expect("link");
        std::os::unix::fs::symlink(home.path().join("large"), work.join("large")).expect("link");
        std::fs::write(work.join("a/b/file"), vec![1; 100_000]).expect("write");
        std::fs::hard_link(work.join("a/b/file"), work.join("again")).expect("link");
        let used = used(&work).expect("walk").expect("not too deep");
        assert!((100_000..200_000).contains(&used), "{used}");
    }

    #[test]
    fn empty_files_are_not_free() {
        let work = tempfile::tempdir().expect("a directory");
        for name in 0..100 {
            std::fs::write(work.path().join(name.to_string()), "").expect("write");
        }
        assert_eq!(used(work.path()).expect("walk"), Some(100 * LEAST));
    }

    #[test]
    fn a_bottomless_directory_ends_the_walk() {
        let work = tempfile::tempdir().expect("a directory");
        let mut path = work.path().to_owned();
        for _ in 0..DEEPEST + 1 {
            path.push("d");
            std::fs::create_dir(&path).expect("mkdir");
        }
        assert_eq!(used(work.path()).expect("walk"), None);
    }
}
