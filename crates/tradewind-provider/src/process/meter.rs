//! The shim's watch over consumption: what groups count, what only a walk finds, and what must end the job.

use std::time::{Duration, Instant};

use tradewind_proto::units::Bytes;
use tradewind_proto::workload::{Limits, Usage};

use super::cgroup::Cgroup;
use super::job_dir::{JobDir, Order};
use super::{disk, tree};

/// Between two looks, at the least.
const TICK: Duration = Duration::from_millis(500);
/// The same for a job that has used more than half of its disk.
const TICK_TIGHT: Duration = Duration::from_millis(100);
/// And at the most, however long a look takes.
const TICK_MAX: Duration = Duration::from_secs(5);
/// A look may take one part in so many of the time.
const TICK_SHARE: u32 = 20;
/// Clock ticks in a second, as every Linux ABI has them.
const TICKS_PER_SECOND: u64 = 100;

/// Watches one workload.
#[derive(Debug)]
pub(super) struct Meter {
    limits: Limits,
    work: std::path::PathBuf,
    cgroup: Cgroup,
    launcher: u32,
    seen: Usage,
    memory_exceeded: bool,
    /// When to look again.
    pub(super) next: Instant,
}

impl Meter {
    pub(super) fn new(order: &Order, cgroup: Cgroup, launcher: u32) -> Self {
        Self {
            limits: order.spec.limits.clone(),
            work: order.work.clone(),
            cgroup,
            launcher,
            seen: Usage::default(),
            memory_exceeded: false,
            next: Instant::now() + TICK_MAX,
        }
    }

    /// The job runs now: look at once.
    pub(super) fn begin(&mut self) {
        self.next = Instant::now();
    }

    /// Looks when it is time; returns why the job must end.
    pub(super) fn tick(&mut self, dir: &JobDir) -> Option<String> {
        let begin = Instant::now();
        if begin < self.next {
            return None;
        }
        let excess = self.disk_excess().or_else(|| self.memory_excess());
        let usage = self.read(false);
        // The agent sees the last one that could be written.
        let _ = dir.note("usage.json", &usage);
        let tight = usage.disk.get() > self.limits.disk.get() / 2;
        let least = if tight { TICK_TIGHT } else { TICK };
        self.next = Instant::now() + (begin.elapsed() * TICK_SHARE).clamp(least, TICK_MAX);
        excess
    }

    /// Consumption so far; `last` also looks at the disk once more.
    pub(super) fn read(&mut self, last: bool) -> Usage {
        if last && let Ok(found) = disk::usage(&self.work) {
            self.seen.disk = found.bytes;
        }
        let (cpu_ms, memory) = if self.cgroup.cpu_ms().is_none() || self.cgroup.memory().is_none() {
            self.sum()
        } else {
            (0, Bytes::ZERO)
        };
        self.seen.cpu_ms = self.seen.cpu_ms.max(self.cgroup.cpu_ms().unwrap_or(cpu_ms));
        self.seen.memory = self.cgroup.memory().unwrap_or(memory);
        self.seen.memory_peak =
            self.seen.memory_peak.max(self.cgroup.memory_peak().unwrap_or(self.seen.memory));
        self.seen
    }

    /// Whether the memory limit killed anything.
    pub(super) fn out_of_memory(&self) -> bool {
        self.memory_exceeded || self.cgroup.memory_kills().is_some_and(|kills| kills > 0)
    }

    fn disk_excess(&mut self) -> Option<String> {
        let found = disk::usage(&self.work).ok()?;
        self.seen.disk = found.bytes;
        if found.partial {
            return Some("killed: /work has directories too deep or too closed to be measured".into());
        }
        let held = Bytes::new(found.bytes.get().saturating_add(self.unlinked().get()));
        let limit = self.limits.disk;
        (held > limit).then(|| format!("killed: /work holds {held}, the limit is {limit}"))
    }

    /// Bytes in files of `/work` that have no name any more but are still open.
    fn unlinked(&self) -> Bytes {
        let pids = tree::descendants(self.launcher).into_iter().map(|process| process.pid);
        disk::unlinked(&self.work, pids)
    }

    /// Stands in for the memory controller.
    fn memory_excess(&mut self) -> Option<String> {
        if self.cgroup.memory.is_some() {
            return None;
        }
        let (_, memory) = self.sum();
        self.memory_exceeded |= memory > self.limits.memory;
        let limit = self.limits.memory;
        (memory > limit).then(|| format!("killed: it holds {memory} of memory, the limit is {limit}"))
    }

    /// CPU milliseconds and resident memory of the processes, where there is no group to ask.
    fn sum(&self) -> (u64, Bytes) {
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        let (mut ticks, mut pages) = (0u64, 0u64);
        for process in tree::descendants(self.launcher) {
            ticks = ticks.saturating_add(process.cpu_ticks);
            pages = pages.saturating_add(process.resident_pages);
        }
        (ticks.saturating_mul(1000 / TICKS_PER_SECOND), Bytes::new(pages.saturating_mul(page)))
    }
}
