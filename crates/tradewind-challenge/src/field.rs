//! Numbers modulo the prime 2^61 − 1.

/// The modulus.
pub(crate) const PRIME: u64 = (1 << 61) - 1;

/// The remainder of any sum that the checks form, which stays below 2^107.
pub(crate) fn reduce(value: i128) -> u64 {
    let remainder = value.rem_euclid(i128::from(PRIME));
    u64::try_from(remainder).unwrap_or_default()
}

/// A number below the prime from 64 random bits; the bias is below 2^−60.
pub(crate) const fn from_bits(bits: u64) -> u64 {
    let low = bits & PRIME;
    if low == PRIME { 0 } else { low }
}

/// Σ left · right.
pub(crate) fn dot<T: Copy + Into<i128>>(left: &[T], right: &[u64]) -> u64 {
    reduce(left.iter().zip(right).map(|(left, right)| (*left).into() * i128::from(*right)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_reduced_into_the_field_whatever_their_sign() {
        assert_eq!((reduce(-1), reduce(i128::from(PRIME)), reduce(0)), (PRIME - 1, 0, 0));
        assert_eq!((from_bits(u64::MAX), from_bits(PRIME), from_bits(5)), (0, 0, 5));
        let most = vec![i32::MIN; 16_384];
        let right = vec![PRIME - 1; 16_384];
        assert_eq!(dot(&most, &right), reduce(i128::from(1u64 << 31) * 16_384));
    }
}
