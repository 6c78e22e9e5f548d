//! Proofs that hold, and some that do not; some announced by a reporter.

use alloy::primitives::{Address, B256};
use tradewind_proto::challenge::{Challenge, LEAF, Size, element, next_seed};
use tradewind_proto::evidence::{Epoch, topic};
use tradewind_proto::ids::DeviceId;

use super::{Draw, step};
use crate::call::{Call, Step};
use crate::court::abi::{Report, Statement, Vote};
use crate::court::proofs::{
    Named, Opened, Roots, fault, leaf_index, report_of, root_over, said_twice, voted_twice,
};
use crate::reference::Reference;
use crate::statement::Signed;

impl Draw<'_> {
    /// A device with a stake, mostly.
    fn accused(&mut self, model: &Reference) -> Option<Named> {
        let (_, device) = self.device(model, |id, _| model.at_stake(id) != 0)?;
        let provider = if self.one_in(25) { self.anyone() } else { device.provider };
        Some(Named { provider, key: device.key })
    }

    /// With a reporter the proof waits until it was announced; without one it goes at once.
    fn reported(&mut self, evidence: B256, proof: impl FnOnce(Report) -> Call) -> Option<Step> {
        if self.one_in(2) {
            let nobody = Report { reporter: Address::ZERO, salt: B256::ZERO };
            return step(self.sender(), proof(nobody));
        }
        let (reporter, salt) = (self.trader(), self.word());
        let call = proof(Report { reporter, salt });
        if self.one_in(8) {
            return step(self.sender(), call);
        }
        let commitment = report_of(reporter, evidence, salt);
        self.proofs.push((commitment, call));
        step(self.sender(), Call::Announce { commitment })
    }

    /// A proof whose announcement lies behind.
    fn announced(&mut self, model: &Reference) -> Option<Step> {
        let at = self
            .proofs
            .iter()
            .position(|(commitment, _)| model.state.court.announced.contains_key(commitment))?;
        let (_, call) = self.proofs.swap_remove(at);
        step(self.sender(), call)
    }

    pub(super) fn prove_element(&mut self, model: &Reference) -> Option<Step> {
        if let Some(step) = self.announced(model) {
            return Some(step);
        }
        let device = self.accused(model)?;
        let current = model.epoch();
        let known: Vec<u64> = (current.saturating_sub(12)..=current)
            .filter(|epoch| model.epoch_start(*epoch).is_ok_and(|start| model.seed_at(start).is_some()))
            .collect();
        let epoch = match self.below(12) {
            0 => current,
            1 => u64::MAX,
            _ if !known.is_empty() => self.pick(&known),
            _ => return None,
        };
        let mut proof = self.opened(model, device, epoch);
        if self.one_in(5) {
            self.spoil_proof(&mut proof);
        }
        let digest = model.setting.domains.at_court(&proof.product.statement(device.id(), epoch));
        proof.product.signed = self.signed(device.key, digest);
        let evidence = fault(device.id(), "element", epoch);
        self.reported(evidence, |report| Call::ProveElement { proof, report })
    }

    /// A product of which only the opened leaf was ever computed: the rest is made up.
    fn opened(&mut self, model: &Reference, device: Named, epoch: u64) -> Opened {
        let size = Size::new(if self.one_in(3) { 512 } else { 256 }).expect("a size");
        let rounds = 1 + self.index(3);
        let mut roots: Vec<B256> = (0..rounds).map(|_| self.word()).collect();
        let round = self.index(rounds);
        let (row, column) = (self.below(size.get().into()), self.below(size.get().into()));
        let path: Vec<B256> = (0..size.depth()).map(|_| self.word()).collect();
        let mut leaf: Vec<u8> = (0..LEAF / 8).flat_map(|_| self.word().0).collect();
        let beacon = model.epoch_start(epoch).ok().and_then(|start| model.seed_at(start)).unwrap_or_default();
        let challenge = Challenge {
            court: model.setting.bench.court(),
            beacon,
            device: DeviceId::new(device.id()),
            epoch: Epoch::new(epoch),
        };
        let seed = roots[..round].iter().fold(challenge.seed(), |seed, root| next_seed(seed, *root));
        let (line, place) = (u32::try_from(row).expect("a row"), u32::try_from(column).expect("a column"));
        let wrong = if self.one_in(6) { 0 } else { 1 };
        let claimed = element(seed, line, place, size) + wrong;
        let from = 4 * (place as usize % LEAF);
        leaf[from..from + 4].copy_from_slice(&claimed.to_be_bytes());
        roots[round] = root_over(&leaf, leaf_index(size.get(), row, column), &path);
        let product = Roots { size: size.get(), roots, signed: Signed::ABSENT };
        let round = u64::try_from(round).expect("few rounds");
        Opened { device, epoch, product, round, row, column, leaf, path }
    }

    fn spoil_proof(&mut self, proof: &mut Opened) {
        match self.below(9) {
            0 => proof.product.size = 300,
            1 => proof.product.roots.clear(),
            2 => proof.product.roots = vec![B256::ZERO; 65],
            3 => proof.round = 3,
            4 => proof.row = 512,
            5 => drop(proof.path.pop()),
            6 => drop(proof.leaf.pop()),
            7 => proof.leaf[0] ^= 1,
            _ => proof.path[0] = self.word(),
        }
    }

    pub(super) fn prove_roots(&mut self, model: &Reference) -> Option<Step> {
        let device = self.accused(model)?;
        let epoch = self.below(model.epoch() + 2);
        let size = if self.one_in(8) { 128 } else { 256 };
        let roots = vec![self.word()];
        let others = if self.one_in(4) { roots.clone() } else { vec![self.word()] };
        let mut list = |roots: Vec<B256>| {
            let unsigned = Roots { size, roots, signed: Signed::ABSENT };
            let digest = model.setting.domains.at_court(&unsigned.statement(device.id(), epoch));
            Roots { signed: self.signed(device.key, digest), ..unsigned }
        };
        let (one, other) = (list(roots), list(others));
        let evidence = fault(device.id(), "roots", epoch);
        self.reported(evidence, |report| Call::ProveRoots { device, epoch, one, other, report })
    }

    pub(super) fn prove_statements(&mut self, model: &Reference) -> Option<Step> {
        let device = self.accused(model)?;
        let sequence = self.below(3);
        let one = Statement { topic: topic::heartbeat(), device: device.id(), sequence, body: self.word() };
        let mut other = Statement { body: self.word(), ..one };
        match self.below(12) {
            0 => other.body = one.body,
            1 => other.sequence += 1,
            2 => other.topic = topic::pong(),
            3 => other.device = self.word(),
            _ => {}
        }
        let mut sign =
            |statement: &Statement| self.signed(device.key, model.setting.domains.at_court(statement));
        let (signed, other_signed) = (sign(&one), sign(&other));
        let evidence = said_twice(&one);
        let (one, other) = ((one, signed), (other, other_signed));
        self.reported(evidence, |report| Call::ProveStatements { device, one, other, report })
    }

    pub(super) fn prove_votes(&mut self, model: &Reference) -> Option<Step> {
        let seats: Vec<u32> = model.state.court.seats.keys().copied().collect();
        let staked: Vec<u32> = seats.iter().filter(|seat| model.seat_stake(**seat) != 0).copied().collect();
        let from = if staked.is_empty() || self.one_in(5) { seats } else { staked };
        if from.is_empty() {
            return None;
        }
        let left = from
            .iter()
            .copied()
            .find(|seat| model.seat_stake(*seat) != 0 && model.state.court.seats[seat].free_at.is_some());
        let seat = left.filter(|_| self.one_in(2)).unwrap_or_else(|| self.pick(&from));
        let ids: Vec<B256> = model.state.court.cases.keys().copied().collect();
        let case = if ids.is_empty() { self.word() } else { self.pick(&ids) };
        let one = Vote { caseId: case, instance: 1, finding: 1, transcript: self.word() };
        let mut other = Vote { finding: 2, ..one };
        match self.below(8) {
            0 => other.finding = one.finding,
            1 => other.instance = 2,
            2 => other.caseId = self.word(),
            3 => (other.finding, other.transcript) = (one.finding, self.word()),
            _ => {}
        }
        let key = model.key_of(seat);
        let mut sign = |vote: &Vote| self.signed(key, model.setting.domains.at_court(vote));
        let (signed, other_signed) = (sign(&one), sign(&other));
        let evidence = voted_twice(seat, &one);
        let seat = if self.one_in(15) { 1_000 } else { seat };
        let (one, other) = ((one, signed), (other, other_signed));
        self.reported(evidence, |report| Call::ProveVotes { seat, one, other, report })
    }
}
