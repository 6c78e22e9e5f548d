//! What survives whom: the job its agent, nothing its shim, and nobody a reboot.

use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tradewind_proto::units::Seconds;
use tradewind_proto::workload::WorkloadStatus;
use tradewind_provider::process::{ProcessConfig, ProcessRuntime};
use tradewind_provider::runtime::{Runtime, RuntimeError};

use super::{fixture, job_dir, processes_of, shim, shim_record, state};

#[tokio::test]
async fn a_killed_agent_loses_neither_job_nor_log_nor_exit() {
    let f = fixture().await;
    let job =
        f.job("i=0; while [ ! -e go ]; do echo $i; i=$((i+1)); ./busybox sleep 0.01; done; echo end; exit 9");
    let order = f.root.path().join("order");
    let packet = serde_json::to_vec(&(&job.spec, &job.secrets, &job.volumes.work)).expect("JSON");
    std::fs::write(&order, packet).expect("write the order");
    let mut agent =
        Command::new(shim()).arg("agent").arg(state(&f)).arg(&order).spawn().expect("start an agent");
    let started = order.with_extension("started");
    let begin = Instant::now();
    while !started.exists() {
        assert!(begin.elapsed() < Duration::from_secs(20), "the agent does not start it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    agent.kill().expect("kill -9 the agent");
    agent.wait().expect("reap the agent");
    f.log_says(job.lease(), "20\n").await;
    f.start(&job).await.expect("the next agent's start finds it running");
    std::fs::write(job.work().join("go"), "").expect("write");
    assert_eq!(f.exit(job.lease()).await.code, 9);
    let log = f.log(job.lease()).await;
    let lines: Vec<&str> = log.lines().collect();
    let (last, counted) = lines.split_last().expect("a log");
    assert_eq!(*last, "end");
    for (index, line) in counted.iter().enumerate() {
        assert_eq!(*line, index.to_string(), "the log has a gap, or the job ran twice");
    }
    f.clear(&job).await;
}

#[tokio::test]
async fn a_killed_shim_takes_the_tree_along_and_the_job_is_lost() {
    let f = fixture().await;
    let job = f.job(
        "(setsid ./busybox sleep 99 &) ; echo up; while :; do echo . >> beat; ./busybox sleep 0.02; done",
    );
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    let user = std::fs::metadata(job.work()).expect("the work directory").uid();
    assert!(processes_of(user).len() >= 4, "launcher, supervisor, PID 1, job and its child");
    let pid = shim_record(&f, &job)["pid"].to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().expect("kill").success());
    let begin = Instant::now();
    while !processes_of(user).is_empty() {
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "they outlive their shim: {:?}",
            processes_of(user)
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = f.runtime.status(job.lease()).await.expect("ask for the status");
    assert_eq!(status, WorkloadStatus::Lost);
    f.start(&job).await.expect("a lost job is not started again");
    assert_eq!(f.runtime.status(job.lease()).await.expect("ask for the status"), WorkloadStatus::Lost);
    f.runtime.stop(job.lease(), Seconds::new(1)).await.expect("nothing of it runs");
    let groups = shim_record(&f, &job)["cgroup"].clone();
    f.clear(&job).await;
    for group in groups.as_object().expect("groups").values() {
        let dir = group["dir"].as_str().unwrap_or("/nowhere");
        assert!(!std::path::Path::new(dir).exists(), "{dir} is left");
    }
}

#[tokio::test]
async fn a_reboot_loses_the_job() {
    let f = fixture().await;
    let job = f.job("./busybox sleep 60");
    f.start(&job).await.expect("start");
    let path = job_dir(&f, &job).join("shim.json");
    let truth = std::fs::read(&path).expect("read");
    let mut record = shim_record(&f, &job);
    record["boot_id"] = "of another boot".into();
    std::fs::write(&path, record.to_string()).expect("write");
    let status = f.runtime.status(job.lease()).await.expect("ask for the status");
    assert_eq!(status, WorkloadStatus::Lost);
    std::fs::write(&path, truth).expect("write");
    f.clear(&job).await;
}

#[tokio::test]
async fn a_start_that_no_shim_took_is_done_by_the_next() {
    let f = fixture().await;
    let job = f.job("echo done");
    let broken = ProcessConfig::new(state(&f), "/bin/false");
    let broken = ProcessRuntime::new(broken).expect("open the runtime");
    let error = broken.start(&job.spec, &job.secrets, &job.volumes).await.expect_err("that is no shim");
    assert!(matches!(error, RuntimeError::Io { .. }), "{error:?}");
    assert_eq!(f.runtime.status(job.lease()).await.expect("ask for the status"), WorkloadStatus::Absent);
    assert_eq!(f.runtime.list().await.expect("list"), [job.lease()], "its directory is left, and told");
    assert_eq!(f.run(&job).await.code, 0);
    f.clear(&job).await;
}

#[tokio::test]
async fn remove_leaves_nothing_and_gives_the_directory_back() {
    let f = fixture().await;
    let job = f.job("./busybox mkdir -p a/b; echo x > a/b/c; ./busybox ln -s /etc/passwd a/link");
    let before = std::fs::metadata(job.work()).expect("the work directory").uid();
    f.run(&job).await;
    f.clear(&job).await;
    let owner = |path: &str| std::fs::symlink_metadata(job.work().join(path)).expect(path).uid();
    for path in ["", "busybox", "a/b/c", "a/link"] {
        assert_eq!(owner(path), before, "{path}");
    }
    for kept in ["jobs", "users"] {
        let mut left = std::fs::read_dir(state(&f).join(kept)).expect(kept);
        assert!(left.next().is_none(), "{kept} is not empty");
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(&*f.root.path().to_string_lossy()), "{mounts}");
}

#[tokio::test]
async fn secrets_are_on_no_disk_and_in_no_command_line() {
    let f = fixture().await;
    let mut job = f.job("echo up; ./busybox sleep 60");
    job.secrets.0.insert("TOKEN".into(), "correct-horse-battery".into());
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    let find = |dir: &std::path::Path| {
        let mut grep = Command::new("grep");
        grep.args(["-r", "-l", "--devices=skip", "correct-horse-battery"]).arg(dir).stderr(Stdio::null());
        String::from_utf8(grep.output().expect("grep").stdout).expect("text")
    };
    assert_eq!(find(f.root.path()), "");
    let shim = shim_record(&f, &job)["pid"].as_u64().expect("a pid");
    let mut supervisors = vec![shim];
    let children = std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).expect("children");
    supervisors.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u64>().ok()));
    assert!(supervisors.len() >= 2, "shim and launcher");
    for pid in supervisors {
        for file in ["environ", "cmdline"] {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).expect(file);
            assert!(!String::from_utf8_lossy(&bytes).contains("correct-horse"), "/proc/{pid}/{file}");
        }
    }
    f.clear(&job).await;
}
