//! The client's durable memory: one file, every commit on disk before it is acknowledged.
//!
//! Records are JSON under text keys that sort by age, so a new field with a default reads old files.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use redb::{Database, ReadableDatabase, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened, read or written.
    #[error("the store cannot be used: {0}")]
    Database(String),
    /// A record is not what was written.
    #[error("a record of the store is damaged: {0}")]
    Record(String),
}

impl StoreError {
    fn database(error: impl Into<redb::Error>) -> Self {
        Self::Database(error.into().to_string())
    }
}

/// A kind of record in the store.
pub(crate) type Table = TableDefinition<'static, &'static str, &'static [u8]>;

pub(crate) const TRANSACTIONS: Table = TableDefinition::new("transactions");
pub(crate) const TRANSACTION_KEYS: Table = TableDefinition::new("transaction-keys");
pub(crate) const ACTIONS: Table = TableDefinition::new("actions");
pub(crate) const ACTION_KEYS: Table = TableDefinition::new("action-keys");
pub(crate) const BLOCKS: Table = TableDefinition::new("blocks");
pub(crate) const FAUCET: Table = TableDefinition::new("faucet");

const TABLES: [Table; 6] = [TRANSACTIONS, TRANSACTION_KEYS, ACTIONS, ACTION_KEYS, BLOCKS, FAUCET];

/// The file. Clones share it; a second process cannot open it.
#[derive(Debug, Clone)]
pub struct Store {
    database: Arc<Database>,
    gate: Option<Arc<dyn Gate>>,
}

/// Stands before and behind every commit of a simulated process, and may never return: the process died there.
#[async_trait]
pub trait Gate: Send + Sync + std::fmt::Debug {
    /// Nothing of the commit is stored yet.
    async fn before(&self);

    /// All of it is stored, and nobody was told.
    async fn after(&self);
}

impl Store {
    /// Opens or creates the file at `path`.
    ///
    /// # Errors
    /// [`StoreError::Database`], also while another process has it open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::with(Database::create(path).map_err(StoreError::database)?)
    }

    /// A store that forgets everything with the process, for tools that keep nothing.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn in_memory() -> Result<Self, StoreError> {
        let memory = redb::backends::InMemoryBackend::new();
        Self::with(Database::builder().create_with_backend(memory).map_err(StoreError::database)?)
    }

    fn with(database: Database) -> Result<Self, StoreError> {
        let write = database.begin_write().map_err(StoreError::database)?;
        for table in TABLES {
            write.open_table(table).map_err(StoreError::database)?;
        }
        write.commit().map_err(StoreError::database)?;
        Ok(Self { database: Arc::new(database), gate: None })
    }

    /// The same store behind `gate`. It commits on the calling thread, because a simulator's paused clock would run ahead
    /// while another thread works.
    #[must_use]
    pub fn behind(&self, gate: Arc<dyn Gate>) -> Self {
        Self { database: Arc::clone(&self.database), gate: Some(gate) }
    }

    /// Writes all of `changes` or none, and returns once they are on disk.
    pub(crate) async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        if let Some(gate) = &self.gate {
            gate.before().await;
            write(&self.database, changes)?;
            gate.after().await;
            return Ok(());
        }
        let database = Arc::clone(&self.database);
        tokio::task::spawn_blocking(move || write(&database, changes))
            .await
            .map_err(|_| StoreError::Database("the writer was stopped".into()))?
    }

    /// The record under `key`.
    pub(crate) fn get<T: DeserializeOwned>(&self, table: Table, key: &str) -> Result<Option<T>, StoreError> {
        let read = self.database.begin_read().map_err(StoreError::database)?;
        let table = read.open_table(table).map_err(StoreError::database)?;
        let found = table.get(key).map_err(StoreError::database)?;
        found.map(|value| decode(value.value())).transpose()
    }

    /// Every record whose key starts with `prefix`, in order.
    pub(crate) fn scan<T: DeserializeOwned>(
        &self,
        table: Table,
        prefix: &str,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let read = self.database.begin_read().map_err(StoreError::database)?;
        let table = read.open_table(table).map_err(StoreError::database)?;
        let mut found = Vec::new();
        for entry in table.range(prefix..).map_err(StoreError::database)? {
            let (key, value) = entry.map_err(StoreError::database)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            found.push((key.value().to_owned(), decode(value.value())?));
        }
        Ok(found)
    }
}

/// Runs `work` to its end, also when its caller stops waiting: what is on disk has to be in the worker's hands too.
pub(crate) async fn whole<T, E>(work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    let ended = tokio::spawn(work).await;
    ended.unwrap_or_else(|_| Err(StoreError::Database("the writer was stopped".into()).into()))
}

fn write(database: &Database, changes: Vec<Change>) -> Result<(), StoreError> {
    let write = database.begin_write().map_err(StoreError::database)?;
    for Change { table, key, value } in changes {
        let mut table = write.open_table(table).map_err(StoreError::database)?;
        match value {
            Some(value) => table.insert(key.as_str(), value.as_slice()).map(drop),
            None => table.remove(key.as_str()).map(drop),
        }
        .map_err(StoreError::database)?;
    }
    write.commit().map_err(StoreError::database)
}

/// One write of a commit.
pub(crate) struct Change {
    table: Table,
    key: String,
    value: Option<Vec<u8>>,
}

impl Change {
    /// Writes `record` under `key`.
    pub(crate) fn put(table: Table, key: String, record: &impl Serialize) -> Result<Self, StoreError> {
        let value = serde_json::to_vec(record).map_err(|error| StoreError::Record(error.to_string()))?;
        Ok(Self { table, key, value: Some(value) })
    }

    /// Removes `key`.
    pub(crate) const fn remove(table: Table, key: String) -> Self {
        Self { table, key, value: None }
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Record(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_commit_survives_the_handle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client.redb");
        let store = Store::open(&path).unwrap();
        let put = |key: &str, n: u32| Change::put(ACTIONS, key.into(), &n).unwrap();
        store.commit(vec![put("a/1", 1), put("a/2", 2), put("b/1", 3)]).await.unwrap();
        store.commit(vec![Change::remove(ACTIONS, "a/1".into())]).await.unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.scan::<u32>(ACTIONS, "a/").unwrap(), [("a/2".to_owned(), 2)]);
        assert_eq!(store.get::<u32>(ACTIONS, "b/1").unwrap(), Some(3));
        assert!(matches!(store.get::<String>(ACTIONS, "b/1"), Err(StoreError::Record(_))));
    }
}
