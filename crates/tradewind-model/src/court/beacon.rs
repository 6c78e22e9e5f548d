//! The beacon of development networks: a round's seed is made of the hash of a block that the first caller marks.

use std::collections::BTreeMap;

use alloy::primitives::{B256, keccak256};
use alloy::sol_types::SolValue as _;

use crate::reference::Reference;
use crate::refusal::{Refusal, refuse, require};

/// How far back a block's hash is known.
const REMEMBERED: u64 = 256;

#[derive(Debug, Clone, Default)]
pub(crate) struct Beacon {
    pub(crate) seeds: BTreeMap<u64, B256>,
    /// The block that decides a round.
    pub(crate) marks: BTreeMap<u64, u64>,
    /// The hashes of marked blocks, which no model foretells.
    pub(crate) hashes: BTreeMap<u64, B256>,
}

impl Reference {
    pub(crate) fn advance(&mut self, round: u64) -> Result<(), Refusal> {
        let (now, block) = (self.state.now, self.state.block);
        let beacon = &self.state.court.beacon;
        if beacon.seeds.contains_key(&round) {
            return Ok(());
        }
        let mark = beacon.marks.get(&round).copied();
        if let Some(mark) = mark.filter(|mark| *mark < block && block - mark <= REMEMBERED) {
            let hash = beacon.hashes[&mark];
            let seed = keccak256((self.setting.bench.beacon, round, hash).abi_encode_params());
            self.state.court.beacon.seeds.insert(round, seed);
            return Ok(());
        }
        if let Some(mark) = mark.filter(|mark| *mark == block) {
            return refuse("SeedNotReady", &[&round, &mark]);
        }
        let due = self.round_time(round);
        let expired = due + self.setting.bench.expiry;
        require(now >= due, "RoundNotDue", &[&round, &due])?;
        require(now <= expired, "RoundExpired", &[&round, &expired])?;
        self.state.court.beacon.marks.insert(round, block);
        Ok(())
    }

    pub(crate) fn round_time(&self, round: u64) -> u64 {
        self.setting.bench.genesis + round * self.setting.bench.period
    }

    /// The first round that is not before `time`.
    pub(crate) fn round_at(&self, time: u64) -> u64 {
        time.saturating_sub(self.setting.bench.genesis).div_ceil(self.setting.bench.period)
    }

    pub(crate) fn seed_at(&self, time: u64) -> Option<B256> {
        self.state.court.beacon.seeds.get(&self.round_at(time)).copied()
    }
}
