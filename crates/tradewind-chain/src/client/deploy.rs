//! A deployment of the contracts on a chain that has none.
//!
//! ```text
//! deploy(plan): Remedies, UnknownCourt, test dollars, network token ─► Leases (makes Registry) ─► version 1, tokens, classes
//! ```
//!
//! Every transaction has a key in the sender's outbox, so an interrupted deployment goes on where it stopped.

use alloy::eips::BlockId;
use alloy::primitives::{Address, Bytes, U256};
use alloy::providers::{DynProvider, Provider};
use alloy::sol_types::{SolCall, SolValue};
use serde::{Deserialize, Serialize};
use tradewind_proto::units::{Money, Seconds};

use crate::client::artifacts::{self, Artifact};
use crate::client::bindings::{self, abi};
use crate::client::sender::{Call, Sender, SenderError};
use crate::client::store::StoreError;
use crate::client::wallet::Contracts;
use crate::ledger::{ActionStatus, Parameters};

/// The network token's whole supply, in its base units: one billion.
const SUPPLY: u128 = 1_000_000_000_000_000_000_000_000_000;

/// How long everything takes on a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timings {
    /// A public chain: a day's window, two weeks of unbonding.
    Public,
    /// A development network: an hour's window.
    Development,
    /// Automatic tests: seconds.
    Tests,
    /// Each stated by itself, but for the court: simulations.
    Stated(Parameters),
}

impl Timings {
    /// The parameters of version 1, with `court` to decide disputes and no membership.
    #[must_use]
    pub fn parameters(self, court: Address) -> Parameters {
        if let Self::Stated(parameters) = self {
            return Parameters { court, ..parameters };
        }
        let by = |public: u64, development: u64, tests: u64| {
            Seconds::new(match self {
                Self::Public => public,
                Self::Development => development,
                Self::Tests | Self::Stated(_) => tests,
            })
        };
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        Parameters {
            active: true,
            window: by(DAY, HOUR, 4),
            bond_delay: by(DAY, 10 * MINUTE, 3),
            open_ahead: Seconds::new(MINUTE),
            start_ahead: by(30 * DAY, DAY, HOUR),
            max_duration: by(366 * DAY, 31 * DAY, DAY),
            min_cap_on_demand: by(6 * HOUR + HOUR / 2, 10 * MINUTE, 10),
            min_cap_spot: by(HOUR, MINUTE, 5),
            min_cap_reserved: by(6 * HOUR + HOUR / 2, 10 * MINUTE, 10),
            fee_bps: 250,
            sink_bps: 6_000,
            answer_window: by(15 * MINUTE, MINUTE, 3),
            hard_limit: by(7 * DAY, HOUR, 10),
            refund_window: by(10 * MINUTE, MINUTE, 2),
            repeat_window: by(7 * DAY, DAY, MINUTE),
            compensation_span: by(6 * HOUR, HOUR, MINUTE),
            bonus_span: by(HOUR / 2, 5 * MINUTE, 10),
            challenge_span: by(10 * MINUTE, MINUTE, 5),
            dispute_bps: 1_000,
            court,
            membership: Address::ZERO,
        }
    }

    /// From the request to the withdrawal of a stake.
    #[must_use]
    pub const fn unbonding(self) -> Seconds {
        Seconds::new(match self {
            Self::Public => 14 * 24 * 3600,
            Self::Development => 2 * 3600,
            Self::Tests | Self::Stated(_) => 5,
        })
    }
}

/// What stakes, rent and leases are paid in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tokens {
    /// Test dollars from air and the network's own token for stakes: development networks.
    Test,
    /// One existing stablecoin for everything.
    Stablecoin(Address),
}

/// What to deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployPlan {
    /// How long everything takes.
    pub timings: Timings,
    /// What is paid in what.
    pub tokens: Tokens,
    /// A device's rent for a day, in the fee token's base units.
    pub rent_per_day: Money,
    /// Hardware classes with the least stake for each unit, in the stake token's base units.
    pub classes: Vec<(u16, Money)>,
    /// Stake test dollars instead of the network's own token.
    pub stake_in_stablecoin: bool,
}

impl DeployPlan {
    /// Test dollars for everything, a cent of rent a day, and class 0 that needs a dollar of stake for each unit.
    #[must_use]
    pub fn development(timings: Timings) -> Self {
        Self {
            timings,
            tokens: Tokens::Test,
            rent_per_day: Money::from_base_units(10_000),
            classes: vec![(0, Money::from_base_units(1_000_000))],
            stake_in_stablecoin: true,
        }
    }
}

/// Where a deployment's contracts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// What signatures name.
    pub contracts: Contracts,
    /// What stakes are paid in.
    pub stake_token: Address,
    /// What rent and leases are paid in.
    pub stablecoin: Address,
    /// The network's own token, where there is one.
    pub network_token: Option<Address>,
    /// Who decides disputes.
    pub court: Address,
    /// Code of the leases' contract that lies elsewhere.
    pub remedies: Address,
    /// The block of the first contract: no event is older.
    pub block: u64,
}

/// Why a deployment stopped.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// A step failed.
    #[error("{step} failed: {reason}")]
    Step {
        /// Which step.
        step: String,
        /// Why.
        reason: String,
    },
    /// The outbox refused a step.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// The outbox cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain did not answer.
    #[error("the chain did not answer: {0}")]
    Chain(String),
}

/// Deploys the contracts, owned by the sender's account, or finishes a deployment that was interrupted.
///
/// # Errors
/// [`DeployError`]; calling it again goes on.
pub async fn deploy(
    sender: &Sender,
    provider: &DynProvider,
    chain_id: u64,
    plan: &DeployPlan,
) -> Result<Deployment, DeployError> {
    let steps = Steps { sender, provider };
    let owner = sender.account();
    let (remedies, block) = steps.create("remedies", artifacts::remedies(), &[]).await?;
    let (court, _) = steps.create("court", artifacts::unknown_court(), &[]).await?;
    let (stablecoin, network_token) = steps.tokens(plan, owner).await?;
    let stake_token = network_token.filter(|_| !plan.stake_in_stablecoin).unwrap_or(stablecoin);
    let config = abi::RegistryConfig {
        rentPerDay: bindings::amount96(plan.rent_per_day),
        unbonding: seconds32(plan.timings.unbonding()),
        maxRent: seconds32(Seconds::new(366 * 24 * 3600)),
        membership: Address::ZERO,
    };
    let arguments = (owner, stake_token, stablecoin, Address::ZERO, config, remedies).abi_encode_params();
    let (leases, _) = steps.create("leases", artifacts::leases(), &arguments).await?;
    let registry = abi::Leases::new(leases, provider)
        .registry()
        .block(BlockId::latest())
        .call()
        .await
        .map_err(|error| DeployError::Chain(error.to_string()))?;

    let parameters = bindings::parameters_to_abi(&plan.timings.parameters(court));
    steps.call("version-1", leases, &abi::Leases::addVersionCall { parameters_: parameters }).await?;
    let allow = |token, burnable| abi::Leases::setTokenCall { token, allowed: true, burnable };
    steps.call("allow-stablecoin", leases, &allow(stablecoin, false)).await?;
    if let Some(token) = network_token {
        steps.call("allow-network-token", leases, &allow(token, true)).await?;
    }
    for (class, minimum) in &plan.classes {
        let call =
            abi::Registry::setClassCall { class: *class, minimumPerUnit: bindings::amount96(*minimum) };
        steps.call(&format!("class-{class}"), registry, &call).await?;
    }
    Ok(Deployment {
        contracts: Contracts { chain_id, leases, registry },
        stake_token,
        stablecoin,
        network_token,
        court,
        remedies,
        block,
    })
}

struct Steps<'a> {
    sender: &'a Sender,
    provider: &'a DynProvider,
}

impl Steps<'_> {
    async fn tokens(
        &self,
        plan: &DeployPlan,
        owner: Address,
    ) -> Result<(Address, Option<Address>), DeployError> {
        match plan.tokens {
            Tokens::Stablecoin(token) => Ok((token, None)),
            Tokens::Test => {
                let dollars = artifacts::test_stablecoin();
                let (stablecoin, _) = self.create("stablecoin", dollars, &owner.abi_encode()).await?;
                let supply = (owner, U256::from(SUPPLY)).abi_encode_params();
                let (token, _) = self.create("network-token", artifacts::network_token(), &supply).await?;
                Ok((stablecoin, Some(token)))
            }
        }
    }

    /// The contract that the step created, and its block.
    async fn create(
        &self,
        step: &str,
        artifact: &Artifact,
        arguments: &[u8],
    ) -> Result<(Address, u64), DeployError> {
        let input = Bytes::from([artifact.bytecode.as_ref(), arguments].concat());
        let (block, tx) = self.run(step, Call { to: None, input, value: U256::ZERO }).await?;
        let failed = |reason: String| DeployError::Step { step: step.into(), reason };
        let receipt = self
            .provider
            .get_transaction_receipt(tx)
            .await
            .map_err(|error| DeployError::Chain(error.to_string()))?
            .ok_or_else(|| failed("its receipt is gone".into()))?;
        let address = receipt.contract_address.ok_or_else(|| failed("it created nothing".into()))?;
        Ok((address, block))
    }

    async fn call<C: SolCall>(&self, step: &str, to: Address, call: &C) -> Result<(), DeployError> {
        self.run(step, Call::new(to, call.abi_encode().into())).await.map(drop)
    }

    async fn run(&self, step: &str, call: Call) -> Result<(u64, alloy::primitives::B256), DeployError> {
        let key = format!("deploy:{step}");
        self.sender.send(&key, call).await?;
        match self.sender.settled(&key).await? {
            ActionStatus::Included { block, tx } | ActionStatus::Final { block, tx } => Ok((block, tx)),
            ActionStatus::Failed { reason } => Err(DeployError::Step { step: step.into(), reason }),
            ActionStatus::Pending => {
                Err(DeployError::Step { step: step.into(), reason: "it is still pending".into() })
            }
        }
    }
}

fn seconds32(span: Seconds) -> u32 {
    u32::try_from(span.get()).unwrap_or(u32::MAX)
}
