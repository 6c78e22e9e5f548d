//! The memory challenge on a machine without an accelerator.

use alloy_primitives::B256;
use tradewind_proto::challenge::Tree;
use tradewind_proto::challenge::memory::{Block, Stretch, Walk, checkpoint_hash};

use crate::threads::Threads;

/// A walk's memory, filled, and the checkpoints of its walkers.
#[derive(Debug)]
pub struct CpuMemory {
    walk: Walk,
    checkpoints: Vec<Block>,
    tree: Tree,
}

impl CpuMemory {
    /// Fills the memory and walks. It takes what the walk says, and keeps the checkpoints only.
    #[must_use]
    pub fn answer(walk: Walk, threads: Threads) -> Self {
        let mut lanes: Vec<Vec<Block>> = Vec::new();
        lanes.resize_with(walk.lanes() as usize, Vec::new);
        threads.each((0u32..).zip(&mut lanes).collect(), |(number, lane): (u32, &mut Vec<Block>)| {
            *lane = walk.lane(number);
        });
        let mut checkpoints = vec![[0; 16]; walk.checkpoints()];
        let ways = checkpoints.chunks_exact_mut(walk.stretches() as usize + 1);
        threads.each((0u32..).zip(ways).collect(), |(walker, way): (u32, &mut [Block])| {
            let mut state = walk.start(walker);
            for (index, place) in way.iter_mut().enumerate() {
                if index > 0 {
                    state = walk.stretch(state, |lane, place| lanes[lane as usize][place]);
                }
                *place = state;
            }
        });
        let tree = Tree::new(checkpoints.iter().map(checkpoint_hash).collect());
        Self { walk, checkpoints, tree }
    }

    /// What the device commits to.
    #[must_use]
    pub fn root(&self) -> B256 {
        self.tree.root()
    }

    /// Opens a stretch; none where the walk has no such.
    #[must_use]
    pub fn open(&self, walker: u32, stretch: u32) -> Option<Stretch> {
        if walker >= self.walk.walkers() || stretch >= self.walk.stretches() {
            return None;
        }
        let [from, to] = [stretch, stretch + 1].map(|at| self.walk.checkpoint(walker, at));
        Some(Stretch {
            walker,
            stretch,
            from: self.checkpoints[from],
            from_path: self.tree.path(from),
            to: self.checkpoints[to],
            to_path: self.tree.path(to),
        })
    }
}

#[cfg(test)]
mod tests {
    use tradewind_proto::challenge::memory::StretchError;

    use super::*;

    fn walk() -> Walk {
        Walk::new(B256::repeat_byte(1), [16, 64], [3, 4, 20]).unwrap()
    }

    #[test]
    fn every_stretch_of_an_honest_walk_holds() {
        let memory = CpuMemory::answer(walk(), Threads::available());
        for walker in 0..3 {
            for stretch in 0..4 {
                assert_eq!(memory.open(walker, stretch).unwrap().check(&walk(), memory.root()), Ok(()));
            }
        }
        assert_eq!((memory.open(3, 0), memory.open(0, 4)), (None, None));
    }

    #[test]
    fn a_stretch_that_was_not_walked_is_found() {
        let mut memory = CpuMemory::answer(walk(), Threads::available());
        let at = walk().checkpoint(1, 2);
        memory.checkpoints[at][5] ^= 1;
        memory.tree.replace(at, checkpoint_hash(&memory.checkpoints[at]));
        let check = |walker, stretch| memory.open(walker, stretch).unwrap().check(&walk(), memory.root());
        assert_eq!((check(1, 1), check(1, 2)), (Err(StretchError::Wrong), Err(StretchError::Wrong)));
        assert_eq!((check(1, 0), check(1, 3), check(0, 1)), (Ok(()), Ok(()), Ok(())));
    }

    #[test]
    fn a_stretch_of_another_walk_walker_or_root_is_refused() {
        let memory = CpuMemory::answer(walk(), Threads::available());
        let good = memory.open(1, 0).unwrap();
        let other = Walk::new(B256::repeat_byte(2), [16, 64], [3, 4, 20]).unwrap();
        assert_eq!(good.check(&other, memory.root()), Err(StretchError::Start));
        assert_eq!(good.check(&walk(), B256::ZERO), Err(StretchError::Root));
        let renamed = Stretch { walker: 2, ..good.clone() };
        assert_eq!(renamed.check(&walk(), memory.root()), Err(StretchError::Root));
        let cut = Stretch { to_path: good.to_path[1..].to_vec(), ..good.clone() };
        assert_eq!(cut.check(&walk(), memory.root()), Err(StretchError::Root));
        let outside = Stretch { walker: 3, ..good };
        let refused = outside.check(&walk(), memory.root());
        assert_eq!(refused, Err(StretchError::NoSuchStretch { walker: 3, stretch: 0 }));
    }

    #[test]
    fn a_smaller_memory_gives_another_walk() {
        let full = CpuMemory::answer(walk(), Threads::available());
        let half = Walk::new(B256::repeat_byte(1), [8, 64], [3, 4, 20]).unwrap();
        let half = CpuMemory::answer(half, Threads::available());
        assert_ne!(full.root(), half.root());
        assert_eq!(half.open(0, 0).unwrap().check(&walk(), half.root()), Err(StretchError::Wrong));
    }
}
