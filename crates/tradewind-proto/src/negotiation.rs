//! From an offer to terms that both sides sign.
//!
//! ```text
//! buyer: TermsRequest ──► provider: propose(offer, request, …) ──► LeaseTerms ──► buyer: accept(…) ──► both signatures
//! ```
//!
//! Everything in the terms follows from the offer, the request and the chain's parameters by [`propose`]; only the moment and the
//! choice of units are the provider's. So [`accept`] computes the terms again and refuses whatever differs: a hostile
//! provider cannot slip a number in, and a hostile buyer cannot ask for one.

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use crate::ids::{BuyerId, DeviceId};
use crate::manifest::Share;
use crate::offer::{MAX_UNITS, Offer};
use crate::terms::{LeaseKind, LeaseTerms, TermsError};
use crate::units::{Money, RatePerSecond, Seconds, Timestamp};
use crate::workload::Image;

/// How far the two clocks may differ, in seconds.
const MAX_SKEW: Seconds = Seconds::new(30);
/// How long signed terms may be opened.
pub const OPEN_WITHIN: Seconds = Seconds::new(45);

/// What a buyer asks of one offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermsRequest {
    /// Who will pay.
    pub buyer: BuyerId,
    /// The key that will sign vouchers.
    pub meter: Address,
    /// It may sign the last one too.
    pub meter_may_sign_last: bool,
    /// The offer's device.
    pub device: DeviceId,
    /// How many of its units.
    pub units: u8,
    /// What kind of lease.
    pub kind: LeaseKind,
    /// How long at most.
    pub duration: Seconds,
    /// Unbilled time for pulling data.
    pub prepare: Seconds,
    /// How far payment may run ahead or lag behind.
    pub slack: Seconds,
    /// The digest of the salted manifest.
    pub job: B256,
    /// What the job takes in all; the units must hold it.
    pub share: Share,
    /// The runtime it needs.
    pub runtime: String,
    /// The image it needs, so that the owner's rules are asked before anything is signed.
    pub image: Option<Image>,
    /// The lease that this one extends, or zero.
    pub parent: B256,
}

/// What the chain's parameter version demands of terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermsParameters {
    /// The version.
    pub version: u32,
    /// The longest lease.
    pub max_duration: Seconds,
    /// The least compensation cap of an on-demand lease, in seconds of its rate.
    pub min_cap_on_demand: Seconds,
    /// The same for spot.
    pub min_cap_spot: Seconds,
    /// The same for reserved.
    pub min_cap_reserved: Seconds,
}

/// Why a provider says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// No unit is free now.
    Busy,
    /// The offer does not sell this.
    NotOffered,
    /// The owner's rules forbid it.
    Policy,
    /// The request makes no sense.
    Malformed,
    /// No such lease here, or not yours.
    UnknownLease,
    /// A voucher or signature does not count.
    Payment,
    /// The node cannot answer now.
    Unavailable,
}

/// A provider's no: what is wrong, and what would work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What kind of no.
    pub code: RefusalCode,
    /// What is wrong.
    pub reason: String,
    /// What to do instead; may be empty.
    pub hint: String,
}

impl Refusal {
    /// A no.
    #[must_use]
    pub fn new(code: RefusalCode, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), hint: hint.into() }
    }
}

/// What a buyer will not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purse {
    /// The highest price.
    pub max_rate: RatePerSecond,
    /// The most to lock.
    pub max_deposit: Money,
}

/// Why a buyer does not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsObjection {
    /// A field is not what offer and request say.
    #[error("the provider's terms state another {field} than its offer")]
    Differs {
        /// Which field.
        field: &'static str,
    },
    /// The price exceeds the buyer's limit.
    #[error("the price of {got} an hour exceeds the limit of {limit}")]
    Price {
        /// Asked, base units an hour.
        got: Money,
        /// The limit.
        limit: Money,
    },
    /// The deposit exceeds the buyer's limit.
    #[error("the deposit of {got} exceeds the limit of {limit}")]
    Deposit {
        /// Asked.
        got: Money,
        /// The limit.
        limit: Money,
    },
    /// The offer does not sell what was requested.
    #[error("the offer does not sell this")]
    Offer(#[from] Refusal),
    /// The contract would refuse the terms.
    #[error("the contract would refuse the terms")]
    Terms(#[from] TermsError),
}

/// The terms for `request` on the units in `mask`, from `start` on.
///
/// # Errors
/// A [`Refusal`] that names what the offer does not sell.
pub fn propose(
    offer: &Offer,
    request: &TermsRequest,
    parameters: &TermsParameters,
    mask: u64,
    start: Timestamp,
) -> Result<LeaseTerms, Refusal> {
    check(offer, request, parameters)?;
    let not_sold =
        || Refusal::new(RefusalCode::NotOffered, "this kind of lease is not sold here", "ask for on-demand");
    let rate = offer.rate(request.kind, request.units, request.share.egress).ok_or_else(not_sold)?;
    let value = rate.over(request.duration);
    let conditions = &offer.conditions;
    let (cap_span, provider_fee, buyer_fee) = match request.kind {
        LeaseKind::OnDemand => (
            conditions.compensation.max(parameters.min_cap_on_demand),
            rate.over(conditions.break_fee.min(request.duration)),
            Money::ZERO,
        ),
        LeaseKind::Spot => {
            (conditions.spot_compensation.max(parameters.min_cap_spot), Money::ZERO, Money::ZERO)
        }
        LeaseKind::Reserved => {
            let fee = value.fraction(u32::from(conditions.reserved_break_fee), 10_000).map_err(too_large)?;
            (conditions.compensation.max(parameters.min_cap_reserved), fee, fee)
        }
    };
    let prepay = rate.over(conditions.prepay.min(request.slack)).min(value);
    let compensation_cap = rate.over(cap_span);
    let terms = LeaseTerms {
        buyer: request.buyer,
        provider: offer.provider,
        device: offer.device,
        units: if offer.device == DeviceId::NONE { 0 } else { mask },
        unstaked: offer.device == DeviceId::NONE,
        meter: request.meter,
        meter_may_sign_last: request.meter_may_sign_last,
        token: offer.prices.token,
        rate,
        deposit: value.checked_add(buyer_fee).map_err(too_large)?,
        prepay,
        bond: compensation_cap.checked_add(provider_fee).map_err(too_large)?,
        compensation_cap,
        provider_break_fee: provider_fee,
        buyer_break_fee: buyer_fee,
        kind: request.kind,
        start,
        end: start.after(request.duration),
        open_by: start.after(OPEN_WITHIN),
        prepare: request.prepare,
        notice: conditions.notice,
        slack: request.slack,
        uptime_promise: conditions.uptime_promise,
        version: parameters.version,
        job: request.job,
        terms_of_service: offer.terms_of_service,
        parent: request.parent,
    };
    terms.check().map_err(|error| Refusal::new(RefusalCode::Malformed, error.to_string(), ""))?;
    Ok(terms)
}

/// The terms that a provider will propose, as far as they are known before it is asked: units and moment are examples.
///
/// # Errors
/// [`TermsObjection`]: it would be no use to ask.
pub fn foresee(
    offer: &Offer,
    request: &TermsRequest,
    parameters: &TermsParameters,
    purse: &Purse,
    now: Timestamp,
) -> Result<LeaseTerms, TermsObjection> {
    let some = u64::MAX.unbounded_shr(u64::BITS.saturating_sub(u32::from(request.units)));
    let terms = propose(offer, request, parameters, some, now)?;
    accept(offer, request, parameters, &terms, purse, now)?;
    Ok(terms)
}

/// Checks that `terms` are what the offer promises for the request, and within the purse.
///
/// # Errors
/// [`TermsObjection`] naming the first thing that is wrong.
pub fn accept(
    offer: &Offer,
    request: &TermsRequest,
    parameters: &TermsParameters,
    terms: &LeaseTerms,
    purse: &Purse,
    now: Timestamp,
) -> Result<(), TermsObjection> {
    let near = now.since(terms.start) <= MAX_SKEW && terms.start.since(now) <= MAX_SKEW;
    same(near, "start")?;
    same(
        offer.device == DeviceId::NONE || terms.units.count_ones() == u32::from(request.units),
        "number of units",
    )?;
    let expected = propose(offer, request, parameters, terms.units, terms.start)?;
    compare(&expected, terms)?;
    if terms.rate > purse.max_rate {
        return Err(TermsObjection::Price { got: terms.rate.hourly(), limit: purse.max_rate.hourly() });
    }
    if terms.deposit > purse.max_deposit {
        return Err(TermsObjection::Deposit { got: terms.deposit, limit: purse.max_deposit });
    }
    Ok(())
}

/// Whether terms that were made of `offer` pay for what `share` lets the job send: they name the job by its digest only. A lease
/// whose terms name no units has at least so many as are `needed`.
#[must_use]
pub fn pays_for_egress(offer: &Offer, terms: &LeaseTerms, share: &Share, needed: u64) -> bool {
    match (offer.prices.egress, share.egress) {
        (None, None) => true,
        (Some(_), Some(_)) => {
            let named = u64::from(terms.units.count_ones());
            let mut units = if named > 0 { named..=named } else { needed..=u64::from(MAX_UNITS) };
            let rate = |units| offer.rate(terms.kind, u8::try_from(units).ok()?, share.egress);
            units.any(|units| rate(units) == Some(terms.rate))
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn check(offer: &Offer, request: &TermsRequest, parameters: &TermsParameters) -> Result<(), Refusal> {
    let rule = |holds: bool, code, reason: &str, hint: String| {
        if holds { Ok(()) } else { Err(Refusal::new(code, reason, hint)) }
    };
    let conditions = &offer.conditions;
    let not_offered = RefusalCode::NotOffered;
    rule(request.device == offer.device, not_offered, "this device is not offered", String::new())?;
    rule(
        request.units >= 1 && request.units <= offer.units,
        not_offered,
        "so many units do not exist",
        String::new(),
    )?;
    let longest = conditions.max_duration.min(parameters.max_duration);
    rule(
        (conditions.min_duration..=longest).contains(&request.duration),
        not_offered,
        "the duration is not offered",
        format!("ask for {} to {longest}", conditions.min_duration),
    )?;
    rule(
        (conditions.min_slack..=conditions.max_slack).contains(&request.slack),
        not_offered,
        "the slack is not offered",
        format!("ask for {} to {}", conditions.min_slack, conditions.max_slack),
    )?;
    rule(
        request.prepare <= conditions.max_prepare,
        not_offered,
        "so much time for pulling data is not offered",
        format!("ask for at most {}", conditions.max_prepare),
    )?;
    rule(
        offer.runtimes.names().any(|name| name == request.runtime),
        not_offered,
        "this runtime is not offered",
        format!("choose {}", offer.runtimes),
    )?;
    rule(
        offer.prices.egress.is_some() == request.share.egress.is_some(),
        not_offered,
        "what a job sends has another price here",
        "read the offer anew".into(),
    )?;
    let units = u64::from(request.units);
    let fits = u64::from(request.share.cpu_millis) <= u64::from(offer.unit.cpu_millis) * units
        && request.share.memory.get() <= offer.unit.memory.get().saturating_mul(units)
        && request.share.disk.get() <= offer.unit.disk.get().saturating_mul(units)
        && u64::from(request.share.gpus)
            <= offer.unit.gpus.as_ref().map_or(0, |gpus| u64::from(gpus.count)) * units;
    rule(fits, not_offered, "the job does not fit the units", "ask for more units".into())
}

fn compare(expected: &LeaseTerms, got: &LeaseTerms) -> Result<(), TermsObjection> {
    same(expected.buyer == got.buyer && expected.provider == got.provider, "party")?;
    same(expected.device == got.device && expected.unstaked == got.unstaked, "device")?;
    same(expected.meter == got.meter && expected.meter_may_sign_last == got.meter_may_sign_last, "meter")?;
    same(expected.token == got.token, "token")?;
    same(expected.rate == got.rate, "price")?;
    same(expected.deposit == got.deposit && expected.prepay == got.prepay, "deposit")?;
    same(expected.bond == got.bond && expected.compensation_cap == got.compensation_cap, "bond")?;
    same(expected.kind == got.kind, "kind")?;
    same(expected.end == got.end && expected.open_by == got.open_by, "duration")?;
    same(expected.version == got.version, "parameter version")?;
    same(expected.job == got.job, "job")?;
    same(expected == got, "condition")
}

const fn same(holds: bool, field: &'static str) -> Result<(), TermsObjection> {
    if holds { Ok(()) } else { Err(TermsObjection::Differs { field }) }
}

fn too_large(_: crate::units::UnitError) -> Refusal {
    Refusal::new(RefusalCode::Malformed, "the lease's value does not fit", "ask for a shorter lease")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::offer::tests::sample;
    use crate::units::Bytes;

    const NOW: Timestamp = Timestamp::from_unix(1_700_000_000);
    const PARAMETERS: TermsParameters = TermsParameters {
        version: 1,
        max_duration: Seconds::new(90 * 86_400),
        min_cap_on_demand: Seconds::new(23_400),
        min_cap_spot: Seconds::new(3_600),
        min_cap_reserved: Seconds::new(23_400),
    };
    const PURSE: Purse = Purse { max_rate: RatePerSecond::from_scaled(u128::MAX), max_deposit: Money::MAX };

    fn request(offer: &Offer) -> TermsRequest {
        TermsRequest {
            buyer: BuyerId::new(Address::repeat_byte(0xb0)),
            meter: Address::repeat_byte(0xb1),
            meter_may_sign_last: true,
            device: offer.device,
            units: 1,
            kind: LeaseKind::OnDemand,
            duration: Seconds::new(3_600),
            prepare: offer.conditions.max_prepare,
            slack: offer.conditions.min_slack,
            job: B256::repeat_byte(6),
            share: Share { cpu_millis: 1, memory: Bytes::new(1), disk: Bytes::ZERO, gpus: 0, egress: None },
            runtime: offer.runtimes.names().next().unwrap_or_default().into(),
            image: None,
            parent: B256::ZERO,
        }
    }

    fn terms(offer: &Offer) -> LeaseTerms {
        propose(offer, &request(offer), &PARAMETERS, 1, NOW).unwrap()
    }

    #[test]
    fn honest_terms_are_accepted_and_would_open() {
        let offer = sample();
        let terms = terms(&offer);
        assert_eq!(accept(&offer, &request(&offer), &PARAMETERS, &terms, &PURSE, NOW), Ok(()));
        assert_eq!(terms.check(), Ok(()));
        assert_eq!(terms.compensation_cap, terms.rate.over(offer.conditions.compensation));
    }

    #[test]
    fn what_will_be_deposited_is_known_before_a_provider_is_asked() {
        let offer = sample();
        for units in [1, 2, 4] {
            let asked = TermsRequest { units, ..request(&offer) };
            let foreseen = foresee(&offer, &asked, &PARAMETERS, &PURSE, NOW).unwrap();
            let given = u64::MAX << (64 - u32::from(units));
            let later = NOW.after(Seconds::new(20));
            let terms = propose(&offer, &asked, &PARAMETERS, given, later).unwrap();
            assert_eq!((foreseen.token, foreseen.deposit), (terms.token, terms.deposit));
        }
    }

    #[test]
    fn what_a_job_may_send_is_part_of_the_price_and_of_what_both_check() {
        let mut offer = sample();
        offer.prices.egress = Some(Money::from_base_units(10_000));
        let plain = request(&offer);
        assert!(propose(&offer, &plain, &PARAMETERS, 1, NOW).is_err(), "it has to say how much it may send");
        let asked = |hourly| {
            let share = Share { egress: Some(hourly), ..plain.share.clone() };
            TermsRequest { share, ..plain.clone() }
        };
        let rate = |hourly| propose(&offer, &asked(hourly), &PARAMETERS, 1, NOW).unwrap().rate;
        let none = rate(Bytes::ZERO);
        assert_eq!(Some(none), offer.unit_rate(LeaseKind::OnDemand));
        let hour = rate(Bytes::gib(50)).hourly();
        assert_eq!(hour.checked_sub(none.hourly()), Ok(Money::from_base_units(500_000)));
        let dear = propose(&offer, &asked(Bytes::gib(50)), &PARAMETERS, 1, NOW).unwrap();
        let objection = accept(&offer, &asked(Bytes::gib(1)), &PARAMETERS, &dear, &PURSE, NOW);
        assert_eq!(objection, Err(TermsObjection::Differs { field: "price" }));
        let sends = |hourly| Share { egress: hourly, ..plain.share.clone() };
        let paid = |terms: &LeaseTerms, hourly| pays_for_egress(&offer, terms, &sends(hourly), 1);
        assert!(paid(&dear, Some(Bytes::gib(50))));
        for other in [None, Some(Bytes::gib(1)), Some(Bytes::gib(51))] {
            assert!(!paid(&dear, other), "a job may not send {other:?} under terms for 50 GiB");
        }
        let mut nameless = dear;
        (nameless.units, nameless.rate) =
            (0, offer.rate(LeaseKind::OnDemand, 3, Some(Bytes::gib(2))).unwrap());
        assert!(paid(&nameless, Some(Bytes::gib(2))));
        assert!(!paid(&nameless, Some(Bytes::gib(3))));
        offer.prices.egress = None;
        assert!(propose(&offer, &asked(Bytes::gib(1)), &PARAMETERS, 1, NOW).is_err());
    }

    #[test]
    fn a_lease_beyond_the_purse_is_not_asked_for() {
        let offer = sample();
        let LeaseTerms { rate, deposit, .. } = terms(&offer);
        let less = |money: Money| money.saturating_sub(Money::from_base_units(1));
        let price = Purse { max_rate: RatePerSecond::from_scaled(rate.scaled() - 1), ..PURSE };
        let purse = Purse { max_deposit: less(deposit), ..PURSE };
        let foreseen = |purse| foresee(&offer, &request(&offer), &PARAMETERS, &purse, NOW);
        assert!(matches!(foreseen(price), Err(TermsObjection::Price { .. })));
        assert!(matches!(foreseen(purse), Err(TermsObjection::Deposit { .. })));
    }

    #[test]
    fn whatever_a_provider_changes_is_named() {
        type Change = fn(&mut LeaseTerms);
        let changes: [(&str, Change); 14] = [
            ("party", |t| t.buyer = BuyerId::new(Address::ZERO)),
            ("meter", |t| t.meter = Address::ZERO),
            ("token", |t| t.token = Address::ZERO),
            ("price", |t| t.rate = RatePerSecond::from_scaled(t.rate.scaled() + 1)),
            ("deposit", |t| t.deposit = t.deposit.checked_add(Money::from_base_units(1)).unwrap()),
            ("deposit", |t| t.prepay = t.prepay.checked_add(Money::from_base_units(1)).unwrap()),
            ("bond", |t| t.bond = Money::ZERO),
            ("bond", |t| t.compensation_cap = Money::ZERO),
            ("kind", |t| t.kind = LeaseKind::Spot),
            ("duration", |t| t.end = t.end.after(Seconds::new(1))),
            ("duration", |t| t.open_by = t.open_by.after(Seconds::new(600))),
            ("job", |t| t.job = B256::ZERO),
            ("condition", |t| t.buyer_break_fee = Money::from_base_units(1)),
            ("condition", |t| t.notice = Seconds::ZERO),
        ];
        let offer = sample();
        for (field, change) in changes {
            let mut hostile = terms(&offer);
            change(&mut hostile);
            let objection = accept(&offer, &request(&offer), &PARAMETERS, &hostile, &PURSE, NOW);
            assert_eq!(objection, Err(TermsObjection::Differs { field }));
        }
    }

    #[test]
    fn terms_from_another_time_are_refused() {
        let offer = sample();
        let later = NOW.after(Seconds::new(31));
        let objection = accept(&offer, &request(&offer), &PARAMETERS, &terms(&offer), &PURSE, later);
        assert_eq!(objection, Err(TermsObjection::Differs { field: "start" }));
    }

    proptest! {
        #[test]
        fn accepted_terms_never_exceed_the_purse(rate in 0u128..1 << 80, deposit in 0u64..1 << 50) {
            let offer = sample();
            let purse = Purse { max_rate: RatePerSecond::from_scaled(rate), max_deposit: Money::from_base_units(deposit) };
            let terms = terms(&offer);
            if accept(&offer, &request(&offer), &PARAMETERS, &terms, &purse, NOW).is_ok() {
                prop_assert!(terms.rate <= purse.max_rate && terms.deposit <= purse.max_deposit);
                prop_assert!(terms.cap(terms.end) <= purse.max_deposit);
            }
        }

        #[test]
        fn whatever_a_buyer_asks_the_terms_respect_the_offer(
            units in any::<u8>(), duration in any::<u64>(), slack in any::<u64>(), prepare in any::<u64>(), kind in 0u8..3,
        ) {
            let offer = sample();
            let asked = TermsRequest {
                units, duration: Seconds::new(duration), slack: Seconds::new(slack), prepare: Seconds::new(prepare),
                kind: LeaseKind::try_from(kind).unwrap(), ..request(&offer)
            };
            if let Ok(terms) = propose(&offer, &asked, &PARAMETERS, 1, NOW) {
                prop_assert!(terms.check().is_ok());
                prop_assert!(terms.end.since(terms.start) <= offer.conditions.max_duration);
                prop_assert!(terms.slack <= offer.conditions.max_slack && terms.prepare <= offer.conditions.max_prepare);
                prop_assert!(terms.rate >= offer.unit_rate(asked.kind).unwrap());
            }
        }
    }
}
