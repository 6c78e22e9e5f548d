//! What a job tries against its host, and the refusal that it meets in every runtime.
//!
//! The attempts that need more than a shell are made by a program of ours, in [`answers`]: it says the error of every call.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use super::*;

/// The program that makes the attempts.
const HOSTILE: &str = env!("CARGO_BIN_EXE_tradewind-process-shim");
/// What a shell says of a refusal.
const REFUSALS: [&str; 7] = [
    "ermission denied",
    "peration not permitted",
    "o such file",
    "ead-only file system",
    "irectory nonexistent",
    "onexistent directory",
    "nvalid argument",
];

/// Runs the hostile program against these targets, too; what it tried, each with the error that it met.
pub(crate) async fn answers(f: &Fixture, targets: &[String]) -> BTreeMap<String, i32> {
    let mut job = f.job("");
    job.spec.limits.disk = Bytes::gib(1);
    let program = std::env::var("TRADEWIND_TEST_SHIM").unwrap_or_else(|_| HOSTILE.into());
    std::fs::copy(&program, job.work().join("hostile")).expect("copy the hostile program");
    // An image of one static program has no loader.
    let loader = copy_libraries(&program, job.work());
    let command = ["--library-path", "/work", "/work/hostile", "attempt"].map(str::to_owned);
    job.spec.run = Command::Exec([&[loader], &command[..], targets].concat());
    let exit = f.run(&job).await;
    let log = f.log(job.lease()).await;
    assert_eq!(exit.code, 0, "{log}");
    f.clear(&job).await;
    let lines = log.lines().filter_map(|line| line.rsplit_once('='));
    lines.map(|(attempt, error)| (attempt.to_owned(), error.parse().expect("a number"))).collect()
}

/// Copies the libraries of `program` and its loader into `work`; the loader as a job names it.
fn copy_libraries(program: &str, work: &Path) -> String {
    let said = std::process::Command::new("ldd").arg(program).output().expect("ldd");
    let said = String::from_utf8(said.stdout).expect("text");
    let mut loader = None;
    for path in said.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new) {
        let name = path.file_name().expect("a file's name");
        std::fs::copy(path, work.join(name)).expect("copy a library");
        if name.to_string_lossy().starts_with("ld-") {
            loader = Some(format!("/work/{}", name.display()));
        }
    }
    loader.expect("a loader")
}

/// Asserts that each of `lines` tells of a refusal.
fn all_refused(log: &str, count: usize) {
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), count, "{log}");
    for line in lines {
        assert!(REFUSALS.iter().any(|refusal| line.contains(refusal)), "`{line}` is no refusal: {log}");
    }
}

pub(crate) async fn calls_that_reach_out_are_refused(f: &Fixture) {
    let answers = answers(f, &[]).await;
    assert!(answers.len() >= 27, "{answers:?}");
    for (call, error) in answers {
        let expected = match (f.runtime.name(), call.as_str()) {
            (_, "clone3") => [libc::ENOSYS; 2],
            // There is no root to become.
            ("process" | "slurm", "setuid") => [libc::EINVAL; 2],
            // An engine's own profile lets a debugger look at the container's own processes, which have no more than the job.
            ("docker", "ptrace") => [libc::EPERM, 0],
            // And it leaves these to the kernel, which may lack them.
            ("docker", "alg") => [libc::EPERM, libc::EAFNOSUPPORT],
            ("docker", "tiocsti") => [libc::EPERM, libc::ENOTTY],
            ("docker", "x32_mount" | "x32_ptrace") => [libc::EPERM, libc::ENOSYS],
            _ => [libc::EPERM; 2],
        };
        assert!(expected.contains(&error), "{call} is answered by {error}, not by {expected:?}");
    }
}

pub(crate) async fn processes_of_the_host_cannot_be_touched(f: &Fixture) {
    let mut victim = std::process::Command::new(BUSYBOX).args(["sleep", "60"]).spawn().expect("a process");
    let pid = victim.id();
    let answers = answers(f, &["trace", "memory", "signal"].map(|kind| format!("{kind}:{pid}"))).await;
    victim.kill().expect("kill");
    victim.wait().expect("reap");
    for kind in ["trace", "memory", "signal"] {
        let error = answers[&format!("{kind}:{pid}")];
        let lacks = f.has_own_kernel && error == libc::ENOSYS;
        let refused = error == libc::ESRCH || (error == libc::EPERM || lacks) && kind != "signal";
        assert!(refused, "{kind}: {}", std::io::Error::from_raw_os_error(error));
    }
}

pub(crate) async fn no_socket_of_the_host_answers(f: &Fixture) {
    let random = hex::encode(rand::random::<[u8; 8]>());
    // It stands for the engine's: whoever can write to it is the host's root.
    let directory = if rustix::process::geteuid().is_root() { Path::new("/run") } else { f.root.path() };
    let path = directory.join(format!("tw-test-{random}.sock"));
    let _open = UnixListener::bind(&path).expect("listen");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&path, mode).expect("open it to everybody");
    let nameless = SocketAddr::from_abstract_name(&random).expect("a name");
    let _nameless = UnixListener::bind_addr(&nameless).expect("listen");
    let socket = format!("socket:{}", path.display());
    let engines = ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"];
    let mut targets: Vec<String> = engines.map(|path| format!("socket:{path}")).into();
    targets.extend([socket, format!("abstract:{random}")]);
    let answers = answers(f, &targets).await;
    std::fs::remove_file(&path).expect("remove the socket");
    for target in targets {
        let expected = if target.starts_with("abstract") { libc::ECONNREFUSED } else { libc::ENOENT };
        assert_eq!(answers[&target], expected, "{target}");
    }
}

pub(crate) async fn a_scan_of_the_network_finds_no_route(f: &Fixture) {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("listen");
    let port = listener.local_addr().expect("an address").port();
    // No packet is sent: this is the address that the host would send from.
    let outward = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let host = match outward.connect("192.0.2.1:9").and_then(|()| outward.local_addr()).map(|it| it.ip()) {
        Ok(std::net::IpAddr::V4(address)) => address.octets(),
        _ => [192, 168, 1, 2],
    };
    let [a, b, c, _] = host;
    let mut targets: Vec<String> = (1..=254).map(|d| format!("tcp:{a}.{b}.{c}.{d}:{port}")).collect();
    for metadata in ["169.254.169.254:80", "168.63.129.16:80", "100.100.100.200:80", "[fd00:ec2::254]:80"] {
        targets.push(format!("tcp:{metadata}"));
    }
    targets.extend(["10.0.0.1:22", "172.16.0.1:22", "192.168.0.1:80"].map(|place| format!("tcp:{place}")));
    let answers = answers(f, &targets).await;
    for target in targets {
        // Without an address of its own, IPv6 has none to send from.
        let refused = [libc::ENETUNREACH, libc::EADDRNOTAVAIL].contains(&answers[&target]);
        assert!(refused, "{target}: {}", answers[&target]);
    }
}

pub(crate) async fn mounts_and_devices_are_not_made(f: &Fixture) {
    let job = f.job(
        "b=./busybox; (\
         $b mount -t tmpfs none /tmp || echo; $b mount -t proc none /work || echo; $b mount --bind / /work || echo; \
         $b mount -o remount,rw / || echo; $b umount /proc || echo; \
         $b mknod disk b 8 0 || echo; $b mknod mem c 1 1 || echo; \
         $b unshare -r true || echo; $b unshare -m true || echo; $b chroot /work /busybox true || echo; \
         $b nsenter -t 1 -m true || echo; $b pivot_root /work /work || echo\
         ) 2>&1 | grep .",
    );
    f.run(&job).await;
    all_refused(&f.log(job.lease()).await, 12);
    f.clear(&job).await;
}

pub(crate) async fn proc_and_sys_give_nothing_of_the_host(f: &Fixture) {
    let secret = f.root.path().join("of-the-host");
    std::fs::write(&secret, "secret").expect("write");
    let own = std::process::id();
    let job = f.job(&format!(
        "(for p in /proc/1/root{secret} /proc/1/cwd{secret} /proc/{own}/environ /proc/{own}/root/etc/passwd {secret} \
             /proc/kmsg /dev/mem /dev/kmsg /sys/kernel/debug/x; do ./busybox cat $p; done; \
         for p in /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/sysrq-trigger \
             /proc/sys/vm/drop_caches /sys/fs/cgroup/cgroup.procs /sys/kernel/uevent_helper; do (echo 1 > $p); done; \
         ./busybox head -c 1 /proc/kcore | ./busybox wc -c | ./busybox sed 's/^0$/no such file: it is empty/') 2>&1 | ./busybox grep -v '^head'",
        secret = secret.display()
    ));
    f.run(&job).await;
    all_refused(&f.log(job.lease()).await, 16);
    f.clear(&job).await;
}

pub(crate) async fn a_variable_that_is_none_is_refused_before_anything_is_made(f: &Fixture) {
    for name in ["", "A=B", "=", "A\0B", "A\nB", "A\u{7f}"] {
        let (mut plain, mut secret) = (f.job("echo never"), f.job("echo never"));
        plain.spec.envs.insert(name.into(), "x".into());
        secret.secrets.0.insert(name.into(), "x".into());
        for job in [plain, secret] {
            let error = f.start(&job).await.expect_err("that is no name");
            assert!(matches!(error, RuntimeError::Unsupported { .. }), "{name:?}: {error:?}");
            assert!(!f.runtime.list().await.expect("list").contains(&job.lease()), "{name:?}");
        }
    }
    let mut job = f.job("echo never");
    job.spec.envs.insert("A".into(), "a\0B=c".into());
    let error = f.start(&job).await.expect_err("that is two variables");
    assert!(matches!(error, RuntimeError::Unsupported { .. }), "{error:?}");
}

pub(crate) async fn variables_that_steer_programs_steer_the_job_alone(f: &Fixture) {
    let mut job = f.job("echo $LD_AUDIT; trap 'echo saved > saved; exit 4' TERM; echo up; while :; do ./busybox sleep 0.05; done");
    // None of these files is there: a program of ours that heeded one would fail, or say so.
    for name in ["LD_AUDIT", "LD_LIBRARY_PATH", "BASH_ENV", "ENV", "PYTHONPATH", "GCONV_PATH", "TMPDIR"] {
        job.spec.envs.insert(name.into(), "/work/none".into());
    }
    let steering = [
        ("PATH", "/work/none"),
        ("HOME", "/root"),
        ("IFS", "/"),
        ("DOCKER_HOST", "tcp://192.0.2.9:1"),
        ("RUST_LOG", "trace"),
        ("TRADEWIND_HOME", "/work/none"),
        ("TINI_KILL_PROCESS_GROUP", ""),
        ("TINI_SUBREAPER", ""),
        ("NVIDIA_VISIBLE_DEVICES", "all"),
        ("SLURM_JOB_ID", "1"),
    ];
    job.spec.envs.extend(steering.map(|(name, value)| (name.to_owned(), value.to_owned())));
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    assert!(f.log(job.lease()).await.contains("/work/none\n"), "the job has them");
    f.runtime.stop(job.lease(), Seconds::new(10)).await.expect("stop");
    assert_eq!(f.exit(job.lease()).await.code, 4);
    assert_eq!(job.read("saved"), "saved\n");
    f.clear(&job).await;
}
