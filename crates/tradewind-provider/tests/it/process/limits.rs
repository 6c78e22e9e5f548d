//! Jobs that take more than they may.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use tradewind_proto::units::{Bytes, Seconds};
use tradewind_proto::workload::LogCursor;

use super::{fixture, processes_of};

#[tokio::test]
async fn a_job_that_fills_the_disk_is_killed_and_told_why() {
    let f = fixture().await;
    let mut job = f.job("i=0; while :; do ./busybox dd if=/dev/zero of=f$i bs=1M count=4 2>/dev/null; i=$((i+1)); ./busybox sleep 0.03; done");
    job.spec.limits.disk = Bytes::mib(24);
    assert_eq!(f.run(&job).await.code, 137);
    let log = f.log(job.lease()).await;
    assert!(log.contains("tradewind: killed: /work holds") && log.contains("the limit is 24 MiB"), "{log}");
    f.clear(&job).await;
}

#[tokio::test]
async fn deleted_files_that_are_still_open_count_as_disk() {
    let f = fixture().await;
    let mut job = f.job(
        "exec 3>a 4>b 5>c; ./busybox rm a b c; for fd in 3 4 5; do ./busybox dd if=/dev/zero bs=1M count=12 >&$fd; done; \
         ./busybox sleep 60",
    );
    job.spec.limits.disk = Bytes::mib(24);
    assert_eq!(f.run(&job).await.code, 137);
    assert!(f.log(job.lease()).await.contains("killed: /work holds"));
    f.clear(&job).await;
}

#[tokio::test]
async fn what_lies_in_a_closed_directory_is_not_hidden() {
    let f = fixture().await;
    let mut job = f.job(
        "./busybox mkdir c; for i in 1 2 3; do ./busybox dd if=/dev/zero of=c/$i bs=1M count=12; done; \
         ./busybox chmod 0 c; ./busybox sleep 60",
    );
    job.spec.limits.disk = Bytes::mib(24);
    assert_eq!(f.run(&job).await.code, 137);
    assert!(f.log(job.lease()).await.contains("tradewind: killed: /work"));
    f.clear(&job).await;
}

#[tokio::test]
async fn one_file_cannot_exceed_the_disk_limit_even_for_a_moment() {
    let f = fixture().await;
    let mut job = f.job("./busybox dd if=/dev/zero of=big bs=1M count=64");
    job.spec.limits.disk = Bytes::mib(16);
    assert_ne!(f.run(&job).await.code, 0);
    let big = std::fs::metadata(job.work().join("big")).expect("big").len();
    assert!(big <= Bytes::mib(16).get(), "{big} bytes");
    f.clear(&job).await;
}

#[tokio::test]
async fn a_fork_bomb_stays_small_and_is_stopped() {
    let f = fixture().await;
    let mut job = f.job("echo up; b() { b | b & }; b 2>/dev/null; while :; do ./busybox sleep 1; done");
    job.spec.limits.pids = 48;
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    let user = std::fs::metadata(job.work()).expect("the work directory").uid();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(700) {
        if user != 0 {
            let count = processes_of(user).len();
            assert!(count <= 48, "{count} processes with a limit of 48");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let begin = Instant::now();
    f.runtime.stop(job.lease(), Seconds::new(1)).await.expect("stop");
    assert!(begin.elapsed() < Duration::from_secs(8), "it takes {:?} to stop", begin.elapsed());
    if rustix::process::geteuid().is_root() {
        assert!(processes_of(user).is_empty());
    }
    f.clear(&job).await;
}

#[tokio::test]
async fn a_log_flood_costs_the_host_neither_disk_nor_cpu() {
    let f = fixture().await;
    let mut job = f.job("./busybox yes flood");
    job.spec.limits.log = Bytes::new(64 << 10);
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "flood").await;
    let shim = super::shim_record(&f, &job)["pid"].as_u64().expect("a pid");
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{shim}/stat")).expect("stat");
        let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
        fields[11].parse::<u64>().expect("user time") + fields[12].parse::<u64>().expect("system time")
    };
    let before = ticks();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(ticks() - before <= 25, "the shim takes {} % of a CPU", ticks() - before);
    let chunk = f.runtime.logs(job.lease(), LogCursor::default(), 1 << 20).await.expect("read the log");
    assert_eq!(chunk.bytes.len(), 64 << 10);
    assert!(chunk.dropped > 1 << 20, "{} bytes dropped", chunk.dropped);
    f.clear(&job).await;
}

#[tokio::test]
async fn memory_in_tmp_counts_as_memory() {
    let f = fixture().await;
    let mut job = f.job("./busybox dd if=/dev/zero of=/tmp/a bs=1M count=200; ./busybox dd if=/dev/zero of=/dev/shm/a bs=1M count=200");
    job.spec.limits.memory = Bytes::mib(64);
    f.run(&job).await;
    let peak = f.runtime.usage(job.lease()).await.expect("usage").memory_peak;
    assert!(peak <= Bytes::mib(65), "{peak}");
    assert!(!f.log(job.lease()).await.contains("200+0 records out"));
    f.clear(&job).await;
}

#[tokio::test]
async fn a_job_that_ignores_signals_cannot_outlive_its_stop() {
    let f = fixture().await;
    let job = f.job("trap '' TERM INT HUP QUIT; (trap '' TERM; setsid ./busybox sleep 99) & echo up; while :; do ./busybox sleep 9; done");
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    let user = std::fs::metadata(job.work()).expect("the work directory").uid();
    f.runtime.stop(job.lease(), Seconds::new(1)).await.expect("stop");
    if rustix::process::geteuid().is_root() {
        assert!(processes_of(user).is_empty(), "{:?}", processes_of(user));
    }
    f.clear(&job).await;
}
