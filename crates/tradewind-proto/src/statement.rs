//! What a provider signs of a lease: what it consumed, when its job is over, and that its data were deleted, when it is forgotten.
//!
//! ```text
//! exit, usage ─► Statement ── account's key, domain "usage" ────► SignedStatement ─► report ─► buyer: verify, keep
//! all removed ─► Deletion ─── account's key, domain "deletion" ─► SignedDeletion ──► asked for ─► buyer: verify, keep
//! ```
//!
//! Both are the provider's word, and bind the provider: whoever has one can show to others what was said, and that it was said of this
//! lease on this chain, whose id says both. Money does not go by them: a lease is paid by the second.

use std::marker::PhantomData;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::ids::{LeaseId, ProviderId};
use crate::meter::Run;
use crate::signature::{Signature, SignatureError, Signed, SigningKey};
use crate::units::{Bytes, Timestamp};
use crate::workload::{Exit, Usage};

/// The largest encoded statement, in bytes.
pub const MAX_STATEMENT_BYTES: usize = 512;

/// What a provider may state of a lease.
pub trait Stated: Encode<()> + for<'b> Decode<'b, ()> {
    /// Keeps one kind from being read as another.
    const DOMAIN: &'static str;

    /// The lease that it is about.
    fn lease(&self) -> LeaseId;
}

/// Why what was signed counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Larger than [`MAX_STATEMENT_BYTES`], no statement, or bytes follow it.
    #[error("the statement is malformed")]
    Malformed,
    /// Not signed by the lease's provider.
    #[error("the statement's signature does not count")]
    Signature(#[source] SignatureError),
    /// It is about another lease.
    #[error("the statement is about lease {0}")]
    Lease(LeaseId),
}

/// What a lease consumed from its beginning to its job's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Statement {
    /// Which.
    #[n(0)]
    pub lease: LeaseId,
    /// When the job's first process started.
    #[n(1)]
    pub since: Option<Timestamp>,
    /// When the job was over.
    #[n(2)]
    pub until: Timestamp,
    /// Its exit code.
    #[n(3)]
    pub code: u8,
    /// Processor time in milliseconds.
    #[n(4)]
    pub cpu_ms: u64,
    /// The highest resident memory, in bytes.
    #[n(5)]
    pub memory_peak: Bytes,
    /// What the work directory held at the end, in bytes.
    #[n(6)]
    pub disk: Bytes,
    /// Sent to the network, in bytes.
    #[n(7)]
    pub egress: Bytes,
    /// Received from the network, in bytes.
    #[n(8)]
    pub ingress: Bytes,
    /// Milliseconds in which its accelerators worked, all of them together; nothing where nobody could say.
    #[n(9)]
    pub accelerator_ms: Option<u64>,
    /// The highest memory in use on its accelerators, added up, in bytes.
    #[n(10)]
    pub accelerator_memory_peak: Option<Bytes>,
}

impl Statement {
    /// Of a job that is over.
    #[must_use]
    pub fn new(lease: LeaseId, run: Run, exit: Exit, usage: &Usage) -> Self {
        Self {
            lease,
            since: run.since,
            until: exit.at,
            code: exit.code,
            cpu_ms: usage.cpu_ms,
            memory_peak: usage.memory_peak,
            disk: usage.disk,
            egress: usage.egress,
            ingress: usage.ingress,
            accelerator_ms: usage.accelerators.map(|used| used.busy_ms),
            accelerator_memory_peak: usage.accelerators.map(|used| used.memory_peak),
        }
    }
}

impl Stated for Statement {
    const DOMAIN: &'static str = "usage";

    fn lease(&self) -> LeaseId {
        self.lease
    }
}

/// Everything of a lease that its provider held is gone: the sandbox, its volumes, the work directory, the log and the snapshots. Copies
/// in its node's blob store are let go, and collected at the next turn. The image is not meant: it may stay in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Deletion {
    /// Which.
    #[n(0)]
    pub lease: LeaseId,
    /// Since when.
    #[n(1)]
    pub at: Timestamp,
}

impl Stated for Deletion {
    const DOMAIN: &'static str = "deletion";

    fn lease(&self) -> LeaseId {
        self.lease
    }
}

/// What a lease consumed, signed.
pub type SignedStatement = SignedWord<Statement>;
/// That a lease's data were deleted, signed.
pub type SignedDeletion = SignedWord<Deletion>;

/// A provider's word as it travels: its bytes and the signature over them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct SignedWord<T> {
    signed: Signed,
    #[serde(skip)]
    of: PhantomData<fn() -> T>,
}

impl<T: Stated> SignedWord<T> {
    /// Encodes and signs.
    #[must_use]
    pub fn sign(word: &T, key: &SigningKey) -> Self {
        let mut bytes = Vec::with_capacity(128);
        // Writing to memory does not fail.
        let _ = minicbor::encode(word, &mut bytes);
        Self::of(Signed::new(T::DOMAIN, bytes, key))
    }

    const fn of(signed: Signed) -> Self {
        Self { signed, of: PhantomData }
    }

    /// What is signed, as it is.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.signed.bytes
    }

    /// Over `keccak256("tradewind" ‖ 0 ‖ domain ‖ 0 ‖ bytes)`.
    #[must_use]
    pub const fn signature(&self) -> Signature {
        self.signed.signature
    }

    /// Within the limit, whatever it says.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.signed.bytes.len() <= MAX_STATEMENT_BYTES
    }

    /// What `provider` states of `lease`.
    ///
    /// # Errors
    /// The [`StatementError`] that names the rule.
    pub fn verify(&self, lease: LeaseId, provider: ProviderId) -> Result<T, StatementError> {
        if !self.is_bounded() {
            return Err(StatementError::Malformed);
        }
        let (signer, expected) =
            (self.signed.signer(T::DOMAIN).map_err(StatementError::Signature)?, provider.account());
        if signer != expected {
            return Err(StatementError::Signature(SignatureError::WrongSigner { signer, expected }));
        }
        let mut decoder = minicbor::Decoder::new(&self.signed.bytes);
        let word: T = decoder.decode().map_err(|_| StatementError::Malformed)?;
        if decoder.position() != self.signed.bytes.len() {
            return Err(StatementError::Malformed);
        }
        if word.lease() != lease {
            return Err(StatementError::Lease(word.lease()));
        }
        Ok(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::AcceleratorUsage;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_bytes([byte; 32]).unwrap()
    }

    fn lease(byte: u8) -> LeaseId {
        LeaseId::new([byte; 32].into())
    }

    fn statement() -> Statement {
        let run = Run { since: Some(Timestamp::from_unix(1_000)), until: None };
        let exit = Exit { code: 3, out_of_memory: false, at: Timestamp::from_unix(1_060) };
        let usage = Usage {
            cpu_ms: 59_000,
            memory_peak: Bytes::gib(2),
            accelerators: Some(AcceleratorUsage { busy_ms: 55_000, ..AcceleratorUsage::default() }),
            ..Usage::default()
        };
        Statement::new(lease(1), run, exit, &usage)
    }

    #[test]
    fn what_its_provider_signed_of_the_lease_counts_and_nothing_else() {
        let signed = SignedStatement::sign(&statement(), &key(7));
        let provider = ProviderId::new(key(7).address());
        assert_eq!(signed.verify(lease(1), provider), Ok(statement()));
        assert_eq!(signed.verify(lease(2), provider), Err(StatementError::Lease(lease(1))));
        let other = signed.verify(lease(1), ProviderId::new(key(8).address()));
        assert!(matches!(other, Err(StatementError::Signature(_))), "{other:?}");
    }

    #[test]
    fn a_word_of_one_kind_is_none_of_another() {
        let provider = ProviderId::new(key(7).address());
        let deletion = Deletion { lease: lease(1), at: Timestamp::from_unix(2_000) };
        let signed = SignedDeletion::sign(&deletion, &key(7));
        assert_eq!(signed.verify(lease(1), provider), Ok(deletion));
        let read = SignedStatement::of(signed.signed).verify(lease(1), provider);
        assert!(matches!(read, Err(StatementError::Signature(_))), "{read:?}");
    }

    #[test]
    fn changed_appended_and_endless_bytes_count_for_nothing() {
        let provider = ProviderId::new(key(7).address());
        let again = |bytes: Vec<u8>| SignedStatement::of(Signed::new(Statement::DOMAIN, bytes, &key(7)));
        let good = minicbor::to_vec(statement()).unwrap();
        assert_eq!(again(good.clone()).verify(lease(1), provider), Ok(statement()));
        let longer = again([good.as_slice(), &[0]].concat());
        assert_eq!(longer.verify(lease(1), provider), Err(StatementError::Malformed));
        let endless = again(vec![0; MAX_STATEMENT_BYTES + 1]);
        assert!(!endless.is_bounded());
        assert_eq!(endless.verify(lease(1), provider), Err(StatementError::Malformed));
        let mut changed = SignedStatement::sign(&statement(), &key(7));
        let mut bytes = changed.signed.bytes.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        changed.signed.bytes = bytes.into();
        assert!(matches!(changed.verify(lease(1), provider), Err(StatementError::Signature(_))));
    }
}
