//! Which units a quote names.
//!
//! A quote costs its asker nothing, so a promise only steers: the next quote prefers units that nobody was promised lately,
//! and names promised ones where no others are left. Who opens first has them; nobody can keep a device idle by asking.

use tradewind_proto::units::Timestamp;

/// Until when each unit is promised in a quote that may still be opened.
#[derive(Debug)]
pub(super) struct Promises([Timestamp; 64]);

impl Default for Promises {
    fn default() -> Self {
        Self([Timestamp::from_unix(0); 64])
    }
}

impl Promises {
    /// `count` units among those that no lease holds; `None` when there are not as many.
    pub(super) fn pick(&self, unheld: u64, count: u8, now: Timestamp) -> Option<u64> {
        if unheld.count_ones() < u32::from(count) {
            return None;
        }
        let fresh = lowest_bits(unheld & !self.fresh(now), count);
        let missing = u32::from(count) - fresh.count_ones();
        Some(fresh | lowest_bits(unheld & !fresh, u8::try_from(missing).unwrap_or(count)))
    }

    /// Steers later quotes away from `units` for a while.
    pub(super) fn promise(&mut self, units: u64, until: Timestamp) {
        for (unit, promised) in self.0.iter_mut().enumerate() {
            if units >> unit & 1 == 1 {
                *promised = until;
            }
        }
    }

    /// The units that a quote promised lately.
    fn fresh(&self, now: Timestamp) -> u64 {
        let promised = self.0.iter().enumerate().filter(|(_, until)| **until >= now);
        promised.fold(0, |mask, (unit, _)| mask | 1 << unit)
    }
}

/// The lowest `count` bits of `free`, or all where there are fewer.
pub(super) fn lowest_bits(mut free: u64, count: u8) -> u64 {
    let mut mask = 0;
    for _ in 0..count {
        let bit = free & free.wrapping_neg();
        mask |= bit;
        free &= !bit;
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix(seconds)
    }

    #[test]
    fn quotes_spread_over_the_units_and_strangers_cannot_hold_them_back() {
        let mut promises = Promises::default();
        let first = promises.pick(0b1111, 2, at(10)).unwrap();
        promises.promise(first, at(55));
        let second = promises.pick(0b1111, 2, at(10)).unwrap();
        promises.promise(second, at(55));
        assert_eq!((first, second), (0b0011, 0b1100));
        assert_eq!(promises.pick(0b1111, 3, at(20)), Some(0b0111), "all are promised, and still to be had");
        assert_eq!(promises.fresh(at(56)), 0);
    }

    #[test]
    fn units_that_a_lease_holds_are_never_named() {
        let promises = Promises::default();
        assert_eq!(promises.pick(0b1010, 2, at(10)), Some(0b1010));
        assert_eq!(promises.pick(0b1010, 3, at(10)), None);
        assert_eq!(promises.pick(u64::MAX, 64, at(10)), Some(u64::MAX));
    }
}
