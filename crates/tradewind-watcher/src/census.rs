//! The breaker's census: whose devices were paid of late, told to the court before a slash is given up.
//!
//! A few owners that go dark together must not stop a slash by looking like an outage. The court knows the healthy ones only once
//! somebody shows it their leases; their terms are in the transactions that opened them, so any watcher can.

use std::collections::{BTreeMap, HashMap};

use alloy_primitives::B256;
use tradewind_chain::ledger::court::CourtAction;
use tradewind_chain::ledger::{ChainEvent, EventCursor, Feed, LeaseEvent, LedgerEvent};
use tradewind_proto::evidence::Epoch;
use tradewind_proto::ids::{DeviceId, LeaseId};
use tradewind_proto::units::{Seconds, Timestamp};

use crate::watcher::{Inner, WatcherError};

/// A device counts that was paid this recently.
const RECENT: Seconds = Seconds::new(7 * 86_400);
/// Events of one page.
const EVENTS: usize = 1_000;
/// Devices that are counted at one look.
const COUNTED: usize = 64;

/// A lease of a device, and the transaction that opened it.
#[derive(Debug, Clone, Copy)]
struct Opened {
    lease: LeaseId,
    device: DeviceId,
    tx: B256,
}

/// Which lease shows that a device was paid.
#[derive(Default)]
pub(crate) struct Census {
    cursor: EventCursor,
    opened: HashMap<LeaseId, Opened>,
    paid: BTreeMap<DeviceId, (Timestamp, Opened)>,
}

impl Census {
    fn apply(&mut self, event: &ChainEvent) {
        let LedgerEvent::Lease { lease, happened } = &event.event else { return };
        if let LeaseEvent::Opened(opening) = happened
            && opening.device != DeviceId::NONE
        {
            self.opened.insert(*lease, Opened { lease: *lease, device: opening.device, tx: event.tx });
        }
        if let LeaseEvent::Settled { paid } | LeaseEvent::Closed { paid, .. } = happened
            && let Some(opened) = self.opened.get(lease).filter(|_| !paid.is_zero())
        {
            self.paid.insert(opened.device, (event.at, *opened));
        }
        if matches!(happened, LeaseEvent::Closed { .. }) {
            self.opened.remove(lease);
        }
    }

    /// Leases that show that their devices were paid before `until` and not long before `since`.
    fn recent(&self, since: Timestamp, until: Timestamp) -> Vec<Opened> {
        let recent = self.paid.values().filter(|(at, _)| at.after(RECENT) > since && *at < until);
        recent.map(|(_, opened)| *opened).take(COUNTED).collect()
    }
}

impl Inner {
    /// Shows the court whose devices were paid, where an epoch's slashes are deferred.
    pub(crate) async fn count_healthy(&self, epoch: Epoch) -> Result<(), WatcherError> {
        let tribunal = self.tribunal()?;
        if !tribunal.tripped(epoch).await? {
            return Ok(());
        }
        let [since, until] = [epoch, Epoch::new(epoch.get() + 1)].map(|epoch| self.setup.start_of(epoch));
        let mut census = self.census.lock().await;
        loop {
            let page = self.parts.ledger.events(census.cursor, EVENTS).await?;
            census.cursor = page.cursor;
            if page.items.is_empty() {
                break;
            }
            for item in page.items {
                match item {
                    Feed::Happened(event) => census.apply(&event),
                    // What never happened shows nothing: its terms are not found, or the court refuses them.
                    Feed::Reorged { .. } => {}
                }
            }
        }
        let shown = census.recent(since, until);
        drop(census);
        for opened in shown {
            if let Some(terms) = tribunal.terms_of(opened.lease, opened.tx).await? {
                self.act(CourtAction::Count { epoch, terms: Box::new(terms) }).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tradewind_chain::ledger::{BlockRef, Opening};
    use tradewind_proto::ids::{BuyerId, ProviderId};
    use tradewind_proto::terms::LeaseKind;
    use tradewind_proto::units::{Money, RatePerSecond};

    use super::*;

    const DAY: u64 = 86_400;

    fn lease(number: u8) -> LeaseId {
        LeaseId::new(B256::repeat_byte(number))
    }

    fn device(number: u8) -> DeviceId {
        if number == 0 { DeviceId::NONE } else { DeviceId::new(B256::repeat_byte(number)) }
    }

    fn event(at: u64, number: u8, happened: LeaseEvent) -> ChainEvent {
        ChainEvent {
            block: BlockRef::default(),
            at: Timestamp::from_unix(at),
            tx: B256::repeat_byte(number),
            log_index: 0,
            event: LedgerEvent::Lease { lease: lease(number), happened },
        }
    }

    fn opened(device: DeviceId) -> LeaseEvent {
        LeaseEvent::Opened(Opening {
            buyer: BuyerId::default(),
            provider: ProviderId::default(),
            device,
            units: 1,
            token: Default::default(),
            rate: RatePerSecond::per_hour(Money::from_base_units(1)),
            deposit: Money::ZERO,
            bond: Money::ZERO,
            kind: LeaseKind::OnDemand,
            start: Timestamp::from_unix(0),
            end: Timestamp::from_unix(0),
            version: 1,
        })
    }

    fn settled(paid: u64) -> LeaseEvent {
        LeaseEvent::Settled { paid: Money::from_base_units(paid) }
    }

    fn shown(census: &Census, since: u64, until: u64) -> Vec<LeaseId> {
        let [since, until] = [since, until].map(Timestamp::from_unix);
        census.recent(since, until).iter().map(|opened| opened.lease).collect()
    }

    #[test]
    fn a_device_that_was_paid_in_the_last_week_counts() {
        let mut census = Census::default();
        for (number, paid) in [(1, 5), (2, 0), (3, 7)] {
            census.apply(&event(DAY, number, opened(device(number))));
            census.apply(&event(2 * DAY, number, settled(paid)));
        }
        assert_eq!(shown(&census, 3 * DAY, 4 * DAY), [lease(1), lease(3)], "unpaid ones do not");
        assert_eq!(shown(&census, 9 * DAY - 1, 10 * DAY).len(), 2);
        assert!(shown(&census, 9 * DAY, 10 * DAY).is_empty(), "a week later none does");
        assert!(shown(&census, DAY, 2 * DAY).is_empty(), "nor before it was paid");
    }

    #[test]
    fn the_lease_that_was_paid_last_shows_it_and_none_without_a_device_does() {
        let mut census = Census::default();
        census.apply(&event(DAY, 1, opened(device(7))));
        census.apply(&event(DAY, 2, opened(device(7))));
        census.apply(&event(DAY, 3, opened(device(0))));
        for number in [2, 1, 3] {
            census.apply(&event(2 * DAY, number, settled(5)));
        }
        assert_eq!(shown(&census, 2 * DAY, 3 * DAY), [lease(1)]);
    }
}
