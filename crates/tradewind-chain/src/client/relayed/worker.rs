//! What drives a user's outbox: every action one step on, whenever the chain or a relayer may have moved.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::U256;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::encode::{DepositForm, Facts, SignedCall, encode};
use crate::client::evidence;
use crate::client::relayed::relay::{RelayError, Relays};
use crate::client::relayed::{Job, Route, Shared};
use crate::client::sender::{Call, Sender, SenderError};
use crate::ledger::{Action, ActionStatus, ChainHead, LedgerError};

/// The longest pause between two looks at a chain that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How often an action is refused after a reorg until that counts, on a chain that makes no blocks meanwhile.
const MAX_TRIES_AFTER_REORG: usize = 40;

/// What is known of an action only while this process lives.
#[derive(Debug, Default)]
struct Attempt {
    posted: Option<Instant>,
    tries: usize,
}

/// Outcome of looking at one action.
enum Step {
    /// Its record changed to this.
    Became(ActionStatus),
    /// It waits.
    Waits,
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    relays: Relays,
    attempts: HashMap<u64, Attempt>,
    checked: Option<ChainHead>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let relays = Relays::new(&shared.config);
        Self { shared, relays, attempts: HashMap::new(), checked: None }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0u32;
        let shared = Arc::clone(&self.shared);
        loop {
            let poll = shared.config.poll;
            let pause = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                step = self.step() => match step {
                    Ok(busy) => {
                        failures = 0;
                        busy.then_some(poll)
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the actions wait for the chain");
                        let pause = poll.saturating_mul(1 << failures.min(7)).min(LONGEST_PAUSE);
                        failures = failures.saturating_add(1);
                        Some(pause)
                    }
                },
            };
            let rest = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = shared.outbox.wake.notified() => {}
                () = rest => {}
            }
        }
    }

    /// True while something is under way.
    async fn step(&mut self) -> Result<bool, LedgerError> {
        let jobs = self.shared.outbox.open_jobs();
        if jobs.is_empty() {
            self.attempts.clear();
            return Ok(false);
        }
        let head = self.shared.reader.head().await?;
        self.shared.publish(head);
        let moved = self.checked != Some(head);
        let mut earlier_pending = false;
        for job in jobs {
            let step = match job.status {
                ActionStatus::Included { .. } if moved => self.confirm(&job, head).await?,
                ActionStatus::Pending => self.advance(&job, head, earlier_pending).await?,
                ActionStatus::Included { .. } | ActionStatus::Final { .. } | ActionStatus::Failed { .. } => {
                    Step::Waits
                }
            };
            match step {
                Step::Became(status) => {
                    self.attempts.remove(&job.seq);
                    let mut job = self.shared.outbox.jobs().get(&job.seq).cloned().unwrap_or(job);
                    if status == ActionStatus::Pending {
                        job.reorged_at = Some(head.block);
                    }
                    self.shared.outbox.save(Job { status, ..job }).await?;
                }
                Step::Waits => earlier_pending |= job.status == ActionStatus::Pending,
            }
        }
        // Only now: what an error cut short is looked at again.
        self.checked = Some(head);
        let open = self.shared.outbox.open_jobs();
        self.attempts.retain(|seq, _| open.iter().any(|job| job.seq == *seq));
        Ok(!open.is_empty())
    }

    /// Whether an included action is final, still included, or gone with its block.
    async fn confirm(&self, job: &Job, head: ChainHead) -> Result<Step, LedgerError> {
        let status = self.evident(job, head).await?.unwrap_or(ActionStatus::Pending);
        if status == ActionStatus::Pending {
            tracing::warn!(key = %job.key, "an action left the chain with its block");
        }
        Ok(if status == job.status { Step::Waits } else { Step::Became(status) })
    }

    /// What the chain itself shows of the action.
    async fn evident(&self, job: &Job, head: ChainHead) -> Result<Option<ActionStatus>, LedgerError> {
        let shared = &self.shared;
        let since = job.since.unwrap_or(head.block);
        if job.route == Some(Route::Own)
            && let Some(sender) = &shared.sender
            && let Some(status) = sender.status(&tx_key(job))?
            && status.is_included()
        {
            return Ok(Some(status));
        }
        let found = evidence::find(&shared.reader, shared.wallet.account(), &job.action, since).await?;
        Ok(found.map(|evidence::Evidence { block, tx }| {
            if block <= head.finalized {
                ActionStatus::Final { block, tx }
            } else {
                ActionStatus::Included { block, tx }
            }
        }))
    }

    async fn advance(&mut self, job: &Job, head: ChainHead, after_others: bool) -> Result<Step, LedgerError> {
        let mut job = job.clone();
        if job.since.is_none() || job.route.is_none() {
            let route = match self.route().await? {
                Some(route) => route,
                None => {
                    return Ok(Step::Became(ActionStatus::Failed {
                        reason: "the account holds no gas token and no relayer is configured".into(),
                    }));
                }
            };
            job.since = Some(job.since.unwrap_or(head.block));
            job.route = Some(job.route.unwrap_or(route));
            self.shared.outbox.save(job.clone()).await?;
        }
        match (job.route, self.shared.sender.clone()) {
            (Some(Route::Own), Some(sender)) => self.advance_own(&job, &sender, head).await,
            (Some(Route::Own), None) => {
                tracing::warn!(key = %job.key, "the action went out with the account's own gas, which has no sender now");
                Ok(self.evident(&job, head).await?.map_or(Step::Waits, Step::Became))
            }
            (Some(Route::Relayer) | None, _) => self.advance_relayed(&job, head, after_others).await,
        }
    }

    async fn route(&self) -> Result<Option<Route>, LedgerError> {
        let config = &self.shared.config;
        let gas = match &self.shared.sender {
            Some(sender) => self.shared.reader.gas(sender.account()).await?,
            None => U256::ZERO,
        };
        if gas >= config.min_gas.max(U256::ONE) {
            return Ok(Some(Route::Own));
        }
        if !config.relayers.is_empty() {
            return Ok(Some(Route::Relayer));
        }
        Ok((gas > U256::ZERO).then_some(Route::Own))
    }

    async fn advance_own(&self, job: &Job, sender: &Sender, head: ChainHead) -> Result<Step, LedgerError> {
        let key = tx_key(job);
        match sender.status(&key)? {
            None => {
                let call = self.encoded(&job.action, head).await;
                let call = match call {
                    Ok(call) => call,
                    Err(LedgerError::Invalid(reason)) => {
                        return Ok(Step::Became(ActionStatus::Failed { reason }));
                    }
                    Err(other) => return Err(other),
                };
                sender.send(&key, Call::new(call.target, call.input)).await.map_err(|error| match error {
                    SenderError::Full(_) => LedgerError::Unavailable(error.to_string()),
                    SenderError::Store(error) => error.into(),
                })?;
                Ok(Step::Waits)
            }
            Some(ActionStatus::Pending) => Ok(Step::Waits),
            Some(failed @ ActionStatus::Failed { .. }) => {
                // Another party may have done it first.
                if let Some(status) = self.evident(job, head).await? {
                    return Ok(Step::Became(status));
                }
                let transactions = job.transactions.saturating_add(1);
                if may_come_back(job, head, transactions as usize) {
                    self.shared.outbox.save(Job { transactions, ..job.clone() }).await?;
                    return Ok(Step::Waits);
                }
                Ok(Step::Became(failed))
            }
            Some(done) => Ok(Step::Became(done)),
        }
    }

    async fn encoded(&self, action: &Action, head: ChainHead) -> Result<SignedCall, LedgerError> {
        let shared = &self.shared;
        let account = shared.wallet.account();
        let registered =
            matches!(action, Action::Register { .. }) && shared.reader.account(account).await?.is_some();
        let deposit = if let Action::Deposit { token, .. } = action {
            shared.reader.deposit_form(*token, account).await?
        } else {
            DepositForm::Allowance
        };
        let deadline = shared.deadline(head);
        encode(&shared.wallet, action, &Facts { deadline, registered, deposit })
    }

    async fn advance_relayed(
        &mut self,
        job: &Job,
        head: ChainHead,
        after_others: bool,
    ) -> Result<Step, LedgerError> {
        let tries = {
            let attempt = self.attempts.entry(job.seq).or_default();
            if let Some(posted) = attempt.posted {
                let waiting = posted.elapsed() < self.shared.config.patience;
                if let Some(status) = self.evident(job, head).await? {
                    return Ok(Step::Became(status));
                }
                if waiting {
                    return Ok(Step::Waits);
                }
            }
            self.attempts.get(&job.seq).map_or(0, |attempt| attempt.tries)
        };
        // A stale voucher would be no error and still cost a fee.
        if matches!(job.action, Action::Settle { .. })
            && let Some(status) = self.evident(job, head).await?
        {
            return Ok(Step::Became(status));
        }
        let call = match self.encoded(&job.action, head).await {
            Ok(call) => call,
            Err(LedgerError::Invalid(reason)) => return Ok(Step::Became(ActionStatus::Failed { reason })),
            Err(other) => return Err(other),
        };
        let posted = self.relays.post(&self.shared, job, call, tries, head).await;
        let attempt = self.attempts.entry(job.seq).or_default();
        attempt.tries = tries.saturating_add(1);
        match posted {
            Ok(()) => {
                attempt.posted = Some(Instant::now());
                let head = self.shared.reader.head().await?;
                Ok(self.evident(job, head).await?.map_or(Step::Waits, Step::Became))
            }
            Err(RelayError::Refused(revert)) => match self.evident(job, head).await? {
                Some(status) => Ok(Step::Became(status)),
                // An earlier action may be what it waits for.
                None if after_others => Ok(Step::Waits),
                None if may_come_back(job, head, tries) => {
                    self.attempts.entry(job.seq).or_default().posted = Some(Instant::now());
                    Ok(Step::Waits)
                }
                None => Ok(Step::Became(ActionStatus::Failed { reason: revert.to_string() })),
            },
            Err(RelayError::TooDear { asked, limit }) => {
                tracing::warn!(key = %job.key, %asked, %limit, "every relayer asks more than the limit");
                attempt.posted = Some(Instant::now());
                Ok(Step::Waits)
            }
            Err(RelayError::Ledger(error)) => Err(error),
            Err(RelayError::Unreachable(problem)) => {
                tracing::warn!(key = %job.key, problem, "no relayer took the action");
                attempt.posted = Some(Instant::now());
                Ok(Step::Waits)
            }
        }
    }
}

/// One transaction for each attempt at the action.
fn tx_key(job: &Job) -> String {
    format!("{}#{}.{}", job.key, job.seq, job.transactions)
}

/// True while a refusal may be the work of the same reorg that took the action off the chain.
const fn may_come_back(job: &Job, head: ChainHead, tries: usize) -> bool {
    match job.reorged_at {
        Some(block) => head.finalized < block && tries < MAX_TRIES_AFTER_REORG,
        None => false,
    }
}
