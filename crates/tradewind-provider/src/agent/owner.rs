//! What the owner tells the agent while it runs: take no new leases, take them again, take a spot lease back.

use std::sync::PoisonError;

use tradewind_proto::hosting::Event;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::negotiation::Refusal;
use tradewind_proto::terms::LeaseKind;
use tradewind_proto::units::Seconds;
use tradewind_store::{Store, StoreError};

use super::Agent;
use super::record::Record;

/// The kind and the key of the owner's switch in the store.
const KIND: &str = "owner";
const ACCEPTING: &str = "accepting";

/// Why a lease was not taken back.
#[derive(Debug, thiserror::Error)]
pub enum ReclaimError {
    /// No such lease is hosted here.
    #[error("no lease {0} is hosted here; `tradewind provider leases` lists them")]
    Absent(LeaseId),
    /// Its terms do not allow it.
    #[error(
        "the lease {lease} is {kind}: only a spot lease can be taken back; `tradewind provider pause` takes no new ones"
    )]
    NotSpot {
        /// Which lease.
        lease: LeaseId,
        /// What it is.
        kind: LeaseKind,
    },
    /// It could not be stored.
    #[error("{0}")]
    Store(#[from] Refusal),
}

/// Whether new leases were taken when the agent last ran.
pub(super) async fn is_accepting(store: &Store) -> Result<bool, StoreError> {
    let stored: Vec<(String, bool)> = store.all(KIND).await?;
    Ok(stored.into_iter().find(|(key, _)| key == ACCEPTING).is_none_or(|(_, accepting)| accepting))
}

impl Agent {
    /// Takes no new lease from now on, also after a restart, or takes them again. Running leases are not touched.
    ///
    /// # Errors
    /// It could not be stored; nothing changed then.
    pub async fn accept_leases(&self, accept: bool) -> Result<(), StoreError> {
        self.inner.parts.store.put(KIND, ACCEPTING.to_owned(), &accept).await?;
        *self.inner.accepting.write().unwrap_or_else(PoisonError::into_inner) = accept;
        self.inner.republish.notify_one();
        Ok(())
    }

    /// Whether new leases are taken.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        *self.inner.accepting.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a spot lease back, or all of them: notice on chain, time for the job to save its progress, then its end.
    /// Returns those that are being taken back.
    ///
    /// # Errors
    /// [`ReclaimError`].
    pub async fn reclaim(&self, lease: Option<LeaseId>) -> Result<Vec<LeaseId>, ReclaimError> {
        let hosted = match lease {
            Some(id) => vec![self.inner.lease(id).ok_or(ReclaimError::Absent(id))?],
            None => self.inner.hosted(),
        };
        let mut reclaimed = Vec::new();
        for hosted in hosted {
            let (kind, possible) = {
                let record = hosted.record.lock().await;
                (record.hosting.terms.kind, record.hosting.is_reclaimable())
            };
            match (possible, lease) {
                (true, _) => {
                    let told = |record: &mut Record| {
                        let lead = lead(record);
                        record.hosting.apply(Event::ReclaimRequested { lead });
                    };
                    self.inner.change(&hosted, told).await?;
                    tracing::info!(lease = %hosted.id, "taking a spot lease back");
                    reclaimed.push(hosted.id);
                }
                (false, Some(lease)) if kind != LeaseKind::Spot => {
                    return Err(ReclaimError::NotSpot { lease, kind });
                }
                (false, Some(_) | None) => {}
            }
        }
        Ok(reclaimed)
    }
}

/// How long before the notice's end the job is told: with the notice where it saves its progress, else in time for its grace.
fn lead(record: &Record) -> Seconds {
    let whole = record.hosting.terms.notice;
    if record.manifest.checkpoint.is_some() { whole } else { record.manifest.stop.grace.min(whole) }
}
