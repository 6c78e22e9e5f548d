//! What a machine's offer only claims, judged before anything is signed: evidence of trusted execution, which its provider is
//! asked for, and an auditor's word for where it stands, which the chain is asked for.

use alloy_primitives::{Address, B256};
use tradewind_chain::ledger::LedgerError;
use tradewind_mesh::PeerAddr;
use tradewind_proto::attestation::Binding;
use tradewind_proto::offer::Offer;
use tradewind_proto::place::PlaceWord;
use tradewind_proto::plan::Choice;
use tradewind_tee::{Expected, Policy, Refused, Verified, verify};

use super::conversation::{self, AskError};
use crate::buyer::Inner;

/// Why a provider's evidence does not do.
#[derive(Debug, thiserror::Error)]
pub(super) enum EvidenceError {
    /// It showed none.
    #[error("it shows no evidence of trusted execution: {0}")]
    Silent(#[from] AskError),
    /// It does not verify.
    #[error("its evidence of trusted execution does not verify: {}", told(.0))]
    Refused(#[source] Refused),
    /// It is of another kind of machine than the job asks for.
    #[error("its machine is {0}, which the job does not ask for")]
    Kind(String),
    /// Some of the job's GPUs are not in it.
    #[error("it shows {shown} GPUs in trusted execution, the job takes {wanted}")]
    Gpus {
        /// How many are.
        shown: usize,
        /// How many should be.
        wanted: usize,
    },
    /// No auditor that the job trusts stands by its region.
    #[error("nobody you trust attests where it stands: the chain holds no such attestation now")]
    Place,
    /// The chain was not asked.
    #[error("whether somebody you trust attests where it stands cannot be asked now: {0}")]
    Unasked(#[source] LedgerError),
    /// There is nobody to ask.
    #[error("this network has no contract of attestations, so that nobody attests where machines stand")]
    NoContract,
}

/// The whole reason: what failed stands in the causes.
fn told(refused: &Refused) -> String {
    let mut text = refused.to_string();
    let mut cause = std::error::Error::source(refused);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Has the provider of `choice` prove what the job's `placement` asks for. Nothing is asked where that is nothing.
pub(super) async fn demand(
    inner: &Inner,
    demand: tradewind_proto::attestation::TeeDemand,
    choice: &Choice,
    provider: &PeerAddr,
) -> Result<Option<Verified>, EvidenceError> {
    if !demand.is_some() {
        return Ok(None);
    }
    let binding = Binding {
        chain_id: inner.domain.chain_id,
        device: choice.offer.device,
        mesh_key: provider.key,
        nonce: B256::new((inner.parts.entropy)()),
    };
    let attestation = conversation::attest(inner.parts.transport.as_ref(), provider, binding.nonce).await?;
    let (expected, policy, roots) = (Expected::from(&binding), Policy::default(), &inner.config.roots);
    let verified =
        verify(&attestation, &expected, &policy, roots, inner.now()).map_err(EvidenceError::Refused)?;
    if !demand.machine.intersects(verified.machine.kind) {
        return Err(EvidenceError::Kind(verified.machine.kind.to_string()));
    }
    let (shown, wanted) = (verified.gpus.len(), usize::from(choice.share.gpus));
    if demand.gpus && shown < wanted.max(1) {
        return Err(EvidenceError::Gpus { shown, wanted: wanted.max(1) });
    }
    Ok(Some(verified))
}

/// Asks the chain whether one of the auditors that the job trusts attests where the offer's device stands. Whoever states another
/// region than was attested names an attestation that is not there. Nothing is asked where the job trusts nobody.
pub(super) async fn place(
    inner: &Inner,
    trusted: &[Address],
    offer: &Offer,
) -> Result<Option<PlaceWord>, EvidenceError> {
    if trusted.is_empty() {
        return Ok(None);
    }
    let auditing = inner.parts.ledger.auditing().ok_or(EvidenceError::NoContract)?;
    for word in offer.attested.iter().filter(|word| trusted.contains(&word.issuer)) {
        let id = word.audit(offer.device, &offer.region).id();
        if inner.places.hold(auditing, id, inner.now()).await.map_err(EvidenceError::Unasked)? {
            return Ok(Some(*word));
        }
    }
    Err(EvidenceError::Place)
}
