//! The engine of an accelerator, by Vulkan.
//!
//! ```text
//! seed ─► expand A, B ─► multiply, a strip of rows at a time ─► leaves ─► pairs … ─► a hash a row ─► the tree, here
//!         └─────────────────────── all on the device ────────────────────────────┘
//! ```
//!
//! Nothing is uploaded but the seed, and nothing comes back but a hash a row and the rows that are opened. Strips are small enough
//! for every device's limits, and for the time that a driver lets one command take.
//!
//! Tested on Mesa's software device; no accelerator was at hand.
//!
//! [`GpuWalker`] does the memory walk, on a device of its own.
//!
//! Failure paths: no device is [`GpuError::None`]; whatever its driver says, a lost device included, is [`GpuError::Device`], and nothing is kept
//! of that round.

mod device;
mod walk;

use alloy_primitives::B256;
use tradewind_proto::challenge::{LEAF, RowOpening, Side, Size, Tree};

use self::device::{Device, Program};
pub use self::walk::GpuWalker;
use crate::cpu::CpuError;
use crate::memory::RoomError;
use crate::prover::Engine;

/// What one buffer of a strip may hold.
const STRIP: usize = 64 << 20;
/// Rows and columns that one group of threads computes.
const TILE: usize = 64;
/// Threads of a group of the other kernels.
const GROUP: usize = 64;
/// Entry points of `kernels.wgsl`.
const KERNELS: &[&str] = &["expand", "multiply", "leaves", "pairs"];
/// Bytes of a hash.
const HASH: usize = 32;

/// Why the accelerator could not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// There is none.
    #[error(
        "Vulkan shows no accelerator{0}; hint: install its Vulkan driver, `vulkaninfo --summary` lists what is there"
    )]
    None(String),
    /// What was asked for does not go, on a processor neither.
    #[error(transparent)]
    Asked(#[from] CpuError),
    /// The walk fills more than its driver lets a kernel see.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// Walks of other lanes are asked of nobody.
    #[error(
        "an accelerator walks through fewer than 2^24 lanes of a power of two of at most 65,536 blocks, not through {lanes} of \
         {lane_blocks}"
    )]
    Lanes {
        /// How many.
        lanes: u32,
        /// Of how many blocks.
        lane_blocks: u32,
    },
    /// Its driver's word.
    #[error("the accelerator failed: {0}")]
    Device(String),
}

/// Which devices will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// An accelerator.
    Accelerator,
    /// Also a driver that computes on the processor.
    Any,
}

/// What a kernel is told, as its own text names it.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    seed: B256,
    side_or_column: usize,
    line_or_columns: usize,
    count: usize,
    words: usize,
}

impl Shape {
    fn bytes(&self) -> Vec<u8> {
        let numbers = [self.side_or_column, self.line_or_columns, self.count, self.words];
        let numbers = numbers.map(|number| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
        [self.seed.as_slice(), numbers.as_flattened()].concat()
    }
}

/// Multiplies on an accelerator, and keeps the products of one epoch in its memory.
#[derive(Debug)]
pub struct GpuEngine {
    size: Size,
    room: usize,
    device: Device,
    products: Vec<Product>,
}

#[derive(Debug)]
struct Product {
    /// Rows, so many to a buffer.
    strips: Vec<wgpu::Buffer>,
    tree: Tree,
}

impl GpuEngine {
    /// For matrices of `size`, with `room` bytes for products: each takes 4·size², and 1·size² while it is computed.
    ///
    /// # Errors
    /// [`GpuError::None`], [`GpuError::Device`].
    pub fn open(size: Size, room: usize, pick: Pick) -> Result<Self, GpuError> {
        let program = |_| {
            let source = include_str!("gpu/kernels.wgsl").to_owned();
            Ok(Program { source, kernels: KERNELS, limits: wgpu::Limits::downlevel_defaults() })
        };
        Ok(Self { size, room, device: Device::open(pick, program)?, products: Vec::new() })
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.device.name
    }

    /// How many lines of so many bytes an operand or a strip has.
    fn lines(&self, bytes: usize) -> usize {
        (STRIP / bytes).clamp(TILE, self.size.width())
    }

    fn expand(&self, seed: B256, side: Side, first: usize, lines: usize) -> Result<wgpu::Buffer, GpuError> {
        let width = self.size.width();
        let out = self.device.buffer(lines * width)?;
        let shape = Shape {
            seed,
            side_or_column: side as usize,
            line_or_columns: first,
            count: lines,
            words: width / 4,
        };
        let groups = (lines * width / HASH).div_ceil(GROUP);
        self.device.run("expand", &shape.bytes(), &[(3, &out)], [groups, 1])?;
        Ok(out)
    }

    fn product(&self, seed: B256) -> Result<Product, GpuError> {
        let width = self.size.width();
        let (columns, rows) = (self.lines(width), self.lines(4 * width));
        let right = (0..width).step_by(columns).map(|first| self.expand(seed, Side::B, first, columns));
        let right = right.collect::<Result<Vec<_>, _>>()?;
        let (mut strips, mut roots) = (Vec::new(), Vec::with_capacity(width));
        for first in (0..width).step_by(rows) {
            let left = self.expand(seed, Side::A, first, rows)?;
            let strip = self.device.buffer(rows * width * 4)?;
            for (index, right) in right.iter().enumerate() {
                let shape = Shape {
                    side_or_column: index * columns,
                    line_or_columns: width,
                    words: width / 4,
                    ..Shape::default()
                };
                let groups = [columns / TILE, rows / TILE];
                let bound = [(1, &left), (2, right), (3, &strip)];
                self.device.run("multiply", &shape.bytes(), &bound, groups)?;
            }
            roots.extend(self.row_roots(&strip, rows)?);
            strips.push(strip);
        }
        Ok(Product { strips, tree: Tree::new(roots) })
    }

    /// The hash of each row of a strip.
    fn row_roots(&self, strip: &wgpu::Buffer, rows: usize) -> Result<Vec<B256>, GpuError> {
        let mut count = rows * self.size.width() / LEAF;
        let mut level = self.hash("leaves", strip, count)?;
        while count > rows {
            count /= 2;
            level = self.hash("pairs", &level, count)?;
        }
        let bytes = self.device.read(&level, 0, rows * HASH)?;
        Ok(bytes.as_chunks::<HASH>().0.iter().map(|hash| B256::new(*hash)).collect())
    }

    fn hash(&self, kernel: &str, of: &wgpu::Buffer, count: usize) -> Result<wgpu::Buffer, GpuError> {
        let out = self.device.buffer(count * HASH)?;
        let shape = Shape { count, ..Shape::default() };
        self.device.run(kernel, &shape.bytes(), &[(1, of), (3, &out)], [count.div_ceil(GROUP), 1])?;
        Ok(out)
    }
}

impl Engine for GpuEngine {
    type Error = GpuError;

    fn size(&self) -> Size {
        self.size
    }

    fn multiply(&mut self, round: usize, seed: B256) -> Result<B256, GpuError> {
        if round == 0 {
            self.products.clear();
        }
        CpuError::check(round, self.products.len(), self.size, self.room)?;
        let product = self.product(seed)?;
        let root = product.tree.root();
        self.products.push(product);
        Ok(root)
    }

    fn open(&mut self, round: usize, row: u32) -> Result<RowOpening, GpuError> {
        let product = self.products.get(round).filter(|_| row < self.size.get());
        let product = product.ok_or(CpuError::NoSuchRow { round, row })?;
        let (index, bytes) = (row as usize, self.size.width() * 4);
        let rows = self.lines(bytes);
        let strip = product.strips.get(index / rows).ok_or(CpuError::NoSuchRow { round, row })?;
        let read = self.device.read(strip, index % rows * bytes, bytes)?;
        let values = read.as_chunks::<4>().0.iter().map(|word| i32::from_le_bytes(*word)).collect();
        Ok(RowOpening { row, values, path: product.tree.path(index) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CpuEngine, Threads};

    fn engine(size: Size) -> GpuEngine {
        GpuEngine::open(size, 1 << 26, Pick::Any).expect("scripts/tools installs a software device")
    }

    #[test]
    fn an_accelerator_answers_as_the_processor_does() {
        for rows in [256, 1_024] {
            let size = Size::new(rows).unwrap();
            let mut ours = engine(size);
            let mut known = CpuEngine::new(size, Threads::available(), 1 << 26);
            for (round, seed) in [B256::repeat_byte(3), B256::repeat_byte(0xf7)].into_iter().enumerate() {
                let root = ours.multiply(round, seed).unwrap();
                assert_eq!(root, known.multiply(round, seed).unwrap(), "{rows} rows on {}", ours.name());
                for row in [0, 63, 64, rows - 1] {
                    let opening = ours.open(round, row).unwrap();
                    assert_eq!(opening, known.open(round, row).unwrap());
                    assert_eq!(opening.check(row, size, root), Ok(()));
                }
            }
        }
    }

    #[test]
    fn products_are_cut_into_strips_that_every_device_takes() {
        let lines = |rows: u32| {
            let engine = GpuEngine { size: Size::new(rows).unwrap(), ..engine(Size::new(256).unwrap()) };
            let width = engine.size.width();
            assert!(
                width.is_multiple_of(engine.lines(width)) && width.is_multiple_of(engine.lines(4 * width))
            );
            [engine.lines(width), engine.lines(4 * width)]
        };
        assert_eq!(lines(256), [256, 256]);
        assert_eq!(lines(4_096), [4_096, 4_096]);
        assert_eq!(lines(16_384), [4_096, 1_024]);
    }

    #[test]
    fn the_accelerator_keeps_to_its_room_and_to_the_order_of_rounds() {
        let size = Size::new(256).unwrap();
        let mut engine = GpuEngine { room: 256 * 256 * 4, ..engine(size) };
        let seed = B256::repeat_byte(3);
        assert_eq!(engine.multiply(1, seed), Err(CpuError::Order { got: 1, kept: 0 }.into()));
        engine.multiply(0, seed).unwrap();
        assert!(matches!(engine.multiply(1, seed), Err(GpuError::Asked(CpuError::Room { rounds: 2, .. }))));
        assert_eq!(engine.open(0, 256), Err(CpuError::NoSuchRow { round: 0, row: 256 }.into()));
    }
}
