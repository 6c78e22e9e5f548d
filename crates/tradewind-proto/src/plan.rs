//! Planning: the offers that a job would run on, best first, what it costs and risks there, and why the others do not do.
//!
//! ```text
//! JobSpec ──demands: one for each set of resources and kind of lease──► OfferBook search ──exact check──► the best few
//!                                                                                                            │ propose()
//! Rejections ◄── explain(): every offer, every reason, the nearest miss                       Plan {choices} ◄┘ as the provider will
//! ```
//!
//! [`plan`] is the hot path: among a million offers it looks at a few hundred. [`explain`] looks at all of them and is for
//! people. Both are pure: the same book, job and context give the same answer, and a seed breaks ties so that buyers
//! spread over equal offers.

mod choice;
mod demand;
mod rejection;

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

use self::choice::{Candidate, Candidates};
pub use self::choice::{Choice, Cost, Score};
use self::demand::Demand;
pub use self::rejection::{Miss, Reason, Rejection};
use crate::book::OfferBook;
use crate::ids::{BuyerId, ProviderId};
use crate::job::JobSpec;
use crate::negotiation::TermsParameters;
use crate::units::{Seconds, Timestamp};

/// What a plan depends on besides job and book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The time.
    pub now: Timestamp,
    /// Breaks ties between equal offers.
    pub seed: u64,
    /// Who buys: its own offers are not considered.
    pub buyer: BuyerId,
    /// The token to pay in.
    pub token: Address,
    /// Its places after the point.
    pub decimals: u8,
    /// The chain's parameters.
    pub parameters: TermsParameters,
    /// Providers that are not considered.
    pub excluded: BTreeSet<ProviderId>,
    /// How often a provider failed this job: whoever failed less comes first, whatever it costs.
    pub failed: BTreeMap<ProviderId, u32>,
    /// The buyer's country: elsewhere counts as a little dearer.
    pub home: Option<String>,
    /// The lease's length for a job without `timeout`.
    pub default_duration: Seconds,
    /// Unbilled time for pulling data, asked for where the offer grants it.
    pub prepare: Seconds,
    /// How far payment may run ahead or lag behind, where the offer grants it.
    pub slack: Seconds,
    /// How many choices to return.
    pub choices: usize,
    /// Nobody will watch: vouchers are signed ahead, for all that the lease can earn, from its start on.
    pub unattended: bool,
    /// Another node will sign the vouchers.
    pub delegated: bool,
}

impl Context {
    /// A context with the usual durations: a lease of four hours, ten minutes to prepare, two minutes of slack, eight choices.
    #[must_use]
    pub fn new(
        now: Timestamp,
        buyer: BuyerId,
        token: Address,
        decimals: u8,
        parameters: TermsParameters,
    ) -> Self {
        Self {
            now,
            seed: 0,
            buyer,
            token,
            decimals,
            parameters,
            excluded: BTreeSet::new(),
            failed: BTreeMap::new(),
            home: None,
            default_duration: Seconds::new(14_400),
            prepare: Seconds::new(600),
            slack: Seconds::new(120),
            choices: 8,
            unattended: false,
            delegated: false,
        }
    }
}

/// Where a job would run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The best first.
    pub choices: Vec<Choice>,
    /// Why offers do not do, the most frequent reason first. Empty unless asked for.
    pub rejections: Vec<Rejection>,
    /// Live offers in the book.
    pub offers: usize,
}

/// The best offers for `job`.
#[must_use]
pub fn plan(job: &JobSpec, book: &OfferBook, context: &Context) -> Plan {
    let mut choices: Vec<Choice> = Vec::new();
    let demands = Demand::all(job, context);
    // In an ordered job a later set only fills what an earlier one leaves open; a fallback kind likewise.
    let mut rank = None;
    let mut candidates = Candidates::new(context);
    for demand in &demands {
        if rank.is_some_and(|rank| rank != demand.rank) {
            fill(&mut choices, &mut candidates, &demands, context);
        }
        if choices.len() >= context.choices {
            break;
        }
        rank = Some(demand.rank);
        let query = demand.query(candidates.ceiling());
        book.search(&query, &mut |entry| {
            if let Some(fit) = demand.fit(entry) {
                candidates.offer(Candidate::new(demand, entry, &fit, context));
            }
            candidates.ceiling()
        });
    }
    fill(&mut choices, &mut candidates, &demands, context);
    Plan { choices, rejections: Vec::new(), offers: book.len() }
}

/// The same with [`Plan::rejections`]: for people, because it looks at every offer.
#[must_use]
pub fn explain(job: &JobSpec, book: &OfferBook, context: &Context) -> Plan {
    let mut plan = plan(job, book, context);
    plan.rejections = rejection::all(book, context, &Demand::all(job, context));
    plan
}

/// Turns candidates into choices, dropping those for which the provider could not state terms.
fn fill(
    choices: &mut Vec<Choice>,
    candidates: &mut Candidates<'_>,
    demands: &[Demand<'_>],
    context: &Context,
) {
    for candidate in std::mem::replace(candidates, Candidates::new(context)).into_sorted() {
        if choices.len() >= context.choices {
            return;
        }
        let known = choices.iter().any(|choice| choice.offer.key() == candidate.entry.offer.key());
        let demand = demands.get(candidate.demand).filter(|_| !known);
        choices.extend(demand.and_then(|demand| Choice::state(&candidate, demand, context).ok()));
    }
}

#[cfg(test)]
mod tests;
