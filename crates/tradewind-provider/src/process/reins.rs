//! How orders reach a shim, and how it lets the agent know.
//!
//! ```text
//! the agent's machine:   agent ──commands──► named pipe ──► shim ──► report on standard output
//! another machine:       agent ──appends──► `commands` ──read again and again──► shim ──► `started.json`, `obeyed.json`
//! ```
//!
//! A pipe does not reach another machine, a file in a shared directory does. It is opened anew for each look, because network
//! file systems promise only an opened file to be fresh.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use serde::{Deserialize, Serialize};
use tradewind_proto::units::Timestamp;

use super::job_dir::JobDir;
use super::shim::{self, RESUME, Report, SIGNAL};

/// Orders, appended by the agent, two bytes each.
pub(crate) const COMMANDS: &str = "commands";
/// How many bytes of orders were carried out.
pub(crate) const OBEYED: &str = "obeyed.json";
/// There once the workload's first process was executed.
pub(crate) const STARTED: &str = "started.json";
/// There once somebody above the runtime takes the machine back.
pub(crate) const NOTICE: &str = "notice.json";
/// The key to the workload's ports.
pub(crate) const DOOR: &str = "ports.key";
/// Between two looks at the orders.
const LOOK: Duration = Duration::from_millis(100);
/// Orders that are taken at one look.
const ORDERS: usize = 64;

/// The machine is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Notice {
    /// When the workload was told.
    pub(crate) at: Timestamp,
}

/// Where a shim's orders come from.
#[derive(Debug)]
pub(crate) enum Reins {
    /// An agent on this machine.
    Pipe(File),
    /// An agent elsewhere.
    Mailbox(Mailbox),
}

impl Reins {
    /// Makes the named pipe. Opened for both directions it never ends.
    pub(super) fn pipe(dir: &JobDir) -> io::Result<Self> {
        let path = dir.file("control");
        match mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
        OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(path).map(Self::Pipe)
    }

    /// Whether the agent is on this machine.
    pub(super) const fn is_local(&self) -> bool {
        matches!(self, Self::Pipe(_))
    }

    /// Where the workload's ports are listened on.
    pub(super) fn listens_at(&self) -> Ipv4Addr {
        match self {
            Self::Pipe(_) => Ipv4Addr::LOCALHOST,
            Self::Mailbox(_) => Ipv4Addr::UNSPECIFIED,
        }
    }

    /// The file with what a caller must know to come in by a port, where not only this machine can call.
    pub(super) fn door(&self) -> Option<PathBuf> {
        match self {
            Self::Pipe(_) => None,
            Self::Mailbox(mailbox) => Some(mailbox.dir.file(DOOR)),
        }
    }

    /// What to wait on, where orders announce themselves.
    pub(super) fn pollable(&self) -> Option<&File> {
        match self {
            Self::Pipe(pipe) => Some(pipe),
            Self::Mailbox(_) => None,
        }
    }

    /// When to look, where they do not.
    pub(super) fn next_look(&self) -> Option<Instant> {
        match self {
            Self::Pipe(_) => None,
            Self::Mailbox(mailbox) => Some(mailbox.next),
        }
    }

    /// The orders that have come, two bytes each.
    pub(super) fn read(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Pipe(pipe) => {
                let mut buffer = [0u8; ORDERS];
                let length = match pipe.read(&mut buffer) {
                    Err(error)
                        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
                    {
                        0
                    }
                    read => read?,
                };
                Ok(buffer.get(..length).unwrap_or_default().to_vec())
            }
            Self::Mailbox(mailbox) => mailbox.read(),
        }
    }

    /// Says that what was read is done.
    pub(super) fn acknowledge(&self) -> io::Result<()> {
        match self {
            Self::Pipe(_) => Ok(()),
            Self::Mailbox(mailbox) => mailbox.dir.note(OBEYED, &mailbox.read),
        }
    }

    /// Says that the workload runs.
    pub(super) fn announce(&self) -> io::Result<()> {
        match self {
            Self::Pipe(_) => {
                shim::report(&Report::Started);
                Ok(())
            }
            Self::Mailbox(mailbox) => mailbox.dir.note(STARTED, &true),
        }
    }
}

/// Orders in a file of the job's directory, and a notice by a signal.
#[derive(Debug)]
pub(crate) struct Mailbox {
    dir: JobDir,
    read: u64,
    next: Instant,
    notice: Arc<AtomicBool>,
    stop_signal: u8,
}

impl Mailbox {
    /// Orders for the workload of `dir`. Once `notice` is set, the job gets its stop signal.
    pub(crate) fn new(dir: JobDir, notice: Arc<AtomicBool>, stop_signal: u8) -> Self {
        Self { dir, read: 0, next: Instant::now(), notice, stop_signal }
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        self.next = Instant::now() + LOOK;
        let mut orders = match File::open(self.dir.file(COMMANDS)) {
            Ok(file) => self.read_new(file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        if self.notice.swap(false, Ordering::Relaxed) {
            self.dir.write(NOTICE, &Notice { at: shim::now() })?;
            orders.extend([RESUME, 0, SIGNAL, self.stop_signal]);
        }
        Ok(orders)
    }

    fn read_new(&mut self, mut file: File) -> io::Result<Vec<u8>> {
        let mut orders = Vec::new();
        file.seek(SeekFrom::Start(self.read))?;
        file.take(u64::try_from(ORDERS).unwrap_or(u64::MAX)).read_to_end(&mut orders)?;
        orders.truncate(orders.len() / 2 * 2);
        self.read += u64::try_from(orders.len()).unwrap_or(0);
        Ok(orders)
    }
}

/// Appends an order for a shim elsewhere, and returns what [`OBEYED`] holds once it is carried out.
pub(crate) fn order(dir: &JobDir, order: [u8; 2]) -> io::Result<u64> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(dir.file(COMMANDS))?;
    file.write_all(&order)?;
    file.sync_all()?;
    file.metadata().map(|found| found.len())
}

/// Writes the key to a workload's ports, readable by its owner only.
pub(crate) fn lock_door(dir: &Path, key: &[u8; 32]) -> io::Result<()> {
    let path = dir.join(DOOR);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(key)
}

/// Reads that key.
pub(crate) fn door_key(path: &Path) -> io::Result<[u8; 32]> {
    fs::read(path)?.try_into().map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tradewind_proto::ids::LeaseId;

    #[test]
    fn orders_are_read_once_and_a_notice_follows_them_as_the_stop_signal() {
        let root = tempfile::tempdir().unwrap();
        let dir = JobDir::of(root.path(), LeaseId::default());
        dir.create().unwrap();
        let notice = Arc::new(AtomicBool::new(false));
        let mut mailbox = Mailbox::new(dir.clone(), notice.clone(), 12);
        assert!(mailbox.read().unwrap().is_empty(), "no file yet");
        notice.store(true, Ordering::Relaxed);
        assert_eq!(mailbox.read().unwrap(), [RESUME, 0, SIGNAL, 12], "and none is needed for a notice");
        assert_eq!(order(&dir, *b"S\x0f").unwrap(), 2);
        assert_eq!(order(&dir, *b"K\x00").unwrap(), 4);
        assert_eq!(mailbox.read().unwrap(), b"S\x0fK\x00");
        notice.store(true, Ordering::Relaxed);
        assert_eq!(mailbox.read().unwrap(), [RESUME, 0, SIGNAL, 12]);
        assert!(dir.file(NOTICE).exists() && mailbox.read().unwrap().is_empty());
    }
}
