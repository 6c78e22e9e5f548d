//! A device and a watcher, from the beacon's seed to the proof.

use alloy_primitives::{Address, B256, keccak256};
use tradewind_proto::challenge::{Challenge, Claim, Disproof, OpeningError, Size};
use tradewind_proto::evidence::{Court, Epoch, ProductRoots, Sworn};
use tradewind_proto::ids::DeviceId;
use tradewind_proto::odds;
use tradewind_proto::signature::SigningKey;

use crate::{
    Answer, AnswerError, CpuEngine, CpuError, Engine, Pick, Projection, Secret, SelfCheck, Threads, Verifier,
    VerifierError, answer,
};

const ROWS: u32 = 256;

fn size() -> Size {
    Size::new(ROWS).unwrap()
}

fn challenge() -> Challenge {
    Challenge {
        court: Court { chain_id: 1, contract: Address::repeat_byte(9) },
        beacon: B256::repeat_byte(0xbe),
        device: DeviceId::new(B256::repeat_byte(0xd0)),
        epoch: Epoch::new(7),
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes([7; 32]).unwrap()
}

fn engine() -> CpuEngine {
    CpuEngine::new(size(), Threads::available(), 1 << 22)
}

fn random(number: u32) -> [u8; 32] {
    keccak256(number.to_be_bytes()).0
}

fn verifier(roots: Vec<B256>, secret: [u8; 32]) -> Verifier {
    let rounds = roots.len();
    let list = ProductRoots::new(challenge().device, challenge().epoch, size(), roots).unwrap();
    let signed = Sworn::sign(list, &challenge().court, &key());
    let claim = Claim::accept(signed, &challenge(), key().address(), size(), rounds).unwrap();
    Verifier::new(claim, Secret::new(secret), Threads::available())
}

fn find(verifier: &mut Verifier, engine: &mut CpuEngine, pick: Pick) -> Option<Disproof> {
    match verifier.check(pick, &engine.open(pick.round, pick.row).unwrap()).unwrap() {
        Answer::Holds => None,
        Answer::Wrong(proof) => Some(proof.judge(&challenge(), key().address()).unwrap()),
    }
}

#[test]
fn an_altered_element_is_caught_a_thousand_of_a_thousand_times() {
    let mut engine = engine();
    engine.multiply(0, challenge().seed()).unwrap();
    let mut caught = 0;
    for number in 0..1_000 {
        let [row, column, a, b, c, d, ..] = random(number);
        let change = match i32::from_be_bytes([a, b, c, d]) >> (number % 32) {
            0 => 1,
            change => change,
        };
        let root = engine.alter(0, row.into(), column.into(), change);
        let secret = random(number + 10_000);
        let projection =
            Projection::new(challenge().seed(), root, size(), &Secret::new(secret), Threads::available());
        let wrong: Vec<u32> =
            (0..ROWS).filter(|row| !projection.holds(&engine.open(0, *row).unwrap())).collect();
        assert_eq!(wrong, [u32::from(row)], "{number}");
        let pick = Pick { round: 0, row: row.into() };
        let found = find(&mut verifier(vec![root], secret), &mut engine, pick).unwrap();
        assert_eq!(found.claimed, found.right.wrapping_add(change));
        caught += 1;
        engine.alter(0, row.into(), column.into(), change.wrapping_neg());
    }
    assert_eq!(caught, 1_000);
}

/// The counts that a right rate leaves with a chance below one in a million.
fn interval(trials: u32, rate: f64) -> std::ops::RangeInclusive<u32> {
    let at_least = |count| odds::independent(trials, count, rate);
    let low = (0..=trials).take_while(|count| at_least(*count) > 1.0 - 5e-7).last().unwrap();
    let high = (0..=trials).find(|count| at_least(count + 1) < 5e-7).unwrap();
    low..=high
}

#[test]
fn the_sampled_check_catches_as_often_as_its_formula_says() {
    const TRIALS: u32 = 500;
    const SKIPPED: u32 = 26;
    let mut engine = engine();
    let mut root = engine.multiply(0, challenge().seed()).unwrap();
    for number in 0..SKIPPED {
        root = engine.alter(0, number * 9, number, 1);
    }
    for rows in [4, 8, 32] {
        let mut caught = 0;
        for number in 0..TRIALS {
            let mut verifier = verifier(vec![root], random(number * 100 + rows));
            let picks = verifier.picks(1, rows as usize);
            caught +=
                u32::from(picks.into_iter().any(|pick| find(&mut verifier, &mut engine, pick).is_some()));
        }
        let rate = odds::drawn(ROWS, SKIPPED, rows, 1);
        let expected = interval(TRIALS, rate);
        println!("{rows} rows: {caught} of {TRIALS} caught, {rate:.4} expected, within {expected:?}");
        assert!(expected.contains(&caught), "{rows}: {caught} {expected:?}");
    }
}

#[test]
fn skipped_rounds_are_caught_as_often_as_their_formula_says() {
    const TRIALS: u32 = 500;
    let mut engine = engine();
    let mut roots = Vec::new();
    let mut seed = challenge().seed();
    for round in 0..8 {
        let mut root = engine.multiply(round, seed).unwrap();
        if round == 2 || round == 5 {
            for row in 0..ROWS {
                root = engine.alter(round, row, row, 1);
            }
        }
        roots.push(root);
        seed = tradewind_proto::challenge::next_seed(seed, root);
    }
    let mut caught = 0;
    for number in 0..TRIALS {
        let mut verifier = verifier(roots.clone(), random(number));
        let picks = verifier.picks(3, 1);
        assert_eq!(picks.len(), 3);
        caught += u32::from(picks.into_iter().any(|pick| find(&mut verifier, &mut engine, pick).is_some()));
    }
    let expected = interval(TRIALS, odds::drawn(8, 2, 3, 1));
    println!("3 of 8 rounds: {caught} of {TRIALS} caught, within {expected:?}");
    assert!(expected.contains(&caught), "{caught} {expected:?}");
}

#[test]
fn picks_are_within_the_claim_different_and_known_to_nobody_else() {
    let roots = vec![B256::ZERO, B256::repeat_byte(1), B256::repeat_byte(2)];
    let picks = verifier(roots.clone(), [1; 32]).picks(2, 10);
    assert_eq!(picks.len(), 20);
    let mut unique = picks.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), 20);
    assert!(unique.iter().all(|pick| pick.round < 3 && pick.row < ROWS));
    assert_ne!(verifier(roots.clone(), [2; 32]).picks(2, 10), picks);
    assert_ne!(verifier(vec![B256::repeat_byte(9); 3], [1; 32]).picks(2, 10), picks, "the roots come first");
    assert_eq!(verifier(roots, [1; 32]).picks(9, 1_000).len(), 3 * 256);
    assert_eq!(format!("{:?}", Secret::new([1; 32])), "Secret");
}

#[test]
fn what_is_no_opening_is_refused_and_proves_nothing() {
    let mut engine = engine();
    let root = engine.multiply(0, challenge().seed()).unwrap();
    let mut verifier = verifier(vec![root], [1; 32]);
    let good = engine.open(0, 5).unwrap();
    let other = engine.open(0, 6).unwrap();
    let pick = Pick { round: 0, row: 5 };
    assert_eq!(verifier.check(pick, &good), Ok(Answer::Holds));
    let refused = verifier.check(pick, &other).unwrap_err();
    assert_eq!(refused, VerifierError::Opening(OpeningError::OtherRow { got: 6, asked: 5 }));
    let mut altered = good.clone();
    altered.values[0] += 1;
    assert_eq!(verifier.check(pick, &altered), Err(VerifierError::Opening(OpeningError::Root)));
    assert_eq!(verifier.check(Pick { round: 1, row: 5 }, &good), Err(VerifierError::NoSuchRound(1)));
}

#[test]
fn products_of_another_epoch_are_wrong_in_every_row() {
    let mut engine = engine();
    let earlier = Challenge { epoch: Epoch::new(6), ..challenge() };
    let root = engine.multiply(0, earlier.seed()).unwrap();
    let mut verifier = verifier(vec![root], [1; 32]);
    for row in 0..8 {
        assert!(find(&mut verifier, &mut engine, Pick { round: 0, row }).is_some());
    }
}

/// Flips a bit of every product, after it was computed.
struct Faulty(CpuEngine);

impl Engine for Faulty {
    type Error = CpuError;

    fn size(&self) -> Size {
        self.0.size()
    }

    fn multiply(&mut self, round: usize, seed: B256) -> Result<B256, CpuError> {
        self.0.multiply(round, seed)?;
        Ok(self.0.alter(round, 99, 3, 1 << 20))
    }

    fn open(&mut self, round: usize, row: u32) -> Result<tradewind_proto::challenge::RowOpening, CpuError> {
        self.0.open(round, row)
    }
}

#[test]
fn a_device_whose_silicon_flips_a_bit_signs_nothing() {
    let check = SelfCheck { secret: Secret::new([5; 32]), rows: ROWS as usize };
    let refused = answer(&mut Faulty(engine()), &challenge(), 2, &check, &key()).unwrap_err();
    assert!(matches!(refused, AnswerError::Flipped { round: 0, row: 99 }), "{refused}");
    assert!(refused.to_string().contains("hint:"));
    let unchecked = SelfCheck { rows: 0, ..check.clone() };
    assert!(answer(&mut Faulty(engine()), &challenge(), 2, &unchecked, &key()).is_ok());
    let signed = answer(&mut engine(), &challenge(), 2, &check, &key()).unwrap();
    assert!(Claim::accept(signed, &challenge(), key().address(), size(), 2).is_ok());
}

#[test]
fn a_challenge_of_no_round_or_too_many_is_not_answered() {
    let check = SelfCheck { secret: Secret::new([5; 32]), rows: 0 };
    for rounds in [0, 65] {
        let refused = answer(&mut engine(), &challenge(), rounds, &check, &key()).unwrap_err();
        assert!(matches!(refused, AnswerError::Rounds(_)), "{refused}");
    }
}
