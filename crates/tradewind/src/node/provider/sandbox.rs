//! Whether containers of leases have a kernel of their own.

use anyhow::Context;
use tradewind_provider::docker::{DockerConfig, Sandbox, sandboxed_by};
use tradewind_provider::doctor::Diagnosis;
use tradewind_provider::runtime::RuntimeError;

use super::{DOCKER, ProviderSection};

/// Ends the start of a node whose owner asked for what the engine does not have. An engine that does not answer yet refuses each lease
/// until it does.
pub(super) async fn require(section: &ProviderSection) -> anyhow::Result<()> {
    if !section.runtimes.iter().any(|name| name == DOCKER) {
        return Ok(());
    }
    match sandboxed_by(&config(section)).await {
        Ok(Some(runtime)) => tracing::info!(runtime, "leases without accelerators run in a sandbox"),
        Ok(None) => tracing::info!(
            "leases in docker share this machine's kernel; `tradewind provider doctor` tells more"
        ),
        Err(error @ RuntimeError::Unsupported { .. }) => {
            return Err(error).context(format!("`provider.sandbox` in node.toml is `{}`", section.sandbox));
        }
        Err(error) => tracing::warn!(%error, "whether leases run in a sandbox is not known yet"),
    }
    Ok(())
}

/// What `provider doctor` says of the sandbox that is used; what is missing is said with the runtime's readiness.
pub(crate) async fn examine(section: &ProviderSection) -> Option<Diagnosis> {
    if !section.runtimes.iter().any(|name| name == DOCKER) {
        return None;
    }
    let runtime = sandboxed_by(&config(section)).await.ok()??;
    let (which, rest) = match section.sandbox {
        Sandbox::Auto => ("leases without accelerators run", "; those with some do not"),
        Sandbox::Required => ("leases run", "; those with accelerators are refused"),
        Sandbox::Off | Sandbox::Named(_) => ("leases run", ""),
    };
    Some(Diagnosis::good("sandbox", format!("{which} in `{runtime}`{rest}")))
}

/// The engine, and what is wanted of it; no lease is started with this.
fn config(section: &ProviderSection) -> DockerConfig {
    let mut config = DockerConfig::new("", "");
    super::of_engine(&mut config, section);
    config
}
