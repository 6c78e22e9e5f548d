//! How an embedded ledger is opened: where it lives, what it starts from, and when it makes blocks.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::primitives::{Address, B256, Bytes, U256, address, hex};
use serde::{Deserialize, Serialize};

/// Where [Multicall3](https://www.multicall3.com) lives on every chain, this one included.
pub const MULTICALL3: Address = address!("0xcA11bde05977b3631167028862bE2a173976CA11");
/// The deterministic deployment proxy, by which tools deploy with `CREATE2`.
pub const CREATE2_DEPLOYER: Address = address!("0x4e59b44847b379578588920cA78FbF26c0B4956C");

const MULTICALL3_CODE: &str = include_str!("multicall3.hex");
const CREATE2_DEPLOYER_CODE: [u8; 69] = hex!(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
);

/// An account that exists from the first block on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenesisAccount {
    /// Balance in wei.
    pub balance: U256,
    /// The next nonce.
    pub nonce: u64,
    /// Runtime bytecode, empty for a plain account.
    pub code: Bytes,
    /// Storage slots that are not zero.
    pub storage: BTreeMap<B256, B256>,
}

/// The state that a ledger starts from. A stored ledger keeps the one that it was created with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// The chain id that transactions are signed for.
    pub chain_id: u64,
    /// Seconds since the Unix epoch, of block 0.
    pub timestamp: u64,
    /// The accounts of block 0.
    pub accounts: BTreeMap<Address, GenesisAccount>,
}

impl Genesis {
    /// A genesis that holds Multicall3 and the deterministic deployment proxy, and nothing else.
    pub fn new(chain_id: u64) -> Self {
        let code = |code: Bytes| GenesisAccount { nonce: 1, code, ..GenesisAccount::default() };
        let multicall: Bytes = hex::decode(MULTICALL3_CODE.trim()).unwrap_or_default().into();
        let accounts = BTreeMap::from([
            (MULTICALL3, code(multicall)),
            (CREATE2_DEPLOYER, code(Bytes::from_static(&CREATE2_DEPLOYER_CODE))),
        ]);
        Self { chain_id, timestamp: 0, accounts }
    }

    /// Gives `account` a balance of `wei`.
    #[must_use]
    pub fn fund(mut self, account: Address, wei: U256) -> Self {
        self.accounts.entry(account).or_default().balance = wei;
        self
    }

    /// Places runtime bytecode at `account`.
    #[must_use]
    pub fn deploy(mut self, account: Address, code: impl Into<Bytes>) -> Self {
        let entry = self.accounts.entry(account).or_default();
        entry.code = code.into();
        entry.nonce = 1;
        self
    }
}

/// When the ledger makes blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockPolicy {
    /// At once, with everything that is queued; and an empty block after `heartbeat` without any, so that
    /// confirmations and time go on.
    OnDemand {
        /// The longest time between two blocks; `None` for no empty blocks.
        heartbeat: Option<Duration>,
    },
    /// Every interval, whether transactions wait or not.
    Every(Duration),
    /// Only when asked to, by [`Embedded::mine`](super::Embedded::mine) or `evm_mine`.
    Manual,
}

/// Tells the ledger the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Seconds since the Unix epoch.
    fn now(&self) -> u64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows `now`, in seconds since the Unix epoch.
    pub fn new(now: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// How to open an embedded ledger.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// The directory of the ledger's database; `None` keeps it in memory.
    pub dir: Option<PathBuf>,
    /// What a new ledger starts from. An existing one must have been created with the same chain id and
    /// accounts.
    pub genesis: Genesis,
    /// When blocks are made.
    pub blocks: BlockPolicy,
    /// Gas that one block may use, and one call.
    pub gas_limit: u64,
    /// The base fee in wei per gas that EIP-1559 never falls below, and that block 0 has.
    pub min_base_fee: u64,
    /// Who receives priority fees.
    pub beneficiary: Address,
    /// How many blocks behind the newest one `safe` and `finalized` are.
    pub finality_depth: u64,
    /// How many blocks back state can be read, and blocks can be removed by a reorganisation.
    pub history: u64,
    /// Where block timestamps come from.
    pub clock: Arc<dyn Clock>,
    /// Runs the engine as a task of the caller's tokio runtime and reads on the calling thread: for simulators, whose paused
    /// clock would run ahead while another thread works.
    pub inline: bool,
    /// Whether the `evm_*` and `tradewind_*` methods, which bend time and history, answer.
    pub dev: bool,
}

impl EmbeddedConfig {
    /// A ledger in memory that makes blocks on demand, with the defaults that a development network wants.
    pub fn in_memory(genesis: Genesis) -> Self {
        Self {
            dir: None,
            genesis,
            blocks: BlockPolicy::OnDemand { heartbeat: None },
            gas_limit: 60_000_000,
            min_base_fee: 1_000_000_000,
            beneficiary: Address::ZERO,
            finality_depth: 0,
            history: 256,
            clock: Arc::new(SystemClock),
            inline: false,
            dev: false,
        }
    }

    /// The same, stored under `dir`.
    pub fn stored(dir: impl Into<PathBuf>, genesis: Genesis) -> Self {
        Self { dir: Some(dir.into()), ..Self::in_memory(genesis) }
    }
}
