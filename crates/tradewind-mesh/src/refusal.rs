//! How one side tells the other "no": a code for programs, a sentence for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest message a refusal carries, in bytes.
const MAX_MESSAGE: usize = 512;

/// Why a peer refused, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalCode {
    /// The frame's version is not spoken here.
    Version,
    /// The frame could not be decoded, came out of order, or does not belong here.
    Malformed,
    /// The frame is larger than the limit.
    Oversized,
    /// Too many streams or connections at once: try again later.
    Busy,
    /// Too many requests a second: slow down.
    RateLimited,
    /// The caller may not do this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The node does not offer this service now.
    Unavailable,
    /// The request took longer than the node waits.
    TimedOut,
    /// The caller read too slowly and was dropped.
    SlowReader,
    /// A signature did not verify.
    Forged,
    /// The request was understood and is refused by the service; the message says why.
    Rejected,
    /// The node failed.
    Internal,
    /// A code of a later version.
    Other(u16),
}

/// Every code with its number on the wire.
const CODES: [(RefusalCode, u16); 13] = [
    (RefusalCode::Version, 1),
    (RefusalCode::Malformed, 2),
    (RefusalCode::Oversized, 3),
    (RefusalCode::Busy, 4),
    (RefusalCode::RateLimited, 5),
    (RefusalCode::Forbidden, 6),
    (RefusalCode::NotFound, 7),
    (RefusalCode::Unavailable, 8),
    (RefusalCode::TimedOut, 9),
    (RefusalCode::SlowReader, 10),
    (RefusalCode::Forged, 11),
    (RefusalCode::Rejected, 12),
    (RefusalCode::Internal, 13),
];

impl RefusalCode {
    /// The code's number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        if let Self::Other(number) = self {
            return number;
        }
        CODES.iter().find(|(code, _)| *code == self).map_or(0, |(_, number)| *number)
    }

    /// The code with this number.
    #[must_use]
    pub fn from_number(number: u16) -> Self {
        CODES.iter().find(|(_, known)| *known == number).map_or(Self::Other(number), |(code, _)| *code)
    }

    /// Whether the same request may succeed a little later.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Busy | Self::RateLimited | Self::Unavailable | Self::TimedOut | Self::SlowReader)
    }
}

/// A peer's "no".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    code: RefusalCode,
    message: String,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    code: u16,
    message: String,
}

impl Refusal {
    /// A refusal; the message is cut at 512 bytes.
    #[must_use]
    pub fn new(code: RefusalCode, message: impl fmt::Display) -> Self {
        Self { code, message: printable(&message.to_string()) }
    }

    /// The reason, for programs.
    #[must_use]
    pub const fn code(&self) -> RefusalCode {
        self.code
    }

    /// The reason, for people. A peer wrote it: control characters were replaced and the length is bounded.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn to_wire(&self) -> Vec<u8> {
        let wire = Wire { code: self.code.number(), message: self.message.clone() };
        postcard::to_stdvec(&wire).unwrap_or_default()
    }

    /// Reads a peer's refusal; one that cannot be read is still a refusal.
    pub(crate) fn from_wire(bytes: &[u8]) -> Self {
        match postcard::from_bytes::<Wire>(bytes) {
            Ok(wire) => Self::new(RefusalCode::from_number(wire.code), wire.message),
            Err(_) => Self::new(RefusalCode::Other(0), "the peer refused without a readable reason"),
        }
    }
}

/// A peer's text may carry terminal escapes: only printable characters pass.
fn printable(text: &str) -> String {
    let mut clean = String::new();
    for c in text.chars() {
        let c = if c.is_control() { '\u{fffd}' } else { c };
        if clean.len() + c.len_utf8() > MAX_MESSAGE {
            break;
        }
        clean.push(c);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for (code, _) in CODES {
            let refusal = Refusal::new(code, "because");
            assert_eq!(Refusal::from_wire(&refusal.to_wire()), refusal);
        }
        assert_eq!(RefusalCode::from_number(999), RefusalCode::Other(999));
        assert_eq!(RefusalCode::Other(999).number(), 999);
    }

    #[test]
    fn a_peers_text_cannot_drive_the_terminal() {
        let hostile = Wire { code: 4, message: format!("\u{1b}[2J{}", "x".repeat(10_000)) };
        let refusal = Refusal::from_wire(&postcard::to_stdvec(&hostile).expect("encodes"));
        assert!(!refusal.message().contains('\u{1b}'));
        assert!(refusal.message().len() <= MAX_MESSAGE);
    }

    #[test]
    fn garbage_is_still_a_refusal() {
        assert_eq!(Refusal::from_wire(&[0xff; 40]).code(), RefusalCode::Other(0));
    }
}
