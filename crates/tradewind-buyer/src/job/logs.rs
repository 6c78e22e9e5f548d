//! A job's log on the buyer's disk: what the provider sent, in order, once. Pieces are small, so they are written where they arrive.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use tradewind_proto::workload::LogCursor;

/// The log of one attempt, opened for appending after what was recorded.
pub(super) struct LogFile {
    file: File,
    /// The place in the provider's log up to which the file is whole.
    pub(super) cursor: LogCursor,
    /// The file's length there.
    pub(super) length: u64,
}

impl LogFile {
    /// Opens the file and cuts off what was written after the recorded place.
    pub(super) fn open(path: &Path, cursor: LogCursor, length: u64) -> std::io::Result<Self> {
        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length))?;
        Ok(Self { file, cursor, length })
    }

    /// Appends a piece.
    pub(super) fn append(&mut self, bytes: &[u8], next: LogCursor) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        self.cursor = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_repeats_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(&path, LogCursor(0), 0).unwrap();
        log.append(b"one\n", LogCursor(4)).unwrap();
        let (cursor, length) = (log.cursor, log.length);
        log.append(b"two\n", LogCursor(8)).unwrap();
        let mut again = LogFile::open(&path, cursor, length).unwrap();
        again.append(b"two\n", LogCursor(8)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }
}
