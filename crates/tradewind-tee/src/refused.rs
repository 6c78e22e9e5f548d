//! Why evidence does not count.

use std::error::Error;

use tradewind_proto::units::Timestamp;

/// Why evidence was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A part is larger than its limit.
    #[error("the evidence is larger than its limits")]
    Size,
    /// A part is not what it claims to be.
    #[error("{0} cannot be read")]
    Malformed(&'static str),
    /// A part is of a kind that is not verified here.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// It answers another question: an earlier one, or another node's.
    #[error("the evidence is not bound to the nonce that was asked with")]
    Binding,
    /// The host may read the memory, which nobody asked for.
    #[error("the machine runs in debug mode, where its host reads its memory")]
    Debug,
    /// The host may move the guest to another machine.
    #[error("the guest may be migrated by an agent that nobody verified")]
    Migratable,
    /// A pinned root is no certificate.
    #[error("a pinned root cannot be read")]
    Root,
    /// A certificate's time is over, or has not come.
    #[error("a certificate does not hold at {}", .at.unix())]
    Expired {
        /// The time that it was asked for.
        at: Timestamp,
        /// Which bound was crossed.
        #[source]
        source: webpki::Error,
    },
    /// The certificates do not lead to a pinned root.
    #[error("the certificates do not lead to a pinned root")]
    Chain(#[source] webpki::Error),
    /// A certificate signs what it may not sign, or is of no use to the chain.
    #[error("a certificate {0}")]
    Certificate(&'static str),
    /// The signature over the report itself does not count.
    #[error("the signature over {0} does not count")]
    Signature(&'static str),
    /// Two parts contradict each other.
    #[error("{0}")]
    Mismatch(&'static str),
    /// Intel's rules for quotes do not hold: certificates, revocation, collateral, signatures, or their times.
    #[error("the quote does not verify")]
    Quote(#[source] Box<dyn Error + Send + Sync>),
    /// The firmware lacks a published fix.
    #[error("the firmware is out of date: {0}")]
    OutOfDate(String),
    /// A GPU's evidence was refused.
    #[error("the evidence of GPU {index} was refused")]
    Gpu {
        /// Which, counted from zero.
        index: usize,
        /// Why.
        #[source]
        source: Box<Self>,
    },
}
