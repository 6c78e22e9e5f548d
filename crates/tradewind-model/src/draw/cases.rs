//! Calls about cases: each goes by a plan, so that all ends come about, and now and then somebody strays from it.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, keccak256};
use alloy::sol_types::SolValue as _;
use tradewind_chain::client::bindings::abi;

use super::{Draw, step};
use crate::call::{Call, Step, n96};
use crate::court::abi::{Vote, said};
use crate::court::cases::{self, BENCH, CLEAR, COMMITTEE, Case, GUILTY, Stage, UNKNOWN, Voice};
use crate::court::verdicts::Ruling;
use crate::leases::{Lease, Phase};
use crate::reference::Reference;
use crate::terms::share_up;

/// Cases beside each other.
const MANY: usize = 4;

/// An accusation, before its case is open.
#[derive(Debug, Clone)]
pub(crate) struct Charge {
    opener: Address,
    device: B256,
    epoch: u64,
    claim: u128,
    salt: B256,
    /// What it is to find.
    bent: Option<u8>,
}

impl Charge {
    fn commitment(&self) -> B256 {
        keccak256((self.opener, self.device, self.epoch, self.salt).abi_encode_params())
    }
}

/// How a case is to go.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Members of the panel that commit.
    turnout: usize,
    /// What most of them find; nobody votes where it is zero.
    finding: u8,
    /// One of the committee keeps silent.
    withheld: bool,
    /// What the bench of an appeal finds, if somebody appeals.
    bench: Option<u8>,
    /// By positions: finding, transcript, salt.
    commitments: BTreeMap<u8, (u8, B256, B256)>,
}

impl Draw<'_> {
    /// When the first case can go on.
    pub(super) fn next_wake(&mut self, model: &Reference) -> Option<u64> {
        if !self.charges.is_empty() {
            return Some(model.state.now);
        }
        let cases = model.state.court.cases.iter();
        cases.filter_map(|(id, case)| Some(self.plans.get(id)?.wake(model, case))).min()
    }

    /// The next step of some case that can go on, or of a new one.
    pub(super) fn case(&mut self, model: &Reference) -> Option<Step> {
        if let Some(at) = self.charges.len().checked_sub(1) {
            return self.charge(model, at);
        }
        // What a judgement owes comes before the next judgement: leases and their windows end meanwhile.
        if self.via.is_none()
            && self.one_in(3)
            && let Some(step) = self.harm(model)
        {
            return Some(step);
        }
        let now = model.state.now;
        let open: Vec<B256> = model.state.court.cases.keys().copied().collect();
        let ready: Vec<B256> = open
            .iter()
            .filter(|id| {
                self.plans.get(*id).is_some_and(|plan| plan.wake(model, &model.state.court.cases[*id]) <= now)
            })
            .copied()
            .collect();
        if open.len() < MANY && (ready.is_empty() || self.one_in(5)) {
            return self.accuse(model);
        }
        if ready.is_empty() {
            return None;
        }
        let id = self.pick(&ready);
        let case = model.state.court.cases[&id].clone();
        self.go_on(model, id, &case)
    }

    /// A new accusation, mostly of a device that a lease holds.
    fn accuse(&mut self, model: &Reference) -> Option<Step> {
        if model.state.court.cases.len() <= 2
            && self.one_in(3)
            && let Some(step) = self.blackout(model)
        {
            return Some(step);
        }
        let drawn = self.below(12);
        let awaited = self.awaited(model).filter(|_| !self.one_in(10));
        let (device, epoch, lease) = match (awaited, drawn) {
            (Some(found), _) => found,
            (None, 0..=4) => self.of_a_lease(model)?,
            (None, 5..=10) => self.of_an_epidemic(model)?,
            (None, _) => self.of_anything(model)?,
        };
        let seats = model.roster(epoch).len();
        let too_few = seats < usize::from(model.usable_version().1.jailSeats);
        let taken = model.find_case(model.case_id(device, epoch)).is_some();
        if (too_few || taken) && !self.one_in(20) {
            return None;
        }
        let opener = match &lease {
            Some(lease) if self.one_in(2) => lease.terms.buyer(),
            _ => {
                let traders = [&self.cast.buyers[..], &self.cast.watchers].concat();
                self.able(model, model.setting.fee_token, 20_000, &traders)
            }
        };
        let claim = match (&lease, self.below(4)) {
            (_, 0) => 0,
            (Some(lease), 1) => lease.claim,
            _ => self.amount(200_000),
        };
        // Whoever broke a reservation owes its fee only where the device is cleared; the breaker needs many guilty.
        let bent = match lease {
            Some(lease) if lease.buyer_fee => Some(CLEAR),
            Some(_) if !self.one_in(4) => Some(GUILTY),
            None if drawn <= 10 && !self.one_in(4) => Some(GUILTY),
            _ => None,
        };
        let salt = self.word();
        self.charges.push(Charge { opener, device, epoch, claim, salt, bent });
        self.charge(model, self.charges.len() - 1)
    }

    /// Epochs in which a lease worked, that may be judged and are not yet.
    fn epochs_of(model: &Reference, lease: &Lease) -> Vec<u64> {
        let current = model.epoch();
        let open = |epoch: &u64| {
            let worked = model.epoch_start(*epoch).is_ok_and(|start| ran_about(model, lease, start));
            worked && model.find_case(model.case_id(lease.terms.raw.device, *epoch)).is_none()
        };
        (current.saturating_sub(3)..=current).filter(open).collect()
    }

    /// A lease that waits for the court: its dispute is in no case, or its buyer broke a reservation.
    fn awaited(&mut self, model: &Reference) -> Option<(B256, u64, Option<Lease>)> {
        let waits = |lease: &&Lease| {
            let joined = model.state.court.joined.contains_key(&lease.terms.id);
            let broken = lease.buyer_fee && !lease.buyer_fee_owed;
            !lease.terms.raw.device.is_zero() && ((lease.disputed && !joined) || broken)
        };
        let leases: Vec<&Lease> = model.state.leases.values().filter(waits).collect();
        if leases.is_empty() {
            return None;
        }
        let lease = leases[self.index(leases.len())].clone();
        let epochs = Self::epochs_of(model, &lease);
        if epochs.is_empty() { None } else { Some((lease.terms.raw.device, self.pick(&epochs), Some(lease))) }
    }

    /// A device in an epoch in which a lease held it.
    fn of_a_lease(&mut self, model: &Reference) -> Option<(B256, u64, Option<Lease>)> {
        let leases: Vec<&Lease> =
            model.state.leases.values().filter(|lease| !lease.terms.raw.device.is_zero()).collect();
        if leases.is_empty() {
            return None;
        }
        let lease = leases[self.index(leases.len())].clone();
        let epochs = Self::epochs_of(model, &lease);
        let epoch = if epochs.is_empty() { model.epoch() } else { self.pick(&epochs) };
        Some((lease.terms.raw.device, epoch, Some(lease)))
    }

    /// A device of an owner that is not accused yet, in an epoch in which others are.
    fn of_an_epidemic(&mut self, model: &Reference) -> Option<(B256, u64, Option<Lease>)> {
        let current = model.epoch();
        let known: Vec<u64> = model
            .state
            .court
            .down
            .iter()
            .map(|(epoch, _)| *epoch)
            .chain(model.state.court.cases.values().map(|case| case.epoch))
            .filter(|epoch| current.saturating_sub(*epoch) <= 3)
            .collect();
        if known.is_empty() {
            return None;
        }
        let epoch = self.pick(&known);
        let accused = |device: &B256| model.find_case(model.case_id(*device, epoch)).is_some();
        let owners: Vec<Address> = model
            .state
            .devices
            .iter()
            .filter(|(id, _)| accused(id))
            .map(|(_, known)| known.provider)
            .collect();
        let fresh = model.state.devices.iter().filter(|(_, known)| !owners.contains(&known.provider));
        let devices: Vec<B256> = fresh.map(|(id, _)| *id).collect();
        if devices.is_empty() { None } else { Some((self.pick(&devices), epoch, None)) }
    }

    /// Devices of several owners are accused of the same epoch at once: more than the breaker lets burn.
    fn blackout(&mut self, model: &Reference) -> Option<Step> {
        let epoch = model.epoch();
        let paid: Vec<B256> = Self::shown(model).into_keys().collect();
        let mut owners: BTreeMap<Address, B256> = BTreeMap::new();
        for (device, known) in &model.state.devices {
            let taken = model.find_case(model.case_id(*device, epoch)).is_some();
            if model.at_stake(*device) != 0 && paid.contains(device) && !taken {
                owners.insert(known.provider, *device);
            }
        }
        let seats = model.roster(epoch).len();
        if owners.len() < 3 || seats < usize::from(model.usable_version().1.fullSeats) {
            return None;
        }
        let traders = [&self.cast.buyers[..], &self.cast.watchers].concat();
        for device in owners.into_values() {
            let opener = self.able(model, model.setting.fee_token, 20_000, &traders);
            let (claim, salt) = (self.amount(20_000), self.word());
            self.charges.push(Charge { opener, device, epoch, claim, salt, bent: Some(GUILTY) });
        }
        self.charge(model, self.charges.len() - 1)
    }

    fn of_anything(&mut self, model: &Reference) -> Option<(B256, u64, Option<Lease>)> {
        let current = model.epoch();
        let devices: Vec<B256> = model.state.devices.keys().copied().collect();
        let device = if devices.is_empty() || self.one_in(6) { self.word() } else { self.pick(&devices) };
        let epoch = match self.below(4) {
            0 => current + 1,
            1 => current.saturating_sub(4),
            _ => current,
        };
        Some((device, epoch, None))
    }

    fn charge(&mut self, model: &Reference, at: usize) -> Option<Step> {
        let charge = self.charges[at].clone();
        let commitment = charge.commitment();
        let announced = model.state.court.announced.contains_key(&commitment);
        if !announced && !self.one_in(15) {
            return step(self.sender(), Call::Announce { commitment });
        }
        self.open_case(model, at)
    }

    /// An accusation that is announced and opened in one block, which is too soon.
    pub(super) fn at_once(&mut self, model: &Reference) -> Vec<Call> {
        if self.charges.is_empty() {
            self.accuse(model);
        }
        let Some(at) = self.charges.len().checked_sub(1) else { return Vec::new() };
        let announced = Call::Announce { commitment: self.charges[at].commitment() };
        std::iter::once(announced).chain(self.open_case(model, at).map(|step| step.call)).collect()
    }

    fn open_case(&mut self, model: &Reference, at: usize) -> Option<Step> {
        let charge = self.charges.remove(at);
        let Charge { opener, device, epoch, claim, salt, bent } = charge;
        let id = model.case_id(device, epoch);
        let mut plan = self.plan();
        if let Some(finding) = bent {
            plan = Plan { turnout: 48, finding, withheld: false, ..plan };
        }
        self.plans.entry(id).or_insert(plan);
        let rules = model.usable_version().1;
        let bond = share_up(claim, rules.bondBps).max(rules.minBond.to());
        let amount = bond + u128::from(rules.committee) * rules.transcriptFee.to::<u128>();
        let statement = said::OpenCase { opener, device, epoch, claim: n96(claim), salt };
        let (sender, auth) = self.paid(model, (model.setting.fee_token, opener, amount), &statement);
        step(sender, Call::OpenCase { opener, device, epoch, claim, salt, auth })
    }

    fn plan(&mut self) -> Plan {
        let finding = match self.below(16) {
            0..=9 => GUILTY,
            10..=12 => CLEAR,
            13 | 14 => UNKNOWN,
            _ => 0,
        };
        let bench = match self.below(8) {
            0 | 1 => Some(GUILTY),
            2 => Some(CLEAR),
            3 => Some(0),
            _ => None,
        };
        let turnout = if self.one_in(12) { self.index(3) } else { 3 + self.index(6) };
        Plan { turnout, finding, withheld: self.one_in(4), bench, commitments: BTreeMap::new() }
    }

    /// What the plan has next.
    fn go_on(&mut self, model: &Reference, id: B256, case: &Case) -> Option<Step> {
        let now = model.state.now;
        if case.until().is_some_and(|until| now > until) && case.stage != Stage::Panel {
            return step(self.sender(), Call::Lapse { case: id });
        }
        match case.stage {
            Stage::Opened => self.by_lot(model, case.opened_at, Call::DrawPanel { case: id }),
            Stage::Panel => self.panel(model, id, case),
            Stage::Voting => self.vote(model, id, case),
            Stage::Convicted if now <= case.vote_by && self.one_in(2) => self.vote(model, id, case),
            Stage::Convicted => self.appeal(model, id, case),
            Stage::Appealing if case.bench_by == 0 => {
                self.by_lot(model, case.appealed_at, Call::DrawBench { case: id })
            }
            Stage::Appealing => self.vote_bench(model, id, case),
            Stage::Decided if now <= case.vote_by && self.one_in(3) => self.vote(model, id, case),
            Stage::Decided if case.slash_due && self.one_in(2) => self.census_of(model, case.epoch),
            Stage::Decided if case.slash_due && !self.one_in(4) => {
                step(self.sender(), Call::Execute { case: id })
            }
            Stage::Decided => step(self.sender(), Call::CloseCase { case: id }),
            Stage::Closed => step(self.sender(), Call::Execute { case: id }),
        }
    }

    /// The call that draws by lot, once the beacon knows the first round after `time`.
    fn by_lot(&mut self, model: &Reference, time: u64, call: Call) -> Option<Step> {
        let round = model.round_at(time + 1);
        if model.state.court.beacon.seeds.contains_key(&round) || self.one_in(25) {
            return step(self.sender(), call);
        }
        step(self.sender(), Call::Advance { round })
    }

    fn panel(&mut self, model: &Reference, id: B256, case: &Case) -> Option<Step> {
        let now = model.state.now;
        if now > case.commit_by() {
            let over = case.until().is_some_and(|until| now > until);
            let few = case.commitments.len() < usize::from(case.rules.committee);
            if over || (few && !self.one_in(4)) {
                return step(self.sender(), Call::Lapse { case: id });
            }
            return self.by_lot(model, case.commit_by(), Call::DrawCommittee { case: id });
        }
        let missing: Vec<u8> = (0..case.panel.len())
            .map(|at| u8::try_from(at).expect("a short panel"))
            .filter(|at| !case.commitments.contains_key(at))
            .collect();
        let position = if missing.is_empty() || self.one_in(15) {
            u64::try_from(case.panel.len()).expect("a short panel") - self.below(2)
        } else {
            self.pick(&missing).into()
        };
        self.commit(model, id, case, position)
    }

    fn commit(&mut self, model: &Reference, id: B256, case: &Case, position: u64) -> Option<Step> {
        let place = u8::try_from(position).expect("a short panel");
        let at = usize::from(place).min(case.panel.len() - 1);
        let number = case.panel[at];
        let seat = case.roster[number as usize];
        let lean = self.plans.get(&id).map_or(GUILTY, |plan| plan.finding.max(GUILTY));
        let finding = match self.below(24) {
            0 => 0,
            1 => UNKNOWN + 1,
            2..=4 => u8::try_from(1 + self.below(3)).expect("small"),
            _ => lean,
        };
        let opening = (finding, self.word(), self.word());
        let commitment = if self.one_in(40) {
            B256::ZERO
        } else {
            cases::commitment(id, number, opening.0, opening.1, opening.2)
        };
        if let Some(plan) = self.plans.get_mut(&id) {
            plan.commitments.entry(place).or_insert(opening);
            let opening = plan.commitments[&place];
            let commitment = if commitment.is_zero() {
                plan.commitments.remove(&place);
                commitment
            } else {
                cases::commitment(id, number, opening.0, opening.1, opening.2)
            };
            let key = model.key_of(seat);
            let said = said::Commitment { caseId: id, commitment };
            let signed = self.signed(key, model.setting.domains.at_court(&said));
            let sender = if self.one_in(3) { key } else { self.sender() };
            return step(sender, Call::CommitFinding { case: id, position, commitment, signed });
        }
        None
    }

    fn ballot(&mut self, model: &Reference, id: B256, case: &Case, position: u8) -> Voice {
        let known = self.plans.get(&id).and_then(|plan| plan.commitments.get(&position)).copied();
        let (mut finding, transcript, mut salt) = known.unwrap_or((GUILTY, B256::ZERO, B256::ZERO));
        match self.below(40) {
            0 => finding = finding % 3 + 1,
            1 => salt = self.word(),
            _ => {}
        }
        let seat = case.panelist(position.min(u8::try_from(case.panel.len()).expect("a short panel") - 1));
        let vote = Vote { caseId: id, instance: COMMITTEE, finding, transcript };
        let signed = self.signed(model.key_of(seat), model.setting.domains.at_court(&vote));
        Voice { position, finding, transcript, salt, signed }
    }

    fn vote(&mut self, model: &Reference, id: B256, case: &Case) -> Option<Step> {
        let plan = self.plans.get(&id)?;
        let missing = plan.missing(case);
        let mut positions: Vec<u8> =
            case.committee.iter().copied().filter(|at| missing.contains(at)).collect();
        if positions.is_empty() || self.one_in(20) {
            // Somebody who is not asked, or not asked again.
            positions = vec![self.pick(&(0..6).collect::<Vec<u8>>())];
        }
        let count = 1 + self.index(positions.len());
        let ballots = positions[..count].iter().map(|at| self.ballot(model, id, case, *at)).collect();
        step(self.sender(), Call::Vote { case: id, ballots })
    }

    fn appeal(&mut self, model: &Reference, id: B256, case: &Case) -> Option<Step> {
        let traders = [&self.cast.providers[..], &self.cast.watchers].concat();
        let amount = u128::from(case.rules.bench) * case.rules.transcriptFee.to::<u128>();
        let appellant = self.able(model, model.setting.fee_token, amount, &traders);
        let statement = said::Appeal { caseId: id, appellant };
        let (sender, auth) = self.paid(model, (model.setting.fee_token, appellant, amount), &statement);
        step(sender, Call::Appeal { case: id, appellant, auth })
    }

    fn vote_bench(&mut self, model: &Reference, id: B256, case: &Case) -> Option<Step> {
        let lean = self.plans.get(&id)?.bench.unwrap_or(GUILTY).max(GUILTY);
        let mut ballots = Vec::new();
        for at in 0..case.bench.len() {
            let position = u8::try_from(at).expect("a short bench");
            if !self.one_in(3) {
                ballots.push(self.bench_ballot(model, id, case, position, lean));
            }
        }
        if self.one_in(12) {
            let next = u8::try_from(case.bench.len()).expect("a short bench");
            let position = if self.one_in(2) { next } else { 9 };
            ballots.push(Voice { position, ..self.bench_ballot(model, id, case, 0, lean) });
        }
        step(self.sender(), Call::VoteBench { case: id, ballots })
    }

    fn bench_ballot(&mut self, model: &Reference, id: B256, case: &Case, position: u8, lean: u8) -> Voice {
        let finding = if self.one_in(6) { u8::try_from(self.below(5)).expect("small") } else { lean };
        // A vote that is not one spoils the call.
        let finding = if (GUILTY..=UNKNOWN).contains(&finding) || self.one_in(4) { finding } else { UNKNOWN };
        let transcript = self.word();
        let vote = Vote { caseId: id, instance: BENCH, finding, transcript };
        let key = model.key_of(case.judge(position));
        let signed = self.signed(key, model.setting.domains.at_court(&vote));
        Voice { position, finding, transcript, salt: B256::ZERO, signed }
    }

    /// Any call about any case, whatever its stage.
    pub(super) fn stray(&mut self, model: &Reference) -> Option<Step> {
        let (open, done) = (&model.state.court.cases, &model.done);
        let from = if self.one_in(4) && !done.is_empty() { done } else { open };
        let ids: Vec<B256> = from.keys().copied().collect();
        if ids.is_empty() {
            return None;
        }
        let deferred = ids.iter().copied().find(|id| from[id].slash_due && model.tripped(from[id].epoch));
        if let Some(case) = deferred.filter(|_| self.one_in(2)) {
            return step(self.sender(), Call::Execute { case });
        }
        let id = self.pick(&ids);
        let case = from[&id].clone();
        let named = if self.one_in(12) { self.word() } else { id };
        let call = match self.below(12) {
            0 => Call::DrawPanel { case: named },
            1 => Call::DrawCommittee { case: named },
            2 => Call::DrawBench { case: named },
            3 => Call::Lapse { case: named },
            4 => Call::Execute { case: named },
            5 => Call::CloseCase { case: named },
            6 => return self.appeal(model, named, &case),
            7 if !case.panel.is_empty() => {
                let position = self.below(case.panel.len() as u64);
                return self.commit(model, id, &case, position);
            }
            8 if !case.panel.is_empty() => return self.vote(model, id, &case),
            9 if !case.bench.is_empty() => return self.vote_bench(model, id, &case),
            10 => Call::Vote { case: named, ballots: Vec::new() },
            _ => Call::VoteBench { case: named, ballots: Vec::new() },
        };
        step(self.sender(), call)
    }

    // --- who was harmed ----------------------------------------------------------------------------------------

    /// A lease of an accused device: disputed, joined to the case, ruled on.
    pub(super) fn harm(&mut self, model: &Reference) -> Option<Step> {
        let all = || model.state.court.cases.iter().chain(&model.done);
        let at_work = |lease: &Lease, case: &Case| {
            let start = model.epoch_start(case.epoch);
            lease.terms.raw.device == case.device && start.is_ok_and(|start| ran_about(model, lease, start))
        };
        let can_gain = |lease: &Lease, case: &Case| {
            let room = lease.terms.compensation_cap > lease.compensated;
            let joined = model.state.court.joined.contains_key(&lease.terms.id);
            let ruled = model.ruling(lease.terms.id) != Ruling::Unknown;
            (!lease.dispute_used && case.outcome == 0 && room) || (lease.disputed && (!joined || ruled))
        };
        let pairs: Vec<(B256, &Case, &Lease)> = model
            .state
            .leases
            .values()
            .flat_map(|lease| all().map(move |(id, case)| (*id, case, lease)))
            .filter(|(_, case, lease)| at_work(lease, case) && can_gain(lease, case))
            .collect();
        if pairs.is_empty() || self.one_in(12) {
            if !self.one_in(10) {
                return None;
            }
            let (_, terms) = self.lease(model, |lease| lease.disputed)?;
            let known: Vec<B256> = all().map(|(id, _)| *id).collect();
            let case = if known.is_empty() || self.one_in(4) { self.word() } else { self.pick(&known) };
            return step(self.sender(), Call::JoinCase { case, terms });
        }
        let ruled = pairs
            .iter()
            .position(|(_, _, lease)| lease.disputed && model.ruling(lease.terms.id) != Ruling::Unknown);
        let disputed = pairs.iter().position(|(_, _, lease)| lease.disputed);
        let at = ruled.or(disputed).unwrap_or_else(|| self.index(pairs.len()));
        let (id, _, lease) = pairs[at];
        let lease = lease.clone();
        let terms = lease.terms.raw.clone();
        let joined = model.state.court.joined.contains_key(&lease.terms.id);
        if !lease.dispute_used {
            return self.dispute_about(model, &lease, terms);
        }
        if lease.disputed && (!joined || self.one_in(10)) {
            return step(self.sender(), Call::JoinCase { case: id, terms });
        }
        let ruled = lease.disputed && model.ruling(lease.terms.id) != Ruling::Unknown;
        if ruled { step(self.sender(), Call::Resolve { terms }) } else { None }
    }

    /// Leases that were paid, shown to the breaker; now and then one that was not.
    pub(super) fn census(&mut self, model: &Reference) -> Option<Step> {
        let epochs: Vec<u64> = model.state.court.cases.values().map(|case| case.epoch).collect();
        let epoch = match self.below(12) {
            0 => model.epoch() + 3,
            1 => u64::MAX,
            _ if !epochs.is_empty() => self.pick(&epochs),
            _ => model.epoch(),
        };
        self.census_of(model, epoch)
    }

    /// For each device that was paid, a lease that shows it.
    fn shown(model: &Reference) -> BTreeMap<B256, abi::LeaseTerms> {
        let all = model.closed.values().chain(model.state.leases.values());
        let paid = all.filter(|lease| lease.paid != 0 && !lease.terms.raw.device.is_zero());
        paid.map(|lease| (lease.terms.raw.device, lease.terms.raw.clone())).collect()
    }

    fn census_of(&mut self, model: &Reference, epoch: u64) -> Option<Step> {
        let shown = Self::shown(model);
        let keep = self.below(4);
        let mut leases: Vec<abi::LeaseTerms> =
            shown.into_values().filter(|_| keep != 0 || self.one_in(2)).collect();
        if self.one_in(5) {
            leases.extend(self.lease(model, |lease| lease.paid == 0).map(|(_, terms)| terms));
        }
        step(self.sender(), Call::Count { epoch, leases })
    }
}

impl Plan {
    /// Positions of the committee that are still to vote.
    fn missing(&self, case: &Case) -> Vec<u8> {
        if self.finding == 0 {
            return Vec::new();
        }
        let silent = if self.withheld { case.committee.first().copied() } else { None };
        let opens = |at: &u8| {
            let made = self.commitments.get(at);
            made.is_some_and(|(finding, ..)| (GUILTY..=UNKNOWN).contains(finding))
        };
        let waits = |at: &&u8| !case.votes.contains_key(*at) && Some(**at) != silent && opens(at);
        case.committee.iter().filter(waits).copied().collect()
    }

    /// When the plan has something to do.
    fn wake(&self, model: &Reference, case: &Case) -> u64 {
        let now = model.state.now;
        let lots = |time: u64| model.round_time(model.round_at(time + 1));
        let over = case.until().map_or(u64::MAX, |until| until + 1);
        let next = match case.stage {
            Stage::Opened => lots(case.opened_at),
            Stage::Panel => {
                let enough = case.commitments.len() >= self.turnout.min(case.panel.len());
                let few = case.commitments.len() < usize::from(case.rules.committee);
                match () {
                    () if now <= case.commit_by() && !enough => now,
                    () if few => over,
                    () => lots(case.commit_by()),
                }
            }
            Stage::Voting if !self.missing(case).is_empty() => now,
            Stage::Convicted if self.bench.is_some() => now,
            Stage::Appealing if case.bench_by == 0 => lots(case.appealed_at),
            Stage::Appealing if self.bench != Some(0) => now,
            Stage::Voting | Stage::Convicted | Stage::Appealing => over,
            Stage::Decided | Stage::Closed if case.slash_due => {
                let deferred = case.decided_at + u64::from(case.rules.deferSpan);
                if model.tripped(case.epoch) { deferred } else { now }
            }
            Stage::Decided | Stage::Closed => case.vote_by.max(case.bench_by) + 1,
        };
        next.min(over)
    }
}

/// The lease ran in the epoch that began at `start`, or in one beside it: the rule itself is asked of the model.
fn ran_about(model: &Reference, lease: &Lease, start: u64) -> bool {
    let span = model.setting.bench.epoch_span;
    let ended = match lease.phase {
        Phase::Settled | Phase::Closed => lease.due_at.saturating_sub(lease.rules.bondDelay.into()),
        Phase::Open | Phase::NoticedUnpaid | Phase::NoticedReclaim | Phase::Closing => lease.terms.end,
    };
    lease.opened_at < start + span + span / 4 && ended.min(lease.terms.end) + span / 4 > start
}
