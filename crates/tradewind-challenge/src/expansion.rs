//! Matrix elements from keccak, 256 at a time: eight permutations side by side where the processor has registers for them.

use alloy_primitives::B256;
use tradewind_proto::challenge::{LANES, Side, chunk, lanes};

/// Elements at a time, as many as a leaf holds.
pub(crate) const SPAN: usize = 256;

/// A whole line of a matrix.
pub(crate) fn line(seed: B256, side: Side, number: u32, out: &mut [i8]) {
    for (first, span) in (0..).step_by(SPAN / LANES).zip(out.as_chunks_mut::<SPAN>().0) {
        expand(seed, side, number, first, span);
    }
}

/// Elements `32 first ..` of a line.
pub(crate) fn expand(seed: B256, side: Side, line: u32, first: u32, out: &mut [i8; SPAN]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        #[expect(unsafe_code, reason = "the processor has the feature, as was just asked")]
        return unsafe { eight::expand(seed, side, line, first, out) };
    }
    for (index, place) in (first..).zip(out.as_chunks_mut::<LANES>().0) {
        *place = lanes(side, &chunk(seed, side, line, index).0);
    }
}

/// Eight states of the permutation, a word of each in one register.
#[cfg(target_arch = "x86_64")]
mod eight {
    use std::arch::x86_64::{
        __m512i, _mm512_rol_epi64, _mm512_rolv_epi64, _mm512_set1_epi64, _mm512_setr_epi64,
        _mm512_setzero_si512, _mm512_storeu_si512, _mm512_ternarylogic_epi64, _mm512_xor_si512,
    };

    use alloy_primitives::B256;
    use tradewind_proto::challenge::{LANES, Side};

    use super::SPAN;

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
    const TURNS: [(usize, i64); 24] = [
        (10, 1),
        (7, 3),
        (11, 6),
        (17, 10),
        (18, 15),
        (3, 21),
        (5, 28),
        (16, 36),
        (8, 45),
        (21, 55),
        (24, 2),
        (4, 14),
        (15, 27),
        (23, 41),
        (19, 56),
        (13, 8),
        (12, 25),
        (2, 43),
        (20, 62),
        (14, 18),
        (22, 39),
        (9, 61),
        (6, 20),
        (1, 44),
    ];
    /// a ⊕ b ⊕ c, as the instruction's truth table.
    const XOR: i32 = 0x96;
    /// a ⊕ (¬b ∧ c).
    const CHI: i32 = 0xd2;
    /// Turns bytes from 0 to 255 into those from −128 to 127.
    const SIGNS: u64 = 0x8080_8080_8080_8080;

    #[target_feature(enable = "avx512f")]
    pub(super) fn expand(seed: B256, side: Side, line: u32, first: u32, out: &mut [i8; SPAN]) {
        let mut state = [_mm512_setzero_si512(); 25];
        for (word, bytes) in state.iter_mut().zip(seed.0.as_chunks::<8>().0) {
            *word = _mm512_set1_epi64(i64::from_le_bytes(*bytes));
        }
        // The message's second half in big-endian bytes: side, line, chunk. Then the padding of a message of 64 bytes.
        state[5] = _mm512_set1_epi64((side as i64) << 56);
        state[6] = _mm512_set1_epi64(i64::from(line).swap_bytes());
        let chunks = [0, 1, 2, 3, 4, 5, 6, 7].map(|index: i64| (i64::from(first) + index).swap_bytes());
        state[7] = load(chunks);
        state[8] = _mm512_set1_epi64(1);
        state[16] = _mm512_set1_epi64(i64::MIN);
        permute(&mut state);
        let words = [store(state[0]), store(state[1]), store(state[2]), store(state[3])];
        for (index, place) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let words: [u64; 4] = match side {
                Side::A => std::array::from_fn(|word| words[word][index] ^ SIGNS),
                Side::B => std::array::from_fn(|word| (words[3 - word][index] ^ SIGNS).rotate_left(32)),
            };
            for (bytes, word) in place.as_chunks_mut::<8>().0.iter_mut().zip(words) {
                *bytes = word.to_le_bytes().map(u8::cast_signed);
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    fn permute(state: &mut [__m512i; 25]) {
        for constant in ROUNDS {
            let mut parity = [_mm512_setzero_si512(); 5];
            for x in 0..5 {
                let three = _mm512_ternarylogic_epi64::<XOR>(state[x], state[x + 5], state[x + 10]);
                parity[x] = _mm512_ternarylogic_epi64::<XOR>(three, state[x + 15], state[x + 20]);
            }
            for x in 0..5 {
                let (left, right) = (parity[(x + 4) % 5], _mm512_rol_epi64::<1>(parity[(x + 1) % 5]));
                for y in 0..5 {
                    let word = &mut state[5 * y + x];
                    *word = _mm512_ternarylogic_epi64::<XOR>(*word, left, right);
                }
            }
            let mut last = state[1];
            for (place, turn) in TURNS {
                let next = state[place];
                state[place] = _mm512_rolv_epi64(last, _mm512_set1_epi64(turn));
                last = next;
            }
            for row in state.as_chunks_mut::<5>().0 {
                let old = *row;
                for x in 0..5 {
                    row[x] = _mm512_ternarylogic_epi64::<CHI>(old[x], old[(x + 1) % 5], old[(x + 2) % 5]);
                }
            }
            state[0] = _mm512_xor_si512(state[0], _mm512_set1_epi64(constant.cast_signed()));
        }
    }

    #[target_feature(enable = "avx512f")]
    fn load(words: [i64; 8]) -> __m512i {
        let [a, b, c, d, e, f, g, h] = words;
        _mm512_setr_epi64(a, b, c, d, e, f, g, h)
    }

    #[target_feature(enable = "avx512f")]
    fn store(register: __m512i) -> [u64; 8] {
        let mut words = [0u64; 8];
        #[expect(
            unsafe_code,
            reason = "the array is as long as the register, and the store needs no alignment"
        )]
        unsafe {
            _mm512_storeu_si512(words.as_mut_ptr().cast(), register);
        }
        words
    }
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
                line(seed, side, number, &mut ours);
                prop_assert_eq!(ours, challenge::line(seed, side, number, size));
            }
        }
    }
}
