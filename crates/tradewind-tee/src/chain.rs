//! Certificates from a device's own up to a pinned root.

use ring::signature::{ECDSA_P384_SHA384_FIXED, RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm, TrustAnchor,
    UnixTime, alg_id,
};
use tradewind_proto::units::Timestamp;
use webpki::{EndEntityCert, KeyUsage};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::ext::pkix::KeyUsage as Uses;

use crate::Refused;

/// Which signatures a maker's certificates carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signatures {
    /// AWS's and NVIDIA's: ECDSA on P-384.
    P384,
    /// AMD's: RSA-PSS with SHA-384.
    Pss,
}

/// A device's certificate whose chain holds.
pub(crate) struct Device {
    certificate: CertificateInner<Raw>,
    /// The first certificate of the path to end; a root ends when it is no longer pinned.
    pub(crate) expires: Timestamp,
}

impl Device {
    /// Its public key: a point on P-384.
    pub(crate) fn key(&self) -> &[u8] {
        self.certificate.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes()
    }

    /// Whether `signature`, two numbers of 48 bytes each, is the device's over `message`.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, self.key()).verify(message, signature).is_ok()
    }

    /// The content of an extension.
    pub(crate) fn extension(&self, id: ObjectIdentifier) -> Option<&[u8]> {
        let mut all = self.certificate.tbs_certificate().extensions()?.iter();
        all.find(|extension| extension.extn_id == id).map(|extension| extension.extn_value.as_bytes())
    }
}

/// Follows `others` from `device` to one of `roots`. Each certificate has to be part of the way.
pub(crate) fn verify(
    device: &[u8],
    others: &[&[u8]],
    roots: &[&[u8]],
    signatures: Signatures,
    now: Timestamp,
) -> Result<Device, Refused> {
    let roots: Vec<CertificateDer<'_>> = roots.iter().map(|root| CertificateDer::from(*root)).collect();
    let anchors: Vec<TrustAnchor<'_>> = roots
        .iter()
        .map(|root| webpki::anchor_from_trusted_cert(root).map_err(|_| Refused::Root))
        .collect::<Result<_, _>>()?;
    // Chains are often shown with their root, which counts only where it is pinned.
    let between: Vec<CertificateDer<'_>> = others
        .iter()
        .map(|other| CertificateDer::from(*other))
        .filter(|other| !roots.contains(other))
        .collect();
    let der = CertificateDer::from(device);
    let leaf = EndEntityCert::try_from(&der).map_err(Refused::Chain)?;
    let algorithms: &[&dyn SignatureVerificationAlgorithm] = match signatures {
        Signatures::P384 => &[webpki::ring::ECDSA_P384_SHA384],
        Signatures::Pss => &[&AmdPss, webpki::ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY],
    };
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.unix()));
    // No device's certificate says what else it may be used for; one that does has to be for clients.
    let path = leaf
        .verify_for_usage(algorithms, &anchors, &between, time, KeyUsage::client_auth(), None, None)
        .map_err(|source| refused(source, now))?;
    let on_the_way: Vec<Vec<u8>> =
        path.intermediate_certificates().map(|issuer| issuer.der().to_vec()).collect();
    if between.iter().any(|other| !on_the_way.iter().any(|der| der == other.as_ref())) {
        return Err(Refused::Certificate("is no part of the chain"));
    }
    let certificate = read(device)?;
    let mut expires = ends(&certificate);
    uses(&certificate, Uses::digital_signature)?;
    for issuer in &between {
        let issuer = read(issuer)?;
        uses(&issuer, Uses::key_cert_sign)?;
        expires = expires.min(ends(&issuer));
    }
    Ok(Device { certificate, expires })
}

fn refused(source: webpki::Error, at: Timestamp) -> Refused {
    if matches!(source, webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. }) {
        Refused::Expired { at, source }
    } else {
        Refused::Chain(source)
    }
}

/// Reads a certificate that a path was built of already. AMD numbers its certificates 0, which the strict profile refuses.
fn read(der: &[u8]) -> Result<CertificateInner<Raw>, Refused> {
    CertificateInner::<Raw>::from_der(der).map_err(|_| Refused::Malformed("a certificate"))
}

fn ends(certificate: &CertificateInner<Raw>) -> Timestamp {
    Timestamp::from_unix(certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs())
}

/// What webpki leaves to its caller: whether the key is for this at all, where its certificate says.
fn uses(certificate: &CertificateInner<Raw>, allowed: fn(&Uses) -> bool) -> Result<(), Refused> {
    let uses = certificate.tbs_certificate().get_extension::<Uses>();
    let uses = uses.map_err(|_| Refused::Malformed("a certificate"))?;
    match uses {
        Some((_, uses)) if !allowed(&uses) => Err(Refused::Certificate("signs what it may not sign")),
        Some(_) | None => Ok(()),
    }
}

/// RSA-PSS as AMD named it up to Genoa: with the default trailer spelled out, which webpki's own algorithm does not match.
#[derive(Debug)]
struct AmdPss;

const AMD_PSS: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x39, 0xa0, 0x0f, 0x30, 0x0d,
    0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa1, 0x1c, 0x30, 0x1a,
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86,
    0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x30, 0xa3, 0x03, 0x02,
    0x01, 0x01,
];

impl SignatureVerificationAlgorithm for AmdPss {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, key);
        key.verify(message, signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        AlgorithmIdentifier::from_slice(AMD_PSS)
    }
}
