//! Candidates, their scores, and what the chosen ones cost.

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use super::Context;
use super::demand::{Demand, Fit};
use super::rejection::{Miss, Reason};
use crate::book::Entry;
use crate::ladder::least_slack;
use crate::manifest::Share;
use crate::meter::exposure;
use crate::negotiation::{TermsRequest, propose};
use crate::offer::{Offer, Runtimes, TrustTier};
use crate::terms::{LeaseKind, LeaseTerms};
use crate::units::{Money, RatePerSecond, Seconds};

/// What an unknown provider's price is raised by, in basis points, until it has a history.
const NEWCOMER: u32 = 500;
/// What a provider without stake is raised by.
const UNSTAKED: u32 = 1_000;
/// What another country than the buyer's is raised by.
const ELSEWHERE: u32 = 100;

/// The most choices of one plan.
const MAX_CHOICES: usize = 64;

/// How a choice was ranked: its price, raised by what speaks against it, in basis points of the price. Lower is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// What an hour costs.
    pub price: RatePerSecond,
    /// For missing reliability: what it lacks of 100 %, or 5 % without enough history.
    pub reliability: u32,
    /// For missing stake: 10 %.
    pub trust: u32,
    /// For another country than the buyer's: 1 %.
    pub locality: u32,
    /// The raised price: what choices are ranked by.
    pub total: RatePerSecond,
}

impl Score {
    fn of(rate: RatePerSecond, entry: &Entry, context: &Context) -> Self {
        let reliability =
            entry.standing.reliability.map_or(NEWCOMER, |have| 10_000u32.saturating_sub(have.into()));
        let trust = if entry.offer.trust == TrustTier::Unstaked { UNSTAKED } else { 0 };
        let away = context.home.as_ref().is_some_and(|home| *home != entry.offer.region.country);
        let locality = if away { ELSEWHERE } else { 0 };
        let raise = u128::from(reliability + trust + locality);
        let total = rate.scaled().saturating_add((rate.scaled() / 10_000).saturating_mul(raise));
        Self { price: rate, reliability, trust, locality, total: RatePerSecond::from_scaled(total) }
    }
}

/// What a lease costs, locks and risks, in base units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// An hour.
    pub hourly: Money,
    /// Locked at the start, and the most that the lease can cost.
    pub deposit: Money,
    /// Of it, paid even if the job ends at once.
    pub prepay: Money,
    /// The most that a provider which takes the money and does not work gets: `rate × (voucher interval + slack)`, or all that
    /// the lease can earn where vouchers are signed ahead.
    pub worst_loss: Money,
    /// The most that another node which meters can sign over the whole lease, where it works for the provider: the contract's
    /// cap at the lease's end. Zero where the buyer meters itself.
    pub meter_loss: Money,
    /// Owed when a reserved lease is broken.
    pub buyer_break_fee: Money,
    /// What the provider locks.
    pub bond: Money,
    /// Of it, the most that compensates the buyer.
    pub compensation_cap: Money,
}

/// One way to run the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The offer.
    pub offer: Offer,
    /// Which of the job's sets of resources it meets.
    pub set: usize,
    /// Under which promise.
    pub kind: LeaseKind,
    /// How many units.
    pub units: u8,
    /// All units together.
    pub rate: RatePerSecond,
    /// What of the machine that is.
    pub share: Share,
    /// The runtime that starts the job.
    pub runtime: String,
    /// The lease's length.
    pub duration: Seconds,
    /// Unbilled time for pulling data.
    pub prepare: Seconds,
    /// How far payment may run ahead or lag behind.
    pub slack: Seconds,
    /// Why it stands where it stands.
    pub score: Score,
    /// What it costs.
    pub cost: Cost,
}

impl Choice {
    /// The request for exactly these terms.
    #[must_use]
    pub fn request(
        &self,
        buyer: crate::ids::BuyerId,
        meter: Address,
        meter_may_sign_last: bool,
        job: B256,
    ) -> TermsRequest {
        TermsRequest {
            buyer,
            meter,
            meter_may_sign_last,
            device: self.offer.device,
            units: self.units,
            kind: self.kind,
            duration: self.duration,
            prepare: self.prepare,
            slack: self.slack,
            job,
            share: self.share.clone(),
            runtime: self.runtime.clone(),
            image: None,
            parent: B256::ZERO,
        }
    }

    /// Computes the terms that the provider will propose, and from them the cost.
    pub(super) fn state(
        candidate: &Candidate<'_>,
        demand: &Demand<'_>,
        context: &Context,
    ) -> Result<Self, Miss> {
        let offer = &candidate.entry.offer;
        let conditions = &offer.conditions;
        let mut duration = demand.duration_on(offer);
        if let Some(most) = demand.max_cost
            && demand.kind != LeaseKind::Reserved
        {
            duration = duration.min(candidate.rate.seconds_for(most).unwrap_or(duration));
        }
        let (mut prepare, mut slack) = (context.prepare, context.slack);
        if context.unattended {
            (prepare, slack) = (Seconds::ZERO, slack.max(least_slack(duration)));
            if slack > conditions.max_slack {
                let (have, want) = (conditions.max_slack.get().into(), slack.get().into());
                return Err(Miss { reason: Reason::Slack, have, want });
            }
        }
        let mut choice = Self {
            offer: offer.clone(),
            set: demand.place,
            kind: demand.kind,
            units: candidate.units,
            rate: candidate.rate,
            share: share(offer, candidate.units, demand.egress(offer)),
            runtime: runtime(offer.runtimes, demand.runtimes).into(),
            duration,
            prepare: prepare.min(conditions.max_prepare),
            slack: slack.clamp(conditions.min_slack, conditions.max_slack),
            score: candidate.score,
            cost: Cost::default(),
        };
        let terms = choice.terms(context).ok_or(Miss::rule(Reason::Terms))?;
        choice.cost = Cost::of(&terms);
        if context.unattended {
            choice.cost.worst_loss = terms.rate.over(duration);
        }
        if context.delegated {
            choice.cost.meter_loss = terms.cap(terms.end);
        }
        match demand.max_cost {
            Some(most) if terms.deposit > most => {
                let (have, want) = (terms.deposit.base_units(), most.base_units());
                Err(Miss { reason: Reason::Cost, have, want })
            }
            _ => Ok(choice),
        }
    }

    fn terms(&self, context: &Context) -> Option<LeaseTerms> {
        let request = self.request(context.buyer, context.buyer.account(), false, B256::ZERO);
        let mask = u64::MAX >> (64 - u32::from(self.units.clamp(1, 64)));
        propose(&self.offer, &request, &context.parameters, mask, context.now).ok()
    }
}

impl Cost {
    fn of(terms: &LeaseTerms) -> Self {
        Self {
            hourly: terms.rate.hourly(),
            deposit: terms.deposit,
            prepay: terms.prepay,
            meter_loss: Money::ZERO,
            worst_loss: exposure(terms).max(terms.prepay).min(terms.deposit),
            buyer_break_fee: terms.buyer_break_fee,
            bond: terms.bond,
            compensation_cap: terms.compensation_cap,
        }
    }
}

impl Default for Cost {
    fn default() -> Self {
        let none = Money::ZERO;
        Self {
            hourly: none,
            deposit: none,
            prepay: none,
            worst_loss: none,
            meter_loss: none,
            buyer_break_fee: none,
            bond: none,
            compensation_cap: none,
        }
    }
}

/// Everything in the units: what is paid for may be used.
fn share(offer: &Offer, units: u8, egress: Option<crate::units::Bytes>) -> Share {
    let unit = &offer.unit;
    let times = |amount: u64| amount.saturating_mul(u64::from(units));
    let gpus = unit.gpus.as_ref().map_or(0, |gpus| times(u64::from(gpus.count)));
    Share {
        cpu_millis: unit.cpu_millis.saturating_mul(u32::from(units)),
        memory: crate::units::Bytes::new(times(unit.memory.get())),
        disk: crate::units::Bytes::new(times(unit.disk.get())),
        gpus: u8::try_from(gpus).unwrap_or(u8::MAX),
        egress,
    }
}

/// The runtime that both have; the first known one.
fn runtime(offered: Runtimes, wanted: Runtimes) -> &'static str {
    offered.names().find(|name| wanted.names().any(|wanted| wanted == *name)).unwrap_or("process")
}

/// An offer that fits, before its terms are computed.
pub(super) struct Candidate<'b> {
    pub(super) entry: &'b Entry,
    /// The index of the demand that it meets.
    pub(super) demand: usize,
    units: u8,
    rate: RatePerSecond,
    pub(super) score: Score,
    failed: u32,
    tie: u64,
}

impl<'b> Candidate<'b> {
    pub(super) fn new(demand: &Demand<'_>, entry: &'b Entry, fit: &Fit, context: &Context) -> Self {
        let score = Score::of(fit.rate, entry, context);
        let tie = tie(context.seed, &entry.offer);
        let failed = context.failed.get(&entry.offer.provider).copied().unwrap_or(0);
        Self { entry, demand: demand.index, units: fit.units, rate: fit.rate, score, failed, tie }
    }

    const fn order(&self) -> (u32, RatePerSecond, u64) {
        (self.failed, self.score.total, self.tie)
    }
}

/// A number that no provider can choose for all buyers at once.
fn tie(seed: u64, offer: &Offer) -> u64 {
    let bytes = offer.provider.account().into_iter().chain(offer.device.get());
    let mixed = bytes.fold(seed ^ 0x9e37_79b9_7f4a_7c15, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    });
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// The best few candidates so far, best first.
pub(super) struct Candidates<'b> {
    best: Vec<Candidate<'b>>,
    capacity: usize,
}

impl<'b> Candidates<'b> {
    /// Room for twice as many as are wanted: some may turn out to be impossible, or one offer under two demands.
    pub(super) fn new(context: &Context) -> Self {
        let capacity = context.choices.clamp(1, MAX_CHOICES) * 2;
        Self { best: Vec::with_capacity(capacity + 1), capacity }
    }

    pub(super) fn offer(&mut self, candidate: Candidate<'b>) {
        let place = self.best.partition_point(|known| known.order() <= candidate.order());
        if place < self.capacity {
            self.best.insert(place, candidate);
            self.best.truncate(self.capacity);
        }
    }

    /// The highest total that would still get in.
    pub(super) fn ceiling(&self) -> u128 {
        match self.best.last() {
            Some(worst) if self.best.len() == self.capacity && worst.failed == 0 => {
                worst.score.total.scaled()
            }
            _ => u128::MAX,
        }
    }

    pub(super) fn into_sorted(self) -> Vec<Candidate<'b>> {
        self.best
    }
}
