//! The objective proof: one wrong element of a product that a device committed to.

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use super::tree::{climb, leaf_hash, path_in_row};
use super::{Challenge, Claim, ClaimError, LEAF, RowOpening, Size, element};
use crate::evidence::{ProductRoots, Sworn};

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The list is not the accused's answer to this challenge.
    #[error("the signed list is no answer to this challenge")]
    Claim(#[from] ClaimError),
    /// No such round, row or column.
    #[error("there is no element ({row}, {column}) in round {round} of {rounds} with {size} rows")]
    Outside {
        /// The proof's round.
        round: usize,
        /// The proof's row.
        row: u32,
        /// The proof's column.
        column: u32,
        /// Rounds of the list.
        rounds: usize,
        /// Rows and columns.
        size: Size,
    },
    /// The leaf or its path is cut off, or too long.
    #[error("a leaf has {LEAF} elements and {depth} hashes above it, this one has {elements} and {hashes}")]
    Shape {
        /// The tree's depth.
        depth: usize,
        /// In the proof.
        elements: usize,
        /// In the proof.
        hashes: usize,
    },
    /// The leaf was not committed to.
    #[error("the leaf does not lead to the signed root")]
    Root,
    /// The accused is right.
    #[error("the element is {0}, as claimed")]
    Right(i32),
}

/// What a proof shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disproof {
    /// What the device committed to.
    pub claimed: i32,
    /// What it is.
    pub right: i32,
}

/// One element that a device committed to, with everything that anyone needs to see that it is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongElement {
    /// What the device signed.
    pub signed: Sworn<ProductRoots>,
    /// In which round.
    pub round: usize,
    /// In which row.
    pub row: u32,
    /// In which column.
    pub column: u32,
    /// The elements of its leaf.
    pub leaf: Vec<i32>,
    /// The siblings from the leaf up to the root.
    pub path: Vec<B256>,
}

impl WrongElement {
    /// The proof about `column` of a row that was opened, and whose opening was checked.
    #[must_use]
    pub fn of(claim: &Claim, round: usize, opening: &RowOpening, column: u32) -> Self {
        let leaf = (column / 256) as usize;
        let mut path = path_in_row(&opening.values, leaf);
        path.extend_from_slice(&opening.path);
        Self {
            signed: claim.signed().clone(),
            round,
            row: opening.row,
            column,
            leaf: opening.values.chunks(LEAF).nth(leaf).unwrap_or_default().to_vec(),
            path,
        }
    }

    /// Judges the proof as the contract does.
    ///
    /// # Errors
    /// The [`ProofError`] that says why it proves nothing.
    pub fn judge(&self, challenge: &Challenge, key: Address) -> Result<Disproof, ProofError> {
        let (size, rounds) = (self.signed.body.size(), self.signed.body.roots().len());
        let claim = Claim::accept(self.signed.clone(), challenge, key, size, rounds)?;
        let Self { round, row, column, .. } = *self;
        let within = row < size.get() && column < size.get();
        let Some((seed, root)) = claim.round(round).filter(|_| within) else {
            return Err(ProofError::Outside { round, row, column, rounds, size });
        };
        if self.leaf.len() != LEAF || self.path.len() != size.depth() {
            let (elements, hashes) = (self.leaf.len(), self.path.len());
            return Err(ProofError::Shape { depth: size.depth(), elements, hashes });
        }
        let leaf = u64::from(row) * u64::from(size.get() / 256) + u64::from(column / 256);
        if climb(leaf_hash(&self.leaf), leaf, &self.path) != root {
            return Err(ProofError::Root);
        }
        let claimed = self.leaf[(column % 256) as usize];
        let right = element(seed, row, column, size);
        if claimed == right { Err(ProofError::Right(right)) } else { Ok(Disproof { claimed, right }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge::tests::challenge;
    use crate::challenge::{Tree, row_root};
    use crate::evidence::{Court, Epoch};
    use crate::ids::DeviceId;
    use crate::signature::SigningKey;

    const ROW: u32 = 300;
    const COLUMN: u32 = 290;

    fn key() -> SigningKey {
        SigningKey::from_bytes([7; 32]).unwrap()
    }

    /// A product of which only one leaf of one row was ever computed; the rest is made up.
    fn proof(alter: i32) -> WrongElement {
        let size = Size::new(512).unwrap();
        let seed = challenge().seed();
        let mut values = vec![0; 512];
        for column in COLUMN - 2..COLUMN + 2 {
            values[column as usize] = element(seed, ROW, column, size);
        }
        values[COLUMN as usize] += alter;
        let mut rows: Vec<B256> =
            (0..512u32).map(|row| B256::from(alloy_primitives::U256::from(row))).collect();
        rows[ROW as usize] = row_root(&values);
        let tree = Tree::new(rows);
        let list =
            ProductRoots::new(challenge().device, challenge().epoch, size, vec![tree.root(); 2]).unwrap();
        let signed = Sworn::sign(list, &challenge().court, &key());
        let claim = Claim::accept(signed, &challenge(), key().address(), size, 2).unwrap();
        let opening = RowOpening { row: ROW, values, path: tree.path(ROW as usize) };
        assert_eq!(opening.check(ROW, size, tree.root()), Ok(()));
        WrongElement::of(&claim, 0, &opening, COLUMN)
    }

    fn judge(proof: &WrongElement) -> Result<Disproof, ProofError> {
        proof.judge(&challenge(), key().address())
    }

    #[test]
    fn a_wrong_element_is_proved_and_a_right_one_is_not() {
        let Disproof { claimed, right } = judge(&proof(1)).unwrap();
        assert_eq!(claimed, right + 1);
        assert_eq!(judge(&proof(0)), Err(ProofError::Right(right)));
        let beside = WrongElement { column: COLUMN - 1, ..proof(1) };
        assert!(matches!(judge(&beside), Err(ProofError::Right(_))));
    }

    #[test]
    fn a_proof_of_another_round_row_or_leaf_is_refused() {
        let good = proof(1);
        assert_eq!(judge(&WrongElement { row: ROW + 1, ..good.clone() }), Err(ProofError::Root));
        assert_eq!(judge(&WrongElement { column: 3, ..good.clone() }), Err(ProofError::Root));
        let outside = |proof: WrongElement| assert!(matches!(judge(&proof), Err(ProofError::Outside { .. })));
        outside(WrongElement { round: 2, ..good.clone() });
        outside(WrongElement { row: 512, ..good.clone() });
        outside(WrongElement { column: 512, ..good.clone() });
        let mut altered = good.clone();
        altered.leaf[0] ^= 1;
        assert_eq!(judge(&altered), Err(ProofError::Root));
        let cut = WrongElement { leaf: good.leaf[..255].to_vec(), ..good.clone() };
        assert!(matches!(judge(&cut), Err(ProofError::Shape { elements: 255, .. })));
        let long = WrongElement { path: [good.path.clone(), vec![B256::ZERO]].concat(), ..good };
        assert!(matches!(judge(&long), Err(ProofError::Shape { hashes: 11, .. })));
    }

    #[test]
    fn a_replayed_proof_is_refused() {
        let good = proof(1);
        let later = Challenge { epoch: Epoch::new(8), ..challenge() };
        let elsewhere = Challenge { court: Court { chain_id: 2, ..challenge().court }, ..challenge() };
        let other = Challenge { device: DeviceId::NONE, ..challenge() };
        for replayed in [later, elsewhere, other] {
            let refused = good.judge(&replayed, key().address());
            assert!(matches!(refused, Err(ProofError::Claim(_))), "{refused:?}");
        }
        assert!(matches!(good.judge(&challenge(), Address::ZERO), Err(ProofError::Claim(_))));
    }
}
