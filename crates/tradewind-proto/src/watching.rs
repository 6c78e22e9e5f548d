//! What a watcher's node does next: about a case that its seats are drawn for, and about a device that looks dead.
//!
//! ```text
//! a case on chain ─► Docket ─── steps(now, found) ──► Commit: own seats, once their findings are stored
//!                                                 ├─► Cast: own ballots, shown to the other watchers; after a while
//!                                                 │   Vote: with those that others show, in one transaction
//!                                                 └─► draws, lapses, slash, close: anyone's, after a patience of its own
//! pings ─► Suspicion ─ enough in a row without an answer ─► open a case
//! transcript ─► judge(promised, connected) ─► the seat's finding
//! ```
//!
//! Steps follow from the chain alone and doing one twice is doing it once, so a node that was killed goes on where the case stands.
//!
//! Failure paths: a seat without a stored finding says nothing; what came too late is never tried; a device that promised nothing,
//! or a watcher that reaches nobody else either, makes "down" into [`Finding::Unknown`], which punishes nobody.
//!
//! ```
//! use tradewind_proto::evidence::Finding;
//! use tradewind_proto::watching::judge;
//!
//! assert_eq!(judge(Finding::Guilty, true, true), Finding::Guilty);
//! assert_eq!(judge(Finding::Guilty, true, false), Finding::Unknown);
//! assert_eq!(judge(Finding::Clear, false, false), Finding::Clear);
//! ```

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::evidence::Finding;
use crate::units::{Seconds, Timestamp};

/// Where a case stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseStage {
    /// There is none.
    #[default]
    None,
    /// Waits for its panel.
    Opened,
    /// The panel watches and commits.
    Panel,
    /// The committee votes.
    Voting,
    /// Guilty, unless an appeal says otherwise.
    Convicted,
    /// Waits for the bench.
    Appealing,
    /// For good.
    Decided,
    /// Fees and bonds are paid out.
    Closed,
}

impl CaseStage {
    const ALL: [Self; 8] = [
        Self::None,
        Self::Opened,
        Self::Panel,
        Self::Voting,
        Self::Convicted,
        Self::Appealing,
        Self::Decided,
        Self::Closed,
    ];

    /// The stage that the contract numbers so.
    #[must_use]
    pub fn numbered(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Not yet.
    #[default]
    Open,
    /// The accusation holds.
    Guilty,
    /// It does not.
    Clear,
    /// Nobody could tell.
    Unknown,
}

impl Outcome {
    /// The outcome that the contract numbers so.
    #[must_use]
    pub const fn numbered(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Open),
            1 => Some(Self::Guilty),
            2 => Some(Self::Clear),
            3 => Some(Self::Unknown),
            _ => None,
        }
    }
}

/// The windows of a case's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// From the opening until the last commitment.
    pub commit: Seconds,
    /// From the committee's draw until its last vote, and how late the draw may be.
    pub vote: Seconds,
    /// From a conviction until the last appeal.
    pub appeal: Seconds,
    /// From the bench's draw until its last vote, and how late that draw may be.
    pub bench: Seconds,
    /// Seats that a committee needs.
    pub committee: u32,
}

/// A case as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Docket {
    /// Where it stands.
    pub stage: CaseStage,
    /// Guilty for good and not slashed yet.
    pub slash_due: bool,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// The committee's last instant.
    pub vote_by: Option<Timestamp>,
    /// When the committee found it guilty.
    pub convicted_at: Option<Timestamp>,
    /// When it was appealed.
    pub appealed_at: Option<Timestamp>,
    /// The bench's last instant.
    pub bench_by: Option<Timestamp>,
    /// Who committed, a bit for each of the panel's positions.
    pub committed: u64,
    /// Who decides, the same way.
    pub committee: u64,
    /// Whose vote is in, the same way.
    pub revealed: u64,
    /// Whose vote on the bench is in, a bit for each of its positions.
    pub heard: u32,
    /// Own positions in the panel.
    pub panel: Vec<u8>,
    /// Own positions on the bench.
    pub bench: Vec<u8>,
}

/// Something to do at the court. Positions are the node's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Draw who watches.
    DrawPanel,
    /// Commit this position to its finding.
    Commit(u8),
    /// Draw who decides.
    DrawCommittee,
    /// Show the others what these positions vote, so that whoever submits first takes it along.
    Cast(Vec<u8>),
    /// Open these positions' commitments.
    Vote(Vec<u8>),
    /// Draw who hears the appeal.
    DrawBench,
    /// Show the others what these positions of the bench vote.
    CastBench(Vec<u8>),
    /// Vote with these positions of the bench.
    VoteBench(Vec<u8>),
    /// The stage ran out.
    Lapse(CaseStage),
    /// Slash.
    Execute,
    /// Pay out.
    Close,
}

const SECOND: Seconds = Seconds::new(1);
/// Others' ballots are waited for no longer than this part of the window.
const GATHER: u64 = 4;

/// Whether a window that ends at `until` is old enough for a node of this patience to submit what it has.
fn is_gathered(now: Timestamp, until: Timestamp, window: Seconds, patience: Seconds) -> bool {
    let wait = SECOND.plus(patience).min(Seconds::new(window.get() / GATHER));
    now >= until.before(window).after(wait)
}

impl Docket {
    /// What to do now. `found` are the panel's positions whose findings are stored; of what anyone may do the node leaves
    /// `patience` to others.
    #[must_use]
    pub fn steps(
        &self,
        now: Timestamp,
        windows: &Windows,
        patience: Seconds,
        found: &BTreeSet<u8>,
    ) -> Vec<Step> {
        let commit_by = self.opened_at.after(windows.commit);
        let draw_by = commit_by.after(windows.vote);
        let ripe = |from: Timestamp| now > from.after(SECOND).after(patience);
        let lapsed = |until: Timestamp| ripe(until).then_some(Step::Lapse(self.stage));
        let mut steps: Vec<Step> = self.votes(now, windows, patience, found).into_iter().collect();
        match self.stage {
            CaseStage::None => {}
            CaseStage::Opened if now > commit_by => steps.extend(lapsed(commit_by)),
            CaseStage::Opened => steps.extend(ripe(self.opened_at).then_some(Step::DrawPanel)),
            CaseStage::Panel if now <= commit_by => {
                let open = self.panel.iter().filter(|at| !is_set(self.committed, **at) && found.contains(at));
                steps.extend(open.map(|at| Step::Commit(*at)));
            }
            CaseStage::Panel if now > draw_by => steps.extend(lapsed(draw_by)),
            CaseStage::Panel => {
                let enough = self.committed.count_ones() >= windows.committee;
                steps.extend((enough && ripe(commit_by)).then_some(Step::DrawCommittee));
            }
            CaseStage::Voting => steps.extend(self.vote_by.and_then(lapsed)),
            CaseStage::Convicted => {
                let until = self.convicted_at.map(|at| at.after(windows.appeal));
                steps.extend(until.and_then(lapsed));
            }
            CaseStage::Appealing => steps.extend(self.appeal(now, windows, patience, ripe)),
            CaseStage::Decided => {
                steps.extend(self.slash_due.then_some(Step::Execute));
                let last = self.vote_by.max(self.bench_by).unwrap_or(self.opened_at);
                steps.extend(ripe(last).then_some(Step::Close));
            }
            CaseStage::Closed => steps.extend(self.slash_due.then_some(Step::Execute)),
        }
        steps
    }

    /// A vote that is withheld earns a strike, also once the others' made the verdict.
    fn votes(
        &self,
        now: Timestamp,
        windows: &Windows,
        patience: Seconds,
        found: &BTreeSet<u8>,
    ) -> Option<Step> {
        let until = self.vote_by.filter(|until| self.stage != CaseStage::Closed && now <= *until)?;
        let drawn = |at: &&u8| is_set(self.committee, **at) && !is_set(self.revealed, **at);
        let own: Vec<u8> = self.panel.iter().filter(drawn).filter(|at| found.contains(at)).copied().collect();
        let step = if is_gathered(now, until, windows.vote, patience) { Step::Vote } else { Step::Cast };
        (!own.is_empty()).then(|| step(own))
    }

    fn appeal(
        &self,
        now: Timestamp,
        windows: &Windows,
        patience: Seconds,
        ripe: impl Fn(Timestamp) -> bool,
    ) -> Option<Step> {
        let appealed_at = self.appealed_at?;
        match self.bench_by {
            None if now <= appealed_at.after(windows.bench) => ripe(appealed_at).then_some(Step::DrawBench),
            None => ripe(appealed_at.after(windows.bench)).then_some(Step::Lapse(self.stage)),
            Some(until) if now <= until => {
                let open = |at: &&u8| !is_set(self.heard.into(), **at);
                let own: Vec<u8> = self.bench.iter().filter(open).copied().collect();
                let is_gathered = is_gathered(now, until, windows.bench, patience);
                let step = if is_gathered { Step::VoteBench } else { Step::CastBench };
                (!own.is_empty()).then(|| step(own))
            }
            Some(until) => ripe(until).then_some(Step::Lapse(self.stage)),
        }
    }
}

fn is_set(mask: u64, position: u8) -> bool {
    mask.checked_shr(position.into()).is_some_and(|bits| bits & 1 == 1)
}

/// What a seat finds, from what its transcript shows. A device that held no lease in the epoch promised nothing; a watcher that
/// reached nobody else in the meantime may be the one that is cut off.
#[must_use]
pub const fn judge(seen: Finding, promised: bool, connected: bool) -> Finding {
    match seen {
        Finding::Guilty if promised && connected => Finding::Guilty,
        Finding::Guilty | Finding::Unknown => Finding::Unknown,
        Finding::Clear => Finding::Clear,
    }
}

/// How long a device has been silent to one watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Suspicion {
    misses: u32,
}

impl Suspicion {
    /// It answered.
    pub const fn heard(&mut self) {
        self.misses = 0;
    }

    /// It did not, although the watcher reached others.
    pub const fn missed(&mut self) {
        self.misses = self.misses.saturating_add(1);
    }

    /// Whether it left `least` questions in a row unanswered.
    #[must_use]
    pub const fn is_due(&self, least: u32) -> bool {
        self.misses >= least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows {
        commit: Seconds::new(10),
        vote: Seconds::new(10),
        appeal: Seconds::new(20),
        bench: Seconds::new(10),
        committee: 3,
    };

    fn at(second: u64) -> Timestamp {
        Timestamp::from_unix(1_000 + second)
    }

    fn docket(stage: CaseStage) -> Docket {
        Docket { stage, opened_at: at(0), panel: vec![1, 4], ..Docket::default() }
    }

    fn steps(docket: &Docket, second: u64) -> Vec<Step> {
        docket.steps(at(second), &WINDOWS, Seconds::ZERO, &BTreeSet::from([1, 4]))
    }

    #[test]
    fn a_panel_is_drawn_after_its_beacon_round_and_lapses_after_its_window() {
        let case = docket(CaseStage::Opened);
        assert_eq!(steps(&case, 1), []);
        assert_eq!(steps(&case, 2), [Step::DrawPanel]);
        assert_eq!(steps(&case, 11), []);
        assert_eq!(steps(&case, 12), [Step::Lapse(CaseStage::Opened)]);
    }

    #[test]
    fn a_seat_commits_once_and_only_what_it_found() {
        let case = Docket { committed: 0b10, ..docket(CaseStage::Panel) };
        assert_eq!(steps(&case, 5), [Step::Commit(4)]);
        let found = BTreeSet::from([1]);
        assert_eq!(case.steps(at(5), &WINDOWS, Seconds::ZERO, &found), []);
        assert_eq!(steps(&case, 11), [], "too late, and too few committed for a committee");
        let full = Docket { committed: 0b1_0110, ..case };
        assert_eq!(steps(&full, 12), [Step::DrawCommittee]);
        assert_eq!(steps(&full, 22), [Step::Lapse(CaseStage::Panel)]);
    }

    #[test]
    fn a_drawn_seat_votes_also_after_the_verdict_but_never_late() {
        let voting = Docket {
            committee: 0b1_0010,
            revealed: 0b10,
            vote_by: Some(at(30)),
            convicted_at: Some(at(25)),
            ..docket(CaseStage::Convicted)
        };
        assert_eq!(steps(&voting, 28), [Step::Vote(vec![4])]);
        assert_eq!(steps(&voting, 31), []);
        assert_eq!(steps(&voting, 47), [Step::Lapse(CaseStage::Convicted)]);
    }

    #[test]
    fn ballots_are_shown_before_they_are_submitted() {
        let voting = Docket { committee: 0b10, vote_by: Some(at(30)), ..docket(CaseStage::Voting) };
        let patient = |patience, second| {
            voting.steps(at(second), &WINDOWS, Seconds::new(patience), &BTreeSet::from([1, 4]))
        };
        assert_eq!(patient(0, 20), [Step::Cast(vec![1])]);
        assert_eq!(patient(0, 21), [Step::Vote(vec![1])]);
        assert_eq!(patient(5, 21), [Step::Cast(vec![1])]);
        assert_eq!(patient(5, 22), [Step::Vote(vec![1])], "a fourth of the window, whatever the patience");
    }

    #[test]
    fn a_bench_votes_until_its_end() {
        let appealing =
            Docket { appealed_at: Some(at(40)), bench: vec![0, 2], ..docket(CaseStage::Appealing) };
        assert_eq!(steps(&appealing, 42), [Step::DrawBench]);
        let drawn = Docket { bench_by: Some(at(52)), heard: 1, ..appealing };
        assert_eq!(steps(&drawn, 42), [Step::CastBench(vec![2])]);
        assert_eq!(steps(&drawn, 45), [Step::VoteBench(vec![2])]);
        assert_eq!(steps(&drawn, 54), [Step::Lapse(CaseStage::Appealing)]);
    }

    #[test]
    fn a_decided_case_is_slashed_at_once_and_closed_after_the_last_vote() {
        let decided = Docket {
            slash_due: true,
            vote_by: Some(at(30)),
            revealed: 0b1_0010,
            committee: 0b1_0010,
            ..docket(CaseStage::Decided)
        };
        assert_eq!(steps(&decided, 29), [Step::Execute]);
        assert_eq!(steps(&decided, 32), [Step::Execute, Step::Close]);
        assert_eq!(steps(&Docket { stage: CaseStage::Closed, ..decided }, 40), [Step::Execute]);
    }

    #[test]
    fn what_anyone_may_do_waits_for_others_first() {
        let case = docket(CaseStage::Opened);
        let patient = |second| case.steps(at(second), &WINDOWS, Seconds::new(3), &BTreeSet::new());
        assert_eq!((patient(4), patient(5)), (vec![], vec![Step::DrawPanel]));
    }

    #[test]
    fn silence_is_suspicious_after_enough_questions_in_a_row() {
        let mut suspicion = Suspicion::default();
        suspicion.missed();
        suspicion.heard();
        suspicion.missed();
        assert!(!suspicion.is_due(2));
        suspicion.missed();
        assert!(suspicion.is_due(2));
    }
}
