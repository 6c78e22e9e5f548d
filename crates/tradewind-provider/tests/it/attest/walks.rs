//! A device's walks through its memory: for whom, when, and how often.

use std::sync::atomic::Ordering;

use alloy_primitives::{B256, keccak256};
use tradewind_challenge::Walker as _;
use tradewind_proto::challenge::memory::StretchError;
use tradewind_proto::challenge::{WalkOrder, WalkProfile};
use tradewind_proto::evidence::{Court, Epoch, Seat, Sworn};
use tradewind_proto::probe::{Question, Response, Why};
use tradewind_provider::attest::Attendant;

use super::device::{Chain, Disk, ask, court, device, foot, honest, seat, walks, why};

fn order(epoch: u64, number: u32) -> WalkOrder {
    let walk = walks().walk(keccak256(number.to_be_bytes()), None).expect("a walk");
    WalkOrder { device: device(), epoch: Epoch::new(epoch), seat: Seat::new(number), walk }
}

fn ordered(order: WalkOrder) -> Question {
    Question::Walk(Sworn::sign(order, &court(), &seat(order.seat.get())))
}

async fn root(attendant: &Attendant, order: WalkOrder) -> B256 {
    let response = ask(attendant, ordered(order)).await;
    let Response::Walked(root) = response else { panic!("it did not walk: {response:?}") };
    root
}

#[tokio::test]
async fn a_device_walks_for_its_sentinels_and_shows_every_part_of_it() {
    let attendant = honest(&Disk::default(), &Chain::at(7)).await;
    for number in 1..4 {
        let order = order(7, number);
        let root = root(&attendant, order).await;
        assert_eq!(root, foot().walk(order.walk).unwrap().root());
        for (walker, stretch) in [(0, 0), (1, 3), (2, 1)] {
            let (epoch, seat) = (order.epoch, order.seat);
            let question = Question::Stretch { device: device(), epoch, seat, walker, stretch };
            let Response::Stretch(opened) = ask(&attendant, question).await else { panic!("no stretch") };
            assert_eq!(opened.check(&order.walk, root), Ok(()));
            assert_ne!(opened.check(&order.walk, B256::ZERO), Ok::<(), StretchError>(()));
        }
    }
}

#[tokio::test]
async fn a_device_walks_for_nobody_else_and_no_other_walk() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let attendant = honest(&disk, &chain).await;
    let stranger = Sworn::sign(order(7, 1), &court(), &seat(9));
    let elsewhere = Sworn::sign(order(7, 1), &Court { chain_id: 2, ..court() }, &seat(1));
    let larger = WalkProfile { memory: 2, ..walks() }.walk(B256::ZERO, None).expect("a walk");
    let asked = [
        (Question::Walk(stranger), Why::NotOrdered),
        (Question::Walk(elsewhere), Why::NotOrdered),
        (ordered(order(7, 4)), Why::NotOrdered),
        (ordered(WalkOrder { walk: larger, ..order(7, 1) }), Why::NotOrdered),
        (ordered(order(9, 1)), Why::OtherEpoch),
        (ordered(order(5, 1)), Why::OtherEpoch),
    ];
    for (question, expected) in asked {
        assert_eq!(why(&attendant, question).await, expected);
    }
    let unknown = |walker, stretch| {
        let (epoch, seat) = (Epoch::new(7), Seat::new(1));
        Question::Stretch { device: device(), epoch, seat, walker, stretch }
    };
    assert_eq!(why(&attendant, unknown(0, 0)).await, Why::Unsigned);
    root(&attendant, order(7, 1)).await;
    assert_eq!(why(&attendant, unknown(3, 0)).await, Why::NoSuchRow);
}

#[tokio::test]
async fn a_device_at_work_does_not_walk_and_none_walks_twice_for_a_seat() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let attendant = honest(&disk, &chain).await;
    chain.leased.store(true, Ordering::SeqCst);
    assert_eq!(why(&attendant, ordered(order(7, 1))).await, Why::AtWork);
    chain.leased.store(false, Ordering::SeqCst);
    root(&attendant, order(7, 1)).await;
    assert_eq!(why(&attendant, ordered(order(7, 1))).await, Why::WalkedAlready);
    chain.now.store(8, Ordering::SeqCst);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    root(&attendant, order(8, 1)).await;
}

#[tokio::test]
async fn a_device_that_cannot_ask_the_chain_does_not_walk() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let attendant = honest(&disk, &chain).await;
    chain.stalled.store(true, Ordering::SeqCst);
    assert_eq!(why(&attendant, ordered(order(7, 1))).await, Why::NoSeed);
    chain.stalled.store(false, Ordering::SeqCst);
    chain.down.store(true, Ordering::SeqCst);
    assert_eq!(why(&attendant, ordered(order(7, 1))).await, Why::NoSeed);
    chain.down.store(false, Ordering::SeqCst);
    root(&attendant, order(7, 1)).await;
}
