//! Engines that cheat, break or dawdle, and watchers that ask for what they should not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use alloy_primitives::B256;
use tradewind_challenge::{
    Answer, AnyEngine, CpuEngine, CpuError, Engine, Pick, Secret, Threads, Verifier, VerifierError,
};
use tradewind_mesh::{ProbeService, RefusalCode};
use tradewind_proto::challenge::{Claim, RowOpening, Size, Tree, row_root};
use tradewind_proto::evidence::{Epoch, Seat};
use tradewind_proto::ids::{DeviceId, MeshKey};
use tradewind_proto::probe::{Ask, MAX_QUESTION, Question, Response, Why};

use super::device::{
    Chain, Disk, ROUNDS, ROWS, ask, cpu, honest, key, list, open, ping, pong, roots, row, size, start, why,
};

/// Alters one element of every product, and commits to that: only the device's own check or a watcher's finds it.
pub(super) struct Tampering<E> {
    engine: E,
    trees: Vec<Tree>,
}

/// The row and the column that are altered.
const ALTERED: (u32, usize) = (99, 3);

impl<E> Tampering<E> {
    pub(super) const fn new(engine: E) -> Self {
        Self { engine, trees: Vec::new() }
    }
}

impl<E: Engine> Engine for Tampering<E> {
    type Error = E::Error;

    fn size(&self) -> Size {
        self.engine.size()
    }

    fn multiply(&mut self, round: usize, seed: B256) -> Result<B256, E::Error> {
        self.engine.multiply(round, seed)?;
        self.trees.truncate(round);
        let mut rows = Vec::new();
        for row in 0..self.size().get() {
            rows.push(row_root(&self.altered(round, row)?.values));
        }
        let tree = Tree::new(rows);
        let root = tree.root();
        self.trees.push(tree);
        Ok(root)
    }

    fn open(&mut self, round: usize, row: u32) -> Result<RowOpening, E::Error> {
        let opening = self.altered(round, row)?;
        Ok(RowOpening { path: self.trees[round].path(row as usize), ..opening })
    }
}

impl<E: Engine> Tampering<E> {
    fn altered(&mut self, round: usize, row: u32) -> Result<RowOpening, E::Error> {
        let mut opening = self.engine.open(round, row)?;
        if row == ALTERED.0 {
            opening.values[ALTERED.1] ^= 1 << 20;
        }
        Ok(opening)
    }
}

#[tokio::test]
async fn a_tampering_engine_is_caught_by_one_element_that_anyone_can_judge() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let device = start(&disk, &chain, 0, || AnyEngine::new(Tampering::new(cpu()))).await;
    let challenge = chain.challenge(7);
    let signed = list(&device, 7).await;
    let claim = Claim::accept(signed, &challenge, key().address(), size(), ROUNDS).expect("a claim");
    let mut verifier = Verifier::new(claim, Secret::new([6; 32]), Threads::available());
    let mut wrong = Vec::new();
    for pick in verifier.picks(ROUNDS, ROWS as usize) {
        let opening = open(&device, 7, u32::try_from(pick.round).expect("few"), pick.row).await;
        if let Answer::Wrong(proof) = verifier.check(pick, &opening).expect("an opening") {
            let found = proof.judge(&challenge, key().address()).expect("a proof");
            assert_eq!(found.claimed, found.right ^ (1 << 20));
            wrong.push(pick);
        }
    }
    wrong.sort();
    let altered = |round| Pick { round, row: ALTERED.0 };
    assert_eq!(wrong, [altered(0), altered(1)]);
}

#[tokio::test]
async fn a_device_whose_own_check_finds_a_flipped_bit_signs_nothing() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let device = start(&disk, &chain, ROWS as usize, || AnyEngine::new(Tampering::new(cpu()))).await;
    assert_eq!(why(&device, roots(7)).await, Why::Failed);
    assert_eq!((why(&device, row(7, 0, 1)).await, disk.records("products")), (Why::Unsigned, 0));
    assert!(pong(&device, 1).await.is_some());
}

#[tokio::test]
async fn what_was_said_to_one_question_answers_no_other() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let device = honest(&disk, &chain).await;
    let (last, signed) = (list(&device, 6).await, list(&device, 7).await);
    let accept = |signed, challenge| Claim::accept(signed, challenge, key().address(), size(), ROUNDS);
    let challenge = chain.challenge(7);
    let other = tradewind_proto::challenge::Challenge { device: DeviceId::NONE, ..challenge };
    assert!(accept(last.clone(), &challenge).is_err(), "a list of the last epoch");
    assert!(accept(signed.clone(), &other).is_err(), "another device's list");
    let claim = accept(signed, &challenge).expect("this device's");
    let mut verifier = Verifier::new(claim, Secret::new([6; 32]), Threads::available());
    for stale in [open(&device, 6, 0, 5).await, open(&device, 7, 1, 5).await, open(&device, 7, 0, 6).await] {
        let refused = verifier.check(Pick { round: 0, row: 5 }, &stale);
        assert!(matches!(refused, Err(VerifierError::Opening(_))), "{refused:?}");
    }
    let fresh = open(&device, 7, 0, 5).await;
    assert_eq!(verifier.check(Pick { round: 0, row: 5 }, &fresh), Ok(Answer::Holds));
}

#[tokio::test]
async fn a_question_to_another_device_for_another_epoch_or_row_says_why_it_is_not_answered() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let device = honest(&disk, &chain).await;
    let (other, epoch) = (DeviceId::NONE, Epoch::new(7));
    let stranger = Ask { nonce: B256::ZERO, watcher: Seat::new(3) };
    let expected = [
        (Question::Ping { device: other, ask: stranger }, Why::OtherDevice),
        (Question::Roots { device: other, epoch }, Why::OtherDevice),
        (Question::Row { device: other, epoch, round: 0, row: 0 }, Why::OtherDevice),
        (roots(5), Why::OtherEpoch),
        (roots(8), Why::OtherEpoch),
        (roots(u64::MAX), Why::OtherEpoch),
        (row(7, 0, 0), Why::Unsigned),
    ];
    for (question, reason) in expected {
        assert_eq!(why(&device, question.clone()).await, reason, "{question:?}");
    }
    assert_eq!(disk.records("products"), 0, "nothing was computed for it");
    list(&device, 7).await;
    open(&device, 7, 1, ROWS - 1).await;
    for question in [row(7, 2, 0), row(7, u32::MAX, 0), row(7, 0, ROWS), row(7, 0, u32::MAX)] {
        assert_eq!(why(&device, question.clone()).await, Why::NoSuchRow, "{question:?}");
    }
}

#[tokio::test]
async fn garbage_and_who_asks_too_often_are_refused() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let device = honest(&disk, &chain).await;
    let (greedy, other) = (MeshKey::from_bytes([2; 32]), MeshKey::from_bytes([3; 32]));
    let trailing = [&ping(1).encode()[..], &[0]].concat();
    for garbage in [Vec::new(), vec![0xff; 64], vec![0; MAX_QUESTION + 1], trailing] {
        let refusal = device.answer(greedy, garbage.into()).await.expect_err("garbage");
        assert_eq!(refusal.code(), RefusalCode::Malformed);
    }
    let mut refused = 0;
    for number in 0..1_000 {
        if let Err(refusal) = device.answer(greedy, ping(number).encode()).await {
            assert_eq!(refusal.code(), RefusalCode::RateLimited);
            refused += 1;
        }
    }
    assert!(refused > 0);
    assert!(device.answer(other, ping(1).encode()).await.is_ok());
}

/// Multiplies when it is let, and counts.
struct Dawdling {
    engine: CpuEngine,
    let_go: Arc<Mutex<mpsc::Receiver<()>>>,
    begun: Arc<AtomicUsize>,
}

impl Engine for Dawdling {
    type Error = CpuError;

    fn size(&self) -> Size {
        self.engine.size()
    }

    fn multiply(&mut self, round: usize, seed: B256) -> Result<B256, CpuError> {
        if round == 0 {
            self.begun.fetch_add(1, Ordering::SeqCst);
            self.let_go.lock().expect("a gate").recv().expect("let go");
        }
        self.engine.multiply(round, seed)
    }

    fn open(&mut self, round: usize, row: u32) -> Result<RowOpening, CpuError> {
        self.engine.open(round, row)
    }
}

#[tokio::test]
async fn a_slow_engine_delays_no_ping_and_computes_one_epoch_at_a_time_once() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let (open_gate, gate) = mpsc::channel();
    let (gate, begun) = (Arc::new(Mutex::new(gate)), Arc::new(AtomicUsize::new(0)));
    let engine = {
        let (gate, begun) = (gate.clone(), begun.clone());
        move || AnyEngine::new(Dawdling { engine: cpu(), let_go: gate.clone(), begun: begun.clone() })
    };
    let device = start(&disk, &chain, 0, engine).await;
    let asked: Vec<_> = [6, 7, 7, 6, 7]
        .into_iter()
        .map(|epoch| {
            let device = device.clone();
            tokio::spawn(async move { ask(&device, roots(epoch)).await })
        })
        .collect();
    while begun.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The gate is shut: the engine is at work until after the last of them.
    for number in 0..50 {
        assert!(pong(&device, number).await.is_some());
    }
    for asked in asked {
        assert_eq!(asked.await.expect("asked"), Response::Unanswered(Why::Computing));
    }
    assert_eq!(begun.load(Ordering::SeqCst), 1, "one at a time");
    for _ in 0..2 {
        open_gate.send(()).expect("waited for");
    }
    for epoch in [6, 7, 6, 7] {
        list(&device, epoch).await;
    }
    assert_eq!(begun.load(Ordering::SeqCst), 2, "each once");
}

/// Ends its thread.
struct Panicking;

impl Engine for Panicking {
    type Error = CpuError;

    fn size(&self) -> Size {
        size()
    }

    fn multiply(&mut self, _: usize, _: B256) -> Result<B256, CpuError> {
        panic!("the driver is gone")
    }

    fn open(&mut self, round: usize, row: u32) -> Result<RowOpening, CpuError> {
        Err(CpuError::NoSuchRow { round, row })
    }
}

#[tokio::test]
async fn an_engine_that_panics_costs_the_list_and_nothing_else() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let device = start(&disk, &chain, 0, || AnyEngine::new(Panicking)).await;
    for _ in 0..2 {
        assert_eq!(why(&device, roots(7)).await, Why::Failed);
    }
    assert!(pong(&device, 1).await.is_some());
}
