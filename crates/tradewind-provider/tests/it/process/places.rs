//! Where jobs with accelerators run. The accelerator is a made-up one: what it does is never asked.

use std::path::{Path, PathBuf};

use tradewind_provider::inventory::{Place, Places};
use tradewind_provider::process::{ProcessConfig, ProcessRuntime};

use super::{fixture, shim};
use crate::conformance::{Fixture, Job};

/// The number of an accelerator that no machine has.
const NUMBER: u32 = 4_095;

/// Its device file: another name of one that is there.
struct Device(PathBuf);

impl Device {
    fn new() -> Self {
        let path = PathBuf::from(format!("/dev/nvidia{NUMBER}"));
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink("/dev/null", &path).expect("name a device; that needs root");
        Self(path)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn settings(root: &Path, threads: &str) -> ProcessConfig {
    let place = Place { threads: threads.parse().expect("threads"), gpus: vec![NUMBER] };
    ProcessConfig { places: Places::new(vec![place]), ..ProcessConfig::new(root.join("state"), shim()) }
}

/// The threads that a job with this accelerator finds, where its node has `threads`.
async fn allowed(f: Fixture, mut job: Job, threads: &str) -> String {
    let runtime = ProcessRuntime::new(settings(f.root.path(), threads)).expect("open the runtime");
    let f = Fixture { runtime: std::sync::Arc::new(runtime), ..f };
    job.spec.limits.gpus = vec![NUMBER];
    assert_eq!(f.run(&job).await.code, 0);
    let log = f.log(job.lease()).await;
    f.clear(&job).await;
    log.split_whitespace().last().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_job_runs_on_the_threads_of_its_accelerator_s_node() {
    if !rustix::process::geteuid().is_root() {
        // Without root there is no device file to give.
        return;
    }
    let _device = Device::new();
    let own = std::fs::read_to_string("/proc/self/status").expect("read");
    let own = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("threads").trim();
    let last = own.rsplit([',', '-']).next().expect("a thread");
    for (node, found) in [(last, last), ("16383", own)] {
        let f = fixture().await;
        let mut job = f.job("./busybox grep Cpus_allowed_list /proc/self/status");
        job.spec.limits.cpu_millis = 1_000;
        assert_eq!(
            allowed(f, job, node).await,
            found,
            "of {own}; a thread that is gone is no reason to fail"
        );
    }
}
