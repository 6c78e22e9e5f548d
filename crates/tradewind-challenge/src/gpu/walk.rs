//! The memory walk on an accelerator.
//!
//! ```text
//! first block of each lane, hashed here ─► fill, a part of the memory at a time ─► parts ─┐
//! first state of each walker ────────────► walk, a stretch in short turns ◄───────────────┘─► checkpoints, read after each stretch
//! ```
//!
//! A driver lets a kernel see buffers of two to four GiB, so that the memory lies in as many parts as it takes.

use tradewind_proto::challenge::memory::{Block, Walk};
use wgpu::Buffer;

use super::device::{Device, Program};
use super::{GROUP, GpuError, Pick};
use crate::any::AnyError;
use crate::memory::{RoomError, Walked, Walker};

/// Entry points of `walk.wgsl`.
const KERNELS: &[&str] = &["fill", "walk"];
/// Steps that one command takes: short enough for the time that a driver lets it have.
const TURN: u32 = 16_384;
const BLOCK: usize = size_of::<Block>();

/// Walks through an accelerator's memory.
#[derive(Debug)]
pub struct GpuWalker {
    device: Device,
    /// Parts that the kernel knows.
    parts: usize,
    /// Bytes of a part at most.
    part: usize,
}

impl GpuWalker {
    /// For walks that fill `largest` bytes at most.
    ///
    /// # Errors
    /// [`GpuError`]; [`GpuError::Room`] where the driver lets a kernel see less.
    pub fn open(largest: u64, pick: Pick) -> Result<Self, GpuError> {
        Self::of_parts(largest, usize::MAX, pick)
    }

    fn of_parts(largest: u64, most: usize, pick: Pick) -> Result<Self, GpuError> {
        let (mut parts, mut part) = (0, 0);
        let device = Device::open(pick, |limits| {
            let seen = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
            part = usize::try_from(seen).unwrap_or(usize::MAX).min(most) / BLOCK * BLOCK;
            let wanted = largest.div_ceil(part.max(1) as u64).max(1);
            // One is for the walkers.
            let there = u64::from(limits.max_storage_buffers_per_shader_stage.saturating_sub(1));
            if wanted > there {
                let room = there.saturating_mul(part as u64);
                return Err(RoomError { wanted: largest, room }.into());
            }
            parts = usize::try_from(wanted).unwrap_or(usize::MAX);
            Ok(Program { source: source(parts), kernels: KERNELS, limits })
        })?;
        Ok(Self { device, parts, part })
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.device.name
    }

    fn through(&self, walk: Walk) -> Result<Walked, GpuError> {
        let [lanes, lane_blocks, walkers, stretches, stride] = walk.numbers();
        if !lane_blocks.is_power_of_two() || lane_blocks > 1 << 16 || lanes >= 1 << 24 {
            return Err(GpuError::Lanes { lanes, lane_blocks });
        }
        let lane = lane_blocks as usize * BLOCK;
        let in_part = (self.part / lane).min(lanes as usize);
        RoomError::check(&walk, (in_part * self.parts * lane) as u64)?;
        let shape = Shape { lanes, in_part: narrow(in_part), place_bits: lane_blocks.trailing_zeros() };
        let parts = self.fill(&walk, shape)?;
        let starts: Vec<Block> = (0..walkers).map(|walker| walk.start(walker)).collect();
        let states = self.device.filled(&bytes(&starts))?;
        let mut bound = vec![(1, &states)];
        bound.extend((2u32..).zip(&parts));
        let mut ways: Vec<Vec<Block>> = starts.into_iter().map(|start| vec![start]).collect();
        for _ in 0..stretches {
            let mut left = stride;
            while left > 0 {
                let steps = left.min(TURN);
                let groups = [(walkers as usize).div_ceil(GROUP), 1];
                self.device.run("walk", &shape.bytes(walkers, steps), &bound, groups)?;
                left -= steps;
            }
            let read = self.device.read(&states, 0, walkers as usize * BLOCK)?;
            for (way, state) in ways.iter_mut().zip(read.as_chunks::<BLOCK>().0) {
                way.push(block(state));
            }
        }
        Ok(Walked::new(walk, ways.concat()))
    }

    /// The memory, filled; parts that the walk does not need are as small as can be.
    fn fill(&self, walk: &Walk, shape: Shape) -> Result<Vec<Buffer>, GpuError> {
        let lane = (BLOCK as u64) << shape.place_bits;
        let mut parts = Vec::with_capacity(self.parts);
        let mut first = 0;
        for _ in 0..self.parts {
            let count = shape.in_part.min(shape.lanes - first);
            if count == 0 {
                parts.push(self.device.buffer(BLOCK)?);
                continue;
            }
            let heads: Vec<Block> = (first..first + count).map(|number| walk.head(number)).collect();
            let heads = self.device.filled(&bytes(&heads))?;
            let part = self.device.buffer(usize::try_from(u64::from(count) * lane).unwrap_or(usize::MAX))?;
            let groups = [(count as usize).div_ceil(GROUP), 1];
            self.device.run("fill", &shape.bytes(count, 0), &[(1, &heads), (2, &part)], groups)?;
            parts.push(part);
            first += count;
        }
        Ok(parts)
    }
}

impl Walker for GpuWalker {
    fn walk(&mut self, walk: Walk) -> Result<Walked, AnyError> {
        self.through(walk).map_err(AnyError::new)
    }
}

/// What both kernels are told, as their text names it.
#[derive(Debug, Clone, Copy)]
struct Shape {
    lanes: u32,
    in_part: u32,
    place_bits: u32,
}

impl Shape {
    fn bytes(self, count: u32, steps: u32) -> Vec<u8> {
        let Self { lanes, in_part, place_bits } = self;
        [lanes, in_part, place_bits, count, steps, 0, 0, 0].map(u32::to_le_bytes).as_flattened().to_vec()
    }
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn bytes(blocks: &[Block]) -> Vec<u8> {
    blocks.as_flattened().iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn block(bytes: &[u8; BLOCK]) -> Block {
    let words = bytes.as_chunks::<4>().0;
    std::array::from_fn(|index| u32::from_le_bytes(words[index]))
}

/// The kernels' text, with so many parts of memory.
fn source(parts: usize) -> String {
    let declared = |part: usize| {
        let binding = part + 2;
        format!("@group(0) @binding({binding}) var<storage, read_write> part{part}: array<vec4<u32>>;\n")
    };
    let case =
        |part: usize| format!("        case {part}u: {{ return part{part}[4u * block + quarter]; }}\n");
    include_str!("walk.wgsl")
        .replace("// PARTS\n", &(0..parts).map(declared).collect::<String>())
        .replace("        // CASES\n", &(1..parts).map(case).collect::<String>())
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use tradewind_proto::challenge::memory::BLOCK_BYTES;

    use super::*;
    use crate::{CpuWalker, Threads};

    fn on_processor(walk: Walk) -> Walked {
        CpuWalker { threads: Threads::available(), room: 1 << 24 }.walk(walk).unwrap()
    }

    #[test]
    fn an_accelerator_walks_as_the_processor_does() {
        let walk = Walk::new(B256::repeat_byte(5), [100, 256], [70, 3, 50]).unwrap();
        let known = on_processor(walk);
        let whole = walk.blocks() * BLOCK_BYTES;
        for most in [usize::MAX, 40 * 256 * BLOCK] {
            let mut ours = GpuWalker::of_parts(whole, most, Pick::Any).expect("scripts/tools installs one");
            let walked = ours.walk(walk).unwrap();
            assert_eq!(walked.root(), known.root(), "{} parts on {}", ours.parts, ours.name());
            assert_eq!(walked.open(69, 2), known.open(69, 2));
        }
    }

    #[test]
    fn a_stretch_of_many_turns_ends_where_one_of_one_would() {
        let walk = Walk::new(B256::repeat_byte(6), [3, 64], [1, 2, TURN + 1]).unwrap();
        let mut ours = GpuWalker::open(walk.blocks() * BLOCK_BYTES, Pick::Any).unwrap();
        assert_eq!(ours.walk(walk).unwrap().root(), on_processor(walk).root());
    }

    #[test]
    fn a_walk_through_more_than_was_opened_or_odd_lanes_is_refused() {
        let mut ours = GpuWalker::of_parts(1 << 20, 1 << 20, Pick::Any).unwrap();
        let walk = |memory| Walk::new(B256::ZERO, memory, [1, 1, 1]).unwrap();
        let said = ours.walk(walk([17, 1_024])).unwrap_err().to_string();
        assert_eq!(said, "the walk fills 1114112 bytes and 1048576 may be taken");
        let said = ours.walk(walk([4, 100])).unwrap_err().to_string();
        assert!(said.ends_with("not through 4 of 100"), "{said}");
        let error = GpuWalker::of_parts(1 << 40, 1 << 10, Pick::Any).unwrap_err();
        assert!(matches!(error, GpuError::Room(RoomError { wanted: 1_099_511_627_776, .. })), "{error}");
    }
}
