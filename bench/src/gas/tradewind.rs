//! Our own lease: bonded, on a staked device, with signed terms and vouchers.

use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes, U256, Uint};
use alloy::sol_types::SolCall as _;
use anyhow::Context as _;
use tradewind_chain::client::artifacts;
use tradewind_chain::client::bindings::abi;
use tradewind_chain::client::deploy::{DeployPlan, Deployment, Timings, deploy};
use tradewind_chain::client::encode::{DepositForm, Facts, SignedCall, encode};
use tradewind_chain::client::sender::{Sender, SenderConfig};
use tradewind_chain::client::store::Store;
use tradewind_chain::client::wallet::Wallet;
use tradewind_chain::ledger::Action;
use tradewind_proto::ids::{BuyerId, DeviceId, ProviderId};
use tradewind_proto::signature::SigningKey;
use tradewind_proto::terms::{LeaseKind, LeaseTerms};
use tradewind_proto::units::{Money, RatePerSecond, Seconds, Timestamp};
use tradewind_proto::voucher::{SignedVoucher, Voucher};

use crate::anvil::{Account, Anvil, CHAIN_ID};

/// Gas of each transaction.
#[derive(Debug)]
pub(super) struct Gas {
    pub(super) open: u64,
    pub(super) settle: u64,
    /// Submitted by a stranger, with the provider's signature.
    pub(super) close_relayed: u64,
    /// Submitted by the provider.
    pub(super) close_direct: u64,
}

const HALF_AN_HOUR: u64 = 1_800;
const DOLLARS: u64 = 1_000_000;

pub(super) async fn measure(anvil: &Anvil) -> anyhow::Result<Gas> {
    let market = Market::open(anvil).await?;
    market.lease(b"before", true).await?;
    let relayed = market.lease(b"relayed", true).await?;
    let direct = market.lease(b"direct", false).await?;
    Ok(Gas { open: relayed.0, settle: relayed.1, close_relayed: relayed.2, close_direct: direct.2 })
}

pub(super) struct Market {
    pub(super) deployment: Deployment,
    pub(super) relayer: Account,
    pub(super) provider: Account,
    buyer_wallet: Wallet,
    provider_wallet: Wallet,
    meter: SigningKey,
    pub(super) device: DeviceId,
}

fn key(account: &Account) -> anyhow::Result<SigningKey> {
    SigningKey::from_bytes(account.signer.to_bytes().0).context("an account's key is no signing key")
}

/// The form of a call that its own account submits.
fn direct() -> abi::Auth {
    abi::Auth { nonce: U256::ZERO, deadline: Uint::ZERO, signature: Bytes::new() }
}

/// Registers a provider with a staked device of one unit, its rent paid for a month.
async fn enroll(provider: &Account, registry: Address) -> anyhow::Result<DeviceId> {
    let account = provider.address();
    let register = abi::Registry::registerCall {
        account,
        meshKey: B256::repeat_byte(7),
        metadata: B256::ZERO,
        auth: direct(),
    };
    provider.call(registry, register.abi_encode()).await?;
    add_device(provider, registry, Address::repeat_byte(0xde)).await
}

/// Adds a staked device of one unit, its rent paid for a month.
async fn add_device(provider: &Account, registry: Address, device_key: Address) -> anyhow::Result<DeviceId> {
    let account = provider.address();
    let device = DeviceId::derive(account, device_key);
    let (id, amount) = (device.get(), Uint::from(10 * DOLLARS));
    let add = abi::Registry::addDeviceCall {
        provider: account,
        key: device_key,
        sponsor: Address::ZERO,
        class: 0,
        units: 1,
        auth: direct(),
    };
    provider.call(registry, add.abi_encode()).await?;
    let stake = abi::Registry::stakeCall { device: id, amount, auth: direct() };
    provider.call(registry, stake.abi_encode()).await?;
    let (span, limit) = (30 * 86_400, U256::MAX);
    let rent = abi::Registry::payRentCall { device: id, payer: account, span, limit, auth: direct() };
    provider.call(registry, rent.abi_encode()).await?;
    Ok(device)
}

impl Market {
    /// A deployment where a buyer has money, and a provider money and a staked device with paid rent.
    pub(super) async fn open(anvil: &Anvil) -> anyhow::Result<Self> {
        let (owner, relayer) = (anvil.account(1).await?, anvil.account(2).await?);
        let (buyer, provider) = (anvil.account(3).await?, anvil.account(4).await?);
        let sender = Sender::start(
            owner.provider.clone(),
            key(&owner)?,
            Store::in_memory()?,
            Arc::new(artifacts::decoder()),
            SenderConfig::local(CHAIN_ID),
        )?;
        let plan = DeployPlan::development(Timings::Public);
        let deployment = deploy(&sender, &owner.provider, CHAIN_ID, &plan).await?;
        drop(sender);
        let (leases, registry) = (deployment.contracts.leases, deployment.contracts.registry);
        let token = deployment.stablecoin;
        for account in [&buyer, &provider] {
            let amount = U256::from(1_000 * DOLLARS);
            owner.call(token, abi::Token::mintCall { to: account.address(), amount }.abi_encode()).await?;
            let approve = abi::Token::approveCall { spender: leases, amount };
            account.call(token, approve.abi_encode()).await?;
            let deposit =
                abi::Leases::depositCall { token, account: account.address(), amount, auth: direct() };
            account.call(leases, deposit.abi_encode()).await?;
        }
        let device = enroll(&provider, registry).await?;
        let wallet =
            |account: &Account| Ok::<_, anyhow::Error>(Wallet::new(key(account)?, deployment.contracts));
        Ok(Self {
            buyer_wallet: wallet(&buyer)?,
            provider_wallet: wallet(&provider)?,
            meter: SigningKey::from_bytes([9; 32])?,
            deployment,
            relayer,
            provider,
            device,
        })
    }

    /// One more device of the provider.
    pub(super) async fn add_device(&self, key: Address) -> anyhow::Result<DeviceId> {
        add_device(&self.provider, self.deployment.contracts.registry, key).await
    }

    /// The gas of open, settle and close.
    async fn lease(&self, job: &[u8], relayed: bool) -> anyhow::Result<(u64, u64, u64)> {
        let terms = self.terms(job).await?;
        let action = Action::Open {
            buyer: self.buyer_wallet.sign_terms(&terms)?,
            provider: self.provider_wallet.sign_terms(&terms)?,
            terms: terms.clone(),
        };
        let open = self.submit(&action).await?;
        self.relayer.pass(HALF_AN_HOUR).await?;
        let voucher = self.voucher(&terms, 1_800_000, false)?;
        let settle = self.submit(&Action::Settle { terms: terms.clone(), voucher }).await?;
        self.relayer.pass(HALF_AN_HOUR - 60).await?;
        let last = self.voucher(&terms, 3_000_000, true)?;
        let action = Action::Close { terms, voucher: Some(last) };
        if relayed {
            return Ok((open, settle, self.submit(&action).await?));
        }
        let signed = self.signed(&action)?;
        let mut call = abi::Leases::closeCall::abi_decode(&signed.input)?;
        call.auth = direct();
        let close = self.provider.call(signed.target, call.abi_encode()).await?;
        Ok((open, settle, close))
    }

    fn signed(&self, action: &Action) -> anyhow::Result<SignedCall> {
        let deadline = Timestamp::from_unix((1 << 40) - 1);
        let facts = Facts { deadline, registered: true, deposit: DepositForm::Allowance };
        Ok(encode(&self.provider_wallet, action, &facts)?)
    }

    pub(super) async fn submit(&self, action: &Action) -> anyhow::Result<u64> {
        let call = self.signed(action)?;
        self.relayer.call(call.target, call.input).await
    }

    /// One hour on demand from now on.
    async fn terms(&self, job: &[u8]) -> anyhow::Result<LeaseTerms> {
        let now = Timestamp::from_unix(self.relayer.now().await?);
        let money = Money::from_base_units;
        Ok(LeaseTerms {
            buyer: BuyerId::new(self.buyer_wallet.account()),
            provider: ProviderId::new(self.provider_wallet.account()),
            device: self.device,
            units: 1,
            unstaked: false,
            meter: self.meter.address(),
            meter_may_sign_last: true,
            token: self.deployment.stablecoin,
            rate: RatePerSecond::per_hour(money(3_600_000)),
            deposit: money(3_600_000),
            prepay: money(60_000),
            bond: money(24_400_000),
            compensation_cap: money(23_400_000),
            provider_break_fee: money(1_000_000),
            buyer_break_fee: Money::ZERO,
            kind: LeaseKind::OnDemand,
            start: now,
            end: now.after(Seconds::new(2 * HALF_AN_HOUR)),
            open_by: now.after(Seconds::new(30)),
            prepare: Seconds::ZERO,
            notice: Seconds::new(300),
            slack: Seconds::new(60),
            uptime_promise: 9_900,
            version: 1,
            job: alloy::primitives::keccak256(job),
            terms_of_service: B256::repeat_byte(0x70),
            parent: B256::ZERO,
        })
    }

    fn voucher(&self, terms: &LeaseTerms, cumulative: u64, last: bool) -> anyhow::Result<SignedVoucher> {
        let domain = self.deployment.contracts.domain();
        let cumulative = Money::from_base_units(cumulative);
        let voucher =
            Voucher { lease: terms.id(&domain)?, cumulative, not_before: Timestamp::default(), last };
        Ok(voucher.sign(&domain, &self.meter)?)
    }
}
