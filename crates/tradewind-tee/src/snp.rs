//! AMD SEV-SNP: a report that the chip's own key (VCEK) signed, for the firmware that the key's certificate names.
//!
//! The key is derived from chip and firmware version, so that certificate, report and chip have to name the same ones.

use tradewind_proto::attestation::Tees;
use tradewind_proto::units::Timestamp;
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;

use crate::chain::{self, Device, Signatures};
use crate::field::field;
use crate::{Level, Machine, Measurement, Policy, Refused};

const LENGTH: usize = 0x4a0;
/// What the signature covers; itself it is two numbers of 72 bytes each, the low byte first.
const SIGNED: usize = 0x2a0;
const NUMBER: usize = 72;
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=5;
const ECDSA_P384_SHA384: u32 = 1;
/// The guest's levels of privilege; a report that the host asked for names another.
const GUEST_LEVELS: u32 = 4;
const MIGRATABLE: u64 = 1 << 18;
const DEBUG: u64 = 1 << 19;

const PRODUCT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.2");
const CHIP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");

/// A part of the firmware: its name, where its version stands in the certificate, and in the report's eight.
type Part = (&'static str, ObjectIdentifier, usize);

const fn part(name: &'static str, oid: &str, place: usize) -> Part {
    (name, ObjectIdentifier::new_unwrap(oid), place)
}

/// Milan and Genoa.
const PARTS: [Part; 4] = [
    part("bootloader", "1.3.6.1.4.1.3704.1.3.1", 0),
    part("tee", "1.3.6.1.4.1.3704.1.3.2", 1),
    part("snp", "1.3.6.1.4.1.3704.1.3.3", 6),
    part("microcode", "1.3.6.1.4.1.3704.1.3.8", 7),
];
/// Turin put one more in front.
const TURIN_PARTS: [Part; 5] = [
    part("fmc", "1.3.6.1.4.1.3704.1.3.9", 0),
    part("bootloader", "1.3.6.1.4.1.3704.1.3.1", 1),
    part("tee", "1.3.6.1.4.1.3704.1.3.2", 2),
    part("snp", "1.3.6.1.4.1.3704.1.3.3", 3),
    part("microcode", "1.3.6.1.4.1.3704.1.3.8", 7),
];

/// What the guest shows.
pub(crate) struct Evidence<'a> {
    pub(crate) report: &'a [u8],
    pub(crate) chip: &'a [u8],
    pub(crate) issuer: &'a [u8],
}

/// The fields that matter.
struct Report {
    policy: u64,
    report_data: [u8; 64],
    launch: [u8; 48],
    host_data: [u8; 32],
    firmware: [u8; 8],
    chip: [u8; 64],
}

pub(crate) fn verify(
    evidence: &Evidence<'_>,
    report_data: &[u8; 64],
    policy: &Policy,
    roots: &[Vec<u8>],
    now: Timestamp,
) -> Result<Machine, Refused> {
    let report = read(evidence.report)?;
    let debug = report.policy & DEBUG != 0;
    if debug && !policy.debug {
        return Err(Refused::Debug);
    }
    if report.policy & MIGRATABLE != 0 {
        return Err(Refused::Migratable);
    }
    if report.report_data != *report_data {
        return Err(Refused::Binding);
    }
    let roots: Vec<&[u8]> = roots.iter().map(Vec::as_slice).collect();
    let chip = chain::verify(evidence.chip, &[evidence.issuer], &roots, Signatures::Pss, now)?;
    let (message, signature) = evidence.report.split_at(SIGNED);
    let signature = big_endian(signature).ok_or(Refused::Malformed("the report's signature"))?;
    if !chip.signed(message, &signature) {
        return Err(Refused::Signature("the report"));
    }
    if !is_chip(&chip, &report.chip) {
        return Err(Refused::Mismatch("the certificate is another chip's"));
    }
    Ok(Machine {
        kind: Tees::SEV_SNP,
        measurements: vec![
            Measurement::new("launch", report.launch),
            Measurement::new("host data", report.host_data),
        ],
        firmware: firmware(&chip, report.firmware)?,
        level: Level::Unrated,
        debug,
        expires: chip.expires,
    })
}

fn read(report: &[u8]) -> Result<Report, Refused> {
    let malformed = || Refused::Malformed("the report");
    if report.len() != LENGTH {
        return Err(malformed());
    }
    let number = |at| field(report, at).map(u32::from_le_bytes).ok_or_else(malformed);
    if !VERSIONS.contains(&number(0)?) {
        return Err(Refused::Unsupported("the report's version"));
    }
    if number(0x34)? != ECDSA_P384_SHA384 {
        return Err(Refused::Unsupported("the report's signature"));
    }
    if number(0x30)? >= GUEST_LEVELS {
        return Err(Refused::Unsupported("a report that the host asked for"));
    }
    // Bits 2 to 4: which key signed; zero is the chip's own.
    if number(0x48)? >> 2 & 7 != 0 {
        return Err(Refused::Unsupported("a report that a key of the cloud's signed"));
    }
    Ok(Report {
        policy: u64::from_le_bytes(field(report, 0x08).ok_or_else(malformed)?),
        report_data: field(report, 0x50).ok_or_else(malformed)?,
        launch: field(report, 0x90).ok_or_else(malformed)?,
        host_data: field(report, 0xc0).ok_or_else(malformed)?,
        firmware: field(report, 0x180).ok_or_else(malformed)?,
        chip: field(report, 0x1a0).ok_or_else(malformed)?,
    })
}

/// AMD's form of a signature in the common one. Whatever does not belong to it is zero.
fn big_endian(signature: &[u8]) -> Option<Vec<u8>> {
    let (r, rest) = signature.split_at_checked(NUMBER)?;
    let (s, rest) = rest.split_at_checked(NUMBER)?;
    let mut both = Vec::with_capacity(96);
    for number in [r, s] {
        let (low, high) = number.split_at_checked(48)?;
        both.extend(low.iter().rev());
        high.iter().all(|byte| *byte == 0).then_some(())?;
    }
    rest.iter().all(|byte| *byte == 0).then_some(both)
}

/// Turin's certificates hold eight bytes, the others all 64.
fn is_chip(chip: &Device, reported: &[u8; 64]) -> bool {
    let Some(id) = chip.extension(CHIP).filter(|id| id.len() >= 8) else { return false };
    let Some(rest) = reported.strip_prefix(id) else { return false };
    id.iter().any(|byte| *byte != 0) && rest.iter().all(|byte| *byte == 0)
}

fn firmware(chip: &Device, reported: [u8; 8]) -> Result<Vec<(&'static str, String)>, Refused> {
    let product = chip.extension(PRODUCT).and_then(|text| text.get(2..)).unwrap_or_default();
    let parts: &[Part] = if product.starts_with(b"Turin") { &TURIN_PARTS } else { &PARTS };
    let mut versions = Vec::with_capacity(parts.len());
    for (name, oid, place) in parts {
        let certified = chip.extension(*oid).and_then(|der| u8::from_der(der).ok());
        let version = certified.ok_or(Refused::Malformed("the chip's certificate"))?;
        if reported.get(*place) != Some(&version) {
            return Err(Refused::Mismatch("the certificate is for other firmware"));
        }
        versions.push((*name, version.to_string()));
    }
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Roots;

    /// Inside the certificates' time.
    const NOW: Timestamp = Timestamp::from_unix(1_750_000_000);

    #[test]
    fn turins_chain_leads_to_its_root_and_its_firmware_has_one_part_more() {
        let (chip, issuer) = (
            include_bytes!("../tests/samples/turin-vcek.der"),
            include_bytes!("../tests/samples/turin-ask.der"),
        );
        let roots = Roots::makers().amd;
        let all: Vec<&[u8]> = roots.iter().map(Vec::as_slice).collect();
        let chip = chain::verify(chip, &[issuer], &all, Signatures::Pss, NOW).unwrap();
        let mut reported = [0; 8];
        for (_, oid, place) in TURIN_PARTS {
            reported[place] = u8::from_der(chip.extension(oid).unwrap()).unwrap();
        }
        assert_eq!(firmware(&chip, reported).unwrap().len(), 5);
        reported[0] ^= 1;
        assert!(matches!(firmware(&chip, reported), Err(Refused::Mismatch(_))));
        let mut id = [0; 64];
        id[..8].copy_from_slice(chip.extension(CHIP).unwrap());
        assert!(is_chip(&chip, &id));
        id[63] = 1;
        assert!(!is_chip(&chip, &id));
    }

    #[test]
    fn a_signature_with_anything_beside_its_numbers_is_refused() {
        let mut signature = vec![0; LENGTH - SIGNED];
        signature[0] = 7;
        assert_eq!(big_endian(&signature).unwrap()[47], 7);
        for place in [48, NUMBER + 48, 2 * NUMBER, LENGTH - SIGNED - 1] {
            let mut other = signature.clone();
            other[place] = 1;
            assert!(big_endian(&other).is_none(), "{place}");
        }
        assert!(big_endian(&signature[..NUMBER]).is_none());
    }
}
