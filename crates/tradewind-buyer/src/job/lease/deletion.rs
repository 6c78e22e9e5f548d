//! The provider's word that it deleted what a lease left with it: asked for until it is here, or too late to matter.

use std::time::Duration;

use tradewind_proto::negotiation::RefusalCode;
use tradewind_proto::units::{Seconds, Timestamp};

use super::Lease;
use crate::job::conversation::{self, AskError};
use crate::job::record::Attempt;

/// How long a provider that was heard of may take. Longer than it keeps what nobody fetched, unless its owner says otherwise.
const PATIENCE: Seconds = Seconds::new(2 * 86_400);
/// The pauses between two questions: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(600));

/// Whether the word is worth asking for: the provider had something, and has not been silent for too long.
pub(in crate::job) fn may_be_deleted(attempt: &Attempt, now: Timestamp) -> bool {
    let supervision = &attempt.supervision;
    attempt.deleted.is_none() && supervision.begun && now.since(supervision.heard_at) < PATIENCE
}

impl Lease {
    /// Asks until the provider says that everything is deleted.
    pub(super) async fn see_deleted(&self) {
        let mut pause = PAUSES.0;
        loop {
            let attempt = self.attempt().await;
            if !attempt.closed || !may_be_deleted(&attempt, self.inner.now()) {
                return;
            }
            if self.ask_for_deletion(&attempt).await {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSES.1),
                () = self.inner.cancel.cancelled() => return,
            }
        }
    }

    /// One question. `true` when there is nothing more to ask.
    async fn ask_for_deletion(&self, attempt: &Attempt) -> bool {
        let (transport, supervision) = (self.inner.parts.transport.as_ref(), &attempt.supervision);
        let (job, lease) = (self.job.id, supervision.id);
        match conversation::deletion(transport, &self.inner.address(attempt), lease).await {
            Ok(word) => {
                if let Err(error) = word.verify(lease, supervision.terms.provider) {
                    tracing::warn!(%job, %lease, %error, "the provider's word that it deleted the data does not count");
                    return true;
                }
                match self.update(|attempt| attempt.deleted = Some(word)).await {
                    Ok(_) => return true,
                    Err(error) => tracing::warn!(%job, %error, "the word of a deletion could not be stored"),
                }
            }
            Err(AskError::Refused(refusal)) if refusal.code == RefusalCode::UnknownLease => {
                tracing::info!(%job, %lease, "the provider has no word that it deleted the data");
                return true;
            }
            Err(error) => tracing::debug!(%job, %lease, %error, "no word of a deletion yet"),
        }
        false
    }
}
