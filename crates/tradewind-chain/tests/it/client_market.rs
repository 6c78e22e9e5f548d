//! A deployment with a relayer, a buyer and a provider: what the client's tests trade on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::eips::BlockId;
use alloy::primitives::{Address, B256, keccak256};
use alloy::providers::{DynProvider, Provider as _};
use tokio::time::timeout;
use tradewind_chain::client::artifacts;
use tradewind_chain::client::deploy::{DeployPlan, Deployment, Timings, deploy};
use tradewind_chain::client::faucet::{Faucet, FaucetConfig};
use tradewind_chain::client::reader::Reader;
use tradewind_chain::client::relayed::{RelayedConfig, RelayedLedger};
use tradewind_chain::client::relayer::{Relayer, RelayerConfig};
use tradewind_chain::client::sender::{Sender, SenderConfig};
use tradewind_chain::client::store::Store;
use tradewind_chain::client::wallet::Wallet;
use tradewind_chain::ledger::{Action, ActionStatus, LeaseRecord, Ledger as _, Reference};
use tradewind_proto::ids::{BuyerId, DeviceId, LeaseId, MeshKey, ProviderId};
use tradewind_proto::signature::SigningKey;
use tradewind_proto::terms::{LeaseKind, LeaseTerms};
use tradewind_proto::units::{Money, RatePerSecond, Seconds, Timestamp};
use tradewind_proto::voucher::{SignedVoucher, Voucher};

use crate::client_sender::signing_key;
use crate::fixture::{ALICE, BOB, CHAIN_ID};

pub(crate) fn dollars(amount: u64) -> Money {
    Money::from_base_units(amount * 1_000_000)
}

pub(crate) fn reference(text: &str) -> Reference {
    Reference(keccak256(text))
}

/// A key without any gas.
pub(crate) fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes([byte; 32]).unwrap()
}

/// The deployment, its owner's sender, and a relayer on a loopback port.
pub(crate) struct Market {
    pub(crate) provider: DynProvider,
    pub(crate) deployment: Deployment,
    /// The way out of the account that deployed.
    pub(crate) owner: Sender,
    pub(crate) faucet: Faucet,
    pub(crate) relayer: Relayer,
    pub(crate) relayer_url: String,
}

impl Market {
    pub(crate) async fn open(provider: DynProvider) -> Self {
        Self::open_with(provider, 0).await
    }

    pub(crate) async fn open_with(provider: DynProvider, finality: u64) -> Self {
        Self::planned(provider, finality, &DeployPlan::development(Timings::Tests)).await
    }

    pub(crate) async fn planned(provider: DynProvider, finality: u64, plan: &DeployPlan) -> Self {
        let decoder = Arc::new(artifacts::decoder());
        let store = Store::in_memory().unwrap();
        let config = SenderConfig { finality, ..SenderConfig::local(CHAIN_ID) };
        let owner = Sender::start(
            provider.clone(),
            signing_key(ALICE),
            store.clone(),
            Arc::clone(&decoder),
            config.clone(),
        )
        .unwrap();
        let deployment = deploy(&owner, &provider, CHAIN_ID, plan).await.unwrap();
        let faucet = Faucet::new(owner.clone(), store, FaucetConfig::test_dollars(deployment.stablecoin));
        let reader = Reader::new(provider.clone(), deployment.contracts, finality, Arc::clone(&decoder));
        let relay_store = Store::in_memory().unwrap();
        let sender = Sender::start(provider.clone(), signing_key(BOB), relay_store, decoder, config).unwrap();
        let relayer = Relayer::new(reader, sender, RelayerConfig::small_fee(deployment.stablecoin));
        let relayer_url = serve(relayer.router()).await;
        Self { provider, deployment, owner, faucet, relayer, relayer_url }
    }

    /// A faucet of the owner's that gives something else.
    pub(crate) fn faucet_of(&self, config: FaucetConfig) -> Faucet {
        Faucet::new(self.owner.clone(), Store::in_memory().unwrap(), config)
    }

    pub(crate) fn reader(&self, finality: u64) -> Reader {
        let decoder = Arc::new(artifacts::decoder());
        Reader::new(self.provider.clone(), self.deployment.contracts, finality, decoder)
    }

    /// The ledger of an account that holds no gas.
    pub(crate) fn ledger(&self, key: SigningKey) -> RelayedLedger {
        let config = RelayedConfig::local(vec![self.relayer_url.clone()], self.deployment.block);
        self.ledger_with(key, config, Store::in_memory().unwrap(), 0)
    }

    pub(crate) fn ledger_with(
        &self,
        key: SigningKey,
        config: RelayedConfig,
        store: Store,
        finality: u64,
    ) -> RelayedLedger {
        let wallet = Wallet::new(key, self.deployment.contracts);
        RelayedLedger::start(self.reader(finality), wallet, None, store, config).unwrap()
    }

    /// A ledger whose account has `amount` of free balance.
    pub(crate) async fn funded(&self, key: SigningKey, amount: Money) -> RelayedLedger {
        let ledger = self.ledger(key);
        self.faucet.drip(ledger.account()).await.unwrap();
        let reference = reference(&format!("deposit of {}", ledger.account()));
        act(&ledger, Action::Deposit { reference, token: self.deployment.stablecoin, amount }).await;
        ledger
    }

    /// The chain's time, which tests may have moved ahead of the clock's.
    pub(crate) async fn now(&self) -> Timestamp {
        let head = self.provider.get_block(BlockId::latest()).await.unwrap().unwrap();
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Timestamp::from_unix(head.header.timestamp.max(clock))
    }

    /// Terms for a minute on the unstaked tier, at a dollar a second.
    pub(crate) async fn terms(&self, buyer: Address, provider: Address) -> LeaseTerms {
        let now = self.now().await;
        LeaseTerms {
            buyer: BuyerId::new(buyer),
            provider: ProviderId::new(provider),
            device: DeviceId::NONE,
            units: 0,
            unstaked: true,
            meter: key(99).address(),
            meter_may_sign_last: true,
            token: self.deployment.stablecoin,
            rate: RatePerSecond::from_scaled(1_000_000 * 1_000_000_000_000_000_000),
            deposit: dollars(60),
            prepay: dollars(5),
            bond: dollars(12),
            compensation_cap: dollars(10),
            provider_break_fee: dollars(2),
            buyer_break_fee: Money::ZERO,
            kind: LeaseKind::OnDemand,
            start: now,
            end: now.after(Seconds::new(60)),
            open_by: now.after(Seconds::new(50)),
            prepare: Seconds::new(0),
            notice: Seconds::new(1),
            slack: Seconds::new(10),
            uptime_promise: 9_900,
            version: 1,
            job: B256::ZERO,
            terms_of_service: B256::ZERO,
            parent: B256::ZERO,
        }
    }

    pub(crate) fn voucher(&self, terms: &LeaseTerms, cumulative: Money, last: bool) -> SignedVoucher {
        let domain = self.deployment.contracts.domain();
        let lease = terms.id(&domain).unwrap();
        Voucher { lease, cumulative, not_before: Timestamp::default(), last }.sign(&domain, &key(99)).unwrap()
    }

    /// Registers `ledger`'s account with a device of one unit, staked and rented.
    pub(crate) async fn enroll(&self, ledger: &RelayedLedger, device_key: Address) -> DeviceId {
        let device = DeviceId::derive(ledger.account(), device_key);
        let of = |what: &str| reference(&format!("{what} of {device}"));
        let mesh_key = MeshKey::from_bytes([7; 32]);
        act(ledger, Action::Register { reference: of("entry"), mesh_key, metadata: B256::ZERO }).await;
        act(ledger, Action::AddDevice { key: device_key, sponsor: None, class: 0, units: 1 }).await;
        act(ledger, Action::Stake { reference: of("stake"), device, amount: dollars(1) }).await;
        let span = Seconds::new(7 * 24 * 3600);
        act(ledger, Action::Rent { reference: of("rent"), device, span, limit: dollars(1) }).await;
        device
    }
}

/// Serves `router` on a loopback port for as long as the test runs.
pub(crate) async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Submits `action` and waits for its end.
pub(crate) async fn outcome(ledger: &RelayedLedger, action: Action) -> ActionStatus {
    let submission = ledger.submit(action).await.unwrap();
    timeout(Duration::from_secs(20), ledger.settled(&submission.key)).await.expect("settles in time").unwrap()
}

/// An open lease on the unstaked tier, between a buyer and a provider that can pay for it.
pub(crate) struct Running {
    pub(crate) buyer: RelayedLedger,
    pub(crate) seller: RelayedLedger,
    pub(crate) terms: LeaseTerms,
    pub(crate) lease: LeaseId,
}

impl Running {
    pub(crate) async fn start(market: &Market) -> Self {
        let (buyer, seller) =
            (market.funded(key(1), dollars(200)).await, market.funded(key(2), dollars(200)).await);
        let terms = market.terms(buyer.account(), seller.account()).await;
        act(&buyer, opening(&buyer, &seller, &terms)).await;
        let lease = terms.id(&buyer.domain()).unwrap();
        Self { buyer, seller, terms, lease }
    }

    pub(crate) async fn record(&self) -> LeaseRecord {
        self.buyer.lease(self.lease).await.unwrap()
    }
}

/// Both parties' consent to `terms`.
pub(crate) fn opening(buyer: &RelayedLedger, seller: &RelayedLedger, terms: &LeaseTerms) -> Action {
    Action::Open {
        terms: terms.clone(),
        buyer: buyer.wallet().sign_terms(terms).unwrap(),
        provider: seller.wallet().sign_terms(terms).unwrap(),
    }
}

/// Submits `action`, which has to succeed.
pub(crate) async fn act(ledger: &RelayedLedger, action: Action) {
    let shown = format!("{action:?}");
    let status = outcome(ledger, action).await;
    assert!(status.is_included(), "{status:?} of {shown}");
}
