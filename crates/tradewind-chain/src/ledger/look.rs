//! A look at a lease that holds nobody up: while the chain hangs, the caller goes on with what it knows.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tradewind_proto::ids::LeaseId;

use super::{LeaseRecord, Ledger};

/// How long one look may take in all.
const LOOK: Duration = Duration::from_secs(20);

/// Looks at one lease, one look at a time.
pub struct LeaseLook {
    ledger: Arc<dyn Ledger>,
    lease: LeaseId,
    under_way: Option<JoinHandle<Option<LeaseRecord>>>,
}

impl LeaseLook {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(ledger: Arc<dyn Ledger>, lease: LeaseId) -> Self {
        Self { ledger, lease, under_way: None }
    }

    /// The lease, or `None` where the chain does not say within `patience`. A slower answer comes with a later call.
    pub async fn within(&mut self, patience: Duration) -> Option<LeaseRecord> {
        let (ledger, lease) = (&self.ledger, self.lease);
        let look = self.under_way.get_or_insert_with(|| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                match tokio::time::timeout(LOOK, ledger.lease(lease)).await {
                    Ok(Ok(record)) => Some(record),
                    Ok(Err(error)) => {
                        tracing::debug!(%lease, %error, "the chain could not be asked");
                        None
                    }
                    Err(_) => None,
                }
            })
        });
        let answer = tokio::time::timeout(patience, look).await.ok()?;
        self.under_way = None;
        answer.ok().flatten()
    }
}

impl Drop for LeaseLook {
    fn drop(&mut self) {
        if let Some(look) = &self.under_way {
            look.abort();
        }
    }
}

impl std::fmt::Debug for LeaseLook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseLook").field("lease", &self.lease).finish_non_exhaustive()
    }
}
