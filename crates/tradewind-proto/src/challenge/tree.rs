//! The Merkle tree over a product, and rows opened from it.

use alloy_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

use super::Size;

/// How many elements one leaf holds.
pub const LEAF: usize = 256;
const LEAF_BYTES: usize = LEAF * 4;

/// Why an opening is none: it does not have the shape, or does not lead to the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// The product has fewer rows.
    #[error("there is no row {row} among {size}")]
    NoSuchRow {
        /// Which row.
        row: u32,
        /// Rows of the product.
        size: Size,
    },
    /// Another row was asked for.
    #[error("row {got} was opened, row {asked} was asked for")]
    OtherRow {
        /// The opened row.
        got: u32,
        /// The row asked for.
        asked: u32,
    },
    /// Cut off, or too long.
    #[error("a row has {expected} elements, this opening has {got}")]
    Elements {
        /// In the opening.
        got: usize,
        /// The size.
        expected: usize,
    },
    /// The path is cut off, or too long.
    #[error("a path has {expected} hashes, this one has {got}")]
    Path {
        /// In the opening.
        got: usize,
        /// The tree's depth.
        expected: usize,
    },
    /// The row was not committed to.
    #[error("the row does not lead to the signed root")]
    Root,
}

/// One row of a product with its way to the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowOpening {
    /// Which row.
    pub row: u32,
    /// Its elements.
    pub values: Vec<i32>,
    /// The siblings from the row's subtree up.
    pub path: Vec<B256>,
}

impl RowOpening {
    /// Checks that this is row `asked` of the product with `root`. It says nothing about whether the row is right.
    ///
    /// # Errors
    /// The [`OpeningError`] that names the fault.
    pub fn check(&self, asked: u32, size: Size, root: B256) -> Result<(), OpeningError> {
        if self.row != asked {
            return Err(OpeningError::OtherRow { got: self.row, asked });
        }
        if asked >= size.get() {
            return Err(OpeningError::NoSuchRow { row: asked, size });
        }
        if self.values.len() != size.width() {
            return Err(OpeningError::Elements { got: self.values.len(), expected: size.width() });
        }
        if self.path.len() != size.row_depth() {
            return Err(OpeningError::Path { got: self.path.len(), expected: size.row_depth() });
        }
        if climb(row_root(&self.values), u64::from(self.row), &self.path) != root {
            return Err(OpeningError::Root);
        }
        Ok(())
    }
}

/// The hash of a row's subtree. `values` are a whole row.
#[must_use]
pub fn row_root(values: &[i32]) -> B256 {
    let mut level: Vec<B256> = values.chunks(LEAF).map(leaf_hash).collect();
    while level.len() > 1 {
        level = parents(&level);
    }
    level.first().copied().unwrap_or_default()
}

/// The siblings of a row's `leaf`, from the leaf up to the row's subtree.
pub(super) fn path_in_row(values: &[i32], leaf: usize) -> Vec<B256> {
    let tree = Tree::new(values.chunks(LEAF).map(leaf_hash).collect());
    tree.path(leaf)
}

/// The hash of a leaf's elements: four bytes each, big-endian, two's complement.
pub(super) fn leaf_hash(values: &[i32]) -> B256 {
    let mut bytes = [0u8; LEAF_BYTES];
    for (place, value) in bytes.chunks_exact_mut(4).zip(values) {
        place.copy_from_slice(&value.to_be_bytes());
    }
    keccak256(bytes)
}

/// The root above `hash`, which is the `number`-th of its level. The bits of the number say left or right.
pub(super) fn climb(hash: B256, number: u64, path: &[B256]) -> B256 {
    let mut number = number;
    path.iter().fold(hash, |hash, sibling| {
        let is_right = number & 1 == 1;
        number >>= 1;
        if is_right { parent(*sibling, hash) } else { parent(hash, *sibling) }
    })
}

fn parent(left: B256, right: B256) -> B256 {
    keccak256([left.0, right.0].as_flattened())
}

fn parents(level: &[B256]) -> Vec<B256> {
    level.chunks(2).map(|pair| parent(pair[0], pair[pair.len() - 1])).collect()
}

/// A binary tree over a power of two of hashes: a product's rows, or a walk's checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// From the leaves up; the last has one hash.
    levels: Vec<Vec<B256>>,
}

impl Tree {
    /// The tree over `hashes`, filled up with zeros to a power of two.
    #[must_use]
    pub fn new(mut hashes: Vec<B256>) -> Self {
        hashes.resize(hashes.len().max(1).next_power_of_two(), B256::ZERO);
        let mut levels = vec![hashes];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            levels.push(parents(level));
        }
        Self { levels }
    }

    /// What is committed to.
    #[must_use]
    pub fn root(&self) -> B256 {
        self.levels.last().and_then(|level| level.first()).copied().unwrap_or_default()
    }

    /// The siblings of the `number`-th hash, from the bottom up; zeros where there is no such hash.
    #[must_use]
    pub fn path(&self, number: usize) -> Vec<B256> {
        let below_root = &self.levels[..self.levels.len() - 1];
        let sibling = |(height, level): (usize, &Vec<B256>)| level.get((number >> height) ^ 1).copied();
        below_root.iter().enumerate().map(|at| sibling(at).unwrap_or_default()).collect()
    }

    /// Replaces the `number`-th hash, and everything above it.
    pub fn replace(&mut self, number: usize, hash: B256) {
        let path = self.path(number);
        let mut number = number;
        let mut hash = hash;
        for (height, level) in self.levels.iter_mut().enumerate() {
            let Some(place) = level.get_mut(number) else { return };
            *place = hash;
            let Some(sibling) = path.get(height) else { return };
            hash = if number & 1 == 1 { parent(*sibling, hash) } else { parent(hash, *sibling) };
            number >>= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(size: Size) -> Vec<Vec<i32>> {
        let value = |row: u32, column: u32| i32::try_from(row * 1_000 + column).unwrap() - 70_000;
        (0..size.get()).map(|row| (0..size.get()).map(|column| value(row, column)).collect()).collect()
    }

    fn open(rows: &[Vec<i32>], tree: &Tree, row: u32) -> RowOpening {
        let index = usize::try_from(row).unwrap();
        RowOpening { row, values: rows[index].clone(), path: tree.path(index) }
    }

    #[test]
    fn a_row_opens_to_the_root_of_a_tree_of_all_leaves() {
        let size = Size::new(512).unwrap();
        let rows = product(size);
        let tree = Tree::new(rows.iter().map(|row| row_root(row)).collect());
        let leaves = rows.iter().flat_map(|row| row.chunks(LEAF)).map(leaf_hash).collect();
        assert_eq!(tree.root(), Tree::new(leaves).root());
        for row in [0, 1, 255, 511] {
            assert_eq!(open(&rows, &tree, row).check(row, size, tree.root()), Ok(()));
        }
    }

    #[test]
    fn an_opening_that_is_swapped_altered_or_cut_off_is_refused() {
        let size = Size::new(256).unwrap();
        let rows = product(size);
        let tree = Tree::new(rows.iter().map(|row| row_root(row)).collect());
        let check = |opening: &RowOpening| opening.check(5, size, tree.root());
        let good = open(&rows, &tree, 5);
        assert_eq!(check(&good), Ok(()));
        assert_eq!(check(&open(&rows, &tree, 6)), Err(OpeningError::OtherRow { got: 6, asked: 5 }));
        let swapped = RowOpening { values: rows[6].clone(), ..good.clone() };
        assert_eq!(check(&swapped), Err(OpeningError::Root));
        let renamed = RowOpening { row: 5, ..open(&rows, &tree, 6) };
        assert_eq!(check(&renamed), Err(OpeningError::Root));
        let mut altered = good.clone();
        altered.values[255] ^= 1;
        assert_eq!(check(&altered), Err(OpeningError::Root));
        let cut = RowOpening { values: good.values[..255].to_vec(), ..good.clone() };
        assert_eq!(check(&cut), Err(OpeningError::Elements { got: 255, expected: 256 }));
        let short = RowOpening { path: good.path[..7].to_vec(), ..good.clone() };
        assert_eq!(check(&short), Err(OpeningError::Path { got: 7, expected: 8 }));
        let outside = RowOpening { row: 256, ..good.clone() };
        assert_eq!(outside.check(256, size, tree.root()), Err(OpeningError::NoSuchRow { row: 256, size }));
        assert_eq!(good.check(5, size, B256::ZERO), Err(OpeningError::Root));
    }

    #[test]
    fn a_replaced_hash_gives_the_tree_that_was_built_with_it() {
        let mut hashes: Vec<B256> = (0..8).map(B256::repeat_byte).collect();
        let mut tree = Tree::new(hashes.clone());
        for number in 0..8 {
            hashes[number] = B256::repeat_byte(0xaa);
            tree.replace(number, hashes[number]);
            assert_eq!(tree, Tree::new(hashes.clone()));
        }
        let before = tree.clone();
        tree.replace(8, B256::ZERO);
        assert_eq!(tree, before);
    }
}
