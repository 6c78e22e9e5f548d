use tradewind_chain::ledger::{BlockRef, Opening};
use tradewind_proto::evidence::{Pong, Statement, Sworn, topic};
use tradewind_proto::ids::ProviderId;
use tradewind_proto::reputation::{Standing, Strike};
use tradewind_proto::signature::SigningKey;
use tradewind_proto::terms::LeaseKind;
use tradewind_proto::testimony::Sign;
use tradewind_proto::units::Timestamp;

use super::*;

const COURT: Court = Court { chain_id: 7, contract: Address::repeat_byte(0xc0) };
const GENESIS: u64 = 1_000_000;

fn key() -> SigningKey {
    SigningKey::from_bytes([1; 32]).expect("a key")
}

fn device() -> DeviceId {
    DeviceId::new(B256::repeat_byte(1))
}

fn lease(number: u8) -> LeaseId {
    LeaseId::new(B256::repeat_byte(number))
}

fn setup() -> CourtSetup {
    CourtSetup {
        beacon: Address::ZERO,
        stake_token: Address::ZERO,
        fee_token: Address::ZERO,
        genesis: Timestamp::from_unix(GENESIS),
        epoch: Seconds::new(3_600),
        seat_stake: Money::ZERO,
        seat_unbonding: Seconds::ZERO,
    }
}

fn event(block: u64, event: LedgerEvent) -> Feed {
    Feed::Happened(Box::new(ChainEvent {
        block: BlockRef { number: block, ..BlockRef::default() },
        at: Timestamp::from_unix(GENESIS + 100 * 3_600),
        tx: B256::repeat_byte(u8::try_from(block).expect("a small block")),
        log_index: 0,
        event,
    }))
}

fn of_lease(number: u8, happened: LeaseEvent) -> LedgerEvent {
    LedgerEvent::Lease { lease: lease(number), happened }
}

fn opened(buyer: u8, hourly: u64) -> LeaseEvent {
    LeaseEvent::Opened(Opening {
        buyer: BuyerId::new(Address::repeat_byte(buyer)),
        provider: ProviderId::default(),
        device: device(),
        units: 1,
        token: Address::ZERO,
        rate: RatePerSecond::per_hour(Money::from_base_units(hourly)),
        deposit: Money::ZERO,
        bond: Money::ZERO,
        kind: LeaseKind::OnDemand,
        start: Timestamp::from_unix(0),
        end: Timestamp::from_unix(0),
        version: 1,
    })
}

fn closed(paid: u64) -> LeaseEvent {
    let (paid, none) = (Money::from_base_units(paid), Money::ZERO);
    LeaseEvent::Closed {
        paid,
        refunded: none,
        forfeited: none,
        fee: none,
        buyer_fee: none,
        bond_to_buyer: none,
    }
}

fn known() -> Evidence {
    let mut evidence = Evidence::default();
    evidence.judged_by(COURT, setup());
    evidence.tick(Epoch::new(100));
    let added = LedgerEvent::DeviceAdded {
        device: device(),
        provider: ProviderId::default(),
        key: key().address(),
        class: 0,
        units: 1,
    };
    evidence.apply(event(1, added));
    evidence
}

fn rated(evidence: &Evidence) -> Rated {
    evidence.rate().remove(&device()).expect("the device is known")
}

fn sighting(seat: u32, epoch: u64) -> Sighting {
    let (nonce, unix_millis) = (B256::ZERO, (GENESIS + epoch * 3_600 + 10) * 1_000);
    let body = Pong { nonce, watcher: Seat::new(seat), unix_millis }.body();
    let statement = Statement { topic: topic::pong(), device: device(), sequence: epoch, body };
    let signature = Sworn::sign(statement, &COURT, &key()).signature;
    let mut sighting = Sighting::new(device());
    sighting.heard(Sign { nonce, unix_millis, sequence: epoch, signature });
    sighting.challenge = Some(true);
    sighting
}

fn page(seat: u32, epoch: u64) -> Page {
    let seen = vec![sighting(seat, epoch)];
    Page::new(COURT, Seat::new(seat), Epoch::new(epoch), None, seen).expect("a page")
}

fn tell(evidence: &mut Evidence, seat: u32, epoch: u64) {
    let content = keccak256([u64::from(seat).to_be_bytes(), epoch.to_be_bytes()].concat());
    evidence.told(&page(seat, epoch), content, |_| true);
}

#[test]
fn a_device_that_pays_its_way_is_rated_once_there_is_enough() {
    let mut evidence = known();
    assert!(matches!(rated(&evidence).reputation.standing, Standing::InsufficientData(_)));
    for epoch in 60..100 {
        (1..=3).for_each(|seat| tell(&mut evidence, seat, epoch));
    }
    for buyer in 1..=3 {
        evidence.apply(event(u64::from(buyer) + 1, of_lease(buyer, opened(buyer, 100))));
        evidence.apply(event(u64::from(buyer) + 9, of_lease(buyer, closed(2_400))));
    }
    let Rated { reputation, evidence: pieces, .. } = rated(&evidence);
    assert_eq!(pieces, 40 * 3 * 2 + 3);
    assert!(matches!(reputation.standing, Standing::Rated(_)), "{reputation:?}");
    let diversity = reputation.components.diversity.billionths();
    assert!((499_999_999..=500_000_000).contains(&diversity), "three buyers of a day each: {diversity}");
    evidence.struck(
        0,
        vec![StrikeRecord {
            block: 20,
            event: (B256::ZERO, 1),
            device: device(),
            epoch: Epoch::new(100),
            strike: Strike::Down,
        }],
    );
    assert!(rated(&evidence).reputation.components.strikes < reputation.components.strikes);
}

#[test]
fn a_higher_price_makes_the_same_payments_weigh_less() {
    let mut evidence = known();
    evidence.apply(event(2, of_lease(1, opened(1, 100))));
    evidence.apply(event(3, of_lease(1, closed(2_400))));
    let before = rated(&evidence).reputation.components.diversity;
    evidence.apply(event(4, of_lease(2, opened(2, 1_000))));
    assert!(rated(&evidence).reputation.components.diversity < before);
}

#[test]
fn a_reorg_takes_payments_and_strikes_back() {
    let mut evidence = known();
    let before = rated(&evidence);
    evidence.apply(event(2, of_lease(1, opened(1, 100))));
    evidence.apply(event(3, of_lease(1, closed(2_400))));
    assert_ne!(rated(&evidence), before);
    evidence.apply(Feed::Reorged { from: 3 });
    assert_eq!(rated(&evidence).evidence, 0);
    let strike = StrikeRecord {
        block: 5,
        event: (B256::ZERO, 1),
        device: device(),
        epoch: Epoch::new(100),
        strike: Strike::Down,
    };
    evidence.struck(4, vec![strike]);
    assert_eq!(rated(&evidence).evidence, 1);
    evidence.struck(4, Vec::new());
    assert_eq!(rated(&evidence).evidence, 0);
}

#[test]
fn a_seat_that_signs_two_pages_for_one_epoch_tells_nothing() {
    let mut evidence = known();
    tell(&mut evidence, 1, 70);
    assert_eq!((rated(&evidence).evidence, evidence.pages()), (2, 1));
    tell(&mut evidence, 1, 70);
    assert_eq!(rated(&evidence).evidence, 2, "the same page again");
    evidence.told(&page(1, 70), B256::repeat_byte(0xee), |_| true);
    assert_eq!((rated(&evidence).evidence, evidence.pages()), (0, 0));
    tell(&mut evidence, 1, 70);
    assert_eq!(rated(&evidence).evidence, 0, "and never again");
}

#[test]
fn what_the_lots_did_not_give_a_seat_does_not_count() {
    let mut evidence = known();
    evidence.told(&page(1, 70), B256::repeat_byte(1), |_| false);
    assert_eq!(rated(&evidence).evidence, 0);
}

#[test]
fn the_order_of_evidence_does_not_matter() {
    let steps: [fn(&mut Evidence); 4] = [
        |evidence| tell(evidence, 1, 70),
        |evidence| tell(evidence, 2, 70),
        |evidence| evidence.apply(event(2, of_lease(1, opened(1, 100)))),
        |evidence| tell(evidence, 1, 71),
    ];
    let (mut one, mut other) = (known(), known());
    steps.iter().for_each(|step| step(&mut one));
    steps.iter().rev().for_each(|step| step(&mut other));
    assert_eq!(one.rate(), other.rate());
}
