//! A deployment of the contracts on a chain that has none.
//!
//! ```text
//! deploy(plan): Remedies, test dollars, network token, beacon, Verdicts, Cases ─► Leases (makes Registry) ─► Court
//!                  ─► version 1, tokens, classes, Attestations
//! ```
//!
//! Every transaction has a key in the sender's outbox, so an interrupted deployment goes on where it stopped.

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, Bytes, U256};
use alloy::providers::{DynProvider, Provider};
use alloy::sol_types::{SolCall, SolValue};
use serde::{Deserialize, Serialize};
use tradewind_proto::units::{Money, Seconds};

use crate::client::artifacts::{self, Artifact};
use crate::client::bindings::{self, abi, court};
use crate::client::drand::DrandChain;
use crate::client::sender::{Call, Sender, SenderError};
use crate::client::store::StoreError;
use crate::client::wallet::Contracts;
use crate::ledger::court::CourtRules;
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

    /// How long the court's epochs, rounds and windows are, and what it asks for, on a chain where seats stake what devices stake.
    #[must_use]
    pub fn trust(self, seat_stake: Money) -> TrustPlan {
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
        let rules = CourtRules {
            jail_seats: 11,
            full_seats: 32,
            panel: 33,
            committee: 11,
            quorum: 8,
            bench: 21,
            bench_quorum: 15,
            strikes: 3,
            admissible: 24,
            commit_window: by(15 * MINUTE, 2 * MINUTE, 16),
            vote_window: by(15 * MINUTE, 2 * MINUTE, 10),
            appeal_window: by(DAY, 10 * MINUTE, 6),
            bench_window: by(HOUR, 5 * MINUTE, 8),
            freeze_span: by(7 * DAY, HOUR, 60),
            defer_span: by(2 * DAY, 10 * MINUTE, 10),
            down_bps: 500,
            element_first_bps: 300,
            element_again_bps: 5_000,
            equivocation_bps: 10_000,
            bond_bps: 1_000,
            min_bond: Money::from_base_units(2_000_000),
            transcript_fee: Money::from_base_units(10_000),
            jail: [
                by(HOUR, HOUR, MINUTE),
                by(6 * HOUR, 2 * HOUR, 2 * MINUTE),
                by(DAY, 6 * HOUR, HOUR),
                by(7 * DAY, DAY, DAY),
            ],
        };
        TrustPlan {
            epoch: by(HOUR, 10 * MINUTE, 10),
            beacon: BeaconPlan::Local { round: by(MINUTE, 10, 1), expiry: by(10 * MINUTE, 5 * MINUTE, 30) },
            seat_stake,
            seat_unbonding: by(14 * DAY, 2 * HOUR, MINUTE),
            version_delay: by(2 * DAY, 10 * MINUTE, 5),
            rules,
        }
    }

    /// Lots by evmnet, on a chain whose blocks are late by less than a minute where it is public.
    #[must_use]
    pub const fn evmnet(self) -> BeaconPlan {
        let lag = Seconds::new(match self {
            Self::Public => 60,
            Self::Development => 20,
            Self::Tests | Self::Stated(_) => 2,
        });
        BeaconPlan::Drand { chain: DrandChain::EVMNET, lag }
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

/// What devices and seats stake on a development network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StakeToken {
    /// Test dollars, as everything else: what is slashed stays in the reserve.
    #[default]
    Dollars,
    /// The network's own token, which burns what is slashed.
    NetworkToken,
}

impl StakeToken {
    /// One whole token.
    #[must_use]
    pub const fn whole(self) -> Money {
        Money::from_base_units(match self {
            Self::Dollars => 1_000_000,
            Self::NetworkToken => 1_000_000_000_000_000_000,
        })
    }
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
    /// What is staked where test tokens are made.
    pub stake: StakeToken,
    /// The court with its beacon; without, disputes run out undecided and nobody slashes.
    pub trust: Option<TrustPlan>,
}

/// Where a development network's lots come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BeaconChoice {
    /// From its own blocks.
    #[default]
    Local,
    /// From drand's evmnet, as on public chains: somebody has to bring the rounds.
    Evmnet,
}

/// A court's beacon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeaconPlan {
    /// Block hashes, which protect nothing on a public chain.
    Local {
        /// Between two rounds.
        round: Seconds,
        /// How long after its time a round may still be made.
        expiry: Seconds,
    },
    /// drand.
    Drand {
        /// Which of its chains.
        chain: DrandChain,
        /// By how much a block's timestamp may be behind drand's clock.
        lag: Seconds,
    },
}

/// A court.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustPlan {
    /// An epoch's length.
    pub epoch: Seconds,
    /// Where its lots come from.
    pub beacon: BeaconPlan,
    /// Every seat's stake.
    pub seat_stake: Money,
    /// From leaving until a seat's stake may be withdrawn.
    pub seat_unbonding: Seconds,
    /// From adding rules until they count.
    pub version_delay: Seconds,
    /// Version 1.
    pub rules: CourtRules,
}

impl DeployPlan {
    /// Test dollars for everything, a cent of rent a day, class 0 that needs a dollar of stake for each unit, and a court whose seats
    /// stake ten.
    #[must_use]
    pub fn development(timings: Timings) -> Self {
        Self {
            timings,
            tokens: Tokens::Test,
            rent_per_day: Money::from_base_units(10_000),
            classes: vec![(0, StakeToken::Dollars.whole())],
            stake: StakeToken::Dollars,
            trust: Some(timings.trust(seats(StakeToken::Dollars))),
        }
    }

    /// The same with stakes in `stake`: one whole token for each unit of class 0, ten for a seat.
    #[must_use]
    pub fn staking(self, stake: StakeToken) -> Self {
        let trust = self.trust.map(|trust| TrustPlan { seat_stake: seats(stake), ..trust });
        Self { classes: vec![(0, stake.whole())], stake, trust, ..self }
    }

    /// The same with lots from `choice`.
    #[must_use]
    pub fn drawing(self, choice: BeaconChoice) -> Self {
        match choice {
            BeaconChoice::Local => self,
            BeaconChoice::Evmnet => {
                let beacon = self.timings.evmnet();
                Self { trust: self.trust.map(|trust| TrustPlan { beacon, ..trust }), ..self }
            }
        }
    }
}

/// A seat's stake on a development network.
fn seats(stake: StakeToken) -> Money {
    stake.whole().fraction(10, 1).unwrap_or(Money::MAX)
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
    /// Who decides disputes: the court, or one that never knows.
    pub court: Address,
    /// The court's beacon.
    pub beacon: Option<Address>,
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
    let (stablecoin, network_token) = steps.tokens(plan, owner).await?;
    let staked = network_token.filter(|_| plan.stake == StakeToken::NetworkToken).unwrap_or(stablecoin);
    let config = abi::RegistryConfig {
        rentPerDay: bindings::amount96(plan.rent_per_day),
        unbonding: seconds32(plan.timings.unbonding()),
        maxRent: seconds32(Seconds::new(366 * 24 * 3600)),
        membership: Address::ZERO,
    };
    let made = Made { owner, stake_token: staked, stablecoin, remedies };
    let Market { leases, registry, court, beacon } = steps.market(plan, &made, &config).await?;
    let arbiter = beacon.map(|_| court);

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
    let (attestations, _) = steps.create("attestations", artifacts::attestations(), &[]).await?;
    // A ledger that was made before stays as it was made, whatever the plan says now.
    let stake_token = abi::Registry::new(registry, provider)
        .stakeToken()
        .block(BlockId::latest())
        .call()
        .await
        .map_err(|error| DeployError::Chain(error.to_string()))?;
    Ok(Deployment {
        contracts: Contracts { chain_id, leases, registry, court: arbiter, attestations: Some(attestations) },
        stake_token,
        stablecoin,
        network_token,
        court,
        beacon,
        remedies,
        block,
    })
}

struct Steps<'a> {
    sender: &'a Sender,
    provider: &'a DynProvider,
}

/// What exists before the leases' contract.
struct Made {
    owner: Address,
    stake_token: Address,
    stablecoin: Address,
    remedies: Address,
}

/// The contracts that know one another.
struct Market {
    leases: Address,
    registry: Address,
    court: Address,
    beacon: Option<Address>,
}

impl Steps<'_> {
    /// Leases, registry and court. The court is the registry's arbiter from the first block: its address follows from the nonce
    /// after the one that makes the leases, and its constructor refuses any other.
    async fn market(
        &self,
        plan: &DeployPlan,
        made: &Made,
        config: &abi::RegistryConfig,
    ) -> Result<Market, DeployError> {
        let Some(trust) = &plan.trust else {
            let (court, _) = self.create("court", artifacts::unknown_court(), &[]).await?;
            let leases = self.leases(made, Address::ZERO, config).await?;
            return Ok(Market { leases, registry: self.registry(leases).await?, court, beacon: None });
        };
        let beacon = self.beacon(&trust.beacon).await?;
        let (verdicts, _) = self.create("verdicts", artifacts::verdicts(), &[]).await?;
        let (cases, _) = self.create("cases", artifacts::cases(), &verdicts.abi_encode()).await?;
        let nonce = self.provider.get_transaction_count(made.owner).await.map_err(chain)?;
        let leases = self.leases(made, made.owner.create(nonce + 1), config).await?;
        let registry = self.registry(leases).await?;
        let setup = court::abi::Setup {
            leases,
            registry: Address::ZERO,
            beacon,
            stakeToken: Address::ZERO,
            feeToken: Address::ZERO,
            genesis: Default::default(),
            epochSpan: seconds32(trust.epoch),
            seatStake: bindings::amount96(trust.seat_stake),
            seatUnbonding: seconds32(trust.seat_unbonding),
            versionDelay: seconds32(trust.version_delay),
        };
        let rules = court::abi::CourtParameters::from(&trust.rules);
        let arguments = (made.owner, setup, rules, cases).abi_encode_params();
        let (court, _) = self.create("court", artifacts::court(), &arguments).await?;
        Ok(Market { leases, registry, court, beacon: Some(beacon) })
    }

    async fn beacon(&self, plan: &BeaconPlan) -> Result<Address, DeployError> {
        let (artifact, arguments) = match plan {
            BeaconPlan::Local { round, expiry } => {
                let latest = self.provider.get_block_by_number(BlockNumberOrTag::Latest);
                let genesis = latest.await.map_err(chain)?.map_or(0, |block| block.header.timestamp);
                let spans = (U256::from(genesis), seconds32(*round), seconds32(*expiry), true);
                (artifacts::local_beacon(), spans.abi_encode_params())
            }
            BeaconPlan::Drand { chain, lag } => {
                let (genesis, period) = (U256::from(chain.genesis.unix()), seconds32(chain.period));
                let id = chain.id.to_owned();
                let arguments = (chain.key, genesis, period, chain.group_seed, id, seconds32(*lag));
                (artifacts::drand_beacon(), arguments.abi_encode_params())
            }
        };
        Ok(self.create("beacon", artifact, &arguments).await?.0)
    }

    async fn leases(
        &self,
        made: &Made,
        arbiter: Address,
        config: &abi::RegistryConfig,
    ) -> Result<Address, DeployError> {
        let Made { owner, stake_token, stablecoin, remedies } = *made;
        let config = config.clone();
        let arguments = (owner, stake_token, stablecoin, arbiter, config, remedies).abi_encode_params();
        Ok(self.create("leases", artifacts::leases(), &arguments).await?.0)
    }

    async fn registry(&self, leases: Address) -> Result<Address, DeployError> {
        abi::Leases::new(leases, self.provider)
            .registry()
            .block(BlockId::latest())
            .call()
            .await
            .map_err(chain)
    }

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

fn chain(error: impl std::fmt::Display) -> DeployError {
    DeployError::Chain(error.to_string())
}

fn seconds32(span: Seconds) -> u32 {
    u32::try_from(span.get()).unwrap_or(u32::MAX)
}
