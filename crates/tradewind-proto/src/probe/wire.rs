//! What watcher and device say to each other on `tradewind/probe/1`: one question frame, one response frame.
//!
//! ```text
//! watcher                          device
//!   Ping(ask) ──────────────────────►  a stored number, signed
//!   Roots(epoch) ───────────────────►  multiplies once, checks itself, signs once; held back while it does
//!   Row(epoch, round, row) ─────────►  opens what it signed
//!   Walk(a seat's order) ───────────►  fills its memory and walks; held back while it does
//!   Stretch(epoch, seat, …) ────────►  opens what it walked
//! ```
//!
//! Frames are encoded by postcard; both kinds are limited, and so are the lengths inside. A ping's round trip is the latency; the
//! bytes of a row's frame over its round trip bound the bandwidth from below, so neither needs a message of its own.

use serde::{Deserialize, Serialize};

use super::{Ask, Reply};
use alloy_primitives::B256;

use crate::challenge::memory::Stretch;
use crate::challenge::{RowOpening, Size, WalkOrder};
use crate::conversation::{FrameError, decode_within, encode};
use crate::evidence::{Epoch, ProductRoots, Seat, Sworn};
use crate::ids::DeviceId;

/// The largest question, in bytes.
pub const MAX_QUESTION: usize = 256;
/// The largest response, in bytes: a row of the largest matrix with five bytes an element, and its path.
pub const MAX_RESPONSE: usize = 96 << 10;
/// Elements of a row of the largest matrix.
const WIDEST: usize = Size::MAX as usize;
/// Hashes above it.
const MAX_PATH: usize = Size::MAX.trailing_zeros() as usize;
/// Hashes above a walk's checkpoint.
const MAX_WAY: usize = 20;

/// What a watcher asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Are you there?
    Ping {
        /// Who should answer.
        device: DeviceId,
        /// The nonce.
        ask: Ask,
    },
    /// The signed list of an epoch's products.
    Roots {
        /// Who should answer.
        device: DeviceId,
        /// Of which epoch.
        epoch: Epoch,
    },
    /// A row of a product whose root was signed.
    Row {
        /// Who should answer.
        device: DeviceId,
        /// Of which epoch.
        epoch: Epoch,
        /// Of which product.
        round: u32,
        /// Which row.
        row: u32,
    },
    /// Fill the memory and walk through it now.
    Walk(Sworn<WalkOrder>),
    /// A part of what was walked for a seat.
    Stretch {
        /// Who should answer.
        device: DeviceId,
        /// In which epoch.
        epoch: Epoch,
        /// For whom.
        seat: Seat,
        /// Which walker.
        walker: u32,
        /// Which of its stretches.
        stretch: u32,
    },
}

/// What a device answers. Nothing of it is believed before it was checked: by [`super::Prober`], by
/// [`crate::challenge::Claim`], by the verifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To a ping.
    Pong(Reply),
    /// The epoch's list.
    Roots(Sworn<ProductRoots>),
    /// The row.
    Row(RowOpening),
    /// The root over a walk's checkpoints.
    Walked(B256),
    /// The stretch.
    Stretch(Stretch),
    /// Nothing, and why.
    Unanswered(Why),
}

/// Why a device did not answer. It is its own word: whether it had to answer is for the watchers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Why {
    /// Another device was asked.
    #[error("another device answers here")]
    OtherDevice,
    /// Neither the present epoch nor the one before it.
    #[error("only the present epoch and the one before are answered")]
    OtherEpoch,
    /// The device cannot learn the epoch's seed.
    #[error("the epoch's seed is not known yet")]
    NoSeed,
    /// Its products are being computed.
    #[error("the products are being computed; ask again")]
    Computing,
    /// Rows are opened only of a list that was signed.
    #[error("no list was signed for this epoch; ask for the roots first")]
    Unsigned,
    /// The product has no such row, or the list no such round.
    #[error("there is no such row")]
    NoSuchRow,
    /// The engine failed, or its store did: nothing is signed that could cost stake.
    #[error("the device cannot answer now")]
    Failed,
    /// Its memory belongs to a lease now, or its owner lets nobody measure it.
    #[error("the device does not walk now")]
    AtWork,
    /// The order is not of a seat that watches the device now, or of no walk of this network.
    #[error("this device walks for its sentinels only, and as the network's profile says")]
    NotOrdered,
    /// It walked for this seat in this epoch.
    #[error("the device walked for this seat already")]
    WalkedAlready,
}

impl Why {
    /// Whether the same question may be answered a little later.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::NoSeed | Self::Computing | Self::Failed)
    }
}

impl Question {
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
        decode_within(frame, MAX_QUESTION)
    }

    /// Who should answer.
    #[must_use]
    pub const fn device(&self) -> DeviceId {
        match self {
            Self::Ping { device, .. }
            | Self::Roots { device, .. }
            | Self::Row { device, .. }
            | Self::Stretch { device, .. } => *device,
            Self::Walk(order) => order.body.device,
        }
    }
}

impl Response {
    /// The frame.
    #[must_use]
    pub fn encode(&self) -> bytes::Bytes {
        encode(self)
    }

    /// Reads a frame from a hostile peer.
    ///
    /// # Errors
    /// [`FrameError`]; also for a row that is longer than any, or a longer path.
    pub fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        let response: Self = decode_within(frame, MAX_RESPONSE)?;
        match &response {
            Self::Row(opening) if opening.values.len() > WIDEST || opening.path.len() > MAX_PATH => {
                Err(FrameError::Malformed)
            }
            Self::Stretch(opened) if opened.from_path.len().max(opened.to_path.len()) > MAX_WAY => {
                Err(FrameError::Malformed)
            }
            Self::Pong(_)
            | Self::Roots(_)
            | Self::Row(_)
            | Self::Walked(_)
            | Self::Stretch(_)
            | Self::Unanswered(_) => Ok(response),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256};
    use proptest::prelude::*;

    use super::*;
    use crate::challenge::MAX_ROUNDS;
    use crate::challenge::memory::Walk;
    use crate::evidence::Court;
    use crate::signature::SigningKey;

    fn device() -> DeviceId {
        DeviceId::new(B256::repeat_byte(0xd0))
    }

    fn order() -> Sworn<WalkOrder> {
        let walk = Walk::new(B256::repeat_byte(0xff), [u32::MAX, 3], [1 << 16, 4, u32::MAX]).unwrap();
        let (epoch, seat) = (Epoch::new(u64::MAX), Seat::new(u32::MAX));
        let court = Court { chain_id: 1, contract: Address::repeat_byte(9) };
        Sworn::sign(WalkOrder { device: device(), epoch, seat, walk }, &court, &key())
    }

    fn questions() -> [Question; 5] {
        let ask = Ask { nonce: B256::repeat_byte(0xff), watcher: Seat::new(u32::MAX) };
        let epoch = Epoch::new(u64::MAX);
        [
            Question::Ping { device: device(), ask },
            Question::Roots { device: device(), epoch },
            Question::Row { device: device(), epoch, round: u32::MAX, row: u32::MAX },
            Question::Walk(order()),
            Question::Stretch {
                device: device(),
                epoch,
                seat: Seat::new(u32::MAX),
                walker: u32::MAX,
                stretch: u32::MAX,
            },
        ]
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes([7; 32]).unwrap()
    }

    fn row(elements: usize, hashes: usize) -> Response {
        let path = vec![B256::repeat_byte(0xff); hashes];
        Response::Row(RowOpening { row: u32::MAX, values: vec![i32::MIN; elements], path })
    }

    fn stretch(hashes: usize) -> Response {
        let (state, path) = ([u32::MAX; 16], vec![B256::repeat_byte(0xff); hashes]);
        Response::Stretch(Stretch {
            walker: u32::MAX,
            stretch: u32::MAX,
            from: state,
            from_path: path.clone(),
            to: state,
            to_path: path,
        })
    }

    fn responses() -> Vec<Response> {
        let court = Court { chain_id: 1, contract: Address::repeat_byte(9) };
        let size = Size::new(Size::MAX).unwrap();
        let roots = vec![B256::repeat_byte(0xff); MAX_ROUNDS];
        let list = ProductRoots::new(device(), Epoch::new(u64::MAX), size, roots).unwrap();
        let signed = Sworn::sign(list, &court, &key());
        let reply = Reply { unix_millis: u64::MAX, sequence: u64::MAX, signature: signed.signature };
        let whys = [
            Why::OtherDevice,
            Why::OtherEpoch,
            Why::NoSeed,
            Why::Computing,
            Why::Unsigned,
            Why::NoSuchRow,
            Why::Failed,
            Why::AtWork,
            Why::NotOrdered,
            Why::WalkedAlready,
        ];
        let unanswered = whys.into_iter().map(Response::Unanswered);
        let walked = [Response::Walked(B256::repeat_byte(0xff)), stretch(MAX_WAY)];
        let answered = [Response::Pong(reply), Response::Roots(signed), row(WIDEST, MAX_PATH)];
        let answered = answered.into_iter().chain(walked);
        answered.chain(unanswered).collect()
    }

    #[test]
    fn the_largest_messages_of_each_kind_fit_their_frames_and_are_read_as_written() {
        for question in questions() {
            assert_eq!(question.device(), device());
            assert_eq!(Question::decode(&question.encode()), Ok(question));
        }
        for response in responses() {
            assert_eq!(Response::decode(&response.encode()), Ok(response));
        }
    }

    #[test]
    fn a_frame_that_is_too_large_cut_off_or_followed_by_bytes_is_refused() {
        let too_large = vec![0; MAX_RESPONSE + 1];
        let got = too_large.len();
        assert_eq!(Question::decode(&too_large), Err(FrameError::TooLarge { got, limit: MAX_QUESTION }));
        assert_eq!(Response::decode(&too_large), Err(FrameError::TooLarge { got, limit: MAX_RESPONSE }));
        for frame in questions().map(|question| question.encode()) {
            let cut = (0..frame.len()).map(|end| frame[..end].to_vec());
            for bad in cut.chain([[&frame[..], &[0]].concat()]) {
                assert_eq!(Question::decode(&bad), Err(FrameError::Malformed), "{bad:?}");
            }
        }
        for frame in responses().into_iter().map(|response| response.encode()) {
            let cut = (0..frame.len()).step_by(97).map(|end| frame[..end].to_vec());
            for bad in cut.chain([[&frame[..], &[0]].concat()]) {
                assert_eq!(Response::decode(&bad), Err(FrameError::Malformed), "{}", bad.len());
            }
        }
    }

    #[test]
    fn a_row_longer_than_any_is_refused_although_it_fits_the_frame() {
        let short = |elements| RowOpening { row: 0, values: vec![0; elements], path: Vec::new() };
        assert!(Response::decode(&Response::Row(short(WIDEST)).encode()).is_ok());
        let longer = Response::Row(short(WIDEST + 1)).encode();
        assert!(longer.len() < MAX_RESPONSE);
        assert_eq!(Response::decode(&longer), Err(FrameError::Malformed));
        assert_eq!(Response::decode(&row(1, MAX_PATH + 1).encode()), Err(FrameError::Malformed));
        assert_eq!(Response::decode(&stretch(MAX_WAY + 1).encode()), Err(FrameError::Malformed));
    }

    #[test]
    fn a_list_without_a_root_or_with_too_many_is_refused() {
        for count in [0, MAX_ROUNDS + 1] {
            // The shape of `Response::Roots`, past the check of `ProductRoots::new`.
            let list = (device(), Epoch::new(1), Size::new(256).unwrap(), vec![B256::ZERO; count]);
            let frame = postcard::to_stdvec(&(1u32, list, key().sign(B256::ZERO))).unwrap();
            assert_eq!(Response::decode(&frame), Err(FrameError::Malformed), "{count}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_peer_cost_more_than_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(question) = Question::decode(&bytes) {
                prop_assert_eq!(Question::decode(&question.encode()), Ok(question));
            }
            if let Ok(response) = Response::decode(&bytes) {
                prop_assert_eq!(Response::decode(&response.encode()), Ok(response));
            }
        }

        #[test]
        fn an_altered_frame_is_an_error_or_another_message(at in 0usize..10_000, bit in 0u8..8) {
            for frame in questions().map(|question| question.encode()) {
                let mut other = frame.to_vec();
                let at = at % other.len();
                other[at] ^= 1 << bit;
                prop_assert_ne!(Question::decode(&other), Question::decode(&frame));
            }
        }
    }
}
