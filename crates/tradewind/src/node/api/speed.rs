//! The node's line, measured with a node by which its network is joined.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use tradewind_mesh::{PeerAddr, Transport as _};

use super::view::LineView;
use super::{Served, Shared};

/// How long one node may take, and how many are tried: less together than a caller waits.
const EACH: Duration = Duration::from_secs(15);
const TRIED: usize = 3;

/// Measures the node's line with the first nodes of the network, one after another until one answers.
#[utoipa::path(post, path = "/v1/speed", tag = "node", responses((status = OK, body = LineView)))]
pub(super) async fn speed(State(roles): Shared) -> Json<LineView> {
    Json(measured(&roles).await)
}

async fn measured(roles: &Served) -> LineView {
    let mut peers = roles.first_nodes.clone();
    if peers.is_empty() {
        return LineView::Unmeasured { problem: "the network's profile names no other first node".into() };
    }
    // Not everybody at the same one.
    let first = usize::from(roles.mesh.key().as_bytes()[0]) % peers.len();
    peers.rotate_left(first);
    let mut problems = Vec::new();
    for peer in peers.iter().take(TRIED) {
        match with(roles, peer).await {
            Ok(measured) => return measured,
            Err(problem) => problems.push(format!("{}: {problem}", peer.key)),
        }
    }
    LineView::Unmeasured { problem: problems.join("; ") }
}

async fn with(roles: &Served, peer: &PeerAddr) -> Result<LineView, String> {
    let measured = tokio::time::timeout(EACH, roles.mesh.measure(peer)).await;
    let measured = measured.map_err(|_| format!("no end within {} s", EACH.as_secs()))?;
    let measured = measured.map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
    let (received, sent) = (measured.received.per_second(), measured.sent.per_second());
    Ok(LineView::Measured { peer: peer.key.to_string(), received, sent })
}
