//! Exact products of int8 matrices.

use alloy_primitives::B256;
use tradewind_proto::challenge::{Side, Size};

use crate::expansion::line;
use crate::threads::Threads;
use crate::wide::wide;

/// Columns of B that are worked on at a time, so that they stay in the cache.
const COLUMNS: usize = 32;

/// The rows with these numbers of the product with `seed`. Every column of B is expanded once, and none is kept.
#[must_use]
pub fn rows(seed: B256, numbers: &[u32], size: Size, threads: Threads) -> Vec<Vec<i32>> {
    let width = size.width();
    let left: Vec<i8> = numbers.iter().flat_map(|number| expanded(seed, Side::A, *number, size)).collect();
    let mut blocks = vec![vec![0; numbers.len() * COLUMNS]; width / COLUMNS];
    let tasks = blocks.iter_mut().zip((0..).step_by(COLUMNS)).collect();
    threads.each(tasks, |(block, first): (&mut Vec<i32>, u32)| {
        let columns = (first..).take(COLUMNS);
        let right: Vec<i8> = columns.flat_map(|column| expanded(seed, Side::B, column, size)).collect();
        multiply(&left, &right, width, block);
    });
    let row = |index: usize| blocks.iter().flat_map(move |block| &block[index * COLUMNS..][..COLUMNS]);
    (0..numbers.len()).map(|index| row(index).copied().collect()).collect()
}

/// A whole line, expanded.
pub(crate) fn expanded(seed: B256, side: Side, number: u32, size: Size) -> Vec<i8> {
    let mut elements = vec![0; size.width()];
    line(seed, side, number, &mut elements);
    elements
}

wide! {
    /// `out = left · right`: rows of A, columns of B, of `width` each; `out` has a row for each row of A.
    pub(crate) fn multiply(left: &[i8], right: &[i8], width: usize, out: &mut [i32]) {
        let columns = right.len() / width;
        for (row, out) in left.chunks_exact(width).zip(out.chunks_exact_mut(columns)) {
            for (column, out) in right.chunks_exact(width).zip(out) {
                *out = row.iter().zip(column).map(|(a, b)| i32::from(i16::from(*a) * i16::from(*b))).sum();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tradewind_proto::challenge::element;

    use super::*;

    #[test]
    fn a_product_is_what_the_rules_say() {
        let (seed, size) = (B256::repeat_byte(5), Size::new(512).unwrap());
        let found = rows(seed, &[0, 511, 37], size, Threads::available());
        for (row, found) in [0, 511, 37].into_iter().zip(&found) {
            assert_eq!(found.len(), 512);
            for column in [0, 1, 31, 32, 255, 256, 511] {
                assert_eq!(found[usize::try_from(column).unwrap()], element(seed, row, column, size));
            }
        }
        assert!(rows(seed, &[], size, Threads::available()).is_empty());
    }

    #[test]
    fn the_largest_element_fits() {
        let mut out = [0];
        multiply(&[-128; 16_384], &[-128; 16_384], 16_384, &mut out);
        assert_eq!(out, [1 << 28]);
    }
}
