//! Wilson's lower bound in integers.

use alloy_primitives::U256;

use super::{Share, WHOLE};

/// z² = 1.96², in ten-thousandths.
const Z_SQUARED: u64 = 38_416;

/// The largest share that `good` among `all` does not rule out; both in weights, where [`WHOLE`] is one observation. Zero of
/// nothing. It is the exact bound, rounded down, and so rises with every good observation and falls with every bad one.
pub(super) fn lower_bound(good: u128, all: u128) -> Share {
    if all == 0 {
        return Share::default();
    }
    let (mut low, mut high) = (0, Share::ONE.0);
    while high - low > 1 {
        let middle = u32::midpoint(low, high);
        if is_below(middle, good, all) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Share(low)
}

/// Whether `(s − n p)² ≥ z² n p (1 − p)` and `s ≥ n p`, both sides times the scales of weights and shares squared.
fn is_below(share: u32, good: u128, all: u128) -> bool {
    let one = U256::from(Share::ONE.0);
    let (p, n) = (U256::from(share), U256::from(all));
    let Some(gap) = (U256::from(good) * one).checked_sub(n * p) else { return false };
    gap * gap * U256::from(10_000) >= U256::from(Z_SQUARED) * U256::from(WHOLE) * n * p * (one - p)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bound(good: u128, all: u128) -> u32 {
        lower_bound(good * WHOLE, all * WHOLE).billionths()
    }

    /// The formula as textbooks print it.
    fn textbook(good: f64, all: f64) -> f64 {
        let (z, p) = (1.96f64, good / all);
        let centre = p + z * z / (2.0 * all);
        let margin = z * (p * (1.0 - p) / all + z * z / (4.0 * all * all)).sqrt();
        (centre - margin) / (1.0 + z * z / all)
    }

    #[test]
    fn known_bounds_come_out() {
        assert_eq!((bound(0, 0), bound(0, 10)), (0, 0));
        // n / (n + z²) for a clean record.
        assert_eq!(bound(10, 10), 722_459_831);
        assert_eq!(bound(1_000, 1_000), 996_173_101);
        assert_eq!(bound(1_000_000, 1_000_000), 999_996_158);
    }

    proptest! {
        #[test]
        fn the_bound_is_the_textbooks(good in 0u32..5_000, bad in 0u32..5_000) {
            prop_assume!(good + bad > 0);
            let exact = textbook(f64::from(good), f64::from(good + bad)).max(0.0);
            let found = f64::from(bound(good.into(), (good + bad).into())) / 1e9;
            prop_assert!((found - exact).abs() < 2e-9, "{} {}", found, exact);
        }

        #[test]
        fn a_good_observation_never_lowers_it_and_a_bad_one_never_raises_it(
            good in 0u128..WHOLE * 100_000, bad in 0u128..WHOLE * 100_000, more in 1u128..=WHOLE,
        ) {
            let before = lower_bound(good, good + bad);
            prop_assert!(lower_bound(good + more, good + bad + more) >= before);
            prop_assert!(lower_bound(good, good + bad + more) <= before);
        }
    }
}
