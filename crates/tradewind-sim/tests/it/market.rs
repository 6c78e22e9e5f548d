use tradewind_sim::{Market, Setup, run, runs};

use crate::{Verdict, undisturbed};

async fn a_lease(seed: u64) -> Verdict {
    let market = Market::open(seed, Setup::default()).await;
    market.submit("run: work 40 0").await;
    undisturbed(market).await
}

#[test]
fn a_job_runs_is_paid_and_closes() {
    runs(3, a_lease);
}

#[test]
fn one_seed_gives_one_run() {
    let first = run(7, a_lease);
    assert_eq!(first, run(7, a_lease));
    assert_ne!(first, run(8, a_lease));
}
