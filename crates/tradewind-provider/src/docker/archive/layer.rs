//! One layer: unpacked in a stream, counted, hashed, and never written anywhere.

use std::io::{BufRead, BufReader, Read};

use sha2::{Digest as _, Sha256};

use super::{ImageLimits, ImportError, malformed};

/// Names and attributes of one file.
const LONGEST_HEADER: u64 = 1 << 20;

/// What all layers of an image together may still use.
pub(super) struct Budget {
    limits: ImageLimits,
    bytes: u64,
    files: u64,
}

impl Budget {
    pub(super) fn new(limits: ImageLimits) -> Self {
        Self { limits, bytes: limits.unpacked.get(), files: limits.files }
    }

    fn file(&mut self) -> Result<(), ImportError> {
        self.files = self
            .files
            .checked_sub(1)
            .ok_or(ImportError::TooLarge { what: "files in its layers", limit: self.limits.files })?;
        Ok(())
    }
}

/// Reads the layer to its end and returns its digest, `sha256:…` of the unpacked tar.
pub(super) fn check(layer: impl Read, budget: &mut Budget) -> Result<String, ImportError> {
    let mut layer = BufReader::new(layer);
    let magic = layer.fill_buf()?;
    if magic.starts_with(&[0x1f, 0x8b]) {
        scan(flate2::bufread::MultiGzDecoder::new(layer), budget)
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Err(ImportError::Foreign(
            "a layer is packed with zstd, which older engines cannot read; use gzip".into(),
        ))
    } else {
        scan(layer, budget)
    }
}

fn scan(layer: impl Read, budget: &mut Budget) -> Result<String, ImportError> {
    let mut counted = Counted { inner: layer, left: budget.bytes, exhausted: false, hash: Sha256::new() };
    let outcome = entries(&mut counted, budget).and_then(|()| {
        std::io::copy(&mut counted, &mut std::io::sink())?;
        Ok(())
    });
    if counted.exhausted {
        return Err(ImportError::TooLarge {
            what: "bytes in its layers",
            limit: budget.limits.unpacked.get(),
        });
    }
    outcome?;
    budget.bytes = counted.left;
    Ok(format!("sha256:{}", hex::encode(counted.hash.finalize())))
}

fn entries(layer: &mut impl Read, budget: &mut Budget) -> Result<(), ImportError> {
    let mut tar = tar::Archive::new(layer);
    let unreadable = |error: std::io::Error| malformed(format!("a layer is no tar: {error}"));
    for entry in tar.entries().map_err(unreadable)?.raw(true) {
        let mut entry = entry.map_err(unreadable)?;
        budget.file()?;
        let kind = entry.header().entry_type();
        if kind.is_gnu_sparse() {
            return Err(malformed("a layer holds a sparse file"));
        }
        if kind.is_gnu_longname() || kind.is_gnu_longlink() {
            bounded(entry.size())?;
        }
        if kind.is_pax_local_extensions() || kind.is_pax_global_extensions() {
            let mut text = String::new();
            bounded(entry.size())?;
            entry.read_to_string(&mut text).map_err(unreadable)?;
            // Records that change how much follows: the engine's reader would see other files than this one.
            if text.contains("GNU.sparse") || text.contains(" size=") {
                return Err(malformed("a layer holds a sparse file, or one above 8 GiB"));
            }
        }
    }
    Ok(())
}

fn bounded(header: u64) -> Result<(), ImportError> {
    if header > LONGEST_HEADER {
        return Err(malformed("a layer's file has a name or attributes of more than 1 MiB"));
    }
    Ok(())
}

/// A reader that hashes what it gives and ends in an error at its bound.
struct Counted<R> {
    inner: R,
    left: u64,
    exhausted: bool,
    hash: Sha256,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let Some(left) = self.left.checked_sub(u64::try_from(count).unwrap_or(u64::MAX)) else {
            self.exhausted = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        };
        self.left = left;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
