//! A workload's door: the socket in its directory through which sessions come in.
//!
//! ```text
//! agent ──connect──► door (shim) ──the connection itself──► PID 1 ──► a command in the sandbox
//!       ◄════════ frames: Session, then Input ▲ and Output ▼ ════════►
//! ```
//!
//! Only the agent's user reaches it: the directory is closed to others, and no sandbox sees it. Nobody between the agent and
//! PID 1 copies a byte. A frame is its length in four bytes, and a message in postcard.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use rustix::fs::{Mode, OFlags, open as open_dir};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tradewind_proto::access::{Input, MAX_MESSAGE, Output, Session};

use super::job_dir::JobDir;
use crate::runtime::{RuntimeError, SessionEnds};

/// A frame's length comes in this many bytes.
pub(super) const PREFIX: usize = 4;
/// Messages that wait in each direction.
const WAITING: usize = 4;

/// Makes the door.
pub(super) fn open(dir: &JobDir) -> io::Result<UnixListener> {
    let listener = at_door(dir, UnixListener::bind)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Does something with the door's path, which is longer than a socket's may be: so it goes by way of the open directory.
fn at_door<T>(dir: &JobDir, work: impl FnOnce(String) -> io::Result<T>) -> io::Result<T> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = open_dir(dir.path(), flags, Mode::empty())?;
    work(format!("/proc/self/fd/{}/door", opened.as_raw_fd()))
}

/// The bytes of a frame.
pub(super) fn frame<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(body);
    Ok(frame)
}

/// Begins a session.
pub(super) async fn knock(dir: &JobDir, session: &Session) -> Result<SessionEnds, RuntimeError> {
    let doing = || RuntimeError::io("knock at the workload's door");
    let stream = at_door(dir, |path| {
        let socket = std::os::unix::net::UnixStream::connect(path)?;
        socket.set_nonblocking(true)?;
        UnixStream::from_std(socket)
    });
    let mut stream = stream.map_err(doing())?;
    stream.write_all(&frame(session).map_err(doing())?).await.map_err(doing())?;
    let (input, inputs) = mpsc::channel(WAITING);
    let (outputs, output) = mpsc::channel(WAITING);
    tokio::spawn(carry(stream, inputs, outputs));
    Ok(SessionEnds { input, output })
}

/// Carries frames until either side is done; the connection's end ends the session.
async fn carry(stream: UnixStream, inputs: mpsc::Receiver<Input>, outputs: mpsc::Sender<Output>) {
    let (read, write) = stream.into_split();
    let gone = outputs.clone();
    let ended = tokio::select! {
        () = send(write, inputs) => Ok(()),
        ended = receive(read, outputs) => ended,
        () = gone.closed() => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a session's connection broke");
    }
}

/// Until nobody gives input any more. Where it is not taken any more the command has ended, and its last words are read first.
async fn send(mut write: OwnedWriteHalf, mut inputs: mpsc::Receiver<Input>) {
    while let Some(input) = inputs.recv().await {
        let Ok(frame) = frame(&input) else { return };
        if write.write_all(&frame).await.is_err() {
            return std::future::pending().await;
        }
    }
}

async fn receive(mut read: OwnedReadHalf, outputs: mpsc::Sender<Output>) -> io::Result<()> {
    loop {
        let length = usize::try_from(read.read_u32_le().await?).map_err(io::Error::other)?;
        if length > MAX_MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the frame is too large"));
        }
        let mut body = vec![0u8; length];
        read.read_exact(&mut body).await?;
        let output = Output::decode(&body).map_err(io::Error::other)?;
        let last = output.code().is_some();
        if outputs.send(output).await.is_err() || last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use tradewind_proto::access::{Session, Target};
    use tradewind_proto::ids::LeaseId;

    use super::*;

    const WORDS: u8 = 64;

    /// Says much and its end, and is gone before anybody listens.
    fn answer(listener: &UnixListener) {
        let (mut connection, _) = listener.accept().unwrap();
        connection.read_exact(&mut [0; PREFIX]).unwrap();
        for word in 0..WORDS {
            let said = Output::Stderr(bytes::Bytes::copy_from_slice(&[word]));
            connection.write_all(&frame(&said).unwrap()).unwrap();
        }
        connection.write_all(&frame(&Output::Exited(3)).unwrap()).unwrap();
    }

    #[tokio::test]
    async fn the_last_words_of_a_command_are_heard_though_it_takes_no_more_input() {
        let root = tempfile::tempdir().unwrap();
        let dir = JobDir::of(root.path(), LeaseId::default());
        dir.create().unwrap();
        let listener = open(&dir).unwrap();
        listener.set_nonblocking(false).unwrap();
        let answered = std::thread::spawn(move || answer(&listener));
        let session = Session { target: Target::Command(vec!["true".into()]), ..Session::port(1) };
        let mut ends = knock(&dir, &session).await.unwrap();
        answered.join().unwrap();
        for _ in 0..3 {
            ends.input.send(Input::End).await.unwrap();
            tokio::task::yield_now().await;
        }
        for word in 0..WORDS {
            let said = ends.output.recv().await.expect("all that was said");
            assert_eq!(said, Output::Stderr(bytes::Bytes::copy_from_slice(&[word])));
        }
        assert_eq!(ends.output.recv().await, Some(Output::Exited(3)));
    }
}
