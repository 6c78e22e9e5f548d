//! What drives the outbox: look at the chain, then bring every job one step on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Bytes, TxKind, U256};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::{TransactionInput, TransactionReceipt, TransactionRequest};
use alloy::transports::{RpcError, TransportError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tradewind_proto::signature::SigningKey;

use crate::client::revert::RevertDecoder;
use crate::client::sender::job::{Attempt, Call, Job, JobState};
use crate::client::sender::{Outbox, SenderConfig};
use crate::client::store::StoreError;

/// Gas asked for beyond the estimate, as a divisor of it: a quarter.
const GAS_HEADROOM: u64 = 4;
/// A replacement has to bid at least an eighth more.
const RAISE: u128 = 8;
/// The longest pause between two looks at a chain that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A chain without new blocks still confirms that a nonce is spent after this many looks by time; see `lost_after`.
const LOST_BLOCKS: u64 = 2;

#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("the chain cannot be reached")]
    Rpc(#[from] TransportError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the chain has no latest block")]
    NoHead,
    #[error("the transaction cannot be signed")]
    Signature,
}

/// Whether to look again at once.
enum Progress {
    Idle,
    Waiting,
    Again,
}

enum Launch {
    Sent,
    Refused(String),
    Waits,
}

/// What is known of a job only while this process lives.
struct Watch {
    broadcast: Option<Instant>,
    priced: Instant,
    spent_since: Option<(u64, Instant)>,
}

pub(super) struct Worker {
    provider: DynProvider,
    key: SigningKey,
    outbox: Arc<Outbox>,
    decoder: Arc<RevertDecoder>,
    config: SenderConfig,
    watches: HashMap<u64, Watch>,
}

impl Worker {
    pub(super) fn new(
        provider: DynProvider,
        key: SigningKey,
        outbox: Arc<Outbox>,
        decoder: Arc<RevertDecoder>,
        config: SenderConfig,
    ) -> Self {
        Self { provider, key, outbox, decoder, config, watches: HashMap::new() }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0u32;
        let outbox = Arc::clone(&self.outbox);
        loop {
            let pause = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                step = self.step() => match step {
                    Ok(progress) => {
                        failures = 0;
                        match progress {
                            Progress::Idle => None,
                            Progress::Waiting => Some(self.config.poll),
                            Progress::Again => Some(Duration::ZERO),
                        }
                    }
                    Err(error) => {
                        let pause = self.config.poll.saturating_mul(1 << failures.min(7)).min(LONGEST_PAUSE);
                        failures = failures.saturating_add(1);
                        tracing::warn!(account = %outbox.account, error = &error as &dyn std::error::Error,
                            "the outbox waits for the chain");
                        Some(pause)
                    }
                },
            };
            let rest = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = outbox.wake.notified() => {}
                () = rest => {}
            }
        }
    }

    async fn step(&mut self) -> Result<Progress, StepError> {
        if self.outbox.jobs().is_empty() {
            self.watches.clear();
            return Ok(Progress::Idle);
        }
        let head = self.head().await?;
        let account = self.outbox.account;
        let mined = self.provider.get_transaction_count(account).block_id(BlockId::latest()).await?;
        for job in self.snapshot(|job| !matches!(job.state, JobState::Queued)) {
            self.observe(job, head, mined).await?;
        }
        let mut again = false;
        let mut next = self.next_nonce(mined).await?;
        for job in self.snapshot(|job| job.state == JobState::Sent) {
            self.nurse(job).await?;
        }
        for job in self.snapshot(|job| job.state == JobState::Queued) {
            let in_flight = self.snapshot(|job| job.state == JobState::Sent).len();
            if in_flight >= self.config.max_in_flight {
                break;
            }
            match self.launch(job.clone(), next).await? {
                Launch::Sent => {
                    next += 1;
                    again = true;
                }
                Launch::Refused(reason) if in_flight == 0 => {
                    self.outbox.save(Job { state: JobState::Failed { reason }, ..job }).await?;
                }
                // An earlier transaction may be what it waits for.
                Launch::Refused(_) | Launch::Waits => break,
            }
        }
        self.watches.retain(|seq, _| self.outbox.jobs().contains_key(seq));
        Ok(if again { Progress::Again } else { Progress::Waiting })
    }

    fn snapshot(&self, wanted: impl Fn(&Job) -> bool) -> Vec<Job> {
        self.outbox.jobs().values().filter(|job| wanted(job)).cloned().collect()
    }

    async fn head(&self) -> Result<u64, StepError> {
        let block = self.provider.get_block_by_number(BlockNumberOrTag::Latest).await?;
        Ok(block.ok_or(StepError::NoHead)?.header.number)
    }

    /// Reads from the chain what became of a signed job.
    async fn observe(&mut self, mut job: Job, head: u64, mined: u64) -> Result<(), StepError> {
        let receipt = self.receipt(&job).await?;
        let Some(receipt) = receipt else {
            if matches!(job.state, JobState::Included { .. }) {
                tracing::warn!(key = job.key, "a transaction left the chain with its block");
                job.state = JobState::Sent;
                self.outbox.save(job.clone()).await?;
            }
            return self.suspect(job, head, mined).await;
        };
        let (Some(block), Some(hash)) = (receipt.block_number, receipt.block_hash) else { return Ok(()) };
        let tx = receipt.transaction_hash;
        if let Some(watch) = self.watches.get_mut(&job.seq) {
            watch.spent_since = None;
        }
        let known = match &job.state {
            JobState::Included { hash: known, refusal, .. } if *known == hash => Some(refusal.clone()),
            JobState::Queued
            | JobState::Sent
            | JobState::Included { .. }
            | JobState::Final { .. }
            | JobState::Failed { .. } => None,
        };
        let refusal = match &known {
            Some(refusal) => refusal.clone(),
            None if receipt.status() => None,
            None => Some(self.reason(&job.call, block).await),
        };
        let is_final = head >= block.saturating_add(self.config.finality);
        if known.is_some() && !is_final {
            return Ok(());
        }
        job.state = match (is_final, refusal) {
            (true, None) => JobState::Final { block, tx },
            (true, Some(reason)) => JobState::Failed { reason },
            (false, refusal) => JobState::Included { block, hash, tx, refusal },
        };
        Ok(self.outbox.save(job).await?)
    }

    async fn receipt(&self, job: &Job) -> Result<Option<TransactionReceipt>, StepError> {
        for attempt in job.attempts.iter().rev() {
            if let Some(receipt) = self.provider.get_transaction_receipt(attempt.hash).await? {
                // An endpoint that answers about another transaction answers nonsense.
                if receipt.transaction_hash == attempt.hash {
                    return Ok(Some(receipt));
                }
            }
        }
        Ok(None)
    }

    /// A spent nonce without a receipt: another transaction took it, or the endpoint is late. Time tells them apart.
    async fn suspect(&mut self, mut job: Job, head: u64, mined: u64) -> Result<(), StepError> {
        let watch = self.watch(job.seq);
        if job.nonce.is_none_or(|nonce| nonce >= mined) {
            watch.spent_since = None;
            return Ok(());
        }
        let (block, at) = *watch.spent_since.get_or_insert_with(|| (head, Instant::now()));
        let deep = head >= block.saturating_add(self.config.finality.max(LOST_BLOCKS));
        if deep || at.elapsed() >= self.config.lost_after {
            tracing::warn!(key = job.key, "a nonce went to another transaction; signing anew");
            self.watches.remove(&job.seq);
            job.nonce = None;
            job.attempts.clear();
            job.state = JobState::Queued;
            self.outbox.save(job).await?;
        }
        Ok(())
    }

    fn watch(&mut self, seq: u64) -> &mut Watch {
        let now = Instant::now();
        self.watches.entry(seq).or_insert(Watch { broadcast: None, priced: now, spent_since: None })
    }

    /// The first nonce for a new transaction, after filling a hole that would block every later one.
    async fn next_nonce(&mut self, mined: u64) -> Result<u64, StepError> {
        let mut taken: Vec<u64> =
            self.snapshot(|job| job.is_open()).iter().filter_map(|job| job.nonce).collect();
        taken.retain(|nonce| *nonce >= mined);
        taken.sort_unstable();
        let Some(&last) = taken.last() else { return Ok(mined) };
        let hole = (mined..last).find(|nonce| taken.binary_search(nonce).is_err());
        if let Some(nonce) = hole {
            self.fill(nonce).await?;
        }
        Ok(last + 1)
    }

    /// Spends `nonce` on nothing, by giving it to the oldest queued job or to an empty transfer to ourselves.
    async fn fill(&mut self, nonce: u64) -> Result<(), StepError> {
        for job in self.snapshot(|job| job.state == JobState::Queued) {
            if matches!(self.launch(job, nonce).await?, Launch::Sent) {
                return Ok(());
            }
        }
        let account = self.outbox.account;
        let nothing = Call { to: Some(account), input: Bytes::new(), value: U256::ZERO };
        let key = format!("hole:{nonce}");
        if let Err(error) = self.outbox.add(&key, nothing).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a nonce stays unused");
        }
        Ok(())
    }

    /// Sends a job again that the network may have forgotten, or bids more for one that is stuck.
    async fn nurse(&mut self, mut job: Job) -> Result<(), StepError> {
        let (stuck_after, again_after) = (self.config.stuck_after, self.config.stuck_after / 3);
        let watch = self.watch(job.seq);
        let due = watch.broadcast.is_none_or(|at| at.elapsed() >= again_after);
        let stuck = watch.priced.elapsed() >= stuck_after;
        if stuck {
            watch.priced = Instant::now();
            if let Some(attempt) = self.raised(&job).await? {
                job.attempts.push(attempt);
                self.outbox.save(job.clone()).await?;
            }
        }
        if due || stuck {
            self.broadcast(&job).await;
        }
        Ok(())
    }

    /// The newest attempt again with a higher bid, or `None` at the ceiling.
    async fn raised(&self, job: &Job) -> Result<Option<Attempt>, StepError> {
        let (Some(last), Some(nonce)) = (job.attempts.last(), job.nonce) else { return Ok(None) };
        let market = self.provider.estimate_eip1559_fees().await?;
        let more = |bid: u128| bid.saturating_add(bid / RAISE).saturating_add(1);
        let max_fee = more(last.max_fee).max(market.max_fee_per_gas);
        if max_fee > self.config.max_fee_per_gas {
            tracing::warn!(key = job.key, max_fee, "a stuck transaction is at the fee ceiling");
            return Ok(None);
        }
        let tip = more(last.tip).max(market.max_priority_fee_per_gas).min(max_fee);
        self.sign(&job.call, nonce, last.gas, max_fee, tip).map(Some)
    }

    /// Simulates, signs, stores and sends a queued job.
    async fn launch(&mut self, mut job: Job, nonce: u64) -> Result<Launch, StepError> {
        let gas = match self.provider.estimate_gas(self.request(&job.call)).await {
            Ok(gas) => gas,
            Err(RpcError::ErrorResp(error)) => {
                return Ok(match self.decoder.refusal(&error) {
                    Some(revert) => Launch::Refused(revert.to_string()),
                    None => {
                        tracing::warn!(key = job.key, error = %error, "a transaction cannot be sent yet");
                        Launch::Waits
                    }
                });
            }
            Err(error) => return Err(error.into()),
        };
        let fees = self.provider.estimate_eip1559_fees().await?;
        let max_fee = fees.max_fee_per_gas.min(self.config.max_fee_per_gas);
        let tip = fees.max_priority_fee_per_gas.min(max_fee);
        let attempt = self.sign(&job.call, nonce, gas + gas / GAS_HEADROOM, max_fee, tip)?;
        job.nonce = Some(nonce);
        job.attempts = vec![attempt];
        job.state = JobState::Sent;
        self.outbox.save(job.clone()).await?;
        self.watches.remove(&job.seq);
        self.broadcast(&job).await;
        Ok(Launch::Sent)
    }

    fn request(&self, call: &Call) -> TransactionRequest {
        TransactionRequest {
            from: Some(self.outbox.account),
            to: Some(kind(call)),
            value: Some(call.value),
            input: TransactionInput::new(call.input.clone()),
            ..TransactionRequest::default()
        }
    }

    fn sign(
        &self,
        call: &Call,
        nonce: u64,
        gas: u64,
        max_fee: u128,
        tip: u128,
    ) -> Result<Attempt, StepError> {
        let transaction = TxEip1559 {
            chain_id: self.config.chain_id,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: max_fee,
            max_priority_fee_per_gas: tip,
            to: kind(call),
            value: call.value,
            input: call.input.clone(),
            ..TxEip1559::default()
        };
        let signature = self.key.sign(transaction.signature_hash());
        let signature = alloy::primitives::Signature::from_raw_array(signature.as_bytes())
            .map_err(|_| StepError::Signature)?;
        let signed = TxEnvelope::from(transaction.into_signed(signature));
        Ok(Attempt { hash: *signed.tx_hash(), raw: signed.encoded_2718().into(), gas, max_fee, tip })
    }

    /// Tells the network about the newest attempt. What it answers decides nothing.
    async fn broadcast(&mut self, job: &Job) {
        self.watch(job.seq).broadcast = Some(Instant::now());
        let Some(attempt) = job.attempts.last() else { return };
        if let Err(error) = self.provider.send_raw_transaction(&attempt.raw).await {
            tracing::debug!(key = job.key, tx = %attempt.hash, %error, "a broadcast was not confirmed");
        }
    }

    /// Why an included transaction reverted, as far as a replay tells.
    async fn reason(&self, call: &Call, block: u64) -> String {
        let replay = self.provider.call(self.request(call)).block(BlockId::number(block)).await;
        match replay {
            Err(RpcError::ErrorResp(error)) => self
                .decoder
                .refusal(&error)
                .map_or_else(|| "the transaction reverted".into(), |revert| revert.to_string()),
            Ok(_) | Err(_) => "the transaction reverted".into(),
        }
    }
}

fn kind(call: &Call) -> TxKind {
    call.to.map_or(TxKind::Create, TxKind::Call)
}
