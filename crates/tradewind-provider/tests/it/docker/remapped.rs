//! Leases on an engine that remaps users, one of the test's own: the engine that the other tests use does not.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tradewind_proto::workload::Network;
use tradewind_provider::docker::DockerConfig;
use tradewind_provider::runtime::Runtime;

use super::busybox::Recipe;
use super::{config, connect, import};
use crate::conformance::Fixture;

/// The host's number of a container's root.
const ROOT: u32 = 231_072;

/// An engine with users of its own, who stand in an `/etc` that nobody else sees. It touches no firewall and makes no bridge.
struct Remapping {
    engine: Child,
    home: TempDir,
}

impl Remapping {
    fn start() -> Self {
        let home = TempDir::new().expect("a directory");
        let script = format!(
            "set -e; cd {0}; mkdir data exec; echo {{}} > daemon.json; cp -a /etc etc\n\
             echo twmap:x:{ROOT}:{ROOT}::/:/bin/false >> etc/passwd; echo twmap:x:{ROOT}: >> etc/group\n\
             echo twmap:{ROOT}:65536 | tee etc/subuid > etc/subgid\n\
             mount --make-rprivate /; mount --bind etc /etc\n\
             exec dockerd --userns-remap twmap --data-root {0}/data --exec-root {0}/exec --host unix://{0}/socket \
             --pidfile {0}/pid --config-file {0}/daemon.json --bridge none --iptables=false --ip6tables=false \
             --storage-driver vfs > {0}/log 2>&1",
            home.path().display()
        );
        let path = std::env::var("PATH").unwrap_or_default();
        let engine = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .stdin(Stdio::null())
            .spawn()
            .expect("start an engine; that needs root");
        let started = Self { engine, home };
        started.answers();
        started
    }

    fn answers(&self) {
        let begin = Instant::now();
        while UnixStream::connect(self.path("socket")).is_err() {
            let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(begin.elapsed() < Duration::from_secs(30), "the engine does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }
}

impl Drop for Remapping {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.engine.id().to_string()]).status();
        for _ in 0..100 {
            if !matches!(self.engine.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.engine.kill();
        let _ = self.engine.wait();
    }
}

fn owner(file: &Path) -> (u32, u32) {
    let meta = std::fs::symlink_metadata(file).expect("a file");
    (meta.uid(), meta.gid())
}

#[tokio::test]
async fn a_job_on_an_engine_that_remaps_users_is_nobody_of_the_host() {
    if !rustix::process::geteuid().is_root() {
        // Without root there is no such engine, and no way to give it a work directory.
        return;
    }
    let engine = Remapping::start();
    let socket = engine.path("socket");
    let root = TempDir::new().expect("a directory");
    let settings = DockerConfig { host: format!("unix://{}", socket.display()), ..config(&root) };
    let runtime = connect(&settings);
    let image = import(&runtime, &root, &Recipe::with_shell()).await;
    let f = Fixture {
        runtime: Arc::new(runtime),
        reopen: Box::new(move || Arc::new(connect(&settings)) as Arc<dyn Runtime>),
        image: Some(image),
        network_of_ports: Network::None,
        has_own_kernel: false,
        root,
    };
    let found = f.runtime.readiness().await;
    assert!(found.findings.iter().all(|finding| !finding.problem.contains("remap")), "{found:?}");
    let job = f.job("id -u; cat /proc/self/uid_map; cat given; echo made > made; mkdir -m 700 kept; echo deep > kept/deep");
    std::fs::write(job.work().join("given"), "given\n").expect("write");
    let exit = f.run(&job).await;
    let log = f.log(job.lease()).await;
    let words: Vec<&str> = log.split_whitespace().collect();
    assert_eq!((exit.code, &words[..]), (0, &["65532", "0", "231072", "65536", "given"][..]), "{log}");
    assert_eq!(owner(&job.work().join("made")), (ROOT + 65_532, ROOT + 65_532));
    assert_eq!((job.read("made"), job.read("kept/deep")), ("made\n".into(), "deep\n".into()));
    f.clear(&job).await;
}
