//! The job as its provider sees it: what to run, what to put beside it, and what to bring back.
//!
//! The manifest's digest stands in the lease's terms, so neither side can later claim another job. It carries a random salt:
//! two runs of one job are two jobs, and nobody can guess a job from its digest on chain. Prices and limits of the buyer's
//! purse are not in it, and neither are the values of secrets.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

use crate::ids::{JobId, LeaseId};
use crate::job::is_https;
use crate::units::{Bytes, Seconds, Timestamp};
use crate::workload::{Command, Image, Limits, Network, RegistryLogin, Stop, WorkloadSpec};

/// The most inputs of a job.
pub const MAX_INPUTS: usize = 4_096;
/// The largest encoded manifest, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 512 << 10;
/// The longest path of an input or output, in bytes.
pub const MAX_PATH_BYTES: usize = 512;

/// Why a manifest was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Too many of something, or too large.
    #[error("the job has too many {what}: at most {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A path that leaves the work directory, or cannot be one.
    #[error("the path `{0}` must be relative, without `..`, and at most {MAX_PATH_BYTES} bytes long")]
    Path(String),
    /// Two inputs have one target.
    #[error("two inputs go to `{0}`")]
    SameTarget(String),
    /// A name that no environment can hold.
    #[error("`{0}` is no name for an environment variable")]
    Name(String),
    /// Nothing to run.
    #[error("the job runs nothing")]
    Empty,
    /// A source that the provider may not pull from.
    #[error("`{0}` is no https URL")]
    Url(String),
    /// No commit of a repository that the provider may pull from.
    #[error("`{0}` is no repository's https address with a commit's whole id")]
    Git(String),
    /// A login without a registry, a password or a user.
    #[error("the login of a registry needs an image's reference, one of the job's secrets and a user's name")]
    Registry,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// From the buyer's node over the mesh, by its BLAKE3 hash.
    Blob {
        /// The content's hash.
        hash: [u8; 32],
        /// Its size.
        size: Bytes,
    },
    /// From the web, pulled by the provider itself.
    Https(WebFile),
    /// The files of a git repository, pulled by the provider itself.
    Git(GitCommit),
}

/// What a git repository holds at one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitCommit {
    /// The repository's address.
    pub url: String,
    /// The commit's id: its hash, in hex.
    pub commit: String,
    /// Only whoever has the job's token may read it.
    #[serde(default)]
    pub private: bool,
}

impl GitCommit {
    /// Checks what a hostile peer sent: an https address without a user, and a whole id.
    ///
    /// # Errors
    /// [`ManifestError::Git`].
    pub fn check(&self) -> Result<(), ManifestError> {
        let is_address = is_https(&self.url) && without_query(&self.url) == self.url;
        if is_address && is_commit(&self.commit) {
            return Ok(());
        }
        // What stands before an `@` may be a password.
        let shown = without_query(&self.url).rsplit('@').next().unwrap_or_default();
        Err(ManifestError::Git(shown.chars().filter(|c| !c.is_control()).take(MAX_PATH_BYTES).collect()))
    }
}

/// Whether a text is a commit's whole id: a SHA-1 or SHA-256 hash in lower case.
#[must_use]
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A file on the web. `Debug` shows its address without the query: a signed one is as good as a password.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WebFile {
    /// The address.
    pub url: String,
    /// The content's BLAKE3 hash, where the buyer knows it.
    pub blake3: Option<[u8; 32]>,
    /// The content's SHA-256 hash, where the buyer knows it.
    pub sha256: Option<[u8; 32]>,
    /// Its size, where the buyer knows it.
    #[serde(default)]
    pub size: Option<Bytes>,
    /// The entity tag that it must still have, where its store gives one.
    #[serde(default)]
    pub etag: Option<String>,
    /// Until when a signed address is good.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Anybody may have it, says the buyer: it may be kept for others who name its hash.
    #[serde(default)]
    pub public: bool,
}

impl WebFile {
    /// The address as it may be shown.
    #[must_use]
    pub fn shown(&self) -> &str {
        without_query(&self.url)
    }
}

impl std::fmt::Debug for WebFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hash = |hash: &Option<[u8; 32]>| hash.map(B256::new);
        f.debug_struct("WebFile")
            .field("url", &self.shown())
            .field("blake3", &hash(&self.blake3))
            .field("sha256", &hash(&self.sha256))
            .field("size", &self.size)
            .field("etag", &self.etag)
            .field("until", &self.until)
            .field("public", &self.public)
            .finish()
    }
}

/// An address without its query, which may hold a signature.
#[must_use]
pub fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// A file that lies in the work directory before the job starts, or the directory of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Its path in the work directory.
    pub target: String,
    /// Where it comes from.
    pub source: Source,
    /// Executable by its owner.
    pub executable: bool,
}

/// How much of a machine the job gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Thousandths of a CPU.
    pub cpu_millis: u32,
    /// Memory.
    pub memory: Bytes,
    /// Bytes in the work directory.
    pub disk: Bytes,
    /// Number of GPUs.
    pub gpus: u8,
    /// What it may send an hour; it is not counted where absent.
    #[serde(default)]
    pub egress: Option<Bytes>,
}

/// A job, ready to be started by a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobManifest {
    /// Makes this run unlike any other.
    pub salt: [u8; 32],
    /// For people.
    pub name: String,
    /// The runtime that the buyer chose from the offer: `process` or `docker`.
    pub runtime: String,
    /// Runs in this image, or on the host's own userland.
    pub image: Option<Image>,
    /// Runs first.
    pub setup: Option<Command>,
    /// The job.
    pub run: Command,
    /// Plain environment.
    pub envs: BTreeMap<String, String>,
    /// Names of the secrets whose values travel apart.
    pub secrets: BTreeSet<String>,
    /// How much of the machine.
    pub share: Share,
    /// What it may reach.
    pub network: Network,
    /// Ports that a tunnel may reach.
    pub ports: Vec<u16>,
    /// How it ends.
    pub stop: Stop,
    /// Where it saves its progress when it is told to; one of the outputs.
    pub checkpoint: Option<String>,
    /// What lies beside it.
    pub inputs: Vec<Input>,
    /// Files and directories to bring back.
    pub outputs: Vec<String>,
    /// The longest that `setup`, `run` and what it is kept for may take together.
    pub timeout: Option<Seconds>,
    /// How long its sandbox stays after the job ended by itself.
    #[serde(default)]
    pub keep: Option<Seconds>,
    /// How the image's registry is logged in to.
    #[serde(default)]
    pub registry: Option<RegistryLogin>,
}

/// The number of processes of a workload.
const PIDS: u32 = 4_096;
/// The kept log of a workload.
const LOG: Bytes = Bytes::mib(64);

impl JobManifest {
    /// The digest that stands in the lease's terms.
    #[must_use]
    pub fn digest(&self) -> B256 {
        #[expect(clippy::expect_used, reason = "a manifest has only types whose lengths postcard knows")]
        let bytes = postcard::to_stdvec(self).expect("a manifest has known lengths");
        keccak256([b"tradewind\0job\0".as_slice(), &bytes].concat())
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> JobId {
        JobId::new(self.digest())
    }

    /// Checks what a hostile peer sent.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn check(&self) -> Result<(), ManifestError> {
        let at_most = |count: usize, what, limit| {
            if count > limit { Err(ManifestError::TooMany { what, limit }) } else { Ok(()) }
        };
        at_most(self.inputs.len(), "inputs", MAX_INPUTS)?;
        at_most(self.outputs.len(), "outputs", 256)?;
        at_most(self.ports.len(), "ports", 16)?;
        at_most(self.envs.len() + self.secrets.len(), "environment variables", 512)?;
        let mut targets = BTreeSet::new();
        for input in &self.inputs {
            check_path(&input.target)?;
            if !targets.insert(&input.target) {
                return Err(ManifestError::SameTarget(input.target.clone()));
            }
            match &input.source {
                Source::Https(file) if !file.url.starts_with("https://") => {
                    return Err(ManifestError::Url(file.shown().into()));
                }
                Source::Git(git) => git.check()?,
                Source::Https(_) | Source::Blob { .. } => {}
            }
        }
        self.outputs.iter().chain(&self.checkpoint).try_for_each(|path| check_path(path))?;
        self.envs.keys().chain(&self.secrets).try_for_each(|name| check_name(name))?;
        let is_pulled = self.image.as_ref().is_some_and(|image| image.archive.is_none());
        let can_log_in = |login: &RegistryLogin| {
            is_pulled && self.secrets.contains(&login.secret) && RegistryLogin::is_user(&login.username)
        };
        if !self.registry.as_ref().is_none_or(can_log_in) {
            return Err(ManifestError::Registry);
        }
        if self.run.argv().iter().all(String::is_empty) {
            return Err(ManifestError::Empty);
        }
        Ok(())
    }

    /// Whether its provider needs the token of a git repository.
    #[must_use]
    pub fn needs_git_token(&self) -> bool {
        self.inputs.iter().any(|input| matches!(&input.source, Source::Git(git) if git.private))
    }

    /// What the runtime starts for `lease`, on the GPUs with these indices.
    #[must_use]
    pub fn workload(&self, lease: LeaseId, gpus: Vec<u32>) -> WorkloadSpec {
        WorkloadSpec {
            lease,
            image: self.image.clone(),
            setup: self.setup.clone(),
            run: self.run.clone(),
            envs: self.envs.clone(),
            limits: Limits {
                cpu_millis: self.share.cpu_millis,
                memory: self.share.memory,
                disk: self.share.disk,
                pids: PIDS,
                log: LOG,
                gpus,
                egress: self.share.egress,
            },
            network: self.network,
            ports: self.ports.clone(),
            stop: self.stop,
            keep: self.keep,
            registry: self.registry.clone(),
        }
    }
}

/// Checks that a path stays inside the work directory.
///
/// # Errors
/// [`ManifestError::Path`].
pub fn check_path(path: &str) -> Result<(), ManifestError> {
    let part_is_fine = |part: &str| !part.is_empty() && part != "." && part != "..";
    let fine = path.len() <= MAX_PATH_BYTES
        && path.split('/').all(part_is_fine)
        && !path.chars().any(|c| c.is_control() || c == '\\');
    if fine { Ok(()) } else { Err(ManifestError::Path(path.into())) }
}

fn check_name(name: &str) -> Result<(), ManifestError> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let fine = first && name.len() <= 256 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if fine { Ok(()) } else { Err(ManifestError::Name(name.into())) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn manifest() -> JobManifest {
        JobManifest {
            salt: [1; 32],
            name: "digits".into(),
            runtime: "process".into(),
            image: None,
            setup: None,
            run: Command::Shell("./digits".into()),
            envs: BTreeMap::new(),
            secrets: BTreeSet::new(),
            share: Share {
                cpu_millis: 1_000,
                memory: Bytes::gib(1),
                disk: Bytes::gib(1),
                gpus: 0,
                egress: None,
            },
            network: Network::None,
            ports: Vec::new(),
            stop: Stop::default(),
            checkpoint: None,
            inputs: vec![Input {
                target: "digits".into(),
                source: Source::Blob { hash: [2; 32], size: Bytes::new(10) },
                executable: true,
            }],
            outputs: vec!["out".into()],
            timeout: None,
            keep: None,
            registry: None,
        }
    }

    #[test]
    fn two_runs_of_one_job_have_two_digests() {
        let again = JobManifest { salt: [2; 32], ..manifest() };
        assert_ne!(manifest().digest(), again.digest());
        assert_eq!(manifest().digest(), manifest().digest());
    }

    #[test]
    fn paths_stay_in_the_work_directory() {
        for path in ["../x", "/etc/passwd", "a//b", "", "a/./b", "a\\b", "a\0b", "a/.."] {
            assert!(check_path(path).is_err(), "{path:?}");
        }
        assert_eq!(check_path("out/model.bin"), Ok(()));
    }

    #[test]
    fn a_hostile_manifest_is_refused_with_the_reason() {
        assert_eq!(manifest().check(), Ok(()));
        let mut twice = manifest();
        twice.inputs.push(twice.inputs[0].clone());
        assert_eq!(twice.check(), Err(ManifestError::SameTarget("digits".into())));
        let env = JobManifest { envs: [("LD=X".to_owned(), String::new())].into(), ..manifest() };
        assert_eq!(env.check(), Err(ManifestError::Name("LD=X".into())));
        let registry = Some(RegistryLogin { username: "ci-bot".into(), secret: "TOKEN".into() });
        let image = Image { reference: "ghcr.io/acme/train".into(), digest: None, archive: None };
        let secrets = BTreeSet::from(["TOKEN".to_owned()]);
        let whole = JobManifest { registry, image: Some(image.clone()), secrets, ..manifest() };
        assert_eq!(whole.check(), Ok(()));
        for short in [
            JobManifest { image: None, ..whole.clone() },
            JobManifest { image: Some(Image { archive: Some([1; 32]), ..image }), ..whole.clone() },
            JobManifest { secrets: BTreeSet::new(), ..whole },
        ] {
            assert_eq!(short.check(), Err(ManifestError::Registry));
        }
        let empty = JobManifest { run: Command::Exec(Vec::new()), ..manifest() };
        assert_eq!(empty.check(), Err(ManifestError::Empty));
        let mut web = manifest();
        let file = WebFile { url: "http://169.254.169.254/?token=hunter2".into(), ..WebFile::default() };
        web.inputs[0].source = Source::Https(file);
        assert_eq!(web.check(), Err(ManifestError::Url("http://169.254.169.254/".into())));
    }

    #[test]
    fn a_repository_has_an_https_address_without_a_password_and_a_whole_commit() {
        let at = |url: &str, commit: &str| {
            let (url, commit) = (url.to_owned(), commit.to_owned());
            let source = Source::Git(GitCommit { url, commit, private: false });
            let inputs = vec![Input { target: "code".into(), source, executable: false }];
            JobManifest { inputs, ..manifest() }.check()
        };
        let (url, commit) = ("https://git.example/org/name.git", "0123456789abcdef0123456789abcdef01234567");
        assert_eq!(at(url, commit), Ok(()));
        assert_eq!(at(url, &"a".repeat(64)), Ok(()));
        for commit in
            ["main", "", &commit[1..], &commit.to_uppercase(), "../../../../../../../../../../../../../x"]
        {
            assert_eq!(at(url, commit), Err(ManifestError::Git(url.into())), "{commit}");
        }
        for url in [
            "http://git.example/x",
            "ssh://git.example/x",
            "https://git.example/x?a",
            "https://git.example/x#a",
            "/srv/x",
        ] {
            assert!(matches!(at(url, commit), Err(ManifestError::Git(_))), "{url}");
        }
        let password = at("https://me:hunter2@git.example/x", commit).unwrap_err().to_string();
        assert!(!password.contains("hunter2"), "{password}");
    }

    #[test]
    fn a_signed_address_is_never_shown() {
        let url = "https://store.example/bucket/key?X-Amz-Signature=hunter2".to_owned();
        let file = WebFile { url, ..WebFile::default() };
        assert_eq!(file.shown(), "https://store.example/bucket/key");
        let shown = format!("{:?}", Source::Https(file));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
