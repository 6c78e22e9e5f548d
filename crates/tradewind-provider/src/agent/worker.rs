//! One worker per lease: observe, decide by the pure rules, act, again.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tradewind_chain::ledger::look::LeaseLook;
use tradewind_chain::ledger::{Action as ChainAction, ActionKey, ActionStatus, NoticeKind};
use tradewind_proto::hosting::{Action, Event, Seen};
use tradewind_proto::job::GIT_TOKEN;
use tradewind_proto::report::{OutputFile, Report};
use tradewind_proto::statement::{Deletion, SignedDeletion, SignedStatement, Statement};
use tradewind_proto::units::{Bytes, Timestamp};
use tradewind_proto::workload::{AcceleratorUsage, Usage, WorkloadStatus};
use tradewind_store::Batch;

use super::record::{DELETED, Deleted, Hosted, KIND, Record, reclaimed};
use super::{Inner, outputs, prepare, saving};
use crate::at_rest;
use crate::runtime::{Preemption, Runtime, RuntimeError, Volumes};

/// The shortest and the longest pause before something that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long one look at the runtime may take.
const LOOK: Duration = Duration::from_secs(20);
/// How long a turn waits for the chain: work must go on without it.
const CHAIN_LOOK: Duration = Duration::from_secs(1);

/// A longer time between two counts of what accelerators do says nothing.
const COUNTED_AT_MOST: Duration = Duration::from_secs(60);

/// What a long step ended with.
enum Done {
    Event(Event),
    Collected(Vec<OutputFile>),
    /// Nothing to record; try again later when it failed.
    Step {
        failed: Option<String>,
    },
    Forgotten,
}

/// Hosts a lease until it is over.
pub(super) async fn run(inner: Arc<Inner>, hosted: Arc<Hosted>) {
    let look = LeaseLook::new(inner.parts.ledger.clone(), hosted.id);
    let saver = tokio::spawn(saving::follow(inner.clone(), hosted.clone()));
    let (retry, pulled) = (HashMap::new(), prepare::Pulled::default());
    let counted = Instant::now();
    let mut worker = Worker { inner, hosted, step: None, retry, pulled, look, counted };
    loop {
        match worker.turn().await {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(lease = %worker.hosted.id, %error, "a lease's turn failed; trying again")
            }
        }
        let tick = worker.inner.config.tick;
        tokio::select! {
            biased;
            () = worker.inner.cancel.cancelled() => break,
            () = worker.hosted.bell.notified() => {}
            () = tokio::time::sleep(tick) => {}
        }
    }
    saver.abort();
    if let Some((_, step)) = worker.step {
        step.abort();
    }
}

struct Worker {
    inner: Arc<Inner>,
    hosted: Arc<Hosted>,
    /// The long step under way, one at a time.
    step: Option<(&'static str, JoinHandle<Done>)>,
    /// When something that failed may be tried again, and how long the next pause is.
    retry: HashMap<String, (Instant, Duration)>,
    pulled: prepare::Pulled,
    look: LeaseLook,
    /// When its accelerators were last counted.
    counted: Instant,
}

impl Worker {
    /// One look and what follows from it. `true` when the lease is over and nothing is left.
    async fn turn(&mut self) -> Result<bool, String> {
        if self.finish_step().await? {
            return Ok(true);
        }
        let now = self.inner.now();
        let runtime = self.runtime().await?;
        let workload = timely(runtime.status(self.hosted.id)).await;
        let preempted = match workload {
            Some(WorkloadStatus::Absent) | None => None,
            Some(_) => timely(runtime.preempted(self.hosted.id)).await.flatten(),
        };
        let chain = self.look.within(CHAIN_LOOK).await;
        let chain = chain.map(|record| record.state(self.inner.parameters.answer_window));
        let seen = Seen { now, chain, workload };
        let policy = self.inner.settlement_policy();
        let record = self
            .update(|record| {
                if let Some(Preemption { at, until }) = preempted {
                    record.hosting.apply(Event::Preempted { at, until });
                }
                if let Some(workload) = workload {
                    record.hosting.observe(workload, now);
                }
                if let Some(chain) = &chain {
                    record.hosting.observe_chain(chain, now);
                }
                record.hosting.advance(now, chain.as_ref(), &policy);
                if let (Some(timeout), Some(since)) = (record.manifest.timeout, record.hosting.run.since)
                    && now >= since.after(timeout)
                {
                    record.hosting.apply(Event::StopRequested);
                }
            })
            .await?;
        self.hosted.set_over(record.hosting.over_at.is_some());
        let record = self.report(record, &seen, runtime.as_ref()).await?;
        for action in record.hosting.next(&seen, &policy) {
            self.act(action, &record, &runtime, chain.map(|c| c.notice_at).unwrap_or_default()).await;
        }
        Ok(false)
    }

    async fn runtime(&self) -> Result<Arc<dyn Runtime>, String> {
        let name = self.hosted.record.lock().await.manifest.runtime.clone();
        let missing =
            || format!("the {name} runtime is not configured any more; configure it to end this lease");
        self.inner.parts.runtimes.get(name.as_str()).cloned().ok_or_else(missing)
    }

    /// Changes the record durably; writes nothing when nothing changed.
    async fn update(&self, change: impl FnOnce(&mut Record)) -> Result<Record, String> {
        let mut record = self.hosted.record.lock().await;
        let mut next = record.clone();
        change(&mut next);
        if next != *record {
            let key = self.hosted.id.to_string();
            self.inner.parts.store.put(KIND, key, &next).await.map_err(|error| error.to_string())?;
            *record = next;
        }
        Ok(record.clone())
    }

    /// Tells the buyer where the work stands. What an ended job consumed is signed once, and stored before it is told.
    async fn report(
        &mut self,
        mut record: Record,
        seen: &Seen,
        runtime: &dyn Runtime,
    ) -> Result<Record, String> {
        let running =
            matches!(seen.workload, Some(WorkloadStatus::Running { .. } | WorkloadStatus::Exited(_)));
        let metered = if running { timely(runtime.usage(self.hosted.id)).await } else { None };
        let known = self.hosted.report.borrow().usage;
        let accelerators = self.accelerated(&record, seen, known.accelerators);
        let usage = Usage { accelerators, ..metered.unwrap_or(known) };
        if let (Some(exit), Some(_), None) = (record.hosting.exit, metered, &record.statement) {
            let statement = Statement::new(self.hosted.id, record.hosting.run, exit, &usage);
            let signed = SignedStatement::sign(&statement, &self.inner.parts.key);
            record = self.update(|record| record.statement = Some(signed)).await?;
        }
        self.hosted.publish(Report {
            lease: self.hosted.id,
            revision: 0,
            stage: record.hosting.stage(seen, self.pulled.get()),
            run: record.hosting.run,
            exit: record.hosting.exit,
            usage,
            paid: record.hosting.held(),
            voucher: record.hosting.best,
            reclaimed: reclaimed(&record),
            outputs: if record.hosting.collected { record.outputs.clone() } else { Vec::new() },
            statement: record.statement.clone(),
            saved: self.hosted.snapshots().newest(),
            lent_until: self.inner.lent_until(&record.hosting.terms),
        });
        Ok(record)
    }

    /// What its accelerators do now and did so far; after the job's end, what they did.
    fn accelerated(
        &mut self,
        record: &Record,
        seen: &Seen,
        known: Option<AcceleratorUsage>,
    ) -> Option<AcceleratorUsage> {
        let passed = std::mem::replace(&mut self.counted, Instant::now()).elapsed().min(COUNTED_AT_MOST);
        match seen.workload {
            Some(WorkloadStatus::Running { .. }) => {
                let now = self.inner.load(&record.gpus)?;
                Some(counted(known.unwrap_or_default(), now, record.gpus.len(), passed))
            }
            Some(WorkloadStatus::Exited(_)) => {
                known.map(|known| AcceleratorUsage { busy: 0, memory: Bytes::ZERO, ..known })
            }
            Some(WorkloadStatus::Absent | WorkloadStatus::Lost) | None => known,
        }
    }

    async fn act(&mut self, action: Action, record: &Record, runtime: &Arc<dyn Runtime>, noticed: Timestamp) {
        let terms = record.hosting.terms.clone();
        let chain = match action {
            Action::Prepare => return self.begin_step("prepare", self.prepare(record, runtime)),
            Action::Start => return self.begin_step("start", self.start(record, runtime)),
            Action::Stop => return self.begin_step("stop", self.stop(record, runtime)),
            Action::Collect => return self.begin_step("collect", self.collect(record)),
            Action::Forget => return self.begin_step("forget", self.forget(runtime)),
            Action::Pause => return self.quick("pause", runtime.pause(self.hosted.id).await),
            Action::Resume => return self.quick("resume", runtime.resume(self.hosted.id).await),
            Action::Open => ChainAction::Open {
                terms,
                buyer: record.buyer_signature,
                provider: record.provider_signature,
            },
            Action::Settle(voucher) => ChainAction::Settle { terms, voucher },
            Action::NoticeUnpaid(voucher) => {
                ChainAction::Notice { kind: NoticeKind::Unpaid, terms, voucher, previous: noticed }
            }
            Action::NoticeReclaim => {
                ChainAction::Notice { kind: NoticeKind::Reclaim, terms, voucher: None, previous: noticed }
            }
            Action::Close(voucher) => ChainAction::Close { terms, voucher },
            Action::Answer => {
                let Some(lease) = timely(self.inner.parts.ledger.lease(self.hosted.id)).await else { return };
                ChainAction::Answer { terms, challenged_at: lease.challenged_at }
            }
            Action::Finalize => ChainAction::Finalize { terms },
            Action::Expire => ChainAction::Expire { terms },
            Action::ReleaseBond => ChainAction::ReleaseBond { terms },
        };
        self.submit(chain).await;
    }

    async fn submit(&mut self, action: ChainAction) {
        let key = match action.key(&self.inner.domain) {
            Ok(key) => key,
            Err(error) => return tracing::error!(%error, "an action cannot be expressed on chain"),
        };
        if !self.may_try(key.as_str()) {
            return;
        }
        match self.inner.parts.ledger.status(&key).await {
            Ok(Some(ActionStatus::Pending | ActionStatus::Included { .. } | ActionStatus::Final { .. })) => {
                return;
            }
            Ok(Some(ActionStatus::Failed { reason })) => {
                tracing::warn!(lease = %self.hosted.id, %key, %reason, "the chain refused an action");
                let first = !self.retry.contains_key(key.as_str());
                self.back_off(key.as_str());
                if first {
                    return;
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, "the ledger could not be asked");
                return self.back_off(key.as_str());
            }
        }
        match self.inner.parts.ledger.submit(action).await {
            Ok(submitted) => self.ring_when_settled(submitted.key),
            Err(error) => {
                tracing::warn!(lease = %self.hosted.id, %key, %error, "an action was not taken");
                self.back_off(key.as_str());
            }
        }
    }

    /// Looks again as soon as the chain has decided on an action.
    fn ring_when_settled(&self, key: ActionKey) {
        let (inner, hosted) = (self.inner.clone(), self.hosted.clone());
        self.inner.tasks.spawn(async move {
            tokio::select! {
                // What failed is seen at the next look, which comes anyway.
                _ = tokio::time::timeout(LOOK, inner.parts.ledger.settled(&key)) => hosted.bell.notify_one(),
                () = inner.cancel.cancelled() => {}
            }
        });
    }

    fn quick(&mut self, what: &'static str, result: Result<(), RuntimeError>) {
        if let Err(error) = result {
            tracing::warn!(lease = %self.hosted.id, %error, "could not {what} the workload");
        }
    }

    fn may_try(&self, key: &str) -> bool {
        self.retry.get(key).is_none_or(|(at, _)| Instant::now() >= *at)
    }

    fn back_off(&mut self, key: &str) {
        let pause = self.retry.get(key).map_or(RETRY.0, |(_, pause)| (*pause * 2).min(RETRY.1));
        self.retry.insert(key.to_owned(), (Instant::now() + pause, pause));
    }

    fn begin_step(&mut self, name: &'static str, step: impl Future<Output = Done> + Send + 'static) {
        if self.step.is_some() || !self.may_try(name) {
            return;
        }
        let hosted = self.hosted.clone();
        let task = tokio::spawn(async move {
            let done = step.await;
            hosted.bell.notify_one();
            done
        });
        self.step = Some((name, task));
    }

    /// Records what a finished step brought. `true` when the lease is forgotten.
    async fn finish_step(&mut self) -> Result<bool, String> {
        if self.step.as_ref().is_none_or(|(_, step)| !step.is_finished()) {
            return Ok(false);
        }
        let Some((name, step)) = self.step.take() else { return Ok(false) };
        match step.await {
            Ok(Done::Event(event)) => self.update(|record| record.hosting.apply(event)).await.map(|_| false),
            Ok(Done::Collected(outputs)) => {
                let collected = |record: &mut Record| {
                    record.outputs = outputs;
                    record.hosting.apply(Event::Collected);
                };
                self.update(collected).await.map(|_| false)
            }
            Ok(Done::Step { failed: None }) => Ok(false),
            Ok(Done::Step { failed: Some(error) }) => {
                self.back_off(name);
                Err(format!("{name}: {error}"))
            }
            Ok(Done::Forgotten) => {
                let mut leases = self.inner.leases.write().unwrap_or_else(PoisonError::into_inner);
                leases.remove(&self.hosted.id);
                Ok(true)
            }
            Err(error) => {
                self.back_off(name);
                Err(format!("{name} ended badly: {error}"))
            }
        }
    }

    fn prepare(
        &self,
        record: &Record,
        runtime: &Arc<dyn Runtime>,
    ) -> impl Future<Output = Done> + Send + use<> {
        let (inner, record, pulled) = (self.inner.clone(), record.clone(), self.pulled.clone());
        let (hosted, runtime) = (self.hosted.clone(), runtime.clone());
        async move {
            let secrets = hosted.secrets.lock().await.clone().unwrap_or_default();
            let token = secrets.0.get(GIT_TOKEN).map(String::as_str);
            match prepare::prepare(&inner, &record, runtime.as_ref(), &pulled, token).await {
                Ok(()) => Done::Event(Event::Prepared),
                Err(prepare::PrepareError::Job(reason)) => Done::Event(Event::Failed(reason)),
                Err(prepare::PrepareError::Later(reason)) => Done::Step { failed: Some(reason) },
            }
        }
    }

    fn start(
        &self,
        record: &Record,
        runtime: &Arc<dyn Runtime>,
    ) -> impl Future<Output = Done> + Send + use<> {
        let (inner, hosted, runtime, record) =
            (self.inner.clone(), self.hosted.clone(), runtime.clone(), record.clone());
        async move {
            let secrets = {
                let mut secrets = hosted.secrets.lock().await;
                // The inputs are here, and it is none of the job's.
                secrets.iter_mut().for_each(|secrets| drop(secrets.0.remove(GIT_TOKEN)));
                secrets.clone()
            };
            let secrets = match secrets {
                Some(secrets) => secrets,
                None if record.manifest.secrets.is_empty() => tradewind_proto::workload::Secrets::default(),
                // They were in memory only; the buyer hands the job over again until the job runs.
                None => {
                    return Done::Step {
                        failed: Some("waiting for the job's secrets after a restart".into()),
                    };
                }
            };
            if outputs::is_locked(&inner.work_dir(hosted.id)) {
                return Done::Event(Event::Failed(outputs::LOCKED.into()));
            }
            if let Err(error) = inner.make_room().await {
                return Done::Step { failed: Some(format!("the owner's default job does not end: {error}")) };
            }
            let spec = record.manifest.workload(hosted.id, record.gpus.clone());
            let volumes = Volumes { work: inner.work_dir(hosted.id), until: Some(record.hosting.terms.end) };
            match runtime.start(&spec, &secrets, &volumes).await {
                Ok(()) => Done::Event(Event::Started { at: inner.now() }),
                Err(error @ (RuntimeError::Unavailable(_) | RuntimeError::Io { .. })) => {
                    Done::Step { failed: Some(error.to_string()) }
                }
                Err(error) => Done::Event(Event::Failed(error.to_string())),
            }
        }
    }

    fn stop(&self, record: &Record, runtime: &Arc<dyn Runtime>) -> impl Future<Output = Done> + Send + use<> {
        let grace = record.hosting.grace(record.manifest.stop.grace, self.inner.now());
        let (id, runtime) = (self.hosted.id, runtime.clone());
        async move { Done::Step { failed: runtime.stop(id, grace).await.err().map(|error| error.to_string()) } }
    }

    fn collect(&self, record: &Record) -> impl Future<Output = Done> + Send + use<> {
        let (inner, record) = (self.inner.clone(), record.clone());
        async move {
            match outputs::collect(&inner, &record).await {
                Ok(outputs) => Done::Collected(outputs),
                Err(error @ outputs::CollectError::Locked) => Done::Event(Event::Failed(error.to_string())),
                Err(error) => Done::Step { failed: Some(error.to_string()) },
            }
        }
    }

    fn forget(&self, runtime: &Arc<dyn Runtime>) -> impl Future<Output = Done> + Send + use<> {
        let (inner, hosted, runtime) = (self.inner.clone(), self.hosted.clone(), runtime.clone());
        async move {
            match forget(&inner, &hosted, runtime.as_ref()).await {
                Ok(()) => Done::Forgotten,
                Err(error) => Done::Step { failed: Some(error) },
            }
        }
    }
}

/// What so many accelerators did in all, when they do `now` what they did since the last count.
fn counted(
    known: AcceleratorUsage,
    now: AcceleratorUsage,
    accelerators: usize,
    passed: Duration,
) -> AcceleratorUsage {
    let each = passed.as_millis().saturating_mul(u128::from(now.busy)) / 100;
    let worked = each.saturating_mul(u128::try_from(accelerators).unwrap_or(u128::MAX));
    let worked = u64::try_from(worked).unwrap_or(u64::MAX);
    AcceleratorUsage {
        busy_ms: known.busy_ms.saturating_add(worked),
        memory_peak: known.memory_peak.max(now.memory),
        ..now
    }
}

/// Deletes everything of a lease that is over: the record last, so that a crash in between repeats the rest. The word for its buyer takes
/// the record's place.
async fn forget(inner: &Inner, hosted: &Hosted, runtime: &dyn Runtime) -> Result<(), String> {
    let id = hosted.id;
    match runtime.remove(id).await {
        Ok(()) | Err(RuntimeError::Absent(_)) => {}
        Err(error) => return Err(error.to_string()),
    }
    let work = inner.work_dir(id);
    let ended = tokio::task::spawn_blocking(move || at_rest::end(&work)).await;
    ended.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    for label in saving::labels(id).iter().chain([&outputs::label(id)]) {
        inner.parts.transport.release(label).await.map_err(|error| error.to_string())?;
    }
    let (owner, at) = (hosted.record.lock().await.owner, inner.now());
    let word = SignedDeletion::sign(&Deletion { lease: id, at }, &inner.parts.key);
    let batch = Batch::new().put(DELETED, id.to_string(), &Deleted { owner, at, word });
    let batch = batch.map_err(|error| error.to_string())?.remove(KIND, id.to_string());
    inner.parts.store.commit(batch).await.map_err(|error| error.to_string())
}

/// The answer, unless it failed or took too long: then nothing is known.
async fn timely<T, E: std::fmt::Display>(look: impl Future<Output = Result<T, E>>) -> Option<T> {
    match tokio::time::timeout(LOOK, look).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::debug!(%error, "could not look");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accelerators_add_up_what_they_did() {
        let now = |busy, gib| AcceleratorUsage { busy, memory: Bytes::gib(gib), ..Default::default() };
        let first = counted(AcceleratorUsage::default(), now(50, 40), 4, Duration::from_secs(10));
        assert_eq!((first.busy_ms, first.memory_peak), (20_000, Bytes::gib(40)));
        let second = counted(first, now(0, 2), 4, Duration::from_secs(10));
        assert_eq!(
            (second.busy_ms, second.memory_peak, second.memory),
            (20_000, Bytes::gib(40), Bytes::gib(2))
        );
    }
}
