//! Records with real signatures.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tradewind_mesh::directory::{Record, RecordId, RecordVerifier};
use tradewind_mesh::{Refusal, RefusalCode};
use tradewind_proto::ids::ProviderId;
use tradewind_proto::signature::{Signature, Signed, SigningKey};
use tradewind_proto::units::{Seconds, Timestamp};

const DOMAIN: &str = "mesh-test";

#[derive(Serialize, Deserialize)]
struct Body {
    id: RecordId,
    sequence: u64,
    expires_at: Timestamp,
    text: Vec<u8>,
}

pub(crate) fn writer(number: u8) -> SigningKey {
    SigningKey::from_bytes([number; 32]).expect("a key")
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp::from_unix(since.as_secs())
}

/// A record of `key`, signed by it, that lives `life` seconds.
pub(crate) fn record(key: &SigningKey, slot: u32, sequence: u64, life: u64, text: &[u8]) -> Record {
    let id = RecordId { provider: ProviderId::new(key.address()), slot };
    let expires_at = now().after(Seconds::new(life));
    let body = Body { id, sequence, expires_at, text: text.to_vec() };
    let signed = Signed::new(DOMAIN, postcard::to_stdvec(&body).expect("encodes"), key);
    let signature = signed.signature.as_bytes().to_vec().into();
    Record { id, sequence, expires_at, body: signed.bytes, signature }
}

/// Believes what its writer signed, as the real verifiers do.
pub(crate) struct Signatures;

impl RecordVerifier for Signatures {
    fn verify(&self, record: &Record) -> Result<(), Refusal> {
        let forged = |why: &str| Refusal::new(RefusalCode::Forged, why);
        let signature = Signature::from_bytes(&record.signature).map_err(|_| forged("no signature"))?;
        let signed = Signed { bytes: record.body.clone(), signature };
        let signer = signed.signer(DOMAIN).map_err(|_| forged("no signer"))?;
        let body: Body = postcard::from_bytes(&record.body).map_err(|_| forged("no body"))?;
        let stated = (body.id, body.sequence, body.expires_at);
        if signer != record.id.provider.account() || stated != (record.id, record.sequence, record.expires_at)
        {
            return Err(forged("the record is not what its writer signed"));
        }
        Ok(())
    }
}
