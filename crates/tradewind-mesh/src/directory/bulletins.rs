//! Watchers' bulletins as directory records, beside providers' offers.

use tradewind_proto::bulletin::{Bulletin, BulletinError, SignedBulletin};
use tradewind_proto::signature::{Signature, Signed};
use tradewind_proto::units::{Clock, Timestamp};

use super::offers::OfferVerifier;
use super::record::{Record, RecordId, RecordVerifier};
use super::{Refusal, RefusalCode};

/// Whose bulletins are worth a place, asked after the signature held: for instance whoever holds the seats that it names.
pub type Watchers = Box<dyn Fn(&Bulletin) -> Result<(), Refusal> + Send + Sync>;

/// Believes offers and bulletins, each by its own rule; a record's slot says which it is.
pub struct MarketVerifier {
    clock: Clock,
    offers: OfferVerifier,
    watchers: Watchers,
}

impl MarketVerifier {
    /// A verifier that asks `watchers` about bulletins and `offers` about everything else.
    #[must_use]
    pub fn new(clock: Clock, offers: OfferVerifier, watchers: Watchers) -> Self {
        Self { clock, offers, watchers }
    }
}

impl RecordVerifier for MarketVerifier {
    fn verify(&self, record: &Record) -> Result<(), Refusal> {
        if !Bulletin::is_slot(record.id.slot) {
            return self.offers.verify(record);
        }
        let forged = |error: &dyn std::fmt::Display| Refusal::new(RefusalCode::Forged, error);
        let signed = record.signed_bulletin().map_err(|error| forged(&error))?;
        let bulletin = signed.verify((self.clock)()).map_err(|error| match &error {
            BulletinError::Signature(_) => forged(&error),
            // As for offers: clocks and versions differ.
            BulletinError::Size(_)
            | BulletinError::Malformed
            | BulletinError::Range(_)
            | BulletinError::Expired(_)
            | BulletinError::Early(_) => Refusal::new(RefusalCode::Rejected, &error),
        })?;
        if *record != Record::of_bulletin(&bulletin, &signed) {
            return Err(forged(&"the record is not what its bulletin says"));
        }
        (self.watchers)(&bulletin)
    }
}

impl std::fmt::Debug for MarketVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MarketVerifier").finish_non_exhaustive()
    }
}

impl Record {
    /// The record that carries `signed`, whose content is `bulletin`.
    #[must_use]
    pub fn of_bulletin(bulletin: &Bulletin, signed: &SignedBulletin) -> Self {
        Self {
            id: RecordId { provider: bulletin.watcher, slot: Bulletin::slot(bulletin.part) },
            sequence: bulletin.sequence,
            expires_at: bulletin.expires_at,
            body: signed.signed().bytes.clone(),
            signature: signed.signed().signature.as_bytes().to_vec().into(),
        }
    }

    /// The bulletin that the record carries, if it is one and counts at `now`.
    ///
    /// # Errors
    /// It is none, its signature does not count, or a value is out of range.
    pub fn bulletin(&self, now: Timestamp) -> Result<Bulletin, BulletinError> {
        if !Bulletin::is_slot(self.id.slot) {
            return Err(BulletinError::Malformed);
        }
        self.signed_bulletin()?.verify(now)
    }

    fn signed_bulletin(&self) -> Result<SignedBulletin, BulletinError> {
        let signature = Signature::from_bytes(&self.signature).map_err(BulletinError::Signature)?;
        Ok(SignedBulletin::from_signed(Signed { bytes: self.body.clone(), signature }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tradewind_proto::ids::{MeshKey, ProviderId};
    use tradewind_proto::signature::SigningKey;

    use super::*;

    fn record() -> Record {
        let key = SigningKey::from_bytes([7; 32]).expect("a key");
        let bulletin = Bulletin {
            watcher: ProviderId::new(key.address()),
            part: 1,
            mesh_key: MeshKey::from_bytes([9; 32]),
            address: None,
            sequence: 4,
            issued_at: Timestamp::from_unix(1_000),
            expires_at: Timestamp::from_unix(1_060),
            postings: Vec::new(),
            casts: Vec::new(),
        };
        Record::of_bulletin(&bulletin, &SignedBulletin::sign(&bulletin, &key).expect("signs"))
    }

    fn verifier(watchers: Watchers) -> MarketVerifier {
        let clock: Clock = Arc::new(|| Timestamp::from_unix(1_010));
        MarketVerifier::new(clock.clone(), OfferVerifier::open(clock), watchers)
    }

    #[test]
    fn a_bulletin_of_a_watcher_is_believed() {
        assert!(verifier(Box::new(|_| Ok(()))).verify(&record()).is_ok());
        assert!(record().bulletin(Timestamp::from_unix(1_010)).is_ok());
        let refused = verifier(Box::new(|_| Err(Refusal::new(RefusalCode::Rejected, "holds no seat"))));
        assert_eq!(refused.verify(&record()).expect_err("a stranger").code(), RefusalCode::Rejected);
    }

    #[test]
    fn a_record_that_says_otherwise_than_its_bulletin_is_forged() {
        let mut cases = vec![record(); 4];
        cases[0].sequence += 1;
        cases[1].expires_at = Timestamp::from_unix(1_061);
        cases[2].id.slot = Bulletin::slot(2);
        cases[3].signature = vec![1; 65].into();
        for case in cases {
            let refusal = verifier(Box::new(|_| Ok(()))).verify(&case).expect_err("forged");
            assert_eq!(refusal.code(), RefusalCode::Forged, "{case:?}");
        }
    }

    #[test]
    fn a_bulletin_in_an_offers_slot_is_no_offer() {
        let mut moved = record();
        moved.id.slot = 3;
        assert!(verifier(Box::new(|_| Ok(()))).verify(&moved).is_err());
        assert!(moved.bulletin(Timestamp::from_unix(1_010)).is_err());
    }
}
