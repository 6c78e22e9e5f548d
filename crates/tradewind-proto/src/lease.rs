//! A lease as the chain shows it.
//!
//! ```text
//! None ─ open ─► Open ─ notice ─► Noticed ─┐
//!                 │ ▲      │ settle covers │
//!                 │ └──────┘               ├─ close(last) ──────────────► Closed
//!                 └─ requestClose ─► Closing ┴─ close, finalize, expire ─► Settled ─ releaseBond ─► Closed
//! ```
//!
//! A snapshot is read, never remembered: both sides act on what the chain says now. Not being able to read it is no state.

use serde::{Deserialize, Serialize};

use crate::units::{Money, Timestamp};

/// Why a provider gave notice, as the contract numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum NoticeKind {
    /// The buyer stopped paying; a settlement that covers the notice time cures it.
    Unpaid = 0,
    /// A spot lease is taken back; nothing cures it.
    Reclaim = 1,
}

impl std::fmt::Display for NoticeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unpaid => "unpaid",
            Self::Reclaim => "reclaim",
        })
    }
}

/// Where a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeasePhase {
    /// Never opened.
    None,
    /// Running.
    Open,
    /// The provider gave notice.
    Noticed(NoticeKind),
    /// The buyer asked to close.
    Closing,
    /// Paid out; the bond is held back for disputes.
    Settled,
    /// Over.
    Closed,
}

impl LeasePhase {
    /// Vouchers count and the device's units are busy.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Open | Self::Noticed(_) | Self::Closing)
    }
}

/// What the chain holds about one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseState {
    /// Where it stands.
    pub phase: LeasePhase,
    /// The largest cumulative amount that was settled.
    pub paid: Money,
    /// When it was opened; zero before.
    pub opened_at: Timestamp,
    /// When the last notice was given; zero before.
    pub notice_at: Timestamp,
    /// While closing: when it may be finalized. Once settled: when the bond may be released.
    pub due_at: Timestamp,
    /// A challenge waits for its answer until then.
    pub challenged_until: Option<Timestamp>,
    /// How often the buyer challenged so far.
    pub challenges: u32,
    /// A dispute waits for the court.
    pub disputed: bool,
}

impl LeaseState {
    /// A lease that was never opened.
    pub const NONE: Self = Self {
        phase: LeasePhase::None,
        paid: Money::ZERO,
        opened_at: Timestamp::from_unix(0),
        notice_at: Timestamp::from_unix(0),
        due_at: Timestamp::from_unix(0),
        challenged_until: None,
        challenges: 0,
        disputed: false,
    };
}
