//! The beacon's rounds, which a watcher's node brings where the network draws by drand.

use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tradewind_chain::client::beacon::{self, BeaconKind, Maker};
use tradewind_chain::client::drand::Relays;
use tradewind_chain::client::reader::Reader;
use tradewind_chain::client::sender::Sender;
use tradewind_chain::ledger::court::Tribunal;
use tradewind_proto::profile::NetworkProfile;

use super::config::WatcherSection;

/// How long watchers wait for one another at most, so that a round is paid for once: some blocks.
const TURNS: Duration = Duration::from_secs(12);
/// The same where a block follows at once.
const TURNS_IN_DEVELOPMENT: Duration = Duration::from_secs(2);

/// Brings rounds until `shutdown`, from the relays that the operator named and from no others.
pub(super) async fn bring(
    section: Option<&WatcherSection>,
    profile: &NetworkProfile,
    reader: &Reader,
    sender: &Sender,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (Some(section), Some(_)) = (section, profile.contracts.court) else { return Ok(()) };
    let relays = Relays::new(&section.drand).context("`watcher.drand` in node.toml")?;
    let setup = reader.setup().await.context("the court's setup cannot be read")?;
    let kind = reader.beacon_kind(setup.beacon).await.context("the court's beacon cannot be told")?;
    match kind {
        BeaconKind::Local if relays.all().is_empty() => {}
        BeaconKind::Local => {
            tracing::warn!(
                "this network's beacon is its ledger's; `watcher.drand` in node.toml does nothing"
            );
        }
        BeaconKind::Drand { chain, .. } if relays.all().is_empty() => {
            tracing::warn!(%chain, "this network draws by drand, and this node brings none of its rounds; \
                hint: name relays under `drand` in [watcher], such as \"https://api.drand.sh\"");
        }
        BeaconKind::Drand { chain, .. } => {
            let names: Vec<_> = relays.all().iter().map(|relay| relay.name().to_owned()).collect();
            tracing::info!(%chain, relays = ?names, "this node brings drand's rounds");
            let turns = if profile.development { TURNS_IN_DEVELOPMENT } else { TURNS };
            let maker = Maker::Drand { relays, turns };
            tokio::spawn(beacon::keep(sender.clone(), reader.clone(), maker, shutdown));
        }
    }
    Ok(())
}
