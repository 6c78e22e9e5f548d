//! The watcher's side: rows picked in private after the roots, each checked against the whole of B at once.

use std::collections::BTreeMap;
use std::fmt;

use alloy_primitives::B256;
use tradewind_proto::challenge::{Claim, OpeningError, RowOpening, Side, Size, WrongElement};

use crate::expansion::{SPAN, expand};
use crate::field::{dot, from_bits, reduce};
use crate::product::{expanded, rows};
use crate::threads::Threads;
use crate::wide::wide;

/// What a watcher knows and no device may: it picks the rows, and the vector that checks them.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// From random bytes, fresh for each challenge.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// So many different numbers below `bound`, all of them if there are fewer, in random order.
    pub(crate) fn pick(&self, purpose: &str, context: B256, bound: u32, count: usize) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..bound).collect();
        let count = count.min(numbers.len());
        let bits = self.bits(purpose, context, count);
        for (index, bits) in bits.into_iter().enumerate() {
            let left = u128::try_from(numbers.len() - index).unwrap_or(1);
            let offset = usize::try_from((u128::from(bits) * left) >> 64).unwrap_or_default();
            numbers.swap(index, index + offset);
        }
        numbers.truncate(count);
        numbers
    }

    fn bits(&self, purpose: &str, context: B256, count: usize) -> Vec<u64> {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(context.as_slice()).update(purpose.as_bytes());
        let mut bytes = vec![0; count * 8];
        hasher.finalize_xof().fill(&mut bytes);
        bytes.as_chunks::<8>().0.iter().copied().map(u64::from_le_bytes).collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A row to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pick {
    /// Of which round.
    pub round: usize,
    /// Which row.
    pub row: u32,
}

/// What an opened row shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is right.
    Holds,
    /// It is not, and this proves it to anyone.
    Wrong(Box<WrongElement>),
}

/// Why a row was not opened. Refusing to open is a failed challenge, which a committee judges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// The claim has fewer rounds.
    #[error("there is no round {0}")]
    NoSuchRound(usize),
    /// What came is no opening.
    #[error("the row was not opened")]
    Opening(#[from] OpeningError),
}

/// Checks one device's claim for one epoch.
#[derive(Debug)]
pub struct Verifier {
    claim: Claim,
    secret: Secret,
    threads: Threads,
    projections: BTreeMap<usize, Projection>,
}

impl Verifier {
    /// For a claim that is signed: what it opens can no longer be chosen.
    #[must_use]
    pub const fn new(claim: Claim, secret: Secret, threads: Threads) -> Self {
        Self { claim, secret, threads, projections: BTreeMap::new() }
    }

    /// Picks `rows` rows in each of `rounds` rounds, or as many as there are.
    #[must_use]
    pub fn picks(&self, rounds: usize, rows: usize) -> Vec<Pick> {
        let numbers = u32::try_from(self.claim.rounds()).unwrap_or(u32::MAX);
        let picked = self.secret.pick("rounds", self.claim.round(0).unwrap_or_default().1, numbers, rounds);
        let in_round = |round: usize| {
            let root = self.claim.round(round).unwrap_or_default().1;
            let rows = self.secret.pick("rows", root, self.claim.size().get(), rows);
            rows.into_iter().map(move |row| Pick { round, row })
        };
        picked.into_iter().flat_map(|round| in_round(round as usize)).collect()
    }

    /// Checks the row that was opened for `pick`. The first row of a round expands B, which takes most of the time; the rest of
    /// the round's rows share that.
    ///
    /// # Errors
    /// [`VerifierError`] when it is no opening.
    pub fn check(&mut self, pick: Pick, opening: &RowOpening) -> Result<Answer, VerifierError> {
        let Pick { round, row } = pick;
        let (seed, root) = self.claim.round(round).ok_or(VerifierError::NoSuchRound(round))?;
        let size = self.claim.size();
        opening.check(row, size, root)?;
        let projection = self
            .projections
            .entry(round)
            .or_insert_with(|| Projection::new(seed, root, size, &self.secret, self.threads));
        if projection.holds(opening) {
            return Ok(Answer::Holds);
        }
        let right = rows(seed, &[row], size, self.threads);
        let differs = right.iter().flatten().zip(&opening.values).position(|(right, got)| right != got);
        // A right row always passes, so that one that did not has such a column.
        let column = differs.and_then(|column| u32::try_from(column).ok()).unwrap_or_default();
        Ok(Answer::Wrong(Box::new(WrongElement::of(&self.claim, round, opening, column))))
    }
}

/// A round's matrices seen through a secret vector `r`: enough to check any row of its product, at the price of one row.
pub struct Projection {
    seed: B256,
    size: Size,
    r: Vec<u64>,
    /// B·r.
    br: Vec<u64>,
}

impl fmt::Debug for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projection").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Projection {
    /// Expands the whole of B once.
    #[must_use]
    pub fn new(seed: B256, root: B256, size: Size, secret: &Secret, threads: Threads) -> Self {
        let r: Vec<u64> = secret.bits("vector", root, size.width()).into_iter().map(from_bits).collect();
        let halves: Vec<[i32; 2]> = r.iter().map(|number| halves(*number)).collect();
        let mut br = vec![0; size.width()];
        let spans = (0u32..).step_by(SPAN / 32).zip(br.as_chunks_mut::<SPAN>().0).collect();
        threads.each(spans, |(first, out): (u32, &mut [u64; SPAN])| {
            project(seed, first, &halves, out);
        });
        Self { seed, size, r, br }
    }

    /// Whether the opened row is right. A wrong one passes with a probability of 2^−61.
    #[must_use]
    pub fn holds(&self, opening: &RowOpening) -> bool {
        let row = expanded(self.seed, Side::A, opening.row, self.size);
        dot(&opening.values, &self.r) == dot(&row, &self.br)
    }
}

/// The low 31 and the high 30 bits.
fn halves(number: u64) -> [i32; 2] {
    const LOW: u64 = (1 << 31) - 1;
    [number & LOW, number >> 31].map(|half| i32::try_from(half).unwrap_or_default())
}

wide! {
    /// 256 rows of B, from chunk `first` on, times r, given in halves. The sums stay below 2^52.
    fn project(seed: B256, first: u32, r: &[[i32; 2]], out: &mut [u64; SPAN]) {
        let mut sums = [[0i64; SPAN]; 2];
        let mut elements = [0i8; SPAN];
        for (column, halves) in (0..).zip(r) {
            expand(seed, Side::B, column, first, &mut elements);
            for (sums, half) in sums.iter_mut().zip(halves) {
                for (sum, element) in sums.iter_mut().zip(elements) {
                    *sum += i64::from(i32::from(element)) * i64::from(*half);
                }
            }
        }
        for ((out, low), high) in out.iter_mut().zip(sums[0]).zip(sums[1]) {
            *out = reduce(i128::from(low) + (i128::from(high) << 31));
        }
    }
}
