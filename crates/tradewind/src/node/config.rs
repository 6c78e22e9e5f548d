//! A node's configuration: which roles it has, and what each needs. `node.toml`, with unknown fields as errors.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use alloy::primitives::Address;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use tradewind_chain::client::deploy::{BeaconChoice, StakeToken, Timings};
use tradewind_mesh::PeerAddr;
use tradewind_provider::docker::Sandbox;

/// What one node does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeConfig {
    /// Keys, stores and work directories live here.
    pub(crate) data_dir: PathBuf,
    /// The network's profile. The node that hosts the ledger writes it.
    pub(crate) profile: PathBuf,
    /// Whose signature on the profile counts; anybody's where absent.
    pub(crate) publisher: Option<Address>,
    /// The wallet's password stands in this file, readable by its owner only.
    pub(crate) password_file: Option<PathBuf>,
    /// The mesh.
    #[serde(default)]
    pub(crate) mesh: MeshSection,
    /// Hosts a development ledger, with relayer and faucet.
    pub(crate) ledger: Option<LedgerSection>,
    /// Submits for users without gas, on any chain, from this node's own.
    pub(crate) relayer: Option<RelayerSection>,
    /// Sells capacity.
    pub(crate) provider: Option<ProviderSection>,
    /// Runs jobs.
    pub(crate) buyer: Option<BuyerSection>,
    /// Pays a test job on each new device.
    pub(crate) sponsor: Option<SponsorSection>,
    /// Meters leases of buyers that trust it.
    pub(crate) meter: Option<MeterSection>,
    /// Watches devices and sits in the court.
    pub(crate) watcher: Option<WatcherSection>,
    /// Serves the explorer's pages.
    pub(crate) explorer: Option<ExplorerSection>,
    /// Serves a relay for nodes that cannot reach each other.
    pub(crate) relay: Option<RelaySection>,
    /// Serves figures to Prometheus.
    pub(crate) metrics: Option<MetricsSection>,
    /// Sends traces to a collector.
    pub(crate) traces: Option<TracesSection>,
}

/// The mesh endpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MeshSection {
    /// The UDP address to bind.
    pub(crate) bind: SocketAddr,
    /// Addresses that reach this node from outside, where it cannot see them itself.
    pub(crate) external: Vec<SocketAddr>,
    /// Whether strangers may measure their lines with this node's; where absent, if the network starts here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) speed: Option<bool>,
}

impl Default for MeshSection {
    fn default() -> Self {
        Self { bind: SocketAddr::from(([0, 0, 0, 0], 0)), external: Vec::new(), speed: None }
    }
}

/// A development ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LedgerSection {
    /// JSON-RPC.
    #[serde(default = "loopback")]
    pub(crate) rpc: SocketAddr,
    /// Relayer and faucet.
    #[serde(default = "loopback")]
    pub(crate) relayer: SocketAddr,
    /// The chain's id.
    #[serde(default = "chain_id")]
    pub(crate) chain_id: u64,
    /// The explorer's URL, for the profile.
    pub(crate) explorer: Option<String>,
    /// How long the contracts' windows are, fixed when the ledger is made: `development`, `tests` (seconds) or `public`.
    #[serde(default = "timings")]
    pub(crate) timings: Timings,
    /// What is staked, fixed when the ledger is made: `dollars`, or `network-token`, which burns what is slashed.
    #[serde(default)]
    pub(crate) stake: StakeToken,
    /// What lots are drawn by, fixed when the ledger is made: `local`, or `evmnet`, whose rounds watchers have to bring.
    #[serde(default)]
    pub(crate) beacon: BeaconChoice,
    /// Seconds until an empty block follows when nothing happens, so that the chain's time goes on; 0 for none.
    #[serde(default = "block_heartbeat")]
    pub(crate) heartbeat: u64,
}

impl Default for LedgerSection {
    fn default() -> Self {
        let (rpc, relayer) = (loopback(), loopback());
        let (timings, heartbeat) = (timings(), block_heartbeat());
        let (stake, beacon) = (StakeToken::default(), BeaconChoice::default());
        Self { rpc, relayer, chain_id: chain_id(), explorer: None, timings, stake, beacon, heartbeat }
    }
}

/// A relayer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RelayerSection {
    /// Where it listens.
    #[serde(default = "loopback")]
    pub(crate) listen: SocketAddr,
    /// What one submission costs, in whole tokens of the network's quote asset.
    #[serde(default = "relaying_fee")]
    pub(crate) fee: String,
}

/// When what jobs leave on disk is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Encrypt {
    /// Never.
    Off,
    /// Where the file system can.
    Auto,
    /// Always: without it nothing is lent.
    Required,
}

/// What is sold.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProviderSection {
    /// Price of a unit for an hour, in whole tokens of the network's quote asset. Without it, `prices` says.
    pub(crate) price: Option<String>,
    /// Price of a unit that may be reclaimed.
    pub(crate) spot_price: Option<String>,
    /// ISO 3166 country code.
    pub(crate) country: String,
    /// The owner's own name for the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<String>,
    /// Accounts of auditors whose attestations of the place the offer repeats, four at most; anybody's where empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) auditors: Vec<String>,
    /// Units to sell.
    pub(crate) units: u8,
    /// CPUs of a unit; an equal share of the machine's where absent, as for all that follows.
    pub(crate) cpus: Option<u32>,
    /// Memory of a unit.
    pub(crate) memory: Option<String>,
    /// Disk of a unit.
    pub(crate) disk: Option<String>,
    /// Accelerators of a unit.
    pub(crate) gpus: Option<u16>,
    /// Runtimes to use: `process`, `docker`; or `slurm`, alone.
    pub(crate) runtimes: Vec<String>,
    /// The Docker engine's address; `DOCKER_HOST` or the default socket where absent.
    pub(crate) docker_host: Option<String>,
    /// The most that a lease may send to the Internet, and receive, in Mbit/s.
    pub(crate) bandwidth: Option<u32>,
    /// Which leases in `docker` have a kernel of their own: `auto`, `required`, `off`, or by which of the engine's runtimes.
    pub(crate) sandbox: Sandbox,
    /// How much of the images that leases bring `docker` keeps for later ones; `0` for none.
    pub(crate) image_cache: Option<String>,
    /// Images that it never removes, as in `rules.allow_images`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) keep_images: Vec<String>,
    /// Images that `docker` runs with a signature only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) signed_images: Vec<SignedSection>,
    /// When what jobs leave on disk is encrypted.
    pub(crate) encrypt: Encrypt,
    /// The owner's own job for when nobody leases the machine.
    pub(crate) default_job: Option<DefaultJobSection>,
    /// How much of the inputs that leases bring from the web, and that anybody may have, is kept for later ones; `0` for none.
    pub(crate) input_cache: Option<String>,
    /// Inputs may also come from the owner's network: for stores that a house runs for itself.
    pub(crate) private_inputs: bool,
    /// Stake for the device, in whole tokens of what the network stakes; `0` lends on the unstaked tier.
    pub(crate) stake: String,
    /// The account that stakes the device, and gets the stake back; this node's own where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sponsor: Option<String>,
    /// Free balance to keep for lease bonds, in whole tokens of the quote asset.
    pub(crate) bonds: String,
    /// Where earnings go; they stay in the contract's balance where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payout: Option<PayoutSection>,
    /// Seconds between two offers.
    pub(crate) heartbeat: u64,
    /// Seconds of warning before a spot lease is taken back.
    pub(crate) notice: u64,
    /// Seconds for which log and outputs of a lease that is over wait for a buyer that has not taken them.
    pub(crate) keep: u64,
    /// Whether watchers may have the memory measured while no lease has it; without, no class is shown for the device.
    pub(crate) memory_walk: bool,
    /// What the owner keeps of the machine.
    pub(crate) reserve: Option<ReserveSection>,
    /// What an hour of each resource costs.
    pub(crate) prices: Option<PricesSection>,
    /// What spot leases cost in percent of the price on demand, instead of `spot_price`.
    pub(crate) spot_percent: Option<u32>,
    /// Of each GiB that leases send; it is not counted where absent.
    pub(crate) egress_price: Option<String>,
    /// What the machine's electricity costs, below which nothing is sold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) power: Option<PowerSection>,
    /// What reserved leases cost less, in percent; none are sold where absent.
    pub(crate) reserved_discount: Option<u8>,
    /// How the price follows the market's, instead of `price` and `prices`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) follow: Option<FollowSection>,
    /// Whom and what the owner allows.
    pub(crate) rules: RulesSection,
    /// When the owner lends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schedule: Option<ScheduleSection>,
    /// From where on the owner keeps the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limits: Option<LimitsSection>,
    /// How the machine shows that it runs in trusted execution.
    pub(crate) tee: Option<TeeSection>,
    /// The cluster that is lent, for the runtime `slurm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slurm: Option<SlurmSection>,
}

/// Images, and whose signature they need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignedSection {
    /// Which, as in `rules.allow_images`.
    pub(crate) images: Vec<String>,
    /// Files with public keys in PEM; one of them has to have signed.
    pub(crate) keys: Vec<PathBuf>,
}

/// A Slurm cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SlurmSection {
    /// A directory of the node's own, by the same path on this machine and on the cluster's nodes.
    pub(crate) directory: PathBuf,
    /// Where leases run: a partition from which the owner's jobs take their place.
    #[serde(default = "lent")]
    pub(crate) partition: String,
    /// Who is charged, where the cluster keeps accounts.
    pub(crate) account: Option<String>,
    /// The quality of service.
    pub(crate) qos: Option<String>,
    /// Where `sbatch` and the others are; `PATH` where absent.
    pub(crate) programs: Option<PathBuf>,
    /// The accelerators of a unit, where `provider.gpus` sells some.
    pub(crate) gpu: Option<SlurmGpuSection>,
}

/// Accelerators of a cluster, which this machine cannot see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SlurmGpuSection {
    /// Their name in Slurm without a number: `gpu:a100`.
    pub(crate) gres: String,
    /// Their name in offers: `A100`.
    pub(crate) model: String,
    /// Memory of each.
    pub(crate) vram: String,
}

fn lent() -> String {
    "lent".into()
}

/// An account that earnings are moved to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PayoutSection {
    /// The account.
    pub(crate) to: String,
    /// What is moved at once at least, in whole tokens of the quote asset.
    #[serde(default = "one_token")]
    pub(crate) least: String,
    /// Seconds between two payouts.
    #[serde(default = "an_hour")]
    pub(crate) every: u64,
}

fn one_token() -> String {
    "1".into()
}

const fn an_hour() -> u64 {
    3_600
}

/// What electricity costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PowerSection {
    /// A kWh, in whole tokens of the quote asset.
    pub(crate) price: String,
    /// What a unit draws at work; as the hardware says where absent.
    pub(crate) watts: Option<u32>,
}

/// A price that follows the middle price of live offers of a unit's like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FollowSection {
    /// Of that price, in percent.
    #[serde(default = "all_of_it")]
    pub(crate) percent: u32,
    /// An hour never costs less.
    pub(crate) floor: String,
    /// Nor more; asked too where nobody sells a unit's like.
    pub(crate) ceiling: String,
}

const fn all_of_it() -> u32 {
    100
}

/// The owner's hours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ScheduleSection {
    /// By whose clock, such as `Europe/Berlin`; this machine's where absent.
    pub(crate) time_zone: Option<String>,
    /// When it is lent, such as `mon-fri 20:00-07:00` and `sat-sun`; always where empty.
    pub(crate) lend: Vec<String>,
    /// When nothing is lent all the same, such as `2027-03-01T02:00 2h`.
    pub(crate) maintenance: Vec<String>,
}

/// The owner's limits; nothing is looked at where absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsSection {
    /// The highest load beside leases, in percent of all threads.
    pub(crate) load: Option<u8>,
    /// The highest heat, in degrees Celsius.
    pub(crate) heat: Option<u8>,
    /// How many seconds nobody has to have used a terminal or the desktop.
    pub(crate) idle: Option<u64>,
}

/// Evidence of trusted execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeeSection {
    /// What it shows: `tdx`, `sgx`, `sev-snp`, `nitro`; `nvidia` for the GPUs of every unit.
    pub(crate) kinds: Vec<String>,
    /// The program, with its arguments, that asks the hardware and prints the evidence.
    pub(crate) command: Vec<String>,
}

impl Default for ProviderSection {
    fn default() -> Self {
        Self {
            price: None,
            spot_price: None,
            spot_percent: None,
            egress_price: None,
            power: None,
            country: "ZZ".into(),
            label: None,
            auditors: Vec::new(),
            units: 1,
            cpus: None,
            memory: None,
            disk: None,
            gpus: None,
            runtimes: vec!["process".into()],
            docker_host: None,
            bandwidth: None,
            sandbox: Sandbox::Auto,
            image_cache: None,
            keep_images: Vec::new(),
            signed_images: Vec::new(),
            encrypt: Encrypt::Auto,
            default_job: None,
            input_cache: None,
            private_inputs: false,
            stake: "50".into(),
            sponsor: None,
            bonds: "100".into(),
            payout: None,
            heartbeat: 15,
            notice: 120,
            keep: 86_400,
            memory_walk: true,
            reserve: None,
            prices: None,
            reserved_discount: None,
            follow: None,
            rules: RulesSection::default(),
            schedule: None,
            limits: None,
            tee: None,
            slurm: None,
        }
    }
}

/// What the owner keeps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ReserveSection {
    /// Hardware threads.
    pub(crate) cpus: u32,
    /// Memory.
    pub(crate) memory: Option<String>,
    /// Disk.
    pub(crate) disk: Option<String>,
    /// Accelerators.
    pub(crate) gpus: u16,
}

/// A price list: an hour of each, in whole tokens of the network's quote asset.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PricesSection {
    /// Of a CPU.
    pub(crate) cpu: Option<String>,
    /// Of a GiB of memory.
    pub(crate) memory_gib: Option<String>,
    /// Of a GiB of disk.
    pub(crate) disk_gib: Option<String>,
    /// Of an accelerator.
    pub(crate) gpu: Option<String>,
}

/// Whom and what the owner allows. Empty lists allow everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RulesSection {
    /// Accounts that may lease, when not empty.
    pub(crate) allow_buyers: Vec<String>,
    /// Accounts that may not.
    pub(crate) deny_buyers: Vec<String>,
    /// Images that may run, when not empty; `*` stands for any characters.
    pub(crate) allow_images: Vec<String>,
    /// Images that may not.
    pub(crate) deny_images: Vec<String>,
    /// Images by their digest, or as archives, only.
    pub(crate) pinned_images: bool,
    /// The most leases that one account has at a time.
    pub(crate) leases_per_buyer: Option<u16>,
    /// A unit is never cheaper, an hour, under any kind of lease.
    pub(crate) min_price: Option<String>,
    /// The shortest lease, in seconds.
    pub(crate) min_duration: Option<u64>,
    /// The longest lease, in seconds.
    pub(crate) max_duration: Option<u64>,
}

/// How jobs are bought.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BuyerSection {
    /// How far payment may run ahead of work, in seconds.
    #[serde(default = "slack")]
    pub(crate) slack: u64,
    /// How long a provider may pull data before its time is billed, in seconds.
    #[serde(default = "prepare")]
    pub(crate) prepare: u64,
    /// How long a provider may be silent, in seconds.
    #[serde(default = "patience")]
    pub(crate) patience: u64,
    /// Challenge silent providers on chain.
    #[serde(default)]
    pub(crate) challenge: bool,
    /// Open a bonded case about a silent provider where no watcher has within twice the patience.
    #[serde(default)]
    pub(crate) sue: bool,
    /// On a development network: ask the faucet for this much when the wallet is empty, in whole tokens.
    pub(crate) faucet: Option<String>,
    /// Who meters jobs that name nobody: a name under `meters`, a mesh key, or an address; this node where absent.
    pub(crate) meter: Option<String>,
    /// Nodes that may meter this buyer's jobs, by name: `key@ip:port`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) meters: BTreeMap<String, PeerAddr>,
}

impl Default for BuyerSection {
    fn default() -> Self {
        Self {
            slack: slack(),
            prepare: prepare(),
            patience: patience(),
            challenge: false,
            sue: false,
            faucet: None,
            meter: None,
            meters: BTreeMap::new(),
        }
    }
}

/// What test jobs may cost, in whole tokens of the buyer's wallet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SponsorSection {
    /// One of them.
    pub(crate) each: String,
    /// All of any 24 hours.
    pub(crate) daily: String,
    /// The most devices of one account in 24 hours.
    pub(crate) per_owner: u16,
    /// What devices that run images only get; they get no test where absent.
    pub(crate) image: Option<String>,
}

impl Default for SponsorSection {
    fn default() -> Self {
        Self { each: "0.05".into(), daily: "5".into(), per_owner: 4, image: None }
    }
}

/// For whom this node meters. It signs their vouchers with a key of its own, and needs no money.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MeterSection {
    /// The accounts of the buyers; nobody else is served.
    #[serde(default)]
    pub(crate) serves: BTreeSet<Address>,
    /// The most leases of one of them at once.
    #[serde(default = "assignments")]
    pub(crate) assignments: usize,
}

/// Seats of the court, and how they watch.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WatcherSection {
    /// How many seats to stake, 1 to 256.
    pub(crate) seats: u16,
    /// Seconds between two questions to a device, on average.
    pub(crate) interval: u64,
    /// Milliseconds that a device may take to answer.
    pub(crate) window: u64,
    /// So many questions in a row without an answer mean "down".
    pub(crate) misses: u32,
    /// Free balance to keep for cases and fees, in whole tokens of the network's quote asset.
    pub(crate) bonds: String,
    /// drand's relays, the preferred one first; nobody is asked where empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) drand: Vec<String>,
}

impl Default for WatcherSection {
    fn default() -> Self {
        Self { seats: 1, interval: 60, window: 3_000, misses: 3, bonds: "20".into(), drand: Vec::new() }
    }
}

/// The explorer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplorerSection {
    /// Where it listens.
    #[serde(default = "loopback")]
    pub(crate) listen: SocketAddr,
}

/// Figures for Prometheus.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricsSection {
    /// Where `/metrics` is served; whoever reaches it reads it.
    #[serde(default = "metrics")]
    pub(crate) listen: SocketAddr,
}

/// What runs while nobody leases the machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DefaultJobSection {
    /// A job file.
    pub(crate) file: PathBuf,
    /// Seconds from the last lease's end until it starts.
    #[serde(default = "idle")]
    pub(crate) after: u64,
}

/// Traces for OpenTelemetry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TracesSection {
    /// Where a collector takes OTLP over HTTP, without the path `/v1/traces`.
    pub(crate) endpoint: String,
    /// Headers for it, such as a key, each on a line as `name: value`; readable by its owner only.
    pub(crate) headers_file: Option<PathBuf>,
}

/// A relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RelaySection {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
}

impl NodeConfig {
    /// A node without roles, as yet.
    pub(crate) fn new(data_dir: PathBuf, profile: PathBuf) -> Self {
        Self {
            data_dir,
            profile,
            publisher: None,
            password_file: None,
            mesh: MeshSection::default(),
            ledger: None,
            relayer: None,
            provider: None,
            buyer: None,
            sponsor: None,
            meter: None,
            watcher: None,
            explorer: None,
            relay: None,
            metrics: None,
            traces: None,
        }
    }

    /// Reads `node.toml`; relative paths in it are relative to the file.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut config: Self =
            toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
        let base = path.parent().unwrap_or_else(|| Path::new("."));
        config.data_dir = base.join(&config.data_dir);
        config.profile = base.join(&config.profile);
        config.password_file = config.password_file.map(|file| base.join(file));
        if let Some(traces) = &mut config.traces {
            traces.headers_file = traces.headers_file.as_ref().map(|file| base.join(file));
        }
        if let Some(job) = config.provider.as_mut().and_then(|provider| provider.default_job.as_mut()) {
            job.file = base.join(&job.file);
        }
        let signed = config.provider.iter_mut().flat_map(|provider| &mut provider.signed_images);
        for key in signed.flat_map(|signed| &mut signed.keys) {
            *key = base.join(&*key);
        }
        Ok(config)
    }

    /// Writes `node.toml`.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let text = toml::to_string(self).context("the configuration cannot be written")?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The names of its roles.
    pub(crate) fn roles(&self) -> Vec<String> {
        let all = [
            ("ledger", self.ledger.is_some()),
            ("relay", self.relay.is_some()),
            ("relayer", self.relayer.is_some()),
            ("provider", self.provider.is_some()),
            ("buyer", self.buyer.is_some()),
            ("sponsor", self.sponsor.is_some()),
            ("meter", self.meter.is_some()),
            ("watcher", self.watcher.is_some()),
            ("explorer", self.explorer.is_some()),
        ];
        all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect()
    }

    /// The socket of the local API.
    pub(crate) fn socket(&self) -> PathBuf {
        self.data_dir.join("node.sock")
    }
}

fn metrics() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9_464))
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

const fn chain_id() -> u64 {
    31_337
}

const fn timings() -> Timings {
    Timings::Development
}

fn relaying_fee() -> String {
    "0.001".into()
}

const fn prepare() -> u64 {
    600
}

const fn block_heartbeat() -> u64 {
    5
}

const fn idle() -> u64 {
    60
}

const fn slack() -> u64 {
    30
}

const fn patience() -> u64 {
    30
}

const fn assignments() -> usize {
    64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, "data_dir = \"d\"\nprofile = \"p\"\n[buyer]\nslak = 3\n").unwrap();
        let error = format!("{:#}", NodeConfig::load(&path).unwrap_err());
        assert!(error.contains("slak") && error.contains("line 4"), "{error}");
    }

    #[test]
    fn a_watcher_contacts_no_relay_that_nobody_named() {
        let config: NodeConfig = toml::from_str("data_dir = \"d\"\nprofile = \"p\"\n[watcher]\n").unwrap();
        assert!(config.watcher.unwrap().drand.is_empty());
    }

    #[test]
    fn a_sandbox_is_chosen_by_a_word_or_by_a_runtimes_name() {
        let read = |line: &str| {
            let text = format!("data_dir = \"d\"\nprofile = \"p\"\n[provider]\n{line}\n");
            toml::from_str::<NodeConfig>(&text).map(|config| config.provider.unwrap().sandbox)
        };
        assert_eq!(read("").unwrap(), Sandbox::Auto);
        assert_eq!(read("sandbox = \"required\"").unwrap(), Sandbox::Required);
        assert_eq!(read("sandbox = \"runsc-kvm\"").unwrap(), Sandbox::Named("runsc-kvm".into()));
        let refused = read("sandbox = \"a runtime\"").unwrap_err().to_string();
        assert!(refused.contains("`auto`, `required`, `off`"), "{refused}");
    }

    #[test]
    fn what_is_saved_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, "data_dir = \"/d\"\nprofile = \"/p\"\n[buyer]\n[provider]\nprice = \"0.2\"\n")
            .unwrap();
        NodeConfig::load(&path).unwrap().save(&path).unwrap();
        let config = NodeConfig::load(&path).unwrap();
        assert_eq!(config.socket(), Path::new("/d/node.sock"));
        assert_eq!(config.provider.unwrap().price.as_deref(), Some("0.2"));
    }
}
