//! The buyer's claim on the bond of a provider that fell silent: before the court, where no challenge pays.
//!
//! ```text
//!  leaving ─► Dispute ─► Disputed ─ a case about the device ─► Join ─ its verdict ─► Resolve ─► Over: compensated, or refused
//!     │                     │ no case within patience, and this buyer sues ─► Sue: a bonded case of its own
//!     │                     └ nothing decided until the hard limit ─► Release: the bond goes, the dispute's own returns ─► Over
//!     └ a challenge paid, or there is nothing to claim ─► Over
//! ```
//!
//! **Challenge or court.** Where both are open to a buyer, it challenges: that needs no watchers, is decided within the answer
//! window, and pays the same amount from the same bond. It says nothing of the device, whose stake stays whole. A case
//! punishes too, and takes as long as the court's windows; watchers open it whether or not a buyer joins. So a dispute is for what a
//! challenge leaves: a provider that answers on chain and serves nobody, a challenge that the chain refuses, a buyer that is
//! configured to make none. The buyer slashes nobody; a verdict does.
//!
//! Level-triggered like [`crate::supervision`]: [`Claim::next`] compares what the chain shows now, and every step is idempotent
//! by its key. Nothing holds a lease's end up: what the chain does not say in time runs out, and the dispute's bond returns.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::evidence::Epoch;
use crate::ids::CaseId;
use crate::lease::LeasePhase;
use crate::terms::LeaseTerms;
use crate::units::{Money, Seconds, Timestamp};

/// The durable state of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// When the provider was last heard.
    pub lost_at: Timestamp,
    /// Where no watcher opens a case within this time, the buyer does; never where absent.
    pub sue_after: Option<Seconds>,
    /// The epoch of the buyer's own case, stored before it is opened.
    pub sued: Option<Epoch>,
    /// How far it has come.
    pub stage: Stage,
    /// What was asked from the bond.
    pub amount: Money,
    /// What the bond paid.
    pub awarded: Money,
}

/// How far a claim has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The lease is being left.
    Leaving,
    /// The bond is held for a court.
    Disputed,
    /// A case will decide.
    Joined(CaseId),
    /// It is over.
    Over(Ending),
}

/// How a claim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The bond paid.
    Compensated,
    /// The court found the provider innocent: the dispute's bond is the provider's.
    Refused,
    /// Nobody decided in time: the dispute's bond returned.
    Undecided,
    /// There was nothing to claim, or no court to claim it from.
    Nothing,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaving => f.write_str("leaving the lease"),
            Self::Disputed => f.write_str("disputed, waiting for a case"),
            Self::Joined(case) => write!(f, "joined the case {case}"),
            Self::Over(Ending::Compensated) => f.write_str("compensated"),
            Self::Over(Ending::Refused) => f.write_str("refused by the court"),
            Self::Over(Ending::Undecided) => f.write_str("undecided"),
            Self::Over(Ending::Nothing) => f.write_str("nothing to claim"),
        }
    }
}

/// What the chain holds about the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Where it stands.
    pub phase: LeasePhase,
    /// Settled so far.
    pub paid: Money,
    /// Once settled: when the bond may be released.
    pub due_at: Timestamp,
    /// A challenge went unanswered, and its compensation is paid.
    pub defaulted: bool,
    /// What the bond has paid so far.
    pub compensated: Money,
    /// A dispute waits for the court.
    pub disputed: bool,
    /// The lease had its one dispute.
    pub dispute_used: bool,
    /// When it was raised.
    pub disputed_at: Timestamp,
    /// What it asks for.
    pub claimed: Money,
}

/// A case about the lease's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Which.
    pub id: CaseId,
    /// When its epoch began.
    pub from: Timestamp,
    /// When its epoch was over.
    pub until: Timestamp,
    /// How it ended, once it has.
    pub ruling: Option<Ruling>,
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    /// The device failed.
    Guilty,
    /// It served well.
    Clear,
    /// Nobody could tell.
    Unknown,
}

/// What the court shows of the lease's device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Docket {
    /// Enough seats sit to take a case now.
    pub sits: bool,
    /// The cases about the device since it was lost, the oldest first.
    pub cases: Vec<Case>,
    /// The case that the lease has joined.
    pub joined: Option<CaseId>,
    /// The newest epoch that a case could be about now, with its beginning.
    pub newest: (Epoch, Timestamp),
}

/// What the shell saw this time.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The time.
    pub now: Timestamp,
    /// The lease.
    pub lease: Standing,
    /// The court; `None` where the deployment has none.
    pub court: Option<&'a Docket>,
    /// From Settled until the bond may be released.
    pub bond_delay: Seconds,
    /// How long an open dispute holds the bond.
    pub hard_limit: Seconds,
}

/// What the shell has to do. All are idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// Dispute the lease for this much.
    Dispute(Money),
    /// Tie the lease to this case.
    Join(CaseId),
    /// Open a case about this epoch, under the buyer's own bond.
    Sue(Epoch),
    /// Ask the court's ruling.
    Resolve,
    /// Nobody decided: let the bond go.
    Release,
    /// Nothing is left to do.
    Finish(Ending),
}

impl Claim {
    /// A claim about a provider that was heard last at `lost_at`.
    #[must_use]
    pub const fn new(lost_at: Timestamp, sue_after: Option<Seconds>) -> Self {
        let (amount, awarded) = (Money::ZERO, Money::ZERO);
        Self { lost_at, sue_after, sued: None, stage: Stage::Leaving, amount, awarded }
    }

    /// True once nothing more will come of it.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over(_))
    }

    /// Takes over what the chain shows.
    pub fn observe(&mut self, seen: &Seen<'_>) {
        let lease = &seen.lease;
        self.amount = self.amount.max(lease.claimed);
        self.awarded = lease.compensated;
        let joined = seen.court.and_then(|court| court.joined);
        self.stage = match (lease.dispute_used, joined) {
            (false, _) => Stage::Leaving,
            (true, None) => Stage::Disputed,
            (true, Some(case)) => Stage::Joined(case),
        };
    }

    /// What to do now.
    #[must_use]
    pub fn next(&self, terms: &LeaseTerms, seen: &Seen<'_>) -> Step {
        let lease = &seen.lease;
        let paid_out = !lease.compensated.is_zero();
        match lease.phase {
            LeasePhase::None | LeasePhase::Open | LeasePhase::Noticed(_) => Step::Wait,
            _ if lease.defaulted || (paid_out && !lease.disputed) => Step::Finish(Ending::Compensated),
            LeasePhase::Closing | LeasePhase::Settled if lease.disputed => self.before_the_court(lease, seen),
            LeasePhase::Closing | LeasePhase::Settled if lease.dispute_used => Step::Finish(Ending::Refused),
            LeasePhase::Closing | LeasePhase::Settled => self.raise(terms, lease, seen),
            LeasePhase::Closed if lease.dispute_used => Step::Finish(self.unpaid(seen)),
            LeasePhase::Closed => Step::Finish(Ending::Nothing),
        }
    }

    /// Disputes as soon as the lease is left: a settled one's bond waits only so long.
    fn raise(&self, terms: &LeaseTerms, lease: &Standing, seen: &Seen<'_>) -> Step {
        let settled = lease.phase == LeasePhase::Settled;
        let late = settled && seen.now >= lease.due_at;
        let amount = terms.compensation_cap.saturating_sub(lease.compensated);
        let heard = seen.court.is_some_and(|court| court.sits || !court.cases.is_empty());
        if late || amount.is_zero() || seen.court.is_none() || (settled && lease.paid.is_zero()) {
            return Step::Finish(Ending::Nothing);
        }
        // The provider may settle yet, and seats may be frozen yet.
        if lease.paid.is_zero() || !heard { Step::Wait } else { Step::Dispute(amount) }
    }

    fn before_the_court(&self, lease: &Standing, seen: &Seen<'_>) -> Step {
        let Some(court) = seen.court else { return self.run_out(lease, seen) };
        if let Some(joined) = court.joined {
            let case = court.cases.iter().find(|case| case.id == joined);
            return match case.and_then(|case| case.ruling) {
                Some(Ruling::Guilty | Ruling::Clear) => Step::Resolve,
                Some(Ruling::Unknown) | None => self.run_out(lease, seen),
            };
        }
        if let Some(case) = self.best(lease, seen, &court.cases) {
            return Step::Join(case.id);
        }
        let patience = self.sue_after.map(|patience| self.lost_at.after(patience));
        let (epoch, from) = court.newest;
        let open = court.sits && self.sued.is_none_or(|sued| sued == epoch);
        if open && patience.is_some_and(|at| seen.now >= at) && is_live(lease, seen, from) {
            return Step::Sue(epoch);
        }
        self.run_out(lease, seen)
    }

    /// The case to join: one that is won already, else one that may be. A cleared provider would get the dispute's bond.
    fn best<'a>(&self, lease: &Standing, seen: &Seen<'_>, cases: &'a [Case]) -> Option<&'a Case> {
        let about = |case: &&Case| case.until > self.lost_at && is_live(lease, seen, case.from);
        let ruled = |ruling| cases.iter().filter(about).find(|case| case.ruling == ruling);
        ruled(Some(Ruling::Guilty)).or_else(|| ruled(None))
    }

    fn run_out(&self, lease: &Standing, seen: &Seen<'_>) -> Step {
        let free = lease.due_at.max(lease.disputed_at.after(seen.hard_limit));
        if lease.phase == LeasePhase::Settled && seen.now >= free { Step::Release } else { Step::Wait }
    }

    /// Why a lease that was disputed closed without compensation.
    fn unpaid(&self, seen: &Seen<'_>) -> Ending {
        let ruling = seen.court.and_then(|court| {
            court.cases.iter().find(|case| Some(case.id) == court.joined).and_then(|case| case.ruling)
        });
        if ruling == Some(Ruling::Clear) { Ending::Refused } else { Ending::Undecided }
    }
}

/// Whether the lease still ran when an epoch that began at `from` did: only then may it join a case about it.
fn is_live(lease: &Standing, seen: &Seen<'_>, from: Timestamp) -> bool {
    lease.phase != LeasePhase::Settled || lease.due_at > from.after(seen.bond_delay)
}

#[cfg(test)]
mod tests;
