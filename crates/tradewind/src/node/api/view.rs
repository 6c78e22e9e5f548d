//! What the local API takes and tells.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tradewind_proto::challenge::MemoryRate;
use tradewind_proto::evidence::Level;
use tradewind_proto::ids::{DeviceId, JobId, LeaseId};
use tradewind_proto::profile::Asset;
use tradewind_proto::units::Seconds;
use tradewind_proto::workload::Secrets;
use utoipa::ToSchema;

/// Who the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Status {
    /// The wallet's account.
    pub(crate) account: String,
    /// The mesh key.
    pub(crate) mesh_key: String,
    /// Where the mesh reaches it.
    pub(crate) mesh_address: String,
    /// The network's name.
    pub(crate) network: String,
    /// What leases are paid in.
    #[schema(value_type = AssetView)]
    pub(crate) asset: Asset,
    /// Roles that run.
    pub(crate) roles: Vec<String>,
    /// The explorer's URL.
    pub(crate) explorer: Option<String>,
    /// The ledger's JSON-RPC URL.
    pub(crate) rpc: Option<String>,
    /// The URL of its relayer role.
    pub(crate) relayer: Option<String>,
    /// Who meters jobs that name nobody; this node where absent.
    #[serde(default)]
    pub(crate) meter: Option<String>,
    /// The process.
    pub(crate) pid: u32,
    /// Started in the background: it outlives the command that started it.
    #[serde(default)]
    pub(crate) background: bool,
    /// The program's version.
    #[serde(default)]
    pub(crate) version: String,
}

/// How fast the node's line is, in bytes a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum LineView {
    /// As it was measured.
    Measured {
        /// The mesh key of the node with which.
        peer: String,
        /// What this node received.
        received: u64,
        /// What it sent.
        sent: u64,
    },
    /// It was not measured.
    Unmeasured {
        /// Why.
        problem: String,
    },
}

/// A job to be run. The file's text is checked again by the node.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct NewJob {
    /// For errors.
    pub(crate) file: String,
    /// The job file.
    pub(crate) text: String,
    /// Local inputs are relative to it.
    #[schema(value_type = String)]
    pub(crate) base_dir: PathBuf,
    /// Where outputs are put.
    #[schema(value_type = String)]
    pub(crate) output_dir: PathBuf,
    /// The values of its secrets, by name; of its stores' keys, `s3.access_key`, `s3.secret_key`, `s3.session_token`, `hf.token`
    /// and `git.token`.
    #[schema(value_type = Object)]
    pub(crate) secrets: Secrets,
    /// Sign vouchers ahead, so that the job goes on when this node is gone.
    #[serde(default)]
    pub(crate) unattended: bool,
    /// Who meters it: a configured name, a mesh key, an address, or `own`; the configured meter where absent.
    #[serde(default)]
    pub(crate) meter: Option<String>,
    /// Seconds that its sandbox stays after it ended by itself; as the job file says where absent.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    pub(crate) keep: Option<Seconds>,
    /// Seconds without use after which it is stopped; as the job file says where absent.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    pub(crate) idle_stop: Option<Seconds>,
}

/// The id of a job.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub(crate) struct Created {
    /// The id.
    #[schema(value_type = String)]
    pub(crate) id: JobId,
}

/// A secret that was generated for a job.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct GeneratedSecret {
    /// Its value, for the job's owner alone.
    pub(crate) value: String,
}

/// A piece of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct LogPiece {
    /// The text; bytes that are no text are replaced.
    pub(crate) text: String,
    /// Where the next piece begins.
    pub(crate) next: u64,
}

/// The account's money, in base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct WalletView {
    /// The account.
    pub(crate) account: String,
    /// The quote asset.
    #[schema(value_type = AssetView)]
    pub(crate) asset: Asset,
    /// In the wallet itself.
    pub(crate) wallet: u128,
    /// Free inside the contract.
    pub(crate) free: u128,
}

/// A token that leases are paid in, or that is staked.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Asset)]
pub(crate) struct AssetView {
    /// For people.
    pub(crate) symbol: String,
    /// Its contract.
    pub(crate) address: String,
    /// Places after the point.
    pub(crate) decimals: u8,
    /// How it takes a signed deposit: `erc3009`, `erc2612` or `plain`.
    pub(crate) kind: String,
}

/// Money to move between the wallet and its free balance in the contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Transfer {
    /// In whole tokens of the quote asset, such as `12.5`; everything where absent.
    pub(crate) amount: Option<String>,
    /// Who receives a withdrawal; the wallet itself where absent.
    #[serde(default)]
    pub(crate) to: Option<String>,
}

/// The machine as a provider. Amounts in base units of the quote asset, stakes in those of what is staked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ProviderView {
    /// The account.
    pub(crate) account: String,
    /// The quote asset.
    #[schema(value_type = AssetView)]
    pub(crate) asset: Asset,
    /// What is staked.
    #[schema(value_type = AssetView)]
    pub(crate) staked: Asset,
    /// The role runs in this node.
    pub(crate) serving: bool,
    /// New leases are taken.
    pub(crate) accepting: bool,
    /// Why the owner's hours or limits keep the machine now; absent while it lends.
    #[serde(default)]
    pub(crate) kept: Option<String>,
    /// Accelerators whose units are not offered, by their numbers, with the reason.
    #[serde(default)]
    pub(crate) ill: BTreeMap<u32, String>,
    /// When that changes, in seconds since 1970, where it is known.
    #[serde(default)]
    pub(crate) until: Option<u64>,
    /// Its offer is out.
    #[serde(default)]
    pub(crate) offered: bool,
    /// Neighbours in the mesh that pass the offer on.
    #[serde(default)]
    pub(crate) heard_by: usize,
    /// Leases that are hosted now.
    pub(crate) leases: usize,
    /// The owner's own job runs, as nobody leases the machine.
    #[serde(default)]
    pub(crate) default_job: bool,
    /// Its offer is on the unstaked tier.
    #[serde(default)]
    pub(crate) unstaked: bool,
    /// The newest job of the network's sponsor, while it is here.
    #[serde(default)]
    pub(crate) test_job: Option<TestJobView>,
    /// Who attests on chain that the device stands where its offer says, as the offer repeats it.
    #[serde(default)]
    pub(crate) attested: Vec<PlaceWordView>,
    /// The device, where the account has added one.
    pub(crate) device: Option<DeviceView>,
    /// Free inside the contract, for lease bonds.
    pub(crate) free: u128,
}

/// A job by which the network's sponsor tests a new device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TestJobView {
    /// Its lease.
    #[schema(value_type = String)]
    pub(crate) lease: LeaseId,
    /// It ended well, or not; absent while it runs.
    pub(crate) passed: Option<bool>,
    /// Why it did not.
    pub(crate) problem: Option<String>,
    /// What it paid until now, in base units of the quote asset.
    pub(crate) paid: u128,
}

/// A stake for a device of another account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct StakeRequest {
    /// Which.
    #[schema(value_type = String)]
    pub(crate) device: DeviceId,
    /// How much, in whole tokens of what the network stakes.
    pub(crate) amount: String,
}

/// A device that this account sponsors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct BackedDevice {
    /// As the registry knows it.
    pub(crate) device: DeviceView,
    /// What is staked.
    #[schema(value_type = AssetView)]
    pub(crate) staked: Asset,
    /// Of this account, free in the contract.
    pub(crate) free: u128,
}

/// A device as the registry knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeviceView {
    /// Its id.
    pub(crate) id: String,
    /// `ready`, `jailed`, `unbonding`, `lapsed` or `unstaked`.
    pub(crate) state: String,
    /// Units that it leases out.
    pub(crate) units: u8,
    /// What stands behind it.
    pub(crate) stake: u128,
    /// Who stakes it and gets the stake back.
    #[serde(default)]
    pub(crate) sponsor: String,
    /// Its place in the registry is paid until then, in seconds since 1970.
    pub(crate) rent_paid_until: u64,
    /// When a jailed device may lend again, in seconds since 1970.
    #[serde(default)]
    pub(crate) jailed_until: Option<u64>,
    /// When the unbonding stake may be withdrawn, in seconds since 1970.
    pub(crate) unbonds_at: Option<u64>,
}

/// An auditor's word for a device's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PlaceWordView {
    /// The auditor.
    pub(crate) issuer: String,
    /// Until when it holds, in seconds since 1970.
    pub(crate) expires: u64,
}

/// A place to attest.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct PlaceRequest {
    /// The device that stands there.
    #[schema(value_type = String)]
    pub(crate) device: DeviceId,
    /// An ISO 3166 country code in upper case.
    pub(crate) country: String,
    /// The label that the device's offers state for it; none where absent.
    #[serde(default)]
    pub(crate) label: Option<String>,
    /// For how many seconds it holds.
    #[schema(value_type = u64)]
    pub(crate) span: Seconds,
}

/// An attestation of a device's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AttestationView {
    /// Its name on chain.
    pub(crate) id: String,
    /// Who vouches.
    pub(crate) issuer: String,
    /// The device.
    pub(crate) device: String,
    /// Digest of the place.
    pub(crate) document: String,
    /// The place, where its digest is that of what the device's live offer states: `DE`, `DE/fra-1`.
    pub(crate) place: Option<String>,
    /// Until when it holds, in seconds since 1970.
    pub(crate) expires: u64,
    /// It is neither expired nor taken back.
    pub(crate) holds: bool,
}

/// The node as a watcher. Stakes in base units of the stake asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct WatcherView {
    /// The epoch that the chain is in.
    pub(crate) epoch: u64,
    /// Seats of the epoch's roster.
    pub(crate) roster: u32,
    /// What watchers may do, by their number: `observe`, `jail` or `full`.
    #[schema(value_type = String)]
    pub(crate) level: Level,
    /// What seats stake.
    #[schema(value_type = AssetView)]
    pub(crate) staked: Asset,
    /// Devices that this node watches.
    pub(crate) devices: usize,
    /// Cases that are not over.
    pub(crate) cases: Vec<String>,
    /// This node's seats.
    pub(crate) seats: Vec<SeatView>,
}

/// A seat of the court.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct SeatView {
    /// Its number.
    pub(crate) seat: u32,
    /// The key that votes.
    pub(crate) key: String,
    /// What it staked.
    pub(crate) stake: u128,
    /// Votes withheld, and lazy ones; with enough of them it loses its place.
    pub(crate) strikes: u8,
}

/// Devices' reputations as one node computed them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ReputationsView {
    /// Watchers' pages of testimony that they rest on.
    pub(crate) pages: usize,
    /// The best first.
    pub(crate) devices: Vec<ReputationView>,
}

/// A device's reputation. Shares in billionths; each but the score is a lower bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ReputationView {
    /// The device.
    pub(crate) device: String,
    /// The product of the four factors; nothing while evidence is too little.
    pub(crate) score: Option<u32>,
    /// What there is too little of.
    pub(crate) lacks: Vec<String>,
    /// The share of probes that it answered.
    pub(crate) uptime: u32,
    /// The share of hardware challenges that it passed.
    pub(crate) challenges: u32,
    /// How much was paid by how many buyers.
    pub(crate) diversity: u32,
    /// One without strikes.
    pub(crate) strikes: u32,
    /// Pieces of evidence.
    pub(crate) evidence: usize,
    /// How fast its memory was last measured to be: bytes a second `at_least` and `at_most`, and where the network has a class for what
    /// its live offer names, the `class` and how it is `placed`.
    #[schema(value_type = Option<Object>)]
    pub(crate) memory: Option<MemoryRate>,
}

/// The node as a meter. Amounts in base units of the quote asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct MeterView {
    /// The key that signs vouchers.
    pub(crate) signer: String,
    /// What buyers name it by.
    pub(crate) address: String,
    /// The accounts that it meters for.
    pub(crate) serves: Vec<String>,
    /// The quote asset.
    #[schema(value_type = AssetView)]
    pub(crate) asset: Asset,
    /// What it meters now.
    pub(crate) leases: Vec<MeteredLease>,
}

/// A lease that the node meters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct MeteredLease {
    /// Which.
    #[schema(value_type = String)]
    pub(crate) lease: LeaseId,
    /// For whom.
    pub(crate) buyer: String,
    /// Who is paid.
    pub(crate) provider: String,
    /// The largest amount that was signed.
    pub(crate) signed: u128,
    /// The largest amount that the provider acknowledged.
    pub(crate) acknowledged: u128,
    /// How many vouchers were signed.
    pub(crate) vouchers: u32,
    /// When the provider last answered, in seconds since 1970.
    pub(crate) heard_at: u64,
    /// Nothing is left to sign.
    pub(crate) over: bool,
}

/// An error as the API tells it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Problem {
    /// What happened.
    pub(crate) error: String,
    /// What to do.
    pub(crate) hint: String,
}
