//! Who may write to the directory: whoever has a paid place in the registry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alloy::primitives::Address;
use tradewind_chain::ledger::Ledger;
use tradewind_mesh::directory::OfferVerifier;
use tradewind_mesh::{Refusal, RefusalCode};
use tradewind_proto::units::{Clock, Timestamp};

/// How long an answer of the registry counts.
const KNOWN_FOR: Duration = Duration::from_secs(300);
/// How long the registry may take.
const ASK: Duration = Duration::from_secs(10);
/// Accounts whose rent is remembered.
const KNOWN: usize = 100_000;

/// Believes offers of providers whose rent is paid. Asks `ledger` from the runtime that this is called on.
pub(crate) fn registered(ledger: Arc<dyn Ledger>, clock: Clock) -> OfferVerifier {
    let rents = Rents { ledger, runtime: tokio::runtime::Handle::current(), known: Mutex::default() };
    let now = clock.clone();
    let admit = move |offer: &tradewind_proto::offer::Offer| {
        if rents.paid_until(offer.provider.account())? < now() {
            let lapsed = "the provider's rent in the registry has lapsed";
            return Err(Refusal::new(RefusalCode::Rejected, lapsed));
        }
        Ok(())
    };
    OfferVerifier::new(clock, Box::new(admit))
}

/// What the registry said of accounts.
struct Rents {
    ledger: Arc<dyn Ledger>,
    runtime: tokio::runtime::Handle,
    known: Mutex<HashMap<Address, (Timestamp, Instant)>>,
}

impl Rents {
    /// Until when the account's place in the registry is paid; an answer is remembered for a while.
    fn paid_until(&self, account: Address) -> Result<Timestamp, Refusal> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&account).copied();
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
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN {
            known.retain(|_, (_, asked)| asked.elapsed() < KNOWN_FOR);
        }
        known.insert(account, (record.rent_paid_until, Instant::now()));
        Ok(record.rent_paid_until)
    }
}
