//! The engine and the agents on it: outages, restarts, other agents, what is left behind.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder};
use tempfile::TempDir;
use tradewind_proto::units::Seconds;
use tradewind_proto::workload::{LogCursor, Network, WorkloadStatus};
use tradewind_provider::docker::{DockerConfig, PoolSize};
use tradewind_provider::runtime::{Runtime as _, RuntimeError};

use super::busybox::Recipe;
use super::outage::{Door, Outage};
use super::topology::shows;
use super::{bare_engine, config, connect, eventually, fixture, fixture_of};
use crate::conformance::{Fixture, Job};

/// A fixture behind a door.
async fn behind_a_door() -> (Fixture, Outage) {
    let root = TempDir::new().expect("a directory");
    let outage = Outage::new(root.path().join("door.sock"));
    let settings =
        DockerConfig { host: outage.host.clone(), call_within: Duration::from_secs(2), ..config(&root) };
    (fixture_of(root, settings, &Recipe::with_shell()).await, outage)
}

async fn unavailable(f: &Fixture, job: &Job) {
    let begin = Instant::now();
    let lease = job.lease();
    let answers = tokio::join!(
        async { f.runtime.status(lease).await.err() },
        async { f.runtime.usage(lease).await.err() },
        async { f.runtime.list().await.err() },
        async { f.runtime.address(lease, 80).await.err() },
        async { f.runtime.pause(lease).await.err() },
        async { f.runtime.remove(lease).await.err() },
        async { f.start(job).await.err() },
    );
    let answers: [Option<RuntimeError>; 7] = answers.into();
    for answer in answers {
        assert!(matches!(answer, Some(RuntimeError::Unavailable(_))), "{answer:?}");
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "it took {:?}", begin.elapsed());
}

#[tokio::test]
async fn an_engine_that_hangs_or_restarts_is_unavailable_and_the_job_goes_on() {
    let (f, outage) = behind_a_door().await;
    let job =
        f.job("i=0; while [ ! -e go ]; do echo line $i; i=$((i+1)); ./busybox sleep 0.02; done; echo end $i");
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "line 3").await;
    for door in [Door::Hangs, Door::Shut] {
        outage.set(door);
        unavailable(&f, &job).await;
    }
    outage.set(Door::Open);
    let status = f.runtime.status(job.lease()).await.expect("the engine is back");
    assert!(matches!(status, WorkloadStatus::Running { .. }), "{status:?}");
    std::fs::write(job.work().join("go"), "").expect("write");
    assert_eq!(f.exit(job.lease()).await.code, 0);
    let log = f.log(job.lease()).await;
    let lines: Vec<_> = log.lines().collect();
    let (last, counted) = lines.split_last().expect("lines");
    assert_eq!(*last, format!("end {}", counted.len()), "every line came once");
    assert!(counted.iter().enumerate().all(|(number, line)| *line == format!("line {number}")), "{log}");
    f.clear(&job).await;
}

#[tokio::test]
async fn a_container_that_was_only_made_is_started_by_the_next_agent() {
    let (f, outage) = behind_a_door().await;
    let job = f.job("echo run >> runs; ./busybox sleep 60");
    outage.set(Door::HangsAt("/start".into()));
    let error = f.start(&job).await.expect_err("the engine does not start it");
    assert!(matches!(error, RuntimeError::Unavailable(_)), "{error:?}");
    // The request that hung must not arrive late.
    outage.set(Door::Shut);
    tokio::time::sleep(Duration::from_millis(100)).await;
    outage.set(Door::Open);
    assert_eq!(f.runtime.status(job.lease()).await.expect("status"), WorkloadStatus::Absent);
    assert!(f.runtime.list().await.expect("list").contains(&job.lease()), "what is left is listed");
    let agent = (f.reopen)();
    agent.start(&job.spec, &job.secrets, &job.volumes).await.expect("start");
    eventually("it runs", async || job.read("runs") == "run\n").await;
    f.clear(&job).await;
}

#[tokio::test]
async fn no_engine_is_a_finding_with_its_fix() {
    let root = TempDir::new().expect("a directory");
    let runtime = connect(&DockerConfig { host: "unix:///nowhere/docker.sock".into(), ..config(&root) });
    let readiness = runtime.readiness().await;
    assert!(!readiness.ready);
    let finding = readiness.findings.first().expect("a finding");
    assert!(
        finding.problem.contains("/nowhere/docker.sock") && finding.fix.contains("docker.io"),
        "{finding:?}"
    );
}

#[tokio::test]
async fn this_engine_is_ready() {
    let f = fixture().await;
    let readiness = f.runtime.readiness().await;
    assert!(readiness.ready, "{:?}", readiness.findings);
}

#[tokio::test]
async fn two_agents_on_one_engine_leave_each_other_alone() {
    let f = fixture().await;
    let root = TempDir::new().expect("a directory");
    let other = connect(&config(&root));
    let job = f.job("./busybox sleep 60");
    f.start(&job).await.expect("start");
    let lease = job.lease();
    assert!(!other.list().await.expect("list").contains(&lease));
    assert_eq!(other.status(lease).await.expect("status"), WorkloadStatus::Absent);
    let conflict = other.start(&job.spec, &job.secrets, &job.volumes).await;
    assert!(matches!(conflict, Err(RuntimeError::Conflict(_))), "{conflict:?}");
    assert!(matches!(other.signal(lease, 9).await, Err(RuntimeError::Absent(_))));
    other.stop(lease, Seconds::new(0)).await.expect("nothing of its own runs");
    other.remove(lease).await.expect("nothing of its own is left");
    let status = f.runtime.status(lease).await.expect("status");
    assert!(matches!(status, WorkloadStatus::Running { .. }), "{status:?}");
    f.clear(&job).await;
}

/// Networks of an owner.
async fn networks(owner: &str) -> Vec<String> {
    let filters = HashMap::from([("label".to_owned(), vec![format!("tradewind.owner={owner}")])]);
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let found = bare_engine().await.list_networks(Some(options)).await.expect("list");
    found.into_iter().filter_map(|network| network.name).collect()
}

#[tokio::test]
async fn bridges_wait_ready_and_none_is_left_at_the_end() {
    let root = TempDir::new().expect("a directory");
    let settings = DockerConfig { pool: PoolSize { open: 1, closed: 1 }, ..config(&root) };
    let owner = settings.owner.clone();
    let f = fixture_of(root, settings.clone(), &Recipe::with_shell()).await;
    eventually("both are ready", async || networks(&owner).await.len() == 2).await;
    let ready = networks(&owner).await;

    let mut job = f.job("./busybox sleep 60");
    job.spec.network = Network::Internet;
    f.start(&job).await.expect("start");
    let name = format!("tw-{}", job.lease());
    let found = bare_engine().await.inspect_container(&name, None).await.expect("inspect");
    let used = found.host_config.and_then(|config| config.network_mode).expect("a network");
    assert!(ready.contains(&used), "{used} was not among {ready:?}");
    eventually("another is ready", async || networks(&owner).await.len() == 3).await;

    f.runtime.stop(job.lease(), Seconds::new(0)).await.expect("stop");
    let Fixture { runtime, reopen, root, .. } = f;
    drop((runtime, reopen));
    let next = connect(&settings);
    next.remove(job.lease()).await.expect("remove");
    next.leave().await.expect("leave");
    // Longer than the time within which it would make new ones.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(networks(&owner).await, Vec::<String>::new());
    drop(root);
    let bridges = std::fs::read_dir("/sys/class/net").expect("list").flatten();
    let alone = !bridges.into_iter().any(|found| found.file_name().to_string_lossy().starts_with("twl"));
    assert_eq!(shows("nft list table inet tradewind"), !alone, "the table goes with the last bridge");
}

#[tokio::test]
async fn removal_leaves_nothing_of_a_lease() {
    let f = fixture().await;
    let owner = config(&f.root).owner;
    let mut job = f.job("echo data > /work/out");
    job.spec.network = Network::Internet;
    f.run(&job).await;
    assert_eq!(networks(&owner).await.len(), 1);
    f.clear(&job).await;
    assert_eq!(networks(&owner).await, Vec::<String>::new());
    let filters = HashMap::from([("label".to_owned(), vec![format!("tradewind.owner={owner}")])]);
    let all = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    assert!(bare_engine().await.list_containers(Some(all)).await.expect("list").is_empty());
    let left = std::fs::read_dir(f.root.path().join("state/leases")).expect("list").count();
    assert_eq!(left, 0, "the agent's own directory of it is gone");
    assert_eq!(job.read("out"), "data\n");
}

#[tokio::test]
async fn long_lines_and_odd_bytes_come_as_they_were_written() {
    let f = fixture().await;
    let job = f.job(
        "./busybox head -c 100000 /dev/zero | ./busybox tr '\\0' x; echo; printf 'a\\377b\\n\\n\\tc\\n'; \
         ./busybox head -c 200000 /dev/zero | ./busybox tr '\\0' y; echo; printf 'no newline'",
    );
    f.run(&job).await;
    let (mut bytes, mut from) = (Vec::new(), LogCursor::default());
    loop {
        let chunk = f.runtime.logs(job.lease(), from, 7001).await.expect("logs");
        bytes.extend_from_slice(&chunk.bytes);
        from = chunk.next;
        if chunk.end {
            break;
        }
    }
    let mut expected = vec![b'x'; 100_000];
    expected.extend_from_slice(b"\na\xffb\n\n\tc\n");
    expected.extend(std::iter::repeat_n(b'y', 200_000));
    expected.extend_from_slice(b"\nno newline");
    assert_eq!(bytes.len(), expected.len());
    assert!(bytes == expected);
    f.clear(&job).await;
}

#[tokio::test]
async fn consumption_is_known_after_the_end() {
    let f = fixture().await;
    let mut job = f.job("echo up; i=0; while [ ! -e go ]; do i=$((i+1)); done");
    job.spec.limits.cpu_millis = 1000;
    f.start(&job).await.expect("start");
    eventually("it has consumed", async || {
        f.runtime.usage(job.lease()).await.is_ok_and(|usage| usage.cpu_ms > 200)
    })
    .await;
    let before = f.runtime.usage(job.lease()).await.expect("usage");
    std::fs::write(job.work().join("go"), "").expect("write");
    f.exit(job.lease()).await;
    let after = f.runtime.usage(job.lease()).await.expect("usage");
    assert!(after.cpu_ms >= before.cpu_ms && after.memory_peak >= before.memory_peak, "{before:?} {after:?}");
    let agent = (f.reopen)();
    assert_eq!(agent.usage(job.lease()).await.expect("usage"), after);
    f.clear(&job).await;
}

#[tokio::test]
async fn readers_of_a_log_do_not_ask_the_engine_at_each_look() {
    const LOOKS: usize = 400;
    let (f, outage) = behind_a_door().await;
    let job = f.job("echo first; ./busybox sleep 60");
    f.start(&job).await.expect("start");
    let look = async |from| f.runtime.logs(job.lease(), from, 100).await.expect("the log");
    let mut read = LogCursor::default();
    eventually("it speaks", async || {
        read = look(read).await.next;
        read != LogCursor::default()
    })
    .await;
    let (before, begin) = (outage.asked(), Instant::now());
    for _ in 0..LOOKS {
        assert!(look(read).await.bytes.is_empty());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Twice a second for all readers, and what looks after the lease meanwhile.
    let (asked, halves) = (outage.asked() - before, begin.elapsed().as_millis() / 500 + 2);
    assert!(asked as u128 <= 4 * halves, "{asked} requests in {halves} half seconds");
    f.clear(&job).await;
}
