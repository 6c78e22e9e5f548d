//! A command in a running job: its input, output and terminal are this one's.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::bail;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tradewind_buyer::job::record::JobRecord;
use tradewind_mesh::{FrameError, FrameReader, FrameWriter};
use tradewind_proto::access::{Input, MAX_CHUNK, Output, Session, Size, Target, Tty};
use tradewind_proto::ids::JobId;

use crate::cli::Exec;
use crate::client::{NodeClient, Told, untold};

/// Of a job's id, what must be given at least.
const PREFIX_LEAST: usize = 4;
/// The kind of a terminal that has none.
const TERM: &str = "xterm";
/// What is said to a command that its person wants to end.
const PASSED_ON: [(SignalKind, u8); 3] =
    [(SignalKind::interrupt(), 2), (SignalKind::terminate(), 15), (SignalKind::hangup(), 1)];

/// The job that a person means: by its id, the beginning of one, or the name of a job that is not over.
pub(super) async fn find(named: &str, node: &NodeClient) -> anyhow::Result<JobRecord> {
    if let Ok(id) = named.parse::<JobId>() {
        return node.job(id).await;
    }
    let jobs = node.jobs().await?;
    let begins = |job: &JobRecord| {
        let (id, wanted) = (job.id.to_string(), named.to_ascii_lowercase());
        let bare = wanted.strip_prefix("0x").unwrap_or(&wanted);
        bare.len() >= PREFIX_LEAST && id.trim_start_matches("0x").starts_with(bare)
    };
    let (live, over): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| !job.is_over());
    for among in [live, over] {
        let mut found: Vec<JobRecord> =
            among.into_iter().filter(|job| job.spec.name == named || begins(job)).collect();
        match found.len() {
            0 => {}
            1 => return Ok(found.remove(0)),
            several => {
                let hint = "`tradewind ps` lists their ids; any beginning of one that no other has will do";
                return Err(Told::error(format!("{several} jobs answer to `{named}`"), hint));
            }
        }
    }
    Err(Told::error(format!("there is no job `{named}`"), "`tradewind ps --all` lists them"))
}

pub(super) async fn exec(options: &Exec, node: &NodeClient) -> anyhow::Result<u8> {
    let job = find(&options.job, node).await?.id;
    let at_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let shell = options.command.is_empty();
    let tty = options.tty || (shell && at_terminal);
    if options.tty && !at_terminal {
        bail!(Told::error("there is no terminal here to lend", "leave `-t` out"))
    }
    let words = if shell { Session::shell() } else { options.command.clone() };
    let session = Session {
        target: Target::Command(words),
        envs: options.envs.iter().cloned().collect(),
        tty: tty.then(terminal),
    };
    let (mut reader, writer) = node.session(job, session).await?.split();
    match next(&mut reader).await? {
        Output::Started => {}
        Output::NotBegun { code, reason } => {
            tokio::io::stderr().write_all(format!("error: {reason}\n").as_bytes()).await?;
            return Ok(code);
        }
        Output::Stdout(_) | Output::Stderr(_) | Output::Alive | Output::Exited(_) => return Err(cut_off()),
    }
    let _raw = if tty { Some(RawTerminal::enter()?) } else { None };
    let input = (options.interactive || shell).then(tokio::io::stdin);
    tokio::select! {
        code = receive(reader, tokio::io::stdout(), tokio::io::stderr()) => code,
        error = send(writer, input, tty) => Err(error),
    }
}

/// This terminal's kind and size.
fn terminal() -> Tty {
    let term = std::env::var("TERM").unwrap_or_else(|_| TERM.into());
    let fits = term.len() <= 64 && !term.is_empty() && term.chars().all(|c| c.is_ascii_graphic());
    Tty { term: if fits { term } else { TERM.into() }, size: size() }
}

fn size() -> Size {
    match tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_col > 0 => Size { columns: size.ws_col, rows: size.ws_row },
        Ok(_) | Err(_) => Size { columns: 80, rows: 24 },
    }
}

/// A terminal that passes every key on, until this value ends.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> anyhow::Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Nothing else can be done about a terminal that is gone.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

/// The next message that is more than a sign of life.
pub(super) async fn next(reader: &mut FrameReader) -> anyhow::Result<Output> {
    loop {
        match reader.recv().await {
            Ok(Some(frame)) => {
                let output = Output::decode(&frame)?;
                if output != Output::Alive {
                    return Ok(output);
                }
            }
            Err(FrameError::Refused(refusal)) => return Err(untold(&refusal)),
            Ok(None) | Err(_) => return Err(cut_off()),
        }
    }
}

fn cut_off() -> anyhow::Error {
    let hint = "the job ended, or its provider is gone: `tradewind ps --all` shows which";
    Told::error("the session was cut off", hint)
}

/// Takes the command's output until its end, and returns its code.
async fn receive(
    mut reader: FrameReader,
    mut out: impl AsyncWrite + Unpin,
    mut err: impl AsyncWrite + Unpin,
) -> anyhow::Result<u8> {
    loop {
        match next(&mut reader).await? {
            Output::Stdout(bytes) => {
                out.write_all(&bytes).await?;
                out.flush().await?;
            }
            Output::Stderr(bytes) => {
                err.write_all(&bytes).await?;
                err.flush().await?;
            }
            Output::Started | Output::Alive => {}
            Output::NotBegun { code, .. } | Output::Exited(code) => return Ok(code),
        }
    }
}

/// Passes on what a person types, resizes and interrupts; returns when that cannot go on.
async fn send(mut writer: FrameWriter, input: Option<impl AsyncRead + Unpin>, tty: bool) -> anyhow::Error {
    match pass_on(&mut writer, input, tty).await {
        Ok(never) => never,
        // The other direction knows why.
        Err(_) => {
            tokio::time::sleep(Duration::from_secs(5)).await;
            cut_off()
        }
    }
}

async fn pass_on(
    writer: &mut FrameWriter,
    mut input: Option<impl AsyncRead + Unpin>,
    tty: bool,
) -> anyhow::Result<anyhow::Error> {
    if input.is_none() {
        writer.send(Input::End.encode()).await?;
    }
    let mut resized = signal(SignalKind::window_change())?;
    let mut signals = Vec::new();
    for (kind, number) in PASSED_ON {
        signals.push((signal(kind)?, number));
    }
    let mut buffer = vec![0u8; MAX_CHUNK];
    loop {
        let message = tokio::select! {
            read = read_some(&mut input, &mut buffer) => match read? {
                0 => {
                    input = None;
                    Input::End
                }
                length => Input::Stdin(bytes::Bytes::copy_from_slice(&buffer[..length])),
            },
            _ = resized.recv(), if tty => Input::Resize(size()),
            number = first(&mut signals) => Input::Signal(number),
        };
        writer.send(message.encode()).await?;
    }
}

async fn read_some(input: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> std::io::Result<usize> {
    match input {
        Some(input) => input.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn first(signals: &mut [(Signal, u8)]) -> u8 {
    let waiting = signals.iter_mut().map(|(signal, number)| {
        Box::pin(async move {
            signal.recv().await;
            *number
        })
    });
    futures::future::select_all(waiting).await.0
}
