//! Requests to a provider, with answers of the expected kind only.

use std::time::Duration;

use alloy_primitives::B256;
use tradewind_mesh::{CallError, PeerAddr, Transport};
use tradewind_proto::attestation::Attestation;
use tradewind_proto::conversation::{Answer, FrameError, Quote, Request};
use tradewind_proto::ids::LeaseId;
use tradewind_proto::negotiation::{Refusal, TermsRequest};
use tradewind_proto::report::{OutputFile, Report};
use tradewind_proto::saving::Saved;
use tradewind_proto::statement::SignedDeletion;
use tradewind_proto::units::{Money, Seconds};
use tradewind_proto::voucher::SignedVoucher;
use tradewind_proto::workload::{LogChunk, LogCursor};

/// The longest that a request may take, held-back answers included.
const CALL: Duration = Duration::from_secs(25);

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The provider was not reached, or did not answer.
    #[error("the provider does not answer: {0}")]
    Silent(String),
    /// It answered with a no.
    #[error("the provider refused: {0}{more}", more = hint(.0))]
    Refused(#[from] Refusal),
    /// It answered nonsense.
    #[error("the provider answered nonsense")]
    Nonsense,
}

fn hint(refusal: &Refusal) -> String {
    if refusal.hint.is_empty() { String::new() } else { format!("; {}", refusal.hint) }
}

impl From<CallError> for AskError {
    fn from(error: CallError) -> Self {
        Self::Silent(error.to_string())
    }
}

impl From<FrameError> for AskError {
    fn from(_: FrameError) -> Self {
        Self::Nonsense
    }
}

async fn ask(transport: &dyn Transport, peer: &PeerAddr, request: &Request) -> Result<Answer, AskError> {
    let call = tokio::time::timeout(CALL, transport.call(peer, request.encode()));
    let frame = call.await.map_err(|_| AskError::Silent("the request took too long".into()))??;
    match Answer::decode(&frame)? {
        Answer::Refused(refusal) => Err(refusal.into()),
        answer @ (Answer::Terms(_)
        | Answer::Begun(_)
        | Answer::Report(_)
        | Answer::Logs(_)
        | Answer::Paid { .. }
        | Answer::Stopping
        | Answer::Attestation(_)
        | Answer::Saved(..)
        | Answer::Deleted(_)) => Ok(answer),
    }
}

macro_rules! expect {
    ($answer:expr, $pattern:pat => $value:expr) => {
        if let $pattern = $answer { Ok($value) } else { Err(AskError::Nonsense) }
    };
}

pub(crate) async fn terms(
    transport: &dyn Transport,
    peer: &PeerAddr,
    request: TermsRequest,
) -> Result<Quote, AskError> {
    expect!(ask(transport, peer, &Request::Terms(Box::new(request))).await?, Answer::Terms(quote) => *quote)
}

/// Evidence of trusted execution that repeats `nonce`.
pub(crate) async fn attest(
    transport: &dyn Transport,
    peer: &PeerAddr,
    nonce: B256,
) -> Result<Attestation, AskError> {
    let answer = ask(transport, peer, &Request::Attest { nonce }).await?;
    expect!(answer, Answer::Attestation(attestation) => *attestation)
}

pub(crate) async fn begin(
    transport: &dyn Transport,
    peer: &PeerAddr,
    begin: tradewind_proto::conversation::Begin,
) -> Result<(), AskError> {
    expect!(ask(transport, peer, &Request::Begin(Box::new(begin))).await?, Answer::Begun(_) => ())
}

pub(crate) async fn report(
    transport: &dyn Transport,
    peer: &PeerAddr,
    lease: LeaseId,
    seen: u64,
    wait: Seconds,
) -> Result<Report, AskError> {
    let request = Request::Report { lease, seen, wait };
    expect!(ask(transport, peer, &request).await?, Answer::Report(report) => *report)
}

/// The newest snapshot of what a job saved.
pub(crate) async fn saved(
    transport: &dyn Transport,
    peer: &PeerAddr,
    lease: LeaseId,
) -> Result<(Saved, Vec<OutputFile>), AskError> {
    let answer = ask(transport, peer, &Request::Saved { lease }).await?;
    expect!(answer, Answer::Saved(saved, files) => (saved, files))
}

/// The provider's word that it deleted everything of a lease.
pub(crate) async fn deletion(
    transport: &dyn Transport,
    peer: &PeerAddr,
    lease: LeaseId,
) -> Result<SignedDeletion, AskError> {
    expect!(ask(transport, peer, &Request::Deletion { lease }).await?, Answer::Deleted(word) => word)
}

pub(crate) async fn logs(
    transport: &dyn Transport,
    peer: &PeerAddr,
    lease: LeaseId,
    from: LogCursor,
    wait: Seconds,
) -> Result<LogChunk, AskError> {
    expect!(ask(transport, peer, &Request::Logs { lease, from, wait }).await?, Answer::Logs(chunk) => chunk)
}

pub(crate) async fn pay(
    transport: &dyn Transport,
    peer: &PeerAddr,
    voucher: SignedVoucher,
) -> Result<Money, AskError> {
    expect!(ask(transport, peer, &Request::Pay(voucher)).await?, Answer::Paid { cumulative } => cumulative)
}

pub(crate) async fn stop(transport: &dyn Transport, peer: &PeerAddr, lease: LeaseId) -> Result<(), AskError> {
    expect!(ask(transport, peer, &Request::Stop { lease }).await?, Answer::Stopping => ())
}
