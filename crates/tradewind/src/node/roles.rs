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

use super::config::{
    BuyerSection, ExplorerSection, MeterSection, NodeConfig, ProviderSection, SponsorSection, WatcherSection,
};
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
        let clock = system_clock();
        let reputations = reputations(config, ledger, transport, &clock, shutdown);
        let ground = Ground {
            config,
            profile,
            key,
            ledger,
            transport,
            store,
            shutdown,
            clock,
            reputations: &reputations,
        };
        let mut started = Self { reputations: reputations.clone(), ..Self::default() };
        if let Some(section) = &config.provider {
            started.provider =
                Some(ground.provider(section).await.context("the provider role cannot start")?);
        }
        if let Some(section) = &config.buyer {
            started.buyer = Some(ground.buyer(section).await.context("the buyer role cannot start")?);
        }
        if let Some(section) = &config.sponsor {
            let buyer = started.buyer.as_ref();
            ground.sponsor(section, buyer).await.context("the sponsor role cannot start")?;
        }
        if let Some(section) = &config.meter {
            started.meter = Some(ground.meter(section).await.context("the meter role cannot start")?);
        }
        if let Some(section) = &config.watcher {
            started.watcher = Some(ground.watcher(section).await.context("the watcher role cannot start")?);
        }
        if let Some(section) = &config.explorer {
            started.explorer = ground.explorer(section).await?;
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

/// What every role of a node stands on.
struct Ground<'a> {
    config: &'a NodeConfig,
    profile: &'a NetworkProfile,
    key: &'a SigningKey,
    ledger: &'a Arc<dyn Ledger>,
    transport: &'a Arc<dyn Transport>,
    store: &'a Store,
    shutdown: &'a CancellationToken,
    clock: Clock,
    reputations: &'a Option<Reputations>,
}

impl Ground<'_> {
    fn password_file(&self) -> Option<&Path> {
        self.config.password_file.as_deref()
    }

    async fn provider(&self, section: &ProviderSection) -> anyhow::Result<Agent> {
        let needs = provider::Needs {
            section,
            profile: self.profile,
            data_dir: &self.config.data_dir,
            password_file: self.password_file(),
            key: self.key.clone(),
            ledger: self.ledger.clone(),
            transport: self.transport.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            shutdown: self.shutdown.clone(),
        };
        provider::start(needs).await
    }

    async fn buyer(&self, section: &BuyerSection) -> anyhow::Result<Buyer> {
        let needs = buyer::Needs {
            section,
            profile: self.profile,
            data_dir: &self.config.data_dir,
            password_file: self.password_file(),
            key: self.key.clone(),
            ledger: self.ledger.clone(),
            transport: self.transport.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            reputations: self.reputations.clone(),
            traces: self.config.traces.is_some(),
        };
        buyer::start(needs).await
    }

    async fn sponsor(&self, section: &SponsorSection, buyer: Option<&Buyer>) -> anyhow::Result<()> {
        let needs = sponsor::Needs {
            section,
            profile: self.profile,
            buyer,
            ledger: self.ledger.clone(),
            data_dir: self.config.data_dir.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            shutdown: self.shutdown.clone(),
        };
        sponsor::start(needs).await
    }

    async fn meter(&self, section: &MeterSection) -> anyhow::Result<Meter> {
        let needs = meter::Needs {
            section,
            data_dir: &self.config.data_dir,
            password_file: self.password_file(),
            ledger: self.ledger.clone(),
            transport: self.transport.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
        };
        meter::start(needs).await
    }

    async fn watcher(&self, section: &WatcherSection) -> anyhow::Result<Watcher> {
        let needs = watcher::Needs {
            section,
            profile: self.profile,
            data_dir: &self.config.data_dir,
            password_file: self.password_file(),
            key: self.key.clone(),
            ledger: self.ledger.clone(),
            transport: self.transport.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
        };
        watcher::start(needs).await
    }

    async fn explorer(&self, section: &ExplorerSection) -> anyhow::Result<Option<Explorer>> {
        let Some(reputations) = self.reputations.clone() else { return Ok(None) };
        let (ledger, transport, clock) = (self.ledger.clone(), self.transport.clone(), self.clock.clone());
        let parts = tradewind_explorer::Parts { ledger, transport, reputations, clock };
        let explorer = Explorer::start(section.listen, parts, self.profile.clone(), self.shutdown.clone());
        Ok(Some(explorer.await?))
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
