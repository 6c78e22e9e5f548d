//! `kill -9` of a provider's node at twenty random moments, while it runs one job after another.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tradewind_buyer::job::record::{Attempt, JobRecord};
use tradewind_proto::ids::LeaseId;
use tradewind_proto::supervision::Outcome;
use tradewind_proto::units::{Money, Seconds};

use crate::fault::counting;
use crate::market::{BUYER, Job, LEDGER, Market, PROVIDER};

const KILLS: u32 = 20;
/// Jobs that are under way or wait, at any moment; the provider has as many units.
const LOAD: usize = 2;
/// The seconds of short jobs and of long ones, of which there is one at a time.
const SHORT: u32 = 3;
const LONG: u32 = 25;
/// The longest time between a node's start and its end, and between its end and its start, in milliseconds.
const SPELL: u64 = 4_000;
const AWAY: u64 = 500;

/// A job under way: its length, and what its buyer had signed when its provider was last killed.
struct Run {
    job: Job,
    seconds: u32,
    signed: Money,
    grew: u32,
}

/// Names the seed of a test that failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed was {}: set TRADEWIND_STORM_SEED to it", self.0);
        }
    }
}

#[test]
fn twenty_kills_of_a_loaded_provider_lose_no_job_run_none_twice_and_leave_nothing() {
    let said = std::env::var("TRADEWIND_STORM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = Seed(said.unwrap_or_else(rand::random));
    let mut random = StdRng::seed_from_u64(seed.0);
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    market.start_at_one_port("provider", &format!("{PROVIDER}units = {LOAD}\nkeep = 1\n"));
    market.start("buyer", BUYER);
    market.hears_of(1);

    let mut runs = Vec::new();
    refill(&market, &mut runs);
    let leases = || -> Vec<LeaseId> {
        runs.iter().filter_map(|run| Some(market.attempt(&run.job)?.supervision.id)).collect()
    };
    market.until("the count sees what runs", || {
        let seen = market.left_behind("provider", &leases());
        ["file", "process", "control group"].iter().all(|kind| seen.iter().any(|line| line.starts_with(kind)))
    });
    for _ in 0..KILLS {
        refill(&market, &mut runs);
        std::thread::sleep(Duration::from_millis(random.random_range(0..SPELL)));
        see_payments(&market, &mut runs);
        market.kill("provider");
        std::thread::sleep(Duration::from_millis(random.random_range(0..AWAY)));
        market.again("provider");
    }

    let begin = Instant::now();
    let mut leases = BTreeMap::new();
    for run in &runs {
        let attempt = finished_once(&market, run);
        let settled = attempt.settled.expect("settled");
        let worked = attempt.supervision.terms.rate.over(Seconds::new(u64::from(run.seconds)));
        assert!(settled.paid >= worked, "{} was paid for work of {worked}", settled.paid);
        leases.insert(attempt.supervision.id, run);
    }
    assert!(begin.elapsed() < crate::market::LONG, "they end");
    let chain = market.chain();
    assert_eq!((leases.len(), chain.opened()), (runs.len(), runs.len()), "one job, one lease");
    let long: u32 = runs.iter().filter(|run| run.seconds == LONG).map(|run| run.grew).sum();
    assert!(long > 1, "vouchers went on across kills: {long} times");
    drop(chain);
    let ids: Vec<_> = leases.into_keys().collect();
    let left = || market.left_behind("provider", &ids);
    let begin = Instant::now();
    while !left().is_empty() && begin.elapsed() < crate::market::LONG {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(left(), Vec::<String>::new(), "what is left of {} leases", ids.len());
}

/// Waits for the good end of a job; its one lease that was taken. A provider that was killed forgets which unit it promised to
/// whom, so it may refuse a lease that it had given terms for, which is no attempt of the job's.
fn finished_once(market: &Market, run: &Run) -> Attempt {
    let taken = |record: &JobRecord| -> Vec<(usize, Attempt)> {
        let all = record.attempts.iter().cloned().enumerate();
        all.filter(|(_, attempt)| attempt.refused.is_none()).collect()
    };
    let over = |record: &JobRecord| {
        record.is_over() && taken(record).iter().all(|(_, attempt)| attempt.settled.is_some())
    };
    market.until("a job is over and settled", || market.record(&run.job).is_some_and(|it| over(&it)));
    let mut taken = taken(&market.record(&run.job).expect("a record"));
    assert_eq!(taken.len(), 1, "it is not placed again: {taken:?}");
    let (index, attempt) = taken.remove(0);
    assert_eq!(attempt.outcome, Some(Outcome::Finished { code: 0 }), "{attempt:?}");
    let output = |name: &str| std::fs::read_to_string(run.job.output.join("output").join(name));
    assert_eq!(output("starts").expect("an output"), "started\n", "the job ran once");
    let ticks: String = (1..=run.seconds).map(|tick| format!("tick {tick}\n")).collect();
    assert_eq!(output("ticks").expect("an output"), ticks, "and to its end");
    let path = format!("/v1/jobs/{}/logs?attempt={index}&from=0", run.job.id);
    let log: serde_json::Value = market.ask("buyer", &path).expect("a log");
    assert_eq!(log["text"], ticks, "its log is whole, and no line came twice");
    attempt
}

/// Submits until there is enough to do: one long job, and short ones.
fn refill(market: &Market, runs: &mut Vec<Run>) {
    let goes_on = |run: &&Run| market.record(&run.job).is_none_or(|record| !record.is_over());
    let under_way: Vec<u32> = runs.iter().filter(goes_on).map(|run| run.seconds).collect();
    let mut long = under_way.contains(&LONG);
    for _ in under_way.len()..LOAD {
        let seconds = if long { SHORT } else { LONG };
        long = true;
        let job = market.submit(&counting(seconds));
        runs.push(Run { job, seconds, signed: Money::ZERO, grew: 0 });
    }
}

/// Notes which jobs were paid more since they were last looked at, one kill ago.
fn see_payments(market: &Market, runs: &mut [Run]) {
    for run in runs {
        let signed = market.attempt(&run.job).map_or(Money::ZERO, |attempt| attempt.supervision.signed);
        assert!(signed >= run.signed, "a voucher shrank from {} to {signed}", run.signed);
        if run.signed > Money::ZERO && signed > run.signed {
            run.grew += 1;
        }
        run.signed = signed;
    }
}
