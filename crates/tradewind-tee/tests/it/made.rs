//! Evidence that is made here behind the same code: no public sample carries a nonce of ours, and no sample of a machine and
//! of its GPU answer one question.

use alloy_primitives::B256;
use rcgen::{CertificateParams, IsCa, KeyUsagePurpose, date_time_ymd};
use tradewind_proto::attestation::{Attestation, Binding, GpuEvidence, MachineEvidence};
use tradewind_proto::ids::{DeviceId, MeshKey};
use tradewind_proto::units::Timestamp;
use tradewind_tee::{Expected, Policy, Refused, Roots, Verified, verify};
use tradewind_testbed::maker::{Device, Maker, authority, device};

const NOW: Timestamp = Timestamp::from_unix(1_750_000_000);

fn judge(maker: &Maker, attestation: &Attestation, asked: &Binding) -> Result<Verified, Refused> {
    let roots = Roots { aws: maker.root.clone(), nvidia: maker.root.clone(), ..Roots::makers() };
    verify(attestation, &Expected::from(asked), &Policy::default(), &roots, NOW)
}

fn gpu(maker: &Maker, params: &CertificateParams, asked: &Binding) -> GpuEvidence {
    let (report, chain) = maker.report(&maker.device(params), &asked.narrow());
    GpuEvidence { report, chain }
}

fn machine(maker: &Maker, device: &Device, asked: &Binding) -> MachineEvidence {
    MachineEvidence::Nitro { document: maker.document(device, &asked.wide()) }
}

/// A machine and two GPUs that answer one question.
fn answered(maker: &Maker, asked: &Binding) -> Attestation {
    let gpus = vec![gpu(maker, &device(), asked), gpu(maker, &device(), asked)];
    Attestation { machine: machine(maker, &maker.device(&device()), asked), gpus }
}

fn question() -> Binding {
    Binding {
        chain_id: 31_337,
        device: DeviceId::new(B256::repeat_byte(1)),
        mesh_key: MeshKey::from_bytes([2; 32]),
        nonce: B256::repeat_byte(3),
    }
}

#[test]
fn a_machine_and_gpus_that_answer_one_question_verify_together() {
    let maker = Maker::new();
    let verified = judge(&maker, &answered(&maker, &question()), &question()).unwrap();
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
        assert!(matches!(judge(&maker, &answer, &other), Err(Refused::Binding)), "{other:?}");
    }
}

#[test]
fn a_gpu_of_another_machine_is_refused() {
    let maker = Maker::new();
    let asked = question();
    let elsewhere = Binding { mesh_key: MeshKey::from_bytes([9; 32]), ..asked };
    let mut mixed = answered(&maker, &asked);
    mixed.gpus[1] = answered(&maker, &elsewhere).gpus[1].clone();
    let Err(Refused::Gpu { index: 1, source }) = judge(&maker, &mixed, &asked) else { panic!("it verified") };
    assert!(matches!(*source, Refused::Binding));
}

#[test]
fn one_card_cannot_stand_for_two() {
    let maker = Maker::new();
    let mut doubled = answered(&maker, &question());
    doubled.gpus[1] = doubled.gpus[0].clone();
    let Err(Refused::Gpu { index: 1, source }) = judge(&maker, &doubled, &question()) else {
        panic!("it verified")
    };
    assert!(matches!(*source, Refused::Mismatch("it showed itself before")));
}

#[test]
fn a_key_that_was_certified_for_other_firmware_is_refused() {
    let maker = Maker::new();
    let mut params = device();
    params.custom_extensions.clear();
    let mut answer = answered(&maker, &question());
    answer.gpus = vec![gpu(&maker, &params, &question())];
    let Err(Refused::Gpu { source, .. }) = judge(&maker, &answer, &question()) else { panic!("it verified") };
    assert!(matches!(*source, Refused::Mismatch("the certificate is for other firmware")));
}

#[test]
fn a_document_signed_by_another_device_is_refused() {
    let maker = Maker::new();
    let (certified, signer) = (maker.device(&device()), maker.device(&device()));
    let posing = Device { certificate: certified.certificate, key: signer.key };
    let machine = machine(&maker, &posing, &question());
    let refused = judge(&maker, &Attestation { machine, gpus: Vec::new() }, &question());
    assert!(matches!(refused, Err(Refused::Signature("the document"))));
}

#[test]
fn a_certificate_is_good_for_what_it_says_only() {
    let certified = |maker: &Maker, params: &CertificateParams| {
        let machine = machine(maker, &maker.device(params), &question());
        judge(maker, &Attestation { machine, gpus: Vec::new() }, &question())
    };
    let maker = Maker::new();
    assert!(certified(&maker, &device()).is_ok());
    let mut agreeing = device();
    agreeing.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    assert!(matches!(certified(&maker, &agreeing), Err(Refused::Certificate("signs what it may not sign"))));
    let mut idle = authority();
    idle.key_usages = vec![KeyUsagePurpose::CrlSign];
    assert!(matches!(certified(&Maker::with(idle), &device()), Err(Refused::Certificate(_))));
    // A device that poses as an authority.
    let mut posing = device();
    posing.is_ca = IsCa::NoCa;
    assert!(matches!(certified(&Maker::with(posing), &device()), Err(Refused::Chain(_))));
    let mut over = device();
    over.not_after = date_time_ymd(2025, 2, 1);
    assert!(matches!(certified(&maker, &over), Err(Refused::Expired { .. })));
}

#[test]
fn a_chain_holds_nothing_that_is_not_needed() {
    let maker = Maker::new();
    let mut answer = answered(&maker, &question());
    answer.gpus[0].chain.push(Maker::new().authority);
    let Err(Refused::Gpu { index: 0, source }) = judge(&maker, &answer, &question()) else {
        panic!("it verified")
    };
    assert!(matches!(*source, Refused::Certificate("is no part of the chain")));
}

#[test]
fn evidence_of_one_maker_is_refused_under_the_root_of_another() {
    let (maker, other) = (Maker::new(), Maker::new());
    let refused = judge(&other, &answered(&maker, &question()), &question());
    assert!(matches!(refused, Err(Refused::Chain(_))));
}
