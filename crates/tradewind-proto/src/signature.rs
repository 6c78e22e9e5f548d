//! secp256k1 signatures as the chain checks them, and the envelope for everything signed off the chain.
//!
//! Contract-visible objects sign an EIP-712 digest. Everything else signs *the exact bytes sent*: [`Signed`] carries the
//! bytes and the signature, a reader verifies first and decodes afterwards, and nothing is ever re-encoded.

use std::fmt;

use alloy_primitives::{Address, B256, keccak256};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use serde::{Deserialize, Serialize};

/// Half of the curve's order: a signature with a larger `s` has a twin and is refused.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d,
    0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// Why a signature was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A signature is 65 bytes: r, s, v.
    #[error("a signature has 65 bytes, this one has {0}")]
    Length(usize),
    /// `v` is none of 0, 1, 27, 28, `s` is in the upper half, or no key recovers.
    #[error("the signature is malformed")]
    Malformed,
    /// The signature is somebody else's.
    #[error("signed by {signer}, expected {expected}")]
    WrongSigner {
        /// Who signed.
        signer: Address,
        /// Who should have.
        expected: Address,
    },
    /// The bytes under the signature are no record of the expected kind.
    #[error("the signed bytes are not a {0}")]
    Decode(&'static str),
    /// No such secret key exists.
    #[error("the secret key is zero or beyond the curve's order")]
    SecretKey,
}

/// A signature as the contracts take it: `r ‖ s ‖ v`, with `v` 27 or 28 and `s` in the lower half.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 65]);

impl Signature {
    /// Reads 65 bytes; `v` may be 0, 1, 27 or 28.
    ///
    /// # Errors
    /// [`SignatureError::Length`], [`SignatureError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignatureError> {
        let mut raw: [u8; 65] = bytes.try_into().map_err(|_| SignatureError::Length(bytes.len()))?;
        raw[64] = match raw[64] {
            0 | 27 => 27,
            1 | 28 => 28,
            _ => return Err(SignatureError::Malformed),
        };
        if raw[32..64] > HALF_ORDER[..] {
            return Err(SignatureError::Malformed);
        }
        Ok(Self(raw))
    }

    /// The 65 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 65] {
        &self.0
    }

    /// The account that signed `digest`.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`] when no key recovers.
    pub fn recover(&self, digest: B256) -> Result<Address, SignatureError> {
        let id = RecoveryId::try_from(i32::from(self.0[64] - 27)).map_err(|_| SignatureError::Malformed)?;
        let signature =
            RecoverableSignature::from_compact(&self.0[..64], id).map_err(|_| SignatureError::Malformed)?;
        let key = SECP256K1
            .recover_ecdsa(Message::from_digest(digest.0), &signature)
            .map_err(|_| SignatureError::Malformed)?;
        Ok(address_of(&key))
    }

    /// Checks that `expected` signed `digest`.
    ///
    /// # Errors
    /// [`SignatureError::WrongSigner`], [`SignatureError::Malformed`].
    pub fn verify(&self, digest: B256, expected: Address) -> Result<(), SignatureError> {
        let signer = self.recover(digest)?;
        if signer == expected { Ok(()) } else { Err(SignatureError::WrongSigner { signer, expected }) }
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature(0x{})", hex::encode(self.0))
    }
}

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&format!("0x{}", hex::encode(self.0)))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = alloy_primitives::Bytes::deserialize(deserializer)?;
        Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
    }
}

/// A secp256k1 secret: an account's, a meter's or a device's. Wiped on drop, never shown.
#[derive(Clone)]
pub struct SigningKey {
    secret: SecretKey,
    address: Address,
}

impl SigningKey {
    /// The key with this secret.
    ///
    /// # Errors
    /// [`SignatureError::SecretKey`] for zero or a value beyond the curve's order.
    pub fn from_bytes(secret: [u8; 32]) -> Result<Self, SignatureError> {
        let secret = SecretKey::from_byte_array(secret).map_err(|_| SignatureError::SecretKey)?;
        let address = address_of(&PublicKey::from_secret_key(SECP256K1, &secret));
        Ok(Self { secret, address })
    }

    /// The account of this key.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// The secret, for writing it into an encrypted keystore and nowhere else.
    #[must_use]
    pub fn secret_bytes(&self) -> [u8; 32] {
        self.secret.secret_bytes()
    }

    /// Signs a digest, deterministically (RFC 6979).
    #[must_use]
    pub fn sign(&self, digest: B256) -> Signature {
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.secret);
        let (id, compact) = signature.serialize_compact();
        let mut raw = [0u8; 65];
        raw[..64].copy_from_slice(&compact);
        raw[64] = if i32::from(id) == 1 { 28 } else { 27 };
        Signature(raw)
    }
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        self.secret.non_secure_erase();
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.address)
    }
}

fn address_of(key: &PublicKey) -> Address {
    Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..])
}

/// Bytes as they were sent, with the signature over exactly those bytes.
///
/// The digest is `keccak256("tradewind" ‖ 0 ‖ domain ‖ 0 ‖ bytes)`: the domain keeps a record of one kind from being read as another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The encoded record.
    pub bytes: bytes::Bytes,
    /// Over the bytes.
    pub signature: Signature,
}

impl Signed {
    /// Signs `bytes` as a record of `domain`.
    #[must_use]
    pub fn new(domain: &'static str, bytes: Vec<u8>, key: &SigningKey) -> Self {
        let signature = key.sign(Self::digest(domain, &bytes));
        Self { bytes: bytes.into(), signature }
    }

    /// Who signed these bytes as a record of `domain`.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`].
    pub fn signer(&self, domain: &'static str) -> Result<Address, SignatureError> {
        self.signature.recover(Self::digest(domain, &self.bytes))
    }

    fn digest(domain: &'static str, bytes: &[u8]) -> B256 {
        keccak256([b"tradewind\0", domain.as_bytes(), b"\0", bytes].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_bytes([7; 32]).unwrap()
    }

    #[test]
    fn a_signature_names_its_signer_and_no_other() {
        let digest = keccak256(b"digest");
        let signature = key().sign(digest);
        assert_eq!(signature.verify(digest, key().address()), Ok(()));
        assert!(matches!(
            signature.verify(keccak256(b"other"), key().address()),
            Err(SignatureError::WrongSigner { .. })
        ));
    }

    #[test]
    fn a_malleable_twin_is_refused() {
        let mut raw = *key().sign(keccak256(b"digest")).as_bytes();
        raw[32..64].copy_from_slice(&[0xff; 32]);
        assert_eq!(Signature::from_bytes(&raw), Err(SignatureError::Malformed));
        assert_eq!(Signature::from_bytes(&raw[..64]), Err(SignatureError::Length(64)));
    }

    #[test]
    fn a_record_of_one_domain_is_not_one_of_another() {
        let signed = Signed::new("offer", b"body".to_vec(), &key());
        assert_eq!(signed.signer("offer").unwrap(), key().address());
        assert_ne!(signed.signer("usage").unwrap(), key().address());
    }

    #[test]
    fn debug_hides_the_secret() {
        assert!(!format!("{:?}", key()).contains("0707"));
    }
}
