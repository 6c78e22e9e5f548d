//! What the node's roles do, as Prometheus reads it (OpenMetrics text), where `[metrics]` says.
//!
//! A provider's page has its leases by their ids, which the chain shows anyway, and nothing of what runs in them; a buyer's page has its own
//! jobs. Everything is read when it is asked for: nobody scrapes, nothing is spent.
//!
//! | family | unit |
//! |---|---|
//! | `…_cpu_seconds_total`, `…_timestamp_seconds` | seconds; since 1970 |
//! | `…_ratio` | a share, from 0 to 1 |
//! | `…_bytes`, and `…_bytes_total` where it only grows | bytes |
//! | `…_paid`, `…_signed` | the quote asset, whole units |

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio_util::sync::CancellationToken;
use tradewind_buyer::job::record::{JobRecord, JobState};
use tradewind_mesh::Transport as _;
use tradewind_proto::report::{Report, Stage};
use tradewind_proto::units::Money;
use tradewind_proto::workload::Usage;

use super::api::Served;

/// What OpenMetrics calls itself.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Level = Gauge<f64, AtomicU64>;
type Total = Counter<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lease {
    lease: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Job {
    job: String,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct At {
    state: &'static str,
}

/// Serves `/metrics` from now on.
pub(super) async fn start(
    listen: SocketAddr,
    served: Arc<Served>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}; set another `metrics.listen` in node.toml"))?;
    tracing::info!(at = %listener.local_addr().unwrap_or(listen), "metrics are served");
    let router = axum::Router::new().route("/metrics", get(page)).with_state(served);
    let task = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
    tokio::spawn(async move {
        if let Err(error) = task.await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    Ok(())
}

async fn page(State(served): State<Arc<Served>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &registry(&served)) {
        Ok(()) => ([(header::CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn registry(served: &Served) -> Registry {
    let mut registry = Registry::with_prefix("tradewind");
    let status = &served.status;
    let labels = [("version", status.version.clone()), ("roles", status.roles.join(","))];
    registry.register("node", "This node", Info::new(labels.to_vec()));
    let records = Level::default();
    records.set(count(served.mesh.records().len()));
    registry.register("mesh_records", "Live records of the directory", records);
    let decimals = served.asset.decimals;
    if let Some(provider) = &served.provider {
        let accepting = Level::default();
        accepting.set(f64::from(u8::from(provider.is_accepting())));
        registry.register("provider_accepting", "New leases are taken", accepting);
        let ill = Level::default();
        ill.set(count(provider.ailments().len()));
        registry.register("provider_ill_accelerators", "Accelerators that are not offered", ill);
        leases(&mut registry, &provider.reports(), decimals);
    }
    if let Some(buyer) = &served.buyer {
        jobs(&mut registry, &buyer.jobs(), decimals);
    }
    registry
}

/// What a provider hosts.
fn leases(registry: &mut Registry, reports: &[Report], decimals: u8) {
    let stages = Family::<At, Level>::default();
    let (paid, consumed) = (Family::<Lease, Level>::default(), Consumed::default());
    for report in reports {
        stages.get_or_create(&At { state: stage(&report.stage) }).inc();
        let lease = Lease { lease: report.lease.to_string() };
        paid.get_or_create(&lease).set(whole(report.paid, decimals));
        consumed.add(&lease, &report.usage);
    }
    registry.register("leases", "Leases that are hosted, by where their work stands", stages);
    registry.register("lease_paid", "What the best voucher of a lease promises", paid);
    consumed.register(registry, "lease", "a lease");
}

/// What a buyer has running or waiting.
fn jobs(registry: &mut Registry, jobs: &[JobRecord], decimals: u8) {
    let states = Family::<At, Level>::default();
    let [signed, attempts, saved] = [0; 3].map(|_| Family::<Job, Level>::default());
    let consumed = Consumed::default();
    for record in jobs {
        let state = match record.state {
            JobState::Placing { .. } => "placing",
            JobState::Leased => "leased",
            JobState::Ended { .. } => "ended",
        };
        states.get_or_create(&At { state }).inc();
        if record.is_over() {
            continue;
        }
        let job = Job { job: record.id.to_string(), name: record.spec.name.clone() };
        let spent = record.attempts.iter().fold(Money::ZERO, |sum, attempt| {
            sum.checked_add(attempt.supervision.signed).unwrap_or(Money::MAX)
        });
        signed.get_or_create(&job).set(whole(spent, decimals));
        attempts.get_or_create(&job).set(count(record.attempts.len()));
        if let Some(checkpoint) = &record.checkpoint {
            saved.get_or_create(&job).set(number(checkpoint.at.unix()));
        }
        if let Some(report) = record.current().and_then(|attempt| attempt.supervision.report.as_ref()) {
            consumed.add(&job, &report.usage);
        }
    }
    registry.register("jobs", "Jobs, by state", states);
    registry.register("job_signed", "What the vouchers of a job promise", signed);
    registry.register("job_attempts", "Leases that a job tried", attempts);
    registry.register_with_unit(
        "job_saved_timestamp",
        "When the newest checkpoint that is here was taken",
        Unit::Seconds,
        saved,
    );
    consumed.register(registry, "job", "a job's current lease");
}

/// What workloads consumed, by whose they are.
struct Consumed<L> {
    cpu: Family<L, Total>,
    egress: Family<L, Total>,
    ingress: Family<L, Total>,
    memory: Family<L, Level>,
    peak: Family<L, Level>,
    disk: Family<L, Level>,
    accelerators: Family<L, Level>,
    vram: Family<L, Level>,
}

impl<L: Clone + Eq + std::hash::Hash> Default for Consumed<L> {
    fn default() -> Self {
        let ([cpu, egress, ingress], [memory, peak, disk, accelerators, vram]) =
            ([0; 3].map(|_| Family::default()), [0; 5].map(|_| Family::default()));
        Self { cpu, egress, ingress, memory, peak, disk, accelerators, vram }
    }
}

impl<L> Consumed<L>
where
    L: Clone + Eq + std::hash::Hash + EncodeLabelSet + std::fmt::Debug + Send + Sync + 'static,
{
    fn add(&self, whose: &L, usage: &Usage) {
        self.cpu.get_or_create(whose).inc_by(number(usage.cpu_ms) / 1_000.0);
        for (family, size) in [(&self.egress, usage.egress), (&self.ingress, usage.ingress)] {
            family.get_or_create(whose).inc_by(number(size.get()));
        }
        let now = [(&self.memory, usage.memory), (&self.peak, usage.memory_peak), (&self.disk, usage.disk)];
        for (family, size) in now {
            family.get_or_create(whose).set(number(size.get()));
        }
        if let Some(load) = usage.accelerators {
            self.accelerators.get_or_create(whose).set(f64::from(load.busy) / 100.0);
            self.vram.get_or_create(whose).set(number(load.memory.get()));
        }
    }

    fn register(self, registry: &mut Registry, prefix: &str, whose: &str) {
        let cpu = format!("Processor time of {whose} so far");
        registry.register_with_unit(format!("{prefix}_cpu"), cpu, Unit::Seconds, self.cpu);
        let name = |of: &str| format!("{prefix}_{of}");
        let busy = format!("How busy the accelerators are, of {whose}");
        registry.register_with_unit(name("accelerator_busy"), busy, Unit::Ratios, self.accelerators);
        let totals = [
            ("egress", "Sent to the network so far", self.egress),
            ("ingress", "Received from the network so far", self.ingress),
        ];
        for (of, help, family) in totals {
            registry.register_with_unit(name(of), format!("{help}, of {whose}"), Unit::Bytes, family);
        }
        let levels = [
            ("memory", "Resident memory", self.memory),
            ("memory_peak", "The highest resident memory so far", self.peak),
            ("disk", "What the work directory holds", self.disk),
            ("accelerator_memory", "Memory in use on the accelerators", self.vram),
        ];
        for (of, help, family) in levels {
            registry.register_with_unit(name(of), format!("{help}, of {whose}"), Unit::Bytes, family);
        }
    }
}

/// What a stage is called.
pub(crate) const fn stage(stage: &Stage) -> &'static str {
    match stage {
        Stage::Opening => "opening",
        Stage::Preparing { .. } => "preparing",
        Stage::Running => "running",
        Stage::Paused => "paused",
        Stage::Stopping => "stopping",
        Stage::Collecting => "collecting",
        Stage::Finished => "finished",
        Stage::Failed { .. } => "failed",
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at; Prometheus knows no other numbers")]
const fn number(value: u64) -> f64 {
    value as f64
}

fn count(value: usize) -> f64 {
    number(u64::try_from(value).unwrap_or(u64::MAX))
}

fn whole(amount: Money, decimals: u8) -> f64 {
    let units = u64::try_from(amount.base_units()).unwrap_or(u64::MAX);
    number(units) / 10f64.powi(i32::from(decimals))
}
