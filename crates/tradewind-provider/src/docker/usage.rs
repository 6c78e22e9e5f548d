//! What a lease consumed. The engine forgets it when the container ends, so every sample is kept beside the log.

use std::path::{Path, PathBuf};

use bollard::models::ContainerStatsResponse;
use bollard::query_parameters::StatsOptionsBuilder;
use futures::StreamExt as _;
use tradewind_proto::units::Bytes;
use tradewind_proto::workload::Usage;

use super::engine::{CallError, Engine};

/// The largest consumption seen so far, in a file.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    file: PathBuf,
}

impl Meter {
    /// The meter kept in the lease's directory.
    pub(super) fn new(directory: &Path) -> Self {
        Self { file: directory.join("usage") }
    }

    /// The last sample.
    pub(super) fn last(&self) -> Usage {
        let text = std::fs::read(&self.file).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Adds a sample: totals only grow, memory and disk are as they are now.
    pub(super) fn add(&self, sample: Usage) -> std::io::Result<Usage> {
        let before = self.last();
        let merged = Usage {
            cpu_ms: sample.cpu_ms.max(before.cpu_ms),
            memory: sample.memory,
            memory_peak: sample.memory_peak.max(sample.memory).max(before.memory_peak),
            disk: sample.disk,
            egress: sample.egress.max(before.egress),
            ingress: sample.ingress.max(before.ingress),
            accelerators: None,
        };
        let partial = self.file.with_extension("partial");
        std::fs::write(&partial, serde_json::to_vec(&merged)?)?;
        std::fs::rename(&partial, &self.file)?;
        Ok(merged)
    }
}

/// What the engine measures now; `None` when the container does not run.
pub(super) async fn sample(engine: &Engine, container: &str) -> Result<Option<Usage>, CallError> {
    let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
    let answer = engine
        .call("read a container's statistics", |docker| async move {
            docker.stats(container, Some(options)).next().await.transpose()
        })
        .await?;
    Ok(answer.as_ref().and_then(read))
}

fn read(stats: &ContainerStatsResponse) -> Option<Usage> {
    let nanos = stats.cpu_stats.as_ref()?.cpu_usage.as_ref()?.total_usage.filter(|nanos| *nanos > 0)?;
    let memory = stats.memory_stats.as_ref()?;
    // Page cache that the kernel can drop at once is nobody's memory; its name depends on the version of cgroups.
    let cache = memory
        .stats
        .as_ref()
        .and_then(|all| all.get("total_inactive_file").or_else(|| all.get("inactive_file")));
    let resident = memory.usage.unwrap_or(0).saturating_sub(cache.copied().unwrap_or(0));
    let (mut egress, mut ingress) = (0_u64, 0_u64);
    for network in stats.networks.iter().flat_map(|networks| networks.values()) {
        egress = egress.saturating_add(network.tx_bytes.unwrap_or(0));
        ingress = ingress.saturating_add(network.rx_bytes.unwrap_or(0));
    }
    Some(Usage {
        cpu_ms: nanos / 1_000_000,
        memory: Bytes::new(resident),
        // The kernel's own high-water mark counts page cache, so the peak is that of the samples.
        memory_peak: Bytes::new(resident),
        disk: Bytes::ZERO,
        egress: Bytes::new(egress),
        ingress: Bytes::new(ingress),
        accelerators: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_never_shrink() {
        let home = tempfile::tempdir().expect("a directory");
        let meter = Meter::new(home.path());
        let sample = |cpu_ms, memory| Usage { cpu_ms, memory: Bytes::new(memory), ..Usage::default() };
        meter.add(sample(500, 90)).expect("add");
        let merged = meter.add(sample(400, 10)).expect("add");
        assert_eq!((merged.cpu_ms, merged.memory, merged.memory_peak), (500, Bytes::new(10), Bytes::new(90)));
        assert_eq!(meter.last(), merged, "a restarted agent reads the same");
    }
}
