//! The docker runtime on a real engine: the one that `TRADEWIND_DOCKER_HOST` or `DOCKER_HOST` names, as `scripts/with-dockerd`
//! exports it. No engine is a failure with a hint, never a skip.

mod busybox;
mod cache;
mod egress;
mod engine;
mod hostile;
mod images;
mod outage;
mod overhead;
mod places;
mod private;
mod registry;
mod remapped;
mod sandboxed;
mod signed;
mod topology;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::Docker;
use tempfile::TempDir;
use tradewind_proto::workload::{Image, Network};
use tradewind_provider::docker::{DockerConfig, DockerRuntime, ImageLimits, PoolSize};
use tradewind_provider::runtime::Runtime;

use crate::conformance::{Fixture, Job};
use busybox::Recipe;

crate::conformance_suite!(crate::docker::fixture);
crate::session_suite!(crate::docker::fixture);
crate::escape_suite!(crate::docker::fixture);

/// Where the engine is.
fn host() -> String {
    ["TRADEWIND_DOCKER_HOST", "DOCKER_HOST"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "unix:///var/run/docker.sock".into())
}

/// The engine itself, for what the runtime does not tell.
async fn bare_engine() -> Docker {
    let path = host().replacen("unix://", "", 1);
    let client = Docker::connect_with_unix(&path, 30, bollard::API_DEFAULT_VERSION).expect("connect");
    client.negotiate_version().await.expect("an engine answers")
}

/// Settings under `home`, as another agent than every other test's.
fn config(home: &TempDir) -> DockerConfig {
    DockerConfig {
        host: host(),
        pool: PoolSize { open: 0, closed: 0 },
        call_within: Duration::from_secs(30),
        ..DockerConfig::new(format!("test-{}", home.path().display()), home.path().join("state"))
    }
}

fn connect(config: &DockerConfig) -> DockerRuntime {
    DockerRuntime::connect(config.clone()).expect("make a runtime")
}

/// Imports the image of a recipe.
async fn import(runtime: &DockerRuntime, home: &TempDir, recipe: &Recipe) -> Image {
    let path = home.path().join("image.tar");
    let (hash, digest) = recipe.write(&path);
    let imported = runtime.import(None, &path, hash).await.unwrap_or_else(|error| {
        panic!(
            "no image can be imported at {}: {error}\nhint: scripts/with-dockerd cargo nextest run docker",
            host()
        )
    });
    assert_eq!(imported, digest, "the engine names it as the archive does");
    Image { reference: "busybox".into(), digest: Some(digest), archive: Some(hash) }
}

async fn fixture_of(root: TempDir, settings: DockerConfig, recipe: &Recipe) -> Fixture {
    // The image comes by the engine itself, however the runtime under test is connected and bounded.
    let direct = DockerConfig { host: host(), images: ImageLimits::default(), ..settings.clone() };
    let image = import(&connect(&direct), &root, recipe).await;
    let runtime = Arc::new(connect(&settings));
    let reopen = Box::new(move || Arc::new(connect(&settings)) as Arc<dyn Runtime>);
    Fixture {
        runtime,
        reopen,
        image: Some(image),
        network_of_ports: Network::None,
        has_own_kernel: false,
        root,
    }
}

async fn fixture() -> Fixture {
    let root = TempDir::new().expect("a directory");
    let settings = config(&root);
    fixture_of(root, settings, &Recipe::with_shell()).await
}

/// Runs `script` to its end and returns its log.
async fn told(f: &Fixture, job: &Job) -> String {
    f.run(job).await;
    let log = f.log(job.lease()).await;
    f.clear(job).await;
    log
}

/// Waits until `holds`.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
