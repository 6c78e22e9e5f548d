//! What a device that is killed says afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tradewind_challenge::AnyEngine;
use tradewind_proto::evidence::{Equivocation, ProductRoots, Sworn};
use tradewind_proto::ids::MeshKey;
use tradewind_proto::probe::{Response, Why};
use tradewind_store::Store;

use super::device::{
    Chain, Disk, Fate, ask_as, court, cpu, honest, key, list, opens, ping, pong, roots, row, start, start_on,
    why,
};
use super::hostile::Tampering;

#[tokio::test]
async fn a_device_that_is_killed_never_uses_a_number_twice() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let fates = [Fate::Stored, Fate::Unheard, Fate::Lost];
    let mut used = BTreeSet::new();
    let mut asked = 0;
    for life in 0..30usize {
        let device = honest(&disk, &chain).await;
        for fate in fates.into_iter().cycle().skip(life % 3).take(1 + life % 2) {
            disk.set(fate);
            for _ in 0..(life * 13) % 60 {
                asked += 1;
                if let Some(reply) = pong(&device, asked).await {
                    assert!(used.insert(reply.sequence), "{} was said twice", reply.sequence);
                }
            }
        }
    }
    assert!(used.len() > 200, "only {} of {asked} pings were answered", used.len());
}

#[tokio::test]
async fn a_device_speaks_on_beyond_its_mark() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let device = honest(&disk, &chain).await;
    let mut numbers = Vec::new();
    // More watchers than one, whose allowance ends before the mark does.
    for watcher in 0..12u8 {
        for number in 0..200 {
            let response = ask_as(MeshKey::from_bytes([watcher; 32]), &device, ping(number)).await;
            let Response::Pong(reply) = response else { panic!("no pong: {response:?}") };
            numbers.push(reply.sequence);
        }
    }
    assert_eq!(numbers, (0..2_400).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_mark_survives_in_the_stores_file() {
    let (dir, chain) = (tempfile::tempdir().expect("a directory"), Chain::at(7));
    let mut used = BTreeSet::new();
    for _ in 0..3 {
        let store = Store::open(&dir.path().join("node.db")).await.expect("opened");
        let device = start_on(store, &chain, 0, || AnyEngine::new(cpu())).await;
        for number in 0..10 {
            assert!(used.insert(pong(&device, number).await.expect("a pong").sequence));
        }
    }
}

/// The list of an earlier life.
async fn said_before(disk: &Disk, chain: &Arc<Chain>) -> Sworn<ProductRoots> {
    let device = honest(disk, chain).await;
    list(&device, 7).await
}

#[tokio::test]
async fn a_list_is_the_same_bytes_after_a_restart_and_its_rows_open_again() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let first = said_before(&disk, &chain).await;
    let device = honest(&disk, &chain).await;
    // Without the chain: neither the list nor its rows need it again.
    chain.down.store(true, Ordering::SeqCst);
    assert_eq!(list(&device, 7).await, first);
    assert!(opens(&device, &chain, &first).await);
}

#[tokio::test]
async fn rows_open_after_a_restart_although_nobody_asks_for_the_list_again() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let first = said_before(&disk, &chain).await;
    let device = honest(&disk, &chain).await;
    assert!(opens(&device, &chain, &first).await);
}

#[tokio::test]
async fn a_seed_that_a_reorg_changed_makes_no_second_list() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let first = said_before(&disk, &chain).await;
    chain.fork.store(1, Ordering::SeqCst);
    let device = honest(&disk, &chain).await;
    let second = list(&device, 7).await;
    assert!(Equivocation::prove(first.clone(), second, &court(), key().address()).is_err());
    chain.fork.store(0, Ordering::SeqCst);
    assert!(opens(&device, &chain, &first).await);
}

#[tokio::test]
async fn an_engine_that_computes_otherwise_after_a_restart_says_the_same_list_and_opens_nothing() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let first = said_before(&disk, &chain).await;
    let device = start(&disk, &chain, 0, || AnyEngine::new(Tampering::new(cpu()))).await;
    assert_eq!(list(&device, 7).await, first);
    assert_eq!(why(&device, row(7, 0, 1)).await, Why::Failed);
    assert_eq!(list(&device, 7).await, first);
}

#[tokio::test]
async fn a_list_is_not_shown_before_it_is_stored() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let device = honest(&disk, &chain).await;
    disk.set(Fate::Lost);
    assert_eq!(why(&device, roots(7)).await, Why::Failed);
    assert_eq!((disk.records("products"), why(&device, row(7, 0, 1)).await), (0, Why::Unsigned));
    disk.set(Fate::Stored);
    let device = honest(&disk, &chain).await;
    assert!(opens(&device, &chain, &list(&device, 7).await).await);
}

#[tokio::test]
async fn a_list_that_was_stored_unheard_is_the_one_that_is_said() {
    let (disk, chain) = (Disk::default(), Chain::at(7));
    let device = honest(&disk, &chain).await;
    disk.set(Fate::Unheard);
    assert_eq!(why(&device, roots(7)).await, Why::Failed);
    assert_eq!(disk.records("products"), 1);
    disk.set(Fate::Stored);
    chain.fork.store(1, Ordering::SeqCst);
    let device = honest(&disk, &chain).await;
    let signed = list(&device, 7).await;
    chain.fork.store(0, Ordering::SeqCst);
    assert!(opens(&device, &chain, &signed).await, "the stored list answers the first seed");
}
