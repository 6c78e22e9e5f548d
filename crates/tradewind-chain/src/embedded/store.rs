//! Durable storage: one redb database, one atomic fsynced commit per block, and consistent snapshots to read.
//!
//! A commit that fails may still have reached the disk (an fsync error says nothing about the pages), so the
//! engine reopens the database afterwards and asks which head it holds, rather than guess.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use alloy::consensus::{Header, ReceiptEnvelope, TxEnvelope};
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::rlp::{Decodable, Encodable};
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};
use revm::state::Bytecode;

use super::block::Block;
use super::state::{Account, StateDiff, Undo};

const ACCOUNTS: TableDefinition<&[u8; 20], &[u8; Account::ENCODED]> = TableDefinition::new("accounts");
const SLOTS: TableDefinition<&[u8; 52], &[u8; 32]> = TableDefinition::new("slots");
const CODES: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("codes");
const HEADERS: TableDefinition<u64, &[u8]> = TableDefinition::new("headers");
const BODIES: TableDefinition<u64, &[u8]> = TableDefinition::new("bodies");
const RECEIPTS: TableDefinition<u64, &[u8]> = TableDefinition::new("receipts");
const UNDOS: TableDefinition<u64, &[u8]> = TableDefinition::new("undos");
const NUMBERS: TableDefinition<&[u8; 32], u64> = TableDefinition::new("numbers");
const TRANSACTIONS: TableDefinition<&[u8; 32], (u64, u32)> = TableDefinition::new("transactions");
const POOL: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("pool");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

const HEAD: &str = "head";
const GENESIS: &str = "genesis";
const FORMAT: &str = "format";
const FORMAT_VERSION: &[u8] = b"tradewind-ledger-1";

/// Memory that redb may use for its page cache.
const PAGE_CACHE_BYTES: usize = 64 << 20;

/// How long a broken database is left alone before a reader tries to open it again.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);

/// The ledger's storage failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database or the disk under it failed.
    #[error("ledger storage failed: {0}")]
    Database(#[source] Box<redb::Error>),
    /// The database failed before, and could not be opened again.
    #[error("ledger storage is broken: {0}")]
    Broken(Arc<str>),
    /// The database was closed.
    #[error("ledger storage is closed")]
    Closed,
    /// A stored record does not decode.
    #[error("ledger storage is corrupt: {0}")]
    Corrupt(&'static str),
    /// The file was written by another version of the ledger.
    #[error("ledger storage has an unknown format")]
    Format,
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// Where the database lives.
#[derive(Debug)]
pub(crate) enum Medium {
    Memory,
    File(PathBuf),
    #[cfg(test)]
    Faulty(faulty::Disk),
}

/// What one atomic commit changes.
#[derive(Default)]
pub(crate) struct Commit<'a> {
    /// Blocks above this number are removed, with the state before them put back.
    pub(crate) rewind: Option<(u64, Undo)>,
    /// A block to append.
    pub(crate) block: Option<(&'a Block, &'a StateDiff)>,
    /// Undo records below this block number are dropped.
    pub(crate) forget_undo_below: u64,
    pub(crate) pool_added: Vec<(B256, Bytes)>,
    pub(crate) pool_removed: Vec<B256>,
    /// Written together with the first block only.
    pub(crate) genesis: Option<Vec<u8>>,
}

/// The database, which can be opened anew after a failure.
pub(crate) struct Store {
    medium: Medium,
    database: RwLock<Handle>,
}

enum Handle {
    Open(Database),
    /// It failed and could not be opened again at that time, for that reason.
    Broken(Instant, Arc<str>),
    Closed,
}

impl Handle {
    fn database(&self) -> Result<&Database, StoreError> {
        match self {
            Self::Open(database) => Ok(database),
            Self::Broken(_, reason) => Err(StoreError::Broken(reason.clone())),
            Self::Closed => Err(StoreError::Closed),
        }
    }
}

impl Store {
    pub(crate) fn open(medium: Medium) -> Result<Self, StoreError> {
        let database = open_database(&medium)?;
        Ok(Self { medium, database: RwLock::new(Handle::Open(database)) })
    }

    /// Closes and opens the database again, which clears a failed state and replays what is durable.
    pub(crate) fn reopen(&self) -> Result<(), StoreError> {
        if matches!(self.medium, Medium::Memory) {
            return Ok(());
        }
        let mut handle = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*handle, Handle::Closed) {
            return Err(StoreError::Closed);
        }
        *handle = Handle::Closed;
        match open_database(&self.medium) {
            Ok(database) => {
                *handle = Handle::Open(database);
                Ok(())
            }
            Err(error) => {
                *handle = Handle::Broken(Instant::now(), error.to_string().into());
                Err(error)
            }
        }
    }

    /// Closes the database and releases its file lock.
    pub(crate) fn close(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = Handle::Closed;
    }

    /// A consistent snapshot of the last commit.
    pub(crate) fn view(&self) -> Result<View, StoreError> {
        let mut handle = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Handle::Broken(since, _) = &*handle
            && since.elapsed() > REOPEN_PAUSE
        {
            drop(handle);
            self.reopen()?;
            handle = self.database.read().unwrap_or_else(PoisonError::into_inner);
        }
        let read = handle.database()?.begin_read()?;
        drop(handle);
        Ok(View {
            accounts: read.open_table(ACCOUNTS)?,
            slots: read.open_table(SLOTS)?,
            codes: read.open_table(CODES)?,
            headers: read.open_table(HEADERS)?,
            bodies: read.open_table(BODIES)?,
            receipts: read.open_table(RECEIPTS)?,
            undos: read.open_table(UNDOS)?,
            numbers: read.open_table(NUMBERS)?,
            transactions: read.open_table(TRANSACTIONS)?,
            pool: read.open_table(POOL)?,
            meta: read.open_table(META)?,
        })
    }

    /// Makes `commit` durable, wholly or not at all.
    pub(crate) fn commit(&self, commit: &Commit<'_>) -> Result<(), StoreError> {
        let handle = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let write = handle.database()?.begin_write()?;
        if let Some((height, undo)) = &commit.rewind {
            rewind(&write, *height, undo)?;
        }
        if let Some((block, diff)) = commit.block {
            append_block(&write, block)?;
            apply_state(&write, diff)?;
            let mut undos = write.open_table(UNDOS)?;
            undos.insert(block.header.number, diff.undo().encode().as_slice())?;
            if commit.forget_undo_below > 0 {
                undos.retain_in(..commit.forget_undo_below, |_, _| false)?;
            }
        }
        {
            let mut pool = write.open_table(POOL)?;
            for hash in &commit.pool_removed {
                pool.remove(&hash.0)?;
            }
            for (hash, raw) in &commit.pool_added {
                pool.insert(&hash.0, raw.as_ref())?;
            }
        }
        if let Some(genesis) = &commit.genesis {
            let mut meta = write.open_table(META)?;
            meta.insert(GENESIS, genesis.as_slice())?;
            meta.insert(FORMAT, FORMAT_VERSION)?;
        }
        write.commit()?;
        Ok(())
    }
}

fn open_database(medium: &Medium) -> Result<Database, StoreError> {
    let mut builder = Database::builder();
    builder.set_cache_size(PAGE_CACHE_BYTES);
    let database = match medium {
        Medium::Memory => builder.create_with_backend(redb::backends::InMemoryBackend::new())?,
        Medium::File(path) => builder.create(path)?,
        #[cfg(test)]
        Medium::Faulty(disk) => builder.create_with_backend(disk.clone())?,
    };
    if database.begin_read()?.list_tables()?.next().is_none() {
        create_tables(&database)?;
    }
    Ok(database)
}

fn create_tables(database: &Database) -> Result<(), StoreError> {
    let write = database.begin_write()?;
    write.open_table(ACCOUNTS)?;
    write.open_table(SLOTS)?;
    write.open_table(CODES)?;
    write.open_table(HEADERS)?;
    write.open_table(BODIES)?;
    write.open_table(RECEIPTS)?;
    write.open_table(UNDOS)?;
    write.open_table(NUMBERS)?;
    write.open_table(TRANSACTIONS)?;
    write.open_table(POOL)?;
    write.open_table(META)?;
    write.commit()?;
    Ok(())
}

fn append_block(write: &redb::WriteTransaction, block: &Block) -> Result<(), StoreError> {
    let number = block.header.number;
    let mut bytes = Vec::with_capacity(1024);
    bytes.extend_from_slice(block.hash.as_slice());
    block.header.encode(&mut bytes);
    write.open_table(HEADERS)?.insert(number, bytes.as_slice())?;
    bytes.clear();
    block.senders.encode(&mut bytes);
    block.transactions.encode(&mut bytes);
    write.open_table(BODIES)?.insert(number, bytes.as_slice())?;
    bytes.clear();
    block.receipts.encode(&mut bytes);
    write.open_table(RECEIPTS)?.insert(number, bytes.as_slice())?;
    write.open_table(NUMBERS)?.insert(&block.hash.0, number)?;
    let mut transactions = write.open_table(TRANSACTIONS)?;
    for (index, transaction) in (0u32..).zip(&block.transactions) {
        transactions.insert(&transaction.tx_hash().0, (number, index))?;
    }
    write.open_table(META)?.insert(HEAD, number.to_be_bytes().as_slice())?;
    Ok(())
}

fn apply_state(write: &redb::WriteTransaction, diff: &StateDiff) -> Result<(), StoreError> {
    let mut accounts = write.open_table(ACCOUNTS)?;
    for (address, change) in diff.changed_accounts() {
        put_account(&mut accounts, *address, change.after)?;
    }
    let mut slots = write.open_table(SLOTS)?;
    for ((address, slot), change) in diff.changed_slots() {
        put_slot(&mut slots, *address, *slot, change.after)?;
    }
    let mut codes = write.open_table(CODES)?;
    for (hash, code) in &diff.codes {
        codes.insert(&hash.0, code.original_byte_slice())?;
    }
    Ok(())
}

fn put_account(
    accounts: &mut redb::Table<'_, &'static [u8; 20], &'static [u8; Account::ENCODED]>,
    address: Address,
    account: Option<Account>,
) -> Result<(), StoreError> {
    match account {
        Some(account) => accounts.insert(&address.0.0, &account.encode())?,
        None => accounts.remove(&address.0.0)?,
    };
    Ok(())
}

fn put_slot(
    slots: &mut redb::Table<'_, &'static [u8; 52], &'static [u8; 32]>,
    address: Address,
    slot: U256,
    value: U256,
) -> Result<(), StoreError> {
    let key = slot_key(address, slot);
    if value.is_zero() {
        slots.remove(&key)?
    } else {
        slots.insert(&key, &value.to_be_bytes::<32>())?
    };
    Ok(())
}

fn slot_key(address: Address, slot: U256) -> [u8; 52] {
    let mut key = [0; 52];
    key[..20].copy_from_slice(address.as_slice());
    key[20..].copy_from_slice(&slot.to_be_bytes::<32>());
    key
}

fn rewind(write: &redb::WriteTransaction, height: u64, undo: &Undo) -> Result<(), StoreError> {
    let mut headers = write.open_table(HEADERS)?;
    let mut bodies = write.open_table(BODIES)?;
    let mut numbers = write.open_table(NUMBERS)?;
    let mut transactions = write.open_table(TRANSACTIONS)?;
    let removed = height.saturating_add(1)..;
    let mut doomed = Vec::new();
    for entry in headers.range(removed.clone())? {
        let (number, bytes) = entry?;
        let hash = bytes.value().first_chunk::<32>().copied().ok_or(StoreError::Corrupt("header"))?;
        doomed.push((number.value(), hash));
    }
    for (number, hash) in doomed {
        numbers.remove(&hash)?;
        let body = bodies.remove(number)?.ok_or(StoreError::Corrupt("missing body"))?;
        for transaction in decode_body(body.value())?.1 {
            transactions.remove(&transaction.tx_hash().0)?;
        }
    }
    headers.retain_in(removed.clone(), |_, _| false)?;
    write.open_table(RECEIPTS)?.retain_in(removed.clone(), |_, _| false)?;
    write.open_table(UNDOS)?.retain_in(removed, |_, _| false)?;
    let mut accounts = write.open_table(ACCOUNTS)?;
    for (address, account) in &undo.accounts {
        put_account(&mut accounts, *address, *account)?;
    }
    let mut slots = write.open_table(SLOTS)?;
    for ((address, slot), value) in &undo.slots {
        put_slot(&mut slots, *address, *slot, *value)?;
    }
    write.open_table(META)?.insert(HEAD, height.to_be_bytes().as_slice())?;
    Ok(())
}

fn decode_body(mut bytes: &[u8]) -> Result<(Vec<Address>, Vec<TxEnvelope>), StoreError> {
    let senders = Vec::decode(&mut bytes).map_err(|_| StoreError::Corrupt("senders"))?;
    let transactions = Vec::decode(&mut bytes).map_err(|_| StoreError::Corrupt("transactions"))?;
    Ok((senders, transactions))
}

/// A snapshot of the ledger as of one commit.
pub(crate) struct View {
    accounts: ReadOnlyTable<&'static [u8; 20], &'static [u8; Account::ENCODED]>,
    slots: ReadOnlyTable<&'static [u8; 52], &'static [u8; 32]>,
    codes: ReadOnlyTable<&'static [u8; 32], &'static [u8]>,
    headers: ReadOnlyTable<u64, &'static [u8]>,
    bodies: ReadOnlyTable<u64, &'static [u8]>,
    receipts: ReadOnlyTable<u64, &'static [u8]>,
    undos: ReadOnlyTable<u64, &'static [u8]>,
    numbers: ReadOnlyTable<&'static [u8; 32], u64>,
    transactions: ReadOnlyTable<&'static [u8; 32], (u64, u32)>,
    pool: ReadOnlyTable<&'static [u8; 32], &'static [u8]>,
    meta: ReadOnlyTable<&'static str, &'static [u8]>,
}

impl View {
    /// The number of the newest block; none before the genesis block is written.
    pub(crate) fn head(&self) -> Result<Option<u64>, StoreError> {
        let Some(bytes) = self.meta.get(HEAD)? else { return Ok(None) };
        let number: [u8; 8] = bytes.value().try_into().map_err(|_| StoreError::Corrupt("head"))?;
        Ok(Some(u64::from_be_bytes(number)))
    }

    /// The genesis record that the ledger was created with.
    pub(crate) fn genesis(&self) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(format) = self.meta.get(FORMAT)?
            && format.value() != FORMAT_VERSION
        {
            return Err(StoreError::Format);
        }
        Ok(self.meta.get(GENESIS)?.map(|bytes| bytes.value().to_vec()))
    }

    pub(crate) fn account(&self, address: Address) -> Result<Option<Account>, StoreError> {
        let Some(bytes) = self.accounts.get(&address.0.0)? else { return Ok(None) };
        Account::decode(bytes.value()).map(Some).ok_or(StoreError::Corrupt("account"))
    }

    pub(crate) fn slot(&self, address: Address, slot: U256) -> Result<U256, StoreError> {
        let value = self.slots.get(&slot_key(address, slot))?;
        Ok(value.map_or(U256::ZERO, |bytes| U256::from_be_bytes(*bytes.value())))
    }

    pub(crate) fn code(&self, hash: B256) -> Result<Bytecode, StoreError> {
        let bytes = self.codes.get(&hash.0)?.ok_or(StoreError::Corrupt("missing code"))?;
        Ok(Bytecode::new_legacy(Bytes::copy_from_slice(bytes.value())))
    }

    pub(crate) fn block_hash(&self, number: u64) -> Result<Option<B256>, StoreError> {
        let Some(bytes) = self.headers.get(number)? else { return Ok(None) };
        let hash = bytes.value().first_chunk::<32>().ok_or(StoreError::Corrupt("header"))?;
        Ok(Some(B256::from(*hash)))
    }

    pub(crate) fn header(&self, number: u64) -> Result<Option<(B256, Header)>, StoreError> {
        let Some(bytes) = self.headers.get(number)? else { return Ok(None) };
        let (hash, mut rlp) = bytes.value().split_first_chunk::<32>().ok_or(StoreError::Corrupt("header"))?;
        let header = Header::decode(&mut rlp).map_err(|_| StoreError::Corrupt("header"))?;
        Ok(Some((B256::from(*hash), header)))
    }

    pub(crate) fn block(&self, number: u64) -> Result<Option<Block>, StoreError> {
        let Some((hash, header)) = self.header(number)? else { return Ok(None) };
        let body = self.bodies.get(number)?.ok_or(StoreError::Corrupt("missing body"))?;
        let (senders, transactions) = decode_body(body.value())?;
        let receipts = self.receipts.get(number)?.ok_or(StoreError::Corrupt("missing receipts"))?;
        let receipts: Vec<ReceiptEnvelope> =
            Vec::decode(&mut receipts.value()).map_err(|_| StoreError::Corrupt("receipts"))?;
        if senders.len() != transactions.len() || receipts.len() != transactions.len() {
            return Err(StoreError::Corrupt("block lengths"));
        }
        Ok(Some(Block { header, hash, senders, transactions, receipts }))
    }

    pub(crate) fn number_of(&self, hash: B256) -> Result<Option<u64>, StoreError> {
        Ok(self.numbers.get(&hash.0)?.map(|number| number.value()))
    }

    /// The block and index of a mined transaction.
    pub(crate) fn transaction(&self, hash: B256) -> Result<Option<(u64, u32)>, StoreError> {
        Ok(self.transactions.get(&hash.0)?.map(|position| position.value()))
    }

    /// What to put back to stand at the end of block `height`, if that is still kept.
    pub(crate) fn undo_above(&self, height: u64) -> Result<Option<Undo>, StoreError> {
        let head = self.head()?.unwrap_or(0);
        let mut undo = Undo::default();
        for number in (height.saturating_add(1)..=head).rev() {
            let Some(bytes) = self.undos.get(number)? else { return Ok(None) };
            undo.deepen(Undo::decode(bytes.value()).ok_or(StoreError::Corrupt("undo"))?);
        }
        Ok(Some(undo))
    }

    /// Transactions that were accepted and not mined yet.
    pub(crate) fn pooled(&self) -> Result<Vec<Bytes>, StoreError> {
        self.pool.iter()?.map(|entry| Ok(Bytes::copy_from_slice(entry?.1.value()))).collect()
    }

    /// Every account, for comparison with a re-execution.
    pub(crate) fn all_accounts(&self) -> Result<Vec<(Address, Account)>, StoreError> {
        self.accounts
            .iter()?
            .map(|entry| {
                let (address, account) = entry?;
                let account = Account::decode(account.value()).ok_or(StoreError::Corrupt("account"))?;
                Ok((Address::from(*address.value()), account))
            })
            .collect()
    }

    /// Every storage slot, for comparison with a re-execution.
    pub(crate) fn all_slots(&self) -> Result<Vec<([u8; 52], U256)>, StoreError> {
        self.slots
            .iter()?
            .map(|entry| {
                let (key, value) = entry?;
                Ok((*key.value(), U256::from_be_bytes(*value.value())))
            })
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod faulty;
