//! The SSH server of one connection: one key, and each channel a session of the job.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use russh::keys::PublicKey;
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handler, Msg, Session as Ssh, VerifiedPublicKey, run_stream,
};
use russh::{
    Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, MethodKind, MethodSet, Pty, Sig,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tradewind_mesh::{FrameReader, FrameWriter};
use tradewind_proto::access::{Input, MAX_CHUNK, Output, Session, Size, Target, Tty};
use tradewind_proto::ids::JobId;

use super::keys::Keys;
use crate::OWN_FAILURE;
use crate::client::{NodeClient, Told};
use crate::commands::exec::next;

/// Channels of one connection.
const CHANNELS: usize = 64;
/// Variables that one channel sets.
const VARIABLES: usize = 32;
/// Messages of a channel that wait.
const WAITING: usize = 16;
/// Of what a client may set, whole names and beginnings.
const ALLOWED: [&str; 8] =
    ["LANG", "LANGUAGE", "LC_*", "TZ", "COLORTERM", "NO_COLOR", "TERM_PROGRAM*", "VSCODE_*"];
/// The stream of standard error.
const STDERR: u32 = 1;

/// Finds the image's own file server.
const SFTP: &str = "for it in /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server \
    /usr/libexec/sftp-server /usr/lib/sftp-server; do [ -x \"$it\" ] && exec \"$it\"; done; \
    command -v sftp-server >/dev/null 2>&1 && exec sftp-server; \
    echo 'error: the job has no sftp-server' >&2; \
    echo 'hint: install openssh-sftp-server in its image, or use rsync, or scp -O' >&2; exit 127";

/// Serves the client on standard input and output until it leaves.
pub(super) async fn serve(keys: Keys, job: JobId, node: NodeClient) -> anyhow::Result<()> {
    let config = Config {
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_millis(200),
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: 6,
        keys: vec![keys.host],
        channel_buffer_size: WAITING,
        inactivity_timeout: None,
        keepalive_interval: Some(Duration::from_secs(30)),
        ..Config::default()
    };
    let door = Door { key: keys.client, job, node, channels: HashMap::new() };
    let stdio = Stdio { input: tokio::io::stdin(), output: tokio::io::stdout() };
    match run_stream(Arc::new(config), stdio, door).await?.await {
        // The client left without a word, as it does when its person closes it.
        Ok(()) | Err(russh::Error::Disconnect | russh::Error::HUP | russh::Error::IO(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Both standard streams as one.
struct Stdio {
    input: tokio::io::Stdin,
    output: tokio::io::Stdout,
}

impl AsyncRead for Stdio {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.input).poll_read(cx, into)
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.output).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.output).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.output).poll_shutdown(cx)
    }
}

/// A channel whose command is not named yet.
struct Waiting {
    channel: Channel<Msg>,
    envs: BTreeMap<String, String>,
    tty: Option<Tty>,
}

struct Door {
    key: PublicKey,
    job: JobId,
    node: NodeClient,
    channels: HashMap<ChannelId, Waiting>,
}

impl Door {
    /// Begins what a channel is for.
    fn begin(&mut self, id: ChannelId, words: Vec<String>, ssh: &mut Ssh) -> Result<(), russh::Error> {
        let Some(Waiting { channel, envs, tty }) = self.channels.remove(&id) else {
            return ssh.channel_failure(id);
        };
        ssh.channel_success(id)?;
        let session = Session { target: Target::Command(words), envs, tty };
        let (node, job) = (self.node.clone(), self.job);
        tokio::spawn(async move {
            let (reader, writer) = channel.split();
            let code = match run(&node, job, session, reader, &writer).await {
                Ok(code) => code,
                Err(error) => {
                    let hint =
                        error.downcast_ref::<Told>().map(|told| told.0.hint.clone()).unwrap_or_default();
                    let hint = if hint.is_empty() { hint } else { format!("hint: {hint}\r\n") };
                    // The client may be gone.
                    let _ = writer.extended_data_bytes(STDERR, format!("error: {error:#}\r\n{hint}")).await;
                    OWN_FAILURE
                }
            };
            let _ = writer.exit_status(code.into()).await;
            let _ = writer.eof().await;
            let _ = writer.close().await;
        });
        Ok(())
    }
}

impl Handler for Door {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: russh::server::PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(if offer.public_key.key_data() == self.key.key_data() { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(if key.public_key.key_data() == self.key.key_data() { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        if self.channels.len() < CHANNELS {
            let waiting = Waiting { channel, envs: BTreeMap::new(), tty: None };
            self.channels.insert(waiting.channel.id(), waiting);
            reply.accept().await;
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        let loopback = matches!(host, "localhost" | "127.0.0.1" | "::1");
        let Some(port) = u16::try_from(port).ok().filter(|_| loopback) else { return Ok(()) };
        let (node, job) = (self.node.clone(), self.job);
        // Not awaited here: one port that is slow to answer keeps no other channel waiting.
        tokio::spawn(async move {
            match node.connect(job, port).await {
                Ok(mut far) => {
                    reply.accept().await;
                    let mut near = channel.into_stream();
                    // Either end may break off.
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
                Err(error) => tracing::debug!(%error, port, "no connection to a port of the job"),
            }
        });
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        _pixels_across: u32,
        _pixels_down: u32,
        _modes: &[(Pty, u32)],
        ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        let fits = term.len() <= 64 && term.chars().all(|c| c.is_ascii_graphic());
        match self.channels.get_mut(&channel).filter(|_| fits) {
            Some(waiting) => {
                waiting.tty = Some(Tty { term: term.into(), size: size(columns, rows) });
                ssh.channel_success(channel)
            }
            None => ssh.channel_failure(channel),
        }
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        let allowed = ALLOWED.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning) && !name.contains('='),
            None => name == *allowed,
        });
        let fits = allowed && name.len() + value.len() <= 1024 && !value.contains('\0');
        let waiting = self.channels.get_mut(&channel).filter(|it| fits && it.envs.len() < VARIABLES);
        match waiting {
            Some(waiting) => {
                waiting.envs.insert(name.into(), value.into());
                ssh.channel_success(channel)
            }
            None => ssh.channel_failure(channel),
        }
    }

    async fn shell_request(&mut self, channel: ChannelId, ssh: &mut Ssh) -> Result<(), Self::Error> {
        self.begin(channel, Session::shell(), ssh)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        line: &[u8],
        ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        match std::str::from_utf8(line) {
            Ok(line) => self.begin(channel, ["/bin/sh", "-c", line].map(str::to_owned).into(), ssh),
            Err(_) => ssh.channel_failure(channel),
        }
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        match name {
            "sftp" => self.begin(channel, ["/bin/sh", "-c", SFTP].map(str::to_owned).into(), ssh),
            _ => ssh.channel_failure(channel),
        }
    }

    async fn channel_close(&mut self, channel: ChannelId, _ssh: &mut Ssh) -> Result<(), Self::Error> {
        self.channels.remove(&channel);
        Ok(())
    }
}

fn size(columns: u32, rows: u32) -> Size {
    let within = |it: u32| u16::try_from(it).unwrap_or(u16::MAX);
    Size { columns: within(columns), rows: within(rows) }
}

/// Runs a session for a channel, and returns its code.
async fn run(
    node: &NodeClient,
    job: JobId,
    session: Session,
    reader: ChannelReadHalf,
    writer: &ChannelWriteHalf<Msg>,
) -> anyhow::Result<u8> {
    let (mut from_job, to_job) = node.session(job, session).await?.split();
    tokio::select! {
        code = put_out(&mut from_job, writer) => code,
        error = take_in(reader, to_job) => Err(error),
    }
}

async fn put_out(from_job: &mut FrameReader, writer: &ChannelWriteHalf<Msg>) -> anyhow::Result<u8> {
    loop {
        match next(from_job).await? {
            Output::Started | Output::Alive => {}
            Output::Stdout(bytes) => writer.data_bytes(bytes).await?,
            Output::Stderr(bytes) => writer.extended_data_bytes(STDERR, bytes).await?,
            Output::NotBegun { code, reason } => {
                writer.extended_data_bytes(STDERR, format!("error: {reason}\n")).await?;
                return Ok(code);
            }
            Output::Exited(code) => return Ok(code),
        }
    }
}

/// Passes the client's words on; returns when the client closed the channel, or nothing more can be passed on.
async fn take_in(mut reader: ChannelReadHalf, mut to_job: FrameWriter) -> anyhow::Error {
    while let Some(message) = reader.wait().await {
        if matches!(message, ChannelMsg::Close) {
            break;
        }
        let inputs = said(message);
        for input in inputs {
            if to_job.send(input.encode()).await.is_err() {
                // The other direction knows why.
                tokio::time::sleep(Duration::from_secs(5)).await;
                return anyhow::anyhow!("the session was cut off");
            }
        }
    }
    anyhow::anyhow!("the client left")
}

/// What a message of the client means to the command.
fn said(message: ChannelMsg) -> Vec<Input> {
    if let ChannelMsg::Data { data } = message {
        return data.chunks(MAX_CHUNK).map(|it| Input::Stdin(bytes::Bytes::copy_from_slice(it))).collect();
    }
    let one = if let ChannelMsg::WindowChange { col_width, row_height, .. } = message {
        Some(Input::Resize(size(col_width, row_height)))
    } else if let ChannelMsg::Signal { signal } = message {
        number(&signal).map(Input::Signal)
    } else {
        matches!(message, ChannelMsg::Eof).then_some(Input::End)
    };
    one.into_iter().collect()
}

fn number(signal: &Sig) -> Option<u8> {
    Some(match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(_) => return None,
    })
}
