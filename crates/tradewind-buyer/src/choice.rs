//! Which offers would do for a job, the cheapest first.

use std::collections::BTreeMap;

use tradewind_proto::ids::ProviderId;
use tradewind_proto::job::{JobSpec, ResourceRequest};
use tradewind_proto::manifest::Share;
use tradewind_proto::offer::{Gpus, Offer};
use tradewind_proto::terms::LeaseKind;
use tradewind_proto::units::{Bytes, RatePerSecond};

use crate::buyer::Inner;

/// An offer with what the job takes of it.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) offer: Offer,
    pub(crate) kind: LeaseKind,
    pub(crate) units: u8,
    pub(crate) share: Share,
    pub(crate) runtime: &'static str,
    pub(crate) rate: RatePerSecond,
}

impl Inner {
    /// Every choice, those whose provider failed the job last. An error says why there is none.
    pub(crate) fn choices(
        &self,
        spec: &JobSpec,
        failed: &BTreeMap<ProviderId, u32>,
    ) -> Result<Vec<Choice>, String> {
        let limit = spec.max_price.map(|price| price.to_money(self.config.decimals)).transpose();
        let limit = limit.map_err(|error| error.to_string())?.map(RatePerSecond::per_hour);
        let (mut choices, mut nearest) =
            (Vec::new(), "no provider offers anything on the mesh now".to_owned());
        for offer in self.market.offers() {
            match self.choose(spec, &offer) {
                Ok(choice) if limit.is_some_and(|limit| choice.rate > limit) => {
                    nearest = format!("{}: the price exceeds max_price", offer.provider);
                }
                Ok(choice) => choices.push(choice),
                Err(reason) => nearest = format!("{}: {reason}", offer.provider),
            }
        }
        choices.sort_by_key(|choice| {
            (failed.get(&choice.offer.provider).copied().unwrap_or(0), choice.rate, choice.offer.provider)
        });
        if choices.is_empty() { Err(nearest) } else { Ok(choices) }
    }

    fn choose(&self, spec: &JobSpec, offer: &Offer) -> Result<Choice, String> {
        let placement = &spec.placement;
        if placement.deny.contains(&offer.provider)
            || !(placement.allow.is_empty() || placement.allow.contains(&offer.provider))
        {
            return Err("`placement` excludes it".into());
        }
        if offer.trust < placement.trust_tier {
            return Err(format!("its trust tier {} is below {}", offer.trust, placement.trust_tier));
        }
        let here = |region: &tradewind_proto::job::RegionRequest| {
            region.country == offer.region.country
                && (region.label.is_none() || region.label == offer.region.label)
        };
        if !(spec.regions.is_empty() || spec.regions.iter().any(here)) {
            return Err(format!("it is in {}", offer.region.country));
        }
        if offer.prices.token != self.config.token || offer.version != self.config.version {
            return Err("it sells for another token or parameter version".into());
        }
        if spec.network > offer.network {
            return Err("it gives jobs no network".into());
        }
        let wanted = if spec.image.is_some() { "docker" } else { "process" };
        let runtime = offer
            .runtimes
            .names()
            .find(|name| *name == wanted)
            .ok_or(format!("it has no `{wanted}` runtime"))?;
        let kind = spec.market.kinds().iter().copied().find(|kind| offer.unit_rate(*kind).is_some());
        let kind = kind.ok_or("it does not sell this kind of lease")?;
        let (units, share) = spec
            .resources
            .sets
            .iter()
            .find_map(|set| fit(set, offer))
            .ok_or("its free units do not hold the job's resources")?;
        let rate = offer.unit_rate(kind).unwrap_or_default().times(u32::from(units));
        Ok(Choice { offer: offer.clone(), kind, units, share, runtime, rate })
    }
}

/// The units that a set of resources takes of an offer, and the share of the machine that it gets.
fn fit(set: &ResourceRequest, offer: &Offer) -> Option<(u8, Share)> {
    let unit = &offer.unit;
    let gpus = set.accelerator_count();
    let per_unit = unit.gpus.as_ref().map_or(0, |gpus| u64::from(gpus.count));
    if gpus > 0 && !unit.gpus.as_ref().is_some_and(|have| suits(set, have)) {
        return None;
    }
    let parts = [
        (u64::from(set.cpu_millis.unwrap_or(0)), u64::from(unit.cpu_millis)),
        (set.memory.unwrap_or_default().get(), unit.memory.get()),
        (set.disk.unwrap_or_default().get(), unit.disk.get()),
        (u64::from(gpus), per_unit),
    ];
    let mut units = 1u64;
    for (wanted, each) in parts {
        if wanted > 0 {
            units = units.max(wanted.checked_div(each)? + u64::from(wanted % each != 0));
        }
    }
    let units = u8::try_from(units).ok().filter(|units| *units <= offer.free_units)?;
    let times = |each: u64| each.saturating_mul(u64::from(units));
    Some((
        units,
        Share {
            cpu_millis: u32::try_from(times(u64::from(unit.cpu_millis))).unwrap_or(u32::MAX),
            memory: Bytes::new(times(unit.memory.get())),
            disk: Bytes::new(times(unit.disk.get())),
            gpus: u8::try_from(gpus).ok()?,
        },
    ))
}

fn suits(set: &ResourceRequest, have: &Gpus) -> bool {
    set.accelerators.as_ref().is_none_or(|wanted| wanted.model == Gpus::canonical_model(&have.model))
        && set.vendor.is_none_or(|vendor| vendor == have.vendor)
        && set.vram.is_none_or(|vram| have.vram >= vram)
        && set.compute_capability.is_none_or(|wanted| have.compute_capability.is_some_and(|c| c >= wanted))
        && set
            .driver
            .as_ref()
            .is_none_or(|wanted| have.driver.as_ref().is_some_and(|driver| driver >= wanted))
        && set.interconnect.is_none_or(|wanted| have.interconnect.is_some_and(|i| i >= wanted))
}
