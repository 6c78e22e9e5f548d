//! The book in its file: a crash leaves the old one or the new one.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::book::Book;

const NAME: &str = "images.json";
/// What makes it safe to begin anew.
pub(in crate::docker) const MEND: &str = "remove the images that leases brought (`docker image prune --all` removes all that no container uses), then that file";

/// The file. It is read for each change, as another agent may have been here.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    directory: PathBuf,
    /// One change at a time.
    turn: Arc<Mutex<()>>,
}

impl Ledger {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, turn: Arc::default() }
    }

    /// Changes the book durably, and hands on what `change` returns; writes nothing where nothing changed.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Book) -> T + Send + 'static,
    ) -> std::io::Result<T> {
        let ledger = self.clone();
        let changing = move || {
            let _turn = ledger.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let before = read(&ledger.directory)?;
            let mut book = before.clone();
            let outcome = change(&mut book);
            if book != before {
                write(&ledger.directory, &book)?;
            }
            Ok(outcome)
        };
        tokio::task::spawn_blocking(changing).await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
    }

    /// The book as it is.
    pub(super) async fn read(&self) -> std::io::Result<Book> {
        self.change(|book| book.clone()).await
    }
}

/// A file that cannot be understood is an error, of the kind [`ErrorKind::InvalidData`]: without it private images would be given to
/// everybody.
fn read(directory: &Path) -> std::io::Result<Book> {
    let bytes = match std::fs::read(directory.join(NAME)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Book::default()),
        read => read?,
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        let file = directory.join(NAME).display().to_string();
        let why = format!("{file}, which says whose the fetched images are, is damaged ({error})");
        std::io::Error::new(ErrorKind::InvalidData, why)
    })
}

fn write(directory: &Path, book: &Book) -> std::io::Result<()> {
    let (draft, path) = (directory.join(format!("{NAME}.new")), directory.join(NAME));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&draft)?;
    file.write_all(&serde_json::to_vec(book)?)?;
    file.sync_all()?;
    std::fs::rename(draft, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use tradewind_proto::units::Timestamp;

    use super::*;

    #[tokio::test]
    async fn a_change_is_found_again_and_a_damaged_file_is_no_empty_book() {
        let home = tempfile::tempdir().expect("a directory");
        let ledger = || Ledger::new(home.path().to_owned());
        assert!(ledger().read().await.expect("read").is_empty());
        assert!(!home.path().join(NAME).exists(), "nothing is written for nothing");
        let expected = ledger().change(|book| book.expect(7, "a:1", false, &[], Timestamp::default())).await;
        expected.expect("change").expect("room");
        assert_eq!(ledger().read().await.expect("read").coming.len(), 1);
        std::fs::write(home.path().join(NAME), "{").expect("damage");
        let error = ledger().read().await.expect_err("whose they are is not known");
        assert!(error.kind() == ErrorKind::InvalidData && error.to_string().contains(NAME), "{error}");
        std::fs::remove_file(home.path().join(NAME)).expect("removed");
        assert!(ledger().read().await.expect("read").is_empty());
    }
}
