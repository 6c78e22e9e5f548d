//! Attestations of where devices stand: what an auditor signs and takes back, and what anybody reads.

use alloy::primitives::B256;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tradewind_chain::ledger::Action;
use tradewind_chain::ledger::audit::{AuditAction, Auditing};
use tradewind_mesh::Transport as _;
use tradewind_proto::ids::DeviceId;
use tradewind_proto::offer::{OfferError, Region};
use tradewind_proto::place::{Audit, LAST_EXPIRY, PlaceWord, document, schema};
use tradewind_proto::units::Seconds;

use super::view::{AttestationView, PlaceRequest, Problem};
use super::wallet::{carry_out, silent};
use super::{Answer, Failure, Served, Shared};

#[derive(Deserialize)]
pub(super) struct Which {
    device: DeviceId,
}

/// Who ever attested where a device stands, the oldest first.
#[utoipa::path(get, path = "/v1/attestations", tag = "attestations", params(
    ("device" = String, Query, description = "The device"),
), responses(
    (status = OK, body = Vec<AttestationView>),
    (status = NOT_FOUND, description = "No such device, or no such contract in this network", body = Problem),
    (status = "5XX", description = "The chain does not answer", body = Problem),
))]
pub(super) async fn list(State(roles): Shared, Query(which): Query<Which>) -> Answer<Vec<AttestationView>> {
    let auditing = auditing(&roles)?;
    known(&roles, which.device).await?;
    let stated = stated(&roles, which.device);
    let found = auditing.audits(which.device.get(), schema(), &[]).await.map_err(silent)?;
    let mut views = Vec::new();
    for audit in found {
        let holds = auditing.holds(audit.id()).await.map_err(silent)?;
        views.push(view(&audit, stated.as_ref(), holds));
    }
    Ok(Json(views))
}

/// Attests on chain that a device stands somewhere, as this node's account.
#[utoipa::path(post, path = "/v1/attestations/place", tag = "attestations", request_body = PlaceRequest, responses(
    (status = OK, body = AttestationView),
    (status = "4XX", description = "No such device or place, or no such contract in this network", body = Problem),
    (status = "5XX", description = "The chain refused, or does not answer", body = Problem),
))]
pub(super) async fn attest_place(
    State(roles): Shared,
    Json(request): Json<PlaceRequest>,
) -> Answer<AttestationView> {
    let auditing = auditing(&roles)?;
    let region = Region { country: request.country, label: request.label };
    let refuse = |error: String, hint| Failure::new(StatusCode::UNPROCESSABLE_ENTITY, error, hint);
    let places = "a country is two upper-case letters, such as DE; a label is what the device's offers state";
    if let Err(error) = region.check() {
        let told = if let OfferError::Range { field, problem } = &error {
            format!("the {field} {problem}")
        } else {
            error.to_string()
        };
        return Err(refuse(told, places));
    }
    let expires = (roles.clock)().after(request.span);
    if request.span == Seconds::ZERO || expires > LAST_EXPIRY {
        return Err(refuse("it would hold for no time, or for ever".into(), "write a time such as 365d"));
    }
    known(&roles, request.device).await?;
    let audit = PlaceWord { issuer: roles.ledger.account(), expires }.audit(request.device, &region);
    carry_out(&roles, Action::Audit(AuditAction::Attest(audit))).await?;
    let holds = auditing.holds(audit.id()).await.map_err(silent)?;
    Ok(Json(view(&audit, Some(&region), holds)))
}

/// Takes an attestation back, for good. Only its issuer may.
#[utoipa::path(post, path = "/v1/attestations/{id}/revoke", tag = "attestations", params(
    ("id" = String, Path, description = "Its name on chain"),
), responses(
    (status = OK, body = AttestationView),
    (status = "4XX", description = "No such attestation, another's, or one that holds no more", body = Problem),
    (status = "5XX", description = "The chain refused, or does not answer", body = Problem),
))]
pub(super) async fn revoke(State(roles): Shared, Path(id): Path<B256>) -> Answer<AttestationView> {
    let auditing = auditing(&roles)?;
    let Some(audit) = auditing.audit(id).await.map_err(silent)? else {
        let hint = "`tradewind attest list DEVICE` shows those of a device";
        return Err(Failure::new(StatusCode::NOT_FOUND, format!("nobody attested {id}"), hint));
    };
    let account = roles.ledger.account();
    if audit.issuer != account {
        let error = format!("{} attested it, and this node is {account}", audit.issuer);
        return Err(Failure::new(StatusCode::FORBIDDEN, error, "only who attested something takes it back"));
    }
    if !auditing.holds(id).await.map_err(silent)? {
        let error = "it holds no more: it is expired, or was taken back before";
        return Err(Failure::new(StatusCode::CONFLICT, error, "nothing is left to do"));
    }
    carry_out(&roles, Action::Audit(AuditAction::Revoke { id })).await?;
    let holds = auditing.holds(id).await.map_err(silent)?;
    let stated = stated(&roles, DeviceId::new(audit.subject));
    Ok(Json(view(&audit, stated.as_ref(), holds)))
}

fn auditing(roles: &Served) -> Result<&dyn Auditing, Failure> {
    let hint =
        "the network's profile names none; where its publisher deployed one since, take the profile anew";
    roles.ledger.auditing().ok_or_else(|| {
        Failure::new(StatusCode::NOT_FOUND, "this network has no contract of attestations", hint)
    })
}

/// Whether the registry has the device: a digit that is wrong would be attested too.
async fn known(roles: &Served, device: DeviceId) -> Result<(), Failure> {
    if roles.ledger.device(device).await.map_err(silent)?.is_some() {
        return Ok(());
    }
    let hint = "`tradewind provider status` shows a machine's own, `tradewind offers --json` those on offer";
    Err(Failure::new(StatusCode::NOT_FOUND, format!("the registry has no device {device}"), hint))
}

/// Where the device's live offer says that it stands.
fn stated(roles: &Served, device: DeviceId) -> Option<Region> {
    let now = (roles.clock)();
    let records = roles.mesh.records();
    let mut offers = records.iter().filter_map(|record| record.offer(now).ok());
    offers.find(|offer| offer.device == device).map(|offer| offer.region)
}

/// An attestation for people; its place is `region`, where that has its digest.
fn view(audit: &Audit, region: Option<&Region>, holds: bool) -> AttestationView {
    let place = region.filter(|region| document(region) == audit.document);
    let place = place.map(|region| match &region.label {
        Some(label) => format!("{}/{label}", region.country),
        None => region.country.clone(),
    });
    AttestationView {
        id: audit.id().to_string(),
        issuer: audit.issuer.to_string(),
        device: audit.subject.to_string(),
        document: audit.document.to_string(),
        place,
        expires: audit.expires.unix(),
        holds,
    }
}
