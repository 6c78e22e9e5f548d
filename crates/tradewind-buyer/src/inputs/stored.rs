//! Inputs that lie in a store which not anybody may read. What they are is settled when the job is submitted; every attempt gets addresses
//! of its own, which are good for reading one file each, and not for long. The keys stay here.

use reqwest::Client;
use serde::{Deserialize, Serialize};
use tradewind_proto::job::{GIT_TOKEN, InputHashes, JobSpec};
use tradewind_proto::manifest::{Input, MAX_MANIFEST_BYTES, Source, WebFile};
use tradewind_proto::units::{Bytes, Seconds, Timestamp};
use tradewind_proto::workload::Secrets;

use super::{InputError, bucket, hub};

/// How long an address is good beyond the time that a provider has to prepare: one of many files may be the last to be fetched.
const HOUR: Seconds = Seconds::new(3_600);

/// How long addresses wait for a provider: stores are not asked at every look for one.
const WAIT: Seconds = Seconds::new(300);

/// Addresses that were made, and when.
#[derive(Debug)]
pub(crate) struct Addresses {
    made: Timestamp,
    pub(crate) inputs: Vec<Input>,
}

impl Addresses {
    pub(crate) const fn new(made: Timestamp, inputs: Vec<Input>) -> Self {
        Self { made, inputs }
    }

    /// Whether they are still good for nearly as long as new ones.
    pub(crate) fn are_fresh(&self, now: Timestamp) -> bool {
        now < self.made.after(WAIT)
    }
}

/// An input that every attempt gets a new address of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its path in the work directory.
    pub target: String,
    /// Its size.
    pub size: Bytes,
    /// What it hashes to, where that is known.
    pub hashes: InputHashes,
    /// What it is.
    pub origin: Origin,
}

/// A file in a store, such as it was when the job was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// In a bucket.
    Object {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// Which content, says the store.
        etag: Option<String>,
    },
    /// On the Hugging Face hub.
    Hub {
        /// The repository, with `datasets/` before one.
        repo: String,
        /// The commit.
        commit: String,
        /// The path in it.
        path: String,
    },
}

impl Stored {
    pub(super) fn input(&self, file: WebFile) -> Input {
        let (size, hashes) = (Some(self.size), self.hashes);
        let file = WebFile { size, sha256: hashes.sha256, blake3: hashes.blake3, ..file };
        Input { target: self.target.clone(), source: Source::Https(file), executable: false }
    }
}

/// The stored inputs with addresses for an attempt that begins about `now`, and has `prepare` to fetch them.
///
/// # Errors
/// [`InputError`] where a store does not do its part, or its key is not here.
pub(crate) async fn addresses(
    spec: &JobSpec,
    stored: &[Stored],
    secrets: &Secrets,
    now: Timestamp,
    prepare: Seconds,
) -> Result<Vec<Input>, InputError> {
    if spec.git.is_some() {
        // The provider gets it beside the manifest, and waits for it in vain where it is lost.
        super::secret(secrets, GIT_TOKEN)?;
    }
    let lifetime = HOUR.plus(prepare);
    let mut stores = bucket::Stores::new(spec.s3.as_ref(), secrets);
    let mut hub: Option<(Client, hub::Hub<'_>)> = None;
    let mut inputs = Vec::with_capacity(stored.len());
    for item in stored {
        let file = match &item.origin {
            Origin::Object { bucket, key, etag } => {
                let url = stores.sign(bucket, key, lifetime).await?;
                WebFile { url, etag: etag.clone(), until: Some(now.after(lifetime)), ..WebFile::default() }
            }
            Origin::Hub { repo, commit, path } => {
                let (client, hub) = match &mut hub {
                    Some(hub) => hub,
                    None => {
                        hub.insert((hub::without_redirects()?, hub::Hub::new(spec.hf.as_ref(), secrets)?))
                    }
                };
                let url = hub.address(client, repo, commit, path).await?;
                WebFile { url, ..WebFile::default() }
            }
        };
        inputs.push(item.input(file));
    }
    Ok(inputs)
}

/// Sees that so many addresses fit into what a provider is told.
pub(super) fn fit<'a>(inputs: impl IntoIterator<Item = &'a Input>) -> Result<(), InputError> {
    let length = |input: &Input| {
        let address = match &input.source {
            Source::Https(file) => file.url.len() + file.etag.as_ref().map_or(0, String::len) + 96,
            Source::Git(git) => git.url.len() + git.commit.len() + 16,
            Source::Blob { .. } => 48,
        };
        input.target.len() + address
    };
    let total: usize = inputs.into_iter().map(length).sum();
    if total > MAX_MANIFEST_BYTES { Err(InputError::TooLong) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_wait_for_a_provider_but_not_for_long() {
        let made = Timestamp::from_unix(1_000);
        let addresses = Addresses::new(made, Vec::new());
        assert!(addresses.are_fresh(made) && addresses.are_fresh(Timestamp::from_unix(1_299)));
        assert!(!addresses.are_fresh(Timestamp::from_unix(1_300)));
    }

    #[test]
    fn more_addresses_than_a_provider_can_be_told_are_refused_before_anything_is_paid() {
        let item = |number: usize| {
            let (target, size, hashes) = (format!("days/{number}"), Bytes::new(1), InputHashes::default());
            let origin = Origin::Object { bucket: "data".into(), key: target.clone(), etag: None };
            let url = "x".repeat(500);
            Stored { target, size, hashes, origin }.input(WebFile { url, ..WebFile::default() })
        };
        let inputs: Vec<Input> = (0..1_000).map(item).collect();
        assert!(matches!(fit(&inputs), Err(InputError::TooLong)));
        assert!(fit(&inputs[..800]).is_ok());
    }
}
