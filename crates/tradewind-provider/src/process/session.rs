//! A session inside the sandbox: a thread of PID 1 between the agent's connection and a command or a port.
//!
//! ```text
//! connection ──► unread ──► message ──► pending ──► standard input, terminal or port
//! connection ◄── unsent ◄── messages ◄──────────── standard output and error
//! ```
//!
//! One loop, nothing blocks, and every buffer has a limit: a side is only read when the other has room. So a connection that ends
//! is seen at once, whatever else stands still, and takes the command's processes along. The loop runs in the sandbox, within
//! the job's limits and behind its filters; the command is a child of PID 1 as the job is.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, ioctl_tiocsctty, kill_process,
    kill_process_group, pidfd_open, setsid, wait, waitid,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetpgrp, tcsetwinsize};
use tradewind_proto::access::{Input, MAX_MESSAGE, MAX_OPENING, Output, Session, Size, Target, Tty};

use super::{door, init, tree};

/// Sessions at a time; the agent has fewer.
const SESSIONS_MAX: usize = 64;
/// What is read at once; several fit a message.
const READ: usize = 16 << 10;
/// Above this many unsent bytes no more output is read.
const UNSENT_MAX: usize = 64 << 10;
/// Output that is still taken after the command's end, from those that it left behind.
const LAST_WORDS: usize = 1 << 20;
/// How long a connection may take to say what it wants.
const OPENING_PATIENCE: Duration = Duration::from_secs(5);
/// How long a port may take to answer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Between the hangup of a session that was left and its kill.
const HANGUP_GRACE: Duration = Duration::from_millis(500);
/// What ends a terminal's input.
const END_OF_INPUT: u8 = 4;

/// What every session of a sandbox shares.
pub(super) struct Sandbox {
    pub(super) environment: BTreeMap<String, String>,
    pub(super) children: Children,
}

/// The children of PID 1, which alone may wait for them: the exit codes of those that a session waits for.
#[derive(Default)]
pub(super) struct Children {
    codes: Mutex<BTreeMap<i32, Option<u8>>>,
    news: Condvar,
}

impl Children {
    fn hold(&self) -> MutexGuard<'_, BTreeMap<i32, Option<u8>>> {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reaps whatever ends until `job` does, and returns its code.
    pub(super) fn reap_until(&self, job: Pid) -> u8 {
        loop {
            // Waited for first and reaped under the lock: no child is gone before its session knows its number, and one that
            // could not be executed is the spawner's to reap.
            match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return init::FAILED,
            }
            if let Some((ended, code)) = self.reap_one()
                && ended == job
            {
                return code;
            }
        }
    }

    /// Reaps what ended by now.
    pub(super) fn reap(&self) {
        while self.reap_one().is_some() {}
    }

    fn reap_one(&self) -> Option<(Pid, u8)> {
        let mut codes = self.hold();
        let (pid, status) = wait(WaitOptions::NOHANG).ok()??;
        let code = status.exit_status().or_else(|| Some(128 + status.terminating_signal()?));
        let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(init::FAILED);
        if let Some(known) = codes.get_mut(&pid.as_raw_nonzero().get()) {
            *known = Some(code);
            self.news.notify_all();
        }
        Some((pid, code))
    }

    /// Spawns a child whose code is kept until it is taken.
    fn spawn(&self, command: &mut std::process::Command) -> io::Result<(Pid, OwnedFd)> {
        let mut codes = self.hold();
        if codes.len() >= SESSIONS_MAX {
            return Err(io::Error::other("too many sessions at once"));
        }
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        codes.insert(pid.as_raw_nonzero().get(), None);
        Ok((pid, pidfd))
    }

    /// The code of a child that ended.
    fn take(&self, pid: Pid) -> u8 {
        let number = pid.as_raw_nonzero().get();
        let mut codes = self.hold();
        loop {
            match codes.get(&number) {
                Some(None) => codes = self.news.wait(codes).unwrap_or_else(PoisonError::into_inner),
                Some(Some(_)) | None => return codes.remove(&number).flatten().unwrap_or(init::FAILED),
            }
        }
    }
}

/// Serves one connection to its end.
pub(super) fn serve(connection: OwnedFd, sandbox: &Sandbox) {
    let Ok(mut line) = Line::new(connection) else { return };
    let Some(session) = line.opening() else { return };
    let begun = match &session.target {
        Target::Command(words) => command(words, &session, sandbox),
        Target::Port(port) => connect(*port),
    };
    match begun {
        Ok(mut ends) => {
            line.say(&Output::Started);
            converse(&mut line, &mut ends, sandbox);
        }
        Err(error) => {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let code = if missing { init::NOT_FOUND } else { init::NOT_EXECUTABLE };
            let reason = match &session.target {
                // A program's name may be long.
                Target::Command(words) => {
                    let name: String = words.iter().take(1).flat_map(|word| word.chars()).take(256).collect();
                    format!("{name}: {error}")
                }
                Target::Port(_) => error.to_string(),
            };
            line.say(&Output::NotBegun { code, reason });
            line.flush();
        }
    }
}

/// The workload's side of a session.
struct Ends {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    error: Option<OwnedFd>,
    child: Option<(Pid, OwnedFd)>,
    kind: EndKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EndKind {
    Pipes,
    Terminal,
    Port,
}

#[expect(unsafe_code, reason = "what runs between fork and exec must not allocate or lock, and does not")]
fn command(words: &[String], session: &Session, sandbox: &Sandbox) -> io::Result<Ends> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = std::process::Command::new(program);
    command.args(arguments).env_clear().envs(&sandbox.environment).envs(&session.envs).current_dir("/work");
    let terminal = session.tty.as_ref().map(open_terminal).transpose()?;
    let with_terminal = terminal.is_some();
    let mut ends = match (terminal, &session.tty) {
        (Some((master, slave)), Some(tty)) => {
            command.env("TERM", &tty.term);
            command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
            Ends {
                input: Some(master.try_clone()?),
                output: Some(master),
                error: None,
                child: None,
                kind: EndKind::Terminal,
            }
        }
        (Some(_), None) | (None, _) => {
            let (read, input) = io::pipe()?;
            let (output, said) = io::pipe()?;
            let (error, complained) = io::pipe()?;
            command.stdin(Stdio::from(read)).stdout(Stdio::from(said)).stderr(Stdio::from(complained));
            Ends {
                input: Some(input.into()),
                output: Some(output.into()),
                error: Some(error.into()),
                child: None,
                kind: EndKind::Pipes,
            }
        }
    };
    let own_session = move || {
        setsid()?;
        if with_terminal {
            ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        Ok(())
    };
    // SAFETY: two system calls, no memory and no lock.
    unsafe { command.pre_exec(own_session) };
    ends.child = Some(sandbox.children.spawn(&mut command)?);
    ends.prepare()?;
    Ok(ends)
}

fn open_terminal(tty: &Tty) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    resize(&master, tty.size)?;
    Ok((master, slave))
}

fn resize(terminal: impl AsFd, size: Size) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

fn connect(port: u16) -> io::Result<Ends> {
    let dial = |address: SocketAddr| TcpStream::connect_timeout(&address, CONNECT_PATIENCE);
    let stream = dial((Ipv4Addr::LOCALHOST, port).into())
        .or_else(|error| dial((Ipv6Addr::LOCALHOST, port).into()).map_err(|_| error))?;
    stream.set_nodelay(true)?;
    let input = stream.try_clone()?;
    let (input, output) = (Some(input.into()), Some(stream.into()));
    let ends = Ends { input, output, error: None, child: None, kind: EndKind::Port };
    ends.prepare()?;
    Ok(ends)
}

impl Ends {
    fn prepare(&self) -> io::Result<()> {
        [&self.input, &self.output, &self.error].into_iter().flatten().try_for_each(nonblocking)
    }

    /// Writes what the workload takes now. What takes no more at all gets no more.
    fn write(&mut self, pending: &mut Vec<u8>) {
        let Some(input) = &self.input else { return pending.clear() };
        match rustix::io::write(input, pending) {
            Ok(written) => drop(pending.drain(..written)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                pending.clear();
                self.input = None;
            }
        }
    }

    fn end_input(&mut self, pending: &mut Vec<u8>) {
        match (self.kind, &self.input) {
            (EndKind::Terminal, _) => pending.push(END_OF_INPUT),
            (EndKind::Port, Some(port)) => {
                // The other side may be gone already.
                let _ = shutdown(port, Shutdown::Write);
                self.input = None;
            }
            (EndKind::Pipes, _) | (EndKind::Port, None) => self.input = None,
        }
    }

    fn signal(&self, signal: u8) {
        let (Some(signal), Some((leader, _))) = (Signal::from_named_raw(i32::from(signal)), &self.child)
        else {
            return;
        };
        let foreground = self.output.as_ref().filter(|_| self.kind == EndKind::Terminal);
        let group = foreground.and_then(|terminal| tcgetpgrp(terminal).ok()).unwrap_or(*leader);
        // It may have ended in this moment.
        let _ = kill_process_group(group, signal);
    }

    /// Ends what still runs of a session that was left.
    fn kill(&mut self, children: &Children) {
        let Some((leader, _)) = self.child.take() else { return };
        (self.input, self.output, self.error) = (None, None, None);
        let begin = Instant::now();
        let mut signal = Signal::HUP;
        loop {
            let members = tree::session(leader.as_raw_nonzero().get());
            for pid in &members {
                // It may have ended in this moment.
                let _ = kill_process(*pid, signal);
            }
            if members.is_empty() {
                break;
            }
            if begin.elapsed() > HANGUP_GRACE {
                signal = Signal::KILL;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        children.take(leader);
    }
}

/// What [`poll`] said about a session.
struct Ready {
    line: PollFlags,
    input: bool,
    output: bool,
    error: bool,
    ended: bool,
}

fn converse(line: &mut Line, ends: &mut Ends, sandbox: &Sandbox) {
    let (mut pending, mut finishing, mut code, mut last_words) = (Vec::new(), false, None, 0);
    loop {
        let (closing, full) = (code.is_some(), line.full());
        let Ok(ready) = look(line, ends, !pending.is_empty(), closing) else { break };
        if ready.line.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
            break;
        }
        if ready.line.contains(PollFlags::OUT) && !line.send() {
            break;
        }
        if ready.line.contains(PollFlags::IN) && !line.fill() {
            break;
        }
        if ready.input {
            ends.write(&mut pending);
        }
        while pending.is_empty() {
            match line.next() {
                Ok(None) => break,
                Ok(Some(Input::Stdin(_))) if finishing => {}
                Ok(Some(Input::Stdin(bytes))) => pending.extend_from_slice(&bytes),
                Ok(Some(Input::End)) if finishing => {}
                Ok(Some(Input::End)) => {
                    finishing = true;
                    ends.end_input(&mut pending);
                }
                Ok(Some(Input::Resize(size))) => {
                    ends.output.iter().for_each(|terminal| drop(resize(terminal, size)));
                }
                Ok(Some(Input::Signal(signal))) => ends.signal(signal),
                Err(_) => return ends.kill(&sandbox.children),
            }
        }
        let mut said = 0;
        if ready.output {
            said += line.relay(&mut ends.output, Output::Stdout);
        }
        if ready.error {
            said += line.relay(&mut ends.error, Output::Stderr);
        }
        if closing {
            last_words += said;
            // A full line had no room to look at what is left.
            if (said == 0 && !full) || last_words > LAST_WORDS {
                break;
            }
        } else if ready.ended {
            code = ends.child.take().map(|(pid, _)| sandbox.children.take(pid));
        } else if ends.kind == EndKind::Port && ends.output.is_none() {
            code = Some(0);
        }
    }
    match code {
        Some(code) => {
            line.say(&Output::Exited(code));
            line.flush();
        }
        None => ends.kill(&sandbox.children),
    }
}

/// Waits until something can be done.
fn look(line: &Line, ends: &Ends, pending: bool, closing: bool) -> io::Result<Ready> {
    let mut wanted = PollFlags::RDHUP;
    wanted.set(PollFlags::IN, !pending);
    wanted.set(PollFlags::OUT, !line.unsent.is_empty());
    let mut fds = vec![PollFd::new(&line.socket, wanted)];
    let input = fds.len();
    if let Some(fd) = ends.input.as_ref().filter(|_| pending) {
        fds.push(PollFd::new(fd, PollFlags::OUT));
    }
    let output = fds.len();
    if let Some(fd) = ends.output.as_ref().filter(|_| !line.full()) {
        fds.push(PollFd::new(fd, PollFlags::IN));
    }
    let error = fds.len();
    if let Some(fd) = ends.error.as_ref().filter(|_| !line.full()) {
        fds.push(PollFd::new(fd, PollFlags::IN));
    }
    let child = fds.len();
    if let Some((_, pidfd)) = &ends.child {
        fds.push(PollFd::new(pidfd, PollFlags::IN));
    }
    let at_once = Timespec::default();
    match poll(&mut fds, (closing && !line.full()).then_some(&at_once)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let ready =
        |from: usize, to: usize| from < to && fds.get(from).is_some_and(|fd| !fd.revents().is_empty());
    Ok(Ready {
        line: fds.first().map_or(PollFlags::empty(), PollFd::revents),
        input: ready(input, output) || (pending && ends.input.is_none()),
        output: ready(output, error),
        error: ready(error, child),
        ended: ready(child, fds.len()),
    })
}

/// The agent's connection.
struct Line {
    socket: OwnedFd,
    unread: Vec<u8>,
    unsent: Vec<u8>,
}

impl Line {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        nonblocking(&socket)?;
        Ok(Self { socket, unread: Vec::new(), unsent: Vec::new() })
    }

    /// What the connection is for.
    fn opening(&mut self) -> Option<Session> {
        let begin = Instant::now();
        loop {
            if let Some(frame) = self.frame(MAX_OPENING).ok()? {
                return postcard::from_bytes(&frame).ok();
            }
            let left = OPENING_PATIENCE.checked_sub(begin.elapsed())?;
            let timeout = Timespec::try_from(left).ok()?;
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            poll(&mut fds, Some(&timeout)).ok()?;
            if !self.fill() {
                return None;
            }
        }
    }

    /// Reads what is there; `false` at the end.
    fn fill(&mut self) -> bool {
        let mut buffer = [0u8; READ];
        match rustix::io::read(&self.socket, &mut buffer[..]) {
            Ok(0) => false,
            Ok(length) => {
                self.unread.extend_from_slice(buffer.get(..length).unwrap_or_default());
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    fn frame(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(prefix) = self.unread.first_chunk::<{ door::PREFIX }>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*prefix)).map_err(io::Error::other)?;
        if length > limit {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.unread.len() < door::PREFIX + length {
            return Ok(None);
        }
        let body = self.unread.drain(..door::PREFIX + length).skip(door::PREFIX).collect();
        Ok(Some(body))
    }

    fn next(&mut self) -> io::Result<Option<Input>> {
        let frame = self.frame(MAX_MESSAGE)?;
        frame.map(|frame| Input::decode(&frame).map_err(io::Error::other)).transpose()
    }

    fn full(&self) -> bool {
        self.unsent.len() > UNSENT_MAX
    }

    fn say(&mut self, output: &Output) {
        // A message of known length is always encoded.
        self.unsent.extend(door::frame(output).unwrap_or_default());
    }

    /// Reads from the workload once and passes it on. The end, or a terminal that everybody left, closes it.
    fn relay(&mut self, from: &mut Option<OwnedFd>, say: fn(bytes::Bytes) -> Output) -> usize {
        let mut buffer = [0u8; READ];
        let read = from.as_ref().map_or(Ok(0), |fd| rustix::io::read(fd, &mut buffer[..]));
        match read {
            Ok(length) if length > 0 => {
                let bytes = buffer.get(..length).unwrap_or_default();
                self.say(&say(bytes::Bytes::copy_from_slice(bytes)));
                length
            }
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Ok(_) | Err(_) => {
                *from = None;
                0
            }
        }
    }

    /// Sends what the agent takes now; `false` when it is gone.
    fn send(&mut self) -> bool {
        match rustix::net::send(&self.socket, &self.unsent, rustix::net::SendFlags::NOSIGNAL) {
            Ok(sent) => {
                self.unsent.drain(..sent);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    /// Sends the rest, for as long as the agent is there.
    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            let mut fds = [PollFd::new(&self.socket, PollFlags::OUT | PollFlags::RDHUP)];
            let gone = poll(&mut fds, None).is_err() || fds[0].revents().intersects(PollFlags::RDHUP);
            if gone || !self.send() {
                return;
            }
        }
    }
}

fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A command that ended: what it said is in its pipe, and the agent has yet to take what came before.
    #[test]
    fn what_a_full_line_had_no_room_for_is_sent_after_the_command_s_end() {
        let (connection, mut agent) = UnixStream::pair().unwrap();
        let mut line = Line::new(connection.into()).unwrap();
        loop {
            while !line.full() {
                line.say(&Output::Stderr(vec![b'e'; READ].into()));
            }
            let waiting = line.unsent.len();
            if line.send() && line.unsent.len() == waiting {
                break;
            }
        }
        let (output, mut said) = io::pipe().unwrap();
        said.write_all(&[b'o'; READ]).unwrap();
        drop(said);
        let sandbox = Sandbox { environment: BTreeMap::new(), children: Children::default() };
        let (child, pidfd) = sandbox.children.spawn(&mut std::process::Command::new("true")).unwrap();
        let mut status = None;
        while status.is_none() {
            status = rustix::process::waitpid(Some(child), WaitOptions::empty()).unwrap();
        }
        sandbox.children.hold().insert(child.as_raw_nonzero().get(), Some(0));
        let child = Some((child, pidfd));
        let mut ends =
            Ends { input: None, output: Some(output.into()), error: None, child, kind: EndKind::Pipes };
        let heard = std::thread::spawn(move || {
            let mut heard = Vec::new();
            std::thread::sleep(Duration::from_millis(200));
            agent.read_to_end(&mut heard).unwrap();
            heard
        });
        converse(&mut line, &mut ends, &sandbox);
        drop(line);
        let heard = heard.join().unwrap();
        assert_eq!(heard.iter().filter(|byte| **byte == b'o').count(), READ);
        assert!(heard.ends_with(&door::frame(&Output::Exited(0)).unwrap()));
    }
}
