//! What a node sees of the market and of itself.

use crate::client::NodeClient;
use crate::printer::{Printer, table};
use tradewind_proto::units::Money;

pub(super) async fn offers(node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
    let mut offers = node.offers().await?;
    let decimals = node.wallet().await?.asset.decimals;
    offers.sort_by_key(|offer| offer.prices.on_demand);
    printer.data(&offers, |offers| {
        if offers.is_empty() {
            return "no offers are live; a node that has just started needs a few seconds to hear of them"
                .into();
        }
        let cells = offers.iter().map(|offer| {
            let gpus = offer.unit.gpus.as_ref();
            [
                offer.provider.to_string(),
                gpus.map_or_else(|| "-".to_owned(), |gpus| format!("{} × {}", gpus.count, gpus.model)),
                format!("{}", f64::from(offer.unit.cpu_millis) / 1_000.0),
                offer.unit.memory.to_string(),
                format!("{}/{}", offer.free_units, offer.units),
                offer.region.country.clone(),
                offer.runtimes.to_string(),
                offer.prices.on_demand.hourly().display(decimals),
                offer.prices.spot.map_or_else(|| "-".to_owned(), |spot| spot.hourly().display(decimals)),
            ]
        });
        table(["provider", "GPUs", "CPUs", "memory", "free", "in", "runtimes", "price/h", "spot/h"], cells)
    })
}

pub(super) async fn wallet(node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
    let wallet = node.wallet().await?;
    printer.data(&wallet, |wallet| {
        let show = |amount: u128| {
            let money = Money::new(amount).unwrap_or(Money::MAX);
            format!("{} {}", money.display(wallet.asset.decimals), wallet.asset.symbol)
        };
        let rows = [
            ["in the wallet".to_owned(), show(wallet.wallet)],
            ["free in the contract".to_owned(), show(wallet.free)],
        ];
        table(["account", &wallet.account], rows)
    })
}

pub(super) async fn status(node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
    let status = node.status().await?;
    printer.data(&status, |status| {
        let mut rows = vec![
            ["network".to_owned(), status.network.clone()],
            ["roles".into(), status.roles.join(", ")],
            ["mesh".into(), status.mesh_address.clone()],
            ["process".into(), status.pid.to_string()],
        ];
        rows.extend(status.explorer.iter().map(|url| ["explorer".to_owned(), url.clone()]));
        rows.extend(status.relayer.iter().map(|url| ["relayer".to_owned(), url.clone()]));
        rows.extend(status.rpc.iter().map(|url| ["RPC".to_owned(), url.clone()]));
        table(["account", &status.account], rows)
    })
}

pub(super) async fn leases(node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
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

pub(super) async fn accept(on: bool, node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
    node.accept_leases(on).await?;
    let text = if on { "new leases are taken again" } else { "no new leases are taken; running ones go on" };
    printer.data(&serde_json::json!({ "accepting": on }), |_| text.into())
}
