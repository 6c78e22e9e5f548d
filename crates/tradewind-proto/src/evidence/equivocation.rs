//! Two signed bodies for one slot: proof of a lie that needs no vote.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

use super::{Body, Court, Sworn};
use crate::signature::SignatureError;

/// Why two sworn bodies prove nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EquivocationError {
    /// They say the same.
    #[error("both bodies say the same")]
    Same,
    /// They are about different things.
    #[error("the bodies fill different slots")]
    Apart,
    /// One of them is not the accused's.
    #[error("a body is not the accused's")]
    Signature(#[from] SignatureError),
}

/// A contradiction that anyone can check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equivocation<T> {
    first: Sworn<T>,
    second: Sworn<T>,
}

impl<T: Body> Equivocation<T> {
    /// Checks that `accused` said both to `court`, and that they contradict each other.
    ///
    /// # Errors
    /// The [`EquivocationError`] that says what is missing.
    pub fn prove(
        first: Sworn<T>,
        second: Sworn<T>,
        court: &Court,
        accused: Address,
    ) -> Result<Self, EquivocationError> {
        if first.body.slot() != second.body.slot() {
            return Err(EquivocationError::Apart);
        }
        if first.body == second.body {
            return Err(EquivocationError::Same);
        }
        first.verify(court, accused)?;
        second.verify(court, accused)?;
        Ok(Self { first, second })
    }

    /// Both bodies.
    #[must_use]
    pub const fn bodies(&self) -> [&Sworn<T>; 2] {
        [&self.first, &self.second]
    }
}

/// Remembers what one key swore, as far as it has room, and finds what contradicts it.
#[derive(Debug, Clone)]
pub struct Witness<T: Body> {
    court: Court,
    key: Address,
    room: usize,
    heard: BTreeMap<T::Slot, Sworn<T>>,
}

impl<T: Body> Witness<T> {
    /// Remembers up to `room` bodies of `key`; beyond that the lowest slots are forgotten.
    #[must_use]
    pub const fn new(court: Court, key: Address, room: usize) -> Self {
        Self { court, key, room, heard: BTreeMap::new() }
    }

    /// Takes a body in.
    ///
    /// # Errors
    /// [`SignatureError`] when the key did not swear it to this court.
    pub fn hear(&mut self, sworn: Sworn<T>) -> Result<Option<Equivocation<T>>, SignatureError> {
        sworn.verify(&self.court, self.key)?;
        let slot = sworn.body.slot();
        if let Some(first) = self.heard.get(&slot) {
            let contradicts = first.body != sworn.body;
            return Ok(contradicts.then(|| Equivocation { first: first.clone(), second: sworn }));
        }
        self.heard.insert(slot, sworn);
        if self.heard.len() > self.room {
            self.heard.pop_first();
        }
        Ok(None)
    }

    /// How many bodies it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heard.len()
    }

    /// Whether it has heard nothing yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heard.is_empty()
    }
}
