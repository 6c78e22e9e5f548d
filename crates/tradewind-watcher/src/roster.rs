//! Own seats, and where they stand in each epoch's frozen roster.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::{Address, keccak256};
use tokio::sync::Mutex;
use tradewind_chain::ledger::LedgerError;
use tradewind_chain::ledger::court::Tribunal;
use tradewind_proto::evidence::Epoch;
use tradewind_proto::signature::{SignatureError, SigningKey};

/// Rosters that are remembered.
const KEPT: usize = 32;

/// The key of the `number`-th seat of whoever holds `master`.
///
/// # Errors
/// [`SignatureError`] for a digest that is no key, which nobody has ever seen.
pub fn seat_key(master: &SigningKey, number: u16) -> Result<SigningKey, SignatureError> {
    let secret = [b"tradewind/seat".as_slice(), &master.secret_bytes(), &number.to_be_bytes()].concat();
    SigningKey::from_bytes(keccak256(secret).0)
}

/// Own seats by their numbers on chain.
pub(crate) struct Seats {
    keys: BTreeMap<Address, SigningKey>,
    known: Mutex<BTreeMap<u32, Option<Address>>>,
    rosters: Mutex<BTreeMap<Epoch, Arc<Roster>>>,
}

/// An epoch's roster: which seat is at which place.
pub(crate) struct Roster {
    places: Vec<u32>,
}

impl Roster {
    pub(crate) fn seats(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn seat_at(&self, place: u32) -> Option<u32> {
        self.places.get(place as usize).copied()
    }
}

impl Seats {
    pub(crate) fn new(keys: Vec<SigningKey>) -> Self {
        let keys = keys.into_iter().map(|key| (key.address(), key)).collect();
        Self { keys, known: Mutex::default(), rosters: Mutex::default() }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &SigningKey> {
        self.keys.values()
    }

    /// The key of a seat, where it is an own one.
    pub(crate) async fn own(
        &self,
        tribunal: &dyn Tribunal,
        seat: u32,
    ) -> Result<Option<&SigningKey>, LedgerError> {
        let mut known = self.known.lock().await;
        let address = match known.get(&seat) {
            Some(address) => *address,
            None => {
                let key = tribunal.seat(seat).await?.key;
                let address = self.keys.contains_key(&key).then_some(key);
                known.insert(seat, address);
                address
            }
        };
        Ok(address.and_then(|address| self.keys.get(&address)))
    }

    /// An epoch's roster. It is frozen two epochs before, so it is read once.
    pub(crate) async fn roster(
        &self,
        tribunal: &dyn Tribunal,
        epoch: Epoch,
    ) -> Result<Arc<Roster>, LedgerError> {
        let mut rosters = self.rosters.lock().await;
        if let Some(roster) = rosters.get(&epoch) {
            return Ok(roster.clone());
        }
        let mut places = Vec::new();
        for place in 0..tribunal.seats(epoch).await? {
            places.push(tribunal.seat_at(epoch, place).await?);
        }
        let roster = Arc::new(Roster { places });
        rosters.insert(epoch, roster.clone());
        while rosters.len() > KEPT {
            rosters.pop_first();
        }
        Ok(roster)
    }
}
