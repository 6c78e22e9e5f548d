//! What an offer costs a job, without looking at the offer: exact for one, a lower bound for a block.

use crate::offer::Resources;

/// A rate in eight bytes: 56 significant bits, rounded down, in the order of the rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Compact(u64);

impl Compact {
    /// The lowest.
    pub(super) const ZERO: Self = Self(0);

    const fn floor(rate: u128) -> Self {
        let shift = (u128::BITS - rate.leading_zeros()).saturating_sub(56);
        #[expect(clippy::cast_possible_truncation, reason = "56 bits are left")]
        Self(((shift as u64) << 56) | (rate >> shift) as u64)
    }

    const fn rate(self) -> u128 {
        ((self.0 & (u64::MAX >> 8)) as u128) << (self.0 >> 56)
    }
}

/// The parts of a job that decide how many units it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) gpus: u64,
    pub(crate) cpu_millis: u64,
    /// Whole mebibytes of memory.
    pub(crate) mib: u64,
}

/// A unit's price and parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    rate: Compact,
    cpu_millis: u32,
    /// Memory; a last, partial mebibyte counts as a whole one.
    mib: u32,
    /// Zero without accelerators.
    gpus: u16,
}

impl Unit {
    pub(super) fn of(unit: &Resources, rate: u128) -> Self {
        Self {
            rate: Compact::floor(rate),
            cpu_millis: unit.cpu_millis.max(1),
            mib: u32::try_from((unit.memory.get() >> 20).saturating_add(1)).unwrap_or(u32::MAX),
            gpus: unit.gpus.as_ref().map_or(0, |gpus| gpus.count),
        }
    }

    /// What offers of one lane are ordered by: the price of an accelerator, or of a CPU where there is none.
    pub(super) fn order(&self) -> Compact {
        let parts = if self.gpus == 0 { self.cpu_millis } else { self.gpus.into() };
        Compact::floor(self.rate.rate() / u128::from(parts))
    }

    /// What the job costs here, at most a rounding below the true price; its disk is left out.
    pub(super) fn cost(&self, size: &Size) -> u128 {
        self.rate.rate().saturating_mul(units(size, self.gpus, self.cpu_millis, self.mib).into())
    }
}

/// The units that a job takes of which each has these parts, at the least.
fn units(size: &Size, gpus: u16, cpu_millis: u32, mib: u32) -> u64 {
    let of = |wanted: u64, each: u64| wanted.div_ceil(each.max(1));
    of(size.gpus, gpus.into())
        .max(of(size.cpu_millis, cpu_millis.into()))
        .max(of(size.mib, mib.into()))
        .max(1)
}

/// The best of every number among the units of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    rate: u128,
    /// The cheapest part of each sort, rounded down.
    gpu: u128,
    cpu_milli: u128,
    mib: u128,
    /// The largest unit.
    most: (u16, u32, u32),
}

impl Bounds {
    /// Of no unit at all.
    pub(super) const NONE: Self =
        Self { rate: u128::MAX, gpu: u128::MAX, cpu_milli: u128::MAX, mib: u128::MAX, most: (0, 0, 0) };

    /// Takes a unit in.
    pub(super) fn widen(&mut self, unit: &Unit) {
        let rate = unit.rate.rate();
        self.rate = self.rate.min(rate);
        self.gpu = self.gpu.min(rate / u128::from(unit.gpus.max(1)));
        self.cpu_milli = self.cpu_milli.min(rate / u128::from(unit.cpu_millis));
        self.mib = self.mib.min(rate / u128::from(unit.mib));
        let (gpus, cpu_millis, mib) = self.most;
        self.most = (gpus.max(unit.gpus), cpu_millis.max(unit.cpu_millis), mib.max(unit.mib));
    }

    /// No unit in the block costs the job less.
    pub(super) fn floor(&self, size: &Size) -> u128 {
        let (gpus, cpu_millis, mib) = self.most;
        let times = |price: u128, amount: u64| price.saturating_mul(u128::from(amount));
        times(self.rate, units(size, gpus, cpu_millis, mib))
            .max(times(self.gpu, size.gpus))
            .max(times(self.cpu_milli, size.cpu_millis))
            .max(times(self.mib, size.mib))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_compact_rate_is_just_below_and_in_order(a in any::<u128>(), b in any::<u128>(), shift in 0u32..128) {
            let (a, b) = (a >> shift, b >> shift);
            prop_assert!(Compact::floor(a).rate() <= a && a - Compact::floor(a).rate() <= a >> 55);
            prop_assert!(a > b || Compact::floor(a) <= Compact::floor(b));
        }
    }
}
