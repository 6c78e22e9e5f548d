//! The CLI's side of the node's local API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy::primitives::B256;
use anyhow::{Context, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tradewind_buyer::access::AccessError;
use tradewind_buyer::job::record::JobRecord;
use tradewind_mesh::{FrameStream, Refusal, RefusalCode};
use tradewind_proto::access::{MAX_OPENING, Opening, Session};
use tradewind_proto::ids::{DeviceId, JobId, LeaseId};
use tradewind_proto::offer::Offer;

use crate::node::api::view::{
    AttestationView, BackedDevice, Created, GeneratedSecret, LineView, LogPiece, MeterView, NewJob,
    PlaceRequest, Problem, ProviderView, ReputationsView, StakeRequest, Status, Transfer, WalletView,
    WatcherView,
};

/// The longest that an answer may take; long polls are held back at most 30 s.
const ANSWER: Duration = Duration::from_secs(60);

/// What a connection of a session or a port is called when it leaves HTTP.
pub(crate) const SESSION: &str = "tradewind-session";
/// Between a refusal's reason and its hint.
const HINT: &str = "; hint: ";

/// A connection that left HTTP.
pub(crate) type Connection = TokioIo<hyper::upgrade::Upgraded>;

/// A node, reached by its socket.
#[derive(Debug, Clone)]
pub(crate) struct NodeClient {
    socket: PathBuf,
}

impl NodeClient {
    /// The node behind `socket`; nothing is asked yet.
    pub(crate) fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who the node is.
    pub(crate) async fn status(&self) -> anyhow::Result<Status> {
        self.get("/v1/status").await
    }

    /// Measures the node's line; takes seconds.
    pub(crate) async fn speed(&self) -> anyhow::Result<LineView> {
        self.post::<(), _>("/v1/speed", None).await
    }

    /// Hands a job over.
    pub(crate) async fn submit(&self, job: &NewJob) -> anyhow::Result<JobId> {
        self.post::<_, Created>("/v1/jobs", Some(job)).await.map(|created| created.id)
    }

    /// Every job.
    pub(crate) async fn jobs(&self) -> anyhow::Result<Vec<JobRecord>> {
        self.get("/v1/jobs").await
    }

    /// A job as it is.
    pub(crate) async fn job(&self, id: JobId) -> anyhow::Result<JobRecord> {
        self.get(&format!("/v1/jobs/{id}")).await
    }

    /// A job as soon as it changes, or after `seconds`.
    pub(crate) async fn wait(&self, id: JobId, seconds: u64) -> anyhow::Result<JobRecord> {
        self.get(&format!("/v1/jobs/{id}/wait?seconds={seconds}")).await
    }

    /// A piece of a job's log.
    pub(crate) async fn logs(&self, id: JobId, attempt: usize, from: u64) -> anyhow::Result<LogPiece> {
        self.get(&format!("/v1/jobs/{id}/logs?attempt={attempt}&from={from}")).await
    }

    /// What a job would get now.
    pub(crate) async fn plan(&self, job: &NewJob) -> anyhow::Result<tradewind_proto::plan::Plan> {
        self.post("/v1/plan", Some(job)).await
    }

    /// Ends a job.
    pub(crate) async fn stop(&self, id: JobId) -> anyhow::Result<()> {
        self.post::<(), Created>(&format!("/v1/jobs/{id}/stop"), None).await.map(|_| ())
    }

    /// Live offers.
    pub(crate) async fn offers(&self) -> anyhow::Result<Vec<Offer>> {
        self.get("/v1/offers").await
    }

    /// Leases that the node hosts.
    pub(crate) async fn leases(&self) -> anyhow::Result<Vec<tradewind_proto::report::Report>> {
        self.get("/v1/leases").await
    }

    /// Takes new leases, or none.
    pub(crate) async fn accept_leases(&self, on: bool) -> anyhow::Result<()> {
        self.ask(Method::POST, &format!("/v1/provider/accept?on={on}"), Bytes::new()).await.map(|_| ())
    }

    /// Takes spot leases back.
    pub(crate) async fn reclaim(&self, lease: Option<LeaseId>) -> anyhow::Result<Vec<LeaseId>> {
        let query = lease.map_or_else(String::new, |lease| format!("?lease={lease}"));
        self.post::<(), _>(&format!("/v1/provider/reclaim{query}"), None).await
    }

    /// The machine as a provider.
    pub(crate) async fn provider(&self) -> anyhow::Result<ProviderView> {
        self.get("/v1/provider").await
    }

    /// Devices' reputations as the node computes them.
    pub(crate) async fn reputations(&self) -> anyhow::Result<ReputationsView> {
        self.get("/v1/reputations").await
    }

    /// The node as a watcher.
    pub(crate) async fn watcher(&self) -> anyhow::Result<WatcherView> {
        self.get("/v1/watcher").await
    }

    /// The node as a meter.
    pub(crate) async fn meter(&self) -> anyhow::Result<MeterView> {
        self.get("/v1/meter").await
    }

    /// Starts to return the stake, or returns it.
    pub(crate) async fn leave(&self) -> anyhow::Result<ProviderView> {
        self.post::<(), _>("/v1/provider/leave", None).await
    }

    /// Moves money of the wallet into the contract.
    pub(crate) async fn deposit(&self, transfer: &Transfer) -> anyhow::Result<WalletView> {
        self.post("/v1/wallet/deposit", Some(transfer)).await
    }

    /// Moves money out of the contract.
    pub(crate) async fn withdraw(&self, transfer: &Transfer) -> anyhow::Result<WalletView> {
        self.post("/v1/wallet/withdraw", Some(transfer)).await
    }

    /// Stakes a device that this account sponsors.
    pub(crate) async fn stake(&self, stake: &StakeRequest) -> anyhow::Result<BackedDevice> {
        self.post("/v1/wallet/stake", Some(stake)).await
    }

    /// Takes the stake of a device back that this account sponsors, a step at a time.
    pub(crate) async fn unstake(&self, device: DeviceId) -> anyhow::Result<BackedDevice> {
        self.post::<(), _>(&format!("/v1/wallet/unstake?device={device}"), None).await
    }

    /// Who ever attested where a device stands.
    pub(crate) async fn attestations(&self, device: DeviceId) -> anyhow::Result<Vec<AttestationView>> {
        self.get(&format!("/v1/attestations?device={device}")).await
    }

    /// Attests where a device stands.
    pub(crate) async fn attest_place(&self, place: &PlaceRequest) -> anyhow::Result<AttestationView> {
        self.post("/v1/attestations/place", Some(place)).await
    }

    /// Takes an attestation back.
    pub(crate) async fn revoke(&self, id: B256) -> anyhow::Result<AttestationView> {
        self.post::<(), _>(&format!("/v1/attestations/{id}/revoke"), None).await
    }

    /// Balances.
    pub(crate) async fn wallet(&self) -> anyhow::Result<WalletView> {
        self.get("/v1/wallet").await
    }

    /// A secret that was generated for a job.
    pub(crate) async fn generated(&self, id: JobId, name: &str) -> anyhow::Result<String> {
        self.get::<GeneratedSecret>(&format!("/v1/jobs/{id}/secrets/{name}")).await.map(|secret| secret.value)
    }

    /// Begins a session in a job. A refusal arrives as its first message.
    pub(crate) async fn session(&self, id: JobId, session: Session) -> anyhow::Result<FrameStream> {
        let connection = self.switch(&format!("/v1/jobs/{id}/session")).await?;
        let (read, write) = tokio::io::split(connection);
        let limit = u32::try_from(MAX_OPENING).unwrap_or(u32::MAX);
        let mut stream = FrameStream::new(read, write, limit);
        // Which lease it is the node knows.
        stream.send(Opening::Session { lease: LeaseId::default(), session }.encode()).await?;
        Ok(stream)
    }

    /// A connection to a port of a job.
    pub(crate) async fn connect(&self, id: JobId, port: u16) -> anyhow::Result<Connection> {
        self.switch(&format!("/v1/jobs/{id}/ports/{port}")).await
    }

    /// Ends the node.
    pub(crate) async fn shutdown(&self) -> anyhow::Result<()> {
        self.ask(Method::POST, "/v1/shutdown", Bytes::new()).await.map(|_| ())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        decode(path, &self.ask(Method::GET, path, Bytes::new()).await?)
    }

    async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&B>,
    ) -> anyhow::Result<T> {
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        decode(path, &self.ask(Method::POST, path, body.into()).await?)
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let answer = tokio::time::timeout(ANSWER, self.exchange(method, path, body)).await;
        answer.map_err(|_| anyhow!("the node behind {} takes too long to answer", self.socket.display()))?
    }

    /// A connection that leaves HTTP at `path`.
    async fn switch(&self, path: &str) -> anyhow::Result<Connection> {
        let request = Request::builder()
            .uri(path)
            .header("host", "node")
            .header("connection", "upgrade")
            .header("upgrade", SESSION)
            .body(Full::new(Bytes::new()))?;
        let asking = async {
            let stream = UnixStream::connect(&self.socket).await.with_context(|| self.no_node())?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection.with_upgrades());
            let mut response = sender.send_request(request).await.with_context(|| self.no_node())?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(TokioIo::new(hyper::upgrade::on(&mut response).await?));
            }
            let (status, body) = (response.status(), response.into_body().collect().await?.to_bytes());
            Err(refused(status, &body))
        };
        let answer = tokio::time::timeout(ANSWER, asking).await;
        answer.map_err(|_| anyhow!("the node behind {} takes too long to answer", self.socket.display()))?
    }

    fn no_node(&self) -> Told {
        let error = format!("no node answers on {}", self.socket.display());
        Told(Problem { error, hint: "`tradewind node start` starts one in the background".into() })
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let no_node = || self.no_node();
        let stream = UnixStream::connect(&self.socket).await.with_context(no_node)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "node")
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let response = sender.send_request(request).await.with_context(no_node)?;
        let status = response.status();
        let body = response.into_body().collect().await.with_context(no_node)?.to_bytes();
        driver.abort();
        if status.is_success() {
            return Ok(body);
        }
        Err(refused(status, &body))
    }
}

/// What the node said instead of an answer.
fn refused(status: StatusCode, body: &[u8]) -> anyhow::Error {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => anyhow::Error::new(Told(problem)),
        Err(_) => anyhow!("the node answered {status}: {}", String::from_utf8_lossy(body)),
    }
}

/// An error with its hint as one refusal, for a stream that has no other words.
pub(crate) fn told(error: &AccessError) -> Refusal {
    let code = match error {
        AccessError::Refused(refusal) => refusal.code(),
        AccessError::NoJob(_) | AccessError::NotRunning(_) | AccessError::Port { .. } => {
            RefusalCode::Rejected
        }
        AccessError::Silent(_) => RefusalCode::Unavailable,
    };
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Refusal::new(code, format_args!("{error}{cause}{HINT}{}", error.hint()))
}

/// The other way round: such a refusal as an error with its hint.
pub(crate) fn untold(refusal: &Refusal) -> anyhow::Error {
    let (error, hint) = refusal.message().split_once(HINT).unwrap_or((refusal.message(), ""));
    Told::error(error, hint)
}

/// An error with its hint, told by the node or by ourselves.
#[derive(Debug)]
pub(crate) struct Told(pub(crate) Problem);

impl Told {
    /// What happened, and what to do next.
    pub(crate) fn error(error: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self(Problem { error: error.into(), hint: hint.into() }))
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.error)
    }
}

impl std::error::Error for Told {}

fn decode<T: DeserializeOwned>(path: &str, body: &[u8]) -> anyhow::Result<T> {
    let other =
        || format!("the node's answer to {path} is from another version; restart the node with this program");
    serde_json::from_slice(body).with_context(other)
}
