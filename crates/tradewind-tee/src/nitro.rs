//! AWS Nitro: a COSE document whose certificates come along and end within hours.

use std::collections::BTreeMap;

use minicbor::Decoder;
use minicbor::decode::Error;
use tradewind_proto::attestation::{MAX_CERTIFICATE, Tees};
use tradewind_proto::units::Timestamp;

use crate::chain::{self, Signatures};
use crate::{Level, Machine, Measurement, Policy, Refused};

const SIGN1: u64 = 18;
const ALGORITHM: u8 = 1;
const ES384: i8 = -35;
const MAX_PCRS: u64 = 32;
const MAX_BUNDLE: u64 = 6;
/// The registers that measure the enclave's image; a debug enclave shows zeros there.
const IMAGE: [u8; 3] = [0, 1, 2];

/// A document's envelope.
struct Signed<'a> {
    protected: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8],
}

/// What the enclave's module says.
#[derive(Default)]
struct Document<'a> {
    module: Option<&'a str>,
    digest: Option<&'a str>,
    pcrs: BTreeMap<u8, &'a [u8]>,
    certificate: Option<&'a [u8]>,
    bundle: Vec<&'a [u8]>,
    nonce: Option<&'a [u8]>,
}

pub(crate) fn verify(
    document: &[u8],
    nonce: Option<&[u8; 64]>,
    policy: &Policy,
    root: &[u8],
    now: Timestamp,
) -> Result<Machine, Refused> {
    let malformed = |_| Refused::Malformed("the document");
    let signed = envelope(document).map_err(malformed)?;
    if !is_es384(signed.protected) {
        return Err(Refused::Unsupported("the document's signature"));
    }
    let said = read(signed.payload).map_err(malformed)?;
    if said.digest != Some("SHA384") {
        return Err(Refused::Unsupported("the document's digest"));
    }
    let image: Vec<&[u8]> = IMAGE.iter().filter_map(|index| said.pcrs.get(index).copied()).collect();
    if image.len() != IMAGE.len() {
        return Err(Refused::Malformed("the document"));
    }
    let debug = image.iter().any(|pcr| pcr.iter().all(|byte| *byte == 0));
    if debug && !policy.debug {
        return Err(Refused::Debug);
    }
    if said.nonce != nonce.map(<[u8; 64]>::as_slice) {
        return Err(Refused::Binding);
    }
    let certificate = said.certificate.ok_or(Refused::Malformed("the document"))?;
    let enclave = chain::verify(certificate, &said.bundle, &[root], Signatures::P384, now)?;
    let message = to_be_signed(&signed).map_err(|_| Refused::Malformed("the document"))?;
    if !enclave.signed(&message, signed.signature) {
        return Err(Refused::Signature("the document"));
    }
    let pcrs = said.pcrs.iter().filter(|(_, value)| value.iter().any(|byte| *byte != 0));
    Ok(Machine {
        kind: Tees::NITRO,
        measurements: pcrs.map(|(index, value)| Measurement::new(format!("PCR{index}"), *value)).collect(),
        firmware: vec![("module", said.module.unwrap_or_default().to_owned())],
        level: Level::Unrated,
        debug,
        expires: enclave.expires,
    })
}

fn envelope(document: &[u8]) -> Result<Signed<'_>, Error> {
    let mut decoder = Decoder::new(document);
    if decoder.datatype()? == minicbor::data::Type::Tag && decoder.tag()?.as_u64() != SIGN1 {
        return Err(Error::message("another tag"));
    }
    exactly(decoder.array()?, 4)?;
    let protected = decoder.bytes()?;
    exactly(decoder.map()?, 0)?;
    let (payload, signature) = (decoder.bytes()?, decoder.bytes()?);
    ended(&decoder, document)?;
    Ok(Signed { protected, payload, signature })
}

fn is_es384(protected: &[u8]) -> bool {
    let mut decoder = Decoder::new(protected);
    let mut named = || {
        exactly(decoder.map()?, 1)?;
        let (key, algorithm) = (decoder.u8()?, decoder.i8()?);
        ended(&decoder, protected)?;
        Ok::<_, Error>((key, algorithm))
    };
    matches!(named(), Ok((ALGORITHM, ES384)))
}

fn read(payload: &[u8]) -> Result<Document<'_>, Error> {
    let mut decoder = Decoder::new(payload);
    let mut document = Document::default();
    let entries = definite(decoder.map()?, 16)?;
    for _ in 0..entries {
        match decoder.str()? {
            "module_id" => once(&mut document.module, decoder.str()?)?,
            "digest" => once(&mut document.digest, decoder.str()?)?,
            "certificate" => once(&mut document.certificate, decoder.bytes()?)?,
            "pcrs" => {
                for _ in 0..definite(decoder.map()?, MAX_PCRS)? {
                    let (index, value) = (decoder.u8()?, decoder.bytes()?);
                    if value.len() != 48 || document.pcrs.insert(index, value).is_some() {
                        return Err(Error::message("a register"));
                    }
                }
            }
            "cabundle" => {
                for _ in 0..definite(decoder.array()?, MAX_BUNDLE)? {
                    let certificate = decoder.bytes()?;
                    if certificate.len() > MAX_CERTIFICATE {
                        return Err(Error::message("a certificate"));
                    }
                    document.bundle.push(certificate);
                }
            }
            "nonce" => {
                if decoder.datatype()? == minicbor::data::Type::Null {
                    decoder.null()?;
                } else {
                    once(&mut document.nonce, decoder.bytes()?)?;
                }
            }
            _ => decoder.skip()?,
        }
    }
    ended(&decoder, payload)?;
    Ok(document)
}

fn to_be_signed(signed: &Signed<'_>) -> Result<Vec<u8>, minicbor::encode::Error<std::convert::Infallible>> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    encoder.array(4)?.str("Signature1")?.bytes(signed.protected)?.bytes(&[])?.bytes(signed.payload)?;
    Ok(encoder.into_writer())
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Error> {
    if place.replace(value).is_some() { Err(Error::message("a key twice")) } else { Ok(()) }
}

fn definite(length: Option<u64>, most: u64) -> Result<u64, Error> {
    length.filter(|length| *length <= most).ok_or_else(|| Error::message("a length"))
}

fn exactly(length: Option<u64>, wanted: u64) -> Result<(), Error> {
    if length == Some(wanted) { Ok(()) } else { Err(Error::message("a length")) }
}

fn ended(decoder: &Decoder<'_>, bytes: &[u8]) -> Result<(), Error> {
    if decoder.position() == bytes.len() { Ok(()) } else { Err(Error::message("bytes behind the end")) }
}
