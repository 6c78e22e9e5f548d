//! The directory's rules, without I/O or a clock.
//!
//! ```text
//!              precheck            verify (caller)           insert
//!  record ──▶ expired? stale? ──▶ signature, standing ──▶ newest wins ──▶ Verdict ──▶ forward if Stored
//!             too far? quota?          │ refused                │
//!                                      ▼                        ▼
//!                                   dropped             Stale, OverQuota, …
//! ```
//!
//! A record that ended leaves its sequence behind for a while, so that a replay of an older, still unexpired one does not
//! bring it back. Two bodies under one sequence are equivocation: the larger digest wins everywhere, so that tables agree,
//! and the verdict reports it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tradewind_proto::ids::ProviderId;
use tradewind_proto::units::{Seconds, Timestamp};

use super::record::{Record, RecordDigest, RecordId};
use crate::rate::Bucket;

/// Into how many parts the records are divided for comparison between nodes.
pub const PARTS: usize = 256;

/// What a table accepts at most.
#[derive(Debug, Clone)]
pub struct TableLimits {
    /// Live records in all.
    pub records: usize,
    /// Live records of one writer.
    pub records_per_writer: u32,
    /// Bytes of one record.
    pub record_size: usize,
    /// How far ahead a record may end.
    pub lifetime: Seconds,
    /// Updates of one writer at once.
    pub update_burst: u32,
    /// Updates of one writer a second.
    pub updates_per_second: u32,
}

impl Default for TableLimits {
    fn default() -> Self {
        Self {
            records: 1_000_000,
            records_per_writer: 256,
            record_size: 8 << 10,
            lifetime: Seconds::new(3660),
            update_burst: 512,
            updates_per_second: 32,
        }
    }
}

/// Why a record was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It has ended.
    #[error("the record expired at {}", .expires_at.unix())]
    Expired {
        /// When it ended.
        expires_at: Timestamp,
    },
    /// It claims to live longer than allowed.
    #[error("the record ends at {}, the latest allowed now is {}", .expires_at.unix(), .latest.unix())]
    TooFar {
        /// When it would end.
        expires_at: Timestamp,
        /// The latest end that is accepted now.
        latest: Timestamp,
    },
    /// A record as new or newer is known: a replay, or an echo.
    #[error("sequence {got} is not newer than {known}")]
    Stale {
        /// The sequence that came.
        got: u64,
        /// The newest known.
        known: u64,
    },
    /// It is too large.
    #[error("a record of {size} bytes exceeds {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The writer holds as many records as one may.
    #[error("the writer already has {limit} records")]
    WriterFull {
        /// The limit.
        limit: u32,
    },
    /// The writer updates too often.
    #[error("the writer updates too often")]
    TooOften,
    /// The table is full.
    #[error("the directory is full")]
    Full,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Stored; forward it.
    Stored {
        /// Another record of the same writer, slot and sequence, if this one replaced it: the writer signed both.
        equivocation: Option<Arc<Record>>,
    },
    /// Not stored; forward nothing.
    Rejected(Rejection),
}

/// One line of a part's listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Writer and slot.
    pub id: RecordId,
    /// Its sequence.
    pub sequence: u64,
    /// Its digest.
    pub digest: RecordDigest,
}

/// The digest of one part of the records.
pub type PartDigest = [u8; 16];

/// Some of the [`PARTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PartSet([u8; PARTS / 8]);

impl PartSet {
    /// The parts whose digests differ.
    #[must_use]
    pub fn of_differences(ours: &[PartDigest], theirs: &[PartDigest]) -> Self {
        let mut set = Self::default();
        for (part, _) in
            (0..=u8::MAX).zip(ours.iter().zip(theirs)).filter(|(_, (ours, theirs))| ours != theirs)
        {
            set.0[usize::from(part / 8)] |= 1 << (part % 8);
        }
        set
    }

    /// Whether the set has `part`.
    #[must_use]
    pub const fn contains(&self, part: u8) -> bool {
        self.0[(part / 8) as usize] & (1 << (part % 8)) != 0
    }

    /// Whether the set has no part.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; PARTS / 8]
    }
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    digest: RecordDigest,
    /// `None` once the record ended: only the sequence is remembered.
    record: Option<Arc<Record>>,
    /// When this entry next changes by itself.
    due: Timestamp,
}

#[derive(Debug)]
struct WriterState {
    live: u32,
    entries: u32,
    updates: Bucket,
}

/// All live records, newest per writer and slot.
#[derive(Debug)]
pub struct Table {
    limits: TableLimits,
    entries: BTreeMap<(u8, RecordId), Entry>,
    writers: BTreeMap<ProviderId, WriterState>,
    agenda: BTreeSet<(Timestamp, u8, RecordId)>,
    digests: Vec<Option<PartDigest>>,
    live: usize,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(limits: TableLimits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            writers: BTreeMap::new(),
            agenda: BTreeSet::new(),
            digests: vec![None; PARTS],
            live: 0,
        }
    }

    /// Live records.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.live
    }

    /// Whether there are no live records.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The live record with this id.
    #[must_use]
    pub fn get(&self, id: RecordId) -> Option<Arc<Record>> {
        self.entries.get(&(part_of(id), id))?.record.clone()
    }

    /// All live records.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.entries.values().filter_map(|entry| entry.record.as_ref())
    }

    /// The checks that need no signature: cheap, so made before the dear one.
    ///
    /// # Errors
    /// When [`Table::insert`] would reject the record anyway.
    pub fn precheck(&self, now: Timestamp, record: &Record) -> Result<(), Rejection> {
        let (expires_at, latest) = (record.expires_at, now.after(self.limits.lifetime));
        if expires_at <= now {
            return Err(Rejection::Expired { expires_at });
        }
        if expires_at > latest {
            return Err(Rejection::TooFar { expires_at, latest });
        }
        let (size, limit) = (record.size(), self.limits.record_size);
        if size > limit {
            return Err(Rejection::TooLarge { size, limit });
        }
        match self.entries.get(&(part_of(record.id), record.id)) {
            Some(known) if !is_newer(known, record.sequence, || record.digest()) => {
                Err(Rejection::Stale { got: record.sequence, known: known.sequence })
            }
            Some(known) if known.record.is_some() => Ok(()),
            known => self.room_for(record.id.provider, known.is_some()),
        }
    }

    /// Stores a verified record if it is the newest of its slot and within its writer's quota.
    pub fn insert(&mut self, now: Timestamp, record: Arc<Record>) -> Verdict {
        if let Err(rejection) = self.precheck(now, &record) {
            return Verdict::Rejected(rejection);
        }
        let limits = &self.limits;
        let writer = self.writers.entry(record.id.provider).or_insert_with(|| WriterState {
            live: 0,
            entries: 0,
            updates: Bucket::new(limits.update_burst, limits.updates_per_second),
        });
        if !writer.updates.take(now.unix().saturating_mul(1000)) {
            if writer.entries == 0 {
                self.writers.remove(&record.id.provider);
            }
            return Verdict::Rejected(Rejection::TooOften);
        }
        let part = part_of(record.id);
        let fresh = Entry {
            sequence: record.sequence,
            digest: record.digest(),
            due: record.expires_at,
            record: Some(record.clone()),
        };
        self.agenda.insert((fresh.due, part, record.id));
        let sequence = fresh.sequence;
        let old = self.entries.insert((part, record.id), fresh);
        let was_live = old.as_ref().is_some_and(|old| old.record.is_some());
        writer.entries += u32::from(old.is_none());
        writer.live += u32::from(!was_live);
        self.live += usize::from(!was_live);
        self.forget_digest(part);
        let equivocation = old.and_then(|old| {
            if old.due != record.expires_at {
                self.agenda.remove(&(old.due, part, record.id));
            }
            old.record.filter(|_| old.sequence == sequence)
        });
        Verdict::Stored { equivocation }
    }

    /// Ends what is over at `now` and returns it.
    pub fn purge(&mut self, now: Timestamp) -> Vec<RecordId> {
        let mut ended = Vec::new();
        while let Some(&(due, part, id)) = self.agenda.first() {
            if due > now {
                break;
            }
            self.agenda.pop_first();
            if self.end(part, id, due) {
                ended.push(id);
            }
        }
        ended
    }

    /// The digest of each part, for a peer to compare with its own.
    pub fn digests(&mut self) -> Vec<PartDigest> {
        (0..=u8::MAX).map(|part| self.digest(part)).collect()
    }

    /// The live records of `parts` after `after` up to and with `until`, ordered by part and id, at most `limit`.
    #[must_use]
    pub fn list(
        &self,
        parts: &PartSet,
        after: Option<RecordId>,
        until: Option<RecordId>,
        limit: usize,
    ) -> Vec<Summary> {
        let place = |id: RecordId| (part_of(id), id);
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(place(id)));
        let to = until.map_or(Bound::Unbounded, |id| Bound::Included(place(id)));
        if let (Some(after), Some(until)) = (after, until)
            && place(after) >= place(until)
        {
            return Vec::new();
        }
        self.entries
            .range((from, to))
            .filter(|((part, _), entry)| parts.contains(*part) && entry.record.is_some())
            .map(|((_, id), entry)| Summary { id: *id, sequence: entry.sequence, digest: entry.digest })
            .take(limit)
            .collect()
    }

    /// Whether a record that a peer listed would be news here.
    #[must_use]
    pub fn wants(&self, summary: &Summary) -> bool {
        self.entries
            .get(&(part_of(summary.id), summary.id))
            .is_none_or(|known| is_newer(known, summary.sequence, || summary.digest))
    }

    fn room_for(&self, provider: ProviderId, remembered: bool) -> Result<(), Rejection> {
        let limit = self.limits.records_per_writer;
        if let Some(writer) = self.writers.get(&provider) {
            // Remembered sequences count double at most, so that slots cannot be burned through without end.
            let entries_full = !remembered && writer.entries >= limit.saturating_mul(2);
            if writer.live >= limit || entries_full {
                return Err(Rejection::WriterFull { limit });
            }
        }
        let entries_full = !remembered && self.entries.len() >= self.limits.records.saturating_mul(2);
        if self.live >= self.limits.records || entries_full {
            return Err(Rejection::Full);
        }
        Ok(())
    }

    /// Ends a live record, or forgets a sequence. Whether a live record ended.
    fn end(&mut self, part: u8, id: RecordId, due: Timestamp) -> bool {
        let Some(entry) = self.entries.get_mut(&(part, id)) else { return false };
        let was_live = entry.record.take().is_some();
        let Some(writer) = self.writers.get_mut(&id.provider) else { return false };
        if was_live {
            entry.due = due.after(self.limits.lifetime);
            self.agenda.insert((entry.due, part, id));
            writer.live = writer.live.saturating_sub(1);
            self.live = self.live.saturating_sub(1);
            self.forget_digest(part);
        } else {
            self.entries.remove(&(part, id));
            writer.entries = writer.entries.saturating_sub(1);
            if writer.entries == 0 {
                self.writers.remove(&id.provider);
            }
        }
        was_live
    }

    fn forget_digest(&mut self, part: u8) {
        if let Some(digest) = self.digests.get_mut(usize::from(part)) {
            *digest = None;
        }
    }

    fn digest(&mut self, part: u8) -> PartDigest {
        if let Some(Some(known)) = self.digests.get(usize::from(part)) {
            return *known;
        }
        let mut hasher = blake3::Hasher::new();
        let first = RecordId { provider: ProviderId::default(), slot: 0 };
        let of_part = self.entries.range((part, first)..).take_while(|((of, _), _)| *of == part);
        for (_, entry) in of_part.filter(|(_, entry)| entry.record.is_some()) {
            hasher.update(&entry.digest.0);
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        if let Some(slot) = self.digests.get_mut(usize::from(part)) {
            *slot = Some(digest);
        }
        digest
    }
}

/// The part that an id belongs to; spread by a hash, so that no writer chooses it cheaply.
#[must_use]
pub fn part_of(id: RecordId) -> u8 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(id.provider.account().as_slice());
    hasher.update(&id.slot.to_be_bytes());
    hasher.finalize().as_bytes()[0]
}

fn is_newer(known: &Entry, sequence: u64, digest: impl FnOnce() -> RecordDigest) -> bool {
    match sequence.cmp(&known.sequence) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => known.record.is_some() && digest() > known.digest,
        std::cmp::Ordering::Less => false,
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
