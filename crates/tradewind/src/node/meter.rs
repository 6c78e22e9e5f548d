//! The meter role: a key of its own beside the wallet, and the meter that signs for buyers which trust it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tradewind_buyer::meter::{Meter, MeterConfig, Parts};
use tradewind_chain::ledger::Ledger;
use tradewind_mesh::Transport;
use tradewind_proto::units::Clock;
use tradewind_store::Store;

use super::config::MeterSection;
use super::keys;

/// What the role needs of its node.
pub(crate) struct Needs<'a> {
    pub(crate) section: &'a MeterSection,
    pub(crate) data_dir: &'a Path,
    pub(crate) password_file: Option<&'a Path>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
}

/// Starts metering; leases that were metered are taken up again.
pub(crate) async fn start(needs: Needs<'_>) -> anyhow::Result<Meter> {
    let config = MeterConfig {
        serves: needs.section.serves.clone(),
        assignments: needs.section.assignments,
        tick: Duration::from_millis(500),
    };
    if config.serves.is_empty() {
        tracing::warn!("the meter serves nobody: name buyers' accounts in `serves` under [meter]");
    }
    let parts = Parts {
        ledger: needs.ledger,
        transport: needs.transport,
        store: needs.store,
        // Not the key with which this node's own buyer meters.
        key: keys::wallet(&needs.data_dir.join("delegated-meter"), needs.password_file)?,
        clock: needs.clock,
    };
    Ok(Meter::start(config, parts).await?)
}
