//! `run` and `plan`: from a job file to its outputs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tradewind_buyer::delegate::OWN;
use tradewind_buyer::job::record::{JobRecord, JobState};
use tradewind_proto::ids::JobId;
use tradewind_proto::job::{JobSpec, SecretSource};
use tradewind_proto::plan::Plan;
use tradewind_proto::profile::Asset;
use tradewind_proto::units::{Bytes, Money, Seconds};
use tradewind_proto::workload::Secrets;

use super::jobs;
use crate::cli::{Cli, Run};
use crate::client::{NodeClient, Told};
use crate::node::api::view::{NewJob, Status};
use crate::printer::{Printer, about, base_units, short, table};

/// How often a running job's log is looked at.
const LOG_POLL: Duration = Duration::from_millis(50);

/// What `--unattended` means for the money.
const UNATTENDED: &str = "unattended: vouchers for the whole lease are signed ahead, and billing starts with the lease; \
     a provider that takes them and does not work gets the worst loss above";

/// What it means for the money that another node meters.
fn metered(meter: &str, plan: &Plan, asset: &Asset) -> String {
    let most = plan.choices.first().map_or(Money::ZERO, |choice| choice.cost.meter_loss);
    let slack = plan.choices.first().map_or(Seconds::ZERO, |choice| choice.slack);
    let meter = meter.split_once('@').map_or(meter, |(key, _)| key);
    format!(
        "metered by {meter}: it signs the vouchers, by the same rules as this node; where it signs too much for a provider \
         that it works with, the loss is at most price × (time since the start + {slack}), {} {} over the whole first choice; \
         where it falls silent, the provider pauses the job after {slack} and closes the lease",
        about(most, asset.decimals),
        asset.symbol,
    )
}

/// Reads a job file and resolves its secrets on this machine.
pub(super) fn read(file: &Path, output: &Path) -> anyhow::Result<(JobSpec, NewJob)> {
    let shown = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    let spec = JobSpec::parse(&shown, &text)?;
    let absolute = std::path::absolute(file)?;
    let base_dir = absolute.parent().context("the job file has no directory")?.to_owned();
    let mut secrets = BTreeMap::new();
    for secret in &spec.secrets {
        if let Some(value) = resolve(&secret.source, &base_dir)? {
            secrets.insert(secret.name.clone(), value);
        }
    }
    for secret in spec.store_secrets() {
        // What stands for a key's name may be the key, so the error does not repeat it.
        let missing = || format!("what `{}` in {shown} names cannot be read, or is not set", secret.name);
        let value = resolve(&secret.source, &base_dir).ok().flatten().with_context(missing)?;
        secrets.insert(secret.name, value);
    }
    let output_dir = std::path::absolute(output)?;
    Ok((
        spec,
        NewJob {
            file: shown,
            text,
            base_dir,
            output_dir,
            secrets: Secrets(secrets),
            unattended: false,
            meter: None,
            keep: None,
            idle_stop: None,
        },
    ))
}

/// A secret's value; `None` where the buyer's node draws it.
fn resolve(source: &SecretSource, base_dir: &Path) -> anyhow::Result<Option<String>> {
    match source {
        SecretSource::Generated => Ok(None),
        SecretSource::Env(name) => {
            std::env::var(name).map(Some).with_context(|| format!("the variable {name} is not set"))
        }
        SecretSource::File(path) => {
            let path = base_dir.join(path);
            let text = std::fs::read_to_string(&path);
            let text = text.with_context(|| format!("cannot read the secret {}", path.display()))?;
            Ok(Some(text.trim_end().to_owned()))
        }
    }
}

pub(super) async fn plan(file: &Path, cli: &Cli, printer: Printer) -> anyhow::Result<()> {
    let (_, job) = read(file, Path::new("outputs"))?;
    let node = super::market_node(cli, printer).await?;
    show_plan(&job, &node, printer).await.map(|_| ())
}

/// Shows where the job would run, what that costs and risks, and why other offers would not do.
pub(super) async fn show_plan(job: &NewJob, node: &NodeClient, printer: Printer) -> anyhow::Result<Plan> {
    let plan = node.plan(job).await?;
    let status = node.status().await?;
    printer.data(&plan, |plan| plan_text(plan, &status.asset))?;
    say_who_meters(job, &plan, &status, printer);
    say_what_is_claimed(job, &plan, printer);
    Ok(plan)
}

/// Says that an offer's word for trusted execution is one, where the job asks for it.
fn say_what_is_claimed(job: &NewJob, plan: &Plan, printer: Printer) {
    let asks = JobSpec::parse(&job.file, &job.text).is_ok_and(|spec| spec.placement.tee.is_some());
    if let Some(best) = plan.choices.first().filter(|_| asks) {
        let (provider, kinds) = (short(best.offer.provider), best.offer.tees);
        printer.step(&format!(
            "trusted execution is a claim so far: {provider} says {kinds}, and has to prove it before anything is signed"
        ));
    }
}

/// Says who signs the vouchers, where that is not this node while it is there.
fn say_who_meters(job: &NewJob, plan: &Plan, status: &Status, printer: Printer) {
    let usual = status.meter.as_ref().filter(|_| !job.unattended);
    if job.unattended {
        printer.step(UNATTENDED);
    } else if let Some(meter) = job.meter.as_ref().or(usual).filter(|meter| *meter != OWN) {
        printer.step(&metered(meter, plan, &status.asset));
    }
}

fn plan_text(plan: &Plan, asset: &Asset) -> String {
    let decimals = asset.decimals;
    let show = |amount: Money| about(amount, decimals);
    let mut text = String::new();
    if !plan.choices.is_empty() {
        let rows = plan.choices.iter().take(5).map(|choice| {
            [
                short(choice.offer.provider),
                choice.kind.to_string(),
                choice.units.to_string(),
                choice.runtime.clone(),
                show(choice.cost.hourly),
                show(choice.cost.deposit),
                show(choice.cost.worst_loss),
                show(choice.cost.compensation_cap),
            ]
        });
        let price = format!("{}/h", asset.symbol);
        let header =
            ["provider", "kind", "units", "runtime", &price, "at most", "worst loss", "compensated up to"];
        text = table(header, rows);
        let shown = plan.choices.iter().take(5);
        let counted = shown.filter_map(|choice| choice.share.egress).find(|hourly| *hourly > Bytes::ZERO);
        if let Some(hourly) = counted {
            text.push_str(&format!(
                "\nwhere what is sent has a price, {hourly} an hour are in it; what is beyond is slowed, and never billed: \
                 `resources.egress`"
            ));
        }
    }
    let rejected: usize = plan.rejections.iter().map(|rejection| rejection.offers).max().unwrap_or(0);
    if rejected > 0 {
        text.push_str("\nnot chosen:");
        for rejection in plan.rejections.iter().take(8) {
            text.push_str(&format!("\n  {}", rejection.describe(decimals)));
        }
    }
    if plan.choices.is_empty() {
        text.push_str(&format!("\nno provider will do now; {} offers are live", plan.offers));
    }
    text
}

pub(super) async fn run(options: &Run, cli: &Cli, printer: Printer) -> anyhow::Result<u8> {
    let (_, job) = read(&options.file, &options.output)?;
    let job = NewJob {
        unattended: options.unattended,
        meter: options.meter.clone(),
        keep: options.keep,
        idle_stop: options.idle_stop,
        ..job
    };
    let node = &super::market_node(cli, printer).await?;
    if options.dry_run {
        let plan = show_plan(&job, node, printer).await?;
        return Ok(if plan.choices.is_empty() { super::super::OWN_FAILURE } else { 0 });
    }
    if printer.is_json() {
        if job.unattended {
            printer.step(UNATTENDED);
        }
    } else {
        let (plan, status) = (node.plan(&job).await?, node.status().await?);
        printer.step(&plan_text(&plan, &status.asset));
        say_who_meters(&job, &plan, &status, printer);
    }
    if !options.yes {
        confirm(printer)?;
    }
    let id = node.submit(&job).await?;
    if options.detach {
        printer.data(&serde_json::json!({ "job": id }), |_| id.to_string())?;
        return Ok(0);
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        record = follow(id, node, printer) => {
            let record = record?;
            let asset = node.status().await?.asset;
            printer.data(&receipt(&record), |_| receipt_text(&record, &asset))?;
            match record.state {
                JobState::Ended { code: Some(code), .. } => Ok(code),
                JobState::Ended { code: None, reason } => bail!("{reason}"),
                JobState::Placing { .. } | JobState::Leased => Ok(super::super::OWN_FAILURE),
            }
        }
        _ = interrupt.recv() => {
            printer.step(&format!("detached; the job goes on: `tradewind logs -f {id}`, `tradewind stop {id}`"));
            Ok(130)
        }
    }
}

fn confirm(printer: Printer) -> anyhow::Result<()> {
    if !printer.can_ask() {
        let hint = "give `--yes` to spend without being asked, or `--dry-run` to see the plan";
        return Err(Told::error("nobody is there to ask", hint));
    }
    if !printer.confirm("run it on the first of these?")? {
        bail!("nothing was spent");
    }
    Ok(())
}

/// Follows a job until its leases are settled: its log to stdout, its stages to stderr.
pub(super) async fn follow(id: JobId, node: &NodeClient, printer: Printer) -> anyhow::Result<JobRecord> {
    let (mut shown, mut attempt, mut from) = (String::new(), 0, 0);
    let mut bar = printer.spinner("placing");
    loop {
        let record = node.job(id).await?;
        let state = jobs::state(&record);
        if state != shown {
            bar.finish_and_clear();
            let whom =
                record.attempts.last().map_or_else(String::new, |a| format!(" on {}", short(a.provider)));
            bar = printer.spinner(&format!("{}: {state}{whom}", record.spec.name));
            shown = state;
        }
        let current = record.attempts.len().saturating_sub(1);
        if current != attempt {
            (attempt, from) = (current, 0);
        }
        let piece = node.logs(id, attempt, from).await?;
        if piece.next != from {
            from = piece.next;
            bar.suspend(|| printer.job(&piece.text));
            continue;
        }
        if is_settled(&record) {
            bar.finish_and_clear();
            return Ok(record);
        }
        tokio::time::sleep(LOG_POLL).await;
    }
}

/// Over, with nothing left to come but what a lost provider's lease returns.
pub(super) fn is_settled(record: &JobRecord) -> bool {
    let settled =
        record.attempts.iter().all(|attempt| attempt.outcome.is_some() || attempt.supervision.gave_up);
    record.is_over() && settled
}

/// A finished job's money and files. Amounts in base units.
pub(super) fn receipt(record: &JobRecord) -> serde_json::Value {
    let last = record.attempts.last();
    let settled = last.and_then(|attempt| attempt.settled);
    let report = last.and_then(|attempt| attempt.supervision.report.as_ref());
    let outputs: Vec<serde_json::Value> = report
        .map(|report| &report.outputs[..])
        .unwrap_or_default()
        .iter()
        .map(|file| serde_json::json!({ "path": file.path, "blake3": hex::encode(file.hash), "size": file.size }))
        .collect();
    let closed = last.is_some_and(|attempt| attempt.outcome.is_some());
    serde_json::json!({
        "job": record.id,
        "name": record.spec.name,
        "provider": last.map(|attempt| attempt.provider),
        "lease_id": last.map(|attempt| attempt.supervision.id),
        "state": if closed { "closed" } else { "open" },
        "result": jobs::state(record),
        "deposited": settled.map(|s| base_units(s.deposited)),
        "paid": settled.map(|s| base_units(s.paid)),
        "refunded": settled.map(|s| base_units(s.refunded)),
        "forfeited": settled.map(|s| base_units(s.forfeited)),
        "compensated": settled.map(|s| base_units(s.compensated)),
        "vouchers": record.attempts.iter().map(|attempt| attempt.vouchers).sum::<u32>(),
        "meter": jobs::meter(record),
        "attempts": record.attempts.len(),
        "checkpoints": record.checkpoints,
        "resumed_from": last.and_then(|attempt| attempt.resumed),
        "used": last.and_then(jobs::used),
        "outputs": outputs,
    })
}

/// The receipt for people.
pub(super) fn receipt_text(record: &JobRecord, asset: &Asset) -> String {
    let Some(attempt) = record.attempts.last() else { return jobs::state(record) };
    let money = |amount: Money| format!("{} {}", amount.display(asset.decimals), asset.symbol);
    let mut rows = vec![
        ["result".to_owned(), jobs::state(record)],
        ["provider".into(), attempt.provider.to_string()],
        ["lease".into(), attempt.supervision.id.to_string()],
    ];
    if let Some(settled) = attempt.settled {
        rows.push(["deposited".into(), money(settled.deposited)]);
        rows.push(["paid".into(), money(settled.paid)]);
        rows.push(["refunded".into(), money(settled.refunded)]);
        if !settled.compensated.is_zero() {
            rows.push(["compensated".into(), money(settled.compensated)]);
        }
    }
    if record.attempts.len() > 1 {
        let resumed = attempt.resumed.map(|number| format!(", the last one from checkpoint {number}"));
        rows.push(["attempts".into(), format!("{}{}", record.attempts.len(), resumed.unwrap_or_default())]);
    }
    rows.push(["metered by".into(), jobs::meter(record)]);
    rows.push(["vouchers".into(), attempt.vouchers.to_string()]);
    if let Some(used) = jobs::used(attempt) {
        rows.push(["used".into(), jobs::consumption(&used)]);
    }
    let outputs = attempt.supervision.report.as_ref().map(|report| report.outputs.len()).unwrap_or(0);
    let here = std::env::current_dir().unwrap_or_default();
    let place = record.output_dir.strip_prefix(here).unwrap_or(&record.output_dir);
    rows.push(["outputs".into(), format!("{outputs} files, verified, in {}", place.display())]);
    table(["receipt", &record.spec.name], rows)
}
