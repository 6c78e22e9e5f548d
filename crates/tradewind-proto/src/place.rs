//! Where a device stands, by the word of an auditor that attested it on chain.
//!
//! ```text
//! auditor ──attest {issuer, device, schema, document(region), expires}──► Attestations ◄──holds(id)── buyer, before it signs
//!                                       provider's offer {region, attested: [{issuer, expires}]} ──► audit() ─┘
//! ```
//!
//! An offer repeats only who attested and until when: everything else of an attestation's id follows from the offer's own
//! device and region. So a provider that states another country or label names an id that nobody attested, and what it states
//! is a claim until the chain was asked.

use alloy_primitives::{Address, B256, keccak256};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::ids::DeviceId;
use crate::offer::{Region, codec};
use crate::units::Timestamp;

/// What is said, in words: the schema is this text's digest.
pub const SCHEMA: &str = "tradewind/place/1";
/// The most attestations that an offer repeats.
pub const MAX_WORDS: usize = 4;
/// The last expiry that a contract can store: `uint40`.
pub const LAST_EXPIRY: Timestamp = Timestamp::from_unix((1 << 40) - 1);

/// The schema of an attestation of a place: the digest of [`SCHEMA`].
#[must_use]
pub fn schema() -> B256 {
    keccak256(SCHEMA)
}

/// The document of an attestation: the digest of [`SCHEMA`], a line feed, the country's two letters and, where the region has a
/// label, a slash and the label. `cast keccak "$(printf 'tradewind/place/1\nDE/fra-1')"` computes it too.
///
/// ```
/// use tradewind_proto::offer::Region;
/// use tradewind_proto::place::document;
///
/// let region = |label: Option<&str>| Region { country: "DE".into(), label: label.map(Into::into) };
/// assert_ne!(document(&region(None)), document(&region(Some("fra-1"))));
/// ```
#[must_use]
pub fn document(region: &Region) -> B256 {
    let mut text = format!("{SCHEMA}\n{}", region.country);
    if let Some(label) = &region.label {
        text.push('/');
        text.push_str(label);
    }
    keccak256(text)
}

/// What an auditor vouches for, as the contract keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Who vouches.
    pub issuer: Address,
    /// A device's id, or an account as 32 bytes.
    pub subject: B256,
    /// Digest of what is said.
    pub schema: B256,
    /// Digest of the report.
    pub document: B256,
    /// The last second at which it holds.
    pub expires: Timestamp,
}

impl Audit {
    /// Its name on chain: `keccak256(abi.encode(attestation))`.
    #[must_use]
    pub fn id(&self) -> B256 {
        let mut encoded = [0u8; 160];
        encoded[12..32].copy_from_slice(self.issuer.as_slice());
        encoded[32..64].copy_from_slice(self.subject.as_slice());
        encoded[64..96].copy_from_slice(self.schema.as_slice());
        encoded[96..128].copy_from_slice(self.document.as_slice());
        encoded[152..].copy_from_slice(&self.expires.unix().to_be_bytes());
        keccak256(encoded)
    }
}

/// Who attests a place, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct PlaceWord {
    /// The auditor.
    #[cbor(n(0), with = "codec::address")]
    pub issuer: Address,
    /// The last second at which it holds.
    #[n(1)]
    pub expires: Timestamp,
}

impl PlaceWord {
    /// The whole attestation, of a `device` that stands in `region`.
    #[must_use]
    pub fn audit(&self, device: DeviceId, region: &Region) -> Audit {
        let (subject, document) = (device.get(), document(region));
        Audit { issuer: self.issuer, subject, schema: schema(), document, expires: self.expires }
    }

    /// Whether its time is not over.
    #[must_use]
    pub fn stands_at(&self, now: Timestamp) -> bool {
        now <= self.expires
    }

    /// Whether it can be on chain at all.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.issuer != Address::ZERO && self.expires <= LAST_EXPIRY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::b256;

    fn region(country: &str, label: Option<&str>) -> Region {
        Region { country: country.into(), label: label.map(Into::into) }
    }

    #[test]
    fn anybody_computes_the_same_digests() {
        assert_eq!(schema(), b256!("0x0182fb81bf12bca06bcb9b76ab423193ff670e06cb1f21cb9948f73c87bcf707"));
        assert_eq!(
            document(&region("DE", None)),
            b256!("0xb5e0a7bb39a63b0db63ca2999813f8c608502b68188d88bfb995c7bdd5a7070b")
        );
        assert_eq!(
            document(&region("DE", Some("fra-1"))),
            b256!("0x2299d04689fbf07b40791e5f79331e1d3692dbd01e2c2bc9de1f3d2e919ee418")
        );
    }

    #[test]
    fn every_part_of_an_attestation_changes_its_id() {
        let word =
            PlaceWord { issuer: Address::repeat_byte(1), expires: Timestamp::from_unix(1_900_000_000) };
        let (device, place) = (DeviceId::new(B256::repeat_byte(2)), region("DE", Some("fra-1")));
        let id = word.audit(device, &place).id();
        assert_eq!(id, b256!("0x11f70c8ee559c6996a38bfb37578890efab47342e1f1d8660dd55bd94ea640c5"));
        let later = PlaceWord { expires: Timestamp::from_unix(1_900_000_001), ..word };
        let others = [
            PlaceWord { issuer: Address::repeat_byte(9), ..word }.audit(device, &place).id(),
            later.audit(device, &place).id(),
            word.audit(DeviceId::new(B256::repeat_byte(9)), &place).id(),
            word.audit(device, &region("FR", Some("fra-1"))).id(),
            word.audit(device, &region("DE", Some("fra-2"))).id(),
            word.audit(device, &region("DE", None)).id(),
        ];
        assert!(!others.contains(&id), "{others:?}");
    }
}
