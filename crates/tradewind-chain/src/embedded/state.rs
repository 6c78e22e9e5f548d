//! World state: a cached, writable view over one stored snapshot, and the differences a block makes.

use std::collections::{BTreeMap, HashMap};

use alloy::primitives::map::{AddressMap, AddressSet, B256Map};
use alloy::primitives::{Address, B256, KECCAK256_EMPTY, Keccak256, U256};
use revm::context_interface::DBErrorMarker;
use revm::state::{Account as TouchedAccount, AccountInfo, Bytecode};
use revm::{Database, DatabaseCommit};

use super::store::{StoreError, View};

/// Entries after which a long-lived cache is dropped and filled anew.
const CACHE_ENTRIES: usize = 1 << 20;

impl DBErrorMarker for StoreError {}

/// What the ledger keeps of an account beside its storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) code_hash: B256,
}

impl Account {
    pub(crate) const ENCODED: usize = 72;

    pub(crate) fn encode(&self) -> [u8; Self::ENCODED] {
        let mut bytes = [0; Self::ENCODED];
        bytes[..8].copy_from_slice(&self.nonce.to_be_bytes());
        bytes[8..40].copy_from_slice(&self.balance.to_be_bytes::<32>());
        bytes[40..].copy_from_slice(self.code_hash.as_slice());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (nonce, rest) = bytes.split_first_chunk::<8>()?;
        let (balance, rest) = rest.split_first_chunk::<32>()?;
        let code_hash: [u8; 32] = rest.try_into().ok()?;
        Some(Self {
            nonce: u64::from_be_bytes(*nonce),
            balance: U256::from_be_bytes(*balance),
            code_hash: B256::from(code_hash),
        })
    }

    fn info(self) -> AccountInfo {
        let code = (self.code_hash == KECCAK256_EMPTY).then(Bytecode::default);
        AccountInfo {
            balance: self.balance,
            nonce: self.nonce,
            code_hash: self.code_hash,
            code,
            account_id: None,
        }
    }

    fn from_info(info: &AccountInfo) -> Self {
        Self { nonce: info.nonce, balance: info.balance, code_hash: info.code_hash }
    }
}

/// A value before and after a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change<T> {
    pub(crate) before: T,
    pub(crate) after: T,
}

/// Everything a block changed in the world state, in a canonical order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StateDiff {
    pub(crate) accounts: BTreeMap<Address, Change<Option<Account>>>,
    pub(crate) slots: BTreeMap<(Address, U256), Change<U256>>,
    pub(crate) codes: BTreeMap<B256, Bytecode>,
}

impl StateDiff {
    /// The commitment that follows `parent` once this difference is applied: a hash chain over canonical
    /// differences, which re-execution reproduces, in place of a Merkle Patricia root.
    pub(crate) fn commitment(&self, parent: B256) -> B256 {
        let mut hasher = Keccak256::new();
        hasher.update(parent);
        for (address, change) in self.changed_accounts() {
            hasher.update(address);
            hasher.update([u8::from(change.after.is_some())]);
            if let Some(account) = change.after {
                hasher.update(account.encode());
            }
        }
        for ((address, slot), change) in self.changed_slots() {
            hasher.update(address);
            hasher.update(slot.to_be_bytes::<32>());
            hasher.update(change.after.to_be_bytes::<32>());
        }
        for hash in self.codes.keys() {
            hasher.update(hash);
        }
        hasher.finalize()
    }

    pub(crate) fn changed_accounts(&self) -> impl Iterator<Item = (&Address, &Change<Option<Account>>)> {
        self.accounts.iter().filter(|(_, change)| change.before != change.after)
    }

    pub(crate) fn changed_slots(&self) -> impl Iterator<Item = (&(Address, U256), &Change<U256>)> {
        self.slots.iter().filter(|(_, change)| change.before != change.after)
    }

    /// The values to put back when the block is removed again.
    pub(crate) fn undo(&self) -> Undo {
        Undo {
            accounts: self.changed_accounts().map(|(address, change)| (*address, change.before)).collect(),
            slots: self.changed_slots().map(|(key, change)| (*key, change.before)).collect(),
        }
    }
}

/// The values that a block overwrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Undo {
    pub(crate) accounts: BTreeMap<Address, Option<Account>>,
    pub(crate) slots: BTreeMap<(Address, U256), U256>,
}

impl Undo {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + self.accounts.len() * 93 + self.slots.len() * 84);
        out.extend_from_slice(&(self.accounts.len() as u64).to_be_bytes());
        for (address, account) in &self.accounts {
            out.extend_from_slice(address.as_slice());
            out.push(u8::from(account.is_some()));
            if let Some(account) = account {
                out.extend_from_slice(&account.encode());
            }
        }
        for ((address, slot), value) in &self.slots {
            out.extend_from_slice(address.as_slice());
            out.extend_from_slice(&slot.to_be_bytes::<32>());
            out.extend_from_slice(&value.to_be_bytes::<32>());
        }
        out
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut undo = Self::default();
        let count = u64::from_be_bytes(*take::<8>(&mut bytes)?);
        for _ in 0..count {
            let address = Address::from(*take::<20>(&mut bytes)?);
            let account = match take::<1>(&mut bytes)? {
                [0] => None,
                _ => Some(Account::decode(take::<{ Account::ENCODED }>(&mut bytes)?)?),
            };
            undo.accounts.insert(address, account);
        }
        while !bytes.is_empty() {
            let address = Address::from(*take::<20>(&mut bytes)?);
            let slot = U256::from_be_bytes(*take::<32>(&mut bytes)?);
            let value = U256::from_be_bytes(*take::<32>(&mut bytes)?);
            undo.slots.insert((address, slot), value);
        }
        Some(undo)
    }

    /// Extends this by the undo of the block below, whose older values win.
    pub(crate) fn deepen(&mut self, older: Self) {
        self.accounts.extend(older.accounts);
        self.slots.extend(older.slots);
    }
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(head)
}

/// The world state that the EVM reads and writes: a snapshot, what was read of it, and what changed since.
pub(crate) struct StateDb {
    view: View,
    accounts: AddressMap<Option<Account>>,
    slots: HashMap<(Address, U256), U256>,
    codes: B256Map<Bytecode>,
    /// Accounts whose stored storage is hidden by an override.
    hidden: AddressSet,
    hashes: HashMap<u64, B256>,
    diff: StateDiff,
}

impl StateDb {
    pub(crate) fn new(view: View) -> Self {
        Self {
            view,
            accounts: AddressMap::default(),
            slots: HashMap::new(),
            codes: B256Map::default(),
            hidden: AddressSet::default(),
            hashes: HashMap::new(),
            diff: StateDiff::default(),
        }
    }

    /// The state as it was before the blocks whose combined undo is given.
    pub(crate) fn before(view: View, undo: Undo) -> Self {
        let mut state = Self::new(view);
        state.accounts.extend(undo.accounts);
        state.slots.extend(undo.slots);
        state
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Moves on to a newer snapshot, which holds exactly what the caches hold.
    pub(crate) fn advance(&mut self, view: View) {
        self.view = view;
        if self.accounts.len() + self.slots.len() > CACHE_ENTRIES {
            self.accounts.clear();
            self.slots.clear();
            self.codes.clear();
        }
        self.hashes.clear();
    }

    pub(crate) fn take_diff(&mut self) -> StateDiff {
        std::mem::take(&mut self.diff)
    }

    pub(crate) fn account(&mut self, address: Address) -> Result<Option<Account>, StoreError> {
        if let Some(account) = self.accounts.get(&address) {
            return Ok(*account);
        }
        let account = self.view.account(address)?;
        self.accounts.insert(address, account);
        Ok(account)
    }

    pub(crate) fn slot(&mut self, address: Address, slot: U256) -> Result<U256, StoreError> {
        if let Some(value) = self.slots.get(&(address, slot)) {
            return Ok(*value);
        }
        let value =
            if self.hidden.contains(&address) { U256::ZERO } else { self.view.slot(address, slot)? };
        self.slots.insert((address, slot), value);
        Ok(value)
    }

    pub(crate) fn code(&mut self, hash: B256) -> Result<Bytecode, StoreError> {
        if hash == KECCAK256_EMPTY || hash.is_zero() {
            return Ok(Bytecode::default());
        }
        if let Some(code) = self.codes.get(&hash) {
            return Ok(code.clone());
        }
        let code = self.view.code(hash)?;
        self.codes.insert(hash, code.clone());
        Ok(code)
    }

    pub(crate) fn set_account(&mut self, address: Address, after: Option<Account>) {
        let before = self.accounts.insert(address, after).flatten();
        self.diff
            .accounts
            .entry(address)
            .and_modify(|change| change.after = after)
            .or_insert(Change { before, after });
    }

    pub(crate) fn set_slot(&mut self, address: Address, slot: U256, change: Change<U256>) {
        self.slots.insert((address, slot), change.after);
        self.diff
            .slots
            .entry((address, slot))
            .and_modify(|known| known.after = change.after)
            .or_insert(change);
    }

    pub(crate) fn set_code(&mut self, code: Bytecode) -> B256 {
        let hash = code.hash_slow();
        self.codes.insert(hash, code.clone());
        self.diff.codes.insert(hash, code);
        hash
    }

    /// Makes the stored storage of `address` read as empty.
    pub(crate) fn hide_storage(&mut self, address: Address) {
        self.slots.retain(|(owner, _), _| *owner != address);
        self.hidden.insert(address);
    }

    /// Overrides what `BLOCKHASH` answers for `number`.
    pub(crate) fn set_block_hash(&mut self, number: u64, hash: B256) {
        self.hashes.insert(number, hash);
    }
}

impl Database for StateDb {
    type Error = StoreError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StoreError> {
        Ok(self.account(address)?.map(Account::info))
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, StoreError> {
        self.code(code_hash)
    }

    fn storage(&mut self, address: Address, index: U256) -> Result<U256, StoreError> {
        self.slot(address, index)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StoreError> {
        if let Some(hash) = self.hashes.get(&number) {
            return Ok(*hash);
        }
        let hash = self.view.block_hash(number)?.unwrap_or_default();
        self.hashes.insert(number, hash);
        Ok(hash)
    }
}

impl DatabaseCommit for StateDb {
    fn commit(&mut self, changes: AddressMap<TouchedAccount>) {
        for (address, account) in changes {
            if !account.is_touched() {
                continue;
            }
            if account.is_selfdestructed() || account.is_empty() {
                self.set_account(address, None);
                continue;
            }
            let after = Account::from_info(&account.info);
            if account.is_created()
                && after.code_hash != KECCAK256_EMPTY
                && let Some(code) = account.info.code.clone()
            {
                self.set_code(code);
            }
            self.set_account(address, Some(after));
            for (slot, value) in account.changed_storage_slots() {
                let change = Change { before: value.original_value(), after: value.present_value };
                self.set_slot(address, *slot, change);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undo_survives_its_encoding() {
        let account = Account { nonce: 7, balance: U256::from(9), code_hash: KECCAK256_EMPTY };
        let undo = Undo {
            accounts: [(Address::repeat_byte(1), Some(account)), (Address::repeat_byte(2), None)].into(),
            slots: [((Address::repeat_byte(3), U256::from(4)), U256::from(5))].into(),
        };
        assert_eq!(Undo::decode(&undo.encode()), Some(undo.clone()));
        assert_eq!(Undo::decode(&undo.encode()[..undo.encode().len() - 1]), None);
    }

    #[test]
    fn the_oldest_value_wins_when_undos_are_combined() {
        let address = Address::repeat_byte(1);
        let at = |nonce| Some(Account { nonce, balance: U256::ZERO, code_hash: KECCAK256_EMPTY });
        let mut newest = Undo { accounts: [(address, at(2))].into(), ..Undo::default() };
        newest.deepen(Undo { accounts: [(address, at(1))].into(), ..Undo::default() });
        assert_eq!(newest.accounts[&address], at(1));
    }

    #[test]
    fn an_unchanged_value_is_no_part_of_the_commitment() {
        let mut diff = StateDiff::default();
        let before = diff.commitment(B256::ZERO);
        let same = Some(Account { nonce: 1, balance: U256::ZERO, code_hash: KECCAK256_EMPTY });
        diff.accounts.insert(Address::ZERO, Change { before: same, after: same });
        assert_eq!(diff.commitment(B256::ZERO), before);
    }
}
