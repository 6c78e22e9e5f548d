//! `provider speed`: processor, memory, disk and line, measured now. `provider join` measures the same.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use tradewind_provider::inventory::Speed;

use crate::cli::Cli;
use crate::client::NodeClient;
use crate::commands::{node, not_set_up};
use crate::node::api::view::LineView;
use crate::paths;
use crate::printer::{Printer, short};

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    #[serde(flatten)]
    pub(super) machine: Speed,
    pub(super) network: LineView,
}

pub(super) async fn speed(cli: &Cli, printer: Printer) -> anyhow::Result<()> {
    let file = paths::config_file()?;
    if !file.exists() {
        return Err(not_set_up(&paths::data_dir()?.join("node.sock")));
    }
    let (_, config) = node::load(&file)?;
    let machine = machine(&config.data_dir, printer)?;
    let network = network(&crate::commands::client(cli)?, printer).await;
    printer.data(&Measured { machine, network }, |measured| {
        format!("machine  {}\nnetwork  {}", machine_told(&measured.machine), network_told(&measured.network))
    })
}

/// The machine by itself; the disk is that of `dir`.
pub(super) fn machine(dir: &Path, printer: Printer) -> anyhow::Result<Speed> {
    let bar = printer.spinner("measuring processor, memory and disk");
    let speed = Speed::measure(dir);
    bar.finish_and_clear();
    speed.with_context(|| format!("the disk of {} cannot be measured", dir.display()))
}

/// The node's line. That it cannot be measured is a finding, and fails nothing.
pub(super) async fn network(node: &NodeClient, printer: Printer) -> LineView {
    let bar = printer.spinner("measuring the network");
    let line = node.speed().await;
    bar.finish_and_clear();
    line.unwrap_or_else(|error| LineView::Unmeasured { problem: format!("{error:#}") })
}

pub(super) fn machine_told(speed: &Speed) -> String {
    let (whole, tenth) = (speed.products / 1_000_000_000, speed.products / 100_000_000 % 10);
    let Speed { memory, write, read, .. } = speed;
    let moved = format!("memory {memory}/s, disk {write}/s written, {read}/s read");
    format!("{whole}.{tenth} G 8-bit products/s, {moved}")
}

pub(super) fn network_told(line: &LineView) -> String {
    match line {
        LineView::Measured { peer, received, sent } => {
            format!("{} received, {} sent, with {}", megabits(*received), megabits(*sent), short(peer))
        }
        LineView::Unmeasured { problem } => format!("not measured: {problem}"),
    }
}

/// Bytes a second as lines are sold.
fn megabits(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 8 / 100_000;
    match tenths {
        0..100 => format!("{}.{} Mbit/s", tenths / 10, tenths % 10),
        _ => format!("{} Mbit/s", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_as_lines_are_sold() {
        let line = LineView::Measured { peer: "abc".into(), received: 51_500_000, sent: 1_062_500 };
        assert_eq!(network_told(&line), "412 Mbit/s received, 8.5 Mbit/s sent, with abc");
        assert_eq!(megabits(u64::MAX), "147573952589676 Mbit/s");
        let none = LineView::Unmeasured { problem: "nobody answers".into() };
        assert_eq!(network_told(&none), "not measured: nobody answers");
    }

    #[test]
    fn what_the_node_says_is_read_as_it_was_meant() {
        for line in [
            LineView::Measured { peer: "abc".into(), received: 2, sent: 1 },
            LineView::Unmeasured { problem: "nobody answers".into() },
        ] {
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<LineView>(&text).unwrap(), line, "{text}");
        }
    }
}
