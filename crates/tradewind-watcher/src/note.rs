//! What the node keeps: a seat's finding in a case, before it commits to it; where a device was last seen.

use alloy_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};
use tradewind_proto::evidence::Finding;
use tradewind_proto::ids::CaseId;
use tradewind_proto::signature::SigningKey;

/// The kind of a stored [`Note`]; its key is [`key`].
pub(crate) const NOTES: &str = "watch-note";
/// The kind of a device's last known address.
pub(crate) const ADDRESSES: &str = "watch-address";
/// The kind of what the node saw of a device in an epoch; its key is `device/epoch`.
pub(crate) const SIGHTS: &str = "watch-sight";

/// The kind of what a seat saw in an epoch that is not over.
pub(crate) const SIGHTINGS: &str = "watch-sighting";
/// The kind of a seat's pages of testimony.
pub(crate) const PAGES: &str = "watch-page";

/// What a seat found, for good.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) finding: Finding,
    /// Of the transcript.
    pub(crate) digest: B256,
    pub(crate) salt: B256,
    /// The transcript as it was written, for whoever asks what the seat saw.
    pub(crate) transcript: Vec<u8>,
}

/// What became of a node's questions to a device in an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sight {
    pub(crate) answered: u32,
    pub(crate) missed: u32,
    /// It did not show the epoch's products.
    #[serde(default)]
    pub(crate) refused: bool,
}

pub(crate) fn key(case: CaseId, position: u8) -> String {
    format!("{case}/{position}")
}

/// The salt of a seat's commitment: the same again after a restart, and nobody else's to guess.
pub(crate) fn salt(seat: &SigningKey, case: CaseId) -> B256 {
    keccak256([b"tradewind/ballot".as_slice(), &seat.secret_bytes(), case.get().as_slice()].concat())
}
