//! Calls about seats, the beacon, the court's rules, and balances that the court may take from.

use alloy::primitives::{Address, U256};

use super::{Draw, step};
use crate::book::Pot;
use crate::call::{Call, Step, n40, n96};
use crate::court::CourtVersion;
use crate::court::abi::said;
use crate::reference::Reference;
use crate::statement::{Auth, Signed};

/// Seats that sit when many do.
const MANY: usize = 11;
/// Versions of the court that a run adds.
const VERSIONS: usize = 8;

impl Draw<'_> {
    /// A payer's consent to the court: it calls itself, or signed the fee that names the action.
    pub(super) fn paid(
        &mut self,
        model: &Reference,
        (token, payer, amount): (Address, Address, u128),
        action: &impl alloy::sol_types::SolStruct,
    ) -> (Address, Auth) {
        let court = model.setting.court;
        let lent = model.state.lent.get(&(token, payer, court)).copied().unwrap_or_default();
        let direct = self.via.is_none()
            && payer != Address::ZERO
            && (lent >= U256::from(amount) && self.one_in(2) || self.one_in(20));
        let (nonce, now) = (self.nonce(), model.state.now);
        if direct {
            return (payer, Auth { nonce, deadline: 0, signed: Signed::ABSENT });
        }
        let deadline = if self.one_in(25) { now - 1 } else { now + self.below(60) };
        let meant = if self.one_in(40) { self.word() } else { action.eip712_hash_struct() };
        let fee = tradewind_chain::client::bindings::abi::FeeAuthorization {
            payer,
            relayer: court,
            token,
            amount: n96(if self.one_in(40) { amount / 2 } else { amount }),
            calls: Self::bound(court, meant),
            nonce,
            deadline: n40(deadline),
        };
        let by = if payer == Address::ZERO { self.anyone() } else { payer };
        let signed = self.signed(by, model.setting.domains.at_leases(&fee));
        (self.sender(), Auth { nonce, deadline, signed })
    }

    fn bound(court: Address, action: alloy::primitives::B256) -> alloy::primitives::B256 {
        use alloy::sol_types::SolValue as _;
        alloy::primitives::keccak256((court, action).abi_encode_params())
    }

    /// Somebody with at least `amount`, mostly.
    pub(super) fn able(
        &mut self,
        model: &Reference,
        token: Address,
        amount: u128,
        of: &[Address],
    ) -> Address {
        let has = |account: &&Address| model.state.book.of(token, Pot::Balance(**account)) >= amount;
        let able: Vec<Address> = of.iter().filter(has).copied().collect();
        if able.is_empty() || self.one_in(15) { self.pick(of) } else { self.pick(&able) }
    }

    pub(super) fn join_seat(&mut self, model: &Reference) -> Option<Step> {
        let sitting = model.roster(u64::MAX).len();
        if sitting >= MANY && !self.one_in(6) {
            return None;
        }
        let (token, stake) = (model.setting.stake_token, model.setting.bench.seat_stake);
        let watchers = self.cast.watchers.clone();
        let owner = self.able(model, token, stake, &watchers);
        let owner = if self.one_in(40) { Address::ZERO } else { owner };
        let fresh: Vec<Address> =
            self.cast.seat_keys.iter().filter(|key| model.seat_of(**key).is_none()).copied().collect();
        let key = if fresh.is_empty() || self.one_in(12) {
            let keys = self.cast.seat_keys.clone();
            self.pick(&keys)
        } else {
            self.pick(&fresh)
        };
        let statement = said::JoinSeat { owner, key };
        let key_signed = self.signed(key, model.setting.domains.at_court(&statement));
        let (sender, auth) = self.paid(model, (token, owner, stake), &statement);
        step(sender, Call::JoinSeat { owner, key, key_signed, auth })
    }

    pub(super) fn leave_seat(&mut self, model: &Reference) -> Option<Step> {
        let sitting = model.roster(u64::MAX).to_vec();
        let everyone: Vec<u32> = model.state.court.seats.keys().copied().collect();
        if everyone.is_empty() || (sitting.len() < MANY / 2 && !self.one_in(12)) {
            return None;
        }
        let from = if sitting.is_empty() || self.one_in(6) { everyone } else { sitting };
        let seat = self.pick(&from);
        let owner = model.state.court.seats[&seat].owner;
        let seat = if self.one_in(15) { 1_000 } else { seat };
        let at_court = |model: &Reference, said: &said::LeaveSeat| model.setting.domains.at_court(said);
        let (sender, auth) =
            self.consent(model, owner, at_court, |nonce, deadline| said::LeaveSeat { seat, nonce, deadline });
        step(sender, Call::LeaveSeat { seat, auth })
    }

    pub(super) fn withdraw_seat(&mut self, model: &Reference) -> Option<Step> {
        let seats = &model.state.court.seats;
        let left: Vec<u32> =
            seats.iter().filter(|(_, seat)| seat.free_at.is_some()).map(|(id, _)| *id).collect();
        let all: Vec<u32> = seats.keys().copied().collect();
        let seat = match self.below(8) {
            0 => 1_000,
            1 if !all.is_empty() => self.pick(&all),
            _ if !left.is_empty() => self.pick(&left),
            _ => return None,
        };
        step(self.sender(), Call::WithdrawSeat { seat })
    }

    /// A round that somebody could ask for: an old one, a coming one.
    pub(super) fn advance(&mut self, model: &Reference) -> Option<Step> {
        let current = model.round_at(model.state.now);
        let marked: Vec<u64> = model.state.court.beacon.marks.keys().copied().collect();
        let round = match self.below(8) {
            0 => self.below(current + 1),
            1 => current + 1 + self.below(4),
            2 if !marked.is_empty() => self.pick(&marked),
            3 => self.below(4),
            _ => model.round_at(model.epoch_start(model.epoch()).expect("a near epoch")),
        };
        step(self.sender(), Call::Advance { round })
    }

    pub(super) fn announce(&mut self, model: &Reference) -> Option<Step> {
        let known: Vec<_> = model.state.court.announced.keys().copied().collect();
        let commitment = if !known.is_empty() && self.one_in(2) { self.pick(&known) } else { self.word() };
        step(self.sender(), Call::Announce { commitment })
    }

    pub(super) fn add_court_version(&mut self, model: &Reference) -> Option<Step> {
        let CourtVersion { mut parameters, .. } = self.pick(&model.state.court.versions);
        let small = |number: u64| u8::try_from(number).expect("small");
        let share = |number: u64| u16::try_from(number).expect("small");
        let p = &mut parameters;
        (p.committee, p.bench) = (small(3 + self.below(2)), small(3 + self.below(2)));
        (p.quorum, p.benchQuorum) = (p.committee / 2 + 1, p.bench / 2 + 1);
        p.panel = p.committee + small(self.below(4));
        p.jailSeats = u16::from(p.committee);
        p.fullSeats = u16::from(p.committee + p.bench) + share(self.below(3));
        p.strikes = small(2 + self.below(3));
        p.downBps = share(self.below(2_000));
        p.elementFirstBps = share(self.below(1_000));
        p.elementAgainBps = share(self.below(8_000));
        p.equivocationBps = 10_000 - share(self.below(4) * 1_000);
        p.bondBps = share(self.below(3_000));
        p.minBond = n96(self.amount(3_000));
        p.transcriptFee = n96(self.amount(200));
        p.freezeSpan = if self.one_in(4) { 700_000 } else { 120 };
        let full = model.state.court.versions.len() >= VERSIONS;
        if full || self.one_in(4) {
            match self.below(12) {
                0 => p.quorum = p.committee / 2,
                1 => p.quorum = p.committee + 1,
                2 => p.panel = p.committee - 1,
                3 => p.benchQuorum = p.bench / 2,
                4 => p.jailSeats = u16::from(p.committee) - 1,
                5 => p.fullSeats = u16::from(p.committee + p.bench) - 1,
                6 => p.freezeSpan = p.appealWindow + 2 * p.benchWindow + p.deferSpan - 1,
                7 => p.downBps = 10_001,
                8 => p.strikes = 0,
                9 => p.voteWindow = 0,
                10 => p.panel = 49,
                _ => p.bondBps = 10_001,
            }
        }
        step(self.ruler(), Call::AddCourtVersion { parameters })
    }

    // --- between balances --------------------------------------------------------------------------------------

    pub(super) fn transfer(&mut self, model: &Reference) -> Option<Step> {
        let (token, sender) = (self.token(), self.trader());
        let held = model.state.book.of(token, Pot::Balance(sender));
        let amount = if self.one_in(6) { held + 1 } else { self.amount(held.min(50_000)) };
        let to = match self.below(12) {
            0 => Address::ZERO,
            1 => model.setting.court,
            _ => self.trader(),
        };
        step(sender, Call::Transfer { token, to, amount })
    }

    pub(super) fn forfeit(&mut self, model: &Reference) -> Option<Step> {
        let (token, sender) = (self.token(), self.trader());
        let held = model.state.book.of(token, Pot::Balance(sender));
        let amount = if self.one_in(3) { held + 1 } else { self.amount(held.min(500)) };
        step(sender, Call::Forfeit { token, amount })
    }

    /// Mostly for the court, which takes seats' stakes and cases' bonds.
    pub(super) fn allow(&mut self, model: &Reference) -> Option<Step> {
        let spender = if self.one_in(4) { self.trader() } else { model.setting.court };
        let token = self.pick(&self.cast.tokens.clone());
        let amount = match self.below(4) {
            0 => U256::MAX >> 1,
            1 => U256::ZERO,
            _ => U256::from(self.amount(10_000_000)),
        };
        step(self.trader(), Call::Allow { spender, token, amount })
    }

    pub(super) fn take_from(&mut self, model: &Reference) -> Option<Step> {
        let court = model.setting.court;
        let lent: Vec<_> = model.state.lent.iter().filter(|((_, _, spender), _)| *spender != court).collect();
        let ((token, account, spender), most) = if lent.is_empty() { return None } else { self.pick(&lent) };
        let held = model.state.book.of(*token, Pot::Balance(*account));
        let most: u128 = (*most).min(U256::from(held)).to();
        let amount = if self.one_in(4) { most + 1 } else { self.amount(most.min(10_000)) };
        step(*spender, Call::TakeFrom { token: *token, account: *account, amount })
    }

    pub(super) fn reward_watchers(&mut self, _: &Reference) -> Option<Step> {
        let (token, account, amount) = (self.token(), self.trader(), self.amount(100));
        step(self.sender(), Call::RewardWatchers { token, account, amount })
    }
}
