//! What a node sees of the market and of itself.

use serde::Serialize;
use tradewind_proto::offer::Offer;

use crate::client::{NodeClient, Told};
use crate::node::api::view::Status;
use crate::printer::{Printer, short, table};
use crate::service::Unit;

pub(super) async fn offers(node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
    let mut offers = node.offers().await?;
    let asset = node.status().await?.asset;
    let decimals = asset.decimals;
    offers.sort_by_key(|offer| offer.prices.on_demand);
    printer.data(&offers, |offers| {
        if offers.is_empty() {
            return "no offers are live; a node that has just started needs a few seconds to hear of them"
                .into();
        }
        let cells = offers.iter().map(|offer| {
            let gpus = offer.unit.gpus.as_ref();
            [
                short(offer.provider),
                gpus.map_or_else(|| "-".to_owned(), |gpus| format!("{} × {}", gpus.count, gpus.model)),
                format!("{}", f64::from(offer.unit.cpu_millis) / 1_000.0),
                offer.unit.memory.to_string(),
                format!("{}/{}", offer.free_units, offer.units),
                place(offer),
                offer.runtimes.to_string(),
                offer.prices.on_demand.hourly().display(decimals),
                offer.prices.spot.map_or_else(|| "-".to_owned(), |spot| spot.hourly().display(decimals)),
                offer.prices.egress.map_or_else(|| "-".to_owned(), |price| price.display(decimals)),
            ]
        });
        let price = format!("{}/h", asset.symbol);
        table(
            ["provider", "GPUs", "CPUs", "memory", "free", "in", "runtimes", &price, "spot/h", "GiB sent"],
            cells,
        )
    })
}

/// Where the offer says that it stands, and whether it says that somebody attests it.
fn place(offer: &Offer) -> String {
    let country = &offer.region.country;
    if offer.attested.is_empty() { country.clone() } else { format!("{country}, attested") }
}

pub(super) async fn status(
    node: &NodeClient,
    service: Option<&Unit>,
    printer: Printer,
) -> anyhow::Result<()> {
    let status = match (node.status().await, service) {
        (Err(problem), Some(unit)) => {
            let hint = format!("`tradewind node start` starts it; its log: {}", unit.scope.journal());
            let error = format!("{problem}; its service {} is {}", unit.file.display(), unit.state().await);
            return Err(Told::error(error, hint));
        }
        (status, _) => status?,
    };
    let service = service.map(|unit| unit.file.display().to_string());
    printer.data(&Answering { status, service }, |Answering { status, service }| {
        let mut rows = vec![
            ["network".to_owned(), status.network.clone()],
            ["roles".into(), status.roles.join(", ")],
            ["mesh".into(), status.mesh_address.clone()],
            ["process".into(), status.pid.to_string()],
        ];
        rows.extend(service.iter().map(|file| ["service".to_owned(), file.clone()]));
        rows.extend(status.explorer.iter().map(|url| ["explorer".to_owned(), url.clone()]));
        rows.extend(status.relayer.iter().map(|url| ["relayer".to_owned(), url.clone()]));
        rows.extend(status.rpc.iter().map(|url| ["RPC".to_owned(), url.clone()]));
        table(["account", &status.account], rows)
    })
}

/// A node that answers, and what keeps it up.
#[derive(Serialize)]
struct Answering {
    #[serde(flatten)]
    status: Status,
    /// The file of its unit.
    service: Option<String>,
}
