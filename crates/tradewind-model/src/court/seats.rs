//! Seats: what each stakes, and which roster it is in.

use alloy::primitives::{Address, B256};
use alloy::sol_types::SolStruct as _;

use super::abi::{Beside, Court, SeatView, said};
use crate::book::Pot;
use crate::call::{n40, n96};
use crate::reference::Reference;
use crate::refusal::{Refusal, refuse, require};
use crate::statement::{Auth, Signed};

/// Epochs from a change until a roster shows it.
pub(crate) const FREEZE: u64 = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) owner: Address,
    pub(crate) key: Address,
    pub(crate) strikes: u8,
    /// When its stake may go, since it left.
    pub(crate) free_at: Option<u64>,
}

impl Seat {
    pub(crate) fn view(&self, stake: u128) -> SeatView {
        SeatView {
            owner: self.owner,
            key: self.key,
            stake: n96(stake),
            withdrawableAt: n40(self.free_at.unwrap_or(0)),
            strikes: self.strikes,
        }
    }
}

impl Reference {
    /// Who sits in `epoch`.
    pub(crate) fn roster(&self, epoch: u64) -> &[u32] {
        self.state.court.rosters.range(..=epoch).next_back().map_or(&[], |(_, roster)| roster)
    }

    pub(crate) fn seat_stake(&self, seat: u32) -> u128 {
        self.state.book.of(self.setting.stake_token, Pot::Seat(seat))
    }

    pub(crate) fn seat_of(&self, key: Address) -> Option<u32> {
        self.state.court.seats.iter().find(|(_, seat)| seat.key == key).map(|(id, _)| *id)
    }

    fn seated(&self, seat: u32) -> Result<Seat, Refusal> {
        match self.state.court.seats.get(&seat) {
            Some(found) => Ok(found.clone()),
            None => refuse("UnknownSeat", &[&seat]),
        }
    }

    /// The roster that is not frozen yet, to be changed.
    fn draft(&mut self) -> &mut Vec<u32> {
        let latest = self.roster(u64::MAX).to_vec();
        let from = self.epoch() + FREEZE;
        self.state.court.rosters.entry(from).or_insert(latest)
    }

    pub(crate) fn join_seat(
        &mut self,
        sender: Address,
        owner: Address,
        key: Address,
        key_signed: &Signed,
        auth: &Auth,
    ) -> Result<(), Refusal> {
        require(owner != Address::ZERO, "InvalidKey", &[&owner])?;
        if let Some(seat) = self.seat_of(key) {
            return refuse("KeyTaken", &[&key, &seat]);
        }
        let statement = said::JoinSeat { owner, key };
        let digest = self.setting.domains.at_court(&statement);
        require(key_signed.counts(key, digest), "InvalidKey", &[&key])?;
        let (token, stake) = (self.setting.stake_token, self.setting.bench.seat_stake);
        self.collect(sender, (token, owner, stake), statement.eip712_hash_struct(), auth)?;
        let id = u32::try_from(self.state.court.seats.len()).expect("few seats") + 1;
        self.pay(token, Pot::Balance(self.setting.court), Pot::Seat(id), stake);
        self.state.court.seats.insert(id, Seat { owner, key, strikes: 0, free_at: None });
        self.draft().push(id);
        let from_epoch = self.epoch() + FREEZE;
        self.tell(&Court::SeatJoined { seat: id, owner, key, fromEpoch: from_epoch });
        Ok(())
    }

    pub(crate) fn leave_seat(&mut self, sender: Address, seat: u32, auth: &Auth) -> Result<(), Refusal> {
        let it = self.seated(seat)?;
        let statement = said::LeaveSeat { seat, nonce: auth.nonce, deadline: n40(auth.deadline) };
        self.consent_once(self.setting.court, sender, it.owner, &statement, auth)?;
        if let Some(at) = it.free_at {
            return refuse("SeatLeaving", &[&seat, &at]);
        }
        self.vacate(seat);
        Ok(())
    }

    pub(crate) fn withdraw_seat(&mut self, seat: u32) -> Result<(), Refusal> {
        let it = self.seated(seat)?;
        let now = self.state.now;
        let free = it.free_at.is_some_and(|at| now >= at);
        require(free, "SeatBonded", &[&seat, &it.free_at.unwrap_or(0)])?;
        let amount = self.seat_stake(seat);
        self.pay(self.setting.stake_token, Pot::Seat(seat), Pot::Balance(it.owner), amount);
        self.tell(&Beside::SeatWithdrawn { seat, owner: it.owner, amount: n96(amount) });
        Ok(())
    }

    /// A seat that still has its place loses it; its stake waits.
    pub(crate) fn vacate(&mut self, seat: u32) {
        let free_at = self.state.now + self.setting.bench.seat_unbonding;
        let it = self.state.court.seats.get_mut(&seat).expect("a seat");
        if it.free_at.is_some() {
            return;
        }
        it.free_at = Some(free_at);
        let draft = self.draft();
        let place =
            draft.iter().position(|other| *other == seat).expect("who did not leave is in the roster");
        draft.swap_remove(place);
    }

    pub(crate) fn strike(&mut self, seat: u32, limit: u8) {
        let it = self.state.court.seats.get_mut(&seat).expect("a seat");
        it.strikes = it.strikes.saturating_add(1);
        let strikes = it.strikes;
        self.tell(&Beside::SeatStruck { seat, strikes });
        if strikes >= limit {
            self.vacate(seat);
        }
    }

    /// The whole stake of a seat that contradicted itself.
    pub(crate) fn slash_seat(&mut self, seat: u32, reporter: Address) {
        let amount = self.seat_stake(seat);
        self.vacate(seat);
        let (reward, sunk) = self.punish(Pot::Seat(seat), amount, reporter);
        self.tell(&Court::SeatSlashed {
            seat,
            amount: n96(amount),
            reporter,
            reward: n96(reward),
            sunk: n96(sunk),
        });
    }

    /// The seats' keys, by the numbers of a roster.
    pub(crate) fn key_of(&self, seat: u32) -> Address {
        self.state.court.seats[&seat].key
    }

    /// Whether this digest is what the seat's key signed.
    pub(crate) fn check_key(&self, key: Address, digest: B256, signed: &Signed) -> Result<(), Refusal> {
        require(signed.counts(key, digest), "InvalidSignature", &[&key, &digest])
    }
}
