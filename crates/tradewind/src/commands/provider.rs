//! `provider`: examine this machine, join the market with it, look, pause, leave.

mod doctor;
mod drain;
mod join;
mod leave;
mod slurm;
mod speed;

use std::path::Path;

use anyhow::Context;
use toml_edit::DocumentMut;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::report::Stage;
use tradewind_provider::inventory::gpu::named;

use crate::cli::{Cli, Provider};
use crate::client::NodeClient;
use crate::node::api::view::ProviderView;
use crate::node::config::NodeConfig;
use crate::node::metrics;
use crate::printer::{Printer, money, table, time};

pub(super) async fn provider(verb: &Provider, cli: &Cli, printer: Printer) -> anyhow::Result<()> {
    match verb {
        Provider::Doctor => doctor::doctor(printer).await,
        Provider::Slurm { dry_run: _ } => slurm::advise(printer).await,
        Provider::Join(options) => join::join(options, printer).await,
        Provider::Speed => speed::speed(cli, printer).await,
        Provider::Leave => leave::leave(cli, printer).await,
        Provider::Status => {
            let view = super::client(cli)?.provider().await?;
            printer.data(&view, show)
        }
        Provider::Leases => leases(&super::client(cli)?, printer).await,
        Provider::Pause => accept(false, &super::client(cli)?, printer).await,
        Provider::Resume => accept(true, &super::client(cli)?, printer).await,
        Provider::Drain { reclaim, within } => {
            drain::drain(*reclaim, *within, &super::client(cli)?, printer).await
        }
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
    let default_job = if view.default_job { "; the default job runs" } else { "" };
    let mut rows = vec![
        ["serving".to_owned(), serving(view)],
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
                let by = if device.stake == 0 { "to be staked by" } else { "staked by" };
                rows.push([by.into(), device.sponsor.clone()]);
            }
            rows.push(["rent paid until".into(), time(device.rent_paid_until)]);
            rows.extend(device.jailed_until.map(|at| ["jailed until".to_owned(), time(at)]));
            rows.extend(device.unbonds_at.map(|at| ["stake free at".to_owned(), time(at)]));
        }
    }
    for word in &view.attested {
        rows.push(["place attested by".into(), format!("{}, until {}", word.issuer, time(word.expires))]);
    }
    rows.extend(
        view.ill
            .iter()
            .map(|(index, why)| [format!("accelerator {}", named(*index)), format!("not offered: {why}")]),
    );
    table(["provider", &view.account], rows)
}

/// Whether somebody can open a lease here, or what keeps them from it.
fn serving(view: &ProviderView) -> String {
    let until = view.until.map(|at| format!(", until {}", time(at))).unwrap_or_default();
    let state = view.device.as_ref().map_or("not registered", |device| device.state.as_str());
    match &view.kept {
        _ if !view.serving => "no".into(),
        _ if !view.accepting => "paused: no new leases".into(),
        _ if !view.unstaked && state != "ready" => format!("not now: the device is {state}"),
        Some(why) => format!("not now: {why}{until}"),
        None => format!("yes{until}"),
    }
}

async fn leases(node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
    let reports = node.leases().await?;
    let asset = node.provider().await?.asset;
    printer.data(&reports, |reports| {
        if reports.is_empty() {
            return "no leases are hosted here now".into();
        }
        let cells = reports.iter().map(|report| {
            let mut stage = metrics::stage(&report.stage).to_owned();
            if let Stage::Failed { reason } = &report.stage {
                stage = format!("{stage}: {reason}");
            }
            let paid = money(report.paid.base_units(), &asset);
            [report.lease.to_string(), stage, report.usage.memory.to_string(), paid]
        });
        table(["lease", "stage", "memory", "paid"], cells)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn view(state: &str, changed: serde_json::Value) -> ProviderView {
        let asset = serde_json::json!({
            "symbol": "USDC", "address": format!("0x{:040x}", 1), "decimals": 6, "kind": "plain",
        });
        let mut view = serde_json::json!({
            "account": "0xa", "asset": asset, "staked": asset, "serving": true, "accepting": true, "leases": 0, "free": 0,
            "device": {
                "id": "0xd", "state": state, "units": 1, "stake": 0, "sponsor": "0xb", "rent_paid_until": 1_900_000_000u64,
            },
        });
        let (Some(view_fields), Some(changes)) = (view.as_object_mut(), changed.as_object()) else {
            unreachable!("both are objects")
        };
        view_fields.extend(changes.clone());
        serde_json::from_value(view).unwrap()
    }

    #[test]
    fn a_machine_serves_while_its_device_may_lend() {
        let none = || serde_json::json!({});
        let cases = [
            (view("ready", none()), "yes"),
            (view("unstaked", none()), "not now: the device is unstaked"),
            (view("unbonding", none()), "not now: the device is unbonding"),
            (view("unstaked", serde_json::json!({ "unstaked": true })), "yes"),
            (view("jailed", serde_json::json!({ "accepting": false })), "paused: no new leases"),
            (view("ready", serde_json::json!({ "serving": false })), "no"),
            (view("ready", serde_json::json!({ "device": null })), "not now: the device is not registered"),
            (view("ready", serde_json::json!({ "kept": "the owner works" })), "not now: the owner works"),
        ];
        for (view, told) in cases {
            assert_eq!(serving(&view), told);
        }
    }

    #[test]
    fn who_has_staked_nothing_yet_is_told_apart_from_who_has() {
        let waiting = view("unstaked", serde_json::json!({}));
        assert!(show(&waiting).contains("to be staked by"), "{}", show(&waiting));
        let mut backed = waiting;
        if let Some(device) = &mut backed.device {
            device.stake = 1;
            device.jailed_until = Some(1_900_000_000);
        }
        let shown = show(&backed);
        assert!(!shown.contains("to be staked by") && shown.contains("jailed until"), "{shown}");
    }
}
