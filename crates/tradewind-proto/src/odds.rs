//! How likely juries err and samples miss: the probabilities behind the protocol's numbers.
//!
//! Sums of positive terms, built outward from the largest by additions, multiplications and divisions only: the relative error stays
//! below 1e-11 for everything above 1e-290, and the bits are the same on every machine with IEEE 754. Nothing here decides
//! about money.
//!
//! ```
//! use tradewind_proto::odds;
//!
//! // 32 rows of 16,384 catch a device that skips a tenth of its work.
//! let caught = odds::drawn(16_384, 1_638, 32, 1);
//! assert!((caught - 0.966).abs() < 0.001);
//! ```

/// The chance of at least `least` among `draws` independent draws, each of which is one with probability `share`.
#[must_use]
pub fn independent(draws: u32, least: u32, share: f64) -> f64 {
    if share <= 0.0 || share >= 1.0 {
        return if least == 0 || (share >= 1.0 && least <= draws) { 1.0 } else { 0.0 };
    }
    let odds = share / (1.0 - share);
    tail(0, draws, least, |k| f64::from(draws - k) / f64::from(k + 1) * odds)
}

/// The chance of at least `least` marked ones among `draws` drawn without replacement from `population`, `marked` of which are.
#[must_use]
pub fn drawn(population: u32, marked: u32, draws: u32, least: u32) -> f64 {
    let marked = marked.min(population);
    let draws = draws.min(population);
    let lowest = draws.saturating_sub(population - marked);
    tail(lowest, draws.min(marked), least, |k| {
        let more = f64::from(marked - k) * f64::from(draws - k);
        more / (f64::from(k + 1) * f64::from(population + k + 1 - marked - draws))
    })
}

/// The share of a distribution over `lowest..=highest` that lies at `least` and above, where `ratio(k)` is the weight of `k + 1`
/// over that of `k` and falls.
fn tail(lowest: u32, highest: u32, least: u32, ratio: impl Fn(u32) -> f64) -> f64 {
    let mode = (lowest..highest).find(|k| ratio(*k) < 1.0).unwrap_or(highest);
    let (mut below, mut above) = (0.0, 0.0);
    let mut count = |k: u32, weight: f64| if k < least { below += weight } else { above += weight };
    count(mode, 1.0);
    let mut weight = 1.0;
    for k in mode..highest {
        weight *= ratio(k);
        count(k + 1, weight);
    }
    let mut weight = 1.0;
    for k in (lowest..mode).rev() {
        weight /= ratio(k);
        count(k, weight);
    }
    above / (below + above)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U512;

    use super::*;

    fn choose(of: u32, take: u32) -> U512 {
        (0..take).fold(U512::from(1), |value, index| value * U512::from(of - index) / U512::from(index + 1))
    }

    /// Numerator over denominator, to 18 places.
    fn exact(numerator: U512, denominator: U512) -> f64 {
        let scaled = numerator * U512::from(10u64.pow(18)) / denominator;
        scaled.to_string().parse::<f64>().unwrap() / 1e18
    }

    fn agree(found: f64, exact: f64) {
        assert!((found - exact).abs() <= 1e-11 * exact + 1e-17, "{found} {exact}");
    }

    #[test]
    fn draws_without_replacement_agree_with_exact_integers() {
        for (population, marked, draws, least) in [
            (64, 12, 11, 8),
            (64, 21, 11, 8),
            (53, 21, 21, 15),
            (33, 11, 11, 4),
            (32, 32, 11, 11),
            (32, 22, 11, 8),
            (40, 3, 11, 4),
        ] {
            let ways: U512 = (least..=draws.min(marked))
                .filter(|count| draws - count <= population - marked)
                .map(|k| choose(marked, k) * choose(population - marked, draws - k))
                .fold(U512::ZERO, |sum, ways| sum + ways);
            agree(drawn(population, marked, draws, least), exact(ways, choose(population, draws)));
        }
    }

    #[test]
    fn independent_draws_agree_with_exact_integers() {
        for (draws, least, of) in [(11u32, 8u32, 5u32), (11, 8, 3), (21, 15, 5), (21, 15, 3), (11, 4, 3)] {
            let power = |base: u32, exponent: u32| {
                (0..exponent).fold(U512::from(1), |value, _| value * U512::from(base))
            };
            let ways = (least..=draws)
                .map(|k| choose(draws, k) * power(of - 1, draws - k))
                .fold(U512::ZERO, |sum, ways| sum + ways);
            agree(independent(draws, least, 1.0 / f64::from(of)), exact(ways, power(of, draws)));
        }
    }

    #[test]
    fn the_ends_are_certain() {
        assert_eq!((independent(11, 0, 0.3), independent(11, 12, 0.3)), (1.0, 0.0));
        assert_eq!((independent(11, 1, 0.0), independent(11, 11, 1.0)), (0.0, 1.0));
        assert_eq!((drawn(64, 0, 11, 1), drawn(64, 64, 11, 11), drawn(64, 5, 11, 6)), (0.0, 1.0, 0.0));
        assert_eq!(drawn(10, 4, 10, 4), 1.0);
    }

    #[test]
    fn many_draws_neither_overflow_nor_vanish() {
        let half = independent(10_001, 5_001, 0.5);
        assert!((half - 0.5).abs() < 1e-11, "{half}");
        assert!(independent(10_000, 9_000, 0.5) < 1e-290);
    }
}
