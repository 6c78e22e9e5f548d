//! Matrix elements from keccak, 256 at a time: eight permutations side by side.

use alloy_primitives::B256;
use tradewind_proto::challenge::Side;

use crate::wide::wide;

/// Hashes at a time.
const WIDTH: usize = 8;
const STEP: u32 = 8;
/// Elements at a time, as many as a leaf holds.
pub(crate) const SPAN: usize = 256;

/// The same word of eight states.
type Word = [u64; WIDTH];

const ROUNDS: [u64; 24] = [
    0x0000_0000_0000_0001,
    0x0000_0000_0000_8082,
    0x8000_0000_0000_808a,
    0x8000_0000_8000_8000,
    0x0000_0000_0000_808b,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8009,
    0x0000_0000_0000_008a,
    0x0000_0000_0000_0088,
    0x0000_0000_8000_8009,
    0x0000_0000_8000_000a,
    0x0000_0000_8000_808b,
    0x8000_0000_0000_008b,
    0x8000_0000_0000_8089,
    0x8000_0000_0000_8003,
    0x8000_0000_0000_8002,
    0x8000_0000_0000_0080,
    0x0000_0000_0000_800a,
    0x8000_0000_8000_000a,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8080,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8008,
];

/// Where the words go in turn, and by how much each is rotated.
const PI: [usize; 24] =
    [10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1];
const RHO: [u32; 24] =
    [1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2, 14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44];

/// A seed as the permutation takes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seed([u64; 4]);

impl Seed {
    pub(crate) fn new(seed: B256) -> Self {
        let mut words = seed.0.chunks_exact(8);
        Self(std::array::from_fn(|_| {
            words.next().and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
        }))
    }
}

wide! {
    /// A whole line of a matrix.
    pub(crate) fn line(seed: Seed, side: Side, number: u32, out: &mut [i8]) {
        let mut first = 0;
        for span in out.as_chunks_mut::<SPAN>().0 {
            expand(seed, side, number, first, span);
            first += STEP;
        }
    }
}

/// Elements `32 first ..` of a line.
#[inline(always)]
pub(crate) fn expand(seed: Seed, side: Side, line: u32, first: u32, out: &mut [i8; SPAN]) {
    let mut state = [[0u64; WIDTH]; 25];
    for (word, value) in state.iter_mut().zip(seed.0) {
        *word = [value; WIDTH];
    }
    // The second word of the message in big-endian bytes: the side, the line, the chunk. Then the padding of a message of 64 bytes.
    state[5] = [(side as u64) << 56; WIDTH];
    state[6] = [u64::from(line).swap_bytes(); WIDTH];
    state[7] = std::array::from_fn(|index| (u64::from(first) + index as u64).swap_bytes());
    state[8] = [1; WIDTH];
    state[16] = [1 << 63; WIDTH];
    permute(&mut state);
    const SIGN: u64 = 0x8080_8080_8080_8080;
    for (index, place) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let words: [u64; 4] = match side {
            Side::A => std::array::from_fn(|word| state[word][index] ^ SIGN),
            Side::B => std::array::from_fn(|word| (state[3 - word][index] ^ SIGN).rotate_left(32)),
        };
        for (bytes, word) in place.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes().map(u8::cast_signed);
        }
    }
}

/// Keccak-f[1600] on eight states.
#[inline(always)]
fn permute(state: &mut [Word; 25]) {
    for constant in ROUNDS {
        let parity: [Word; 5] = std::array::from_fn(|x| {
            each(|i| state[x][i] ^ state[x + 5][i] ^ state[x + 10][i] ^ state[x + 15][i] ^ state[x + 20][i])
        });
        for x in 0..5 {
            let mixed: Word = each(|i| parity[(x + 4) % 5][i] ^ parity[(x + 1) % 5][i].rotate_left(1));
            for y in 0..5 {
                state[5 * y + x] = each(|i| state[5 * y + x][i] ^ mixed[i]);
            }
        }
        let mut last = state[1];
        for (place, turn) in PI.into_iter().zip(RHO) {
            let next = state[place];
            state[place] = each(|i| last[i].rotate_left(turn));
            last = next;
        }
        for y in 0..5 {
            let row: [Word; 5] = std::array::from_fn(|x| state[5 * y + x]);
            for x in 0..5 {
                state[5 * y + x] = each(|i| row[x][i] ^ (!row[(x + 1) % 5][i] & row[(x + 2) % 5][i]));
            }
        }
        state[0] = each(|i| state[0][i] ^ constant);
    }
}

#[inline(always)]
fn each(value: impl Fn(usize) -> u64) -> Word {
    std::array::from_fn(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tradewind_proto::challenge::{self, Size};

    use super::*;

    proptest! {
        #[test]
        fn a_line_is_what_the_rules_say(seed in any::<[u8; 32]>(), number in 0u32..16_384, large in any::<bool>()) {
            let size = Size::new(if large { 2_048 } else { 256 }).unwrap();
            let seed = B256::new(seed);
            for side in [Side::A, Side::B] {
                let mut ours = vec![0; size.width()];
                line(Seed::new(seed), side, number, &mut ours);
                prop_assert_eq!(ours, challenge::line(seed, side, number, size));
            }
        }
    }
}
