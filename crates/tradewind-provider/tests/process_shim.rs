//! What the tests of the process runtime execute: the shim, an agent that can be killed, and a job that tries to break out.
#![expect(clippy::expect_used, reason = "a test program says what it expected")]

use std::io::Write;
use std::process::ExitCode;

use tradewind_proto::workload::{Secrets, WorkloadSpec};
use tradewind_provider::process::{ProcessConfig, ProcessRuntime};
use tradewind_provider::runtime::{Runtime, Volumes};

fn main() -> ExitCode {
    if let Some(code) = tradewind_provider::process::dispatch() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["agent", state, order] => agent(state, order),
        ["attempt", ref targets @ ..] => {
            attempt();
            let mut out = std::io::stdout();
            for target in targets {
                writeln!(out, "{target}={}", reach(target)).expect("write");
            }
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}

/// Starts the workload of an order file, `(spec, secrets, work directory)`, says so, and lives until it is killed.
fn agent(state: &str, order: &str) -> ExitCode {
    let (spec, secrets, work): (WorkloadSpec, Secrets, std::path::PathBuf) =
        serde_json::from_slice(&std::fs::read(order).expect("read the order")).expect("an order");
    let shim = std::env::current_exe().expect("this program");
    let runtime = ProcessRuntime::new(ProcessConfig::new(state, shim)).expect("open the runtime");
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
    tokio.block_on(runtime.start(&spec, &secrets, &Volumes { work, until: None })).expect("start");
    std::fs::write(format!("{order}.started"), "").expect("say so");
    loop {
        std::thread::park();
    }
}

/// Makes one system call that a sandbox must refuse for each line that it prints: the call's name and the error.
#[expect(unsafe_code, reason = "these are the raw calls of a hostile job")]
fn attempt() {
    use std::io::Error;
    const X32: libc::c_long = 0x4000_0000;
    let dir = c"/work".as_ptr();
    let mut out = std::io::stdout();
    let mut say = |name: &str, result: libc::c_long| {
        let error = Error::last_os_error().raw_os_error().unwrap_or(0);
        writeln!(out, "{name}={}", if result < 0 { error } else { 0 }).expect("write");
    };
    // SAFETY: every call gets null or constant arguments; a call that succeeds harms this process only.
    unsafe {
        use libc::syscall as call;
        say("mount", call(libc::SYS_mount, c"none".as_ptr(), dir, c"tmpfs".as_ptr(), 0, 0));
        say("umount", call(libc::SYS_umount2, c"/proc".as_ptr(), 2));
        say("chroot", call(libc::SYS_chroot, dir));
        say("pivot_root", call(libc::SYS_pivot_root, dir, dir));
        say("open_tree", call(libc::SYS_open_tree, libc::AT_FDCWD, dir, 1));
        say("unshare", call(libc::SYS_unshare, libc::CLONE_NEWUSER));
        say("setns", call(libc::SYS_setns, 0, 0));
        say("ptrace", call(libc::SYS_ptrace, libc::PTRACE_SEIZE, 1, 0, 0));
        say("process_vm_readv", call(libc::SYS_process_vm_readv, 1, 0, 0, 0, 0, 0));
        say("keyctl", call(libc::SYS_keyctl, 0, -3, 1, 0, 0));
        say("add_key", call(libc::SYS_add_key, c"user".as_ptr(), c"k".as_ptr(), c"v".as_ptr(), 1, -3));
        say("bpf", call(libc::SYS_bpf, 0, 0, 0));
        say("perf_event_open", call(libc::SYS_perf_event_open, 0, 0, -1, -1, 0));
        say("userfaultfd", call(libc::SYS_userfaultfd, 1));
        say("io_uring_setup", call(libc::SYS_io_uring_setup, 1, 0));
        say("init_module", call(libc::SYS_init_module, 0, 0, 0));
        say("kexec_load", call(libc::SYS_kexec_load, 0, 0, 0, 0));
        say("reboot", call(libc::SYS_reboot, 0, 0, 0, 0));
        say("open_by_handle_at", call(libc::SYS_open_by_handle_at, -100, 0, 0));
        say("vsock", call(libc::SYS_socket, libc::AF_VSOCK, libc::SOCK_STREAM, 0));
        say("packet", call(libc::SYS_socket, libc::AF_PACKET, libc::SOCK_RAW, 0));
        say("alg", call(libc::SYS_socket, libc::AF_ALG, libc::SOCK_SEQPACKET, 0));
        say("raw", call(libc::SYS_socket, libc::AF_INET, libc::SOCK_RAW, 1));
        say("tiocsti", call(libc::SYS_ioctl, 0, libc::TIOCSTI, c"x".as_ptr()));
        say("setuid", call(libc::SYS_setuid, 0));
        say("clone3", call(libc::SYS_clone3, 0, 0));
        #[cfg(target_arch = "x86_64")]
        {
            say("x32_mount", call(libc::SYS_mount | X32, c"none".as_ptr(), dir, c"tmpfs".as_ptr(), 0, 0));
            say("x32_ptrace", call(X32 | 521, libc::PTRACE_ATTACH, 1, 0, 0));
        }
        let child = call(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0);
        if child == 0 {
            libc::_exit(0);
        }
        say("clone", child);
    }
}

/// Tries to reach one thing of the host, and returns the error; 0 when it is reached.
#[expect(unsafe_code, reason = "these are the raw calls of a hostile job")]
fn reach(target: &str) -> i32 {
    use std::io::Error;
    use std::net::TcpStream;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};
    use std::time::Duration;
    let (kind, name) = target.split_once(':').expect("a kind of target");
    let call = |result: libc::c_long| if result < 0 { Err(Error::last_os_error()) } else { Ok(()) };
    let process = || name.parse::<libc::pid_t>().expect("a process's number");
    let outcome = match kind {
        "socket" => UnixStream::connect(name).map(drop),
        "abstract" => SocketAddr::from_abstract_name(name)
            .and_then(|address| UnixStream::connect_addr(&address))
            .map(drop),
        "tcp" => {
            TcpStream::connect_timeout(&name.parse().expect("an address"), Duration::from_secs(2)).map(drop)
        }
        // SAFETY: these calls get no pointers.
        "trace" => call(unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_ATTACH, process(), 0, 0) }),
        // SAFETY: the vectors are empty.
        "memory" => call(unsafe { libc::syscall(libc::SYS_process_vm_readv, process(), 0, 0, 0, 0, 0) }),
        // SAFETY: signal 0 only asks.
        "signal" => call(unsafe { libc::syscall(libc::SYS_kill, process(), 0) }),
        _ => return libc::EINVAL,
    };
    // A wait that ended has no number of its own.
    outcome.map_or_else(|error| error.raw_os_error().unwrap_or(libc::ETIMEDOUT), |()| 0)
}
