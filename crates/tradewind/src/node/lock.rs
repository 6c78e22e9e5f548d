//! One node a data directory. The lock dies with its holder, however it dies, so nothing stale is ever in the way.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

/// A look at the lock holds it for an instant, so taking it is tried for a while.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// The right to use a data directory.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `data_dir`, and writes this process into it.
    pub(crate) fn take(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join("node.lock");
        let shown = path.display();
        let options = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.with_context(|| format!("cannot open {shown}"))?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => {
                    file.set_len(0).with_context(|| format!("cannot write {shown}"))?;
                    writeln!(file, "{}", std::process::id())
                        .with_context(|| format!("cannot write {shown}"))?;
                    return Ok(Self { _file: file });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {shown}"));
                }
            }
        }
        let whom = pid(&mut file).map_or_else(String::new, |pid| format!(" (process {pid})"));
        bail!("a node already runs on {}{whom}", data_dir.display())
    }

    /// The process that holds the lock of `data_dir`, if one does.
    pub(crate) fn holder(data_dir: &Path) -> anyhow::Result<Option<u32>> {
        let path = data_dir.join("node.lock");
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.with_context(|| format!("cannot open {}", path.display()))?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(pid(&mut file)),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot look at {}", path.display()))
            }
        }
    }
}

fn pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_node_on_a_directory_is_refused_and_told_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Lock::holder(dir.path()).unwrap(), None);
        let first = Lock::take(dir.path()).unwrap();
        assert_eq!(Lock::holder(dir.path()).unwrap(), Some(std::process::id()));
        let error = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        assert_eq!(Lock::holder(dir.path()).unwrap(), None, "what a dead node wrote is not believed");
        Lock::take(dir.path()).unwrap();
    }
}
