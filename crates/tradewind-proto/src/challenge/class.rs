//! Whether a device is as fast as its class, from a time that was taken across a network.
//!
//! The elapsed time holds the work and whatever the network added. The work alone took between `elapsed − network` and
//! `elapsed`, so the rate lies between two bounds, and a device is judged only where both fall on one side.

use std::num::NonZeroU64;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Work that was seen to be done in some time: bytes read, or multiplications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Measured {
    /// How much.
    #[n(0)]
    pub work: u64,
    /// From the question to the answer, in microseconds.
    #[n(1)]
    pub elapsed: NonZeroU64,
    /// The most of it that the network may have taken: the slower of the round trips just before and after.
    #[n(2)]
    pub network: u64,
}

impl Measured {
    /// The lowest and the highest rate a second that fit; the highest is unknown where the network may have taken it all.
    #[must_use]
    pub fn rates(&self) -> (u64, Option<u64>) {
        let rate = |micros: u64| {
            let rate = u128::from(self.work) * 1_000_000 / u128::from(micros.max(1));
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        let alone = self.elapsed.get().checked_sub(self.network).filter(|alone| *alone > 0);
        (rate(self.elapsed.get()), alone.map(rate))
    }
}

/// How far below its class a device may be, and how much network a measurement bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// What a device may lack of its class's rate, in basis points.
    pub tolerance: u16,
    /// The network's largest share of the elapsed time, in basis points; above it nothing is said.
    pub network_share: u16,
}

impl Default for Bounds {
    /// 35 % slack for clocks, heat and drivers; a tenth for the network.
    fn default() -> Self {
        Self { tolerance: 3_500, network_share: 1_000 }
    }
}

/// What a measurement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "placed")]
pub enum Placed {
    /// At least as fast as its class allows, whatever the network took.
    InClass,
    /// Too slow, even if the network took all it may have.
    Below {
        /// The highest rate that fits, a second.
        at_most: u64,
        /// The least of its class.
        needed: u64,
    },
    /// The network's share is too large, or the least rate lies between the bounds: ask again, with more rounds.
    Unknown,
}

impl Bounds {
    /// Compares a measurement with `nominal`, the rate a second that the class stands for. All divisions round down.
    #[must_use]
    pub fn place(&self, measured: Measured, nominal: u64) -> Placed {
        let share = |of: u64, bps: u16| u128::from(of) * u128::from(bps) / 10_000;
        let elapsed = measured.elapsed.get();
        if u128::from(measured.network) > share(elapsed, self.network_share) {
            return Placed::Unknown;
        }
        let needed = share(nominal, 10_000u16.saturating_sub(self.tolerance));
        let rate = |micros: u64| u128::from(measured.work) * 1_000_000 / u128::from(micros.max(1));
        let at_most = rate(elapsed.saturating_sub(measured.network));
        if rate(elapsed) >= needed {
            Placed::InClass
        } else if at_most < needed {
            let narrow = |rate: u128| u64::try_from(rate).unwrap_or(u64::MAX);
            Placed::Below { at_most: narrow(at_most), needed: narrow(needed) }
        } else {
            Placed::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes a second of an H100's memory.
    const NOMINAL: u64 = 3_350_000_000_000;

    fn place(gigabytes: u64, millis: u64, network_millis: u64) -> Placed {
        let elapsed = NonZeroU64::new(millis * 1_000).unwrap();
        let measured = Measured { work: gigabytes * 1_000_000_000, elapsed, network: network_millis * 1_000 };
        Bounds::default().place(measured, NOMINAL)
    }

    #[test]
    fn a_device_is_judged_only_where_the_network_cannot_tip_it() {
        assert_eq!(place(10_000, 4_000, 50), Placed::InClass);
        let below = Placed::Below { at_most: 1_265_822_784_810, needed: 2_177_500_000_000 };
        assert_eq!(place(10_000, 8_000, 100), below);
        assert_eq!(place(10_000, 4_600, 100), Placed::Unknown, "between the bounds");
        assert_eq!(place(10, 8, 1), Placed::Unknown, "one short product is below the network's jitter");
    }

    proptest! {
        #[test]
        fn less_network_never_turns_too_slow_into_fast_enough(
            work in 1u64..1 << 50, elapsed in 1u64..1 << 40, network in 0u64..1 << 40, nominal in 1u64..1 << 50,
        ) {
            let measured = Measured { work, elapsed: NonZeroU64::new(elapsed).unwrap(), network };
            let bounds = Bounds::default();
            let still = Measured { network: 0, ..measured };
            match bounds.place(measured, nominal) {
                Placed::InClass => prop_assert_eq!(bounds.place(still, nominal), Placed::InClass),
                Placed::Below { .. } => {
                    let is_below = matches!(bounds.place(still, nominal), Placed::Below { .. });
                    prop_assert!(is_below);
                }
                Placed::Unknown => {}
            }
        }
    }
}
