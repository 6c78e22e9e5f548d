use alloy_primitives::keccak256;

use super::*;

const COURT: Court = Court { chain_id: 7, contract: Address::repeat_byte(0xc0) };
const EPOCH: Epoch = Epoch::new(12);

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes([byte; 32]).expect("a key")
}

fn device() -> DeviceId {
    DeviceId::new(B256::repeat_byte(1))
}

fn scene(key: &SigningKey) -> Scene<'static> {
    let [from, to] = [100_000, 103_600].map(Timestamp::from_unix);
    Scene { court: &COURT, key: key.address(), epoch: EPOCH, from, to }
}

fn pong(watcher: u32, unix_millis: u64, key: &SigningKey) -> Sign {
    let nonce = keccak256([1]);
    let body = Pong { nonce, watcher: Seat::new(watcher), unix_millis }.body();
    let statement = Statement { topic: topic::pong(), device: device(), sequence: 5, body };
    Sign { nonce, unix_millis, sequence: 5, signature: Sworn::sign(statement, &COURT, key).signature }
}

fn up(seat: u32, key: &SigningKey) -> (Seat, Sighting) {
    let mut sighting = Sighting::new(device());
    sighting.heard(pong(seat, 101_000_000, key));
    (Seat::new(seat), sighting)
}

fn down(seat: u32) -> (Seat, Sighting) {
    let mut sighting = Sighting::new(device());
    sighting.silent();
    (Seat::new(seat), sighting)
}

fn probes(seen: &[(Seat, Sighting)]) -> Vec<bool> {
    let facts = scene(&key(1)).observations(seen).into_iter().map(|observation| observation.fact);
    facts.filter_map(|fact| if let Fact::Probe { up } = fact { Some(up) } else { None }).collect()
}

#[test]
fn up_counts_only_with_the_devices_own_word_of_that_epoch() {
    let device_key = key(1);
    assert_eq!(probes(&[up(3, &device_key)]), [true]);
    let mut made_up = up(3, &device_key);
    made_up.1.pong = None;
    assert!(probes(&[made_up]).is_empty());
    assert!(probes(&[up(3, &key(2))]).is_empty(), "another key's word");
    let (_, others) = up(4, &device_key);
    assert!(probes(&[(Seat::new(3), others)]).is_empty(), "said to another watcher");
    for millis in [99_000_000, 104_000_000] {
        let mut stale = Sighting::new(device());
        stale.heard(pong(3, millis, &device_key));
        assert!(probes(&[(Seat::new(3), stale)]).is_empty(), "said in another epoch");
    }
}

#[test]
fn a_device_that_missed_more_than_it_answered_was_down() {
    let (seat, mut sighting) = up(3, &key(1));
    sighting.silent();
    assert_eq!(probes(&[(seat, sighting)]), [true]);
    sighting.silent();
    assert_eq!(probes(&[(seat, sighting)]), [false]);
}

#[test]
fn a_lone_down_does_not_count_against_two_with_evidence() {
    let device_key = key(1);
    assert_eq!(probes(&[up(1, &device_key), up(2, &device_key), down(3)]), [true, true]);
    assert_eq!(probes(&[up(1, &device_key), down(2), down(3)]), [true, false, false]);
    assert_eq!(probes(&[down(3)]), [false]);
}

#[test]
fn a_seat_counts_once_however_often_it_is_shown() {
    let seen = [down(3), down(3), down(3)];
    assert_eq!(probes(&seen), [false]);
    let twice = [scene(&key(1)).observations(&seen[..1]), scene(&key(1)).observations(&seen)];
    assert_eq!(twice[0], twice[1]);
}

#[test]
fn a_lone_failed_challenge_does_not_count_against_two_that_passed() {
    let told =
        |seat, passed| (Seat::new(seat), Sighting { challenge: Some(passed), ..Sighting::new(device()) });
    let facts = |seen: &[_]| scene(&key(1)).observations(seen).len();
    assert_eq!(facts(&[told(1, true), told(2, true), told(3, false)]), 2);
    assert_eq!(facts(&[told(1, true), told(2, false), told(3, false)]), 3);
}

fn page() -> Page {
    let previous = Some(PageRef { hash: [4; 32], size: 9 });
    Page::new(COURT, Seat::new(3), EPOCH, previous, vec![up(3, &key(1)).1]).expect("a page")
}

#[test]
fn a_page_is_read_as_it_was_signed() {
    let stored = SignedPage::sign(&page(), &key(8)).expect("signs").to_bytes();
    let (read, signer) = SignedPage::from_bytes(&stored).expect("reads").verify(&COURT).expect("verifies");
    assert_eq!((read, signer), (page(), key(8).address()));
}

#[test]
fn a_page_that_was_altered_or_is_anothers_does_not_count() {
    let stored = SignedPage::sign(&page(), &key(8)).expect("signs").to_bytes();
    for at in 65..stored.len() {
        let mut altered = stored.clone();
        altered[at] ^= 1;
        let verified = SignedPage::from_bytes(&altered).and_then(|page| page.verify(&COURT));
        assert!(verified.is_err() || verified.is_ok_and(|(_, signer)| signer != key(8).address()), "{at}");
    }
    let elsewhere = Court { chain_id: 8, ..COURT };
    let signed = SignedPage::from_bytes(&stored).expect("reads");
    assert_eq!(signed.verify(&elsewhere), Err(PageError::Court));
    assert_eq!(SignedPage::from_bytes(&stored[..60]), Err(PageError::Malformed));
    let trailing = SignedPage(Signed::new(DOMAIN, [&signed.0.bytes[..], &[0]].concat(), &key(8)));
    assert_eq!(trailing.verify(&COURT), Err(PageError::Malformed));
}

#[test]
fn a_device_twice_is_no_page() {
    let twice = vec![down(3).1, down(3).1];
    assert_eq!(Page::new(COURT, Seat::new(3), EPOCH, None, twice), Err(PageError::Devices));
}
