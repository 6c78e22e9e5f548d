//! Finds a provider for a job: rank the offers, ask the best for terms, sign what is right.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, keccak256};
use tradewind_chain::ledger::{Action, ActionStatus, Reference};
use tradewind_mesh::PeerAddr;
use tradewind_proto::delegation::Assignment;
use tradewind_proto::idle::IdleLimit;
use tradewind_proto::ids::BuyerId;
use tradewind_proto::job::{JobSpec, OnMaxCost};
use tradewind_proto::manifest::{Input, JobManifest};
use tradewind_proto::negotiation::{Purse, TermsRequest, accept, foresee};
use tradewind_proto::offer::Offer;
use tradewind_proto::plan::{self, Choice};
use tradewind_proto::supervision::{Limits, Supervision};
use tradewind_proto::terms::LeaseTerms;
use tradewind_proto::trace;
use tradewind_proto::units::{Money, RatePerSecond, Seconds};
use tradewind_proto::workload::LogCursor;

use super::record::{Attempt, Delegate, JobRecord};
use super::{conversation, evidence, saved};
use crate::buyer::{BuyerConfig, Inner, Tracked};
use crate::delegate::{self, MeterError, MeterNode};
use crate::inputs::{Addresses, InputError, addresses};

/// How long a deposit may take before the next look.
const DEPOSIT: Duration = Duration::from_secs(60);

/// Gets signed terms from the best provider that gives them, or says why nobody did.
pub(super) async fn place(
    inner: &Arc<Inner>,
    job: &Arc<Tracked>,
    record: &JobRecord,
) -> Result<Attempt, String> {
    // Asked before anything is signed: a meter that refuses costs nothing.
    let meter = match &record.meter {
        Some(meter) => delegate::ask(inner, meter).await.map_err(|error| error.told())?,
        None => inner.parts.meter.address(),
    };
    let failed = Inner::failed_providers(record);
    let context = inner.context(&failed, record.unattended, record.meter.is_some());
    let plan = inner.market.read(|book| plan::plan(&record.spec, book, &context));
    if plan.choices.is_empty() {
        let explained = inner.market.read(|book| plan::explain(&record.spec, book, &context));
        return Err(no_choice(&explained, inner.config.decimals));
    }
    let inputs = inputs(inner, job, record).await.map_err(|error| error.to_string())?;
    let mut problem = String::new();
    for choice in &plan.choices {
        match negotiate(inner, job, record, choice, meter, &inputs).await {
            Ok(attempt) => {
                job.addresses.lock().await.take();
                return Ok(attempt);
            }
            Err(error) => {
                tracing::info!(job = %job.id, provider = %choice.offer.provider, %error, "no terms from a provider");
                problem = format!("{} gave no terms: {error}", choice.offer.provider);
            }
        }
    }
    Err(problem)
}

/// What the next attempt finds in its work directory. Addresses that no attempt has got are made once for a while of looking.
async fn inputs(inner: &Inner, job: &Tracked, record: &JobRecord) -> Result<Vec<Input>, InputError> {
    let now = inner.now();
    let mut made = job.addresses.lock().await;
    let fresh = match made.take().filter(|made| made.are_fresh(now)) {
        Some(fresh) => fresh,
        None => {
            let secrets = job.secrets.lock().await.clone();
            let inputs = addresses(&record.spec, &record.stored, &secrets, now, inner.config.prepare).await?;
            Addresses::new(now, inputs)
        }
    };
    let inputs = saved::inputs(record, &fresh.inputs);
    *made = Some(fresh);
    Ok(inputs)
}

/// What the provider is told to run.
fn manifest(inner: &Inner, record: &JobRecord, choice: &Choice, inputs: Vec<Input>) -> JobManifest {
    let salt = (inner.parts.entropy)();
    let (image, share) = (record.image.clone(), choice.share.clone());
    let mut manifest = record.spec.manifest(&choice.runtime, image, share, inputs, salt);
    if inner.config.traces {
        let place = record.trace_of(record.attempts.len());
        manifest.envs.insert(trace::VARIABLE.into(), place.to_string());
    }
    manifest
}

async fn negotiate(
    inner: &Arc<Inner>,
    job: &Arc<Tracked>,
    record: &JobRecord,
    choice: &Choice,
    meter: Address,
    inputs: &[Input],
) -> Result<Attempt, String> {
    let (config, spec, offer) = (&inner.config, &record.spec, &choice.offer);
    let address = address(offer)?;
    let placed = evidence::place(inner, &spec.placement.place_attested_by, offer).await;
    if let Some(word) = placed.map_err(|error| error.to_string())? {
        let (auditor, until) = (word.issuer, word.expires.unix());
        tracing::info!(job = %job.id, provider = %offer.provider, %auditor, until, "where it stands is attested");
    }
    let verified = evidence::demand(inner, spec.placement.tee, choice, &address).await;
    if let Some(verified) = verified.map_err(|error| error.to_string())? {
        let (kind, until) = (verified.machine.kind, verified.expires.unix());
        tracing::info!(job = %job.id, provider = %offer.provider, %kind, until, "its trusted execution is verified");
    }
    let manifest = manifest(inner, record, choice, inputs.to_vec());
    let buyer = BuyerId::new(inner.parts.key.address());
    let request = choice.request(buyer, meter, false, manifest.digest());
    let request = TermsRequest { image: manifest.image.clone(), ..request };
    let transport = inner.parts.transport.as_ref();
    let (purse, parameters) = (purse(config, record)?, inner.terms_parameters());
    let expected = foresee(offer, &request, &parameters, &purse, inner.now());
    let LeaseTerms { token, deposit, .. } = expected.map_err(|error| error.to_string())?;
    // Before the terms' clock runs: a deposit may take longer than terms wait to be opened.
    fund(inner, token, deposit, manifest.digest()).await?;
    let quote =
        conversation::terms(transport, &address, request.clone()).await.map_err(|error| error.to_string())?;
    accept(offer, &request, &parameters, &quote.terms, &purse, inner.now())
        .map_err(|error| error.to_string())?;
    let id = quote.terms.id(&inner.domain).map_err(|error| error.to_string())?;
    quote
        .signature
        .verify(id.get(), offer.provider.account())
        .map_err(|error| format!("its signature does not count: {error}"))?;
    inner.grant(record.id, &manifest, address.key);
    let accelerators = manifest.share.gpus > 0;
    let limits = limits(config, record, &purse, quote.terms.deposit, accelerators);
    let mut supervision = Supervision::new(id, quote.terms, limits);
    let delegate = match &record.meter {
        Some(meter) => {
            supervision = supervision.delegated();
            Some(hand_over(inner, spec, meter, &supervision, &address).await.map_err(|error| error.told())?)
        }
        None => None,
    };
    if record.unattended {
        supervision.ahead = super::lease::ladder(inner, &supervision)?.top();
    }
    tracing::info!(job = %job.id, provider = %offer.provider, lease = %id, "signed a lease");
    Ok(Attempt {
        buyer_signature: inner.parts.key.sign(id.get()),
        supervision,
        provider: offer.provider,
        address,
        manifest,
        provider_signature: quote.signature,
        delegate,
        log: LogCursor::default(),
        log_length: 0,
        vouchers: 1,
        refused: None,
        busy: false,
        resumed: record.checkpoint.as_ref().map(|checkpoint| checkpoint.number),
        saved: 0,
        outcome: None,
        settled: None,
        claim: None,
        closed: false,
        deleted: None,
    })
}

/// Where the offer's provider answers.
fn address(offer: &Offer) -> Result<PeerAddr, String> {
    let address = match &offer.address {
        Some(text) => text.parse::<PeerAddr>().map_err(|error| error.to_string())?,
        None => PeerAddr::new(offer.mesh_key),
    };
    if address.key == offer.mesh_key {
        Ok(address)
    } else {
        Err("its address has another key than its offer".into())
    }
}

/// What the buyer allows of a lease.
fn limits(
    config: &BuyerConfig,
    record: &JobRecord,
    purse: &Purse,
    deposit: Money,
    accelerators: bool,
) -> Limits {
    let spec = &record.spec;
    Limits {
        max_cost: purse.max_deposit.min(deposit),
        timeout: spec.timeout,
        patience: config.patience,
        challenge: config.challenge,
        saving: match spec.on_max_cost {
            OnMaxCost::CheckpointAndStop => spec.stop.grace,
            OnMaxCost::Stop => Seconds::ZERO,
        },
        idle: spec.idle_stop.map(|after| IdleLimit { after, accelerators }),
    }
}

/// Has the lease metered by `meter`, which stores it before it answers.
async fn hand_over(
    inner: &Inner,
    spec: &JobSpec,
    meter: &MeterNode,
    lease: &Supervision,
    provider: &PeerAddr,
) -> Result<Delegate, MeterError> {
    let assignment = Assignment {
        domain: inner.domain,
        meter: meter.address.key,
        terms: lease.terms.clone(),
        provider: provider.to_string(),
        max_cost: lease.limits.max_cost,
        longest: spec.timeout.map(|timeout| timeout.plus(spec.stop.grace)),
    };
    let prepayment = delegate::assign(inner, meter, &assignment, lease.id).await?;
    Ok(Delegate { meter: meter.clone(), prepayment })
}

/// Why no offer does, in a sentence.
fn no_choice(plan: &plan::Plan, decimals: u8) -> String {
    match plan.rejections.first() {
        None => "no provider offers anything on the mesh now".into(),
        Some(rejection) => {
            format!("none of {} offers will do: {}", plan.offers, rejection.describe(decimals))
        }
    }
}

/// What the job may cost, less what earlier attempts cost already.
fn purse(config: &BuyerConfig, record: &JobRecord) -> Result<Purse, String> {
    let money = |amount: Option<tradewind_proto::job::Amount>| {
        amount.map(|amount| amount.to_money(config.decimals)).transpose().map_err(|error| error.to_string())
    };
    let spent = record.attempts.iter().fold(Money::ZERO, |sum, attempt| {
        let paid = attempt.settled.map_or_else(|| attempt.supervision.committed(), |settled| settled.paid);
        sum.checked_add(paid).unwrap_or(Money::MAX)
    });
    let max_cost = money(record.spec.max_cost)?.map_or(Money::MAX, |limit| limit.saturating_sub(spent));
    let max_rate =
        money(record.spec.max_price)?.map_or(RatePerSecond::from_scaled(u128::MAX), RatePerSecond::per_hour);
    Ok(Purse { max_rate, max_deposit: max_cost })
}

/// Puts what `purpose` names into the contract where the free balance does not hold so much yet.
pub(super) async fn fund(inner: &Inner, token: Address, needed: Money, purpose: B256) -> Result<(), String> {
    let ledger = &inner.parts.ledger;
    let account = ledger.account();
    let balance = ledger.balance(token, account).await.map_err(|error| error.to_string())?;
    if balance >= needed {
        return Ok(());
    }
    let missing = needed.saturating_sub(balance);
    let holdings = ledger.holdings(token, account).await.map_err(|error| error.to_string())?;
    if holdings < missing {
        let decimals = inner.config.decimals;
        return Err(format!(
            "the deposit of {} is not covered: {} free in the contract, {} in the wallet; `tradewind wallet fund` says how to add",
            needed.display(decimals),
            balance.display(decimals),
            holdings.display(decimals),
        ));
    }
    let reference = Reference(keccak256([b"deposit".as_slice(), purpose.as_slice()].concat()));
    // The deposit's own submission may cost a fee out of what it brings.
    let amount = missing.checked_add(inner.config.reserve).unwrap_or(missing).min(holdings);
    let action = Action::Deposit { reference, token, amount };
    let submitted = ledger.submit(action).await.map_err(|error| error.to_string())?;
    match tokio::time::timeout(DEPOSIT, ledger.settled(&submitted.key)).await {
        Ok(Ok(status)) if status.is_included() => Ok(()),
        Ok(Ok(ActionStatus::Failed { reason })) => Err(format!("the deposit was refused: {reason}")),
        Ok(Ok(_)) | Err(_) => Err("the deposit is still on its way".into()),
        Ok(Err(error)) => Err(error.to_string()),
    }
}
