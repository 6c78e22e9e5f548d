//! A Slurm cluster as what is sold: its configuration against what the runtime needs.

use anyhow::{Context, bail};
use tradewind_proto::offer::{Gpus, Resources, Vendor};
use tradewind_proto::units::Seconds;
use tradewind_provider::inventory::{Places, Sold};
use tradewind_provider::slurm::{SlurmConfig, SlurmRuntime};

use super::SLURM;
use super::sale::size;
use crate::node::config::{ProviderSection, SlurmSection};

/// The cluster, where one is lent; an error where the rest of the configuration does not go with it.
pub(super) fn section(section: &ProviderSection) -> anyhow::Result<Option<&SlurmSection>> {
    if !section.runtimes.iter().any(|name| name == SLURM) {
        return Ok(None);
    }
    let cluster = section
        .slurm
        .as_ref()
        .context("`provider.runtimes` in node.toml names slurm, but there is no `[provider.slurm]`")?;
    if section.runtimes.len() > 1 {
        bail!(
            "`provider.runtimes` in node.toml: slurm sells a cluster and the others this machine; give each a node of its own"
        );
    }
    if !cluster.directory.is_absolute() {
        bail!("`provider.slurm.directory` in node.toml must be an absolute path, the same on every node");
    }
    if section.spot_price.is_none() && section.spot_percent.is_none() {
        bail!(
            "`provider.spot_price` in node.toml is missing: slurm sells spot leases only, since the owner's jobs take their place"
        );
    }
    Ok(Some(cluster))
}

/// The runtime that the configuration describes.
pub(crate) fn runtime(section: &ProviderSection) -> anyhow::Result<SlurmRuntime> {
    let cluster = self::section(section)?.context("`provider.runtimes` in node.toml does not name slurm")?;
    let shim = std::env::current_exe().context("this program's own path is unknown")?;
    let config = SlurmConfig {
        partition: cluster.partition.clone(),
        account: cluster.account.clone(),
        qos: cluster.qos.clone(),
        gres: cluster.gpu.as_ref().map(|gpu| gpu.gres.clone()),
        programs: cluster.programs.clone(),
        notice: Seconds::new(section.notice),
        ..SlurmConfig::new(cluster.directory.clone(), shim)
    };
    SlurmRuntime::new(config).context("`provider.slurm.directory` in node.toml cannot be used")
}

/// What is sold of a cluster: what the configuration says, since this machine is none of its nodes.
pub(super) fn sold(section: &ProviderSection) -> anyhow::Result<Sold> {
    let missing = |field: &str| {
        format!("`provider.{field}` in node.toml is missing: say what a unit of the cluster has")
    };
    let cpus = section.cpus.with_context(|| missing("cpus"))?;
    let memory = size(section.memory.as_deref(), "memory")?.with_context(|| missing("memory"))?;
    let disk = size(section.disk.as_deref(), "disk")?.with_context(|| missing("disk"))?;
    let count = section.gpus.unwrap_or(0);
    let gpus = match (count, section.slurm.as_ref().and_then(|cluster| cluster.gpu.as_ref())) {
        (0, _) => None,
        (_, None) => bail!("`provider.slurm.gpu` in node.toml is missing: say what `provider.gpus` are"),
        (count, Some(gpu)) => Some(Gpus {
            count,
            vendor: Vendor::Nvidia,
            model: gpu.model.clone(),
            vram: size(Some(&gpu.vram), "slurm.gpu.vram")?.with_context(|| missing("slurm.gpu.vram"))?,
            compute_capability: None,
            driver: None,
            interconnect: None,
        }),
    };
    let cpu_millis = cpus.checked_mul(1000).context("`provider.cpus` in node.toml is too much")?;
    let unit = Resources { cpu_millis, memory, disk, gpus };
    // Slurm chooses them; these only count.
    let gpus = (0..u32::from(count) * u32::from(section.units)).collect();
    Ok(Sold { unit, gpus, places: Places::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str =
        "runtimes = [\"slurm\"]\nspot_price = \"0.1\"\ncpus = 8\nmemory = \"32 GiB\"\ndisk = \"100 GiB\"\n";

    fn read(text: &str) -> ProviderSection {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_cluster_s_unit_is_what_the_configuration_says() {
        let text = format!(
            "{SOUND}units = 2\ngpus = 4\n[slurm]\ndirectory = \"/s\"\n[slurm.gpu]\ngres = \"gpu:a100\"\nmodel = \"A100\"\nvram = \"80 GiB\"\n"
        );
        let section = read(&text);
        assert_eq!(super::section(&section).unwrap().unwrap().partition, "lent");
        let sold = sold(&section).unwrap();
        assert_eq!((sold.unit.cpu_millis, sold.gpus.len()), (8_000, 8));
        assert_eq!(sold.unit.gpus.unwrap().count, 4);
    }

    #[test]
    fn what_does_not_go_with_a_cluster_names_its_key() {
        let of = |text: &str| format!("{:#}", section(&read(text)).unwrap_err());
        assert!(of(SOUND).contains("`[provider.slurm]`"));
        let relative = format!("{SOUND}[slurm]\ndirectory = \"s\"\n");
        assert!(of(&relative).contains("provider.slurm.directory"));
        let sound = format!("{SOUND}[slurm]\ndirectory = \"/s\"\n");
        assert!(of(&sound.replace("[\"slurm\"]", "[\"slurm\", \"docker\"]")).contains("provider.runtimes"));
        assert!(of(&sound.replace("spot_price = \"0.1\"\n", "")).contains("provider.spot_price"));
        let vague = sold(&read(&sound.replace("cpus = 8\n", ""))).unwrap_err().to_string();
        assert!(vague.contains("provider.cpus"), "{vague}");
        let unnamed =
            sold(&read(&sound.replace("cpus = 8\n", "cpus = 8\ngpus = 1\n"))).unwrap_err().to_string();
        assert!(unnamed.contains("provider.slurm.gpu"), "{unnamed}");
        assert!(section(&read("price = \"1\"\n")).unwrap().is_none());
    }
}
