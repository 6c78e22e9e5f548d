//! Who attests on chain that this device stands where its offer says, followed while the agent runs: it goes into the next offer.

use std::sync::{Arc, PoisonError};

use alloy_primitives::Address;
use tradewind_chain::ledger::LedgerError;
use tradewind_chain::ledger::audit::Auditing;
use tradewind_proto::ids::DeviceId;
use tradewind_proto::offer::Offer;
use tradewind_proto::place::{MAX_WORDS, PlaceWord, document, schema};
use tradewind_proto::units::Timestamp;

use super::{Agent, Inner};

/// Heartbeats until the next look: few after a change, then twice as many each time, as one look can cost dozens of requests.
const HEARTBEATS: (u32, u32) = (4, 64);
/// The most attestations whose standing is asked for in one look.
const ASKED: usize = 64;

impl Agent {
    /// Who attests where the device stands, as its offer repeats it.
    #[must_use]
    pub fn attested(&self) -> Vec<PlaceWord> {
        self.inner.attested()
    }
}

/// Follows until the agent shuts down. While the chain does not answer, what was last known holds; buyers ask it themselves.
pub(super) async fn follow(inner: Arc<Inner>) {
    let offer = &inner.config.offer;
    let Some(auditing) = inner.parts.ledger.auditing().filter(|_| offer.device != DeviceId::NONE) else {
        return;
    };
    let mut heartbeats = HEARTBEATS.0 / 2;
    loop {
        match standing(auditing, offer, &inner.config.auditors, inner.now()).await {
            Ok(words) => {
                let is_new = inner.repeat(words);
                heartbeats = if is_new { HEARTBEATS.0 } else { (heartbeats * 2).min(HEARTBEATS.1) };
            }
            Err(error) => tracing::debug!(%error, "who attests where the device stands is not known now"),
        }
        tokio::select! {
            biased;
            () = inner.cancel.cancelled() => return,
            () = tokio::time::sleep(inner.config.heartbeat * heartbeats) => {}
        }
    }
}

/// Who attests the offer's device and region: of `auditors`, or of anybody where there are none. The longest word of each.
async fn standing(
    auditing: &dyn Auditing,
    offer: &Offer,
    auditors: &[Address],
    now: Timestamp,
) -> Result<Vec<PlaceWord>, LedgerError> {
    let document = document(&offer.region);
    let mut found = auditing.audits(offer.device.get(), schema(), auditors).await?;
    found.retain(|audit| audit.document == document && now <= audit.expires);
    let mut words: Vec<PlaceWord> = Vec::new();
    for audit in found.into_iter().take(ASKED) {
        if !auditing.holds(audit.id()).await? {
            continue;
        }
        let word = PlaceWord { issuer: audit.issuer, expires: audit.expires };
        if let Some(known) = words.iter_mut().find(|known| known.issuer == word.issuer) {
            known.expires = known.expires.max(word.expires);
        } else if words.len() < MAX_WORDS {
            words.push(word);
        }
    }
    Ok(words)
}

impl Inner {
    pub(super) fn attested(&self) -> Vec<PlaceWord> {
        self.attested.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts the words into the next offer, which is at once where they are new; whether they are.
    fn repeat(&self, words: Vec<PlaceWord>) -> bool {
        let before = std::mem::replace(
            &mut *self.attested.write().unwrap_or_else(PoisonError::into_inner),
            words.clone(),
        );
        let is_new = before != words;
        if is_new {
            tracing::info!(auditors = words.len(), "who attests where the device stands has changed");
            self.republish.notify_one();
        }
        is_new
    }
}
