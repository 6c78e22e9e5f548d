//! The node's local API: HTTP and JSON on a Unix socket that only the node's own user may open.
//!
//! | method, path | does |
//! |---|---|
//! | `GET /v1/status` | who the node is, and its roles |
//! | `POST /v1/jobs` | takes a job over: stored before it answers |
//! | `GET /v1/jobs`, `GET /v1/jobs/{id}` | jobs with every attempt |
//! | `GET /v1/jobs/{id}/wait?seconds=` | the job as soon as it changes |
//! | `GET /v1/jobs/{id}/logs?attempt=&from=` | a piece of the log, from a byte on |
//! | `POST /v1/jobs/{id}/stop` | ends a job |
//! | `GET /v1/offers` | live offers |
//! | `POST /v1/plan` | what a job would get now, and why other offers would not do |
//! | `GET /v1/leases` | leases that this node hosts |
//! | `POST /v1/provider/accept?on=` | takes new leases, or none |
//! | `GET /v1/wallet` | balances |
//! | `POST /v1/shutdown` | ends the node; workloads and leases go on |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::sync::CancellationToken;
use tradewind_buyer::buyer::{Buyer, BuyerError, Submission};
use tradewind_buyer::job::record::JobRecord;
use tradewind_chain::ledger::Ledger;
use tradewind_proto::ids::JobId;
use tradewind_proto::job::JobSpec;
use tradewind_proto::offer::Offer;
use tradewind_proto::profile::Asset;
use tradewind_proto::workload::Secrets;
use tradewind_provider::agent::Agent;

/// The largest request body.
const MAX_BODY: usize = 1 << 20;
/// The most log bytes in one answer.
const MAX_LOG: u64 = 1 << 20;
/// The longest that an answer is held back.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// What the API reads and drives.
pub(crate) struct Roles {
    pub(crate) status: Status,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) asset: Asset,
    pub(crate) buyer: Option<Buyer>,
    pub(crate) provider: Option<Agent>,
    pub(crate) shutdown: CancellationToken,
}

/// Who the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The wallet's account.
    pub(crate) account: String,
    /// The mesh key.
    pub(crate) mesh_key: String,
    /// Where the mesh reaches it.
    pub(crate) mesh_address: String,
    /// The network's name.
    pub(crate) network: String,
    /// Roles that run.
    pub(crate) roles: Vec<String>,
    /// The explorer's URL.
    pub(crate) explorer: Option<String>,
    /// The ledger's JSON-RPC URL.
    pub(crate) rpc: Option<String>,
    /// The URL of its relayer role.
    pub(crate) relayer: Option<String>,
    /// The process.
    pub(crate) pid: u32,
}

/// A job to be run. The file's text is checked again by the node.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct NewJob {
    /// For errors.
    pub(crate) file: String,
    /// The job file.
    pub(crate) text: String,
    /// Local inputs are relative to it.
    pub(crate) base_dir: PathBuf,
    /// Where outputs are put.
    pub(crate) output_dir: PathBuf,
    /// The values of its secrets.
    pub(crate) secrets: Secrets,
    /// Sign vouchers ahead, so that the job goes on when this node is gone.
    #[serde(default)]
    pub(crate) unattended: bool,
}

/// The id of a new job.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Created {
    /// The id.
    pub(crate) id: JobId,
}

/// A piece of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogPiece {
    /// The text; bytes that are no text are replaced.
    pub(crate) text: String,
    /// Where the next piece begins.
    pub(crate) next: u64,
}

/// The account's money, in base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WalletView {
    /// The account.
    pub(crate) account: String,
    /// The quote asset.
    pub(crate) asset: Asset,
    /// In the wallet itself.
    pub(crate) wallet: u128,
    /// Free inside the contract.
    pub(crate) free: u128,
}

/// An error as the API tells it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Problem {
    /// What happened.
    pub(crate) error: String,
    /// What to do.
    pub(crate) hint: String,
}

struct Failure(StatusCode, Problem);

impl Failure {
    fn new(code: StatusCode, error: impl std::fmt::Display, hint: &str) -> Self {
        Self(code, Problem { error: error.to_string(), hint: hint.into() })
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

impl From<BuyerError> for Failure {
    fn from(error: BuyerError) -> Self {
        let code = match &error {
            BuyerError::NoJob(_) => StatusCode::NOT_FOUND,
            BuyerError::Input(_) | BuyerError::Image(_) | BuyerError::Secret(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            BuyerError::Store(_)
            | BuyerError::Ledger(_)
            | BuyerError::Directory { .. }
            | BuyerError::Version(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // The causes follow the message: a person reads this, not a program.
        Self::new(code, format!("{:#}", anyhow::Error::from(error)), "")
    }
}

type Answer<T> = Result<Json<T>, Failure>;

/// Serves the API on `socket` until `shutdown`.
pub(crate) async fn serve(roles: Roles, socket: &Path) -> anyhow::Result<()> {
    let listener = bind(socket).await?;
    let shutdown = roles.shutdown.clone();
    let router = router(roles);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
        .context("the local API ended")
}

async fn bind(socket: &Path) -> anyhow::Result<tokio::net::UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if tokio::net::UnixStream::connect(socket).await.is_ok() {
        anyhow::bail!("a node already runs here: {} answers; stop it first", socket.display());
    }
    if socket.exists() {
        std::fs::remove_file(socket).with_context(|| format!("cannot replace {}", socket.display()))?;
    }
    let listener = tokio::net::UnixListener::bind(socket).with_context(|| {
        format!("cannot listen on {} (a socket's path has at most 107 bytes)", socket.display())
    })?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", socket.display()))?;
    Ok(listener)
}

fn router(roles: Roles) -> Router {
    Router::new()
        .route("/v1/status", get(async |State(roles): Shared| Json(roles.status.clone())))
        .route("/v1/jobs", get(jobs).post(submit))
        .route("/v1/jobs/{id}", get(job))
        .route("/v1/jobs/{id}/wait", get(wait))
        .route("/v1/jobs/{id}/logs", get(logs))
        .route("/v1/jobs/{id}/stop", post(stop))
        .route("/v1/offers", get(offers))
        .route("/v1/plan", post(plan))
        .route("/v1/leases", get(leases))
        .route("/v1/provider/accept", post(accept))
        .route("/v1/wallet", get(wallet))
        .route("/v1/shutdown", post(async |State(roles): Shared| roles.shutdown.cancel()))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(roles))
}

type Shared = State<Arc<Roles>>;

fn buyer(roles: &Roles) -> Result<&Buyer, Failure> {
    let hint = "add a [buyer] section to node.toml and start the node again";
    roles.buyer.as_ref().ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "this node buys nothing", hint))
}

fn provider(roles: &Roles) -> Result<&Agent, Failure> {
    let hint = "add a [provider] section to node.toml and start the node again";
    roles
        .provider
        .as_ref()
        .ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "this node sells nothing", hint))
}

async fn submit(State(roles): Shared, Json(new): Json<NewJob>) -> Answer<Created> {
    let buyer = buyer(&roles)?;
    let spec = JobSpec::parse(&new.file, &new.text)
        .map_err(|error| Failure::new(StatusCode::UNPROCESSABLE_ENTITY, error, "correct the job file"))?;
    let NewJob { base_dir, output_dir, secrets, unattended, .. } = new;
    let submission = Submission { spec, base_dir, output_dir, secrets, unattended };
    Ok(Json(Created { id: buyer.submit(submission).await? }))
}

async fn jobs(State(roles): Shared) -> Answer<Vec<JobRecord>> {
    Ok(Json(buyer(&roles)?.jobs()))
}

async fn job(State(roles): Shared, UrlPath(id): UrlPath<JobId>) -> Answer<JobRecord> {
    Ok(Json(buyer(&roles)?.watch(id)?.borrow().clone()))
}

#[derive(Deserialize)]
struct Wait {
    #[serde(default)]
    seconds: u64,
}

async fn wait(
    State(roles): Shared,
    UrlPath(id): UrlPath<JobId>,
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
struct LogQuery {
    #[serde(default)]
    attempt: usize,
    #[serde(default)]
    from: u64,
}

async fn logs(
    State(roles): Shared,
    UrlPath(id): UrlPath<JobId>,
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

async fn stop(State(roles): Shared, UrlPath(id): UrlPath<JobId>) -> Answer<Created> {
    buyer(&roles)?.stop(id).await?;
    Ok(Json(Created { id }))
}

async fn offers(State(roles): Shared) -> Answer<Vec<Offer>> {
    Ok(Json(buyer(&roles)?.offers()))
}

async fn plan(State(roles): Shared, Json(new): Json<NewJob>) -> Answer<tradewind_proto::plan::Plan> {
    let spec = JobSpec::parse(&new.file, &new.text)
        .map_err(|error| Failure::new(StatusCode::UNPROCESSABLE_ENTITY, error, "correct the job file"))?;
    Ok(Json(buyer(&roles)?.plan(&spec, new.unattended)))
}

async fn leases(State(roles): Shared) -> Answer<Vec<tradewind_proto::report::Report>> {
    Ok(Json(provider(&roles)?.reports()))
}

#[derive(Deserialize)]
struct Accept {
    on: bool,
}

async fn accept(State(roles): Shared, Query(query): Query<Accept>) -> Result<(), Failure> {
    let told = provider(&roles)?.accept_leases(query.on).await;
    let hint = "look at the disk of the node's data directory";
    told.map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error, hint))
}

async fn wallet(State(roles): Shared) -> Answer<WalletView> {
    let silent =
        |error| Failure::new(StatusCode::SERVICE_UNAVAILABLE, error, "the chain does not answer; try again");
    let (account, token) = (roles.ledger.account(), roles.asset.address);
    let wallet = roles.ledger.holdings(token, account).await.map_err(silent)?.base_units();
    let free = roles.ledger.balance(token, account).await.map_err(silent)?.base_units();
    Ok(Json(WalletView { account: account.to_string(), asset: roles.asset.clone(), wallet, free }))
}
