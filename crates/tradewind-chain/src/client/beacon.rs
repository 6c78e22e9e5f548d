//! The keeper of a development network's beacon: makes the rounds that somebody waits for, by the ledger host's own gas.
//!
//! ```text
//! start of the epoch, every open case's next draw ─► due? ─► advance (marks a block) ─► advance (stores its hash)
//! ```
//!
//! Nobody has to trust it less than the ledger's host, who makes the blocks. A round that nobody made in time stays unknown:
//! what waits for it ends undecided.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::eips::BlockId;
use alloy::primitives::{Address, B256};
use alloy::sol_types::SolCall;
use tokio_util::sync::CancellationToken;
use tradewind_proto::ids::CaseId;
use tradewind_proto::units::{Seconds, Timestamp};

use crate::client::bindings::court::abi::Beacon;
use crate::client::bindings::deadline;
use crate::client::reader::Reader;
use crate::client::sender::{Call, Sender, SenderError};
use crate::client::store::StoreError;
use crate::ledger::LedgerError;
use crate::ledger::court::{CaseRecord, CaseStage, CourtSetup, Tribunal};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(400);
/// A mark, a seed, and as much again where blocks were late.
const TRIES: u32 = 4;

/// Why a round was not made.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Sender(#[from] SenderError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the chain did not answer: {0}")]
    Chain(String),
}

struct Keeper<'a> {
    sender: &'a Sender,
    reader: &'a Reader,
    setup: CourtSetup,
    /// Cases that may draw again.
    open: BTreeMap<CaseId, Timestamp>,
    seen: u64,
}

/// Makes the rounds of the deployment's beacon until `stop`.
pub async fn keep(sender: Sender, reader: Reader, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match reader.setup().await {
            Ok(setup) => {
                let open = BTreeMap::new();
                let mut keeper = Keeper { sender: &sender, reader: &reader, setup, open, seen: 0 };
                while !stop.is_cancelled() {
                    if let Err(error) = keeper.step().await {
                        tracing::warn!(%error, "a round of the beacon waits");
                    }
                    pause(&stop).await;
                }
            }
            Err(error) => tracing::warn!(%error, "the court does not answer"),
        }
        pause(&stop).await;
    }
}

async fn pause(stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(PAUSE) => {}
    }
}

impl Keeper<'_> {
    async fn step(&mut self) -> Result<(), KeepError> {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = Timestamp::from_unix(clock);
        for at in self.wanted(now).await? {
            if at <= now {
                self.make(at, now).await?;
            }
        }
        Ok(())
    }

    /// The instants whose first round somebody waits for.
    async fn wanted(&mut self, now: Timestamp) -> Result<Vec<Timestamp>, KeepError> {
        let Some(epoch) = self.setup.epoch_at(now) else { return Ok(Vec::new()) };
        if self.reader.seats(epoch).await? == 0 {
            return Ok(Vec::new());
        }
        let head = self.reader.head().await?.block;
        for opened in self.reader.cases_since(self.seen).await? {
            self.open.insert(opened.case, now);
        }
        self.seen = head + 1;
        let mut wanted = vec![self.setup.start_of(epoch)];
        for id in self.open.keys().copied().collect::<Vec<_>>() {
            let case = self.reader.case(id).await?;
            if case.stage >= CaseStage::Decided {
                self.open.remove(&id);
            } else {
                wanted.extend(self.next_draw(&case).await?);
            }
        }
        Ok(wanted)
    }

    async fn next_draw(&self, case: &CaseRecord) -> Result<Option<Timestamp>, KeepError> {
        let second = Seconds::new(1);
        Ok(if case.stage == CaseStage::Opened {
            Some(case.opened_at.after(second))
        } else if case.stage == CaseStage::Panel {
            let rules = self.reader.rules(Some(case.version)).await?;
            Some(case.opened_at.after(rules.commit_window).after(second))
        } else if case.stage == CaseStage::Appealing {
            case.appealed_at.map(|at| at.after(second))
        } else {
            None
        })
    }

    async fn make(&self, at: Timestamp, now: Timestamp) -> Result<(), KeepError> {
        let beacon = self.setup.beacon;
        let round = self.ask(beacon, Beacon::roundAtCall { time: deadline(at) }).await?;
        if self.ask(beacon, Beacon::timeOfCall { round }).await? > deadline(now) {
            return Ok(());
        }
        for attempt in 0..TRIES {
            if self.ask(beacon, Beacon::seedCall { round }).await? != B256::ZERO {
                return Ok(());
            }
            let key = format!("beacon:{round}:{attempt}");
            let call = Beacon::advanceCall { round }.abi_encode();
            self.sender.send(&key, Call::new(beacon, call.into())).await?;
            self.sender.settled(&key).await?;
        }
        Ok(())
    }

    async fn ask<C: SolCall>(&self, beacon: Address, call: C) -> Result<C::Return, KeepError> {
        use alloy::providers::Provider;
        use alloy::rpc::types::{TransactionInput, TransactionRequest};
        let request = TransactionRequest {
            to: Some(beacon.into()),
            input: TransactionInput::new(call.abi_encode().into()),
            ..TransactionRequest::default()
        };
        let answer = self.reader.provider().call(request).block(BlockId::latest()).await;
        let answer = answer.map_err(|error| KeepError::Chain(error.to_string()))?;
        C::abi_decode_returns(&answer).map_err(|error| KeepError::Chain(error.to_string()))
    }
}
