//! What a lease has earned: the same arithmetic on the buyer's and the provider's side.
//!
//! ```text
//!   start ──── prepare ────┬─ running since ──────────── ended ── end
//!                          └─ billing: the earlier of "running since" and "start + prepare"
//!   due(t) = max(prepay, rate × billed seconds(t)), never above the cap that the contract enforces
//! ```
//!
//! Amounts round down on the cumulative, never per interval, so a lease's bill differs from the exact product by less than
//! one base unit, in the payer's favour.

use serde::{Deserialize, Serialize};

use crate::terms::LeaseTerms;
use crate::units::{Money, Seconds, Timestamp};

/// When a workload ran, as its provider reports it and its buyer checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Run {
    /// When the job's first process started; `None` while inputs are still being pulled.
    pub since: Option<Timestamp>,
    /// When it ended; `None` while it runs.
    pub until: Option<Timestamp>,
}

impl Run {
    /// The moment from which time is billed: when the job started, and at the latest when the terms' `prepare` is over.
    #[must_use]
    pub fn billed_from(&self, terms: &LeaseTerms) -> Timestamp {
        let latest = terms.start.after(terms.prepare);
        self.since.map_or(latest, |since| since.clamp(terms.start, latest))
    }

    /// The seconds billed at `now`.
    #[must_use]
    pub fn billed(&self, terms: &LeaseTerms, now: Timestamp) -> Seconds {
        let until = self.until.map_or(now, |until| until.min(now)).min(terms.end);
        until.since(self.billed_from(terms))
    }

    /// Whether the work is more than a slack ahead of what was `paid`. The contract's condition for a notice leaves `prepare` free
    /// even where the job started sooner; this does not.
    #[must_use]
    pub fn is_ahead(&self, terms: &LeaseTerms, paid: Money, now: Timestamp) -> bool {
        paid < terms.rate.over(self.billed(terms, now).minus(terms.slack))
    }

    /// Everything earned at `now`: what an honest meter signs.
    #[must_use]
    pub fn due(&self, terms: &LeaseTerms, now: Timestamp) -> Money {
        terms.rate.over(self.billed(terms, now)).max(terms.prepay).min(terms.cap(now))
    }
}

/// How often a meter signs: a third of the slack, at least every second, at most every minute.
#[must_use]
pub fn voucher_interval(terms: &LeaseTerms) -> Seconds {
    Seconds::new((terms.slack.get() / 3).clamp(1, 60))
}

/// The most that either side can lose to the other, given one inclusion per window: `rate × (interval + slack)`.
#[must_use]
pub fn exposure(terms: &LeaseTerms) -> Money {
    terms.rate.over(voucher_interval(terms).plus(terms.slack))
}

/// The contract's condition for an unpaid notice: `paid < rate × (now − start − prepare − slack)`.
#[must_use]
pub fn is_unpaid(terms: &LeaseTerms, paid: Money, now: Timestamp) -> bool {
    paid < terms.rate.over(now.min(terms.end).since(terms.start).minus(terms.prepare).minus(terms.slack))
}

#[cfg(test)]
pub(crate) mod tests {
    use alloy_primitives::{Address, B256};
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{BuyerId, DeviceId, ProviderId};
    use crate::terms::LeaseKind;
    use crate::units::RatePerSecond;

    /// Terms that the contract would open: $3.60 an hour, an hour long from 1,000 on.
    pub(crate) fn terms() -> LeaseTerms {
        let money = Money::from_base_units;
        LeaseTerms {
            buyer: BuyerId::new(Address::repeat_byte(1)),
            provider: ProviderId::new(Address::repeat_byte(2)),
            device: DeviceId::new(B256::repeat_byte(3)),
            units: 1,
            unstaked: false,
            meter: Address::repeat_byte(4),
            meter_may_sign_last: false,
            token: Address::repeat_byte(5),
            rate: RatePerSecond::per_hour(money(3_600_000)),
            deposit: money(3_700_000),
            prepay: money(30_000),
            bond: money(10_000_000),
            compensation_cap: money(5_000_000),
            provider_break_fee: money(1_000_000),
            buyer_break_fee: Money::ZERO,
            kind: LeaseKind::OnDemand,
            start: Timestamp::from_unix(1_000),
            end: Timestamp::from_unix(4_600),
            open_by: Timestamp::from_unix(1_030),
            prepare: Seconds::new(20),
            notice: Seconds::new(10),
            slack: Seconds::new(30),
            uptime_promise: 9_900,
            version: 1,
            job: B256::repeat_byte(6),
            terms_of_service: B256::repeat_byte(7),
            parent: B256::ZERO,
        }
    }

    #[test]
    fn pulling_data_is_free_until_the_terms_say_otherwise() {
        let pulling = Run::default();
        assert_eq!(pulling.billed(&terms(), Timestamp::from_unix(1_019)), Seconds::ZERO);
        assert_eq!(pulling.billed(&terms(), Timestamp::from_unix(1_030)), Seconds::new(10));
        let early = Run { since: Some(Timestamp::from_unix(1_005)), until: None };
        assert_eq!(early.billed(&terms(), Timestamp::from_unix(1_015)), Seconds::new(10));
    }

    #[test]
    fn a_start_claimed_before_the_lease_bills_nothing_more() {
        let liar = Run { since: Some(Timestamp::from_unix(10)), until: None };
        assert_eq!(liar.billed(&terms(), Timestamp::from_unix(1_015)), Seconds::new(15));
    }

    #[test]
    fn an_ended_job_costs_nothing_more() {
        let ended =
            Run { since: Some(Timestamp::from_unix(1_010)), until: Some(Timestamp::from_unix(1_110)) };
        assert_eq!(ended.due(&terms(), Timestamp::from_unix(1_200)), Money::from_base_units(100_000));
        assert_eq!(ended.due(&terms(), Timestamp::from_unix(4_000)), Money::from_base_units(100_000));
    }

    proptest! {
        #[test]
        fn an_honest_bill_is_never_refused_by_the_contract_nor_called_unpaid(
            since in proptest::option::of(900u64..5_000), now in 1_000u64..6_000, late in 0u64..10,
        ) {
            let (terms, now) = (terms(), Timestamp::from_unix(now));
            let run = Run { since: since.map(Timestamp::from_unix), until: None };
            let due = run.due(&terms, now);
            prop_assert!(due >= terms.prepay && due <= terms.cap(now));
            let later = now.after(Seconds::new(late));
            prop_assert!(due == terms.cap(now) || !is_unpaid(&terms, due, later));
            prop_assert!(due == terms.cap(now) || !run.is_ahead(&terms, due, later));
        }
    }
}
