//! Transactions that were accepted and are not in a block yet: bounded, ordered by nonce, replaceable for a
//! higher fee.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use alloy::consensus::transaction::SignerRecoverable as _;
use alloy::consensus::{Transaction as _, TxEnvelope, TxType};
use alloy::eips::eip2718::{Decodable2718 as _, Encodable2718 as _};
use alloy::primitives::{Address, B256, Bytes, U256};
use revm::context_interface::cfg::gas::calculate_initial_tx_gas;

use super::execution::{Rules, SPEC};
use super::state::Account;

/// Transactions kept at once, over all senders.
const POOL_CAPACITY: usize = 16_384;
/// How far past the next nonce a sender may queue.
const NONCE_WINDOW: u64 = 1024;
/// Bytes that one raw transaction may have, as geth's pool allows.
const RAW_LIMIT: usize = 128 * 1024;
/// The code size limit of EIP-170, doubled by EIP-3860 for initcode.
const INITCODE_LIMIT: usize = 2 * 24_576;
/// By how much, in percent, a replacement must raise both fees.
const PRICE_BUMP: u128 = 10;

/// A transaction with its recovered sender.
#[derive(Debug, Clone)]
pub(crate) struct Pooled {
    pub(crate) hash: B256,
    pub(crate) sender: Address,
    pub(crate) transaction: TxEnvelope,
    /// When it came in, relative to the others.
    pub(crate) arrival: u64,
}

impl Pooled {
    /// Decodes a raw transaction and recovers its sender.
    pub(crate) fn decode(raw: &[u8], chain_id: u64) -> Result<Self, Refused> {
        if raw.len() > RAW_LIMIT {
            return Err(Refused::Oversized(raw.len()));
        }
        let mut rest = raw;
        let transaction =
            TxEnvelope::decode_2718(&mut rest).map_err(|error| Refused::Malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(Refused::Malformed("trailing bytes".to_owned()));
        }
        if !matches!(transaction.tx_type(), TxType::Legacy | TxType::Eip2930 | TxType::Eip1559) {
            return Err(Refused::Type);
        }
        match transaction.chain_id() {
            None => return Err(Refused::Unprotected),
            Some(have) if have != chain_id => return Err(Refused::ChainId { have, want: chain_id }),
            Some(_) => {}
        }
        let sender = transaction.recover_signer().map_err(|_| Refused::Signature)?;
        Ok(Self { hash: *transaction.tx_hash(), sender, transaction, arrival: 0 })
    }

    pub(crate) fn raw(&self) -> Bytes {
        self.transaction.encoded_2718().into()
    }

    fn cost(&self) -> Option<U256> {
        let gas = U256::from(self.transaction.gas_limit())
            .checked_mul(U256::from(self.transaction.max_fee_per_gas()))?;
        gas.checked_add(self.transaction.value())
    }

    fn tip(&self) -> u128 {
        self.transaction.max_priority_fee_per_gas().unwrap_or_else(|| self.transaction.max_fee_per_gas())
    }

    /// The checks that need nothing but the transaction and the rules.
    fn check_form(&self, rules: &Rules) -> Result<(), Refused> {
        let transaction = &self.transaction;
        if transaction.gas_limit() > rules.gas_limit {
            return Err(Refused::GasLimit);
        }
        if transaction.is_create() && transaction.input().len() > INITCODE_LIMIT {
            return Err(Refused::Initcode(transaction.input().len()));
        }
        if self.tip() > transaction.max_fee_per_gas() {
            return Err(Refused::TipAboveFee {
                sender: self.sender,
                tip: self.tip(),
                fee: transaction.max_fee_per_gas(),
            });
        }
        if transaction.max_fee_per_gas() < u128::from(rules.min_base_fee) {
            return Err(Refused::Underpriced {
                fee: transaction.max_fee_per_gas(),
                least: rules.min_base_fee,
            });
        }
        let (accounts, slots) = transaction.access_list().map_or((0, 0), |list| {
            let slots = list.iter().map(|item| item.storage_keys.len() as u64).sum();
            (list.len() as u64, slots)
        });
        let gas = calculate_initial_tx_gas(
            SPEC,
            transaction.input(),
            transaction.is_create(),
            accounts,
            slots,
            0,
            None,
        );
        let least = gas.initial_total_gas();
        if transaction.gas_limit() < least {
            return Err(Refused::IntrinsicGas { have: transaction.gas_limit(), want: least });
        }
        Ok(())
    }

    /// The checks against the sender's account.
    fn check_account(&self, account: Option<Account>) -> Result<(), Refused> {
        let (nonce, balance) = account.map_or((0, U256::ZERO), |account| (account.nonce, account.balance));
        let ours = self.transaction.nonce();
        if ours < nonce {
            return Err(Refused::NonceTooLow { next: nonce, have: ours });
        }
        if ours - nonce >= NONCE_WINDOW {
            return Err(Refused::NonceTooHigh { next: nonce, have: ours });
        }
        if account.is_some_and(|account| account.code_hash != alloy::primitives::KECCAK256_EMPTY) {
            return Err(Refused::Contract(self.sender));
        }
        let cost = self.cost().ok_or(Refused::Overflow)?;
        if balance < cost {
            return Err(Refused::Funds { balance, cost, short: cost - balance });
        }
        Ok(())
    }
}

/// Why a transaction was not accepted, in geth's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Refused {
    #[error("oversized data: transaction size {0}, limit {RAW_LIMIT}")]
    Oversized(usize),
    #[error("failed to decode transaction: {0}")]
    Malformed(String),
    #[error("transaction type not supported")]
    Type,
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    Unprotected,
    #[error("invalid chain id for signer: have {have} want {want}")]
    ChainId { have: u64, want: u64 },
    #[error("invalid sender")]
    Signature,
    #[error("exceeds block gas limit")]
    GasLimit,
    #[error("max initcode size exceeded: code size {0}, limit {INITCODE_LIMIT}")]
    Initcode(usize),
    #[error(
        "max priority fee per gas higher than max fee per gas: address {sender}, maxPriorityFeePerGas: {tip}, maxFeePerGas: {fee}"
    )]
    TipAboveFee { sender: Address, tip: u128, fee: u128 },
    #[error("transaction underpriced: max fee per gas {fee}, minimum needed {least}")]
    Underpriced { fee: u128, least: u64 },
    #[error("intrinsic gas too low: gas {have}, minimum needed {want}")]
    IntrinsicGas { have: u64, want: u64 },
    #[error("nonce too low: next nonce {next}, tx nonce {have}")]
    NonceTooLow { next: u64, have: u64 },
    #[error("nonce too high: next nonce {next}, tx nonce {have}")]
    NonceTooHigh { next: u64, have: u64 },
    #[error("sender not an eoa: address {0}")]
    Contract(Address),
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {short}"
    )]
    Funds { balance: U256, cost: U256, short: U256 },
    #[error("transaction cost overflows 256 bits")]
    Overflow,
    #[error("already known")]
    Known,
    #[error("replacement transaction underpriced")]
    Replacement,
    #[error("txpool is full")]
    Full,
    #[error("transaction was dropped: {0}")]
    Invalid(String),
}

/// The waiting transactions.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    by_sender: BTreeMap<Address, BTreeMap<u64, Pooled>>,
    by_hash: HashMap<B256, (Address, u64)>,
    arrivals: u64,
}

impl Pool {
    /// Takes `pooled` in, and answers the transaction it replaced.
    pub(crate) fn admit(
        &mut self,
        mut pooled: Pooled,
        account: Option<Account>,
        rules: &Rules,
    ) -> Result<Option<B256>, Refused> {
        if self.by_hash.contains_key(&pooled.hash) {
            return Err(Refused::Known);
        }
        pooled.check_form(rules)?;
        pooled.check_account(account)?;
        let nonce = pooled.transaction.nonce();
        let rival = self.by_sender.get(&pooled.sender).and_then(|queue| queue.get(&nonce));
        let replaced = match rival {
            Some(rival) if !outbids(&pooled, rival) => return Err(Refused::Replacement),
            Some(rival) => Some(rival.hash),
            None if self.by_hash.len() >= POOL_CAPACITY => return Err(Refused::Full),
            None => None,
        };
        if let Some(replaced) = replaced {
            self.by_hash.remove(&replaced);
        }
        self.arrivals += 1;
        pooled.arrival = self.arrivals;
        self.by_hash.insert(pooled.hash, (pooled.sender, nonce));
        self.by_sender.entry(pooled.sender).or_default().insert(nonce, pooled);
        Ok(replaced)
    }

    pub(crate) fn remove(&mut self, hash: B256) -> Option<Pooled> {
        let (sender, nonce) = self.by_hash.remove(&hash)?;
        let queue = self.by_sender.get_mut(&sender)?;
        let removed = queue.remove(&nonce);
        if queue.is_empty() {
            self.by_sender.remove(&sender);
        }
        removed
    }

    pub(crate) fn get(&self, hash: B256) -> Option<&Pooled> {
        let (sender, nonce) = self.by_hash.get(&hash)?;
        self.by_sender.get(sender)?.get(nonce)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_hash.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pooled> {
        self.by_sender.values().flat_map(BTreeMap::values)
    }

    /// The nonces of `sender` that wait.
    pub(crate) fn nonces(&self, sender: Address) -> BTreeSet<u64> {
        self.by_sender.get(&sender).map(|queue| queue.keys().copied().collect()).unwrap_or_default()
    }

    /// What can go into a block at `base_fee`, in order of arrival with each sender's nonces in order, up to
    /// about `gas`; `next_nonce` tells a sender's next nonce.
    pub(crate) fn executable<E>(
        &self,
        base_fee: u64,
        gas: u64,
        mut next_nonce: impl FnMut(Address) -> Result<u64, E>,
    ) -> Result<Vec<Pooled>, E> {
        let mut ready: Vec<(u64, &Pooled)> = Vec::new();
        for (sender, queue) in &self.by_sender {
            let next = next_nonce(*sender)?;
            let mut turn = 0;
            for (expected, (nonce, pooled)) in (next..).zip(queue.range(next..)) {
                if *nonce != expected || pooled.transaction.max_fee_per_gas() < u128::from(base_fee) {
                    break;
                }
                turn = pooled.arrival.max(turn);
                ready.push((turn, pooled));
            }
        }
        ready.sort_by_key(|(turn, pooled)| (*turn, pooled.transaction.nonce()));
        let mut left = gas;
        let fits = |pooled: &&Pooled| {
            let cost = pooled.transaction.gas_limit().min(21_000);
            let fits = cost <= left;
            left = left.saturating_sub(cost);
            fits
        };
        Ok(ready.into_iter().map(|(_, pooled)| pooled).take_while(fits).cloned().collect())
    }
}

fn outbids(new: &Pooled, old: &Pooled) -> bool {
    let enough =
        |new: u128, old: u128| new >= old.saturating_add((old.saturating_mul(PRICE_BUMP)).div_ceil(100));
    enough(new.transaction.max_fee_per_gas(), old.transaction.max_fee_per_gas())
        && enough(new.tip(), old.tip())
}
