//! The live offers, kept beside the mesh's directory.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tradewind_mesh::directory::{DirectoryEvent, Record};
use tradewind_mesh::{PeerAddr, Transport};
use tradewind_proto::book::{OfferBook, Standing};
use tradewind_proto::ids::{DeviceId, ProviderId};
use tradewind_proto::offer::{Offer, OfferKey};
use tradewind_proto::units::Clock;
use tradewind_reputation::Reputations;

/// How often what is known of devices is looked up.
const RATING: Duration = Duration::from_secs(5);

/// Every offer that the directory holds and that verifies.
#[derive(Clone)]
pub(crate) struct Market {
    book: Arc<RwLock<OfferBook>>,
    clock: Clock,
}

impl Market {
    /// Follows the directory until `cancel`.
    pub(crate) fn follow(transport: Arc<dyn Transport>, clock: Clock, cancel: CancellationToken) -> Self {
        let market = Self { book: Arc::new(RwLock::new(OfferBook::new())), clock };
        let followed = market.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                () = followed.copy(transport) => {}
            }
        });
        market
    }

    /// Reads the book, without what expired.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&OfferBook) -> T) -> T {
        let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
        book.expire((self.clock)());
        read(&book)
    }

    /// Keeps beside every staked offer how reliable its device is, until `cancel`.
    pub(crate) async fn rate(self, reputations: Reputations, cancel: CancellationToken) {
        loop {
            let rated = reputations.all();
            {
                let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
                let keys: Vec<OfferKey> =
                    book.offers().map(Offer::key).filter(|key| key.device != DeviceId::NONE).collect();
                for key in keys {
                    let known = rated.get(&key.device);
                    let reliability = known.and_then(|rated| rated.reputation.reliability());
                    book.set_standing(key, Standing { reliability, ..Standing::default() });
                }
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(RATING) => {}
            }
        }
    }

    /// Where a lease's provider is now: a node that was started again has another port, and its newest offer names it.
    pub(crate) fn address(&self, provider: ProviderId, device: DeviceId, known: &PeerAddr) -> PeerAddr {
        let key = OfferKey { provider, device };
        let offered = self.read(|book| book.get(&key).and_then(|offer| offer.address.clone()));
        let offered = offered.and_then(|text| text.parse::<PeerAddr>().ok());
        offered.filter(|now| now.key == known.key).unwrap_or_else(|| known.clone())
    }

    async fn copy(&self, transport: Arc<dyn Transport>) {
        loop {
            let mut watch = transport.watch();
            *self.book.write().unwrap_or_else(PoisonError::into_inner) = OfferBook::new();
            for record in std::mem::take(&mut watch.snapshot) {
                self.store(&record);
            }
            loop {
                match watch.next().await {
                    Some(DirectoryEvent::Stored(record)) => self.store(&record),
                    // What ended has expired, and leaves the book by itself.
                    Some(DirectoryEvent::Ended(_)) => {}
                    Some(DirectoryEvent::Equivocation { second, .. }) => self.store(&second),
                    Some(DirectoryEvent::Lagged) => break,
                    None => return,
                }
            }
        }
    }

    fn store(&self, record: &Record) {
        match record.offer((self.clock)()) {
            Ok(offer) => {
                self.book.write().unwrap_or_else(PoisonError::into_inner).insert(offer);
            }
            Err(error) => tracing::debug!(record = %record.id, %error, "a record is no offer"),
        }
    }
}
