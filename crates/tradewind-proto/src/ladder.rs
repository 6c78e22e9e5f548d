//! Ladders: vouchers that are signed ahead, for a job whose buyer will not be there to pay.
//!
//! ```text
//! buyer ── Ladder::sign(terms) ──► Begin ──► provider: a rung counts from its `not_before` on, and only while the job runs
//!                                              │ settle, as any voucher
//!   requestClose ─► the chain's clock stops ───┴─► rungs that are not yet due never count
//! ```
//!
//! Nobody is there to see when the job began, so a ladder bills from the moment that the terms alone know. A provider that takes
//! the money and does not work gets all of it: that is the worst loss, and the reason why ladders are off by default.

use serde::{Deserialize, Serialize};

use crate::ids::LeaseId;
use crate::meter::{Run, voucher_interval};
use crate::signature::SigningKey;
use crate::terms::{Domain, LeaseTerms, TermsError};
use crate::units::{Money, Seconds, Timestamp};
use crate::voucher::{SignedVoucher, Voucher, VoucherError};

/// The most vouchers that are signed ahead.
pub const MAX_RUNGS: u64 = 1_024;

/// Why a ladder cannot be made, or does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LadderError {
    /// So few rungs would leave the provider unpaid for longer than the slack.
    #[error("a lease of {duration} needs a slack of {needed} to go unattended, and the terms have {slack}")]
    TooLong {
        /// The lease's length.
        duration: Seconds,
        /// The least slack for that.
        needed: Seconds,
        /// The terms' slack.
        slack: Seconds,
    },
    /// More than [`MAX_RUNGS`].
    #[error("the ladder has more than {MAX_RUNGS} rungs")]
    TooMany,
    /// Rungs that do not rise, in time or in amount, or leave the lease.
    #[error("the ladder's rungs do not rise within the lease")]
    Disorder,
    /// One of its vouchers does not count.
    #[error("a rung of the ladder does not count")]
    Voucher(#[from] VoucherError),
    /// A field is out of range.
    #[error("a rung cannot be expressed on chain")]
    Terms(#[from] TermsError),
}

/// Vouchers in the order in which they fall due. Empty for a lease that somebody watches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ladder(Vec<SignedVoucher>);

/// The least slack under which a lease of `duration` can go unattended.
#[must_use]
pub const fn least_slack(duration: Seconds) -> Seconds {
    Seconds::new(duration.get().div_ceil(MAX_RUNGS).saturating_mul(2))
}

impl Ladder {
    /// No vouchers ahead.
    pub const NONE: Self = Self(Vec::new());

    /// Signs vouchers for everything that the lease can earn.
    ///
    /// # Errors
    /// [`LadderError::TooLong`], [`LadderError::Terms`].
    pub fn sign(
        terms: &LeaseTerms,
        id: LeaseId,
        domain: &Domain,
        meter: &SigningKey,
    ) -> Result<Self, LadderError> {
        let mut rungs = Vec::new();
        let (mut at, mut promised) = (terms.start, terms.prepay);
        let step = step(terms)?;
        while at < terms.end {
            at = at.after(step).min(terms.end);
            let cumulative = Run::default().due(terms, at);
            if cumulative > promised {
                let rung = Voucher { lease: id, cumulative, not_before: at, last: false };
                rungs.push(rung.sign(domain, meter)?);
                promised = cumulative;
            }
        }
        Ok(Self(rungs))
    }

    /// Checks every rung, as a provider must before it counts on one.
    ///
    /// # Errors
    /// The [`LadderError`] that names the rule.
    pub fn check(&self, terms: &LeaseTerms, id: LeaseId, domain: &Domain) -> Result<(), LadderError> {
        if self.0.len() as u64 > MAX_RUNGS {
            return Err(LadderError::TooMany);
        }
        let (mut at, mut promised) = (terms.start, Money::ZERO);
        for rung in &self.0 {
            let Voucher { cumulative, not_before, last, .. } = rung.voucher;
            if last || not_before <= at || not_before > terms.end || cumulative <= promised {
                return Err(LadderError::Disorder);
            }
            rung.verify(terms, id, domain, promised, not_before)?;
            (at, promised) = (not_before, cumulative);
        }
        Ok(())
    }

    /// The best rung at `at`.
    #[must_use]
    pub fn due(&self, at: Timestamp) -> Option<SignedVoucher> {
        let due = self.0.partition_point(|rung| rung.voucher.not_before <= at);
        due.checked_sub(1).and_then(|index| self.0.get(index)).copied()
    }

    /// Drops the rungs that promise no more than `amount`.
    pub fn drop_up_to(&mut self, amount: Money) {
        self.0.retain(|rung| rung.voucher.cumulative > amount);
    }

    /// Everything that it promises: what a provider gets that never works and is never asked to close.
    #[must_use]
    pub fn top(&self) -> Money {
        self.0.last().map_or(Money::ZERO, |rung| rung.voucher.cumulative)
    }

    /// True for a lease that somebody watches.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The time between two rungs: the meter's own interval where that is few enough, and never more than half the slack.
fn step(terms: &LeaseTerms) -> Result<Seconds, LadderError> {
    let duration = terms.end.since(terms.start);
    let needed = least_slack(duration);
    if terms.slack < needed {
        return Err(LadderError::TooLong { duration, needed, slack: terms.slack });
    }
    Ok(voucher_interval(terms).max(Seconds::new(duration.get().div_ceil(MAX_RUNGS))))
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;
    use proptest::prelude::*;

    use super::*;
    use crate::meter::is_unpaid;
    use crate::meter::tests::terms;

    const DOMAIN: Domain = Domain { chain_id: 1, contract: Address::repeat_byte(9) };

    fn meter() -> SigningKey {
        SigningKey::from_bytes([4; 32]).unwrap()
    }

    fn unattended() -> LeaseTerms {
        LeaseTerms { meter: meter().address(), prepare: Seconds::ZERO, ..terms() }
    }

    fn ladder(terms: &LeaseTerms) -> (LeaseId, Ladder) {
        let id = terms.id(&DOMAIN).unwrap();
        (id, Ladder::sign(terms, id, &DOMAIN, &meter()).unwrap())
    }

    #[test]
    fn a_ladder_pays_the_whole_lease_and_no_more_than_its_deposit() {
        let terms = unattended();
        let (id, ladder) = ladder(&terms);
        assert_eq!(ladder.check(&terms, id, &DOMAIN), Ok(()));
        assert_eq!(ladder.top(), terms.rate.over(terms.end.since(terms.start)));
        assert!(ladder.top() <= terms.deposit);
    }

    #[test]
    fn a_rung_counts_from_its_time_on() {
        let terms = unattended();
        let (_, ladder) = ladder(&terms);
        assert_eq!(ladder.due(terms.start), None);
        let rung = ladder.due(Timestamp::from_unix(1_105)).unwrap().voucher;
        assert_eq!((rung.not_before, rung.cumulative.base_units()), (Timestamp::from_unix(1_100), 100_000));
    }

    #[test]
    fn a_lease_that_is_too_long_for_its_slack_cannot_go_unattended() {
        let day = LeaseTerms { end: Timestamp::from_unix(1_000 + 86_400), ..unattended() };
        let refused = Ladder::sign(&day, LeaseId::default(), &DOMAIN, &meter()).unwrap_err();
        let needed = Seconds::new(170);
        let (duration, slack) = (Seconds::new(86_400), Seconds::new(30));
        assert_eq!(refused, LadderError::TooLong { duration, needed, slack });
        let patient = LeaseTerms { slack: least_slack(duration), ..day };
        assert!(Ladder::sign(&patient, LeaseId::default(), &DOMAIN, &meter()).unwrap().0.len() <= 1_024);
    }

    #[test]
    fn a_forged_or_disordered_ladder_is_refused() {
        let terms = unattended();
        let (id, good) = ladder(&terms);
        let mut swapped = good.clone();
        swapped.0.swap(3, 4);
        assert_eq!(swapped.check(&terms, id, &DOMAIN), Err(LadderError::Disorder));
        let thief = SigningKey::from_bytes([5; 32]).unwrap();
        let forged = Ladder::sign(&terms, id, &DOMAIN, &thief).unwrap();
        assert!(matches!(forged.check(&terms, id, &DOMAIN), Err(LadderError::Voucher(_))));
        let other = LeaseTerms { job: alloy_primitives::B256::ZERO, ..terms };
        let (other_id, foreign) = ladder(&other);
        assert_ne!(other_id, id);
        assert!(matches!(foreign.check(&terms, id, &DOMAIN), Err(LadderError::Voucher(_))));
        let mut steep = good.clone();
        let early = Voucher { not_before: Timestamp::from_unix(1_001), ..good.0.last().unwrap().voucher };
        steep.0 = vec![early.sign(&DOMAIN, &meter()).unwrap()];
        assert!(matches!(
            steep.check(&terms, id, &DOMAIN),
            Err(LadderError::Voucher(VoucherError::AboveCap { .. }))
        ));
    }

    proptest! {
        #[test]
        fn a_provider_that_takes_rungs_as_they_fall_due_is_never_unpaid(
            now in 1_000u64..4_600, slack in 8u64..600, duration in 60u64..3_600,
        ) {
            let terms = LeaseTerms {
                slack: Seconds::new(slack),
                end: Timestamp::from_unix(1_000 + duration),
                prepay: Money::from_base_units(1_000),
                ..unattended()
            };
            let (_, ladder) = ladder(&terms);
            let now = Timestamp::from_unix(now);
            let held = ladder.due(now).map_or(terms.prepay, |rung| rung.voucher.cumulative);
            prop_assert!(!is_unpaid(&terms, held, now));
            prop_assert!(held <= terms.cap(now));
        }
    }
}
