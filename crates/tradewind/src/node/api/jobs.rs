//! Jobs: submit, look, wait, read the log, stop.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tradewind_buyer::buyer::{Buyer, BuyerError, Submission};
use tradewind_buyer::delegate::MeterError;
use tradewind_buyer::job::record::JobRecord;
use tradewind_proto::ids::JobId;
use tradewind_proto::job::{JobSpec, LEAST_IDLE};
use tradewind_proto::plan::Plan;

use super::schema::{JobSchema, PlanSchema};
use super::view::{Created, LogPiece, NewJob, Problem};
use super::{Answer, Failure, Served, Shared};

/// The most log bytes in one answer.
const MAX_LOG: u64 = 1 << 20;
/// The longest that an answer is held back.
const MAX_WAIT: Duration = Duration::from_secs(30);

impl From<BuyerError> for Failure {
    fn from(error: BuyerError) -> Self {
        let code = match &error {
            BuyerError::NoJob(_) => StatusCode::NOT_FOUND,
            BuyerError::Input(_)
            | BuyerError::Image(_)
            | BuyerError::Secret(_)
            | BuyerError::Meter(_)
            | BuyerError::Offsite(_) => StatusCode::UNPROCESSABLE_ENTITY,
            BuyerError::Store(_)
            | BuyerError::Ledger(_)
            | BuyerError::Directory { .. }
            | BuyerError::Version(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if let BuyerError::Meter(error) = error {
            return error.into();
        }
        // The causes follow the message: a person reads this, not a program.
        Self::new(code, format!("{:#}", anyhow::Error::from(error)), "")
    }
}

impl From<MeterError> for Failure {
    fn from(error: MeterError) -> Self {
        let hint = error.hint();
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error, &hint)
    }
}

pub(super) fn buyer(roles: &Served) -> Result<&Buyer, Failure> {
    let hint = "add a [buyer] section to node.toml and start the node again";
    roles.buyer.as_ref().ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "this node buys nothing", hint))
}

fn parse(new: &NewJob) -> Result<JobSpec, Failure> {
    let spec = JobSpec::parse(&new.file, &new.text)
        .map_err(|error| Failure::new(StatusCode::UNPROCESSABLE_ENTITY, error, "correct the job file"))?;
    if let Some(short) = new.idle_stop.filter(|after| *after < LEAST_IDLE) {
        let message = format!("idle_stop cannot be {short}");
        let hint = format!("it must be at least {LEAST_IDLE}");
        return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, message, &hint));
    }
    Ok(JobSpec { keep: new.keep.or(spec.keep), idle_stop: new.idle_stop.or(spec.idle_stop), ..spec })
}

/// Takes a job over: stored before it answers.
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs", request_body = NewJob, responses(
    (status = OK, body = Created),
    (status = "4XX", description = "The job file or an input cannot be used", body = Problem),
))]
pub(super) async fn submit(State(roles): Shared, Json(new): Json<NewJob>) -> Answer<Created> {
    let buyer = buyer(&roles)?;
    let spec = parse(&new)?;
    let NewJob { base_dir, output_dir, secrets, unattended, meter, .. } = new;
    let submission = Submission { spec, base_dir, output_dir, secrets, unattended, meter };
    Ok(Json(Created { id: buyer.submit(submission).await? }))
}

/// Every job, with every attempt.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", responses(
    (status = OK, body = Vec<JobSchema>),
    (status = NOT_FOUND, description = "The node buys nothing", body = Problem),
))]
pub(super) async fn jobs(State(roles): Shared) -> Answer<Vec<JobRecord>> {
    Ok(Json(buyer(&roles)?.jobs()))
}

/// A job as it is.
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs", params(
    ("id" = String, Path, description = "The job"),
), responses(
    (status = OK, body = JobSchema),
    (status = NOT_FOUND, description = "There is no such job", body = Problem),
))]
pub(super) async fn job(State(roles): Shared, Path(id): Path<JobId>) -> Answer<JobRecord> {
    Ok(Json(buyer(&roles)?.watch(id)?.borrow().clone()))
}

#[derive(Deserialize)]
pub(super) struct Wait {
    #[serde(default)]
    seconds: u64,
}

/// A job as soon as it changes.
#[utoipa::path(get, path = "/v1/jobs/{id}/wait", tag = "jobs", params(
    ("id" = String, Path, description = "The job"),
    ("seconds" = Option<u64>, Query, description = "The longest that the answer is held back; at most 30"),
), responses(
    (status = OK, body = JobSchema),
    (status = NOT_FOUND, description = "There is no such job", body = Problem),
))]
pub(super) async fn wait(
    State(roles): Shared,
    Path(id): Path<JobId>,
    Query(query): Query<Wait>,
) -> Answer<JobRecord> {
    let mut record = buyer(&roles)?.watch(id)?;
    if !record.borrow_and_update().is_over() {
        let wait = Duration::from_secs(query.seconds).min(MAX_WAIT);
        // Without news the answer is the job as it is.
        let _ = tokio::time::timeout(wait, record.changed()).await;
    }
    let now = record.borrow().clone();
    Ok(Json(now))
}

#[derive(Deserialize)]
pub(super) struct LogQuery {
    #[serde(default)]
    attempt: usize,
    #[serde(default)]
    from: u64,
}

/// A piece of a job's log.
#[utoipa::path(get, path = "/v1/jobs/{id}/logs", tag = "jobs", params(
    ("id" = String, Path, description = "The job"),
    ("attempt" = Option<usize>, Query, description = "Which attempt, counted from zero"),
    ("from" = Option<u64>, Query, description = "The first byte"),
), responses(
    (status = OK, body = LogPiece),
    (status = NOT_FOUND, description = "There is no such job", body = Problem),
))]
pub(super) async fn logs(
    State(roles): Shared,
    Path(id): Path<JobId>,
    Query(query): Query<LogQuery>,
) -> Answer<LogPiece> {
    let buyer = buyer(&roles)?;
    let record = buyer.watch(id)?;
    if query.attempt >= record.borrow().attempts.len() {
        return Ok(Json(LogPiece { text: String::new(), next: query.from }));
    }
    let path = buyer.log_path(id, query.attempt);
    let read = async {
        let mut file = match tokio::fs::File::open(&path).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        file.seek(std::io::SeekFrom::Start(query.from)).await?;
        let mut bytes = Vec::new();
        file.take(MAX_LOG).read_to_end(&mut bytes).await?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read.await.map_err(|error| {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {error}", path.display()), "")
    })?;
    // A character that is cut at the end comes whole with the next piece.
    let whole = match std::str::from_utf8(&bytes) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        Ok(_) | Err(_) => bytes.len(),
    };
    let text = String::from_utf8_lossy(&bytes[..whole]).into_owned();
    Ok(Json(LogPiece { text, next: query.from.saturating_add(whole as u64) }))
}

/// Ends a job: its stop signal, its grace, then kill.
#[utoipa::path(post, path = "/v1/jobs/{id}/stop", tag = "jobs", params(
    ("id" = String, Path, description = "The job"),
), responses(
    (status = OK, body = Created),
    (status = NOT_FOUND, description = "There is no such job", body = Problem),
))]
pub(super) async fn stop(State(roles): Shared, Path(id): Path<JobId>) -> Answer<Created> {
    buyer(&roles)?.stop(id).await?;
    Ok(Json(Created { id }))
}

/// What a job would get now, and why other offers would not do. Spends nothing.
#[utoipa::path(post, path = "/v1/plan", tag = "market", request_body = NewJob, responses(
    (status = OK, body = PlanSchema),
    (status = "4XX", description = "The job file cannot be used, or the named meter refuses", body = Problem),
))]
pub(super) async fn plan(State(roles): Shared, Json(new): Json<NewJob>) -> Answer<Plan> {
    let spec = parse(&new)?;
    let buyer = buyer(&roles)?;
    let meter = buyer.meter(new.meter.as_deref(), new.unattended).await?;
    Ok(Json(buyer.plan(&spec, new.unattended, meter.is_some())))
}
