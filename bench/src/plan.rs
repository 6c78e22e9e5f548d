//! The best offer among a million live ones for jobs with eight constraints, on one core.
//!
//! The jobs differ in model, number, place and price, from easy to hopeless; the figure is the slowest of a hundred. PEERS
//! has what other planners take for a tenth of these offers; they are Python programs that no run here installs.

use std::time::Instant;

use alloy::primitives::Address;
use anyhow::{Context as _, ensure};
use tradewind_proto::book::{SYNTHETIC_TOKEN, synthetic};
use tradewind_proto::ids::BuyerId;
use tradewind_proto::job::JobSpec;
use tradewind_proto::negotiation::TermsParameters;
use tradewind_proto::plan::{self, Context};
use tradewind_proto::units::{Seconds, Timestamp};

use crate::figure::{Figure, length, millis};
use crate::progress::say;

const OFFERS: u32 = 1_000_000;
const SEED: u64 = 7;
const LOOKS: usize = 4_000;
/// The budget of the slowest look in a hundred, in milliseconds.
const P99: f64 = 1.0;

pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let book = synthetic(SEED, OFFERS);
    let jobs = jobs()?;
    say(format_args!("  {} offers, {} kinds of jobs", book.len(), jobs.len()));
    let parameters = TermsParameters {
        version: 1,
        max_duration: Seconds::new(90 * 86_400),
        min_cap_on_demand: Seconds::new(23_400),
        min_cap_spot: Seconds::new(3_600),
        min_cap_reserved: Seconds::new(23_400),
    };
    let buyer = BuyerId::new(Address::repeat_byte(0xbb));
    let context = Context::new(Timestamp::from_unix(82_800), buyer, SYNTHETIC_TOKEN, 6, parameters);
    let mut spans = Vec::with_capacity(LOOKS);
    let mut placed: usize = 0;
    for (index, job) in jobs.iter().cycle().take(LOOKS).enumerate() {
        let seed = u64::try_from(index).unwrap_or_default();
        let context = Context { seed, ..context.clone() };
        let began = Instant::now();
        let found = plan::plan(std::hint::black_box(job), &book, &context);
        spans.push(began.elapsed());
        placed += usize::from(!found.choices.is_empty());
    }
    ensure!(placed > LOOKS / 4, "only {placed} of {LOOKS} jobs find an offer");
    spans.sort_unstable();
    let at = |share: usize| spans.get(LOOKS * share / 100).copied().map(millis).context("no looks");
    say(format_args!("  {placed} of {LOOKS} looks found offers"));
    Ok(vec![
        Figure::new("plan: p99 among 1,000,000 offers", at(99)?, "ms").at_most(P99),
        Figure::new("plan: median among 1,000,000 offers", at(50)?, "ms"),
        Figure::new("plan: looks that found an offer", length(placed) / length(LOOKS) * 100.0, "%"),
    ])
}

/// Jobs with eight constraints: model, number, CPUs, memory, disk, place, price and reliability.
fn jobs() -> anyhow::Result<Vec<JobSpec>> {
    let mut jobs = Vec::new();
    for (model, price) in
        [("RTX4090", "0.40"), ("A100", "1.60"), ("H100", "3.00"), ("H200", "3.10"), ("L40S", "0.70")]
    {
        for (count, regions) in [(1, "EU"), (1, "US"), (2, "[DE, FI, NO]"), (8, "JP")] {
            for (cpus, memory, disk, reliability) in [(4, 16, 50, "95%"), (16, 64, 500, "99%")] {
                let price = price.parse::<f64>()? * f64::from(count);
                let text = format!(
                    "run: ./train\nresources: {{accelerators: {model}:{count}, cpus: {cpus}, memory: {memory}GiB, \
                     disk: {disk}GiB}}\nregions: {regions}\nmax_price: {price:.2}\n\
                     placement: {{min_reliability: {reliability}}}\n"
                );
                jobs.push(JobSpec::parse("bench.yaml", &text)?);
            }
        }
    }
    Ok(jobs)
}
