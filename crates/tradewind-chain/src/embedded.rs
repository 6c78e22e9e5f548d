//! The embedded ledger: a whole Ethereum development chain inside the process, for one machine or one trusted
//! operator.
//!
//! It runs the same bytecode as any EVM chain (revm with the Cancun rules), keeps everything in one crash-safe
//! database, and answers JSON-RPC: over HTTP on the loopback interface, so that wallets and `cast` work on it
//! unchanged, and through an in-process alloy transport, so that our own code takes the same path on every chain.
//!
//! ```text
//!  wallet, cast ──HTTP──► http ─┐                ┌─► readers: snapshots of the database, many at once
//!                               ├─► rpc handler ─┤
//!  DynProvider ──InProcess──────┘                └─► engine thread: admit ► execute ► commit + fsync ► answer
//! ```
//!
//! Nothing is acknowledged before it is durable: `eth_sendRawTransaction` answers once the transaction is in a
//! committed block, or, where it has to wait, in the committed pool. A block holds everything that was queued
//! when it was made, so that one fsync serves many.
//!
//! When the disk fails or is full, the submissions of the block at hand get an error that says so, the database
//! is opened again, and what it then holds is the truth: an acknowledged transaction is never lost, and a refused
//! one is not executed later.
//!
//! The header's `stateRoot` is a hash chain over state differences instead of a Merkle Patricia root, so there are
//! no account proofs (`eth_getProof`); every other header field, and the block hash, are Ethereum's.
//! [`Embedded::audit`] executes the whole history again and compares.
//!
//! ```
//! use alloy::primitives::{U256, address};
//! use alloy::providers::Provider as _;
//! use tradewind_chain::embedded::{Embedded, EmbeddedConfig, Genesis};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let alice = address!("0x00000000000000000000000000000000000a11ce");
//! let genesis = Genesis::new(31_337).fund(alice, U256::from(10).pow(U256::from(18)));
//! let ledger = Embedded::open(EmbeddedConfig::in_memory(genesis))?;
//!
//! assert_eq!(ledger.provider().get_chain_id().await?, 31_337);
//! let (addr, server) = ledger.serve("127.0.0.1:0".parse()?).await?;
//! assert!(addr.ip().is_loopback());
//! server.stop().await;
//! ledger.close().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::primitives::B256;
use alloy::providers::{DynProvider, Provider as _, RootProvider};
use alloy::rpc::client::RpcClient;
use tokio::sync::{mpsc, watch};

mod audit;
mod block;
mod cache;
mod config;
mod engine;
mod execution;
mod fault;
mod filters;
mod genesis;
mod http;
mod pool;
mod rpc;
mod state;
mod store;
mod transport;

pub use audit::{Audit, AuditError};
pub use config::{
    BlockPolicy, CREATE2_DEPLOYER, Clock, EmbeddedConfig, Genesis, GenesisAccount, MULTICALL3, ManualClock,
    SystemClock,
};
pub use engine::{Dropped, LedgerError};
pub use fault::Fault;
pub use http::{ServeError, ServerGuard};
pub use pool::Refused;
pub use store::StoreError;
pub use transport::InProcess;

use engine::{Command, Control, Engine, QUEUE, Shared, Tip};
use execution::Rules;
use rpc::{READERS, Rpc};
use store::{Commit, Medium, Store};

/// The database's file in the ledger's directory.
const FILE: &str = "ledger.redb";
/// How often an in-process provider looks for new blocks.
const POLL: Duration = Duration::from_millis(25);

/// The ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory could not be made.
    #[error("cannot create the ledger's directory {path}")]
    Directory {
        /// The directory.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The database could not be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The directory holds a ledger with another chain id or other first accounts.
    #[error(
        "the directory holds another ledger: its chain id is {stored}, not {wanted}, or its genesis differs"
    )]
    OtherGenesis {
        /// The stored chain id.
        stored: u64,
        /// The configured chain id.
        wanted: u64,
    },
    /// A block policy or limit makes no sense.
    #[error("invalid configuration: {0}")]
    Config(&'static str),
    /// The engine's thread could not be started.
    #[error("cannot start the ledger's thread")]
    Thread(#[source] std::io::Error),
}

/// The newest block of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Its time, in seconds since the Unix epoch.
    pub timestamp: u64,
}

/// A handle to a running embedded ledger; clones share it. The ledger stops when the last handle, transport and
/// server of it is gone, or by [`close`](Self::close).
#[derive(Clone)]
pub struct Embedded {
    rpc: Arc<Rpc>,
    genesis: Arc<Genesis>,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("chain_id", &self.chain_id())
            .field("head", &self.head())
            .finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the ledger under `config.dir`, or makes a new one there or in memory. Blocking; after a crash it reads
    /// the whole database once. Within a tokio runtime where `config.inline` says so.
    pub fn open(config: EmbeddedConfig) -> Result<Self, OpenError> {
        let medium = match &config.dir {
            None => Medium::Memory,
            Some(dir) => {
                std::fs::create_dir_all(dir)
                    .map_err(|source| OpenError::Directory { path: dir.clone(), source })?;
                Medium::File(dir.join(FILE))
            }
        };
        Self::open_on(medium, config)
    }

    fn open_on(medium: Medium, config: EmbeddedConfig) -> Result<Self, OpenError> {
        check(&config)?;
        let rules = Rules {
            chain_id: config.genesis.chain_id,
            gas_limit: config.gas_limit,
            min_base_fee: config.min_base_fee,
            beneficiary: config.beneficiary,
        };
        let store = Arc::new(Store::open(medium)?);
        let genesis = Arc::new(begin(&store, &config, &rules)?);
        let view = store.view()?;
        let number = view.head()?.ok_or(StoreError::Corrupt("head"))?;
        let (hash, header) = view.header(number)?.ok_or(StoreError::Corrupt("missing header"))?;
        let (tip, tips) = watch::channel(Arc::new(Tip { header, hash }));
        let shared = Shared {
            rules,
            store,
            pool: Arc::new(Mutex::default()),
            blocks: Arc::new(Mutex::default()),
            filters: Arc::new(Mutex::default()),
            clock: config.clock,
            time_offset: Arc::new(AtomicU64::new(0)),
            history: config.history,
        };
        let (commands, inbox) = mpsc::channel(QUEUE);
        let (engine_shared, policy) = (shared.clone(), config.blocks);
        let engine = Engine::new(engine_shared, policy, tip)?;
        if config.inline {
            tokio::spawn(engine.run(inbox));
        } else {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.map_err(OpenError::Thread)?;
            std::thread::Builder::new()
                .name("ledger".to_owned())
                .spawn(move || runtime.block_on(engine.run(inbox)))
                .map_err(OpenError::Thread)?;
        }
        let readers = (!config.inline).then_some(READERS);
        let rpc = Rpc::new(shared, tips, commands, readers, config.dev, config.finality_depth);
        Ok(Self { rpc: Arc::new(rpc), genesis })
    }

    /// The chain id that transactions must be signed for.
    pub fn chain_id(&self) -> u64 {
        self.rpc.shared.rules.chain_id
    }

    /// What block 0 was made of.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The newest block.
    pub fn head(&self) -> Head {
        let tip = self.rpc.tip();
        Head { number: tip.header.number, hash: tip.hash, timestamp: tip.header.timestamp }
    }

    /// The time that the next block would have, in seconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.rpc.shared.now().max(self.rpc.tip().header.timestamp)
    }

    /// A transport for alloy that calls this ledger directly.
    pub fn transport(&self) -> InProcess {
        InProcess::new(self.rpc.clone())
    }

    /// A provider over [`transport`](Self::transport), without fillers: it sends what it is given.
    pub fn provider(&self) -> DynProvider {
        let client = RpcClient::new(self.transport(), true).with_poll_interval(POLL);
        RootProvider::new(client).erased()
    }

    /// Answers one JSON-RPC request.
    pub async fn request(
        &self,
        method: &str,
        params: Option<&serde_json::value::RawValue>,
    ) -> Result<Box<serde_json::value::RawValue>, Fault> {
        self.rpc.answer(method, params).await
    }

    /// Serves JSON-RPC over HTTP on a loopback address until the guard is dropped; port 0 takes a free one.
    pub async fn serve(&self, addr: SocketAddr) -> Result<(SocketAddr, ServerGuard), ServeError> {
        http::serve(self.rpc.clone(), addr, false).await
    }

    /// The same on any address. There is no access control: everyone who can reach the address can read the
    /// ledger and submit transactions, and bend it if it was opened with `dev`.
    pub async fn serve_beyond_loopback(
        &self,
        addr: SocketAddr,
    ) -> Result<(SocketAddr, ServerGuard), ServeError> {
        http::serve(self.rpc.clone(), addr, true).await
    }

    /// Makes `blocks` blocks, of which the first takes what waits.
    pub async fn mine(&self, blocks: u64) -> Result<(), LedgerError> {
        self.rpc.command(|reply| Control::Mine { blocks, timestamp: None, reply }).await
    }

    /// Replaces the newest `depth` blocks by `depth + 1` others, as if another chain had won.
    pub async fn reorg(&self, depth: u64, dropped: Dropped) -> Result<(), LedgerError> {
        self.rpc.command(|reply| Control::Reorg { depth, dropped, reply }).await
    }

    /// Moves the ledger's time ahead of its clock by `seconds` more.
    pub async fn advance_time(&self, seconds: u64) -> Result<(), LedgerError> {
        self.rpc.command(|reply| Control::AdvanceTime { seconds, reply }).await.map(|_| ())
    }

    /// Turns the making of blocks on demand off or on again; transactions wait while it is off.
    pub async fn set_automine(&self, on: bool) -> Result<(), LedgerError> {
        self.rpc.command(|reply| Control::Automine { on, reply }).await
    }

    /// Executes the whole history again and compares every block and the final state with what is stored.
    /// Blocking, and as long as the history.
    pub fn audit(&self) -> Result<Audit, AuditError> {
        let view = self.rpc.shared.store.view()?;
        audit::audit(&view, &self.genesis, &self.rpc.shared.rules)
    }

    /// Stops the ledger, with everything it took in durable, and releases its file. Later requests fail.
    pub async fn close(&self) {
        // An engine that is gone already has nothing left to write.
        let _ = self.rpc.command(|reply| Command::Close { reply }).await;
        self.rpc.shared.store.close();
    }
}

fn check(config: &EmbeddedConfig) -> Result<(), OpenError> {
    if config.gas_limit < 1_000_000 {
        return Err(OpenError::Config("the gas limit is below 1,000,000"));
    }
    if config.min_base_fee == 0 {
        return Err(OpenError::Config("the base fee must not be zero"));
    }
    if matches!(config.blocks, BlockPolicy::Every(interval) | BlockPolicy::OnDemand { heartbeat: Some(interval) } if interval.is_zero())
    {
        return Err(OpenError::Config("the time between blocks is zero"));
    }
    Ok(())
}

/// Writes block 0 into an empty store, or checks that the store began with the same one.
fn begin(store: &Store, config: &EmbeddedConfig, rules: &Rules) -> Result<Genesis, OpenError> {
    let mut genesis = config.genesis.clone();
    if let Some(stored) = store.view()?.genesis()? {
        let stored: Genesis = serde_json::from_slice(&stored).map_err(|_| StoreError::Corrupt("genesis"))?;
        if stored.chain_id != genesis.chain_id || stored.accounts != genesis.accounts {
            return Err(OpenError::OtherGenesis { stored: stored.chain_id, wanted: genesis.chain_id });
        }
        return Ok(stored);
    }
    if genesis.timestamp == 0 {
        genesis.timestamp = config.clock.now();
    }
    let record =
        serde_json::to_vec(&genesis).map_err(|_| OpenError::Config("the genesis cannot be encoded"))?;
    let (block, diff) = genesis::genesis_block(&genesis, rules);
    store.commit(&Commit { block: Some((&block, &diff)), genesis: Some(record), ..Commit::default() })?;
    Ok(genesis)
}

#[cfg(test)]
mod tests;
