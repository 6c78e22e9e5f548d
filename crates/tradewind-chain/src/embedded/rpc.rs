//! The JSON-RPC interface: one handler behind HTTP and the in-process transport.

use std::sync::Arc;
use std::time::Duration;

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{B256, U64, U256, keccak256};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::block::Block;
use super::engine::{Command, LedgerError, Reply, Shared, Tip, lock};
use super::fault::Fault;
use super::store::View;

mod call;
mod dev;
mod logs;
mod query;
mod submit;

/// Reads that run at once; the others wait.
pub(super) const READERS: usize = 64;
/// How long a command waits for room in the engine's queue.
const QUEUE_WAIT: Duration = Duration::from_secs(10);

pub(crate) type Answer = Result<Box<RawValue>, Fault>;

/// Answers JSON-RPC requests.
pub(crate) struct Rpc {
    pub(crate) shared: Shared,
    pub(crate) tip: watch::Receiver<Arc<Tip>>,
    commands: mpsc::Sender<Command>,
    /// Threads for reads; none where the calling thread reads.
    readers: Option<Arc<Semaphore>>,
    dev: bool,
    finality_depth: u64,
}

impl Rpc {
    pub(crate) fn new(
        shared: Shared,
        tip: watch::Receiver<Arc<Tip>>,
        commands: mpsc::Sender<Command>,
        readers: Option<usize>,
        dev: bool,
        finality_depth: u64,
    ) -> Self {
        let readers = readers.map(|readers| Arc::new(Semaphore::new(readers)));
        Self { shared, tip, commands, readers, dev, finality_depth }
    }

    /// Gives the engine a command and waits for its answer.
    pub(crate) async fn command<T, C: Into<Command>>(
        &self,
        command: impl FnOnce(Reply<T>) -> C,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        match self.commands.send_timeout(command(reply).into(), QUEUE_WAIT).await {
            Ok(()) => answer.await.unwrap_or(Err(LedgerError::Closed)),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(LedgerError::Busy),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(LedgerError::Closed),
        }
    }

    pub(crate) fn tip(&self) -> Arc<Tip> {
        self.tip.borrow().clone()
    }

    /// Answers one request.
    pub(crate) async fn answer(self: &Arc<Self>, method: &str, params: Option<&RawValue>) -> Answer {
        let params = Params::parse(params)?;
        match method {
            "eth_sendRawTransaction" => return raw(&self.send_raw(&params).await?),
            "eth_sendRawTransactionSync" => return self.send_raw_sync(&params).await,
            _ => {}
        }
        if let Some(answer) = self.at_once(method, &params) {
            return answer;
        }
        if method.starts_with("evm_") || method.starts_with("tradewind_") {
            return if self.dev { self.bend(method, &params).await } else { Err(Fault::method(method)) };
        }
        let Some(readers) = self.readers.clone() else { return self.read(method, &params) };
        let permit = readers.acquire_owned().await.map_err(|_| LedgerError::Closed)?;
        let (rpc, method) = (self.clone(), method.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            rpc.read(&method, &params)
        });
        read.await.map_err(|_| Fault::server("the request was aborted"))?
    }

    /// What needs neither the disk nor the engine.
    fn at_once(&self, method: &str, params: &Params) -> Option<Answer> {
        let tip = self.tip();
        let base_fee = || self.shared.rules.next_base_fee(&tip.header);
        Some(match method {
            "web3_clientVersion" => raw(concat!("tradewind-ledger/", env!("CARGO_PKG_VERSION"))),
            "web3_sha3" => {
                params.required::<alloy::primitives::Bytes>(0).and_then(|bytes| raw(&keccak256(bytes)))
            }
            "net_version" => raw(&self.shared.rules.chain_id.to_string()),
            "net_listening" => raw(&true),
            "net_peerCount" => raw(&U64::ZERO),
            "eth_chainId" => raw(&U64::from(self.shared.rules.chain_id)),
            "eth_blockNumber" => raw(&U64::from(tip.header.number)),
            "eth_syncing" | "eth_mining" => raw(&false),
            "eth_accounts" => raw(&[(); 0]),
            "eth_gasPrice" => raw(&U256::from(base_fee())),
            "eth_maxPriorityFeePerGas" => raw(&U64::ZERO),
            "eth_blobBaseFee" => raw(&U64::from(1)),
            _ => return None,
        })
    }

    fn read(&self, method: &str, params: &Params) -> Answer {
        match method {
            "eth_getBalance" => self.balance(params),
            "eth_getTransactionCount" => self.transaction_count(params),
            "eth_getCode" => self.code(params),
            "eth_getStorageAt" => self.storage_at(params),
            "eth_getBlockByNumber" => self.block_by_number(params),
            "eth_getBlockByHash" => self.block_by_hash(params),
            "eth_getBlockTransactionCountByNumber" | "eth_getBlockTransactionCountByHash" => {
                self.block_transaction_count(params)
            }
            "eth_getUncleCountByBlockNumber" | "eth_getUncleCountByBlockHash" => raw(&U64::ZERO),
            "eth_getBlockReceipts" => self.block_receipts(params),
            "eth_getTransactionByHash" => self.transaction_by_hash(params),
            "eth_getRawTransactionByHash" => self.raw_transaction_by_hash(params),
            "eth_getTransactionByBlockNumberAndIndex" | "eth_getTransactionByBlockHashAndIndex" => {
                self.transaction_by_index(params)
            }
            "eth_getTransactionReceipt" => self.transaction_receipt(params),
            "eth_feeHistory" => self.fee_history(params),
            "eth_call" => self.call(params),
            "eth_estimateGas" => self.estimate_gas(params),
            "eth_getLogs" => self.logs(params),
            "eth_newFilter" => self.new_log_filter(params),
            "eth_newBlockFilter" => self.new_block_filter(),
            "eth_newPendingTransactionFilter" => self.new_pending_filter(),
            "eth_getFilterChanges" => self.filter_changes(params),
            "eth_getFilterLogs" => self.filter_logs(params),
            "eth_uninstallFilter" => self.uninstall_filter(params),
            "txpool_status" => self.pool_status(),
            _ => Err(Fault::method(method)),
        }
    }

    /// The number that a block tag stands for; none if there is no such block.
    fn block_number(&self, view: &View, id: BlockId) -> Result<Option<u64>, Fault> {
        let head = view.head()?.unwrap_or(0);
        let number = match id {
            BlockId::Hash(hash) => return Ok(view.number_of(hash.block_hash)?),
            BlockId::Number(BlockNumberOrTag::Latest | BlockNumberOrTag::Pending) => head,
            BlockId::Number(BlockNumberOrTag::Safe | BlockNumberOrTag::Finalized) => {
                head.saturating_sub(self.finality_depth)
            }
            BlockId::Number(BlockNumberOrTag::Earliest) => 0,
            BlockId::Number(BlockNumberOrTag::Number(number)) => number,
        };
        Ok((number <= head).then_some(number))
    }

    /// A whole block, out of the cache where it is there.
    fn block(&self, view: &View, number: u64) -> Result<Option<Arc<Block>>, Fault> {
        let Some(hash) = view.block_hash(number)? else { return Ok(None) };
        if let Some(block) = lock(&self.shared.blocks).get(hash) {
            return Ok(Some(block));
        }
        let Some(block) = view.block(number)?.map(Arc::new) else { return Ok(None) };
        lock(&self.shared.blocks).insert(block.clone());
        Ok(Some(block))
    }

    fn block_of(&self, view: &View, id: BlockId) -> Result<Option<Arc<Block>>, Fault> {
        match self.block_number(view, id)? {
            Some(number) => self.block(view, number),
            None => Ok(None),
        }
    }

    /// The block and index of a mined transaction.
    fn mined(&self, view: &View, hash: B256) -> Result<Option<(Arc<Block>, usize)>, Fault> {
        let Some((number, index)) = view.transaction(hash)? else { return Ok(None) };
        Ok(self.block(view, number)?.map(|block| (block, index as usize)))
    }
}

/// Encodes a result.
fn raw<T: Serialize + ?Sized>(value: &T) -> Answer {
    serde_json::value::to_raw_value(value).map_err(|error| Fault::server(error.to_string()))
}

/// The positional parameters of a request.
struct Params(Vec<Box<RawValue>>);

impl Params {
    fn parse(params: Option<&RawValue>) -> Result<Self, Fault> {
        let Some(params) = params else { return Ok(Self(Vec::new())) };
        serde_json::from_str::<Option<Vec<Box<RawValue>>>>(params.get())
            .map(|params| Self(params.unwrap_or_default()))
            .map_err(|_| Fault::params("non-array args"))
    }

    fn optional<T: DeserializeOwned>(&self, index: usize) -> Result<Option<T>, Fault> {
        let Some(value) = self.0.get(index) else { return Ok(None) };
        serde_json::from_str(value.get())
            .map_err(|error| Fault::params(format!("invalid argument {index}: {error}")))
    }

    fn required<T: DeserializeOwned>(&self, index: usize) -> Result<T, Fault> {
        self.optional(index)?
            .ok_or_else(|| Fault::params(format!("missing value for required argument {index}")))
    }

    fn block(&self, index: usize) -> Result<BlockId, Fault> {
        Ok(self.optional(index)?.unwrap_or_default())
    }
}
