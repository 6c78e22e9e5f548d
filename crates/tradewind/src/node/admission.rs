//! Who may write to the directory: whoever signs a valid offer and has a place in the registry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alloy::primitives::Address;
use tradewind_chain::ledger::Ledger;
use tradewind_mesh::directory::{Record, RecordVerifier};
use tradewind_mesh::{Refusal, RefusalCode};
use tradewind_proto::offer::SignedOffer;
use tradewind_proto::signature::{Signature, Signed};
use tradewind_proto::units::{Clock, Timestamp};

/// How long an answer of the registry counts.
const KNOWN_FOR: Duration = Duration::from_secs(300);
/// How long the registry may take.
const ASK: Duration = Duration::from_secs(10);
/// Accounts whose rent is remembered.
const KNOWN: usize = 100_000;

/// Verifies offers against signature and registry.
pub(crate) struct Admission {
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    runtime: tokio::runtime::Handle,
    rents: Mutex<HashMap<Address, (Timestamp, Instant)>>,
}

impl Admission {
    /// Asks `ledger` from the runtime that this is called on.
    pub(crate) fn new(ledger: Arc<dyn Ledger>, clock: Clock) -> Self {
        Self { ledger, clock, runtime: tokio::runtime::Handle::current(), rents: Mutex::default() }
    }

    /// Until when the account's place in the registry is paid; an answer is remembered for a while.
    fn rent(&self, account: Address) -> Result<Timestamp, Refusal> {
        let known = self.rents.lock().unwrap_or_else(PoisonError::into_inner).get(&account).copied();
        if let Some((until, asked)) = known
            && asked.elapsed() < KNOWN_FOR
        {
            return Ok(until);
        }
        let ask = tokio::time::timeout(ASK, self.ledger.account_record(account));
        let answer = self.runtime.block_on(async { ask.await.ok().and_then(Result::ok) });
        let Some(record) = answer else {
            // A silent chain makes nobody a stranger: what was known keeps counting.
            let silent = || Refusal::new(RefusalCode::Unavailable, "the registry cannot be asked now");
            return known.map(|(until, _)| until).ok_or_else(silent);
        };
        let Some(record) = record else {
            return Err(Refusal::new(RefusalCode::Rejected, "the account is not in the registry"));
        };
        let mut rents = self.rents.lock().unwrap_or_else(PoisonError::into_inner);
        if rents.len() >= KNOWN {
            rents.retain(|_, (_, asked)| asked.elapsed() < KNOWN_FOR);
        }
        rents.insert(account, (record.rent_paid_until, Instant::now()));
        Ok(record.rent_paid_until)
    }
}

impl RecordVerifier for Admission {
    fn verify(&self, record: &Record) -> Result<(), Refusal> {
        let forged = |why: &str| Refusal::new(RefusalCode::Forged, why);
        let signature =
            Signature::from_bytes(&record.signature).map_err(|error| forged(&error.to_string()))?;
        let now = (self.clock)();
        let offer = SignedOffer::from_signed(Signed { bytes: record.body.clone(), signature })
            .verify(now)
            .map_err(|error| Refusal::new(RefusalCode::Rejected, error.to_string()))?;
        let same = offer.provider == record.id.provider
            && offer.key().slot() == record.id.slot
            && offer.sequence == record.sequence
            && offer.expires_at == record.expires_at;
        if !same {
            return Err(forged("the record's header differs from the offer that it carries"));
        }
        if self.rent(offer.provider.account())? < now {
            return Err(Refusal::new(
                RefusalCode::Rejected,
                "the provider's rent in the registry has lapsed",
            ));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").finish_non_exhaustive()
    }
}
