//! The hardware challenge: what is asked of a device, and what a right answer is.
//!
//! ```text
//! beacon ─► seed₀ ─► A·B ─► root₀ ─► seed₁ ─► A·B ─► root₁ … ─► ProductRoots, signed once
//!                                                                   │ then only: rows picked in private
//!                          holds ◄── C_i = A_i·B ? ◄── RowOpening ◄─┘
//!                                        └─ no ─► WrongElement: one dot product, which the contract repeats
//! ```
//!
//! Matrices are `n × n` of int8 from keccak, products are exact in int32, so that every device gives the same bits. The tree over a
//! product has a fixed depth; a row's leaves are one subtree, so a row opens with `log2 n` hashes. Here are the rules, one
//! element at a time; `tradewind-challenge` does the same work quickly.
//!
//! Failure paths: a list for another epoch, device, chain or court is refused when it arrives ([`Claim::accept`]); a row that does
//! not lead to its root is no opening ([`OpeningError`]), which a committee judges; a row that does, and is wrong, is
//! proved by one element ([`WrongElement`]), which nobody has to judge.

mod claim;
mod class;
pub mod memory;
mod order;
mod tree;
mod wrong;

use std::fmt;

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

pub use claim::{Claim, ClaimError};
pub use class::{Bounds, Measured, Placed};
pub use order::{ClassProfile, MemoryRate, WalkOrder, WalkProfile};
pub use tree::{LEAF, OpeningError, RowOpening, Tree, row_root};
pub use wrong::{Disproof, ProofError, WrongElement};

use crate::evidence::{Court, Epoch, digest, word};
use crate::ids::DeviceId;

/// The most rounds of one epoch.
pub const MAX_ROUNDS: usize = 64;
/// How many int8 one hash gives.
pub const LANES: usize = 32;

/// Why a number is no matrix size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a matrix has a power of two of rows from {MIN} to {MAX}, not {0}", MIN = Size::MIN, MAX = Size::MAX)]
pub struct SizeError(pub u32);

/// Rows and columns of the square matrices: a power of two from 256 to 16,384.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Size(u32);

impl Size {
    /// The least.
    pub const MIN: u32 = 256;
    /// The largest: with it an element still fits an int32.
    pub const MAX: u32 = 16_384;

    /// Matrices of `rows` rows.
    ///
    /// # Errors
    /// [`SizeError`].
    pub const fn new(rows: u32) -> Result<Self, SizeError> {
        if rows.is_power_of_two() && rows >= Self::MIN && rows <= Self::MAX {
            return Ok(Self(rows));
        }
        Err(SizeError(rows))
    }

    /// Rows, and columns.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The same as a length.
    #[must_use]
    pub const fn width(self) -> usize {
        self.0 as usize
    }

    /// Hashes that make up one line.
    #[must_use]
    pub const fn chunks(self) -> u32 {
        self.0 / 32
    }

    /// Leaves of one row's product.
    #[must_use]
    pub const fn leaves_of_row(self) -> usize {
        self.width() / LEAF
    }

    /// Hashes between a row's subtree and the root.
    #[must_use]
    pub const fn row_depth(self) -> usize {
        self.0.trailing_zeros() as usize
    }

    /// Hashes between a leaf and the root: log2(n·n / 256).
    #[must_use]
    pub const fn depth(self) -> usize {
        2 * self.row_depth() - LEAF.trailing_zeros() as usize
    }
}

impl TryFrom<u32> for Size {
    type Error = SizeError;
    fn try_from(rows: u32) -> Result<Self, SizeError> {
        Self::new(rows)
    }
}

impl From<Size> for u32 {
    fn from(size: Size) -> Self {
        size.0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Who is challenged when, before which court, from which beacon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Where wrong elements are proved.
    pub court: Court,
    /// The beacon's seed of the epoch.
    pub beacon: B256,
    /// Who answers.
    pub device: DeviceId,
    /// For which epoch.
    pub epoch: Epoch,
}

impl Challenge {
    /// The seed of the first round.
    #[must_use]
    pub fn seed(&self) -> B256 {
        let [chain, contract] = self.court.words();
        digest([self.beacon, chain, contract, self.device.get(), word(self.epoch.get())])
    }
}

/// The seed of the round after the one with `seed`, whose product has `root`.
#[must_use]
pub fn next_seed(seed: B256, root: B256) -> B256 {
    digest([seed, root])
}

/// Which matrix: lines are rows of A, and columns of B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// The left one.
    A = 1,
    /// The right one.
    B = 2,
}

/// The hash that gives the `chunk`-th 32 elements of a line.
#[must_use]
pub fn chunk(seed: B256, side: Side, line: u32, chunk: u32) -> B256 {
    let mut name = [0u8; 32];
    name[15] = side as u8;
    name[20..24].copy_from_slice(&line.to_be_bytes());
    name[28..].copy_from_slice(&chunk.to_be_bytes());
    digest([seed, B256::new(name)])
}

/// Where in B's hash the element stands that in A's stands at `index`: the order of the eight words is reversed, that of the bytes
/// within one is not. So one 256-bit product of four-byte limbs sums eight products in its highest limb.
#[must_use]
pub const fn place_in_b(index: usize) -> usize {
    28 - index / 4 * 4 + index % 4
}

/// The elements in a hash.
#[must_use]
pub fn lanes(side: Side, hash: &[u8; LANES]) -> [i8; LANES] {
    let signed = |byte: u8| byte.wrapping_sub(128).cast_signed();
    match side {
        Side::A => hash.map(signed),
        Side::B => std::array::from_fn(|index| signed(hash[place_in_b(index)])),
    }
}

/// A whole line: a row of A, or a column of B.
#[must_use]
pub fn line(seed: B256, side: Side, number: u32, size: Size) -> Vec<i8> {
    (0..size.chunks()).flat_map(|index| lanes(side, &chunk(seed, side, number, index).0)).collect()
}

/// The element of the product in `row` and `column`. It fits: |C| ≤ 2^28.
#[must_use]
pub fn element(seed: B256, row: u32, column: u32, size: Size) -> i32 {
    let pairs = line(seed, Side::A, row, size).into_iter().zip(line(seed, Side::B, column, size));
    pairs.map(|(a, b)| i32::from(a) * i32::from(b)).sum()
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, U256, keccak256};
    use proptest::prelude::*;

    use super::*;

    pub(super) fn challenge() -> Challenge {
        Challenge {
            court: Court { chain_id: 1, contract: Address::repeat_byte(9) },
            beacon: B256::repeat_byte(0xbe),
            device: DeviceId::new(B256::repeat_byte(0xd0)),
            epoch: Epoch::new(7),
        }
    }

    #[test]
    fn sizes_are_powers_of_two_from_256_to_16384() {
        for rows in [0, 1, 128, 255, 257, 300, 384, 8_191, 16_385, 32_768, u32::MAX] {
            assert_eq!(Size::new(rows), Err(SizeError(rows)));
        }
        let depths = [256, 512, 4_096, 16_384].map(|rows| Size::new(rows).unwrap().depth());
        assert_eq!(depths, [8, 10, 16, 20]);
        assert_eq!(
            SizeError(300).to_string(),
            "a matrix has a power of two of rows from 256 to 16384, not 300"
        );
        assert!(serde_json::from_str::<Size>("300").is_err());
    }

    #[test]
    fn the_seed_is_bound_to_chain_court_device_and_epoch() {
        let seed = challenge().seed();
        let court = challenge().court;
        let others = [
            Challenge { court: Court { chain_id: 2, ..court }, ..challenge() },
            Challenge { court: Court { contract: Address::ZERO, ..court }, ..challenge() },
            Challenge { device: DeviceId::NONE, ..challenge() },
            Challenge { epoch: Epoch::new(8), ..challenge() },
            Challenge { beacon: B256::ZERO, ..challenge() },
        ];
        assert!(others.iter().all(|other| other.seed() != seed));
        assert_ne!(next_seed(seed, B256::ZERO), next_seed(seed, B256::repeat_byte(1)));
    }

    #[test]
    fn a_chunk_is_named_by_side_line_and_index_in_one_word() {
        let seed = B256::repeat_byte(5);
        let name = |side: u8, line: u64, index: u64| {
            let word: U256 = (U256::from(side) << 128) | (U256::from(line) << 64) | U256::from(index);
            keccak256([seed.0, word.to_be_bytes()].as_flattened())
        };
        assert_eq!(chunk(seed, Side::A, 3, 4), name(1, 3, 4));
        assert_eq!(chunk(seed, Side::B, 16_383, 511), name(2, 16_383, 511));
    }

    /// The contract's way: four masked products of the two hashes, each summing eight products in its highest limb.
    fn dot_by_words(a: B256, b: B256) -> i64 {
        let mask = (0..8).fold(U256::ZERO, |mask, limb| mask | (U256::from(0xff) << (32 * limb)));
        let groups = |hash: B256| [0, 8, 16, 24].map(|shift| (U256::from_be_bytes(hash.0) >> shift) & mask);
        let sum = |hash: B256| hash.iter().map(|byte| i64::from(*byte)).sum::<i64>();
        let products: i64 = groups(a)
            .into_iter()
            .zip(groups(b))
            .map(|(a, b): (U256, U256)| (a.wrapping_mul(b) >> 224usize).to::<i64>())
            .sum();
        products - 128 * sum(a) - 128 * sum(b) + 16_384 * 32
    }

    proptest! {
        #[test]
        fn one_product_of_words_dots_the_lanes_that_belong_together(a in any::<[u8; 32]>(), b in any::<[u8; 32]>()) {
            let pairs = lanes(Side::A, &a).into_iter().zip(lanes(Side::B, &b));
            let expected: i64 = pairs.map(|(a, b)| i64::from(a) * i64::from(b)).sum();
            prop_assert_eq!(dot_by_words(B256::new(a), B256::new(b)), expected);
        }
    }

    #[test]
    fn the_words_extremes_do_not_carry_into_the_sum() {
        for (a, b) in [(0xff, 0xff), (0xff, 0), (0, 0), (0, 0xff)] {
            let (a, b) = ([a; 32], [b; 32]);
            let pairs = lanes(Side::A, &a).into_iter().zip(lanes(Side::B, &b));
            let expected: i64 = pairs.map(|(a, b)| i64::from(a) * i64::from(b)).sum();
            assert_eq!(dot_by_words(B256::new(a), B256::new(b)), expected);
        }
    }

    #[test]
    fn an_element_is_the_dot_of_its_lines() {
        let (seed, size) = (challenge().seed(), Size::new(256).unwrap());
        let by_words: i64 = (0..8)
            .map(|index| dot_by_words(chunk(seed, Side::A, 9, index), chunk(seed, Side::B, 200, index)))
            .sum();
        assert_eq!(i64::from(element(seed, 9, 200, size)), by_words);
    }
}
