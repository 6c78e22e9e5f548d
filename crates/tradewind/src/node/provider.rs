//! The provider role: a place in the registry, a stake, and the agent that hosts leases.

mod default_job;
pub(crate) mod encryption;
pub(in crate::node) mod joining;
mod payout;
mod sale;
pub(crate) mod sandbox;
mod slurm;

pub(crate) use sale::{hourly, lendable, sold};
pub(crate) use slurm::runtime as slurm;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;
use tradewind_chain::ledger::Ledger;
use tradewind_mesh::Transport;
use tradewind_proto::ids::DeviceId;
use tradewind_proto::offer::{Offer, Vendor};
use tradewind_proto::profile::{Asset, NetworkProfile};
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::{Bytes, Clock, Money, Seconds};
use tradewind_provider::agent::{Agent, AgentConfig, Parts};
use tradewind_provider::docker::{DockerConfig, DockerRuntime, GpuMode, Nvidia};
use tradewind_provider::inventory::{AllGpus, Gpu, Inventory, Places, Sold};
use tradewind_provider::process::{ProcessConfig, ProcessRuntime};
use tradewind_provider::runtime::Runtime;
use tradewind_provider::slurm::SlurmRuntime;
use tradewind_provider::web::SourcePolicy;
use tradewind_store::Store;

use self::joining::Join;
use self::payout::Payout;
use super::config::ProviderSection;
use super::{attest, keys};

/// The runtimes' names in offers and configuration.
const PROCESS: &str = "process";
const DOCKER: &str = "docker";
const SLURM: &str = SlurmRuntime::NAME;

/// What the role needs of its node.
pub(crate) struct Needs<'a> {
    pub(crate) section: &'a ProviderSection,
    pub(crate) profile: &'a NetworkProfile,
    pub(crate) data_dir: &'a Path,
    pub(crate) password_file: Option<&'a Path>,
    pub(crate) key: SigningKey,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) shutdown: CancellationToken,
}

/// Joins the network where the node has not yet, and starts hosting.
pub(crate) async fn start(needs: Needs<'_>) -> anyhow::Result<Agent> {
    let asset = needs.profile.quote().context("the network's profile names no asset")?;
    let staked = needs.profile.staked().context("the network's profile names no asset")?;
    let device_key = device_key(&needs)?;
    let owner = needs.key.address();
    let device = DeviceId::derive(owner, device_key.address());
    let join = Join::read(&needs, asset, staked, &device_key)?;
    join.run(&needs).await?;
    pay_out(&needs, asset, join.bonds, device)?;
    let state_dir = state_dir(&needs)?;
    std::fs::create_dir_all(&state_dir).with_context(|| format!("cannot make {}", state_dir.display()))?;
    let inventory = Inventory::take(&state_dir, &AllGpus::default())?;
    let sold = sold(needs.section, &inventory)?;
    answer(&needs, device, device_key, hardware(&needs, &inventory, &sold)).await?;
    let cards = Cards { places: sold.places.clone(), ..Cards::like(sold_first(&inventory, &sold)) };
    let runtimes = runtimes(needs.section, owner, &needs.data_dir.join("runtime"), &cards)?;
    sandbox::require(needs.section).await?;
    let encrypted = encryption::of(needs.section.encrypt, needs.data_dir, &state_dir, &runtimes)?;
    let default_job = default_job::read(needs.section, &sold, &runtimes)?;
    let watts = sale::watts(needs.section, &inventory, &sold.unit);
    let asked = sale::asked(needs.section, watts, asset.decimals)?;
    let offer = sale::offer(&needs, join.is_staked().then_some(device), &runtimes, sold.unit, asked).await?;
    let offer = Offer { encrypted: encrypted.all, ..offer };
    let attester = needs.section.tee.as_ref().map(sale::attester).transpose()?;
    let config = AgentConfig {
        state_dir,
        offer,
        auditors: sale::auditors(needs.section)?,
        gpus: sold.gpus,
        settle_amount: Money::parse("5", asset.decimals).context("the quote asset has too few decimals")?,
        tick: Duration::from_secs(1),
        heartbeat: Duration::from_secs(needs.section.heartbeat.max(1)),
        max_input: Bytes::gib(256),
        sources: SourcePolicy { allow_private: needs.section.private_inputs, ..SourcePolicy::default() },
        input_cache: sale::input_cache(needs.section)?,
        rules: sale::rules(&needs.section.rules)?,
        lending: sale::lending(needs.section)?,
        follow: sale::follow(needs.section, asked, asset.decimals)?,
        keep: Seconds::new(needs.section.keep),
        encrypts: encrypted.work,
        default_job,
    };
    let parts = Parts {
        ledger: needs.ledger,
        transport: needs.transport,
        runtimes,
        store: needs.store,
        key: needs.key,
        clock: needs.clock,
        attester,
        gpus: if needs.section.slurm.is_some() { None } else { Some(Arc::new(AllGpus::default())) },
    };
    Ok(Agent::start(config, parts).await?)
}

/// Answers watchers for the device from now on.
async fn answer(
    needs: &Needs<'_>,
    device: DeviceId,
    key: SigningKey,
    hardware: attest::Hardware,
) -> anyhow::Result<()> {
    let answers = attest::Needs {
        profile: needs.profile,
        ledger: needs.ledger.clone(),
        transport: needs.transport.clone(),
        store: needs.store.clone(),
        device,
        key,
    };
    attest::start(answers, hardware).await.context("watchers cannot be answered")
}

/// Moves earnings to where the owner wants them, while the node runs.
fn pay_out(needs: &Needs<'_>, asset: &Asset, bonds: Money, device: DeviceId) -> anyhow::Result<()> {
    if let Some(section) = &needs.section.payout {
        let payout = Payout::of(section, asset, bonds, device)?;
        tokio::spawn(payout.follow(needs.ledger.clone(), needs.clock.clone(), needs.shutdown.clone()));
    }
    Ok(())
}

/// What answers watchers. A cluster's memory is not this machine's, so that nobody walks through it.
fn hardware(needs: &Needs<'_>, inventory: &Inventory, sold: &Sold) -> attest::Hardware {
    // A cut card computes nothing by Vulkan, and another one is not what is sold.
    if sold_first(inventory, sold).is_some_and(Gpu::is_slice) {
        return attest::processor();
    }
    let is_walked = needs.section.memory_walk && needs.section.slurm.is_none();
    let walk = needs.profile.walk.as_ref().filter(|_| is_walked);
    attest::hardware(sold_first(inventory, sold).map(|gpu| gpu.name.as_str()), walk)
}

/// What runtimes know of the accelerators that are sold.
#[derive(Debug)]
pub(crate) struct Cards {
    /// How containers get them.
    mode: GpuMode,
    /// Which driver images have to suit.
    nvidia: Nvidia,
    /// Where jobs that have some run.
    places: Places,
}

impl Cards {
    /// As for cards like this one; their jobs run anywhere.
    pub(crate) fn like(first: Option<&Gpu>) -> Self {
        let nvidia = first.map_or_else(Nvidia::default, |gpu| Nvidia { driver: gpu.driver, cuda: gpu.cuda });
        Self { mode: gpu_mode(first.map(|gpu| gpu.vendor)), nvidia, places: Places::default() }
    }
}

/// The first accelerator that is sold; all others are like it.
fn sold_first<'a>(inventory: &'a Inventory, sold: &Sold) -> Option<&'a Gpu> {
    let first = sold.gpus.first()?;
    inventory.gpus.iter().find(|gpu| gpu.index == *first)
}

/// How containers get accelerators of this maker.
const fn gpu_mode(vendor: Option<Vendor>) -> GpuMode {
    match vendor {
        Some(Vendor::Nvidia) => GpuMode::Cdi,
        Some(Vendor::Amd) => GpuMode::Rocm,
        Some(Vendor::Intel) => GpuMode::Render,
        Some(Vendor::Other) | None => GpuMode::Off,
    }
}

/// Where leases work: a cluster's nodes have to see it.
fn state_dir(needs: &Needs<'_>) -> anyhow::Result<PathBuf> {
    let cluster = slurm::section(needs.section)?;
    Ok(cluster.map_or_else(|| needs.data_dir.join("provider"), |cluster| cluster.directory.join("agent")))
}

fn device_key(needs: &Needs<'_>) -> anyhow::Result<SigningKey> {
    keys::wallet(&needs.data_dir.join("device"), needs.password_file)
}

/// The runtimes that the configuration names, each with its state below `state_dir`; what they start is `owner`'s.
pub(crate) fn runtimes(
    section: &ProviderSection,
    owner: Address,
    state_dir: &Path,
    cards: &Cards,
) -> anyhow::Result<BTreeMap<&'static str, Arc<dyn Runtime>>> {
    let mut runtimes: BTreeMap<&'static str, Arc<dyn Runtime>> = BTreeMap::new();
    for name in &section.runtimes {
        let state_dir = state_dir.join(name);
        match name.as_str() {
            PROCESS => {
                let shim = std::env::current_exe().context("this program's own path is unknown")?;
                let config =
                    ProcessConfig { places: cards.places.clone(), ..ProcessConfig::new(state_dir, shim) };
                let runtime = ProcessRuntime::new(config)?;
                runtimes.insert(PROCESS, Arc::new(runtime));
            }
            DOCKER => {
                let mut config = DockerConfig::new(owner.to_string(), state_dir);
                config.gpus = cards.mode;
                config.nvidia = cards.nvidia;
                config.places = cards.places.clone();
                config.cache = sale::image_cache(section)?;
                config.bandwidth = section.bandwidth;
                if config.bandwidth == Some(0) {
                    bail!(
                        "`provider.bandwidth` in node.toml is 0; leave it out for no cap, or offer no Internet"
                    );
                }
                of_engine(&mut config, section);
                config.signed = sale::signed_images(section)?;
                runtimes.insert(DOCKER, Arc::new(DockerRuntime::connect(config)?));
            }
            SLURM => {
                runtimes.insert(SLURM, Arc::new(slurm::runtime(section)?));
            }
            other => bail!(
                "`provider.runtimes` in node.toml: there is no runtime `{other}`; use process, docker or slurm"
            ),
        }
    }
    if runtimes.is_empty() {
        bail!("`provider.runtimes` in node.toml is empty; use process, docker or slurm");
    }
    Ok(runtimes)
}

/// Which engine it is, and which of its runtimes leases get.
fn of_engine(config: &mut DockerConfig, section: &ProviderSection) {
    config.sandbox = section.sandbox.clone();
    if let Some(host) = &section.docker_host {
        config.host.clone_from(host);
    }
}
