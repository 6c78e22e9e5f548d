//! The public samples verify, and say what their makers' tools say.

use tradewind_proto::attestation::Tees;
use tradewind_proto::units::Timestamp;
use tradewind_tee::{Level, MAX_AGE, Machine, Policy, Refused, Roots};

use crate::sample::{hopper, nitro, nitro_debug, outdated, sgx, snp, tdx, told};

fn measured(machine: &Machine, name: &str) -> String {
    let found = machine.measurements.iter().find(|measurement| measurement.name == name).unwrap();
    found.value.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_tdx_quote_verifies() {
    let verified = tdx().verify().unwrap();
    assert_eq!((verified.machine.kind, verified.machine.level), (Tees::TDX, Level::UpToDate));
    assert_eq!(verified.machine.measurements.len(), 6);
    assert!(!verified.machine.debug);
    // Intel's lists end within a month; evidence is believed for a day.
    assert_eq!(verified.machine.expires.unix(), 1_752_919_235);
    assert_eq!(verified.expires, Timestamp::from_unix(tdx().now).after(MAX_AGE));
}

#[test]
fn an_sgx_quote_verifies_and_tells_of_advisories() {
    let machine = sgx().verify().unwrap().machine;
    assert_eq!(machine.kind, Tees::SGX);
    let Level::Advised(status, advisories) = machine.level else { panic!("{:?}", machine.level) };
    assert_eq!(status, "ConfigurationAndSWHardeningNeeded");
    assert!(advisories.iter().any(|id| id.starts_with("INTEL-SA-")), "{advisories:?}");
}

#[test]
fn firmware_below_every_level_that_intel_lists_is_refused() {
    let Err(refused @ Refused::Quote(_)) = outdated().verify() else { panic!("it verified") };
    assert_eq!(told(&refused), "the quote does not verify: No matching TCB level found");
}

#[test]
fn an_snp_report_verifies() {
    let machine = snp().verify().unwrap().machine;
    assert_eq!((machine.kind, machine.level.clone()), (Tees::SEV_SNP, Level::Unrated));
    assert!(measured(&machine, "launch").starts_with("7a1e5c266c0108dbc9bb94fa92695132"));
    let firmware: Vec<_> = machine.firmware.iter().map(|(name, version)| (*name, version.as_str())).collect();
    assert_eq!(firmware, [("bootloader", "3"), ("tee", "0"), ("snp", "8"), ("microcode", "115")]);
    // 3 April 2030, when the chip's certificate ends.
    assert_eq!(machine.expires.unix(), 1_901_474_623);
}

#[test]
fn a_nitro_document_verifies() {
    let machine = nitro().verify().unwrap().machine;
    assert_eq!(machine.kind, Tees::NITRO);
    assert_eq!(machine.firmware, [("module", "i-0bee92034f3d60691-enc01943c5eaab3ad6a".to_owned())]);
    assert!(measured(&machine, "PCR0").starts_with("8bb159f202bb95d6d4d98e0e10391824"));
    // The document's own certificate lives three hours.
    assert_eq!(machine.expires.unix(), 1_736_190_425);
}

#[test]
fn a_debug_enclave_is_refused_unless_asked_for() {
    assert!(matches!(nitro_debug().verify(), Err(Refused::Debug)));
    let policy = Policy { debug: true, ..Policy::default() };
    let machine = nitro_debug().verify_with(&policy, &Roots::makers()).unwrap().machine;
    assert!(machine.debug);
}

#[test]
fn an_nvidia_report_verifies_beside_its_machine() {
    let verified = hopper().verify().unwrap();
    assert_eq!(verified.machine.kind, Tees::SEV_SNP);
    let [gpu] = verified.gpus.as_slice() else { panic!("{:?}", verified.gpus) };
    assert_eq!((gpu.driver.as_str(), gpu.vbios.as_str()), ("550.90.07", "96.00.9F.00.01"));
    assert_eq!(gpu.measurements.len(), 64);
    assert!(gpu.measurements.iter().all(|measurement| measurement.value.len() == 48));
}
