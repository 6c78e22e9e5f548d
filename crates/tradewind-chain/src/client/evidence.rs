//! Proof on chain that an action was done, whoever submitted it.
//!
//! A relayer's word is worth nothing here: an action counts as included when the contracts' own logs or state say so.

use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use tradewind_proto::ids::DeviceId;
use tradewind_proto::terms::LeaseTerms;
use tradewind_proto::units::Timestamp;

use crate::client::bindings::abi::{Leases, Registry, Token};
use crate::client::bindings::{amount96, deadline};
use crate::client::encode::{device_nonce, nonce_of};
use crate::client::reader::Reader;
use crate::ledger::{Action, LeaseStage, LedgerError, Reference};

mod audit;
mod court;

/// How many blocks before an action was taken its effect is looked for: the other party may have been first.
const LOOK_BACK: u64 = 2_000;

/// Where an action's effect is on the chain. The transaction is zero where only the state shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Evidence {
    pub(crate) block: u64,
    pub(crate) tx: B256,
}

/// One log that an action leaves.
struct Trace {
    contract: Address,
    event: B256,
    subject: B256,
    proves: Box<dyn Fn(&Log) -> bool + Send + Sync>,
}

impl Trace {
    fn of<E: SolEvent>(
        contract: Address,
        subject: B256,
        proves: impl Fn(&E) -> bool + Send + Sync + 'static,
    ) -> Self {
        let proves = move |log: &Log| {
            E::decode_raw_log(log.topics(), &log.inner.data.data).is_ok_and(|event| proves(&event))
        };
        Self { contract, event: E::SIGNATURE_HASH, subject, proves: Box::new(proves) }
    }
}

/// The evidence that `action` of `account`, taken at block `since`, is done; `None` while it is not.
pub(crate) async fn find(
    reader: &Reader,
    account: Address,
    action: &Action,
    since: u64,
) -> Result<Option<Evidence>, LedgerError> {
    for trace in traces(reader, account, action)? {
        let filter = Filter::new()
            .address(trace.contract)
            .event_signature(trace.event)
            .topic1(trace.subject)
            .from_block(since.saturating_sub(LOOK_BACK));
        let logs = reader.provider().get_logs(&filter).await.map_err(|error| reader.error(error))?;
        for log in logs.iter().rev().filter(|log| !log.removed && (trace.proves)(log)) {
            let (Some(block), Some(tx)) = (log.block_number, log.transaction_hash) else { continue };
            if is_recent_enough(reader, action, log, block).await? {
                return Ok(Some(Evidence { block, tx }));
            }
        }
    }
    by_state(reader, action).await
}

/// The state alone, for an effect whose log is too old to find.
async fn by_state(reader: &Reader, action: &Action) -> Result<Option<Evidence>, LedgerError> {
    let domain = reader.contracts().domain();
    let done = match action {
        Action::Open { terms, .. } => reader.lease(terms.id(&domain)?).await?.stage != LeaseStage::None,
        Action::Settle { terms, voucher } => {
            let lease = reader.lease(terms.id(&domain)?).await?;
            lease.stage != LeaseStage::None && lease.paid >= voucher.voucher.cumulative
        }
        Action::Close { terms, .. } | Action::Finalize { terms } | Action::Expire { terms } => {
            reader.lease(terms.id(&domain)?).await?.stage.is_over()
        }
        Action::ReleaseBond { terms } => reader.lease(terms.id(&domain)?).await?.stage == LeaseStage::Closed,
        Action::Deposit { .. }
        | Action::Withdraw { .. }
        | Action::Register { .. }
        | Action::AddDevice { .. }
        | Action::Stake { .. }
        | Action::Unbond { .. }
        | Action::WithdrawStake { .. }
        | Action::Rent { .. }
        | Action::Notice { .. }
        | Action::RequestClose { .. }
        | Action::Challenge { .. }
        | Action::Answer { .. }
        | Action::Defaulted { .. }
        | Action::Dispute { .. }
        | Action::Resolve { .. }
        | Action::Acknowledge { .. }
        | Action::Extend { .. } => false,
        Action::Court(action) => court::is_done(reader, action).await?,
        Action::Audit(action) => audit::is_done(reader, action).await?,
    };
    if !done {
        return Ok(None);
    }
    Ok(Some(Evidence { block: reader.head().await?.block, tx: B256::ZERO }))
}

/// Actions that a lease may see more than once name the moment before which they cannot have been done. Blocks count whole
/// seconds, so within one second the state decides.
async fn is_recent_enough(
    reader: &Reader,
    action: &Action,
    log: &Log,
    block: u64,
) -> Result<bool, LedgerError> {
    let domain = reader.contracts().domain();
    let (after, is_done) = if let Action::Notice { previous, terms, .. } = action {
        (*previous, reader.lease(terms.id(&domain)?).await?.notice_at > *previous)
    } else if let Action::Answer { challenged_at, terms } = action {
        let lease = reader.lease(terms.id(&domain)?).await?;
        (*challenged_at, !(lease.flags.challenged && lease.challenged_at == *challenged_at))
    } else {
        return Ok(true);
    };
    let at = match log.block_timestamp {
        Some(seconds) => Timestamp::from_unix(seconds),
        None => reader.block(block).await?.map(|(_, at)| at).unwrap_or_default(),
    };
    Ok(is_done && at >= after)
}

fn traces(reader: &Reader, account: Address, action: &Action) -> Result<Vec<Trace>, LedgerError> {
    let contracts = reader.contracts();
    let (leases, registry) = (contracts.leases, contracts.registry);
    let spent = |contract, nonce: U256| {
        Trace::of::<Leases::NonceUsed>(contract, account.into_word(), move |event| event.nonce == nonce)
    };
    let at_registry = |reference: &Reference| vec![spent(registry, nonce_of(reference))];
    Ok(match action {
        Action::Deposit { reference, token, .. } => {
            let nonce = reference.0;
            let used = move |event: &Token::AuthorizationUsed| event.nonce == nonce;
            vec![
                Trace::of::<Token::AuthorizationUsed>(*token, account.into_word(), used),
                spent(leases, nonce_of(reference)),
            ]
        }
        Action::Withdraw { reference, .. } => vec![spent(leases, nonce_of(reference))],
        Action::Register { reference, .. }
        | Action::Stake { reference, .. }
        | Action::Unbond { reference, .. }
        | Action::Rent { reference, .. } => at_registry(reference),
        Action::AddDevice { key, .. } => {
            let device = DeviceId::derive(account, *key).get();
            vec![
                Trace::of::<Registry::DeviceAdded>(registry, device, |_| true),
                spent(registry, device_nonce(*key)),
            ]
        }
        Action::WithdrawStake { device, .. } => {
            vec![Trace::of::<Registry::StakeWithdrawn>(registry, device.get(), |_| true)]
        }
        Action::Open { .. }
        | Action::Settle { .. }
        | Action::Notice { .. }
        | Action::Close { .. }
        | Action::RequestClose { .. }
        | Action::Finalize { .. }
        | Action::Expire { .. }
        | Action::ReleaseBond { .. }
        | Action::Challenge { .. }
        | Action::Answer { .. }
        | Action::Defaulted { .. }
        | Action::Dispute { .. }
        | Action::Resolve { .. }
        | Action::Acknowledge { .. }
        | Action::Extend { .. } => lease_traces(reader, action)?,
        Action::Court(action) => court::traces(reader, action)?,
        Action::Audit(action) => audit::traces(reader, action),
    })
}

fn lease_traces(reader: &Reader, action: &Action) -> Result<Vec<Trace>, LedgerError> {
    let contracts = reader.contracts();
    let domain = contracts.domain();
    let leases = contracts.leases;
    let id = |terms: &LeaseTerms| terms.id(&domain).map(|id| id.get());
    let Some(terms) = action.terms() else { return Ok(Vec::new()) };
    let lease = id(terms)?;
    let ended = || {
        vec![
            Trace::of::<Leases::LeaseClosed>(leases, lease, |_| true),
            Trace::of::<Leases::LeaseSettled>(leases, lease, |_| true),
        ]
    };
    Ok(match action {
        Action::Open { .. } => vec![Trace::of::<Leases::LeaseOpened>(leases, lease, |_| true)],
        Action::Extend { next, .. } => vec![Trace::of::<Leases::LeaseOpened>(leases, id(next)?, |_| true)],
        Action::Settle { voucher, .. } => {
            let cumulative = amount96(voucher.voucher.cumulative);
            vec![Trace::of::<Leases::VoucherSettled>(leases, lease, move |event| event.paid >= cumulative)]
        }
        Action::Notice { kind, .. } => {
            let reason = *kind as u8;
            vec![Trace::of::<Leases::LeaseNoticed>(leases, lease, move |event| event.reason == reason)]
        }
        Action::Close { .. } | Action::Finalize { .. } | Action::Expire { .. } => ended(),
        Action::RequestClose { .. } => vec![Trace::of::<Leases::CloseRequested>(leases, lease, |_| true)],
        Action::ReleaseBond { .. } => vec![Trace::of::<Leases::LeaseClosed>(leases, lease, |_| true)],
        Action::Challenge { sequence, .. } => {
            let sequence = *sequence;
            vec![Trace::of::<Leases::Challenged>(leases, lease, move |event| event.sequence == sequence)]
        }
        Action::Answer { .. } => vec![Trace::of::<Leases::ChallengeAnswered>(leases, lease, |_| true)],
        Action::Defaulted { .. } => vec![Trace::of::<Leases::LeaseDefaulted>(leases, lease, |_| true)],
        Action::Dispute { .. } => vec![Trace::of::<Leases::Disputed>(leases, lease, |_| true)],
        Action::Resolve { .. } => vec![
            Trace::of::<Leases::DisputeEnded>(leases, lease, |_| true),
            Trace::of::<Leases::BuyerFeeOwed>(leases, lease, |_| true),
        ],
        Action::Acknowledge { checkpoint, .. } => {
            let at = deadline(checkpoint.at);
            vec![Trace::of::<Leases::CheckpointAcknowledged>(leases, lease, move |event| {
                event.storedAt >= at
            })]
        }
        Action::Deposit { .. }
        | Action::Withdraw { .. }
        | Action::Register { .. }
        | Action::AddDevice { .. }
        | Action::Stake { .. }
        | Action::Unbond { .. }
        | Action::WithdrawStake { .. }
        | Action::Rent { .. }
        | Action::Audit(_)
        | Action::Court(_) => Vec::new(),
    })
}
