use super::*;
use crate::ids::DeviceId;
use crate::offer::tests::sample;
use crate::units::{RatePerSecond, Seconds};

const NOTHING: Wish = Wish {
    network: crate::workload::Network::None,
    trust: crate::offer::TrustTier::Unstaked,
    interconnect: None,
    vendor: None,
    cpu_millis: 0,
    memory: crate::units::Bytes::ZERO,
    disk: crate::units::Bytes::ZERO,
    gpus: 0,
    vram: crate::units::Bytes::ZERO,
    reliability: None,
    duration: Seconds::ZERO,
};

fn query(kind: LeaseKind) -> Query {
    let lanes = Lanes::All;
    let (all, any) = (Planes::default(), [Planes::default(); 2]);
    let token = sample().prices.token;
    Query { token, kind, lanes, all, any, size: Size { gpus: 0, cpu_millis: 0, mib: 0 }, ceiling: u128::MAX }
}

fn found(book: &OfferBook, kind: LeaseKind) -> Vec<OfferKey> {
    let mut keys = Vec::new();
    book.search(&query(kind), &mut |entry| {
        keys.push(entry.offer.key());
        u128::MAX
    });
    keys.sort_unstable();
    keys
}

fn numbered(number: u64) -> Offer {
    let mut offer = sample();
    let mut device = [0xee; 32];
    device[..8].copy_from_slice(&number.to_be_bytes());
    offer.device = DeviceId::new(device.into());
    offer.prices.on_demand = RatePerSecond::from_scaled(u128::from(number % 97) << 60);
    offer
}

#[test]
fn the_newest_sequence_wins() {
    let mut book = OfferBook::new();
    assert_eq!(book.insert(sample()), Inserted::New);
    assert_eq!(book.insert(sample()), Inserted::Stale);
    let mut newer = sample();
    newer.sequence = 2;
    newer.free_units = 3;
    assert_eq!(book.insert(newer.clone()), Inserted::Renewed);
    assert_eq!(book.insert(sample()), Inserted::Stale);
    assert_eq!(book.get(&sample().key()), Some(&newer));
    assert_eq!(book.len(), 1);
}

#[test]
fn an_offer_that_is_not_renewed_ends() {
    let mut book = OfferBook::new();
    book.insert(sample());
    let mut heartbeat = sample();
    (heartbeat.sequence, heartbeat.expires_at) = (2, sample().expires_at.after(Seconds::new(15)));
    assert_eq!(book.insert(heartbeat.clone()), Inserted::Renewed);
    assert_eq!(book.expire(sample().expires_at), 0);
    assert_eq!(found(&book, LeaseKind::OnDemand).len(), 1);
    assert_eq!(book.expire(heartbeat.expires_at), 1);
    assert!(book.is_empty() && found(&book, LeaseKind::OnDemand).is_empty() && book.lanes.is_empty());
}

#[test]
fn an_offer_is_found_under_every_kind_that_it_sells_and_no_other() {
    let mut book = OfferBook::new();
    let mut offer = sample();
    offer.prices.spot = None;
    book.insert(offer);
    assert_eq!(found(&book, LeaseKind::OnDemand).len(), 1);
    assert_eq!(found(&book, LeaseKind::Reserved).len(), 1);
    assert!(found(&book, LeaseKind::Spot).is_empty());
}

#[test]
fn blocks_split_and_empty_without_losing_an_offer() {
    let mut book = OfferBook::new();
    let numbers: Vec<u64> = (0..3_000).map(|n| n * 7_919 % 3_001).collect();
    for number in &numbers {
        book.insert(numbered(*number));
    }
    assert_eq!(found(&book, LeaseKind::OnDemand).len(), 3_000);
    for (index, number) in numbers.iter().enumerate() {
        let key = numbered(*number).key();
        assert!(book.remove(&key).is_some());
        if index % 500 == 0 {
            let left = found(&book, LeaseKind::OnDemand);
            assert_eq!(left.len(), 2_999 - index);
            assert!(!left.contains(&key));
        }
    }
    assert!(book.lanes.is_empty());
}

#[test]
fn the_cheapest_block_comes_first_and_the_search_stops_at_the_ceiling() {
    let mut book = OfferBook::new();
    for number in 0..5_000 {
        book.insert(numbered(number));
    }
    let (mut visited, mut cheapest) = (0, u128::MAX);
    book.search(&query(LeaseKind::OnDemand), &mut |entry| {
        visited += 1;
        cheapest = cheapest.min(entry.offer.prices.on_demand.scaled());
        cheapest
    });
    assert_eq!(cheapest, 0);
    assert!(visited < 1_500, "{visited} of 5,000");
}

#[test]
fn standing_outlives_offers_and_hides_the_jailed() {
    let mut book = OfferBook::new();
    let key = sample().key();
    book.set_standing(key, Standing { jailed: true, ..Standing::default() });
    book.insert(sample());
    let sound = |book: &OfferBook| {
        let mut wish = query(LeaseKind::OnDemand);
        wish.all = Planes::wanted(&NOTHING);
        let mut found = 0;
        book.search(&wish, &mut |_| {
            found += 1;
            u128::MAX
        });
        found
    };
    assert_eq!(sound(&book), 0);
    book.set_standing(key, Standing::default());
    assert_eq!(sound(&book), 1);
    book.remove(&key);
    book.forget_standing(key.provider);
    assert!(book.standings.is_empty());
}

#[test]
fn a_seed_makes_the_same_book_everywhere() {
    let (a, b) = (synthetic(7, 2_000), synthetic(7, 2_000));
    assert!(a.offers().eq(b.offers()));
    assert!(a.offers().all(|offer| offer.check().is_ok()));
    assert_eq!(a.len(), 2_000);
}
