//! How the OpenAPI document shows the market's own types, which know nothing of HTTP. A test holds each against the real one.

#![expect(dead_code, reason = "described, never built: the real values come from the types named here")]

use utoipa::ToSchema;

/// A job and everything that was tried for it.
#[derive(ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobSchema {
    /// The job.
    id: String,
    /// The job file as it was read.
    spec: serde_json::Value,
    /// Local inputs, by the hash of their content.
    inputs: Vec<serde_json::Value>,
    /// Inputs in stores, of which every attempt gets new addresses.
    stored: Vec<serde_json::Value>,
    /// The image's archive, where it is one.
    image: Option<serde_json::Value>,
    /// Where outputs are put.
    output_dir: String,
    /// In seconds since 1970.
    submitted_at: u64,
    /// The leases, in order; the last one is the current.
    attempts: Vec<AttemptSchema>,
    /// `{"state": "placing", "problem"}`, `{"state": "leased"}` or `{"state": "ended", "code", "reason"}`.
    state: serde_json::Value,
    /// Somebody asked to stop it.
    stop_requested: bool,
    /// Vouchers were signed ahead.
    unattended: bool,
    /// The node that meters it, where that is another one.
    meter: Option<serde_json::Value>,
    /// What it saved of its progress and is here: `number`, `attempt`, `at` in seconds since 1970, and its `files`.
    checkpoint: Option<serde_json::Value>,
    /// How many checkpoints were brought here.
    checkpoints: u32,
    /// Those that lie in the buyer's own store too, the newest last: `number`, `key`, and `at` in seconds since 1970.
    offsite: Vec<serde_json::Value>,
}

/// One lease of a job.
#[derive(ToSchema)]
#[schema(as = Attempt)]
pub(crate) struct AttemptSchema {
    /// With whom.
    provider: String,
    /// The lease's terms, vouchers and the provider's last report.
    supervision: serde_json::Value,
    /// Who signs its vouchers, where that is another node.
    delegate: Option<serde_json::Value>,
    /// How many vouchers were signed.
    vouchers: u32,
    /// The checkpoint that it went on from.
    resumed: Option<u32>,
    /// The newest of its provider's snapshots that is here.
    saved: u64,
    /// How it ended.
    outcome: Option<serde_json::Value>,
    /// What the chain says was paid in the end, in base units.
    settled: Option<serde_json::Value>,
}

/// A signed offer, as the directory holds it.
#[derive(ToSchema)]
#[schema(as = Offer)]
pub(crate) struct OfferSchema {
    /// The seller.
    provider: String,
    /// Its device.
    device: String,
    /// Where the mesh finds it.
    mesh_key: String,
    /// Grows with every offer.
    sequence: u64,
    /// In seconds since 1970.
    issued_at: u64,
    /// In seconds since 1970.
    expires_at: u64,
    /// What starts workloads.
    runtimes: serde_json::Value,
    /// What a unit consists of.
    unit: serde_json::Value,
    /// How many units there are.
    units: u8,
    /// How many are free.
    free_units: u8,
    /// Where.
    region: serde_json::Value,
    /// Base units a second, scaled by 10^18.
    prices: serde_json::Value,
    /// What the provider asks of terms.
    conditions: serde_json::Value,
    /// What workloads reach.
    network: serde_json::Value,
    /// Ports that may be opened.
    ports: Vec<serde_json::Value>,
    /// What stands behind it.
    trust: serde_json::Value,
    /// Digest of the terms of service.
    terms_of_service: String,
    /// The chain's parameter version.
    version: u32,
    /// How the mesh reaches it.
    address: Option<String>,
    /// Kinds of trusted execution that it claims, added up: 1 TDX, 2 SGX, 4 SEV-SNP, 8 Nitro, 16 NVIDIA.
    tees: u32,
    /// A job's work directory is encrypted on disk.
    encrypted: bool,
    /// Who attests on chain that it stands there, and until when.
    attested: Vec<serde_json::Value>,
}

/// Where a job would run, and why other offers would not do.
#[derive(ToSchema)]
#[schema(as = Plan)]
pub(crate) struct PlanSchema {
    /// The best first.
    choices: Vec<serde_json::Value>,
    /// The most frequent reason first.
    rejections: Vec<serde_json::Value>,
    /// Live offers.
    offers: usize,
}

/// The state of a lease as its provider sees it.
#[derive(ToSchema)]
#[schema(as = Report)]
pub(crate) struct ReportSchema {
    /// The lease.
    lease: String,
    /// Grows with every change.
    revision: u64,
    /// Where the work stands.
    stage: serde_json::Value,
    /// When the job ran.
    run: serde_json::Value,
    /// How it ended.
    exit: Option<serde_json::Value>,
    /// What it consumed.
    usage: serde_json::Value,
    /// What the best voucher held promises, in base units.
    paid: u128,
    /// That voucher.
    voucher: Option<serde_json::Value>,
    /// When the job was told that its spot lease is taken back, in seconds since 1970.
    reclaimed: Option<u64>,
    /// What it left.
    outputs: Vec<serde_json::Value>,
    /// What it consumed, signed by the provider, once its job is over.
    statement: Option<serde_json::Value>,
    /// When the owner's hours end or maintenance begins, where a spot lease is taken back for that, in seconds since 1970.
    lent_until: Option<u64>,
}
