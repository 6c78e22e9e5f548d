//! Getting into a running job: sessions, and connections to its ports.
//!
//! ```text
//! exec, shell ──► session ──► lease/1: one stream, Input and Output
//! port named by the job ──► tunnel/1 ──► what listens on the workload's address
//! any other port, or one that listens on the loopback alone ──► session(Port) ──► the loopback
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tradewind_mesh::tunnel::{Duplex, TunnelTarget};
use tradewind_mesh::{
    CallError, FrameError, FrameReader, FrameStream, FrameWriter, PeerAddr, Refusal, RefusalCode,
};
use tradewind_proto::access::{Input, MAX_CHUNK, Opening, Output, Session};
use tradewind_proto::ids::{JobId, LeaseId};

use crate::buyer::{Buyer, Inner};
use crate::job::record::JobState;

/// What waits between a connection and its session.
const BUFFER: usize = 64 << 10;
/// How long a port may go on talking to one that says nothing more; it may be gone.
const HALF_CLOSED: Duration = Duration::from_secs(300);

/// How long a port that takes nothing more may still say something.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why nobody got in.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No such job.
    #[error("there is no job {0}")]
    NoJob(JobId),
    /// It has no lease now.
    #[error("the job does not run: {0}")]
    NotRunning(String),
    /// The provider refused.
    #[error("the provider refused: {0}")]
    Refused(Refusal),
    /// The provider did not answer.
    #[error("the provider does not answer")]
    Silent(#[source] CallError),
    /// Nothing listens on the port.
    #[error("port {port} of the job does not answer: {reason}")]
    Port {
        /// Which one.
        port: u16,
        /// What the provider says.
        reason: String,
    },
}

impl AccessError {
    /// What to do next; empty where nothing helps.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoJob(_) => "`tradewind ps --all` lists them",
            Self::NotRunning(_) => "`tradewind ps` shows where it stands; try again when it runs",
            Self::Silent(_) => "`tradewind ps` shows whether the job still runs; try again in a moment",
            Self::Port { .. } => {
                "see in the job's log whether its server is up, and on which port it listens"
            }
            Self::Refused(refusal) if refusal.code() == RefusalCode::Malformed => {
                "the provider may run an older version, which has no sessions"
            }
            Self::Refused(refusal) if refusal.code() == RefusalCode::Forbidden => {
                "only the node that leased the job gets in"
            }
            Self::Refused(refusal) if refusal.code().is_transient() => "try again in a moment",
            Self::Refused(_) => "",
        }
    }
}

impl From<CallError> for AccessError {
    fn from(error: CallError) -> Self {
        match error.refusal() {
            Some(refusal) => Self::Refused(refusal.clone()),
            None => Self::Silent(error),
        }
    }
}

/// Where a job runs now.
struct Place {
    lease: LeaseId,
    address: PeerAddr,
    named: Vec<u16>,
}

/// Somebody is in a job: as long as this lives it is in use.
#[derive(Debug)]
pub struct Attendance {
    _counted: Arc<()>,
}

impl Buyer {
    /// Counts somebody in who holds a session or a connection of a job open.
    ///
    /// # Errors
    /// [`AccessError::NoJob`].
    pub fn attend(&self, id: JobId) -> Result<Attendance, AccessError> {
        let job = self.inner.job(id).ok_or(AccessError::NoJob(id))?;
        Ok(Attendance { _counted: Arc::clone(&job.attended) })
    }

    /// Begins a session in a job: the stream carries [`Input`] out and [`Output`] back. A refusal arrives as its first message.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn session(&self, id: JobId, session: Session) -> Result<FrameStream, AccessError> {
        let place = self.inner.place(id)?;
        self.inner.open(&place, session).await
    }

    /// A connection to a port of a job, whether the job names it or not.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn connect(&self, id: JobId, port: u16) -> Result<Box<dyn Duplex>, AccessError> {
        let place = self.inner.place(id)?;
        if place.named.contains(&port) {
            let target = TunnelTarget { lease: place.lease, port };
            match self.inner.parts.transport.open_tunnel(&place.address, target).await {
                Ok(tunnel) => return Ok(tunnel),
                // It may listen on the loopback alone, which a tunnel does not reach in every sandbox.
                Err(error) if error.refusal().is_some() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (mut reader, writer) = self.inner.open(&place, Session::port(port)).await?.split();
        match hear(&mut reader).await? {
            Some(Output::Started) => {}
            Some(Output::NotBegun { reason, .. }) => return Err(AccessError::Port { port, reason }),
            Some(_) | None => return Err(AccessError::Silent(CallError::NoAnswer)),
        }
        let (near, far) = tokio::io::duplex(BUFFER);
        self.inner.tasks.spawn(join(Arc::clone(&self.inner), far, reader, writer));
        Ok(Box::new(near))
    }
}

impl Inner {
    fn place(&self, id: JobId) -> Result<Place, AccessError> {
        let record = self.job(id).ok_or(AccessError::NoJob(id))?.view.borrow().clone();
        let attempt = match (&record.state, record.attempts.last()) {
            (JobState::Leased, Some(attempt)) => attempt,
            (JobState::Ended { reason, .. }, _) => return Err(AccessError::NotRunning(reason.clone())),
            (JobState::Placing { .. } | JobState::Leased, _) => {
                return Err(AccessError::NotRunning("it waits for a provider".into()));
            }
        };
        Ok(Place {
            lease: attempt.supervision.id,
            address: self.address(attempt),
            named: record.spec.ports.clone(),
        })
    }

    async fn open(&self, place: &Place, session: Session) -> Result<FrameStream, AccessError> {
        let opening = Opening::Session { lease: place.lease, session };
        Ok(self.parts.transport.open(&place.address, opening.encode()).await?)
    }
}

/// The next message that is more than a sign of life.
async fn hear(reader: &mut FrameReader) -> Result<Option<Output>, AccessError> {
    loop {
        let frame = reader.recv().await.map_err(|error| AccessError::from(CallError::from(error)))?;
        let Some(frame) = frame else { return Ok(None) };
        match Output::decode(&frame) {
            Ok(Output::Alive) => {}
            Ok(output) => return Ok(Some(output)),
            Err(_) => {
                return Err(AccessError::Silent(CallError::Mismatch("it is no message of a session")));
            }
        }
    }
}

/// Carries bytes until the session ends, the connection is dropped or the buyer shuts down.
async fn join(inner: Arc<Inner>, connection: DuplexStream, reader: FrameReader, writer: FrameWriter) {
    let (read, write) = tokio::io::split(connection);
    tokio::select! {
        () = inbound(reader, write) => {}
        ended = outbound(read, writer) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to a job's port broke");
            }
        }
        () = inner.cancel.cancelled() => {}
    }
}

async fn inbound(mut reader: FrameReader, mut write: WriteHalf<DuplexStream>) {
    while let Ok(Some(output)) = hear(&mut reader).await {
        match output {
            Output::Stdout(bytes) => {
                if write.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Output::Started | Output::Stderr(_) | Output::Alive => {}
            Output::NotBegun { .. } | Output::Exited(_) => break,
        }
    }
    // Whoever reads sees the end, or is gone.
    let _ = write.shutdown().await;
}

/// Carries bytes out and says their end; then waits for the session's.
async fn outbound(mut read: ReadHalf<DuplexStream>, mut writer: FrameWriter) -> Result<(), FrameError> {
    let mut buffer = vec![0u8; MAX_CHUNK];
    loop {
        let length = read.read(&mut buffer).await.map_err(FrameError::Io)?;
        if length == 0 {
            writer.send(Input::End.encode()).await?;
            tokio::time::sleep(HALF_CLOSED).await;
            return Ok(());
        }
        let bytes = bytes::Bytes::copy_from_slice(&buffer[..length]);
        if let Err(error) = writer.send(Input::Stdin(bytes).encode()).await {
            // The port takes no more; what it says last comes by the other direction.
            tokio::time::sleep(LAST_WORDS).await;
            return Err(error);
        }
    }
}
