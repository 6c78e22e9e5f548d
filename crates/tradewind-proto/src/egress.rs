//! What a lease may send, where the offer has a price for it: an amount an hour, bought with the lease and part of its rate.
//!
//! ```text
//! allowed(t) = hourly × (t + 10 min) ÷ 1 h        t: since the workload started, paused or not
//! sent ≥ allowed: the workload's sending is slowed to 64 KiB/s until it is allowed more
//! ```
//!
//! Nothing is billed afterwards: what a workload sends beyond what was bought costs its buyer time, never money.

use crate::units::{Bytes, Seconds};

/// What a job with a network that names no amount buys, an hour.
pub const USUAL: Bytes = Bytes::gib(1);
/// What goes on where all is sent, a second.
pub const SLOW: Bytes = Bytes::new(64 << 10);
/// How far the amount runs ahead of its time.
const AHEAD: Seconds = Seconds::new(600);

/// What may have been sent so long after the start, of so much an hour; rounded down.
#[must_use]
pub fn allowed(hourly: Bytes, since_start: Seconds) -> Bytes {
    let seconds = u128::from(since_start.plus(AHEAD).get());
    let bytes = u128::from(hourly.get()) * seconds / 3_600;
    Bytes::new(u64::try_from(bytes).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hours_amount_is_there_after_fifty_minutes_and_a_sixth_of_it_at_once() {
        let hourly = Bytes::gib(6);
        let after = |seconds| allowed(hourly, Seconds::new(seconds));
        assert_eq!((after(0), after(3_000), after(6_600)), (Bytes::gib(1), Bytes::gib(6), Bytes::gib(12)));
    }

    #[test]
    fn nothing_overflows() {
        assert_eq!(allowed(Bytes::new(u64::MAX), Seconds::new(u64::MAX)), Bytes::new(u64::MAX));
        assert_eq!(allowed(Bytes::ZERO, Seconds::new(u64::MAX)), Bytes::ZERO);
    }
}
