//! The live offers, kept beside the mesh's directory.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;
use tradewind_mesh::Transport;
use tradewind_mesh::directory::{DirectoryEvent, Record, RecordId};
use tradewind_proto::offer::{Offer, SignedOffer};
use tradewind_proto::signature::{Signature, Signed};

use crate::buyer::Clock;

/// Every offer that the directory holds and that verifies.
#[derive(Clone)]
pub(crate) struct Market {
    offers: Arc<RwLock<BTreeMap<RecordId, Offer>>>,
    clock: Clock,
}

impl Market {
    /// Follows the directory until `cancel`.
    pub(crate) fn follow(transport: Arc<dyn Transport>, clock: Clock, cancel: CancellationToken) -> Self {
        let market = Self { offers: Arc::default(), clock };
        let followed = market.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = followed.copy(transport) => {}
                () = cancel.cancelled() => {}
            }
        });
        market
    }

    /// The offers that have not expired.
    pub(crate) fn offers(&self) -> Vec<Offer> {
        let now = (self.clock)();
        let offers = self.offers.read().unwrap_or_else(PoisonError::into_inner);
        offers.values().filter(|offer| offer.expires_at > now).cloned().collect()
    }

    async fn copy(&self, transport: Arc<dyn Transport>) {
        loop {
            let mut watch = transport.watch();
            self.offers.write().unwrap_or_else(PoisonError::into_inner).clear();
            for record in std::mem::take(&mut watch.snapshot) {
                self.store(&record);
            }
            loop {
                match watch.next().await {
                    Some(DirectoryEvent::Stored(record)) => self.store(&record),
                    Some(DirectoryEvent::Ended(id)) => {
                        self.offers.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
                    }
                    Some(DirectoryEvent::Equivocation { second, .. }) => self.store(&second),
                    Some(DirectoryEvent::Lagged) => break,
                    None => return,
                }
            }
        }
    }

    fn store(&self, record: &Record) {
        match offer(record, (self.clock)()) {
            Ok(offer) => {
                self.offers.write().unwrap_or_else(PoisonError::into_inner).insert(record.id, offer);
            }
            Err(error) => tracing::debug!(record = %record.id, %error, "a record is no offer"),
        }
    }
}

fn offer(
    record: &Record,
    now: tradewind_proto::units::Timestamp,
) -> Result<Offer, tradewind_proto::offer::OfferError> {
    let signature =
        Signature::from_bytes(&record.signature).map_err(tradewind_proto::offer::OfferError::Signature)?;
    SignedOffer::from_signed(Signed { bytes: record.body.clone(), signature }).verify(now)
}
