//! The work directory: whose it is, and how full.

use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, openat, statat};
use rustix::io::Errno;

use super::JobUser;

/// A directory nested deeper than this is refused: nobody needs it, and a walk must end.
const DEEPEST: usize = 128;
/// What any file costs at least, so that empty ones are bounded too.
const LEAST: u64 = 4096;

/// Open files of one process that are looked at.
const MOST_DESCRIPTORS: usize = 4096;

/// The processes of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Processes {
    /// Those in its pid namespace.
    Namespace(u64),
    /// Those of its control groups: a sandbox's are in several namespaces.
    Group(String),
}

impl Processes {
    /// Those beside `init`, a process of the container; `None` where it is gone or not to be seen.
    pub(super) fn beside(init: u32) -> Option<Self> {
        let namespace = namespace_of(init)?;
        (Some(namespace) != namespace_of(std::process::id())).then_some(Self::Namespace(namespace))
    }

    /// Those in the control groups of `init`; `None` where it is gone, or in the agent's own.
    pub(super) fn of_group(init: u32) -> Option<Self> {
        let group = group_of(init)?;
        (Some(&group) != group_of(std::process::id()).as_ref()).then_some(Self::Group(group))
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(move |pid| match self {
            Self::Namespace(namespace) => namespace_of(*pid) == Some(*namespace),
            Self::Group(group) => group_of(*pid).as_ref() == Some(group),
        })
    }

    /// Bytes in files on the directory's file system that they hold open and that have no name any more.
    pub(super) fn unlinked(&self, directory: &Path) -> u64 {
        std::fs::metadata(directory).map_or(0, |top| unlinked(top.dev(), self.pids()))
    }
}

fn namespace_of(pid: u32) -> Option<u64> {
    std::fs::metadata(format!("/proc/{pid}/ns/pid")).ok().map(|found| found.ino())
}

fn group_of(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()
}

fn unlinked(device: u64, pids: impl Iterator<Item = u32>) -> u64 {
    let mut files = BTreeMap::new();
    for pid in pids {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for descriptor in descriptors.take(MOST_DESCRIPTORS) {
            let Ok(found) = std::fs::metadata(descriptor.path()) else { continue };
            if found.is_file() && found.nlink() == 0 && found.dev() == device {
                files.insert(found.ino(), found.blocks().saturating_mul(512));
            }
        }
    }
    files.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes))
}

/// Gives everything in the directory to the job's user, before the job runs. Links are not followed, and a file with another
/// name elsewhere is refused: it would be given away there too.
pub(super) fn give_to(directory: &Path, user: JobUser) -> std::io::Result<()> {
    let meta = std::fs::symlink_metadata(directory)?;
    if meta.is_file() && meta.nlink() > 1 {
        let why = format!("{} is a hard link", directory.display());
        return Err(std::io::Error::new(ErrorKind::InvalidInput, why));
    }
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
/// vanishes does not count. `None` where it is nested too deep to be counted, or where the job shut a directory.
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
            let child = match openat(parent, entry.file_name(), flags, Mode::empty()) {
                Ok(child) => child,
                Err(Errno::ACCESS | Errno::PERM) => return Ok(None),
                Err(_) => continue,
            };
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
    fn a_deleted_file_counts_while_it_is_open() {
        let work = tempfile::tempdir().expect("a directory");
        let path = work.path().join("hidden");
        std::fs::write(&path, vec![1; 1 << 20]).expect("write");
        let open = std::fs::File::open(&path).expect("open");
        std::fs::remove_file(&path).expect("remove");
        let device = std::fs::metadata(work.path()).expect("stat").dev();
        let held = || unlinked(device, std::iter::once(std::process::id()));
        let before = held();
        assert!(before >= 1 << 20, "{before}");
        drop(open);
        assert!(held() <= before - (1 << 20));
        assert_eq!(Processes::beside(std::process::id()), None, "the agent's own are not a container's");
    }

    #[test]
    fn an_input_with_another_name_is_not_given_away() {
        let home = tempfile::tempdir().expect("a directory");
        let work = home.path().join("work");
        std::fs::create_dir(&work).expect("mkdir");
        std::fs::write(home.path().join("owners"), "x").expect("write");
        std::fs::hard_link(home.path().join("owners"), work.join("input")).expect("link");
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        assert!(give_to(&work, JobUser { uid, gid }).is_err());
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
