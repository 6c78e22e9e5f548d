//! What is seen of the owner's own use, and what of it keeps the machine.

use std::fmt;

use crate::units::Seconds;

/// What is seen now. What cannot be seen is absent, and passes no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Senses {
    /// What of the processor is used by anything but leases, in percent of all threads.
    pub load: Option<u8>,
    /// The hottest part, in degrees Celsius.
    pub heat: Option<u8>,
    /// How long nobody used a terminal or the desktop.
    pub idle: Option<Seconds>,
}

/// From where on the owner keeps the machine; nothing where absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// The highest load beside leases, in percent of all threads.
    pub load: Option<u8>,
    /// The highest heat, in degrees Celsius.
    pub heat: Option<u8>,
    /// How long nobody has to have been there.
    pub idle: Option<Seconds>,
}

/// A limit that is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// Somebody is at the machine.
    Owner {
        /// How long ago it was used.
        idle: Seconds,
    },
    /// The owner's own work needs it.
    Load(u8),
    /// It is too hot.
    Heat(u8),
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner { idle } => write!(f, "somebody used the machine {idle} ago"),
            Self::Load(percent) => write!(f, "the owner's own work uses {percent} % of the processor"),
            Self::Heat(degrees) => write!(f, "the machine is at {degrees} °C"),
        }
    }
}

impl Limits {
    /// The first limit that is passed.
    #[must_use]
    pub fn passed_by(&self, senses: &Senses) -> Option<Passed> {
        let over = |seen: Option<u8>, limit: Option<u8>| {
            seen.filter(|seen| limit.is_some_and(|limit| *seen > limit))
        };
        let there = senses.idle.filter(|idle| self.idle.is_some_and(|limit| *idle < limit));
        there
            .map(|idle| Passed::Owner { idle })
            .or_else(|| over(senses.load, self.load).map(Passed::Load))
            .or_else(|| over(senses.heat, self.heat).map(Passed::Heat))
    }

    /// Whether anything has to be seen at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
