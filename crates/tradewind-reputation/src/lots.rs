//! What the chain's lots and keys say of an epoch: which seat may tell of which device.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use alloy_primitives::{Address, B256};
use tradewind_chain::ledger::LedgerError;
use tradewind_chain::ledger::court::{CourtSetup, Tribunal};
use tradewind_proto::evidence::{Epoch, Seat, sentinels};
use tradewind_proto::ids::DeviceId;

/// Epochs whose lots are remembered.
const KEPT: usize = 64;

/// An epoch's roster and seed.
pub(crate) struct Lots {
    seed: B256,
    places: Vec<u32>,
}

/// Lots and keys, as they are asked for.
#[derive(Default)]
pub(crate) struct Rosters {
    lots: BTreeMap<Epoch, Option<Lots>>,
    keys: HashMap<Seat, Address>,
}

impl Rosters {
    /// The key that signs a seat's pages.
    pub(crate) async fn key(&mut self, tribunal: &dyn Tribunal, seat: Seat) -> Result<Address, LedgerError> {
        if let Some(key) = self.keys.get(&seat) {
            return Ok(*key);
        }
        let key = tribunal.seat(seat.get()).await?.key;
        if key != Address::ZERO {
            self.keys.insert(seat, key);
        }
        Ok(key)
    }

    /// An epoch's lots; none where its seed is unknown for good.
    pub(crate) async fn of(
        &mut self,
        tribunal: &dyn Tribunal,
        setup: &CourtSetup,
        epoch: Epoch,
    ) -> Result<Option<&Lots>, LedgerError> {
        if let Entry::Vacant(unknown) = self.lots.entry(epoch) {
            let mut places = Vec::new();
            let seed = tribunal.seed(setup.start_of(epoch)).await?;
            if seed.is_some() {
                for place in 0..tribunal.seats(epoch).await? {
                    places.push(tribunal.seat_at(epoch, place).await?);
                }
            }
            unknown.insert(seed.map(|seed| Lots { seed, places }));
            while self.lots.len() > KEPT {
                // Pages are read backwards: the one that was just asked for may be the oldest.
                let is_oldest = self.lots.first_key_value().is_some_and(|(oldest, _)| *oldest == epoch);
                if is_oldest {
                    self.lots.pop_last()
                } else {
                    self.lots.pop_first()
                };
            }
        }
        Ok(self.lots.get(&epoch).and_then(Option::as_ref))
    }
}

impl Lots {
    /// Whether the seat was drawn to watch the device.
    pub(crate) fn gave(&self, seat: Seat, tribunal: &dyn Tribunal, device: DeviceId, epoch: Epoch) -> bool {
        let seats = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        let drawn = sentinels(self.seed, tribunal.court().case(device, epoch), seats);
        drawn.iter().any(|place| self.places.get(place.get() as usize) == Some(&seat.get()))
    }
}
