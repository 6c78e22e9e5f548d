//! A delegated meter: a node that the buyer trusts to follow one lease and to sign its vouchers.
//!
//! ```text
//! buyer                              meter                                  provider
//!   Ask(inquiry) ──────────────────►  does it serve this account?
//!   ◄────────────────── Willing(key)
//!   … terms with that key, signed by the provider …
//!   Assign(assignment) ────────────►  verifies all of it, stores it
//!   ◄───────── Taken(prepayment) ───
//!   Begin(…, meter's mesh key) ──────────────────────────────────────────►  lets that key read reports and pay
//!                                     ◄──────────────── reports ───────────
//!                                     ─────────────── vouchers ──────────►
//! ```
//!
//! What the meter signs follows from the provider's reports by the rules of [`Supervision`], as if the buyer watched, within the
//! limits of the assignment. It signs no last voucher, opens nothing and closes nothing: the assignment gives it neither
//! party's signature of the terms. What it can cost its buyer is [`LeaseTerms::cap`], because no key can sign more.
//!
//! Failure paths: a meter that restarts goes on from what it stored before it sent it; a provider that did not acknowledge is
//! paid again with the same amount; a buyer that asks the chain to close ends the signing at once.
//!
//! [`LeaseTerms::cap`]: crate::terms::LeaseTerms::cap

mod assignment;
mod conversation;

use serde::{Deserialize, Serialize};

pub use self::assignment::{
    Assignment, AssignmentError, Desk, Inquiry, SignedAssignment, SignedInquiry, proven,
};
pub use self::conversation::{MeterAnswer, MeterRequest};
use crate::ids::LeaseId;
use crate::lease::{LeasePhase, LeaseState};
use crate::meter::Run;
use crate::report::{Report, Stage};
use crate::supervision::{Limits, Supervision};
use crate::units::{Money, Seconds, Timestamp};

/// How long after its end a lease is followed that the chain does not show as over.
const AFTER_END: Seconds = Seconds::new(7 * 86_400);
/// How far an RPC may lag behind the chain, and a clock behind another, before a lease that it does not show was never opened.
const LAG: Seconds = Seconds::new(60);

/// The durable state of a metered lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// What the provider reports, and what was signed.
    pub lease: Supervision,
    /// The longest run that is paid.
    pub longest: Option<Seconds>,
    /// The largest amount that the provider acknowledged.
    pub acknowledged: Money,
    /// How many vouchers were signed.
    pub vouchers: u32,
    /// Why there is nothing left to sign.
    pub over: Option<End>,
}

/// Why a meter has nothing left to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The chain never opened the lease.
    NeverOpened,
    /// The chain shows it settled or closed.
    Settled,
    /// Its end is long past.
    Lapsed,
}

/// What the meter does now. All are idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Sign this cumulative amount, store it, send it.
    Pay(Money),
    /// Nothing.
    Wait,
    /// Forget the lease.
    End(End),
}

impl Delegation {
    /// A lease that was assigned to this meter.
    #[must_use]
    pub fn new(id: LeaseId, assignment: &Assignment) -> Self {
        let terms = assignment.terms.clone();
        let limits = Limits {
            max_cost: assignment.max_cost,
            timeout: None,
            patience: Seconds::ZERO,
            challenge: false,
            saving: Seconds::ZERO,
            idle: None,
        };
        let acknowledged = terms.prepay;
        let lease = Supervision { begun: true, ..Supervision::new(id, terms, limits) };
        Self { lease, longest: assignment.longest, acknowledged, vouchers: 1, over: None }
    }

    /// What an honest meter signs now: for the time in which the provider answered, within the buyer's limits.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Money {
        let lease = &self.lease;
        let run = lease.run();
        let last = self.longest.map(|longest| run.billed_from(&lease.terms).after(longest));
        let until = match (run.until, last) {
            (Some(until), Some(last)) => Some(until.min(last)),
            (until, last) => until.or(last),
        };
        let due = Run { until, ..run }.due(&lease.terms, now);
        due.min(lease.limits.max_cost).max(lease.signed)
    }

    /// What to do now. What the chain could not be asked is `None`, and ends nothing.
    #[must_use]
    pub fn next(&self, now: Timestamp, chain: Option<&LeaseState>) -> Step {
        let lease = &self.lease;
        if let Some(end) = self.end(now, chain) {
            return Step::End(end);
        }
        if chain.is_some_and(|chain| chain.phase == LeasePhase::Closing) {
            return Step::Wait;
        }
        let due = self.due(now);
        if lease.is_payday(due, now) || (self.has_ended() && due > lease.signed) {
            return Step::Pay(due);
        }
        if lease.signed > self.acknowledged { Step::Pay(lease.signed) } else { Step::Wait }
    }

    /// Records a voucher that is about to be sent.
    pub fn sign(&mut self, amount: Money, now: Timestamp) {
        if amount > self.lease.signed {
            (self.lease.signed, self.lease.signed_at) = (amount, now);
            self.vouchers += 1;
        }
    }

    /// The provider holds a voucher over `amount`. More than was ever signed is not believed.
    pub fn acknowledge(&mut self, amount: Money) {
        self.acknowledged = self.acknowledged.max(amount.min(self.lease.signed));
    }

    /// Takes a report in, without what a meter need not keep: what the job left, and the provider's words.
    pub fn observe(&mut self, mut report: Report, now: Timestamp) {
        report.outputs = Vec::new();
        if let Stage::Failed { reason } = &mut report.stage {
            *reason = String::new();
        }
        self.lease.observe(report, now);
    }

    /// Everything that the lease can earn is signed and acknowledged.
    #[must_use]
    pub fn is_paid_up(&self, now: Timestamp) -> bool {
        self.has_ended() && self.due(now) <= self.lease.signed && self.lease.signed <= self.acknowledged
    }

    /// The job is over, and its provider did not lose it.
    fn has_ended(&self) -> bool {
        let ended = |report: &Report| matches!(report.stage, Stage::Collecting | Stage::Finished);
        self.lease.is_over() && self.lease.report.as_ref().is_some_and(ended)
    }

    fn end(&self, now: Timestamp, chain: Option<&LeaseState>) -> Option<End> {
        let terms = &self.lease.terms;
        match chain.map(|chain| chain.phase) {
            Some(LeasePhase::None) if now > terms.open_by.after(LAG) => Some(End::NeverOpened),
            Some(LeasePhase::Settled | LeasePhase::Closed) => Some(End::Settled),
            _ if now > terms.end.after(AFTER_END) => Some(End::Lapsed),
            Some(LeasePhase::None | LeasePhase::Open | LeasePhase::Noticed(_) | LeasePhase::Closing)
            | None => None,
        }
    }
}

#[cfg(test)]
mod tests;
