//! Why an offer does not do, and how nearly it would have done.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Context;
use super::choice::{Candidate, Choice};
use super::demand::Demand;
use crate::book::OfferBook;
use crate::ids::ProviderId;
use crate::units::{Bytes, Money, Seconds};

/// The rule that an offer breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Its time is over.
    Expired,
    /// It is the buyer's own.
    Own,
    /// The buyer considers this provider no longer.
    Excluded,
    /// `placement.providers` rules it out.
    Denied,
    /// It is priced in another token.
    Token,
    /// It runs under other parameters of the chain.
    Version,
    /// It does not sell this kind of lease.
    Kind,
    /// The job needs an image, or the host's own userland, and the provider has not that runtime.
    Runtime,
    /// The job wants the Internet.
    Network,
    /// One of the job's ports is not reachable.
    Ports,
    /// It stands for less than `placement.trust_tier`.
    TrustTier,
    /// It does not claim what `placement.tee` asks for.
    Tee,
    /// It does not encrypt a job's work directory, which `placement.encrypted` asks for.
    Encryption,
    /// No auditor of `placement.attestations` attests where its device stands.
    Place,
    /// The chain knows no sufficient stake behind it.
    Stake,
    /// Its device is jailed.
    Jailed,
    /// `placement.min_reliability`.
    Reliability,
    /// `regions`.
    Region,
    /// It has no accelerator, or another model.
    Accelerator,
    /// Its accelerators are of another maker.
    Vendor,
    /// Too little memory in each accelerator.
    Vram,
    /// An older architecture.
    ComputeCapability,
    /// An older driver.
    Driver,
    /// A slower interconnect.
    Interconnect,
    /// Too few accelerators are free.
    Accelerators,
    /// Too few CPUs are free.
    Cpus,
    /// Too little memory is free.
    Memory,
    /// Too little disk is free.
    Disk,
    /// All its units are taken.
    Busy,
    /// It leases for a shorter or longer time.
    Duration,
    /// It grants too little slack for vouchers that are signed ahead for so long.
    Slack,
    /// `max_price`.
    Price,
    /// `max_cost` does not pay for its shortest lease.
    Cost,
    /// Its numbers cannot become terms.
    Terms,
}

/// One rule that one offer breaks: what it has and what was wanted, in the rule's own unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Miss {
    /// The rule.
    pub reason: Reason,
    /// What the offer has.
    pub have: u128,
    /// What the job wants.
    pub want: u128,
}

impl Miss {
    pub(super) const fn rule(reason: Reason) -> Self {
        Self { reason, have: 0, want: 0 }
    }

    /// How far off, in thousandths of what was wanted.
    fn distance(&self) -> u128 {
        self.have.abs_diff(self.want).saturating_mul(1000) / self.want.max(1)
    }
}

impl Miss {
    /// The miss for people, with amounts in a token that has `decimals` places.
    #[must_use]
    pub fn describe(&self, decimals: u8) -> String {
        let clip = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
        let bytes = |n: u128| Bytes::new(clip(n));
        let seconds = |n: u128| Seconds::new(clip(n));
        let point = |n: u128, places: u8| Money::new(n).unwrap_or(Money::MAX).display(places);
        let (have, want) = (self.have, self.want);
        match self.reason {
            Reason::Ports => format!("port {want} is not reachable"),
            Reason::Reliability if have == 0 => "reliability: insufficient data".into(),
            Reason::Reliability => format!("reliability {} % < {} %", point(have, 2), point(want, 2)),
            Reason::Vram => format!("accelerator memory {} < {}", bytes(have), bytes(want)),
            Reason::ComputeCapability => {
                format!("compute capability {}.{} < {}.{}", have >> 8, have & 255, want >> 8, want & 255)
            }
            Reason::Accelerators => format!("accelerators {have} < {want}"),
            Reason::Cpus => format!("CPUs {} < {}", point(have, 3), point(want, 3)),
            Reason::Memory => format!("memory {} < {}", bytes(have), bytes(want)),
            Reason::Disk => format!("disk {} < {}", bytes(have), bytes(want)),
            Reason::Duration if have < want => {
                format!("leases for at most {}, {} wanted", seconds(have), seconds(want))
            }
            Reason::Duration => format!("leases for at least {}, {} wanted", seconds(have), seconds(want)),
            Reason::Slack => {
                format!(
                    "slack {} < {}, as so long a lease needs to go unattended",
                    seconds(have),
                    seconds(want)
                )
            }
            Reason::Price => format!("price {} > {} an hour", point(have, decimals), point(want, decimals)),
            Reason::Cost => format!("costs at least {} > {}", point(have, decimals), point(want, decimals)),
            Reason::Expired
            | Reason::Own
            | Reason::Excluded
            | Reason::Denied
            | Reason::Token
            | Reason::Version
            | Reason::Kind
            | Reason::Runtime
            | Reason::Network
            | Reason::TrustTier
            | Reason::Tee
            | Reason::Encryption
            | Reason::Place
            | Reason::Stake
            | Reason::Jailed
            | Reason::Region
            | Reason::Accelerator
            | Reason::Vendor
            | Reason::Driver
            | Reason::Interconnect
            | Reason::Busy
            | Reason::Terms => self.reason.words().into(),
        }
    }
}

impl Reason {
    /// What an offer that breaks the rule is, or lacks.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Own => "the buyer's own",
            Self::Excluded => "excluded by the buyer",
            Self::Denied => "ruled out by `placement.providers`",
            Self::Token => "priced in another token",
            Self::Version => "other chain parameters",
            Self::Kind => "does not sell this kind of lease",
            Self::Runtime => "no runtime for the job",
            Self::Network => "no Internet for jobs",
            Self::Ports => "ports are not reachable",
            Self::TrustTier => "below `placement.trust_tier`",
            Self::Tee => "no such trusted execution as `placement.tee` asks for",
            Self::Encryption => "does not encrypt a job's disk",
            Self::Place => "nobody you trust attests where it stands",
            Self::Stake => "no sufficient stake on chain",
            Self::Jailed => "jailed",
            Self::Reliability => "reliability",
            Self::Region => "in another region",
            Self::Accelerator => "has not that accelerator",
            Self::Vendor => "accelerators of another maker",
            Self::Vram => "accelerator memory",
            Self::ComputeCapability => "compute capability",
            Self::Driver => "an older driver",
            Self::Interconnect => "a slower interconnect",
            Self::Accelerators => "free accelerators",
            Self::Cpus => "free CPUs",
            Self::Memory => "free memory",
            Self::Disk => "free disk",
            Self::Busy => "all units are taken",
            Self::Duration => "length of the lease",
            Self::Slack => "slack for an unattended lease",
            Self::Price => "price",
            Self::Cost => "cost",
            Self::Terms => "its numbers cannot become terms",
        }
    }
}

/// One reason, over all offers that it holds for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The rule.
    pub reason: Reason,
    /// Offers that break it.
    pub offers: usize,
    /// Their providers.
    pub providers: usize,
    /// The one that breaks the fewest other rules, and this one the least.
    pub nearest: Miss,
    /// How many rules that one breaks in all.
    pub misses: usize,
    /// Whose it is.
    pub nearest_provider: ProviderId,
}

impl Rejection {
    /// `3 providers: memory 8 GiB < 16 GiB`, with amounts in a token that has `decimals` places.
    #[must_use]
    pub fn describe(&self, decimals: u8) -> String {
        let plural = if self.providers == 1 { "" } else { "s" };
        format!("{} provider{plural}: {}", self.providers, self.nearest.describe(decimals))
    }
}

#[derive(Default)]
struct Tally {
    offers: usize,
    providers: BTreeSet<ProviderId>,
    nearest: Option<(usize, u128, ProviderId, Miss)>,
}

/// Every reason that keeps an offer from every demand. An offer counts under the demand that it misses by the fewest rules.
pub(super) fn all(book: &OfferBook, context: &Context, demands: &[Demand<'_>]) -> Vec<Rejection> {
    let mut tallies: BTreeMap<Reason, Tally> = BTreeMap::new();
    'offers: for entry in book.entries() {
        let mut fewest: Option<Vec<Miss>> = None;
        for demand in demands {
            let mut misses = Vec::new();
            if let Some(fit) = demand.judge(entry, &mut |miss| misses.push(miss)) {
                let candidate = Candidate::new(demand, entry, &fit, context);
                match Choice::state(&candidate, demand, context) {
                    Ok(_) => continue 'offers,
                    Err(miss) => misses.push(miss),
                }
            }
            if fewest.as_ref().is_none_or(|known| misses.len() < known.len()) {
                fewest = Some(misses);
            }
        }
        let misses = fewest.unwrap_or_default();
        let provider = entry.offer.provider;
        for miss in &misses {
            let tally = tallies.entry(miss.reason).or_default();
            tally.offers += 1;
            tally.providers.insert(provider);
            let place = (misses.len(), miss.distance(), provider);
            let nearer = |(count, distance, owner, _): (usize, u128, ProviderId, Miss)| {
                place < (count, distance, owner)
            };
            if tally.nearest.is_none_or(nearer) {
                tally.nearest = Some((place.0, place.1, provider, *miss));
            }
        }
    }
    let mut rejections: Vec<Rejection> = tallies
        .into_iter()
        .filter_map(|(reason, tally)| {
            let (misses, _, nearest_provider, nearest) = tally.nearest?;
            let providers = tally.providers.len();
            Some(Rejection { reason, offers: tally.offers, providers, nearest, misses, nearest_provider })
        })
        .collect();
    rejections.sort_by_key(|rejection| (std::cmp::Reverse(rejection.offers), rejection.reason));
    rejections
}
