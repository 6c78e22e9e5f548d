//! A maker of trusted hardware, for tests: a root, an authority below it, devices, and what these sign. Nothing here is real but
//! the forms: those of a Nitro document and of an NVIDIA GPU's report.

use minicbor::Encoder;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, date_time_ymd,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};

/// COSE's header for ECDSA on P-384.
const PROTECTED: [u8; 4] = [0xa1, 0x01, 0x38, 0x22];
const FIRMWARE: [u8; 48] = [0xf1; 48];

/// A root, and an authority below it.
#[derive(Debug)]
pub struct Maker {
    /// The root's certificate.
    pub root: Vec<u8>,
    /// The authority's.
    pub authority: Vec<u8>,
    key: KeyPair,
    params: CertificateParams,
}

/// A device's certificate and key.
#[derive(Debug)]
pub struct Device {
    /// Its certificate.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: KeyPair,
}

/// As an authority's certificate should be.
#[must_use]
pub fn authority() -> CertificateParams {
    let mut params = params("authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// As a device's certificate should be.
#[must_use]
pub fn device() -> CertificateParams {
    let mut params = params("device");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let extension = [&[0x30, 0x32, 0x04, 0x30], FIRMWARE.as_slice()].concat();
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 1], extension)];
    params
}

/// Good in the present and in the simulator's time.
fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2200, 1, 1));
    params
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key")
}

impl Maker {
    /// A maker as it should be.
    #[must_use]
    pub fn new() -> Self {
        Self::with(authority())
    }

    /// A maker whose authority is certified with `params`.
    #[must_use]
    pub fn with(params: CertificateParams) -> Self {
        let (root_key, key) = (key(), key());
        let mut root_params = authority();
        root_params.distinguished_name.push(DnType::CommonName, "root");
        let root = root_params.self_signed(&root_key).expect("a root");
        let signed = params.signed_by(&key, &Issuer::new(root_params, root_key)).expect("an authority");
        Self { root: root.der().to_vec(), authority: signed.der().to_vec(), key, params }
    }

    /// A device that is certified with `params`.
    #[must_use]
    pub fn device(&self, params: &CertificateParams) -> Device {
        let key = key();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).expect("a device's certificate");
        Device { certificate: certificate.der().to_vec(), key }
    }

    /// An enclave's document with `nonce`, as Nitro's are.
    #[must_use]
    pub fn document(&self, device: &Device, nonce: &[u8]) -> Vec<u8> {
        let payload = encoded(|payload| {
            payload.map(6)?.str("module_id")?.str("i-1")?.str("digest")?.str("SHA384")?;
            payload.str("pcrs")?.map(3)?;
            for register in 0..3_u8 {
                payload.u8(register)?.bytes(&[register + 1; 48])?;
            }
            payload.str("certificate")?.bytes(&device.certificate)?.str("cabundle")?.array(2)?;
            payload.bytes(&self.root)?.bytes(&self.authority)?.str("nonce")?.bytes(nonce)?;
            Ok(())
        });
        let message = encoded(|message| {
            message.array(4)?.str("Signature1")?.bytes(&PROTECTED)?.bytes(&[])?.bytes(&payload)?;
            Ok(())
        });
        let signature = device.sign(&message);
        encoded(|document| {
            document.array(4)?.bytes(&PROTECTED)?.map(0)?.bytes(&payload)?.bytes(&signature)?;
            Ok(())
        })
    }

    /// A GPU's report with `nonce`, as NVIDIA's are, and its chain.
    #[must_use]
    pub fn report(&self, device: &Device, nonce: &[u8; 32]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut report = vec![0x11, 0xe0, 1, 0xff];
        report.extend(nonce);
        report.push(0);
        // One block of measurements: 4 bytes of head, then a kind, a length and 48 bytes.
        report.extend([0x11, 0x60, 0, 0, 1, 55, 0, 0, 1, 1, 51, 0, 1, 48, 0]);
        report.extend([9; 48]);
        report.extend([8; 32]);
        report.extend([52, 0, 20, 0, 48, 0]);
        report.extend(FIRMWARE);
        let signature = device.sign(&report);
        report.extend(signature);
        (report, vec![device.certificate.clone(), self.authority.clone()])
    }
}

impl Default for Maker {
    fn default() -> Self {
        Self::new()
    }
}

impl Device {
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, self.key.serialized_der(), &random);
        let signature = pair.expect("a key pair").sign(&random, message);
        signature.expect("a signature").as_ref().to_vec()
    }
}

type Failure = minicbor::encode::Error<std::convert::Infallible>;

fn encoded(write: impl FnOnce(&mut Encoder<Vec<u8>>) -> Result<(), Failure>) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder).expect("memory takes everything");
    encoder.into_writer()
}
