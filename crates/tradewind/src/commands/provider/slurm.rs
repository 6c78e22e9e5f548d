//! `provider slurm --dry-run`: what a cluster's administrator has to add so that it lends. Asks the cluster, edits nothing.

use anyhow::Context;
use tradewind_provider::slurm::advice::{Advice, Point};

use crate::node::config::NodeConfig;
use crate::node::provider as role;
use crate::paths;
use crate::printer::Printer;

/// Compares and prints.
pub(super) async fn advise(printer: Printer) -> anyhow::Result<()> {
    let file = paths::config_file()?;
    let config = NodeConfig::load(&file)?;
    let section = config
        .provider
        .with_context(|| format!("{} has no `[provider]`; hint: see docs/provider.md", file.display()))?;
    let advice = role::slurm(&section)?.advice().await.context(
        "the cluster does not answer; hint: run it where `sinfo` works, or name `provider.slurm.programs` in node.toml",
    )?;
    printer.data(&advice, shown)
}

fn shown(advice: &Advice) -> String {
    let mut lines = vec![format!("Slurm {}, partition {}", advice.version, advice.partition)];
    lines.extend(advice.points.iter().map(point));
    if advice.lines.is_empty() {
        lines.push("nothing has to be added to slurm.conf".into());
    } else {
        lines.push(
            "\n# for slurm.conf, in place of the lines with the same names; then restart slurmctld".into(),
        );
        lines.extend(advice.lines.iter().cloned());
    }
    lines.join("\n")
}

fn point(point: &Point) -> String {
    let mark = match (point.good, point.grave) {
        (true, _) => "✓",
        (false, false) => "!",
        (false, true) => "✗",
    };
    let fix = if point.good { String::new() } else { format!("\n  → {}: {}", point.wanted, point.why) };
    format!("{mark} {:<36} {}{fix}", point.setting, point.now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_shown_with_the_lines_to_add() {
        let missing = Point {
            setting: "PreemptType".into(),
            now: "preempt/none".into(),
            wanted: "set it".into(),
            good: false,
            grave: true,
            why: "because".into(),
        };
        let line = "PreemptType=preempt/partition_prio".to_owned();
        let advice = Advice {
            version: "23.11".into(),
            partition: "lent".into(),
            points: vec![missing],
            lines: vec![line],
        };
        let text = shown(&advice);
        assert!(text.contains("✗ PreemptType") && text.contains("→ set it: because"), "{text}");
        assert!(text.ends_with("\nPreemptType=preempt/partition_prio"), "{text}");
        let sound = Advice { points: Vec::new(), lines: Vec::new(), ..advice };
        assert!(shown(&sound).contains("nothing has to be added"));
    }
}
