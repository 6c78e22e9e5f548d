//! The user's side of the relayers' HTTP API.

use std::collections::HashMap;
use std::time::Duration;

use alloy::primitives::{Address, U256, keccak256};
use tokio::time::Instant;
use tradewind_proto::units::Money;

use crate::client::bindings;
use crate::client::encode::SignedCall;
use crate::client::failover::http_client;
use crate::client::relayed::{Job, RelayedConfig, Shared};
use crate::client::relayer::{FeeOrder, NOBODY, Problem, Quote, RelayReply, RelayRequest};
use crate::ledger::{Action, ChainHead, LedgerError, Revert};

/// The longest answer that is read from a relayer.
const MAX_ANSWER: usize = 64 << 10;
/// How long a relayer may take beyond what it was allowed to wait.
const GRACE: Duration = Duration::from_secs(5);

/// Why an action was not handed over.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    /// Our own simulation says that the contract would refuse.
    #[error("the contract would refuse: {0}")]
    Refused(Revert),
    /// The cheapest quote is above the limit.
    #[error("the fee of {asked} is above the limit of {limit}")]
    TooDear { asked: Money, limit: Money },
    /// Nobody took it.
    #[error("{0}")]
    Unreachable(String),
    /// The chain did not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The configured relayers with what they asked lately.
pub(super) struct Relays {
    urls: Vec<String>,
    client: Option<reqwest::Client>,
    quotes: HashMap<(usize, Address), (Quote, Instant)>,
    fee_token: Option<Address>,
}

impl Relays {
    pub(super) fn new(config: &RelayedConfig) -> Self {
        let urls = config.relayers.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        let client = http_client(config.relay_wait + GRACE);
        if let Err(error) = &client {
            tracing::error!(%error, "no relayer can be asked");
        }
        Self { urls, client: client.ok(), quotes: HashMap::new(), fee_token: None }
    }

    /// Hands `call` to the first relayer that takes it, starting with another one at each try.
    pub(super) async fn post(
        &mut self,
        shared: &Shared,
        job: &Job,
        call: SignedCall,
        tries: usize,
        head: ChainHead,
    ) -> Result<(), RelayError> {
        let token = self.token(shared, &job.action).await?;
        let mut problems = Vec::new();
        let mut dearest = None;
        for offset in 0..self.urls.len() {
            let index = (tries + offset) % self.urls.len();
            let quote = match self.quote(index, token).await {
                Ok(quote) => quote,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            };
            if quote.amount > shared.config.max_fee {
                dearest = Some(quote.amount);
                continue;
            }
            if !quote.contracts.is_market_of(shared.wallet.contracts()) || quote.token != token {
                problems.push(format!("{} serves another deployment", self.urls[index]));
                continue;
            }
            let request = signed_request(shared, job, &call, &quote, head);
            let whole = request
                .call(shared.wallet.contracts())
                .map_err(|reason| LedgerError::Invalid(reason.into()))?;
            match shared.reader.simulate(NOBODY, &whole).await {
                Ok(_) => {}
                Err(LedgerError::Rejected(revert)) => {
                    return Err(RelayError::Refused(refusal(shared, &request, revert).await?));
                }
                Err(other) => return Err(other.into()),
            }
            match self.send(index, &request).await {
                Ok(()) => return Ok(()),
                Err(problem) => {
                    self.quotes.remove(&(index, token));
                    problems.push(problem);
                }
            }
        }
        if let Some(asked) = dearest
            && problems.is_empty()
        {
            return Err(RelayError::TooDear { asked, limit: shared.config.max_fee });
        }
        Err(RelayError::Unreachable(problems.join("; ")))
    }

    /// The token to pay in: the lease's own, what is moved, or the deployment's fee token.
    async fn token(&mut self, shared: &Shared, action: &Action) -> Result<Address, LedgerError> {
        if let Some(terms) = action.terms() {
            return Ok(terms.token);
        }
        if let Some(token) = self.fee_token {
            return Ok(token);
        }
        let token = shared.reader.registry_terms().await?.fee_token;
        self.fee_token = Some(token);
        Ok(token)
    }

    async fn quote(&mut self, index: usize, token: Address) -> Result<Quote, String> {
        if let Some((quote, at)) = self.quotes.get(&(index, token))
            && at.elapsed() < Duration::from_secs(quote.valid_for.get() / 2)
        {
            return Ok(*quote);
        }
        let url = format!("{}/v1/relay/quote?token={token}", self.urls[index]);
        let quote: Quote = self.answer(index, self.client()?.get(url)).await?;
        self.quotes.insert((index, token), (quote, Instant::now()));
        Ok(quote)
    }

    async fn send(&self, index: usize, request: &RelayRequest) -> Result<(), String> {
        let url = format!("{}/v1/relay", self.urls[index]);
        self.answer::<RelayReply>(index, self.client()?.post(url).json(request)).await.map(drop)
    }

    fn client(&self) -> Result<&reqwest::Client, String> {
        self.client.as_ref().ok_or_else(|| "the HTTP client cannot start".into())
    }

    async fn answer<T: serde::de::DeserializeOwned>(
        &self,
        index: usize,
        request: reqwest::RequestBuilder,
    ) -> Result<T, String> {
        let from = &self.urls[index];
        let failed = |error: reqwest::Error| format!("{from}: {}", error.without_url());
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(format!("{from}: the answer is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| format!("{from}: the answer makes no sense"));
        }
        let problem = serde_json::from_slice::<Problem>(&body).map(|problem| problem.error);
        Err(format!("{from}: {}", problem.unwrap_or_else(|_| status.to_string())))
    }
}

/// Which of the calls is refused, and why: those that are made beside the fee hide it.
async fn refusal(shared: &Shared, request: &RelayRequest, told: Revert) -> Result<Revert, LedgerError> {
    let contracts = shared.wallet.contracts();
    if contracts.attestations != Some(request.target) {
        return Ok(told);
    }
    for piece in request.pieces(contracts) {
        match shared.reader.simulate(NOBODY, &piece).await {
            Ok(_) => {}
            Err(LedgerError::Rejected(revert)) => return Ok(revert),
            Err(other) => return Err(other),
        }
    }
    Ok(told)
}

/// The fee's nonce derives from the action's key, so that two relayers can never both be paid for one action.
fn signed_request(
    shared: &Shared,
    job: &Job,
    call: &SignedCall,
    quote: &Quote,
    head: ChainHead,
) -> RelayRequest {
    let wallet = &shared.wallet;
    let calls = vec![call.input.clone()];
    let nonce = keccak256(format!("relay-fee:{}", job.key));
    let fee = FeeOrder {
        payer: wallet.account(),
        relayer: quote.relayer,
        token: quote.token,
        amount: quote.amount,
        calls: wallet.contracts().bound_to(call.target, &calls),
        nonce: U256::from_be_bytes(nonce.0),
        deadline: shared.deadline(head),
    };
    let signature = bindings::bytes(&wallet.sign_fee(&fee.to_abi()));
    let wait_ms = u32::try_from(shared.config.relay_wait.as_millis()).unwrap_or(u32::MAX);
    RelayRequest { target: call.target, calls, fee, signature, wait_ms }
}
