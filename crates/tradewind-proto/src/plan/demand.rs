//! What one set of resources under one kind of lease demands of an offer.

use super::Context;
use super::rejection::{Miss, Reason};
use crate::book::{Entry, Lanes, Planes, Query, Size, Stake, Wish, is_in_good_standing, model_hash};
use crate::egress;
use crate::job::{JobSpec, ResourceRequest};
use crate::offer::{Offer, Runtimes, TrustTier};
use crate::terms::LeaseKind;
use crate::units::{Bytes, Money, RatePerSecond, Seconds};
use crate::workload::Network;

/// One set of resources under one kind of lease.
pub(super) struct Demand<'a> {
    job: &'a JobSpec,
    context: &'a Context,
    set: &'a ResourceRequest,
    /// Which of the job's sets it is.
    pub(super) place: usize,
    /// Its place in the list of demands.
    pub(super) index: usize,
    /// A lower rank is preferred whatever it costs.
    pub(super) rank: (usize, usize),
    /// Under which promise.
    pub(super) kind: LeaseKind,
    /// Any of these will do.
    pub(super) runtimes: Runtimes,
    /// The lease's length.
    pub(super) duration: Seconds,
    /// The highest price of all units.
    pub(super) max_rate: Option<RatePerSecond>,
    /// The most that the lease may cost.
    pub(super) max_cost: Option<Money>,
}

/// How an offer would be used.
pub(super) struct Fit {
    pub(super) units: u8,
    pub(super) rate: RatePerSecond,
}

impl<'a> Demand<'a> {
    /// Every demand of `job`, the preferred ones first.
    pub(super) fn all(job: &'a JobSpec, context: &'a Context) -> Vec<Self> {
        // A limit that exceeds all money is none; one that the token cannot express was rounded down.
        let money = |amount: crate::job::Amount| amount.to_money(context.decimals).unwrap_or(Money::MAX);
        let runtimes = match job.image {
            Some(_) => Runtimes::DOCKER.with(Runtimes::KUBERNETES),
            None => Runtimes::PROCESS.with(Runtimes::SLURM),
        };
        let wanted = job.timeout.map_or(context.default_duration, |timeout| timeout.plus(context.prepare));
        let mut demands = Vec::new();
        for (place, set) in job.resources.sets.iter().enumerate() {
            for (preference, kind) in job.market.kinds().iter().enumerate() {
                demands.push(Self {
                    job,
                    context,
                    set,
                    place,
                    index: 0,
                    rank: (if job.resources.ordered { place } else { 0 }, preference),
                    kind: *kind,
                    runtimes,
                    duration: wanted,
                    max_rate: job.max_price.map(|price| RatePerSecond::per_hour(money(price))),
                    max_cost: job.max_cost.map(money),
                });
            }
        }
        demands.sort_by_key(|demand| demand.rank);
        demands.iter_mut().enumerate().for_each(|(index, demand)| demand.index = index);
        demands
    }

    /// The search that finds every offer which fits, and some that do not.
    pub(super) fn query(&self, ceiling: u128) -> Query {
        let set = self.set;
        let wish = Wish {
            network: self.job.network,
            trust: self.job.placement.trust_tier,
            interconnect: set.interconnect,
            vendor: set.vendor,
            cpu_millis: set.cpu_millis.map_or(0, u64::from),
            memory: set.memory.unwrap_or(Bytes::ZERO),
            disk: set.disk.unwrap_or(Bytes::ZERO),
            gpus: u64::from(set.accelerator_count()),
            vram: set.vram.unwrap_or(Bytes::ZERO),
            reliability: self.job.placement.min_reliability,
            duration: self.job.timeout.map_or(Seconds::ZERO, |_| self.duration),
        };
        let countries = self.job.regions.iter().map(|region| region.country.as_str());
        Query {
            token: self.context.token,
            kind: self.kind,
            lanes: match &set.accelerators {
                Some(accelerators) => Lanes::Model(model_hash(&accelerators.model)),
                None if set.needs_accelerator() => Lanes::Accelerated,
                None => Lanes::All,
            },
            all: Planes::wanted(&wish),
            any: [Planes::any_runtime(self.runtimes), Planes::any_country(countries)],
            size: Size { gpus: wish.gpus, cpu_millis: wish.cpu_millis, mib: wish.memory.get() >> 20 },
            ceiling: ceiling.min(self.max_rate.map_or(u128::MAX, RatePerSecond::scaled)),
        }
    }

    /// Whether the offer does, as quickly as possible.
    pub(super) fn fit(&self, entry: &Entry) -> Option<Fit> {
        let mut missed = false;
        self.judge_until(entry, &mut |_| {
            missed = true;
            true
        })
        .filter(|_| !missed)
    }

    /// Whether the offer does; `miss` hears every rule that it breaks.
    pub(super) fn judge(&self, entry: &Entry, miss: &mut impl FnMut(Miss)) -> Option<Fit> {
        let mut missed = false;
        let fit = self.judge_until(entry, &mut |found| {
            missed = true;
            miss(found);
            false
        });
        fit.filter(|_| !missed)
    }

    /// Goes through the rules until `stop` says so.
    fn judge_until(&self, entry: &Entry, stop: &mut impl FnMut(Miss) -> bool) -> Option<Fit> {
        if self.parties(entry, stop) || self.promises(entry, stop) || self.hardware(entry, stop) {
            return None;
        }
        let units = self.units(entry, stop)?;
        self.money(&entry.offer, units, stop)
    }

    /// With whom, and where.
    fn parties(&self, entry: &Entry, stop: &mut impl FnMut(Miss) -> bool) -> bool {
        let (offer, standing) = (&entry.offer, &entry.standing);
        let placement = &self.job.placement;
        let mut broken = |holds: bool, reason| !holds && stop(Miss::rule(reason));
        let listed = (placement.allow.is_empty() || placement.allow.contains(&offer.provider))
            && (placement.devices.is_empty() || placement.devices.contains(&offer.device));
        let home = |region: &crate::job::RegionRequest| {
            region.country == offer.region.country
                && (region.label.is_none() || region.label == offer.region.label)
        };
        if broken(offer.expires_at > self.context.now, Reason::Expired)
            || broken(offer.provider.account() != self.context.buyer.account(), Reason::Own)
            || broken(!self.context.excluded.contains(&offer.provider), Reason::Excluded)
            || broken(listed && !placement.deny.contains(&offer.provider), Reason::Denied)
            || broken(offer.trust >= placement.trust_tier, Reason::TrustTier)
            || broken(placement.tee.is_met_by(offer.tees), Reason::Tee)
            || broken(offer.encrypted || !placement.encrypted, Reason::Encryption)
            || broken(self.place_is_attested(offer), Reason::Place)
            || broken(offer.trust == TrustTier::Unstaked || standing.stake != Stake::Missing, Reason::Stake)
            || broken(
                is_in_good_standing(offer, standing) || standing.stake == Stake::Missing,
                Reason::Jailed,
            )
            || broken(self.job.regions.is_empty() || self.job.regions.iter().any(home), Reason::Region)
        {
            return true;
        }
        let Some(least) = placement.min_reliability else { return false };
        let have = standing.reliability.unwrap_or(0);
        have < least && stop(Miss { reason: Reason::Reliability, have: have.into(), want: least.into() })
    }

    /// Whether an auditor that the job trusts stands by the offer's region, by the offer's own word.
    fn place_is_attested(&self, offer: &Offer) -> bool {
        let trusted = &self.job.placement.place_attested_by;
        trusted.is_empty()
            || offer
                .attested
                .iter()
                .any(|word| word.stands_at(self.context.now) && trusted.contains(&word.issuer))
    }

    /// What it sells.
    fn promises(&self, entry: &Entry, stop: &mut impl FnMut(Miss) -> bool) -> bool {
        let offer = &entry.offer;
        let mut broken = |holds: bool, reason| !holds && stop(Miss::rule(reason));
        if broken(offer.prices.token == self.context.token, Reason::Token)
            || broken(offer.version == self.context.parameters.version, Reason::Version)
            || broken(offer.unit_rate(self.kind).is_some(), Reason::Kind)
            || broken(offer.runtimes.intersects(self.runtimes), Reason::Runtime)
            || broken(
                self.job.network == Network::None || offer.network == Network::Internet,
                Reason::Network,
            )
        {
            return true;
        }
        let unreachable = self.job.ports.iter().find(|port| !offer.reaches(**port));
        if let Some(port) = unreachable
            && stop(Miss { reason: Reason::Ports, have: 0, want: (*port).into() })
        {
            return true;
        }
        let (shortest, longest) = (offer.conditions.min_duration, self.longest(offer));
        let wanted = self.duration_on(offer);
        let miss = if wanted > longest { longest } else { shortest };
        (wanted > longest || wanted < shortest)
            && stop(Miss { reason: Reason::Duration, have: miss.get().into(), want: wanted.get().into() })
    }

    /// Its accelerators.
    fn hardware(&self, entry: &Entry, stop: &mut impl FnMut(Miss) -> bool) -> bool {
        if !self.set.needs_accelerator() {
            return false;
        }
        let Some(gpus) = &entry.offer.unit.gpus else { return stop(Miss::rule(Reason::Accelerator)) };
        let set = self.set;
        let model = set.accelerators.as_ref().is_none_or(|wanted| wanted.model == entry.model);
        let mut broken =
            |holds: bool, reason, have: u128, want: u128| !holds && stop(Miss { reason, have, want });
        let vram = set.vram.unwrap_or(Bytes::ZERO);
        let number = |capability: crate::offer::ComputeCapability| {
            u128::from(capability.major) << 8 | u128::from(capability.minor)
        };
        let have = gpus.compute_capability.map_or(0, number);
        let want = set.compute_capability.map_or(0, number);
        broken(model, Reason::Accelerator, 0, 0)
            || broken(set.vendor.is_none_or(|vendor| vendor == gpus.vendor), Reason::Vendor, 0, 0)
            || broken(gpus.vram >= vram, Reason::Vram, gpus.vram.get().into(), vram.get().into())
            || broken(have >= want, Reason::ComputeCapability, have, want)
            || broken(gpus.driver >= set.driver, Reason::Driver, 0, 0)
            || broken(gpus.interconnect >= set.interconnect, Reason::Interconnect, 0, 0)
    }

    /// How many units the job takes.
    fn units(&self, entry: &Entry, stop: &mut impl FnMut(Miss) -> bool) -> Option<u8> {
        let (offer, set) = (&entry.offer, self.set);
        let free = u64::from(offer.free_units);
        if free == 0 && stop(Miss::rule(Reason::Busy)) {
            return None;
        }
        let gpus = offer.unit.gpus.as_ref().map_or(0, |gpus| u64::from(gpus.count));
        let wants = [
            (Reason::Accelerators, gpus, u64::from(set.accelerator_count())),
            (Reason::Cpus, u64::from(offer.unit.cpu_millis), set.cpu_millis.map_or(0, u64::from)),
            (Reason::Memory, offer.unit.memory.get(), set.memory.map_or(0, Bytes::get)),
            (Reason::Disk, offer.unit.disk.get(), set.disk.map_or(0, Bytes::get)),
        ];
        let mut units = 1;
        for (reason, unit, want) in wants {
            if reason == Reason::Accelerators && gpus == 0 && want > 0 {
                // No accelerator at all: said by `hardware`.
                continue;
            }
            let have = unit.saturating_mul(free);
            // Without a free unit, `Busy` has said it already.
            if have < want && free > 0 && stop(Miss { reason, have: have.into(), want: want.into() }) {
                return None;
            }
            units = units.max(want.div_ceil(unit.max(1)));
        }
        u8::try_from(units).ok().filter(|units| u64::from(*units) <= free)
    }

    /// What it costs.
    fn money(&self, offer: &Offer, units: u8, stop: &mut impl FnMut(Miss) -> bool) -> Option<Fit> {
        let rate = offer.rate(self.kind, units, self.egress(offer))?;
        let hourly = |rate: RatePerSecond| rate.hourly().base_units();
        if let Some(most) = self.max_rate
            && rate > most
            && stop(Miss { reason: Reason::Price, have: hourly(rate), want: hourly(most) })
        {
            return None;
        }
        if let Some(most) = self.max_cost {
            let least = rate.over(self.shortest(offer));
            if least > most
                && stop(Miss { reason: Reason::Cost, have: least.base_units(), want: most.base_units() })
            {
                return None;
            }
        }
        Some(Fit { units, rate })
    }

    /// What the job may send an hour on `offer`, where that is counted.
    pub(super) fn egress(&self, offer: &Offer) -> Option<Bytes> {
        offer.prices.egress?;
        Some(match self.job.network {
            Network::None => Bytes::ZERO,
            Network::Internet => self.set.egress.unwrap_or(egress::USUAL),
        })
    }

    /// The length of a lease on `offer`: what the job wants, or for a job without `timeout` what is sold of it.
    pub(super) fn duration_on(&self, offer: &Offer) -> Seconds {
        match self.job.timeout {
            Some(_) => self.duration.max(offer.conditions.min_duration),
            None => self.duration.min(self.longest(offer)).max(offer.conditions.min_duration),
        }
    }

    /// The longest lease on `offer`.
    fn longest(&self, offer: &Offer) -> Seconds {
        offer.conditions.max_duration.min(self.context.parameters.max_duration)
    }

    /// The least that has to be paid for: a reserved term is whole, others may be cut to what `max_cost` pays.
    fn shortest(&self, offer: &Offer) -> Seconds {
        match self.kind {
            LeaseKind::Reserved => self.duration_on(offer),
            LeaseKind::OnDemand | LeaseKind::Spot => offer.conditions.min_duration,
        }
    }
}
