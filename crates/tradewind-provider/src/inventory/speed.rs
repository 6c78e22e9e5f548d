//! How fast the machine is: a few seconds of work on processor, memory and disk.
//!
//! Numbers of an idle machine; whoever reads them compares machines, and proves nothing: watchers do that by challenges.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use rustix::fs::{Advice, fadvise};
use serde::{Deserialize, Serialize};
use tradewind_challenge::{CpuEngine, Engine as _, Threads};
use tradewind_proto::challenge::Size;
use tradewind_proto::units::Bytes;

/// Rows of the product that the processor computes: large enough to leave its caches.
const ROWS: u32 = 1_024;
/// What it may hold meanwhile.
const ROOM: usize = 64 << 20;
/// What is written, and read back.
const FILE: Bytes = Bytes::mib(256);
const PIECE: usize = 4 << 20;
/// What is copied to and fro; more than caches hold.
const COPIED: usize = 128 << 20;
/// A measurement ends after this, however slow the machine is.
const LONGEST: Duration = Duration::from_secs(3);

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speed {
    /// Multiplications of 8-bit integers a second, by all threads together.
    pub products: u64,
    /// Bytes of memory copied a second, by one thread.
    pub memory: Bytes,
    /// Bytes written to disk a second, to the last one.
    pub write: Bytes,
    /// Bytes read from disk a second, where its cache could be let go; else from memory.
    pub read: Bytes,
}

impl Speed {
    /// Measures. The file of the disk's part lies in `dir`, and is gone afterwards.
    ///
    /// # Errors
    /// The file cannot be written or read.
    pub fn measure(dir: &Path) -> io::Result<Self> {
        let (write, read) = disk(dir)?;
        Ok(Self { products: products(), memory: memory(), write, read })
    }
}

/// So much in this time, a second.
fn rate(amount: u64, took: Duration) -> u64 {
    let nanoseconds = took.as_nanos().max(1);
    u64::try_from(u128::from(amount) * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX)
}

fn products() -> u64 {
    let Ok(size) = Size::new(ROWS) else { return 0 };
    let mut engine = CpuEngine::new(size, Threads::available(), ROOM);
    let (begun, mut rounds) = (Instant::now(), 0u64);
    while begun.elapsed() < LONGEST / 3 {
        if engine.multiply(0, B256::with_last_byte(1)).is_err() {
            return 0;
        }
        rounds += 1;
    }
    rate(rounds.saturating_mul(u64::from(ROWS).pow(3)), begun.elapsed())
}

fn memory() -> Bytes {
    let from = vec![1u8; COPIED];
    let mut to = vec![0u8; COPIED];
    let (begun, mut copied) = (Instant::now(), 0u64);
    while begun.elapsed() < LONGEST / 6 {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
        copied += COPIED as u64;
    }
    Bytes::new(rate(copied, begun.elapsed()))
}

fn disk(dir: &Path) -> io::Result<(Bytes, Bytes)> {
    let path = dir.join("speed");
    let measured = write(&path).and_then(|(written, rate)| Ok((rate, read(&path, written)?)));
    let removed = std::fs::remove_file(&path);
    let measured = measured?;
    removed.map(|()| measured)
}

fn write(path: &Path) -> io::Result<(u64, Bytes)> {
    let mut file = File::create(path)?;
    // Not zeros, which some file systems never write.
    let mut piece = vec![0; PIECE];
    rand::fill(&mut piece[..]);
    let (begun, mut written) = (Instant::now(), 0u64);
    while written < FILE.get() && begun.elapsed() < LONGEST {
        file.write_all(&piece)?;
        written += PIECE as u64;
    }
    file.sync_all()?;
    Ok((written, Bytes::new(rate(written, begun.elapsed()))))
}

fn read(path: &Path, length: u64) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    // What is written is in the page cache, which answers faster than any disk. A file system may keep it all the same.
    let _ = fadvise(&file, 0, std::num::NonZeroU64::new(length), Advice::DontNeed);
    let mut piece = vec![0u8; PIECE];
    let (begun, mut all) = (Instant::now(), 0u64);
    while begun.elapsed() < LONGEST {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        all += read as u64;
    }
    Ok(Bytes::new(rate(all, begun.elapsed())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_measured_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let speed = Speed::measure(dir.path()).unwrap();
        assert!(speed.products > 0, "{speed:?}");
        for part in [speed.memory, speed.write, speed.read] {
            assert!(part > Bytes::ZERO, "{speed:?}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(Speed::measure(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_rate_is_what_a_second_would_have_held() {
        assert_eq!(rate(10, Duration::from_millis(500)), 20);
        assert_eq!(rate(u64::MAX, Duration::from_nanos(0)), u64::MAX);
    }
}
