//! What a watcher's verifier takes for a device's hardware challenge, beside the same hashes one at a time.
//!
//! The device is made up: of a product at full size only the rows that are opened are computed, the tree above them is filled
//! with anything. The verifier cannot know.

use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256, U256};
use anyhow::{Context as _, bail, ensure};
use tradewind_challenge::{
    Answer, CpuEngine, CpuWalker, Engine as _, Pick, Secret, Threads, Verifier, Walker as _, rows,
};
use tradewind_proto::challenge::memory::Walk;
use tradewind_proto::challenge::{self, Challenge, Claim, RowOpening, Side, Size, Tree, row_root};
use tradewind_proto::evidence::{Court, Epoch, ProductRoots, Sworn};
use tradewind_proto::ids::DeviceId;
use tradewind_proto::signature::SigningKey;

use crate::figure::{Figure, median, number};
use crate::progress::say;

const SIZE: u32 = 16_384;
const ROWS: u32 = 32;
const ROUNDS: usize = 3;
/// Of the engine on the CPU.
const SMALL: u32 = 1_024;
const HASHES: u32 = 200_000;
const SECRET: [u8; 32] = [7; 32];

pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let key = SigningKey::from_bytes(SECRET)?;
    let size = Size::new(SIZE)?;
    let (claim, openings) = made_up(&key, size)?;
    let single = std::num::NonZeroUsize::MIN;
    let mut spans = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (threads, place) in [(Threads::available(), 0), (Threads::new(single), 2)] {
            let mut verifier = Verifier::new(claim.clone(), Secret::new(SECRET), threads);
            spans[place].push(check(&mut verifier, &openings)?.as_secs_f64());
            if place == 0 {
                spans[1].push(check(&mut verifier, &openings)?.as_secs_f64());
            }
        }
    }
    let [cold, cached, alone] = spans.map(median);
    say(format_args!(
        "  {ROWS} rows at {SIZE}: {cold:.2} s cold, {cached:.4} s with B cached, {alone:.2} s on one core"
    ));
    let hashes = f64::from(SIZE) * f64::from(SIZE) / 32.0;
    let mut figures = vec![
        Figure::new(format!("challenge: {ROWS} rows at n = {SIZE}, cold"), cold, "s"),
        Figure::new(format!("challenge: {ROWS} rows at n = {SIZE}, B cached"), cached, "s"),
        Figure::new("challenge: an expanded hash on one core", alone / hashes * 1e9, "ns")
            .beside("alloy's keccak256", one_at_a_time()),
    ];
    figures.extend(engines()?);
    Ok(figures)
}

/// A claim of one round, and its rows.
fn made_up(key: &SigningKey, size: Size) -> anyhow::Result<(Claim, Vec<RowOpening>)> {
    let court = Court { chain_id: 31_337, contract: Address::repeat_byte(0x1e) };
    let device = DeviceId::new(B256::repeat_byte(1));
    let challenge = Challenge { court, beacon: B256::repeat_byte(2), device, epoch: Epoch::new(3) };
    let numbers: Vec<u32> = (0..ROWS).map(|index| index * (SIZE / ROWS) + index).collect();
    let values = rows(challenge.seed(), &numbers, size, Threads::available());
    let mut tree = Tree::new((0..SIZE).map(|row| B256::from(U256::from(row))).collect());
    for (row, values) in numbers.iter().zip(&values) {
        tree.replace(usize::try_from(*row)?, row_root(values));
    }
    let list = ProductRoots::new(device, challenge.epoch, size, vec![tree.root()])?;
    let claim = Claim::accept(Sworn::sign(list, &court, key), &challenge, key.address(), size, 1)?;
    let opened = numbers.into_iter().zip(values).map(|(row, values)| {
        let path = tree.path(usize::try_from(row).unwrap_or_default());
        RowOpening { row, values, path }
    });
    Ok((claim, opened.collect()))
}

fn check(verifier: &mut Verifier, openings: &[RowOpening]) -> anyhow::Result<Duration> {
    let began = Instant::now();
    for opening in openings {
        let answer = verifier.check(Pick { round: 0, row: opening.row }, opening)?;
        if answer != Answer::Holds {
            bail!("a right row did not pass");
        }
    }
    Ok(began.elapsed())
}

/// Nanoseconds of a chunk's hash.
fn one_at_a_time() -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        for chunk in 0..HASHES {
            std::hint::black_box(challenge::chunk(B256::repeat_byte(3), Side::B, 5, chunk));
        }
        began.elapsed().as_secs_f64() / f64::from(HASHES) * 1e9
    });
    median(rounds.collect())
}

/// What a machine without an accelerator answers.
fn engines() -> anyhow::Result<Vec<Figure>> {
    let size = Size::new(SMALL)?;
    let mut engine = CpuEngine::new(size, Threads::available(), 1 << 26);
    let mut spans = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        engine.multiply(0, B256::repeat_byte(4))?;
        spans.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let walk = Walk::new(B256::repeat_byte(5), [256, 1_024], [16, 64, 256])?;
    let began = Instant::now();
    let memory = CpuWalker { threads: Threads::available(), room: 16 << 20 }.walk(walk)?;
    let rate = number(walk.bytes_read()) / began.elapsed().as_secs_f64() / 1e6;
    let began = Instant::now();
    let stretch = memory.open(3, 5).context("no such stretch")?;
    ensure!(stretch.check(&walk, memory.root()).is_ok(), "a right stretch did not pass");
    let checked = began.elapsed().as_secs_f64() * 1e3;
    Ok(vec![
        Figure::new(format!("challenge: a product at n = {SMALL} on the CPU"), median(spans), "ms"),
        Figure::new("challenge: the memory walk on the CPU, 16 MiB filled first", rate, "MB/s"),
        Figure::new("challenge: a stretch of 256 steps checked", checked, "ms"),
    ])
}
