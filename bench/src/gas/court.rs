//! Our court: a verdict by eight signatures, an appeal, and the proof of one wrong element. No peer has any of them.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};
use alloy::sol_types::SolCall as _;
use anyhow::{Context as _, ensure};
use tradewind_chain::client::artifacts;
use tradewind_chain::client::bindings::court::abi::Beacon;
use tradewind_chain::client::reader::Reader;
use tradewind_chain::ledger::Action;
use tradewind_chain::ledger::court::{
    Ballot, CaseRecord, CaseStage, CourtAction, CourtSetup, Tribunal as _, commitment_digest,
    opening_commitment, seat_consent,
};
use tradewind_challenge::{Threads, rows};
use tradewind_proto::challenge::{Challenge, Claim, RowOpening, Size, Tree, WrongElement, row_root};
use tradewind_proto::evidence::{Finding, Instance, ProductRoots, Seat, Sworn, Vote, commitment};
use tradewind_proto::ids::{CaseId, DeviceId};
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::{Money, Seconds, Timestamp};

use super::tradewind::Market;
use crate::anvil::Anvil;

/// Enough for the whole panel, and for an appeal beside a committee.
const SEATS: u8 = 33;
const QUORUM: usize = 8;
const SALT: B256 = B256::ZERO;
const SEEN: B256 = B256::repeat_byte(9);

/// Gas of each transaction.
#[derive(Debug)]
pub(super) struct Gas {
    pub(super) verdict: u64,
    pub(super) appeal: u64,
    /// At n = 4096.
    pub(super) small: u64,
    /// At n = 16384.
    pub(super) large: u64,
}

pub(super) async fn measure(anvil: &Anvil) -> anyhow::Result<Gas> {
    let court = Courtroom::open(Market::open(anvil).await?).await?;
    let (verdict, appeal) = court.trial().await?;
    let small = court.proof(4_096, 0xe1).await?;
    let large = court.proof(16_384, 0xe2).await?;
    Ok(Gas { verdict, appeal, small, large })
}

struct Courtroom {
    market: Market,
    reader: Reader,
    setup: CourtSetup,
    keys: BTreeMap<Address, SigningKey>,
}

impl Courtroom {
    /// A court whose roster holds the market's provider's seats.
    async fn open(market: Market) -> anyhow::Result<Self> {
        let decoder = std::sync::Arc::new(artifacts::decoder());
        let provider = market.relayer.provider.clone();
        let reader = Reader::new(provider, market.deployment.contracts, 0, decoder);
        let setup = reader.setup().await?;
        let mut court = Self { market, reader, setup, keys: BTreeMap::new() };
        for number in 0..SEATS {
            let key = SigningKey::from_bytes([100 + number; 32])?;
            let owner = court.market.provider.address();
            let action = CourtAction::JoinSeat {
                key: key.address(),
                consent: key.sign(seat_consent(&court.reader.court(), owner, key.address())),
                stake: setup.seat_stake,
                token: setup.stake_token,
            };
            court.act(action).await?;
            court.keys.insert(key.address(), key);
        }
        court.market.relayer.pass(3 * setup.epoch.get()).await?;
        Ok(court)
    }

    async fn act(&self, action: CourtAction) -> anyhow::Result<u64> {
        self.market.submit(&Action::Court(action)).await
    }

    /// Makes the beacon's round for `at`.
    async fn lots(&self, at: Timestamp) -> anyhow::Result<()> {
        let (relayer, beacon) = (&self.market.relayer, self.setup.beacon);
        let contract = Beacon::new(beacon, &relayer.provider);
        let round = contract.roundAt(tradewind_chain::client::bindings::deadline(at)).call().await?;
        let due: u64 = contract.timeOf(round).call().await?.to();
        self.until(Timestamp::from_unix(due)).await?;
        let call = Beacon::advanceCall { round }.abi_encode();
        relayer.call(beacon, call.clone()).await?;
        relayer.call(beacon, call).await?;
        ensure!(self.reader.seed(at).await?.is_some(), "the beacon made no round for {at:?}");
        Ok(())
    }

    /// Lets time pass until `at`.
    async fn until(&self, at: Timestamp) -> anyhow::Result<()> {
        let left = at.unix().saturating_sub(self.market.relayer.now().await?);
        if left > 0 { self.market.relayer.pass(left).await } else { Ok(()) }
    }

    /// The gas of a verdict of eight, and of the appeal against it.
    async fn trial(&self) -> anyhow::Result<(u64, u64)> {
        let device = self.market.device;
        let now = Timestamp::from_unix(self.market.relayer.now().await?);
        let epoch = self.setup.epoch_at(now).context("the court has not begun")?;
        let rules = self.reader.rules(None).await?;
        let opener = self.market.provider.address();
        let announcement = opening_commitment(opener, device, epoch, SALT);
        self.act(CourtAction::Announce { commitment: announcement }).await?;
        let (claim, token) = (Money::ZERO, self.setup.fee_token);
        let cost = rules.opening_cost(claim);
        self.act(CourtAction::OpenCase { device, epoch, claim, salt: SALT, cost, token }).await?;
        let id = self.reader.court().case(device, epoch);
        let case = self.reader.case(id).await?;
        self.lots(case.opened_at.after(Seconds::new(1))).await?;
        self.act(CourtAction::DrawPanel(id)).await?;
        let case = self.reader.case(id).await?;
        for position in 0..SEATS {
            self.commit(id, &case, position).await?;
        }
        let commit_by = case.opened_at.after(rules.commit_window).after(Seconds::new(1));
        self.lots(commit_by).await?;
        self.act(CourtAction::DrawCommittee(id)).await?;
        let case = self.reader.case(id).await?;
        let mut ballots = Vec::new();
        for position in (0..SEATS).filter(|position| case.committee >> position & 1 == 1).take(QUORUM) {
            ballots.push(self.ballot(id, &case, position).await?);
        }
        let verdict = self.act(CourtAction::Vote { case: id, ballots }).await?;
        ensure!(self.reader.case(id).await?.stage == CaseStage::Convicted, "eight votes convict");
        let cost = Money::new(rules.transcript_fee.base_units() * u128::from(rules.bench))?;
        let appeal = self.act(CourtAction::Appeal { case: id, cost, token }).await?;
        Ok((verdict, appeal))
    }

    async fn key_at(&self, case: &CaseRecord, position: u8) -> anyhow::Result<(Seat, &SigningKey)> {
        let place = *case.panel.get(usize::from(position)).context("no such position")?;
        let seat = self.reader.seat_at(case.epoch, place).await?;
        let key = self.keys.get(&self.reader.seat(seat).await?.key).context("a stranger's seat")?;
        Ok((Seat::new(place), key))
    }

    async fn commit(&self, case: CaseId, record: &CaseRecord, position: u8) -> anyhow::Result<()> {
        let (seat, key) = self.key_at(record, position).await?;
        let bound = commitment(case, seat, Finding::Guilty, SEEN, SALT);
        let signature = key.sign(commitment_digest(&self.reader.court(), case, bound));
        self.act(CourtAction::Commit { case, position, commitment: bound, signature }).await?;
        Ok(())
    }

    async fn ballot(&self, case: CaseId, record: &CaseRecord, position: u8) -> anyhow::Result<Ballot> {
        let (_, key) = self.key_at(record, position).await?;
        let (finding, instance) = (Finding::Guilty, Instance::Committee);
        let vote = Vote { case, instance, finding, transcript: SEEN };
        let signature = Sworn::sign(vote, &self.reader.court(), key).signature;
        Ok(Ballot { position, finding, transcript: SEEN, salt: SALT, signature })
    }

    /// The gas of the proof of one wrong element, of a device's first.
    async fn proof(&self, size: u32, secret: u8) -> anyhow::Result<u64> {
        let key = SigningKey::from_bytes([secret; 32])?;
        let device = self.market.add_device(key.address()).await?;
        let now = Timestamp::from_unix(self.market.relayer.now().await?);
        let this = self.setup.epoch_at(now).context("the court has not begun")?;
        let epoch = tradewind_proto::evidence::Epoch::new(this.get() + 1);
        let start = self.setup.start_of(epoch);
        self.until(start).await?;
        self.lots(start).await?;
        let beacon = self.reader.seed(start).await?.context("no seed")?;
        let challenge = Challenge { court: self.reader.court(), beacon, device, epoch };
        let wrong = Box::new(wrong(&challenge, &key, Size::new(size)?)?);
        let provider = self.market.provider.address();
        let proof = CourtAction::ProveElement { wrong, provider, key: key.address(), reporting: None };
        let before = self.stake(device).await?;
        let gas = self.act(proof).await?;
        ensure!(self.stake(device).await? < before, "the proof slashed nothing");
        Ok(gas)
    }

    async fn stake(&self, device: DeviceId) -> anyhow::Result<u128> {
        use tradewind_chain::client::bindings::abi::Registry;
        let registry =
            Registry::new(self.market.deployment.contracts.registry, &self.market.relayer.provider);
        Ok(registry.device(device.get()).call().await?.stake.to::<u128>())
    }
}

/// A signed product of which one row is there, with one element altered.
fn wrong(challenge: &Challenge, key: &SigningKey, size: Size) -> anyhow::Result<WrongElement> {
    let (row, column) = (size.get() - 3, size.get() / 2 + 5);
    let mut values = rows(challenge.seed(), &[row], size, Threads::available()).swap_remove(0);
    let element = values.get_mut(usize::try_from(column)?).context("no such column")?;
    *element ^= 1;
    let hash = |row: u32| B256::from(alloy::primitives::U256::from(row));
    let mut tree = Tree::new((0..size.get()).map(hash).collect());
    tree.replace(usize::try_from(row)?, row_root(&values));
    let list = ProductRoots::new(challenge.device, challenge.epoch, size, vec![tree.root()])?;
    let signed = Sworn::sign(list, &challenge.court, key);
    let claim = Claim::accept(signed, challenge, key.address(), size, 1)?;
    let opening = RowOpening { row, values, path: tree.path(usize::try_from(row)?) };
    Ok(WrongElement::of(&claim, 0, &opening, column))
}
