//! Work that falls into independent pieces, on several threads.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

/// How many threads may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads(NonZeroUsize);

impl Threads {
    /// So many.
    #[must_use]
    pub const fn new(count: NonZeroUsize) -> Self {
        Self(count)
    }

    /// As many as the machine has cores for.
    #[must_use]
    pub fn available() -> Self {
        Self(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    /// Does `work` with every item, and returns when all are done.
    pub(crate) fn each<T: Send>(self, items: Vec<T>, work: impl Fn(T) + Sync) {
        let count = self.0.get().min(items.len());
        let queue = Mutex::new(items.into_iter());
        let drain = || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(item) = next else { return };
                work(item);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..count {
                scope.spawn(drain);
            }
            drain();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        for count in [1, 2, 7] {
            let mut places = vec![0u32; 100];
            let items: Vec<_> = places.iter_mut().enumerate().collect();
            Threads::new(NonZeroUsize::new(count).unwrap())
                .each(items, |(index, place)| *place += u32::try_from(index).unwrap());
            assert_eq!(places, (0..100).collect::<Vec<u32>>());
        }
        Threads::available().each(Vec::<u8>::new(), |_| {});
    }
}
