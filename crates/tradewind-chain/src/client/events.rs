//! Domain events from the contracts' logs, with the rollbacks that a reorg makes necessary.
//!
//! ```text
//! page(cursor): is cursor.block still on the chain? ── no ──► newest block seen before that is ──► Reorged{from}
//!                         │ yes
//!               logs of (cursor, to], with `to`'s hash read before and after: the same ──► Happened…, cursor at `to`
//! ```
//!
//! Blocks that were handed out are remembered with their hashes for as long as a reorg may reach, so that the common
//! ancestor is found; beyond that memory a rollback goes to the depth of the memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use alloy::primitives::{Address, B256};
use alloy::providers::Provider;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEventInterface;
use tradewind_proto::ids::{BuyerId, DeviceId, LeaseId, MeshKey, ProviderId};
use tradewind_proto::terms::LeaseKind;
use tradewind_proto::units::{RatePerSecond, Timestamp};

use crate::client::bindings::abi::Leases::{self, LeasesEvents};
use crate::client::bindings::abi::Registry::RegistryEvents;
use crate::client::bindings::{money, time};
use crate::client::reader::Reader;
use crate::client::store::{BLOCKS, Change, Store};
use crate::ledger::{
    BlockRef, ChainEvent, EventCursor, EventPage, Feed, LeaseEvent, LedgerError, LedgerEvent, NoticeKind,
    Opening,
};

/// How the feed reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedConfig {
    /// The deployment's first block: nothing is older.
    pub start: u64,
    /// How many blocks one request for logs covers.
    pub span: u64,
    /// How many blocks back a reorg may reach.
    pub memory: u64,
}

impl FeedConfig {
    /// From `start`, with limits that public endpoints accept.
    #[must_use]
    pub const fn from(start: u64) -> Self {
        Self { start, span: 2_000, memory: 256 }
    }
}

/// The feed of one deployment.
#[derive(Debug)]
pub(crate) struct EventFeed {
    reader: Reader,
    store: Store,
    config: FeedConfig,
    seen: Mutex<BTreeMap<u64, B256>>,
}

impl EventFeed {
    pub(crate) fn new(reader: Reader, store: Store, config: FeedConfig) -> Result<Self, LedgerError> {
        let stored =
            store.scan::<BlockRef>(BLOCKS, "").map_err(|error| LedgerError::Store(error.to_string()))?;
        let seen = stored.into_iter().map(|(_, block)| (block.number, block.hash)).collect();
        Ok(Self { reader, store, config, seen: Mutex::new(seen) })
    }

    /// What follows `cursor`, at most `limit` events.
    pub(crate) async fn page(&self, cursor: EventCursor, limit: usize) -> Result<EventPage, LedgerError> {
        let limit = limit.max(1);
        if cursor.block.hash != B256::ZERO && !self.is_canonical(cursor.block).await? {
            return self.roll_back(cursor.block.number).await;
        }
        let head = self.reader.head().await?;
        let begin = self.begin(&cursor);
        if begin > head.block {
            return Ok(EventPage { items: Vec::new(), cursor });
        }
        let to = head.block.min(begin.saturating_add(self.config.span));
        let Some((hash, _)) = self.reader.block(to).await? else {
            return Ok(EventPage { items: Vec::new(), cursor });
        };
        let mut logs = self.logs(begin, to).await?;
        // A reorg between the questions would mix two branches; the next call sees one.
        let end = BlockRef { number: to, hash };
        let steady = self.is_canonical(end).await?
            && (cursor.block.hash == B256::ZERO || self.is_canonical(cursor.block).await?);
        if !steady {
            return Ok(EventPage { items: Vec::new(), cursor });
        }
        skip_read(&mut logs, &cursor);
        let (logs, cursor) = cut(logs, limit, end, &cursor)?;
        let mut items = Vec::new();
        for log in &logs {
            items.extend(self.item(log).await?);
        }
        self.remember(&logs, &cursor).await?;
        Ok(EventPage { items, cursor })
    }

    fn begin(&self, cursor: &EventCursor) -> u64 {
        let next = match (cursor.block.hash == B256::ZERO, cursor.logs) {
            (true, _) => 0,
            (false, None) => cursor.block.number.saturating_add(1),
            (false, Some(_)) => cursor.block.number,
        };
        next.max(self.config.start)
    }

    async fn is_canonical(&self, block: BlockRef) -> Result<bool, LedgerError> {
        Ok(self.reader.block(block.number).await?.is_some_and(|(hash, _)| hash == block.hash))
    }

    /// The newest remembered block before `number` that is still on the chain, and the news that the rest is gone.
    async fn roll_back(&self, number: u64) -> Result<EventPage, LedgerError> {
        let before: Vec<(u64, B256)> = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.range(..number).rev().map(|(number, hash)| (*number, *hash)).collect()
        };
        for (number, hash) in before {
            if self.is_canonical(BlockRef { number, hash }).await? {
                self.forget_after(number).await?;
                let block = BlockRef { number, hash };
                return Ok(EventPage {
                    items: vec![Feed::Reorged { from: number.saturating_add(1) }],
                    cursor: EventCursor { block, logs: None },
                });
            }
        }
        let floor = number.saturating_sub(self.config.memory).max(self.config.start);
        tracing::warn!(from = floor, "no remembered block is on the chain any more; reading again");
        self.forget_after(0).await?;
        let parent = floor.saturating_sub(1);
        let block = match self.reader.block(parent).await? {
            Some((hash, _)) if floor > 0 => BlockRef { number: parent, hash },
            Some(_) | None => BlockRef::default(),
        };
        Ok(EventPage {
            items: vec![Feed::Reorged { from: floor }],
            cursor: EventCursor { block, logs: None },
        })
    }

    async fn logs(&self, from: u64, to: u64) -> Result<Vec<Log>, LedgerError> {
        let contracts = self.reader.contracts();
        let filter =
            Filter::new().address(vec![contracts.leases, contracts.registry]).from_block(from).to_block(to);
        let logs = self.reader.provider().get_logs(&filter).await;
        let mut logs = logs.map_err(|error| self.reader.error(error))?;
        logs.retain(|log| {
            log.block_number.is_some_and(|number| (from..=to).contains(&number))
                && log.block_hash.is_some()
                && log.log_index.is_some()
                && !log.removed
        });
        logs.sort_by_key(|log| (log.block_number, log.log_index));
        Ok(logs)
    }

    /// The domain event of a log; `None` for one that means nothing here.
    async fn item(&self, log: &Log) -> Result<Option<Feed>, LedgerError> {
        let Some(event) = self.event(log)? else { return Ok(None) };
        let (Some(number), Some(hash), Some(tx), Some(index)) =
            (log.block_number, log.block_hash, log.transaction_hash, log.log_index)
        else {
            return Err(LedgerError::Unavailable("a log does not say where it stands".into()));
        };
        let at = match log.block_timestamp {
            Some(seconds) => Timestamp::from_unix(seconds),
            None => self.reader.block(number).await?.map(|(_, at)| at).unwrap_or_default(),
        };
        Ok(Some(Feed::Happened(Box::new(ChainEvent {
            block: BlockRef { number, hash },
            at,
            tx,
            log_index: u32::try_from(index).unwrap_or(u32::MAX),
            event,
        }))))
    }

    fn event(&self, log: &Log) -> Result<Option<LedgerEvent>, LedgerError> {
        let contracts = self.reader.contracts();
        if log.address() == contracts.leases {
            let decoded = LeasesEvents::decode_raw_log(log.topics(), &log.inner.data.data);
            return decoded.map_or(Ok(None), |event| leases_event(&event));
        }
        let decoded = RegistryEvents::decode_raw_log(log.topics(), &log.inner.data.data);
        Ok(decoded.ok().and_then(|event| registry_event(&event)))
    }

    /// Keeps the hashes of the blocks that were handed out, as far back as a reorg may reach.
    async fn remember(&self, logs: &[Log], cursor: &EventCursor) -> Result<(), LedgerError> {
        let mut blocks: Vec<BlockRef> = logs
            .iter()
            .filter_map(|log| Some(BlockRef { number: log.block_number?, hash: log.block_hash? }))
            .collect();
        blocks.push(cursor.block);
        blocks.dedup();
        let floor = cursor.block.number.saturating_sub(self.config.memory);
        let changes = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let old: Vec<u64> = seen.range(..floor).map(|(number, _)| *number).collect();
            blocks.retain(|block| block.number >= floor && seen.get(&block.number) != Some(&block.hash));
            let mut changes = Vec::new();
            for number in old {
                seen.remove(&number);
                changes.push(Change::remove(BLOCKS, block_key(number)));
            }
            for block in blocks {
                seen.insert(block.number, block.hash);
                let put = Change::put(BLOCKS, block_key(block.number), &block);
                changes.push(put.map_err(|error| LedgerError::Store(error.to_string()))?);
            }
            changes
        };
        self.commit(changes).await
    }

    async fn forget_after(&self, number: u64) -> Result<(), LedgerError> {
        let gone = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.split_off(&number.saturating_add(1))
        };
        self.commit(gone.into_keys().map(|number| Change::remove(BLOCKS, block_key(number))).collect()).await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), LedgerError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.store.commit(changes).await.map_err(|error| LedgerError::Store(error.to_string()))
    }
}

fn block_key(number: u64) -> String {
    format!("{number:016x}")
}

/// Drops what the cursor says was read of its own block.
fn skip_read(logs: &mut Vec<Log>, cursor: &EventCursor) {
    let Some(read) = cursor.logs else { return };
    let mut left = read;
    logs.retain(|log| {
        let skip = left > 0 && log.block_number == Some(cursor.block.number);
        if skip {
            left -= 1;
        }
        !skip
    });
}

/// The first `limit` logs and the cursor behind them.
fn cut(
    mut logs: Vec<Log>,
    limit: usize,
    end: BlockRef,
    cursor: &EventCursor,
) -> Result<(Vec<Log>, EventCursor), LedgerError> {
    if logs.len() <= limit {
        return Ok((logs, EventCursor { block: end, logs: None }));
    }
    logs.truncate(limit);
    let last =
        logs.last().and_then(|log| Some(BlockRef { number: log.block_number?, hash: log.block_hash? }));
    let Some(block) = last else { return Ok((logs, *cursor)) };
    let here = logs.iter().filter(|log| log.block_number == Some(block.number)).count();
    let before = cursor.logs.filter(|_| cursor.block == block).unwrap_or(0);
    let read = u32::try_from(here).unwrap_or(u32::MAX).saturating_add(before);
    Ok((logs, EventCursor { block, logs: Some(read) }))
}

fn leases_event(event: &LeasesEvents) -> Result<Option<LedgerEvent>, LedgerError> {
    let of = |id: B256, happened| Ok(Some(LedgerEvent::Lease { lease: LeaseId::new(id), happened }));
    match event {
        LeasesEvents::Deposited(e) => {
            Ok(Some(LedgerEvent::Deposited { token: e.token, account: e.account, amount: money(e.amount)? }))
        }
        LeasesEvents::Withdrawn(e) => Ok(Some(LedgerEvent::Withdrawn {
            token: e.token,
            account: e.account,
            to: e.to,
            amount: money(e.amount)?,
        })),
        LeasesEvents::FeePaid(e) => Ok(Some(LedgerEvent::FeePaid {
            token: e.token,
            payer: e.payer,
            relayer: e.relayer,
            amount: money(e.amount)?,
        })),
        LeasesEvents::NonceUsed(_) | LeasesEvents::SinkBurned(_) => Ok(None),
        LeasesEvents::LeaseOpened(e) => of(e.id, LeaseEvent::Opened(opening(e)?)),
        LeasesEvents::LeaseExtended(e) => of(e.parent, LeaseEvent::Extended { next: LeaseId::new(e.id) }),
        LeasesEvents::VoucherSettled(e) => of(e.id, LeaseEvent::Settled { paid: money(e.paid)? }),
        LeasesEvents::LeaseNoticed(e) => {
            let kind = if e.reason == 0 { NoticeKind::Unpaid } else { NoticeKind::Reclaim };
            of(e.id, LeaseEvent::Noticed { kind, mature_at: time(e.matureAt) })
        }
        LeasesEvents::NoticeCured(e) => of(e.id, LeaseEvent::Cured),
        LeasesEvents::CloseRequested(e) => of(e.id, LeaseEvent::CloseRequested { due_at: time(e.dueAt) }),
        LeasesEvents::LeaseSettled(e) => of(e.id, ended(e)?),
        LeasesEvents::LeaseClosed(e) => of(e.id, closed(e)?),
        LeasesEvents::Challenged(e) => {
            of(e.id, LeaseEvent::Challenged { sequence: e.sequence, answer_by: time(e.answerBy) })
        }
        LeasesEvents::ChallengeAnswered(e) => of(e.id, LeaseEvent::Answered),
        LeasesEvents::ChallengeDropped(e) => of(e.id, LeaseEvent::ChallengeDropped),
        LeasesEvents::LeaseDefaulted(e) => {
            of(e.id, LeaseEvent::Defaulted { compensation: money(e.compensation)? })
        }
        LeasesEvents::CheckpointAcknowledged(e) => {
            of(e.id, LeaseEvent::Acknowledged { paid_at: money(e.paidAt)?, at: time(e.storedAt) })
        }
        LeasesEvents::Disputed(e) => of(e.id, LeaseEvent::Disputed { claim: money(e.claim)? }),
        LeasesEvents::DisputeEnded(e) => of(e.id, LeaseEvent::DisputeEnded { award: money(e.award)? }),
        LeasesEvents::BuyerFeeOwed(e) => of(e.id, LeaseEvent::BuyerFeeOwed),
    }
}

fn opening(e: &Leases::LeaseOpened) -> Result<Opening, LedgerError> {
    Ok(Opening {
        buyer: BuyerId::new(e.buyer),
        provider: ProviderId::new(e.provider),
        device: DeviceId::new(e.device),
        units: e.units,
        token: e.token,
        rate: RatePerSecond::from_scaled(e.rate),
        deposit: money(e.deposit)?,
        bond: money(e.bond)?,
        kind: LeaseKind::try_from(e.kind)?,
        start: time(e.start),
        end: time(e.end),
        version: e.version,
    })
}

fn ended(e: &Leases::LeaseSettled) -> Result<LeaseEvent, LedgerError> {
    Ok(LeaseEvent::Ended {
        paid: money(e.paid)?,
        refunded: money(e.refunded)?,
        forfeited: money(e.forfeited)?,
        fee: money(e.fee)?,
        bond_due: time(e.bondDue),
    })
}

fn closed(e: &Leases::LeaseClosed) -> Result<LeaseEvent, LedgerError> {
    Ok(LeaseEvent::Closed {
        paid: money(e.paid)?,
        refunded: money(e.refunded)?,
        forfeited: money(e.forfeited)?,
        fee: money(e.fee)?,
        buyer_fee: money(e.buyerFee)?,
        bond_to_buyer: money(e.bondToBuyer)?,
    })
}

fn registry_event(event: &RegistryEvents) -> Option<LedgerEvent> {
    let registered = |account: Address, mesh_key: B256| LedgerEvent::Registered {
        provider: ProviderId::new(account),
        mesh_key: MeshKey::from_bytes(mesh_key.0),
    };
    let changed = |device: B256| Some(LedgerEvent::DeviceChanged { device: DeviceId::new(device) });
    match event {
        RegistryEvents::NonceUsed(_) => None,
        RegistryEvents::AccountRegistered(e) => Some(registered(e.account, e.meshKey)),
        RegistryEvents::AccountUpdated(e) => Some(registered(e.account, e.meshKey)),
        RegistryEvents::DeviceAdded(e) => Some(LedgerEvent::DeviceAdded {
            device: DeviceId::new(e.device),
            provider: ProviderId::new(e.provider),
            key: e.key,
            class: e.class,
            units: e.units,
        }),
        RegistryEvents::SponsorSet(e) => changed(e.device),
        RegistryEvents::StakeAdded(e) => changed(e.device),
        RegistryEvents::UnbondBegun(e) => changed(e.device),
        RegistryEvents::StakeWithdrawn(e) => changed(e.device),
        RegistryEvents::RentExtended(e) => changed(e.device),
        RegistryEvents::Slashed(e) => changed(e.device),
        RegistryEvents::Jailed(e) => changed(e.device),
    }
}
