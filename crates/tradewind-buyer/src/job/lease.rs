//! One attempt: listen to the provider, pay, fetch, and leave by the chain when it must be.

mod claim;
mod deletion;
mod snapshots;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tradewind_chain::ledger::look::LeaseLook;
use tradewind_chain::ledger::{Action as ChainAction, ActionStatus, LeaseRecord, LeaseStage};
use tradewind_proto::conversation::{Begin, MAX_WAIT};
use tradewind_proto::delegation;
use tradewind_proto::job::GIT_TOKEN;
use tradewind_proto::ladder::Ladder;
use tradewind_proto::manifest::JobManifest;
use tradewind_proto::negotiation::RefusalCode;
use tradewind_proto::report::Report;
use tradewind_proto::statement::SignedStatement;
use tradewind_proto::supervision::{Action, Outcome, Seen, StopReason, Supervision};
use tradewind_proto::units::{Money, Seconds, Timestamp};
use tradewind_proto::voucher::{SignedVoucher, Voucher};
use tradewind_proto::workload::Secrets;

use self::claim::Pace;
pub(super) use self::deletion::may_be_deleted;
use super::conversation::{self, AskError};
use super::logs::LogFile;
use super::outputs;
use super::record::{Attempt, JobRecord, Settlement};
use crate::buyer::{Inner, Tracked};

/// How long a turn waits for the chain: payment must go on without it.
const LOOK: Duration = Duration::from_secs(1);
/// The pause after a provider did not answer.
const SILENCE: Duration = Duration::from_secs(1);
/// How long outputs wait for the end of the log.
const LOG_END: Duration = Duration::from_secs(20);

/// Follows an attempt until its lease is over on chain.
pub(super) async fn follow(inner: Arc<Inner>, job: Arc<Tracked>, index: usize) {
    let lease = Lease { inner, job, index, logged: watch::Sender::new(false) };
    let id = lease.attempt().await.supervision.id;
    let mut look = LeaseLook::new(lease.inner.parts.ledger.clone(), id);
    let mut pace = Pace::new();
    let work = async {
        lease.resume().await;
        loop {
            match lease.turn(&mut look, &mut pace).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(job = %lease.job.id, %error, "a lease's turn failed; trying again")
                }
            }
            let tick = lease.inner.config.tick;
            tokio::select! {
                biased;
                () = lease.job.bell.notified() => {}
                () = tokio::time::sleep(tick) => {}
            }
        }
    };
    tokio::select! {
        biased;
        () = lease.inner.cancel.cancelled() => return,
        () = work => {}
        () = lease.listen() => {}
        () = lease.follow_log() => {}
        () = lease.follow_saved() => {}
    }
    // The end of the log may still be on its way when the lease is over.
    let rest = tokio::time::timeout(Duration::from_secs(5), lease.rest_of_log()).await;
    if rest.is_err() {
        tracing::info!(job = %lease.job.id, "the end of the log did not arrive");
    }
    lease.see_closed().await;
    lease.see_deleted().await;
}

/// Takes up a lease that is settled, and was not closed or not deleted when it was last seen.
pub(super) async fn wind_up(inner: Arc<Inner>, job: Arc<Tracked>, index: usize) {
    let lease = Lease { inner, job, index, logged: watch::Sender::new(true) };
    lease.see_closed().await;
    lease.see_deleted().await;
}

struct Lease {
    inner: Arc<Inner>,
    job: Arc<Tracked>,
    index: usize,
    /// The log's end is here.
    logged: watch::Sender<bool>,
}

/// The vouchers of an unattended lease. Signing is deterministic, so they need not be kept.
pub(super) fn ladder(inner: &Inner, supervision: &Supervision) -> Result<Ladder, String> {
    let (terms, id) = (&supervision.terms, supervision.id);
    Ladder::sign(terms, id, &inner.domain, &inner.parts.meter).map_err(|error| error.to_string())
}

impl Lease {
    /// Sees to it that the lease is closed. Its provider releases the bond, and is given `patience` for it; where the provider is
    /// gone, nobody else would, and a fee that waits in the bond would never arrive.
    async fn see_closed(&self) {
        let attempt = self.attempt().await;
        if attempt.closed || attempt.outcome.is_none() {
            return;
        }
        let mut look = LeaseLook::new(self.inner.parts.ledger.clone(), attempt.supervision.id);
        let mut pace = Pace::new();
        loop {
            let mut wait = self.inner.config.tick;
            let record = look.within(LOOK).await;
            let claimed = match &record {
                Some(record) => self.pursue(record, &mut pace).await.unwrap_or_else(|error| {
                    tracing::debug!(job = %self.job.id, %error, "a claim waits");
                    false
                }),
                None => false,
            };
            match record {
                Some(record) if record.stage == LeaseStage::Closed && claimed => {
                    match self.update(|attempt| attempt.closed = true).await {
                        Ok(_) => return,
                        Err(error) => tracing::warn!(%error, "a closed lease could not be stored"),
                    }
                }
                Some(record) if record.stage == LeaseStage::Settled => {
                    let left = record.due_at.after(self.inner.config.patience).since(self.inner.now());
                    if left == Seconds::ZERO && !record.flags.disputed {
                        let terms = attempt.supervision.terms.clone();
                        if let Err(error) = self.submit(ChainAction::ReleaseBond { terms }).await {
                            tracing::debug!(%error, "the bond could not be released");
                        }
                    }
                    wait = Duration::from_secs(left.get().clamp(1, 60));
                    if !claimed {
                        wait = wait.min(pace.left().max(self.inner.config.tick));
                    }
                }
                Some(_) | None => {}
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.inner.cancel.cancelled() => return,
            }
        }
    }

    async fn attempt(&self) -> Attempt {
        self.job.record.lock().await.attempts[self.index].clone()
    }

    async fn update(&self, change: impl FnOnce(&mut Attempt)) -> Result<Attempt, String> {
        let index = self.index;
        let changed = self.inner.update(&self.job, |record| change(&mut record.attempts[index])).await;
        changed.map(|record| record.attempts[index].clone()).map_err(|error| error.to_string())
    }

    /// Silence before this moment is nobody's fault: this node was not there to listen.
    async fn resume(&self) {
        let now = self.inner.now();
        while let Err(error) = self.update(|attempt| attempt.supervision.resume(now)).await {
            tracing::warn!(job = %self.job.id, %error, "a lease could not be taken up; trying again");
            tokio::time::sleep(self.inner.config.tick).await;
        }
    }

    /// One look and what follows from it. `true` when the lease is over.
    async fn turn(&self, look: &mut LeaseLook, pace: &mut Pace) -> Result<bool, String> {
        let now = self.inner.now();
        let stop = self.job.record.lock().await.stop_requested;
        let attended = Arc::strong_count(&self.job.attended) > 1;
        let attempt = self
            .update(|attempt| {
                if stop && attempt.supervision.report.as_ref().is_none_or(|report| report.exit.is_none()) {
                    attempt.supervision.stop.get_or_insert(StopReason::Asked);
                }
                if attended {
                    attempt.supervision.attend(now);
                }
                attempt.supervision.judge(now);
            })
            .await?;
        let chain = look.within(LOOK).await;
        let state = chain.map(|record| record.state(self.inner.parameters.answer_window));
        let attempt = match &state {
            Some(chain) if chain.paid > attempt.supervision.settled => {
                self.update(|attempt| attempt.supervision.observe_chain(chain)).await?
            }
            Some(_) | None => attempt,
        };
        for action in attempt.supervision.next(&Seen { now, chain: state }) {
            if let Action::Finish(outcome) = action {
                return self.finish(&attempt, outcome, chain).await.map(|()| true);
            }
            self.act(action, &attempt, chain, now).await?;
        }
        if let Some(record) = &chain {
            self.pursue(record, pace).await?;
        }
        Ok(false)
    }

    async fn act(
        &self,
        action: Action,
        attempt: &Attempt,
        chain: Option<LeaseRecord>,
        now: Timestamp,
    ) -> Result<(), String> {
        let terms = attempt.supervision.terms.clone();
        let transport = self.inner.parts.transport.as_ref();
        match action {
            Action::Begin => self.begin(attempt).await,
            Action::Pay(amount) => self.pay(attempt, amount, now).await,
            Action::PayLast(amount) => self.pay_last(attempt, amount, now).await,
            Action::Stop => {
                conversation::stop(transport, &self.inner.address(attempt), attempt.supervision.id)
                    .await
                    .map_err(|error| error.to_string())
            }
            Action::Fetch => self.fetch(attempt).await,
            Action::RequestClose => self.submit(ChainAction::RequestClose { terms }).await,
            Action::Challenge => {
                let sequence = chain.map_or(0, |record| record.challenges);
                self.challenge(ChainAction::Challenge { terms, sequence }).await
            }
            Action::Defaulted => self.submit(ChainAction::Defaulted { terms }).await,
            Action::Finalize => self.submit(ChainAction::Finalize { terms }).await,
            Action::Expire => self.submit(ChainAction::Expire { terms }).await,
            Action::Finish(_) => Ok(()),
        }
    }

    async fn begin(&self, attempt: &Attempt) -> Result<(), String> {
        let supervision = &attempt.supervision;
        let begin = Begin {
            terms: supervision.terms.clone(),
            provider_signature: attempt.provider_signature,
            buyer_signature: attempt.buyer_signature,
            buyer_address: self.inner.parts.transport.address().to_string(),
            meter: attempt.delegate.as_ref().map(|delegate| delegate.meter.address.key),
            manifest: attempt.manifest.clone(),
            secrets: self.secrets(&attempt.manifest).await,
            prepayment: match &attempt.delegate {
                Some(delegate) => delegate.prepayment,
                None => self.voucher(supervision, supervision.terms.prepay, false)?,
            },
            ladder: match supervision.ahead {
                Money::ZERO => Ladder::NONE,
                _ => ladder(&self.inner, supervision)?,
            },
        };
        let transport = self.inner.parts.transport.as_ref();
        match conversation::begin(transport, &self.inner.address(attempt), begin).await {
            Ok(()) => self.update(|attempt| attempt.supervision.begun = true).await.map(|_| ()),
            Err(AskError::Refused(refusal)) => {
                tracing::warn!(job = %self.job.id, %refusal, hint = %refusal.hint, "the provider did not take the job");
                let refused = |attempt: &mut Attempt| {
                    attempt.supervision.gave_up = true;
                    attempt.busy = refusal.code == RefusalCode::Busy;
                    attempt.refused = Some(refusal.reason);
                };
                self.update(refused).await.map(|_| ())
            }
            Err(error @ (AskError::Silent(_) | AskError::Nonsense)) => Err(error.to_string()),
        }
    }

    /// What the provider gets of the secrets that are here: those of the job, and the token of repositories that it pulls; not the keys
    /// of stores.
    async fn secrets(&self, manifest: &JobManifest) -> Secrets {
        let mut secrets = self.job.secrets.lock().await.clone();
        let pulls = manifest.needs_git_token();
        secrets.0.retain(|name, _| manifest.secrets.contains(name) || (pulls && name == GIT_TOKEN));
        secrets
    }

    async fn pay(&self, attempt: &Attempt, amount: Money, now: Timestamp) -> Result<(), String> {
        let voucher = self.voucher(&attempt.supervision, amount, false)?;
        let signed = |attempt: &mut Attempt| {
            attempt.supervision.signed = amount;
            attempt.supervision.signed_at = now;
            attempt.vouchers += 1;
        };
        let attempt = self.update(signed).await?;
        let transport = self.inner.parts.transport.as_ref();
        conversation::pay(transport, &self.inner.address(&attempt), voucher)
            .await
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    async fn pay_last(&self, attempt: &Attempt, amount: Money, now: Timestamp) -> Result<(), String> {
        let voucher = self.voucher(&attempt.supervision, amount, true)?;
        let signed = |attempt: &mut Attempt| {
            attempt.supervision.signed = amount;
            if attempt.supervision.last_sent_at.is_none() {
                attempt.supervision.last_sent_at = Some(now);
                attempt.vouchers += 1;
            }
        };
        let attempt = self.update(signed).await?;
        let transport = self.inner.parts.transport.as_ref();
        conversation::pay(transport, &self.inner.address(&attempt), voucher)
            .await
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    fn voucher(
        &self,
        supervision: &Supervision,
        cumulative: Money,
        last: bool,
    ) -> Result<SignedVoucher, String> {
        let voucher = Voucher { lease: supervision.id, cumulative, not_before: Timestamp::default(), last };
        let parts = &self.inner.parts;
        let key = if last { &parts.key } else { &parts.meter };
        voucher.sign(&self.inner.domain, key).map_err(|error| error.to_string())
    }

    async fn fetch(&self, attempt: &Attempt) -> Result<(), String> {
        let Some(report) = &attempt.supervision.report else { return Ok(()) };
        // The provider may forget the log once it holds the last voucher.
        let mut logged = self.logged.subscribe();
        if tokio::time::timeout(LOG_END, logged.wait_for(|logged| *logged)).await.is_err() {
            tracing::warn!(job = %self.job.id, "the end of the log did not arrive; going on without it");
        }
        let directory = self.job.record.lock().await.output_dir.clone();
        let limit = attempt.manifest.share.disk;
        let transport = self.inner.parts.transport.as_ref();
        outputs::fetch(
            transport,
            &self.inner.address(attempt),
            self.job.id,
            &report.outputs,
            limit,
            &directory,
        )
        .await
        .map_err(|error| error.to_string())?;
        self.keep_outputs(&attempt.manifest, &report.outputs).await?;
        self.update(|attempt| attempt.supervision.fetched = true).await.map(|_| ())
    }

    async fn submit(&self, action: ChainAction) -> Result<(), String> {
        let ledger = &self.inner.parts.ledger;
        let key = action.key(&self.inner.domain).map_err(|error| error.to_string())?;
        match ledger.status(&key).await.map_err(|error| error.to_string())? {
            Some(ActionStatus::Pending | ActionStatus::Included { .. } | ActionStatus::Final { .. }) => {
                return Ok(());
            }
            Some(ActionStatus::Failed { reason }) => {
                tracing::warn!(job = %self.job.id, %key, %reason, "the chain refused an action; trying again");
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            None => {}
        }
        ledger.submit(action).await.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Challenges, or leaves without compensation where the chain refuses: a bond that cannot be paid must not keep
    /// the buyer in the lease.
    async fn challenge(&self, action: ChainAction) -> Result<(), String> {
        let ledger = &self.inner.parts.ledger;
        let key = action.key(&self.inner.domain).map_err(|error| error.to_string())?;
        let refused = match ledger.status(&key).await.map_err(|error| error.to_string())? {
            Some(ActionStatus::Failed { reason }) => reason.to_string(),
            Some(ActionStatus::Pending | ActionStatus::Included { .. } | ActionStatus::Final { .. }) => {
                return Ok(());
            }
            None => match ledger.submit(action).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_transient() => return Err(error.to_string()),
                Err(error) => error.to_string(),
            },
        };
        tracing::warn!(job = %self.job.id, %refused, "the provider cannot be challenged; leaving without compensation");
        self.update(|attempt| attempt.supervision.limits.challenge = false).await.map(|_| ())
    }

    async fn finish(
        &self,
        attempt: &Attempt,
        outcome: Outcome,
        chain: Option<LeaseRecord>,
    ) -> Result<(), String> {
        let terms = &attempt.supervision.terms;
        let chain = chain.filter(|_| outcome != Outcome::NeverOpened);
        let settled = chain.map(|record| {
            let forfeited =
                if record.paid.is_zero() && !record.flags.defaulted { terms.prepay } else { Money::ZERO };
            Settlement {
                deposited: terms.deposit,
                paid: record.paid,
                refunded: terms.deposit.saturating_sub(record.paid).saturating_sub(forfeited),
                forfeited,
                compensated: record.compensated,
            }
        });
        let ended = |attempt: &mut Attempt| {
            attempt.outcome = Some(outcome);
            attempt.closed = chain.is_none_or(|record| record.stage == LeaseStage::Closed);
            attempt.settled = settled;
        };
        self.update(ended).await.map(|_| ())
    }

    /// Listens to the provider: every answer is a sign of life, every news is recorded.
    async fn listen(&self) {
        loop {
            self.begun().await;
            let attempt = self.attempt().await;
            let seen = attempt.supervision.report.as_ref().map_or(0, |report| report.revision);
            let wait = Seconds::new(self.inner.config.patience.get() / 3).clamp(Seconds::new(1), MAX_WAIT);
            let wait = wait.min(tradewind_proto::meter::voucher_interval(&attempt.supervision.terms));
            let transport = self.inner.parts.transport.as_ref();
            let lease = attempt.supervision.id;
            match conversation::report(transport, &self.inner.address(&attempt), lease, seen, wait).await {
                Ok(report) => {
                    if let Err(error) = self.observe(report).await {
                        tracing::warn!(%error, "a report could not be stored");
                        tokio::time::sleep(SILENCE).await;
                    }
                }
                Err(error) => {
                    tracing::debug!(%lease, %error, "no report");
                    tokio::time::sleep(SILENCE).await;
                }
            }
        }
    }

    /// Takes a report in, and what it proves of another node's vouchers.
    async fn observe(&self, mut report: Report) -> Result<(), String> {
        let (now, domain) = (self.inner.now(), self.inner.domain);
        let observed = |attempt: &mut Attempt| {
            let lease = &mut attempt.supervision;
            let known = delegation::proven(&report, &lease.terms, lease.id, &domain, now);
            report.statement = report.statement.filter(|statement| self.is_signed(statement, lease));
            if known.is_some_and(|amount| lease.learn(amount, now)) {
                attempt.vouchers += 1;
            }
            attempt.supervision.observe(report, now);
        };
        self.update(observed).await.map(|_| ())
    }

    /// Whether the lease's provider stands by what it says was consumed.
    fn is_signed(&self, statement: &SignedStatement, lease: &Supervision) -> bool {
        let verified = statement.verify(lease.id, lease.terms.provider);
        if let Err(error) = &verified {
            tracing::warn!(job = %self.job.id, %error, "what the lease consumed is not stated as it should be");
        }
        verified.is_ok()
    }

    /// Waits until the provider has taken the job over.
    async fn begun(&self) {
        let begun = |record: &JobRecord| {
            record.attempts.get(self.index).is_some_and(|attempt| attempt.supervision.begun)
        };
        // The sender lives as long as the job that this lease is of.
        let _ = self.job.view.subscribe().wait_for(begun).await;
    }

    async fn follow_log(&self) {
        loop {
            self.begun().await;
            match self.copy_log(Seconds::new(5)).await {
                Ok(true) => {
                    self.logged.send_replace(true);
                    return std::future::pending().await;
                }
                Ok(false) => {}
                Err(error) => tracing::debug!(job = %self.job.id, %error, "no log"),
            }
            tokio::time::sleep(SILENCE).await;
        }
    }

    async fn rest_of_log(&self) {
        if *self.logged.borrow() {
            return;
        }
        if let Err(error) = self.copy_log(Seconds::ZERO).await {
            tracing::debug!(job = %self.job.id, %error, "no rest of the log");
        }
    }

    /// Copies the provider's log until it ends, or nothing is left where `wait` is zero. `true` at the log's end.
    async fn copy_log(&self, wait: Seconds) -> Result<bool, String> {
        let attempt = self.attempt().await;
        let path = self.inner.log_path(self.job.id, self.index);
        let mut file =
            LogFile::open(&path, attempt.log, attempt.log_length).map_err(|error| error.to_string())?;
        if !attempt.supervision.begun {
            return Ok(false);
        }
        let transport = self.inner.parts.transport.as_ref();
        loop {
            let chunk = conversation::logs(
                transport,
                &self.inner.address(&attempt),
                attempt.supervision.id,
                file.cursor,
                wait,
            )
            .await;
            let chunk = chunk.map_err(|error| error.to_string())?;
            let (ended, empty) = (chunk.end, chunk.bytes.is_empty());
            if !empty {
                file.append(&chunk.bytes, chunk.next).map_err(|error| error.to_string())?;
                let (cursor, length) = (file.cursor, file.length);
                self.update(|attempt| (attempt.log, attempt.log_length) = (cursor, length)).await?;
            }
            if empty && (ended || wait == Seconds::ZERO) {
                return Ok(ended);
            }
        }
    }
}
