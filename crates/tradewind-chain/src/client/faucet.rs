//! Test dollars for newcomers of a development network, a bounded amount for each account.

use std::sync::Arc;

use alloy::primitives::{Address, Bytes, U256};
use alloy::sol_types::SolCall;
use serde::{Deserialize, Serialize};
use tradewind_proto::units::{Money, UnitError};

use crate::client::bindings::{abi::Token, amount256};
use crate::client::sender::{Call, Sender, SenderError};
use crate::client::store::{Change, FAUCET, Store, StoreError};
use crate::ledger::ActionStatus;

/// How generous the faucet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaucetConfig {
    /// The token; the sender's account has to be its minter.
    pub token: Address,
    /// What one request gives.
    pub drip: Money,
    /// What an account gets in all.
    pub per_account: Money,
    /// What everybody together gets.
    pub total: Money,
}

impl FaucetConfig {
    /// A thousand dollars at a time, ten thousand for each account, a hundred million in all, of a token with 6 decimals.
    #[must_use]
    pub const fn test_dollars(token: Address) -> Self {
        Self {
            token,
            drip: Money::from_base_units(1_000_000_000),
            per_account: Money::from_base_units(10_000_000_000),
            total: Money::from_base_units(100_000_000_000_000),
        }
    }
}

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
pub enum FaucetError {
    /// The account had its share.
    #[error("{account} had {given} of {limit} base units; there is no more")]
    AccountDry {
        /// Who asked.
        account: Address,
        /// Given so far.
        given: Money,
        /// The most that it gets.
        limit: Money,
    },
    /// Everything is given away.
    #[error("the faucet is dry")]
    Dry,
    /// The mint failed.
    #[error("minting failed: {0}")]
    Mint(String),
    /// The outbox refused.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// The faucet's memory failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An amount does not fit.
    #[error(transparent)]
    Unit(#[from] UnitError),
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Given {
    drips: u64,
    amount: Money,
}

/// The faucet. Clones share its memory.
#[derive(Debug, Clone)]
pub struct Faucet {
    sender: Sender,
    store: Store,
    config: FaucetConfig,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Faucet {
    /// A faucet that mints through `sender` and remembers in `store` who had what.
    #[must_use]
    pub fn new(sender: Sender, store: Store, config: FaucetConfig) -> Self {
        Self { sender, store, config, turn: Arc::default() }
    }

    /// Mints one drip to `account` and waits until it is there.
    ///
    /// # Errors
    /// [`FaucetError`]; what was counted and not minted is minted by the outbox later.
    pub async fn drip(&self, account: Address) -> Result<Money, FaucetError> {
        let key = self.reserve(account).await?;
        let mint = Token::mintCall { to: account, amount: amount256(self.config.drip) };
        let call =
            Call { to: Some(self.config.token), input: Bytes::from(mint.abi_encode()), value: U256::ZERO };
        self.sender.send(&key, call).await?;
        match self.sender.settled(&key).await? {
            ActionStatus::Included { .. } | ActionStatus::Final { .. } => Ok(self.config.drip),
            ActionStatus::Failed { reason } => Err(FaucetError::Mint(reason)),
            ActionStatus::Pending => Err(FaucetError::Mint("it is still pending".into())),
        }
    }

    /// Counts a drip before it is minted, so that a crash between the two gives less, never more.
    async fn reserve(&self, account: Address) -> Result<String, FaucetError> {
        let _turn = self.turn.lock().await;
        let (mine, all) = (account.to_string(), "all".to_owned());
        let mut given = self.store.get::<Given>(FAUCET, &mine)?.unwrap_or_default();
        let mut total = self.store.get::<Given>(FAUCET, &all)?.unwrap_or_default();
        let after = given.amount.checked_add(self.config.drip)?;
        if after > self.config.per_account {
            let limit = self.config.per_account;
            return Err(FaucetError::AccountDry { account, given: given.amount, limit });
        }
        let total_after = total.amount.checked_add(self.config.drip)?;
        if total_after > self.config.total {
            return Err(FaucetError::Dry);
        }
        given = Given { drips: given.drips + 1, amount: after };
        total = Given { drips: total.drips + 1, amount: total_after };
        self.store
            .commit(vec![Change::put(FAUCET, mine, &given)?, Change::put(FAUCET, all, &total)?])
            .await?;
        Ok(format!("faucet:{account}:{}", given.drips))
    }
}
