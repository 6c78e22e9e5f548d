//! The node's watcher role.

use tradewind_proto::evidence::Level;

use crate::client::NodeClient;
use crate::printer::{Printer, counted, money, short, table};

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
            "epoch    {}\nroster   {}\nlevel    {level}\nwatches  {}, {} open",
            view.epoch,
            counted(view.roster as usize, "seat"),
            counted(view.devices, "device"),
            counted(view.cases.len(), "case"),
        );
        let rows = view.seats.iter().map(|seat| {
            [
                seat.seat.to_string(),
                short(&seat.key),
                money(seat.stake, &view.staked),
                seat.strikes.to_string(),
            ]
        });
        text = format!("{text}\n{}", table(["seat", "key", "stake", "strikes"], rows));
        for case in &view.cases {
            text = format!("{text}\ncase     {case}");
        }
        text
    })
}
