use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, U256, keccak256};
use proptest::prelude::*;

use super::*;
use crate::challenge::Size;
use crate::signature::SignatureError;

const COURT: Court = Court { chain_id: 1, contract: Address::repeat_byte(9) };

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes([byte; 32]).unwrap()
}

fn device() -> DeviceId {
    DeviceId::new(B256::repeat_byte(0xd0))
}

fn seed(number: u64) -> B256 {
    keccak256(number.to_be_bytes())
}

fn statement(sequence: u64, body: u8) -> Statement {
    Statement { topic: topic::heartbeat(), device: device(), sequence, body: B256::repeat_byte(body) }
}

fn roots(epoch: u64, root: u8) -> ProductRoots {
    let size = Size::new(256).unwrap();
    ProductRoots::new(device(), Epoch::new(epoch), size, vec![B256::repeat_byte(root)]).unwrap()
}

fn vote(case: CaseId, finding: Finding) -> Vote {
    Vote { case, instance: Instance::Committee, finding, transcript: B256::repeat_byte(3) }
}

#[test]
fn what_was_sworn_to_another_court_does_not_count() {
    let sworn = Sworn::sign(statement(1, 1), &COURT, &key(7));
    assert_eq!(sworn.verify(&COURT, key(7).address()), Ok(()));
    for other in [Court { chain_id: 2, ..COURT }, Court { contract: Address::repeat_byte(8), ..COURT }] {
        let refused = sworn.verify(&other, key(7).address());
        assert!(matches!(refused, Err(SignatureError::WrongSigner { .. })), "{refused:?}");
    }
}

#[test]
fn a_case_is_one_device_in_one_epoch_before_one_court() {
    let case = COURT.case(device(), Epoch::new(3));
    let others = [
        COURT.case(device(), Epoch::new(4)),
        COURT.case(DeviceId::new(B256::ZERO), Epoch::new(3)),
        Court { chain_id: 2, ..COURT }.case(device(), Epoch::new(3)),
    ];
    assert!(!others.contains(&case));
    let mut encoded = [0u8; 128];
    encoded[31] = 1;
    encoded[44..64].copy_from_slice(&[9; 20]);
    encoded[64..96].copy_from_slice(&[0xd0; 32]);
    encoded[127] = 3;
    assert_eq!(case.get(), keccak256(encoded));
}

#[test]
fn an_epoch_is_counted_from_the_genesis() {
    let (genesis, hour) = (Timestamp::from_unix(1_000), Seconds::new(3_600));
    let epoch = |at| Epoch::of(Timestamp::from_unix(at), genesis, hour);
    assert_eq!(epoch(999), None);
    assert_eq!((epoch(1_000), epoch(4_599)), (Some(Epoch::new(0)), Some(Epoch::new(0))));
    assert_eq!(epoch(4_600), Some(Epoch::new(1)));
    assert_eq!(Epoch::of(genesis, genesis, Seconds::ZERO), None);
}

#[test]
fn two_bodies_for_one_slot_are_equivocation_whatever_the_kind() {
    let accused = key(7);
    let case = COURT.case(device(), Epoch::new(3));
    let pair = |first, second| {
        let [first, second] = [first, second].map(|body| Sworn::sign(body, &COURT, &accused));
        Equivocation::prove(first, second, &COURT, accused.address()).map(drop)
    };
    assert_eq!(pair(statement(4, 1), statement(4, 2)), Ok(()));
    assert_eq!(pair(statement(4, 1), statement(4, 1)), Err(EquivocationError::Same));
    assert_eq!(pair(statement(4, 1), statement(5, 2)), Err(EquivocationError::Apart));
    let other_topic = Statement { topic: topic::pong(), ..statement(4, 2) };
    assert_eq!(pair(statement(4, 1), other_topic), Err(EquivocationError::Apart));
    let lists = [roots(3, 1), roots(3, 2)].map(|body| Sworn::sign(body, &COURT, &accused));
    let [first, second] = lists;
    assert!(Equivocation::prove(first, second, &COURT, accused.address()).is_ok());
    let votes =
        [Finding::Guilty, Finding::Clear].map(|finding| Sworn::sign(vote(case, finding), &COURT, &accused));
    let [first, second] = votes;
    assert!(Equivocation::prove(first, second, &COURT, accused.address()).is_ok());
}

#[test]
fn nobody_is_framed_with_a_foreign_signature() {
    let accused = key(7).address();
    let own = Sworn::sign(statement(4, 1), &COURT, &key(7));
    let forged = Sworn::sign(statement(4, 2), &COURT, &key(8));
    let replayed = Sworn::sign(statement(4, 2), &Court { chain_id: 2, ..COURT }, &key(7));
    for second in [forged, replayed] {
        for (first, second) in [(own.clone(), second.clone()), (second, own.clone())] {
            let refused = Equivocation::prove(first, second, &COURT, accused);
            assert!(matches!(refused, Err(EquivocationError::Signature(_))), "{refused:?}");
        }
    }
}

#[test]
fn a_witness_finds_the_contradiction_and_keeps_to_its_room() {
    let mut witness = Witness::new(COURT, key(7).address(), 3);
    for sequence in 0..10 {
        let sworn = Sworn::sign(statement(sequence, 1), &COURT, &key(7));
        assert_eq!(witness.hear(sworn.clone()), Ok(None));
        assert_eq!(witness.hear(sworn), Ok(None));
        assert!(witness.len() <= 3);
    }
    let second = Sworn::sign(statement(9, 2), &COURT, &key(7));
    let found = witness.hear(second.clone()).unwrap().unwrap();
    assert_eq!(found.bodies()[1], &second);
    assert!(witness.hear(Sworn::sign(statement(11, 1), &COURT, &key(8))).is_err());
}

#[test]
fn a_list_without_roots_or_with_too_many_is_none() {
    let size = Size::new(256).unwrap();
    let list = |count| ProductRoots::new(device(), Epoch::new(1), size, vec![B256::ZERO; count]).map(drop);
    assert_eq!((list(0), list(65)), (Err(RootsError(0)), Err(RootsError(65))));
    assert_eq!((list(1), list(64)), (Ok(()), Ok(())));
    let many = serde_json::to_value(roots(1, 1)).unwrap();
    let mut empty = many.clone();
    empty["roots"] = serde_json::json!([]);
    assert!(serde_json::from_value::<ProductRoots>(many).is_ok());
    assert!(serde_json::from_value::<ProductRoots>(empty).is_err());
}

#[test]
fn levels_follow_the_number_of_seats() {
    let jury = Jury::default();
    let level = |seats| jury.level(seats);
    assert_eq!((level(0), level(10)), (Level::Observe, Level::Observe));
    assert_eq!((level(11), level(31)), (Level::Jail, Level::Jail));
    assert_eq!((level(32), level(64)), (Level::Full, Level::Full));
}

#[test]
fn a_draw_follows_the_contracts_formula() {
    let case = COURT.case(device(), Epoch::new(3));
    let drawn = Jury::default().predraw(seed(1), case, 40);
    let mut seats: Vec<u32> = (0..40).collect();
    for index in 0..33u64 {
        let words = [seed(1).0, case.get().0, U256::from(1).to_be_bytes(), U256::from(index).to_be_bytes()];
        let random = U256::from_be_bytes(keccak256(words.as_flattened()).0);
        let offset: u64 = (random % U256::from(40 - index)).to();
        seats.swap(usize::try_from(index).unwrap(), usize::try_from(index + offset).unwrap());
    }
    let expected: Vec<Seat> = seats[..33].iter().copied().map(Seat::new).collect();
    assert_eq!(drawn.seats(), expected);
}

#[test]
fn too_few_committed_seats_make_no_committee_and_no_appeal() {
    let (jury, case) = (Jury::default(), COURT.case(device(), Epoch::new(3)));
    let predraw = jury.predraw(seed(1), case, 31);
    assert_eq!(predraw.seats().len(), 31);
    let ten: BTreeSet<Seat> = predraw.seats()[..10].iter().copied().collect();
    assert_eq!(predraw.committee(&jury, seed(2), case, &ten), None);
    let strangers: BTreeSet<Seat> = ten.into_iter().chain([Seat::new(77)]).collect();
    assert_eq!(predraw.committee(&jury, seed(2), case, &strangers), None);
    let all: BTreeSet<Seat> = predraw.seats().iter().copied().collect();
    let committee = predraw.committee(&jury, seed(2), case, &all).unwrap();
    assert_eq!(committee.appeal(&jury, seed(3), case, 31), None);
    assert!(committee.appeal(&jury, seed(3), case, 32).is_some());
}

/// The 0.999999 quantile of chi-square with 39 degrees of freedom is 96.4.
const LIMIT_OF_39: f64 = 96.4;

#[test]
fn every_seat_is_drawn_as_often_as_any_other() {
    let jury = Jury::default();
    let mut counts = [[0u32; 40]; 3];
    let draws = 2_000u32;
    for number in 0..u64::from(draws) {
        let case = COURT.case(device(), Epoch::new(number));
        let predraw = jury.predraw(seed(number), case, 40);
        let all: BTreeSet<Seat> = predraw.seats().iter().copied().collect();
        let committee = predraw.committee(&jury, seed(number + 10_000), case, &all).unwrap();
        let appeal = committee.appeal(&jury, seed(number + 20_000), case, 40).unwrap();
        // The last of the pre-draw stands where a biased shuffle would show first.
        let looks: [&[Seat]; 3] = [&predraw.seats()[32..], committee.seats(), appeal.seats()];
        for (counts, seats) in counts.iter_mut().zip(looks) {
            for seat in seats {
                counts[usize::try_from(seat.get()).unwrap()] += 1;
            }
        }
    }
    for (counts, size) in counts.iter().zip([1u32, 11, 21]) {
        let expected = f64::from(draws * size) / 40.0;
        let chi_square: f64 =
            counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        assert!(chi_square < LIMIT_OF_39, "{size}: {chi_square} {counts:?}");
        assert!(chi_square > 0.0);
    }
}

#[test]
fn a_verdict_needs_a_quorum_of_the_drawn_seats_own_votes() {
    let (jury, case) = (Jury::default(), COURT.case(device(), Epoch::new(3)));
    let predraw = jury.predraw(seed(1), case, 40);
    let all: BTreeSet<Seat> = predraw.seats().iter().copied().collect();
    let committee = predraw.committee(&jury, seed(2), case, &all).unwrap();
    let keys: BTreeMap<Seat, SigningKey> =
        (0..40).map(|number| (Seat::new(u32::from(number)), key(number + 1))).collect();
    let sworn = |seat: &Seat, finding| Sworn::sign(vote(case, finding), &COURT, &keys[seat]);
    let verdict = |votes: &[(Seat, Sworn<Vote>)]| {
        let votes: Vec<SeatVote> = votes
            .iter()
            .map(|(seat, vote)| SeatVote { seat: *seat, key: keys[seat].address(), vote })
            .collect();
        committee.verdict(&jury, case, &COURT, &votes)
    };
    let guilty: Vec<_> =
        committee.seats()[..8].iter().map(|seat| (*seat, sworn(seat, Finding::Guilty))).collect();
    assert_eq!(verdict(&guilty), Verdict::Guilty);
    assert_eq!(verdict(&guilty[..7]), Verdict::Unknown);
    let repeated: Vec<_> = guilty[..7].iter().chain(&guilty[..7]).cloned().collect();
    assert_eq!(verdict(&repeated), Verdict::Unknown);
    let outsider = all.iter().find(|seat| !committee.seats().contains(seat)).unwrap();
    let stuffed: Vec<_> =
        guilty[..7].iter().cloned().chain([(*outsider, sworn(outsider, Finding::Guilty))]).collect();
    assert_eq!(verdict(&stuffed), Verdict::Unknown);
    let stolen = (guilty[7].0, sworn(outsider, Finding::Guilty));
    assert_eq!(verdict(&guilty[..7].iter().cloned().chain([stolen]).collect::<Vec<_>>()), Verdict::Unknown);
    let twice = (guilty[7].0, sworn(&guilty[7].0, Finding::Clear));
    assert_eq!(verdict(&guilty.iter().cloned().chain([twice]).collect::<Vec<_>>()), Verdict::Unknown);
    let appeal = committee.appeal(&jury, seed(3), case, 40).unwrap();
    let votes: Vec<SeatVote> =
        guilty.iter().map(|(seat, vote)| SeatVote { seat: *seat, key: keys[seat].address(), vote }).collect();
    assert_eq!(appeal.verdict(&jury, case, &COURT, &votes), Verdict::Unknown);
}

proptest! {
    #[test]
    fn no_seat_is_drawn_twice_and_no_appeal_shares_one_with_its_committee(
        number in any::<u64>(), seats in 0u32..200, missing in any::<u64>(),
    ) {
        let (jury, case) = (Jury::default(), COURT.case(device(), Epoch::new(number)));
        let predraw = jury.predraw(seed(number), case, seats);
        prop_assert_eq!(u32::try_from(predraw.seats().len()).unwrap(), seats.min(33));
        let unique: BTreeSet<Seat> = predraw.seats().iter().copied().collect();
        prop_assert_eq!(unique.len(), predraw.seats().len());
        prop_assert!(unique.iter().all(|seat| seat.get() < seats));
        let committed = unique.iter().copied().filter(|seat| missing >> (seat.get() % 64) & 1 == 0).collect();
        let Some(committee) = predraw.committee(&jury, seed(number ^ 1), case, &committed) else {
            prop_assert!(committed.len() < 11);
            return Ok(());
        };
        prop_assert!(committee.seats().iter().all(|seat| committed.contains(seat)));
        let voters: BTreeSet<Seat> = committee.seats().iter().copied().collect();
        prop_assert_eq!(voters.len(), 11);
        if let Some(appeal) = committee.appeal(&jury, seed(number ^ 2), case, seats) {
            let judges: BTreeSet<Seat> = appeal.seats().iter().copied().collect();
            prop_assert_eq!(judges.len(), 21);
            prop_assert!(judges.is_disjoint(&voters));
        } else {
            prop_assert!(seats < 32);
        }
    }
}
