//! What buyer and provider say to each other on `tradewind/lease/1`: one request frame, one answer frame.
//!
//! ```text
//! buyer                                   provider
//!   Attest(nonce) ────────────────────────►  only where the job asks for trusted execution
//!   ◄─────────────────────────────── Attestation(evidence)
//!   Terms(request) ───────────────────────►  quotes, signs
//!   ◄───────────────────────────── Terms(terms, signature)
//!   Begin(terms, both signatures, manifest) ► opens if the chain has not seen it, prepares, starts
//!   Report / Logs (long polls) ───────────►  what became of it
//!   Saved ────────────────────────────────►  the files of a snapshot, to be fetched
//!   Pay(voucher) ─────────────────────────►  verifies, stores, then acknowledges
//!   Stop ─────────────────────────────────►  signal, grace, kill
//!   Pay(last voucher) ────────────────────►  closes the lease on chain
//!   Deletion ─────────────────────────────►  once all of it is gone
//! ```
//!
//! A request is encoded by postcard. The frame's size is limited by the mesh; the lengths inside are limited here. Which
//! peer may say what about a lease is decided by its mesh key: the one that began it. The one that it named as the meter may
//! read reports and pay, and nothing else.

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

use crate::attestation::Attestation;
use crate::ids::{LeaseId, MeshKey};
use crate::ladder::Ladder;
use crate::manifest::JobManifest;
use crate::negotiation::{Refusal, TermsRequest};
use crate::report::{OutputFile, Report};
use crate::saving::{MAX_FILES, Saved};
use crate::signature::Signature;
use crate::statement::SignedDeletion;
use crate::terms::LeaseTerms;
use crate::units::{Money, Seconds};
use crate::voucher::SignedVoucher;
use crate::workload::{LogChunk, LogCursor, Secrets};

/// The largest request or answer, in bytes.
pub const MAX_FRAME: usize = 1 << 20;
/// The longest that an answer is held back waiting for news.
pub const MAX_WAIT: Seconds = Seconds::new(10);
/// The most log bytes in one answer.
pub const MAX_LOG_BYTES: usize = 256 << 10;

/// Why a frame was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Larger than a frame of its kind may be.
    #[error("the frame has {got} bytes, at most {limit} are accepted")]
    TooLarge {
        /// Bytes of the frame.
        got: usize,
        /// Bytes that are accepted.
        limit: usize,
    },
    /// Not a frame of this protocol, or bytes follow it.
    #[error("the frame is malformed")]
    Malformed,
}

/// What a buyer asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A quote, as signed terms.
    Terms(Box<TermsRequest>),
    /// Both have signed: open the lease if nobody did, and start the job.
    Begin(Box<Begin>),
    /// What became of the lease; held back up to `wait` while the report's `revision` is still `seen`.
    Report {
        /// Which lease.
        lease: LeaseId,
        /// The revision that the buyer knows.
        seen: u64,
        /// How long to hold the answer back.
        wait: Seconds,
    },
    /// A piece of the log; held back up to `wait` while there is nothing new.
    Logs {
        /// Which lease.
        lease: LeaseId,
        /// Where to go on.
        from: LogCursor,
        /// How long to hold the answer back.
        wait: Seconds,
    },
    /// A payment.
    Pay(SignedVoucher),
    /// End the job: its stop signal, its grace, then kill.
    Stop {
        /// Which lease.
        lease: LeaseId,
    },
    /// Evidence of trusted execution, bound to the provider's device and node and to this nonce.
    Attest {
        /// Fresh.
        nonce: B256,
    },
    /// The files of the newest snapshot.
    Saved {
        /// Which lease.
        lease: LeaseId,
    },
    /// The word that everything of a lease that is over was deleted.
    Deletion {
        /// Which lease.
        lease: LeaseId,
    },
}

/// Everything that starts a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// As the provider signed them.
    pub terms: LeaseTerms,
    /// The provider's own signature, so that it need not remember its quotes.
    pub provider_signature: Signature,
    /// The buyer's.
    pub buyer_signature: Signature,
    /// Where the mesh finds the buyer's node, which serves the inputs.
    pub buyer_address: String,
    /// The node that meters where the buyer's own does not: it may read reports and pay.
    pub meter: Option<MeshKey>,
    /// The job; its digest stands in the terms.
    pub manifest: JobManifest,
    /// Values that exist in memory only.
    pub secrets: Secrets,
    /// The first voucher: the prepayment.
    pub prepayment: SignedVoucher,
    /// Vouchers that fall due later, for a job that nobody will watch.
    pub ladder: Ladder,
}

/// What a provider answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Signed terms.
    Terms(Box<Quote>),
    /// The job was taken over; from here on it survives the provider's restart.
    Begun(LeaseId),
    /// The state of a lease.
    Report(Box<Report>),
    /// A piece of the log.
    Logs(LogChunk),
    /// The voucher was verified and stored; this is the best one now held.
    Paid {
        /// Its cumulative amount.
        cumulative: Money,
    },
    /// The job is being stopped.
    Stopping,
    /// No, and why.
    Refused(Refusal),
    /// The evidence.
    Attestation(Box<Attestation>),
    /// A snapshot and its files.
    Saved(Saved, Vec<OutputFile>),
    /// It was.
    Deleted(SignedDeletion),
}

/// Terms that the provider has signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// What it offers.
    pub terms: LeaseTerms,
    /// Over the EIP-712 digest of the terms.
    pub signature: Signature,
}

impl Request {
    /// The frame.
    #[must_use]
    pub fn encode(&self) -> bytes::Bytes {
        encode(self)
    }

    /// Reads a frame from a hostile peer.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        decode(frame)
    }
}

impl Answer {
    /// The frame.
    #[must_use]
    pub fn encode(&self) -> bytes::Bytes {
        encode(self)
    }

    /// Reads a frame from a hostile peer.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        let answer: Self = decode(frame)?;
        match &answer {
            Self::Report(report) if !report.is_bounded() => Err(FrameError::Malformed),
            Self::Deleted(word) if !word.is_bounded() => Err(FrameError::Malformed),
            Self::Attestation(attestation) if !attestation.is_bounded() => Err(FrameError::Malformed),
            Self::Saved(_, files) if files.len() > MAX_FILES => Err(FrameError::Malformed),
            Self::Attestation(_)
            | Self::Saved(..)
            | Self::Deleted(_)
            | Self::Terms(_)
            | Self::Begun(_)
            | Self::Report(_)
            | Self::Logs(_)
            | Self::Paid { .. }
            | Self::Stopping
            | Self::Refused(_) => Ok(answer),
        }
    }
}

pub(crate) fn encode<T: Serialize>(message: &T) -> bytes::Bytes {
    #[expect(
        clippy::expect_used,
        reason = "postcard fails only on lengths that are unknown up front, and ours are known"
    )]
    postcard::to_stdvec(message).expect("messages have known lengths").into()
}

pub(crate) fn decode<'a, T: Deserialize<'a>>(frame: &'a [u8]) -> Result<T, FrameError> {
    decode_within(frame, MAX_FRAME)
}

/// Reads a message from a frame of at most `limit` bytes.
pub(crate) fn decode_within<'a, T: Deserialize<'a>>(frame: &'a [u8], limit: usize) -> Result<T, FrameError> {
    if frame.len() > limit {
        return Err(FrameError::TooLarge { got: frame.len(), limit });
    }
    match postcard::take_from_bytes(frame) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(FrameError::Malformed),
    }
}
