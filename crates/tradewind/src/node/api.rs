//! The node's local API: HTTP and JSON on a Unix socket that only the node's own user may open.
//!
//! Routes and their OpenAPI document come from the same declarations, so that neither lacks what the other has: `GET
//! /openapi.json`, or `tradewind node openapi` without a node.

mod access;
mod attestations;
mod jobs;
mod market;
mod meter;
mod reputation;
mod schema;
mod speed;
mod stake;
#[cfg(test)]
mod tests;
pub(crate) mod view;
mod wallet;
mod watcher;

use std::path::Path;
use std::sync::Arc;

use alloy::primitives::Address;
use anyhow::Context;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;
use tradewind_buyer::buyer::Buyer;
use tradewind_buyer::meter::Meter;
use tradewind_chain::ledger::Ledger;
use tradewind_mesh::{Mesh, PeerAddr};
use tradewind_proto::challenge::WalkProfile;
use tradewind_proto::ids::DeviceId;
use tradewind_proto::profile::Asset;
use tradewind_proto::units::Clock;
use tradewind_provider::agent::Agent;
use tradewind_reputation::Reputations;
use tradewind_watcher::Watcher;
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::view::{Problem, Status};

/// The largest request body.
const MAX_BODY: usize = 1 << 20;

/// What the API reads and drives.
pub(crate) struct Served {
    pub(crate) status: Status,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) asset: Asset,
    /// What is staked.
    pub(crate) staked: Asset,
    pub(crate) clock: Clock,
    pub(crate) mesh: Mesh,
    /// The other nodes by which the network is joined.
    pub(crate) first_nodes: Vec<PeerAddr>,
    pub(crate) buyer: Option<Buyer>,
    pub(crate) meter: Option<Meter>,
    pub(crate) watcher: Option<Watcher>,
    pub(crate) provider: Option<Agent>,
    pub(crate) reputations: Option<Reputations>,
    /// How the network measures memory.
    pub(crate) walk: Option<WalkProfile>,
    /// Who pays the network's test jobs.
    pub(crate) sponsor: Option<Address>,
    /// The machine's device, where it ever became one.
    pub(crate) device: Option<DeviceId>,
    pub(crate) shutdown: CancellationToken,
}

struct Failure(StatusCode, Problem);

impl Failure {
    fn new(code: StatusCode, error: impl std::fmt::Display, hint: &str) -> Self {
        Self(code, Problem { error: error.to_string(), hint: hint.into() })
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

type Answer<T> = Result<Json<T>, Failure>;
type Shared = State<Arc<Served>>;

/// Serves the API on `socket` until `shutdown`. The node's lock is held, so a socket that is there is a dead node's.
pub(crate) async fn serve(roles: Arc<Served>, socket: &Path) -> anyhow::Result<()> {
    let listener = bind(socket)?;
    let shutdown = roles.shutdown.clone();
    let (router, _) = routes().split_for_parts();
    let router: Router = router.layer(DefaultBodyLimit::max(MAX_BODY)).with_state(roles);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
        .context("the local API ended")
}

fn bind(socket: &Path) -> anyhow::Result<tokio::net::UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", socket.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let listener = tokio::net::UnixListener::bind(socket).with_context(|| {
        format!("cannot listen on {} (a socket's path has at most 107 bytes)", socket.display())
    })?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", socket.display()))?;
    Ok(listener)
}

/// The API as an OpenAPI document.
pub(crate) fn document() -> OpenApi {
    routes().into_openapi()
}

fn routes() -> OpenApiRouter<Arc<Served>> {
    let info = InfoBuilder::new()
        .title("Tradewind node")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "The local API of one node, HTTP on its Unix socket. Amounts are base units of the quote asset.",
        ))
        .build();
    OpenApiRouter::with_openapi(OpenApiBuilder::new().info(info).build())
        .routes(routes!(status))
        .routes(routes!(shutdown))
        .routes(routes!(speed::speed))
        .routes(routes!(openapi))
        .routes(routes!(jobs::jobs, jobs::submit))
        .routes(routes!(jobs::job))
        .routes(routes!(jobs::wait))
        .routes(routes!(jobs::logs))
        .routes(routes!(jobs::stop))
        .routes(routes!(access::session))
        .routes(routes!(access::port))
        .routes(routes!(access::secret))
        .routes(routes!(jobs::plan))
        .routes(routes!(attestations::list))
        .routes(routes!(attestations::attest_place))
        .routes(routes!(attestations::revoke))
        .routes(routes!(market::offers))
        .routes(routes!(market::leases))
        .routes(routes!(market::machine))
        .routes(routes!(market::accept))
        .routes(routes!(market::reclaim))
        .routes(routes!(market::leave))
        .routes(routes!(meter::meter))
        .routes(routes!(reputation::reputations))
        .routes(routes!(watcher::watcher))
        .routes(routes!(wallet::wallet))
        .routes(routes!(wallet::deposit))
        .routes(routes!(stake::stake))
        .routes(routes!(stake::unstake))
        .routes(routes!(wallet::withdraw))
}

/// Who the node is, and its roles.
#[utoipa::path(get, path = "/v1/status", tag = "node", responses((status = OK, body = Status)))]
async fn status(State(roles): Shared) -> Json<Status> {
    Json(roles.status.clone())
}

/// Ends the node; workloads and leases go on and are taken up by its next start.
#[utoipa::path(post, path = "/v1/shutdown", tag = "node", responses((status = OK)))]
async fn shutdown(State(roles): Shared) {
    roles.shutdown.cancel();
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "node", responses((status = OK, body = serde_json::Value)))]
async fn openapi() -> Json<OpenApi> {
    Json(document())
}
