//! The buyer's side of a delegated meter: which node it is, whether it is willing, and the hand-over of a lease.

use std::time::Duration;

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};
use tradewind_mesh::PeerAddr;
use tradewind_proto::delegation::{Assignment, Inquiry, MeterAnswer, MeterRequest};
use tradewind_proto::ids::{BuyerId, LeaseId};
use tradewind_proto::negotiation::Refusal;
use tradewind_proto::units::Money;
use tradewind_proto::voucher::SignedVoucher;

use crate::buyer::{BuyerConfig, Inner};

/// The name of no other node: the buyer's own meters.
pub const OWN: &str = "own";
/// How long a meter may take to answer.
const ANSWER: Duration = Duration::from_secs(20);

/// A node that meters for this buyer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterNode {
    /// As the buyer calls it; its key where it has no name.
    pub name: String,
    /// Where it is.
    pub address: PeerAddr,
}

impl std::fmt::Display for MeterNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.address.key.short();
        if self.name.starts_with(&key) {
            write!(f, "{key}…")
        } else {
            write!(f, "{} ({key}…)", self.name)
        }
    }
}

/// Why the node that was to meter a job does not.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// No such node is configured, and it is no address.
    #[error("`{0}` is no meter: neither a name under `buyer.meters`, nor a mesh key, nor an address")]
    Unknown(String),
    /// Vouchers that are signed ahead need nobody who signs them.
    #[error("a job that goes unattended has its vouchers already, and no meter")]
    Unattended,
    /// It was not reached, or did not answer.
    #[error("the meter {meter} does not answer: {reason}")]
    Silent {
        /// Which node.
        meter: MeterNode,
        /// What happened.
        reason: String,
    },
    /// It answered with a no.
    #[error("the meter {meter} refused: {refusal}")]
    Refused {
        /// Which node.
        meter: MeterNode,
        /// Its reason.
        refusal: Box<Refusal>,
    },
    /// Its answer is none, or a voucher that does not count.
    #[error("the meter {0} answered nonsense")]
    Nonsense(MeterNode),
}

impl MeterError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown(_) => {
                "name it in node.toml (`[buyer.meters]`), or give `key@ip:port`, which `tradewind status` \
                 prints on its machine as the mesh address"
                    .into()
            }
            Self::Unattended => "give `--unattended` or `--meter`, not both".into(),
            Self::Silent { .. } => {
                "see that its node runs and that its address is right, or give `--meter own`".into()
            }
            Self::Refused { refusal, .. } => refusal.hint.clone(),
            Self::Nonsense(_) => "its program may be of another version; give `--meter own`".into(),
        }
    }

    /// The error with its hint, in a sentence.
    pub(crate) fn told(&self) -> String {
        let hint = self.hint();
        if hint.is_empty() { self.to_string() } else { format!("{self}; {hint}") }
    }
}

/// The node that `named` means.
pub(crate) fn find(
    config: &BuyerConfig,
    named: Option<&str>,
    unattended: bool,
) -> Result<Option<MeterNode>, MeterError> {
    let usual = config.meter.as_deref().filter(|_| !unattended);
    let Some(name) = named.or(usual).filter(|name| *name != OWN) else { return Ok(None) };
    if unattended {
        return Err(MeterError::Unattended);
    }
    let address = match config.meters.get(name) {
        Some(address) => address.clone(),
        None => name.parse().map_err(|_| MeterError::Unknown(name.chars().take(100).collect()))?,
    };
    let known = config.meters.iter().find(|(_, known)| known.key == address.key);
    let name = known.map_or_else(|| address.key.to_string(), |(name, _)| name.clone());
    Ok(Some(MeterNode { name, address }))
}

/// The key with which the meter would sign this buyer's vouchers.
pub(crate) async fn ask(inner: &Inner, meter: &MeterNode) -> Result<Address, MeterError> {
    let key = &inner.parts.key;
    let inquiry = Inquiry {
        domain: inner.domain,
        buyer: BuyerId::new(key.address()),
        from: inner.parts.transport.key(),
        meter: meter.address.key,
        at: inner.now(),
    };
    match call(inner, meter, &MeterRequest::Ask(inquiry.sign(key))).await? {
        MeterAnswer::Willing { signer } => Ok(signer),
        MeterAnswer::Taken { .. } | MeterAnswer::Refused(_) => Err(MeterError::Nonsense(meter.clone())),
    }
}

/// Hands a lease over; the meter's first voucher is its receipt.
pub(crate) async fn assign(
    inner: &Inner,
    meter: &MeterNode,
    assignment: &Assignment,
    lease: LeaseId,
) -> Result<SignedVoucher, MeterError> {
    let nonsense = || MeterError::Nonsense(meter.clone());
    let request = MeterRequest::Assign(Box::new(assignment.sign(&inner.parts.key)));
    let MeterAnswer::Taken { prepayment } = call(inner, meter, &request).await? else {
        return Err(nonsense());
    };
    let terms = &assignment.terms;
    prepayment.verify(terms, lease, &inner.domain, Money::ZERO, inner.now()).map_err(|_| nonsense())?;
    if prepayment.voucher.last || prepayment.voucher.cumulative != terms.prepay {
        return Err(nonsense());
    }
    Ok(prepayment)
}

async fn call(inner: &Inner, meter: &MeterNode, request: &MeterRequest) -> Result<MeterAnswer, MeterError> {
    let silent = |reason: String| MeterError::Silent { meter: meter.clone(), reason };
    let asked = inner.parts.transport.ask_meter(&meter.address, request.encode());
    let answered = tokio::time::timeout(ANSWER, asked).await;
    let frame = match answered.map_err(|_| silent("the request took too long".into()))? {
        Ok(frame) => frame,
        Err(error) => {
            let reason = error.refusal().map_or_else(|| error.to_string(), ToString::to_string);
            return Err(silent(reason));
        }
    };
    match MeterAnswer::decode(&frame) {
        Ok(MeterAnswer::Refused(refusal)) => {
            Err(MeterError::Refused { meter: meter.clone(), refusal: Box::new(refusal) })
        }
        Ok(answer @ (MeterAnswer::Willing { .. } | MeterAnswer::Taken { .. })) => Ok(answer),
        Err(_) => Err(MeterError::Nonsense(meter.clone())),
    }
}
