//! The memory challenge: what a device keeps of a walk, and the walk on a machine without an accelerator.

use alloy_primitives::B256;
use tradewind_proto::challenge::Tree;
use tradewind_proto::challenge::memory::{BLOCK_BYTES, Block, Stretch, Walk, checkpoint_hash};

use crate::any::AnyError;
use crate::threads::Threads;

/// What fills a device's memory and walks through it.
pub trait Walker: Send {
    /// Walks, and lets the memory go.
    ///
    /// # Errors
    /// [`AnyError`] where the walk does not fit, or the device fails.
    fn walk(&mut self, walk: Walk) -> Result<Walked, AnyError>;
}

/// There is less memory than the walk fills.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the walk fills {wanted} bytes and {room} may be taken")]
pub struct RoomError {
    /// What the walk fills.
    pub wanted: u64,
    /// What may be taken.
    pub room: u64,
}

impl RoomError {
    pub(crate) const fn check(walk: &Walk, room: u64) -> Result<(), Self> {
        let wanted = walk.blocks().saturating_mul(BLOCK_BYTES);
        if wanted <= room { Ok(()) } else { Err(Self { wanted, room }) }
    }
}

/// Walks through the machine's own memory.
#[derive(Debug, Clone, Copy)]
pub struct CpuWalker {
    /// On so many threads.
    pub threads: Threads,
    /// Bytes that may be filled.
    pub room: u64,
}

impl Walker for CpuWalker {
    fn walk(&mut self, walk: Walk) -> Result<Walked, AnyError> {
        RoomError::check(&walk, self.room).map_err(AnyError::new)?;
        Ok(Walked::through(walk, self.threads))
    }
}

/// A walk that was walked: the checkpoints, and the tree over them.
#[derive(Debug)]
pub struct Walked {
    walk: Walk,
    checkpoints: Vec<Block>,
    tree: Tree,
}

impl Walked {
    /// From all checkpoints, walker by walker.
    pub(crate) fn new(walk: Walk, checkpoints: Vec<Block>) -> Self {
        let tree = Tree::new(checkpoints.iter().map(checkpoint_hash).collect());
        Self { walk, checkpoints, tree }
    }

    /// Fills memory and walks.
    fn through(walk: Walk, threads: Threads) -> Self {
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
        Self::new(walk, checkpoints)
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

    fn walked(walk: Walk) -> Walked {
        CpuWalker { threads: Threads::available(), room: 1 << 16 }.walk(walk).unwrap()
    }

    #[test]
    fn more_than_may_be_filled_is_not() {
        let large = Walk::new(B256::ZERO, [17, 64], [1, 1, 1]).unwrap();
        let error = CpuWalker { threads: Threads::available(), room: 1 << 16 }.walk(large).unwrap_err();
        assert_eq!(error.to_string(), "the walk fills 69632 bytes and 65536 may be taken");
    }

    #[test]
    fn every_stretch_of_an_honest_walk_holds() {
        let memory = walked(walk());
        for walker in 0..3 {
            for stretch in 0..4 {
                assert_eq!(memory.open(walker, stretch).unwrap().check(&walk(), memory.root()), Ok(()));
            }
        }
        assert_eq!((memory.open(3, 0), memory.open(0, 4)), (None, None));
    }

    #[test]
    fn a_stretch_that_was_not_walked_is_found() {
        let mut memory = walked(walk());
        let at = walk().checkpoint(1, 2);
        memory.checkpoints[at][5] ^= 1;
        memory.tree.replace(at, checkpoint_hash(&memory.checkpoints[at]));
        let check = |walker, stretch| memory.open(walker, stretch).unwrap().check(&walk(), memory.root());
        assert_eq!((check(1, 1), check(1, 2)), (Err(StretchError::Wrong), Err(StretchError::Wrong)));
        assert_eq!((check(1, 0), check(1, 3), check(0, 1)), (Ok(()), Ok(()), Ok(())));
    }

    #[test]
    fn a_stretch_of_another_walk_walker_or_root_is_refused() {
        let memory = walked(walk());
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
        let full = walked(walk());
        let half = Walk::new(B256::repeat_byte(1), [8, 64], [3, 4, 20]).unwrap();
        let half = walked(half);
        assert_ne!(full.root(), half.root());
        assert_eq!(half.open(0, 0).unwrap().check(&walk(), half.root()), Err(StretchError::Wrong));
    }
}
