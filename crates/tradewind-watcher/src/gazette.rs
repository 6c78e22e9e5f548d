//! The node's bulletins: issued, renewed, and read for ballots that others want taken along.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tradewind_mesh::directory::Record;
use tradewind_proto::bulletin::{
    Bulletin, Cast, MAX_CASTS, MAX_PARTS, MAX_POSTINGS, Posting, SignedBulletin,
};
use tradewind_proto::evidence::Seat;
use tradewind_proto::ids::{CaseId, ProviderId};
use tradewind_proto::units::Seconds;

use crate::watcher::{Inner, WatcherError};

/// How long a bulletin counts.
const LIFETIME: Seconds = Seconds::new(600);
/// How often it is issued anew.
const RENEWAL: Duration = Duration::from_secs(150);
/// When one that could not be issued is tried again.
const RETRY: Duration = Duration::from_secs(5);

impl Inner {
    /// Writes pages when epochs end, and issues bulletins when something in them changed or they grow old.
    pub(crate) async fn follow_gazette(self: Arc<Self>) {
        let (mut sequence, mut due) = (0, Instant::now());
        loop {
            let is_new = self.write_pages().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "a page of testimony waits");
                false
            });
            if self.changed.swap(false, Ordering::AcqRel) || is_new || Instant::now() >= due {
                let issued = self.issue(&mut sequence).await;
                due = Instant::now() + if issued.is_ok() { RENEWAL } else { RETRY };
                if let Err(error) = issued {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the watcher's bulletin waits");
                }
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                () = self.news.notified() => {}
                () = tokio::time::sleep(self.config.tick) => {}
            }
        }
    }

    async fn issue(&self, sequence: &mut u64) -> Result<(), WatcherError> {
        let tribunal = self.tribunal()?;
        let mut postings = Vec::new();
        for key in self.seats.keys() {
            let Some(seat) = tribunal.seat_of(key.address()).await? else { continue };
            postings.push(Posting::new(Seat::new(seat), self.desk.lock().await.newest(seat)));
        }
        let now = self.now();
        *sequence = now.unix().saturating_mul(1_000).max(sequence.saturating_add(1));
        for (part, postings) in (0..MAX_PARTS).zip(postings.chunks(MAX_POSTINGS)) {
            let casts = if part == 0 { self.casts().clone() } else { Vec::new() };
            let bulletin = Bulletin {
                watcher: ProviderId::new(self.parts.ledger.account()),
                part,
                mesh_key: self.parts.transport.key(),
                address: Some(self.parts.transport.address().to_string()),
                sequence: *sequence,
                issued_at: now,
                expires_at: now.after(LIFETIME),
                postings: postings.to_vec(),
                casts,
            };
            let signed = SignedBulletin::sign(&bulletin, &self.parts.key)?;
            self.parts.transport.publish(Record::of_bulletin(&bulletin, &signed)).await?;
        }
        Ok(())
    }

    /// Shows ballots to the other watchers until their case is over.
    pub(crate) fn show(&self, shown: Vec<Cast>) {
        let is_new = {
            let mut casts = self.casts();
            let before = casts.len();
            for cast in shown {
                if !casts.contains(&cast) {
                    casts.insert(0, cast);
                }
            }
            casts.truncate(MAX_CASTS);
            casts.len() != before
        };
        if is_new {
            self.changed.store(true, Ordering::Release);
            self.news.notify_one();
        }
    }

    fn casts(&self) -> MutexGuard<'_, Vec<Cast>> {
        self.casts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back what was shown of a case.
    pub(crate) fn withdraw(&self, case: CaseId) {
        self.casts().retain(|cast| cast.case() != case);
    }

    /// What other watchers show of a case.
    pub(crate) fn shown(&self, case: CaseId) -> Vec<Cast> {
        let now = self.now();
        let records = self.parts.transport.records();
        let bulletins = records.iter().filter(|record| Bulletin::is_slot(record.id.slot));
        let bulletins = bulletins.filter_map(|record| record.bulletin(now).ok());
        bulletins.flat_map(|bulletin| bulletin.casts).filter(|cast| cast.case() == case).collect()
    }
}
