//! A whole market in one process: one buyer, a few providers, a chain, and the weather.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tradewind_buyer::buyer::Submission;
use tradewind_buyer::job::record::{Attempt, JobRecord};
use tradewind_chain::client::relayed::RelayedLedger;
use tradewind_proto::conversation::{Answer, Request};
use tradewind_proto::ids::JobId;
use tradewind_proto::job::JobSpec;
use tradewind_proto::units::Seconds;
use tradewind_proto::workload::Secrets;
use tradewind_provider::tee::Attester;
use tradewind_tee::Roots;

use crate::chain::{Chain, dollars, outbox};
use crate::network;
use crate::party::{BuyerSeat, ProviderSeat, Seat, key};
use crate::world::World;

/// What a run starts with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How many providers there are. The first is the cheapest.
    pub providers: usize,
    /// The points at which the buyer's lives end.
    pub buyer_crashes: Vec<u64>,
    /// The points at which the first provider's lives end.
    pub provider_crashes: Vec<u64>,
    /// How long a provider may be silent before the buyer gives it up.
    pub patience: Seconds,
    /// The buyer challenges silent providers on chain.
    pub challenge: bool,
    /// What the first providers show of trusted execution.
    pub attesters: Vec<Arc<dyn Attester>>,
    /// Whose evidence counts for the buyer.
    pub roots: Roots,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            providers: 2,
            buyer_crashes: Vec::new(),
            provider_crashes: Vec::new(),
            patience: Seconds::new(30),
            challenge: false,
            attesters: Vec::new(),
            roots: Roots::makers(),
        }
    }
}

/// A running market.
#[derive(Debug)]
pub struct Market {
    /// Time, trace and weather.
    pub world: Arc<World>,
    /// The chain.
    pub chain: Arc<Chain>,
    /// Who buys.
    pub buyer: Arc<BuyerSeat>,
    /// Who sells, the cheapest first.
    pub providers: Vec<Arc<ProviderSeat>>,
    pub(crate) observer: RelayedLedger,
    dir: TempDir,
}

impl Market {
    /// Deploys the contracts, lets the providers join, and starts everybody.
    pub async fn open(seed: u64, setup: Setup) -> Self {
        let world = World::new(seed);
        let dir = tempfile::tempdir().expect("a directory");
        let names: Vec<String> = (1..=setup.providers).map(|n| format!("provider {n}")).collect();
        let accounts = names.iter().map(String::as_str).chain(["buyer", "observer"]);
        let accounts: Vec<_> = accounts.map(|name| key(name).address()).collect();
        let chain = Chain::open(&world, &accounts).await;
        let directory = network::directory(&world);
        let seat = |name: &str| Seat::new(name, &world, &chain, &directory, dir.path());
        let buyer = Arc::new(BuyerSeat::new(seat("buyer"), &setup));
        chain.drip(buyer.seat.account()).await;
        let prices = (2u64..).map(|price| dollars(price * 36));
        let attesters = setup.attesters.into_iter().map(Some).chain(std::iter::repeat(None));
        let providers: Vec<_> = names
            .iter()
            .zip(prices)
            .zip(attesters)
            .map(|((name, price), attester)| Arc::new(ProviderSeat::new(seat(name), price, attester)))
            .collect();
        futures::future::join_all(providers.iter().map(|provider| provider.join())).await;
        world.note("market", "opens");

        buyer.seat.plan_crashes(&setup.buyer_crashes);
        if let Some(first) = providers.first() {
            first.seat.plan_crashes(&setup.provider_crashes);
        }
        for provider in &providers {
            tokio::spawn(provider.clone().live());
            tokio::time::sleep(world.seed.span("arrival", Duration::ZERO, Duration::from_secs(2))).await;
        }
        tokio::spawn(buyer.clone().live());
        let observer = chain.calm(key("observer"), outbox());
        Self { world, chain, buyer, providers, observer, dir }
    }

    /// Hands a job over, as often as it takes until the buyer's node has it.
    pub async fn submit(&self, text: &str) -> JobId {
        let spec = JobSpec::parse("job.yaml", text).expect("a job file");
        let known: Vec<JobId> = self.buyer.jobs().iter().map(|job| job.id).collect();
        loop {
            let node = self.buyer.node().await;
            let submission = Submission {
                spec: spec.clone(),
                base_dir: self.dir.path().into(),
                output_dir: self.dir.path().join("outputs"),
                secrets: Secrets::default(),
                unattended: false,
                meter: None,
            };
            // A person who hears nothing looks whether the job is listed.
            let taken = tokio::time::timeout(Duration::from_secs(10), node.submit(submission)).await;
            if let Ok(Ok(id)) = taken {
                return id;
            }
            if let Some(job) = self.buyer.jobs().into_iter().find(|job| !known.contains(&job.id)) {
                return job.id;
            }
        }
    }

    /// A job as the buyer's disk has it.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<JobRecord> {
        self.buyer.jobs().into_iter().find(|job| job.id == id)
    }

    /// A job's newest attempt.
    #[must_use]
    pub fn attempt(&self, id: JobId) -> Option<Attempt> {
        self.job(id)?.attempts.last().cloned()
    }

    /// Lets time pass.
    pub async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// Waits until `holds`, at most `seconds`, and says whether it does.
    pub async fn until(&self, seconds: u64, mut holds: impl FnMut(&Self) -> bool) -> bool {
        for _ in 0..seconds.saturating_mul(2) {
            if holds(self) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        holds(self)
    }

    /// Waits until a provider works on the job.
    pub async fn until_running(&self, id: JobId) -> bool {
        self.until(120, |market| {
            let attempt = market.attempt(id);
            attempt.is_some_and(|attempt| {
                attempt.supervision.report.is_some_and(|report| report.run.since.is_some())
            })
        })
        .await
    }

    /// Waits until every job is over and its leases are settled.
    pub async fn until_settled(&self, seconds: u64) -> bool {
        self.until(seconds, |market| {
            let jobs = market.buyer.jobs();
            let over = |job: &JobRecord| job.is_over() && job.attempts.iter().all(|a| a.outcome.is_some());
            !jobs.is_empty() && jobs.iter().all(over)
        })
        .await
    }

    /// Asks the first provider something as `from`, past lines and faults.
    pub async fn ask(&self, from: &Seat, request: &Request) -> Option<Answer> {
        network::ask(&self.world, from.mesh, self.providers.first()?.seat.mesh, request).await
    }

    /// A directory that ends with the run.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}
