//! JSON-RPC over HTTP, with a bound on everything a client may ask for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::future::join_all;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::timeout::RequestBodyTimeoutLayer;

use super::fault::Fault;
use super::rpc::Rpc;

/// Bytes of one request's body.
const BODY: usize = 5 << 20;
/// Requests in one batch.
const BATCH: usize = 256;
/// Requests that are worked on at once; others wait.
const REQUESTS: usize = 256;
/// Connections that are open at once.
const CONNECTIONS: usize = 512;
/// How long one request may take.
const REQUEST_TIME: Duration = Duration::from_secs(60);
/// How long a client may take to send a request's head, or to go on with its body.
const SEND_TIME: Duration = Duration::from_secs(10);
/// How long the listener rests after it could not accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The HTTP interface could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is not on the loopback interface.
    #[error("{0} is not a loopback address: the ledger's interface has no access control")]
    NotLoopback(SocketAddr),
    /// The address could not be bound.
    #[error("cannot listen on {addr}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Keeps the HTTP interface open until it is dropped.
#[derive(Debug)]
pub struct ServerGuard {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl ServerGuard {
    /// Stops accepting, lets running requests finish, and closes all connections.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let _ = (&mut self.task).await;
    }
}

impl Drop for ServerGuard {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) async fn serve(
    rpc: Arc<Rpc>,
    addr: SocketAddr,
    beyond_loopback: bool,
) -> Result<(SocketAddr, ServerGuard), ServeError> {
    if !beyond_loopback && !addr.ip().is_loopback() {
        return Err(ServeError::NotLoopback(addr));
    }
    let bind_error = |source| ServeError::Bind { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(bind_error)?;
    let bound = listener.local_addr().map_err(bind_error)?;
    let server = Server { rpc, requests: Arc::new(Semaphore::new(REQUESTS)), beyond_loopback };
    let router = Router::new()
        .route("/", post(answer).get(alive))
        .layer(RequestBodyTimeoutLayer::new(SEND_TIME))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(server);
    let stop = CancellationToken::new();
    let task = tokio::spawn(accept(listener, router, stop.clone()));
    Ok((bound, ServerGuard { stop, task }))
}

async fn accept(listener: TcpListener, router: Router, stop: CancellationToken) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let tracker = tokio_util::task::TaskTracker::new();
    loop {
        let permit = tokio::select! {
            permit = connections.clone().acquire_owned() => permit,
            () = stop.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, router.clone(), stop.clone());
                tracker.spawn(async move {
                    let _permit = permit;
                    connection.await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    tracker.close();
    tracker.wait().await;
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    // Small answers must not wait for more to send.
    let _ = stream.set_nodelay(true);
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(SEND_TIME);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection broke");
    }
}

#[derive(Clone)]
struct Server {
    rpc: Arc<Rpc>,
    requests: Arc<Semaphore>,
    beyond_loopback: bool,
}

async fn alive() -> StatusCode {
    StatusCode::OK
}

async fn answer(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> Response {
    if !names_us(&headers, server.beyond_loopback) {
        return (StatusCode::FORBIDDEN, "invalid host specified").into_response();
    }
    // A web page can send other types here without being asked, but not this one.
    if !is_json(&headers) {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "content type must be application/json").into_response();
    }
    let work = async {
        let _permit = server.requests.acquire().await;
        dispatch(&server.rpc, &body).await
    };
    match tokio::time::timeout(REQUEST_TIME, work).await {
        Ok(Some(reply)) => Json(reply).into_response(),
        Ok(None) => StatusCode::OK.into_response(),
        Err(_) => Json(Reply::failure(null(), Fault::busy("the request timed out"))).into_response(),
    }
}

/// Whether the request was meant for this server, and not for a name that someone made point here.
fn names_us(headers: &HeaderMap, beyond_loopback: bool) -> bool {
    if beyond_loopback {
        return true;
    }
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    if host.parse::<SocketAddr>().is_ok() || host.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost")
        || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.eq_ignore_ascii_case("application/json-rpc")
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: String,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Reply {
    jsonrpc: &'static str,
    id: Box<RawValue>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Result(Box<RawValue>),
    Error {
        code: i64,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Box<RawValue>>,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Replies {
    One(Reply),
    Many(Vec<Reply>),
}

impl Reply {
    fn failure(id: Box<RawValue>, fault: Fault) -> Self {
        let Fault { code, message, data } = fault;
        Self { jsonrpc: "2.0", id, outcome: Outcome::Error { code, message: message.into_owned(), data } }
    }
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

async fn dispatch(rpc: &Arc<Rpc>, body: &[u8]) -> Option<Replies> {
    let batched = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if !batched {
        return dispatch_one(rpc, body).await.map(Replies::One);
    }
    let batch: Vec<&RawValue> = match serde_json::from_slice(body) {
        Ok(batch) => batch,
        Err(error) => return Some(Replies::One(Reply::failure(null(), Fault::parse(error)))),
    };
    if batch.is_empty() {
        return Some(Replies::One(Reply::failure(null(), Fault::request("empty batch"))));
    }
    if batch.len() > BATCH {
        return Some(Replies::One(Reply::failure(null(), Fault::request("batch too large"))));
    }
    let replies = join_all(batch.iter().map(|request| dispatch_one(rpc, request.get().as_bytes()))).await;
    let replies: Vec<Reply> = replies.into_iter().flatten().collect();
    (!replies.is_empty()).then_some(Replies::Many(replies))
}

/// Answers one request; a notification gets no answer.
async fn dispatch_one(rpc: &Arc<Rpc>, body: &[u8]) -> Option<Reply> {
    let request: Request<'_> = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(error) if error.is_data() => {
            return Some(Reply::failure(null(), Fault::request(format!("invalid request: {error}"))));
        }
        Err(error) => return Some(Reply::failure(null(), Fault::parse(error))),
    };
    let outcome = rpc.answer(&request.method, request.params).await;
    let id = request.id?.to_owned();
    Some(match outcome {
        Ok(result) => Reply { jsonrpc: "2.0", id, outcome: Outcome::Result(result) },
        Err(fault) => Reply::failure(id, fault),
    })
}
