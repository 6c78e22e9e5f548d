//! Sessions: a buyer's commands in its own workload, and what they say, over one stream of the mesh each.
//!
//! ```text
//! stream ── Opening ──► the buyer's lease? running? a place free? ──► Runtime::exec
//!        ══ Input ═══════════════════════════════════════════════════► │
//!        ◄══ Output, Alive ══════════════════════════════════════════ │
//! ```
//!
//! A session ends with its command, its stream, its lease's job or this agent, whichever is first. A buyer that vanishes is
//! noticed by what it no longer takes: `Alive` is said to one that otherwise hears nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout};
use tradewind_mesh::{
    FrameError, FrameReader, FrameStream, FrameWriter, Refusal as MeshRefusal, RefusalCode as MeshCode,
};
use tradewind_proto::access::{ALIVE_EVERY, Input, MAX_SESSIONS, Opening, Output};
use tradewind_proto::ids::MeshKey;
use tradewind_proto::report::Stage;

use super::Inner;
use super::record::Hosted;
use crate::runtime::{RuntimeError, SessionEnds};

/// How long a runtime may take to begin.
const BEGIN_PATIENCE: Duration = Duration::from_secs(20);
/// How long a buyer may take to hear why not.
const REFUSE_PATIENCE: Duration = Duration::from_secs(5);

/// A session that a runtime has begun.
struct Begun {
    hosted: Arc<Hosted>,
    ends: SessionEnds,
    first: Output,
    _place: OwnedSemaphorePermit,
}

/// Serves one stream of `peer` to its end.
pub(super) async fn serve(inner: &Inner, peer: MeshKey, header: Bytes, stream: FrameStream) {
    let begun = match begin(inner, peer, &header).await {
        Ok(begun) => begun,
        Err(refusal) => {
            tracing::debug!(%peer, %refusal, "a session was refused");
            if !matches!(timeout(REFUSE_PATIENCE, stream.refuse(&refusal)).await, Ok(Ok(()))) {
                tracing::debug!(%peer, "a refusal did not arrive");
            }
            return;
        }
    };
    let lease = begun.hosted.id;
    tracing::info!(%lease, "a session begins");
    let Begun { hosted, ends: SessionEnds { input, output }, first, _place } = begun;
    let (reader, writer) = stream.split();
    tokio::select! {
        () = take_in(reader, input) => {}
        ended = put_out(writer, first, output) => {
            if let Err(error) = ended {
                tracing::debug!(%lease, error = &error as &dyn std::error::Error, "a session's stream broke");
            }
        }
        () = over(&hosted) => {}
        () = inner.cancel.cancelled() => {}
    }
    tracing::info!(%lease, "a session ended");
}

async fn begin(inner: &Inner, peer: MeshKey, header: &[u8]) -> Result<Begun, MeshRefusal> {
    let malformed =
        |error: tradewind_proto::conversation::FrameError| MeshRefusal::new(MeshCode::Malformed, error);
    let Opening::Session { lease, session } = Opening::decode(header).map_err(malformed)?;
    let (hosted, runtime) = inner
        .owned(peer, lease)
        .await
        .map_err(|refusal| MeshRefusal::new(MeshCode::Forbidden, refusal.reason))?;
    runs(&hosted.report.borrow().stage)?;
    let place = Arc::clone(&hosted.sessions).try_acquire_owned().map_err(|_| {
        let reason = format!("{MAX_SESSIONS} sessions of this lease are open; close one of them");
        MeshRefusal::new(MeshCode::Busy, reason)
    })?;
    let runtime = inner.parts.runtimes.get(runtime.as_str());
    let runtime = runtime.ok_or_else(|| MeshRefusal::new(MeshCode::Unavailable, "the runtime is gone"))?;
    let beginning = async {
        let mut ends = runtime.exec(lease, &session).await.map_err(|error| refusal(&error))?;
        let first = ends.output.recv().await.ok_or_else(not_begun)?;
        Ok((ends, first))
    };
    let late = |_| MeshRefusal::new(MeshCode::TimedOut, "the session did not begin in time; try again");
    let (ends, first) = timeout(BEGIN_PATIENCE, beginning).await.map_err(late)??;
    Ok(Begun { hosted, ends, first, _place: place })
}

/// Whether sessions may begin now.
fn runs(stage: &Stage) -> Result<(), MeshRefusal> {
    let (code, reason) = match stage {
        Stage::Running => return Ok(()),
        Stage::Paused => {
            (MeshCode::Unavailable, "the job is paused until it is paid; try again when it runs")
        }
        Stage::Opening | Stage::Preparing { .. } => {
            (MeshCode::Unavailable, "the job does not run yet; try again when it does")
        }
        Stage::Stopping => (MeshCode::Rejected, "the job is being stopped"),
        Stage::Collecting | Stage::Finished | Stage::Failed { .. } => (MeshCode::Rejected, "the job is over"),
    };
    Err(MeshRefusal::new(code, reason))
}

fn not_begun() -> MeshRefusal {
    let reason = "the session could not begin: the job ended, or has used its processes up";
    MeshRefusal::new(MeshCode::Unavailable, reason)
}

fn refusal(error: &RuntimeError) -> MeshRefusal {
    let code = match error {
        RuntimeError::Absent(_) => return MeshRefusal::new(MeshCode::Rejected, "the job is over"),
        RuntimeError::Unsupported { .. } => MeshCode::Rejected,
        RuntimeError::Conflict(_)
        | RuntimeError::StillRunning(_)
        | RuntimeError::Start(_)
        | RuntimeError::Unavailable(_)
        | RuntimeError::Io { .. } => MeshCode::Unavailable,
    };
    tracing::warn!(error = error as &dyn std::error::Error, "a session did not begin");
    MeshRefusal::new(code, error)
}

/// Until the job does not run any more. One that is paused or being stopped keeps its sessions.
async fn over(hosted: &Hosted) {
    let over = |stage: &Stage| match stage {
        Stage::Opening | Stage::Preparing { .. } | Stage::Running | Stage::Paused | Stage::Stopping => false,
        Stage::Collecting | Stage::Finished | Stage::Failed { .. } => true,
    };
    let mut reports = hosted.report.subscribe();
    if reports.wait_for(|report| over(&report.stage)).await.is_ok() {
        // What the command said last is on its way: the runtime ends the session first.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Until the buyer ends its stream, or says what it may not.
async fn take_in(mut reader: FrameReader, inputs: mpsc::Sender<Input>) {
    while let Ok(Some(frame)) = reader.recv().await {
        let Ok(input) = Input::decode(&frame) else { return };
        if inputs.send(input).await.is_err() {
            // The command is over; how it ended is on its way.
            return std::future::pending().await;
        }
    }
}

/// Until the command's end was said. A command that was cut off with its job ends the stream without one.
async fn put_out(
    mut writer: FrameWriter,
    first: Output,
    mut outputs: mpsc::Receiver<Output>,
) -> Result<(), FrameError> {
    let silence = Duration::from_secs(ALIVE_EVERY.get());
    let mut next = Some(first);
    while let Some(output) = next {
        writer.send(output.encode()).await?;
        if output.code().is_some() {
            break;
        }
        next = match tokio::time::timeout_at(Instant::now() + silence, outputs.recv()).await {
            Ok(output) => output,
            Err(_) => Some(Output::Alive),
        };
    }
    writer.finish().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_paused_not_there_yet_or_over_lets_nobody_in_and_says_why() {
        let refused = |stage: Stage| runs(&stage).expect_err("refused");
        runs(&Stage::Running).expect("its buyer gets in");
        let paused = refused(Stage::Paused);
        assert_eq!(paused.code(), MeshCode::Unavailable);
        assert!(paused.message().contains("paused until it is paid"), "{paused}");
        assert_eq!(refused(Stage::Opening).code(), MeshCode::Unavailable);
        for over in
            [Stage::Stopping, Stage::Collecting, Stage::Finished, Stage::Failed { reason: String::new() }]
        {
            assert_eq!(refused(over).code(), MeshCode::Rejected);
        }
    }
}
