//! The docker runtime on a real engine: the one that `TRADEWIND_DOCKER_HOST` or `DOCKER_HOST` names, as `scripts/with-dockerd`
//! exports it. No engine is a failure with a hint, never a skip.

mod busybox;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tradewind_proto::workload::{Image, Network};
use tradewind_provider::docker::{DockerConfig, DockerRuntime, PoolSize};
use tradewind_provider::runtime::Runtime;

use crate::conformance::Fixture;
use busybox::Recipe;

/// Where the engine is.
fn host() -> String {
    ["TRADEWIND_DOCKER_HOST", "DOCKER_HOST"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "unix:///var/run/docker.sock".into())
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
    let imported = runtime.import(&path, hash).await.unwrap_or_else(|error| {
        panic!(
            "no image can be imported at {}: {error}\nhint: scripts/with-dockerd cargo nextest run docker",
            host()
        )
    });
    assert_eq!(imported, digest, "the engine names it as the archive does");
    Image { reference: "busybox".into(), digest: Some(digest), archive: Some(hash) }
}

async fn fixture() -> Fixture {
    let root = TempDir::new().expect("a directory");
    let settings = config(&root);
    let runtime = connect(&settings);
    let image = import(&runtime, &root, &Recipe::with_shell()).await;
    let reopen = Box::new(move || Arc::new(connect(&settings)) as Arc<dyn Runtime>);
    Fixture { runtime: Arc::new(runtime), reopen, image: Some(image), network_of_ports: Network::None, root }
}

crate::conformance_suite!(crate::docker::fixture);
