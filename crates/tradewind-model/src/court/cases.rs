//! A case's way from its opening to a decision: panel, committee, bench.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::{SolStruct as _, SolValue as _};
use tradewind_proto::evidence::{Committee, Jury, PreDraw, Seat as Number};

use super::abi::{CaseView, Court, CourtParameters, Decision, Trial, Vote, said};
use super::{Convictions, case_of};
use crate::book::Pot;
use crate::call::{Call, n40, n96};
use crate::reference::Reference;
use crate::refusal::{Refusal, refuse, require};
use crate::statement::{Auth, Signed};
use crate::terms::share_up;

pub(crate) const GUILTY: u8 = 1;
pub(crate) const CLEAR: u8 = 2;
pub(crate) const UNKNOWN: u8 = 3;

pub(crate) const COMMITTEE: u8 = 1;
pub(crate) const BENCH: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Opened = 1,
    Panel = 2,
    Voting = 3,
    Convicted = 4,
    Appealing = 5,
    Decided = 6,
    Closed = 7,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) device: B256,
    pub(crate) epoch: u64,
    pub(crate) opener: Address,
    pub(crate) version: u32,
    pub(crate) rules: CourtParameters,
    pub(crate) stage: Stage,
    /// The frozen roster's seats, by their numbers.
    pub(crate) roster: Vec<u32>,
    pub(crate) claim: u128,
    pub(crate) bond: u128,
    pub(crate) prepaid: u128,
    /// Numbers, in the order of the draw.
    pub(crate) panel: Vec<u32>,
    /// By the panel's positions.
    pub(crate) commitments: BTreeMap<u8, B256>,
    pub(crate) committee: BTreeSet<u8>,
    pub(crate) votes: BTreeMap<u8, u8>,
    /// Votes that came before the committee agreed.
    pub(crate) guilty: u8,
    pub(crate) clear: u8,
    pub(crate) appellant: Address,
    pub(crate) appeal_prepaid: u128,
    pub(crate) bench: Vec<u32>,
    pub(crate) heard: BTreeSet<u8>,
    pub(crate) bench_guilty: u8,
    pub(crate) bench_clear: u8,
    pub(crate) opened_at: u64,
    pub(crate) vote_by: u64,
    pub(crate) convicted_at: Option<u64>,
    pub(crate) appealed_at: u64,
    pub(crate) bench_by: u64,
    pub(crate) decided_at: u64,
    /// 0 until it is decided.
    pub(crate) outcome: u8,
    pub(crate) slash_due: bool,
}

impl Case {
    fn seats(&self) -> u32 {
        u32::try_from(self.roster.len()).expect("a roster is short")
    }

    pub(crate) fn commit_by(&self) -> u64 {
        self.opened_at + u64::from(self.rules.commitWindow)
    }

    /// The seat at a position of the panel.
    pub(crate) fn panelist(&self, position: u8) -> u32 {
        self.roster[self.panel[usize::from(position)] as usize]
    }

    pub(crate) fn judge(&self, position: u8) -> u32 {
        self.roster[self.bench[usize::from(position)] as usize]
    }

    pub(crate) fn jury(&self) -> Jury {
        Jury {
            predraw: self.rules.panel.into(),
            committee: self.rules.committee.into(),
            quorum: self.rules.quorum.into(),
            appeal: self.rules.bench.into(),
            appeal_quorum: self.rules.benchQuorum.into(),
        }
    }

    /// The last instant of its stage, if it has one.
    pub(crate) fn until(&self) -> Option<u64> {
        let Self { rules, stage, .. } = self;
        match stage {
            Stage::Opened => Some(self.commit_by()),
            Stage::Panel => Some(self.commit_by() + u64::from(rules.voteWindow)),
            Stage::Voting => Some(self.vote_by),
            Stage::Convicted => self.convicted_at.map(|at| at + u64::from(rules.appealWindow)),
            Stage::Appealing if self.bench_by == 0 => Some(self.appealed_at + u64::from(rules.benchWindow)),
            Stage::Appealing => Some(self.bench_by),
            Stage::Decided | Stage::Closed => None,
        }
    }

    pub(crate) fn view(&self) -> CaseView {
        let mask = |positions: &mut dyn Iterator<Item = &u8>| positions.fold(0u64, |mask, at| mask | 1 << at);
        let downs = self.votes.iter().filter(|(_, finding)| **finding == GUILTY).map(|(at, _)| at);
        let trial = Trial {
            opener: self.opener,
            openedAt: n40(self.opened_at),
            version: self.version,
            stage: self.stage as u8,
            seats: u16::try_from(self.roster.len()).expect("a roster is short"),
            device: self.device,
            epoch: self.epoch,
            claim: n96(self.claim),
            bond: n96(self.bond),
            prepaid: n96(self.prepaid),
            committed: mask(&mut self.commitments.keys()),
            committee: mask(&mut self.committee.iter()),
            revealed: mask(&mut self.votes.keys()),
            downs: mask(&mut { downs }),
            appellant: self.appellant,
            appealPrepaid: n96(self.appeal_prepaid),
        };
        let decision = Decision {
            voteBy: n40(self.vote_by),
            convictedAt: n40(self.convicted_at.unwrap_or(0)),
            appealedAt: n40(self.appealed_at),
            benchBy: n40(self.bench_by),
            heard: u32::try_from(mask(&mut self.heard.iter())).expect("a bench is short"),
            guilty: self.guilty,
            clear: self.clear,
            benchGuilty: self.bench_guilty,
            benchClear: self.bench_clear,
            outcome: self.outcome,
            slashDue: self.slash_due,
            decidedAt: n40(self.decided_at),
            panel: words(&self.panel),
            bench: words(&self.bench),
        };
        CaseView { trial, decision }
    }
}

/// Numbers of 16 bits, 16 a word, lowest first.
fn words<const N: usize>(numbers: &[u32]) -> [U256; N] {
    let mut words = [U256::ZERO; N];
    for (at, number) in numbers.iter().enumerate() {
        words[at / 16] |= U256::from(*number) << (16 * (at % 16));
    }
    words
}

/// A vote on its way.
#[derive(Debug, Clone)]
pub(crate) struct Voice {
    pub(crate) position: u8,
    pub(crate) finding: u8,
    pub(crate) transcript: B256,
    pub(crate) salt: B256,
    pub(crate) signed: Signed,
}

/// What a seat commits to.
pub(crate) fn commitment(case: B256, number: u32, finding: u8, transcript: B256, salt: B256) -> B256 {
    alloy::primitives::keccak256((case, number, U256::from(finding), transcript, salt).abi_encode_params())
}

impl Reference {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller sends only what belongs here")]
    pub(crate) fn at_cases(&mut self, sender: Address, call: &Call) -> Result<(), Refusal> {
        match call {
            Call::OpenCase { opener, device, epoch, claim, salt, auth } => {
                self.open_case(sender, *opener, (*device, *epoch), *claim, *salt, auth)
            }
            Call::DrawPanel { case } => self.draw_panel(*case),
            Call::CommitFinding { case, position, commitment, signed } => {
                self.commit(sender, *case, *position, *commitment, signed)
            }
            Call::DrawCommittee { case } => self.draw_committee(*case),
            Call::Vote { case, ballots } => self.vote(*case, ballots),
            Call::Appeal { case, appellant, auth } => self.appeal(sender, *case, *appellant, auth),
            Call::DrawBench { case } => self.draw_bench(*case),
            Call::VoteBench { case, ballots } => self.vote_bench(*case, ballots),
            Call::Lapse { case } => self.lapse(*case),
            other => unreachable!("{} is about no case", other.name()),
        }
    }

    pub(crate) fn find_case(&self, id: B256) -> Option<&Case> {
        self.state.court.cases.get(&id).or_else(|| self.done.get(&id))
    }

    /// The case, if it is at this stage.
    pub(crate) fn at_stage(&self, id: B256, stage: Stage) -> Result<Case, Refusal> {
        match self.find_case(id) {
            Some(case) if case.stage == stage => Ok(case.clone()),
            Some(case) => refuse("WrongStage", &[&id, &(case.stage as u8)]),
            None => refuse("WrongStage", &[&id, &0]),
        }
    }

    fn not_after(&self, until: u64) -> Result<(), Refusal> {
        let now = self.state.now;
        require(now <= until, "CaseTooLate", &[&until, &now])
    }

    /// The seed of a round that nobody knew at `time`.
    fn lots_after(&self, time: u64) -> Result<B256, Refusal> {
        match self.seed_at(time + 1) {
            Some(seed) => Ok(seed),
            None => refuse("LotsUnknown", &[&(time + 1)]),
        }
    }

    fn open_case(
        &mut self,
        sender: Address,
        opener: Address,
        (device, epoch): (B256, u64),
        claim: u128,
        salt: B256,
        auth: &Auth,
    ) -> Result<(), Refusal> {
        let id = self.case_id(device, epoch);
        require(self.find_case(id).is_none(), "CaseExists", &[&id])?;
        require(self.state.devices.contains_key(&device), "UnknownDevice", &[&device])?;
        let (version, rules) = self.usable_version();
        let (rules, current) = (rules.clone(), self.epoch());
        let admissible = epoch <= current && current - epoch <= u64::from(rules.admissible);
        require(admissible, "NotAdmissible", &[&epoch, &current])?;
        let roster = self.roster(epoch).to_vec();
        let enough = roster.len() >= usize::from(rules.jailSeats);
        require(enough, "TooFewSeats", &[&roster.len(), &rules.jailSeats])?;
        self.redeem(alloy::primitives::keccak256((opener, device, epoch, salt).abi_encode_params()))?;
        let bond = share_up(claim, rules.bondBps).max(rules.minBond.to());
        let prepaid = u128::from(rules.committee) * rules.transcriptFee.to::<u128>();
        let action = said::OpenCase { opener, device, epoch, claim: n96(claim), salt }.eip712_hash_struct();
        let (token, court) = (self.setting.fee_token, Pot::Balance(self.setting.court));
        self.collect(sender, (token, opener, bond + prepaid), action, auth)?;
        self.pay(token, court, Pot::CaseBond(id), bond);
        self.pay(token, court, Pot::Transcripts(id), prepaid);
        self.tell(&Court::CaseOpened { caseId: id, device, epoch, opener, bond: n96(bond) });
        self.state.court.cases.insert(
            id,
            Case {
                device,
                epoch,
                opener,
                version,
                rules,
                stage: Stage::Opened,
                roster,
                claim,
                bond,
                prepaid,
                panel: Vec::new(),
                commitments: BTreeMap::new(),
                committee: BTreeSet::new(),
                votes: BTreeMap::new(),
                guilty: 0,
                clear: 0,
                appellant: Address::ZERO,
                appeal_prepaid: 0,
                bench: Vec::new(),
                heard: BTreeSet::new(),
                bench_guilty: 0,
                bench_clear: 0,
                opened_at: self.state.now,
                vote_by: 0,
                convicted_at: None,
                appealed_at: 0,
                bench_by: 0,
                decided_at: 0,
                outcome: 0,
                slash_due: false,
            },
        );
        Ok(())
    }

    fn predraw(case: &Case, id: B256, seed: B256) -> PreDraw {
        case.jury().predraw(seed, case_of(id), case.seats())
    }

    fn draw_panel(&mut self, id: B256) -> Result<(), Refusal> {
        let mut case = self.at_stage(id, Stage::Opened)?;
        self.not_after(case.commit_by())?;
        let drawn = Self::predraw(&case, id, self.lots_after(case.opened_at)?);
        case.panel = drawn.seats().iter().map(|seat| seat.get()).collect();
        case.stage = Stage::Panel;
        self.state.court.cases.insert(id, case);
        Ok(())
    }

    fn commit(
        &mut self,
        sender: Address,
        id: B256,
        position: u64,
        commitment: B256,
        signed: &Signed,
    ) -> Result<(), Refusal> {
        let mut case = self.at_stage(id, Stage::Panel)?;
        self.not_after(case.commit_by())?;
        let place = u8::try_from(position).ok().filter(|place| usize::from(*place) < case.panel.len());
        let Some(place) = place else { return refuse("NotDrawn", &[&id, &position]) };
        let fresh = !case.commitments.contains_key(&place) && !commitment.is_zero();
        require(fresh, "AlreadyCommitted", &[&id, &position])?;
        let seat = case.panelist(place);
        require(self.seat_stake(seat) != 0, "NotDrawn", &[&id, &position])?;
        let key = self.key_of(seat);
        let digest = self.setting.domains.at_court(&said::Commitment { caseId: id, commitment });
        if sender != key {
            self.check_key(key, digest, signed)?;
        }
        case.commitments.insert(place, commitment);
        self.state.court.cases.insert(id, case);
        Ok(())
    }

    fn draw_committee(&mut self, id: B256) -> Result<(), Refusal> {
        let mut case = self.at_stage(id, Stage::Panel)?;
        let (now, commit_by) = (self.state.now, case.commit_by());
        let vote_window = u64::from(case.rules.voteWindow);
        require(now > commit_by, "CaseTooEarly", &[&(commit_by + 1), &now])?;
        self.not_after(commit_by + vote_window)?;
        let (committed, needed) = (case.commitments.len(), case.rules.committee);
        require(committed >= needed.into(), "TooFewCommitted", &[&committed, &needed])?;
        let seed = self.lots_after(commit_by)?;
        let drawn = self.committee(&case, id, seed).expect("enough committed");
        case.committee = drawn.seats().iter().map(|number| position(&case.panel, number.get())).collect();
        case.vote_by = now + vote_window;
        case.stage = Stage::Voting;
        self.state.court.cases.insert(id, case);
        Ok(())
    }

    /// The committee that `seed` draws among those that committed.
    fn committee(&self, case: &Case, id: B256, seed: B256) -> Option<Committee> {
        let first = self.seed_at(case.opened_at + 1)?;
        let number = |place: &u8| Number::new(case.panel[usize::from(*place)]);
        let committed = case.commitments.keys().map(number).collect();
        Self::predraw(case, id, first).committee(&case.jury(), seed, case_of(id), &committed)
    }

    fn vote(&mut self, id: B256, ballots: &[Voice]) -> Result<(), Refusal> {
        let drawn = self.find_case(id).filter(|case| !case.committee.is_empty());
        let Some(case) = drawn.cloned() else { return refuse("NotDrawn", &[&id, &0]) };
        self.not_after(case.vote_by)?;
        let voting = case.stage == Stage::Voting;
        let mut it = case;
        for cast in ballots {
            self.hear(id, &mut it, cast)?;
        }
        let (guilty, clear, quorum) = (it.guilty, it.clear, it.rules.quorum);
        self.state.court.cases.insert(id, it);
        if voting && guilty >= quorum {
            self.convict(id);
        } else if voting && clear >= quorum {
            self.decide(id, CLEAR);
        }
        Ok(())
    }

    /// A ballot opens the commitment of its position.
    fn hear(&self, id: B256, it: &mut Case, cast: &Voice) -> Result<(), Refusal> {
        let Voice { position, finding, transcript, salt, .. } = cast;
        require(it.committee.contains(position), "NotDrawn", &[&id, position])?;
        if it.votes.contains_key(position) {
            return Ok(());
        }
        let opened = commitment(id, it.panel[usize::from(*position)], *finding, *transcript, *salt);
        require(it.commitments[position] == opened, "InvalidBallot", &[position])?;
        if !self.has_voice(id, it.panelist(*position), COMMITTEE, cast)? {
            return Ok(());
        }
        it.votes.insert(*position, *finding);
        if it.stage == Stage::Voting {
            it.guilty += u8::from(*finding == GUILTY);
            it.clear += u8::from(*finding == CLEAR);
        }
        Ok(())
    }

    /// Whether the seat's signed vote counts: one without a stake has no voice.
    fn has_voice(&self, id: B256, seat: u32, instance: u8, cast: &Voice) -> Result<bool, Refusal> {
        require((GUILTY..=UNKNOWN).contains(&cast.finding), "InvalidBallot", &[&cast.position])?;
        let vote = Vote { caseId: id, instance, finding: cast.finding, transcript: cast.transcript };
        self.check_key(self.key_of(seat), self.setting.domains.at_court(&vote), &cast.signed)?;
        Ok(self.seat_stake(seat) != 0)
    }

    fn appeal(&mut self, sender: Address, id: B256, appellant: Address, auth: &Auth) -> Result<(), Refusal> {
        let mut case = self.at_stage(id, Stage::Convicted)?;
        self.not_after(case.until().expect("a conviction can be appealed until"))?;
        let prepaid = u128::from(case.rules.bench) * case.rules.transcriptFee.to::<u128>();
        let action = said::Appeal { caseId: id, appellant }.eip712_hash_struct();
        let token = self.setting.fee_token;
        self.collect(sender, (token, appellant, prepaid), action, auth)?;
        self.pay(token, Pot::Balance(self.setting.court), Pot::Appeal(id), prepaid);
        case.stage = Stage::Appealing;
        case.appellant = appellant;
        case.appealed_at = self.state.now;
        case.appeal_prepaid = prepaid;
        self.state.court.cases.insert(id, case);
        Ok(())
    }

    fn draw_bench(&mut self, id: B256) -> Result<(), Refusal> {
        let mut case = self.at_stage(id, Stage::Appealing)?;
        require(case.bench_by == 0, "WrongStage", &[&id, &(case.stage as u8)])?;
        let window = u64::from(case.rules.benchWindow);
        self.not_after(case.appealed_at + window)?;
        let seed = self.lots_after(case.appealed_at)?;
        let second = self.seed_at(case.commit_by() + 1).expect("the committee was drawn by it");
        let committee = self.committee(&case, id, second).expect("there was a committee");
        let bench = committee.appeal(&case.jury(), seed, case_of(id), case.seats());
        let bench = bench.expect("a full roster has a bench beside the committee");
        case.bench = bench.seats().iter().map(|seat| seat.get()).collect();
        case.bench_by = self.state.now + window;
        self.state.court.cases.insert(id, case);
        Ok(())
    }

    fn vote_bench(&mut self, id: B256, ballots: &[Voice]) -> Result<(), Refusal> {
        let drawn = self.find_case(id).filter(|case| case.bench_by != 0);
        let Some(case) = drawn.cloned() else { return refuse("NotDrawn", &[&id, &0]) };
        self.not_after(case.bench_by)?;
        let appealing = case.stage == Stage::Appealing;
        let mut it = case;
        for cast in ballots {
            let position = cast.position;
            require(usize::from(position) < it.bench.len(), "NotDrawn", &[&id, &position])?;
            if it.heard.contains(&position) || !self.has_voice(id, it.judge(position), BENCH, cast)? {
                continue;
            }
            it.heard.insert(position);
            it.bench_guilty += u8::from(appealing && cast.finding == GUILTY);
            it.bench_clear += u8::from(appealing && cast.finding == CLEAR);
        }
        let (guilty, clear, quorum) = (it.bench_guilty, it.bench_clear, it.rules.benchQuorum);
        self.state.court.cases.insert(id, it);
        if appealing && guilty >= quorum {
            self.decide(id, GUILTY);
        } else if appealing && clear >= quorum {
            self.decide(id, CLEAR);
        }
        Ok(())
    }

    /// What nobody did in time: an accusation without an answer is unknown, a conviction without an appeal stands.
    fn lapse(&mut self, id: B256) -> Result<(), Refusal> {
        let case = self.find_case(id);
        let stage = case.map_or(0, |case| case.stage as u8);
        let Some((case, until)) = case.and_then(|case| Some((case, case.until()?))) else {
            return refuse("WrongStage", &[&id, &stage]);
        };
        let now = self.state.now;
        require(now > until, "CaseTooEarly", &[&(until + 1), &now])?;
        let outcome = if case.stage == Stage::Convicted { GUILTY } else { UNKNOWN };
        self.decide(id, outcome);
        Ok(())
    }

    fn case(&mut self, id: B256) -> &mut Case {
        self.state.court.cases.get_mut(&id).expect("a case that is not over")
    }

    /// The device opens no lease, and its stake stays, both for a while.
    fn convict(&mut self, id: B256) {
        let now = self.state.now;
        let case = self.case(id);
        case.stage = Stage::Convicted;
        case.convicted_at = Some(now);
        let (device, epoch, rules) = (case.device, case.epoch, case.rules.clone());
        let full = case.roster.len() >= usize::from(rules.fullSeats);
        let convictions = self.state.court.convictions.entry(device).or_default();
        let sentence = rules.jail[convictions.count.min(rules.jail.len() - 1)];
        convictions.count += 1;
        convictions.pending += 1;
        let until = now + u64::from(sentence);
        self.jail(device, until);
        self.freeze(device, now + u64::from(rules.freezeSpan));
        self.tell(&Court::Convicted { caseId: id, device, jailedUntil: n40(until) });
        self.state.court.down.insert((epoch, device));
        if !full {
            self.decide(id, GUILTY);
        }
    }

    /// For good: whoever was convicted and is not guilty goes free.
    fn decide(&mut self, id: B256, outcome: u8) {
        let now = self.state.now;
        let case = self.case(id);
        case.stage = Stage::Decided;
        case.outcome = outcome;
        case.decided_at = now;
        let full = case.roster.len() >= usize::from(case.rules.fullSeats);
        case.slash_due = outcome == GUILTY && full;
        let (device, epoch, convicted_at) = (case.device, case.epoch, case.convicted_at);
        let freeze_span = u64::from(case.rules.freezeSpan);
        match outcome {
            GUILTY => drop(self.state.court.guilty.insert((device, epoch))),
            CLEAR => drop(self.state.court.clear.insert((device, epoch))),
            _ => {}
        }
        if let Some(at) = convicted_at {
            self.settle_freeze(device, outcome == GUILTY, at + freeze_span);
        }
        self.tell(&Court::CaseDecided { caseId: id, outcome });
    }

    /// Final convictions hold a stake as long as each says; the last one that is overturned leaves it to them.
    fn settle_freeze(&mut self, device: B256, stands: bool, until: u64) {
        let its = self.state.court.convictions.get_mut(&device).expect("a conviction");
        its.pending -= 1;
        if stands {
            its.frozen_until = its.frozen_until.max(until);
            return;
        }
        its.count -= 1;
        let Convictions { pending, frozen_until, .. } = *its;
        if pending == 0 {
            self.freeze(device, frozen_until);
        }
    }
}

fn position(panel: &[u32], number: u32) -> u8 {
    let at = panel.iter().position(|other| *other == number).expect("a committee is of the panel");
    u8::try_from(at).expect("a panel is short")
}
