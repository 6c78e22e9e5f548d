//! What the chain's events say about leases and providers, with every step undoable for a reorg.

use std::collections::BTreeMap;

use serde::Serialize;
use tradewind_chain::ledger::{ChainEvent, Feed, LeaseEvent, LedgerEvent};
use tradewind_proto::ids::{DeviceId, LeaseId, MeshKey, ProviderId};
use tradewind_proto::units::{Money, Timestamp};

/// The most events that are kept; the oldest go first.
const MAX_EVENTS: usize = 200_000;

/// A lease as the events tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaseRow {
    /// The lease.
    pub lease: LeaseId,
    /// Who pays.
    pub buyer: String,
    /// Who works.
    pub provider: ProviderId,
    /// On-demand, spot or reserved.
    pub kind: String,
    /// The price of an hour, in base units.
    pub hourly: Money,
    /// The buyer's escrow.
    pub deposit: Money,
    /// Paid so far.
    pub paid: Money,
    /// Open, noticed, closing, settled or closed.
    pub state: &'static str,
    /// When it opened.
    pub opened_at: Timestamp,
}

/// A provider as the events tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderRow {
    /// The account.
    pub provider: ProviderId,
    /// Where the mesh finds it.
    pub mesh_key: Option<MeshKey>,
    /// Devices it added.
    pub devices: u32,
    /// Leases that opened.
    pub leases: u32,
    /// Leases that run.
    pub running: u32,
    /// Paid by buyers in all.
    pub earned: Money,
}

/// A payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettlementRow {
    /// When.
    pub at: Timestamp,
    /// For which lease.
    pub lease: LeaseId,
    /// Paid in all by then.
    pub paid: Money,
    /// The lease's last.
    pub last: bool,
    /// The transaction.
    pub tx: String,
}

/// The market at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Overview {
    /// The newest block seen with an event.
    pub block: u64,
    /// Providers, the busiest first.
    pub providers: Vec<ProviderRow>,
    /// Leases, the newest first.
    pub leases: Vec<LeaseRow>,
    /// Payments, the newest first.
    pub settlements: Vec<SettlementRow>,
    /// Leases that run.
    pub running: usize,
    /// Paid in all.
    pub volume: Money,
}

/// The events in their order; everything shown follows from them.
#[derive(Debug, Default)]
pub struct Index {
    events: Vec<ChainEvent>,
}

impl Index {
    /// Takes one item of the feed; a reorg takes events back.
    pub fn apply(&mut self, item: Feed) {
        match item {
            Feed::Happened(event) => {
                if self.events.len() >= MAX_EVENTS {
                    self.events.drain(..MAX_EVENTS / 10);
                }
                self.events.push(*event);
            }
            Feed::Reorged { from } => self.events.retain(|event| event.block.number < from),
        }
    }

    /// Whose each device is.
    #[must_use]
    pub fn owners(&self) -> BTreeMap<DeviceId, ProviderId> {
        let added = self.events.iter().filter_map(|event| {
            let LedgerEvent::DeviceAdded { device, provider, .. } = event.event else { return None };
            Some((device, provider))
        });
        added.collect()
    }

    /// The market as the events tell it; at most `limit` rows a list.
    #[must_use]
    pub fn overview(&self, limit: usize) -> Overview {
        let mut providers: BTreeMap<ProviderId, ProviderRow> = BTreeMap::new();
        let mut leases: BTreeMap<LeaseId, LeaseRow> = BTreeMap::new();
        let mut settlements = Vec::new();
        for event in &self.events {
            match &event.event {
                LedgerEvent::Registered { provider, mesh_key } => {
                    row(&mut providers, *provider).mesh_key = Some(*mesh_key);
                }
                LedgerEvent::DeviceAdded { provider, .. } => row(&mut providers, *provider).devices += 1,
                LedgerEvent::Lease { lease, happened } => {
                    step(&mut leases, &mut settlements, event, *lease, happened);
                }
                LedgerEvent::Deposited { .. }
                | LedgerEvent::Withdrawn { .. }
                | LedgerEvent::FeePaid { .. }
                | LedgerEvent::DeviceChanged { .. } => {}
            }
        }
        let mut volume = Money::ZERO;
        for lease in leases.values() {
            let provider = row(&mut providers, lease.provider);
            provider.leases += 1;
            provider.running += u32::from(is_live(lease.state));
            provider.earned = provider.earned.checked_add(lease.paid).unwrap_or(Money::MAX);
            volume = volume.checked_add(lease.paid).unwrap_or(Money::MAX);
        }
        let running = leases.values().filter(|lease| is_live(lease.state)).count();
        let mut providers: Vec<ProviderRow> = providers.into_values().collect();
        providers.sort_by_key(|provider| (std::cmp::Reverse(provider.earned), provider.provider));
        providers.truncate(limit);
        let mut leases: Vec<LeaseRow> = leases.into_values().collect();
        leases.sort_by_key(|lease| (std::cmp::Reverse(lease.opened_at), lease.lease));
        leases.truncate(limit);
        settlements.reverse();
        settlements.truncate(limit);
        let block = self.events.last().map_or(0, |event| event.block.number);
        Overview { block, providers, leases, settlements, running, volume }
    }
}

fn is_live(state: &str) -> bool {
    !matches!(state, "settled" | "closed")
}

fn row(providers: &mut BTreeMap<ProviderId, ProviderRow>, provider: ProviderId) -> &mut ProviderRow {
    providers.entry(provider).or_insert_with(|| ProviderRow {
        provider,
        mesh_key: None,
        devices: 0,
        leases: 0,
        running: 0,
        earned: Money::ZERO,
    })
}

fn step(
    leases: &mut BTreeMap<LeaseId, LeaseRow>,
    settlements: &mut Vec<SettlementRow>,
    event: &ChainEvent,
    id: LeaseId,
    happened: &LeaseEvent,
) {
    if let LeaseEvent::Opened(opening) = happened {
        leases.insert(
            id,
            LeaseRow {
                lease: id,
                buyer: opening.buyer.to_string(),
                provider: opening.provider,
                kind: opening.kind.to_string(),
                hourly: opening.rate.hourly(),
                deposit: opening.deposit,
                paid: Money::ZERO,
                state: "open",
                opened_at: event.at,
            },
        );
        return;
    }
    // A lease whose opening lies before the oldest kept event is not shown.
    let Some(lease) = leases.get_mut(&id) else { return };
    let (state, paid) = match happened {
        LeaseEvent::Settled { paid } => (lease.state, Some(*paid)),
        LeaseEvent::Noticed { .. } => ("noticed", None),
        LeaseEvent::Cured => ("open", None),
        LeaseEvent::CloseRequested { .. } => ("closing", None),
        LeaseEvent::Ended { paid, .. } => ("settled", Some(*paid)),
        LeaseEvent::Closed { paid, .. } => ("closed", Some(*paid)),
        LeaseEvent::Opened(_)
        | LeaseEvent::Extended { .. }
        | LeaseEvent::Challenged { .. }
        | LeaseEvent::Answered
        | LeaseEvent::ChallengeDropped
        | LeaseEvent::Defaulted { .. }
        | LeaseEvent::Acknowledged { .. }
        | LeaseEvent::Disputed { .. }
        | LeaseEvent::DisputeEnded { .. }
        | LeaseEvent::BuyerFeeOwed => (lease.state, None),
    };
    lease.state = state;
    if let Some(paid) = paid {
        if paid > lease.paid {
            let last = matches!(happened, LeaseEvent::Closed { .. } | LeaseEvent::Ended { .. });
            settlements.push(SettlementRow { at: event.at, lease: id, paid, last, tx: event.tx.to_string() });
        }
        lease.paid = paid;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tradewind_chain::ledger::{BlockRef, Opening};
    use tradewind_proto::ids::BuyerId;
    use tradewind_proto::terms::LeaseKind;
    use tradewind_proto::units::RatePerSecond;

    pub(crate) fn happened(number: u64, happened: LeaseEvent) -> Feed {
        Feed::Happened(Box::new(ChainEvent {
            block: BlockRef { number, ..BlockRef::default() },
            at: Timestamp::from_unix(1_000 + number),
            tx: Default::default(),
            log_index: 0,
            event: LedgerEvent::Lease { lease: LeaseId::default(), happened },
        }))
    }

    pub(crate) fn opened() -> LeaseEvent {
        LeaseEvent::Opened(Opening {
            buyer: BuyerId::default(),
            provider: ProviderId::default(),
            device: DeviceId::NONE,
            units: 1,
            token: Default::default(),
            rate: RatePerSecond::per_hour(Money::from_base_units(180_000)),
            deposit: Money::from_base_units(60_000),
            bond: Money::ZERO,
            kind: LeaseKind::OnDemand,
            start: Timestamp::from_unix(1_000),
            end: Timestamp::from_unix(2_000),
            version: 1,
        })
    }

    #[test]
    fn a_reorg_takes_back_what_it_removed() {
        let mut index = Index::default();
        index.apply(happened(1, opened()));
        index.apply(happened(2, LeaseEvent::Settled { paid: Money::from_base_units(500) }));
        assert_eq!(index.overview(10).volume, Money::from_base_units(500));
        index.apply(Feed::Reorged { from: 2 });
        let overview = index.overview(10);
        assert_eq!((overview.volume, overview.running), (Money::ZERO, 1));
        index.apply(Feed::Reorged { from: 1 });
        assert!(index.overview(10).leases.is_empty());
    }

    #[test]
    fn lists_are_bounded_and_newest_first() {
        let mut index = Index::default();
        index.apply(happened(1, opened()));
        for paid in 1..=5 {
            index.apply(happened(1 + paid, LeaseEvent::Settled { paid: Money::from_base_units(paid) }));
        }
        let overview = index.overview(3);
        let paid: Vec<u128> = overview.settlements.iter().map(|row| row.paid.base_units()).collect();
        assert_eq!(paid, [5, 4, 3]);
    }
}
