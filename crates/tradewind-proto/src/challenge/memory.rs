//! The memory challenge: fill a device's memory, then walk through it.
//!
//! ```text
//! lane l:    V₀ = keccak(seed, l) ─► Vₚ = mix(Vₚ₋₁ ⊕ V[some earlier one]) ─► … as many lanes as fill the memory
//! walker w:  x₀ = keccak(seed, w) ─► x = mix(x ⊕ V[x mod all blocks])     ─► … a checkpoint every `stride` steps
//! ```
//!
//! The device commits to a tree over its walkers' checkpoints; only then some stretches between two checkpoints are
//! opened. A verifier repeats a stretch with a lane's worth of memory at a time, because a lane depends on nothing but itself. The
//! walkers read 64 bytes at addresses that nobody knows before: what does not fit the device's memory comes over a bus that is
//! ten to fifty times slower, and the rate shows it ([`super::Bounds`]).
//!
//! It bounds from one side only: somebody else's memory, or more compute than memory, answers as well. A device that keeps a part of
//! each lane recomputes the rest, at a cost that grows faster than what it saves.

use alloy_primitives::{B256, U256, keccak256};
use serde::{Deserialize, Serialize};

use super::tree::climb;
use crate::evidence::digest;

/// Bytes of one block.
pub const BLOCK_BYTES: u64 = 64;

/// The unit that is stored and read.
pub type Block = [u32; 16];

/// Why a walk cannot be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a walk has at least one of everything, at most 2^40 bytes and at most 2^20 checkpoints")]
pub struct WalkError;

/// What is asked: how much memory, and how long a way through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Walk {
    seed: B256,
    lanes: u32,
    lane_blocks: u32,
    walkers: u32,
    stretches: u32,
    stride: u32,
}

#[derive(Serialize, Deserialize)]
struct Fields {
    seed: B256,
    lanes: u32,
    lane_blocks: u32,
    walkers: u32,
    stretches: u32,
    stride: u32,
}

impl TryFrom<Fields> for Walk {
    type Error = WalkError;
    fn try_from(fields: Fields) -> Result<Self, WalkError> {
        let Fields { seed, lanes, lane_blocks, walkers, stretches, stride } = fields;
        Self::new(seed, [lanes, lane_blocks], [walkers, stretches, stride])
    }
}

impl From<Walk> for Fields {
    fn from(walk: Walk) -> Self {
        let Walk { seed, lanes, lane_blocks, walkers, stretches, stride } = walk;
        Self { seed, lanes, lane_blocks, walkers, stretches, stride }
    }
}

impl Walk {
    const MOST_BYTES: u64 = 1 << 40;
    const MOST_CHECKPOINTS: u64 = 1 << 20;

    /// A walk through lanes × blocks by walkers that go stretches × steps each.
    ///
    /// # Errors
    /// [`WalkError`] when a number is zero, or the memory or the checkpoints exceed the limit.
    pub const fn new(
        seed: B256,
        [lanes, lane_blocks]: [u32; 2],
        [walkers, stretches, stride]: [u32; 3],
    ) -> Result<Self, WalkError> {
        let walk = Self { seed, lanes, lane_blocks, walkers, stretches, stride };
        let something = lanes > 0 && lane_blocks > 0 && walkers > 0 && stretches > 0 && stride > 0;
        let fits = walk.blocks() <= Self::MOST_BYTES / BLOCK_BYTES
            && walkers as u64 * (stretches as u64 + 1) <= Self::MOST_CHECKPOINTS;
        if something && fits { Ok(walk) } else { Err(WalkError) }
    }

    /// What every lane and walker begins with.
    #[must_use]
    pub const fn seed(&self) -> B256 {
        self.seed
    }

    /// Lanes, their blocks, walkers, stretches, steps of a stretch.
    #[must_use]
    pub const fn numbers(&self) -> [u32; 5] {
        [self.lanes, self.lane_blocks, self.walkers, self.stretches, self.stride]
    }

    /// Blocks in all.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.lanes as u64 * self.lane_blocks as u64
    }

    /// How many lanes.
    #[must_use]
    pub const fn lanes(&self) -> u32 {
        self.lanes
    }

    /// How many walkers.
    #[must_use]
    pub const fn walkers(&self) -> u32 {
        self.walkers
    }

    /// How many stretches each of them goes.
    #[must_use]
    pub const fn stretches(&self) -> u32 {
        self.stretches
    }

    /// Bytes that all walkers read.
    #[must_use]
    pub const fn bytes_read(&self) -> u64 {
        (self.walkers as u64 * self.stretches as u64)
            .saturating_mul(self.stride as u64)
            .saturating_mul(BLOCK_BYTES)
    }

    /// The first block of a lane.
    #[must_use]
    pub fn head(&self, number: u32) -> Block {
        self.named(3, number)
    }

    /// The blocks of a lane, in order.
    #[must_use]
    pub fn lane(&self, number: u32) -> Vec<Block> {
        let mut blocks = vec![self.head(number)];
        while blocks.len() < self.lane_blocks as usize {
            let last = blocks[blocks.len() - 1];
            let earlier = blocks[last[0] as usize % blocks.len()];
            blocks.push(mix(xor(last, earlier)));
        }
        blocks
    }

    /// Where a walker starts.
    #[must_use]
    pub fn start(&self, walker: u32) -> Block {
        self.named(4, walker)
    }

    /// The lane and the place in it that a walker in `state` reads next.
    #[must_use]
    pub const fn address(&self, state: &Block) -> (u32, usize) {
        let block = (state[0] as u64 | (state[1] as u64) << 32) % self.blocks();
        let lane = block / self.lane_blocks as u64;
        #[expect(clippy::cast_possible_truncation, reason = "both are below 2^32")]
        let place = (lane as u32, (block % self.lane_blocks as u64) as usize);
        place
    }

    /// A whole stretch from `state`, where `read` gives the block at a lane and a place in it.
    pub fn stretch(&self, state: Block, mut read: impl FnMut(u32, usize) -> Block) -> Block {
        (0..self.stride).fold(state, |state, _| {
            let (lane, place) = self.address(&state);
            mix(xor(state, read(lane, place)))
        })
    }

    /// The number of a checkpoint in the tree: after `stretches` of `walker`.
    #[must_use]
    pub const fn checkpoint(&self, walker: u32, stretches: u32) -> usize {
        walker as usize * (self.stretches as usize + 1) + stretches as usize
    }

    /// How many checkpoints the tree holds.
    #[must_use]
    pub const fn checkpoints(&self) -> usize {
        self.walkers as usize * (self.stretches as usize + 1)
    }

    /// Two hashes as one block.
    fn named(&self, kind: u8, number: u32) -> Block {
        let half = |half: u64| {
            let name = (U256::from(kind) << 128) | (U256::from(number) << 64) | U256::from(half);
            digest([self.seed, B256::from(name)])
        };
        let bytes = [half(0).0, half(1).0];
        let mut words = bytes.as_flattened().chunks_exact(4);
        std::array::from_fn(|_| {
            words.next().and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes)
        })
    }
}

/// The hash of a checkpoint.
#[must_use]
pub fn checkpoint_hash(state: &Block) -> B256 {
    keccak256(state.map(u32::to_le_bytes).as_flattened())
}

fn xor(left: Block, right: Block) -> Block {
    std::array::from_fn(|index| left[index] ^ right[index])
}

/// Eight rounds of ChaCha's permutation, added to what went in, so that it cannot be run backwards.
#[must_use]
pub fn mix(block: Block) -> Block {
    let mut x = block;
    for _ in 0..4 {
        for [a, b, c, d] in [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]] {
            quarter(&mut x, a, b, c, d);
        }
        for [a, b, c, d] in [[0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]] {
            quarter(&mut x, a, b, c, d);
        }
    }
    std::array::from_fn(|index| x[index].wrapping_add(block[index]))
}

#[inline(always)]
const fn quarter(x: &mut Block, a: usize, b: usize, c: usize, d: usize) {
    x[a] = x[a].wrapping_add(x[b]);
    x[d] = (x[d] ^ x[a]).rotate_left(16);
    x[c] = x[c].wrapping_add(x[d]);
    x[b] = (x[b] ^ x[c]).rotate_left(12);
    x[a] = x[a].wrapping_add(x[b]);
    x[d] = (x[d] ^ x[a]).rotate_left(8);
    x[c] = x[c].wrapping_add(x[d]);
    x[b] = (x[b] ^ x[c]).rotate_left(7);
}

/// Why a stretch was not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StretchError {
    /// The walk has no such stretch.
    #[error("there is no stretch {stretch} of walker {walker}")]
    NoSuchStretch {
        /// Which walker.
        walker: u32,
        /// Which of its stretches.
        stretch: u32,
    },
    /// A checkpoint was not committed to.
    #[error("a checkpoint does not lead to the committed root")]
    Root,
    /// The walker did not start where it had to.
    #[error("the walker did not start at its place")]
    Start,
    /// The stretch does not end where the device says.
    #[error("the stretch ends elsewhere")]
    Wrong,
}

/// Two neighbouring checkpoints of a walker, with their ways to the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Which walker.
    pub walker: u32,
    /// Which of its stretches.
    pub stretch: u32,
    /// Where it began.
    pub from: Block,
    /// The siblings of that checkpoint.
    pub from_path: Vec<B256>,
    /// Where it ended.
    pub to: Block,
    /// The siblings of that one.
    pub to_path: Vec<B256>,
}

impl Stretch {
    /// Repeats the stretch, building one lane at a time.
    ///
    /// # Errors
    /// The [`StretchError`] that names the fault.
    pub fn check(&self, walk: &Walk, root: B256) -> Result<(), StretchError> {
        let Self { walker, stretch, .. } = *self;
        if walker >= walk.walkers || stretch >= walk.stretches {
            return Err(StretchError::NoSuchStretch { walker, stretch });
        }
        let depth = walk.checkpoints().next_power_of_two().trailing_zeros() as usize;
        let leads = |state, path: &[B256], at| {
            let number = u64::try_from(walk.checkpoint(walker, at)).unwrap_or(u64::MAX);
            path.len() == depth && climb(checkpoint_hash(state), number, path) == root
        };
        if !leads(&self.from, &self.from_path, stretch) || !leads(&self.to, &self.to_path, stretch + 1) {
            return Err(StretchError::Root);
        }
        if stretch == 0 && self.from != walk.start(walker) {
            return Err(StretchError::Start);
        }
        let end = walk.stretch(self.from, |lane, place| walk.lane(lane)[place]);
        if end == self.to { Ok(()) } else { Err(StretchError::Wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_that_is_empty_or_too_large_cannot_be_asked_for() {
        let walk = |memory, way| Walk::new(B256::ZERO, memory, way).map(drop);
        assert_eq!(walk([4, 16], [2, 3, 5]), Ok(()));
        for (memory, way) in [
            ([0, 16], [2, 3, 5]),
            ([4, 0], [2, 3, 5]),
            ([4, 16], [0, 3, 5]),
            ([4, 16], [2, 0, 5]),
            ([4, 16], [2, 3, 0]),
            ([1 << 20, 1 << 15], [2, 3, 5]),
            ([4, 16], [1 << 20, 1, 5]),
        ] {
            assert_eq!(walk(memory, way), Err(WalkError));
        }
        assert!(
            serde_json::from_str::<Walk>(
                &serde_json::to_string(&Walk::new(B256::ZERO, [4, 16], [2, 3, 5]).unwrap())
                    .unwrap()
                    .replace("\"lanes\":4", "\"lanes\":0")
            )
            .is_err()
        );
    }

    #[test]
    fn the_permutation_is_chachas() {
        // The state of RFC 8439, section 2.1.1, in which one quarter round is given.
        let mut state = [0u32; 16];
        [state[0], state[4], state[8], state[12]] = [0x1111_1111, 0x0102_0304, 0x9b8d_6f43, 0x0123_4567];
        quarter(&mut state, 0, 4, 8, 12);
        assert_eq!(
            [state[0], state[4], state[8], state[12]],
            [0xea2a_92f4, 0xcb1c_f8ce, 0x4581_472e, 0x5881_c4bb]
        );
        assert_ne!(mix([0; 16]), mix([1; 16]));
    }

    #[test]
    fn every_lane_and_walker_has_its_own_beginning() {
        let walk = Walk::new(B256::repeat_byte(1), [4, 16], [4, 3, 5]).unwrap();
        let mut beginnings: Vec<Block> = (0..4).map(|lane| walk.lane(lane)[0]).collect();
        beginnings.extend((0..4).map(|walker| walk.start(walker)));
        beginnings.push(Walk::new(B256::repeat_byte(2), [4, 16], [4, 3, 5]).unwrap().start(0));
        beginnings.sort_unstable();
        beginnings.dedup();
        assert_eq!(beginnings.len(), 9);
        assert_eq!((walk.blocks(), walk.bytes_read()), (64, 4 * 3 * 5 * 64));
    }
}
