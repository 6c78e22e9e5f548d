//! What a lease costs over a bare `docker run` of the same image, from the order to the first line of log.

use std::process::Command as Program;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tradewind_proto::workload::{LogCursor, Network};
use tradewind_provider::docker::{DockerConfig, PoolSize};

use super::busybox::Recipe;
use super::{config, fixture_of, host};
use crate::conformance::Fixture;

const ROUNDS: usize = 5;
/// The budget is 150 ms on a quiet machine; a busy one only must not lose sight of it.
const ALLOWANCE: Duration = Duration::from_millis(1500);

async fn lease(f: &Fixture, network: Network) -> Duration {
    let mut job = f.job("echo first; exec ./busybox sleep 60");
    job.spec.network = network;
    let begin = Instant::now();
    f.start(&job).await.expect("start");
    while f.runtime.logs(job.lease(), LogCursor::default(), 100).await.expect("logs").bytes.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let taken = begin.elapsed();
    f.clear(&job).await;
    taken
}

fn bare(image: &str) -> Duration {
    let begin = Instant::now();
    let output = Program::new("docker")
        .args(["--host", &host(), "run", "--rm", "--network", "none", image, "/bin/sh", "-c", "echo first"])
        .output()
        .expect("install docker's command line");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "first\n");
    begin.elapsed()
}

fn median(mut of: Vec<Duration>) -> Duration {
    of.sort();
    of[of.len() / 2]
}

#[tokio::test]
async fn a_lease_begins_soon_after_a_bare_run_would() {
    let root = TempDir::new().expect("a directory");
    let settings = DockerConfig { pool: PoolSize { open: 1, closed: 0 }, ..config(&root) };
    let f = fixture_of(root, settings.clone(), &Recipe::with_shell()).await;
    let image = f.image.clone().and_then(|image| image.digest).expect("a digest");
    let (mut runs, mut sealed, mut networked) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        runs.push(bare(&image));
        sealed.push(lease(&f, Network::None).await);
        networked.push(lease(&f, Network::Internet).await);
    }
    let (run, sealed, networked) = (median(runs), median(sealed), median(networked));
    eprintln!(
        "order to first line: docker run {run:?}, lease without network {sealed:?}, with {networked:?}"
    );
    assert!(sealed <= run + ALLOWANCE, "{sealed:?} against {run:?}");
    super::connect(&settings).leave().await.expect("leave");
}
