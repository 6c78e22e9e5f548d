//! The hashes of what passes through.

use sha2::{Digest, Sha256};
use tradewind_proto::manifest::WebFile;

/// Both hashes that a job may name.
#[derive(Default)]
pub(super) struct Sums {
    blake3: blake3::Hasher,
    sha256: Sha256,
}

impl Sums {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.blake3.update(bytes);
        self.sha256.update(bytes);
    }

    /// Names the hash that is another than the job's.
    pub(super) fn check(self, file: &WebFile) -> Result<(), &'static str> {
        if file.blake3.is_some_and(|expected| expected != *self.blake3.finalize().as_bytes()) {
            return Err("BLAKE3");
        }
        if file.sha256.is_some_and(|expected| expected[..] != self.sha256.finalize()[..]) {
            return Err("SHA-256");
        }
        Ok(())
    }
}
