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
        let is_paid = match happened {
            LeaseEvent::Settled { paid } | LeaseEvent::Closed { paid, .. } => !paid.is_zero(),
            _ => false,
        };
        if let Some(opened) = self.opened.get(lease).filter(|_| is_paid) {
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
