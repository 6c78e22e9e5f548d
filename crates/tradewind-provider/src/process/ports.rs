//! A port's forwarder: accepts on the host's loopback, connects inside the workload's network namespace.
//!
//! A listening socket stays in the namespace that made it, and a new socket is made in the namespace of its process. So the shim
//! binds the listener on the host and hands it to a process that then moves into the sandbox's namespaces and connects from there.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{
    Gid, Pid, PidfdFlags, Signal, Uid, getppid, pidfd_open, set_parent_process_death_signal,
};
use rustix::thread::{
    ThreadNameSpaceType, move_into_thread_name_spaces, set_thread_res_gid, set_thread_res_uid,
};

use super::launch::SANDBOX_USER;
use super::reins::door_key;
use super::{ENTRY, SELF};

pub(crate) mod door;

/// Connections at a time; more are closed at once.
const CONNECTIONS_MAX: usize = 128;
/// After an accept that failed (out of descriptors), before the next.
const BREATH: Duration = Duration::from_millis(50);

/// Starts the forwarder of one port: from `listener` to `port` in the namespaces of the process `pid`. Where there is a `door`,
/// callers have to show that they know the key in that file.
pub(super) fn spawn(listener: TcpListener, pid: u32, port: u16, door: Option<&Path>) -> io::Result<Child> {
    Command::new(SELF)
        .args([ENTRY, "port", &pid.to_string(), &port.to_string()])
        .args(door)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .spawn()
}

/// The forwarder's process. Standard input is the listener.
pub(super) fn main(arguments: &[String]) -> ExitCode {
    let outcome = serve(arguments);
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(super::init::FAILED) }
}

fn serve(arguments: &[String]) -> io::Result<()> {
    let [pid, port, door @ ..] = arguments else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (pid, port) = (pid.parse().map_err(io::Error::other)?, port.parse().map_err(io::Error::other)?);
    let key = door.first().map(|path| door_key(Path::new(path))).transpose()?;
    let listener = enter(pid)?;
    forward(&listener, port, key)
}

fn enter(pid: i32) -> io::Result<TcpListener> {
    let listener = rustix::stdio::stdin().as_fd().try_clone_to_owned()?;
    let parent = getppid();
    let pidfd = pidfd_open(Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?, PidfdFlags::empty())?;
    move_into_thread_name_spaces(pidfd.as_fd(), ThreadNameSpaceType::USER | ThreadNameSpaceType::NETWORK)?;
    let (uid, gid) = (Uid::from_raw(SANDBOX_USER), Gid::from_raw(SANDBOX_USER));
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    // Last, since a change of user clears it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != parent {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(listener.into())
}

fn forward(listener: &TcpListener, port: u16, key: Option<[u8; 32]>) -> io::Result<()> {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((outside, _)) = listener.accept() else {
            thread::sleep(BREATH);
            continue;
        };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let open = Arc::clone(&open);
        thread::Builder::new().spawn(move || {
            // What a connection suffers, its two ends see.
            let admitted = key.is_none_or(|key| door::admit(&outside, &key).is_ok());
            if admitted {
                let _ = connect(outside, port);
            }
            open.fetch_sub(1, Ordering::Relaxed);
        })?;
    }
}

fn connect(outside: TcpStream, port: u16) -> io::Result<()> {
    let inside = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .or_else(|_| TcpStream::connect((Ipv6Addr::LOCALHOST, port)))?;
    for stream in [&outside, &inside] {
        stream.set_nodelay(true)?;
    }
    let back = (inside.try_clone()?, outside.try_clone()?);
    let answers = thread::Builder::new().spawn(move || pour(&back.0, &back.1))?;
    pour(&outside, &inside);
    let _ = answers.join();
    Ok(())
}

/// Copies until one side ends, and passes the end on.
fn pour(mut from: &TcpStream, mut to: &TcpStream) {
    if io::copy(&mut from, &mut to).is_err() {
        let _ = from.shutdown(Shutdown::Both);
    }
    let _ = to.shutdown(Shutdown::Write);
}
