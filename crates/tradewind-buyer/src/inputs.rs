//! A job's inputs: local ones found, hashed, and put where its provider may fetch them; those of stores and
//! repositories settled: which files, which commit.

mod bucket;
mod git;
mod hub;
pub(crate) mod stored;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tradewind_mesh::Transport;
use tradewind_mesh::blobs::{BlobError, Label};
use tradewind_proto::job::{InputHashes, InputSource, JobSpec};
use tradewind_proto::manifest::{Input, MAX_INPUTS, Source, WebFile, check_path};
use tradewind_proto::saving::MAX_FILES;
use tradewind_proto::units::{Bytes, Seconds, Timestamp};
use tradewind_proto::workload::Secrets;

pub(crate) use self::bucket::{PutError, Stores};
use self::git::Repository;
use self::hub::Hub;
pub(crate) use self::stored::{Addresses, addresses};
use self::stored::{Origin, Stored};

/// Inputs beside a checkpoint.
const BESIDE: usize = MAX_INPUTS - MAX_FILES;
/// How much is shown of what a server says.
const MAX_SAID: usize = 200;

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
    Blob {
        /// Which file.
        path: PathBuf,
        /// The failure.
        #[source]
        source: BlobError,
    },
    /// A store does not give it.
    #[error("{what}: {reason}")]
    Store {
        /// What was asked for.
        what: String,
        /// Why it is not had, and what to do.
        reason: String,
    },
    /// A name in a store that no file of the job can have.
    #[error("the store's name `{0}` is not portable; name the other files one by one")]
    Portable(String),
    /// The key of a store is not here.
    #[error(
        "`{0}` has no value here any more: keys of stores are kept in memory only, and this node was started anew; \
         submit the job again"
    )]
    Key(String),
    /// More addresses than a provider can be told.
    #[error("the addresses of the job's inputs are too many or too long; pack the files into an archive")]
    TooLong,
    /// No client for the web could be made.
    #[error("the client that asks stores cannot be made")]
    Client,
}

/// What a job's inputs are from now on.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// Those that every attempt gets as they are.
    pub(crate) inputs: Vec<Input>,
    /// Those that every attempt gets new addresses of.
    pub(crate) stored: Vec<Stored>,
}

impl Gathered {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.inputs.len() + self.stored.len()
    }

    fn web(&mut self, target: &str, file: WebFile) {
        let (target, source) = (target.to_owned(), Source::Https(file));
        self.inputs.push(Input { target, source, executable: false });
    }
}

/// Where a gathering puts what it keeps.
#[derive(Clone, Copy)]
pub(crate) struct Keep<'a> {
    pub(crate) transport: &'a dyn Transport,
    pub(crate) label: &'a Label,
}

/// Stores every local input, settles what those of stores are, and lists all as a manifest has them.
///
/// # Errors
/// [`InputError`] naming the file.
pub(crate) async fn gather(
    spec: &JobSpec,
    base: &Path,
    secrets: &Secrets,
    keep: Keep<'_>,
    now: Timestamp,
) -> Result<Gathered, InputError> {
    let mut all = Gathered::default();
    let mut stores = Stores::new(spec.s3.as_ref(), secrets);
    for input in &spec.inputs {
        match &input.source {
            InputSource::Https { url, hashes } => {
                // A query may hold a signature or a token.
                let (url, public) = (url.clone(), !url.contains('?'));
                let (sha256, blake3) = (hashes.sha256, hashes.blake3);
                all.web(&input.target, WebFile { url, sha256, blake3, public, ..WebFile::default() });
            }
            InputSource::Local(path) => {
                let path = base.join(path);
                for (file, target) in files(&path, &input.target)? {
                    all.inputs.push(store(&file, target, keep).await?);
                    if all.len() > MAX_INPUTS {
                        return Err(InputError::TooMany(path));
                    }
                }
            }
            InputSource::S3 { bucket, key, hashes } => {
                let found = stores.list(bucket, key, &input.target, *hashes).await?;
                if stores.is_public() {
                    for item in found {
                        let Origin::Object { bucket, key, etag } = &item.origin else { continue };
                        all.inputs.push(item.input(stores.public(bucket, key, etag.as_deref())?));
                    }
                } else {
                    all.stored.extend(found);
                }
            }
            InputSource::Hub { repo, revision, path, hashes } => {
                let hub = Hub::new(spec.hf.as_ref(), secrets)?;
                from_hub(&mut all, &hub, (repo, revision), (path, &input.target), *hashes, keep).await?;
            }
            InputSource::Git { url, revision } => {
                let repository = Repository::new(url, spec.git.as_ref(), secrets)?;
                let source = Source::Git(repository.at(revision.as_deref()).await?);
                all.inputs.push(Input { target: input.target.clone(), source, executable: false });
            }
        }
        if all.len() > MAX_INPUTS {
            return Err(InputError::TooMany(input.target.clone().into()));
        }
    }
    let objects: Vec<Stored> =
        all.stored.iter().filter(|item| matches!(item.origin, Origin::Object { .. })).cloned().collect();
    // Signed once now, for their length: what does not fit is better known before a lease is paid for.
    let signed = addresses(spec, &objects, secrets, now, Seconds::ZERO).await?;
    stored::fit(all.inputs.iter().chain(&signed))?;
    Ok(all)
}

/// Settles which commit a revision is, and what is there. Small files of private repositories are fetched at once.
async fn from_hub(
    all: &mut Gathered,
    hub: &Hub<'_>,
    (repo, revision): (&str, &str),
    (path, target): (&str, &str),
    hashes: InputHashes,
    keep: Keep<'_>,
) -> Result<(), InputError> {
    let client = hub::without_redirects()?;
    let hub::Repo { commit, is_public } = hub.repo(&client, repo, revision).await?;
    for entry in hub.list(&client, (repo, &commit), path, target, hashes).await? {
        let hashes = InputHashes { sha256: entry.sha256, blake3: hashes.blake3 };
        let origin = || Origin::Hub { repo: repo.into(), commit: commit.clone(), path: entry.path.clone() };
        let stored = || Stored { target: entry.target.clone(), size: entry.size, hashes, origin: origin() };
        if is_public {
            all.inputs.push(stored().input(hub.public(repo, &commit, &entry.path)?));
        } else if entry.sha256.is_some() {
            all.stored.push(stored());
        } else {
            let content = hub.fetch(&client, repo, &commit, &entry.path).await?;
            let size = Bytes::new(content.len() as u64);
            let blob = keep.transport.add_bytes(content, keep.label).await;
            let blob = blob.map_err(|source| InputError::Blob { path: entry.path.into(), source })?;
            let source = Source::Blob { hash: *blob.hash.as_bytes(), size };
            all.inputs.push(Input { target: entry.target, source, executable: false });
        }
    }
    Ok(())
}

/// A store's key, which the job file names.
fn secret<'a>(secrets: &'a Secrets, name: &str) -> Result<&'a str, InputError> {
    secrets.0.get(name).map(String::as_str).ok_or_else(|| InputError::Key(name.into()))
}

/// Why `whose` server did not answer, and what to look at. The innermost cause says what those around it repeat; what a server
/// put into it, such as a certificate's names, is shown as [`said`] shows it.
fn silent(whose: &str, error: reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("{whose} does not answer in time; try again, or check its address");
    }
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let cause = said(&cause.to_string());
    format!("{whose} cannot be reached: {cause}; check its address, and that the buyer's node gets out to it")
}

/// What a server says, as it may be shown.
fn said(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
}

/// Where a file of a directory goes; `None` for the directory itself.
fn beneath(target: &str, rest: &str) -> Result<Option<String>, InputError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let path = if target == "." { rest.to_owned() } else { format!("{target}/{rest}") };
    check_path(&path).map_err(|_| InputError::Portable(rest.into()))?;
    Ok(Some(path))
}

async fn store(file: &Path, target: String, keep: Keep<'_>) -> Result<Input, InputError> {
    let read = |source| InputError::Read { path: file.to_owned(), source };
    let absolute = tokio::fs::canonicalize(file).await.map_err(read)?;
    let mode = tokio::fs::metadata(&absolute).await.map_err(read)?.permissions().mode();
    let blob = keep
        .transport
        .add_file(&absolute, keep.label)
        .await
        .map_err(|source| InputError::Blob { path: file.to_owned(), source })?;
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
