//! Why a call is refused, as the contracts' errors say it.

use std::fmt::Display;

/// A custom error by name, with its values where the model knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) name: String,
    pub(crate) values: Option<Vec<String>>,
}

impl Refusal {
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), values: None }
    }

    /// The error that the contract gave is this one.
    pub(crate) fn agrees_with(&self, given: &Self) -> bool {
        self.name == given.name && (self.values.is_none() || self.values == given.values)
    }
}

pub(crate) fn refuse<T>(name: &str, values: &[&dyn Display]) -> Result<T, Refusal> {
    let values = values.iter().map(ToString::to_string).collect();
    Err(Refusal { name: name.to_owned(), values: Some(values) })
}

/// Passes where `holds`, else refuses.
pub(crate) fn require(holds: bool, name: &str, values: &[&dyn Display]) -> Result<(), Refusal> {
    if holds { Ok(()) } else { refuse(name, values) }
}
