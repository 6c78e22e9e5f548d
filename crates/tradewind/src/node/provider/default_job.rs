//! The owner's job for when nobody leases the machine: a job file of which what is run counts, not how it is bought.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use tradewind_proto::job::{ImageSource, JobSpec};
use tradewind_proto::manifest::Share;
use tradewind_proto::units::{Bytes, Seconds};
use tradewind_proto::workload::Image;
use tradewind_provider::agent::{DEFAULT_JOB, DefaultJob};
use tradewind_provider::inventory::Sold;
use tradewind_provider::runtime::Runtime;

use super::{DOCKER, PROCESS};
use crate::node::config::ProviderSection;

/// Reads it. It gets all that is sold.
pub(super) fn read(
    section: &ProviderSection,
    sold: &Sold,
    runtimes: &BTreeMap<&'static str, Arc<dyn Runtime>>,
) -> anyhow::Result<Option<DefaultJob>> {
    let Some(wanted) = &section.default_job else { return Ok(None) };
    let file = wanted.file.display();
    let text = std::fs::read_to_string(&wanted.file)
        .with_context(|| format!("`provider.default_job.file` in node.toml: cannot read {file}"))?;
    let spec = JobSpec::parse(&file.to_string(), &text)?;
    refuse(&spec).with_context(|| format!("{file} cannot be the default job"))?;
    let (name, image) = match &spec.image {
        None => (PROCESS, None),
        Some(ImageSource::Reference(reference)) => {
            (DOCKER, Some(Image { reference: reference.clone(), digest: None, archive: None }))
        }
        Some(ImageSource::Archive(_)) => {
            bail!("{file} cannot be the default job: its image has to be one that the engine has or pulls")
        }
    };
    let Some((runtime, _)) = runtimes.get_key_value(name) else {
        bail!(
            "{file} cannot be the default job: it needs the runtime `{name}`, which `provider.runtimes` does not have"
        );
    };
    let manifest = spec.manifest(runtime, image, share(sold, section.units), Vec::new(), [0; 32]);
    let spec = manifest.workload(DEFAULT_JOB, sold.gpus.clone());
    Ok(Some(DefaultJob { runtime, spec, after: Seconds::new(wanted.after) }))
}

/// All that is sold.
fn share(sold: &Sold, units: u8) -> Share {
    let all = |bytes: Bytes| Bytes::new(bytes.get().saturating_mul(u64::from(units)));
    Share {
        cpu_millis: sold.unit.cpu_millis.saturating_mul(u32::from(units)),
        memory: all(sold.unit.memory),
        disk: all(sold.unit.disk),
        gpus: u8::try_from(sold.gpus.len()).unwrap_or(u8::MAX),
        egress: None,
    }
}

fn refuse(spec: &JobSpec) -> anyhow::Result<()> {
    let named = [
        (
            "inputs",
            !spec.inputs.is_empty(),
            "put files into `provider/default-job` in the data directory, where it runs",
        ),
        ("secrets", !spec.secrets.is_empty(), "no buyer's node is there to give them"),
        ("registry", spec.registry.is_some(), "pull the image with the engine"),
        ("timeout", spec.timeout.is_some(), "it runs until a lease comes"),
        ("keep", spec.keep.is_some(), "it runs until a lease comes"),
    ];
    match named.into_iter().find(|(_, is_set, _)| *is_set) {
        Some((field, _, why)) => bail!("`{field}` has no meaning there: {why}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_buyer_s_node_can_give_is_refused() {
        let read = |text: &str| refuse(&JobSpec::parse("fold.yaml", text).unwrap());
        read("run: fold\nmax_price: 1\nenvs: {A: b}\nnetwork: none\n").unwrap();
        for (field, text) in [
            ("inputs", "inputs: [{path: data}]\n"),
            ("timeout", "timeout: 1h\n"),
            ("secrets", "secrets: [TOKEN]\n"),
            ("keep", "keep: 1h\n"),
        ] {
            let problem = read(&format!("run: fold\n{text}")).unwrap_err().to_string();
            assert!(problem.contains(&format!("`{field}`")), "{problem}");
        }
    }
}
