//! Whether a job would start now, asked before terms are signed.
//!
//! Anybody may ask for terms, and each trial is work for the controller: one at a time, not too often, and the last answer is
//! given again for a moment.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tradewind_proto::units::Seconds;

use super::cluster::ClusterError;
use super::desk::Desk;
use super::queue;
use super::start::refused;
use super::submission::{self, Size};
use crate::process::shim;
use crate::runtime::{Ask, RuntimeError};

/// How long an answer holds.
const FRESH: Duration = Duration::from_secs(5);
/// Between two trials.
const PAUSE: Duration = Duration::from_millis(250);
/// How long somebody waits for others' trials.
const QUEUE: Duration = Duration::from_secs(5);
/// What starts within this is said to start now: the scheduler's own round takes a while.
const NOW: Seconds = Seconds::new(60);

/// The last trial: what was asked, when, and in how many seconds it would have started.
#[derive(Debug, Default)]
pub(super) struct Trial(Mutex<Option<(Size, Instant, Seconds)>>);

impl Trial {
    pub(super) async fn ask(&self, desk: &Desk, ask: &Ask) -> Result<(), RuntimeError> {
        let share = &ask.share;
        let size = Size::new(share.cpu_millis, share.memory, share.gpus.into(), Some(ask.duration.get()));
        let busy = || RuntimeError::Unavailable("others are asking the cluster".into());
        let mut last = tokio::time::timeout(QUEUE, self.0.lock()).await.map_err(|_| busy())?;
        let wait = match *last {
            Some((of, at, wait)) if of == size && at.elapsed() < FRESH => wait,
            _ => {
                if let Some((_, at, _)) = *last {
                    tokio::time::sleep(PAUSE.saturating_sub(at.elapsed())).await;
                }
                let wait = starts_in(desk, &size).await?;
                *last = Some((size, Instant::now(), wait));
                wait
            }
        };
        if wait <= NOW {
            return Ok(());
        }
        let why = format!("the cluster has no place for it for {} s", wait.get());
        Err(RuntimeError::Unavailable(why))
    }
}

/// In how many seconds a job of this size would start, as the queue is now.
async fn starts_in(desk: &Desk, size: &Size) -> Result<Seconds, RuntimeError> {
    let mut options = submission::place(&desk.config, size);
    options.push("--test-only".into());
    let said = desk.cluster.call("sbatch", &options, Some("#!/bin/sh\n")).await.map_err(refused)?;
    let at = queue::would_start(&said.err).map_err(ClusterError::from)?;
    Ok(at.since(shim::now()))
}
