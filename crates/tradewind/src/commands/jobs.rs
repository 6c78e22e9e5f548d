//! Jobs that a node has: list, follow, wait, stop.

use std::time::Duration;

use anyhow::bail;
use serde::Serialize;
use tradewind_buyer::job::record::{Attempt, JobRecord, JobState, Settlement};
use tradewind_mesh::directory::system_clock;
use tradewind_proto::claim::Claim;
use tradewind_proto::ids::{JobId, LeaseId};
use tradewind_proto::report::Stage;
use tradewind_proto::signature::Signature;
use tradewind_proto::statement::{Deletion, SignedStatement, SignedWord, Stated as Word, Statement};
use tradewind_proto::units::{Seconds, Timestamp};

use super::run;
use crate::client::NodeClient;
use crate::printer::{Printer, table, time};

/// How often a followed log is looked at.
const LOG_POLL: Duration = Duration::from_millis(100);
/// How long one wait is held back by the node.
const HELD: u64 = 10;

/// A job in a list.
#[derive(Debug, Serialize)]
struct Row {
    id: JobId,
    name: String,
    state: String,
    provider: Option<String>,
    lease: Option<LeaseId>,
    signed: u128,
    meter: String,
    attempts: usize,
    /// When the progress that is here was saved; of a job that is not over.
    saved: Option<Timestamp>,
}

/// Who signs a job's vouchers.
pub(super) fn meter(record: &JobRecord) -> String {
    match &record.meter {
        Some(meter) => meter.to_string(),
        None if record.unattended => "vouchers signed ahead".into(),
        None => "own node".into(),
    }
}

/// Where a job stands, in a word or a sentence.
pub(super) fn state(record: &JobRecord) -> String {
    match &record.state {
        JobState::Placing { problem } if problem.is_empty() => "placing".into(),
        JobState::Placing { problem } => format!("placing ({problem})"),
        JobState::Ended { code: Some(code), reason } => format!("{reason}, exit {code}"),
        JobState::Ended { code: None, reason } => reason.clone(),
        JobState::Leased => record.attempts.last().map_or_else(|| "leased".into(), stage),
    }
}

fn stage(attempt: &Attempt) -> String {
    match attempt.supervision.report.as_ref().map(|report| &report.stage) {
        None | Some(Stage::Opening) => "opening the lease".into(),
        Some(Stage::Preparing { done, total }) if total.get() > 0 => {
            format!("pulling data ({done} of {total})")
        }
        Some(Stage::Preparing { .. }) => "pulling data".into(),
        Some(Stage::Running) => running(attempt),
        Some(Stage::Paused) => match &attempt.delegate {
            Some(delegate) => format!("paused until {} pays", delegate.meter),
            None => "paused until paid".into(),
        },
        Some(Stage::Stopping) => "stopping".into(),
        Some(Stage::Collecting) => "collecting outputs".into(),
        Some(Stage::Finished) => "settling".into(),
        Some(Stage::Failed { reason }) => format!("failed: {reason}"),
    }
}

/// That it runs, from what, and until when its owner lends the machine where a spot lease ends with that.
fn running(attempt: &Attempt) -> String {
    let from = attempt.resumed.map(|number| format!(" from checkpoint {number}")).unwrap_or_default();
    let until = attempt.supervision.report.as_ref().and_then(|report| report.lent_until);
    let until = until.map(|at| format!(", lent until {}", time(at.unix()))).unwrap_or_default();
    format!("running{from}{until}")
}

pub(super) async fn ps(all: bool, node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
    let jobs = node.jobs().await?;
    let now = (system_clock())();
    let rows: Vec<Row> = jobs
        .iter()
        .filter(|job| all || !job.is_over())
        .map(|job| Row {
            id: job.id,
            name: job.spec.name.clone(),
            state: state(job),
            provider: job.attempts.last().map(|attempt| attempt.provider.to_string()),
            lease: job.attempts.last().map(|attempt| attempt.supervision.id),
            signed: job.attempts.iter().map(|attempt| attempt.supervision.signed.base_units()).sum(),
            meter: meter(job),
            attempts: job.attempts.len(),
            saved: job.checkpoint.as_ref().filter(|_| !job.is_over()).map(|checkpoint| checkpoint.at),
        })
        .collect();
    printer.data(&rows, |rows| {
        if rows.is_empty() {
            return "no jobs; `tradewind run job.yaml` starts one, `tradewind ps --all` lists those that are over".into();
        }
        let cells = rows.iter().map(|row| {
            let provider = row.provider.as_deref().map_or("", |p| p.get(..10).unwrap_or(p)).to_owned();
            let Row { id, name, state, meter, attempts, .. } = row;
            let saved = row.saved.map_or_else(String::new, |at| format!("{} ago", now.since(at)));
            [id.to_string(), name.clone(), state.clone(), provider, meter.clone(), attempts.to_string(), saved]
        });
        table(["job", "name", "state", "provider", "metered by", "attempts", "saved"], cells)
    })
}

pub(super) async fn stop(id: JobId, node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
    node.stop(id).await?;
    printer.data(&serde_json::json!({ "job": id, "stopping": true }), |_| format!("stopping {id}"))
}

pub(super) async fn logs(
    id: JobId,
    attempt: Option<usize>,
    follow: bool,
    node: &NodeClient,
    printer: Printer,
) -> anyhow::Result<()> {
    let attempts = node.job(id).await?.attempts.len();
    let attempt = attempt.unwrap_or_else(|| attempts.saturating_sub(1));
    let mut from = 0;
    loop {
        let over = node.job(id).await?.attempts.get(attempt).is_some_and(|attempt| attempt.outcome.is_some());
        let piece = node.logs(id, attempt, from).await?;
        let nothing_new = piece.next == from;
        from = piece.next;
        if !nothing_new {
            if printer.is_json() {
                printer.data(&piece, |_| String::new())?
            } else {
                printer.job(&piece.text)
            }
        }
        if nothing_new && (over || !follow) {
            return Ok(());
        }
        if nothing_new {
            tokio::time::sleep(LOG_POLL).await;
        }
    }
}

pub(super) async fn wait(id: JobId, node: &NodeClient, printer: Printer) -> anyhow::Result<u8> {
    loop {
        let record = node.wait(id, HELD).await?;
        if let JobState::Ended { code, reason } = &record.state {
            let settled = run::is_settled(&record);
            if !settled {
                tokio::time::sleep(LOG_POLL).await;
                continue;
            }
            let mut receipt = run::receipt(&record);
            receipt["code"] = serde_json::json!(code);
            receipt["reason"] = serde_json::json!(reason);
            let asset = node.status().await?.asset;
            printer.data(&receipt, |_| run::receipt_text(&record, &asset))?;
            return Ok(code.unwrap_or(super::super::OWN_FAILURE));
        }
    }
}

/// A lease with its terms and money.
#[derive(Debug, Serialize)]
struct LeaseView<'a> {
    lease: LeaseId,
    terms: &'a tradewind_proto::terms::LeaseTerms,
    meter: String,
    signed: u128,
    vouchers: u32,
    worst_loss: u128,
    state: String,
    settled: Option<Settlement>,
    claim: Option<&'a Claim>,
    /// What the provider states that it consumed.
    used: Option<Statement>,
    /// What it signed, so that others can check it.
    statement: Option<Stated>,
    /// Since when, by the provider's word, nothing of it is left there.
    deleted: Option<Timestamp>,
    /// What it signed of that.
    deletion: Option<Stated>,
}

/// A provider's signed statement, as it is.
#[derive(Debug, Serialize)]
struct Stated {
    /// In hexadecimal.
    bytes: String,
    signature: Signature,
}

impl Stated {
    fn new<T: Word>(word: &SignedWord<T>) -> Self {
        Self { bytes: format!("0x{}", hex::encode(word.bytes())), signature: word.signature() }
    }
}

pub(super) async fn lease(id: LeaseId, node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
    let jobs = node.jobs().await?;
    let attempts = jobs.iter().flat_map(|job| job.attempts.iter().map(move |attempt| (job, attempt)));
    let Some((job, attempt)) = attempts.into_iter().find(|(_, attempt)| attempt.supervision.id == id) else {
        bail!("this node has no lease {id}; `tradewind ps --all --json` lists them")
    };
    let supervision = &attempt.supervision;
    let view = LeaseView {
        lease: id,
        terms: &supervision.terms,
        meter: meter(job),
        signed: supervision.signed.base_units(),
        vouchers: attempt.vouchers,
        worst_loss: tradewind_proto::meter::exposure(&supervision.terms).base_units(),
        state: attempt.outcome.map_or_else(|| stage(attempt), |outcome| outcome.to_string()),
        settled: attempt.settled,
        claim: attempt.claim.as_ref(),
        used: used(attempt),
        statement: stated(attempt).map(Stated::new),
        deleted: deleted(attempt).map(|deletion| deletion.at),
        deletion: attempt.deleted.as_ref().map(Stated::new),
    };
    let decimals = node.status().await?.asset.decimals;
    printer.data(&view, |view| {
        let terms = view.terms;
        let money = |amount: tradewind_proto::units::Money| amount.display(decimals);
        let mut rows = vec![
            ["provider".to_owned(), terms.provider.to_string()],
            ["kind".into(), terms.kind.to_string()],
            ["price an hour".into(), money(terms.rate.hourly())],
            ["deposit".into(), money(terms.deposit)],
            ["provider's bond".into(), money(terms.bond)],
            ["metered by".into(), view.meter.clone()],
            ["vouchers signed by".into(), terms.meter.to_string()],
            ["signed so far".into(), money(supervision.signed)],
            ["vouchers".into(), view.vouchers.to_string()],
            ["worst loss".into(), money(tradewind_proto::meter::exposure(terms))],
            ["state".into(), view.state.clone()],
        ];
        if let Some(settled) = view.settled {
            rows.push(["paid".into(), money(settled.paid)]);
            rows.push(["refunded".into(), money(settled.refunded)]);
            rows.push(["compensated".into(), money(settled.compensated)]);
        }
        if let Some(claim) = view.claim {
            rows.push(["claim".into(), format!("{} of the bond: {}", money(claim.amount), claim.stage)]);
        }
        if let Some(used) = &view.used {
            rows.push(["used".into(), consumption(used)]);
        }
        if let Some(at) = view.deleted {
            rows.push(["deleted".into(), format!("{}; signed by the provider", time(at.unix()))]);
        }
        table(["lease", &id.to_string()], rows)
    })
}

/// The provider's word that a lease's data are gone.
fn deleted(attempt: &Attempt) -> Option<Deletion> {
    let supervision = &attempt.supervision;
    attempt.deleted.as_ref()?.verify(supervision.id, supervision.terms.provider).ok()
}

/// What a lease's provider signed of its consumption.
fn stated(attempt: &Attempt) -> Option<&SignedStatement> {
    attempt.supervision.report.as_ref()?.statement.as_ref()
}

/// What it says there. The node kept only what its provider signed.
pub(super) fn used(attempt: &Attempt) -> Option<Statement> {
    let supervision = &attempt.supervision;
    stated(attempt)?.verify(supervision.id, supervision.terms.provider).ok()
}

/// A lease's consumption for people.
pub(super) fn consumption(used: &Statement) -> String {
    let cpu = Seconds::new(used.cpu_ms.div_ceil(1_000));
    let mut all = vec![
        format!("{cpu} of a processor"),
        format!("{} memory at most", used.memory_peak),
        format!("{} disk", used.disk),
        format!("{} sent", used.egress),
        format!("{} received", used.ingress),
    ];
    if let Some(worked) = used.accelerator_ms {
        all.push(format!("{} of an accelerator", Seconds::new(worked.div_ceil(1_000))));
    }
    if let Some(memory) = used.accelerator_memory_peak {
        all.push(format!("{memory} of its memory at most"));
    }
    format!("{}; signed by the provider", all.join(", "))
}
