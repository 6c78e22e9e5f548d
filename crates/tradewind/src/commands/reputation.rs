//! Devices' reputations as the node computes them.

use anyhow::bail;

use crate::client::NodeClient;
use crate::printer::{Printer, counted, short, table};

/// Every device's, or those whose id begins with `device`.
pub(super) async fn show(node: &NodeClient, device: Option<&str>, printer: Printer) -> anyhow::Result<()> {
    let mut view = node.reputations().await?;
    if let Some(start) = device {
        view.devices.retain(|view| view.device.starts_with(start));
        if view.devices.is_empty() {
            bail!(
                "no device of the registry begins with `{start}`\nhint: `tradewind reputation` lists them all"
            );
        }
    }
    printer.data(&view, |view| {
        if view.devices.is_empty() {
            return "no device is staked on this network".into();
        }
        let rows = view.devices.iter().map(|view| {
            let standing = match view.score {
                Some(score) => percent(score),
                None => format!("insufficient data: {}", view.lacks.join(", ")),
            };
            let [uptime, challenges, diversity, strikes] =
                [view.uptime, view.challenges, view.diversity, view.strikes].map(percent);
            let memory = view.memory.as_ref().map_or_else(|| "not measured".into(), ToString::to_string);
            let (device, evidence) = (short(&view.device), view.evidence.to_string());
            [device, uptime, challenges, diversity, strikes, memory, evidence, standing]
        });
        let heads =
            ["device", "uptime", "challenges", "diversity", "no strikes", "memory", "evidence", "reputation"];
        format!("{}\nfrom the chain and {} of testimony", table(heads, rows), counted(view.pages, "page"))
    })
}

/// Billionths in percent with two places, rounded down.
fn percent(billionths: u32) -> String {
    format!("{}.{:02} %", billionths / 10_000_000, billionths / 100_000 % 100)
}
