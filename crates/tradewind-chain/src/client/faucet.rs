//! Money without value for newcomers of a development network, a bounded amount of each token for each account.

use std::sync::Arc;

use alloy::primitives::Address;
use alloy::sol_types::SolCall;
use serde::{Deserialize, Serialize};
use tradewind_proto::units::{Money, UnitError};

use crate::client::bindings::{abi::Token, amount256};
use crate::client::sender::{Call, Sender, SenderError};
use crate::client::store::{Change, FAUCET, Store, StoreError};
use crate::ledger::ActionStatus;

/// Where the faucet has a token from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spring {
    /// From air: the sender's account is the token's minter.
    Minted,
    /// From what the sender's account holds.
    Held,
}

/// How generous the faucet is with one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaucetConfig {
    /// The token.
    pub token: Address,
    /// Where it comes from.
    pub spring: Spring,
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
            spring: Spring::Minted,
            drip: Money::from_base_units(1_000_000_000),
            per_account: Money::from_base_units(10_000_000_000),
            total: Money::from_base_units(100_000_000_000_000),
        }
    }

    /// As many of the network's own token, with 18 decimals, from its holder: a tenth of all there is at most.
    #[must_use]
    pub fn network_token(token: Address) -> Self {
        Self {
            token,
            spring: Spring::Held,
            drip: network_tokens(1_000),
            per_account: network_tokens(10_000),
            total: network_tokens(100_000_000),
        }
    }
}

fn network_tokens(whole: u32) -> Money {
    Money::new(u128::from(whole) * 1_000_000_000_000_000_000).unwrap_or(Money::MAX)
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
    /// The chain refused to move it.
    #[error("nothing came out: {0}")]
    Refused(String),
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

/// The faucet of one token. Clones share its memory.
#[derive(Debug, Clone)]
pub struct Faucet {
    sender: Sender,
    store: Store,
    config: FaucetConfig,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Faucet {
    /// A faucet that gives through `sender` and remembers in `store` who had what.
    #[must_use]
    pub fn new(sender: Sender, store: Store, config: FaucetConfig) -> Self {
        Self { sender, store, config, turn: Arc::default() }
    }

    /// The token that it gives.
    #[must_use]
    pub const fn token(&self) -> Address {
        self.config.token
    }

    /// Gives one drip to `account` and waits until it is there.
    ///
    /// # Errors
    /// [`FaucetError`]; what was counted and not given is given by the outbox later.
    pub async fn drip(&self, account: Address) -> Result<Money, FaucetError> {
        let key = self.reserve(account).await?;
        let (to, amount) = (account, amount256(self.config.drip));
        let input = match self.config.spring {
            Spring::Minted => Token::mintCall { to, amount }.abi_encode(),
            Spring::Held => Token::transferCall { to, amount }.abi_encode(),
        };
        self.sender.send(&key, Call::new(self.config.token, input.into())).await?;
        match self.sender.settled(&key).await? {
            ActionStatus::Included { .. } | ActionStatus::Final { .. } => Ok(self.config.drip),
            ActionStatus::Failed { reason } => Err(FaucetError::Refused(reason)),
            ActionStatus::Pending => Err(FaucetError::Refused("it is still pending".into())),
        }
    }

    /// Counts a drip before it is given, so that a crash between the two gives less, never more.
    async fn reserve(&self, account: Address) -> Result<String, FaucetError> {
        let _turn = self.turn.lock().await;
        let token = self.config.token;
        let (mine, all) = (format!("{token}/{account}"), format!("{token}/all"));
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
        Ok(format!("faucet:{token}:{account}:{}", given.drips))
    }
}
