//! NVIDIA: a GPU's answer to SPDM's request for measurements, which carries the nonce and is signed together with it.
//!
//! ```text
//! request  version 1 · code 1 · 2 · nonce 32 · slot 1                          = 37
//! answer   version 1 · code 1 · 2 · blocks 1 · length 3 · blocks … · nonce 32 · length 2 · opaque … · signature 96
//! ```

use tradewind_proto::attestation::GpuEvidence;
use tradewind_proto::units::Timestamp;
use x509_cert::der::oid::ObjectIdentifier;

use crate::chain::{self, Signatures};
use crate::field::field;
use crate::{Gpu, Measurement, Refused};

const REQUEST: usize = 37;
const SIGNATURE: usize = 96;
const NONCE: usize = 32;
const SPDM_1_1: u8 = 0x11;
const GET_MEASUREMENTS: u8 = 0xe0;
const MEASUREMENTS: u8 = 0x60;
const DMTF: u8 = 1;
const MAX_TEXT: usize = 64;
const DRIVER: u16 = 3;
const VBIOS: u16 = 6;
const FIRMWARE: u16 = 20;
/// The firmware that the certified key belongs to; its digest closes the extension.
const FIRMWARE_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.5.4.1");

/// The fields that matter.
struct Report<'a> {
    nonce: &'a [u8],
    measurements: Vec<Measurement>,
    driver: &'a [u8],
    vbios: &'a [u8],
    firmware: Option<&'a [u8]>,
}

pub(crate) fn verify(
    evidence: &GpuEvidence,
    nonce: &[u8; NONCE],
    root: &[u8],
    now: Timestamp,
) -> Result<Gpu, Refused> {
    let malformed = Refused::Malformed("the report");
    let Some(report) = read(&evidence.report) else { return Err(malformed) };
    if report.nonce != nonce {
        return Err(Refused::Binding);
    }
    let Some((own, others)) = evidence.chain.split_first() else {
        return Err(Refused::Malformed("the GPU's chain"));
    };
    let others: Vec<&[u8]> = others.iter().map(Vec::as_slice).collect();
    let gpu = chain::verify(own, &others, &[root], Signatures::P384, now)?;
    let Some((message, signature)) = evidence.report.split_last_chunk::<SIGNATURE>() else {
        return Err(malformed);
    };
    if !gpu.signed(message, signature) {
        return Err(Refused::Signature("the report"));
    }
    let certified = gpu.extension(FIRMWARE_ID).zip(report.firmware);
    if !certified.is_some_and(|(extension, id)| id.len() == 48 && extension.ends_with(id)) {
        return Err(Refused::Mismatch("the certificate is for other firmware"));
    }
    Ok(Gpu {
        key: gpu.key().to_vec(),
        measurements: report.measurements,
        driver: text(report.driver),
        vbios: vbios(report.vbios),
        expires: gpu.expires,
    })
}

fn read(report: &[u8]) -> Option<Report<'_>> {
    let (request, answer) = report.split_at_checked(REQUEST)?;
    let ([SPDM_1_1, GET_MEASUREMENTS], [SPDM_1_1, MEASUREMENTS]) = (field(request, 0)?, field(answer, 0)?)
    else {
        return None;
    };
    let blocks = *answer.get(4)?;
    let [low, middle, high] = field(answer, 5)?;
    let length = usize::try_from(u32::from_le_bytes([low, middle, high, 0])).ok()?;
    let (record, rest) = answer.get(8..)?.split_at_checked(length)?;
    let (_gpus_nonce, rest) = rest.split_at_checked(NONCE)?;
    let (opaque, rest) = take(rest)?;
    let mut found = Report {
        nonce: request.get(4..4 + NONCE)?,
        measurements: measurements(record, blocks)?,
        driver: &[],
        vbios: &[],
        firmware: None,
    };
    (rest.len() == SIGNATURE).then_some(())?;
    let mut opaque = opaque;
    while !opaque.is_empty() {
        let (kind, after) = opaque.split_first_chunk()?;
        let (value, after) = take(after)?;
        opaque = after;
        match u16::from_le_bytes(*kind) {
            DRIVER => found.driver = value,
            VBIOS => found.vbios = value,
            FIRMWARE => found.firmware = Some(value),
            _ => {}
        }
    }
    Some(found)
}

fn measurements(mut record: &[u8], blocks: u8) -> Option<Vec<Measurement>> {
    let mut all = Vec::with_capacity(blocks.into());
    for _ in 0..blocks {
        let ([index, DMTF], rest) = record.split_first_chunk()? else { return None };
        let (block, rest) = take(rest)?;
        record = rest;
        let (_kind, block) = block.split_first()?;
        let (value, []) = take(block)? else { return None };
        all.push(Measurement::new(index.to_string(), value));
    }
    record.is_empty().then_some(all)
}

/// What a length of two bytes, the low one first, announces; and what follows it.
fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u16::from_le_bytes(*length).into())
}

/// Printable characters up to the first that is not.
fn text(bytes: &[u8]) -> String {
    let printable = bytes.iter().take_while(|byte| byte.is_ascii_graphic()).take(MAX_TEXT);
    printable.map(|byte| char::from(*byte)).collect()
}

/// As `nvidia-smi` shows it: `96.00.9F.00.01`.
fn vbios(bytes: &[u8]) -> String {
    let Some([d, c, b, a, e]) = field(bytes, 0) else { return String::new() };
    format!("{a:02X}.{b:02X}.{c:02X}.{d:02X}.{e:02X}")
}
