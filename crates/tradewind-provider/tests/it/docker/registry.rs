//! Images of a registry: one whose tags move, one that lies, one without end.
//!
//! The registry is a small one of our own, on loopback, where engines take plain HTTP; the engine that pulls from it is real.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tradewind_proto::units;
use tradewind_proto::workload::Image;
use tradewind_provider::docker::{DockerConfig, GpuMode, ImageLimits, Nvidia};
use tradewind_provider::runtime::RuntimeError;

use super::busybox::Recipe;
use super::{bare_engine, config, fixture_of, told};
use crate::conformance::Fixture;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What a registry holds.
#[derive(Default)]
pub(super) struct Shelf {
    /// By digest, and manifests by tag too.
    blobs: HashMap<String, Bytes>,
    /// A blob of which only the first bytes ever come.
    pub(super) stuck: Option<String>,
    /// What a request has to say in `Authorization`.
    pub(super) wants: Option<&'static str>,
}

#[derive(Clone, Default)]
pub(super) struct Registry {
    pub(super) shelf: Arc<Mutex<Shelf>>,
    port: u16,
    pub(super) name: String,
}

pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

impl Registry {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let name = format!("r{}", hex::encode(rand::random::<[u8; 4]>()));
        let registry = Self { port, name, ..Self::default() };
        let router = Router::new()
            .route("/v2/", get(async || ""))
            .route("/token", get(async || r#"{"token":"for-a-while"}"#))
            .route("/v2/{name}/manifests/{key}", get(manifest))
            .route("/v2/{name}/blobs/{key}", get(blob))
            .layer(middleware::from_fn_with_state(registry.clone(), guard))
            .with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        registry
    }

    pub(super) fn put(&self, key: &str, bytes: Bytes) {
        self.shelf.lock().expect("a shelf").blobs.insert(key.into(), bytes);
    }

    /// Puts an image under a tag; returns its manifest's digest and its layer's.
    pub(super) fn push(&self, tag: &str, recipe: &Recipe) -> (String, String) {
        let layer = recipe.layer();
        let config = Bytes::from(recipe.config(&layer));
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&layer).expect("pack");
        let packed = Bytes::from(packed.finish().expect("packed"));
        let described = |kind: &str, bytes: &Bytes| serde_json::json!({ "mediaType": kind, "size": bytes.len(), "digest": digest(bytes) });
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described("application/vnd.docker.container.image.v1+json", &config),
            "layers": [described("application/vnd.docker.image.rootfs.diff.tar.gzip", &packed)],
        });
        let manifest = Bytes::from(manifest.to_string());
        let names = (digest(&manifest), digest(&packed));
        for bytes in [&config, &packed, &manifest] {
            self.put(&digest(bytes), bytes.clone());
        }
        self.put(tag, manifest);
        names
    }

    pub(super) fn reference(&self, tag: &str) -> String {
        format!("127.0.0.1:{}/{}:{tag}", self.port, self.name)
    }

    pub(super) fn image(&self, tag: &str, digest: Option<&str>) -> Option<Image> {
        Some(Image { reference: self.reference(tag), digest: digest.map(String::from), archive: None })
    }

    pub(super) fn by_digest(&self, digest: &str) -> String {
        format!("127.0.0.1:{}/{}@{digest}", self.port, self.name)
    }
}

async fn guard(State(registry): State<Registry>, request: Request, next: Next) -> Response {
    let wanted = registry.shelf.lock().expect("a shelf").wants;
    let said = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let is_open = request.uri().path() == "/token";
    if is_open || wanted.is_none_or(|wanted| said == Some(wanted)) {
        return next.run(request).await;
    }
    let refusal = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    let by_token = format!(r#"Bearer realm="http://127.0.0.1:{}/token",service="images""#, registry.port);
    let is_bearer = wanted.is_some_and(|wanted| wanted.starts_with("Bearer"));
    let how = if is_bearer { by_token } else { r#"Basic realm="images""#.to_owned() };
    let headers = [(header::WWW_AUTHENTICATE, how), (header::CONTENT_TYPE, "application/json".to_owned())];
    (StatusCode::UNAUTHORIZED, headers, refusal).into_response()
}

pub(super) fn found(registry: &Registry, key: &str) -> Option<Bytes> {
    registry.shelf.lock().expect("a shelf").blobs.get(key).cloned()
}

async fn manifest(State(registry): State<Registry>, Path((_, key)): Path<(String, String)>) -> Response {
    let Some(bytes) = found(&registry, &key) else { return StatusCode::NOT_FOUND.into_response() };
    let headers =
        [(header::CONTENT_TYPE.as_str(), MANIFEST.to_owned()), ("Docker-Content-Digest", digest(&bytes))];
    (headers, bytes).into_response()
}

async fn blob(State(registry): State<Registry>, Path((_, key)): Path<(String, String)>) -> Response {
    let Some(bytes) = found(&registry, &key) else { return StatusCode::NOT_FOUND.into_response() };
    let length = [(header::CONTENT_LENGTH, bytes.len().to_string())];
    if registry.shelf.lock().expect("a shelf").stuck.as_ref() != Some(&key) {
        return (length, bytes).into_response();
    }
    let first = futures::stream::once(async move { Ok::<_, std::io::Error>(bytes.slice(..bytes.len() / 2)) });
    (length, Body::from_stream(first.chain(futures::stream::pending()))).into_response()
}

pub(super) fn recipe(registry: &Registry, comment: &str) -> Recipe {
    Recipe { comment: format!("{comment} of {}", registry.name), ..Recipe::with_shell() }
}

async fn fixture(images: ImageLimits) -> Fixture {
    let root = TempDir::new().expect("a directory");
    let settings = DockerConfig { images, pull_within: Duration::from_secs(60), ..config(&root) };
    fixture_of(root, settings, &Recipe::with_shell()).await
}

pub(super) async fn is_here(name: &str) -> bool {
    bare_engine().await.inspect_image(name).await.is_ok()
}

pub(super) async fn forget(name: &str) {
    let options = bollard::query_parameters::RemoveImageOptionsBuilder::default().force(true).build();
    bare_engine().await.remove_image(name, Some(options), None).await.expect("removed");
}

#[tokio::test]
async fn a_tag_that_moved_gives_no_other_image_than_the_buyer_chose() {
    let (f, registry) = (fixture(ImageLimits::default()).await, Registry::start().await);
    let (first, _) = registry.push("1", &recipe(&registry, "first"));
    let mut job = f.job("echo ran");
    job.spec.image = registry.image("1", Some(&first));
    assert_eq!(told(&f, &job).await, "ran\n");
    forget(&registry.by_digest(&first)).await;

    let (second, _) = registry.push("1", &recipe(&registry, "second"));
    let mut job = f.job("echo still");
    job.spec.image = registry.image("1", None);
    assert_eq!(told(&f, &job).await, "still\n", "without a digest the tag says");
    assert!(is_here(&registry.by_digest(&second)).await);
    let mut job = f.job("echo ran again");
    job.spec.image = registry.image("1", Some(&first));
    assert_eq!(told(&f, &job).await, "ran again\n");
    assert!(is_here(&registry.by_digest(&first)).await, "the one that was chosen was fetched by its digest");
    forget(&registry.by_digest(&first)).await;
    forget(&registry.by_digest(&second)).await;
}

#[tokio::test]
async fn a_registry_that_shows_other_bytes_under_a_digest_is_refused() {
    let (f, registry) = (fixture(ImageLimits::default()).await, Registry::start().await);
    let (chosen, _) = registry.push("1", &recipe(&registry, "chosen"));
    let (other, layer) = registry.push("2", &recipe(&registry, "other"));
    registry.put(&chosen, found(&registry, &other).expect("a manifest"));
    let mut job = f.job("echo never");
    job.spec.image = registry.image("1", Some(&chosen));
    let error = f.start(&job).await.expect_err("another manifest");
    assert!(error.to_string().contains("digest"), "{error}");
    assert!(!is_here(&registry.by_digest(&chosen)).await);

    registry.put(&layer, Bytes::from_static(b"another layer"));
    job.spec.image = registry.image("2", Some(&other));
    f.start(&job).await.expect_err("another layer");
    assert!(!is_here(&registry.by_digest(&other)).await);
    f.clear(&job).await;
}

#[tokio::test]
async fn an_image_that_is_too_much_to_fetch_is_given_up_while_it_comes() {
    let images = ImageLimits { archive: units::Bytes::new(100_000), ..ImageLimits::default() };
    let (f, registry) = (fixture(images).await, Registry::start().await);
    let (image, layer) = registry.push("1", &recipe(&registry, "much"));
    registry.shelf.lock().expect("a shelf").stuck = Some(layer);
    let mut job = f.job("echo never");
    job.spec.image = registry.image("1", Some(&image));
    let error = f.start(&job).await.expect_err("more than may be fetched");
    assert!(matches!(&error, RuntimeError::Start(why) if why.contains("to fetch")), "{error:?}");
    assert!(!is_here(&registry.by_digest(&image)).await);
    f.clear(&job).await;
}

#[tokio::test]
async fn an_image_bomb_of_a_registry_is_refused_and_leaves_nothing() {
    let images = ImageLimits { unpacked: units::Bytes::new(16 << 20), ..ImageLimits::default() };
    let (f, registry) = (fixture(images).await, Registry::start().await);
    let bomb = Recipe { zeros: 512 << 20, ..recipe(&registry, "bomb") };
    let (image, _) = registry.push("1", &bomb);
    for chosen in [Some(image.as_str()), None] {
        let mut job = f.job("echo never");
        job.spec.image = registry.image("1", chosen);
        let error = f.start(&job).await.expect_err("more than may be unpacked");
        assert!(matches!(&error, RuntimeError::Start(why) if why.contains("at most")), "{error:?}");
        assert!(!is_here(&registry.by_digest(&image)).await);
        assert!(!is_here(&registry.reference("1")).await);
        f.clear(&job).await;
    }
}

#[tokio::test]
async fn an_image_for_another_architecture_is_refused_and_leaves_nothing() {
    let (f, registry) = (fixture(ImageLimits::default()).await, Registry::start().await);
    let (image, _) =
        registry.push("1", &Recipe { architecture: Some("riscv64"), ..recipe(&registry, "foreign") });
    let mut job = f.job("echo never");
    job.spec.image = registry.image("1", None);
    let error = f.start(&job).await.expect_err("no program of it runs here");
    assert!(matches!(&error, RuntimeError::Start(why) if why.contains("is for riscv64")), "{error:?}");
    assert!(!is_here(&registry.by_digest(&image)).await);
    f.clear(&job).await;
}

#[tokio::test]
async fn an_image_for_a_newer_driver_is_refused_before_a_container_is_made() {
    let root = TempDir::new().expect("a directory");
    let nvidia = Nvidia { driver: "550.54.15".parse().ok(), cuda: "12.4".parse().ok() };
    let settings = DockerConfig { gpus: GpuMode::Cdi, nvidia, ..config(&root) };
    let f = fixture_of(root, settings, &Recipe::with_shell()).await;
    let registry = Registry::start().await;
    let variables = vec!["NVIDIA_REQUIRE_CUDA=cuda>=12.8 brand=tesla,driver>=470,driver<471"];
    registry.push("1", &Recipe { variables, ..recipe(&registry, "newer") });
    let mut job = f.job("echo ran");
    job.spec.image = registry.image("1", None);
    assert_eq!(told(&f, &job).await, "ran\n", "a lease without cards");
    job.spec.limits.gpus = vec![0];
    let error = f.start(&job).await.expect_err("its driver is too old");
    assert!(
        matches!(&error, RuntimeError::Start(why) if why.contains("cuda>=12.8") && why.contains("has CUDA 12.4")),
        "{error:?}"
    );
    f.clear(&job).await;
    forget(&registry.reference("1")).await;
}
