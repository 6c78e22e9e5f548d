//! What a buyer says to its running workload: a command's input and output, or bytes to and from one of its ports.
//!
//! ```text
//! buyer                                         provider
//!   Open(Opening::Session(lease, target, tty)) ─►  the buyer's own lease, running, a place free?
//!   ◄──────────────────────────────── Started     or a refusal
//!   Stdin, End, Resize, Signal ────────────────►
//!   ◄──────── Stdout, Stderr, Alive … Exited(code)
//! ```
//!
//! One stream of `tradewind/lease/1` is one session, and the session ends with its stream, its lease or its command, whichever
//! is first. Each message is one frame, encoded by postcard; sizes are limited here, and a frame beyond them is malformed.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::conversation::{FrameError, decode_within, encode};
use crate::ids::LeaseId;
use crate::units::Seconds;

/// The most bytes of a session's input or output in one message.
pub const MAX_CHUNK: usize = 32 << 10;
/// The largest message: a chunk and its envelope.
pub const MAX_MESSAGE: usize = MAX_CHUNK + 64;
/// The largest opening.
pub const MAX_OPENING: usize = 96 << 10;
/// Sessions that one lease has at a time.
pub const MAX_SESSIONS: usize = 32;
/// A provider says at least this often that a session lives, so that it learns when its buyer is gone.
pub const ALIVE_EVERY: Seconds = Seconds::new(5);

/// Words of a command.
const MAX_WORDS: usize = 1024;
/// Variables that a session sets.
const MAX_VARIABLES: usize = 64;
/// Bytes of words and variables together.
const MAX_TEXT: usize = 80 << 10;
/// The longest name of a kind of terminal.
const MAX_TERM: usize = 64;

/// The first frame of a long-lived stream of `tradewind/lease/1`: what the stream is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening {
    /// A session in the lease's workload.
    Session {
        /// Which lease.
        lease: LeaseId,
        /// What is begun in it.
        session: Session,
    },
}

/// What is begun beside the job, in the same sandbox and within the same limits.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// What it talks to.
    pub target: Target,
    /// Set on top of the job's own environment.
    pub envs: BTreeMap<String, String>,
    /// The terminal that it gets; plain pipes where absent.
    pub tty: Option<Tty>,
}

/// What a session talks to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A program and its arguments.
    Command(Vec<String>),
    /// What listens on this port of the workload's own loopback.
    Port(u16),
}

/// A terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tty {
    /// Its kind, for `TERM`.
    pub term: String,
    /// Its size.
    pub size: Size,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Across.
    pub columns: u16,
    /// Down.
    pub rows: u16,
}

/// What a buyer says in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Bytes for the command.
    Stdin(Bytes),
    /// There is no more input.
    End,
    /// The terminal has another size.
    Resize(Size),
    /// A signal, 1 to 31, for the command's processes.
    Signal(u8),
}

/// What a provider says in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// The command runs, or the port is connected.
    Started,
    /// Bytes of its standard output, of its terminal, or of the port.
    Stdout(Bytes),
    /// Bytes of its standard error.
    Stderr(Bytes),
    /// Nothing new.
    Alive,
    /// Nothing was begun, and why: 127 where there is no such program, else 126.
    NotBegun {
        /// The exit code that stands for it.
        code: u8,
        /// For people.
        reason: String,
    },
    /// The command ended: its own code, or 128 + n after signal n.
    Exited(u8),
}

impl Session {
    /// A command with nothing but pipes.
    #[must_use]
    pub const fn command(words: Vec<String>) -> Self {
        Self { target: Target::Command(words), envs: BTreeMap::new(), tty: None }
    }

    /// A connection to a port of the workload.
    #[must_use]
    pub const fn port(port: u16) -> Self {
        Self { target: Target::Port(port), envs: BTreeMap::new(), tty: None }
    }

    /// The words of an interactive shell: `bash` where there is one, else `sh`.
    #[must_use]
    pub fn shell() -> Vec<String> {
        const LINE: &str =
            "if command -v bash >/dev/null 2>&1; then SHELL=bash exec bash; else exec /bin/sh; fi";
        ["/bin/sh", "-c", LINE].map(str::to_owned).into()
    }

    fn is_bounded(&self) -> bool {
        let words: &[String] = match &self.target {
            Target::Command(words) => words,
            Target::Port(_) => &[],
        };
        let named = match &self.target {
            Target::Command(words) => words.first().is_some_and(|word| !word.is_empty()),
            Target::Port(port) => *port != 0,
        };
        let texts = || words.iter().chain(self.envs.keys()).chain(self.envs.values());
        let term = self.tty.as_ref().map_or("", |tty| &tty.term);
        named
            && words.len() <= MAX_WORDS
            && self.envs.len() <= MAX_VARIABLES
            && self.envs.keys().all(|name| !name.is_empty() && !name.contains('='))
            && texts().map(String::len).sum::<usize>() <= MAX_TEXT
            && !texts().any(|text| text.contains('\0'))
            && term.len() <= MAX_TERM
            && term.chars().all(|c| c.is_ascii_graphic())
    }
}

/// Shows what is begun and the names of variables, never a word or a value: either may be a secret.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let target = match &self.target {
            Target::Command(words) => format!("a command of {} words", words.len()),
            Target::Port(port) => format!("port {port}"),
        };
        f.debug_struct("Session")
            .field("target", &target)
            .field("envs", &self.envs.keys().collect::<Vec<_>>())
            .field("tty", &self.tty)
            .finish()
    }
}

impl Opening {
    /// The frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads a frame from a hostile peer.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        let opening: Self = decode_within(frame, MAX_OPENING)?;
        let Self::Session { session, .. } = &opening;
        if session.is_bounded() { Ok(opening) } else { Err(FrameError::Malformed) }
    }
}

impl Input {
    /// The frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads a frame from a hostile peer.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        match decode_within(frame, MAX_MESSAGE)? {
            Self::Signal(signal) if !(1..=31).contains(&signal) => Err(FrameError::Malformed),
            input @ (Self::Stdin(_) | Self::End | Self::Resize(_) | Self::Signal(_)) => Ok(input),
        }
    }
}

impl Output {
    /// The frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads a frame from a hostile peer.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        decode_within(frame, MAX_MESSAGE)
    }

    /// Nothing begins any more: how it ends for whoever asked.
    #[must_use]
    pub const fn code(&self) -> Option<u8> {
        match self {
            Self::NotBegun { code, .. } | Self::Exited(code) => Some(*code),
            Self::Started | Self::Stdout(_) | Self::Stderr(_) | Self::Alive => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(session: Session) -> Opening {
        Opening::Session { lease: LeaseId::default(), session }
    }

    fn words(words: &[&str]) -> Session {
        Session::command(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn an_opening_survives_the_wire() {
        let mut session = words(&["sh", "-c", "echo hi"]);
        session.envs.insert("LANG".into(), "C".into());
        session.tty = Some(Tty { term: "xterm-256color".into(), size: Size { columns: 80, rows: 24 } });
        let opening = opening(session);
        assert_eq!(Opening::decode(&opening.encode()), Ok(opening));
    }

    #[test]
    fn an_opening_that_no_kernel_could_execute_is_malformed() {
        let mut variable = words(&["ls"]);
        variable.envs.insert("A=B".into(), String::new());
        let mut term = words(&["ls"]);
        term.tty = Some(Tty { term: "x\u{1b}".into(), size: Size { columns: 1, rows: 1 } });
        let too_many = Session::command(vec!["x".into(); MAX_WORDS + 1]);
        let too_long = words(&["x", &"y".repeat(MAX_TEXT)]);
        for bad in
            [words(&[]), words(&[""]), words(&["a\0b"]), Session::port(0), variable, term, too_many, too_long]
        {
            assert_eq!(Opening::decode(&opening(bad).encode()), Err(FrameError::Malformed));
        }
    }

    #[test]
    fn a_message_beyond_the_limit_is_refused() {
        let fits = Output::Stdout(vec![7; MAX_CHUNK].into());
        assert_eq!(Output::decode(&fits.encode()), Ok(fits));
        let large = Input::Stdin(vec![7; MAX_MESSAGE].into());
        assert!(matches!(Input::decode(&large.encode()), Err(FrameError::TooLarge { .. })));
        for signal in [0, 32, 255] {
            assert_eq!(Input::decode(&Input::Signal(signal).encode()), Err(FrameError::Malformed));
        }
    }

    #[test]
    fn debug_shows_neither_words_nor_values() {
        let mut session = words(&["login", "hunter2"]);
        session.envs.insert("TOKEN".into(), "s3cr3t".into());
        let shown = format!("{:?}", opening(session));
        assert!(
            shown.contains("TOKEN") && !shown.contains("hunter2") && !shown.contains("s3cr3t"),
            "{shown}"
        );
    }
}
