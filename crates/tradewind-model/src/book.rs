//! Double entry: every coin lies in one pot, and every change moves coins from one pot to another.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};

/// Where a coin can lie. All but [`Pot::Wallet`] are inside the leases' contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pot {
    Wallet(Address),
    Balance(Address),
    /// A lease's deposit, as far as nobody was credited with it.
    Escrow(B256),
    /// A lease's bond.
    Bond(B256),
    /// The bond of a pending challenge.
    Challenge(B256),
    /// The bond of an open dispute.
    Dispute(B256),
    /// A buyer's break fee, set aside until the bond is released.
    Aside(B256),
    /// A device's stake.
    Stake(B256),
    /// A seat's stake.
    Seat(u32),
    /// The bond of a case.
    CaseBond(B256),
    /// What a case's opener prepaid for the committee.
    Transcripts(B256),
    /// What an appellant prepaid for the bench.
    Appeal(B256),
    Sink,
    Watchers,
    /// What somebody sent without being asked.
    Gifts,
}

impl Pot {
    /// Whether it is part of the court's balance in the vault.
    pub(crate) const fn is_the_courts(&self) -> bool {
        matches!(self, Self::Seat(_) | Self::CaseBond(_) | Self::Transcripts(_) | Self::Appeal(_))
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Book {
    coins: BTreeMap<(Address, Pot), u128>,
    supply: BTreeMap<Address, u128>,
}

impl Book {
    pub(crate) fn mint(&mut self, token: Address, to: Pot, amount: u128) {
        *self.supply.entry(token).or_default() += amount;
        *self.coins.entry((token, to)).or_default() += amount;
    }

    pub(crate) fn burn(&mut self, token: Address, from: Pot, amount: u128) {
        let supply = self.supply.get_mut(&token).expect("a minted token");
        *supply = supply.checked_sub(amount).expect("no more is burned than was minted");
        self.take(token, from, amount);
    }

    pub(crate) fn pay(&mut self, token: Address, from: Pot, to: Pot, amount: u128) {
        self.take(token, from, amount);
        if amount != 0 {
            let pot = self.coins.entry((token, to)).or_default();
            *pot = pot.checked_add(amount).expect("a pot holds no more than the supply");
        }
    }

    pub(crate) fn of(&self, token: Address, pot: Pot) -> u128 {
        self.coins.get(&(token, pot)).copied().unwrap_or(0)
    }

    pub(crate) fn supply(&self, token: Address) -> u128 {
        self.supply.get(&token).copied().unwrap_or(0)
    }

    /// All of a token in pots that `which` picks.
    pub(crate) fn sum(&self, token: Address, which: impl Fn(&Pot) -> bool) -> u128 {
        self.coins.iter().filter(|((of, pot), _)| *of == token && which(pot)).map(|(_, amount)| amount).sum()
    }

    /// What the leases' contract holds.
    pub(crate) fn held(&self, token: Address) -> u128 {
        self.sum(token, |pot| !matches!(pot, Pot::Wallet(_)))
    }

    fn take(&mut self, token: Address, from: Pot, amount: u128) {
        if amount == 0 {
            return;
        }
        let key = (token, from);
        let held = self.of(token, from);
        let left = held.checked_sub(amount);
        match left.unwrap_or_else(|| panic!("{from:?} holds {held} and owes {amount}")) {
            0 => drop(self.coins.remove(&key)),
            left => drop(self.coins.insert(key, left)),
        }
    }
}
