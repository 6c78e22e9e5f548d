//! The watcher role: its seats, and what they watch.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::view::{Problem, SeatView, WatcherView};
use super::{Answer, Failure, Shared};

/// This node's seats, the devices that it watches, and the cases that it hears.
#[utoipa::path(get, path = "/v1/watcher", tag = "watcher", responses(
    (status = OK, body = WatcherView),
    (status = NOT_FOUND, description = "The node watches nobody", body = Problem),
    (status = BAD_GATEWAY, description = "The chain does not answer", body = Problem),
))]
pub(super) async fn watcher(State(roles): Shared) -> Answer<WatcherView> {
    let hint = "add a [watcher] section to node.toml, with the number of `seats`, and start the node again";
    let watcher = roles.watcher.as_ref();
    let watcher =
        watcher.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "this node watches nobody", hint))?;
    let status = watcher.status().await.map_err(|error| {
        Failure::new(StatusCode::BAD_GATEWAY, error, "the node goes on by itself once the chain answers")
    })?;
    Ok(Json(WatcherView {
        epoch: status.epoch,
        roster: status.roster,
        level: status.level,
        staked: roles.staked.clone(),
        devices: status.devices,
        cases: status.cases.iter().map(ToString::to_string).collect(),
        seats: status
            .seats
            .into_iter()
            .map(|seat| SeatView {
                seat: seat.seat,
                key: seat.key.to_string(),
                stake: seat.stake,
                strikes: seat.strikes,
            })
            .collect(),
    }))
}
