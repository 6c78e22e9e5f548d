//! What can be sworn: statements and product roots by a device, votes by a seat.

use alloy_primitives::B256;
use alloy_sol_types::SolStruct;
use serde::{Deserialize, Serialize};

use super::{Court, Epoch, Seat, digest, word};
use crate::challenge::{MAX_ROUNDS, Size};
use crate::ids::{CaseId, DeviceId};

mod sol {
    alloy_sol_types::sol! {
        struct ProductRoots {
            bytes32 device;
            uint64 epoch;
            uint32 size;
            bytes32[] roots;
        }

        struct Statement {
            bytes32 topic;
            bytes32 device;
            uint64 sequence;
            bytes32 body;
        }

        struct Vote {
            bytes32 caseId;
            uint8 instance;
            uint8 finding;
            bytes32 transcript;
        }
    }
}

/// Something that a key may say once for each slot.
pub trait Body: Clone + PartialEq {
    /// What two bodies share that contradict each other.
    type Slot: Ord + Clone;

    /// The slot that this body fills.
    fn slot(&self) -> Self::Slot;

    /// The EIP-712 digest that is signed.
    fn digest(&self, court: &Court) -> B256;
}

/// What statements are about.
pub mod topic {
    use alloy_primitives::{B256, keccak256};

    /// A sign of life that nobody asked for.
    #[must_use]
    pub fn heartbeat() -> B256 {
        keccak256("tradewind/heartbeat")
    }

    /// The answer to a watcher's nonce.
    #[must_use]
    pub fn pong() -> B256 {
        keccak256("tradewind/pong")
    }
}

/// One numbered thing that a device says about a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// See [`topic`].
    pub topic: B256,
    /// Who speaks.
    pub device: DeviceId,
    /// Each number is used once for a topic.
    pub sequence: u64,
    /// The digest of what is said, such as [`Pong::body`].
    pub body: B256,
}

impl Body for Statement {
    /// The sequence first, so that the oldest sorts first.
    type Slot = (u64, B256, DeviceId);

    fn slot(&self) -> Self::Slot {
        (self.sequence, self.topic, self.device)
    }

    fn digest(&self, court: &Court) -> B256 {
        let body = sol::Statement {
            topic: self.topic,
            device: self.device.get(),
            sequence: self.sequence,
            body: self.body,
        };
        body.eip712_signing_hash(&court.eip712())
    }
}

/// What a device answers to a watcher's nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The watcher's.
    pub nonce: B256,
    /// Who asked.
    pub watcher: Seat,
    /// The device's clock, in milliseconds since 1970.
    pub unix_millis: u64,
}

impl Pong {
    /// The body of the statement.
    #[must_use]
    pub fn body(&self) -> B256 {
        digest([self.nonce, word(self.watcher.get().into()), word(self.unix_millis)])
    }
}

/// Why a list of roots is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a challenge has 1 to {MAX_ROUNDS} rounds, this list has {0} roots")]
pub struct RootsError(pub usize);

/// The roots of the products of one epoch's rounds: a device's whole answer to the hardware challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct ProductRoots {
    device: DeviceId,
    epoch: Epoch,
    size: Size,
    roots: Vec<B256>,
}

#[derive(Serialize, Deserialize)]
struct Fields {
    device: DeviceId,
    epoch: Epoch,
    size: Size,
    roots: Vec<B256>,
}

impl TryFrom<Fields> for ProductRoots {
    type Error = RootsError;
    fn try_from(fields: Fields) -> Result<Self, RootsError> {
        Self::new(fields.device, fields.epoch, fields.size, fields.roots)
    }
}

impl From<ProductRoots> for Fields {
    fn from(list: ProductRoots) -> Self {
        Self { device: list.device, epoch: list.epoch, size: list.size, roots: list.roots }
    }
}

impl ProductRoots {
    /// The list of `device` for `epoch`, a root a round.
    ///
    /// # Errors
    /// [`RootsError`] without a root or with more than [`MAX_ROUNDS`].
    pub fn new(device: DeviceId, epoch: Epoch, size: Size, roots: Vec<B256>) -> Result<Self, RootsError> {
        if roots.is_empty() || roots.len() > MAX_ROUNDS {
            return Err(RootsError(roots.len()));
        }
        Ok(Self { device, epoch, size, roots })
    }

    /// Whose products.
    #[must_use]
    pub const fn device(&self) -> DeviceId {
        self.device
    }

    /// Of which epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Rows and columns of the matrices.
    #[must_use]
    pub const fn size(&self) -> Size {
        self.size
    }

    /// In the order of the rounds.
    #[must_use]
    pub fn roots(&self) -> &[B256] {
        &self.roots
    }
}

impl Body for ProductRoots {
    type Slot = (Epoch, DeviceId);

    fn slot(&self) -> Self::Slot {
        (self.epoch, self.device)
    }

    fn digest(&self, court: &Court) -> B256 {
        let body = sol::ProductRoots {
            device: self.device.get(),
            epoch: self.epoch.get(),
            size: self.size.get(),
            roots: self.roots.clone(),
        };
        body.eip712_signing_hash(&court.eip712())
    }
}

/// Which jury votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Instance {
    /// The first.
    Committee = 1,
    /// The second, which shares no seat with the first.
    Appeal = 2,
}

/// What a seat found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Finding {
    /// The accusation holds.
    Guilty = 1,
    /// It does not.
    Clear = 2,
    /// Nobody could tell.
    Unknown = 3,
}

/// A seat's vote in a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Which case.
    pub case: CaseId,
    /// In which jury.
    pub instance: Instance,
    /// What it found.
    pub finding: Finding,
    /// The digest of the transcript that it goes by.
    pub transcript: B256,
}

impl Body for Vote {
    type Slot = (CaseId, Instance);

    fn slot(&self) -> Self::Slot {
        (self.case, self.instance)
    }

    fn digest(&self, court: &Court) -> B256 {
        let body = sol::Vote {
            caseId: self.case.get(),
            instance: self.instance as u8,
            finding: self.finding as u8,
            transcript: self.transcript,
        };
        body.eip712_signing_hash(&court.eip712())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_are_the_contracts() {
        assert_eq!(
            sol::ProductRoots::eip712_encode_type(),
            "ProductRoots(bytes32 device,uint64 epoch,uint32 size,bytes32[] roots)"
        );
        assert_eq!(
            sol::Statement::eip712_encode_type(),
            "Statement(bytes32 topic,bytes32 device,uint64 sequence,bytes32 body)"
        );
        assert_eq!(
            sol::Vote::eip712_encode_type(),
            "Vote(bytes32 caseId,uint8 instance,uint8 finding,bytes32 transcript)"
        );
    }
}
