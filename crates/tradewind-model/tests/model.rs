#![cfg(test)]
//! The model and the contracts, compared call by call.
//!
//! `TRADEWIND_MODEL_SEED` repeats one run, `TRADEWIND_MODEL_CALLS` makes longer or shorter ones.

use std::fmt::Write as _;
use std::io::Write as _;

use tradewind_model::{Count, Counts, Reached};

const CALLS: u64 = 14_000;
/// Runs beside each other, each from a seed of its own.
const WORLDS: u64 = 4;
/// Runs until everything has come about.
const MOST_WORLDS: u64 = 12;
/// Every kind of call is accepted and refused at least so often in a full run.
const LEAST: u64 = 5;
/// All kinds of calls that there are.
const KINDS: usize = 71;
/// All states that a run notes.
const STATES: usize = 29;

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is no number: {value}")))
}

#[test]
fn random_calls_are_accepted_and_refused_alike_and_all_state_agrees_to_the_unit() {
    let calls = number("TRADEWIND_MODEL_CALLS").unwrap_or(CALLS);
    let (mut counts, mut reached) = (Counts::new(), Reached::new());
    if let Some(seed) = number("TRADEWIND_MODEL_SEED") {
        add(&mut counts, &mut reached, vec![seed], calls);
        return report(&counts, &reached);
    }
    let each = calls.div_ceil(WORLDS);
    add(&mut counts, &mut reached, (1..=WORLDS).collect(), each);
    // What befalls a world hangs on the beacon, so on the contracts' code: what did not come about gets more worlds.
    let more = (WORLDS + 1..=MOST_WORLDS).collect::<Vec<u64>>();
    for seeds in more.chunks(2) {
        let missing = missing(&counts, &reached);
        if calls < CALLS || missing.is_empty() {
            break;
        }
        let _ = writeln!(std::io::stdout(), "two more worlds for {}", missing.join(", "));
        add(&mut counts, &mut reached, seeds.to_vec(), each);
    }
    report(&counts, &reached);
    if calls >= CALLS {
        assert_eq!(counts.len(), KINDS, "every kind of call was made");
        assert_eq!(reached.len(), STATES, "every state was looked for");
        let missing = missing(&counts, &reached);
        assert!(missing.is_empty(), "too seldom: {}", missing.join(", "));
    }
}

/// Runs a world from each seed, beside each other.
fn add(counts: &mut Counts, reached: &mut Reached, seeds: Vec<u64>, calls: u64) {
    let run = move |seed| std::thread::spawn(move || tradewind_model::run(seed, calls));
    let worlds: Vec<_> = seeds.into_iter().map(run).collect();
    for world in worlds {
        let (more, been) = world.join().unwrap_or_else(|failure| std::panic::resume_unwind(failure));
        for (name, count) in more {
            counts.entry(name).or_default().add(count);
        }
        for (state, times) in been {
            *reached.entry(state).or_default() += times;
        }
    }
}

fn report(counts: &Counts, reached: &Reached) {
    let accepted: u64 = counts.values().map(|count| count.accepted).sum();
    let refused: u64 = counts.values().map(Count::refusals).sum();
    let mut report = format!("{} calls: {accepted} accepted, {refused} refused\n", accepted + refused);
    for (name, count) in counts {
        let reasons: Vec<String> =
            count.refused.iter().map(|(reason, times)| format!("{reason} {times}")).collect();
        let (accepted, refused, reasons) = (count.accepted, count.refusals(), reasons.join(", "));
        let _ = writeln!(report, "{name:>24} accepted {accepted:>5} refused {refused:>5}: {reasons}");
    }
    for (state, times) in reached {
        let _ = writeln!(report, "{times:>6} times {state}");
    }
    let _ = std::io::stdout().write_all(report.as_bytes());
}

/// What came about less often than it has to.
fn missing(counts: &Counts, reached: &Reached) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, count) in counts {
        let (least_accepted, least_refused) = match *name {
            // The court alone may.
            "slash" | "jail" | "rewardWatchers" => (0, LEAST),
            // A batch skips what fails, and whoever calls may allow.
            "settleMany" | "allow" => (LEAST, 0),
            _ => (LEAST, LEAST),
        };
        if count.accepted < least_accepted || count.refusals() < least_refused {
            missing.push(format!("{name} ({} accepted, {} refused)", count.accepted, count.refusals()));
        }
    }
    let never = reached.iter().filter(|(_, times)| **times == 0);
    missing.extend(never.map(|(state, _)| (*state).to_owned()));
    missing
}
