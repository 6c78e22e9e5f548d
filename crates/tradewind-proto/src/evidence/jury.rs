//! Who judges: levels by the number of seats, draws, and the count of votes.
//!
//! ```text
//! snapshot 0..N ─ seed 1 ─► PreDraw (33, or all) ─ commits ─ seed 2 ─► Committee (11) ─ 8 agree ─► Verdict
//!        └──────────── less the committee ───────────────── seed 3 ─► Appeal (21) ──── 15 agree ─► Verdict
//! ```
//!
//! A draw is a Fisher-Yates shuffle that stops early: nobody is drawn twice. An appeal is made from a [`Committee`] and leaves
//! its seats out, so that the two share none. Fewer committed seats than a committee needs give none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use alloy_primitives::{Address, B256, U256};
use serde::{Deserialize, Serialize};

use super::{Court, Finding, Instance, Sworn, Vote, digest, word};
use crate::ids::CaseId;

/// A watcher's seat, by its number in the frozen snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seat(u32);

impl Seat {
    /// The seat with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How many seats judge. Fields of the parameter version on chain; these are the starting values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jury {
    /// Seats that watch a case before anybody knows who will judge.
    pub predraw: u32,
    /// Seats of the committee.
    pub committee: u32,
    /// Equal findings that make the committee's verdict.
    pub quorum: u32,
    /// Seats of the appeal.
    pub appeal: u32,
    /// Equal findings that make the appeal's verdict.
    pub appeal_quorum: u32,
}

impl Default for Jury {
    fn default() -> Self {
        Self { predraw: 33, committee: 11, quorum: 8, appeal: 21, appeal_quorum: 15 }
    }
}

/// How much the watchers may do, by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Too few for a committee: they only observe.
    Observe,
    /// Enough for a committee, which jails and freezes; too few for an appeal beside it, so nobody is slashed by votes.
    Jail,
    /// Enough for both.
    Full,
}

impl Jury {
    /// The level of a snapshot with `seats` seats.
    #[must_use]
    pub const fn level(&self, seats: u32) -> Level {
        if seats < self.committee {
            Level::Observe
        } else if seats < self.committee.saturating_add(self.appeal) {
            Level::Jail
        } else {
            Level::Full
        }
    }

    /// Draws who watches `case`, from a snapshot of `seats`.
    #[must_use]
    pub fn predraw(&self, seed: B256, case: CaseId, seats: u32) -> PreDraw {
        PreDraw(draw(seed, case, Stage::PreDraw, snapshot(seats), self.predraw))
    }
}

/// Seats that probe a device in an epoch in which nobody accuses it.
const SENTINELS: u32 = 3;

/// Draws who probes the device of `case`, the device's slot in an epoch, while there is no case.
#[must_use]
pub fn sentinels(seed: B256, case: CaseId, seats: u32) -> Vec<Seat> {
    draw(seed, case, Stage::Sentinels, snapshot(seats), SENTINELS)
}

/// The seats that watch a case and may commit, in the order in which they were drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreDraw(Vec<Seat>);

impl PreDraw {
    /// In the order of the draw.
    #[must_use]
    pub fn seats(&self) -> &[Seat] {
        &self.0
    }

    /// Draws who judges, among those that committed; none where they are too few. Strangers among `committed` do not count.
    #[must_use]
    pub fn committee(
        &self,
        jury: &Jury,
        seed: B256,
        case: CaseId,
        committed: &BTreeSet<Seat>,
    ) -> Option<Committee> {
        let candidates: Vec<Seat> = self.0.iter().copied().filter(|seat| committed.contains(seat)).collect();
        let drawn = draw(seed, case, Stage::Committee, candidates, jury.committee);
        is_full(&drawn, jury.committee).then_some(Committee(drawn))
    }
}

/// The first jury.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committee(Vec<Seat>);

impl Committee {
    /// In the order of the draw.
    #[must_use]
    pub fn seats(&self) -> &[Seat] {
        &self.0
    }

    /// Draws who judges again, from the whole snapshot less this committee; none where they are too few.
    #[must_use]
    pub fn appeal(&self, jury: &Jury, seed: B256, case: CaseId, seats: u32) -> Option<Appeal> {
        let voters: BTreeSet<Seat> = self.0.iter().copied().collect();
        let candidates = snapshot(seats).into_iter().filter(|seat| !voters.contains(seat)).collect();
        let drawn = draw(seed, case, Stage::Appeal, candidates, jury.appeal);
        is_full(&drawn, jury.appeal).then_some(Appeal(drawn))
    }

    /// What the votes of its seats come to.
    #[must_use]
    pub fn verdict(&self, jury: &Jury, case: CaseId, court: &Court, votes: &[SeatVote]) -> Verdict {
        count(&self.0, jury.quorum, (case, Instance::Committee), court, votes)
    }
}

/// The second jury.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appeal(Vec<Seat>);

impl Appeal {
    /// In the order of the draw.
    #[must_use]
    pub fn seats(&self) -> &[Seat] {
        &self.0
    }

    /// What the votes of its seats come to.
    #[must_use]
    pub fn verdict(&self, jury: &Jury, case: CaseId, court: &Court, votes: &[SeatVote]) -> Verdict {
        count(&self.0, jury.appeal_quorum, (case, Instance::Appeal), court, votes)
    }
}

/// A vote, the seat that claims it, and that seat's key in the snapshot.
#[derive(Debug, Clone, Copy)]
pub struct SeatVote<'a> {
    /// Which seat.
    pub seat: Seat,
    /// The seat's key.
    pub key: Address,
    /// Its vote.
    pub vote: &'a Sworn<Vote>,
}

/// What a jury says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A quorum found the accusation true.
    Guilty,
    /// A quorum found it untrue.
    Clear,
    /// No quorum: nobody is slashed, nobody is credited.
    Unknown,
}

/// What a seat commits to before the committee is drawn.
#[must_use]
pub fn commitment(case: CaseId, seat: Seat, finding: Finding, transcript: B256, salt: B256) -> B256 {
    digest([case.get(), word(seat.get().into()), word(u64::from(finding as u8)), transcript, salt])
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Stage {
    PreDraw = 1,
    Committee = 2,
    Appeal = 3,
    Sentinels = 4,
}

fn snapshot(seats: u32) -> Vec<Seat> {
    (0..seats).map(Seat).collect()
}

fn is_full(drawn: &[Seat], wanted: u32) -> bool {
    u32::try_from(drawn.len()) == Ok(wanted)
}

/// The first `wanted` of the shuffled candidates, or all of them.
fn draw(seed: B256, case: CaseId, stage: Stage, mut candidates: Vec<Seat>, wanted: u32) -> Vec<Seat> {
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(candidates.len());
    for index in 0..wanted {
        let left = candidates.len() - index;
        let position = u64::try_from(index).unwrap_or(u64::MAX);
        let random = digest([seed, case.get(), word(u64::from(stage as u8)), word(position)]);
        let offset: usize = (U256::from_be_bytes(random.0) % U256::from(left)).to();
        candidates.swap(index, index + offset);
    }
    candidates.truncate(wanted);
    candidates
}

/// Counts one vote a seat. A seat that swore to two different votes has none: it is a case of its own.
fn count(
    seats: &[Seat],
    quorum: u32,
    slot: (CaseId, Instance),
    court: &Court,
    votes: &[SeatVote],
) -> Verdict {
    let mut said: BTreeMap<Seat, Option<Vote>> = BTreeMap::new();
    for SeatVote { seat, key, vote } in votes {
        let fits = (vote.body.case, vote.body.instance) == slot && seats.contains(seat);
        if !fits || vote.verify(court, *key).is_err() {
            continue;
        }
        said.entry(*seat)
            .and_modify(|earlier| *earlier = earlier.filter(|earlier| *earlier == vote.body))
            .or_insert(Some(vote.body));
    }
    let agree = |finding| said.values().flatten().filter(|vote| vote.finding == finding).count();
    let is_quorum = |count: usize| u32::try_from(count).is_ok_and(|count| count >= quorum.max(1));
    match (is_quorum(agree(Finding::Guilty)), is_quorum(agree(Finding::Clear))) {
        (true, false) => Verdict::Guilty,
        (false, true) => Verdict::Clear,
        (true, true) | (false, false) => Verdict::Unknown,
    }
}
