//! The messages of `tradewind/directory/1`.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::record::{Record, RecordId};
use super::table::{PARTS, PartDigest, PartSet, Summary};
use crate::frame::FrameError;

/// Records of one message at most.
pub(crate) const MAX_BATCH: usize = 256;
/// Lines of one listing at most.
pub(crate) const MAX_LISTING: usize = 2000;

/// Why a stream is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// News both ways for as long as it lasts.
    Link,
    /// One comparison.
    Compare,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// News; no answer.
    Records(Vec<Record>),
    /// Asks for [`Message::Digests`].
    GetDigests,
    /// The digest of every part.
    Digests(Vec<PartDigest>),
    /// Asks for a [`Message::Listing`] of some parts, from `after` on.
    GetListing { parts: PartSet, after: Option<RecordId> },
    /// A page, ordered by part and id, and whether there is more behind it.
    Listing { lines: Vec<Summary>, more: bool },
    /// Asks for [`Message::Records`]; fewer than asked for may come.
    GetRecords(Vec<RecordId>),
}

impl Message {
    pub(crate) fn encode(&self) -> Result<Bytes, FrameError> {
        postcard::to_stdvec(self).map(Bytes::from).map_err(|_| FrameError::Malformed)
    }

    /// Reads a peer's message and checks its bounds.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let message: Self = postcard::from_bytes(bytes).map_err(|_| FrameError::Malformed)?;
        let within = match &message {
            Self::Records(records) => records.len() <= MAX_BATCH,
            Self::Digests(digests) => digests.len() == PARTS,
            Self::Listing { lines, more } => lines.len() <= MAX_LISTING && !(*more && lines.is_empty()),
            Self::GetRecords(ids) => ids.len() <= MAX_BATCH,
            Self::GetDigests | Self::GetListing { .. } => true,
        };
        if within { Ok(message) } else { Err(FrameError::Malformed) }
    }
}

/// Encodes records as few messages as fit `max_body`.
pub(crate) fn batches(records: &[Arc<Record>], max_body: u32) -> Vec<Bytes> {
    let room = (max_body as usize).saturating_sub(64);
    let mut messages = Vec::new();
    let mut batch: Vec<Record> = Vec::new();
    let mut size = 0;
    for record in records {
        if !batch.is_empty() && (batch.len() == MAX_BATCH || size + record.size() > room) {
            messages.extend(Message::Records(std::mem::take(&mut batch)).encode());
            size = 0;
        }
        size += record.size();
        batch.push(Record::clone(record));
    }
    if !batch.is_empty() {
        messages.extend(Message::Records(batch).encode());
    }
    messages
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tradewind_proto::ids::ProviderId;
    use tradewind_proto::units::Timestamp;

    use super::*;

    fn record(slot: u32, size: usize) -> Arc<Record> {
        Arc::new(Record {
            id: RecordId { provider: ProviderId::default(), slot },
            sequence: 1,
            expires_at: Timestamp::from_unix(9),
            body: vec![1; size].into(),
            signature: vec![2; 65].into(),
        })
    }

    #[test]
    fn batches_fit_their_frames_and_lose_nothing() {
        let records: Vec<_> = (0..1000).map(|slot| record(slot, 500)).collect();
        let messages = batches(&records, 20_000);
        let mut seen = Vec::new();
        for message in &messages {
            assert!(message.len() <= 20_000);
            let Message::Records(batch) = Message::decode(message).expect("valid") else { panic!("records") };
            seen.extend(batch.into_iter().map(Arc::new));
        }
        assert_eq!(seen, records);
    }

    #[test]
    fn a_message_beyond_its_bounds_is_malformed() {
        let ids = vec![RecordId { provider: ProviderId::default(), slot: 0 }; MAX_BATCH + 1];
        let wire = Message::GetRecords(ids).encode().expect("encodes");
        assert!(matches!(Message::decode(&wire), Err(FrameError::Malformed)));
        let short = Message::Digests(vec![[0; 16]; 3]).encode().expect("encodes");
        assert!(matches!(Message::decode(&short), Err(FrameError::Malformed)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::decode(&bytes);
        }
    }
}
