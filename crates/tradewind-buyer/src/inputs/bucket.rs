//! Objects in S3-compatible stores: listed when a job is submitted, signed for every attempt.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::signer::{Method, Signer};
use object_store::{ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use reqwest::Url;
use tokio::io::AsyncWriteExt;
use tradewind_proto::job::{self, InputHashes, S3_ACCESS_KEY, S3_SECRET_KEY, S3_SESSION_TOKEN};
use tradewind_proto::manifest::{MAX_INPUTS, WebFile};
use tradewind_proto::units::{Bytes, Seconds};
use tradewind_proto::workload::Secrets;

use super::stored::{Origin, Stored};
use super::{InputError, beneath};

/// Where AWS keeps what nobody names a region for.
const REGION: &str = "us-east-1";
/// How often a store that does not answer is asked again, and for how long.
const RETRIES: (usize, Duration) = (2, Duration::from_secs(20));

/// Parts of an object that are on their way at once.
const PARTS: usize = 2;
/// What is read of a file at a time.
const PIECE: usize = 1 << 20;

/// Why an object was not put.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    /// The store does not take it, or its keys are gone.
    #[error(transparent)]
    Store(#[from] InputError),
    /// It cannot be read here, or broke off.
    #[error("it broke off: {0}")]
    Broken(#[from] std::io::Error),
}

/// The stores of a job's buckets, each opened once.
pub(crate) struct Stores<'a> {
    spec: Option<&'a job::Bucket>,
    secrets: &'a Secrets,
    open: BTreeMap<String, AmazonS3>,
}

impl<'a> Stores<'a> {
    pub(crate) fn new(spec: Option<&'a job::Bucket>, secrets: &'a Secrets) -> Self {
        Self { spec, secrets, open: BTreeMap::new() }
    }

    /// Whether anybody may read what the job reads.
    pub(super) fn is_public(&self) -> bool {
        self.spec.is_none_or(|spec| spec.keys.is_none())
    }

    fn open(&mut self, bucket: &str) -> Result<&AmazonS3, InputError> {
        if !self.open.contains_key(bucket) {
            let store = self.connect(bucket)?;
            self.open.insert(bucket.to_owned(), store);
        }
        self.open.get(bucket).ok_or_else(|| refused(bucket, "", "it cannot be opened"))
    }

    fn connect(&self, bucket: &str) -> Result<AmazonS3, InputError> {
        let (max_retries, retry_timeout) = RETRIES;
        let retry = RetryConfig { max_retries, retry_timeout, ..RetryConfig::default() };
        let region = self.spec.and_then(|spec| spec.region.as_deref()).unwrap_or(REGION);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(region)
            .with_retry(retry)
            .with_client_options(ClientOptions::new().with_connect_timeout(Duration::from_secs(10)));
        if let Some(endpoint) = self.spec.and_then(|spec| spec.endpoint.as_deref()) {
            builder = builder.with_endpoint(endpoint);
        }
        if self.is_public() {
            builder = builder.with_skip_signature(true);
        } else {
            let secret = |name| super::secret(self.secrets, name);
            builder = builder
                .with_access_key_id(secret(S3_ACCESS_KEY)?)
                .with_secret_access_key(secret(S3_SECRET_KEY)?);
            if self.spec.is_some_and(|spec| spec.session_token.is_some()) {
                builder = builder.with_token(secret(S3_SESSION_TOKEN)?);
            }
        }
        builder.build().map_err(|error| told(bucket, "", &error))
    }

    /// What an input names: one object, or all beneath a prefix.
    pub(super) async fn list(
        &mut self,
        bucket: &str,
        key: &str,
        target: &str,
        hashes: InputHashes,
    ) -> Result<Vec<Stored>, InputError> {
        let store = self.open(bucket)?;
        let stored = |meta: ObjectMeta, target: String| Stored {
            target,
            size: Bytes::new(meta.size),
            hashes,
            origin: Origin::Object {
                bucket: bucket.into(),
                key: meta.location.to_string(),
                etag: meta.e_tag.and_then(strong),
            },
        };
        let path =
            Path::parse(key).map_err(|_| refused(bucket, key, "it is no key that can be asked for"))?;
        if !key.is_empty() && !key.ends_with('/') {
            let meta = store.head(&path).await.map_err(|error| told(bucket, key, &error))?;
            return Ok(vec![stored(meta, target.to_owned())]);
        }
        let prefix = (!key.is_empty()).then_some(&path);
        let mut listing = store.list(prefix);
        let mut found = Vec::new();
        while let Some(meta) = listing.try_next().await.map_err(|error| told(bucket, key, &error))? {
            let rest = meta.location.as_ref().strip_prefix(path.as_ref()).unwrap_or_default();
            // A key that ends with a slash marks a directory, and holds nothing.
            let Some(target) = beneath(target, rest.trim_start_matches('/'))? else { continue };
            found.push(stored(meta, target));
            if found.len() > MAX_INPUTS {
                return Err(InputError::TooMany(shown(bucket, key).into()));
            }
        }
        if found.is_empty() {
            return Err(refused(bucket, key, "there is nothing beneath it"));
        }
        Ok(found)
    }

    /// An address that anybody may read an object from until `lifetime` is over.
    pub(super) async fn sign(
        &mut self,
        bucket: &str,
        key: &str,
        lifetime: Seconds,
    ) -> Result<String, InputError> {
        let store = self.open(bucket)?;
        let path =
            Path::parse(key).map_err(|_| refused(bucket, key, "it is no key that can be asked for"))?;
        let signed = store.signed_url(Method::GET, &path, Duration::from_secs(lifetime.get())).await;
        signed.map(String::from).map_err(|error| told(bucket, key, &error))
    }

    /// Puts a file there, in parts where it is large.
    pub(crate) async fn put(
        &mut self,
        bucket: &str,
        key: &str,
        file: &std::path::Path,
    ) -> Result<(), PutError> {
        let store = self.open(bucket)?.clone();
        let path = Path::parse(key).map_err(|_| refused(bucket, key, "it is no key that can be used"))?;
        let mut source = tokio::fs::File::open(file).await?;
        let mut target = BufWriter::new(Arc::new(store), path).with_max_concurrency(PARTS);
        let sent =
            tokio::io::copy_buf(&mut tokio::io::BufReader::with_capacity(PIECE, &mut source), &mut target)
                .await;
        let ended = match sent {
            Ok(_) => target.shutdown().await,
            Err(error) => {
                // What arrived of it would be paid for.
                let _ = target.abort().await;
                Err(error)
            }
        };
        ended.map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<object_store::Error>()) {
                Some(error) => told(bucket, key, error).into(),
                None => error.into(),
            }
        })
    }

    /// Deletes an object; one that is not there is no error.
    pub(crate) async fn delete(&mut self, bucket: &str, key: &str) -> Result<(), InputError> {
        let path = Path::parse(key).map_err(|_| refused(bucket, key, "it is no key that can be used"))?;
        match self.open(bucket)?.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(told(bucket, key, &error)),
        }
    }

    /// An object that anybody may read.
    pub(super) fn public(&self, bucket: &str, key: &str, etag: Option<&str>) -> Result<WebFile, InputError> {
        let region = self.spec.and_then(|spec| spec.region.as_deref()).unwrap_or(REGION);
        let endpoint = match self.spec.and_then(|spec| spec.endpoint.as_deref()) {
            Some(endpoint) => endpoint.to_owned(),
            None => format!("https://s3.{region}.amazonaws.com"),
        };
        let malformed = || refused(bucket, key, "the endpoint is no address");
        let mut url = Url::parse(&endpoint).map_err(|_| malformed())?;
        let parts = std::iter::once(bucket).chain(key.split('/'));
        url.path_segments_mut().map_err(|()| malformed())?.pop_if_empty().extend(parts);
        Ok(WebFile { url: url.into(), etag: etag.map(str::to_owned), public: true, ..WebFile::default() })
    }
}

/// An entity tag that can be insisted on, in the quotes that some stores leave out.
fn strong(etag: String) -> Option<String> {
    match etag.as_bytes().first() {
        Some(b'"') => Some(etag),
        Some(_) if !etag.starts_with("W/") => Some(format!("\"{etag}\"")),
        Some(_) | None => None,
    }
}

fn shown(bucket: &str, key: &str) -> String {
    format!("s3://{bucket}/{key}")
}

fn refused(bucket: &str, key: &str, reason: &str) -> InputError {
    InputError::Store { what: shown(bucket, key), reason: reason.into() }
}

/// What a store's error means. Its text is not passed on: stores repeat the request's keys and tokens in it.
fn told(bucket: &str, key: &str, error: &object_store::Error) -> InputError {
    use object_store::Error;
    let text = error.to_string();
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let code =
        code.map(|(code, _)| code.chars().filter(char::is_ascii_alphanumeric).take(64).collect::<String>());
    let reason = match (error, code) {
        (Error::NotFound { .. }, _) => "it is not there; a prefix ends with `/`".into(),
        (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, code) => format!(
            "the store refuses it{}; check the keys under `s3`, and what they may do with the bucket {bucket}",
            code.map(|code| format!(" ({code})")).unwrap_or_default()
        ),
        (_, Some(code)) => format!("the store answers {code}; check `s3` in the job file"),
        (_, None) => {
            "the store does not answer as it should; check `endpoint` and `region` under `s3`".into()
        }
    };
    tracing::debug!(bucket, key, reason, "a store's error");
    refused(bucket, key, &reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_strong_entity_tag_is_insisted_on() {
        assert_eq!(strong("\"one\"".into()).as_deref(), Some("\"one\""));
        assert_eq!(strong("one".into()).as_deref(), Some("\"one\""));
        assert_eq!(strong("W/\"one\"".into()), None);
    }

    #[tokio::test]
    async fn every_attempt_gets_an_address_of_its_own_and_without_the_keys() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let source = || job_source("K");
        let spec = job::Bucket { keys: Some((source(), source())), ..job::Bucket::default() };
        let given = [(S3_ACCESS_KEY, "AKIATEST"), (S3_SECRET_KEY, "hunter2")];
        let secrets = Secrets(given.map(|(name, value)| (name.into(), value.into())).into());
        let mut stores = Stores::new(Some(&spec), &secrets);
        let mut sign = async |seconds| stores.sign("data", "a b/c", Seconds::new(seconds)).await.unwrap();
        let (first, second) = (sign(60).await, sign(61).await);
        assert!(first.starts_with("https://s3.us-east-1.amazonaws.com/data/a%20b/c?"), "{first}");
        assert!(first.contains("X-Amz-Expires=60") && second.contains("X-Amz-Expires=61"));
        let signature = |url: &str| url.split("X-Amz-Signature=").nth(1).unwrap().to_owned();
        assert_ne!(signature(&first), signature(&second));
        assert!(!first.contains("hunter2"));
        let none = Secrets::default();
        let error = Stores::new(Some(&spec), &none).sign("data", "a", Seconds::new(1)).await.unwrap_err();
        assert!(error.to_string().contains("`s3.access_key` has no value here any more"), "{error}");
    }

    fn job_source(name: &str) -> job::SecretSource {
        job::SecretSource::Env(name.into())
    }
}
