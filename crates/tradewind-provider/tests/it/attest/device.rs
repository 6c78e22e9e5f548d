//! A device to ask, and what it stands on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, B256, keccak256};
use async_trait::async_trait;
use tradewind_chain::ledger::LedgerError;
use tradewind_challenge::{AnyEngine, CpuEngine, CpuWalker, Threads};
use tradewind_mesh::ProbeService;
use tradewind_proto::challenge::{Challenge, Claim, RowOpening, Size, WalkProfile};
use tradewind_proto::evidence::{Court, Epoch, ProductRoots, Seat, Sworn};
use tradewind_proto::ids::{DeviceId, MeshKey};
use tradewind_proto::probe::{Ask, Question, Reply, Response, Why};
use tradewind_proto::signature::SigningKey;
use tradewind_provider::attest::{Attendant, AttendantConfig, AttendantParts, Beacon, WalkParts};
use tradewind_store::{Change, Medium, Store, StoreError};

pub(super) const ROUNDS: usize = 2;
pub(super) const ROWS: u32 = 256;

pub(super) fn key() -> SigningKey {
    SigningKey::from_bytes([7; 32]).expect("a key")
}

pub(super) fn court() -> Court {
    Court { chain_id: 1, contract: Address::repeat_byte(9) }
}

pub(super) fn device() -> DeviceId {
    DeviceId::new(B256::repeat_byte(0xd0))
}

pub(super) fn size() -> Size {
    Size::new(ROWS).expect("a size")
}

/// The key of a sentinel's seat.
pub(super) fn seat(number: u32) -> SigningKey {
    SigningKey::from_bytes(keccak256(number.to_be_bytes()).0).expect("a key")
}

pub(super) const fn walks() -> WalkProfile {
    WalkProfile { memory: 1, walkers: 3, stretches: 4, stride: 16, opened: 2, classes: Vec::new() }
}

pub(super) fn foot() -> CpuWalker {
    CpuWalker { threads: Threads::available(), room: 1 << 20 }
}

pub(super) fn cpu() -> CpuEngine {
    CpuEngine::new(size(), Threads::available(), 1 << 20)
}

/// A chain whose epoch and seeds the test sets.
pub(super) struct Chain {
    pub(super) now: AtomicU64,
    /// Changes every seed, as a reorg does.
    pub(super) fork: AtomicU64,
    /// Whether the beacon has the present epoch's seed.
    pub(super) stalled: AtomicBool,
    pub(super) down: AtomicBool,
    /// Whether a lease has the device.
    pub(super) leased: AtomicBool,
}

impl Chain {
    pub(super) fn at(epoch: u64) -> Arc<Self> {
        Arc::new(Self {
            now: AtomicU64::new(epoch),
            fork: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
            down: AtomicBool::new(false),
            leased: AtomicBool::new(false),
        })
    }

    pub(super) fn challenge(&self, epoch: u64) -> Challenge {
        let seed = [epoch.to_be_bytes(), self.fork.load(Ordering::SeqCst).to_be_bytes()];
        let beacon = keccak256(seed.as_flattened());
        Challenge { court: court(), beacon, device: device(), epoch: Epoch::new(epoch) }
    }

    fn answer<T>(&self, answer: T) -> Result<T, LedgerError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(LedgerError::Unavailable("no endpoint".into()));
        }
        Ok(answer)
    }
}

#[async_trait]
impl Beacon for Chain {
    async fn epoch(&self) -> Result<Epoch, LedgerError> {
        self.answer(Epoch::new(self.now.load(Ordering::SeqCst)))
    }

    async fn seed(&self, epoch: Epoch) -> Result<Option<B256>, LedgerError> {
        let known = !self.stalled.load(Ordering::SeqCst);
        self.answer(known.then(|| self.challenge(epoch.get()).beacon))
    }

    async fn sentinels(&self, _: Epoch) -> Result<Option<Vec<(Seat, Address)>>, LedgerError> {
        let known = !self.stalled.load(Ordering::SeqCst);
        self.answer(known.then(|| (1..4).map(|number| (Seat::new(number), seat(number).address())).collect()))
    }

    async fn is_free(&self) -> Result<bool, LedgerError> {
        self.answer(!self.leased.load(Ordering::SeqCst))
    }
}

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Fate {
    #[default]
    Stored,
    /// The process dies before it reaches the disk.
    Lost,
    /// It reaches the disk, and the process dies before it hears of it.
    Unheard,
}

/// A disk that outlives the processes that use it.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    records: BTreeMap<(String, String), String>,
    fate: Fate,
}

impl Disk {
    pub(super) fn set(&self, fate: Fate) {
        self.0.lock().expect("a disk").fate = fate;
    }

    pub(super) fn records(&self, kind: &str) -> usize {
        self.0.lock().expect("a disk").records.keys().filter(|(of, _)| of == kind).count()
    }
}

#[async_trait]
impl Medium for Disk {
    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut platter = self.0.lock().expect("a disk");
        if platter.fate == Fate::Lost {
            return Err(StoreError::Closed);
        }
        for Change { kind, key, value } in changes {
            let place = (kind.to_owned(), key);
            match value {
                Some(value) => platter.records.insert(place, value),
                None => platter.records.remove(&place),
            };
        }
        if platter.fate == Fate::Unheard { Err(StoreError::Closed) } else { Ok(()) }
    }

    async fn get(&self, kind: &'static str, key: &str) -> Result<Option<String>, StoreError> {
        Ok(self.0.lock().expect("a disk").records.get(&(kind.to_owned(), key.to_owned())).cloned())
    }

    async fn all(&self, kind: &'static str) -> Result<Vec<(String, String)>, StoreError> {
        let platter = self.0.lock().expect("a disk");
        let of_kind = platter.records.iter().filter(|((of, _), _)| of == kind);
        Ok(of_kind.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }
}

/// An attendant in one life of its process.
pub(super) async fn start(
    disk: &Disk,
    chain: &Arc<Chain>,
    self_check: usize,
    engine: impl Fn() -> AnyEngine + Send + Sync + 'static,
) -> Arc<Attendant> {
    start_on(Store::on(Arc::new(disk.clone())), chain, self_check, engine).await
}

pub(super) async fn start_on(
    store: Store,
    chain: &Arc<Chain>,
    self_check: usize,
    engine: impl Fn() -> AnyEngine + Send + Sync + 'static,
) -> Arc<Attendant> {
    let config = AttendantConfig { device: device(), court: court(), rounds: ROUNDS, self_check };
    let parts = AttendantParts {
        key: key(),
        store,
        engine: Box::new(engine),
        walks: Some(WalkParts { profile: walks(), walker: Box::new(foot()) }),
        beacon: chain.clone(),
        clock: Arc::new(|| 1_800_000_000_123),
    };
    Attendant::start(config, parts).await.expect("started")
}

pub(super) async fn honest(disk: &Disk, chain: &Arc<Chain>) -> Arc<Attendant> {
    start(disk, chain, 4, || AnyEngine::new(cpu())).await
}

pub(super) fn roots(epoch: u64) -> Question {
    Question::Roots { device: device(), epoch: Epoch::new(epoch) }
}

pub(super) fn row(epoch: u64, round: u32, row: u32) -> Question {
    Question::Row { device: device(), epoch: Epoch::new(epoch), round, row }
}

pub(super) fn ping(number: u64) -> Question {
    let ask = Ask { nonce: keccak256(number.to_be_bytes()), watcher: Seat::new(3) };
    Question::Ping { device: device(), ask }
}

pub(super) async fn ask(attendant: &Attendant, question: Question) -> Response {
    ask_as(MeshKey::from_bytes([1; 32]), attendant, question).await
}

pub(super) async fn ask_as(watcher: MeshKey, attendant: &Attendant, question: Question) -> Response {
    let answer = attendant.answer(watcher, question.encode()).await.expect("within the allowance");
    Response::decode(&answer).expect("a response")
}

pub(super) async fn why(attendant: &Attendant, question: Question) -> Why {
    let response = patiently(attendant, question.clone()).await;
    let Response::Unanswered(why) = response else { panic!("{question:?} was answered: {response:?}") };
    why
}

pub(super) async fn pong(attendant: &Attendant, number: u64) -> Option<Reply> {
    let response = ask(attendant, ping(number)).await;
    if response == Response::Unanswered(Why::Failed) {
        return None;
    }
    let Response::Pong(reply) = response else { panic!("no pong: {response:?}") };
    Some(reply)
}

/// Asks again while the products are computed.
pub(super) async fn patiently(attendant: &Attendant, question: Question) -> Response {
    for _ in 0..1_000 {
        let response = ask(attendant, question.clone()).await;
        if response != Response::Unanswered(Why::Computing) {
            return response;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still computing: {question:?}");
}

pub(super) async fn list(attendant: &Attendant, epoch: u64) -> Sworn<ProductRoots> {
    let response = patiently(attendant, roots(epoch)).await;
    let Response::Roots(signed) = response else { panic!("no list: {response:?}") };
    signed
}

pub(super) async fn open(attendant: &Attendant, epoch: u64, round: u32, number: u32) -> RowOpening {
    let response = patiently(attendant, row(epoch, round, number)).await;
    let Response::Row(opening) = response else { panic!("no row: {response:?}") };
    opening
}

/// Whether a row of each round leads to the roots that were signed, and is right.
pub(super) async fn opens(attendant: &Attendant, chain: &Chain, signed: &Sworn<ProductRoots>) -> bool {
    let epoch = signed.body.epoch().get();
    let challenge = chain.challenge(epoch);
    let claim = Claim::accept(signed.clone(), &challenge, key().address(), size(), ROUNDS).expect("a claim");
    for round in 0..ROUNDS {
        let (seed, root) = claim.round(round).expect("a round");
        let opening = open(attendant, epoch, u32::try_from(round).expect("few"), 77).await;
        opening.check(77, size(), root).expect("an opening");
        if opening.values[5] != tradewind_proto::challenge::element(seed, 77, 5, size()) {
            return false;
        }
    }
    true
}
