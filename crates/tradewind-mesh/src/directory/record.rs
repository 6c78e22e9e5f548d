//! What the directory stores: signed statements that end by themselves.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tradewind_proto::ids::ProviderId;
use tradewind_proto::offer::{Offer, OfferError, SignedOffer};
use tradewind_proto::signature::{Signature, Signed};
use tradewind_proto::units::Timestamp;

use crate::refusal::Refusal;

/// The slot of one writer that a record fills, for instance one per device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId {
    /// Whose record it is: the one account that may write it.
    pub provider: ProviderId,
    /// Which of its records.
    pub slot: u32,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.slot)
    }
}

/// One signed statement of one provider. The directory never looks into `body`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Writer and slot.
    pub id: RecordId,
    /// The newest sequence wins.
    pub sequence: u64,
    /// When the record ends.
    pub expires_at: Timestamp,
    /// The exact bytes that were signed.
    pub body: Bytes,
    /// The writer's signature over `body`.
    pub signature: Bytes,
}

impl Record {
    /// The offer that the record carries, if it is one and counts at `now`.
    ///
    /// # Errors
    /// It is none, its signature does not count, or a value is out of range.
    pub fn offer(&self, now: Timestamp) -> Result<Offer, OfferError> {
        let signature = Signature::from_bytes(&self.signature).map_err(OfferError::Signature)?;
        SignedOffer::from_signed(Signed { bytes: self.body.clone(), signature }).verify(now)
    }

    /// What the record costs in memory and on the wire, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        64 + self.body.len() + self.signature.len()
    }

    /// A digest of everything that the record says.
    #[must_use]
    pub fn digest(&self) -> RecordDigest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.id.provider.account().as_slice());
        hasher.update(&self.id.slot.to_be_bytes());
        hasher.update(&self.sequence.to_be_bytes());
        hasher.update(&self.expires_at.unix().to_be_bytes());
        hasher.update(&(self.body.len() as u64).to_be_bytes());
        hasher.update(&self.body);
        hasher.update(&self.signature);
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        RecordDigest(digest)
    }
}

/// A record's digest: 16 bytes of BLAKE3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordDigest(pub [u8; 16]);

/// Judges a record's signature and standing, before it is stored or forwarded.
///
/// It must check that `signature` is by `id.provider` over `body`, that `body` itself states the same writer, slot,
/// sequence and expiry (the directory trusts those fields), and whatever makes a stranger's key worth a place: without a
/// check against the registry, anyone can fill the table with fresh keys. It runs on a blocking thread.
pub trait RecordVerifier: Send + Sync + 'static {
    /// Accepts or refuses `record`.
    ///
    /// # Errors
    /// A refusal that says what is wrong. [`crate::RefusalCode::Forged`] means that no honest node can have forwarded
    /// the record: the link it came over is dropped and its peer shut out for a while. Any other code only drops the record.
    fn verify(&self, record: &Record) -> Result<(), Refusal>;
}
