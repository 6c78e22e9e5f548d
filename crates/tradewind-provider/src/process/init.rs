//! PID 1 of the sandbox: gives up every privilege, runs setup and job, reaps orphans, and relays signals.
//!
//! A job that is PID 1 itself ignores `SIGTERM` unless it handles it, and leaves zombies. So it gets one that is ours. When this
//! process ends, the kernel kills what is left in its namespace: nothing outlives the job, and nothing outlives the shim, whose
//! end of the control socket is watched here.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use rustix::process::{DumpableBehavior, Pid, Signal, kill_process_group, set_dumpable_behavior, setsid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities,
};
use tradewind_proto::workload::{Secrets, WorkloadSpec};

use super::control::{self, Event};
use super::keep::{self, Told};
use super::session::{Children, Sandbox};
use super::{seccomp, session};

/// Our own failures.
pub(super) const FAILED: u8 = 125;
/// Shells' code for a file that cannot be executed, and for one that is not there.
pub(super) const NOT_EXECUTABLE: u8 = 126;
pub(super) const NOT_FOUND: u8 = 127;
/// The code of what signal 9 ended.
pub(super) const KILLED: u8 = 128 + 9;

/// The process group that signals go to: every process of the job that did not leave it.
type Target = Arc<Mutex<Option<Pid>>>;

/// What signals are for.
struct Relay {
    target: Target,
    /// Asks the job to end.
    stop: u8,
    told: Told,
}

/// Runs the workload and returns its code. Standard input is the control socket.
pub(super) fn main(spec: &WorkloadSpec, secrets: &Secrets) -> u8 {
    if let Err(error) = give_up_privileges() {
        tell(&Event::NoSandbox { message: error.to_string() });
        return FAILED;
    }
    let target = Target::default();
    let sandbox =
        Arc::new(Sandbox { environment: environment(spec, secrets), children: Children::default() });
    let told = Told::default();
    let relay = Relay { target: Arc::clone(&target), stop: spec.stop.signal, told: told.clone() };
    let relayed = Arc::clone(&sandbox);
    std::thread::spawn(move || obey(&relay, &relayed));
    let (mut started, mut code) = (false, 0);
    for command in spec.setup.iter().chain([&spec.run]) {
        let argv = command.argv();
        let pid = match execute(&argv, &sandbox.environment, &target) {
            Ok(pid) => pid,
            Err(error) => {
                let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
                let program = argv.first().map(String::as_str).unwrap_or_default();
                tell(&Event::NotExecuted { message: format!("{program}: {error}"), code });
                return code;
            }
        };
        if !started {
            tell(&Event::Started);
            started = true;
        }
        code = sandbox.children.reap_until(pid);
        if code != 0 {
            break;
        }
    }
    *hold(&target) = None;
    if let Some(keep) = spec.keep {
        keep::keep(keep, code, &told, &sandbox.children);
    }
    tell(&Event::Exited { code });
    code
}

fn tell(event: &Event) {
    // The shim is gone when this fails, and so soon is this process.
    let _ = control::send(rustix::stdio::stdin(), event);
}

fn hold<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

fn environment(spec: &WorkloadSpec, secrets: &Secrets) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/work"),
        ("USER", "job"),
        ("LANG", "C.UTF-8"),
        ("TMPDIR", "/tmp"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    all.extend(spec.envs.clone());
    all.extend(secrets.0.clone());
    all
}

fn execute(argv: &[String], environment: &BTreeMap<String, String>, target: &Target) -> io::Result<Pid> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let child = std::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    *hold(target) = Some(pid);
    Ok(pid)
}

/// Passes signals and sessions on until the shim is gone, then ends this process and with it the sandbox.
fn obey(relay: &Relay, sandbox: &Arc<Sandbox>) {
    while let Ok(Some(order)) = control::receive_order(rustix::stdio::stdin()) {
        match order {
            (control::SESSION, connection) => connection.into_iter().for_each(|it| begin(it, sandbox)),
            (signal, _) => {
                if signal == relay.stop {
                    relay.told.set();
                }
                let signal = Signal::from_named_raw(i32::from(signal));
                if let (Some(signal), Some(group)) = (signal, *hold(&relay.target)) {
                    // It may have ended in this moment.
                    let _ = kill_process_group(group, signal);
                }
            }
        }
    }
    std::process::exit(i32::from(KILLED));
}

/// Serves a session on a thread of its own. Where the job has used its processes up there is none: the connection ends.
fn begin(connection: OwnedFd, sandbox: &Arc<Sandbox>) {
    let sandbox = Arc::clone(sandbox);
    let _ = std::thread::Builder::new().spawn(move || session::serve(connection, &sandbox));
}

#[derive(Debug, thiserror::Error)]
enum PrivilegeError {
    #[error("cannot {doing}: {source}")]
    System { doing: &'static str, source: rustix::io::Errno },
    #[error("{error}: {}", std::error::Error::source(.error).map(ToString::to_string).unwrap_or_default())]
    Seccomp { error: seccomp::SeccompError },
}

fn give_up_privileges() -> Result<(), PrivilegeError> {
    let doing = |doing| move |source| PrivilegeError::System { doing, source };
    raise_loopback().map_err(doing("raise the loopback interface"))?;
    setsid().map_err(doing("start a session"))?;
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(doing("drop capabilities")(error)),
        }
    }
    clear_ambient_capability_set().map_err(doing("drop ambient capabilities"))?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(doing("drop capabilities"))?;
    // The job has the same user: without this it could read and write this process's memory.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(doing("protect the supervisor"))?;
    seccomp::apply().map_err(|error| PrivilegeError::Seccomp { error })
}

/// Sets `lo` up, by one route-netlink message.
fn raise_loopback() -> rustix::io::Result<()> {
    /// The netlink protocol 0.
    const ROUTE: Option<Protocol> = None;
    const NEW_LINK: u16 = 16;
    const REQUEST_AND_ACKNOWLEDGE: u16 = 1 | 4;
    const LOOPBACK: u32 = 1;
    const UP: u32 = 1;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, ROUTE)?;
    let mut request = Vec::with_capacity(32);
    request.extend_from_slice(&32u32.to_ne_bytes());
    request.extend_from_slice(&NEW_LINK.to_ne_bytes());
    request.extend_from_slice(&REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    request.extend_from_slice(&[0; 12]);
    for word in [LOOPBACK, UP, UP] {
        request.extend_from_slice(&word.to_ne_bytes());
    }
    send(&socket, &request, SendFlags::empty())?;
    let mut answer = [0u8; 64];
    recv(&socket, &mut answer[..], RecvFlags::empty())?;
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        error => Err(rustix::io::Errno::from_raw_os_error(-error)),
    }
}
