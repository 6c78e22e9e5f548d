//! The provider's side of one lease: what to do next, given what the chain, the runtime and the buyer show.
//!
//! ```text
//!   Opening ─► Preparing ─► Running ⇄ Paused ─► Stopping ─► Collecting ─► Finished ─► (closed on chain) ─► forgotten
//!                  └────────────┴──────► Failed ───────────────────────────────────────────┘
//! ```
//!
//! The lifecycle is level-triggered. [`Hosting::next`] looks at the durable state and at the latest observations and says what
//! should be done; every action has a natural key, so doing it again changes nothing. What could not be observed is
//! `None`, and never read as "gone": while the chain is silent the work goes on, within the credit that the terms allow.
//!
//! A spot lease that its owner takes back is noticed on chain; its job is told in time and ends with the notice. An unattended
//! lease brings its vouchers along, and climbs them while the job runs. What a lease leaves waits for its buyer for a stated time.
//!
//! Failure paths: an unpaid lease is paused and noticed, and closed once the notice matured; a workload that is lost is reported
//! and never started a second time; a buyer that vanishes costs at most the exposure bound, because the notice stops the work.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::ids::LeaseId;
use crate::ladder::Ladder;
use crate::lease::{LeasePhase, LeaseState, NoticeKind};
use crate::meter::{Run, is_unpaid};
use crate::report::Stage;
use crate::terms::{Domain, LeaseKind, LeaseTerms};
use crate::units::{Bytes, Money, Seconds, Timestamp};
use crate::voucher::{SignedVoucher, VoucherError};
use crate::workload::{Exit, WorkloadStatus};

/// What the provider is willing to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementPolicy {
    /// Settle as soon as this much is unsettled.
    pub amount: Money,
    /// Settle what is older than this; a third of the chain's window.
    pub age: Seconds,
    /// The chain's window after a lease's end.
    pub window: Seconds,
    /// How long log and outputs of a lease that is over wait for a buyer that has not taken them.
    pub keep: Seconds,
}

/// The owner takes a spot lease back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaim {
    /// How long before the notice's end the job is told: time to save its progress.
    pub lead: Seconds,
    /// The notice's end, once the chain shows the notice.
    pub by: Option<Timestamp>,
    /// When the job was told.
    pub told: Option<Timestamp>,
}

/// The durable state of a hosted lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hosting {
    /// The lease.
    pub id: LeaseId,
    /// Its terms.
    pub terms: LeaseTerms,
    /// The best voucher held, without `last`.
    pub best: Option<SignedVoucher>,
    /// The buyer's word that the lease ended well.
    pub last: Option<SignedVoucher>,
    /// When the chain's settled amount was last seen to grow; the start before that.
    pub settled_at: Timestamp,
    /// The settled amount seen then.
    pub settled: Money,
    /// When the job ran.
    pub run: Run,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Inputs and images are in place.
    pub prepared: bool,
    /// The runtime was told to start; from then on an absent workload is a lost one.
    pub started: bool,
    /// Outputs are ready.
    pub collected: bool,
    /// Somebody asked to end the job.
    pub stop_requested: bool,
    /// Why it failed, for the buyer.
    pub failure: Option<String>,
    /// Vouchers that the buyer signed ahead.
    pub ladder: Ladder,
    /// The owner takes it back.
    pub reclaim: Option<Reclaim>,
    /// When the chain was first seen to hold the lease for over; its units are free from then on.
    pub over_at: Option<Timestamp>,
}

/// What the shell saw this time. `None` means "could not be asked".
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// The time.
    pub now: Timestamp,
    /// The lease on chain.
    pub chain: Option<LeaseState>,
    /// The workload.
    pub workload: Option<WorkloadStatus>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Inputs and images are in place.
    Prepared,
    /// The runtime accepted the workload.
    Started {
        /// When.
        at: Timestamp,
    },
    /// The job cannot run: a missing program, an input with another hash.
    Failed(String),
    /// Outputs are ready.
    Collected,
    /// The buyer, or the owner, ends it.
    StopRequested,
    /// The owner's own work took a spot lease's place already: its job was told, and ends soon.
    Preempted {
        /// When.
        at: Timestamp,
        /// Until when the job may still run.
        until: Timestamp,
    },
    /// The owner takes a spot lease back.
    ReclaimRequested {
        /// How long before the notice's end the job is told.
        lead: Seconds,
    },
}

/// What the shell has to do. All are idempotent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Pull inputs and images.
    Prepare,
    /// Start the workload.
    Start,
    /// Freeze it.
    Pause,
    /// Thaw it.
    Resume,
    /// End it: signal, grace, kill.
    Stop,
    /// Hash and share what it left.
    Collect,
    /// Send `open` with both signatures.
    Open,
    /// Settle this voucher.
    Settle(SignedVoucher),
    /// Give notice that payment stopped, settling the best voucher.
    NoticeUnpaid(Option<SignedVoucher>),
    /// Give notice that the owner takes a spot lease back.
    NoticeReclaim,
    /// Close, with the last voucher where there is one.
    Close(Option<SignedVoucher>),
    /// Answer the buyer's challenge: this provider lives.
    Answer,
    /// The buyer's closing time is over.
    Finalize,
    /// The lease's end and window are over.
    Expire,
    /// Get the bond back.
    ReleaseBond,
    /// Delete workload and data; the lease is over.
    Forget,
}

impl Hosting {
    /// A lease that both sides signed.
    #[must_use]
    pub const fn new(id: LeaseId, terms: LeaseTerms) -> Self {
        Self {
            settled_at: terms.start,
            settled: Money::ZERO,
            id,
            terms,
            best: None,
            last: None,
            run: Run { since: None, until: None },
            exit: None,
            prepared: false,
            started: false,
            collected: false,
            stop_requested: false,
            failure: None,
            ladder: Ladder::NONE,
            reclaim: None,
            over_at: None,
        }
    }

    /// Takes a voucher in, or says why it does not count. The caller stores the state before it acknowledges.
    ///
    /// # Errors
    /// [`VoucherError`].
    pub fn accept(
        &mut self,
        voucher: SignedVoucher,
        domain: &Domain,
        now: Timestamp,
    ) -> Result<(), VoucherError> {
        voucher.verify(&self.terms, self.id, domain, self.held(), now)?;
        if voucher.voucher.last {
            self.last = Some(voucher);
        } else if self.best.is_none_or(|best| voucher.voucher.cumulative > best.voucher.cumulative) {
            self.best = Some(voucher);
        }
        Ok(())
    }

    /// What the best voucher promises; nothing before the first.
    #[must_use]
    pub fn held(&self) -> Money {
        let promised =
            |voucher: &Option<SignedVoucher>| voucher.map_or(Money::ZERO, |v| v.voucher.cumulative);
        promised(&self.best).max(promised(&self.last))
    }

    /// Records what happened.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Prepared => self.prepared = true,
            Event::Started { at } => {
                self.started = true;
                self.run.since.get_or_insert(at);
            }
            Event::Failed(reason) => {
                self.failure.get_or_insert(reason);
            }
            Event::Collected => self.collected = true,
            Event::StopRequested => self.stop_requested = true,
            Event::Preempted { at, until } => {
                let lead = self.terms.notice;
                let reclaim = self.reclaim.get_or_insert(Reclaim { lead, by: None, told: None });
                reclaim.by = Some(reclaim.by.map_or(until, |by| by.min(until)));
                reclaim.told.get_or_insert(at);
            }
            Event::ReclaimRequested { lead } => {
                let lead = lead.min(self.terms.notice);
                self.reclaim.get_or_insert(Reclaim { lead, by: None, told: None });
            }
        }
    }

    /// Whether the owner may take it back.
    #[must_use]
    pub fn is_reclaimable(&self) -> bool {
        self.terms.kind == LeaseKind::Spot && self.exit.is_none() && self.over_at.is_none()
    }

    /// Takes over what the runtime says of the workload.
    pub fn observe(&mut self, workload: WorkloadStatus, now: Timestamp) {
        match workload {
            WorkloadStatus::Running { since, .. } => {
                self.started = true;
                self.run.since.get_or_insert(since);
            }
            WorkloadStatus::Exited(exit) => {
                self.started = true;
                self.run.since.get_or_insert(exit.at);
                self.run.until.get_or_insert(exit.at);
                self.exit.get_or_insert(exit);
            }
            WorkloadStatus::Absent if !self.started => {}
            WorkloadStatus::Absent | WorkloadStatus::Lost => {
                if self.exit.is_none() {
                    self.run.until.get_or_insert(now);
                    self.failure.get_or_insert_with(|| "the workload was lost with its machine".into());
                }
            }
        }
    }

    /// Takes over what the chain says of the lease.
    pub fn observe_chain(&mut self, chain: &LeaseState, now: Timestamp) {
        if chain.paid > self.settled {
            self.settled = chain.paid;
            self.settled_at = now;
        }
        if chain.phase == LeasePhase::Noticed(NoticeKind::Reclaim) {
            let lead = self.terms.notice;
            let reclaim = self.reclaim.get_or_insert(Reclaim { lead, by: None, told: None });
            let by = chain.notice_at.after(self.terms.notice);
            // A job that was told has no more time than it was told.
            reclaim.by = Some(reclaim.by.filter(|_| reclaim.told.is_some()).map_or(by, |told| told.min(by)));
        }
        if matches!(chain.phase, LeasePhase::Settled | LeasePhase::Closed) {
            self.over_at.get_or_insert(now);
        }
    }

    /// Takes over what time alone brings: rungs that fall due, and the moment to tell a reclaimed job.
    pub fn advance(&mut self, now: Timestamp, chain: Option<&LeaseState>, policy: &SettlementPolicy) {
        let closing = chain.filter(|chain| chain.phase == LeasePhase::Closing);
        let asked = closing.map_or(now, |chain| chain.due_at.before(policy.window));
        let failed = self.failure.as_ref().map_or(now, |_| self.terms.start);
        let worked = now.min(asked).min(self.run.until.unwrap_or(failed));
        if let Some(rung) = self.ladder.due(worked) {
            if rung.voucher.cumulative > self.held() {
                self.best = Some(rung);
            }
            self.ladder.drop_up_to(rung.voucher.cumulative);
        }
        let running = self.run.since.is_some() && self.exit.is_none();
        if let Some(reclaim) = self.reclaim.as_mut().filter(|_| running)
            && reclaim.by.is_some_and(|by| now >= by.before(reclaim.lead))
        {
            reclaim.told.get_or_insert(now);
        }
    }

    /// How long the job may still take to end, of the `grace` that it asked for.
    #[must_use]
    pub fn grace(&self, grace: Seconds, now: Timestamp) -> Seconds {
        let told = self.reclaim.filter(|reclaim| reclaim.told.is_some() && !self.stop_requested);
        told.and_then(|reclaim| reclaim.by).map_or(grace, |by| by.since(now))
    }

    /// Where the work stands, for the buyer. `pulled` is the preparation's progress.
    #[must_use]
    pub fn stage(&self, seen: &Seen, pulled: (Bytes, Bytes)) -> Stage {
        if let Some(reason) = &self.failure {
            return Stage::Failed { reason: reason.clone() };
        }
        if self.exit.is_some() {
            return if self.collected { Stage::Finished } else { Stage::Collecting };
        }
        if self.run.since.is_some() {
            return match seen.workload {
                _ if self.stop_requested || self.is_told() => Stage::Stopping,
                Some(WorkloadStatus::Running { paused: true, .. }) => Stage::Paused,
                _ => Stage::Running,
            };
        }
        match seen.chain {
            Some(chain) if chain.phase.is_live() => Stage::Preparing { done: pulled.0, total: pulled.1 },
            _ => Stage::Opening,
        }
    }

    /// What to do now.
    #[must_use]
    pub fn next(&self, seen: &Seen, policy: &SettlementPolicy) -> Vec<Action> {
        let mut actions = self.work(seen);
        if let Some(chain) = seen.chain {
            actions.extend(self.money(&chain, seen, policy));
        }
        actions
    }

    fn work(&self, seen: &Seen) -> Vec<Action> {
        let running = matches!(seen.workload, Some(WorkloadStatus::Running { .. }));
        let paused = matches!(seen.workload, Some(WorkloadStatus::Running { paused: true, .. }));
        let over = match seen.chain.map(|chain| chain.phase) {
            Some(LeasePhase::Open | LeasePhase::Noticed(_)) => seen.now >= self.terms.end,
            Some(LeasePhase::None) if !self.started => return Vec::new(),
            // A reorg took `open` back, and it may be sent again until then.
            Some(LeasePhase::None) => seen.now > self.terms.open_by,
            Some(LeasePhase::Closing | LeasePhase::Settled | LeasePhase::Closed) => true,
            None => seen.now >= self.terms.end,
        };
        if running && (over || self.stop_requested || self.is_told() || self.last.is_some()) {
            return vec![Action::Stop];
        }
        if running {
            let unpaid = self.is_behind(seen.now);
            return match (unpaid, paused) {
                (true, false) => vec![Action::Pause],
                (false, true) => vec![Action::Resume],
                _ => Vec::new(),
            };
        }
        if self.exit.is_some() {
            return if self.collected { Vec::new() } else { vec![Action::Collect] };
        }
        let opened = seen.chain.is_some_and(|chain| chain.phase.is_live());
        if self.failure.is_some() || over || self.stop_requested || !opened || self.started {
            return Vec::new();
        }
        vec![if self.prepared { Action::Start } else { Action::Prepare }]
    }

    /// Work is frozen as soon as it is a slack ahead of its payment. A ladder's rungs pay by the lease's time, so there the
    /// contract's condition counts.
    fn is_behind(&self, now: Timestamp) -> bool {
        let (terms, held) = (&self.terms, self.held());
        if self.ladder.is_empty() { self.run.is_ahead(terms, held, now) } else { is_unpaid(terms, held, now) }
    }

    fn money(&self, chain: &LeaseState, seen: &Seen, policy: &SettlementPolicy) -> Option<Action> {
        let now = seen.now;
        match chain.phase {
            LeasePhase::None if now <= self.terms.open_by => Some(Action::Open),
            LeasePhase::None => (!self.is_running(seen)).then_some(Action::Forget),
            LeasePhase::Closed => {
                (!self.is_running(seen) && !self.is_kept(now, policy)).then_some(Action::Forget)
            }
            LeasePhase::Settled => (now >= chain.due_at && !chain.disputed).then_some(Action::ReleaseBond),
            LeasePhase::Open | LeasePhase::Noticed(_) | LeasePhase::Closing => self.live(chain, seen, policy),
        }
    }

    fn live(&self, chain: &LeaseState, seen: &Seen, policy: &SettlementPolicy) -> Option<Action> {
        let now = seen.now;
        if self.last.is_some() {
            return Some(Action::Close(self.last));
        }
        if chain.challenged_until.is_some_and(|until| now <= until) {
            return Some(Action::Answer);
        }
        let unsettled = self.best.filter(|best| best.voucher.cumulative > chain.paid);
        let noticed = matches!(chain.phase, LeasePhase::Noticed(_));
        let matured = noticed && now >= chain.notice_at.after(self.terms.notice);
        let expired = now >= self.terms.end.after(policy.window);
        if let Some(best) = unsettled {
            let amount = best.voucher.cumulative.saturating_sub(chain.paid);
            let ends = chain.phase == LeasePhase::Closing || now >= self.terms.end || matured;
            if ends || amount >= policy.amount || now.since(self.settled_at) >= policy.age {
                return Some(Action::Settle(best));
            }
        }
        if chain.challenged_until.is_none() {
            match chain.phase {
                LeasePhase::Closing if now >= chain.due_at => return Some(Action::Finalize),
                LeasePhase::Open | LeasePhase::Noticed(_) if expired => return Some(Action::Expire),
                LeasePhase::Noticed(NoticeKind::Unpaid)
                    if matured && is_unpaid(&self.terms, self.held(), now) =>
                {
                    return Some(Action::Close(None));
                }
                // The buyer has a slack's time to take the outputs and end it well.
                LeasePhase::Noticed(NoticeKind::Reclaim)
                    if matured
                        && !self.is_running(seen)
                        && now >= chain.notice_at.after(self.terms.notice.plus(self.terms.slack)) =>
                {
                    return Some(Action::Close(None));
                }
                LeasePhase::None
                | LeasePhase::Open
                | LeasePhase::Noticed(_)
                | LeasePhase::Closing
                | LeasePhase::Settled
                | LeasePhase::Closed => {}
            }
        }
        if chain.phase != LeasePhase::Open {
            return None;
        }
        // A job that lost its place may be over before its notice is on chain.
        let ended_by_owner = self.is_told() && self.terms.kind == LeaseKind::Spot;
        if self.reclaim.is_some() && (self.is_reclaimable() || ended_by_owner) {
            return Some(Action::NoticeReclaim);
        }
        is_unpaid(&self.terms, self.held(), now).then_some(Action::NoticeUnpaid(unsettled))
    }

    fn is_told(&self) -> bool {
        self.reclaim.is_some_and(|reclaim| reclaim.told.is_some())
    }

    /// A lease that ended without its buyer's last word keeps what it left for a while; with it, the buyer has taken all.
    fn is_kept(&self, now: Timestamp, policy: &SettlementPolicy) -> bool {
        let left_something = self.run.since.is_some() && self.last.is_none();
        left_something && self.over_at.is_none_or(|over| now < over.after(policy.keep))
    }

    const fn is_running(&self, seen: &Seen) -> bool {
        matches!(seen.workload, Some(WorkloadStatus::Running { .. }))
    }
}
