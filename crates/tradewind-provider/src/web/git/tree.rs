//! Lays the files of a commit out below a directory that did not exist before.
//!
//! No name leads out of it: each is one plain part of a path, and no two of a directory are the same, so that no link stands where a path
//! goes on. A link may point anywhere below the directory, and nowhere else. Submodules are empty directories, as they are in a clone that
//! does not follow them.

use std::collections::HashSet;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use gix_hash::{ObjectId, oid};
use gix_object::tree::{EntryKind, EntryRef};
use gix_object::{CommitRefIter, Kind, TreeRefIter};
use gix_validate::path::component;

use super::pack::Pack;
use super::{Limits, Refused};

/// How deep directories lie in each other.
const MAX_DEPTH: usize = 64;
/// The longest path.
const MAX_PATH: usize = 1_024;
/// The longest target of a link.
const MAX_LINK: usize = 1_024;

/// Removes what an attempt that broke off left.
pub(super) fn clear(target: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(target) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(target),
        Ok(_) => fs::remove_file(target),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Lays a commit's files out.
pub(super) fn lay_out(
    pack: &mut Pack<'_>,
    commit: ObjectId,
    target: &Path,
    limits: &Limits,
) -> Result<(), Refused> {
    let (kind, content) = pack.object(&commit)?;
    if kind != Kind::Commit {
        return Err(Refused::Content(format!("has no commit {commit}: that is a {kind}")));
    }
    let root = CommitRefIter::from_bytes(&content, commit.kind()).tree_id();
    let root = root.map_err(|_| Refused::Content(format!("has a damaged commit {commit}")))?;
    make_dir(target)?;
    let mut layout = Layout { target, limits, todo: vec![(root, PathBuf::new())], entries: 0, bytes: 0 };
    while let Some((tree, dir)) = layout.todo.pop() {
        layout.directory(pack, &tree, &dir)?;
    }
    Ok(())
}

struct Layout<'a> {
    target: &'a Path,
    limits: &'a Limits,
    /// Directories that are made and still empty, by their paths below the target.
    todo: Vec<(ObjectId, PathBuf)>,
    entries: u32,
    bytes: u64,
}

impl Layout<'_> {
    fn directory(&mut self, pack: &mut Pack<'_>, tree: &oid, dir: &Path) -> Result<(), Refused> {
        let (kind, content) = pack.object(tree)?;
        let damaged = || Refused::Content(format!("has a damaged directory `{}`", shown(dir)));
        if kind != Kind::Tree {
            return Err(damaged());
        }
        let mut names = HashSet::new();
        for entry in TreeRefIter::from_bytes(&content, tree.kind()) {
            let entry = entry.map_err(|_| damaged())?;
            let name: &[u8] = entry.filename;
            let path = dir.join(std::ffi::OsStr::from_bytes(name));
            if !is_name(&entry) || path.as_os_str().len() > MAX_PATH {
                return Err(Refused::Content(format!("has a file that may not be named `{}`", shown(&path))));
            }
            if !names.insert(name) {
                return Err(Refused::Content(format!("has `{}` twice", shown(&path))));
            }
            self.entry(pack, &entry, path)?;
        }
        Ok(())
    }

    fn entry(&mut self, pack: &mut Pack<'_>, entry: &EntryRef<'_>, path: PathBuf) -> Result<(), Refused> {
        self.entries = self.entries.saturating_add(1);
        if self.entries > self.limits.entries || self.todo.len() as u64 > u64::from(self.limits.directories) {
            return Err(Refused::Content("has too many files or directories".into()));
        }
        let place = self.target.join(&path);
        match entry.mode.kind() {
            EntryKind::Tree => {
                if path.components().count() > MAX_DEPTH {
                    return Err(Refused::Content(format!("has directories deeper than {MAX_DEPTH}")));
                }
                make_dir(&place)?;
                self.todo.push((entry.oid.to_owned(), path));
            }
            EntryKind::Commit => make_dir(&place)?,
            EntryKind::Blob => self.file(&self.blob(pack, entry, &path)?, &place, 0o644)?,
            EntryKind::BlobExecutable => self.file(&self.blob(pack, entry, &path)?, &place, 0o755)?,
            EntryKind::Link => {
                let to = self.blob(pack, entry, &path)?;
                let depth = path.components().count().saturating_sub(1);
                if !stays_inside(&to, depth) {
                    let problem =
                        format!("has a symbolic link `{}` that does not stay inside of it", shown(&path));
                    return Err(Refused::Content(problem));
                }
                symlink(std::ffi::OsStr::from_bytes(&to), &place)?;
            }
        }
        Ok(())
    }

    fn blob(&self, pack: &mut Pack<'_>, entry: &EntryRef<'_>, path: &Path) -> Result<Vec<u8>, Refused> {
        match pack.object(entry.oid)? {
            (Kind::Blob, content) => Ok(content),
            (Kind::Commit | Kind::Tree | Kind::Tag, _) => {
                Err(Refused::Content(format!("has no file at `{}`", shown(path))))
            }
        }
    }
}

impl Layout<'_> {
    fn file(&mut self, content: &[u8], place: &Path, mode: u32) -> Result<(), Refused> {
        self.bytes = self.bytes.saturating_add(content.len() as u64);
        if self.bytes > self.limits.bytes {
            let most = self.limits.bytes;
            return Err(Refused::Content(format!("has more than the {most} bytes of the job's disk")));
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(place)?;
        file.write_all(content)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(())
    }
}

/// Makes a directory where nothing is.
fn make_dir(place: &Path) -> io::Result<()> {
    fs::create_dir(place)?;
    fs::set_permissions(place, Permissions::from_mode(0o755))
}

/// Whether a name is one plain part of a path that no git or file system takes for another.
fn is_name(entry: &EntryRef<'_>) -> bool {
    let kind = entry.mode.is_link().then_some(component::Mode::Symlink);
    let options = component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    component(entry.filename, kind, options).is_ok()
        && entry.filename.len() <= 255
        && !entry.filename.iter().any(u8::is_ascii_control)
}

/// Whether a link that lies so deep leads to something below the root, whatever other links are there that do: it goes up first, over
/// directories that are no links, and down from there.
fn stays_inside(to: &[u8], depth: usize) -> bool {
    let parts: Vec<&[u8]> = to.split(|byte| *byte == b'/').collect();
    let up = parts.iter().take_while(|part| **part == b"..").count();
    let is_plain = |part: &&[u8]| **part != *b"..";
    !to.is_empty()
        && to.len() <= MAX_LINK
        && to[0] != b'/'
        && !to.iter().any(u8::is_ascii_control)
        && up <= depth
        && parts[up..].iter().all(is_plain)
}

/// A path as it may be shown.
fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().filter(|c| !c.is_control()).take(200).collect()
}
