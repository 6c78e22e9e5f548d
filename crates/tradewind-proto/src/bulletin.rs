//! A watcher's bulletin: where its node is, its seats' newest pages of testimony, and ballots that whoever submits first takes along.
//!
//! ```text
//! Bulletin ──CBOR, integer keys──► bytes ── account's key, domain "bulletin" ──► SignedBulletin ── directory ──► verify(now) ──► Bulletin
//! ```
//!
//! One node writes a few, numbered, since a directory's record is small; each is issued anew before it ends, and whenever something
//! in it changes. A reader believes a posting only as far as the page behind it, and a ballot only as far as the court would.
//!
//! Failure paths: what is too large, malformed, signed by another, expired or early is an error.

use alloy_primitives::{Address, B256};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::evidence::{Epoch, Finding, Instance, Seat};
use crate::ids::{CaseId, MeshKey, ProviderId};
use crate::offer::{MAX_CLOCK_SKEW, MAX_OFFER_LIFETIME};
use crate::signature::{Signature, SignatureError, Signed, SigningKey};
use crate::testimony::PageRef;
use crate::units::Timestamp;

/// The largest encoded bulletin.
pub const MAX_BULLETIN_BYTES: usize = 7_900;
/// Postings of one bulletin.
pub const MAX_POSTINGS: usize = 48;
/// Ballots of one bulletin.
pub const MAX_CASTS: usize = 20;
/// Bulletins of one account: 256 seats' postings.
pub const MAX_PARTS: u8 = 6;

const DOMAIN: &str = "bulletin";
const MAX_ADDRESS: usize = 512;

/// Why a bulletin was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BulletinError {
    /// Larger than [`MAX_BULLETIN_BYTES`].
    #[error("the bulletin has {0} bytes, at most {MAX_BULLETIN_BYTES} are accepted")]
    Size(usize),
    /// Not signed by the watcher that it names.
    #[error("the bulletin's signature does not count")]
    Signature(#[source] SignatureError),
    /// Not a bulletin, or bytes follow it.
    #[error("the bulletin is malformed")]
    Malformed,
    /// A value is out of range.
    #[error("the bulletin's {0} is out of range")]
    Range(&'static str),
    /// Its time is over.
    #[error("the bulletin expired at {}", .0.unix())]
    Expired(Timestamp),
    /// Its time has not come.
    #[error("the bulletin was issued in the future, at {}", .0.unix())]
    Early(Timestamp),
}

/// A seat, and its newest page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Posting {
    /// The seat.
    #[n(0)]
    seat: u32,
    /// The page's epoch.
    #[n(1)]
    epoch: u64,
    /// None before the first.
    #[n(2)]
    page: Option<PageRef>,
}

impl Posting {
    /// A seat's newest page and its epoch, or a seat that has none.
    #[must_use]
    pub fn new(seat: Seat, newest: Option<(Epoch, PageRef)>) -> Self {
        let (epoch, page) = newest.unzip();
        Self { seat: seat.get(), epoch: epoch.unwrap_or_default().get(), page }
    }

    /// Whose.
    #[must_use]
    pub const fn seat(&self) -> Seat {
        Seat::new(self.seat)
    }

    /// The newest page and its epoch.
    #[must_use]
    pub fn newest(&self) -> Option<(Epoch, PageRef)> {
        self.page.map(|page| (Epoch::new(self.epoch), page))
    }
}

/// A ballot that waits for somebody to submit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Cast {
    #[cbor(n(0), with = "crate::offer::codec::digest")]
    case: B256,
    /// As [`Instance`] numbers it.
    #[n(1)]
    instance: u8,
    /// In the panel, or on the bench.
    #[n(2)]
    pub position: u8,
    /// As [`Finding`] numbers it.
    #[n(3)]
    finding: u8,
    /// Digest of what was seen.
    #[cbor(n(4), with = "crate::offer::codec::digest")]
    pub transcript: B256,
    /// Of the commitment.
    #[cbor(n(5), with = "crate::offer::codec::digest")]
    pub salt: B256,
    /// By the seat's key, over the vote.
    #[cbor(n(6), with = "crate::probe::signature")]
    pub signature: Signature,
}

impl Cast {
    /// A seat's vote.
    #[must_use]
    pub const fn new(
        case: CaseId,
        instance: Instance,
        position: u8,
        finding: Finding,
        [transcript, salt]: [B256; 2],
        signature: Signature,
    ) -> Self {
        let (case, instance, finding) = (case.get(), instance as u8, finding as u8);
        Self { case, instance, position, finding, transcript, salt, signature }
    }

    /// About which case.
    #[must_use]
    pub const fn case(&self) -> CaseId {
        CaseId::new(self.case)
    }

    /// Whether it is the committee's; a bench's otherwise.
    #[must_use]
    pub const fn is_committees(&self) -> bool {
        self.instance == Instance::Committee as u8
    }

    /// What it says; nothing where that is no finding.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        [Finding::Guilty, Finding::Clear].into_iter().find(|finding| *finding as u8 == self.finding)
    }
}

/// What a watcher's node tells everybody.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Bulletin {
    /// The account that owns the seats, and signs.
    #[n(0)]
    pub watcher: ProviderId,
    /// Which of the account's bulletins.
    #[n(1)]
    pub part: u8,
    /// Where its pages are.
    #[n(2)]
    pub mesh_key: MeshKey,
    /// As the mesh writes it.
    #[n(3)]
    pub address: Option<String>,
    /// Larger than in every earlier one of this part.
    #[n(4)]
    pub sequence: u64,
    /// When it was made.
    #[n(5)]
    pub issued_at: Timestamp,
    /// When it ends.
    #[n(6)]
    pub expires_at: Timestamp,
    /// Newest pages.
    #[n(7)]
    pub postings: Vec<Posting>,
    /// Votes to take along.
    #[n(8)]
    pub casts: Vec<Cast>,
}

impl Bulletin {
    /// The directory's slot of a part: beyond those that devices' ids give, but for one in a billion.
    #[must_use]
    pub const fn slot(part: u8) -> u32 {
        u32::MAX - part as u32
    }

    /// Whether a slot may hold a bulletin.
    #[must_use]
    pub const fn is_slot(slot: u32) -> bool {
        slot > u32::MAX - MAX_PARTS as u32
    }

    fn check(&self) -> Result<(), BulletinError> {
        let range = |holds, field| if holds { Ok(()) } else { Err(BulletinError::Range(field)) };
        let printable = |text: &str| text.len() <= MAX_ADDRESS && text.bytes().all(|b| b.is_ascii_graphic());
        range(self.watcher.account() != Address::ZERO, "watcher")?;
        range(self.part < MAX_PARTS, "part")?;
        range(self.address.as_deref().is_none_or(printable), "address")?;
        range(self.expires_at > self.issued_at, "expiry")?;
        range(self.expires_at.since(self.issued_at) <= MAX_OFFER_LIFETIME, "lifetime")?;
        range(self.postings.len() <= MAX_POSTINGS, "number of postings")?;
        range(self.casts.len() <= MAX_CASTS, "number of ballots")
    }
}

/// A bulletin as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedBulletin(Signed);

impl SignedBulletin {
    /// Encodes and signs.
    ///
    /// # Errors
    /// [`BulletinError::Range`], [`BulletinError::Size`], or [`BulletinError::Signature`] when `key` is not the watcher's.
    pub fn sign(bulletin: &Bulletin, key: &SigningKey) -> Result<Self, BulletinError> {
        bulletin.check()?;
        let (signer, expected) = (key.address(), bulletin.watcher.account());
        if signer != expected {
            return Err(BulletinError::Signature(SignatureError::WrongSigner { signer, expected }));
        }
        let bytes = minicbor::to_vec(bulletin).map_err(|_| BulletinError::Malformed)?;
        if bytes.len() > MAX_BULLETIN_BYTES {
            return Err(BulletinError::Size(bytes.len()));
        }
        Ok(Self(Signed::new(DOMAIN, bytes, key)))
    }

    /// Takes an envelope from the mesh. Nothing is believed before [`SignedBulletin::verify`].
    #[must_use]
    pub const fn from_signed(signed: Signed) -> Self {
        Self(signed)
    }

    /// The envelope.
    #[must_use]
    pub const fn signed(&self) -> &Signed {
        &self.0
    }

    /// The bulletin, if its size, ranges, lifetime and signature hold at `now`.
    ///
    /// # Errors
    /// The [`BulletinError`] that names the rule.
    pub fn verify(&self, now: Timestamp) -> Result<Bulletin, BulletinError> {
        if self.0.bytes.len() > MAX_BULLETIN_BYTES {
            return Err(BulletinError::Size(self.0.bytes.len()));
        }
        let signer = self.0.signer(DOMAIN).map_err(BulletinError::Signature)?;
        let mut decoder = minicbor::Decoder::new(&self.0.bytes);
        let bulletin: Bulletin = decoder.decode().map_err(|_| BulletinError::Malformed)?;
        if decoder.position() != self.0.bytes.len() {
            return Err(BulletinError::Malformed);
        }
        let expected = bulletin.watcher.account();
        if signer != expected {
            return Err(BulletinError::Signature(SignatureError::WrongSigner { signer, expected }));
        }
        bulletin.check()?;
        if bulletin.expires_at <= now {
            return Err(BulletinError::Expired(bulletin.expires_at));
        }
        if bulletin.issued_at > now.after(MAX_CLOCK_SKEW) {
            return Err(BulletinError::Early(bulletin.issued_at));
        }
        Ok(bulletin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_bytes([9; 32]).expect("a key")
    }

    fn bulletin() -> Bulletin {
        let signature = key().sign(B256::repeat_byte(3));
        let words = [B256::repeat_byte(0xff); 2];
        let cast = Cast::new(CaseId::new(words[0]), Instance::Appeal, 255, Finding::Guilty, words, signature);
        let page = PageRef { hash: [0xff; 32], size: u64::MAX };
        Bulletin {
            watcher: ProviderId::new(key().address()),
            part: MAX_PARTS - 1,
            mesh_key: MeshKey::from_bytes([0xff; 32]),
            address: Some("x".repeat(MAX_ADDRESS)),
            sequence: u64::MAX,
            issued_at: Timestamp::from_unix(1_000),
            expires_at: Timestamp::from_unix(1_600),
            postings: vec![
                Posting::new(Seat::new(u32::MAX), Some((Epoch::new(u64::MAX), page)));
                MAX_POSTINGS
            ],
            casts: vec![cast; MAX_CASTS],
        }
    }

    #[test]
    fn the_fullest_bulletin_fits_and_is_read_as_it_was_signed() {
        let signed = SignedBulletin::sign(&bulletin(), &key()).expect("fits");
        let read = signed.verify(Timestamp::from_unix(1_100)).expect("verifies");
        assert_eq!(read, bulletin());
        assert_eq!(read.casts[0].finding(), Some(Finding::Guilty));
        assert!(!read.casts[0].is_committees());
    }

    #[test]
    fn one_too_many_is_refused() {
        let mut full = bulletin();
        full.casts.push(full.casts[0]);
        assert_eq!(SignedBulletin::sign(&full, &key()), Err(BulletinError::Range("number of ballots")));
        let mut full = bulletin();
        full.postings.push(full.postings[0]);
        assert_eq!(SignedBulletin::sign(&full, &key()), Err(BulletinError::Range("number of postings")));
    }

    #[test]
    fn another_signer_and_another_time_do_not_count() {
        let other = SigningKey::from_bytes([8; 32]).expect("a key");
        assert!(matches!(
            SignedBulletin::sign(&bulletin(), &other),
            Err(BulletinError::Signature(SignatureError::WrongSigner { .. }))
        ));
        let signed = SignedBulletin::sign(&bulletin(), &key()).expect("fits");
        let at = |unix| signed.verify(Timestamp::from_unix(unix));
        assert!(matches!(at(1_600), Err(BulletinError::Expired(_))));
        assert!(matches!(at(900), Err(BulletinError::Early(_))));
        let bytes = minicbor::to_vec(bulletin()).expect("encodes");
        let forged = SignedBulletin::from_signed(Signed::new(DOMAIN, bytes, &other));
        assert!(matches!(forged.verify(Timestamp::from_unix(1_100)), Err(BulletinError::Signature(_))));
    }

    #[test]
    fn slots_are_the_last_ones() {
        assert!((0..MAX_PARTS).all(|part| Bulletin::is_slot(Bulletin::slot(part))));
        assert!(!Bulletin::is_slot(Bulletin::slot(MAX_PARTS)));
    }
}
