//! Proof that something was done at the court.

use alloy::primitives::B256;
use tradewind_proto::evidence::Court as Domain;
use tradewind_proto::ids::CaseId;

use super::Trace;
use crate::client::bindings::court::abi::Court;
use crate::client::reader::Reader;
use crate::ledger::LedgerError;
use crate::ledger::court::{
    CaseRecord, CaseStage, CourtAction, Outcome, Tribunal, positions, statements_evidence,
};

fn domain(reader: &Reader) -> Result<Domain, LedgerError> {
    let court = reader.contracts().court();
    court.ok_or_else(|| LedgerError::Invalid("this network has no court".into()))
}

/// What the state alone shows. A step of a case counts as done once the case is past it: nobody can do it any more.
pub(super) async fn is_done(reader: &Reader, action: &CourtAction) -> Result<bool, LedgerError> {
    let case = async |id: CaseId| reader.case(id).await;
    let past = |case: &CaseRecord, stage| case.stage > stage;
    Ok(match action {
        CourtAction::JoinSeat { key, .. } => reader.seat_of(*key).await?.is_some(),
        CourtAction::LeaveSeat { seat } => reader.seat(*seat).await?.withdrawable_at.is_some(),
        CourtAction::WithdrawSeat { seat } => reader.seat(*seat).await?.stake.is_zero(),
        CourtAction::OpenCase { device, epoch, .. } => {
            case(domain(reader)?.case(*device, *epoch)).await?.stage != CaseStage::None
        }
        CourtAction::DrawPanel(id) => past(&case(*id).await?, CaseStage::Opened),
        CourtAction::Commit { case: id, position, .. } => {
            let case = case(*id).await?;
            past(&case, CaseStage::Panel) || (case.committed >> position.min(&63)) & 1 == 1
        }
        CourtAction::DrawCommittee(id) => past(&case(*id).await?, CaseStage::Panel),
        CourtAction::Vote { case: id, ballots } => {
            let (case, mask) = (case(*id).await?, positions(ballots));
            case.revealed & mask == mask
        }
        CourtAction::Appeal { case: id, .. } => case(*id).await?.appealed_at.is_some(),
        CourtAction::DrawBench(id) => {
            let case = case(*id).await?;
            case.bench_by.is_some() || past(&case, CaseStage::Appealing)
        }
        CourtAction::VoteBench { case: id, ballots } => {
            let (case, mask) = (case(*id).await?, positions(ballots));
            u64::from(case.heard) & mask == mask
        }
        CourtAction::Lapse { case: id, stage } => past(&case(*id).await?, *stage),
        CourtAction::Execute(id) => {
            let case = case(*id).await?;
            case.outcome == Outcome::Guilty && !case.slash_due
        }
        CourtAction::CloseCase(id) => case(*id).await?.stage == CaseStage::Closed,
        CourtAction::Join { terms, .. } => {
            reader.joined(terms.id(&reader.contracts().domain())?).await?.is_some()
        }
        CourtAction::Announce { .. }
        | CourtAction::Count { .. }
        | CourtAction::ProveElement { .. }
        | CourtAction::ProveRoots { .. }
        | CourtAction::ProveStatements { .. }
        | CourtAction::ProveVotes { .. } => false,
    })
}

/// What the actions leave in the logs that no view shows.
pub(super) fn traces(reader: &Reader, action: &CourtAction) -> Result<Vec<Trace>, LedgerError> {
    let court = domain(reader)?.contract;
    let number = |number: u64| B256::from(alloy::primitives::U256::from(number));
    Ok(match action {
        CourtAction::Announce { commitment } => {
            vec![Trace::of::<Court::Announced>(court, *commitment, |_| true)]
        }
        CourtAction::Count { epoch, terms } => {
            let device = terms.device.get();
            let is_it = move |event: &Court::DeviceCounted| event.device == device;
            vec![Trace::of::<Court::DeviceCounted>(court, number(epoch.get()), is_it)]
        }
        CourtAction::ProveElement { wrong, .. } => {
            let list = &wrong.signed.body;
            let epoch = list.epoch().get();
            let is_it = move |event: &Court::ElementProved| event.epoch == epoch;
            vec![Trace::of::<Court::ElementProved>(court, list.device().get(), is_it)]
        }
        CourtAction::ProveRoots { both, .. } => {
            let [list, _] = both.bodies();
            let (device, epoch) = (list.body.device(), list.body.epoch());
            let evidence = crate::ledger::court::roots_evidence(device, epoch);
            let is_it = move |event: &Court::EquivocationProved| event.evidence == evidence;
            vec![Trace::of::<Court::EquivocationProved>(court, device.get(), is_it)]
        }
        CourtAction::ProveStatements { both, .. } => {
            let [said, _] = both.bodies();
            let evidence = statements_evidence(&said.body);
            let is_it = move |event: &Court::EquivocationProved| event.evidence == evidence;
            vec![Trace::of::<Court::EquivocationProved>(court, said.body.device.get(), is_it)]
        }
        CourtAction::ProveVotes { seat, both, .. } => {
            let [vote, _] = both.bodies();
            let case = vote.body.case.get();
            let is_it = move |event: &Court::VoteEquivocationProved| event.caseId == case;
            vec![Trace::of::<Court::VoteEquivocationProved>(court, number((*seat).into()), is_it)]
        }
        CourtAction::Execute(case) => {
            vec![Trace::of::<Court::CaseSlashed>(court, case.get(), |_| true)]
        }
        CourtAction::OpenCase { device, epoch, .. } => {
            let case = domain(reader)?.case(*device, *epoch).get();
            vec![Trace::of::<Court::CaseOpened>(court, case, |_| true)]
        }
        CourtAction::JoinSeat { .. }
        | CourtAction::LeaveSeat { .. }
        | CourtAction::WithdrawSeat { .. }
        | CourtAction::Vote { .. }
        | CourtAction::VoteBench { .. }
        | CourtAction::Commit { .. }
        | CourtAction::DrawPanel(_)
        | CourtAction::DrawCommittee(_)
        | CourtAction::DrawBench(_)
        | CourtAction::Appeal { .. }
        | CourtAction::Lapse { .. }
        | CourtAction::CloseCase(_)
        | CourtAction::Join { .. } => Vec::new(),
    })
}
