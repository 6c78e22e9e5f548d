//! What buyer and meter say to each other on `tradewind/meter/1`: one request frame, one answer frame.

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

use super::{SignedAssignment, SignedInquiry};
use crate::conversation::{FrameError, decode, encode};
use crate::negotiation::Refusal;
use crate::voucher::SignedVoucher;

/// What a buyer asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MeterRequest {
    /// Would you meter for me? Binds nobody.
    Ask(SignedInquiry),
    /// Meter this lease.
    Assign(Box<SignedAssignment>),
}

/// What a meter answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MeterAnswer {
    /// Yes, with this key.
    Willing {
        /// What the terms have to name as meter.
        signer: Address,
    },
    /// The lease was taken over; from here on its metering survives the meter's restart.
    Taken {
        /// The first voucher: the prepayment.
        prepayment: SignedVoucher,
    },
    /// No, and why.
    Refused(Refusal),
}

impl MeterRequest {
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

impl MeterAnswer {
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
