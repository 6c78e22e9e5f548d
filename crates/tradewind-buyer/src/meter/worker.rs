//! One worker per lease: listen to the provider, decide by the pure rules, sign, again.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tradewind_chain::ledger::look::LeaseLook;
use tradewind_mesh::PeerAddr;
use tradewind_proto::conversation::MAX_WAIT;
use tradewind_proto::delegation::Step;
use tradewind_proto::meter::voucher_interval;
use tradewind_proto::units::{Money, Seconds, Timestamp};

use super::record::{KIND, Record};
use super::{Inner, Lease};
use crate::job::conversation::{self, AskError};

/// How long a turn waits for the chain: payment must go on without it.
const LOOK: Duration = Duration::from_secs(1);
/// The pause after a provider did not answer.
const SILENCE: Duration = Duration::from_secs(1);
/// The pause after every answer: a provider with news without end keeps no disk busy.
const BREATH: Duration = Duration::from_millis(100);

/// Meters a lease until it is over.
pub(super) async fn run(inner: Arc<Inner>, lease: Arc<Lease>) {
    let worker = Worker { inner, lease };
    let work = async {
        worker.pay().await;
        worker.forget().await;
    };
    tokio::select! {
        biased;
        () = worker.inner.cancel.cancelled() => {}
        () = work => {}
        () = worker.listen() => {}
    }
}

struct Worker {
    inner: Arc<Inner>,
    lease: Arc<Lease>,
}

impl Worker {
    /// Signs what is due until nothing is left to sign.
    async fn pay(&self) {
        let mut look = LeaseLook::new(self.inner.parts.ledger.clone(), self.lease.id);
        loop {
            match self.turn(&mut look).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(lease = %self.lease.id, %error, "a lease's turn failed; trying again");
                }
            }
            tokio::time::sleep(self.inner.config.tick).await;
        }
    }

    /// One look and what follows from it. `true` when the lease is over.
    async fn turn(&self, look: &mut LeaseLook) -> Result<bool, String> {
        if self.record().await.delegation.over.is_some() {
            return Ok(true);
        }
        let chain = look.within(LOOK).await.map(|record| record.state(Seconds::ZERO));
        let now = self.inner.now();
        match self.record().await.delegation.next(now, chain.as_ref()) {
            Step::Pay(amount) => self.send(amount, now).await.map(|()| false),
            Step::Wait => Ok(false),
            Step::End(end) => {
                tracing::info!(lease = %self.lease.id, ?end, "nothing is left to meter");
                self.update(|record| record.delegation.over = Some(end)).await.map(|_| true)
            }
        }
    }

    /// Signs an amount, stores it, and only then sends it.
    async fn send(&self, amount: Money, now: Timestamp) -> Result<(), String> {
        let voucher = self.inner.voucher(self.lease.id, amount)?;
        let record = self.update(|record| record.delegation.sign(amount, now)).await?;
        let transport = self.inner.parts.transport.as_ref();
        match conversation::pay(transport, &self.address(&record), voucher).await {
            Ok(_) => self.update(|record| record.delegation.acknowledge(amount)).await.map(|_| ()),
            Err(error) => {
                tokio::time::sleep(SILENCE).await;
                Err(error.to_string())
            }
        }
    }

    /// Listens to the provider: every answer is a sign of life, every news is recorded.
    async fn listen(&self) {
        loop {
            let record = self.record().await;
            let lease = &record.delegation.lease;
            let wait = voucher_interval(&lease.terms).min(MAX_WAIT);
            if record.delegation.over.is_some() || record.delegation.is_paid_up(self.inner.now()) {
                tokio::time::sleep(Duration::from_secs(wait.get())).await;
                continue;
            }
            let seen = lease.report.as_ref().map_or(0, |report| report.revision);
            let transport = self.inner.parts.transport.as_ref();
            let heard = conversation::report(transport, &self.address(&record), lease.id, seen, wait).await;
            let observed = match heard {
                Ok(report) => {
                    let now = self.inner.now();
                    self.update(|record| record.delegation.observe(report, now)).await.map(|_| ())
                }
                Err(error @ (AskError::Silent(_) | AskError::Refused(_) | AskError::Nonsense)) => {
                    Err(error.to_string())
                }
            };
            let pause = observed.map_or_else(
                |error| {
                    tracing::debug!(lease = %self.lease.id, %error, "no report");
                    SILENCE
                },
                |()| BREATH,
            );
            tokio::time::sleep(pause).await;
        }
    }

    /// Forgets a lease that is over, as soon as its assignment could not be taken again.
    async fn forget(&self) {
        loop {
            let open_by = self.record().await.delegation.lease.terms.open_by;
            let left = open_by.after(Seconds::new(1)).since(self.inner.now());
            if left == Seconds::ZERO {
                match self.inner.parts.store.remove(KIND, self.lease.id.to_string()).await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::warn!(lease = %self.lease.id, %error, "a lease cannot be forgotten")
                    }
                }
            }
            tokio::time::sleep(Duration::from_secs(left.get().max(1))).await;
        }
        self.inner.leases.write().unwrap_or_else(PoisonError::into_inner).remove(&self.lease.id);
    }

    async fn record(&self) -> Record {
        self.lease.record.lock().await.clone()
    }

    /// Changes the record durably; writes nothing when nothing changed.
    async fn update(&self, change: impl FnOnce(&mut Record)) -> Result<Record, String> {
        let mut record = self.lease.record.lock().await;
        let mut next = record.clone();
        change(&mut next);
        if next != *record {
            let key = self.lease.id.to_string();
            self.inner.parts.store.put(KIND, key, &next).await.map_err(|error| error.to_string())?;
            record.clone_from(&next);
        }
        Ok(next)
    }

    /// Where the lease's provider is now.
    fn address(&self, record: &Record) -> PeerAddr {
        let terms = &record.delegation.lease.terms;
        self.inner.market.address(terms.provider, terms.device, &record.provider)
    }
}
