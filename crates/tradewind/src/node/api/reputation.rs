//! What chain and watchers say of devices, as this node has read it.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use tradewind_mesh::Transport as _;
use tradewind_proto::challenge::MemoryRate;
use tradewind_proto::ids::DeviceId;
use tradewind_proto::reputation::Standing;

use super::view::{Problem, ReputationView, ReputationsView};
use super::{Answer, Failure, Shared};

/// Every device's reputation, the best first.
#[utoipa::path(get, path = "/v1/reputations", tag = "market", responses(
    (status = OK, body = ReputationsView),
    (status = NOT_FOUND, description = "The node neither buys nor explores", body = Problem),
))]
pub(super) async fn reputations(State(roles): Shared) -> Answer<ReputationsView> {
    let hint = "nodes with a [buyer] or an [explorer] section read watchers' testimony";
    let reputations = roles.reputations.as_ref();
    let reputations = reputations
        .ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "this node reads no testimony", hint))?;
    let (records, now) = (roles.mesh.records(), (roles.clock)());
    let offers = records.iter().filter_map(|record| record.offer(now).ok());
    let models: HashMap<DeviceId, String> =
        offers.filter_map(|offer| Some((offer.device, offer.unit.gpus?.model))).collect();
    let mut devices: Vec<ReputationView> = reputations
        .all()
        .into_iter()
        .map(|(device, rated)| {
            let (components, standing) = (rated.reputation.components, &rated.reputation.standing);
            let (score, lacks) = match standing {
                Standing::Rated(score) => (Some(score.billionths()), Vec::new()),
                Standing::InsufficientData(lacks) => (None, lacks.iter().map(ToString::to_string).collect()),
            };
            let model = models.get(&device).map(String::as_str);
            ReputationView {
                memory: rated.memory.map(|it| MemoryRate::new(it, roles.walk.as_ref(), model)),
                device: device.to_string(),
                score,
                lacks,
                uptime: components.uptime.billionths(),
                challenges: components.challenges.billionths(),
                diversity: components.diversity.billionths(),
                strikes: components.strikes.billionths(),
                evidence: rated.evidence,
            }
        })
        .collect();
    devices.sort_by_key(|view| std::cmp::Reverse((view.score, view.evidence)));
    Ok(Json(ReputationsView { pages: reputations.pages(), devices }))
}
