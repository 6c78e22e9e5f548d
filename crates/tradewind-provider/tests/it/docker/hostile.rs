//! What a job tries against its host, and the refusal that it meets.

use std::time::{Duration, Instant};

use tradewind_proto::units::{Bytes, Seconds};
use tradewind_proto::workload::WorkloadStatus;

use super::{bare_engine, eventually, fixture, told};
use crate::conformance::Fixture;

/// Runs one attempt; it must print what it says when it fails, and nothing when it succeeds.
async fn attempt(f: &Fixture, script: &str) -> String {
    told(f, &f.job(script)).await
}

#[tokio::test]
async fn a_job_has_no_power_over_its_host() {
    let f = fixture().await;
    let log =
        attempt(&f, "grep -E '^(CapEff|CapBnd|CapPrm|NoNewPrivs|Seccomp):' /proc/self/status; id -u").await;
    for line in ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"] {
        assert!(log.contains(line), "{log}");
    }
    assert!(log.contains("NoNewPrivs:\t1") && log.contains("Seccomp:\t2"), "{log}");
    assert!(!log.lines().any(|line| line == "0"), "it is root: {log}");
}

#[tokio::test]
async fn nothing_but_the_work_directory_and_memory_is_writable() {
    let f = fixture().await;
    let log = attempt(
        &f,
        "for p in / /bin /etc /proc/sys/kernel /sys /dev /var /root /home; do touch $p/x 2>/dev/null && echo wrote $p; done; \
         echo 1 > /proc/sysrq-trigger && echo wrote sysrq; \
         echo x > /sys/fs/cgroup/memory/memory.limit_in_bytes && echo wrote cgroup; \
         touch /tmp/x /work/x /dev/shm/x && echo fine",
    )
    .await;
    assert!(log.ends_with("fine\n") && !log.contains("wrote"), "{log}");
}

#[tokio::test]
async fn the_host_is_out_of_sight() {
    let f = fixture().await;
    let secret = f.root.path().join("of-the-host");
    std::fs::write(&secret, "secret").expect("write");
    let log = attempt(
        &f,
        &format!(
            "ls /var/run/docker.sock /run/docker.sock 2>/dev/null && echo saw a socket; \
             cat {secret} /work/../{secret} /proc/1/root{secret} 2>/dev/null && echo saw a file; \
             [ $(ls -d /proc/[0-9]* | ./busybox wc -l) -lt 10 ] || echo saw processes; \
             ls /dev/sda /dev/vda /dev/mem /dev/kmem /dev/kvm 2>/dev/null && echo saw devices; \
             ln -s {secret} link && cat link 2>/dev/null && echo followed; echo done",
            secret = secret.display()
        ),
    )
    .await;
    assert!(log.ends_with("done\n") && !log.contains("saw") && !log.contains("followed"), "{log}");
}

#[tokio::test]
async fn the_ways_out_of_a_container_are_shut() {
    let f = fixture().await;
    let log = attempt(
        &f,
        "mount -t tmpfs none /tmp && echo mounted; mount --bind / /work && echo bound; \
         ./busybox mknod /work/disk b 8 0 && echo made a device; \
         ./busybox unshare -r true && echo made a namespace; \
         ./busybox chroot /work /busybox true && echo changed root; \
         ./busybox nsenter -t 1 -m true && echo entered; \
         ./busybox kill -9 1 && [ ! -d /proc/1 ] && echo killed init; \
         ./busybox insmod /work/x && echo loaded; ./busybox reboot -f && echo rebooted; \
         ./busybox date -s 2000-01-01 >/dev/null; [ $(./busybox date +%Y) = 2000 ] && echo set the clock; \
         ./busybox chmod 4755 busybox; ./busybox su -c true && echo became root; exit 0",
    )
    .await;
    for success in [
        "mounted", "bound", "made", "changed", "entered", "killed", "loaded", "rebooted", "set the", "became",
    ] {
        assert!(!log.contains(success), "{success}: {log}");
    }
    assert!(log.contains("ermitted") || log.contains("ermission"), "the kernel says why: {log}");
}

#[tokio::test]
async fn a_file_above_the_disk_limit_cannot_be_written() {
    let f = fixture().await;
    let mut job = f.job("dd if=/dev/zero of=huge bs=1M count=64; ls -l huge");
    job.spec.limits.disk = Bytes::mib(16);
    let log = told(&f, &job).await;
    let size = std::fs::metadata(job.work().join("huge")).expect("stat").len();
    assert!(size <= 16 << 20, "{size} bytes were written: {log}");
}

#[tokio::test]
async fn a_directory_above_the_disk_limit_ends_the_job_and_the_log_says_so() {
    let f = fixture().await;
    let mut job =
        f.job("i=0; while :; do dd if=/dev/zero of=f$i bs=1M count=4 2>/dev/null; i=$((i+1)); ./busybox sleep 0.1; done");
    job.spec.limits.disk = Bytes::mib(16);
    let exit = f.run(&job).await;
    assert_eq!(exit.code, 128 + 9);
    let log = f.log(job.lease()).await;
    assert!(log.contains("tradewind: stopped: the work directory passed its limit of 16 MiB"), "{log}");
    let files = std::fs::read_dir(job.work()).expect("list").count() as u64;
    assert!(files * 4 < 128, "it went on for long: {files} files");
    f.clear(&job).await;
}

#[tokio::test]
async fn deleted_files_that_stay_open_count_against_the_disk_limit() {
    let f = fixture().await;
    let mut job = f.job(
        "for n in 3 4 5 6 7 8 9; do eval \"exec $n>hidden\"; ./busybox rm hidden; \
         dd if=/dev/zero bs=1M count=8 >&$n 2>/dev/null; done; echo full; ./busybox sleep 60",
    );
    job.spec.limits.disk = Bytes::mib(16);
    assert_eq!(f.run(&job).await.code, 128 + 9);
    assert!(f.log(job.lease()).await.contains("passed its limit"));
    f.clear(&job).await;
}

#[tokio::test]
async fn memory_file_systems_are_bounded_by_the_memory_limit() {
    let f = fixture().await;
    let mut job = f.job(
        "for place in /tmp /dev/shm; do dd if=/dev/zero of=$place/x bs=1M count=256 2>&1 | grep -i space; \
         [ $(./busybox stat -c %s $place/x) -le 33554432 ] || echo too much; rm $place/x 2>/dev/null; ./busybox rm -f $place/x; done",
    );
    job.spec.limits.memory = Bytes::mib(64);
    let log = told(&f, &job).await;
    assert_eq!(log.matches("No space left").count(), 2, "{log}");
    assert!(!log.contains("too much"), "{log}");
}

/// Whether any process of this machine was called with `text`.
fn runs(text: &str) -> bool {
    let called =
        |entry: std::io::Result<std::fs::DirEntry>| std::fs::read(entry.ok()?.path().join("cmdline")).ok();
    let mut processes = std::fs::read_dir("/proc").expect("list").filter_map(called);
    processes.any(|line| String::from_utf8_lossy(&line).contains(text))
}

#[tokio::test]
async fn a_fork_bomb_stays_in_its_box() {
    let f = fixture().await;
    let mut job = f.job("echo lit; (b() { b | b & b; }; b) 2>/dev/null; while :; do :; done");
    job.spec.limits.pids = 40;
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "lit").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begin = Instant::now();
    let status = f.runtime.status(job.lease()).await.expect("the engine still answers");
    assert!(!matches!(status, WorkloadStatus::Absent | WorkloadStatus::Lost), "{status:?}");
    assert!(runs("b() { b | b & b; }"), "the bomb went off, and its shell goes on");
    f.runtime.stop(job.lease(), Seconds::new(0)).await.expect("it can be stopped");
    assert!(begin.elapsed() < Duration::from_secs(10), "stopping took {:?}", begin.elapsed());
    eventually("its processes are gone", async || !runs("b() { b | b & b; }")).await;
    f.clear(&job).await;
}

#[tokio::test]
async fn secrets_are_in_the_environment_and_nowhere_else() {
    let f = fixture().await;
    let mut job = f.job("echo $TOKEN > seen; ./busybox sleep 60");
    job.secrets.0.insert("TOKEN".into(), "hunter2-of-this-test".into());
    f.start(&job).await.expect("start");
    eventually("the job sees it", async || job.read("seen") == "hunter2-of-this-test\n").await;
    let name = format!("tw-{}", job.lease());
    let mut found = bare_engine().await.inspect_container(&name, None).await.expect("inspect");
    let config = found.config.as_mut().expect("a configuration");
    let environment = config.env.take().unwrap_or_default();
    assert!(environment.iter().any(|entry| entry == "TOKEN=hunter2-of-this-test"));
    let rest = serde_json::to_string(&found).expect("write");
    assert!(!rest.contains("hunter2"), "{rest}");
    let state = walk(&f.root.path().join("state"));
    assert!(!state.contains("hunter2"), "the agent keeps it on disk");
    f.clear(&job).await;
}

/// Everything that is written below a directory.
fn walk(directory: &std::path::Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(directory).expect("list").flatten() {
        if entry.path().is_dir() {
            text += &walk(&entry.path());
        } else {
            text += &String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap_or_default());
        }
    }
    text
}
