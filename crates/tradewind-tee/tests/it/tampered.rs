//! Tampered copies of the samples, one for each class of field: each is refused, for the right reason.

use tradewind_proto::attestation::Attestation;
use tradewind_tee::{Policy, Refused, Roots};

use crate::sample::{
    Part, Sample, collateral, gpu_certificate, gpu_report, hopper, issuer, nitro, nitro_debug, outdated, sgx,
    snp, statement, tdx, told,
};

/// A copy with one bit of one byte of one part changed.
fn flipped(sample: &Sample, part: Part, place: usize) -> Sample {
    sample.with(part, |bytes| bytes[place] ^= 1)
}

/// A copy with a word of the part replaced by one of its length.
fn replaced(sample: &Sample, part: Part, from: &str, to: &str) -> Sample {
    assert_eq!(from.len(), to.len());
    sample.with(part, |bytes| {
        let place = bytes.windows(from.len()).position(|window| window == from.as_bytes());
        let place = place.unwrap_or_else(|| panic!("no `{from}` to replace"));
        bytes[place..place + from.len()].copy_from_slice(to.as_bytes());
    })
}

fn all() -> Vec<(&'static str, Sample)> {
    vec![("tdx", tdx()), ("sgx", sgx()), ("snp", snp()), ("nitro", nitro()), ("hopper", hopper())]
}

#[test]
fn another_nonce_is_refused() {
    for (name, sample) in all() {
        let mut other = sample.clone();
        other.expected.report_data[63] ^= 1;
        other.expected.document_nonce = Some([7; 64]);
        assert!(matches!(other.verify(), Err(Refused::Binding)), "{name}");
    }
    let mut other = hopper();
    other.expected.gpu_nonce[0] ^= 1;
    let Err(Refused::Gpu { index: 0, source }) = other.verify() else { panic!("it verified") };
    assert!(matches!(*source, Refused::Binding));
}

#[test]
fn another_root_is_refused() {
    let makers = Roots::makers();
    let others = Roots {
        intel: makers.aws.clone(),
        amd: vec![makers.amd[1].clone(), makers.amd[2].clone()],
        aws: makers.nvidia.clone(),
        nvidia: makers.aws.clone(),
    };
    for (name, sample) in [("snp", snp()), ("nitro", nitro())] {
        let refused = sample.verify_with(&Policy::default(), &others);
        assert!(matches!(refused, Err(Refused::Chain(_))), "{name}: {refused:?}");
    }
    for sample in [tdx(), sgx()] {
        assert!(matches!(sample.verify_with(&Policy::default(), &others), Err(Refused::Quote(_))));
    }
    let nvidia = Roots { nvidia: others.nvidia, ..makers };
    let Err(Refused::Gpu { source, .. }) = hopper().verify_with(&Policy::default(), &nvidia) else {
        panic!("it verified")
    };
    assert!(matches!(*source, Refused::Chain(_)));
    let broken = Roots { aws: vec![0x30], ..Roots::makers() };
    assert!(matches!(nitro().verify_with(&Policy::default(), &broken), Err(Refused::Root)));
}

#[test]
fn another_time_is_refused() {
    // Before the chip's certificate and after it; within minutes of the document, and a day later.
    for (name, sample, times) in
        [("snp", snp(), [1_680_000_000, 1_901_474_624]), ("nitro", nitro(), [1_736_179_000, 1_736_190_426])]
    {
        for now in times {
            let refused = sample.at(now);
            assert!(matches!(refused, Err(Refused::Expired { .. })), "{name} at {now}: {refused:?}");
        }
    }
    for (now, words) in
        [(1_750_000_000, "in the future"), (1_752_919_300, "expired"), (1_755_000_000, "expired")]
    {
        for sample in [tdx(), sgx()] {
            let Err(refused @ Refused::Quote(_)) = sample.at(now) else { panic!("it verified at {now}") };
            assert!(told(&refused).to_lowercase().contains(words), "{}", told(&refused));
        }
    }
    // NVIDIA's certificates end with the year 9999 and began in 2020.
    let early = Sample { now: 1_600_000_000, ..hopper() };
    assert!(matches!(early.verify(), Err(Refused::Expired { .. })));
}

#[test]
fn a_quote_that_was_changed_is_refused() {
    for (sample, measured, signature) in [(tdx(), 48 + 136, 48 + 584 + 4), (sgx(), 48 + 64, 48 + 384 + 4)] {
        for (place, words) in [
            (measured, "enclave report signature is invalid"),
            (signature, "enclave report signature is invalid"),
            // The key that signed it, which the quoting enclave vouches for.
            (signature + 64, "QE report hash mismatch"),
        ] {
            let Err(refused @ Refused::Quote(_)) = flipped(&sample, statement, place).verify() else {
                panic!("byte {place} was changed and it verified")
            };
            assert!(told(&refused).contains(words), "{place}: {}", told(&refused));
        }
        let padded = sample.with(statement, |quote| quote.push(1));
        assert!(matches!(padded.verify(), Err(Refused::Malformed("the quote"))));
    }
}

#[test]
fn a_quotes_certificate_or_collateral_that_was_changed_is_refused() {
    let tdx = tdx();
    let certificate = String::from_utf8_lossy(&tdx.bytes(statement)).find("MIIE").unwrap();
    assert!(matches!(flipped(&tdx, statement, certificate + 400).verify(), Err(Refused::Quote(_))));
    for (from, to, words) in [
        (
            "\\\"tcbStatus\\\":\\\"OutOfDate\\\"",
            "\\\"tcbStatus\\\":\\\"UpToDate\\\" ",
            "invalid for tcb_info",
        ),
        ("\\\"isvprodid\\\":2", "\\\"isvprodid\\\":3", "invalid for qe_identity"),
    ] {
        let Err(refused) = replaced(&tdx, collateral, from, to).verify() else {
            panic!("{words}: it verified")
        };
        assert!(told(&refused).contains(words), "{}", told(&refused));
    }
    for field in ["root_ca_crl", "pck_crl\"", "tcb_info_signature", "qe_identity_signature"] {
        let text = String::from_utf8(tdx.bytes(collateral)).unwrap();
        let value = text.find(field).unwrap() + field.len();
        let digit = value + text[value..].find(": \"").unwrap() + 3 + 100;
        let other =
            tdx.with(collateral, |bytes| bytes[digit] = if bytes[digit] == b'0' { b'1' } else { b'0' });
        assert!(matches!(other.verify(), Err(Refused::Quote(_))), "{field}");
    }
    // Good collateral of another platform.
    let mut mixed = tdx;
    *collateral(&mut mixed.attestation) = outdated().bytes(collateral);
    mixed.now = outdated().now;
    assert!(matches!(mixed.verify(), Err(Refused::Quote(_))));
}

#[test]
fn a_report_of_amd_that_was_changed_is_refused() {
    let snp = snp();
    for (place, what) in [
        (0x90, "launch"),
        (0x180, "firmware"),
        (0x1a0, "chip"),
        (0x1e0, "reserved"),
        (0x2a0, "r"),
        (0x2e8, "s"),
    ] {
        let refused = flipped(&snp, statement, place).verify();
        assert!(matches!(refused, Err(Refused::Signature("the report"))), "{what}: {refused:?}");
    }
    let padded = flipped(&snp, statement, 0x4a0 - 1);
    assert!(matches!(padded.verify(), Err(Refused::Malformed("the report's signature"))));
    for (name, part) in [("chip", collateral as Part), ("issuer", issuer)] {
        let end = snp.bytes(part).len() - 1;
        let refused = flipped(&snp, part, end).verify();
        assert!(matches!(refused, Err(Refused::Chain(_))), "{name}: {refused:?}");
    }
    // Fields that change what the report is.
    for (place, bit, refused) in [
        (0x00, 0x08, "the report's version is not supported"),
        (0x30, 0x04, "a report that the host asked for is not supported"),
        (0x34, 0x02, "the report's signature is not supported"),
        (0x48, 0x04, "a report that a key of the cloud's signed is not supported"),
        (0x08 + 2, 0x04, "the guest may be migrated by an agent that nobody verified"),
    ] {
        let other = snp.with(statement, |report| report[place] ^= bit);
        assert_eq!(other.verify().unwrap_err().to_string(), refused);
    }
}

#[test]
fn a_document_of_aws_that_was_changed_is_refused() {
    let nitro = nitro();
    let document = nitro.bytes(statement);
    let register = document.windows(4).position(|bytes| bytes == [0x8b, 0xb1, 0x59, 0xf2]).unwrap();
    let signature = document.len() - 1;
    for place in [register, signature] {
        let refused = flipped(&nitro, statement, place).verify();
        assert!(matches!(refused, Err(Refused::Signature("the document"))), "{place}: {refused:?}");
    }
    let renamed = replaced(&nitro, statement, "i-0bee92034f3d60691-enc", "i-0bee92034f3d60692-enc");
    assert!(matches!(renamed.verify(), Err(Refused::Signature("the document"))));
    // The enclave's certificate is the first in the document; its issuers follow.
    let certificate = document.windows(4).position(|bytes| bytes[..2] == [0x30, 0x82]).unwrap();
    let refused = flipped(&nitro, statement, certificate + 600).verify();
    assert!(matches!(refused, Err(Refused::Chain(_))), "{refused:?}");
    let hashed = replaced(&nitro, statement, "SHA384", "SHA256");
    assert!(matches!(hashed.verify(), Err(Refused::Unsupported("the document's digest"))));
    let longer = nitro.with(statement, |bytes| bytes.push(0));
    assert!(matches!(longer.verify(), Err(Refused::Malformed("the document"))));
}

#[test]
fn a_report_of_nvidia_that_was_changed_is_refused() {
    let hopper = hopper();
    let length = hopper.bytes(gpu_report).len();
    let gpu = |refused: Result<_, Refused>| match refused {
        Err(Refused::Gpu { index: 0, source }) => *source,
        other => panic!("{other:?}"),
    };
    // A measurement, the GPU's own nonce, its firmware, both halves of the signature.
    for place in [37 + 8 + 10, 37 + 8 + 3520, length - 96 - 20, length - 96, length - 1] {
        let refused = gpu(flipped(&hopper, gpu_report, place).verify());
        assert!(matches!(refused, Refused::Signature("the report")), "{place}: {refused:?}");
    }
    for part in
        [gpu_certificate::<0> as Part, gpu_certificate::<1>, gpu_certificate::<2>, gpu_certificate::<3>]
    {
        let end = hopper.bytes(part).len() - 1;
        let refused = gpu(flipped(&hopper, part, end).verify());
        assert!(matches!(refused, Refused::Chain(_)), "{refused:?}");
    }
    // The root that came along is not needed; one that is not pinned may not come along.
    let mut rootless = hopper.clone();
    rootless.attestation.gpus[0].chain.pop();
    assert!(rootless.verify().is_ok());
    let end = hopper.bytes(gpu_certificate::<4>).len() - 1;
    let refused = gpu(flipped(&hopper, gpu_certificate::<4>, end).verify());
    assert!(matches!(refused, Refused::Certificate("is no part of the chain")), "{refused:?}");
}

#[test]
fn debug_is_read_from_what_is_signed() {
    let policy = Policy { debug: true, ..Policy::default() };
    for (name, sample, place, bit) in
        [("tdx", tdx(), 48 + 120, 1), ("sgx", sgx(), 48 + 48, 2), ("snp", snp(), 0x08 + 2, 8)]
    {
        let opened = sample.with(statement, |report| report[place] ^= bit);
        assert!(matches!(opened.verify(), Err(Refused::Debug)), "{name}");
        let refused = opened.verify_with(&policy, &Roots::makers());
        assert!(matches!(refused, Err(Refused::Quote(_) | Refused::Signature(_))), "{name}: {refused:?}");
    }
    // And a debug enclave's document cannot be made to look like another.
    let closed = nitro_debug().with(statement, |bytes| {
        let registers = bytes.windows(4).position(|bytes| bytes == b"pcrs").unwrap();
        let values: Vec<usize> =
            (registers..registers + 200).filter(|at| bytes[*at..*at + 2] == [0x58, 0x30]).collect();
        values.iter().take(3).for_each(|at| bytes[at + 2] = 1);
    });
    assert!(matches!(closed.verify(), Err(Refused::Signature("the document"))));
}

#[test]
fn evidence_that_is_larger_than_its_limits_is_refused_unread() {
    let large = |attestation: &mut Attestation| statement(attestation).resize(1 << 20, 0);
    for (name, mut sample) in all() {
        large(&mut sample.attestation);
        assert!(matches!(sample.verify(), Err(Refused::Size)), "{name}");
    }
}
