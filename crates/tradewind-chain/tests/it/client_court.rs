#![cfg(test)]

use std::collections::BTreeMap;
use std::time::Duration;

use alloy::primitives::{Address, B256, keccak256};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tradewind_chain::client::beacon::{self, Maker};
use tradewind_chain::client::deploy::{DeployPlan, Timings, TrustPlan};
use tradewind_chain::client::relayed::RelayedLedger;
use tradewind_chain::ledger::court::{
    Ballot, CaseRecord, CaseStage, CourtAction, Outcome, Reporting, Tribunal, commitment_digest,
    opening_commitment, salt, seat_consent, statements_evidence,
};
use tradewind_chain::ledger::{Action, ActionStatus, Ledger as _};
use tradewind_proto::evidence::{
    Court, Epoch, Equivocation, Finding, Instance, Seat, Statement, Sworn, Vote, commitment, topic,
};
use tradewind_proto::ids::{CaseId, DeviceId};
use tradewind_proto::reputation::Strike;
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::{Money, Seconds};

use crate::client_market::{Market, act, dollars, key, outcome};
use crate::fixture;

/// How long anything may take on a machine that does much else.
const LONG: Duration = Duration::from_secs(60);

/// Windows that let a busy machine commit and vote.
pub(crate) fn quick() -> TrustPlan {
    let mut plan = Timings::Tests.trust(dollars(1));
    plan.epoch = Seconds::new(3);
    plan.rules.commit_window = Seconds::new(10);
    plan.rules.vote_window = Seconds::new(10);
    plan.rules.appeal_window = Seconds::new(1);
    plan
}

pub(crate) struct Watchers {
    pub(crate) market: Market,
    ledger: RelayedLedger,
    keys: BTreeMap<Address, SigningKey>,
    _beacon: tokio_util::sync::DropGuard,
}

impl Watchers {
    /// A court that draws by its own blocks.
    async fn drawing_by_blocks(seats: u8) -> Self {
        let plan = DeployPlan { trust: Some(quick()), ..DeployPlan::development(Timings::Tests) };
        let market = Market::planned(fixture::open().provider(), 0, &plan).await;
        Self::seated(market, seats, Maker::Blocks).await
    }

    /// A court with `seats` seats of one account, in a roster that counts.
    pub(crate) async fn seated(market: Market, seats: u8, maker: Maker) -> Self {
        let stop = CancellationToken::new();
        tokio::spawn(beacon::keep(market.owner.clone(), market.reader(0), maker, stop.clone()));
        let ledger = market.funded(key(50), dollars(500)).await;
        let mut watchers = Self { market, ledger, keys: BTreeMap::new(), _beacon: stop.drop_guard() };
        for number in 0..seats {
            watchers.sit(key(100 + number)).await;
        }
        let court = watchers.court();
        let setup = court.setup().await.unwrap();
        timeout(LONG, async {
            loop {
                let epoch = setup.epoch_at(watchers.market.now().await).unwrap();
                if court.seats(epoch).await.unwrap() == u32::from(seats) {
                    return;
                }
                sleep(Duration::from_millis(200)).await;
            }
        })
        .await
        .expect("the roster freezes");
        watchers
    }

    pub(crate) fn court(&self) -> &dyn Tribunal {
        self.ledger.tribunal().expect("a court")
    }

    fn domain(&self) -> Court {
        self.court().court()
    }

    async fn sit(&mut self, seat: SigningKey) {
        let setup = self.court().setup().await.unwrap();
        let digest = seat_consent(&self.domain(), self.ledger.account(), seat.address());
        let action = CourtAction::JoinSeat {
            key: seat.address(),
            consent: seat.sign(digest),
            stake: setup.seat_stake,
            token: setup.stake_token,
        };
        act(&self.ledger, Action::Court(action)).await;
        self.keys.insert(seat.address(), seat);
    }

    async fn do_(&self, action: CourtAction) {
        act(&self.ledger, Action::Court(action)).await;
    }

    pub(crate) async fn epoch(&self) -> Epoch {
        let setup = self.court().setup().await.unwrap();
        setup.epoch_at(self.market.now().await).unwrap()
    }

    pub(crate) async fn open(&self, device: DeviceId) -> CaseId {
        let epoch = self.epoch().await;
        let rules = self.court().rules(None).await.unwrap();
        let salt = salt(B256::repeat_byte(7), device, epoch);
        let commitment = opening_commitment(self.ledger.account(), device, epoch, salt);
        self.do_(CourtAction::Announce { commitment }).await;
        let (cost, token) = (rules.opening_cost(Money::ZERO), self.court().setup().await.unwrap().fee_token);
        self.do_(CourtAction::OpenCase { device, epoch, claim: Money::ZERO, salt, cost, token }).await;
        self.domain().case(device, epoch)
    }

    /// Does it once it can be done: lots come with the beacon, windows with time.
    async fn once_possible(&self, action: CourtAction) {
        timeout(LONG, async {
            loop {
                let status = outcome(&self.ledger, Action::Court(action.clone())).await;
                if status.is_included() {
                    return;
                }
                let ActionStatus::Failed { reason } = status else { panic!("{status:?}") };
                assert!(reason.contains("LotsUnknown") || reason.contains("CaseTooEarly"), "{reason}");
                sleep(Duration::from_millis(300)).await;
            }
        })
        .await
        .expect("it becomes possible");
    }

    async fn key_at(&self, case: &CaseRecord, position: usize) -> &SigningKey {
        let seat = self.court().seat_at(case.epoch, case.panel[position]).await.unwrap();
        &self.keys[&self.court().seat(seat).await.unwrap().key]
    }

    /// Everybody on the panel commits to `finding`, and the committee votes for it.
    pub(crate) async fn find(&self, id: CaseId, finding: Finding) {
        let court = self.domain();
        let transcript = B256::repeat_byte(9);
        self.once_possible(CourtAction::DrawPanel(id)).await;
        let case = self.court().case(id).await.unwrap();
        let panel = case.seats.min(33) as usize;
        for position in 0..panel {
            let seat = Seat::new(case.panel[position]);
            let bound = commitment(id, seat, finding, transcript, B256::ZERO);
            let signature = self.key_at(&case, position).await.sign(commitment_digest(&court, id, bound));
            let position = u8::try_from(position).unwrap();
            self.do_(CourtAction::Commit { case: id, position, commitment: bound, signature }).await;
        }
        self.once_possible(CourtAction::DrawCommittee(id)).await;
        let case = self.court().case(id).await.unwrap();
        assert_eq!(case.committee.count_ones(), 11);
        let mut ballots = Vec::new();
        for position in (0..panel).filter(|position| case.committee >> position & 1 == 1) {
            let vote = Vote { case: id, instance: Instance::Committee, finding, transcript };
            let signature = Sworn::sign(vote, &court, self.key_at(&case, position).await).signature;
            let position = u8::try_from(position).unwrap();
            ballots.push(Ballot { position, finding, transcript, salt: B256::ZERO, signature });
        }
        ballots.truncate(8);
        self.do_(CourtAction::Vote { case: id, ballots }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committee_convicts_a_device_and_the_slash_goes_to_reporter_and_sink() {
    let watchers = Watchers::drawing_by_blocks(33).await;
    let seller = watchers.market.funded(key(2), dollars(50)).await;
    let device = watchers.market.enroll(&seller, key(3).address()).await;
    let before = seller.device(device).await.unwrap().unwrap();
    let id = watchers.open(device).await;
    watchers.find(id, Finding::Guilty).await;
    let convicted = watchers.court().case(id).await.unwrap();
    assert_eq!((convicted.stage, convicted.guilty), (CaseStage::Convicted, 8));
    let jailed = seller.device(device).await.unwrap().unwrap();
    assert!(jailed.jailed_until > watchers.market.now().await);
    assert_eq!(jailed.stake, before.stake, "a verdict alone slashes nobody");

    watchers.once_possible(CourtAction::Lapse { case: id, stage: CaseStage::Convicted }).await;
    let balance = async || {
        let token = watchers.market.deployment.stablecoin;
        watchers.ledger.balance(token, watchers.ledger.account()).await.unwrap()
    };
    let had = balance().await;
    watchers.do_(CourtAction::Execute(id)).await;
    let slashed = seller.device(device).await.unwrap().unwrap();
    assert_eq!(slashed.stake.base_units(), before.stake.base_units() * 95 / 100);
    let reward = balance().await.base_units() + 1_000 - had.base_units();
    assert_eq!(reward, before.stake.base_units() * 5 / 100 / 10, "less the relayer's fee");
    watchers.once_possible(CourtAction::CloseCase(id)).await;
    let closed = watchers.court().case(id).await.unwrap();
    assert_eq!((closed.stage, closed.outcome), (CaseStage::Closed, Outcome::Guilty));
    let strikes = watchers.court().strikes_since(0).await.unwrap();
    let told: Vec<_> = strikes.iter().map(|one| (one.device, one.epoch, one.strike)).collect();
    assert_eq!(told, [(device, closed.epoch, Strike::Down)]);
    assert_eq!(watchers.court().strikes_since(strikes[0].block + 1).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_says_two_things_under_one_number_loses_its_stake_without_a_vote() {
    let plan = DeployPlan { trust: Some(quick()), ..DeployPlan::development(Timings::Tests) };
    let market = Market::planned(fixture::open().provider(), 0, &plan).await;
    let reporter = market.funded(key(50), dollars(50)).await;
    let seller = market.funded(key(2), dollars(50)).await;
    let device = market.enroll(&seller, key(3).address()).await;
    let court = reporter.tribunal().expect("a court").court();
    let say = |body| {
        let statement = Statement { topic: topic::pong(), device, sequence: 4, body };
        Sworn::sign(statement, &court, &key(3))
    };
    let (one, other) = (say(B256::ZERO), say(B256::repeat_byte(1)));
    let reporting = Reporting { reporter: reporter.account(), salt: keccak256("salt") };
    let evidence = statements_evidence(&one.body);
    let announcement = CourtAction::Announce { commitment: reporting.commitment(evidence) };
    act(&reporter, Action::Court(announcement)).await;
    let both = Equivocation::prove(one, other, &court, key(3).address()).unwrap();
    let proof = CourtAction::ProveStatements {
        both: Box::new(both),
        provider: seller.account(),
        key: key(3).address(),
        reporting: Some(reporting),
    };
    act(&reporter, Action::Court(proof.clone())).await;
    assert_eq!(seller.device(device).await.unwrap().unwrap().stake, Money::ZERO);
    act(&reporter, Action::Court(proof)).await;
    let strikes = reporter.tribunal().expect("a court").strikes_since(0).await.unwrap();
    assert_eq!(
        strikes.iter().map(|one| (one.device, one.strike)).collect::<Vec<_>>(),
        [(device, Strike::Equivocation)]
    );
}
