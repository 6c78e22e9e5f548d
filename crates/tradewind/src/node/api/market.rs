//! The market and the node's place in it: offers, hosted leases, the provider role.

use alloy::primitives::Address;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tradewind_chain::ledger::{Action, DeviceRecord, DeviceState};
use tradewind_mesh::Transport as _;
use tradewind_proto::bulletin::Bulletin;
use tradewind_proto::ids::{LeaseId, ProviderId};
use tradewind_proto::lending::Standing;
use tradewind_proto::offer::Offer;
use tradewind_proto::place::PlaceWord;
use tradewind_proto::report::{Report, Stage};
use tradewind_proto::units::Timestamp;
use tradewind_provider::agent::{Agent, ReclaimError};

use super::jobs::buyer;
use super::schema::{OfferSchema, ReportSchema};
use super::view::{DeviceView, PlaceWordView, Problem, ProviderView, TestJobView};
use super::wallet::{carry_out, silent};
use super::{Answer, Failure, Served, Shared};
use crate::node::provider::joining::{reference, stake_reference};

fn provider(roles: &Served) -> Result<&Agent, Failure> {
    let hint = "`tradewind provider join` adds the role";
    roles
        .provider
        .as_ref()
        .ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "this node sells nothing", hint))
}

/// The live offers, as the mesh knows them now.
#[utoipa::path(get, path = "/v1/offers", tag = "market", responses(
    (status = OK, body = Vec<OfferSchema>),
    (status = NOT_FOUND, description = "The node buys nothing", body = Problem),
))]
pub(super) async fn offers(State(roles): Shared) -> Answer<Vec<Offer>> {
    Ok(Json(buyer(&roles)?.offers()))
}

/// The leases that this node hosts.
#[utoipa::path(get, path = "/v1/leases", tag = "provider", responses(
    (status = OK, body = Vec<ReportSchema>),
    (status = NOT_FOUND, description = "The node sells nothing", body = Problem),
))]
pub(super) async fn leases(State(roles): Shared) -> Answer<Vec<Report>> {
    Ok(Json(provider(&roles)?.reports()))
}

#[derive(Deserialize)]
pub(super) struct Accept {
    on: bool,
}

/// Takes new leases, or none; running ones go on.
#[utoipa::path(post, path = "/v1/provider/accept", tag = "provider", params(
    ("on" = bool, Query, description = "Take new leases, or none"),
), responses(
    (status = OK),
    (status = NOT_FOUND, description = "The node sells nothing", body = Problem),
))]
pub(super) async fn accept(State(roles): Shared, Query(query): Query<Accept>) -> Result<(), Failure> {
    provider(&roles)?.accept_leases(query.on).await.map_err(unstored)
}

#[derive(Deserialize)]
pub(super) struct Reclaim {
    lease: Option<LeaseId>,
}

/// Takes a spot lease back, or all of them. Answers with those that are being taken back.
#[utoipa::path(post, path = "/v1/provider/reclaim", tag = "provider", params(
    ("lease" = Option<String>, Query, description = "Only this one"),
), responses(
    (status = OK, body = Vec<String>),
    (status = NOT_FOUND, description = "The node sells nothing, or hosts no such lease", body = Problem),
    (status = CONFLICT, description = "It is no spot lease", body = Problem),
))]
pub(super) async fn reclaim(State(roles): Shared, Query(query): Query<Reclaim>) -> Answer<Vec<LeaseId>> {
    let reclaimed = provider(&roles)?.reclaim(query.lease).await;
    reclaimed.map(Json).map_err(|error| match error {
        ReclaimError::Absent(_) => Failure::new(StatusCode::NOT_FOUND, error, ""),
        ReclaimError::NotSpot { .. } => Failure::new(StatusCode::CONFLICT, error, ""),
        ReclaimError::Store(_) => unstored(error),
    })
}

/// The machine as a provider: its device, stake and leases.
#[utoipa::path(get, path = "/v1/provider", tag = "provider", responses(
    (status = OK, body = ProviderView),
    (status = SERVICE_UNAVAILABLE, description = "The chain does not answer", body = Problem),
))]
pub(super) async fn machine(State(roles): Shared) -> Answer<ProviderView> {
    look(&roles).await.map(Json)
}

/// Starts to return the stake of a machine without leases; returns it once it is unbonded.
#[utoipa::path(post, path = "/v1/provider/leave", tag = "provider", responses(
    (status = OK, body = ProviderView),
    (status = CONFLICT, description = "Leases still run here", body = Problem),
    (status = "5XX", description = "The chain refused, or does not answer", body = Problem),
))]
pub(super) async fn leave(State(roles): Shared) -> Answer<ProviderView> {
    if let Some(agent) = &roles.provider {
        agent.accept_leases(false).await.map_err(unstored)?;
        let running = agent.live_leases();
        if running > 0 {
            let error = format!("{running} leases still run here");
            let hint = "new ones are refused now; leave again when these are settled";
            return Err(Failure::new(StatusCode::CONFLICT, error, hint));
        }
    }
    if let Some(record) = device(&roles).await? {
        unbond(&roles, &record).await?;
    }
    look(&roles).await.map(Json)
}

/// The next step of taking a stake back: by the provider or the sponsor, who gets it.
pub(super) async fn unbond(roles: &Served, record: &DeviceRecord) -> Result<(), Failure> {
    let now = (roles.clock)();
    match record.unbonding_at {
        _ if record.stake.is_zero() => Ok(()),
        None => {
            let named = stake_reference(roles.ledger.as_ref(), record.device, "unbond", record.stake, now);
            let reference = named.await.map_err(silent)?;
            carry_out(roles, Action::Unbond { reference, device: record.device }).await
        }
        Some(at) if at <= now => {
            let reference = reference("withdraw", record.device.get().as_slice(), &at.unix().to_be_bytes());
            carry_out(roles, Action::WithdrawStake { reference, device: record.device }).await
        }
        Some(_) => Ok(()),
    }
}

fn unstored(error: impl std::fmt::Display) -> Failure {
    let hint = "look at the disk of the node's data directory";
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error, hint)
}

async fn device(roles: &Served) -> Result<Option<DeviceRecord>, Failure> {
    match roles.device {
        Some(device) => roles.ledger.device(device).await.map_err(silent),
        None => Ok(None),
    }
}

async fn look(roles: &Served) -> Result<ProviderView, Failure> {
    let now = (roles.clock)();
    let device = device(roles).await?.map(|record| shown(&record, now));
    let account = roles.ledger.account();
    let free = roles.ledger.balance(roles.asset.address, account).await.map_err(silent)?;
    let (kept, until) = match roles.provider.as_ref().map(Agent::standing) {
        Some(Standing::Kept { why, until }) => (Some(why), until),
        Some(Standing::Lends { until }) => (None, until),
        None => (None, None),
    };
    Ok(ProviderView {
        account: account.to_string(),
        asset: roles.asset.clone(),
        staked: roles.staked.clone(),
        serving: roles.provider.is_some(),
        accepting: roles.provider.as_ref().is_some_and(Agent::is_accepting),
        kept,
        ill: roles.provider.as_ref().map(Agent::ailments).unwrap_or_default(),
        until: until.map(|at| at.unix()),
        offered: roles.mesh.records().iter().any(|record| {
            record.id.provider == ProviderId::new(account) && !Bulletin::is_slot(record.id.slot)
        }),
        heard_by: roles.mesh.directory_links(),
        leases: roles.provider.as_ref().map_or(0, Agent::live_leases),
        unstaked: roles.provider.as_ref().is_some_and(Agent::is_unstaked),
        test_job: roles
            .provider
            .as_ref()
            .zip(roles.sponsor)
            .and_then(|(agent, sponsor)| test_job(agent, sponsor)),
        default_job: roles.provider.as_ref().is_some_and(Agent::runs_default_job),
        attested: words(roles.provider.as_ref()),
        device,
        free: free.base_units(),
    })
}

/// Who attests where the device stands.
fn words(agent: Option<&Agent>) -> Vec<PlaceWordView> {
    let words = agent.map(Agent::attested).unwrap_or_default();
    let view =
        |word: PlaceWord| PlaceWordView { issuer: word.issuer.to_string(), expires: word.expires.unix() };
    words.into_iter().map(view).collect()
}

/// The newest job of the network's sponsor.
fn test_job(agent: &Agent, sponsor: Address) -> Option<TestJobView> {
    let of_sponsor = agent.traced().into_iter().filter(|traced| traced.buyer.account() == sponsor);
    let report = of_sponsor.max_by_key(|traced| traced.start)?.report;
    let problem = match (&report.stage, &report.exit) {
        (Stage::Failed { reason }, _) => Some(reason.clone()),
        (_, Some(exit)) if exit.code != 0 => Some(format!("it ended with code {}", exit.code)),
        _ => None,
    };
    let passed = match &problem {
        Some(_) => Some(false),
        None => (report.stage == Stage::Finished).then_some(true),
    };
    Some(TestJobView { lease: report.lease, passed, problem, paid: report.paid.base_units() })
}

/// A device as people see it.
pub(super) fn shown(record: &DeviceRecord, now: Timestamp) -> DeviceView {
    DeviceView {
        id: record.device.to_string(),
        state: word(record.state(now)).into(),
        units: record.units,
        stake: record.stake.base_units(),
        sponsor: record.sponsor.to_string(),
        rent_paid_until: record.rent_paid_until.unix(),
        jailed_until: (record.jailed_until > now).then(|| record.jailed_until.unix()),
        unbonds_at: record.unbonding_at.map(|at| at.unix()),
    }
}

const fn word(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Ready => "ready",
        DeviceState::Jailed => "jailed",
        DeviceState::Unbonding => "unbonding",
        DeviceState::Lapsed => "lapsed",
        DeviceState::Unstaked => "unstaked",
    }
}
