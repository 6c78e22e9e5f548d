//! What is proved without a vote: a wrong element, and two bodies where there may be one.

use alloy::primitives::{Address, B256, I256, U256, keccak256};
use alloy::sol_types::SolValue as _;
use tradewind_proto::challenge::{Challenge, LEAF, MAX_ROUNDS, Size, element, next_seed};
use tradewind_proto::evidence::Epoch;
use tradewind_proto::ids::DeviceId;

use super::abi::{Court, CourtParameters, Report, Statement, Vote, said};
use crate::reference::Reference;
use crate::refusal::{Refusal, refuse, require};
use crate::statement::Signed;

/// A provider's account and a device's key, which make the device's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) provider: Address,
    pub(crate) key: Address,
}

impl Named {
    pub(crate) fn id(self) -> B256 {
        DeviceId::derive(self.provider, self.key).get()
    }
}

/// A list of roots, as somebody signed it.
#[derive(Debug, Clone)]
pub(crate) struct Roots {
    pub(crate) size: u32,
    pub(crate) roots: Vec<B256>,
    pub(crate) signed: Signed,
}

impl Roots {
    pub(crate) fn statement(&self, device: B256, epoch: u64) -> said::ProductRoots {
        said::ProductRoots { device, epoch, size: self.size, roots: self.roots.clone() }
    }
}

/// One element of a signed product, opened.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) device: Named,
    pub(crate) epoch: u64,
    pub(crate) product: Roots,
    pub(crate) round: u64,
    pub(crate) row: u64,
    pub(crate) column: u64,
    pub(crate) leaf: Vec<u8>,
    pub(crate) path: Vec<B256>,
}

/// The evidence of a fault of an epoch.
pub(crate) fn fault(device: B256, kind: &str, epoch: u64) -> B256 {
    keccak256((device, kind.to_owned(), epoch).abi_encode_params())
}

/// The evidence of two statements.
pub(crate) fn said_twice(statement: &Statement) -> B256 {
    keccak256((statement.device, statement.topic, statement.sequence).abi_encode_params())
}

/// The evidence of two votes.
pub(crate) fn voted_twice(seat: u32, vote: &Vote) -> B256 {
    keccak256((seat, vote.caseId, U256::from(vote.instance)).abi_encode_params())
}

/// What a reporter announces.
pub(crate) fn report_of(reporter: Address, evidence: B256, salt: B256) -> B256 {
    keccak256((reporter, evidence, salt).abi_encode_params())
}

/// The root over a leaf at `index`.
pub(crate) fn root_over(leaf: &[u8], index: u64, path: &[B256]) -> B256 {
    let up = |(hash, at): (B256, u64), beside: &B256| {
        let pair = if at % 2 == 0 { [hash, *beside] } else { [*beside, hash] };
        (keccak256(pair.concat()), at / 2)
    };
    path.iter().fold((keccak256(leaf), index), up).0
}

/// Which leaf holds an element.
pub(crate) const fn leaf_index(size: u32, row: u64, column: u64) -> u64 {
    row * (size as u64 / LEAF as u64) + column / LEAF as u64
}

impl Reference {
    /// The share of the newest version that counts.
    fn court_share(&self, of: impl Fn(&CourtParameters) -> u16) -> u16 {
        of(self.usable_version().1)
    }

    /// A reporter is paid who announced the proof in an earlier block.
    fn reporter(&mut self, evidence: B256, report: &Report) -> Result<Address, Refusal> {
        if report.reporter != Address::ZERO {
            self.redeem(report_of(report.reporter, evidence, report.salt))?;
        }
        Ok(report.reporter)
    }

    fn check_roots(&self, device: Named, epoch: u64, product: &Roots) -> Result<Size, Refusal> {
        let rounds = 1..=MAX_ROUNDS;
        let size = Size::new(product.size).ok().filter(|_| rounds.contains(&product.roots.len()));
        let Some(size) = size else { return refuse("InvalidSize", &[&product.size]) };
        let digest = self.setting.domains.at_court(&product.statement(device.id(), epoch));
        self.check_key(device.key, digest, &product.signed)?;
        Ok(size)
    }

    pub(crate) fn prove_element(&mut self, proof: &Opened, report: &Report) -> Result<(), Refusal> {
        let (device, epoch) = (proof.device.id(), proof.epoch);
        let size = self.check_roots(proof.device, epoch, &proof.product)?;
        let Some(beacon) = self.seed_at(self.epoch_start(epoch)?) else {
            return refuse("SeedUnknown", &[&epoch]);
        };
        let (claimed, right) = self.open_product(proof, size, beacon)?;
        require(claimed != right, "ElementCorrect", &[&claimed])?;
        self.tell(&Court::ElementProved {
            device,
            epoch,
            round: U256::from(proof.round),
            claimed: whole(claimed),
            computed: whole(right),
        });
        let reporter = self.reporter(fault(device, "element", epoch), report)?;
        let first = self.court_share(|rules| rules.elementFirstBps);
        let again = self.court_share(|rules| rules.elementAgainBps);
        let known = self.known(device)?;
        require(epoch >= known.fault_epoch, "FaultPunished", &[&device, &epoch])?;
        let share = if known.faults == 0 { first } else { again };
        known.fault_epoch = epoch + 1;
        known.faults += 1;
        self.slash_share(device, share, reporter);
        Ok(())
    }

    /// What the leaf says, and what is right.
    fn open_product(&self, proof: &Opened, size: Size, beacon: B256) -> Result<(i32, i32), Refusal> {
        let Opened { round, row, column, .. } = *proof;
        let roots = &proof.product.roots;
        let at = usize::try_from(round).ok().filter(|at| *at < roots.len());
        let (Ok(line), Ok(place)) = (u32::try_from(row), u32::try_from(column)) else {
            return refuse("InvalidOpening", &[&round, &row, &column]);
        };
        let shaped = proof.leaf.len() == 4 * LEAF && proof.path.len() == size.depth();
        let within = line < size.get() && place < size.get() && shaped;
        let Some(at) = at.filter(|_| within) else {
            return refuse("InvalidOpening", &[&round, &row, &column]);
        };
        let challenge = Challenge {
            court: self.setting.bench.court(),
            beacon,
            device: DeviceId::new(proof.device.id()),
            epoch: Epoch::new(proof.epoch),
        };
        let seed = roots[..at].iter().fold(challenge.seed(), |seed, root| next_seed(seed, *root));
        let root = root_over(&proof.leaf, leaf_index(size.get(), row, column), &proof.path);
        require(root == roots[at], "WrongPath", &[&roots[at], &root])?;
        let from = 4 * (place as usize % LEAF);
        let claimed = proof.leaf[from..from + 4].try_into().map(i32::from_be_bytes).expect("four bytes");
        Ok((claimed, element(seed, line, place, size)))
    }

    pub(crate) fn prove_roots(
        &mut self,
        device: Named,
        epoch: u64,
        one: &Roots,
        other: &Roots,
        report: &Report,
    ) -> Result<(), Refusal> {
        self.check_roots(device, epoch, one)?;
        self.check_roots(device, epoch, other)?;
        let same = (one.size, &one.roots) == (other.size, &other.roots);
        require(!same, "NotEquivocal", &[])?;
        self.equivocate(device.id(), fault(device.id(), "roots", epoch), report)
    }

    pub(crate) fn prove_statements(
        &mut self,
        device: Named,
        (one, one_signed): &(Statement, Signed),
        (other, other_signed): &(Statement, Signed),
        report: &Report,
    ) -> Result<(), Refusal> {
        let id = device.id();
        let slot = |statement: &Statement| (statement.device, statement.topic, statement.sequence);
        let contradicts = one.device == id && slot(one) == slot(other) && one.body != other.body;
        require(contradicts, "NotEquivocal", &[])?;
        self.check_key(device.key, self.setting.domains.at_court(one), one_signed)?;
        self.check_key(device.key, self.setting.domains.at_court(other), other_signed)?;
        self.equivocate(id, said_twice(one), report)
    }

    fn equivocate(&mut self, device: B256, evidence: B256, report: &Report) -> Result<(), Refusal> {
        let fresh = self.state.court.proved.insert(evidence);
        require(fresh, "AlreadyProved", &[&evidence])?;
        let share = self.court_share(|rules| rules.equivocationBps);
        let reporter = self.reporter(evidence, report)?;
        self.known(device)?;
        self.slash_share(device, share, reporter);
        Ok(())
    }

    pub(crate) fn prove_votes(
        &mut self,
        seat: u32,
        (one, one_signed): &(Vote, Signed),
        (other, other_signed): &(Vote, Signed),
        report: &Report,
    ) -> Result<(), Refusal> {
        let slot = |vote: &Vote| (vote.caseId, vote.instance);
        require(slot(one) == slot(other) && one != other, "NotEquivocal", &[])?;
        let evidence = voted_twice(seat, one);
        require(self.seat_stake(seat) != 0, "AlreadyProved", &[&evidence])?;
        let key = self.key_of(seat);
        self.check_key(key, self.setting.domains.at_court(one), one_signed)?;
        self.check_key(key, self.setting.domains.at_court(other), other_signed)?;
        let reporter = self.reporter(evidence, report)?;
        self.slash_seat(seat, reporter);
        Ok(())
    }
}

fn whole(number: i32) -> I256 {
    I256::try_from(number).expect("it fits")
}
