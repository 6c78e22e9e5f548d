//! Testimony: what a seat saw of the devices that it was sentinel for, epoch by epoch, signed, so that anyone computes the same
//! [reputation](crate::reputation) from it.
//!
//! ```text
//! pings, challenges ─► Sighting (a device) ─┐
//! page of the epoch before, by its hash ────┴─► Page ── seat's key, domain "testimony" ─► SignedPage ─► verify ─► observations
//! ```
//!
//! "Up" counts only with the device's own signed [`Pong`] of that epoch: a watcher cannot make it up. "Down" is the watcher's
//! word, and does not count against two sentinels that show pongs. Each page names the one before it, so that a seat that leaves a
//! bad page out shows it.
//!
//! Failure paths: a page of another court, by another key, too large or malformed is an error; a pong of another epoch, device or
//! watcher is none; a seat that was not drawn for a device says nothing about it, which the reader checks against the chain's lots.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::challenge::Measured;
use crate::evidence::{Court, Epoch, Pong, Seat, Statement, Sworn, digest, topic, word};
use crate::ids::DeviceId;
use crate::reputation::{Fact, Observation};
use crate::signature::{Signature, SignatureError, Signed, SigningKey};
use crate::units::Timestamp;

/// The largest encoded page.
pub const MAX_PAGE_BYTES: usize = 4 << 20;
/// The most devices of one page.
pub const MAX_SIGHTINGS: usize = 10_000;
/// How many epochs pages are kept and read: by then what they say weighs an eighth.
pub const KEPT_EPOCHS: u64 = 2_160;

const DOMAIN: &str = "testimony";
/// How far a device's clock may be from the chain's, in milliseconds.
const SKEW_MILLIS: u64 = 60_000;
/// So many sentinels with pongs outweigh one that saw none.
const OUTWEIGHS: usize = 2;

/// Why a page counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Larger than [`MAX_PAGE_BYTES`].
    #[error("the page has {0} bytes, at most {MAX_PAGE_BYTES} are accepted")]
    Size(usize),
    /// Not signed by the seat that it names.
    #[error("the page's signature does not count")]
    Signature(#[source] SignatureError),
    /// Not a page, or bytes follow it.
    #[error("the page is malformed")]
    Malformed,
    /// It was written for another court.
    #[error("the page is another court's")]
    Court,
    /// More than [`MAX_SIGHTINGS`], or a device twice.
    #[error("the page's devices are more than {MAX_SIGHTINGS}, or not in order")]
    Devices,
}

/// Names a page by its content.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
pub struct PageRef {
    /// Its BLAKE3 hash.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub hash: [u8; 32],
    /// In bytes.
    #[n(1)]
    pub size: u64,
}

/// A device's own word that it was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Sign {
    /// What the watcher asked.
    #[cbor(n(0), with = "crate::offer::codec::digest")]
    pub nonce: B256,
    /// The device's clock, in milliseconds since 1970.
    #[n(1)]
    pub unix_millis: u64,
    /// The statement's number.
    #[n(2)]
    pub sequence: u64,
    /// Over the statement, by the device's key.
    #[cbor(n(3), with = "crate::probe::signature")]
    pub signature: Signature,
}

/// What a seat saw of one device in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Sighting {
    /// Which.
    #[n(0)]
    pub device: DeviceId,
    /// Questions that it answered in time.
    #[n(1)]
    pub answered: u32,
    /// Questions that it did not, while the watcher reached others.
    #[n(2)]
    pub missed: u32,
    /// One of its answers.
    #[n(3)]
    pub pong: Option<Sign>,
    /// Whether it passed the epoch's hardware challenge; nothing where it was not asked or nobody could tell.
    #[n(4)]
    pub challenge: Option<bool>,
    /// How it walked through its memory; nothing where it was not asked, was at work, or was wrong.
    #[n(5)]
    #[serde(default)]
    pub memory: Option<Measured>,
}

impl Sighting {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new(device: DeviceId) -> Self {
        Self { device, answered: 0, missed: 0, pong: None, challenge: None, memory: None }
    }

    /// Takes an answer in.
    pub const fn heard(&mut self, pong: Sign) {
        self.answered = self.answered.saturating_add(1);
        self.pong = Some(pong);
    }

    /// Takes an unanswered question in.
    pub const fn silent(&mut self) {
        self.missed = self.missed.saturating_add(1);
    }

    /// Whether the device was there for most of the questions; nothing where the seat shows nothing.
    fn up(&self, scene: &Scene<'_>, seat: Seat) -> Option<bool> {
        if self.pong.is_some_and(|pong| scene.holds(&pong, self.device, seat)) {
            Some(self.answered >= self.missed)
        } else {
            (self.missed > 0).then_some(false)
        }
    }
}

/// What a seat saw in one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Page {
    #[n(0)]
    chain_id: u64,
    #[cbor(n(1), with = "crate::offer::codec::address")]
    contract: Address,
    #[n(2)]
    seat: u32,
    #[n(3)]
    epoch: u64,
    #[n(4)]
    previous: Option<PageRef>,
    #[n(5)]
    sightings: Vec<Sighting>,
}

impl Page {
    /// The page of a seat; devices in any order.
    ///
    /// # Errors
    /// [`PageError::Devices`].
    pub fn new(
        court: Court,
        seat: Seat,
        epoch: Epoch,
        previous: Option<PageRef>,
        mut sightings: Vec<Sighting>,
    ) -> Result<Self, PageError> {
        sightings.sort_by_key(|sighting| sighting.device);
        let Court { chain_id, contract } = court;
        let page = Self { chain_id, contract, seat: seat.get(), epoch: epoch.get(), previous, sightings };
        page.check()?;
        Ok(page)
    }

    fn check(&self) -> Result<(), PageError> {
        let in_order = self.sightings.is_sorted_by(|one, next| one.device < next.device);
        if in_order && self.sightings.len() <= MAX_SIGHTINGS { Ok(()) } else { Err(PageError::Devices) }
    }

    /// Whose.
    #[must_use]
    pub const fn seat(&self) -> Seat {
        Seat::new(self.seat)
    }

    /// When.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        Epoch::new(self.epoch)
    }

    /// The seat's page before this one.
    #[must_use]
    pub const fn previous(&self) -> Option<PageRef> {
        self.previous
    }

    /// By device.
    #[must_use]
    pub fn sightings(&self) -> &[Sighting] {
        &self.sightings
    }
}

/// A page as it travels: its bytes and the seat's signature over them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedPage(Signed);

impl SignedPage {
    /// Encodes and signs a page.
    ///
    /// # Errors
    /// [`PageError::Size`].
    pub fn sign(page: &Page, key: &SigningKey) -> Result<Self, PageError> {
        let bytes = minicbor::to_vec(page).map_err(|_| PageError::Malformed)?;
        if bytes.len() > MAX_PAGE_BYTES {
            return Err(PageError::Size(bytes.len()));
        }
        Ok(Self(Signed::new(DOMAIN, bytes, key)))
    }

    /// As stored: the signature, then what it signs.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.0.signature.as_bytes(), self.0.bytes.as_ref()].concat()
    }

    /// Reads what [`SignedPage::to_bytes`] wrote. Nothing is believed before [`SignedPage::verify`].
    ///
    /// # Errors
    /// [`PageError::Size`], [`PageError::Malformed`], [`PageError::Signature`].
    pub fn from_bytes(stored: &[u8]) -> Result<Self, PageError> {
        let (signature, bytes) = stored.split_at_checked(65).ok_or(PageError::Malformed)?;
        if bytes.len() > MAX_PAGE_BYTES {
            return Err(PageError::Size(bytes.len()));
        }
        let signature = Signature::from_bytes(signature).map_err(PageError::Signature)?;
        Ok(Self(Signed { bytes: bytes.to_vec().into(), signature }))
    }

    /// The page, and the key that signed it: it counts where that is the seat's on chain.
    ///
    /// # Errors
    /// The [`PageError`] that names the rule.
    pub fn verify(&self, court: &Court) -> Result<(Page, Address), PageError> {
        let signer = self.0.signer(DOMAIN).map_err(PageError::Signature)?;
        let mut decoder = minicbor::Decoder::new(&self.0.bytes);
        let page: Page = decoder.decode().map_err(|_| PageError::Malformed)?;
        if decoder.position() != self.0.bytes.len() {
            return Err(PageError::Malformed);
        }
        if (page.chain_id, page.contract) != (court.chain_id, court.contract) {
            return Err(PageError::Court);
        }
        page.check()?;
        Ok((page, signer))
    }
}

/// Where and when sightings of one device count.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// Before which court.
    pub court: &'a Court,
    /// The device's key on chain.
    pub key: Address,
    /// The epoch.
    pub epoch: Epoch,
    /// When it began.
    pub from: Timestamp,
    /// When the next one did.
    pub to: Timestamp,
}

impl Scene<'_> {
    fn holds(&self, pong: &Sign, device: DeviceId, watcher: Seat) -> bool {
        let Sign { nonce, unix_millis, sequence, signature } = *pong;
        let [from, to] = [self.from, self.to].map(|at| at.unix().saturating_mul(1_000));
        let in_time =
            unix_millis.saturating_add(SKEW_MILLIS) >= from && unix_millis <= to.saturating_add(SKEW_MILLIS);
        let body = Pong { nonce, watcher, unix_millis }.body();
        let body = Statement { topic: topic::pong(), device, sequence, body };
        in_time && Sworn { body, signature }.verify(self.court, self.key).is_ok()
    }

    /// What drawn seats' sightings of one device come to. One observation for each seat and kind, whatever is repeated; what
    /// two seats with evidence contradict is left out.
    #[must_use]
    pub fn observations(&self, seen: &[(Seat, Sighting)]) -> Vec<Observation> {
        let mut told = BTreeSet::new();
        let seen: Vec<_> = seen.iter().filter(|(seat, _)| told.insert(seat.get())).collect();
        let ups: Vec<_> =
            seen.iter().filter_map(|(seat, it)| Some((*seat, it.device, it.up(self, *seat)?))).collect();
        let passes: Vec<_> =
            seen.iter().filter_map(|(seat, it)| Some((*seat, it.device, it.challenge?))).collect();
        let probes =
            outweighed(&ups).map(|(seat, device, up)| self.observe(seat, device, 0, Fact::Probe { up }));
        let challenges = outweighed(&passes)
            .map(|(seat, device, passed)| self.observe(seat, device, 1, Fact::Challenge { passed }));
        probes.chain(challenges).collect()
    }

    fn observe(&self, seat: Seat, device: DeviceId, kind: u64, fact: Fact) -> Observation {
        let [chain, contract] = self.court.words();
        let (seat, kind) = (word(seat.get().into()), word(kind));
        let evidence = digest([chain, contract, device.get(), word(self.epoch.get()), seat, kind]);
        Observation { epoch: self.epoch, evidence, fact }
    }
}

/// Leaves a lone "no" out.
fn outweighed(said: &[(Seat, DeviceId, bool)]) -> impl Iterator<Item = (Seat, DeviceId, bool)> + '_ {
    let good = said.iter().filter(|(.., good)| *good).count();
    said.iter().copied().filter(move |(.., is_good)| *is_good || good < OUTWEIGHS)
}
