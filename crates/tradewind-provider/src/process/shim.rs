//! The shim: one process per workload that outlives the agent and writes down what happens.
//!
//! It has one thread and forgets the secrets once the launcher has them. It stays outside the workload's control group, holds the job directory's
//! lock for its life, and is the subreaper of all that it starts: when it has no child left, nothing of the workload runs.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fchown, fcntl_setfl};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, pidfd_send_signal, set_child_subreaper, wait,
};
use serde::{Deserialize, Serialize};
use tradewind_proto::units::{Bytes, Timestamp};
use tradewind_proto::workload::{Exit, Secrets, Usage};

use super::cgroup::Cgroup;
use super::control::{self, Event, Launch};
use super::job_dir::{ExitRecord, Failure, JobDir, Order, ShimRecord, boot_id};
use super::log::LogWriter;
use super::meter::Meter;
use super::reins::Reins;
use super::{ENTRY, SELF, door, init, ports, tree};
use crate::inventory::Threads;

/// A command on the control pipe: an operation and its argument.
pub(crate) const SIGNAL: u8 = b'S';
/// Kills the whole tree.
pub(crate) const KILL: u8 = b'K';
/// Freezes it.
pub(crate) const PAUSE: u8 = b'P';
/// Thaws it.
pub(crate) const RESUME: u8 = b'R';

/// The log's pipe: larger than the default, so that a chatty job and a busy host wait for each other less.
const PIPE_BYTES: usize = 256 << 10;
/// Once the log is full, what comes is only counted, and no faster than a pipe's contents at a time between these.
const FULL_LOG_REST: Duration = Duration::from_millis(10);
/// How long the tree may take to end after it was killed.
const REAP_PATIENCE: Duration = Duration::from_secs(10);

/// What the agent gives a new shim, on its standard input.
#[derive(Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) order: Order,
    pub(crate) secrets: Secrets,
    pub(crate) dir: PathBuf,
    pub(crate) cgroup: Cgroup,
    /// The hardware threads that the job runs on, where they are chosen.
    pub(crate) threads: Option<Threads>,
}

/// What the shim answers, one line on its standard output.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    Started,
    /// Another shim has, or had, this workload.
    Taken,
    Failed(Failure),
}

/// The shim's process.
pub(super) fn main() -> ExitCode {
    let mut bytes = Vec::new();
    let assignment = io::stdin().lock().read_to_end(&mut bytes).and_then(|_| {
        // An agent that died while writing leaves nothing that decodes.
        postcard::from_bytes::<Assignment>(&bytes).map_err(io::Error::other)
    });
    bytes.clear();
    let Ok(assignment) = assignment else { return ExitCode::from(init::FAILED) };
    match serve(assignment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&Report::Failed(Failure::Host(error.to_string())));
            ExitCode::from(init::FAILED)
        }
    }
}

pub(super) fn report(report: &Report) {
    // An agent that died asks again, and reads the answer from the job's directory.
    if let Ok(line) = serde_json::to_string(report) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    }
}

fn serve(assignment: Assignment) -> io::Result<()> {
    rustix::process::setsid()?;
    let dir = JobDir::at(assignment.dir.clone());
    let Some(_lock) = dir.claim()? else {
        report(&Report::Taken);
        return Ok(());
    };
    if dir.file("shim.json").exists() || dir.file("exit.json").exists() {
        report(&Report::Taken);
        return Ok(());
    }
    let reins = Reins::pipe(&dir)?;
    run(dir, assignment, reins)
}

/// Runs the workload to its end, in this process, which holds the directory's lock.
pub(crate) fn run(dir: JobDir, assignment: Assignment, reins: Reins) -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    rustix::process::chdir("/")?;
    let cgroup = assignment.cgroup.clone();
    let outcome = Supervisor::start(dir, assignment, reins).and_then(Supervisor::supervise);
    if outcome.is_err() {
        cgroup.remove()?;
    }
    outcome
}

struct Supervisor {
    dir: JobDir,
    order: Order,
    cgroup: Cgroup,
    log: LogWriter,
    log_pipe: OwnedFd,
    log_rests_until: Option<Instant>,
    control: Option<OwnedFd>,
    reins: Reins,
    /// None where the agent is on another machine, which no socket reaches.
    door: Option<UnixListener>,
    launcher: Child,
    launcher_end: OwnedFd,
    listeners: BTreeMap<u16, TcpListener>,
    forwarders: Vec<Child>,
    meter: Meter,
    started: bool,
    code: Option<u8>,
    failure: Option<Failure>,
}

impl Supervisor {
    fn start(dir: JobDir, assignment: Assignment, reins: Reins) -> io::Result<Self> {
        let Assignment { order, secrets, cgroup, threads, .. } = assignment;
        let log = LogWriter::create(&dir, order.spec.limits.log.get())?;
        let door = if reins.is_local() { Some(door::open(&dir)?) } else { None };
        let mut listeners = BTreeMap::new();
        for &port in &order.spec.ports {
            listeners.insert(port, TcpListener::bind((reins.listens_at(), 0))?);
        }
        let me = tree::process(std::process::id()).ok_or(io::ErrorKind::NotFound)?;
        let addresses: io::Result<_> =
            listeners.iter().map(|(&port, listener)| Ok((port, listener.local_addr()?.port()))).collect();
        let (log_pipe, log_end) = log_pipe(order.user)?;
        let (control, control_end) = control::pair()?;
        let launcher = Command::new(SELF)
            .args([ENTRY, "launch", &order.spec.lease.to_string()])
            .env_clear()
            .stdin(control_end)
            .stdout(log_end.try_clone()?)
            .stderr(log_end)
            .spawn()?;
        let launcher_end = pidfd(launcher.id())?;
        cgroup.create(&order.spec.limits)?;
        let root = dir.file("root");
        fs::create_dir_all(&root)?;
        let launch = Launch {
            spec: order.spec.clone(),
            secrets,
            work: order.work.clone(),
            user: order.user,
            root,
            cgroup: cgroup.clone(),
            threads,
        };
        control::send(&control, &launch)?;
        // While the launcher gets ready, this reaches the disk.
        let record = ShimRecord {
            pid: me.pid,
            start_time: me.start_time,
            boot_id: boot_id()?,
            since: now(),
            cgroup: cgroup.clone(),
            ports: addresses?,
        };
        dir.write("shim.json", &record)?;
        control::send_raw(&control, &[control::GO])?;
        let meter = Meter::new(&order, cgroup.clone(), launcher.id());
        Ok(Self {
            dir,
            order,
            cgroup,
            log,
            log_pipe,
            log_rests_until: None,
            control: Some(control),
            reins,
            door,
            launcher,
            launcher_end,
            listeners,
            forwarders: Vec::new(),
            meter,
            started: false,
            code: None,
            failure: None,
        })
    }

    fn supervise(mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.log {
                self.read_log()?;
            }
            if ready.control {
                self.read_event();
            }
            if ready.commands {
                self.obey()?;
            }
            if ready.door {
                self.admit();
            }
            if ready.launcher {
                break;
            }
            if let Some(excess) = self.meter.tick(&self.dir) {
                self.log.say(&excess)?;
                self.kill()?;
            }
        }
        self.finish()
    }

    fn wait(&mut self) -> io::Result<Ready> {
        let now = Instant::now();
        let rests = self.log_rests_until.filter(|until| *until > now);
        let next = [rests, self.reins.next_look()].into_iter().flatten().fold(self.meter.next, Instant::min);
        let timeout = Timespec::try_from(next.saturating_duration_since(now)).map_err(io::Error::other)?;
        let mut fds = vec![PollFd::new(&self.launcher_end, PollFlags::IN)];
        let commands = self.reins.pollable();
        fds.extend(commands.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let log = fds.len();
        if rests.is_none() {
            fds.push(PollFd::new(&self.log_pipe, PollFlags::IN));
        }
        let control = fds.len();
        if let Some(socket) = &self.control {
            fds.push(PollFd::new(socket, PollFlags::IN));
        }
        let listener = self.door.as_ref().filter(|_| self.started);
        let door = listener.map(|listener| {
            fds.push(PollFd::new(listener, PollFlags::IN));
            fds.len() - 1
        });
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            launcher: ready(0),
            commands: match self.reins.next_look() {
                Some(look) => Instant::now() >= look,
                None => ready(1),
            },
            log: rests.is_none() && ready(log),
            control: self.control.is_some() && ready(control),
            door: door.is_some_and(ready),
        })
    }

    /// Takes what is in the pipe now; `false` at its end.
    fn read_log(&mut self) -> io::Result<bool> {
        let mut buffer = vec![0u8; PIPE_BYTES];
        let open = match rustix::io::read(&self.log_pipe, &mut buffer[..]) {
            Ok(0) => false,
            Ok(length) => {
                self.log.take(buffer.get(..length).unwrap_or_default())?;
                true
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => true,
            Err(error) => return Err(error.into()),
        };
        // The end of the pipe is also the end of the tree, which the launcher's end tells.
        if self.log.full() || !open {
            self.log_rests_until = Some(Instant::now() + FULL_LOG_REST);
        }
        Ok(open)
    }

    fn read_event(&mut self) {
        let event =
            self.control.as_ref().and_then(|control| control::receive::<Event>(control).ok().flatten());
        match event {
            Some(Event::Sandboxed { pid }) => self.open_ports(pid),
            Some(Event::Started) => {
                self.started = true;
                if let Err(error) = self.reins.announce() {
                    drop(self.log.say(&format!("the agent cannot be told: {error}")));
                }
                self.meter.begin();
            }
            Some(Event::NotExecuted { message, code }) => {
                self.code = Some(code);
                if self.started {
                    // Setup ran; the job's own program is what is missing.
                    let _ = self.log.say(&format!("cannot execute {message}"));
                } else {
                    self.failure = Some(Failure::Job(message));
                }
            }
            Some(Event::Exited { code }) => self.code = Some(code),
            Some(Event::NoSandbox { message }) => self.failure = Some(Failure::Host(message)),
            None => self.control = None,
        }
    }

    fn open_ports(&mut self, pid: u32) {
        for (port, listener) in std::mem::take(&mut self.listeners) {
            match ports::spawn(listener, pid, port, self.reins.door().as_deref()) {
                Ok(forwarder) => self.forwarders.push(forwarder),
                Err(error) => drop(self.log.say(&format!("port {port} cannot be forwarded: {error}"))),
            }
        }
    }

    fn obey(&mut self) -> io::Result<()> {
        let orders = self.reins.read()?;
        if orders.is_empty() {
            return Ok(());
        }
        for command in orders.chunks_exact(2) {
            match (command, &self.control) {
                // The job may have ended in this moment.
                ([SIGNAL, signal], Some(control)) => drop(control::send_raw(control, &[*signal])),
                ([KILL, _], _) => self.kill()?,
                ([PAUSE, _], _) => self.freeze(true)?,
                ([RESUME, _], _) => self.freeze(false)?,
                _ => {}
            }
        }
        self.reins.acknowledge()
    }

    fn freeze(&self, frozen: bool) -> io::Result<()> {
        let by_group = if frozen { self.cgroup.freeze()? } else { self.cgroup.thaw()? };
        if !by_group {
            let signal = if frozen { Signal::STOP } else { Signal::CONT };
            tree::signal_below(self.launcher.id(), signal);
        }
        Ok(())
    }

    /// Passes the next session on to PID 1. One that cannot be is closed, and its agent sees that.
    fn admit(&self) {
        let Some(door) = &self.door else { return };
        if let (Ok((connection, _)), Some(control)) = (door.accept(), &self.control) {
            let _ = control::pass(control, &connection.into());
        }
    }

    /// Kills the whole tree, frozen or not.
    fn kill(&mut self) -> io::Result<()> {
        self.control = None;
        self.cgroup.kill()?;
        let pids = tree::descendants(self.launcher.id());
        for pid in pids.iter().filter_map(|process| i32::try_from(process.pid).ok().and_then(Pid::from_raw)) {
            let _ = rustix::process::kill_process(pid, Signal::CONT);
        }
        match pidfd_send_signal(&self.launcher_end, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn finish(mut self) -> io::Result<()> {
        for forwarder in &mut self.forwarders {
            let _ = forwarder.kill();
        }
        self.reap()?;
        // With nobody left at the other end this reads what they said last, and never waits.
        while self.control.is_some() {
            self.read_event();
        }
        while self.read_log()? {
            if self.log_is_empty()? {
                break;
            }
        }
        let out_of_memory = self.meter.out_of_memory();
        if out_of_memory {
            self.log.say(&format!(
                "the memory limit of {} was reached and a process killed",
                self.order.spec.limits.memory
            ))?;
        }
        if !self.started && self.failure.is_none() {
            let said = fs::read_to_string(self.dir.file("log")).unwrap_or_default();
            let last = said.lines().last().unwrap_or("it ended before the job began");
            self.failure = Some(Failure::Host(last.to_owned()));
        }
        let code = match &self.failure {
            Some(Failure::Host(_)) => init::FAILED,
            Some(Failure::Job(_)) | None => self.code.unwrap_or(init::KILLED),
        };
        let usage = self.meter.read(true);
        self.cgroup.remove()?;
        let exit = Exit { code, out_of_memory, at: now() };
        self.dir.write(
            "exit.json",
            &ExitRecord {
                exit,
                usage: Usage { memory: Bytes::ZERO, ..usage },
                failure: self.failure.clone(),
            },
        )?;
        if let Some(failure) = self.failure {
            report(&Report::Failed(failure));
        }
        Ok(())
    }

    /// Waits until no child is left.
    fn reap(&mut self) -> io::Result<()> {
        let begin = Instant::now();
        let _ = self.launcher.try_wait();
        loop {
            match wait(WaitOptions::NOHANG) {
                Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(error) if error != rustix::io::Errno::INTR => return Err(error.into()),
                Ok(None) => {
                    self.cgroup.kill()?;
                    if begin.elapsed() > REAP_PATIENCE / 10 {
                        self.control = None;
                    }
                    if begin.elapsed() > REAP_PATIENCE {
                        return Err(io::Error::new(
                            io::ErrorKind::TimedOut,
                            "the workload's processes do not end",
                        ));
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(Some(_)) | Err(_) => {}
            }
        }
    }

    fn log_is_empty(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.log_pipe, PollFlags::IN)];
        Ok(poll(&mut fds, Some(&Timespec::default()))? == 0)
    }
}

struct Ready {
    launcher: bool,
    commands: bool,
    log: bool,
    control: bool,
    door: bool,
}

/// Seconds since the epoch, by this host's clock.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_unix(since.map(|duration| duration.as_secs()).unwrap_or(0))
}

fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// The pipe of the job's output. It belongs to the job's user, so that `/dev/stdout` can be opened.
fn log_pipe(user: Option<u32>) -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    // A host that limits pipes gives a smaller one.
    let _ = fcntl_setpipe_size(&read, PIPE_BYTES);
    fcntl_setfl(&read, OFlags::NONBLOCK)?;
    if let Some(user) = user {
        fchown(write.as_fd(), Some(rustix::fs::Uid::from_raw(user)), Some(rustix::fs::Gid::from_raw(user)))?;
    }
    Ok((read, write))
}
