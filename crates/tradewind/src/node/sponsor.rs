//! The sponsor role: a paid test job for each new device, by the rules of [`tradewind_proto::sponsorship`].
//!
//! What was decided on is stored before anything is spent, so that a device is not tested twice whenever the node dies. A test is a job
//! of this node's buyer like any other, on that one device.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tradewind_buyer::buyer::{Buyer, Submission};
use tradewind_buyer::job::record::JobRecord;
use tradewind_chain::ledger::{DeviceRecord, DeviceState, Ledger};
use tradewind_proto::ids::{DeviceId, JobId, ProviderId};
use tradewind_proto::job::JobSpec;
use tradewind_proto::offer::{Offer, Runtimes};
use tradewind_proto::profile::NetworkProfile;
use tradewind_proto::sponsorship::{Purse, State, Test};
use tradewind_proto::supervision::Outcome;
use tradewind_proto::units::{Clock, Money, Seconds, Timestamp};
use tradewind_proto::workload::Secrets;
use tradewind_store::Store;

use super::config::SponsorSection;

const KIND: &str = "sponsored";
const LOOK: Duration = Duration::from_secs(1);
/// How long a test may take from its beginning to its end.
const PATIENCE: Seconds = Seconds::new(300);
/// How many devices the registry is asked about in one step.
const ASKED: usize = 8;
/// How soon it is asked again about one that it does not have.
const STRANGE: Seconds = Seconds::new(60);

/// What the role needs of its node.
pub(super) struct Needs<'a> {
    pub(super) section: &'a SponsorSection,
    pub(super) profile: &'a NetworkProfile,
    pub(super) buyer: Option<&'a Buyer>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) data_dir: PathBuf,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) shutdown: CancellationToken,
}

/// A test, and the job that it is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Sponsored {
    test: Test,
    /// Not known where the node died while it was submitted.
    job: Option<JobId>,
}

struct Sponsor {
    purse: Purse,
    /// In whole tokens.
    each: String,
    image: Option<String>,
    buyer: Buyer,
    outputs: PathBuf,
    store: Store,
    clock: Clock,
    ledger: Arc<dyn Ledger>,
    tests: BTreeMap<DeviceId, Sponsored>,
    /// Offers that the registry does not bear out, and when that was seen.
    strangers: BTreeMap<(ProviderId, DeviceId), Timestamp>,
}

/// Looks for new devices from now on.
pub(super) async fn start(needs: Needs<'_>) -> anyhow::Result<()> {
    let Some(buyer) = needs.buyer else {
        bail!("`[sponsor]` in node.toml needs a `[buyer]` beside it, whose wallet pays the tests");
    };
    let asset = needs.profile.quote().context("the network's profile names no asset")?;
    let amount = |text: &str, field: &str| {
        Money::parse(text, asset.decimals).with_context(|| format!("`sponsor.{field}` in node.toml"))
    };
    let (each, daily) = (amount(&needs.section.each, "each")?, amount(&needs.section.daily, "daily")?);
    let account = needs.ledger.account();
    if needs.profile.sponsor != Some(account) {
        tracing::warn!(%account, "the network's profile does not name this account as its sponsor: nobody who joins waits for its tests");
    }
    let stored: Vec<(String, Sponsored)> = needs.store.all(KIND).await?;
    let mut sponsor = Sponsor {
        purse: Purse { each, daily, per_owner: needs.section.per_owner },
        each: needs.section.each.clone(),
        image: needs.section.image.clone(),
        buyer: buyer.clone(),
        outputs: needs.data_dir.join("sponsor"),
        store: needs.store,
        clock: needs.clock,
        ledger: needs.ledger,
        strangers: BTreeMap::new(),
        tests: stored.into_iter().map(|(_, sponsored)| (sponsored.test.device, sponsored)).collect(),
    };
    for runtimes in [Runtimes::PROCESS, Runtimes::DOCKER] {
        let spec = sponsor.spec(DeviceId::NONE, runtimes).transpose();
        spec.context("`[sponsor]` in node.toml makes no job")?;
    }
    tokio::spawn(async move {
        loop {
            if let Err(error) = sponsor.step().await {
                tracing::warn!(error = format!("{error:#}"), "the sponsor cannot go on; trying again");
            }
            tokio::select! {
                biased;
                () = needs.shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    });
    Ok(())
}

impl Sponsor {
    async fn step(&mut self) -> anyhow::Result<()> {
        let now = (self.clock)();
        for sponsored in self.tests.clone().into_values() {
            if sponsored.test.is_stale(now) {
                self.store.remove(KIND, sponsored.test.device.to_string()).await?;
                self.tests.remove(&sponsored.test.device);
            } else if sponsored.test.state == State::UnderWay {
                self.follow(sponsored).await?;
            }
        }
        let past: Vec<Test> = self.tests.values().map(|sponsored| sponsored.test).collect();
        let offers = self.candidates(now).await?;
        let Some(offer) = self.purse.next(&past, &offers, now) else { return Ok(()) };
        self.begin(offer).await
    }

    /// Offers of devices without a test that may open leases, and are their sellers' by the registry: an offer says what it likes.
    async fn candidates(&mut self, now: Timestamp) -> anyhow::Result<Vec<Offer>> {
        self.strangers.retain(|_, seen| now < seen.after(STRANGE));
        let own = self.ledger.account();
        let mut unknown = self.buyer.offers();
        unknown.retain(|offer| {
            offer.provider.account() != own
                && !self.tests.contains_key(&offer.device)
                && !self.strangers.contains_key(&(offer.provider, offer.device))
        });
        unknown.truncate(ASKED);
        let mut found = Vec::new();
        for offer in unknown {
            let record = self.ledger.device(offer.device).await?;
            let ready = |record: DeviceRecord| {
                record.provider == offer.provider && record.state(now) == DeviceState::Ready
            };
            if record.is_some_and(ready) {
                found.push(offer);
            } else {
                self.strangers.insert((offer.provider, offer.device), now);
            }
        }
        Ok(found)
    }

    /// Spends nothing before it is noted.
    async fn begin(&mut self, offer: &Offer) -> anyhow::Result<()> {
        let (device, owner) = (offer.device, offer.provider);
        let test = Test { device, owner, at: (self.clock)(), cost: self.purse.each, state: State::UnderWay };
        let unspent = Test { cost: Money::ZERO, state: State::Failed, ..test };
        let Some(spec) = self.spec(device, offer.runtimes) else {
            tracing::info!(%device, "no test job for a device that runs images only: `sponsor.image` names none");
            return self.note(Sponsored { test: unspent, job: None }).await;
        };
        let spec = spec?;
        let plan = self.buyer.plan(&spec, false, false);
        if plan.choices.is_empty() {
            tracing::info!(%device, reasons = ?plan.rejections, "no test job for a device that does not suit it");
            return self.note(Sponsored { test: unspent, job: None }).await;
        }
        self.note(Sponsored { test, job: None }).await?;
        let submission = Submission {
            spec,
            base_dir: self.outputs.clone(),
            output_dir: self.outputs.join(device.to_string()),
            secrets: Secrets::default(),
            unattended: false,
            meter: None,
        };
        match self.buyer.submit(submission).await {
            Ok(job) => {
                tracing::info!(%device, provider = %owner, %job, "a test job for a new device");
                self.note(Sponsored { test, job: Some(job) }).await
            }
            Err(error) => {
                self.note(Sponsored { test: unspent, job: None }).await?;
                Err(error).context("a test job cannot be submitted")
            }
        }
    }

    /// Ends a test with its job, or its job with its time.
    async fn follow(&mut self, Sponsored { test, job }: Sponsored) -> anyhow::Result<()> {
        let record = job.and_then(|job| self.buyer.watch(job).ok()).map(|view| view.borrow().clone());
        let (Some(job), Some(record)) = (job, record) else {
            // It may have been submitted all the same: what it may cost stays counted.
            return self.note(Sponsored { test: Test { state: State::Failed, ..test }, job }).await;
        };
        if !record.is_over() {
            if (self.clock)() >= test.at.after(PATIENCE) {
                self.buyer.stop(job).await?;
            }
            return Ok(());
        }
        let Some(cost) = cost(&record) else { return Ok(()) };
        let has_passed =
            record.attempts.last().is_some_and(|last| last.outcome == Some(Outcome::Finished { code: 0 }));
        let state = if has_passed { State::Passed } else { State::Failed };
        tracing::info!(device = %test.device, ?state, %cost, "a test job is over");
        self.note(Sponsored { test: Test { cost, state, ..test }, job: Some(job) }).await
    }

    async fn note(&mut self, sponsored: Sponsored) -> anyhow::Result<()> {
        let device = sponsored.test.device;
        self.store.put(KIND, device.to_string(), &sponsored).await.context("a test cannot be noted")?;
        self.tests.insert(device, sponsored);
        Ok(())
    }

    /// The job for a device; `None` where it runs images only and there is none.
    fn spec(&self, device: DeviceId, runtimes: Runtimes) -> Option<anyhow::Result<JobSpec>> {
        let image = match &self.image {
            _ if runtimes.intersects(Runtimes::PROCESS.with(Runtimes::SLURM)) => String::new(),
            Some(image) => format!("image: {}\n", serde_json::Value::from(image.as_str())),
            None => return None,
        };
        let text = format!(
            "name: test-job\n{image}run: echo served\nresources: {{cpus: 1, memory: 32MiB, disk: 16MiB}}\n\
             timeout: 2m\nmax_cost: {}\nnetwork: none\nplacement: {{providers: {{devices: [\"{device}\"]}}}}\n",
            self.each
        );
        Some(JobSpec::parse("test-job", &text).map_err(anyhow::Error::from))
    }
}

/// What a job that is over has cost; `None` while that is not settled.
fn cost(record: &JobRecord) -> Option<Money> {
    record.attempts.iter().try_fold(Money::ZERO, |sum, attempt| match (&attempt.settled, attempt.outcome) {
        (Some(settled), _) => sum.checked_add(settled.paid).ok()?.checked_add(settled.forfeited).ok(),
        // The chain has no such lease.
        (None, Some(_)) => Some(sum),
        (None, None) => None,
    })
}
