//! Images that only run signed: cosign's signatures with the owner's keys.
//!
//! ```text
//!  name@sha256:… ─► name:sha256-….sig ─► a manifest; each layer a payload, with a signature in its annotations
//!                                          payload: "this manifest's digest", hashed as its descriptor says
//!                                          signature: ECDSA on P-256 over the payload's bytes, by one of the keys
//! ```
//!
//! This is the form that `cosign sign --key` has written from its beginning. Signatures in the newer bundles, which are found by a
//! registry's list of referrers, and those without keys (Fulcio, Rekor) are not read.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tradewind_proto::owner::ImagePattern;

/// What a layer with a payload is.
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation with its signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Before the point of a P-256 key, in its `SubjectPublicKeyInfo`.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// A point that is not compressed.
const POINT: usize = 65;
/// Signatures of one image that are looked at.
pub(super) const MOST_SIGNATURES: usize = 32;
/// The largest payload.
pub(super) const MOST_PAYLOAD: u64 = 64 << 10;
/// The longest signature in base64; one of P-256 has under 100.
const LONGEST_SIGNATURE: usize = 256;

/// A key whose signatures count.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageKey {
    point: [u8; POINT],
}

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no public key on P-256 in PEM; `cosign generate-key-pair` writes one as cosign.pub")]
pub struct ImageKeyError;

impl ImageKey {
    /// Reads a public key in PEM.
    ///
    /// # Errors
    /// [`ImageKeyError`] for anything but one of P-256.
    pub fn from_pem(text: &str) -> Result<Self, ImageKeyError> {
        let key = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).map_err(|_| ImageKeyError)?;
        let point = key.strip_prefix(&P256).ok_or(ImageKeyError)?;
        Ok(Self { point: point.try_into().map_err(|_| ImageKeyError)? })
    }

    fn signed(&self, payload: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.point).verify(payload, signature).is_ok()
    }
}

impl fmt::Debug for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageKey({})", hex::encode(&self.point[1..9]))
    }
}

/// Images that run only with a signature by one of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedImages {
    /// Which images.
    pub images: Vec<ImagePattern>,
    /// Whose signatures count.
    pub keys: Vec<ImageKey>,
}

impl SignedImages {
    pub(super) fn covers(&self, reference: &str) -> bool {
        self.images.iter().any(|pattern| pattern.matches(reference))
    }
}

/// The tag under which an image's signatures lie; nothing where it is no digest of ours.
pub(super) fn tag(digest: &str) -> Option<String> {
    let hex = digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64)?;
    Some(format!("sha256-{hex}.sig"))
}

/// The digest of these bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// A signature, and where what it signs is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// The payload's digest.
    pub(super) payload: String,
    signature: Vec<u8>,
}

/// Signatures that a manifest names.
pub(super) fn claims(manifest: &[u8]) -> Result<Vec<Claim>, String> {
    let manifest: Manifest =
        serde_json::from_slice(manifest).map_err(|error| format!("its signatures' manifest: {error}"))?;
    let is_payload = |layer: &Layer| {
        layer.media_type == PAYLOAD && layer.size <= MOST_PAYLOAD && tag(&layer.digest).is_some()
    };
    let claim = |layer: Layer| {
        let text = layer.annotations.get(SIGNATURE).filter(|text| text.len() <= LONGEST_SIGNATURE)?;
        // Programs that wrap lines have written some.
        let text: String = text.split_ascii_whitespace().collect();
        Some(Claim { payload: layer.digest, signature: STANDARD.decode(text).ok()? })
    };
    Ok(manifest.layers.into_iter().filter(is_payload).filter_map(claim).take(MOST_SIGNATURES).collect())
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Named,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

impl Claim {
    /// Whether one of the keys says by this that it knows the image with this digest; else what is wrong.
    pub(super) fn check(&self, payload: &[u8], image: &str, keys: &[ImageKey]) -> Result<(), &'static str> {
        if digest(payload) != self.payload {
            return Err("a payload is not the one that the manifest names");
        }
        if !keys.iter().any(|key| key.signed(payload, &self.signature)) {
            return Err("a signature is by none of the owner's keys");
        }
        let payload: Payload = serde_json::from_slice(payload)
            .map_err(|_| "a payload that is signed is not of the usual form")?;
        if payload.critical.image.digest != image {
            return Err("a signature is of another image");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    fn pair() -> (EcdsaKeyPair, ImageKey) {
        let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
        let pair = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(kind, pair.as_ref(), &random).unwrap();
        let der = [&P256[..], pair.public_key().as_ref()].concat();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
        let key = ImageKey::from_pem(&pem).unwrap();
        (pair, key)
    }

    fn claim(pair: &EcdsaKeyPair, payload: &[u8]) -> Claim {
        let signature = pair.sign(&SystemRandom::new(), payload).unwrap().as_ref().to_vec();
        Claim { payload: digest(payload), signature }
    }

    #[test]
    fn a_signature_holds_for_its_image_its_key_and_its_payload_alone() {
        let ((pair, key), (_, other)) = (pair(), pair());
        let (image, payload) = (digest(b"an image"), |image: &str| {
            json!({"critical": {"identity": {"docker-reference": "a/b"}, "image": {"docker-manifest-digest": image},
                "type": "cosign container image signature"}, "optional": null})
            .to_string()
        });
        let good = payload(&image);
        let claim_of = |text: &str| claim(&pair, text.as_bytes());
        let check = |claim: &Claim, text: &str, keys: &[ImageKey]| claim.check(text.as_bytes(), &image, keys);
        assert_eq!(check(&claim_of(&good), &good, &[other.clone(), key.clone()]), Ok(()));
        let ours = [key];
        let by_another = check(&claim_of(&good), &good, &[other]).unwrap_err();
        assert!(by_another.contains("none of the owner's keys"));
        assert!(check(&claim_of(&good), &good, &[]).is_err(), "no key, no signature");
        let elsewhere = payload(&digest(b"another image"));
        let of_another = check(&claim_of(&elsewhere), &elsewhere, &ours).unwrap_err();
        assert!(of_another.contains("another image"));
        let tampered = Claim { payload: digest(elsewhere.as_bytes()), ..claim_of(&good) };
        assert!(check(&tampered, &elsewhere, &ours).unwrap_err().contains("none of the owner's keys"));
        assert!(check(&claim_of(&good), &elsewhere, &ours).unwrap_err().contains("not the one"));
        let odd = "[]";
        assert!(check(&claim_of(odd), odd, &ours).unwrap_err().contains("usual form"));
    }

    /// A key, a payload and a signature that cosign itself made, from the tests of the sigstore crate.
    #[test]
    fn what_cosign_signed_holds() {
        const KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
            MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENptdY/l3nB0yqkXLBWkZWQwo6+cu\n\
            OSWS1X9vPavpiQOoTTGC0xX57OojUadxF1cdQmrsiReWg2Wn4FneJfa8xw==\n-----END PUBLIC KEY-----\n";
        const IMAGE: &str = "sha256:f3cfc9d0dbf931d3db4685ec659b7ac68e2a578219da4aae65427886e649b06b";
        const SIGNED: &str = "MEUCIQD6q/COgzOyW0YH1Dk+CCYSt4uAhm3FDHUwvPI55zwn\nlwIgE0ZK58ZOWpZw8YVmBapJhBqCfdPekIknimuO0xH8Jh8=\n";
        let payload = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"registry-testing.svc.lan/busybox"}},"image":{{"docker-manifest-digest":"{IMAGE}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        let layer = json!({"mediaType": PAYLOAD, "size": payload.len(), "digest": digest(payload.as_bytes()),
            "annotations": {SIGNATURE: SIGNED}});
        let claims = claims(json!({"schemaVersion": 2, "layers": [layer]}).to_string().as_bytes()).unwrap();
        let key = ImageKey::from_pem(KEY).unwrap();
        assert_eq!(claims[0].check(payload.as_bytes(), IMAGE, &[key]), Ok(()));
    }

    #[test]
    fn only_signatures_of_the_known_kind_are_taken_from_a_manifest_and_not_too_many() {
        let layer = |kind: &str, size: u64, signature: &str| json!({"mediaType": kind, "size": size, "digest": digest(b"x"), "annotations": {SIGNATURE: signature}});
        let read = |layers: Vec<serde_json::Value>| {
            claims(json!({"layers": layers}).to_string().as_bytes()).unwrap()
        };
        assert_eq!(read(vec![layer(PAYLOAD, 9, "AAAA")]).len(), 1);
        let others = vec![
            layer("application/vnd.oci.image.layer.v1.tar", 9, "AAAA"),
            layer(PAYLOAD, MOST_PAYLOAD + 1, "AAAA"),
            layer(PAYLOAD, 9, "no base64!"),
            layer(PAYLOAD, 9, &"A".repeat(LONGEST_SIGNATURE + 4)),
            json!({"mediaType": PAYLOAD, "size": 9, "digest": "../x", "annotations": {SIGNATURE: "AAAA"}}),
            json!({"mediaType": PAYLOAD, "size": 9, "digest": digest(b"x")}),
        ];
        assert_eq!(read(others), []);
        assert_eq!(read(vec![layer(PAYLOAD, 9, "AAAA"); 1_000]).len(), MOST_SIGNATURES);
        assert!(claims(b"{").is_err());
    }

    #[test]
    fn only_a_public_key_on_p256_is_a_key() {
        let secp256k1 =
            "-----BEGIN PUBLIC KEY-----\nMFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEAAAA\n-----END PUBLIC KEY-----\n";
        for text in ["", "key", secp256k1, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert_eq!(ImageKey::from_pem(text), Err(ImageKeyError), "{text}");
        }
    }
}
