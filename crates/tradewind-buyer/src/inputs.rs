//! A job's local inputs: found, hashed, and put where its provider may fetch them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tradewind_mesh::Transport;
use tradewind_mesh::blobs::{BlobError, Label};
use tradewind_proto::job::{InputSource, JobSpec};
use tradewind_proto::manifest::{Input, MAX_INPUTS, Source, check_path};
use tradewind_proto::saving::MAX_FILES;
use tradewind_proto::units::Bytes;

/// Inputs beside a checkpoint.
const BESIDE: usize = MAX_INPUTS - MAX_FILES;

/// Why an input cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It cannot be read.
    #[error("cannot read the input {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// The failure.
        source: std::io::Error,
    },
    /// A file's name cannot travel.
    #[error("the input {0} has a name that is not portable; rename it or add it to .gitignore")]
    Name(PathBuf),
    /// There are too many files.
    #[error("{0} holds more than {MAX_INPUTS} files; pack them into an archive")]
    TooMany(PathBuf),
    /// There would be too many with the checkpoint's.
    #[error(
        "the job has {0} inputs; a job with a checkpoint has at most {BESIDE} beside it, pack them into an archive"
    )]
    NoRoom(usize),
    /// A file that usually holds passwords.
    #[error("{0} looks like a file of secrets and is not sent; name the values under `secrets`")]
    Secrets(PathBuf),
    /// It cannot be stored.
    #[error("the input {path} cannot be stored")]
    Store {
        /// Which file.
        path: PathBuf,
        /// The failure.
        #[source]
        source: BlobError,
    },
}

/// Stores every local input and lists all inputs as a manifest has them.
///
/// # Errors
/// [`InputError`] naming the file.
pub(crate) async fn gather(
    spec: &JobSpec,
    base: &Path,
    transport: &dyn Transport,
    label: &Label,
) -> Result<Vec<Input>, InputError> {
    let mut inputs = Vec::new();
    for input in &spec.inputs {
        match &input.source {
            InputSource::Https { url, hashes } => inputs.push(Input {
                target: input.target.clone(),
                source: Source::Https { url: url.clone(), blake3: hashes.blake3, sha256: hashes.sha256 },
                executable: false,
            }),
            InputSource::Local(path) => {
                let path = base.join(path);
                for (file, target) in files(&path, &input.target)? {
                    inputs.push(store(&file, target, transport, label).await?);
                    if inputs.len() > MAX_INPUTS {
                        return Err(InputError::TooMany(path));
                    }
                }
            }
        }
    }
    Ok(inputs)
}

async fn store(
    file: &Path,
    target: String,
    transport: &dyn Transport,
    label: &Label,
) -> Result<Input, InputError> {
    let read = |source| InputError::Read { path: file.to_owned(), source };
    let absolute = tokio::fs::canonicalize(file).await.map_err(read)?;
    let mode = tokio::fs::metadata(&absolute).await.map_err(read)?.permissions().mode();
    let blob = transport
        .add_file(&absolute, label)
        .await
        .map_err(|source| InputError::Store { path: file.to_owned(), source })?;
    let source = Source::Blob { hash: *blob.hash.as_bytes(), size: Bytes::new(blob.size) };
    Ok(Input { target, source, executable: mode & 0o100 != 0 })
}

/// The files of one input with their targets: itself, or what its directory holds and `.gitignore` does not exclude.
fn files(path: &Path, target: &str) -> Result<Vec<(PathBuf, String)>, InputError> {
    let read = |source| InputError::Read { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(read)?.is_dir() {
        refuse_secrets(path)?;
        return Ok(vec![(path.to_owned(), target.to_owned())]);
    }
    let mut found = Vec::new();
    let walk = ignore::WalkBuilder::new(path)
        .hidden(false)
        .require_git(false)
        .follow_links(false)
        .sort_by_file_name(Ord::cmp)
        .build();
    for entry in walk {
        let entry = entry.map_err(|error| read(std::io::Error::other(error)))?;
        if !entry.file_type().is_some_and(|kind| kind.is_file()) || in_git(entry.path()) {
            continue;
        }
        refuse_secrets(entry.path())?;
        let name = || InputError::Name(entry.path().to_owned());
        let relative = entry.path().strip_prefix(path).map_err(|_| name())?.to_str().ok_or_else(name)?;
        let target = if target == "." { relative.to_owned() } else { format!("{target}/{relative}") };
        check_path(&target).map_err(|_| name())?;
        found.push((entry.path().to_owned(), target));
        if found.len() > MAX_INPUTS {
            return Err(InputError::TooMany(path.to_owned()));
        }
    }
    Ok(found)
}

fn in_git(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == ".git")
}

fn refuse_secrets(path: &Path) -> Result<(), InputError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let secret = name == ".env"
        || (name.starts_with(".env.") && name != ".env.example")
        || name == "id_rsa"
        || name == "id_ed25519";
    if secret { Err(InputError::Secrets(path.to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_brings_what_git_would() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("src")).unwrap();
        std::fs::create_dir_all(at(".git")).unwrap();
        for (name, text) in
            [("src/train.py", ""), ("data.bin", ""), (".gitignore", "*.bin\n"), (".git/HEAD", "")]
        {
            std::fs::write(at(name), text).unwrap();
        }
        let targets: Vec<String> =
            files(dir.path(), ".").unwrap().into_iter().map(|(_, target)| target).collect();
        assert_eq!(targets, [".gitignore", "src/train.py"]);
    }

    #[test]
    fn a_file_of_secrets_is_never_sent() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".env"), "KEY=1").unwrap();
        assert!(matches!(files(dir.path(), "."), Err(InputError::Secrets(_))));
        assert!(matches!(files(&dir.path().join(".env"), "x"), Err(InputError::Secrets(_))));
    }

    #[test]
    fn a_missing_input_is_named() {
        let error = files(Path::new("/nowhere/data"), "data").unwrap_err();
        assert!(error.to_string().starts_with("cannot read the input /nowhere/data"));
    }
}
