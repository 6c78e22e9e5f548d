//! The chain as a bystander reads it: no key of anybody, no gas.

use std::path::Path;
use std::sync::Arc;

use alloy::primitives::{Address, U256};
use alloy::providers::{DynProvider, Provider as _};
use tokio::runtime::Runtime;
use tradewind_chain::client::artifacts;
use tradewind_chain::client::bindings::abi;
use tradewind_chain::client::failover::{Endpoint, Failover, FailoverConfig};
use tradewind_chain::client::reader::Reader;
use tradewind_chain::client::relayed::{RelayedConfig, RelayedLedger};
use tradewind_chain::client::store::Store;
use tradewind_chain::client::wallet::{Contracts, Wallet};
use tradewind_chain::ledger::court::CaseRecord;
use tradewind_chain::ledger::{EventCursor, Feed, LeaseEvent, LeaseRecord, Ledger as _, LedgerEvent};
use tradewind_proto::ids::{CaseId, LeaseId};
use tradewind_proto::profile::NetworkProfile;
use tradewind_proto::signature::SigningKey;
use tradewind_proto::units::Money;

/// A lease's money when it was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) paid: Money,
    pub(crate) refunded: Money,
    pub(crate) forfeited: Money,
    pub(crate) buyer_fee: Money,
    pub(crate) bond_to_buyer: Money,
}

/// A chain that is only read.
pub(crate) struct Chain<'a> {
    runtime: &'a Runtime,
    provider: DynProvider,
    ledger: RelayedLedger,
    token: Address,
    leases: Address,
}

impl<'a> Chain<'a> {
    pub(super) fn open(runtime: &'a Runtime, profile: &NetworkProfile, store: &Path) -> Self {
        let _inside = runtime.enter();
        let contracts = Contracts {
            chain_id: profile.chain.id,
            leases: profile.contracts.leases,
            registry: profile.contracts.registry,
            court: profile.contracts.court,
            attestations: profile.contracts.attestations,
        };
        let endpoint = Endpoint::http(&profile.chain.rpc[0]).expect("an endpoint");
        let provider = Failover::new(vec![endpoint], FailoverConfig::for_chain(profile.chain.id)).provider();
        let reader = Reader::new(provider.clone(), contracts, 0, Arc::new(artifacts::decoder()));
        let wallet = Wallet::new(SigningKey::from_bytes([1; 32]).expect("a key"), contracts);
        let store = Store::open(store).expect("a store");
        let config = RelayedConfig::local(Vec::new(), 0);
        let ledger = RelayedLedger::start(reader, wallet, None, store, config).expect("a ledger");
        Self { runtime, provider, ledger, token: profile.assets[0].address, leases: contracts.leases }
    }

    /// A lease as it stands.
    pub(crate) fn lease(&self, lease: LeaseId) -> LeaseRecord {
        self.runtime.block_on(self.ledger.lease(lease)).expect("the chain answers")
    }

    /// Every case that was ever opened, as it stands.
    pub(crate) fn cases(&self) -> Vec<(CaseId, CaseRecord)> {
        let court = self.ledger.tribunal().expect("a court");
        let all = async {
            let mut cases = Vec::new();
            for opened in court.cases_since(0).await? {
                cases.push((opened.case, court.case(opened.case).await?));
            }
            Ok::<_, tradewind_chain::ledger::LedgerError>(cases)
        };
        self.runtime.block_on(all).expect("the chain answers")
    }

    /// The chain's gas token that an account holds.
    pub(crate) fn gas(&self, account: Address) -> U256 {
        self.runtime.block_on(async { self.provider.get_balance(account).await }).expect("the chain answers")
    }

    /// What all devices have staked of `token`.
    pub(crate) fn staked(&self, token: Address) -> Money {
        let leases = abi::Leases::new(self.leases, &self.provider);
        let staked = self.runtime.block_on(async { leases.staked(token).call().await });
        let staked = u128::try_from(staked.expect("the chain answers")).expect("an amount");
        Money::new(staked).expect("an amount")
    }

    /// An account's money, in the wallet and in the contract.
    pub(crate) fn money(&self, account: Address) -> Money {
        let both = async {
            let free = self.ledger.balance(self.token, account).await?;
            let held = self.ledger.holdings(self.token, account).await?;
            Ok::<_, tradewind_chain::ledger::LedgerError>((free, held))
        };
        let (free, held) = self.runtime.block_on(both).expect("the chain answers");
        free.checked_add(held).expect("an amount")
    }

    /// Everything that ever happened to leases, in order.
    pub(crate) fn history(&self) -> Vec<(LeaseId, LeaseEvent)> {
        let mut history = Vec::new();
        let mut cursor = EventCursor::default();
        loop {
            let page = self.runtime.block_on(self.ledger.events(cursor, 1_000)).expect("the chain answers");
            if page.cursor == cursor {
                return history;
            }
            cursor = page.cursor;
            for item in page.items {
                if let Feed::Happened(event) = item
                    && let LedgerEvent::Lease { lease, happened } = event.event
                {
                    history.push((lease, happened));
                }
            }
        }
    }

    /// How many leases were ever opened.
    pub(crate) fn opened(&self) -> usize {
        self.history().iter().filter(|(_, event)| matches!(event, LeaseEvent::Opened(_))).count()
    }

    /// The money of a lease, once it is closed.
    pub(crate) fn closed(&self, of: LeaseId) -> Option<Closed> {
        self.history().into_iter().find_map(|(lease, event)| {
            let LeaseEvent::Closed { paid, refunded, forfeited, buyer_fee, bond_to_buyer, .. } = event else {
                return None;
            };
            (lease == of).then_some(Closed { paid, refunded, forfeited, buyer_fee, bond_to_buyer })
        })
    }
}
