//! Jobs: `job.yaml` becomes a valid [`JobSpec`], or an error that names the line.
//!
//! ```text
//! text ──serde-saphyr, budgets──► nodes with places ──fields, units, suggestions──► JobSpec
//!              │                            │
//!              └───────────► JobError ◄─────┘   all problems at once; values of envs and secrets are never shown
//! ```
//!
//! The words are those that users of SkyPilot, dstack and Compose know; SkyPilot's single-node files are read as they are.
//! A field that cannot be honoured yet is refused, never ignored.
//!
//! ```
//! use tradewind_proto::job::JobSpec;
//!
//! let job = JobSpec::parse("job.yaml", "run: ./train --epochs 3\nresources: {accelerators: H100:8}\n")?;
//! assert_eq!(job.resources.sets[0].accelerator_count(), 8);
//!
//! let error = JobSpec::parse("job.yaml", "run: ls\nresources:\n  acelerators: H100\n").unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "job.yaml:3:3: unknown field `acelerators` in `resources`; did you mean `accelerators`?"
//! );
//! # Ok::<(), tradewind_proto::job::JobError>(())
//! ```

mod amount;
mod problem;
mod read;
mod request;
mod yaml;

use std::collections::BTreeMap;

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

pub use self::amount::Amount;
pub use self::problem::{JobError, Place, Problem};
pub use self::request::{Accelerators, ResourceRequest, Resources};
use crate::attestation::TeeDemand;
use crate::ids::{DeviceId, ProviderId};
use crate::manifest::{self, JobManifest, Share};
use crate::offer::TrustTier;
use crate::terms::LeaseKind;
use crate::units::Seconds;
use crate::workload::{Command, Image, Network, RegistryLogin, Stop};

/// The largest job file.
pub const MAX_JOB_BYTES: usize = 256 << 10;

/// The shortest `idle_stop`: what is shorter cannot be told from a pause between two reports.
pub const LEAST_IDLE: Seconds = Seconds::new(10);

/// How the job is bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Market {
    /// A lease that the provider does not end early without a fee.
    #[default]
    OnDemand,
    /// A cheaper one that may be reclaimed.
    Spot,
    /// Spot where it can be had, else on-demand.
    SpotWithFallback,
    /// A committed term; `timeout` is its length.
    Reserved,
}

impl Market {
    /// The kinds of lease to look for, the preferred one first.
    #[must_use]
    pub const fn kinds(self) -> &'static [LeaseKind] {
        match self {
            Self::OnDemand => &[LeaseKind::OnDemand],
            Self::Spot => &[LeaseKind::Spot],
            Self::SpotWithFallback => &[LeaseKind::Spot, LeaseKind::OnDemand],
            Self::Reserved => &[LeaseKind::Reserved],
        }
    }
}

/// What happens when `max_cost` is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnMaxCost {
    /// It is stopped when the money is spent; what its grace takes beyond that nobody pays.
    #[default]
    Stop,
    /// It is stopped early enough that the checkpoint's grace is paid for too.
    CheckpointAndStop,
}

/// A place that a job may run in: a country, or one label in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionRequest {
    /// ISO 3166 in upper case.
    pub country: String,
    /// The provider's own name for the place.
    pub label: Option<String>,
}

/// Whom the job may run with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The weakest tier that will do.
    pub trust_tier: TrustTier,
    /// What the machine has to prove before anything is signed.
    #[serde(default)]
    pub tee: TeeDemand,
    /// Only where the work directory is encrypted on disk.
    #[serde(default)]
    pub encrypted: bool,
    /// Only where one of these auditors attests on chain that the machine stands where it says, when not empty.
    #[serde(default)]
    pub place_attested_by: Vec<Address>,
    /// The least reliability in basis points; providers without enough history do not meet it.
    pub min_reliability: Option<u16>,
    /// Only these, when not empty.
    pub allow: Vec<ProviderId>,
    /// Never these.
    pub deny: Vec<ProviderId>,
    /// Only these machines, when not empty.
    #[serde(default)]
    pub devices: Vec<DeviceId>,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            trust_tier: TrustTier::Staked,
            tee: TeeDemand::default(),
            encrypted: false,
            place_attested_by: Vec::new(),
            min_reliability: None,
            allow: Vec::new(),
            deny: Vec::new(),
            devices: Vec::new(),
        }
    }
}

/// Where a secret's value is found on the buyer's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file.
    File(String),
    /// Drawn by the buyer's node, which tells it to its owner.
    Generated,
}

/// A secret, by name. The value never stands in the job file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRef {
    /// The variable that the job sees.
    pub name: String,
    /// Where the buyer's node finds the value.
    pub source: SecretSource,
}

/// Digests that an input must have, where its buyer knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InputHashes {
    /// SHA-256.
    pub sha256: Option<[u8; 32]>,
    /// BLAKE3.
    pub blake3: Option<[u8; 32]>,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InputSource {
    /// A file or directory beside the job file, or an absolute path.
    Local(String),
    /// An address that the provider pulls itself.
    Https {
        /// `https://…`.
        url: String,
        /// What its content must hash to.
        hashes: InputHashes,
    },
    /// An object in a bucket, or every object beneath a key that is empty or ends with `/`.
    S3 {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// What an object's content must hash to.
        hashes: InputHashes,
    },
    /// A file of a repository on the Hugging Face hub, or every file beneath a path that is empty or ends with `/`.
    Hub {
        /// `org/name`, with `datasets/` before it where it is one.
        repo: String,
        /// A branch, tag or commit.
        revision: String,
        /// The path in it.
        path: String,
        /// What a file's content must hash to.
        hashes: InputHashes,
    },
    /// The files of a git repository, which the provider pulls itself.
    Git {
        /// `https://…` of the repository.
        url: String,
        /// A branch, tag or commit; what the repository's `HEAD` names where absent.
        revision: Option<String>,
    },
}

/// Where `s3://` inputs are, and who may read them. The keys are used by the buyer's node alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bucket {
    /// `https://…` of the store; AWS where absent.
    pub endpoint: Option<String>,
    /// The store's region.
    pub region: Option<String>,
    /// The access key's id and the key; anybody may read where absent.
    pub keys: Option<(SecretSource, SecretSource)>,
    /// What goes with a temporary key.
    pub session_token: Option<SecretSource>,
}

/// Where `hf://` inputs are, and who may read them. The token is used by the buyer's node alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hub {
    /// `https://…` of the hub; the public one where absent.
    pub endpoint: Option<String>,
    /// For repositories that not anybody may read.
    pub token: Option<SecretSource>,
}

/// Who may read the repositories of `git+https://` inputs. The provider gets the token, since it pulls; the job does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// What the repositories' host is asked with.
    pub token: SecretSource,
}

/// The name of the access key's id among a job's secrets. No variable is named so, and neither the job nor its provider gets it.
pub const S3_ACCESS_KEY: &str = "s3.access_key";
/// The name of the key itself.
pub const S3_SECRET_KEY: &str = "s3.secret_key";
/// The name of what goes with a temporary key.
pub const S3_SESSION_TOKEN: &str = "s3.session_token";
/// The name of the hub's token.
pub const HUB_TOKEN: &str = "hf.token";
/// The name of the token of git repositories. The provider gets it where it has to pull, and the job does not.
pub const GIT_TOKEN: &str = "git.token";

/// What a job runs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageSource {
    /// A name that the provider's engine resolves: `ghcr.io/org/name:tag`.
    Reference(String),
    /// An archive beside the job file, or at an absolute path: as `docker save` writes it, or an OCI layout in a tar.
    Archive(String),
}

/// Data that the job finds in its work directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// From where.
    pub source: InputSource,
    /// To where, relative to the work directory; `.` spreads a local directory over it.
    pub target: String,
}

/// How the job saves its progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// A file or directory in the work directory; collected with the outputs, whatever the exit code.
    pub path: String,
    /// How often the job should save; it reads `TRADEWIND_CHECKPOINT_INTERVAL`.
    pub interval: Option<Seconds>,
    /// Where else it is kept than at the buyer's node.
    #[serde(default)]
    pub offsite: Option<Offsite>,
}

/// A store of the buyer's for checkpoints, which reads none of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsite {
    /// The bucket, of the job's `s3`.
    pub bucket: String,
    /// What their keys begin with; nothing, or ending with a slash.
    pub prefix: String,
    /// Whom they are encrypted to: a recipient of age, `age1…`.
    pub recipient: String,
}

/// What to do when a provider fails. A job that ends with a code of its own is never run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Placements in all, at least one.
    pub attempts: u8,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 1 }
    }
}

/// A job, as its buyer wants it: every field valid, every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// For people.
    pub name: String,
    /// The image, or none for the host's own userland.
    pub image: Option<ImageSource>,
    /// How the image's registry is logged in to.
    #[serde(default)]
    pub registry: Option<RegistryLogin>,
    /// Runs before the job.
    pub setup: Option<Command>,
    /// The job.
    pub run: Command,
    /// Plain environment.
    pub envs: BTreeMap<String, String>,
    /// Environment that never touches a disk.
    pub secrets: Vec<SecretRef>,
    /// What it needs.
    pub resources: Resources,
    /// How it is bought.
    pub market: Market,
    /// The most an hour may cost, in whole quote tokens.
    pub max_price: Option<Amount>,
    /// The most the job may cost, in whole quote tokens.
    pub max_cost: Option<Amount>,
    /// What happens then.
    pub on_max_cost: OnMaxCost,
    /// Anywhere when empty.
    pub regions: Vec<RegionRequest>,
    /// With whom.
    pub placement: Placement,
    /// Data in.
    pub inputs: Vec<Input>,
    /// The store of `s3://` inputs.
    #[serde(default)]
    pub s3: Option<Bucket>,
    /// The hub of `hf://` inputs.
    #[serde(default)]
    pub hf: Option<Hub>,
    /// The token of `git+https://` inputs.
    #[serde(default)]
    pub git: Option<Git>,
    /// Files and directories in the work directory that come back.
    pub outputs: Vec<String>,
    /// How it saves progress.
    pub checkpoint: Option<Checkpoint>,
    /// What to do when a provider fails.
    pub retry: Retry,
    /// The longest the job may run.
    pub timeout: Option<Seconds>,
    /// How long its sandbox stays after it ended by itself.
    #[serde(default)]
    pub keep: Option<Seconds>,
    /// It is stopped when nobody used it for so long.
    #[serde(default)]
    pub idle_stop: Option<Seconds>,
    /// What it may reach.
    pub network: Network,
    /// Its ports that a tunnel may reach.
    pub ports: Vec<u16>,
    /// How it is asked to end.
    pub stop: Stop,
}

impl JobSpec {
    /// Reads a job file. `file` names it in errors.
    ///
    /// # Errors
    /// [`JobError`] with every problem that was found.
    pub fn parse(file: &str, text: &str) -> Result<Self, JobError> {
        read::job(file, text)
    }

    /// What the buyer's node needs for the job's stores. It stays there, but for the token of repositories that a provider pulls.
    #[must_use]
    pub fn store_secrets(&self) -> Vec<SecretRef> {
        let s3 = self.s3.as_ref();
        let keys = s3.and_then(|s3| s3.keys.as_ref());
        let named = [
            (S3_ACCESS_KEY, keys.map(|(id, _)| id)),
            (S3_SECRET_KEY, keys.map(|(_, key)| key)),
            (S3_SESSION_TOKEN, s3.and_then(|s3| s3.session_token.as_ref())),
            (HUB_TOKEN, self.hf.as_ref().and_then(|hf| hf.token.as_ref())),
            (GIT_TOKEN, self.git.as_ref().map(|git| &git.token)),
        ];
        let secret = |(name, source): (&str, Option<&SecretSource>)| {
            source.map(|source| SecretRef { name: name.into(), source: source.clone() })
        };
        named.into_iter().filter_map(secret).collect()
    }

    /// What a provider is told of the job once its inputs are hashed and its machine is chosen. Limits, paths of the buyer's
    /// machine and the sources of secrets stay behind. The checkpoint comes back with the outputs.
    #[must_use]
    pub fn manifest(
        &self,
        runtime: &str,
        image: Option<Image>,
        share: Share,
        inputs: Vec<manifest::Input>,
        salt: [u8; 32],
    ) -> JobManifest {
        let (mut envs, mut outputs) = (self.envs.clone(), self.outputs.clone());
        if let Some(checkpoint) = &self.checkpoint {
            let mut say = |name: &str, value: String| {
                envs.entry(name.into()).or_insert(value);
            };
            say("TRADEWIND_CHECKPOINT_PATH", checkpoint.path.clone());
            if let Some(interval) = checkpoint.interval {
                say("TRADEWIND_CHECKPOINT_INTERVAL", interval.get().to_string());
            }
            if !outputs.contains(&checkpoint.path) {
                outputs.push(checkpoint.path.clone());
            }
        }
        JobManifest {
            salt,
            name: self.name.clone(),
            runtime: runtime.into(),
            image,
            setup: self.setup.clone(),
            run: self.run.clone(),
            envs,
            secrets: self.secrets.iter().map(|secret| secret.name.clone()).collect(),
            share,
            network: self.network,
            ports: self.ports.clone(),
            stop: self.stop,
            checkpoint: self.checkpoint.as_ref().map(|checkpoint| checkpoint.path.clone()),
            inputs,
            outputs,
            timeout: self.timeout,
            keep: self.keep,
            registry: self.registry.clone(),
        }
    }
}

/// A job's name: 1 to 63 letters, digits, `.`, `_`, `-`.
fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && !text.starts_with(['.', '-'])
}

/// An environment variable's name.
fn is_variable(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// An https address with a host and without credentials.
pub(crate) fn is_https(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    url.len() <= 4096
        && !authority.is_empty()
        && !authority.contains('@')
        && url.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests;
