//! Evidence: what keys swear to the court, and who judges what the court cannot check alone.
//!
//! ```text
//! device key ── Statement, ProductRoots ──┐                 ┌─► two bodies for one slot: Equivocation, no vote
//! seat key ──── Vote ─────────────────────┴─► Sworn<Body> ──┤
//!                                                           └─► PreDraw ─► Committee ─► Verdict ─► Appeal ─► Verdict
//! ```
//!
//! A body is signed as EIP-712 in the court's domain, so that a signature for another chain or another court names another
//! signer and counts for nothing. Failure paths: a signature by an unexpected key is an error; a repeated body is no news; too
//! few seats give no committee and no verdict, which is [`Verdict::Unknown`] and punishes nobody.
//!
//! ```
//! use alloy_primitives::{Address, B256};
//! use tradewind_proto::evidence::{Court, Epoch, Equivocation, Statement, Sworn, topic};
//! use tradewind_proto::ids::DeviceId;
//! use tradewind_proto::signature::SigningKey;
//!
//! let court = Court { chain_id: 1, contract: Address::repeat_byte(9) };
//! let key = SigningKey::from_bytes([7; 32])?;
//! let say = |body| {
//!     let device = DeviceId::new(B256::repeat_byte(1));
//!     Sworn::sign(Statement { topic: topic::pong(), device, sequence: 4, body }, &court, &key)
//! };
//! let (first, second) = (say(B256::ZERO), say(B256::repeat_byte(2)));
//! assert!(Equivocation::prove(first.clone(), second, &court, key.address()).is_ok());
//! assert!(Equivocation::prove(first.clone(), first, &court, key.address()).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod body;
mod equivocation;
mod jury;
#[cfg(test)]
mod tests;

use std::fmt;

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::{Eip712Domain, eip712_domain};
use serde::{Deserialize, Serialize};

pub use body::{Body, Finding, Instance, Pong, ProductRoots, RootsError, Statement, Vote, topic};
pub use equivocation::{Equivocation, EquivocationError, Witness};
pub use jury::{Appeal, Committee, Jury, Level, PreDraw, Seat, SeatVote, Verdict, commitment, sentinels};

use crate::ids::{CaseId, DeviceId};
use crate::signature::{Signature, SignatureError, SigningKey};
use crate::units::{Seconds, Timestamp};

/// Where sworn bodies count: one court on one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Court {
    /// The chain's id.
    pub chain_id: u64,
    /// The court's contract.
    pub contract: Address,
}

impl Court {
    /// The EIP-712 domain of everything that is sworn.
    #[must_use]
    pub fn eip712(&self) -> Eip712Domain {
        eip712_domain! {
            name: "Tradewind Court",
            version: "1",
            chain_id: self.chain_id,
            verifying_contract: self.contract,
        }
    }

    /// The case about `device` in `epoch`.
    #[must_use]
    pub fn case(&self, device: DeviceId, epoch: Epoch) -> CaseId {
        let [chain, contract] = self.words();
        CaseId::new(digest([chain, contract, device.get(), word(epoch.get())]))
    }

    /// Chain and contract as the contracts encode them into hashes.
    pub(crate) fn words(&self) -> [B256; 2] {
        [word(self.chain_id), self.contract.into_word()]
    }
}

/// A stretch of the chain's time in which a device is challenged and may be accused once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The epoch of `length` each, counted from `genesis`, that `at` lies in; none before the genesis or without a length.
    #[must_use]
    pub const fn of(at: Timestamp, genesis: Timestamp, length: Seconds) -> Option<Self> {
        let Some(elapsed) = at.unix().checked_sub(genesis.unix()) else { return None };
        match elapsed.checked_div(length.get()) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// How many epochs it lies before `later`; zero if it does not.
    #[must_use]
    pub const fn age(self, later: Self) -> u64 {
        later.0.saturating_sub(self.0)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A body with the signature that makes its key answerable for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sworn<T> {
    /// What was said.
    pub body: T,
    /// By the device's or the seat's key.
    pub signature: Signature,
}

impl<T: Body> Sworn<T> {
    /// Signs `body` for `court`.
    #[must_use]
    pub fn sign(body: T, court: &Court, key: &SigningKey) -> Self {
        let signature = key.sign(body.digest(court));
        Self { body, signature }
    }

    /// Checks that `expected` said this to `court`.
    ///
    /// # Errors
    /// [`SignatureError::WrongSigner`] also when it was said to another court; [`SignatureError::Malformed`].
    pub fn verify(&self, court: &Court, expected: Address) -> Result<(), SignatureError> {
        self.signature.verify(self.body.digest(court), expected)
    }
}

/// A number as one word of `abi.encode`.
pub(crate) fn word(number: u64) -> B256 {
    B256::from(U256::from(number))
}

/// The hash of `abi.encode` of values that take a word each.
pub(crate) fn digest<const N: usize>(words: [B256; N]) -> B256 {
    keccak256(words.map(|word| word.0).as_flattened())
}
