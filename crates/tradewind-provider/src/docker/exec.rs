//! Sessions in a container, by the engine's own exec: the job's user, capabilities, limits and environment.
//!
//! ```text
//! Input ──► engine's connection ──► command in the container ──► engine's connection ──► Output
//!   resize, inspect: calls of their own          kill: by the host's process numbers, or from inside
//! ```
//!
//! The engine has no call that ends a command, so the agent ends it itself: engine and agent share the machine, and a job's user
//! is the agent's own unless the agent is root. A sandbox shows the host none of its processes; there a shell of the image signals them
//! ([`inside`]). A port of the container's loopback is reached by a program of the image.

mod inside;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bollard::exec::ResizeExecOptions;
use bollard::models::ExecConfig;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tradewind_proto::access::{Input, MAX_CHUNK, Output, Session, Size, Target};
use tradewind_proto::ids::LeaseId;

use self::inside::Inside;
use super::container::Described;
use super::engine::{CallError, OLDEST_API};
use super::{NAME, Shared, container};
use crate::process::tree;
use crate::runtime::{RuntimeError, SessionEnds};

/// Messages that wait in each direction.
const WAITING: usize = 4;
/// The most that the engine says before a connection is the command's.
const HEAD_MAX: u64 = 16 << 10;
/// Between looks at a command that says nothing: one that it left behind may hold its output open.
const QUIET: Duration = Duration::from_secs(1);
/// How long the engine may take to have a command's terminal, or its code.
const SETTLES: (u32, Duration) = (40, Duration::from_millis(50));
/// Between the hangup of a session that was left and its kill.
const HANGUP_GRACE: Duration = Duration::from_millis(500);
/// How long a killed session may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// What ends a terminal's input.
const END_OF_INPUT: u8 = 4;
/// How the engine begins what it says in a command's place.
const ENGINE_FAILED: &str = "OCI runtime exec failed";
/// The longest reason.
const REASON_MAX: usize = 512;
/// Our own code for a code that the engine never told.
const UNTOLD: u8 = 125;

/// Joins standard input and output to a port of the loopback, by what the image has. `$0` is the port.
const JOIN: &str = r#"
if command -v socat >/dev/null 2>&1; then exec socat - "TCP:127.0.0.1:$0"; fi
if command -v nc >/dev/null 2>&1; then exec nc 127.0.0.1 "$0"; fi
if command -v bash >/dev/null 2>&1; then
    exec bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 1; cat <&0 >&3 & cat <&3; kill $! 2>/dev/null' "$0"
fi
echo 'the image has none of socat, nc and bash, one of which must reach the port' >&2
exit 126"#;

/// An exec of the engine.
struct Exec {
    shared: Arc<Shared>,
    id: String,
    tty: bool,
    /// How its processes are found where the host does not see them.
    inside: Option<Inside>,
}

/// Begins a session.
pub(super) async fn begin(
    shared: &Arc<Shared>,
    lease: LeaseId,
    found: &Described,
    session: &Session,
) -> Result<SessionEnds, RuntimeError> {
    let inside = found.is_sandboxed().then(|| Inside::new(lease));
    let config = config(session, inside.as_ref().map(Inside::mark));
    let id = create(shared, lease, config).await.map_err(|error| error.about(lease))?;
    let exec = Exec { shared: Arc::clone(shared), id, tty: session.tty.is_some(), inside };
    let (input, inputs) = mpsc::channel(WAITING);
    let (outputs, output) = mpsc::channel(WAITING);
    let within = shared.config.call_within;
    let started = tokio::time::timeout(within, exec.start()).await;
    let started = started.map_err(|_| RuntimeError::Unavailable("no answer to: start a command".into()))?;
    match started.map_err(RuntimeError::io("start a command"))? {
        Ok(stream) => {
            let size = session.tty.as_ref().map(|tty| tty.size);
            tokio::spawn(exec.carry(stream, size, inputs, outputs));
        }
        Err(reason) => {
            let not_begun = Output::NotBegun { code: if is_missing(&reason) { 127 } else { 126 }, reason };
            // The receiver is held right here.
            let _ = outputs.send(not_begun).await;
        }
    }
    Ok(SessionEnds { input, output })
}

async fn create(shared: &Shared, lease: LeaseId, config: ExecConfig) -> Result<String, CallError> {
    let name = container::name(lease);
    let creating = |docker: bollard::Docker| async move { docker.create_exec(&name, config).await };
    Ok(shared.engine.call("prepare a command", creating).await?.id)
}

/// Whether the engine's reason is that there is no such program.
fn is_missing(reason: &str) -> bool {
    reason.contains("not found") || reason.contains("no such file")
}

/// Keeps the beginning of what is said.
fn note(beginning: &mut Vec<u8>, said: &[u8]) {
    let room = REASON_MAX.saturating_sub(beginning.len());
    beginning.extend(said.iter().take(room));
}

fn config(session: &Session, mark: Option<String>) -> ExecConfig {
    let words = match &session.target {
        Target::Command(words) => words.clone(),
        Target::Port(port) => vec!["/bin/sh".into(), "-c".into(), JOIN.into(), port.to_string()],
    };
    let term = session.tty.as_ref().map(|tty| format!("TERM={}", tty.term));
    let envs = session.envs.iter().map(|(name, value)| format!("{name}={value}"));
    ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(session.tty.is_some()),
        env: Some(envs.chain(term).chain(mark).collect()),
        cmd: Some(words),
        // Engines before 23 take no size here and are told of it afterwards.
        console_size: session.tty.as_ref().map(|tty| vec![tty.size.rows.into(), tty.size.columns.into()]),
        privileged: Some(false),
        working_dir: Some("/work".into()),
        ..ExecConfig::default()
    }
}

impl Exec {
    /// Starts it and takes the connection over; or the engine's reason why not. The client library's own reader cannot tell a
    /// terminal's bytes from its framing, so the connection is made here.
    async fn start(&self) -> io::Result<Result<BufReader<UnixStream>, String>> {
        let socket = self.shared.engine.socket().map_err(|error| io::Error::other(format!("{error:?}")))?;
        let body = format!(r#"{{"Detach":false,"Tty":{}}}"#, self.tty);
        let (major, minor) = OLDEST_API;
        let head = format!(
            "POST /v{major}.{minor}/exec/{}/start HTTP/1.1\r\nHost: {NAME}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.id,
            body.len()
        );
        let mut stream = BufReader::with_capacity(MAX_CHUNK, UnixStream::connect(socket).await?);
        stream.write_all(head.as_bytes()).await?;
        let (mut limited, mut head) = ((&mut stream).take(HEAD_MAX), String::new());
        while !head.ends_with("\r\n\r\n") {
            if limited.read_line(&mut head).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if head.starts_with("HTTP/1.1 101") || head.starts_with("HTTP/1.1 200") {
            return Ok(Ok(stream));
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<u64>().ok())?
        });
        let mut body = Vec::new();
        limited.take(length.unwrap_or(0)).read_to_end(&mut body).await?;
        let told = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
        Ok(Err(told["message"]
            .as_str()
            .unwrap_or("the engine gives no reason")
            .chars()
            .take(REASON_MAX)
            .collect()))
    }

    async fn carry(
        self,
        stream: BufReader<UnixStream>,
        size: Option<Size>,
        inputs: mpsc::Receiver<Input>,
        outputs: mpsc::Sender<Output>,
    ) {
        let (read, write) = tokio::io::split(stream);
        let gone = outputs.clone();
        let ended = tokio::select! {
            ended = self.receive(read, &outputs) => ended,
            () = self.send(write, size, inputs) => Ok(()),
            () = gone.closed() => Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a command's connection broke");
        }
        self.hang_up().await;
    }

    /// Puts in until the other end is dropped.
    async fn send(
        &self,
        write: impl AsyncWrite + Unpin,
        size: Option<Size>,
        mut inputs: mpsc::Receiver<Input>,
    ) {
        if let Some(size) = size {
            self.resize(size).await;
        }
        let mut write = Some(write);
        while let Some(input) = inputs.recv().await {
            let written = match (input, &mut write) {
                (Input::Stdin(bytes), Some(to)) => to.write_all(&bytes).await,
                (Input::End, Some(to)) if self.tty => to.write_all(&[END_OF_INPUT]).await,
                (Input::End, Some(to)) => {
                    let ended = to.shutdown().await;
                    write = None;
                    ended
                }
                (Input::Stdin(_) | Input::End, None) => Ok(()),
                (Input::Resize(size), _) => {
                    self.resize(size).await;
                    Ok(())
                }
                (Input::Signal(signal), _) => {
                    if let Some(signal) = Signal::from_named_raw(i32::from(signal)) {
                        self.signal(signal).await;
                    }
                    Ok(())
                }
            };
            if written.is_err() {
                // It takes no more; its output goes on.
                write = None;
            }
        }
    }

    /// Takes out until the command's end.
    async fn receive(
        &self,
        mut read: impl AsyncRead + Unpin,
        outputs: &mpsc::Sender<Output>,
    ) -> io::Result<()> {
        let put = async |output| outputs.send(output).await.map_err(|_| io::ErrorKind::BrokenPipe.into());
        put(Output::Started).await?;
        let (mut buffer, mut beginning) = (vec![0u8; MAX_CHUNK], Vec::new());
        if self.tty {
            while let Some(length) = self.read_some(&mut read, &mut buffer).await? {
                note(&mut beginning, &buffer[..length]);
                put(Output::Stdout(bytes::Bytes::copy_from_slice(&buffer[..length]))).await?;
            }
        } else {
            let mut header = [0u8; 8];
            while let Some(length) = self.read_some(&mut read, &mut header[..1]).await? {
                debug_assert_eq!(length, 1);
                read.read_exact(&mut header[1..]).await?;
                let [stream, _, _, _, length @ ..] = header;
                let mut left = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
                while left > 0 {
                    let room = left.min(buffer.len());
                    let read = read.read(&mut buffer[..room]).await?;
                    if read == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    left -= read;
                    note(&mut beginning, &buffer[..read]);
                    let bytes = bytes::Bytes::copy_from_slice(&buffer[..read]);
                    put(if stream == 2 { Output::Stderr(bytes) } else { Output::Stdout(bytes) }).await?;
                }
            }
        }
        put(Output::Exited(self.code(&beginning).await)).await
    }

    /// Bytes of the command, or `None` at its end.
    async fn read_some(
        &self,
        read: &mut (impl AsyncRead + Unpin),
        buffer: &mut [u8],
    ) -> io::Result<Option<usize>> {
        loop {
            match tokio::time::timeout(QUIET, read.read(buffer)).await {
                Ok(length) => return Ok(Some(length?).filter(|length| *length > 0)),
                Err(_) if self.running().await == Some(None) => return Ok(None),
                Err(_) => {}
            }
        }
    }

    /// What the engine says: `Some(Some(pid))` while the command runs (0 while its number is not known), `Some(None)` when it ended, `None` when it does not say.
    async fn running(&self) -> Option<Option<i32>> {
        if self.is_orphaned().await {
            return Some(None);
        }
        let found = self.inspect().await?;
        let pid = || found.pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        Some(found.running?.then(pid))
    }

    /// A sandbox that ended takes its commands along, and the engine may never hear of those.
    async fn is_orphaned(&self) -> bool {
        let Some(inside) = &self.inside else { return false };
        self.shared.ours(inside.lease()).await.is_ok_and(|found| !found.is_some_and(|found| found.runs()))
    }

    async fn inspect(&self) -> Option<bollard::models::ExecInspectResponse> {
        let id = self.id.clone();
        let looking = |docker: bollard::Docker| async move { docker.inspect_exec(&id).await };
        self.shared.engine.call("look at a command", looking).await.ok()
    }

    async fn code(&self, beginning: &[u8]) -> u8 {
        for _ in 0..SETTLES.0 {
            match self.inspect().await {
                Some(found) if found.running == Some(false) => {
                    let code = found.exit_code.and_then(|code| u8::try_from(code).ok()).unwrap_or(UNTOLD);
                    // Some engines say of a missing program in its own output that it cannot be executed.
                    let engine = String::from_utf8_lossy(beginning);
                    let missing = code == 126 && engine.starts_with(ENGINE_FAILED) && is_missing(&engine);
                    return if missing { 127 } else { code };
                }
                Some(_) => tokio::time::sleep(SETTLES.1).await,
                None => break,
            }
        }
        UNTOLD
    }

    async fn resize(&self, size: Size) {
        let options = ResizeExecOptions { height: size.rows, width: size.columns };
        for _ in 0..SETTLES.0 {
            let id = self.id.clone();
            let resizing = |docker: bollard::Docker| async move { docker.resize_exec(&id, options).await };
            // Refused until the terminal is there, and when it is gone.
            match self.shared.engine.call("resize a terminal", resizing).await {
                Err(_) if self.running().await != Some(None) => tokio::time::sleep(SETTLES.1).await,
                Ok(()) | Err(_) => return,
            }
        }
    }

    /// The command's process, which leads its session, while it runs. The engine may not know its number yet.
    async fn leader(&self) -> Option<i32> {
        for _ in 0..SETTLES.0 {
            match self.running().await {
                Some(None) => return None,
                Some(Some(leader)) if leader > 0 => {
                    let pinned = pidfd_open(Pid::from_raw(leader)?, PidfdFlags::empty()).ok();
                    // Asked once more with the process held: its number is nobody else's now.
                    if pinned.is_some() && self.running().await == Some(Some(leader)) {
                        return Some(leader);
                    }
                }
                Some(Some(_)) | None => {}
            }
            tokio::time::sleep(SETTLES.1).await;
        }
        tracing::warn!("the engine does not say which process a command is");
        None
    }

    async fn signal(&self, signal: Signal) {
        if let Some(inside) = &self.inside {
            if let Err(why) = inside.signal(&self.shared, signal).await {
                tracing::warn!(why, "a command in a sandbox takes no signal");
            }
            return;
        }
        if let Some(leader) = self.leader().await {
            signal_session(leader, signal).await;
        }
    }

    /// Ends what still runs of a session that was left.
    async fn hang_up(&self) {
        if let Some(inside) = &self.inside {
            if self.running().await != Some(None)
                && let Err(why) = inside.hang_up(&self.shared).await
            {
                tracing::warn!(
                    why,
                    "a command in a sandbox that its buyer left goes on until its lease ends"
                );
            }
            return;
        }
        let Some(leader) = self.leader().await else { return };
        let begin = Instant::now();
        let mut signal = Signal::HUP;
        // A session's number is not given out again while one of its processes is left.
        while signal_session(leader, signal).await > 0 {
            if begin.elapsed() > HANGUP_GRACE {
                signal = Signal::KILL;
            }
            if begin.elapsed() > KILL_PATIENCE {
                tracing::warn!(leader, "a command that its buyer left does not end");
                return;
            }
            tokio::time::sleep(SETTLES.1).await;
        }
    }
}

/// Signals every process of a session; how many there were.
async fn signal_session(leader: i32, signal: Signal) -> usize {
    let sent = tokio::task::spawn_blocking(move || {
        let members = tree::session(leader);
        members.iter().for_each(|pid| send(*pid, leader, signal));
        members.len()
    });
    sent.await.unwrap_or(0)
}

/// Sends a signal to a member of the session, whose number may be another process's by now.
fn send(pid: Pid, leader: i32, signal: Signal) {
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let number = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or(0);
    if tree::process(number).is_some_and(|process| process.session == leader)
        && let Err(error) = pidfd_send_signal(&pidfd, signal)
    {
        tracing::debug!(%error, "a process of a command takes no signal");
    }
}
