//! Reads the chain and the mesh, look by look.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use tradewind_chain::ledger::court::{CourtSetup, Tribunal};
use tradewind_chain::ledger::{EventCursor, Ledger, LedgerError};
use tradewind_mesh::blobs::{BlobHash, FetchOptions, Label};
use tradewind_mesh::{PeerAddr, Transport};
use tradewind_proto::bulletin::Bulletin;
use tradewind_proto::evidence::Epoch;
use tradewind_proto::testimony::{KEPT_EPOCHS, MAX_PAGE_BYTES, SignedPage};
use tradewind_proto::units::Clock;

use crate::Shared;
use crate::lots::Rosters;
use crate::pages::{Reading, Wanted};

/// The pause between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two at the directory.
const BULLETINS: u32 = 3;
/// Events of one page of the feed.
const EVENTS: usize = 1_000;
/// Pages that are fetched in one look.
const PAGES: usize = 32;
/// How long one page may take.
const FETCH: Duration = Duration::from_secs(20);

/// Epochs in which pages are fetched under one label.
const SHELF: u64 = KEPT_EPOCHS / 3;
/// A page counts for three shelves after its own.
const SHELVES: u64 = 5;

fn label(shelf: u64) -> Option<Label> {
    format!("testimony-read-{shelf}").parse().ok()
}

/// Why a page was not read.
enum Unread {
    /// It may be, later.
    Later,
    /// It counts for nothing.
    Bad(String),
}

impl From<LedgerError> for Unread {
    fn from(_: LedgerError) -> Self {
        Self::Later
    }
}

pub(crate) struct Follower {
    shared: Arc<Shared>,
    ledger: Arc<dyn Ledger>,
    transport: Arc<dyn Transport>,
    clock: Clock,
    setup: Option<CourtSetup>,
    cursor: EventCursor,
    struck_from: u64,
    rosters: Rosters,
    reading: Reading,
    shelf: u64,
}

impl Follower {
    pub(crate) fn new(
        shared: Arc<Shared>,
        ledger: Arc<dyn Ledger>,
        transport: Arc<dyn Transport>,
        clock: Clock,
    ) -> Self {
        let (rosters, reading) = (Rosters::default(), Reading::default());
        let (setup, cursor) = (None, EventCursor::default());
        Self { shared, ledger, transport, clock, setup, cursor, struck_from: 0, rosters, reading, shelf: 0 }
    }

    pub(crate) async fn run(mut self) {
        for round in 0u32.. {
            if let Err(error) = self.look(round.is_multiple_of(BULLETINS)).await {
                tracing::debug!(%error, "the chain could not be read; reputations are older");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&mut self, bulletins: bool) -> Result<(), LedgerError> {
        let ledger = self.ledger.clone();
        if let (Some(tribunal), None) = (ledger.tribunal(), self.setup) {
            let setup = tribunal.setup().await?;
            self.setup = Some(setup);
            self.shared.write().judged_by(tribunal.court(), setup);
        }
        self.read_events().await?;
        let (Some(tribunal), Some(setup)) = (ledger.tribunal(), self.setup) else { return Ok(()) };
        let now = setup.epoch_at((self.clock)()).unwrap_or_default();
        let oldest = Epoch::new(now.get().saturating_sub(KEPT_EPOCHS));
        {
            let mut evidence = self.shared.write();
            evidence.tick(now);
            evidence.forget_before(oldest);
        }
        let head = ledger.head().await?;
        let found = tribunal.strikes_since(self.struck_from).await?;
        self.shared.write().struck(self.struck_from, found);
        self.struck_from = head.finalized.min(head.block);
        if bulletins {
            self.read_bulletins();
            self.clear_shelves(now).await;
        }
        self.read_pages(tribunal, &setup, oldest).await;
        Ok(())
    }

    /// Lets go of pages that were fetched so long ago that none of them counts.
    async fn clear_shelves(&mut self, now: Epoch) {
        self.shelf = now.get() / SHELF;
        let old = self.shelf.checked_sub(SHELVES).and_then(label);
        if let Some(label) = old
            && let Err(error) = self.transport.release(&label).await
        {
            tracing::debug!(%error, "old pages of testimony stay");
        }
    }

    async fn read_events(&mut self) -> Result<(), LedgerError> {
        loop {
            let page = self.ledger.events(self.cursor, EVENTS).await?;
            self.cursor = page.cursor;
            if page.items.is_empty() {
                return Ok(());
            }
            let mut evidence = self.shared.write();
            page.items.into_iter().for_each(|item| evidence.apply(item));
        }
    }

    fn read_bulletins(&mut self) {
        let now = (self.clock)();
        for record in self.transport.records() {
            if !Bulletin::is_slot(record.id.slot) {
                continue;
            }
            let Ok(bulletin) = record.bulletin(now) else { continue };
            let address = bulletin.address.as_deref().and_then(|text| text.parse::<PeerAddr>().ok());
            let from = address.filter(|address| address.key == bulletin.mesh_key);
            let from = from.unwrap_or_else(|| PeerAddr::new(bulletin.mesh_key));
            for posting in &bulletin.postings {
                if let Some((_, page)) = posting.newest() {
                    self.reading.want(Wanted { seat: posting.seat(), page, from: from.clone() });
                }
            }
        }
    }

    async fn read_pages(&mut self, tribunal: &dyn Tribunal, setup: &CourtSetup, oldest: Epoch) {
        for _ in 0..self.reading.len().min(PAGES) {
            let Some(wanted) = self.reading.next() else { return };
            match self.read_page(tribunal, setup, &wanted, oldest).await {
                Ok(previous) => {
                    self.reading.done(wanted.page.hash);
                    if let Some(page) = previous {
                        self.reading.want(Wanted { page, ..wanted });
                    }
                }
                Err(Unread::Later) => self.reading.again(wanted),
                Err(Unread::Bad(why)) => {
                    tracing::info!(seat = %wanted.seat, why, "a page of testimony does not count");
                    self.reading.done(wanted.page.hash);
                }
            }
        }
    }

    /// Reads a page, and names the one before it if that matters.
    async fn read_page(
        &mut self,
        tribunal: &dyn Tribunal,
        setup: &CourtSetup,
        wanted: &Wanted,
        oldest: Epoch,
    ) -> Result<Option<tradewind_proto::testimony::PageRef>, Unread> {
        let bad = |error: &dyn std::fmt::Display| Unread::Bad(error.to_string());
        let stored = self.fetch(wanted).await?;
        let signed = SignedPage::from_bytes(&stored).map_err(|error| bad(&error))?;
        let (page, signer) = signed.verify(&tribunal.court()).map_err(|error| bad(&error))?;
        if page.seat() != wanted.seat || signer != self.rosters.key(tribunal, page.seat()).await? {
            return Err(Unread::Bad("it is not the seat's".into()));
        }
        if page.epoch() < oldest {
            return Ok(None);
        }
        let (epoch, seat, content) = (page.epoch(), page.seat(), B256::new(wanted.page.hash));
        if self.shared.read().has(seat, epoch, content) {
            return Ok(None);
        }
        let lots = self.rosters.of(tribunal, setup, epoch).await?;
        let is_drawn = |device| lots.is_some_and(|lots| lots.gave(seat, tribunal, device, epoch));
        self.shared.write().told(&page, content, is_drawn);
        Ok(page.previous())
    }

    async fn fetch(&self, wanted: &Wanted) -> Result<bytes::Bytes, Unread> {
        let label = label(self.shelf).ok_or(Unread::Later)?;
        let limit = MAX_PAGE_BYTES as u64 + 65;
        if wanted.page.size > limit {
            return Err(Unread::Bad(format!("it has {} bytes", wanted.page.size)));
        }
        let hash = BlobHash::from_bytes(wanted.page.hash);
        if let Ok(stored) = self.transport.read(hash, limit).await {
            return Ok(stored);
        }
        let options = FetchOptions::new(limit, label);
        let fetched = self.transport.fetch(&wanted.from, hash, &options, &|_| ());
        match tokio::time::timeout(FETCH, fetched).await {
            Ok(Ok(_)) => self.transport.read(hash, limit).await.map_err(|_| Unread::Later),
            Ok(Err(error)) => {
                tracing::debug!(seat = %wanted.seat, %error, "a page of testimony is not here yet");
                Err(Unread::Later)
            }
            Err(_) => Err(Unread::Later),
        }
    }
}
