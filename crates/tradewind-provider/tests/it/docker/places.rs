//! Where jobs with accelerators run. The accelerator is a made-up one: what it does is never asked.

use std::path::PathBuf;

use tempfile::TempDir;
use tradewind_provider::docker::{DockerConfig, GpuMode};
use tradewind_provider::inventory::{Place, Places};

use super::busybox::Recipe;
use super::{config, fixture_of, told};

/// The number of a render node that no machine has.
const NUMBER: u32 = 4_095;

/// Its device file: another name of one that is there.
struct Device(PathBuf);

impl Device {
    fn new() -> Self {
        let path = PathBuf::from(format!("/dev/dri/renderD{NUMBER}"));
        std::fs::create_dir_all("/dev/dri").expect("make a directory; that needs root");
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink("/dev/null", &path).expect("name a device");
        Self(path)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        // Left where the machine has real ones.
        let _ = std::fs::remove_dir("/dev/dri");
    }
}

#[tokio::test]
async fn a_job_runs_on_the_threads_of_its_accelerator_s_node() {
    let _device = Device::new();
    let own = std::fs::read_to_string("/proc/self/status").expect("read");
    let own = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("threads").trim();
    let last = own.rsplit([',', '-']).next().expect("a thread");
    let root = TempDir::new().expect("a directory");
    let place = Place { threads: last.parse().expect("threads"), gpus: vec![NUMBER] };
    let settings = DockerConfig { gpus: GpuMode::Render, places: Places::new(vec![place]), ..config(&root) };
    let f = fixture_of(root, settings, &Recipe::with_shell()).await;
    let mut job = f.job("grep Cpus_allowed_list /proc/self/status");
    job.spec.limits.cpu_millis = 1_000;
    let list = |log: String| log.split_whitespace().last().unwrap_or_default().to_owned();
    assert_eq!(list(told(&f, &job).await), own, "it has no accelerator");
    let mut job = f.job("grep Cpus_allowed_list /proc/self/status");
    (job.spec.limits.cpu_millis, job.spec.limits.gpus) = (1_000, vec![NUMBER]);
    assert_eq!(list(told(&f, &job).await), last);
}
