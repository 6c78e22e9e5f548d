//! An engine whose kind is decided when the device starts: the CPU, an accelerator, or a hostile one in a demonstration.

use std::fmt;

use alloy_primitives::B256;
use tradewind_proto::challenge::{RowOpening, Size};

use crate::prover::Engine;

/// What went wrong on a device, whatever it is.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AnyError(Box<dyn std::error::Error + Send + Sync>);

impl AnyError {
    pub(crate) fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}

/// An engine of any kind.
pub struct AnyEngine(Box<dyn Engine<Error = AnyError> + Send>);

impl AnyEngine {
    /// This one.
    #[must_use]
    pub fn new(engine: impl Engine + Send + 'static) -> Self {
        Self(Box::new(Erased(engine)))
    }
}

impl Engine for AnyEngine {
    type Error = AnyError;

    fn size(&self) -> Size {
        self.0.size()
    }

    fn multiply(&mut self, round: usize, seed: B256) -> Result<B256, AnyError> {
        self.0.multiply(round, seed)
    }

    fn open(&mut self, round: usize, row: u32) -> Result<RowOpening, AnyError> {
        self.0.open(round, row)
    }
}

impl fmt::Debug for AnyEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyEngine").field("size", &self.size()).finish_non_exhaustive()
    }
}

struct Erased<E>(E);

impl<E: Engine> Engine for Erased<E> {
    type Error = AnyError;

    fn size(&self) -> Size {
        self.0.size()
    }

    fn multiply(&mut self, round: usize, seed: B256) -> Result<B256, AnyError> {
        self.0.multiply(round, seed).map_err(AnyError::new)
    }

    fn open(&mut self, round: usize, row: u32) -> Result<RowOpening, AnyError> {
        self.0.open(round, row).map_err(AnyError::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CpuEngine, Threads};

    #[test]
    fn an_engine_of_any_kind_answers_as_its_own_kind_does() {
        let size = Size::new(256).unwrap();
        let mut own = CpuEngine::new(size, Threads::available(), 1 << 18);
        let mut any = AnyEngine::new(CpuEngine::new(size, Threads::available(), 1 << 18));
        let seed = B256::repeat_byte(3);
        assert_eq!(any.size(), size);
        assert_eq!(any.multiply(0, seed).unwrap(), own.multiply(0, seed).unwrap());
        assert_eq!(any.open(0, 255).unwrap(), own.open(0, 255).unwrap());
        let [expected, got] =
            [own.open(1, 0).unwrap_err().to_string(), any.open(1, 0).unwrap_err().to_string()];
        assert_eq!(got, expected);
    }
}
