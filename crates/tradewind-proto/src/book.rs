//! The offer book: every live offer, indexed so that the cheapest fitting one among a million is found within a millisecond.
//!
//! ```text
//! verified Offer ──insert──► slab ──► lanes: (token, kind of lease, model) ──► blocks of 512 in the order of price
//!                                                                               │ bit planes: one bit per offer and property
//!                                                                               └ bounds: the least any member can cost
//! search: blocks by lower bound, cheapest first ─► AND of the planes ─► exact check of what is left ─► stop at the bound
//! ```
//!
//! One writer per [`OfferKey`]: the newest sequence wins. Inserting, renewing and removing cost the logarithm of the book's size
//! plus one block. A heartbeat that changes nothing but its times leaves the index alone.

mod lane;
mod planes;
mod price;
mod synthetic;

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

use self::lane::Lane;
pub(crate) use self::lane::{Lanes, Query};
pub(crate) use self::planes::{Planes, Wish, is_in_good_standing};
pub(crate) use self::price::Size;
use self::price::Unit;
pub use self::synthetic::{TOKEN as SYNTHETIC_TOKEN, synthetic};
use crate::ids::ProviderId;
use crate::offer::{Gpus, Offer, OfferKey, Resources};
use crate::terms::LeaseKind;
use crate::units::Timestamp;

/// What the chain says of the stake behind an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stake {
    /// Nobody has asked the chain yet; `open` will.
    #[default]
    Unknown,
    /// The device is registered, staked and its rent is paid.
    Confirmed,
    /// It is not, or it is unbonding.
    Missing,
}

/// What chain and watchers say of an offer's provider. Never taken from the offer itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Standing {
    /// The device's stake.
    pub stake: Stake,
    /// The device may open no lease for now.
    pub jailed: bool,
    /// Reliability in basis points; `None` while there is not enough history.
    pub reliability: Option<u16>,
}

/// What became of an inserted offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The first under its key.
    New,
    /// It replaced an older one.
    Renewed,
    /// One with the same or a newer sequence is known.
    Stale,
}

pub(crate) struct Entry {
    pub(crate) offer: Offer,
    pub(crate) standing: Standing,
    /// The offer's model as it is matched; empty without accelerators.
    pub(crate) model: String,
    planes: Planes,
}

/// Which lane an offer stands in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LaneKey {
    token: Address,
    kind: LeaseKind,
    /// `None` without accelerators; a hash of the model otherwise, so that invented models cannot multiply lanes.
    model: Option<u8>,
    /// Offers that give about as much CPU and memory with each accelerator: only they rank alike for every job.
    shape: u8,
}

/// Every live offer.
#[derive(Default)]
pub struct OfferBook {
    slab: Vec<Option<Entry>>,
    free: Vec<u32>,
    keys: BTreeMap<OfferKey, u32>,
    expiry: BTreeSet<(Timestamp, u32)>,
    lanes: BTreeMap<LaneKey, Lane>,
    standings: BTreeMap<OfferKey, Standing>,
}

impl OfferBook {
    /// An empty book.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of offers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// No offer at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The offer under `key`.
    #[must_use]
    pub fn get(&self, key: &OfferKey) -> Option<&Offer> {
        self.keys.get(key).and_then(|slot| self.entry(*slot)).map(|entry| &entry.offer)
    }

    /// Every offer, by provider and device.
    pub fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.entries().map(|entry| &entry.offer)
    }

    /// Takes a verified offer in (see [`crate::offer::SignedOffer::verify`]).
    pub fn insert(&mut self, offer: Offer) -> Inserted {
        let key = offer.key();
        let Some(&slot) = self.keys.get(&key) else {
            self.add(offer);
            return Inserted::New;
        };
        let Some(known) = self.entry(slot).map(|entry| &entry.offer) else { return Inserted::Stale };
        if offer.sequence <= known.sequence {
            return Inserted::Stale;
        }
        let mut renewed = known.clone();
        renewed.sequence = offer.sequence;
        renewed.issued_at = offer.issued_at;
        renewed.expires_at = offer.expires_at;
        if renewed == offer {
            self.expiry.remove(&(known.expires_at, slot));
            self.expiry.insert((offer.expires_at, slot));
            if let Some(Some(entry)) = self.slab.get_mut(slot as usize) {
                entry.offer = offer;
            }
        } else {
            self.remove(&key);
            self.add(offer);
        }
        Inserted::Renewed
    }

    /// Takes an offer out.
    pub fn remove(&mut self, key: &OfferKey) -> Option<Offer> {
        let slot = self.keys.remove(key)?;
        let entry = self.slab.get_mut(slot as usize)?.take()?;
        self.expiry.remove(&(entry.offer.expires_at, slot));
        self.unlink(slot, &entry);
        self.free.push(slot);
        Some(entry.offer)
    }

    /// Takes out what has expired, and says how many.
    pub fn expire(&mut self, now: Timestamp) -> usize {
        let mut expired = 0;
        while let Some(&(at, slot)) = self.expiry.first() {
            if at > now {
                break;
            }
            self.expiry.pop_first();
            if let Some(key) = self.entry(slot).map(|entry| entry.offer.key()) {
                self.remove(&key);
                expired += 1;
            }
        }
        expired
    }

    /// Records what the chain says of one device; it outlives the device's offers.
    pub fn set_standing(&mut self, key: OfferKey, standing: Standing) {
        self.standings.insert(key, standing);
        let Some(&slot) = self.keys.get(&key) else { return };
        let Some(mut entry) = self.slab.get_mut(slot as usize).and_then(Option::take) else { return };
        if entry.standing != standing {
            self.unlink(slot, &entry);
            entry.standing = standing;
            entry.planes = Planes::of(&entry.offer, &standing);
            self.link(slot, &entry);
        }
        self.slab[slot as usize] = Some(entry);
    }

    /// Drops what is recorded of a provider's devices that offer nothing now.
    pub fn forget_standing(&mut self, provider: ProviderId) {
        let keys = &self.keys;
        self.standings.retain(|key, _| key.provider != provider || keys.contains_key(key));
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.keys.values().filter_map(|slot| self.entry(*slot))
    }

    /// Shows the offers that may answer `query`, block by block, the cheapest possible block first. `visit` answers the highest
    /// rate that could still matter; the search ends when no block can be at or below it.
    pub(crate) fn search<'b>(&'b self, query: &Query, visit: &mut impl FnMut(&'b Entry) -> u128) {
        let first = LaneKey { token: query.token, kind: query.kind, model: None, shape: 0 };
        let lanes = self
            .lanes
            .range(first..)
            .take_while(|(key, _)| key.token == query.token && key.kind == query.kind)
            .filter(|(key, _)| query.lanes.admits(key.model));
        lane::search(lanes.map(|(_, lane)| lane), query, &mut |slot| self.entry(slot).map(&mut *visit));
    }

    fn entry(&self, slot: u32) -> Option<&Entry> {
        self.slab.get(slot as usize).and_then(Option::as_ref)
    }

    fn add(&mut self, offer: Offer) {
        let key = offer.key();
        let standing = self.standings.get(&key).copied().unwrap_or_default();
        let model =
            offer.unit.gpus.as_ref().map(|gpus| Gpus::canonical_model(&gpus.model)).unwrap_or_default();
        let entry = Entry { planes: Planes::of(&offer, &standing), standing, model, offer };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let Ok(slot) = u32::try_from(self.slab.len()) else { return };
                self.slab.push(None);
                slot
            }
        };
        self.expiry.insert((entry.offer.expires_at, slot));
        self.keys.insert(key, slot);
        self.link(slot, &entry);
        self.slab[slot as usize] = Some(entry);
    }

    fn link(&mut self, slot: u32, entry: &Entry) {
        for (key, unit) in places(entry) {
            self.lanes.entry(key).or_default().insert(slot, model_hash(&entry.model), unit, entry.planes);
        }
    }

    fn unlink(&mut self, slot: u32, entry: &Entry) {
        for (key, unit) in places(entry) {
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.remove(slot, unit);
                if lane.is_empty() {
                    self.lanes.remove(&key);
                }
            }
        }
    }
}

/// The lanes that an offer stands in: one for each kind of lease that it sells.
fn places(entry: &Entry) -> impl Iterator<Item = (LaneKey, Unit)> {
    let offer = &entry.offer;
    let model = (!entry.model.is_empty()).then(|| lane::of_model(model_hash(&entry.model)));
    [LeaseKind::OnDemand, LeaseKind::Spot, LeaseKind::Reserved].into_iter().filter_map(move |kind| {
        let rate = offer.unit_rate(kind)?.scaled();
        let key = LaneKey { token: offer.prices.token, kind, model, shape: shape_of(&offer.unit) };
        Some((key, Unit::of(&offer.unit, rate)))
    })
}

/// CPU and memory for each accelerator (memory for each CPU where there is none), in powers of two, four steps of each.
fn shape_of(unit: &Resources) -> u8 {
    let parts = unit.gpus.as_ref().map_or(u64::from(unit.cpu_millis) / 1_000, |gpus| u64::from(gpus.count));
    let step = |amount: u64, smallest: u64| {
        let steps = (amount / parts.max(1) / smallest).max(1).ilog2().min(3);
        u8::try_from(steps).unwrap_or(0)
    };
    let gib = unit.memory.get() >> 30;
    if unit.gpus.is_none() {
        return step(gib, 1);
    }
    4 * step(u64::from(unit.cpu_millis) / 1_000, 4) + step(gib, 16)
}

/// A number for a model (FNV-1a): its last byte chooses the lane, and all of it tells apart what shares one.
pub(crate) fn model_hash(model: &str) -> u32 {
    model.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests;
