//! Reads of the court and its beacon.

use alloy::consensus::Transaction as _;
use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::{SolEvent, SolStruct, SolType};
use async_trait::async_trait;
use tradewind_proto::evidence::{Court as Domain, Epoch};
use tradewind_proto::ids::{CaseId, DeviceId, LeaseId};
use tradewind_proto::reputation::Strike;
use tradewind_proto::terms::{LeaseTerms, sol};
use tradewind_proto::units::Timestamp;
use tradewind_proto::watching::Outcome;

use super::Reader;
use crate::client::bindings::abi::Registry::DeviceAdded;
use crate::client::bindings::court::abi::{Beacon, Court};
use crate::client::bindings::{deadline, money};
use crate::ledger::LedgerError;
use crate::ledger::court::{
    CaseRecord, CourtRules, CourtSetup, JoinedLease, OpenedCase, SeatRecord, StrikeRecord, Tribunal,
};

/// How many blocks one request for logs covers.
const SPAN: u64 = 2_000;

impl Reader {
    fn contract(&self) -> Court::CourtInstance<&DynProvider> {
        Court::new(self.contracts.court.unwrap_or_default(), &self.provider)
    }

    /// Logs of one event of `contract` from `block` on, oldest first.
    async fn logs_since<E: SolEvent>(
        &self,
        contract: Address,
        block: u64,
    ) -> Result<Vec<(Logged, E)>, LedgerError> {
        let head = self.head().await?.block;
        let (mut from, mut found) = (block, Vec::new());
        while from <= head {
            let to = head.min(from.saturating_add(SPAN - 1));
            let filter = Filter::new()
                .address(contract)
                .event_signature(E::SIGNATURE_HASH)
                .from_block(BlockNumberOrTag::Number(from))
                .to_block(BlockNumberOrTag::Number(to));
            let logs = self.provider.get_logs(&filter).await.map_err(|error| self.error(error))?;
            found.extend(logs.iter().filter(|log| !log.removed).filter_map(|log| {
                let event = E::decode_raw_log(log.topics(), &log.inner.data.data).ok()?;
                Some((Logged::of(log)?, event))
            }));
            from = to + 1;
        }
        Ok(found)
    }
}

/// Where a log stands.
#[derive(Debug, Clone, Copy)]
struct Logged {
    block: u64,
    event: (B256, u64),
}

impl Logged {
    fn of(log: &Log) -> Option<Self> {
        Some(Self { block: log.block_number?, event: (log.transaction_hash?, log.log_index?) })
    }

    fn strike(self, device: DeviceId, epoch: Epoch, strike: Strike) -> StrikeRecord {
        StrikeRecord { block: self.block, event: self.event, device, epoch, strike }
    }
}

/// The terms among a transaction's bytes whose digest is the lease: whatever call wraps them.
fn terms_in(input: &[u8], lease: LeaseId, domain: &alloy::sol_types::Eip712Domain) -> Option<LeaseTerms> {
    let size = sol::LeaseTerms::ENCODED_SIZE?;
    // Selectors shift what they wrap by four bytes, so terms lie at a multiple of four.
    (0..=input.len().checked_sub(size)?).step_by(4).find_map(|at| {
        let terms = sol::LeaseTerms::abi_decode_validate(&input[at..at + size]).ok()?;
        (terms.eip712_signing_hash(domain) == lease.get()).then(|| LeaseTerms::from_sol(&terms).ok())?
    })
}

#[async_trait]
impl Tribunal for Reader {
    fn court(&self) -> Domain {
        let contract = self.contracts.court.unwrap_or_default();
        Domain { chain_id: self.contracts.chain_id, contract }
    }

    async fn setup(&self) -> Result<CourtSetup, LedgerError> {
        self.ask(self.contract().setup()).await?.try_into()
    }

    async fn rules(&self, version: Option<u32>) -> Result<CourtRules, LedgerError> {
        let version = match version {
            Some(version) => version,
            None => self.ask(self.contract().usableVersion()).await?,
        };
        self.ask(self.contract().courtParameters(version)).await?.parameters.try_into()
    }

    async fn seed(&self, at: Timestamp) -> Result<Option<B256>, LedgerError> {
        let beacon = self.setup().await?.beacon;
        let seed = self.ask(Beacon::new(beacon, &self.provider).seedAt(deadline(at))).await?;
        Ok((seed != B256::ZERO).then_some(seed))
    }

    async fn seats(&self, epoch: Epoch) -> Result<u32, LedgerError> {
        let count: U256 = self.ask(self.contract().seatCount(epoch.get())).await?;
        u32::try_from(count)
            .map_err(|_| LedgerError::Unavailable(format!("the ledger answered {count} seats")))
    }

    async fn seat_at(&self, epoch: Epoch, place: u32) -> Result<u32, LedgerError> {
        self.ask(self.contract().seatAt(epoch.get(), U256::from(place))).await
    }

    async fn seat(&self, seat: u32) -> Result<SeatRecord, LedgerError> {
        self.ask(self.contract().seat(seat)).await?.try_into()
    }

    async fn seat_of(&self, key: Address) -> Result<Option<u32>, LedgerError> {
        let seat = self.ask(self.contract().seatOf(key)).await?;
        Ok((seat != 0).then_some(seat))
    }

    async fn case(&self, case: CaseId) -> Result<CaseRecord, LedgerError> {
        self.ask(self.contract().caseOf(case.get())).await?.try_into()
    }

    async fn cases_since(&self, block: u64) -> Result<Vec<OpenedCase>, LedgerError> {
        let court = self.contracts.court.unwrap_or_default();
        let opened = self.logs_since::<Court::CaseOpened>(court, block).await?;
        Ok(opened
            .into_iter()
            .map(|(at, event)| OpenedCase {
                case: CaseId::new(event.caseId),
                device: DeviceId::new(event.device),
                epoch: Epoch::new(event.epoch),
                block: at.block,
            })
            .collect())
    }

    async fn joined(&self, lease: LeaseId) -> Result<Option<JoinedLease>, LedgerError> {
        let joined = self.ask(self.contract().joined(lease.get())).await?;
        if joined.caseId == B256::ZERO {
            return Ok(None);
        }
        Ok(Some(JoinedLease { case: CaseId::new(joined.caseId), award: money(joined.award)? }))
    }

    async fn tripped(&self, epoch: Epoch) -> Result<bool, LedgerError> {
        self.ask(self.contract().tripped(epoch.get())).await
    }

    async fn strikes_since(&self, block: u64) -> Result<Vec<StrikeRecord>, LedgerError> {
        let court = self.contracts.court.unwrap_or_default();
        let mut found = Vec::new();
        for (at, decided) in self.logs_since::<Court::CaseDecided>(court, block).await? {
            if Outcome::numbered(decided.outcome) == Some(Outcome::Guilty) {
                let case = self.case(CaseId::new(decided.caseId)).await?;
                found.push(at.strike(case.device, case.epoch, Strike::Down));
            }
        }
        for (at, proved) in self.logs_since::<Court::ElementProved>(court, block).await? {
            let (device, epoch) = (DeviceId::new(proved.device), Epoch::new(proved.epoch));
            found.push(at.strike(device, epoch, Strike::WrongElement));
        }
        for (at, proved) in self.logs_since::<Court::EquivocationProved>(court, block).await? {
            let Some((_, time)) = self.block(at.block).await? else { continue };
            let epoch = self.setup().await?.epoch_at(time).unwrap_or_default();
            found.push(at.strike(DeviceId::new(proved.device), epoch, Strike::Equivocation));
        }
        found.sort();
        Ok(found)
    }

    async fn terms_of(&self, lease: LeaseId, opened: B256) -> Result<Option<LeaseTerms>, LedgerError> {
        let found = self.provider.get_transaction_by_hash(opened).await.map_err(|error| self.error(error))?;
        let domain = self.contracts.domain().eip712();
        Ok(found.and_then(|transaction| terms_in(transaction.input(), lease, &domain)))
    }

    async fn devices_since(&self, block: u64) -> Result<Vec<DeviceId>, LedgerError> {
        let added = self.logs_since::<DeviceAdded>(self.contracts.registry, block).await?;
        Ok(added.into_iter().map(|(_, event)| DeviceId::new(event.device)).collect())
    }
}
