//! The court's calls as bytes, and what it must show.

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::sol_types::SolValue as _;
use tradewind_proto::signature::SigningKey;

use super::{Scope, Wire, at, fact, packed};
use crate::book::Pot;
use crate::call::{Call, Contract, n40, n96};
use crate::chain::Fact;
use crate::court::abi::{Ballot, Beacon, Beside, Court, Element, Joined, ProductRoots};
use crate::court::cases::{Case, Voice};
use crate::court::proofs::{Opened, Roots};
use crate::court::verdicts::Ruling;
use crate::reference::{Reference, State};

impl<K: Fn(Address) -> SigningKey> Wire<'_, K> {
    /// The contract and the data of a call to the court, its beacon, or between balances.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are encoded elsewhere")]
    pub(super) fn encode_court(&self, call: &Call) -> Option<(Address, Bytes)> {
        let (court, leases) = (self.contract(Contract::Court), self.contract(Contract::Leases));
        Some(match call.clone() {
            Call::Transfer { token, to, amount } => {
                at(leases, &Beside::transferCall { token, to, amount: U256::from(amount) })
            }
            Call::Forfeit { token, amount } => {
                at(leases, &Beside::forfeitCall { token, amount: U256::from(amount) })
            }
            Call::Allow { spender, token, amount } => {
                at(leases, &Beside::allowCall { spender, token, amount })
            }
            Call::TakeFrom { token, account, amount } => {
                at(leases, &Beside::takeFromCall { token, account, amount: U256::from(amount) })
            }
            Call::RewardWatchers { token, account, amount } => {
                at(leases, &Beside::rewardWatchersCall { token, account, amount: U256::from(amount) })
            }
            Call::Advance { round } => at(self.setting.bench.beacon, &Beacon::advanceCall { round }),
            Call::Announce { commitment } => at(court, &Court::announceCall { commitment }),
            Call::AddCourtVersion { parameters } => {
                (court, packed("addCourtVersion", parameters.abi_encode()))
            }
            Call::JoinSeat { owner, key, key_signed, auth } => {
                let (signature, auth) = (self.sign(&key_signed), self.consent(&auth));
                at(court, &Court::joinSeatCall { owner, key, keySignature: signature, auth })
            }
            Call::LeaveSeat { seat, auth } => {
                at(court, &Court::leaveSeatCall { seat, auth: self.consent(&auth) })
            }
            Call::WithdrawSeat { seat } => at(court, &Court::withdrawSeatCall { seat }),
            _ => return self.encode_case(call),
        })
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are encoded elsewhere")]
    fn encode_case(&self, call: &Call) -> Option<(Address, Bytes)> {
        let court = self.contract(Contract::Court);
        Some(match call.clone() {
            Call::OpenCase { opener, device, epoch, claim, salt, auth } => {
                let (claim, auth) = (n96(claim), self.consent(&auth));
                at(court, &Court::openCaseCall { opener, device, epoch, claim, salt, auth })
            }
            Call::DrawPanel { case } => at(court, &Court::drawPanelCall { caseId: case }),
            Call::CommitFinding { case, position, commitment, signed } => at(
                court,
                &Court::commitFindingCall {
                    caseId: case,
                    position: U256::from(position),
                    commitment,
                    signature: self.sign(&signed),
                },
            ),
            Call::DrawCommittee { case } => at(court, &Court::drawCommitteeCall { caseId: case }),
            Call::Vote { case, ballots } => {
                at(court, &Court::voteCall { caseId: case, ballots: self.ballots(&ballots) })
            }
            Call::Appeal { case, appellant, auth } => {
                at(court, &Court::appealCall { caseId: case, appellant, auth: self.consent(&auth) })
            }
            Call::DrawBench { case } => at(court, &Court::drawBenchCall { caseId: case }),
            Call::VoteBench { case, ballots } => {
                at(court, &Court::voteBenchCall { caseId: case, ballots: self.ballots(&ballots) })
            }
            Call::Lapse { case } => at(court, &Court::lapseCall { caseId: case }),
            Call::Execute { case } => at(court, &Court::executeCall { caseId: case }),
            Call::CloseCase { case } => at(court, &Court::closeCaseCall { caseId: case }),
            Call::JoinCase { case, terms } => (court, packed("join", (case, terms).abi_encode_params())),
            Call::Count { epoch, leases } => (court, packed("count", (epoch, leases).abi_encode_params())),
            _ => return self.encode_proof(call),
        })
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are encoded elsewhere")]
    fn encode_proof(&self, call: &Call) -> Option<(Address, Bytes)> {
        let court = self.contract(Contract::Court);
        Some(match call.clone() {
            Call::ProveElement { proof, report } => {
                at(court, &Court::proveElementCall { element: self.element(proof), report_: report })
            }
            Call::ProveRoots { device, epoch, one, other, report } => at(
                court,
                &Court::proveRootsCall {
                    provider: device.provider,
                    key: device.key,
                    epoch,
                    one: self.roots(one),
                    other: self.roots(other),
                    report_: report,
                },
            ),
            Call::ProveStatements { device, one, other, report } => at(
                court,
                &Court::proveStatementsCall {
                    provider: device.provider,
                    key: device.key,
                    one: one.0,
                    signatureOfOne: self.sign(&one.1),
                    other: other.0,
                    signatureOfOther: self.sign(&other.1),
                    report_: report,
                },
            ),
            Call::ProveVotes { seat, one, other, report } => at(
                court,
                &Court::proveVotesCall {
                    seat,
                    one: one.0,
                    signatureOfOne: self.sign(&one.1),
                    other: other.0,
                    signatureOfOther: self.sign(&other.1),
                    report_: report,
                },
            ),
            _ => return None,
        })
    }

    fn ballots(&self, voices: &[Voice]) -> Vec<Ballot> {
        let ballot = |voice: &Voice| Ballot {
            position: voice.position,
            finding: voice.finding,
            transcript: voice.transcript,
            salt: voice.salt,
            signature: self.sign(&voice.signed),
        };
        voices.iter().map(ballot).collect()
    }

    fn roots(&self, list: Roots) -> ProductRoots {
        let Roots { size, roots, signed } = list;
        ProductRoots { size, roots, signature: self.sign(&signed) }
    }

    fn element(&self, proof: Opened) -> Element {
        Element {
            provider: proof.device.provider,
            key: proof.device.key,
            epoch: proof.epoch,
            product: self.roots(proof.product),
            round: U256::from(proof.round),
            row: U256::from(proof.row),
            column: U256::from(proof.column),
            leaf: proof.leaf.into(),
            path: proof.path,
        }
    }
}

/// What the court must show, as far as `scope` goes.
pub(super) fn facts(model: &Reference, scope: Scope<'_>, leases: &[B256], facts: &mut Vec<Fact>) {
    facts_of_seats(model, scope, facts);
    facts_of_cases(model, scope, facts);
    facts_of_rules(model, scope, facts);
    facts_of_credit(model, scope, facts);
    let (court, state) = (model.setting.court, &model.state);
    let known = state.court.joined.keys().chain(leases);
    if matches!(scope, Scope::All) {
        state.court.joined.keys().for_each(|lease| fact_of_ruling(model, *lease, facts));
    }
    for lease in known {
        let joined = |state: &State| state.court.joined.get(lease).copied();
        if scope.holds(&joined(state), joined) {
            let view = joined(state).map_or(Joined { caseId: Default::default(), award: n96(0) }, |joined| {
                Joined { caseId: joined.case, award: n96(joined.award) }
            });
            let call = Court::joinedCall { lease: *lease };
            fact(facts, format!("joined {lease}"), court, &call, view.abi_encode());
        }
    }
    for (key, amount) in &state.lent {
        if scope.holds(amount, |before| before.lent.get(key).copied().unwrap_or_default()) {
            let (token, account, spender) = *key;
            let call = Beside::allowanceOfCall { token, account, spender };
            fact(facts, format!("lent {key:?}"), model.setting.leases, &call, amount.abi_encode());
        }
    }
}

fn facts_of_seats(model: &Reference, scope: Scope<'_>, facts: &mut Vec<Fact>) {
    let (court, state) = (model.setting.court, &model.state);
    for (id, seat) in &state.court.seats {
        let stake = |state: &State| state.book.of(model.setting.stake_token, Pot::Seat(*id));
        let same = |before: &State| before.court.seats.get(id).cloned();
        if scope.holds(&stake(state), stake) || scope.holds(&Some(seat.clone()), same) {
            let view = seat.view(stake(state)).abi_encode();
            fact(facts, format!("seat {id}"), court, &Court::seatCall { id: *id }, view);
            let (call, number) = (Court::seatOfCall { key: seat.key }, U256::from(*id));
            fact(facts, format!("seat of {}", seat.key), court, &call, number.abi_encode());
        }
    }
    if !scope.holds(&state.court.rosters, |before| before.court.rosters.clone()) {
        return;
    }
    let (oldest, newest) = (model.epoch().saturating_sub(4), model.epoch() + 3);
    for epoch in oldest..=newest {
        let roster = model.roster(epoch);
        let (call, count) = (Court::seatCountCall { epoch }, U256::from(roster.len()));
        fact(facts, format!("seats of {epoch}"), court, &call, count.abi_encode());
        for (number, seat) in roster.iter().enumerate() {
            let call = Court::seatAtCall { epoch, number: U256::from(number) };
            let label = format!("seat {number} of {epoch}");
            fact(facts, label, court, &call, U256::from(*seat).abi_encode());
        }
    }
}

fn facts_of_cases(model: &Reference, scope: Scope<'_>, facts: &mut Vec<Fact>) {
    let (court, state) = (model.setting.court, &model.state);
    for (id, case) in &state.court.cases {
        let changed = match scope {
            Scope::All => true,
            Scope::Since(before) => before.court.cases.get(id) != Some(case),
        };
        if changed {
            fact_of_case(model, *id, case, facts);
        }
    }
    if let Scope::Since(before) = scope {
        let over = before.court.cases.keys().filter_map(|id| Some((*id, model.done.get(id)?)));
        over.for_each(|(id, case)| fact_of_case(model, id, case, facts));
    }
    let epochs = |state: &State| -> std::collections::BTreeSet<u64> {
        let counted = state.court.counted.keys().map(|(epoch, _)| *epoch);
        counted.chain(state.court.down.iter().map(|(epoch, _)| *epoch)).collect()
    };
    let all = |state: &State| (state.court.counted.clone(), state.court.down.clone());
    if scope.holds(&all(state), all) {
        for epoch in epochs(state) {
            let census = model.census(epoch).abi_encode();
            fact(facts, format!("census of {epoch}"), court, &Beside::censusCall { epoch }, census);
            let (call, tripped) = (Court::trippedCall { epoch }, model.tripped(epoch));
            fact(facts, format!("breaker of {epoch}"), court, &call, tripped.abi_encode());
        }
    }
}

/// What the court says of a dispute that is in a case.
fn fact_of_ruling(model: &Reference, lease: B256, facts: &mut Vec<Fact>) {
    let (verdict, award) = match model.ruling(lease) {
        Ruling::Unknown => (0u16, 0),
        Ruling::ForBuyer(award) => (1, award),
        Ruling::ForProvider => (2, 0),
    };
    let view = (U256::from(verdict), U256::from(award)).abi_encode_params();
    fact(facts, format!("ruling on {lease}"), model.setting.court, &Beside::rulingCall { lease }, view);
}

/// Whether devices are owed for a reservation that was broken: in the epochs that were judged last, and across them.
fn facts_of_credit(model: &Reference, scope: Scope<'_>, facts: &mut Vec<Fact>) {
    let judged = |state: &State| (state.court.clear.clone(), state.court.guilty.clone());
    if !scope.holds(&judged(&model.state), judged) {
        return;
    }
    let recent = model.epoch().saturating_sub(4);
    let all = model.state.court.clear.union(&model.state.court.guilty);
    for (device, epoch) in all.filter(|(_, epoch)| *epoch >= recent) {
        let Ok(start) = model.epoch_start(*epoch) else { continue };
        let span = model.setting.bench.epoch_span;
        let genesis = model.setting.bench.genesis;
        let spans = [
            (start, start),
            (start, start + span - 1),
            (start.saturating_sub(span), start),
            (start + span, start),
            (genesis, start),
            (genesis - 1, start),
        ];
        for (from, to) in spans {
            let call = Beside::uptimeCreditCall { device: *device, from: n40(from), to: n40(to) };
            let credit = model.uptime_credit(*device, from, to).abi_encode();
            fact(
                facts,
                format!("credit of {device} from {from} to {to}"),
                model.setting.court,
                &call,
                credit,
            );
        }
    }
}

fn fact_of_case(model: &Reference, id: B256, case: &Case, facts: &mut Vec<Fact>) {
    let (call, view) = (Court::caseOfCall { caseId: id }, case.view().abi_encode());
    fact(facts, format!("case {id} {:?}", case.stage), model.setting.court, &call, view);
}

/// That cases and seeds are what they were when nothing could happen to them any more.
pub(crate) fn facts_of_the_past(model: &Reference) -> Vec<Fact> {
    let mut facts = Vec::new();
    model.done.iter().for_each(|(id, case)| fact_of_case(model, *id, case, &mut facts));
    for (round, seed) in &model.state.court.beacon.seeds {
        fact_of_seed(model, *round, *seed, &mut facts);
    }
    facts
}

fn fact_of_seed(model: &Reference, round: u64, seed: B256, facts: &mut Vec<Fact>) {
    let (beacon, call) = (model.setting.bench.beacon, Beacon::seedCall { round });
    fact(facts, format!("seed {round}"), beacon, &call, seed.abi_encode());
}

fn facts_of_rules(model: &Reference, scope: Scope<'_>, facts: &mut Vec<Fact>) {
    let (court, state) = (model.setting.court, &model.state);
    for (version, known) in (1..).zip(&state.court.versions) {
        let at = version as usize - 1;
        if scope.holds(&Some(known.clone()), |before| before.court.versions.get(at).cloned()) {
            let answer = (known.parameters.clone(), n40(known.usable_at)).abi_encode_params();
            let call = Court::courtParametersCall { version };
            fact(facts, format!("court's version {version}"), court, &call, answer);
        }
    }
    let usable = U256::from(model.usable_version().0).abi_encode();
    fact(facts, "usable version".to_owned(), court, &Court::usableVersionCall {}, usable);
    if let Scope::Since(before) = scope {
        let known = &before.court.beacon.seeds;
        let fresh = state.court.beacon.seeds.iter().filter(|(round, _)| !known.contains_key(*round));
        fresh.for_each(|(round, seed)| fact_of_seed(model, *round, *seed, facts));
    }
}
