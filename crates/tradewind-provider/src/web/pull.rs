//! Pulls one file from the web into its place, or from the cache.

use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use reqwest::header::{ETAG, HeaderValue, IF_MATCH};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tradewind_proto::manifest::WebFile;
use tradewind_proto::units::{Bytes, Timestamp};

use super::cache::{Cache, Taken};
use super::sums::Sums;
use super::{Private, SourcePolicy, client, is_public_url};

/// Why a file could not be pulled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PullError {
    /// The job's own fault: it will not get better.
    Job(String),
    /// It may get better.
    Later(String),
}

/// Pulls inputs on behalf of strangers.
#[derive(Debug)]
pub(crate) struct Puller {
    pub(super) client: Client,
    pub(super) allow_private: bool,
    pub(super) cache: Cache,
    /// The one repository that is unpacked at a time.
    pub(super) unpacking: Arc<Semaphore>,
}

impl Puller {
    /// A puller that keeps what it may in `cache`.
    pub(crate) fn new(policy: &SourcePolicy, cache: Cache) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: client(policy)?,
            allow_private: policy.allow_private,
            cache,
            unpacking: Arc::new(Semaphore::new(1)),
        })
    }

    /// Puts a file of at most so many bytes in its place. `progress` hears of every piece.
    pub(crate) async fn pull(
        &self,
        file: &WebFile,
        most: Bytes,
        now: Timestamp,
        target: &Path,
        progress: impl Fn(u64),
    ) -> Result<(), PullError> {
        if let Some(size) = self.cached(file, most, target).await {
            progress(size.get());
            return Ok(());
        }
        let response = self.ask(file, now).await?;
        write(response, file, most, target, progress).await?;
        self.keep(file, target).await;
        Ok(())
    }

    /// The size of the file where the cache had it. What is wrong with the cache is no lease's fault.
    async fn cached(&self, file: &WebFile, most: Bytes, target: &Path) -> Option<Bytes> {
        let (cache, wanted, target) = (self.cache.clone(), file.clone(), target.to_owned());
        let taken = tokio::task::spawn_blocking(move || cache.take(&wanted, most, &target)).await;
        match taken.map_err(std::io::Error::other).and_then(|taken| taken) {
            Ok(Taken::Whole(size)) => {
                tracing::info!(url = file.shown(), %size, "an input was here already");
                Some(size)
            }
            Ok(Taken::Absent) => None,
            Err(error) => {
                tracing::warn!(url = file.shown(), %error, "an input cannot be taken from the cache");
                None
            }
        }
    }

    async fn keep(&self, file: &WebFile, from: &Path) {
        let (cache, kept, from) = (self.cache.clone(), file.clone(), from.to_owned());
        let kept = tokio::task::spawn_blocking(move || cache.keep(&kept, &from)).await;
        if let Err(error) = kept.map_err(std::io::Error::other).and_then(|kept| kept) {
            tracing::warn!(url = file.shown(), %error, "an input is not kept for others");
        }
    }

    async fn ask(&self, file: &WebFile, now: Timestamp) -> Result<Response, PullError> {
        let shown = file.shown();
        let job = |what: String| PullError::Job(format!("{shown} {what}"));
        let url = Url::parse(&file.url).map_err(|error| job(format!("is no address: {error}")))?;
        if !self.allow_private && !is_public_url(&url) {
            return Err(job(format!("cannot be fetched: {Private}")));
        }
        let mut request = self.client.get(url);
        if let Some(etag) = &file.etag {
            let etag = HeaderValue::from_str(etag).map_err(|_| job("has no such entity tag".into()))?;
            request = request.header(IF_MATCH, etag);
        }
        // The whole address must not be in any message.
        let response = request
            .send()
            .await
            .map_err(|error| PullError::Later(format!("{shown} cannot be fetched: {}", told(error))))?;
        let status = response.status();
        let seen = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
        let is_other = file.etag.as_deref().zip(seen).is_some_and(|(wanted, seen)| wanted != seen);
        if status == StatusCode::PRECONDITION_FAILED || (status.is_success() && is_other) {
            return Err(job("is another than when the job was submitted; submit it again".into()));
        }
        if status.is_success() {
            return Ok(response);
        }
        if status.is_server_error() || matches!(status.as_u16(), 408 | 429) {
            return Err(PullError::Later(format!("{shown} answered {status}")));
        }
        Err(match file.until {
            Some(until) if until <= now => job(format!(
                "answered {status}: its signed address ran out before the file was fetched; place the job again"
            )),
            Some(_) => job(format!("answered {status} to the address that the buyer's node had signed")),
            None => job(format!("answered {status}")),
        })
    }
}

/// An error of the client without the address, and with what caused it.
pub(super) fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

async fn write(
    response: Response,
    file: &WebFile,
    most: Bytes,
    target: &Path,
    progress: impl Fn(u64),
) -> Result<(), PullError> {
    let shown = file.shown();
    let later = |error: std::io::Error| PullError::Later(format!("cannot write an input: {error}"));
    let mut stream = response.bytes_stream();
    let mut to = tokio::fs::File::create(target).await.map_err(later)?;
    let (mut sums, mut size) = (Sums::default(), 0u64);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| PullError::Later(format!("{shown} broke off: {}", told(error))))?;
        size += chunk.len() as u64;
        if size > most.get() {
            return Err(PullError::Job(format!("{shown} is larger than the job's disk of {most}")));
        }
        if file.size.is_some_and(|expected| size > expected.get()) {
            break;
        }
        sums.update(&chunk);
        progress(chunk.len() as u64);
        to.write_all(&chunk).await.map_err(later)?;
    }
    to.flush().await.map_err(later)?;
    if let Some(expected) = file.size.filter(|expected| expected.get() != size) {
        let problem = format!("{shown} has not the {expected} that it had when the job was submitted");
        return Err(PullError::Job(problem));
    }
    sums.check(file)
        .map_err(|hash| PullError::Job(format!("{shown} has another {hash} hash than the job names")))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::response::IntoResponse;
    use tradewind_testbed::web::Authority;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_000);

    /// A site with one file, and a provider that may read it.
    struct Bench {
        dir: tempfile::TempDir,
        site: String,
        asked: Arc<AtomicUsize>,
        puller: Puller,
    }

    impl Bench {
        async fn new() -> Self {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let (authority, asked) = (Authority::new(), Arc::new(AtomicUsize::new(0)));
            let counter = asked.clone();
            let answer = move |request: axum::extract::Request| async move {
                counter.fetch_add(1, Ordering::SeqCst);
                match request.uri().path() {
                    "/file" => ([(ETAG, "\"one\"")], "weights").into_response(),
                    _ => StatusCode::FORBIDDEN.into_response(),
                }
            };
            let site = authority.serve(Router::new().fallback(answer)).await;
            let dir = tempfile::tempdir().unwrap();
            let cache = Cache::open(dir.path().join("cache"), Bytes::new(100)).unwrap();
            let policy =
                SourcePolicy { allow_private: true, authorities: vec![authority.pem().into_bytes()] };
            Self { puller: Puller::new(&policy, cache).unwrap(), dir, site, asked }
        }

        fn file(&self, path: &str) -> WebFile {
            WebFile { url: format!("{}{path}", self.site), ..WebFile::default() }
        }

        fn target(&self) -> PathBuf {
            self.dir.path().join("target")
        }

        async fn pull(&self, file: &WebFile) -> Result<Vec<u8>, PullError> {
            self.puller.pull(file, Bytes::new(1_000), NOW, &self.target(), |_| {}).await?;
            Ok(std::fs::read(self.target()).unwrap())
        }

        async fn refused(&self, file: &WebFile) -> String {
            match self.pull(file).await {
                Err(PullError::Job(reason)) => reason,
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_second_lease_gets_its_own_copy_and_fetches_only_what_is_damaged() {
        let bench = Bench::new().await;
        let blake3 = Some(*blake3::hash(b"weights").as_bytes());
        let file = WebFile { blake3, public: true, ..bench.file("/file") };
        for asked in [1, 1, 1] {
            assert_eq!(bench.pull(&file).await.unwrap(), b"weights");
            assert_eq!(bench.asked.load(Ordering::SeqCst), asked);
            std::fs::write(bench.target(), "what the job makes of it").unwrap();
        }
        let kept = std::fs::read_dir(bench.dir.path().join("cache")).unwrap().next().unwrap().unwrap();
        std::fs::write(kept.path(), "damaged").unwrap();
        assert_eq!(bench.pull(&file).await.unwrap(), b"weights");
        assert_eq!(bench.asked.load(Ordering::SeqCst), 2);
        let private = WebFile { public: false, ..file };
        bench.pull(&private).await.unwrap();
        assert_eq!(bench.asked.load(Ordering::SeqCst), 3, "what is not public is never shared");
    }

    #[tokio::test]
    async fn what_changed_since_it_was_listed_is_not_taken_for_the_same() {
        let bench = Bench::new().await;
        let same = WebFile { etag: Some("\"one\"".into()), size: Some(Bytes::new(7)), ..bench.file("/file") };
        assert_eq!(bench.pull(&same).await.unwrap(), b"weights");
        let other = WebFile { etag: Some("\"two\"".into()), ..same.clone() };
        assert!(bench.refused(&other).await.contains("another than when the job was submitted"));
        for size in [6, 8] {
            let other = WebFile { size: Some(Bytes::new(size)), ..same.clone() };
            assert!(bench.refused(&other).await.contains("when the job was submitted"));
        }
        let sha256 = Some([7; 32]);
        assert!(bench.refused(&WebFile { sha256, ..same }).await.contains("another SHA-256 hash"));
    }

    #[tokio::test]
    async fn an_address_that_ran_out_is_said_to_have_without_its_signature() {
        let bench = Bench::new().await;
        let signed = WebFile { until: Some(NOW), ..bench.file("/gone?X-Amz-Signature=hunter2") };
        let expired = bench.refused(&signed).await;
        assert!(expired.contains("/gone answered 403") && expired.contains("ran out"), "{expired}");
        let early =
            WebFile { until: Some(NOW.after(tradewind_proto::units::Seconds::new(1))), ..signed.clone() };
        let refused = bench.refused(&early).await;
        assert!(refused.contains("signed") && !refused.contains("ran out"), "{refused}");
        let nowhere = WebFile { url: "https://127.0.0.1:1/x?X-Amz-Signature=hunter2".into(), ..signed };
        let Err(PullError::Later(unreachable)) = bench.pull(&nowhere).await else {
            panic!("nobody is there")
        };
        for said in [expired, refused, unreachable] {
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
