//! Everything that counts, by device.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use alloy_primitives::{Address, B256, keccak256};
use tradewind_chain::ledger::court::{CourtSetup, StrikeRecord};
use tradewind_chain::ledger::{ChainEvent, Feed, LeaseEvent, LedgerEvent};
use tradewind_proto::challenge::Measured;
use tradewind_proto::evidence::{Court, Epoch, Seat};
use tradewind_proto::ids::{BuyerId, DeviceId, LeaseId};
use tradewind_proto::reputation::{Fact, Observation, Record};
use tradewind_proto::testimony::{Page, Scene, Sighting};
use tradewind_proto::units::{Money, RatePerSecond, Seconds};

use crate::Rated;

/// What one buyer counts with at most, where no lease of the device was ever opened.
const NO_PRICE: Money = Money::from_base_units(1);
const DAY: Seconds = Seconds::new(86_400);

/// A device of the registry.
#[derive(Debug, Clone, Copy)]
struct Device {
    key: Address,
    block: u64,
}

/// A lease that paid, or may yet.
#[derive(Debug, Clone, Copy)]
struct Lease {
    device: DeviceId,
    buyer: BuyerId,
    rate: RatePerSecond,
    block: u64,
    /// When and how much it paid in all, once it is closed, and the event that says so.
    closed: Option<(u64, Epoch, Money, B256)>,
}

/// A seat's page of an epoch; nothing once there are two.
#[derive(Debug, Clone)]
struct Told {
    content: B256,
    sightings: Option<Vec<Sighting>>,
}

/// What the chain and watchers say.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    version: u64,
    epoch: Epoch,
    court: Option<(Court, CourtSetup)>,
    devices: BTreeMap<DeviceId, Device>,
    leases: HashMap<LeaseId, Lease>,
    strikes: BTreeSet<StrikeRecord>,
    told: BTreeMap<(Epoch, u32), Told>,
}

impl Evidence {
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    pub(crate) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn pages(&self) -> usize {
        self.told.values().filter(|told| told.sightings.is_some()).count()
    }

    pub(crate) const fn tick(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    pub(crate) fn judged_by(&mut self, court: Court, setup: CourtSetup) {
        self.court = Some((court, setup));
        self.version += 1;
    }

    fn epoch_of(&self, event: &ChainEvent) -> Epoch {
        self.court.and_then(|(_, setup)| setup.epoch_at(event.at)).unwrap_or_default()
    }

    /// Takes one item of the chain's feed.
    pub(crate) fn apply(&mut self, item: Feed) {
        self.version += 1;
        match item {
            Feed::Happened(event) => self.happened(&event),
            Feed::Reorged { from } => {
                self.devices.retain(|_, device| device.block < from);
                self.leases.retain(|_, lease| lease.block < from);
                for lease in self.leases.values_mut() {
                    lease.closed = lease.closed.filter(|(block, ..)| *block < from);
                }
            }
        }
    }

    fn happened(&mut self, event: &ChainEvent) {
        let block = event.block.number;
        match &event.event {
            LedgerEvent::DeviceAdded { device, key, .. } => {
                self.devices.insert(*device, Device { key: *key, block });
            }
            LedgerEvent::Lease { lease, happened: LeaseEvent::Opened(opening) }
                if opening.device != DeviceId::NONE =>
            {
                let (device, buyer, rate) = (opening.device, opening.buyer, opening.rate);
                self.leases.insert(*lease, Lease { device, buyer, rate, block, closed: None });
            }
            LedgerEvent::Lease { lease, happened: LeaseEvent::Closed { paid, .. } } => {
                let epoch = self.epoch_of(event);
                let evidence = keccak256([event.tx.0.as_slice(), &event.log_index.to_be_bytes()].concat());
                if let Some(known) = self.leases.get_mut(lease) {
                    known.closed = Some((block, epoch, *paid, evidence));
                }
            }
            LedgerEvent::Lease { .. }
            | LedgerEvent::Deposited { .. }
            | LedgerEvent::Withdrawn { .. }
            | LedgerEvent::FeePaid { .. }
            | LedgerEvent::Registered { .. }
            | LedgerEvent::DeviceChanged { .. } => {}
        }
    }

    /// Takes the court's findings from `block` on in place of those that it had.
    pub(crate) fn struck(&mut self, block: u64, found: Vec<StrikeRecord>) {
        let known: Vec<_> = self.strikes.iter().filter(|strike| strike.block >= block).copied().collect();
        if known != found {
            self.strikes.retain(|strike| strike.block < block);
            self.strikes.extend(found);
            self.version += 1;
        }
    }

    /// Whether a seat's page of an epoch is here.
    pub(crate) fn has(&self, seat: Seat, epoch: Epoch, content: B256) -> bool {
        self.told.get(&(epoch, seat.get())).is_some_and(|told| told.content == content)
    }

    /// Takes a page whose signature holds; of its devices only those that `is_drawn` gave the seat. A second one for the same epoch
    /// undoes both.
    pub(crate) fn told(&mut self, page: &Page, content: B256, is_drawn: impl Fn(DeviceId) -> bool) {
        let seen = page.sightings().iter().filter(|sighting| is_drawn(sighting.device)).copied().collect();
        let told = self.told.entry((page.epoch(), page.seat().get()));
        let told = told.or_insert(Told { content, sightings: Some(seen) });
        if told.content != content {
            tracing::warn!(seat = %page.seat(), epoch = %page.epoch(), "a seat signed two pages for one epoch");
            told.sightings = None;
        }
        self.version += 1;
    }

    /// Forgets pages that weigh next to nothing.
    pub(crate) fn forget_before(&mut self, epoch: Epoch) {
        self.told = self.told.split_off(&(epoch, 0));
    }

    /// Every device's reputation now.
    pub(crate) fn rate(&self) -> BTreeMap<DeviceId, Rated> {
        let mut seen: BTreeMap<(DeviceId, Epoch), Vec<(Seat, Sighting)>> = BTreeMap::new();
        for ((epoch, seat), told) in &self.told {
            for sighting in told.sightings.iter().flatten() {
                seen.entry((sighting.device, *epoch)).or_default().push((Seat::new(*seat), *sighting));
            }
        }
        let mut leases: BTreeMap<DeviceId, Vec<&Lease>> = BTreeMap::new();
        for lease in self.leases.values() {
            leases.entry(lease.device).or_default().push(lease);
        }
        let rated = self.devices.iter().map(|(device, known)| {
            let of = seen.range((*device, Epoch::default())..=(*device, Epoch::new(u64::MAX)));
            let memory = of.clone().rev().find_map(|(_, seen)| middle(seen));
            let probes = of.flat_map(|((_, epoch), seen)| self.probes(known.key, *epoch, seen));
            let leases = leases.get(device).map(Vec::as_slice).unwrap_or_default();
            let strikes = self.strikes.iter().filter(|strike| strike.device == *device).map(|strike| {
                let evidence = keccak256([strike.event.0.as_slice(), &strike.event.1.to_be_bytes()].concat());
                Observation { epoch: strike.epoch, evidence, fact: Fact::Strike(strike.strike) }
            });
            let (mut record, mut evidence) = (Record::default(), 0);
            for observation in probes.chain(payments(leases)).chain(strikes) {
                // A full record is of one that nobody lacks evidence about.
                evidence += usize::from(record.add(observation).is_ok());
            }
            (*device, Rated { reputation: record.reputation(self.epoch, cap(leases)), evidence, memory })
        });
        rated.collect()
    }

    fn probes(&self, key: Address, epoch: Epoch, seen: &[(Seat, Sighting)]) -> Vec<Observation> {
        let Some((court, setup)) = &self.court else { return Vec::new() };
        let [from, to] = [epoch, Epoch::new(epoch.get().saturating_add(1))].map(|at| setup.start_of(at));
        Scene { court, key, epoch, from, to }.observations(seen)
    }
}

/// The middle one of what seats measured in an epoch, or the slower of two.
fn middle(seen: &[(Seat, Sighting)]) -> Option<Measured> {
    let mut measured: Vec<Measured> = seen.iter().filter_map(|(_, sighting)| sighting.memory).collect();
    measured.sort_unstable_by_key(Measured::rates);
    measured.get(measured.len().checked_sub(1)? / 2).copied()
}

/// What leases paid in all, once they are closed.
fn payments<'a>(leases: &'a [&Lease]) -> impl Iterator<Item = Observation> + 'a {
    let closed = leases.iter().filter_map(|lease| Some((lease.buyer, lease.closed?)));
    closed.filter(|(_, (_, _, paid, _))| !paid.is_zero()).map(|(buyer, (_, epoch, amount, evidence))| {
        Observation { epoch, evidence, fact: Fact::Payment { buyer, amount } }
    })
}

/// A day at the highest price that a lease of the device was opened at.
fn cap(leases: &[&Lease]) -> Money {
    leases.iter().map(|lease| lease.rate).max().map_or(NO_PRICE, |rate| rate.over(DAY).max(NO_PRICE))
}

#[cfg(test)]
mod tests;
