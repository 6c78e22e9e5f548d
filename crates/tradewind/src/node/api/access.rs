//! Getting into jobs: connections of the local API that become a session's or a port's.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tradewind_buyer::access::AccessError;
use tradewind_buyer::buyer::Buyer;
use tradewind_mesh::{FrameError, FrameReader, FrameStream, FrameWriter, Refusal, RefusalCode};
use tradewind_proto::access::{MAX_OPENING, Opening};
use tradewind_proto::ids::JobId;

use super::jobs::buyer;
use super::view::{GeneratedSecret, Problem};
use super::{Answer, Failure, Shared};
use crate::client::{SESSION, told};

/// How long a connection may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a side that takes nothing more may still say something.
const LAST_WORDS: Duration = Duration::from_secs(5);

type Connection = TokioIo<Upgraded>;

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        let code = match &error {
            AccessError::NoJob(_) => StatusCode::NOT_FOUND,
            AccessError::NotRunning(_) | AccessError::Port { .. } | AccessError::Refused(_) => {
                StatusCode::CONFLICT
            }
            AccessError::Silent(_) => StatusCode::BAD_GATEWAY,
        };
        let hint = error.hint();
        Self::new(code, format!("{:#}", anyhow::Error::from(error)), hint)
    }
}

/// A session in a job: a connection of frames, as `lease/1` carries them, after an upgrade.
#[utoipa::path(get, path = "/v1/jobs/{id}/session", tag = "access", params(
    ("id" = String, Path, description = "The job"),
), responses(
    (status = SWITCHING_PROTOCOLS, description = "Frames from here on; the first says what is begun"),
    (status = NOT_FOUND, description = "There is no such job", body = Problem),
))]
pub(super) async fn session(
    State(roles): Shared,
    Path(id): Path<JobId>,
    request: Request,
) -> Result<Response, Failure> {
    let buyer = buyer(&roles)?.clone();
    let attendance = buyer.attend(id)?;
    let shutdown = roles.shutdown.clone();
    switch(request, move |connection| async move {
        let _attendance = attendance;
        tokio::select! {
            () = serve(&buyer, id, connection) => {}
            () = shutdown.cancelled() => {}
        }
    })
}

/// A connection to a port of a job: raw bytes after an upgrade.
#[utoipa::path(get, path = "/v1/jobs/{id}/ports/{port}", tag = "access", params(
    ("id" = String, Path, description = "The job"),
    ("port" = u16, Path, description = "The port, whether the job names it or not"),
), responses(
    (status = SWITCHING_PROTOCOLS, description = "The port's bytes from here on"),
    (status = NOT_FOUND, description = "There is no such job", body = Problem),
    (status = CONFLICT, description = "The job does not run, or nothing answers there", body = Problem),
    (status = BAD_GATEWAY, description = "The provider does not answer", body = Problem),
))]
pub(super) async fn port(
    State(roles): Shared,
    Path((id, port)): Path<(JobId, u16)>,
    request: Request,
) -> Result<Response, Failure> {
    let buyer = buyer(&roles)?;
    let attendance = buyer.attend(id)?;
    let mut far = buyer.connect(id, port).await?;
    let shutdown: CancellationToken = roles.shutdown.clone();
    switch(request, move |mut near| async move {
        let _attendance = attendance;
        tokio::select! {
            copied = tokio::io::copy_bidirectional(&mut near, &mut far) => {
                if let Err(error) = copied {
                    tracing::debug!(%error, "a connection to a job's port broke");
                }
            }
            () = shutdown.cancelled() => {}
        }
    })
}

/// A secret that was generated for a job, for its owner.
#[utoipa::path(get, path = "/v1/jobs/{id}/secrets/{name}", tag = "access", params(
    ("id" = String, Path, description = "The job"),
    ("name" = String, Path, description = "The secret's name in the job file"),
), responses(
    (status = OK, body = GeneratedSecret),
    (status = NOT_FOUND, description = "There is no such job, or no such secret that was generated", body = Problem),
))]
pub(super) async fn secret(
    State(roles): Shared,
    Path((id, name)): Path<(JobId, String)>,
) -> Answer<GeneratedSecret> {
    let missing = || {
        let hint = format!("add `secrets: {{{name}: {{generated: true}}}}` to the job file and run it anew");
        Failure::new(StatusCode::NOT_FOUND, format!("the job has no generated secret `{name}`"), &hint)
    };
    let value = buyer(&roles)?.generated(id, &name)?.ok_or_else(missing)?;
    Ok(Json(GeneratedSecret { value }))
}

/// Lets `work` have the connection once it is out of HTTP.
fn switch<F>(
    mut request: Request,
    work: impl FnOnce(Connection) -> F + Send + 'static,
) -> Result<Response, Failure>
where
    F: Future<Output = ()> + Send,
{
    let upgrade: OnUpgrade = hyper::upgrade::on(&mut request);
    if request.headers().get(UPGRADE) != Some(&HeaderValue::from_static(SESSION)) {
        let hint = format!("ask with `connection: upgrade` and `upgrade: {SESSION}`");
        return Err(Failure::new(StatusCode::UPGRADE_REQUIRED, "this is no request but a connection", &hint));
    }
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => work(TokioIo::new(upgraded)).await,
            Err(error) => tracing::debug!(%error, "a connection did not leave HTTP"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(SESSION));
    Ok(response)
}

/// Passes frames on, both ways, until either side is done.
async fn serve(buyer: &Buyer, id: JobId, connection: Connection) {
    let limit = u32::try_from(MAX_OPENING).unwrap_or(u32::MAX);
    let (read, write) = tokio::io::split(connection);
    let mut near = FrameStream::new(read, write, limit);
    let far = match open(buyer, id, &mut near).await {
        Ok(far) => far,
        Err(refusal) => {
            // The command may be gone already.
            let _ = near.refuse(&refusal).await;
            return;
        }
    };
    let ((near_reader, near_writer), (far_reader, far_writer)) = (near.split(), far.split());
    tokio::select! {
        () = pass_on(far_reader, near_writer) => {}
        () = pass_on(near_reader, far_writer) => {}
    }
}

async fn open(buyer: &Buyer, id: JobId, near: &mut FrameStream) -> Result<FrameStream, Refusal> {
    let malformed = || Refusal::new(RefusalCode::Malformed, "it is no opening of a session");
    let first = tokio::time::timeout(PATIENCE, near.recv()).await;
    let first = first.map_err(|_| malformed())?.map_err(|_| malformed())?.ok_or_else(malformed)?;
    let Opening::Session { session, .. } = Opening::decode(&first).map_err(|_| malformed())?;
    buyer.session(id, session).await.map_err(|error| told(&error))
}

async fn pass_on(mut from: FrameReader, mut to: FrameWriter) {
    loop {
        let passed = match from.recv().await {
            Ok(Some(frame)) => {
                let sent = to.send(frame).await;
                if sent.is_err() {
                    // It takes no more; what it says last comes by the other direction.
                    tokio::time::sleep(LAST_WORDS).await;
                }
                sent
            }
            Ok(None) => {
                // Whoever reads is done too, or gone.
                let _ = to.finish().await;
                return;
            }
            Err(FrameError::Refused(refusal)) => {
                let _ = to.refuse(&told(&AccessError::Refused(refusal))).await;
                return;
            }
            Err(error) => Err(error),
        };
        if let Err(error) = passed {
            tracing::debug!(error = &error as &dyn std::error::Error, "a session's connection broke");
            return;
        }
    }
}
