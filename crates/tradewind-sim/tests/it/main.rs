//! What the market withstands: each claim over several seeds.

#![cfg(test)]

use std::sync::Arc;

use tradewind_proto::supervision::Outcome;
use tradewind_sim::{Bounds, Market, World};

mod chain;
mod crash;
mod hostile;
mod market;
mod network;
mod tee;

type Verdict = (Vec<String>, Arc<World>);

/// Waits for the end of everything, and checks it all.
async fn verdict(market: Market, bounds: Bounds, mut problems: Vec<String>) -> Verdict {
    if !market.until_settled(1_200).await {
        problems.push("the job is not over in time".into());
    }
    problems.extend(market.audit(bounds).await);
    (problems, market.world)
}

/// The same, for a job that nothing may have kept from ending well on its first provider.
async fn undisturbed(market: Market) -> Verdict {
    let settled = market.until_settled(1_200).await;
    let outcomes = outcomes(&market);
    let mut problems = Vec::new();
    if !settled || outcomes != [Some(Outcome::Finished { code: 0 })] {
        problems.push(format!("settled: {settled}, outcomes: {outcomes:?}"));
    }
    if market.world.counted("workloads started") != 1 {
        problems.push(format!("{} workloads were started", market.world.counted("workloads started")));
    }
    verdict(market, Bounds::default(), problems).await
}

/// How each attempt of the one job ended.
fn outcomes(market: &Market) -> Vec<Option<Outcome>> {
    market.buyer.jobs().iter().flat_map(|job| &job.attempts).map(|attempt| attempt.outcome).collect()
}

/// Notes a problem unless `holds`.
fn expect(problems: &mut Vec<String>, holds: bool, problem: impl Into<String>) {
    if !holds {
        problems.push(problem.into());
    }
}
