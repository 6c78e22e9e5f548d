//! The relayer: submits for users that hold no gas token, for a quoted fee in the lease's own token.
//!
//! ```text
//! GET  /v1/relay/quote?token=0x…   what one submission costs, and who is paid
//! POST /v1/relay                   {target, calls, fee, signature} ─► check ─► simulate ─► outbox ─► {id, status}
//! GET  /v1/relay/{id}              how far it has come
//! ```
//!
//! The contracts tie the fee to the calls, so neither side can cheat the other: no work, no fee; and a user that signs
//! what fails costs the relayer nothing, because it simulates first. The simulation runs from an account that nobody has, so
//! that a call which needs the *relayer's* authority (it may own the contracts, and its own balance lies in them) is refused.
//! The contract of attestations takes no fees; Multicall3 makes its calls and takes the fee in one transaction.
//! Only the users' functions are taken at all. Queue, body and requests per account are bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, address};
use alloy::sol_types::{SolCall, SolStruct};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::time::Instant;
use tradewind_proto::signature::Signature;
use tradewind_proto::units::{Money, Seconds};

use crate::client::bindings::abi::{Leases, Registry};
use crate::client::bindings::audit::abi::Attestations;
use crate::client::bindings::court::abi::Court;
use crate::client::encode::SignedCall;
use crate::client::reader::Reader;
use crate::client::sender::{Call, Sender, SenderError};
use crate::ledger::{ActionStatus, LedgerError};

pub use crate::client::relayer::api::{FeeOrder, Problem, Quote, QuoteRequest, RelayReply, RelayRequest};

mod api;

/// Nobody's account: what succeeds from here needs no authority but its own signatures.
pub(crate) const NOBODY: Address = address!("0x00000000000000000000000000000000dec0de00");
/// The largest request.
const MAX_BODY: usize = 64 << 10;
/// The most calls in one request.
const MAX_CALLS: usize = 8;
/// The most accounts whose requests are counted.
const MAX_ACCOUNTS: usize = 10_000;

/// How a relayer works.
#[derive(Debug, Clone)]
pub struct RelayerConfig {
    /// What one submission costs, by token. Other tokens are not taken.
    pub fees: Vec<(Address, Money)>,
    /// How many submissions may be unfinished.
    pub max_queue: usize,
    /// How many requests an account may make at once.
    pub burst: u32,
    /// How long until an account may make one more.
    pub refill: Duration,
    /// How long a quote is good for.
    pub quote_ttl: Seconds,
}

impl RelayerConfig {
    /// A tenth of a cent for each submission in `token` with 6 decimals, and limits for a small network.
    #[must_use]
    pub fn small_fee(token: Address) -> Self {
        Self {
            fees: vec![(token, Money::from_base_units(1_000))],
            max_queue: 1_000,
            burst: 120,
            refill: Duration::from_millis(250),
            quote_ttl: Seconds::new(60),
        }
    }
}

/// The role. Clones share queue and counters.
#[derive(Debug, Clone)]
pub struct Relayer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    reader: Reader,
    sender: Sender,
    config: RelayerConfig,
    buckets: Mutex<HashMap<Address, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: u32,
    filled: Instant,
}

type Refusal = (StatusCode, Json<Problem>);

impl Relayer {
    /// A relayer that reads through `reader` and pays gas from `sender`'s account.
    #[must_use]
    pub fn new(reader: Reader, sender: Sender, config: RelayerConfig) -> Self {
        Self { shared: Arc::new(Shared { reader, sender, config, buckets: Mutex::default() }) }
    }

    /// The HTTP routes.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/relay/quote", get(quote))
            .route("/v1/relay", post(relay))
            .route("/v1/relay/{id}", get(status))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::clone(&self.shared))
    }

    /// Who is paid.
    #[must_use]
    pub fn account(&self) -> Address {
        self.shared.sender.account()
    }
}

async fn quote(
    State(shared): State<Arc<Shared>>,
    Query(request): Query<QuoteRequest>,
) -> Result<Json<Quote>, Refusal> {
    let amount = shared.fee_in(request.token)?;
    let contracts = *shared.reader.contracts();
    Ok(Json(Quote {
        relayer: shared.sender.account(),
        contracts,
        token: request.token,
        amount,
        valid_for: shared.config.quote_ttl,
    }))
}

async fn relay(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<RelayRequest>,
) -> Result<Json<RelayReply>, Refusal> {
    let id = request.id();
    if let Some(status) = shared.known(id)? {
        return Ok(Json(RelayReply { id, status }));
    }
    let payer = shared.check(&request)?;
    shared.count(payer)?;
    if shared.sender.pending() >= shared.config.max_queue {
        return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "the queue is full; try another relayer"));
    }
    let call =
        request.call(shared.reader.contracts()).map_err(|reason| refuse(StatusCode::BAD_REQUEST, reason))?;
    shared.simulate(&call).await?;
    shared.sender.send(&key(id), Call::new(call.target, call.input)).await.map_err(|error| match error {
        SenderError::Full(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        SenderError::Store(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the outbox cannot be written"),
    })?;
    let wait = request.wait();
    let settled = tokio::time::timeout(wait, shared.sender.settled(&key(id))).await;
    let status = match settled {
        Ok(Ok(status)) => status,
        Ok(Err(_)) | Err(_) => ActionStatus::Pending,
    };
    Ok(Json(RelayReply { id, status }))
}

async fn status(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<B256>,
) -> Result<Json<RelayReply>, Refusal> {
    match shared.known(id)? {
        Some(status) => Ok(Json(RelayReply { id, status })),
        None => Err(refuse(StatusCode::NOT_FOUND, "no such submission here")),
    }
}

fn key(id: B256) -> String {
    format!("relay:{id}")
}

fn refuse(status: StatusCode, problem: &str) -> Refusal {
    (status, Json(Problem { error: problem.into(), revert: None }))
}

impl Shared {
    fn fee_in(&self, token: Address) -> Result<Money, Refusal> {
        let fee = self.config.fees.iter().find(|(taken, _)| *taken == token).map(|(_, fee)| *fee);
        fee.ok_or_else(|| {
            let taken: Vec<String> = self.config.fees.iter().map(|(token, _)| token.to_string()).collect();
            refuse(StatusCode::BAD_REQUEST, &format!("fees are taken in {}", taken.join(", ")))
        })
    }

    /// A submission that is under way or done; a failed one may be asked for again.
    fn known(&self, id: B256) -> Result<Option<ActionStatus>, Refusal> {
        self.sender
            .status(&key(id))
            .map_err(|_| refuse(StatusCode::INTERNAL_SERVER_ERROR, "the outbox cannot be read"))
            .map(|status| status.filter(|status| !matches!(status, ActionStatus::Failed { .. })))
    }

    /// Everything that can be told without the chain. Answers whom to count the request for.
    fn check(&self, request: &RelayRequest) -> Result<Address, Refusal> {
        let bad = |reason: &str| refuse(StatusCode::BAD_REQUEST, reason);
        let contracts = self.reader.contracts();
        if request.calls.is_empty() || request.calls.len() > MAX_CALLS {
            return Err(bad("a request makes one to eight calls"));
        }
        let is_taken = if request.target == contracts.leases {
            is_users_call_of_leases
        } else if request.target == contracts.registry {
            is_users_call_of_registry
        } else if contracts.court == Some(request.target) {
            is_users_call_of_court
        } else if contracts.attestations == Some(request.target) {
            is_users_call_of_attestations
        } else {
            return Err(bad("this relayer submits to its deployment's contracts only"));
        };
        if !request.calls.iter().all(is_taken) {
            return Err(bad("a call is none of the users' functions"));
        }
        let (order, signature) = (&request.fee, &request.signature);
        let fee = self.fee_in(order.token)?;
        if order.relayer != self.sender.account() {
            return Err(bad("the fee names another relayer"));
        }
        if order.amount < fee {
            return Err(refuse(
                StatusCode::PAYMENT_REQUIRED,
                &format!("the fee is {fee} base units, {} are offered", order.amount),
            ));
        }
        if order.calls != contracts.bound_to(request.target, &request.calls) {
            return Err(bad("the fee is bound to other calls"));
        }
        let digest = order.to_abi().eip712_signing_hash(&contracts.domain().eip712());
        let signer = Signature::from_bytes(signature).and_then(|signature| signature.recover(digest));
        // A contract wallet's signature is for the chain to judge; such requests share one account here.
        Ok(if signer == Ok(order.payer) { order.payer } else { Address::ZERO })
    }

    /// Takes one from the account's bucket.
    fn count(&self, account: Address) -> Result<(), Refusal> {
        let now = Instant::now();
        let config = &self.config;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_ACCOUNTS && !buckets.contains_key(&account) {
            let full_after = config.refill.saturating_mul(config.burst);
            buckets.retain(|_, bucket| now.duration_since(bucket.filled) < full_after);
            if buckets.len() >= MAX_ACCOUNTS {
                return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "too many accounts at once"));
            }
        }
        let bucket = buckets.entry(account).or_insert(Bucket { tokens: config.burst, filled: now });
        let refill = config.refill.max(Duration::from_millis(1)).as_millis();
        let earned = now.duration_since(bucket.filled).as_millis() / refill;
        if earned > 0 {
            bucket.tokens =
                bucket.tokens.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)).min(config.burst);
            bucket.filled = now;
        }
        if bucket.tokens == 0 {
            return Err(refuse(StatusCode::TOO_MANY_REQUESTS, "this account asks too often"));
        }
        bucket.tokens -= 1;
        Ok(())
    }

    async fn simulate(&self, call: &SignedCall) -> Result<(), Refusal> {
        match self.reader.simulate(NOBODY, call).await {
            Ok(_) => Ok(()),
            Err(LedgerError::Rejected(revert)) => Err((
                StatusCode::CONFLICT,
                Json(Problem { error: format!("the contract refuses: {revert}"), revert: Some(revert) }),
            )),
            Err(error) => Err(refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())),
        }
    }
}

fn selector(call: &Bytes) -> Option<[u8; 4]> {
    call.first_chunk::<4>().copied()
}

fn is_users_call_of_leases(call: &Bytes) -> bool {
    selector(call).is_some_and(|selector| {
        [
            Leases::depositCall::SELECTOR,
            Leases::depositWithPermitCall::SELECTOR,
            Leases::depositWithAuthorizationCall::SELECTOR,
            Leases::withdrawCall::SELECTOR,
            Leases::openCall::SELECTOR,
            Leases::settleCall::SELECTOR,
            Leases::noticeCall::SELECTOR,
            Leases::closeCall::SELECTOR,
            Leases::extendCall::SELECTOR,
            Leases::requestCloseCall::SELECTOR,
            Leases::finalizeCall::SELECTOR,
            Leases::expireCall::SELECTOR,
            Leases::releaseBondCall::SELECTOR,
            Leases::challengeCall::SELECTOR,
            Leases::answerCall::SELECTOR,
            Leases::defaultedCall::SELECTOR,
            Leases::acknowledgeCall::SELECTOR,
            Leases::disputeCall::SELECTOR,
            Leases::resolveCall::SELECTOR,
        ]
        .contains(&selector)
    })
}

fn is_users_call_of_registry(call: &Bytes) -> bool {
    selector(call).is_some_and(|selector| {
        [
            Registry::registerCall::SELECTOR,
            Registry::updateAccountCall::SELECTOR,
            Registry::addDeviceCall::SELECTOR,
            Registry::stakeCall::SELECTOR,
            Registry::payRentCall::SELECTOR,
            Registry::beginUnbondCall::SELECTOR,
            Registry::withdrawStakeCall::SELECTOR,
        ]
        .contains(&selector)
    })
}

fn is_users_call_of_attestations(call: &Bytes) -> bool {
    selector(call).is_some_and(|selector| {
        [Attestations::attestCall::SELECTOR, Attestations::revokeCall::SELECTOR].contains(&selector)
    })
}

fn is_users_call_of_court(call: &Bytes) -> bool {
    selector(call).is_some_and(|selector| {
        [
            Court::announceCall::SELECTOR,
            Court::joinSeatCall::SELECTOR,
            Court::leaveSeatCall::SELECTOR,
            Court::withdrawSeatCall::SELECTOR,
            Court::openCaseCall::SELECTOR,
            Court::drawPanelCall::SELECTOR,
            Court::commitFindingCall::SELECTOR,
            Court::drawCommitteeCall::SELECTOR,
            Court::voteCall::SELECTOR,
            Court::appealCall::SELECTOR,
            Court::drawBenchCall::SELECTOR,
            Court::voteBenchCall::SELECTOR,
            Court::lapseCall::SELECTOR,
            Court::executeCall::SELECTOR,
            Court::closeCaseCall::SELECTOR,
            Court::joinCall::SELECTOR,
            Court::countCall::SELECTOR,
            Court::proveElementCall::SELECTOR,
            Court::proveRootsCall::SELECTOR,
            Court::proveStatementsCall::SELECTOR,
            Court::proveVotesCall::SELECTOR,
        ]
        .contains(&selector)
    })
}
