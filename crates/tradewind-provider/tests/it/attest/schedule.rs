//! Which epochs a device answers for, and when.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tradewind_proto::probe::Why;

use super::device::{Chain, Disk, honest, list, opens, roots, row, why};

/// Longer than the device goes by one answer of the chain.
const LATER: Duration = Duration::from_millis(600);

#[tokio::test]
async fn the_last_epochs_rows_open_while_the_present_ones_do_and_older_ones_are_forgotten() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let device = honest(&disk, &chain).await;
    let seventh = list(&device, 7).await;
    chain.now.store(8, Ordering::SeqCst);
    tokio::time::sleep(LATER).await;
    let eighth = list(&device, 8).await;
    for signed in [&seventh, &eighth, &seventh, &eighth] {
        assert!(opens(&device, &chain, signed).await);
    }
    chain.now.store(9, Ordering::SeqCst);
    tokio::time::sleep(LATER).await;
    let ninth = list(&device, 9).await;
    assert!(opens(&device, &chain, &eighth).await && opens(&device, &chain, &ninth).await);
    assert_eq!(
        (why(&device, row(7, 0, 0)).await, why(&device, roots(7)).await),
        (Why::Unsigned, Why::OtherEpoch)
    );
    assert_eq!(disk.records("products"), 2);
}

#[tokio::test]
async fn a_chain_that_goes_back_makes_no_second_list_of_a_forgotten_epoch() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let device = honest(&disk, &chain).await;
    list(&device, 7).await;
    chain.now.store(9, Ordering::SeqCst);
    tokio::time::sleep(LATER).await;
    let ninth = list(&device, 9).await;
    chain.now.store(7, Ordering::SeqCst);
    chain.fork.store(1, Ordering::SeqCst);
    for device in [device, honest(&disk, &chain).await] {
        tokio::time::sleep(LATER).await;
        assert_eq!(why(&device, roots(7)).await, Why::OtherEpoch);
        assert_eq!(list(&device, 9).await, ninth);
    }
}

#[tokio::test]
async fn a_chain_that_is_down_or_a_beacon_that_stalls_delays_a_list_and_no_more() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let device = honest(&disk, &chain).await;
    chain.down.store(true, Ordering::SeqCst);
    assert_eq!(why(&device, roots(7)).await, Why::NoSeed);
    chain.down.store(false, Ordering::SeqCst);
    chain.stalled.store(true, Ordering::SeqCst);
    assert_eq!(why(&device, roots(7)).await, Why::NoSeed);
    chain.stalled.store(false, Ordering::SeqCst);
    tokio::time::sleep(LATER).await;
    let signed = list(&device, 7).await;
    assert!(opens(&device, &chain, &signed).await);
}
