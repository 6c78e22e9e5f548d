//! The engine of a machine without an accelerator.

use alloy_primitives::B256;
use tradewind_proto::challenge::{RowOpening, Side, Size, Tree, row_root};

use crate::expansion::line;
use crate::product::{expanded, multiply};
use crate::prover::Engine;
use crate::threads::Threads;

/// Rows that one thread computes at a time.
const ROWS: usize = 16;
/// Columns that stay in the cache meanwhile.
const COLUMNS: usize = 32;

/// Why the CPU could not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    /// The products would take more memory than given.
    #[error(
        "{rounds} products take {needed} bytes and {room} are given; hint: ask for fewer rounds or smaller matrices"
    )]
    Room {
        /// Products that would be kept.
        rounds: usize,
        /// What they take.
        needed: usize,
        /// What is given.
        room: usize,
    },
    /// Rounds come in order.
    #[error("round {got} cannot follow {kept} rounds")]
    Order {
        /// The round asked for.
        got: usize,
        /// Products kept.
        kept: usize,
    },
    /// Nothing to open there.
    #[error("there is no row {row} of round {round}")]
    NoSuchRow {
        /// Which round.
        round: usize,
        /// Which row.
        row: u32,
    },
}

impl CpuError {
    /// Whether `round` follows `kept` products of `size`, and fits into `room` bytes with them.
    pub(crate) fn check(round: usize, kept: usize, size: Size, room: usize) -> Result<(), Self> {
        if round != kept {
            return Err(Self::Order { got: round, kept });
        }
        let rounds = round + 1;
        let needed = rounds.saturating_mul(4 * size.width() * size.width());
        if needed > room { Err(Self::Room { rounds, needed, room }) } else { Ok(()) }
    }
}

/// Multiplies on the CPU, and keeps the products of one epoch in memory.
#[derive(Debug)]
pub struct CpuEngine {
    size: Size,
    threads: Threads,
    room: usize,
    products: Vec<Product>,
}

#[derive(Debug)]
struct Product {
    values: Vec<i32>,
    tree: Tree,
}

impl CpuEngine {
    /// For matrices of `size`, with `room` bytes for products: each takes 4·size².
    #[must_use]
    pub const fn new(size: Size, threads: Threads, room: usize) -> Self {
        Self { size, threads, room, products: Vec::new() }
    }

    fn product(&self, seed: B256) -> Product {
        let (size, width) = (self.size, self.size.width());
        let mut right = vec![0i8; width * width];
        let columns = (0u32..).zip(right.chunks_exact_mut(width)).collect();
        self.threads.each(columns, |(column, out): (u32, &mut [i8])| line(seed, Side::B, column, out));
        let mut values = vec![0i32; width * width];
        let mut roots = vec![B256::ZERO; width];
        let blocks = values.chunks_exact_mut(ROWS * width).zip(roots.chunks_exact_mut(ROWS));
        let blocks = (0u32..).step_by(ROWS).zip(blocks).collect();
        self.threads.each(blocks, |(first, (values, roots)): (u32, (&mut [i32], &mut [B256]))| {
            let rows = (first..).take(ROWS);
            let left: Vec<i8> = rows.flat_map(|row| expanded(seed, Side::A, row, size)).collect();
            let mut block = vec![0; ROWS * COLUMNS];
            for (index, right) in right.chunks_exact(COLUMNS * width).enumerate() {
                multiply(&left, right, width, &mut block);
                for (values, block) in values.chunks_exact_mut(width).zip(block.chunks_exact(COLUMNS)) {
                    values[index * COLUMNS..][..COLUMNS].copy_from_slice(block);
                }
            }
            for (root, values) in roots.iter_mut().zip(values.chunks_exact(width)) {
                *root = row_root(values);
            }
        });
        Product { values, tree: Tree::new(roots) }
    }

    /// Adds `change` to one element of a kept product, as a device does that computes wrongly; the root is then this.
    #[cfg(test)]
    pub(crate) fn alter(&mut self, round: usize, row: u32, column: u32, change: i32) -> B256 {
        let product = &mut self.products[round];
        let (row, width) = (row as usize, self.size.width());
        let element = &mut product.values[row * width + column as usize];
        *element = element.wrapping_add(change);
        product.tree.replace(row, row_root(&product.values[row * width..][..width]));
        product.tree.root()
    }
}

impl Engine for CpuEngine {
    type Error = CpuError;

    fn size(&self) -> Size {
        self.size
    }

    fn multiply(&mut self, round: usize, seed: B256) -> Result<B256, CpuError> {
        if round == 0 {
            self.products.clear();
        }
        CpuError::check(round, self.products.len(), self.size, self.room)?;
        let product = self.product(seed);
        let root = product.tree.root();
        self.products.push(product);
        Ok(root)
    }

    fn open(&mut self, round: usize, row: u32) -> Result<RowOpening, CpuError> {
        let product = self.products.get(round).filter(|_| row < self.size.get());
        let product = product.ok_or(CpuError::NoSuchRow { round, row })?;
        let (index, width) = (row as usize, self.size.width());
        let values = product.values[index * width..][..width].to_vec();
        Ok(RowOpening { row, values, path: product.tree.path(index) })
    }
}

#[cfg(test)]
mod tests {
    use tradewind_proto::challenge::element;

    use super::*;

    #[test]
    fn the_engine_keeps_to_its_room_and_to_the_order_of_rounds() {
        let size = Size::new(256).unwrap();
        let mut engine = CpuEngine::new(size, Threads::available(), 2 * 256 * 256 * 4);
        let seed = B256::repeat_byte(3);
        assert_eq!(engine.multiply(1, seed), Err(CpuError::Order { got: 1, kept: 0 }));
        engine.multiply(0, seed).unwrap();
        engine.multiply(1, seed).unwrap();
        let refused = engine.multiply(2, seed).unwrap_err();
        assert!(matches!(refused, CpuError::Room { rounds: 3, .. }), "{refused}");
        assert_eq!(engine.open(2, 0), Err(CpuError::NoSuchRow { round: 2, row: 0 }));
        assert_eq!(engine.open(0, 256), Err(CpuError::NoSuchRow { round: 0, row: 256 }));
        engine.multiply(0, seed).unwrap();
        assert!(engine.open(1, 0).is_err(), "a new epoch forgets the last");
    }

    #[test]
    fn opened_rows_are_the_products() {
        let (size, seed) = (Size::new(512).unwrap(), B256::repeat_byte(4));
        let mut engine = CpuEngine::new(size, Threads::available(), 1 << 22);
        let root = engine.multiply(0, seed).unwrap();
        for row in [0, 15, 16, 300, 511] {
            let opening = engine.open(0, row).unwrap();
            assert_eq!(opening.check(row, size, root), Ok(()));
            for column in [0, 31, 32, 500] {
                let right = element(seed, row, column, size);
                assert_eq!(opening.values[usize::try_from(column).unwrap()], right);
            }
        }
    }
}
