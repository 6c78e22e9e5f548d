//! Records that survive `kill -9`: one SQLite file, one writer, group commit.
//!
//! ```text
//! caller ── commit(Batch) ──► bounded queue ──► writer: BEGIN, all waiting batches, COMMIT (fsync) ──► every caller is answered
//! ```
//!
//! A record has a kind, a key and a JSON value. A [`Batch`] is applied whole or not at all, and an `Ok` means that it is on the
//! disk. Readers never wait for the writer. When the disk is full the batch fails, nothing of it is stored, and the file stays good.
//! What holds the records is a [`Medium`]: the file, or the simulator's disk, which crashes before and after each commit.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tradewind_store::StoreError> {
//! # let dir = tempfile::tempdir().unwrap();
//! use tradewind_store::{Batch, Store};
//!
//! let store = Store::open(&dir.path().join("node.db")).await?;
//! store.commit(Batch::new().put("lease", "0x01", &7u32)?).await?;
//! assert_eq!(store.get::<u32>("lease", "0x01").await?, Some(7));
//! # Ok(()) }
//! ```

mod file;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("cannot open the store {path}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// The failure.
        #[source]
        source: sqlx::Error,
    },
    /// A read failed.
    #[error("cannot read the store")]
    Read(#[source] sqlx::Error),
    /// The batch was not stored: the disk is full or the file is damaged.
    #[error("cannot write the store: {0}")]
    Write(String),
    /// A record is not what this version of the program writes.
    #[error("the record {kind} {key} cannot be read or written")]
    Record {
        /// The record's kind.
        kind: String,
        /// Its key.
        key: String,
        /// The failure.
        #[source]
        source: serde_json::Error,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Changes that are stored together.
#[derive(Debug, Default)]
pub struct Batch {
    changes: Vec<Change>,
}

/// One record that is written, or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The record's kind.
    pub kind: &'static str,
    /// Its key.
    pub key: String,
    /// Its JSON; `None` deletes it.
    pub value: Option<String>,
}

impl Batch {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes or replaces a record.
    ///
    /// # Errors
    /// [`StoreError::Record`] when the value has no JSON form.
    pub fn put<T: Serialize>(
        mut self,
        kind: &'static str,
        key: impl Into<String>,
        value: &T,
    ) -> Result<Self, StoreError> {
        let key = key.into();
        let json = serde_json::to_string(value).map_err(|source| StoreError::Record {
            kind: kind.into(),
            key: key.clone(),
            source,
        })?;
        self.changes.push(Change { kind, key, value: Some(json) });
        Ok(self)
    }

    /// Deletes a record; deleting what is not there is no error.
    #[must_use]
    pub fn remove(mut self, kind: &'static str, key: impl Into<String>) -> Self {
        self.changes.push(Change { kind, key: key.into(), value: None });
        self
    }
}

/// What holds the records.
#[async_trait]
pub trait Medium: std::fmt::Debug + Send + Sync + 'static {
    /// Stores all of `changes` or none, and returns once they are safe.
    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError>;

    /// One record's JSON.
    async fn get(&self, kind: &'static str, key: &str) -> Result<Option<String>, StoreError>;

    /// Every record of a kind, in the order of their keys.
    async fn all(&self, kind: &'static str) -> Result<Vec<(String, String)>, StoreError>;
}

/// A handle to the records; clones share what holds them.
#[derive(Debug, Clone)]
pub struct Store {
    medium: Arc<dyn Medium>,
}

impl Store {
    /// Opens the file, creating it where it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::on(Arc::new(file::File::open(path).await?)))
    }

    /// A store on another medium than a file.
    #[must_use]
    pub fn on(medium: Arc<dyn Medium>) -> Self {
        Self { medium }
    }

    /// Stores a batch. It is on the disk when this returns `Ok`.
    ///
    /// # Errors
    /// [`StoreError::Write`]: nothing of the batch was stored. [`StoreError::Closed`].
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.medium.commit(batch.changes).await
    }

    /// Writes one record.
    ///
    /// # Errors
    /// As [`Self::commit`], and [`StoreError::Record`].
    pub async fn put<T: Serialize>(
        &self,
        kind: &'static str,
        key: impl Into<String>,
        value: &T,
    ) -> Result<(), StoreError> {
        self.commit(Batch::new().put(kind, key, value)?).await
    }

    /// Deletes one record.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn remove(&self, kind: &'static str, key: impl Into<String>) -> Result<(), StoreError> {
        self.commit(Batch::new().remove(kind, key)).await
    }

    /// Reads one record.
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        kind: &'static str,
        key: &str,
    ) -> Result<Option<T>, StoreError> {
        self.medium.get(kind, key).await?.map(|json| decode(kind, key, &json)).transpose()
    }

    /// Reads every record of a kind, in the order of their keys.
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn all<T: DeserializeOwned>(&self, kind: &'static str) -> Result<Vec<(String, T)>, StoreError> {
        let records = self.medium.all(kind).await?;
        records
            .into_iter()
            .map(|(key, json)| {
                let value = decode(kind, &key, &json)?;
                Ok((key, value))
            })
            .collect()
    }
}

fn decode<T: DeserializeOwned>(kind: &str, key: &str, json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|source| StoreError::Record {
        kind: kind.into(),
        key: key.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_committed_is_there_after_the_next_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.db");
        let store = Store::open(&path).await.unwrap();
        let batch = Batch::new().put("lease", "a", &1u32).unwrap().put("lease", "b", &2u32).unwrap();
        store.commit(batch).await.unwrap();
        store.remove("lease", "a").await.unwrap();
        drop(store);
        let store = Store::open(&path).await.unwrap();
        assert_eq!(store.all::<u32>("lease").await.unwrap(), [("b".to_owned(), 2)]);
        assert_eq!(store.get::<u32>("lease", "a").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_record_of_another_shape_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("node.db")).await.unwrap();
        store.put("lease", "a", &"text").await.unwrap();
        let error = store.get::<u32>("lease", "a").await.unwrap_err();
        assert_eq!(error.to_string(), "the record lease a cannot be read or written");
    }

    #[tokio::test]
    async fn many_writers_are_all_answered() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("node.db")).await.unwrap();
        let writes = (0..500u32).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.put("n", format!("{n:03}"), &n).await })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.unwrap().unwrap();
        }
        assert_eq!(store.all::<u32>("n").await.unwrap().len(), 500);
    }
}
