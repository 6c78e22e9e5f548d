//! Reads of the deployment's state, always at the latest block, in domain types.

use std::sync::Arc;

use alloy::contract::{CallBuilder, CallDecoder, Error as ContractError};
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::{TransactionInput, TransactionRequest};
use alloy::transports::{RpcError, TransportError};
use tradewind_proto::ids::{DeviceId, LeaseId, MeshKey, ProviderId};
use tradewind_proto::units::{Money, Seconds, Timestamp};

use crate::client::bindings::{self, abi, money};
use crate::client::encode::{DepositForm, SignedCall};
use crate::client::revert::RevertDecoder;
use crate::client::wallet::{Contracts, TokenDomain};
use crate::ledger::{
    AccountRecord, ChainHead, DeviceRecord, LeaseRecord, LedgerError, Parameters, ProviderPage,
    ProviderRecord, RegistryTerms,
};

mod audit;
mod court;

/// The most providers that one page holds.
const MAX_PAGE: u32 = 256;

/// Reads of one deployment.
#[derive(Debug, Clone)]
pub struct Reader {
    provider: DynProvider,
    contracts: Contracts,
    finality: u64,
    decoder: Arc<RevertDecoder>,
}

impl Reader {
    /// Reads through `provider`; blocks with `finality` others on top count as final.
    #[must_use]
    pub const fn new(
        provider: DynProvider,
        contracts: Contracts,
        finality: u64,
        decoder: Arc<RevertDecoder>,
    ) -> Self {
        Self { provider, contracts, finality, decoder }
    }

    /// The deployment.
    #[must_use]
    pub const fn contracts(&self) -> &Contracts {
        &self.contracts
    }

    /// The JSON-RPC provider.
    #[must_use]
    pub const fn provider(&self) -> &DynProvider {
        &self.provider
    }

    fn leases(&self) -> abi::Leases::LeasesInstance<&DynProvider> {
        abi::Leases::new(self.contracts.leases, &self.provider)
    }

    fn registry(&self) -> abi::Registry::RegistryInstance<&DynProvider> {
        abi::Registry::new(self.contracts.registry, &self.provider)
    }

    fn token(&self, token: Address) -> abi::Token::TokenInstance<&DynProvider> {
        abi::Token::new(token, &self.provider)
    }

    pub(super) async fn ask<P: Provider, D: CallDecoder + Unpin>(
        &self,
        call: CallBuilder<P, D>,
    ) -> Result<D::CallOutput, LedgerError> {
        call.block(BlockId::latest()).call().await.map_err(|error| self.contract_error(error))
    }

    fn contract_error(&self, error: ContractError) -> LedgerError {
        if let ContractError::TransportError(error) = error {
            return self.error(error);
        }
        LedgerError::Unavailable(error.to_string())
    }

    /// What a JSON-RPC failure says: a contract's refusal, or nothing about the state.
    pub(crate) fn error(&self, error: TransportError) -> LedgerError {
        if let RpcError::ErrorResp(payload) = &error {
            return match self.decoder.refusal(payload) {
                Some(revert) => LedgerError::Rejected(revert),
                None => LedgerError::Unavailable(payload.message.to_string()),
            };
        }
        LedgerError::Unavailable(error.to_string())
    }

    pub(crate) async fn head(&self) -> Result<ChainHead, LedgerError> {
        let block = self.provider.get_block_by_number(BlockNumberOrTag::Latest).await;
        let header = block
            .map_err(|error| self.error(error))?
            .ok_or_else(|| LedgerError::Unavailable("the chain has no latest block".into()))?
            .header;
        Ok(ChainHead {
            block: header.number,
            hash: header.hash,
            timestamp: Timestamp::from_unix(header.timestamp),
            finalized: header.number.saturating_sub(self.finality),
        })
    }

    /// The hash and time of a block, or `None` where the chain has no such number.
    pub(crate) async fn block(&self, number: u64) -> Result<Option<(B256, Timestamp)>, LedgerError> {
        let block = self.provider.get_block_by_number(BlockNumberOrTag::Number(number)).await;
        let header = block.map_err(|error| self.error(error))?.map(|block| block.header);
        Ok(header.map(|header| (header.hash, Timestamp::from_unix(header.timestamp))))
    }

    pub(crate) async fn current_version(&self) -> Result<u32, LedgerError> {
        self.ask(self.leases().latestVersion()).await
    }

    pub(crate) async fn parameters(&self, version: u32) -> Result<Option<Parameters>, LedgerError> {
        if version == 0 || version > self.current_version().await? {
            return Ok(None);
        }
        let found = self.ask(self.leases().parameters(version)).await?;
        Ok(Some(bindings::parameters(&found.parameters_, found.active)))
    }

    /// The free balance of `account` inside the contract.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn balance(&self, token: Address, account: Address) -> Result<Money, LedgerError> {
        money(self.ask(self.leases().balanceOf(token, account)).await?)
    }

    /// What the account holds of the token; more than the contracts can count saturates.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn holdings(&self, token: Address, account: Address) -> Result<Money, LedgerError> {
        let held: U256 = self.ask(self.token(token).balanceOf(account)).await?;
        money(held.min(U256::from(Money::MAX.base_units())))
    }

    pub(crate) async fn account(&self, account: Address) -> Result<Option<AccountRecord>, LedgerError> {
        let view = self.ask(self.registry().account(account)).await?;
        Ok((view.meshKey != B256::ZERO).then(|| view.into()))
    }

    pub(crate) async fn device(&self, device: DeviceId) -> Result<Option<DeviceRecord>, LedgerError> {
        let view = self.ask(self.registry().device(device.get())).await?;
        if view.provider == Address::ZERO { Ok(None) } else { DeviceRecord::try_from(view).map(Some) }
    }

    pub(crate) async fn registry_terms(&self) -> Result<RegistryTerms, LedgerError> {
        let config = self.ask(self.registry().config()).await?;
        Ok(RegistryTerms {
            stake_token: self.ask(self.registry().stakeToken()).await?,
            fee_token: self.ask(self.registry().feeToken()).await?,
            rent_per_day: money(config.rentPerDay)?,
            max_rent: Seconds::new(config.maxRent.into()),
            unbonding: Seconds::new(config.unbonding.into()),
        })
    }

    pub(crate) async fn minimum_stake(&self, class: u16, units: u8) -> Result<Money, LedgerError> {
        money(self.ask(self.registry().minimumStake(class, units)).await?)
    }

    pub(crate) async fn lease(&self, lease: LeaseId) -> Result<LeaseRecord, LedgerError> {
        self.ask(self.leases().lease(lease.get())).await?.try_into()
    }

    pub(crate) async fn providers(&self, start: u64, limit: u32) -> Result<ProviderPage, LedgerError> {
        let limit = limit.clamp(1, MAX_PAGE);
        let page = self.ask(self.registry().accountsPage(U256::from(start), U256::from(limit))).await?;
        let full = u32::try_from(page.len()).is_ok_and(|found| found >= limit);
        let record = |view: abi::AccountView| ProviderRecord {
            provider: ProviderId::new(view.account),
            mesh_key: MeshKey::from_bytes(view.meshKey.0),
            rent_paid_until: bindings::time(view.rentUntil),
        };
        Ok(ProviderPage {
            providers: page.into_iter().take(limit as usize).map(record).collect(),
            next: full.then(|| start.saturating_add(limit.into())),
        })
    }

    /// The chain's gas token that `account` holds, in wei.
    pub(crate) async fn gas(&self, account: Address) -> Result<U256, LedgerError> {
        self.provider.get_balance(account).await.map_err(|error| self.error(error))
    }

    /// The best way that `token` offers to take a deposit of `account`.
    pub(crate) async fn deposit_form(
        &self,
        token: Address,
        account: Address,
    ) -> Result<DepositForm, LedgerError> {
        let contract = self.token(token);
        let Some(domain) = self.optional(contract.eip712Domain()).await? else {
            return Ok(DepositForm::Allowance);
        };
        let domain = TokenDomain { token, name: domain.name, version: domain.version };
        if self.optional(contract.authorizationState(account, B256::ZERO)).await?.is_some() {
            return Ok(DepositForm::Authorization(domain));
        }
        Ok(match self.optional(contract.nonces(account)).await? {
            Some(nonce) => DepositForm::Permit(domain, nonce),
            None => DepositForm::Allowance,
        })
    }

    /// The answer of a function that the contract may lack.
    async fn optional<P: Provider, D: CallDecoder + Unpin>(
        &self,
        call: CallBuilder<P, D>,
    ) -> Result<Option<D::CallOutput>, LedgerError> {
        match call.block(BlockId::latest()).call().await {
            Ok(answer) => Ok(Some(answer)),
            Err(ContractError::TransportError(RpcError::ErrorResp(_)))
            | Err(ContractError::AbiError(_) | ContractError::ZeroData(..)) => Ok(None),
            Err(other) => Err(self.contract_error(other)),
        }
    }

    /// Makes the call without a transaction, as `from`, on top of everything pending.
    ///
    /// # Errors
    /// [`LedgerError::Rejected`] when the contract refuses it.
    pub(crate) async fn simulate(&self, from: Address, call: &SignedCall) -> Result<Bytes, LedgerError> {
        let request = TransactionRequest {
            from: Some(from),
            to: Some(call.target.into()),
            input: TransactionInput::new(call.input.clone()),
            ..TransactionRequest::default()
        };
        let answer = self.provider.call(request).block(BlockId::pending()).await;
        answer.map_err(|error| self.error(error))
    }
}
