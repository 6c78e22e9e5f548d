//! One worker per job: place it, follow its leases, place it again when a provider fails.

pub(crate) mod conversation;
mod evidence;
mod lease;
mod logs;
pub(crate) mod offsite;
mod outputs;
mod place;
pub mod record;
mod saved;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tradewind_proto::supervision::Outcome;

use crate::buyer::{Inner, Tracked, label};
use record::{JobRecord, JobState};

/// The pause between two looks for a provider.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Works on a job until it is over and its last lease is settled.
pub(crate) async fn run(inner: Arc<Inner>, job: Arc<Tracked>) {
    let mut followed = BTreeSet::new();
    for (index, attempt) in job.record.lock().await.attempts.iter().enumerate() {
        if attempt.outcome.is_some() && (!attempt.closed || lease::may_be_deleted(attempt, inner.now())) {
            inner.tasks.spawn(lease::wind_up(inner.clone(), job.clone(), index));
        }
    }
    loop {
        let bell = job.bell.notified();
        let record = job.record.lock().await.clone();
        for (index, attempt) in record.attempts.iter().enumerate() {
            if attempt.outcome.is_none() && followed.insert(index) {
                inner.tasks.spawn(lease::follow(inner.clone(), job.clone(), index));
            }
        }
        let wait = match step(&inner, &job, &record).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(job = %job.id, %error, "a job's turn failed; trying again");
                inner.config.tick
            }
        };
        if is_settled(&*job.record.lock().await) {
            break;
        }
        tokio::select! {
            biased;
            () = inner.cancel.cancelled() => return,
            () = bell => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    let record = job.record.lock().await.clone();
    for label in saved::labels(&record).chain([label(job.id)]) {
        if let Err(error) = inner.parts.transport.release(&label).await {
            tracing::warn!(job = %job.id, %error, "the job's data stay in the blob store");
        }
    }
}

/// Over, and no lease is left to wind down.
fn is_settled(record: &JobRecord) -> bool {
    record.is_over() && record.attempts.iter().all(|attempt| attempt.outcome.is_some())
}

async fn step(
    inner: &Arc<Inner>,
    job: &Arc<Tracked>,
    record: &JobRecord,
) -> Result<Duration, tradewind_store::StoreError> {
    match &record.state {
        JobState::Ended { .. } => Ok(inner.config.tick),
        JobState::Placing { .. } if record.stop_requested => {
            end(inner, job, None, "stopped before a provider was found".into()).await?;
            Ok(Duration::ZERO)
        }
        JobState::Placing { .. } => match place::place(inner, job, record).await {
            Ok(attempt) => {
                let leased = |record: &mut JobRecord| {
                    record.attempts.push(attempt);
                    record.state = JobState::Leased;
                };
                let record = inner.update(job, leased).await?;
                saved::release_stale(inner, &record, None).await;
                Ok(Duration::ZERO)
            }
            Err(problem) => {
                tracing::info!(job = %job.id, %problem, "no provider yet");
                inner.update(job, |record| record.state = JobState::Placing { problem }).await?;
                Ok(LOOK_AGAIN)
            }
        },
        JobState::Leased => judge(inner, job, record).await,
    }
}

/// Decides what becomes of a job whose current lease ended or was given up.
async fn judge(
    inner: &Arc<Inner>,
    job: &Arc<Tracked>,
    record: &JobRecord,
) -> Result<Duration, tradewind_store::StoreError> {
    let Some(attempt) = record.attempts.last() else { return Ok(inner.config.tick) };
    let supervision = &attempt.supervision;
    let outcome = attempt.outcome.or_else(|| supervision.gave_up.then(|| supervision.outcome()));
    match outcome {
        None => return Ok(inner.config.tick),
        Some(Outcome::Finished { code }) => end(inner, job, Some(code), "the job ended".into()).await?,
        Some(Outcome::Stopped(reason)) => {
            let code = supervision.report.as_ref().and_then(|report| report.exit).map(|exit| exit.code);
            end(inner, job, code, reason.to_string()).await?;
        }
        Some(Outcome::Unpaid) => end_short(inner, job, record, unpaid(attempt)).await?,
        Some(Outcome::ProviderFailed | Outcome::NeverOpened | Outcome::Reclaimed) => {
            let tried = record.attempts.len();
            // Terms that never opened, or found no room, cost nothing and are no attempt of the job's.
            let is_spent = |a: &&record::Attempt| a.outcome != Some(Outcome::NeverOpened) && !a.busy;
            let spent = record.attempts.iter().filter(is_spent).count();
            if record.stop_requested {
                end_short(inner, job, record, format!("stopped; {}", failure(attempt))).await?;
            } else if spent > usize::from(record.spec.retry.attempts.max(1) - 1) || tried >= MAX_TRIES {
                let hint = "set `retry` in the job file to place it again elsewhere";
                end_short(inner, job, record, format!("{}; {hint}", failure(attempt))).await?;
            } else {
                let problem = failure(attempt);
                inner.update(job, |record| record.state = JobState::Placing { problem }).await?;
            }
        }
    }
    Ok(Duration::ZERO)
}

/// Leases that one job may try, whatever its `retry` says.
const MAX_TRIES: usize = 64;

/// Whose payment stopped, and what to do.
fn unpaid(attempt: &record::Attempt) -> String {
    let who = match &attempt.delegate {
        Some(delegate) => format!("the meter {} did not pay", delegate.meter),
        None => "this node was not there to pay".into(),
    };
    let hint = match &attempt.delegate {
        Some(_) => "see that its node runs, or meter with `--meter own`",
        None => "have it metered by another node (`--meter`), or run it `--unattended`",
    };
    format!("{who}, and the provider {} ended the job for that; {hint}", attempt.provider)
}

/// What became of an attempt that did not bring the job to its end.
fn failure(attempt: &record::Attempt) -> String {
    use tradewind_proto::report::Stage;
    let provider = attempt.provider;
    if attempt.outcome == Some(Outcome::Reclaimed) {
        return format!("the owner of {provider} took the spot lease back");
    }
    if let Some(reason) = &attempt.refused {
        return format!("the provider {provider} refused the job: {reason}");
    }
    let what = match attempt.supervision.report.as_ref().map(|report| &report.stage) {
        _ if attempt.outcome == Some(Outcome::NeverOpened) => "its lease was never opened",
        Some(Stage::Failed { reason }) => reason,
        _ => "it did not answer any more",
    };
    format!("the provider {provider} failed: {what}")
}

/// Ends a job that did not come to its own end: what it saved last takes the place of its outputs.
async fn end_short(
    inner: &Inner,
    job: &Tracked,
    record: &JobRecord,
    mut reason: String,
) -> Result<(), tradewind_store::StoreError> {
    let fetched = record.attempts.last().is_some_and(|attempt| attempt.supervision.fetched);
    match if fetched { Ok(false) } else { saved::export(inner, record).await } {
        Ok(true) => reason.push_str("; what it saved last is with its outputs"),
        Ok(false) => {}
        Err(error) => tracing::warn!(job = %job.id, %error, "what the job saved last cannot be written"),
    }
    end(inner, job, None, reason).await
}

async fn end(
    inner: &Inner,
    job: &Tracked,
    code: Option<u8>,
    reason: String,
) -> Result<(), tradewind_store::StoreError> {
    tracing::info!(job = %job.id, ?code, %reason, "a job is over");
    inner.update(job, |record| record.state = JobState::Ended { code, reason }).await?;
    Ok(())
}
