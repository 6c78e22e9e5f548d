//! The node's watcher role.

use tradewind_proto::evidence::Level;

use crate::client::NodeClient;
use crate::printer::{Printer, short, table};

/// The node's seats, what watchers may do by their number, and the cases that are heard.
pub(super) async fn show(node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
    let view = node.watcher().await?;
    printer.data(&view, |view| {
        let level = match view.level {
            Level::Observe => "observe: too few seats for cases; buyers challenge on chain",
            Level::Jail => "jail: cases jail and freeze, nobody is slashed by votes",
            Level::Full => "full: cases jail, and slash once an appeal is over",
        };
        let mut text = format!(
            "epoch    {}\nroster   {} seats\nlevel    {level}\nwatches  {} devices, {} cases open",
            view.epoch,
            view.roster,
            view.devices,
            view.cases.len()
        );
        let rows = view.seats.iter().map(|seat| {
            [seat.seat.to_string(), short(&seat.key), seat.stake.to_string(), seat.strikes.to_string()]
        });
        text = format!("{text}\n{}", table(["seat", "key", "stake, base units", "strikes"], rows));
        for case in &view.cases {
            text = format!("{text}\ncase     {case}");
        }
        text
    })
}
