//! Offers as directory records.

use tradewind_proto::offer::{Offer, OfferError, SignedOffer};
use tradewind_proto::signature::{Signature, SignatureError, Signed};
use tradewind_proto::units::Clock;

use super::record::{Record, RecordId, RecordVerifier};
use super::{Refusal, RefusalCode};

/// Whose offers are worth a place, asked after the signature held.
pub type Membership = Box<dyn Fn(&Offer) -> Result<(), Refusal> + Send + Sync>;

/// Believes offers that [`SignedOffer::verify`] believes, from providers that the membership admits.
pub struct OfferVerifier {
    clock: Clock,
    membership: Membership,
}

impl OfferVerifier {
    /// A verifier that asks `membership`, for instance whether the registry knows the provider.
    #[must_use]
    pub fn new(clock: Clock, membership: Membership) -> Self {
        Self { clock, membership }
    }

    /// A verifier that admits every signer: for closed networks and tests, since keys cost nothing.
    #[must_use]
    pub fn open(clock: Clock) -> Self {
        Self::new(clock, Box::new(|_| Ok(())))
    }
}

impl RecordVerifier for OfferVerifier {
    fn verify(&self, record: &Record) -> Result<(), Refusal> {
        let forged = |error: &dyn std::fmt::Display| Refusal::new(RefusalCode::Forged, error);
        let signed = record.signed_offer().map_err(|error| forged(&error))?;
        let offer = signed.verify((self.clock)()).map_err(|error| match &error {
            OfferError::Signature(_) => forged(&error),
            // Clocks differ, and a later version may have other ranges: no proof that the forwarder lied.
            OfferError::Size(_)
            | OfferError::Malformed
            | OfferError::Range { .. }
            | OfferError::Expired(_)
            | OfferError::Early(_) => Refusal::new(RefusalCode::Rejected, &error),
        })?;
        if *record != Record::of_offer(&offer, &signed) {
            return Err(forged(&"the record is not what its offer says"));
        }
        (self.membership)(&offer)
    }
}

impl std::fmt::Debug for OfferVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OfferVerifier").finish_non_exhaustive()
    }
}

impl Record {
    /// The record that carries `signed`, whose content is `offer`.
    #[must_use]
    pub fn of_offer(offer: &Offer, signed: &SignedOffer) -> Self {
        Self {
            id: RecordId { provider: offer.provider, slot: offer.key().slot() },
            sequence: offer.sequence,
            expires_at: offer.expires_at,
            body: signed.signed().bytes.clone(),
            signature: signed.signed().signature.as_bytes().to_vec().into(),
        }
    }

    /// The signed offer inside; its own `verify` says whether it counts.
    ///
    /// # Errors
    /// When the signature has not the form of one.
    pub fn signed_offer(&self) -> Result<SignedOffer, SignatureError> {
        let signature = Signature::from_bytes(&self.signature)?;
        Ok(SignedOffer::from_signed(Signed { bytes: self.body.clone(), signature }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tradewind_proto::attestation::Tees;
    use tradewind_proto::ids::{DeviceId, MeshKey, ProviderId};
    use tradewind_proto::offer::{Conditions, Prices, Region, Resources, Runtimes, TrustTier};
    use tradewind_proto::signature::SigningKey;
    use tradewind_proto::units::{Bytes, Money, RatePerSecond, Timestamp};
    use tradewind_proto::workload::Network;

    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_bytes([7; 32]).expect("a key")
    }

    fn offer() -> Offer {
        Offer {
            provider: ProviderId::new(key().address()),
            device: DeviceId::NONE,
            mesh_key: MeshKey::from_bytes([9; 32]),
            sequence: 4,
            issued_at: Timestamp::from_unix(1000),
            expires_at: Timestamp::from_unix(1060),
            runtimes: Runtimes::PROCESS,
            unit: Resources { cpu_millis: 1000, memory: Bytes::gib(1), disk: Bytes::gib(1), gpus: None },
            units: 1,
            free_units: 1,
            region: Region { country: "DE".into(), label: None },
            prices: Prices {
                egress: None,
                token: key().address(),
                on_demand: RatePerSecond::per_hour(Money::from_base_units(360_000)),
                spot: None,
                reserved_discount: None,
            },
            conditions: Conditions::standard(),
            network: Network::Internet,
            ports: Vec::new(),
            trust: TrustTier::Unstaked,
            terms_of_service: DeviceId::NONE.get(),
            version: 1,
            address: None,
            tees: Tees::NONE,
            encrypted: false,
            attested: Vec::new(),
        }
    }

    fn record() -> Record {
        Record::of_offer(&offer(), &SignedOffer::sign(&offer(), &key()).expect("signed"))
    }

    fn clock() -> Clock {
        Arc::new(|| Timestamp::from_unix(1010))
    }

    #[test]
    fn a_signed_offer_is_believed_and_read_back() {
        OfferVerifier::open(clock()).verify(&record()).expect("believed");
        let read = record().signed_offer().expect("signed").verify(Timestamp::from_unix(1010));
        assert_eq!(read.expect("verified"), offer());
    }

    #[test]
    fn a_record_that_says_other_than_its_offer_is_forged() {
        let other = SigningKey::from_bytes([8; 32]).expect("a key");
        let mut cases = vec![record(); 5];
        cases[0].sequence += 1;
        cases[1].expires_at = Timestamp::from_unix(1061);
        cases[2].id.slot += 1;
        cases[3].id.provider = ProviderId::new(other.address());
        cases[4].signature = vec![1; 65].into();
        for case in cases {
            let refusal = OfferVerifier::open(clock()).verify(&case).expect_err("forged");
            assert_eq!(refusal.code(), RefusalCode::Forged, "{case:?}");
        }
    }

    #[test]
    fn a_stranger_is_refused_without_blame_for_the_forwarder() {
        let members = Box::new(|_: &Offer| Err(Refusal::new(RefusalCode::Forbidden, "not registered")));
        let refusal = OfferVerifier::new(clock(), members).verify(&record()).expect_err("a stranger");
        assert_eq!(refusal.code(), RefusalCode::Forbidden);
        let late: Clock = Arc::new(|| Timestamp::from_unix(2000));
        let refusal = OfferVerifier::open(late).verify(&record()).expect_err("expired");
        assert_eq!(refusal.code(), RefusalCode::Rejected);
    }
}
