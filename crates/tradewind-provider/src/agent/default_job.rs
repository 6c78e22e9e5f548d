//! The owner's own job for a machine that nobody leases.
//!
//! ```text
//! lends, no lease, for `after` ─► it runs ─► a lease comes: signal, grace, kill ─► the lease's job starts
//!                                   └─ it ends by itself: once more, a minute later
//! ```
//!
//! It is a workload of the runtime like any other, under a name that no lease can have: sandbox and limits hold for it, and an agent that
//! was killed finds it again; one that is stopped ends it. Nobody pays for it. It never runs beside a lease, nor while the owner keeps
//! the machine.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::B256;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::lending::Standing;
use tradewind_proto::units::{Seconds, Timestamp};
use tradewind_proto::workload::{Secrets, WorkloadSpec, WorkloadStatus};

use super::{Agent, Inner};
use crate::runtime::{Runtime, RuntimeError, Volumes};

/// Its name at the runtime. A lease's is a digest.
pub const DEFAULT_JOB: LeaseId = LeaseId::new(B256::repeat_byte(0xff));
/// The longest that a lease waits for its end.
pub const LONGEST_GRACE: Seconds = Seconds::new(30);
/// The longest that the agent's end waits for it.
const LEAVING: Seconds = Seconds::new(10);
const LOOK: Duration = Duration::from_secs(1);
/// Between an end, or a start that failed, and the next start.
const AGAIN: Seconds = Seconds::new(60);
/// Between two questions about a job of before.
const ASK: Duration = Duration::from_secs(15);

/// What runs while nobody leases the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultJob {
    /// The runtime's name.
    pub runtime: &'static str,
    /// The job, as [`DEFAULT_JOB`].
    pub spec: WorkloadSpec,
    /// So long after the last lease's end.
    pub after: Seconds,
}

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Held by who starts or ends it; a lease waits for it, so nothing is fetched meanwhile.
    turn: tokio::sync::Mutex<()>,
    runs: AtomicBool,
    /// Milliseconds of processor time that it used.
    pub(super) cpu_ms: AtomicU64,
}

/// Follows until the agent shuts down.
pub(super) async fn follow(agent: Agent) {
    let inner = &agent.inner;
    let job = inner.config.default_job.as_ref();
    let own = async {
        if let Some(job) = job
            && let Some(runtime) = inner.parts.runtimes.get(job.runtime)
        {
            run(Course { inner, job, runtime: runtime.as_ref(), from: inner.now().after(job.after) }).await;
        }
    };
    tokio::join!(clear(inner, job.map(|job| job.runtime)), own);
}

/// Ends what is left of a job that is not configured any more, once the runtimes answer.
async fn clear(inner: &Inner, own: Option<&str>) {
    let runtimes = inner.parts.runtimes.values().filter(|runtime| Some(runtime.name()) != own);
    let mut left: Vec<(&dyn Runtime, bool)> = runtimes.map(|runtime| (runtime.as_ref(), false)).collect();
    loop {
        let mut still = Vec::new();
        for (runtime, told) in left {
            let Err(error) = end(runtime, LONGEST_GRACE).await else { continue };
            if !told {
                let silent = runtime.name();
                tracing::warn!(runtime = silent, %error, "cannot tell whether a default job of before is over; asking again");
            }
            still.push((runtime, true));
        }
        if still.is_empty() {
            return;
        }
        left = still;
        tokio::select! {
            biased;
            () = inner.cancel.cancelled() => return,
            () = tokio::time::sleep(ASK) => {}
        }
    }
}

async fn run(mut course: Course<'_>) {
    course.adopt().await;
    loop {
        if let Err(error) = course.step().await {
            tracing::warn!(%error, "the default job");
            course.wait(AGAIN);
        }
        tokio::select! {
            biased;
            () = course.inner.cancel.cancelled() => return course.leave().await,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Nothing,
    End,
    Start,
    /// It ended by itself.
    Clear,
    /// It runs and may.
    Meter,
}

impl Act {
    const fn on(status: WorkloadStatus, is_idle: bool, is_due: bool) -> Self {
        match status {
            _ if !is_idle => Self::End,
            WorkloadStatus::Running { .. } => Self::Meter,
            WorkloadStatus::Absent if is_due => Self::Start,
            WorkloadStatus::Absent => Self::Nothing,
            WorkloadStatus::Exited(_) | WorkloadStatus::Lost => Self::Clear,
        }
    }
}

struct Course<'a> {
    inner: &'a Inner,
    job: &'a DefaultJob,
    runtime: &'a dyn Runtime,
    /// It is not started before.
    from: Timestamp,
}

impl Course<'_> {
    /// Keeps what an earlier life started, if it is this job.
    async fn adopt(&self) {
        if matches!(self.runtime.status(DEFAULT_JOB).await, Ok(WorkloadStatus::Running { .. }))
            && let Err(RuntimeError::Conflict(_)) = self.start().await
            && let Err(error) = end(self.runtime, self.grace()).await
        {
            tracing::warn!(%error, "the default job of before is not ended");
        }
    }

    /// Ends it with the agent: nobody is there then to make room for a lease, or to keep to the owner's hours.
    async fn leave(&self) {
        let _held = self.inner.default_job.turn.lock().await;
        if let Err(error) = end(self.runtime, self.grace().min(LEAVING)).await {
            tracing::warn!(%error, "the default job goes on without the agent");
        }
    }

    async fn step(&mut self) -> Result<(), RuntimeError> {
        if self.look().await? == Act::Start { self.begin().await } else { Ok(()) }
    }

    /// Does all that is soon done.
    async fn look(&mut self) -> Result<Act, RuntimeError> {
        let _held = self.inner.default_job.turn.lock().await;
        let status = self.runtime.status(DEFAULT_JOB).await?;
        let runs = matches!(status, WorkloadStatus::Running { .. });
        self.inner.default_job.runs.store(runs, Ordering::Relaxed);
        let act = Act::on(status, self.inner.is_idle(), self.inner.now() >= self.from);
        match act {
            Act::Nothing | Act::Start => {}
            Act::End => {
                self.wait(self.job.after);
                end(self.runtime, self.grace()).await?;
            }
            Act::Clear => {
                tracing::info!(?status, "the default job ended; it starts again in a minute");
                self.wait(AGAIN);
                self.runtime.remove(DEFAULT_JOB).await?;
            }
            Act::Meter => {
                let usage = self.runtime.usage(DEFAULT_JOB).await?;
                self.inner.default_job.cpu_ms.store(usage.cpu_ms, Ordering::Relaxed);
            }
        }
        Ok(act)
    }

    /// Starts it, unless the machine is wanted while what it runs in is still being fetched. Nobody waits for that.
    async fn begin(&self) -> Result<(), RuntimeError> {
        tracing::info!(runtime = self.job.runtime, "nobody leases the machine: the default job starts");
        let secrets = Secrets::default();
        let _fetched = tokio::select! {
            biased;
            () = self.inner.cancel.cancelled() => return Ok(()),
            () = self.wanted() => return Ok(()),
            fetched = self.runtime.fetch(&self.job.spec, &secrets) => fetched?,
        };
        let _held = self.inner.default_job.turn.lock().await;
        if self.inner.is_idle() { self.start().await } else { Ok(()) }
    }

    /// Until the machine is not idle any more.
    async fn wanted(&self) {
        while self.inner.is_idle() {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn start(&self) -> Result<(), RuntimeError> {
        let work = self.inner.config.state_dir.join("default-job");
        std::fs::create_dir_all(&work).map_err(RuntimeError::io("make the default job's directory"))?;
        let volumes = Volumes { work, until: None };
        self.runtime.start(&self.job.spec, &Secrets::default(), &volumes).await
    }

    fn wait(&mut self, time: Seconds) {
        self.from = self.from.max(self.inner.now().after(time));
    }

    fn grace(&self) -> Seconds {
        self.job.spec.stop.grace.min(LONGEST_GRACE)
    }
}

/// Ends it and leaves nothing; its directory stays.
async fn end(runtime: &dyn Runtime, grace: Seconds) -> Result<(), RuntimeError> {
    match runtime.status(DEFAULT_JOB).await? {
        WorkloadStatus::Absent => return Ok(()),
        WorkloadStatus::Running { .. } => runtime.stop(DEFAULT_JOB, grace).await?,
        WorkloadStatus::Exited(_) | WorkloadStatus::Lost => {}
    }
    match runtime.remove(DEFAULT_JOB).await {
        Ok(()) | Err(RuntimeError::Absent(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Inner {
    /// It lends, and nobody leases.
    fn is_idle(&self) -> bool {
        let accepts = *self.accepting.read().unwrap_or_else(PoisonError::into_inner);
        let lends =
            matches!(*self.standing.read().unwrap_or_else(PoisonError::into_inner), Standing::Lends { .. });
        accepts && lends && self.hosted().iter().all(|hosted| hosted.is_over())
    }

    /// Ends the default job, for a lease whose job is about to start.
    pub(super) async fn make_room(&self) -> Result<(), RuntimeError> {
        let Some(job) = &self.config.default_job else { return Ok(()) };
        let Some(runtime) = self.parts.runtimes.get(job.runtime) else { return Ok(()) };
        let _held = self.default_job.turn.lock().await;
        let ended = end(runtime.as_ref(), job.spec.stop.grace.min(LONGEST_GRACE)).await;
        if ended.is_ok() {
            self.default_job.runs.store(false, Ordering::Relaxed);
        }
        ended
    }
}

impl Agent {
    /// Whether the owner's default job runs now.
    #[must_use]
    pub fn runs_default_job(&self) -> bool {
        self.inner.default_job.runs.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use tradewind_proto::workload::Exit;

    use super::*;

    #[test]
    fn a_machine_that_is_wanted_has_none_whatever_else_is_known() {
        let running = WorkloadStatus::Running { since: Timestamp::from_unix(1), paused: false };
        let exited =
            WorkloadStatus::Exited(Exit { code: 0, out_of_memory: false, at: Timestamp::from_unix(2) });
        for status in [running, exited, WorkloadStatus::Absent, WorkloadStatus::Lost] {
            assert_eq!(Act::on(status, false, true), Act::End, "{status:?}");
        }
        for (status, is_due, act) in [
            (running, false, Act::Meter),
            (exited, true, Act::Clear),
            (WorkloadStatus::Lost, true, Act::Clear),
            (WorkloadStatus::Absent, false, Act::Nothing),
            (WorkloadStatus::Absent, true, Act::Start),
        ] {
            assert_eq!(Act::on(status, true, is_due), act, "{status:?}");
        }
    }
}
