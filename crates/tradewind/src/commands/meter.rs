//! The node's meter role.

use tradewind_proto::units::Money;

use crate::client::NodeClient;
use crate::printer::{Printer, short, table};

/// Whom the node serves, what buyers name it by, and what it signed.
pub(super) async fn show(node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
    let view = node.meter().await?;
    printer.data(&view, |view| {
        let money = |units| {
            Money::new(units).map_or_else(|_| "?".into(), |amount| amount.display(view.asset.decimals))
        };
        let serves = if view.serves.is_empty() { "nobody".into() } else { view.serves.join(", ") };
        let mut text = format!("serves   {serves}\naddress  {}\nsigns as {}", view.address, view.signer);
        if !view.leases.is_empty() {
            let rows = view.leases.iter().map(|lease| {
                [
                    lease.lease.to_string(),
                    short(&lease.buyer),
                    short(&lease.provider),
                    money(lease.signed),
                    money(lease.acknowledged),
                    lease.vouchers.to_string(),
                ]
            });
            let header = ["lease", "buyer", "provider", "signed", "acknowledged", "vouchers"];
            text = format!("{text}\n{}", table(header, rows));
        }
        text
    })
}
