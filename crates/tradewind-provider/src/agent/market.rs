//! The provider's offer on the mesh: re-issued as a heartbeat, with what is free now.

use std::sync::Arc;
use std::time::Duration;

use tradewind_mesh::directory::{Record, RecordId};
use tradewind_proto::attestation::Tees;
use tradewind_proto::offer::{Offer, Prices, SignedOffer};
use tradewind_proto::units::{Seconds, Timestamp};

use super::Inner;

/// What is asked now, and what was before: a quote may be as old as its terms can be opened.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    now: Prices,
    before: Option<Prices>,
}

impl Asking {
    pub(super) const fn new(prices: Prices) -> Self {
        Self { now: prices, before: None }
    }

    /// What is asked now.
    pub(super) const fn now(&self) -> &Prices {
        &self.now
    }

    /// Those that a quote may have been made of.
    pub(super) fn lately(&self) -> impl Iterator<Item = &Prices> {
        std::iter::once(&self.now).chain(&self.before)
    }

    fn set(&mut self, prices: Prices) {
        if self.now != prices {
            self.before = Some(std::mem::replace(&mut self.now, prices));
        }
    }
}

/// Offers that a price is compared with at each heartbeat; each costs a signature's check.
const MOST_COMPARED: usize = 512;

/// Publishes until the agent shuts down.
pub(super) async fn publish(inner: Arc<Inner>) {
    let mut sequence = 0;
    loop {
        if let Err(error) = publish_once(&inner, &mut sequence).await {
            tracing::warn!(%error, "the offer was not published; trying again at the next heartbeat");
        }
        tokio::select! {
            biased;
            () = inner.cancel.cancelled() => return,
            () = inner.republish.notified() => {}
            () = tokio::time::sleep(inner.config.heartbeat) => {}
        }
    }
}

async fn publish_once(
    inner: &Inner,
    sequence: &mut u64,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let now = inner.now();
    // Seconds grow over restarts, so no counter has to be stored.
    *sequence = now.unix().max(*sequence + 1);
    let lifetime = inner.config.heartbeat.saturating_mul(3) + Duration::from_secs(5);
    let free = u8::try_from(inner.unheld_units().count_ones()).unwrap_or(u8::MAX);
    follow(inner, now);
    // A machine that lends nothing now says so: whoever plans knows that it is there.
    let (offer, free) = match inner.offered(None) {
        Ok(offer) => (offer, free),
        Err(_) => (inner.priced(), 0),
    };
    let offer = Offer {
        free_units: free,
        sequence: *sequence,
        issued_at: now,
        expires_at: now.after(Seconds::new(lifetime.as_secs())),
        mesh_key: inner.parts.transport.key(),
        address: Some(inner.parts.transport.address().to_string()),
        tees: inner.parts.attester.as_ref().map_or(Tees::NONE, |attester| attester.kinds()),
        attested: inner.attested(),
        ..offer
    };
    let signed = SignedOffer::sign(&offer, &inner.parts.key)?;
    let record = Record {
        id: RecordId { provider: offer.provider, slot: offer.key().slot() },
        sequence: offer.sequence,
        expires_at: offer.expires_at,
        body: signed.signed().bytes.clone(),
        signature: signed.signed().signature.as_bytes().to_vec().into(),
    };
    inner.parts.transport.publish(record).await?;
    Ok(())
}

/// Sets the price by the live offers of others. A buyer that knows an older one refuses the terms, and asks again.
fn follow(inner: &Inner, now: Timestamp) {
    let Some(follow) = inner.config.follow else { return };
    let offer = &inner.config.offer;
    let records = inner.parts.transport.records();
    let offers = records.iter().take(MOST_COMPARED).filter_map(|record| record.offer(now).ok());
    let offers: Vec<Offer> = offers.filter(|other| other.prices.token == offer.prices.token).collect();
    let prices = follow.prices(offer.prices.token, &offer.unit, offer.provider, &offers);
    inner.prices.write().unwrap_or_else(std::sync::PoisonError::into_inner).set(prices);
}
