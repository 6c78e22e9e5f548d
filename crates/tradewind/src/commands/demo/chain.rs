//! The chain as the demonstration reads it: what it claims of money comes from here and from nowhere else.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::U256;
use alloy::providers::{DynProvider, Provider as _};
use alloy::sol_types::SolCall;
use anyhow::{Context, bail};
use tradewind_chain::client::artifacts;
use tradewind_chain::client::bindings::abi;
use tradewind_chain::client::bindings::court::abi as court;
use tradewind_chain::client::relayed::{RelayedConfig, RelayedLedger};
use tradewind_chain::client::sender::{Call, Sender, SenderConfig};
use tradewind_chain::client::store::Store;
use tradewind_chain::client::wallet::{Contracts, Wallet};
use tradewind_chain::ledger::court::{CaseRecord, Tribunal};
use tradewind_chain::ledger::{
    ActionStatus, ChainEvent, EventCursor, Feed, LeaseEvent, Ledger as _, LedgerEvent,
};
use tradewind_proto::ids::{DeviceId, LeaseId};
use tradewind_proto::profile::{Asset, NetworkProfile};
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::{Money, Timestamp};

use super::scene::now;
use crate::node::ledger;

/// Events that one look takes.
const PAGE: usize = 1_000;
/// How long a transaction may take.
const STEP: Duration = Duration::from_secs(60);

/// A chain, and its host's key: nobody else has gas for a transaction of its own.
pub(super) struct Chain {
    pub(super) ledger: RelayedLedger,
    provider: DynProvider,
    contracts: Contracts,
    host: SigningKey,
    pub(super) staked: Asset,
    pub(super) quote: Asset,
}

/// What was taken from a device's stake, and where it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Slashes {
    pub(super) amount: u128,
    pub(super) reward: u128,
    pub(super) sunk: u128,
}

/// The money of a lease that is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) paid: Money,
    pub(super) forfeited: Money,
}

impl Chain {
    pub(super) fn open(profile: &NetworkProfile, host: SigningKey) -> anyhow::Result<Self> {
        let quote = profile.quote().context("the network's profile names no asset")?.clone();
        let staked = profile.staked().unwrap_or(&quote).clone();
        let reader = ledger::reader(profile)?;
        let (provider, contracts) = (reader.provider().clone(), *reader.contracts());
        let wallet = Wallet::new(host.clone(), contracts);
        let config = RelayedConfig::local(Vec::new(), 0);
        let ledger = RelayedLedger::start(reader, wallet, None, Store::in_memory()?, config)?;
        Ok(Self { ledger, provider, contracts, host, staked, quote })
    }

    /// All there is of what is staked, in base units.
    pub(super) async fn supply(&self) -> anyhow::Result<u128> {
        whole(abi::Token::new(self.staked.address, &self.provider).totalSupply().call().await?)
    }

    /// Everything that ever happened, in order.
    pub(super) async fn history(&self) -> anyhow::Result<Vec<ChainEvent>> {
        let (mut history, mut cursor) = (Vec::new(), EventCursor::default());
        loop {
            let page = self.ledger.events(cursor, PAGE).await?;
            if page.cursor == cursor {
                return Ok(history);
            }
            cursor = page.cursor;
            history.extend(page.items.into_iter().filter_map(|item| match item {
                Feed::Happened(event) => Some(*event),
                Feed::Reorged { .. } => None,
            }));
        }
    }

    /// The first of a lease's events in which `found` sees something, with its time.
    pub(super) async fn find<T>(
        &self,
        of: LeaseId,
        found: impl Fn(&LeaseEvent) -> Option<T>,
    ) -> anyhow::Result<Option<(Timestamp, T)>> {
        let history = self.history().await?;
        Ok(history.iter().find_map(|event| {
            let LedgerEvent::Lease { lease, happened } = &event.event else { return None };
            (*lease == of).then(|| found(happened)).flatten().map(|found| (event.at, found))
        }))
    }

    /// The money of a lease, once it is closed.
    pub(super) async fn closed(&self, of: LeaseId) -> anyhow::Result<Option<Closed>> {
        let closed = |event: &LeaseEvent| {
            let LeaseEvent::Closed { paid, forfeited, .. } = event else { return None };
            Some(Closed { paid: *paid, forfeited: *forfeited })
        };
        Ok(self.find(of, closed).await?.map(|(_, closed)| closed))
    }

    /// Until when the device is jailed; zero where it never was.
    pub(super) async fn jailed_until(&self, device: DeviceId) -> anyhow::Result<u64> {
        let record = self.ledger.device(device).await?.context("the device is not in the registry")?;
        Ok(record.jailed_until.unix())
    }

    fn court(&self) -> anyhow::Result<&dyn Tribunal> {
        self.ledger.tribunal().context("the network's profile names no court")
    }

    /// How many seats the roster of this epoch has, and how many a case needs.
    pub(super) async fn seats(&self) -> anyhow::Result<(u32, u32)> {
        let court = self.court()?;
        let epoch = court.setup().await?.epoch_at(Timestamp::from_unix(now()));
        let epoch = epoch.context("the court has not begun")?;
        Ok((court.seats(epoch).await?, court.rules(None).await?.jail_seats.into()))
    }

    /// The cases about a device, the oldest first.
    pub(super) async fn cases(&self, device: DeviceId) -> anyhow::Result<Vec<CaseRecord>> {
        let court = self.court()?;
        let mut cases = Vec::new();
        for opened in court.cases_since(0).await? {
            if opened.device == device {
                cases.push(court.case(opened.case).await?);
            }
        }
        Ok(cases)
    }

    /// Every slash of a device, in all.
    pub(super) async fn slashes(&self, device: DeviceId) -> anyhow::Result<Slashes> {
        let registry = abi::Registry::new(self.contracts.registry, &self.provider);
        let found = registry.Slashed_filter().topic1(device.get()).from_block(0).query().await?;
        let mut all = Slashes::default();
        for (slash, _) in found {
            all.amount += slash.amount.to::<u128>();
            all.reward += slash.reward.to::<u128>();
            all.sunk += slash.sunk.to::<u128>();
        }
        Ok(all)
    }

    /// What was proved against a device without a vote, and when.
    pub(super) async fn proved(&self, device: DeviceId) -> anyhow::Result<Option<(&'static str, Timestamp)>> {
        let address = self.contracts.court.context("the network's profile names no court")?;
        let court = court::Court::new(address, &self.provider);
        let element = court.ElementProved_filter().topic1(device.get()).from_block(0).query().await?;
        let twice = court.EquivocationProved_filter().topic1(device.get()).from_block(0).query().await?;
        let element = element.into_iter().map(|(_, log)| ("wrong element", log));
        let mut found = element.chain(twice.into_iter().map(|(_, log)| ("equivocation", log)));
        let Some((what, log)) = found.next() else { return Ok(None) };
        let block = log.block_number.context("a proof is in no block")?;
        let block = self.provider.get_block_by_number(block.into()).await?.context("a block is gone")?;
        Ok(Some((what, Timestamp::from_unix(block.header.timestamp))))
    }

    /// The first device of the registry.
    pub(super) async fn first_device(&self) -> anyhow::Result<Option<DeviceId>> {
        Ok(self.court()?.devices_since(0).await?.first().copied())
    }

    /// Burns what lies in the sink of what is staked. Anyone may.
    pub(super) async fn burn_sink(&self) -> anyhow::Result<()> {
        let (chain_id, decoder) = (self.contracts.chain_id, Arc::new(artifacts::decoder()));
        let (provider, host) = (self.provider.clone(), self.host.clone());
        let config = SenderConfig::local(chain_id);
        let sender = Sender::start(provider, host, Store::in_memory()?, decoder, config)?;
        let burn = abi::Leases::burnSinkCall { token: self.staked.address };
        let key = "burn-sink";
        sender.send(key, Call::new(self.contracts.leases, burn.abi_encode().into())).await?;
        let settled = tokio::time::timeout(STEP, sender.settled(key)).await;
        match settled.context("the sink takes too long to burn")?? {
            ActionStatus::Included { .. } | ActionStatus::Final { .. } => Ok(()),
            ActionStatus::Failed { reason } => bail!("the sink cannot be burned: {reason}"),
            ActionStatus::Pending => bail!("the sink's burning is still pending"),
        }
    }

    /// What was ever burned of what is staked.
    pub(super) async fn burned(&self) -> anyhow::Result<u128> {
        let leases = abi::Leases::new(self.contracts.leases, &self.provider);
        let found = leases.SinkBurned_filter().topic1(self.staked.address).from_block(0).query().await?;
        found.into_iter().try_fold(0u128, |sum, (burn, _)| Ok(sum + whole(burn.amount)?))
    }
}

fn whole(amount: U256) -> anyhow::Result<u128> {
    u128::try_from(amount).ok().context("an amount is impossibly large")
}
