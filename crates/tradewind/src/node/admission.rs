//! Who may write to the directory: whoever has a paid place in the registry, and whoever holds a seat of the court.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alloy::primitives::Address;
use tradewind_chain::ledger::Ledger;
use tradewind_mesh::directory::{MarketVerifier, OfferVerifier};
use tradewind_mesh::{Refusal, RefusalCode};
use tradewind_proto::bulletin::Bulletin;
use tradewind_proto::units::{Clock, Timestamp};

/// How long an answer of the registry counts.
const KNOWN_FOR: Duration = Duration::from_secs(300);
/// How long the registry may take.
const ASK: Duration = Duration::from_secs(10);
/// Accounts whose rent is remembered.
const KNOWN: usize = 100_000;

/// Believes offers of providers whose rent is paid, and bulletins of watchers who hold the seats that they name. Asks `ledger` from
/// the runtime that this is called on.
pub(crate) fn registered(ledger: Arc<dyn Ledger>, clock: Clock) -> MarketVerifier {
    let holders = Holders {
        ledger: ledger.clone(),
        runtime: tokio::runtime::Handle::current(),
        known: Mutex::default(),
    };
    let rents = Rents { ledger, runtime: tokio::runtime::Handle::current(), known: Mutex::default() };
    let now = clock.clone();
    let admit = move |offer: &tradewind_proto::offer::Offer| {
        if rents.paid_until(offer.provider.account())? < now() {
            let lapsed = "the provider's rent in the registry has lapsed";
            return Err(Refusal::new(RefusalCode::Rejected, lapsed));
        }
        Ok(())
    };
    let offers = OfferVerifier::new(clock.clone(), Box::new(admit));
    MarketVerifier::new(clock, offers, Box::new(move |bulletin| holders.admit(bulletin)))
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

/// What the court said of seats' owners.
struct Holders {
    ledger: Arc<dyn Ledger>,
    runtime: tokio::runtime::Handle,
    known: Mutex<HashMap<u32, (Address, Instant)>>,
}

impl Holders {
    /// Every seat of the bulletin is its writer's; one that names no seat comes from nobody.
    fn admit(&self, bulletin: &Bulletin) -> Result<(), Refusal> {
        if bulletin.postings.is_empty() {
            return Err(Refusal::new(RefusalCode::Rejected, "the bulletin names no seat"));
        }
        for posting in &bulletin.postings {
            if self.owner(posting.seat().get())? != bulletin.watcher.account() {
                return Err(Refusal::new(
                    RefusalCode::Rejected,
                    "a seat of the bulletin is not its writer's",
                ));
            }
        }
        Ok(())
    }

    fn owner(&self, seat: u32) -> Result<Address, Refusal> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&seat).copied();
        if let Some((owner, asked)) = known
            && asked.elapsed() < KNOWN_FOR
        {
            return Ok(owner);
        }
        let ask = async {
            let tribunal = self.ledger.tribunal()?;
            tokio::time::timeout(ASK, tribunal.seat(seat)).await.ok()?.ok()
        };
        let Some(record) = self.runtime.block_on(ask) else {
            let silent = || Refusal::new(RefusalCode::Unavailable, "the court cannot be asked now");
            return known.map(|(owner, _)| owner).ok_or_else(silent);
        };
        let owner = if record.stake.is_zero() { Address::ZERO } else { record.owner };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN {
            known.retain(|_, (_, asked)| asked.elapsed() < KNOWN_FOR);
        }
        known.insert(seat, (owner, Instant::now()));
        Ok(owner)
    }
}
