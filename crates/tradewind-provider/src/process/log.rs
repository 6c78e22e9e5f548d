//! The workload's log: written by the shim up to a cap, read by the agent from any byte on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use bytes::Bytes;
use tradewind_proto::workload::{LogChunk, LogCursor};

use super::job_dir::JobDir;

/// The most that one call returns, whatever was asked.
const CHUNK_MAX: usize = 4 << 20;

/// Keeps the beginning of what the job says and counts the rest.
#[derive(Debug)]
pub(super) struct LogWriter {
    log: File,
    dropped_file: File,
    room: u64,
    dropped: u64,
}

impl LogWriter {
    pub(super) fn create(dir: &JobDir, cap: u64) -> io::Result<Self> {
        let open = |name| {
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(dir.file(name))
        };
        Ok(Self { log: open("log")?, dropped_file: open("dropped")?, room: cap, dropped: 0 })
    }

    /// Takes what the job wrote. A host disk that is full costs log, not the job.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let keep = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        let (kept, lost) = bytes.split_at(keep);
        let written = self.log.write_all(kept);
        self.room -= u64::try_from(keep).unwrap_or(self.room);
        let lost = if written.is_ok() { lost.len() } else { bytes.len() };
        if lost > 0 {
            self.dropped = self.dropped.saturating_add(u64::try_from(lost).unwrap_or(u64::MAX));
            self.dropped_file.write_all_at(&self.dropped.to_le_bytes(), 0)?;
        }
        Ok(())
    }

    pub(super) fn full(&self) -> bool {
        self.room == 0
    }

    /// A line of our own; the cap does not apply to it.
    pub(super) fn say(&mut self, line: &str) -> io::Result<()> {
        self.log.write_all(format!("tradewind: {line}\n").as_bytes())
    }
}

/// Reads up to `limit` bytes; `over` is whether the workload had ended before this call.
pub(crate) fn read(dir: &JobDir, from: LogCursor, limit: usize, over: bool) -> io::Result<LogChunk> {
    let dropped = read_dropped(dir);
    let mut file = match File::open(dir.file("log")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(LogChunk { bytes: Bytes::new(), next: from, dropped, end: over });
        }
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let start = from.0.min(length);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(u64::try_from(limit.min(CHUNK_MAX)).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    let next = start + u64::try_from(bytes.len()).unwrap_or(0);
    Ok(LogChunk { bytes: bytes.into(), next: LogCursor(next), dropped, end: over && next >= length })
}

fn read_dropped(dir: &JobDir) -> u64 {
    let bytes = std::fs::read(dir.file("dropped")).unwrap_or_default();
    bytes.try_into().map(u64::from_le_bytes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tradewind_proto::ids::LeaseId;

    proptest! {
        #[test]
        fn what_is_kept_and_what_is_dropped_add_up(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20),
            cap in 0u64..300,
            step in 1usize..40,
        ) {
            let root = tempfile::tempdir().unwrap();
            let dir = JobDir::of(root.path(), LeaseId::default());
            dir.create().unwrap();
            let mut writer = LogWriter::create(&dir, cap).unwrap();
            for piece in &pieces {
                writer.take(piece).unwrap();
            }
            let said = pieces.concat();
            let (mut from, mut kept) = (LogCursor::default(), Vec::new());
            let dropped = loop {
                let chunk = read(&dir, from, step, true).unwrap();
                kept.extend_from_slice(&chunk.bytes);
                from = chunk.next;
                if chunk.end {
                    break chunk.dropped;
                }
            };
            prop_assert!(said.starts_with(&kept));
            prop_assert_eq!(kept.len(), said.len().min(usize::try_from(cap).unwrap()));
            prop_assert_eq!(kept.len() + usize::try_from(dropped).unwrap(), said.len());
        }
    }
}
