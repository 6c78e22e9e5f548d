//! The stage of every scenario: a ledger of short windows that stakes its own token, and a door to it that can be shut.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy::primitives::Address;
use anyhow::{Context, bail};
use tradewind_buyer::job::record::Attempt;
use tradewind_chain::client::deploy::{StakeToken, Timings};
use tradewind_chain::ledger::{Ledger as _, Parameters};
use tradewind_proto::ids::{DeviceId, JobId, LeaseId, ProviderId};
use tradewind_proto::units::{Money, Seconds};

use super::super::run;
use super::chain::Chain;
use super::market::Market;
use super::proxy::Proxy;
use crate::client::NodeClient;
use crate::node::config::{BuyerSection, LedgerSection, WatcherSection};
use crate::printer::Printer;

/// How long anything may take on a machine that does much else.
const LONG: Duration = Duration::from_secs(240);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// A job that goes on for longer than any scenario, and says so each second.
const JOB: &str = "name: counting\n\
    run: for i in $(seq 1 1200); do echo \"tick $i\"; sleep 1; done\n\
    resources: {cpus: 1, memory: 128MiB, disk: 64MiB}\n\
    max_cost: 1\n\
    timeout: 20m\n";

/// What every scenario stands on.
pub(super) struct Scene {
    pub(super) chain: Chain,
    proxy: Proxy,
}

/// A lease that runs and was paid for.
pub(super) struct Running {
    pub(super) job: JobId,
    pub(super) lease: LeaseId,
    pub(super) device: DeviceId,
    pub(super) provider: ProviderId,
}

/// Windows of seconds, with room for a lease of minutes to be made good, and for a court to decide before the bond goes.
fn windows() -> Parameters {
    Parameters {
        window: Seconds::new(15),
        answer_window: Seconds::new(5),
        bond_delay: Seconds::new(10),
        hard_limit: Seconds::new(240),
        min_cap_on_demand: Seconds::new(600),
        compensation_span: Seconds::new(600),
        ..Timings::Tests.parameters(Address::ZERO)
    }
}

/// A buyer that gives a silent provider up soon.
pub(super) fn buyer(challenge: bool) -> BuyerSection {
    BuyerSection {
        slack: 6,
        prepare: 2,
        patience: 5,
        challenge,
        faucet: Some("100".into()),
        ..BuyerSection::default()
    }
}

impl Scene {
    /// Starts nodes with so many seats each, and waits until all are in the roster, which is frozen two epochs ahead.
    pub(super) async fn watch(
        &self,
        printer: Printer,
        market: &mut Market,
        nodes: u32,
        seats: u16,
    ) -> anyhow::Result<()> {
        let bar = printer.spinner(&format!("{nodes} watchers take their seats, {seats} each"));
        let mut watchers = Vec::new();
        for number in 1..=nodes {
            let section = WatcherSection {
                seats,
                interval: 1,
                window: 1_500,
                bonds: "50".into(),
                ..WatcherSection::default()
            };
            let name = format!("watcher-{number}");
            watchers.push(market.start(&name, |config| config.watcher = Some(section))?);
        }
        for watcher in &watchers {
            market.up(watcher).await?;
        }
        let wanted = nodes * u32::from(seats);
        let seated = async || Ok((self.chain.seats().await?.0 >= wanted).then_some(()));
        until("every seat is in the roster", seated).await?;
        bar.finish_and_clear();
        Ok(())
    }

    /// Starts the ledger. Its host alone reaches it directly; whoever is started from now on goes through the proxy.
    pub(super) async fn open(printer: Printer, market: &mut Market) -> anyhow::Result<Self> {
        let bar = printer.spinner("starting the ledger, its contracts, relayer and faucet");
        let host = market.start("ledger", |config| {
            config.ledger = Some(LedgerSection {
                timings: Timings::Stated(windows()),
                stake: StakeToken::NetworkToken,
                heartbeat: 1,
                ..LedgerSection::default()
            });
        })?;
        market.up(&host).await?;
        let mut profile = market.profile()?;
        let chain = Chain::open(&profile, market.key("ledger")?)?;
        let target = profile.chain.rpc.first().and_then(|url| url.strip_prefix("http://")?.parse().ok());
        let proxy = Proxy::start(target.context("the ledger's endpoint is no local address")?).await?;
        profile.chain.rpc = vec![proxy.url()];
        market.publish(&profile)?;
        bar.finish_and_clear();
        Ok(Self { chain, proxy })
    }

    /// Shuts the way to the chain for so long. Its host alone still reaches it.
    pub(super) async fn outage(&mut self, length: Duration) {
        self.proxy.set_open(false).await;
        tokio::time::sleep(length).await;
        self.proxy.set_open(true).await;
    }

    /// Has `buyer` run the job, and waits until it runs and its provider was paid on chain.
    pub(super) async fn run(
        &self,
        market: &Market,
        buyer: &NodeClient,
        name: &str,
    ) -> anyhow::Result<Running> {
        let dir = market.path(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let file = dir.join("job.yaml");
        std::fs::write(&file, JOB).with_context(|| format!("cannot write {}", file.display()))?;
        let (_, new) = run::read(&file, &dir.join("outputs"))?;
        let job = buyer.submit(&new).await?;
        let running = async || {
            let Some(attempt) = attempt(buyer, job).await? else { return Ok(None) };
            let (lease, device) = (attempt.supervision.id, attempt.supervision.terms.device);
            let said = buyer.logs(job, 0, 0).await?.text;
            let paid = self.chain.ledger.lease(lease).await?.paid > Money::ZERO;
            let running = Running { job, lease, device, provider: attempt.provider };
            Ok((paid && said.contains("tick 3\n")).then_some(running))
        };
        until("the job runs and was paid for", running).await
    }
}

/// The job's newest lease, as its buyer has it.
pub(super) async fn attempt(buyer: &NodeClient, job: JobId) -> anyhow::Result<Option<Attempt>> {
    Ok(buyer.job(job).await?.attempts.pop())
}

/// The time, as blocks count it.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Looks again and again until there is something to see. A look that fails saw nothing.
pub(super) async fn until<T>(
    what: &str,
    look: impl AsyncFn() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        let problem = match look().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if began.elapsed() > LONG {
            match problem {
                Some(error) => return Err(error.context(format!("never: {what}"))),
                None => bail!("never: {what}"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
