//! The roles of one node that take part in the market.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tradewind_buyer::buyer::Buyer;
use tradewind_buyer::meter::Meter;
use tradewind_chain::client::keystore;
use tradewind_chain::ledger::Ledger;
use tradewind_explorer::Explorer;
use tradewind_mesh::Transport;
use tradewind_mesh::directory::system_clock;
use tradewind_proto::ids::DeviceId;
use tradewind_proto::profile::NetworkProfile;
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::Clock;
use tradewind_provider::agent::Agent;
use tradewind_reputation::Reputations;
use tradewind_store::Store;
use tradewind_watcher::Watcher;

use super::config::NodeConfig;
use super::{buyer, meter, provider, sponsor, watcher};

/// The roles that take part in the market.
#[derive(Default)]
pub(super) struct Roles {
    pub(super) provider: Option<Agent>,
    pub(super) buyer: Option<Buyer>,
    pub(super) meter: Option<Meter>,
    pub(super) watcher: Option<Watcher>,
    pub(super) explorer: Option<Explorer>,
    pub(super) reputations: Option<Reputations>,
}

impl Roles {
    pub(super) async fn start(
        config: &NodeConfig,
        profile: &NetworkProfile,
        key: &SigningKey,
        ledger: &Arc<dyn Ledger>,
        transport: &Arc<dyn Transport>,
        store: &Store,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let (data_dir, password_file) = (config.data_dir.as_path(), config.password_file.as_deref());
        let clock = system_clock();
        let (ledger, transport, store) = (ledger.clone(), transport.clone(), store.clone());
        let reputations = reputations(config, &ledger, &transport, &clock, shutdown);
        let mut started = Self { reputations: reputations.clone(), ..Self::default() };
        if let Some(section) = &config.provider {
            let needs = provider::Needs {
                section,
                profile,
                data_dir,
                password_file,
                key: key.clone(),
                ledger: ledger.clone(),
                transport: transport.clone(),
                store: store.clone(),
                clock: clock.clone(),
                shutdown: shutdown.clone(),
            };
            started.provider = Some(provider::start(needs).await.context("the provider role cannot start")?);
        }
        if let Some(section) = &config.buyer {
            let needs = buyer::Needs {
                section,
                profile,
                data_dir,
                password_file,
                key: key.clone(),
                ledger: ledger.clone(),
                transport: transport.clone(),
                store: store.clone(),
                clock: clock.clone(),
                reputations: reputations.clone(),
                traces: config.traces.is_some(),
            };
            started.buyer = Some(buyer::start(needs).await.context("the buyer role cannot start")?);
        }
        if let Some(section) = &config.sponsor {
            let needs = sponsor::Needs {
                section,
                profile,
                buyer: started.buyer.as_ref(),
                ledger: ledger.clone(),
                data_dir: config.data_dir.clone(),
                store: store.clone(),
                clock: clock.clone(),
                shutdown: shutdown.clone(),
            };
            sponsor::start(needs).await.context("the sponsor role cannot start")?;
        }
        if let Some(section) = &config.meter {
            let needs = meter::Needs {
                section,
                data_dir,
                password_file,
                ledger: ledger.clone(),
                transport: transport.clone(),
                store: store.clone(),
                clock: clock.clone(),
            };
            started.meter = Some(meter::start(needs).await.context("the meter role cannot start")?);
        }
        if let Some(section) = &config.watcher {
            let needs = watcher::Needs {
                section,
                profile,
                data_dir,
                password_file,
                key: key.clone(),
                ledger: ledger.clone(),
                transport: transport.clone(),
                store,
                clock: clock.clone(),
            };
            started.watcher = Some(watcher::start(needs).await.context("the watcher role cannot start")?);
        }
        if let (Some(section), Some(reputations)) = (&config.explorer, reputations) {
            let parts = tradewind_explorer::Parts { ledger, transport, reputations, clock };
            let explorer = Explorer::start(section.listen, parts, profile.clone(), shutdown.clone());
            started.explorer = Some(explorer.await?);
        }
        Ok(started)
    }

    pub(super) async fn shutdown(self) {
        if let Some(buyer) = self.buyer {
            buyer.shutdown().await;
        }
        if let Some(meter) = self.meter {
            meter.shutdown().await;
        }
        if let Some(watcher) = self.watcher {
            watcher.shutdown().await;
        }
        if let Some(provider) = self.provider {
            provider.shutdown().await;
        }
    }
}

/// What buyers and readers of the explorer go by, where there are some.
fn reputations(
    config: &NodeConfig,
    ledger: &Arc<dyn Ledger>,
    transport: &Arc<dyn Transport>,
    clock: &Clock,
    shutdown: &CancellationToken,
) -> Option<Reputations> {
    let read = config.buyer.is_some() || config.explorer.is_some();
    read.then(|| Reputations::follow(ledger.clone(), transport.clone(), clock.clone(), shutdown.clone()))
}

/// The device that this machine is or was: derived from the account and the device's own key.
pub(super) fn device(account: alloy::primitives::Address, data_dir: &Path) -> Option<DeviceId> {
    let key = keystore::address(&data_dir.join("device").join("wallet.json")).ok().flatten()?;
    Some(DeviceId::derive(account, key))
}
