use alloy_primitives::{Address, keccak256};
use proptest::prelude::*;

use super::*;

const CAP: u64 = 1_000_000;
const NOW: u64 = 10_000;

fn observation(number: u64, epoch: u64, fact: Fact) -> Observation {
    Observation { epoch: Epoch::new(epoch), evidence: keccak256(number.to_be_bytes()), fact }
}

fn buyer(number: u64) -> BuyerId {
    BuyerId::new(Address::left_padding_from(&number.to_be_bytes()))
}

fn record(observations: &[Observation]) -> Record {
    let mut record = Record::default();
    for observation in observations {
        record.add(*observation).unwrap();
    }
    record
}

fn reputation(observations: &[Observation]) -> Reputation {
    record(observations).reputation(Epoch::new(NOW), Money::from_base_units(CAP))
}

fn paid(buyers: impl IntoIterator<Item = (u64, u64)>) -> Vec<Observation> {
    let payment =
        |(number, amount)| Fact::Payment { buyer: buyer(number), amount: Money::from_base_units(amount) };
    buyers.into_iter().map(|pair| observation(pair.0, NOW, payment(pair))).collect()
}

/// A good record: a week of three sentinels, ten challenges, five buyers.
fn good() -> Vec<Observation> {
    let mut all: Vec<Observation> =
        (0..504).map(|number| observation(number, NOW - number / 3, Fact::Probe { up: true })).collect();
    all.extend(
        (1_000..1_010)
            .map(|number| observation(number, NOW - number % 100, Fact::Challenge { passed: true })),
    );
    all.extend(paid((2_000..2_005).map(|number| (number, CAP))));
    all
}

fn facts() -> impl Strategy<Value = Fact> {
    prop_oneof![
        any::<bool>().prop_map(|up| Fact::Probe { up }),
        any::<bool>().prop_map(|passed| Fact::Challenge { passed }),
        (0u64..5, 0..3 * CAP).prop_map(|(number, amount)| Fact::Payment {
            buyer: buyer(number),
            amount: Money::from_base_units(amount)
        }),
        Just(Fact::Strike(Strike::Down)),
        Just(Fact::Strike(Strike::Equivocation)),
    ]
}

fn evidence() -> impl Strategy<Value = Vec<Observation>> {
    let one =
        (any::<u64>(), 0..NOW, facts()).prop_map(|(number, epoch, fact)| observation(number, epoch, fact));
    proptest::collection::vec(one, 0..60)
}

#[test]
fn a_newcomer_has_no_score_and_is_told_what_is_missing() {
    let none = reputation(&[]);
    assert_eq!(none.standing, Standing::InsufficientData(vec![Lack::Probes, Lack::Challenges, Lack::Buyers]));
    assert_eq!(none.standing.to_string(), "insufficient data");
    assert_eq!(none.components.strikes, Share::ONE);
    let without_buyers: Vec<_> =
        good().into_iter().filter(|piece| !matches!(piece.fact, Fact::Payment { .. })).collect();
    assert_eq!(reputation(&without_buyers).standing, Standing::InsufficientData(vec![Lack::Buyers]));
}

#[test]
fn the_same_evidence_gives_the_same_billionths_everywhere() {
    let Reputation { standing, components } = reputation(&good());
    let billionths = [components.uptime, components.challenges, components.diversity, components.strikes]
        .map(Share::billionths);
    assert_eq!(billionths, [991_816_280, 721_591_112, 625_000_000, 1_000_000_000]);
    assert_eq!(standing, Standing::Rated(Share(447_303_632)));
    assert_eq!(standing.to_string(), "44.73 %");
}

#[test]
fn evidence_weighs_half_after_thirty_days() {
    assert_eq!(weight(0), WHOLE);
    let half = weight(720);
    assert!(half <= WHOLE / 2 && WHOLE / 2 - half < 1_000, "{half}");
    assert_eq!((weight(50_000), weight(u64::MAX)), (0, 0));
    let fresh = reputation(&[observation(1, NOW, Fact::Strike(Strike::WrongElement))]).components.strikes;
    let old = reputation(&[observation(1, NOW - 720, Fact::Strike(Strike::WrongElement))]).components.strikes;
    assert_eq!((fresh.to_string(), old.to_string()), ("33.33 %".to_owned(), "50.00 %".to_owned()));
}

#[test]
fn evidence_from_the_future_or_told_twice_does_not_count() {
    let mut pieces = good();
    let once = reputation(&pieces);
    pieces.extend(good());
    pieces.push(observation(9_999, NOW + 1, Fact::Strike(Strike::Equivocation)));
    assert_eq!(reputation(&pieces), once);
}

#[test]
fn equivocation_ends_a_good_name() {
    let mut pieces = good();
    pieces.push(observation(9_999, NOW, Fact::Strike(Strike::Equivocation)));
    let Standing::Rated(score) = reputation(&pieces).standing else { panic!("it was rated") };
    assert!(score < Share(20_000_000), "{score}");
}

proptest! {
    #[test]
    fn the_order_of_evidence_does_not_matter(pieces in evidence(), turn in 0usize..60) {
        let mut other = pieces.clone();
        other.reverse();
        let turn = turn.min(other.len());
        other.rotate_left(turn);
        prop_assert_eq!(reputation(&pieces), reputation(&other));
    }

    #[test]
    fn good_evidence_never_lowers_a_component_and_bad_never_raises_one(
        pieces in evidence(), epoch in 0..NOW, fact in facts(),
    ) {
        let before = reputation(&pieces).components;
        let mut with = pieces;
        with.push(Observation { evidence: B256::ZERO, ..observation(0, epoch, fact) });
        let after = reputation(&with).components;
        let is_good = match fact {
            Fact::Probe { up: good } | Fact::Challenge { passed: good } => good,
            Fact::Payment { .. } => true,
            Fact::Strike(_) => false,
        };
        let parts = |of: Components| [of.uptime, of.challenges, of.diversity, of.strikes, of.score()];
        for (before, after) in parts(before).into_iter().zip(parts(after)) {
            let fits = if is_good { after >= before } else { after <= before };
            prop_assert!(fits);
        }
    }

    #[test]
    fn sybil_buyers_gain_by_what_they_pay_and_not_by_how_many_they_are(
        honest in proptest::collection::vec(0..3 * CAP, 0..10),
        sybils in proptest::collection::vec(0..CAP, 1..40),
    ) {
        let honest: Vec<(u64, u64)> = (0..).zip(honest).collect();
        let alone = reputation(&paid(honest.clone())).components.diversity;
        let spent: u64 = sybils.iter().sum();
        let fakes = (100..).zip(sybils);
        let together = reputation(&paid(honest.into_iter().chain(fakes))).components.diversity;
        let bound = Share::of(U256::from(spent), U256::from(spent + 3 * CAP));
        prop_assert!(together.billionths() <= alone.billionths() + bound.billionths() + 1);
    }

    #[test]
    fn one_buyer_counts_up_to_the_cap(amount in CAP..1_000 * CAP) {
        prop_assert_eq!(reputation(&paid([(1, amount)])).components.diversity, Share(250_000_000));
    }
}
