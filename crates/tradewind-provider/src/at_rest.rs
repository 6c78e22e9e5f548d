//! Directories that the file system encrypts, each with a key of its own: a lease's work directory, whose key ends with the lease.
//!
//! ```text
//! seal:   a new directory ◄── policy ── key from the kernel's randomness ──► the file system's keyring, in memory alone
//! end:    its files are deleted ─► the key leaves the kernel ─► the directory is deleted
//! ```
//!
//! The kernel's fscrypt does the work: AES-256-XTS for contents, AES-256-CTS for names. The key is written nowhere, so a disk
//! that is taken out, imaged or resold shows nothing, and neither does a machine that was started anew: a lease that did not end
//! before has lost its files. The agent needs no key to go on after a crash of its own. Who is root on the running machine
//! reads everything, as on any machine that computes with data.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use zeroize::Zeroize;

/// Why a directory cannot be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum AtRestError {
    /// The file system has no encryption, or it is turned off.
    #[error("its file system encrypts nothing")]
    Unsupported,
    /// A directory above has a key of its own.
    #[error("it is in a directory that its owner encrypts with another key")]
    Owned,
    /// It holds files that were written as they are.
    #[error("it holds files from before, and only an empty directory can become encrypted")]
    InUse,
    /// The system failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The failure.
        source: io::Error,
    },
}

/// What a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not encrypted.
    Plain,
    /// Encrypted, and its key is here.
    Open,
    /// Encrypted, and its key is gone.
    Locked,
}

const FSCRYPT: u8 = b'f';
const RAW_KEY: usize = 64;
const IDENTIFIER: u32 = 2;
const POLICY_VERSION: u8 = 2;
const AES_256_XTS: u8 = 1;
const AES_256_CTS: u8 = 4;
/// Names are padded to 32 bytes.
const PAD_32: u8 = 3;
const PRESENT: u32 = 2;
const FILES_BUSY: u32 = 2;

type Identifier = [u8; 16];

/// `struct fscrypt_policy_v2`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Policy {
    version: u8,
    contents: u8,
    names: u8,
    flags: u8,
    data_unit: u8,
    reserved: [u8; 3],
    key: Identifier,
}

/// `struct fscrypt_key_specifier`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Specifier {
    kind: u32,
    reserved: u32,
    identifier: Identifier,
    rest: [u8; 16],
}

/// `struct fscrypt_add_key_arg`, with the key that follows it.
#[repr(C)]
struct AddKey {
    specifier: Specifier,
    size: u32,
    key_id: u32,
    reserved: [u32; 8],
    raw: [u8; RAW_KEY],
}

/// `struct fscrypt_remove_key_arg`.
#[repr(C)]
struct RemoveKey {
    specifier: Specifier,
    flags: u32,
    reserved: [u32; 5],
}

/// `struct fscrypt_get_key_status_arg`.
#[repr(C)]
struct KeyStatus {
    specifier: Specifier,
    reserved: [u32; 6],
    status: u32,
    flags: u32,
    users: u32,
    more: [u32; 13],
}

/// `struct fscrypt_get_policy_ex_arg`.
#[repr(C)]
struct GetPolicy {
    size: u64,
    policy: Policy,
}

// The size in an opcode is that of the structure in the kernel's header, which for some is not that of the whole argument.
const SET_POLICY: Opcode = opcode::read::<[u8; 12]>(FSCRYPT, 19);
const GET_POLICY: Opcode = opcode::read_write::<[u8; 9]>(FSCRYPT, 22);
const ADD_KEY: Opcode = opcode::read_write::<[u8; 80]>(FSCRYPT, 23);
const REMOVE_KEY: Opcode = opcode::read_write::<RemoveKey>(FSCRYPT, 24);
const KEY_STATUS: Opcode = opcode::read_write::<KeyStatus>(FSCRYPT, 26);

/// Whether a new directory in `parent` can be encrypted: one is made, and deleted again.
///
/// # Errors
/// [`AtRestError`] says why not.
pub fn probe(parent: &Path) -> Result<(), AtRestError> {
    let dir =
        tempfile::Builder::new().prefix(".probe-").tempdir_in(parent).map_err(failed("make a directory"))?;
    let sealed = seal(dir.path());
    end(dir.path())?;
    sealed
}

/// Makes an empty directory that is encrypted. What it held is deleted, unless it is encrypted already and its key is here.
///
/// # Errors
/// [`AtRestError`].
pub fn make(dir: &Path) -> Result<(), AtRestError> {
    fs::create_dir_all(dir).map_err(failed("make the directory"))?;
    if state(dir)? == State::Open {
        return Ok(());
    }
    end(dir)?;
    fs::create_dir_all(dir).map_err(failed("make the directory"))?;
    seal(dir)
}

/// Makes a directory encrypted whose files need not outlive the machine: those whose key is gone are deleted.
///
/// # Errors
/// [`AtRestError`]; [`AtRestError::InUse`] where it holds files that are not encrypted, which stay.
pub fn keep(dir: &Path) -> Result<(), AtRestError> {
    if dir.exists() && state(dir)? == State::Plain {
        let mut held = fs::read_dir(dir).map_err(failed("list the directory"))?;
        if held.next().is_some() {
            return Err(AtRestError::InUse);
        }
    }
    make(dir)
}

/// What a directory is.
///
/// # Errors
/// When it cannot be opened.
pub fn state(dir: &Path) -> Result<State, AtRestError> {
    let opened = File::open(dir).map_err(failed("open the directory"))?;
    let Some(key) = own_key(&opened, dir)? else { return Ok(State::Plain) };
    Ok(if has(&opened, key)? { State::Open } else { State::Locked })
}

/// Deletes a directory with all that it holds, and has the kernel forget its key. In this order a crash in between is made up for by
/// the next call.
///
/// # Errors
/// [`AtRestError`]; then something is left.
pub fn end(dir: &Path) -> Result<(), AtRestError> {
    let opened = match File::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(failed("open the directory"))?,
    };
    let key = own_key(&opened, dir)?;
    // An open directory would hold on to its key.
    drop(opened);
    if let Some(key) = key {
        empty(dir).map_err(failed("empty the directory"))?;
        forget(&above(dir)?, key)?;
    }
    fs::remove_dir_all(dir).map_err(failed("delete the directory"))
}

fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn seal(dir: &Path) -> Result<(), AtRestError> {
    let opened = File::open(dir).map_err(failed("open the directory"))?;
    let key = add(&opened)?;
    let mut policy = Policy {
        version: POLICY_VERSION,
        contents: AES_256_XTS,
        names: AES_256_CTS,
        flags: PAD_32,
        key,
        ..Policy::default()
    };
    let set = call::<SET_POLICY, _>(&opened, &mut policy, "encrypt the directory");
    if set.is_err() {
        forget(&opened, key)?;
    }
    set
}

/// Gives the file system a new key.
fn add(dir: &File) -> Result<Identifier, AtRestError> {
    let specifier = Specifier { kind: IDENTIFIER, reserved: 0, identifier: [0; 16], rest: [0; 16] };
    let mut key = AddKey { specifier, size: 64, key_id: 0, reserved: [0; 8], raw: [0; RAW_KEY] };
    let drawn = SystemRandom::new().fill(&mut key.raw);
    drawn.map_err(|_| failed("draw a key")(io::Error::other("the kernel gave no randomness")))?;
    let added = call::<ADD_KEY, _>(dir, &mut key, "give the file system a key");
    key.raw.zeroize();
    added.map(|()| key.specifier.identifier)
}

fn forget(dir: &File, key: Identifier) -> Result<(), AtRestError> {
    let mut remove = RemoveKey { specifier: specifier(key), flags: 0, reserved: [0; 5] };
    match call::<REMOVE_KEY, _>(dir, &mut remove, "take the key from the file system") {
        Err(AtRestError::Io { source, .. }) if source.raw_os_error() == Some(Errno::NOKEY.raw_os_error()) => {
        }
        removed => removed?,
    }
    if remove.flags & FILES_BUSY != 0 {
        tracing::warn!(
            "files of a lease that is over are still open; what they hold of its key ends with that"
        );
    }
    Ok(())
}

fn has(dir: &File, key: Identifier) -> Result<bool, AtRestError> {
    status(dir, key).map(|status| status == PRESENT)
}

fn status(dir: &File, key: Identifier) -> Result<u32, AtRestError> {
    let (specifier, reserved) = (specifier(key), [0; 6]);
    let mut asked = KeyStatus { specifier, reserved, status: 0, flags: 0, users: 0, more: [0; 13] };
    call::<KEY_STATUS, _>(dir, &mut asked, "ask for the directory's key")?;
    Ok(asked.status)
}

const fn specifier(identifier: Identifier) -> Specifier {
    Specifier { kind: IDENTIFIER, reserved: 0, identifier, rest: [0; 16] }
}

/// The key that is this directory's alone: one that it shares with its parent is the owner's, who may encrypt everything.
fn own_key(opened: &File, dir: &Path) -> Result<Option<Identifier>, AtRestError> {
    let Some(key) = key_of(opened)? else { return Ok(None) };
    Ok((key_of(&above(dir)?)? != Some(key)).then_some(key))
}

fn above(dir: &Path) -> Result<File, AtRestError> {
    File::open(dir.join("..")).map_err(failed("open the directory above"))
}

/// The key that a directory is encrypted with, if it is.
fn key_of(dir: &File) -> Result<Option<Identifier>, AtRestError> {
    let mut asked = GetPolicy { size: 24, policy: Policy::default() };
    match call::<GET_POLICY, _>(dir, &mut asked, "ask how the directory is encrypted") {
        Ok(()) => Ok((asked.policy.version == POLICY_VERSION).then_some(asked.policy.key)),
        Err(AtRestError::Unsupported) => Ok(None),
        Err(AtRestError::Io { source, .. })
            if source.raw_os_error() == Some(Errno::NODATA.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[expect(unsafe_code, reason = "the kernel's own interface, with the structures of its header")]
fn call<const OPCODE: Opcode, T>(
    dir: &File,
    argument: &mut T,
    doing: &'static str,
) -> Result<(), AtRestError> {
    // SAFETY: each opcode stands beside the structure that it takes, which is at least as long as the kernel reads and writes.
    match unsafe { ioctl(dir.as_fd(), Updater::<OPCODE, T>::new(argument)) } {
        Ok(()) => Ok(()),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Err(AtRestError::Unsupported),
        Err(Errno::EXIST) => Err(AtRestError::Owned),
        Err(error) => Err(failed(doing)(error.into())),
    }
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> AtRestError {
    move |source| AtRestError::Io { doing, source }
}

#[cfg(test)]
mod tests {
    use tradewind_testbed::disk::Disk;

    use super::*;

    /// Not even a part of it is left.
    const ABSENT: u32 = 1;
    const MARK: &str = "the weights of a model that nobody may see";

    fn write(dir: &Path) {
        fs::create_dir_all(dir.join("out")).unwrap();
        fs::write(dir.join("out/a-telling-name"), MARK.repeat(1_000)).unwrap();
    }

    #[test]
    fn nothing_of_a_directory_is_on_the_disk_and_its_key_ends_with_it() {
        let disk = Disk::encrypting(32);
        let (sealed, plain) = (disk.path().join("lease"), disk.path().join("plain"));
        probe(disk.path()).unwrap();
        make(&sealed).unwrap();
        write(&sealed);
        assert_eq!(state(&sealed).unwrap(), State::Open);
        assert!(!disk.holds(MARK) && !disk.holds("a-telling-name"));
        let opened = File::open(&sealed).unwrap();
        let key = own_key(&opened, &sealed).unwrap().unwrap();
        drop(opened);
        end(&sealed).unwrap();
        assert!(!sealed.exists());
        assert_eq!(
            status(&File::open(disk.path()).unwrap(), key).unwrap(),
            ABSENT,
            "the kernel has forgotten it"
        );
        end(&sealed).unwrap();
        fs::create_dir(&plain).unwrap();
        write(&plain);
        assert!(disk.holds(MARK) && disk.holds("a-telling-name"), "as other directories are");
        assert_eq!(state(&plain).unwrap(), State::Plain);
        end(&plain).unwrap();
        assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 1, "lost+found");
    }

    #[test]
    fn a_machine_that_was_started_anew_has_lost_the_key_and_begins_again() {
        let disk = Disk::encrypting(32);
        let sealed = disk.path().join("lease");
        make(&sealed).unwrap();
        write(&sealed);
        make(&sealed).unwrap();
        assert!(sealed.join("out").exists(), "what is there is kept while its key is");
        disk.restart();
        assert_eq!(state(&sealed).unwrap(), State::Locked);
        assert!(!sealed.join("out").exists());
        keep(&sealed).unwrap();
        assert_eq!(state(&sealed).unwrap(), State::Open);
        assert_eq!(fs::read_dir(&sealed).unwrap().count(), 0);
        disk.restart();
        end(&sealed).unwrap();
        assert!(!sealed.exists(), "it is deleted without its key too");
    }

    #[test]
    fn files_that_were_there_before_stay_where_they_need_to() {
        let disk = Disk::encrypting(32);
        let dir = disk.path().join("blobs");
        fs::create_dir(&dir).unwrap();
        write(&dir);
        assert!(matches!(keep(&dir), Err(AtRestError::InUse)));
        assert!(dir.join("out/a-telling-name").exists());
        make(&dir).unwrap();
        assert_eq!(state(&dir).unwrap(), State::Open);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "a work directory begins anew");
    }

    #[test]
    fn an_owner_s_own_encryption_is_left_alone() {
        let disk = Disk::encrypting(32);
        let owned = disk.path().join("owned");
        make(&owned).unwrap();
        assert!(matches!(probe(&owned), Err(AtRestError::Owned)));
        let inside = owned.join("lease");
        fs::create_dir(&inside).unwrap();
        assert_eq!(state(&inside).unwrap(), State::Plain);
        end(&inside).unwrap();
        assert_eq!(state(&owned).unwrap(), State::Open, "its key stays");
    }

    #[test]
    fn a_file_system_that_encrypts_nothing_says_so() {
        let shared = tempfile::tempdir_in("/dev/shm").unwrap();
        assert!(matches!(probe(shared.path()), Err(AtRestError::Unsupported)));
        assert_eq!(state(shared.path()).unwrap(), State::Plain);
    }
}
