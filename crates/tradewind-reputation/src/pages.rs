//! Which pages are still to be read: from every seat's newest back to those that are known or too old.

use std::collections::{HashSet, VecDeque};

use tradewind_mesh::PeerAddr;
use tradewind_proto::evidence::Seat;
use tradewind_proto::testimony::PageRef;

/// Pages that wait at most; what finds no room is told of again by the next bulletin.
const WAITING: usize = 4_096;
/// Pages that are remembered as read or bad.
const REMEMBERED: usize = 1 << 20;

/// A page to fetch.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) seat: Seat,
    pub(crate) page: PageRef,
    pub(crate) from: PeerAddr,
}

/// The pages to fetch, in order.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    waiting: VecDeque<Wanted>,
    known: HashSet<[u8; 32]>,
}

impl Reading {
    /// Puts a page on the list, unless it was read or waits already.
    pub(crate) fn want(&mut self, wanted: Wanted) {
        let hash = wanted.page.hash;
        let is_waiting = self.waiting.iter().any(|other| other.page.hash == hash);
        if !self.known.contains(&hash) && !is_waiting && self.waiting.len() < WAITING {
            self.waiting.push_back(wanted);
        }
    }

    /// The next page.
    pub(crate) fn next(&mut self) -> Option<Wanted> {
        self.waiting.pop_front()
    }

    /// It could not be fetched now.
    pub(crate) fn again(&mut self, wanted: Wanted) {
        self.waiting.push_back(wanted);
    }

    /// It is done with.
    pub(crate) fn done(&mut self, hash: [u8; 32]) {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(hash);
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}
