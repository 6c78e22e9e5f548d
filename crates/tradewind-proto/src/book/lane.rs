//! Lanes of comparable offers, in blocks of 512 by price.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use alloy_primitives::Address;

use super::planes::{COUNT, Planes};
use super::price::{Bounds, Compact, Size, Unit};
use crate::terms::LeaseKind;

const WORDS: usize = 8;
const CAPACITY: usize = WORDS * 64;
/// Once enough choices are known, equal prices are told apart among at most this many more.
const MAX_TIES: usize = 4096;

/// The lanes that a search looks into.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lanes {
    /// With and without accelerators.
    All,
    /// Any accelerator.
    Accelerated,
    /// One model, by its hash.
    Model(u32),
}

impl Lanes {
    pub(super) fn admits(self, model: Option<u8>) -> bool {
        match self {
            Self::All => true,
            Self::Accelerated => model.is_some(),
            Self::Model(wanted) => model == Some(of_model(wanted)),
        }
    }
}

/// The lane of a model.
pub(super) const fn of_model(hash: u32) -> u8 {
    hash.to_le_bytes()[0]
}

/// What a search asks.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) token: Address,
    pub(crate) kind: LeaseKind,
    pub(crate) lanes: Lanes,
    /// Every offer is in all of these.
    pub(crate) all: Planes,
    /// And in at least one of each of these, where it is not empty.
    pub(crate) any: [Planes; 2],
    /// The job's size.
    pub(crate) size: Size,
    /// The highest rate that matters.
    pub(crate) ceiling: u128,
}

/// Offers of one token, kind and model, in the order of price.
#[derive(Default)]
pub(super) struct Lane {
    blocks: Vec<Block>,
}

impl Lane {
    pub(super) const fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(super) fn insert(&mut self, slot: u32, model: u32, unit: Unit, planes: Planes) {
        let key = (unit.order(), slot);
        let mut index = self.blocks.partition_point(|block| block.first <= key).saturating_sub(1);
        match self.blocks.get_mut(index) {
            None => self.blocks.push(Block::new()),
            Some(block) if block.members.len() == CAPACITY => {
                let upper = block.split();
                let dearer = key >= upper.first;
                self.blocks.insert(index + 1, upper);
                index += usize::from(dearer);
            }
            Some(_) => {}
        }
        if let Some(block) = self.blocks.get_mut(index) {
            block.insert(Member { key, model, unit, planes });
        }
    }

    pub(super) fn remove(&mut self, slot: u32, unit: Unit) {
        let key = (unit.order(), slot);
        let index = self.blocks.partition_point(|block| block.first <= key).saturating_sub(1);
        let Some(block) = self.blocks.get_mut(index) else { return };
        block.remove(key);
        if block.members.is_empty() {
            self.blocks.remove(index);
        }
    }
}

#[derive(Clone, Copy)]
struct Member {
    key: (Compact, u32),
    model: u32,
    unit: Unit,
    planes: Planes,
}

/// Up to 512 offers. Their order inside is that of arrival.
struct Block {
    /// At or below every member's key, above every member's of the block before.
    first: (Compact, u32),
    bounds: Bounds,
    /// The planes that at least one member is in.
    present: Planes,
    planes: Box<[[u64; WORDS]; COUNT]>,
    members: Vec<Member>,
}

impl Block {
    fn new() -> Self {
        Self {
            first: (Compact::ZERO, 0),
            bounds: Bounds::NONE,
            present: Planes::default(),
            planes: Box::new([[0; WORDS]; COUNT]),
            members: Vec::with_capacity(CAPACITY),
        }
    }

    fn insert(&mut self, member: Member) {
        let position = self.members.len();
        let (word, bit) = (position / 64, 1u64 << (position % 64));
        for plane in member.planes.indices() {
            self.planes[plane][word] |= bit;
        }
        self.present.0 |= member.planes.0;
        self.bounds.widen(&member.unit);
        self.members.push(member);
    }

    /// Takes a member out; the last one moves into its place.
    fn remove(&mut self, key: (Compact, u32)) {
        let Some(position) = self.members.iter().position(|member| member.key == key) else { return };
        let last = self.members.len() - 1;
        self.clear(last);
        if position != last {
            self.clear(position);
            let moved = self.members[last];
            let (word, bit) = (position / 64, 1u64 << (position % 64));
            for plane in moved.planes.indices() {
                self.planes[plane][word] |= bit;
            }
        }
        self.members.swap_remove(position);
    }

    fn clear(&mut self, position: usize) {
        let (word, bit) = (position / 64, 1u64 << (position % 64));
        for plane in self.members[position].planes.indices() {
            self.planes[plane][word] &= !bit;
        }
    }

    /// Moves the dearer half into a new block.
    fn split(&mut self) -> Self {
        let mut members = std::mem::take(&mut self.members);
        members.sort_unstable_by_key(|member| member.key);
        let dearer = members.split_off(members.len() / 2);
        let mut lower = Self { first: self.first, ..Self::new() };
        let mut upper = Self { first: dearer.first().map_or(self.first, |member| member.key), ..Self::new() };
        members.into_iter().for_each(|member| lower.insert(member));
        dearer.into_iter().for_each(|member| upper.insert(member));
        *self = lower;
        upper
    }

    /// The members that are in all planes that `query` wants.
    fn matching(&self, query: &Query) -> [u64; WORDS] {
        let mut words = [0u64; WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            let filled = self.members.len().saturating_sub(index * 64);
            *word = if filled >= 64 { u64::MAX } else { (1u64 << filled) - 1 };
        }
        for plane in query.all.indices() {
            let bits = &self.planes[plane];
            words.iter_mut().zip(bits).for_each(|(word, bits)| *word &= bits);
        }
        for any in query.any.iter().filter(|any| any.0 != 0) {
            let mut union = [0u64; WORDS];
            for plane in any.indices() {
                union.iter_mut().zip(&self.planes[plane]).for_each(|(word, bits)| *word |= bits);
            }
            words.iter_mut().zip(union).for_each(|(word, bits)| *word &= bits);
        }
        words
    }
}

/// Visits the slots that may answer `query`, block by block, the cheapest possible block first. `visit` answers the highest
/// rate that still matters, or `None` for a slot that is gone.
pub(super) fn search<'l>(
    lanes: impl Iterator<Item = &'l Lane>,
    query: &Query,
    visit: &mut impl FnMut(u32) -> Option<u128>,
) {
    let lanes: Vec<&Lane> = lanes.collect();
    let mut blocks = Vec::new();
    for (lane_index, lane) in lanes.iter().enumerate() {
        for (index, block) in lane.blocks.iter().enumerate() {
            let floor = block.bounds.floor(&query.size);
            if floor <= query.ceiling && block.present.0 & query.all.0 == query.all.0 {
                blocks.push(Reverse((floor, lane_index, index)));
            }
        }
    }
    let mut heap = BinaryHeap::from(blocks);
    let (mut ceiling, mut ties) = (query.ceiling, 0);
    while let Some(Reverse((floor, lane, index))) = heap.pop() {
        if floor > ceiling || ties > MAX_TIES {
            return;
        }
        let block = &lanes[lane].blocks[index];
        for (base, mut word) in block.matching(query).into_iter().enumerate() {
            while word != 0 {
                let position = base * 64 + word.trailing_zeros() as usize;
                word &= word - 1;
                let Some(member) = block.members.get(position) else { continue };
                let other = matches!(query.lanes, Lanes::Model(wanted) if wanted != member.model);
                if other || member.unit.cost(&query.size) > ceiling {
                    continue;
                }
                ceiling = visit(member.key.1).unwrap_or(ceiling).min(ceiling);
                ties += usize::from(floor == ceiling);
            }
        }
    }
}
