//! What own seats saw as sentinels, kept as it is seen, and written into a signed page when the epoch is over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tradewind_mesh::blobs::{BlobHash, Label};
use tradewind_proto::evidence::{Epoch, Seat};
use tradewind_proto::ids::DeviceId;
use tradewind_proto::testimony::{KEPT_EPOCHS, MAX_SIGHTINGS, Page, PageRef, Sighting, SignedPage};
use tradewind_store::Batch;

use crate::note::{PAGES, SIGHTINGS};
use crate::watcher::{Inner, WatcherError};

/// Epochs whose pages share a label.
const SHELF: u64 = KEPT_EPOCHS / 3;
/// Shelves that are kept: the newest is never full.
const SHELVES: u64 = 4;

/// Sightings of epochs that are not written down yet, and the seats' pages.
#[derive(Default)]
pub(crate) struct Desk {
    open: BTreeMap<(Epoch, u32), BTreeMap<DeviceId, Sighting>>,
    pages: BTreeMap<(u32, Epoch), PageRef>,
}

/// A sighting with whose it is, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    epoch: Epoch,
    seat: u32,
    sighting: Sighting,
}

/// A page as its seat's node remembers it.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    seat: u32,
    epoch: Epoch,
    page: PageRef,
}

fn sighting_key(epoch: Epoch, seat: u32, device: DeviceId) -> String {
    format!("{epoch}/{seat}/{device}")
}

fn page_key(seat: u32, epoch: Epoch) -> String {
    format!("{seat}/{epoch}")
}

/// Keeps a seat's pages for as long as they are read.
fn label(seat: u32, epoch: Epoch) -> Result<Label, WatcherError> {
    let name = format!("testimony-{seat}-{}", epoch.get() / SHELF);
    name.parse().map_err(|_| WatcherError::Page("its label is none".into()))
}

impl Desk {
    /// A seat's newest page.
    pub(crate) fn newest(&self, seat: u32) -> Option<(Epoch, PageRef)> {
        let mut pages = self.pages.range((seat, Epoch::default())..=(seat, Epoch::new(u64::MAX)));
        pages.next_back().map(|((_, epoch), page)| (*epoch, *page))
    }
}

impl Inner {
    /// Takes up what was stored before a restart, and shares the pages again.
    pub(crate) async fn take_up_desk(&self) -> Result<(), WatcherError> {
        let mut desk = self.desk.lock().await;
        for (_, Stored { epoch, seat, sighting }) in self.parts.store.all(SIGHTINGS).await? {
            desk.open.entry((epoch, seat)).or_default().insert(sighting.device, sighting);
        }
        for (_, Written { seat, epoch, page }) in self.parts.store.all(PAGES).await? {
            desk.pages.insert((seat, epoch), page);
            let hash = BlobHash::from_bytes(page.hash);
            if let Err(error) = self.parts.transport.share(&label(seat, epoch)?, hash) {
                tracing::warn!(seat, %epoch, %error, "a page of testimony is not shared");
            }
        }
        Ok(())
    }

    /// Writes down what a seat saw of a device. What comes after the epoch's page was signed is not told.
    pub(crate) async fn testify(
        &self,
        seat: u32,
        epoch: Epoch,
        device: DeviceId,
        saw: impl FnOnce(&mut Sighting) + Send,
    ) -> Result<(), WatcherError> {
        let mut desk = self.desk.lock().await;
        let is_signed = desk.newest(seat).is_some_and(|(newest, _)| newest >= epoch);
        let of_seat = desk.open.entry((epoch, seat)).or_default();
        if is_signed || (of_seat.len() >= MAX_SIGHTINGS && !of_seat.contains_key(&device)) {
            return Ok(());
        }
        let mut sighting = of_seat.get(&device).copied().unwrap_or(Sighting::new(device));
        saw(&mut sighting);
        let stored = Stored { epoch, seat, sighting };
        self.parts.store.put(SIGHTINGS, sighting_key(epoch, seat, device), &stored).await?;
        of_seat.insert(device, sighting);
        Ok(())
    }

    /// Signs and shares the pages of epochs that are over. True if there is a new one.
    pub(crate) async fn write_pages(&self) -> Result<bool, WatcherError> {
        let Some(now) = self.epoch() else { return Ok(false) };
        let mut desk = self.desk.lock().await;
        let over: Vec<_> = desk.open.keys().filter(|(epoch, _)| *epoch < now).copied().collect();
        for (epoch, seat) in &over {
            self.write_page(&mut desk, *epoch, *seat).await?;
        }
        Ok(!over.is_empty())
    }

    async fn write_page(&self, desk: &mut Desk, epoch: Epoch, seat: u32) -> Result<(), WatcherError> {
        let seen = desk.open.get(&(epoch, seat)).cloned().unwrap_or_default();
        let mut batch = Batch::new();
        for device in seen.keys() {
            batch = batch.remove(SIGHTINGS, sighting_key(epoch, seat, *device));
        }
        if let Some(key) = self.seats.own(self.tribunal()?, seat).await?.filter(|_| !seen.is_empty()) {
            let previous = desk.newest(seat).map(|(_, page)| page);
            let seen = seen.into_values().collect();
            let page = Page::new(self.court, Seat::new(seat), epoch, previous, seen)?;
            let (bytes, label) = (SignedPage::sign(&page, key)?.to_bytes(), label(seat, epoch)?);
            let stored = self.parts.transport.add_bytes(bytes.into(), &label).await?;
            let page = PageRef { hash: *stored.hash.as_bytes(), size: stored.size };
            self.parts
                .store
                .commit(batch.put(PAGES, page_key(seat, epoch), &Written { seat, epoch, page })?)
                .await?;
            self.parts.transport.share(&label, stored.hash)?;
            desk.pages.insert((seat, epoch), page);
            self.clear_shelf(desk, seat, epoch).await?;
        } else {
            self.parts.store.commit(batch).await?;
        }
        desk.open.remove(&(epoch, seat));
        Ok(())
    }

    /// Lets go of pages that nobody reads any more.
    async fn clear_shelf(&self, desk: &mut Desk, seat: u32, newest: Epoch) -> Result<(), WatcherError> {
        let Some(shelf) = (newest.get() / SHELF).checked_sub(SHELVES) else { return Ok(()) };
        let end = Epoch::new((shelf + 1) * SHELF);
        let old: Vec<_> =
            desk.pages.range((seat, Epoch::default())..(seat, end)).map(|(at, _)| *at).collect();
        for (seat, epoch) in old {
            self.parts.transport.release(&label(seat, epoch)?).await?;
            self.parts.store.remove(PAGES, page_key(seat, epoch)).await?;
            desk.pages.remove(&(seat, epoch));
        }
        Ok(())
    }
}
