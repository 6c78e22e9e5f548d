//! Evidence that is made here behind the same code: no public sample carries a nonce of ours, and no sample of a machine and
//! of its GPU answer one question.

use std::str::FromStr;

use alloy_primitives::B256;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, date_time_ymd,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use tradewind_proto::attestation::{Attestation, Binding, GpuEvidence, MachineEvidence};
use tradewind_proto::ids::{DeviceId, MeshKey};
use tradewind_proto::units::Timestamp;
use tradewind_tee::{Expected, Policy, Refused, Roots, Verified, verify};

const NOW: Timestamp = Timestamp::from_unix(1_750_000_000);
const FIRMWARE: [u8; 48] = [0xf1; 48];

/// A maker with a root, an authority below it, and devices below that.
struct Maker {
    root: Vec<u8>,
    authority: Vec<u8>,
    key: KeyPair,
    params: CertificateParams,
}

/// A device's certificate and key.
struct Device {
    certificate: Vec<u8>,
    key: KeyPair,
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2026, 1, 1));
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// As a device's certificate should be.
fn ordinary() -> CertificateParams {
    let mut params = params("device");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let extension = [&[0x30, 0x32, 0x04, 0x30], FIRMWARE.as_slice()].concat();
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 1], extension)];
    params
}

impl Maker {
    fn new() -> Self {
        Self::with(authority("authority"))
    }

    fn with(params: CertificateParams) -> Self {
        let (root_key, key) = (key(), key());
        let root_params = authority("root");
        let root = root_params.self_signed(&root_key).unwrap();
        let signed = params.signed_by(&key, &Issuer::new(root_params, root_key)).unwrap();
        Self { root: root.der().to_vec(), authority: signed.der().to_vec(), key, params }
    }

    fn device(&self, params: &CertificateParams) -> Device {
        let key = key();
        let issuer = Issuer::from_params(&self.params, &self.key);
        Device { certificate: params.signed_by(&key, &issuer).unwrap().der().to_vec(), key }
    }

    /// An enclave's document.
    fn document(&self, device: &Device, nonce: &[u8]) -> MachineEvidence {
        let mut payload = minicbor::Encoder::new(Vec::new());
        payload.map(6).unwrap();
        payload.str("module_id").unwrap().str("i-1").unwrap().str("digest").unwrap().str("SHA384").unwrap();
        payload.str("pcrs").unwrap().map(3).unwrap();
        for register in 0..3_u8 {
            payload.u8(register).unwrap().bytes(&[register + 1; 48]).unwrap();
        }
        payload.str("certificate").unwrap().bytes(&device.certificate).unwrap();
        payload.str("cabundle").unwrap().array(2).unwrap();
        payload.bytes(&self.root).unwrap().bytes(&self.authority).unwrap();
        payload.str("nonce").unwrap().bytes(nonce).unwrap();
        let (protected, payload) = ([0xa1, 0x01, 0x38, 0x22], payload.into_writer());
        let mut message = minicbor::Encoder::new(Vec::new());
        message.array(4).unwrap().str("Signature1").unwrap().bytes(&protected).unwrap();
        message.bytes(&[]).unwrap().bytes(&payload).unwrap();
        let signature = device.sign(&message.into_writer());
        let mut document = minicbor::Encoder::new(Vec::new());
        document.array(4).unwrap().bytes(&protected).unwrap().map(0).unwrap();
        document.bytes(&payload).unwrap().bytes(&signature).unwrap();
        MachineEvidence::Nitro { document: document.into_writer() }
    }

    /// A GPU's report.
    fn report(&self, device: &Device, nonce: &[u8; 32]) -> GpuEvidence {
        let mut report = vec![0x11, 0xe0, 1, 0xff];
        report.extend(nonce);
        report.push(0);
        report.extend([0x11, 0x60, 0, 0, 1]);
        report.extend([55, 0, 0, 1, 1, 51, 0, 1, 48, 0]);
        report.extend([9; 48]);
        report.extend([8; 32]);
        report.extend([52, 0, 20, 0, 48, 0]);
        report.extend(FIRMWARE);
        let signature = device.sign(&report);
        report.extend(signature);
        GpuEvidence { report, chain: vec![device.certificate.clone(), self.authority.clone()] }
    }

    fn roots(&self) -> Roots {
        Roots { aws: self.root.clone(), nvidia: self.root.clone(), ..Roots::makers() }
    }

    fn judge(&self, attestation: &Attestation, asked: &Binding) -> Result<Verified, Refused> {
        verify(attestation, &Expected::from(asked), &Policy::default(), &self.roots(), NOW)
    }
}

impl Device {
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, self.key.serialized_der(), &random);
        pair.unwrap().sign(&random, message).unwrap().as_ref().to_vec()
    }
}

fn question() -> Binding {
    Binding {
        chain_id: 31_337,
        device: DeviceId::from_str(&B256::repeat_byte(1).to_string()).unwrap(),
        mesh_key: MeshKey::from_bytes([2; 32]),
        nonce: B256::repeat_byte(3),
    }
}

/// A machine and two GPUs that answer one question.
fn answered(maker: &Maker, asked: &Binding) -> Attestation {
    let [machine, first, second] = [0; 3].map(|_| maker.device(&ordinary()));
    let gpus = [first, second].map(|gpu| maker.report(&gpu, &asked.narrow()));
    Attestation { machine: maker.document(&machine, &asked.wide()), gpus: gpus.to_vec() }
}

#[test]
fn a_machine_and_gpus_that_answer_one_question_verify_together() {
    let maker = Maker::new();
    let verified = maker.judge(&answered(&maker, &question()), &question()).unwrap();
    assert_eq!(verified.gpus.len(), 2);
    assert_ne!(verified.gpus[0].key, verified.gpus[1].key);
    assert_eq!(verified.machine.measurements.len(), 3);
}

#[test]
fn an_answer_to_another_question_is_refused() {
    let maker = Maker::new();
    let asked = question();
    let answer = answered(&maker, &asked);
    for other in [
        Binding { nonce: B256::repeat_byte(4), ..asked },
        Binding { chain_id: 1, ..asked },
        Binding { device: DeviceId::NONE, ..asked },
        Binding { mesh_key: MeshKey::from_bytes([3; 32]), ..asked },
    ] {
        assert!(matches!(maker.judge(&answer, &other), Err(Refused::Binding)), "{other:?}");
    }
}

#[test]
fn a_gpu_of_another_machine_is_refused() {
    let maker = Maker::new();
    let asked = question();
    let elsewhere = Binding { mesh_key: MeshKey::from_bytes([9; 32]), ..asked };
    let mut mixed = answered(&maker, &asked);
    mixed.gpus[1] = answered(&maker, &elsewhere).gpus[1].clone();
    let Err(Refused::Gpu { index: 1, source }) = maker.judge(&mixed, &asked) else { panic!("it verified") };
    assert!(matches!(*source, Refused::Binding));
}

#[test]
fn one_card_cannot_stand_for_two() {
    let maker = Maker::new();
    let mut doubled = answered(&maker, &question());
    doubled.gpus[1] = doubled.gpus[0].clone();
    let Err(Refused::Gpu { index: 1, source }) = maker.judge(&doubled, &question()) else {
        panic!("it verified")
    };
    assert!(matches!(*source, Refused::Mismatch("it showed itself before")));
}

#[test]
fn a_key_that_was_certified_for_other_firmware_is_refused() {
    let maker = Maker::new();
    let mut params = ordinary();
    params.custom_extensions.clear();
    let mut answer = answered(&maker, &question());
    answer.gpus = vec![maker.report(&maker.device(&params), &question().narrow())];
    let Err(Refused::Gpu { source, .. }) = maker.judge(&answer, &question()) else { panic!("it verified") };
    assert!(matches!(*source, Refused::Mismatch("the certificate is for other firmware")));
}

#[test]
fn a_document_signed_by_another_device_is_refused() {
    let maker = Maker::new();
    let (certified, signer) = (maker.device(&ordinary()), maker.device(&ordinary()));
    let device = Device { certificate: certified.certificate, key: signer.key };
    let machine = maker.document(&device, &question().wide());
    let refused = maker.judge(&Attestation { machine, gpus: Vec::new() }, &question());
    assert!(matches!(refused, Err(Refused::Signature("the document"))));
}

#[test]
fn a_certificate_is_good_for_what_it_says_only() {
    let judge = |maker: &Maker, params: &CertificateParams| {
        let machine = maker.document(&maker.device(params), &question().wide());
        maker.judge(&Attestation { machine, gpus: Vec::new() }, &question())
    };
    let maker = Maker::new();
    assert!(judge(&maker, &ordinary()).is_ok());
    let mut agreeing = ordinary();
    agreeing.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    assert!(matches!(judge(&maker, &agreeing), Err(Refused::Certificate("signs what it may not sign"))));
    let mut idle = authority("authority");
    idle.key_usages = vec![KeyUsagePurpose::CrlSign];
    assert!(matches!(judge(&Maker::with(idle), &ordinary()), Err(Refused::Certificate(_))));
    // A device that poses as an authority.
    let mut posing = ordinary();
    posing.is_ca = IsCa::NoCa;
    assert!(matches!(judge(&Maker::with(posing), &ordinary()), Err(Refused::Chain(_))));
    let mut over = ordinary();
    over.not_after = date_time_ymd(2025, 2, 1);
    assert!(matches!(judge(&maker, &over), Err(Refused::Expired { .. })));
}

#[test]
fn a_chain_holds_nothing_that_is_not_needed() {
    let maker = Maker::new();
    let mut answer = answered(&maker, &question());
    answer.gpus[0].chain.push(Maker::new().authority);
    let Err(Refused::Gpu { index: 0, source }) = maker.judge(&answer, &question()) else {
        panic!("it verified")
    };
    assert!(matches!(*source, Refused::Certificate("is no part of the chain")));
}

#[test]
fn evidence_of_one_maker_is_refused_under_the_root_of_another() {
    let (maker, other) = (Maker::new(), Maker::new());
    let refused = other.judge(&answered(&maker, &question()), &question());
    assert!(matches!(refused, Err(Refused::Chain(_))));
}
