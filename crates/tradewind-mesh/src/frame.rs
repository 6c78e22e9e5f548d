//! The frame that every protocol of the mesh speaks, without I/O.
//!
//! ```text
//! ┌─────────┬──────┬──────────┬────────┬──────────────┐
//! │ version │ kind │ sequence │ length │ body …       │
//! │ u8      │ u8   │ u32      │ u32    │ length bytes │   big endian
//! └─────────┴──────┴──────────┴────────┴──────────────┘
//! ```
//!
//! `sequence` counts the frames of one direction of one stream from zero, so that a replayed, dropped or reordered frame
//! is an error of its own instead of a puzzle one layer up. The length is checked against the limit before a byte of
//! the body is buffered.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::refusal::{Refusal, RefusalCode};

/// The version that this build speaks.
pub const VERSION: u8 = 1;
/// Bytes of a frame before its body.
pub const HEADER: usize = 10;
/// The largest body unless configured otherwise: 1 MiB.
pub const DEFAULT_MAX_BODY: u32 = 1 << 20;

/// What a frame is. Each protocol uses the kinds that it needs and refuses the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// One message of an open stream.
    Data = 0,
    /// A request that wants one [`Kind::Reply`].
    Call = 1,
    /// The answer to a [`Kind::Call`].
    Reply = 2,
    /// The header of a long-lived stream.
    Open = 3,
    /// The stream was accepted.
    Accept = 4,
    /// A [`Refusal`]; the last frame of its direction.
    Refuse = 0xff,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Data),
            1 => Some(Self::Call),
            2 => Some(Self::Reply),
            3 => Some(Self::Open),
            4 => Some(Self::Accept),
            0xff => Some(Self::Refuse),
            _ => None,
        }
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// What it carries.
    pub body: Bytes,
}

/// Why a frame could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer speaks another version.
    #[error("the peer speaks frame version {got}, this node speaks {VERSION}")]
    Version {
        /// The peer's version.
        got: u8,
    },
    /// The kind is unknown, or does not belong here.
    #[error("frame kind {got:#04x} does not belong here")]
    Kind {
        /// The kind's number.
        got: u8,
    },
    /// The body is larger than allowed.
    #[error("a frame of {length} bytes exceeds the limit of {limit}")]
    Oversized {
        /// The announced length.
        length: u64,
        /// The limit.
        limit: u32,
    },
    /// A frame was replayed, dropped or reordered.
    #[error("frame {got} came where frame {expected} was due: replayed, dropped or reordered")]
    OutOfOrder {
        /// The sequence that was due.
        expected: u32,
        /// The sequence that came.
        got: u32,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// The body is not what its kind promises.
    #[error("the frame's body cannot be decoded")]
    Malformed,
    /// The peer refused.
    #[error("refused by the peer")]
    Refused(#[source] Refusal),
    /// Nothing came, or nothing went, for too long.
    #[error("the peer was silent for {} ms", .after.as_millis())]
    TimedOut {
        /// How long.
        after: std::time::Duration,
    },
    /// The stream broke.
    #[error("the stream broke")]
    Io(#[source] std::io::Error),
}

impl FrameError {
    /// What to tell a peer that caused this error.
    #[must_use]
    pub fn to_refusal(&self) -> Refusal {
        let code = match self {
            Self::Version { .. } => RefusalCode::Version,
            Self::Oversized { .. } => RefusalCode::Oversized,
            Self::TimedOut { .. } => RefusalCode::TimedOut,
            Self::Refused(refusal) => refusal.code(),
            Self::Io(_) => RefusalCode::Internal,
            Self::Kind { .. } | Self::OutOfOrder { .. } | Self::Truncated | Self::Malformed => {
                RefusalCode::Malformed
            }
        };
        Refusal::new(code, self)
    }
}

/// Appends one frame to `out`.
///
/// # Errors
/// [`FrameError::Oversized`] when the body exceeds `limit`.
pub fn encode(
    out: &mut BytesMut,
    kind: Kind,
    sequence: u32,
    body: &[u8],
    limit: u32,
) -> Result<(), FrameError> {
    let oversized = || FrameError::Oversized { length: body.len() as u64, limit };
    let length = u32::try_from(body.len()).map_err(|_| oversized())?;
    if length > limit {
        return Err(oversized());
    }
    out.reserve(HEADER + body.len());
    out.put_u8(VERSION);
    out.put_u8(kind as u8);
    out.put_u32(sequence);
    out.put_u32(length);
    out.put_slice(body);
    Ok(())
}

/// Reads the frames of one direction of one stream out of a growing buffer.
#[derive(Debug)]
pub struct Decoder {
    limit: u32,
    next: u32,
    /// The header that was read and checked, while its body is still arriving.
    pending: Option<(Kind, usize)>,
}

impl Decoder {
    /// A decoder at the start of a stream whose bodies are at most `limit` bytes.
    #[must_use]
    pub const fn new(limit: u32) -> Self {
        Self { limit, next: 0, pending: None }
    }

    /// Takes the next whole frame out of `buffer`, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// On a frame of another version or unknown kind, an oversized one, or one out of order. The stream is then useless.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let (kind, length) = match self.pending {
            Some(pending) => pending,
            None => match self.header(buffer)? {
                Some(pending) => pending,
                None => return Ok(None),
            },
        };
        if buffer.len() < length {
            self.pending = Some((kind, length));
            return Ok(None);
        }
        self.pending = None;
        Ok(Some(Frame { kind, body: buffer.split_to(length).freeze() }))
    }

    /// Whether the stream may end here without losing part of a frame.
    #[must_use]
    pub fn at_boundary(&self, buffer: &BytesMut) -> bool {
        self.pending.is_none() && buffer.is_empty()
    }

    fn header(&mut self, buffer: &mut BytesMut) -> Result<Option<(Kind, usize)>, FrameError> {
        // A peer of another version may have another header: its first byte alone decides.
        if let Some(&got) = buffer.first()
            && got != VERSION
        {
            return Err(FrameError::Version { got });
        }
        if buffer.len() < HEADER {
            return Ok(None);
        }
        buffer.advance(1);
        let kind = buffer.get_u8();
        let sequence = buffer.get_u32();
        let length = buffer.get_u32();
        let kind = Kind::from_byte(kind).ok_or(FrameError::Kind { got: kind })?;
        if length > self.limit {
            return Err(FrameError::Oversized { length: length.into(), limit: self.limit });
        }
        if sequence != self.next {
            return Err(FrameError::OutOfOrder { expected: self.next, got: sequence });
        }
        self.next = self.next.wrapping_add(1);
        Ok(Some((kind, length as usize)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(sequence: u32, body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        encode(&mut out, Kind::Data, sequence, body, DEFAULT_MAX_BODY).expect("fits");
        out
    }

    #[test]
    fn another_version_is_named() {
        let mut wire = encoded(0, b"x");
        wire[0] = 9;
        let error = Decoder::new(10).decode(&mut wire).expect_err("refused");
        assert_eq!(error.to_string(), "the peer speaks frame version 9, this node speaks 1");
        assert_eq!(error.to_refusal().code(), RefusalCode::Version);
    }

    #[test]
    fn an_oversized_frame_is_refused_before_its_body_arrives() {
        let mut wire = BytesMut::from(&encoded(0, &[0; 11])[..HEADER]);
        let error = Decoder::new(10).decode(&mut wire).expect_err("refused");
        assert!(matches!(error, FrameError::Oversized { length: 11, limit: 10 }), "{error}");
        assert!(encode(&mut BytesMut::new(), Kind::Data, 0, &[0; 11], 10).is_err());
    }

    #[test]
    fn a_replayed_frame_is_refused() {
        let mut wire = encoded(0, b"pay");
        wire.unsplit(encoded(0, b"pay"));
        let mut decoder = Decoder::new(10);
        assert!(decoder.decode(&mut wire).expect("the first").is_some());
        let error = decoder.decode(&mut wire).expect_err("the replay");
        assert!(matches!(error, FrameError::OutOfOrder { expected: 1, got: 0 }), "{error}");
    }

    #[test]
    fn reordered_frames_are_refused() {
        let mut wire = encoded(1, b"second");
        wire.unsplit(encoded(0, b"first"));
        let error = Decoder::new(10).decode(&mut wire).expect_err("reordered");
        assert!(matches!(error, FrameError::OutOfOrder { expected: 0, got: 1 }), "{error}");
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        let mut wire = encoded(0, b"x");
        wire[1] = 77;
        assert!(matches!(Decoder::new(10).decode(&mut wire), Err(FrameError::Kind { got: 77 })));
    }

    proptest! {
        #[test]
        fn frames_survive_any_split_of_the_stream(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            step in 1usize..64,
        ) {
            let mut wire = BytesMut::new();
            for (sequence, body) in bodies.iter().enumerate() {
                encode(&mut wire, Kind::Data, u32::try_from(sequence).expect("small"), body, 200).expect("fits");
            }
            let mut decoder = Decoder::new(200);
            let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
            for chunk in wire.chunks(step) {
                buffer.extend_from_slice(chunk);
                while let Some(frame) = decoder.decode(&mut buffer).expect("valid") {
                    seen.push(frame.body.to_vec());
                }
            }
            prop_assert_eq!(seen, bodies);
            prop_assert!(decoder.at_boundary(&buffer));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_buffer_past_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::new(64);
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = decoder.decode(&mut buffer) {
                prop_assert!(frame.body.len() <= 64);
            }
        }
    }
}
