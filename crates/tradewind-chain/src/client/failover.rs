//! One JSON-RPC transport over several endpoints that nobody trusts much.
//!
//! ```text
//! request ─► endpoints in order of preference, the healthy and level ones first
//!              ├─ answer, or a JSON-RPC error ──────────────► the caller (an error is an answer)
//!              ├─ timeout, broken connection, nonsense ─────► back off this one, ask the next
//!              ├─ another chain id ─────────────────────────► out, until it changes its mind
//!              └─ more than `max_lag` blocks behind ────────► only when nobody else answers
//! ```
//!
//! One that takes longer than `hedge` is not waited for alone: the next is asked beside it, and the first answer counts. Each is
//! asked once for a request, and an only one twice. Asking again is harmless even for a raw transaction: it is the same one. Heights are compared by a probe in the background; with three endpoints or more the median is the
//! reference, so that one endpoint that boasts cannot make the others look late.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use alloy::providers::{DynProvider, Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::json_rpc::{Id, Request, RequestPacket, Response, ResponsePacket, ResponsePayload};
use alloy::transports::http::Http;
use alloy::transports::{BoxTransport, TransportError, TransportErrorKind, TransportFut};
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};
use tower::Service;

use crate::client::shape;

/// JSON-RPC errors that say nothing about the request: rate limits, and methods that this endpoint lacks.
const ELSEWHERE: [i64; 2] = [-32005, -32601];

/// Where JSON-RPC is answered.
#[derive(Debug, Clone)]
pub struct Endpoint {
    name: String,
    transport: BoxTransport,
}

/// Why an endpoint cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL.
    #[error("`{0}` is not an http(s) URL")]
    Url(String),
    /// The HTTP client cannot start.
    #[error("the HTTP client cannot start")]
    Client(#[source] reqwest::Error),
}

impl Endpoint {
    /// An endpoint at an `http://` or `https://` URL.
    ///
    /// # Errors
    /// [`EndpointError`] for anything else.
    pub fn http(url: &str) -> Result<Self, EndpointError> {
        let parsed = url.parse::<reqwest::Url>().map_err(|_| EndpointError::Url(url.into()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(EndpointError::Url(url.into()));
        }
        let name =
            format!("{}:{}", parsed.host_str().unwrap_or("?"), parsed.port_or_known_default().unwrap_or(0));
        let client = http_client(Duration::from_secs(30)).map_err(EndpointError::Client)?;
        Ok(Self { name, transport: BoxTransport::new(Http::with_client(client, parsed)) })
    }

    /// An endpoint behind any transport, such as the embedded ledger's.
    #[must_use]
    pub fn through(name: &str, transport: BoxTransport) -> Self {
        Self { name: name.into(), transport }
    }

    /// For logs: host and port, never a path that may hold an API key.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// An HTTP client that speaks TLS by ring and follows no redirect.
pub(crate) fn http_client(limit: Duration) -> Result<reqwest::Client, reqwest::Error> {
    // Already installed by the program or an earlier client: either is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(limit)
        .connect_timeout(limit.min(Duration::from_secs(5)))
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

/// How patient the failover is.
#[derive(Debug, Clone)]
pub struct FailoverConfig {
    /// The only chain whose answers count.
    pub chain_id: u64,
    /// How long one endpoint may take for one request.
    pub attempt: Duration,
    /// After how long without an answer the next endpoint is asked too.
    pub hedge: Duration,
    /// The first pause of an endpoint that failed; doubles up to `max_backoff`.
    pub min_backoff: Duration,
    /// The longest pause.
    pub max_backoff: Duration,
    /// How many blocks an endpoint may be behind.
    pub max_lag: u64,
    /// How often heights are compared.
    pub probe_every: Duration,
}

impl FailoverConfig {
    /// Patience for a public chain.
    #[must_use]
    pub const fn for_chain(chain_id: u64) -> Self {
        Self {
            chain_id,
            attempt: Duration::from_secs(8),
            hedge: Duration::from_secs(3),
            min_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(30),
            max_lag: 8,
            probe_every: Duration::from_secs(10),
        }
    }
}

/// The transport. Clones share what was learnt about the endpoints.
#[derive(Debug, Clone)]
pub struct Failover {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: FailoverConfig,
    endpoints: Vec<Tracked>,
    last_probe: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Tracked {
    endpoint: Endpoint,
    health: Mutex<Health>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Health {
    right_chain: bool,
    failures: u32,
    resting_until: Option<Instant>,
    height: Option<u64>,
}

impl Failover {
    /// A transport over `endpoints`, the preferred one first.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>, config: FailoverConfig) -> Self {
        let endpoints =
            endpoints.into_iter().map(|endpoint| Tracked { endpoint, health: Mutex::default() }).collect();
        Self { shared: Arc::new(Shared { config, endpoints, last_probe: Mutex::default() }) }
    }

    /// The provider over this transport, for everything that reads or sends.
    #[must_use]
    pub fn provider(&self) -> DynProvider {
        RootProvider::new(RpcClient::new(self.clone(), false)).erased()
    }

    async fn ask(self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        self.probe_when_due().await;
        let shared = &self.shared;
        let (mut running, mut problems, mut elsewhere) = (FuturesUnordered::new(), Vec::new(), None);
        let (mut order, mut asked) = (shared.order().into_iter(), None::<&Tracked>);
        loop {
            if let Some((tracked, pause)) = order.next() {
                let request = request.clone();
                running.push(async move {
                    tokio::time::sleep(pause).await;
                    (tracked, shared.attempt(tracked, request).await)
                });
                asked = Some(tracked);
            }
            let (tracked, answer) = tokio::select! {
                biased;
                Some(done) = running.next() => done,
                () = tokio::time::sleep(shared.config.hedge), if order.len() > 0 => {
                    asked.iter().for_each(|slow| slow.rests(&shared.config));
                    continue;
                }
                else => break,
            };
            match answer {
                Ok(answer) if !only_answers_elsewhere(&answer) => {
                    tracked.succeeded();
                    return Ok(answer);
                }
                Ok(answer) => elsewhere = Some(answer),
                Err(problem) => {
                    tracing::warn!(endpoint = tracked.endpoint.name, problem, "a JSON-RPC endpoint failed");
                    tracked.failed(&shared.config);
                    problems.push(format!("{}: {problem}", tracked.endpoint.name));
                }
            }
        }
        elsewhere.ok_or_else(|| TransportErrorKind::custom_str(&problems.join("; ")))
    }

    async fn probe_when_due(&self) {
        if self.shared.endpoints.len() < 2 {
            return;
        }
        let first = {
            let mut last = self.shared.last_probe.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|at| at.elapsed() < self.shared.config.probe_every) {
                return;
            }
            last.replace(Instant::now()).is_none()
        };
        let shared = Arc::clone(&self.shared);
        let probe = async move { shared.probe().await };
        if first {
            probe.await;
        } else {
            tokio::spawn(probe);
        }
    }
}

impl Service<RequestPacket> for Failover {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        Box::pin(self.clone().ask(request))
    }
}

impl Shared {
    /// Every endpoint once: the level ones in the operator's order, then those behind, then those that rest.
    fn preference(&self) -> Vec<usize> {
        let healths: Vec<Health> = self.endpoints.iter().map(Tracked::health).collect();
        let reference = reference_height(healths.iter().filter_map(|health| health.height).collect());
        let now = Instant::now();
        let rank = |health: &Health| {
            let resting = health.resting_until.is_some_and(|until| until > now);
            let late =
                health.height.is_some_and(|height| height.saturating_add(self.config.max_lag) < reference);
            (resting, late)
        };
        let mut order: Vec<usize> = (0..healths.len()).collect();
        order.sort_by_key(|&index| rank(&healths[index]));
        order
    }

    /// Whom to ask, one after the other, and how long to wait before: everybody once, an only endpoint twice.
    fn order(&self) -> Vec<(&Tracked, Duration)> {
        let order = self.preference().into_iter();
        let mut order: Vec<_> = order.map(|index| (&self.endpoints[index], Duration::ZERO)).collect();
        if let [(only, _)] = order[..] {
            order.push((only, self.config.min_backoff));
        }
        order
    }

    async fn attempt(&self, tracked: &Tracked, request: RequestPacket) -> Result<ResponsePacket, String> {
        if !tracked.health().right_chain {
            self.check_chain(tracked).await?;
        }
        self.exchange(tracked, request).await
    }

    async fn check_chain(&self, tracked: &Tracked) -> Result<(), String> {
        let chain_id = self.quantity(tracked, "eth_chainId").await?;
        if chain_id != self.config.chain_id {
            return Err(format!("answers for chain {chain_id}, not {}", self.config.chain_id));
        }
        tracked.update(|health| health.right_chain = true);
        Ok(())
    }

    async fn quantity(&self, tracked: &Tracked, method: &'static str) -> Result<u64, String> {
        let request = Request::new(method, Id::Number(0), ()).serialize().map_err(|e| e.to_string())?;
        let answer = self.exchange(tracked, RequestPacket::Single(request)).await?;
        match answer.first_payload() {
            Some(ResponsePayload::Success(value)) => {
                shape::quantity(value.get()).ok_or_else(|| format!("{method} answered nonsense"))
            }
            Some(ResponsePayload::Failure(error)) => Err(error.message.to_string()),
            None => Err(format!("{method} was not answered")),
        }
    }

    async fn exchange(&self, tracked: &Tracked, request: RequestPacket) -> Result<ResponsePacket, String> {
        let expected: Vec<(Id, String)> =
            request.requests().iter().map(|one| (one.id().clone(), one.method().to_owned())).collect();
        let answer = timeout(self.config.attempt, tracked.endpoint.transport.clone().call(request))
            .await
            .map_err(|_| format!("no answer within {:?}", self.config.attempt))?
            .map_err(|error| without_urls(&error))?;
        for (id, method) in &expected {
            let Some(response) = answer.responses().iter().find(|response| response.id == *id) else {
                return Err(format!("{method}: the answer is to another question"));
            };
            check(method, response)?;
        }
        Ok(answer)
    }

    async fn probe(&self) {
        join_all(self.endpoints.iter().map(|tracked| async {
            let height = async {
                if !tracked.health().right_chain {
                    self.check_chain(tracked).await?;
                }
                self.quantity(tracked, "eth_blockNumber").await
            };
            match height.await {
                Ok(height) => tracked.update(|health| health.height = Some(height)),
                Err(problem) => {
                    tracing::debug!(endpoint = tracked.endpoint.name, problem, "a probe failed");
                    tracked.failed(&self.config);
                }
            }
        }))
        .await;
    }
}

impl Tracked {
    fn health(&self) -> Health {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut Health)) {
        change(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn succeeded(&self) {
        self.update(|health| {
            health.failures = 0;
            health.resting_until = None;
        });
    }

    /// Others come first for a while, longer each time.
    fn rests(&self, config: &FailoverConfig) {
        self.update(|health| {
            let pause =
                config.min_backoff.saturating_mul(1 << health.failures.min(16)).min(config.max_backoff);
            health.failures = health.failures.saturating_add(1);
            health.resting_until = Some(Instant::now() + pause);
        });
    }

    fn failed(&self, config: &FailoverConfig) {
        self.rests(config);
        self.update(|health| {
            health.height = None;
            health.right_chain = false;
        });
    }
}

fn check(method: &str, response: &Response) -> Result<(), String> {
    match &response.payload {
        ResponsePayload::Success(value) if !shape::is_plausible(method, value.get()) => {
            Err(format!("{method} answered nonsense"))
        }
        ResponsePayload::Success(_) | ResponsePayload::Failure(_) => Ok(()),
    }
}

fn only_answers_elsewhere(answer: &ResponsePacket) -> bool {
    answer.iter_errors().any(|error| ELSEWHERE.contains(&error.code))
}

fn reference_height(mut heights: Vec<u64>) -> u64 {
    heights.sort_unstable();
    match heights.len() {
        0 => 0,
        1 | 2 => heights[heights.len() - 1],
        many => heights[many / 2],
    }
}

/// A transport error's text without the URL, which may hold an API key.
fn without_urls(error: &TransportError) -> String {
    let text = error.to_string();
    text.split_whitespace()
        .map(|word| if word.contains("://") { "(url)" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_boaster_does_not_make_the_others_late() {
        assert_eq!(reference_height(vec![100, 101, 9_000]), 101);
        assert_eq!(reference_height(vec![100, 140]), 140);
        assert_eq!(reference_height(vec![]), 0);
    }

    #[test]
    fn an_endpoint_is_named_without_its_secret() {
        let endpoint = Endpoint::http("https://rpc.example/v3/s3cr3t").unwrap();
        assert_eq!(endpoint.name(), "rpc.example:443");
        let error =
            TransportErrorKind::custom_str("error sending request for url (https://rpc.example/v3/s3cr3t)");
        assert!(!without_urls(&error).contains("s3cr3t"));
        assert!(matches!(Endpoint::http("ftp://x"), Err(EndpointError::Url(_))));
    }
}
