//! Liveness by signed nonces: what a watcher asks, what a device may say, and what is kept of it.
//!
//! ```text
//! watcher  Prober ── Ask(nonce) ───────────────► device  Pulse ─ a stored mark ─► Statement(sequence, pong)
//!             ◄─────────────────── Reply(pong, signed) ────┘
//!             └─ Entry: answered, or not in time ─► Transcript (hash chain, appended) ─► digest, finding ─► Vote
//! ```
//!
//! A device numbers its statements and says each number once, also after it was killed: it uses numbers below a mark that is stored
//! first, and goes on at the mark. A watcher whose process died reads its transcript again and cannot have said otherwise.
//!
//! Failure paths: a reply to another nonce, watcher or court, by another key, or too late is an error and changes nothing; a
//! number used twice is [`Heard::equivocation`]; a transcript that was cut off while it was written ends at the last whole
//! entry, one that was altered is refused. What carries asks and replies is [`Question`] and [`Response`].

#[cfg(test)]
mod tests;
mod transcript;
mod wire;

use std::num::NonZeroUsize;

use alloy_primitives::{Address, B256};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

pub(crate) use transcript::signature;
pub use transcript::{MAX_ENTRIES, Transcript, TranscriptError};
pub use wire::{MAX_QUESTION, MAX_RESPONSE, Question, Response, Why};

use crate::evidence::{Court, Equivocation, Pong, Seat, Statement, Sworn, Witness, topic};
use crate::ids::DeviceId;
use crate::signature::{Signature, SignatureError, SigningKey};

/// Who watches whom, before which court.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Where statements count.
    pub court: Court,
    /// Who is watched.
    pub device: DeviceId,
    /// Its key.
    pub key: Address,
    /// Who watches.
    pub watcher: Seat,
}

/// A watcher's question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Fresh and random: nobody can have answered it before.
    pub nonce: B256,
    /// Who asks.
    pub watcher: Seat,
}

/// A device's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The device's clock, in milliseconds since 1970.
    pub unix_millis: u64,
    /// The statement's number.
    pub sequence: u64,
    /// Over the statement.
    pub signature: Signature,
}

/// A device's statements, numbered so that no number is used twice. It says nothing beyond the mark that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    next: u64,
    stored: u64,
}

impl Pulse {
    /// Numbers between two marks.
    const STEP: u64 = 1_024;

    /// Goes on from the mark that was stored last; zero for a device that never spoke.
    #[must_use]
    pub const fn resume(stored: u64) -> Self {
        Self { next: stored, stored }
    }

    /// The mark to store before the device can speak on; none while there are numbers left.
    #[must_use]
    pub const fn wants(&self) -> Option<u64> {
        if self.next < self.stored { None } else { Some(self.next.saturating_add(Self::STEP)) }
    }

    /// The mark is on disk.
    pub const fn stored(&mut self, mark: u64) {
        if mark > self.stored {
            self.stored = mark;
        }
    }

    /// Answers a question; none before the mark is stored.
    pub fn reply(
        &mut self,
        ask: Ask,
        unix_millis: u64,
        device: DeviceId,
        court: &Court,
        key: &SigningKey,
    ) -> Option<Reply> {
        if self.wants().is_some() {
            return None;
        }
        let sequence = self.next;
        self.next += 1;
        let body = Pong { nonce: ask.nonce, watcher: ask.watcher, unix_millis }.body();
        let statement = Statement { topic: topic::pong(), device, sequence, body };
        Some(Reply { unix_millis, sequence, signature: Sworn::sign(statement, court, key).signature })
    }
}

impl Watch {
    /// The statement that a reply to `nonce` makes.
    fn sworn(&self, nonce: B256, reply: &Reply) -> Sworn<Statement> {
        let pong = Pong { nonce, watcher: self.watcher, unix_millis: reply.unix_millis };
        let (device, sequence) = (self.device, reply.sequence);
        let body = Statement { topic: topic::pong(), device, sequence, body: pong.body() };
        Sworn { body, signature: reply.signature }
    }
}

/// What became of one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// When it was asked, by the watcher's clock, in milliseconds.
    #[n(0)]
    pub asked_at: u64,
    /// What was asked.
    #[cbor(n(1), with = "crate::offer::codec::digest")]
    pub nonce: B256,
    /// The answer, unless none came in time.
    #[n(2)]
    pub answer: Option<Answer>,
}

/// An answer that came in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Answer {
    /// When it came, by the watcher's clock.
    #[n(0)]
    pub heard_at: u64,
    /// The device's clock.
    #[n(1)]
    pub unix_millis: u64,
    /// The statement's number.
    #[n(2)]
    pub sequence: u64,
    /// Over the statement.
    #[cbor(n(3), with = "signature")]
    pub signature: Signature,
}

impl Entry {
    /// The device's signed statement; none where it did not answer. It is checked with [`Sworn::verify`] by whoever is shown it.
    #[must_use]
    pub fn statement(&self, watch: &Watch) -> Option<Sworn<Statement>> {
        let Answer { unix_millis, sequence, signature, .. } = self.answer?;
        Some(watch.sworn(self.nonce, &Reply { unix_millis, sequence, signature }))
    }
}

/// Why a reply counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Nothing is asked.
    #[error("nothing was asked")]
    NotAsked,
    /// It came after the window.
    #[error("the reply came {late} ms too late")]
    Late {
        /// By how much.
        late: u64,
    },
    /// It is not the device's answer to this question by this watcher before this court.
    #[error("the reply does not answer this question")]
    Signature(#[from] SignatureError),
}

/// The last question has neither been answered nor run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a question is still open")]
pub struct StillAsked;

/// What a reply shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// For the transcript.
    pub entry: Entry,
    /// The device used a number twice.
    pub equivocation: Option<Equivocation<Statement>>,
}

/// A watcher's questions to one device, one at a time.
#[derive(Debug, Clone)]
pub struct Prober {
    watch: Watch,
    window: u64,
    asked: Option<(B256, u64)>,
    witness: Witness<Statement>,
}

impl Prober {
    /// Waits `window` milliseconds for each answer and remembers the last `room` statements.
    #[must_use]
    pub const fn new(watch: Watch, window: u64, room: NonZeroUsize) -> Self {
        Self { watch, window, asked: None, witness: Witness::new(watch.court, watch.key, room.get()) }
    }

    /// Asks with a fresh random nonce.
    ///
    /// # Errors
    /// [`StillAsked`].
    pub const fn ask(&mut self, now: u64, nonce: B256) -> Result<Ask, StillAsked> {
        if self.asked.is_some() {
            return Err(StillAsked);
        }
        self.asked = Some((nonce, now));
        Ok(Ask { nonce, watcher: self.watch.watcher })
    }

    /// When the open question runs out.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.asked.map(|(_, at)| at.saturating_add(self.window))
    }

    /// Takes a reply. After an error the question is still open: somebody else may have sent it.
    ///
    /// # Errors
    /// The [`ReplyError`] that says why it does not count.
    pub fn hear(&mut self, now: u64, reply: &Reply) -> Result<Heard, ReplyError> {
        let (nonce, asked_at) = self.asked.ok_or(ReplyError::NotAsked)?;
        let late = now.saturating_sub(asked_at.saturating_add(self.window));
        if late > 0 {
            return Err(ReplyError::Late { late });
        }
        let equivocation = self.witness.hear(self.watch.sworn(nonce, reply))?;
        self.asked = None;
        let Reply { unix_millis, sequence, signature } = *reply;
        let answer = Some(Answer { heard_at: now, unix_millis, sequence, signature });
        Ok(Heard { entry: Entry { asked_at, nonce, answer }, equivocation })
    }

    /// Gives the open question up if its time is over.
    pub fn expire(&mut self, now: u64) -> Option<Entry> {
        let (nonce, asked_at) = self.asked?;
        if now <= asked_at.saturating_add(self.window) {
            return None;
        }
        self.asked = None;
        Some(Entry { asked_at, nonce, answer: None })
    }
}
