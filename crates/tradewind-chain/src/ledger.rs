//! The ledger as the market's parties see it: state, actions and events in domain types, on any engine.
//!
//! ```text
//!              reads: head, lease, device, balance …            (an answer, or LedgerError::Unavailable: never "gone")
//! provider ──► submit(Action) ─► outbox ─► Pending ─► Included ─► Final
//! buyer                             ▲         │  ▲        │ reorg
//!                                   │         │  └────────┘
//!                          crash ───┘         └─► Failed{reason}: submit again to try again
//!              events(cursor): Happened … Reorged{from} … Happened
//! ```
//!
//! A [`Ledger`] is a handle that acts for one account, [`Ledger::account`]: an [`Action`] states an intent and the handle
//! signs it. What the *other* party had to sign is part of the action.
//!
//! Rules for an implementation:
//! - `submit` returns once the intent is durable. It is idempotent by [`Action::key`]: the same key again returns the same
//!   submission, unless the last attempt [failed](ActionStatus::Failed), which starts another.
//! - An action that was acknowledged is tried until it is included, the chain refuses it, or it can no longer count.
//! - Included actions that a reorg removes go back to `Pending` and are tried again.
//! - An error says nothing about the state: only an answer such as [`LeaseStage::None`] means "not there".
//!
//! Rules for a user: reconcile from state; [`Ledger::heads`] and [`Ledger::events`] say when to look, and may lose items.
//! Decisions about money wait until [`ChainHead::finalized`] reaches the block that they rest on.

use alloy::primitives::Address;
use async_trait::async_trait;
use tokio::sync::watch;
use tradewind_proto::ids::{DeviceId, LeaseId};
use tradewind_proto::terms::Domain;
use tradewind_proto::units::Money;

pub use crate::ledger::action::{Action, ActionKey, ActionStatus, Checkpoint, Reference, Submission};
pub use crate::ledger::event::{
    BlockRef, ChainEvent, EventCursor, EventPage, Feed, LeaseEvent, LedgerEvent, Opening,
};
pub use crate::ledger::record::{
    AccountRecord, ChainHead, DeviceRecord, DeviceState, LeaseFlags, LeaseRecord, LeaseStage, Parameters,
    ProviderPage, ProviderRecord, RegistryTerms,
};
pub use tradewind_proto::lease::NoticeKind;

/// What the parties ask of the chain.
pub mod action;
/// Auditors' attestations.
pub mod audit;
/// The court.
pub mod court;
/// What the chain reports.
pub mod event;
/// Looks that hold nobody up.
pub mod look;
/// What the chain stores.
pub mod record;

/// Why the ledger gave no answer, or refused an action.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// No endpoint answered. The state is unknown; try again later.
    #[error("the ledger cannot be reached: {0}")]
    Unavailable(String),
    /// The contract refused.
    #[error("the contract refused: {0}")]
    Rejected(Revert),
    /// The request itself cannot be expressed, whatever the state.
    #[error("{0}")]
    Invalid(String),
    /// The handle's own store failed.
    #[error("the outbox cannot be written: {0}")]
    Store(String),
}

impl LedgerError {
    /// True when the same request may succeed later without any change of state.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Store(_))
    }
}

/// A contract's error with its values, by name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Revert {
    /// The error's name in the contract, such as `PastOpenBy`.
    pub name: String,
    /// Its values as `name=value`, in the contract's order.
    pub values: Vec<(String, String)>,
}

impl Revert {
    /// A refusal without values.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), values: Vec::new() }
    }
}

impl std::fmt::Display for Revert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        for (at, (name, value)) in self.values.iter().enumerate() {
            f.write_str(if at == 0 { ": " } else { ", " })?;
            if name.is_empty() { f.write_str(value)? } else { write!(f, "{name}={value}")? }
        }
        Ok(())
    }
}

/// The chain, as one account uses it. See the [module](self) for what every implementation owes.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// The account that this handle signs for.
    fn account(&self) -> Address;

    /// The chain and contract that every signature names.
    fn domain(&self) -> Domain;

    /// The latest block, asked now.
    async fn head(&self) -> Result<ChainHead, LedgerError>;

    /// The newest head that the handle has seen. A wake-up, not a queue: heads in between are lost, and none comes while
    /// the chain cannot be reached.
    fn heads(&self) -> watch::Receiver<ChainHead>;

    /// The newest parameter version.
    async fn current_version(&self) -> Result<u32, LedgerError>;

    /// The parameters of `version`, or `None` where no such version exists.
    async fn parameters(&self, version: u32) -> Result<Option<Parameters>, LedgerError>;

    /// The free balance of `account` inside the contract.
    async fn balance(&self, token: Address, account: Address) -> Result<Money, LedgerError>;

    /// What `account` holds of `token` itself, outside the contract.
    async fn holdings(&self, token: Address, account: Address) -> Result<Money, LedgerError>;

    /// The registry's entry of `account`, or `None` where it never registered.
    async fn account_record(&self, account: Address) -> Result<Option<AccountRecord>, LedgerError>;

    /// The registry's entry of a device, or `None` where it was never added.
    async fn device(&self, device: DeviceId) -> Result<Option<DeviceRecord>, LedgerError>;

    /// What the registry asks of devices.
    async fn registry_terms(&self) -> Result<RegistryTerms, LedgerError>;

    /// The least stake of a device of `class` with `units`, in the stake token.
    async fn minimum_stake(&self, class: u16, units: u8) -> Result<Money, LedgerError>;

    /// Where a lease stands. A lease that was never opened answers [`LeaseStage::None`].
    async fn lease(&self, lease: LeaseId) -> Result<LeaseRecord, LedgerError>;

    /// The registered providers from position `start`, at most `limit`, in order of registration: the mesh's rendezvous.
    async fn providers(&self, start: u64, limit: u32) -> Result<ProviderPage, LedgerError>;

    /// The deployment's court; `None` where it has none.
    fn tribunal(&self) -> Option<&dyn court::Tribunal> {
        None
    }

    /// The deployment's contract of attestations; `None` where it has none.
    fn auditing(&self) -> Option<&dyn audit::Auditing> {
        None
    }

    /// Makes `action` durable and starts trying. See [`Action::key`] for what counts as the same.
    async fn submit(&self, action: Action) -> Result<Submission, LedgerError>;

    /// How far the action with `key` has come, or `None` where this handle never took it.
    async fn status(&self, key: &ActionKey) -> Result<Option<ActionStatus>, LedgerError>;

    /// What happened after `cursor`, oldest first, at most `limit` items. An empty page is no promise that nothing is coming.
    async fn events(&self, cursor: EventCursor, limit: usize) -> Result<EventPage, LedgerError>;

    /// Waits until the action is included, final or failed. Waits as long as it takes: wrap it in a time limit.
    async fn settled(&self, key: &ActionKey) -> Result<ActionStatus, LedgerError> {
        let mut heads = self.heads();
        loop {
            match self.status(key).await? {
                None => return Err(LedgerError::Invalid(format!("no action {key} was submitted here"))),
                Some(ActionStatus::Pending) => {}
                Some(status) => return Ok(status),
            }
            let pause = tokio::time::sleep(std::time::Duration::from_millis(250));
            tokio::select! {
                biased;
                changed = heads.changed() => if changed.is_err() {
                    return Err(LedgerError::Unavailable("the ledger has shut down".into()));
                },
                () = pause => {}
            }
        }
    }
}
