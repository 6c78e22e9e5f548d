//! The state of a run in one file, `checkpoint.bin`: postcard, then BLAKE3 of it.
//!
//! It is replaced whole or not at all. A file whose hash is wrong costs the progress, never the job.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::training::Settings;

const FILE: &str = "checkpoint.bin";
const HASH: usize = 32;
/// Above what the widest network needs.
const MAX_BYTES: u64 = 8 << 20;

/// What a run needs to go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) settings: Settings,
    pub(crate) epoch: u32,
    pub(crate) parameters: Vec<f32>,
    pub(crate) velocity: Vec<f32>,
}

/// Why there is no checkpoint to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is damaged", path.display())]
    Damaged { path: PathBuf },
}

/// Why a checkpoint was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    #[error("cannot encode it")]
    Encode(#[from] postcard::Error),
    #[error("cannot store it")]
    Store(#[from] io::Error),
}

impl LoadError {
    /// Whether the file is there but worthless.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

impl Checkpoint {
    /// Replaces the checkpoint in `directory`.
    pub(crate) fn save(&self, directory: &Path) -> Result<(), SaveError> {
        let mut bytes = postcard::to_stdvec(self)?;
        let hash = *blake3::hash(&bytes).as_bytes();
        bytes.extend(hash);
        durable::write(&directory.join(FILE), &bytes)?;
        Ok(())
    }

    /// The checkpoint in `directory`, if there is one.
    pub(crate) fn load(directory: &Path) -> Result<Option<Self>, LoadError> {
        let path = directory.join(FILE);
        let length = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LoadError::Read { path, source }),
        };
        if length > MAX_BYTES {
            return Err(LoadError::Damaged { path });
        }
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(LoadError::Read { path, source }),
        };
        decode(&bytes).map(Some).ok_or(LoadError::Damaged { path })
    }
}

fn decode(bytes: &[u8]) -> Option<Checkpoint> {
    let (body, hash) = bytes.split_last_chunk::<HASH>()?;
    if blake3::hash(body).as_bytes() != hash {
        return None;
    }
    postcard::from_bytes(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            settings: Settings { seed: 1, hidden: 2, data: [3; 32] },
            epoch: 4,
            parameters: vec![0.5, -0.25],
            velocity: vec![0.0, 1.0],
        }
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Checkpoint::load(directory.path()).unwrap().is_none());
        checkpoint().save(directory.path()).unwrap();
        assert_eq!(Checkpoint::load(directory.path()).unwrap(), Some(checkpoint()));
    }

    #[test]
    fn one_flipped_bit_anywhere_is_damage() {
        let directory = tempfile::tempdir().unwrap();
        checkpoint().save(directory.path()).unwrap();
        let path = directory.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, bytes).unwrap();
            assert!(Checkpoint::load(directory.path()).unwrap_err().is_damage(), "byte {at}");
        }
        std::fs::write(&path, &whole[..20]).unwrap();
        assert!(Checkpoint::load(directory.path()).unwrap_err().is_damage());
    }
}
