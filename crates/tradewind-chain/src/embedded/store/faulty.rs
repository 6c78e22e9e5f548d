//! A disk in memory that fills up on demand, lies about a sync, and forgets what was not synced.

use std::io;
use std::sync::{Arc, Mutex};

use rand::{Rng, RngExt as _};

use super::super::engine::lock;

#[derive(Debug, Default)]
struct Platter {
    bytes: Vec<u8>,
    /// What a loss of power would leave for certain.
    synced: Vec<u8>,
    /// Writes since then, any of which may have reached the platter.
    unsynced: Vec<(usize, Vec<u8>)>,
    full: bool,
    /// Whether the next sync reports failure.
    lying: bool,
}

/// A shared byte array with the faults of a disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    pub(crate) fn set_full(&self, full: bool) {
        lock(&self.0).full = full;
    }

    pub(crate) fn fail_next_sync(&self) {
        lock(&self.0).lying = true;
    }

    /// The disk as it could be found after a loss of power right now: what was synced, and some of the rest.
    pub(crate) fn after_power_loss(&self, random: &mut impl Rng) -> Self {
        let platter = lock(&self.0);
        let mut bytes = platter.synced.clone();
        for (start, data) in &platter.unsynced {
            if random.random_bool(0.5) {
                bytes.resize(bytes.len().max(start + data.len()), 0);
                bytes[*start..start + data.len()].copy_from_slice(data);
            }
        }
        bytes.resize(bytes.len().max(platter.bytes.len()), 0);
        Self(Arc::new(Mutex::new(Platter { synced: bytes.clone(), bytes, ..Platter::default() })))
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = lock(&self.0);
        let start = position(offset)?;
        out.copy_from_slice(platter.bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = lock(&self.0);
        if platter.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        platter.bytes.resize(position(len)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = lock(&self.0);
        if std::mem::take(&mut platter.lying) {
            return Err(io::Error::other("sync failed"));
        }
        platter.unsynced.clear();
        platter.synced = platter.bytes.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = lock(&self.0);
        if platter.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let start = position(offset)?;
        let place = platter.bytes.get_mut(start..start + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        place.copy_from_slice(data);
        platter.unsynced.push((start, data.to_vec()));
        Ok(())
    }
}
