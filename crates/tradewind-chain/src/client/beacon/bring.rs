//! One round: made from blocks, or fetched from drand and checked.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::providers::Provider;
use alloy::sol_types::SolCall;
use tokio::time::Instant;
use tradewind_proto::units::Seconds;

use super::{KeepError, Keeper};
use crate::client::bindings::court::abi::{Beacon, DrandBeacon};
use crate::client::drand::{Relays, RoundSignature};
use crate::client::sender::Call;
use crate::ledger::{ActionStatus, LedgerError};

/// A mark, a seed, and as much again where blocks were late.
const TRIES: u32 = 4;
/// What an account holds at least before it pays for rounds, in wei.
const MIN_GAS: U256 = U256::from_limbs([1_000_000_000_000_000, 0, 0, 0]);
/// How long a transaction may take until the keeper looks elsewhere; it stays in the outbox.
const STEP: Duration = Duration::from_secs(60);
/// The first rest after a failure; each further one is twice as long, up to [`LONGEST`].
const REST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_secs(30);
/// The most rounds that rest.
const MAX_RESTING: usize = 1_024;

/// Rounds that failed, and when they are tried again.
#[derive(Default)]
pub(super) struct Resting(BTreeMap<u64, (Instant, Duration)>);

impl Resting {
    pub(super) fn holds(&self, round: u64) -> bool {
        self.0.get(&round).is_some_and(|(until, _)| *until > Instant::now())
    }

    pub(super) fn forget(&mut self, round: u64) {
        self.0.remove(&round);
    }

    pub(super) fn failed(&mut self, round: u64) {
        let rest = self.0.get(&round).map_or(REST, |(_, last)| last.saturating_mul(2).min(LONGEST));
        self.0.insert(round, (Instant::now() + rest, rest));
        while self.0.len() > MAX_RESTING {
            self.0.pop_first();
        }
    }
}

/// A keeper's wait for the others, the same whenever it is asked.
pub(super) fn turn(account: Address, round: u64, turns: Duration) -> Seconds {
    let drawn = keccak256([account.as_slice(), &round.to_be_bytes()].concat());
    Seconds::new(u64::from(drawn[0]) * turns.as_secs() / 256)
}

impl Keeper<'_> {
    pub(super) async fn make(&self, round: u64) -> Result<(), KeepError> {
        let beacon = self.reader.beacon(self.setup.beacon);
        for attempt in 0..TRIES {
            if self.reader.ask(beacon.seed(round)).await? != B256::ZERO {
                return Ok(());
            }
            let key = format!("beacon:{round}:{attempt}");
            let call = Beacon::advanceCall { round }.abi_encode();
            self.sender.send(&key, Call::new(self.setup.beacon, call.into())).await?;
            self.sender.settled(&key).await?;
        }
        Ok(())
    }

    /// The round from the first relay whose signature the contract accepts.
    pub(super) async fn fetch(&self, relays: &Relays, chain: B256, round: u64) -> Result<(), KeepError> {
        let account = self.sender.account();
        let held = self.reader.provider().get_balance(account).latest().await;
        if held.map_err(|error| self.reader.error(error))? < MIN_GAS {
            return Err(KeepError::NoGas { account });
        }
        let mut problems = Vec::new();
        for relay in relays.all() {
            let signature = match relays.ask(relay, chain, round).await {
                Ok(signature) => signature,
                Err(error) => {
                    problems.push(format!("{}: {error}", relay.name()));
                    continue;
                }
            };
            let drand = DrandBeacon::new(self.setup.beacon, self.reader.provider());
            match self.reader.ask(drand.seedFrom(round, signature)).await {
                Ok(_) => return self.submit(round, signature).await,
                Err(LedgerError::Rejected(revert)) => problems.push(format!("{}: {revert}", relay.name())),
                Err(error) => return Err(error.into()),
            }
        }
        if problems.is_empty() {
            problems.push("no relay is named".into());
        }
        Err(KeepError::Unknown { round, why: problems.join("; ") })
    }

    async fn submit(&self, round: u64, signature: RoundSignature) -> Result<(), KeepError> {
        let key = format!("beacon:{}:{round}", self.setup.beacon);
        let call = DrandBeacon::submitCall { round, signature }.abi_encode();
        self.sender.send(&key, Call::new(self.setup.beacon, call.into())).await?;
        let refused = |reason: String| Err(KeepError::Refused { round, reason });
        match tokio::time::timeout(STEP, self.sender.settled(&key)).await {
            Ok(status) => match status? {
                ActionStatus::Included { .. } | ActionStatus::Final { .. } => Ok(()),
                ActionStatus::Failed { reason } => refused(reason),
                ActionStatus::Pending => refused("its transaction is still pending".into()),
            },
            Err(_) => refused("its transaction takes too long".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepers_have_turns_of_their_own_within_the_span() {
        let span = Duration::from_secs(12);
        let of = |byte| (1..=40).map(move |round| turn(Address::repeat_byte(byte), round, span));
        assert!(of(1).chain(of(2)).all(|turn| turn < Seconds::new(12)));
        let first = of(1).zip(of(2)).filter(|(one, other)| one < other).count();
        assert!((8..32).contains(&first), "neither is always first: {first}");
        assert!(of(1).eq(of(1)), "asked again it is the same");
        assert_eq!(turn(Address::ZERO, 1, Duration::ZERO), Seconds::ZERO);
    }

    #[test]
    fn a_round_that_fails_rests_twice_as_long_each_time_up_to_a_limit() {
        let mut resting = Resting::default();
        let rests: Vec<u64> = (0..7)
            .map(|_| {
                resting.failed(9);
                assert!(resting.holds(9) && !resting.holds(8));
                resting.0[&9].1.as_secs()
            })
            .collect();
        assert_eq!(rests, [1, 2, 4, 8, 16, 30, 30]);
        resting.forget(9);
        assert!(!resting.holds(9));
        (0..2_000).for_each(|round| resting.failed(round));
        assert_eq!(resting.0.len(), MAX_RESTING);
    }
}
