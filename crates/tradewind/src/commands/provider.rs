//! `provider`: examine this machine, join the market with it, look, pause, leave.

mod doctor;
mod join;
mod leave;
mod slurm;

use std::path::Path;

use anyhow::Context;
use toml_edit::DocumentMut;
use tradewind_proto::ids::LeaseId;

use crate::cli::{Cli, Provider};
use crate::client::NodeClient;
use crate::node::api::view::ProviderView;
use crate::node::config::NodeConfig;
use crate::printer::{Printer, money, table, time};

pub(super) async fn provider(verb: &Provider, cli: &Cli, printer: Printer) -> anyhow::Result<()> {
    match verb {
        Provider::Doctor => doctor::doctor(printer).await,
        Provider::Slurm { dry_run: _ } => slurm::advise(printer).await,
        Provider::Join(options) => join::join(options, printer).await,
        Provider::Leave => leave::leave(cli, printer).await,
        Provider::Status => {
            let view = super::client(cli)?.provider().await?;
            printer.data(&view, show)
        }
        Provider::Leases => leases(&super::client(cli)?, printer).await,
        Provider::Pause => accept(false, &super::client(cli)?, printer).await,
        Provider::Resume => accept(true, &super::client(cli)?, printer).await,
        Provider::Reclaim { lease } => reclaim(*lease, &super::client(cli)?, printer).await,
    }
}

/// Changes the configuration and keeps everything else in it, comments too. What would not be valid is not written.
fn edit(file: &Path, change: impl FnOnce(&mut DocumentMut)) -> anyhow::Result<()> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    let mut document: DocumentMut = text.parse().with_context(|| format!("{shown} is not valid"))?;
    change(&mut document);
    let text = document.to_string();
    let checked: Result<NodeConfig, _> = toml::from_str(&text);
    checked.with_context(|| format!("{shown} would not be valid"))?;
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, text).with_context(|| format!("cannot write {}", fresh.display()))?;
    std::fs::rename(&fresh, file).with_context(|| format!("cannot write {shown}"))
}

fn show(view: &ProviderView) -> String {
    let until = view.until.map(|at| format!(", until {}", time(at))).unwrap_or_default();
    let serving = match (view.serving, view.accepting, &view.kept) {
        (true, true, None) => format!("yes{until}"),
        (true, true, Some(why)) => format!("not now: {why}{until}"),
        (true, false, _) => "paused: no new leases".to_owned(),
        (false, ..) => "no".to_owned(),
    };
    let default_job = if view.default_job { "; the default job runs" } else { "" };
    let mut rows = vec![
        ["serving".to_owned(), serving],
        ["leases".into(), format!("{}{default_job}", view.leases)],
        ["free for bonds".into(), money(view.free, &view.asset)],
    ];
    match &view.device {
        None => rows.push(["device".into(), "none yet".into()]),
        Some(device) => {
            rows.push(["device".into(), device.id.clone()]);
            rows.push(["state".into(), device.state.clone()]);
            rows.push(["units".into(), device.units.to_string()]);
            let tier = if view.unstaked { "; lends on the unstaked tier" } else { "" };
            rows.push(["stake".into(), format!("{}{tier}", money(device.stake, &view.staked))]);
            if device.sponsor != view.account && !device.sponsor.is_empty() {
                rows.push(["staked by".into(), device.sponsor.clone()]);
            }
            rows.push(["rent paid until".into(), time(device.rent_paid_until)]);
            rows.extend(device.unbonds_at.map(|at| ["stake free at".to_owned(), time(at)]));
        }
    }
    rows.extend(
        view.ill.iter().map(|(index, why)| [format!("accelerator {index}"), format!("not offered: {why}")]),
    );
    table(["provider", &view.account], rows)
}

async fn leases(node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
    let reports = node.leases().await?;
    printer.data(&reports, |reports| {
        if reports.is_empty() {
            return "no leases are hosted here now".into();
        }
        let cells = reports.iter().map(|report| {
            [
                report.lease.to_string(),
                format!("{:?}", report.stage),
                report.usage.memory.to_string(),
                report.paid.to_string(),
            ]
        });
        table(["lease", "stage", "memory", "paid (base units)"], cells)
    })
}

async fn accept(on: bool, node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
    node.accept_leases(on).await?;
    let text = if on { "new leases are taken again" } else { "no new leases are taken; running ones go on" };
    printer.data(&serde_json::json!({ "accepting": on }), |_| text.into())
}

async fn reclaim(lease: Option<LeaseId>, node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
    let reclaimed = node.reclaim(lease).await?;
    printer.data(&serde_json::json!({ "reclaiming": reclaimed }), |_| match reclaimed.len() {
        0 => "no spot lease runs here".into(),
        _ => {
            let ids: Vec<String> = reclaimed.iter().map(ToString::to_string).collect();
            format!("taking back, with the notice that their terms give: {}", ids.join(", "))
        }
    })
}
