//! `provider drain`: no new leases, and a wait until none runs; what `provider leave` begins with.

use std::time::{Duration, Instant};

use serde::Serialize;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::report::{Report, Stage};
use tradewind_proto::units::Seconds;

use crate::client::{NodeClient, Told};
use crate::printer::{Printer, counted};

/// The pause between two looks at running leases.
const LOOK: Duration = Duration::from_millis(500);

/// A machine on which nothing runs.
#[derive(Serialize)]
struct Drained {
    accepting: bool,
    /// Spot leases that were taken back for it.
    reclaimed: Vec<LeaseId>,
    /// Leases that are over, whose buyers have not taken everything.
    waiting: Vec<LeaseId>,
}

pub(super) async fn drain(
    reclaims: bool,
    within: Option<Seconds>,
    node: &NodeClient,
    printer: Printer,
) -> anyhow::Result<()> {
    node.accept_leases(false).await?;
    let reclaimed = if reclaims { node.reclaim(None).await? } else { Vec::new() };
    let waiting = emptied(within, node, printer).await?;
    printer.data(&Drained { accepting: false, reclaimed, waiting }, |drained| {
        let left = match drained.waiting.len() {
            0 => String::new(),
            count => format!("; {} wait for their buyers to take what is theirs", counted(count, "lease")),
        };
        format!("nothing runs here{left}; `tradewind provider resume` takes new leases again")
    })
}

/// Takes no new leases and waits until none runs; returns those that only wait for their buyers.
pub(super) async fn emptied(
    within: Option<Seconds>,
    node: &NodeClient,
    printer: Printer,
) -> anyhow::Result<Vec<LeaseId>> {
    node.accept_leases(false).await?;
    let deadline = within.and_then(|within| Instant::now().checked_add(Duration::from_secs(within.get())));
    let bar = printer.spinner("waiting for running leases; Ctrl-C leaves them running, call this again then");
    loop {
        let view = node.provider().await?;
        if view.leases == 0 && !view.default_job {
            break;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            bar.finish_and_clear();
            return Err(late(&node.leases().await?));
        }
        tokio::time::sleep(LOOK).await;
    }
    bar.finish_and_clear();
    Ok(node.leases().await?.iter().map(|report| report.lease).collect())
}

fn late(reports: &[Report]) -> anyhow::Error {
    let runs = |report: &&Report| !matches!(report.stage, Stage::Finished | Stage::Failed { .. });
    let running: Vec<String> = reports.iter().filter(runs).map(|report| report.lease.to_string()).collect();
    let error = format!("still at work here: {} ({})", counted(running.len(), "lease"), running.join(", "));
    let hint = "no new ones come; drain again to wait on, with `--reclaim` to take spot leases back, or `tradewind provider resume`";
    Told::error(error, hint)
}
