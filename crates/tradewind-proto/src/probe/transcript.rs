//! What a watcher keeps of its questions: appended, chained by hashes, read again after a crash.

use alloy_primitives::{B256, keccak256};

use super::{Entry, Watch};
use crate::evidence::Finding;
use crate::ids::CaseId;

/// The most entries of one transcript.
pub const MAX_ENTRIES: usize = 4_096;
/// The largest encoded entry.
const MAX_BYTES: usize = 256;
const HASH: usize = 32;

/// Why a transcript cannot be written on or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    /// It has [`MAX_ENTRIES`].
    #[error("a transcript has at most {MAX_ENTRIES} entries")]
    Full,
    /// It was altered, or belongs to another case.
    #[error("entry {0} is not what was written; hint: restore the file, or abstain in this case")]
    Altered(usize),
}

/// The entries of one case, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    entries: Vec<Entry>,
    digest: B256,
}

impl Transcript {
    /// The empty transcript of a case.
    #[must_use]
    pub fn new(case: CaseId) -> Self {
        let digest = keccak256([b"tradewind/transcript".as_slice(), case.get().as_slice()].concat());
        Self { entries: Vec::new(), digest }
    }

    /// In order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What a vote names. It changes with every entry.
    #[must_use]
    pub const fn digest(&self) -> B256 {
        self.digest
    }

    /// Adds an entry, and returns the bytes to append to the file before anything is said about it.
    ///
    /// # Errors
    /// [`TranscriptError::Full`].
    pub fn push(&mut self, entry: Entry) -> Result<Vec<u8>, TranscriptError> {
        let encoded = minicbor::to_vec(entry).unwrap_or_default();
        let length = u16::try_from(encoded.len()).map_err(|_| TranscriptError::Full)?;
        if self.entries.len() >= MAX_ENTRIES {
            return Err(TranscriptError::Full);
        }
        self.entries.push(entry);
        self.digest = link(self.digest, &encoded);
        Ok([length.to_be_bytes().as_slice(), &encoded, self.digest.as_slice()].concat())
    }

    /// Reads what was appended. An entry that was cut off at the end does not count; the second value says how many bytes
    /// do, and the file is cut there before it is written on.
    ///
    /// # Errors
    /// [`TranscriptError`].
    pub fn read(case: CaseId, bytes: &[u8]) -> Result<(Self, usize), TranscriptError> {
        let mut transcript = Self::new(case);
        let mut at = 0;
        while let Some((length, rest)) = bytes[at..].split_first_chunk::<2>() {
            let number = transcript.entries.len();
            let length = usize::from(u16::from_be_bytes(*length));
            if length > MAX_BYTES {
                return Err(TranscriptError::Altered(number));
            }
            let Some((encoded, rest)) = rest.split_at_checked(length) else { break };
            let Some(digest) = rest.first_chunk::<HASH>() else { break };
            let entry: Option<Entry> = minicbor::decode(encoded).ok();
            let entry = entry.filter(|_| link(transcript.digest, encoded) == *digest);
            let entry = entry.ok_or(TranscriptError::Altered(number))?;
            if number >= MAX_ENTRIES {
                return Err(TranscriptError::Full);
            }
            transcript.entries.push(entry);
            transcript.digest = B256::new(*digest);
            at += 2 + length + HASH;
        }
        Ok((transcript, at))
    }

    /// What the watcher found about whether the device is down: one answer clears it, `least` questions without any convict
    /// it, fewer say nothing.
    #[must_use]
    pub fn finding(&self, watch: &Watch, least: usize) -> Finding {
        let answers = self.entries.iter().filter_map(|entry| entry.statement(watch));
        let is_up = answers.into_iter().any(|statement| statement.verify(&watch.court, watch.key).is_ok());
        if is_up {
            Finding::Clear
        } else if self.entries.len() >= least.max(1) {
            Finding::Guilty
        } else {
            Finding::Unknown
        }
    }
}

fn link(digest: B256, encoded: &[u8]) -> B256 {
    keccak256([digest.0, keccak256(encoded).0].as_flattened())
}

/// A signature as 65 bytes.
pub(crate) mod signature {
    use minicbor::decode::{Decoder, Error};
    use minicbor::encode::{self as cbor, Encoder, Write};

    use crate::signature::Signature;

    pub(crate) fn encode<C, W: Write>(
        value: &Signature,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), cbor::Error<W::Error>> {
        e.bytes(value.as_bytes())?;
        Ok(())
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Signature, Error> {
        let at = d.position();
        Signature::from_bytes(d.bytes()?).map_err(|_| Error::message("no signature").at(at))
    }
}
