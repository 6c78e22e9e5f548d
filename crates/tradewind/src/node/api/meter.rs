//! The meter role: whom it serves, and what it signed.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::view::{MeterView, MeteredLease, Problem};
use super::{Answer, Failure, Shared};

/// For whom this node meters, and every lease that it meters now.
#[utoipa::path(get, path = "/v1/meter", tag = "meter", responses(
    (status = OK, body = MeterView),
    (status = NOT_FOUND, description = "The node meters nothing", body = Problem),
))]
pub(super) async fn meter(State(roles): Shared) -> Answer<MeterView> {
    let hint =
        "add a [meter] section to node.toml, with buyers' accounts in `serves`, and start the node again";
    let meter = roles.meter.as_ref();
    let meter = meter.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "this node meters nothing", hint))?;
    let leases = meter.leases().await.into_iter().map(|lease| MeteredLease {
        lease: lease.lease,
        buyer: lease.buyer.to_string(),
        provider: lease.provider.to_string(),
        signed: lease.signed.base_units(),
        acknowledged: lease.acknowledged.base_units(),
        vouchers: lease.vouchers,
        heard_at: lease.heard_at.unix(),
        over: lease.over.is_some(),
    });
    Ok(Json(MeterView {
        signer: meter.signer().to_string(),
        address: roles.status.mesh_address.clone(),
        serves: meter.serves().iter().map(ToString::to_string).collect(),
        asset: roles.asset.clone(),
        leases: leases.collect(),
    }))
}
