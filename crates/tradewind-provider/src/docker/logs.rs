//! A lease's log: taken from the engine as it comes, kept by the agent up to its limit, read by byte offset.
//!
//! ```text
//!  engine ──follow, timestamps──► collector ──append──► log        ──read(offset)──► buyer
//!  (rotates at 2 × 32 MiB)            │
//!                                     └──write──► position {written, dropped, last timestamp, ended}
//! ```
//!
//! The engine's own log is only a buffer: it rotates from the beginning and cannot say how much it dropped. A collector that
//! was killed goes on from its position: what the engine repeats (it filters by whole seconds) is skipped by timestamp, so no
//! line is lost or doubled as long as the engine still has it; if it does not, the log says so. One agent collects a lease at a
//! time (a lock on the directory); any other only reads.

use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures::{FutureExt as _, StreamExt as _};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tradewind_proto::workload::{LogChunk, LogCursor};

use super::engine::{CallError, Engine};

/// Frames taken at once; each has at most 16 KiB and some.
const BATCH: usize = 64;
/// While entries keep coming the position is written this often; when they pause, sooner.
const SAVE_EVERY: Duration = Duration::from_millis(50);
/// Entries that come within this time are written together.
const PAUSE: Duration = Duration::from_millis(5);
/// Of the position's file, in bytes; its numbers never fill it.
const POSITION_LENGTH: usize = 512;
/// A position is written in one call, so a torn one is soon whole.
const TORN_READS: usize = 3;
/// Stands where entries are missing.
const LOST: &[u8] = b"tradewind: a part of the log is lost: the engine dropped it while no agent was there\n";
/// The longest piece that one read returns, whatever it asks for.
const LONGEST_READ: usize = 4 << 20;

/// How far the log was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// Bytes in the log.
    written: u64,
    /// Bytes that came when the log was full.
    dropped: u64,
    /// The last entry's time, and how many entries had it.
    last: String,
    same: u32,
    /// For standard output and error: the time of its last entry, if that did not end its line.
    open: [String; 2],
    /// The log is whole.
    ended: bool,
}

impl Position {
    /// A line that ends in its own checksum.
    fn line(&self) -> std::io::Result<String> {
        let json = serde_json::to_string(self)?;
        let line = format!("{json} {}", blake3::hash(json.as_bytes()));
        // Always of one length, so that no write leaves the end of an older one.
        Ok(format!("{line:<POSITION_LENGTH$}"))
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let (json, hash) = line.trim_end().rsplit_once(' ')?;
        (blake3::hash(json.as_bytes()).to_string() == hash).then(|| serde_json::from_str(json).ok())?
    }
}

/// The kept log of one lease.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    directory: PathBuf,
}

impl Spool {
    /// The log kept in `directory`, which is the lease's alone.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn position(&self) -> Position {
        let file = self.directory.join("position");
        // Another task may be writing it; what is torn for longer (by a power failure) or absent begins anew, and then the log
        // is taken again, with the same bytes at the same offsets.
        let whole = (0..TORN_READS).find_map(|_| Position::parse(&std::fs::read(&file).ok()?));
        whole.unwrap_or_default()
    }

    /// The log will not grow any more.
    pub(super) fn has_ended(&self) -> bool {
        self.position().ended
    }

    /// Up to `limit` bytes from `from` on.
    pub(super) fn read(&self, from: LogCursor, limit: usize) -> std::io::Result<LogChunk> {
        let position = self.position();
        let left = position.written.saturating_sub(from.0);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(limit).min(LONGEST_READ);
        let mut bytes = vec![0; wanted];
        if wanted > 0 {
            File::open(self.directory.join("log"))?.read_exact_at(&mut bytes, from.0)?;
        }
        let next = from.0.saturating_add(u64::try_from(wanted).unwrap_or(u64::MAX));
        Ok(LogChunk {
            bytes: bytes.into(),
            next: LogCursor(next),
            dropped: position.dropped,
            end: position.ended && next >= position.written,
        })
    }

    /// Notes why the runtime ended the workload; the collector writes it under the log.
    pub(super) fn note(&self, reason: &str) -> std::io::Result<()> {
        replace(&self.directory, "note", format!("tradewind: {reason}\n").as_bytes())
    }
}

fn replace(directory: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let partial = directory.join(format!("{name}.partial"));
    std::fs::write(&partial, bytes)?;
    std::fs::rename(partial, directory.join(name))
}

/// Why collecting stopped before the log's end. The engine keeps the rest until another collector comes.
#[derive(Debug, thiserror::Error)]
pub(super) enum CollectError {
    #[error("the log cannot be kept: {0}")]
    Io(#[from] std::io::Error),
    #[error("the engine does not tell the log: {0:?}")]
    Engine(CallError),
}

impl From<CallError> for CollectError {
    fn from(error: CallError) -> Self {
        Self::Engine(error)
    }
}

/// Takes the log of `container` until it ends, keeping at most `limit` bytes of it. Returns at once where another agent does.
pub(super) async fn collect(
    engine: &Engine,
    container: &str,
    spool: &Spool,
    limit: u64,
) -> Result<(), CollectError> {
    let lock =
        OpenOptions::new().create(true).truncate(false).write(true).open(spool.directory.join("lock"))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    let mut taker = Taker::open(spool, limit)?;
    if taker.position.ended {
        return Ok(());
    }
    taker.take(engine, container, true).await?;
    if runs(engine, container).await? {
        // The engine closed the stream under a live container: it restarts.
        return Err(CallError::Unavailable("it ended the log of a running container".into()).into());
    }
    // What came between the last frame that was followed and the end.
    taker.resume();
    taker.take(engine, container, false).await?;
    taker.end()?;
    Ok(())
}

async fn runs(engine: &Engine, container: &str) -> Result<bool, CallError> {
    let found = engine
        .call("inspect a container", |docker| async move { docker.inspect_container(container, None).await })
        .await?;
    Ok(found.state.and_then(|state| state.running).unwrap_or(false))
}

/// Appends entries to the log, each once.
struct Taker<'a> {
    spool: &'a Spool,
    limit: u64,
    log: BufWriter<File>,
    file: File,
    position: Position,
    /// While going on after a pause: how many entries of the last timestamp were seen again. `None` when all is new.
    again: Option<u32>,
}

impl<'a> Taker<'a> {
    fn open(spool: &'a Spool, limit: u64) -> std::io::Result<Self> {
        let position = spool.position();
        let log =
            OpenOptions::new().create(true).truncate(false).write(true).open(spool.directory.join("log"))?;
        log.set_len(position.written)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(spool.directory.join("position"))?;
        let mut taker = Self { spool, limit, log: BufWriter::new(log), file, position, again: None };
        taker.log.seek(SeekFrom::End(0))?;
        taker.resume();
        Ok(taker)
    }

    fn resume(&mut self) {
        self.again = (self.position.same > 0).then_some(0);
    }

    async fn take(&mut self, engine: &Engine, container: &str, follow: bool) -> Result<(), CollectError> {
        let last: Option<jiff::Timestamp> = self.position.last.parse().ok();
        let since = last.and_then(|last| i32::try_from(last.as_second()).ok()).unwrap_or(0);
        let options = LogsOptionsBuilder::default()
            .follow(follow)
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .since(since)
            .build();
        let client = engine.client().await?;
        let mut frames = client.logs(container, Some(options)).ready_chunks(BATCH);
        let mut saved = Instant::now();
        loop {
            let next = match frames.next().now_or_never() {
                Some(next) => next,
                None => {
                    let soon = if saved.elapsed() < PAUSE { PAUSE } else { Duration::ZERO };
                    match tokio::time::timeout(soon, frames.next()).await {
                        Ok(next) => next,
                        Err(_) => {
                            self.save()?;
                            saved = Instant::now();
                            frames.next().await
                        }
                    }
                }
            };
            let Some(batch) = next else { return Ok(self.save()?) };
            for frame in batch {
                self.frame(frame.map_err(CallError::from)?)?;
            }
            if saved.elapsed() >= SAVE_EVERY {
                self.save()?;
                saved = Instant::now();
            }
        }
    }

    fn frame(&mut self, frame: LogOutput) -> Result<(), CollectError> {
        match frame {
            LogOutput::StdOut { message } => Ok(self.entry(0, &message)?),
            LogOutput::StdErr { message } => Ok(self.entry(1, &message)?),
            LogOutput::StdIn { .. } => Ok(()),
            LogOutput::Console { message } => {
                let why = String::from_utf8_lossy(&message).trim().to_owned();
                Err(CallError::Unavailable(why).into())
            }
        }
    }

    fn entry(&mut self, stream: usize, message: &[u8]) -> std::io::Result<()> {
        let Some((at, text)) = split_timestamp(message) else { return self.append(message) };
        if let Some(again) = &mut self.again {
            match at.cmp(&self.position.last) {
                Ordering::Less => return Ok(()),
                Ordering::Equal if *again < self.position.same => {
                    *again += 1;
                    return Ok(());
                }
                Ordering::Equal | Ordering::Greater => {}
            }
            let gap = *again == 0;
            self.again = None;
            if gap {
                self.append(LOST)?;
            }
        }
        if at == self.position.last {
            self.position.same = self.position.same.saturating_add(1);
        } else {
            at.clone_into(&mut self.position.last);
            self.position.same = 1;
        }
        let open = &mut self.position.open[stream];
        // Some engines forget the end of a line that they cut into pieces. Pieces of a line have one time.
        let forgotten = !open.is_empty() && open != at;
        open.clear();
        if !text.ends_with(b"\n") {
            open.push_str(at);
        }
        if forgotten {
            self.append(b"\n")?;
        }
        self.append(text)
    }

    fn append(&mut self, text: &[u8]) -> std::io::Result<()> {
        let room = usize::try_from(self.limit.saturating_sub(self.position.written)).unwrap_or(usize::MAX);
        let (kept, lost) = text.split_at(text.len().min(room));
        self.log.write_all(kept)?;
        self.position.written += length(kept);
        self.position.dropped += length(lost);
        Ok(())
    }

    fn end(&mut self) -> std::io::Result<()> {
        let note = std::fs::read(self.spool.directory.join("note")).unwrap_or_default();
        // A few bytes above the limit: why it ended matters more than the rest of a flood.
        self.log.write_all(&note)?;
        self.position.written += length(&note);
        self.position.ended = true;
        self.save()
    }

    fn save(&mut self) -> std::io::Result<()> {
        self.log.flush()?;
        self.file.write_all_at(self.position.line()?.as_bytes(), 0)
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// An entry begins with its time and a space. The time is of one length and in UTC, so that it sorts as text.
fn split_timestamp(message: &[u8]) -> Option<(&str, &[u8])> {
    const LENGTH: usize = "2026-01-02T03:04:05.000000000Z".len();
    let (time, rest) = message.split_at_checked(LENGTH)?;
    let text = rest.strip_prefix(b" ")?;
    let sound = time.starts_with(b"2") && time[10] == b'T' && time[19] == b'.' && time.ends_with(b"Z");
    std::str::from_utf8(time).ok().filter(|_| sound).map(|time| (time, text))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn at(nanos: u32, text: &str) -> Bytes {
        Bytes::from(format!("2026-01-02T03:04:05.{nanos:09}Z {text}"))
    }

    fn feed(spool: &Spool, limit: u64, entries: &[Bytes], end: bool) {
        let mut taker = Taker::open(spool, limit).expect("open");
        for entry in entries {
            taker.entry(0, entry).expect("take");
        }
        taker.save().expect("save");
        if end {
            taker.end().expect("end");
        }
    }

    fn text(spool: &Spool) -> String {
        let chunk = spool.read(LogCursor::default(), 1 << 20).expect("read");
        String::from_utf8_lossy(&chunk.bytes).into_owned()
    }

    #[test]
    fn what_the_engine_repeats_is_taken_once() {
        let home = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(home.path().into());
        let entries = [at(1, "a\n"), at(2, "b\n"), at(2, "c\n"), at(2, "d\n"), at(3, "e\n")];
        for taken in 1..entries.len() {
            let _ = std::fs::remove_file(home.path().join("position"));
            feed(&spool, 1000, &entries[..taken], false);
            feed(&spool, 1000, &entries, true);
            assert_eq!(text(&spool), "a\nb\nc\nd\ne\n", "after a stop at {taken}");
        }
    }

    #[test]
    fn bytes_behind_the_position_are_taken_back() {
        let home = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(home.path().into());
        feed(&spool, 1000, &[at(1, "a\n")], false);
        std::fs::write(home.path().join("log"), "a\nhalf a li")
            .expect("a crash between the log and its position");
        feed(&spool, 1000, &[at(1, "a\n"), at(2, "b\n")], true);
        assert_eq!(text(&spool), "a\nb\n");
    }

    #[test]
    fn a_gap_is_told() {
        let home = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(home.path().into());
        feed(&spool, 1000, &[at(1, "a\n")], false);
        feed(&spool, 1000, &[at(9, "z\n")], true);
        let text = text(&spool);
        assert!(
            text.starts_with("a\ntradewind: a part of the log is lost") && text.ends_with("\nz\n"),
            "{text}"
        );
    }

    #[test]
    fn the_end_of_a_cut_line_that_an_engine_forgot_is_put_back() {
        let home = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(home.path().into());
        let pieces = [at(1, "xxx"), at(1, "xx"), at(2, "b\n"), at(3, "c"), at(4, "d")];
        for taken in 1..pieces.len() {
            let _ = std::fs::remove_file(home.path().join("position"));
            feed(&spool, 100, &pieces[..taken], false);
            feed(&spool, 100, &pieces, true);
            assert_eq!(text(&spool), "xxxxx\nb\nc\nd", "after a stop at {taken}");
        }
    }

    #[test]
    fn the_head_is_kept_and_the_rest_is_counted() {
        let home = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(home.path().into());
        spool.note("the work directory passed its limit").expect("note");
        feed(&spool, 5, &[at(1, "abc\n"), at(2, "def\n"), at(3, "ghi\n")], true);
        let chunk = spool.read(LogCursor::default(), 1000).expect("read");
        assert_eq!(&chunk.bytes[..5], b"abc\nd");
        assert!(chunk.bytes.ends_with(b"tradewind: the work directory passed its limit\n"));
        assert_eq!((chunk.dropped, chunk.end), (7, true));
    }

    #[test]
    fn a_cursor_beyond_the_log_reads_nothing() {
        let home = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(home.path().into());
        feed(&spool, 100, &[at(1, "abc\n")], false);
        let chunk = spool.read(LogCursor(u64::MAX), 10).expect("read");
        assert!(chunk.bytes.is_empty() && !chunk.end);
    }
}
