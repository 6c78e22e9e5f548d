//! When nobody uses a lease any more.
//!
//! A job is in use while it computes, moves data, has an accelerator at work, or has somebody in it: a session or a connection that its
//! buyer holds open. What the provider reports is its word: one that says too much use is paid until `timeout`, `max_cost` or the lease's
//! end, as without this rule. Where use cannot be known, it is taken to be there: between two reports that lie far apart, and where a
//! job has accelerators whose work nobody reports.

use serde::{Deserialize, Serialize};

use crate::units::{Seconds, Timestamp};
use crate::workload::Usage;

/// The least time that a share of a processor is measured over.
const SAMPLE: Seconds = Seconds::new(5);
/// Reports that lie further apart say nothing of the time between them.
const GAP: Seconds = Seconds::new(90);
/// Processor time that counts as work: thousandths of one processor. What a waiting server takes is below.
const CPU_MILLIS: u64 = 50;
/// Traffic that counts as work, both directions together, in bytes a second.
const TRAFFIC: u64 = 1 << 10;

/// When a job counts as idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleLimit {
    /// After so long without use.
    pub after: Seconds,
    /// It has accelerators, whose work counts too.
    pub accelerators: bool,
}

/// What is known of a lease's use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Activity {
    /// The last moment that counts as use.
    used_at: Option<Timestamp>,
    /// The newest sample: when, and what was consumed by then.
    sample: Option<(Timestamp, Usage)>,
}

impl Activity {
    /// Nothing is known.
    pub const NONE: Self = Self { used_at: None, sample: None };

    /// Takes what a running job consumed by `now`.
    pub fn observe(&mut self, usage: &Usage, limit: IdleLimit, now: Timestamp) {
        let Some((then, before)) = self.sample else {
            (self.sample, self.used_at) = (Some((now, *usage)), Some(now));
            return;
        };
        let passed = now.since(then);
        if passed < SAMPLE {
            return;
        }
        self.sample = Some((now, *usage));
        if passed > GAP || is_use(&before, usage, limit, passed) {
            self.used_at = Some(now);
        }
    }

    /// Somebody is in the job, or it cannot be idle for another reason.
    pub fn attend(&mut self, now: Timestamp) {
        if self.used_at.is_none_or(|used| now.since(used) >= SAMPLE) {
            self.used_at = Some(now);
        }
    }

    /// Begins anew: what was before says nothing.
    pub fn forget(&mut self) {
        *self = Self::NONE;
    }

    /// Whether it was seen unused for as long as the limit says. Silence is not idleness.
    #[must_use]
    pub fn is_idle(&self, limit: IdleLimit) -> bool {
        let (Some(used), Some((seen, _))) = (self.used_at, self.sample) else { return false };
        seen.since(used) >= limit.after
    }
}

fn is_use(before: &Usage, after: &Usage, limit: IdleLimit, passed: Seconds) -> bool {
    let traffic = |usage: &Usage| usage.egress.get().saturating_add(usage.ingress.get());
    let computed = after.cpu_ms.saturating_sub(before.cpu_ms);
    let moved = traffic(after).saturating_sub(traffic(before));
    let accelerated = limit.accelerators && after.accelerators.is_none_or(|used| used.busy > 0);
    computed >= CPU_MILLIS.saturating_mul(passed.get())
        || moved >= TRAFFIC.saturating_mul(passed.get())
        || accelerated
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;
    use crate::workload::AcceleratorUsage;

    const LIMIT: IdleLimit = IdleLimit { after: Seconds::new(60), accelerators: false };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix(1_000 + seconds)
    }

    fn idle(limit: IdleLimit, each: impl Fn(u64) -> Usage) -> Option<u64> {
        let mut activity = Activity::NONE;
        (0..=300).step_by(10).find(|second| {
            activity.observe(&each(*second), limit, at(*second));
            activity.is_idle(limit)
        })
    }

    #[test]
    fn a_job_that_does_nothing_is_idle_when_the_time_is_over() {
        assert_eq!(idle(LIMIT, |_| Usage::default()), Some(60));
    }

    #[test]
    fn work_of_a_processor_and_traffic_are_use_and_what_a_waiting_server_takes_is_not() {
        let computes = |share| move |second| Usage { cpu_ms: second * share, ..Usage::default() };
        assert_eq!(idle(LIMIT, computes(50)), None);
        assert_eq!(idle(LIMIT, computes(49)), Some(60));
        let moves = |rate| move |second| Usage { ingress: Bytes::new(second * rate), ..Usage::default() };
        assert_eq!(idle(LIMIT, moves(1_024)), None);
        assert_eq!(idle(LIMIT, moves(1_023)), Some(60));
    }

    #[test]
    fn accelerators_count_where_the_job_has_them_and_are_at_work_where_nobody_says() {
        let limit = IdleLimit { accelerators: true, ..LIMIT };
        let busy = |busy| {
            move |_| Usage {
                accelerators: Some(AcceleratorUsage {
                    busy,
                    memory: Bytes::gib(40),
                    ..AcceleratorUsage::default()
                }),
                ..Usage::default()
            }
        };
        assert_eq!(idle(limit, busy(1)), None);
        assert_eq!(idle(limit, busy(0)), Some(60));
        assert_eq!(idle(limit, |_| Usage::default()), None);
        assert_eq!(idle(LIMIT, busy(100)), Some(60), "those of other leases");
    }

    #[test]
    fn the_time_counts_from_the_last_use() {
        let worked = |second: u64| Usage { cpu_ms: 1_000 * second.min(50), ..Usage::default() };
        assert_eq!(idle(LIMIT, worked), Some(110));
    }

    #[test]
    fn whoever_is_in_it_uses_it() {
        let mut activity = Activity::NONE;
        for second in (0..=300).step_by(10) {
            activity.observe(&Usage::default(), LIMIT, at(second));
            if second < 200 {
                activity.attend(at(second));
            }
            assert_eq!(activity.is_idle(LIMIT), second >= 250, "{second}");
        }
    }

    #[test]
    fn silence_and_long_gaps_are_not_idleness() {
        let mut activity = Activity::NONE;
        activity.observe(&Usage::default(), LIMIT, at(0));
        assert!(!activity.is_idle(LIMIT));
        activity.observe(&Usage::default(), LIMIT, at(91));
        assert!(!activity.is_idle(LIMIT), "what happened in the gap is not known");
        activity.observe(&Usage::default(), LIMIT, at(151));
        assert!(activity.is_idle(LIMIT));
        activity.forget();
        assert!(!activity.is_idle(LIMIT));
    }

    #[test]
    fn a_counter_that_begins_anew_is_no_work() {
        let restarted =
            |second: u64| Usage { cpu_ms: if second < 20 { 9_000 } else { 0 }, ..Usage::default() };
        assert_eq!(idle(LIMIT, restarted), Some(60));
    }
}
