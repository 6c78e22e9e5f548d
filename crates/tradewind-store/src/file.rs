//! Records in one SQLite file, with one writer that commits whatever waits as one group.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Row, SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot};

use crate::{Change, Medium, StoreError};

/// Batches waiting for the writer; more make the callers wait.
const QUEUE: usize = 1_024;
/// Batches in one transaction.
const GROUP: usize = 256;
/// Readers at the same time.
const READERS: u32 = 4;

type Reply = oneshot::Sender<Result<(), String>>;
type Waiting = (Vec<Change>, Reply);

/// The file, as its readers and its writer's queue.
#[derive(Debug)]
pub(crate) struct File {
    readers: SqlitePool,
    writer: mpsc::Sender<Waiting>,
}

impl File {
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
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
}

#[async_trait]
impl Medium for File {
    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.writer.send((changes, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?.map_err(StoreError::Write)
    }

    async fn get(&self, kind: &'static str, key: &str) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT value FROM record WHERE kind = ? AND key = ?")
            .bind(kind)
            .bind(key)
            .fetch_optional(&self.readers)
            .await
            .map_err(StoreError::Read)?;
        Ok(row.map(|row| row.get(0)))
    }

    async fn all(&self, kind: &'static str) -> Result<Vec<(String, String)>, StoreError> {
        let rows = sqlx::query("SELECT key, value FROM record WHERE kind = ? ORDER BY key")
            .bind(kind)
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::Read)?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

async fn write(mut connection: SqliteConnection, mut queue: mpsc::Receiver<Waiting>) {
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

async fn apply(connection: &mut SqliteConnection, batches: &[Waiting]) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    for change in batches.iter().flat_map(|(changes, _)| changes) {
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
