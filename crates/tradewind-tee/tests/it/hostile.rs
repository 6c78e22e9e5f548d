//! Bytes of a peer: whatever they are, they are judged without a panic, and no change of what is signed passes.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tradewind_proto::attestation::{Attestation, GpuEvidence, MachineEvidence};

use crate::sample::{
    Part, Sample, collateral, gpu_certificate, gpu_report, hopper, issuer, nitro, sgx, snp, statement, tdx,
};

/// Parts whose every bit counts.
fn strict() -> Vec<(Sample, Part)> {
    vec![
        (snp(), statement as Part),
        (snp(), collateral),
        (snp(), issuer),
        (nitro(), statement),
        (hopper(), gpu_report),
        (hopper(), gpu_certificate::<0>),
        (hopper(), gpu_certificate::<1>),
        (hopper(), gpu_certificate::<3>),
    ]
}

/// Parts that hold blanks, or copies that nobody reads: a change of these is refused or changes nothing.
fn loose() -> Vec<(Sample, Part)> {
    vec![(tdx(), statement as Part), (tdx(), collateral), (sgx(), statement), (sgx(), collateral)]
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(192))]

    #[test]
    fn a_flipped_bit_is_refused(part in 0..8_usize, place in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let (sample, part) = &strict()[part];
        let flipped = sample.with(*part, |bytes| {
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
        });
        prop_assert!(flipped.verify().is_err());
    }

    #[test]
    fn a_flipped_bit_of_a_quote_is_refused_or_changes_nothing(
        part in 0..4_usize, place in any::<prop::sample::Index>(), bit in 0..8_u8,
    ) {
        let (sample, part) = &loose()[part];
        let flipped = sample.with(*part, |bytes| {
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
        });
        if let Ok(verified) = flipped.verify() {
            prop_assert_eq!(verified, sample.verify().unwrap());
        }
    }

    #[test]
    fn a_truncated_part_is_refused(part in 0..12_usize, length in any::<prop::sample::Index>()) {
        let parts = [strict(), loose()].concat();
        let (sample, part) = &parts[part];
        let shorter = sample.with(*part, |bytes| bytes.truncate(length.index(bytes.len())));
        if let Ok(verified) = shorter.verify() {
            // The zeros behind a quote may be missing.
            prop_assert_eq!(verified, sample.verify().unwrap());
            let padded = matches!(sample.attestation.machine, MachineEvidence::Intel { .. });
            prop_assert!(padded);
        }
    }

    #[test]
    fn bytes_of_a_stranger_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), head in 0..8_usize) {
        let sample = hopper();
        let mut report = sample.bytes(gpu_report);
        report.truncate(head * 40);
        let report = [report, bytes.clone()].concat();
        let machines = [
            MachineEvidence::Intel { quote: bytes.clone(), collateral: bytes.clone() },
            MachineEvidence::SevSnp { report: bytes.clone(), chip: bytes.clone(), issuer: bytes.clone() },
            MachineEvidence::Nitro { document: bytes.clone() },
        ];
        for machine in machines {
            let other = Sample { attestation: Attestation { machine, gpus: Vec::new() }, ..sample.clone() };
            prop_assert!(other.verify().is_err());
        }
        let mut other = sample;
        other.attestation.gpus = vec![GpuEvidence { report, chain: vec![bytes] }];
        prop_assert!(other.verify().is_err());
    }
}
