//! Whether attestations of places hold, as the chain said a moment ago.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy_primitives::B256;
use tradewind_chain::ledger::LedgerError;
use tradewind_chain::ledger::audit::Auditing;
use tradewind_proto::units::{Seconds, Timestamp};

/// How long an answer counts: that long after a revocation a lease may still be signed.
const KEPT: Seconds = Seconds::new(60);
/// The most answers that are kept.
const MOST: usize = 1_024;

/// Answers by the attestation's id. A chain that does not answer leaves none.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<BTreeMap<B256, (bool, Timestamp)>>);

impl Places {
    /// Whether the attestation holds at `now`, or a minute before.
    pub(crate) async fn hold(
        &self,
        auditing: &dyn Auditing,
        id: B256,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let known = self.known(now).get(&id).copied();
        if let Some((holds, _)) = known {
            return Ok(holds);
        }
        let holds = auditing.holds(id).await?;
        let mut known = self.known(now);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(id, (holds, now));
        Ok(holds)
    }

    /// Without what is too old.
    fn known(&self, now: Timestamp) -> MutexGuard<'_, BTreeMap<B256, (bool, Timestamp)>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, at)| now.since(*at) < KEPT);
        known
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use alloy_primitives::Address;
    use async_trait::async_trait;
    use tradewind_proto::place::Audit;

    use super::*;

    /// A contract that says one thing of everything, or cannot be asked, and counts. The real one has no such moments.
    #[derive(Default)]
    struct Contract {
        holds: AtomicBool,
        silent: AtomicBool,
        asked: AtomicU32,
    }

    #[async_trait]
    impl Auditing for Contract {
        async fn holds(&self, _: B256) -> Result<bool, LedgerError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.silent.load(Ordering::Relaxed) {
                return Err(LedgerError::Unavailable("no endpoint answers".into()));
            }
            Ok(self.holds.load(Ordering::Relaxed))
        }

        async fn audit(&self, _: B256) -> Result<Option<Audit>, LedgerError> {
            Ok(None)
        }

        async fn audits(&self, _: B256, _: B256, _: &[Address]) -> Result<Vec<Audit>, LedgerError> {
            Ok(Vec::new())
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix(1_000 + seconds)
    }

    #[tokio::test]
    async fn an_answer_counts_for_a_minute_and_silence_is_none() {
        let (places, contract, id) = (Places::default(), Contract::default(), B256::repeat_byte(1));
        contract.silent.store(true, Ordering::Relaxed);
        assert!(places.hold(&contract, id, at(0)).await.is_err());
        contract.silent.store(false, Ordering::Relaxed);
        contract.holds.store(true, Ordering::Relaxed);
        assert!(places.hold(&contract, id, at(1)).await.unwrap());
        contract.holds.store(false, Ordering::Relaxed);
        assert!(places.hold(&contract, id, at(60)).await.unwrap(), "asked 59 seconds before");
        assert!(!places.hold(&contract, id, at(61)).await.unwrap());
        contract.silent.store(true, Ordering::Relaxed);
        assert!(places.hold(&contract, id, at(200)).await.is_err(), "what was known is too old");
        assert_eq!(contract.asked.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn no_more_answers_are_kept_than_there_is_room_for() {
        let (places, contract) = (Places::default(), Contract::default());
        for number in 0..=MOST {
            let id = alloy_primitives::keccak256(number.to_be_bytes());
            places.hold(&contract, id, at(0)).await.unwrap();
        }
        assert!(places.known(at(0)).len() <= MOST);
    }
}
