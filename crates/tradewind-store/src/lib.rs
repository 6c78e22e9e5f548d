//! Records that survive `kill -9`: one SQLite file, one writer, group commit.
//!
//! ```text
//! caller ── commit(Batch) ──► bounded queue ──► writer: BEGIN, all waiting batches, COMMIT (fsync) ──► every caller is answered
//! ```
//!
//! A record has a kind, a key and a JSON value. A [`Batch`] is applied whole or not at all, and an `Ok` means that it is on the
//! disk. Readers never wait for the writer. When the disk is full the batch fails, nothing of it is stored, and the file stays good.
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

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Row, SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot};

/// Batches waiting for the writer; more make the callers wait.
const QUEUE: usize = 1_024;
/// Batches in one transaction.
const GROUP: usize = 256;
/// Readers at the same time.
const READERS: u32 = 4;

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

#[derive(Debug)]
struct Change {
    kind: &'static str,
    key: String,
    value: Option<String>,
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

type Reply = oneshot::Sender<Result<(), String>>;

/// A handle to the file; clones share the writer.
#[derive(Debug, Clone)]
pub struct Store {
    readers: SqlitePool,
    writer: mpsc::Sender<(Batch, Reply)>,
}

impl Store {
    /// Opens the file, creating it where it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let open_error = |source| StoreError::Open { path: path.to_owned(), source };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(open_error)?;
        sqlx::query(
            "CREATE TABLE IF NOT EXISTS record (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, \
             PRIMARY KEY (kind, key)) WITHOUT ROWID",
        )
        .execute(&mut connection)
        .await
        .map_err(open_error)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await
            .map_err(open_error)?;
        let (writer, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write(connection, queue));
        Ok(Self { readers, writer })
    }

    /// Stores a batch. It is on the disk when this returns `Ok`.
    ///
    /// # Errors
    /// [`StoreError::Write`]: nothing of the batch was stored. [`StoreError::Closed`].
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.writer.send((batch, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?.map_err(StoreError::Write)
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
        let row = sqlx::query("SELECT value FROM record WHERE kind = ? AND key = ?")
            .bind(kind)
            .bind(key)
            .fetch_optional(&self.readers)
            .await
            .map_err(StoreError::Read)?;
        row.map(|row| decode(kind, key, &row.get::<String, _>(0))).transpose()
    }

    /// Reads every record of a kind, in the order of their keys.
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn all<T: DeserializeOwned>(&self, kind: &'static str) -> Result<Vec<(String, T)>, StoreError> {
        let rows = sqlx::query("SELECT key, value FROM record WHERE kind = ? ORDER BY key")
            .bind(kind)
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::Read)?;
        rows.iter()
            .map(|row| {
                let key: String = row.get(0);
                let value = decode(kind, &key, &row.get::<String, _>(1))?;
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

async fn write(mut connection: SqliteConnection, mut queue: mpsc::Receiver<(Batch, Reply)>) {
    let mut waiting = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut waiting, GROUP).await > 0 {
        let result = apply(&mut connection, &waiting).await.map_err(|error| error.to_string());
        if let Err(error) = &result {
            tracing::error!(%error, batches = waiting.len(), "the store refused a commit");
        }
        for (_, reply) in waiting.drain(..) {
            // A caller that no longer waits loses only the answer.
            let _ = reply.send(result.clone());
        }
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "the store did not close cleanly; its log is replayed at the next start");
    }
}

async fn apply(connection: &mut SqliteConnection, batches: &[(Batch, Reply)]) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    for change in batches.iter().flat_map(|(batch, _)| &batch.changes) {
        let query = match &change.value {
            Some(value) => sqlx::query("INSERT OR REPLACE INTO record (kind, key, value) VALUES (?, ?, ?)")
                .bind(change.kind)
                .bind(&change.key)
                .bind(value),
            None => sqlx::query("DELETE FROM record WHERE kind = ? AND key = ?")
                .bind(change.kind)
                .bind(&change.key),
        };
        query.execute(&mut *transaction).await?;
    }
    transaction.commit().await
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
