//! Reads of the contract of attestations.

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use alloy::transports::RpcError;
use async_trait::async_trait;
use tradewind_proto::place::Audit;

use super::Reader;
use crate::client::bindings::audit::abi::Attestations::{AttestationsInstance, Attested};
use crate::ledger::LedgerError;
use crate::ledger::audit::{Auditing, MOST_AUDITS};

/// How many blocks one request covers of an endpoint that does not answer for all.
const SPAN: u64 = 2_000;
/// How many such requests one answer costs at most.
const SPANS: u32 = 64;

impl Reader {
    fn attestations(&self) -> Result<AttestationsInstance<&DynProvider>, LedgerError> {
        Ok(AttestationsInstance::new(self.attestations_at()?, &self.provider))
    }

    fn attestations_at(&self) -> Result<Address, LedgerError> {
        let none = || LedgerError::Invalid("this network has no contract of attestations".into());
        self.contracts.attestations.ok_or_else(none)
    }

    /// What was attested by the logs that `filter` takes, the oldest first.
    async fn attested(&self, filter: Filter) -> Result<Vec<Audit>, LedgerError> {
        let filter = filter.address(self.attestations_at()?).event_signature(Attested::SIGNATURE_HASH);
        let whole = filter.clone().from_block(BlockNumberOrTag::Earliest).to_block(BlockNumberOrTag::Latest);
        let logs = match self.provider.get_logs(&whole).await {
            Ok(logs) => logs,
            Err(RpcError::ErrorResp(_)) => self.newest(&filter).await?,
            Err(error) => return Err(self.error(error)),
        };
        let audit =
            |log: &Log| Attested::decode_raw_log(log.topics(), &log.inner.data.data).ok().map(Audit::from);
        Ok(logs.iter().filter(|log| !log.removed).filter_map(audit).collect())
    }

    /// The logs of the newest blocks, the oldest first.
    async fn newest(&self, filter: &Filter) -> Result<Vec<Log>, LedgerError> {
        let (mut pieces, mut end) = (Vec::new(), Some(self.head().await?.block));
        for _ in 0..SPANS {
            let Some(to) = end else { break };
            let from = to.saturating_sub(SPAN - 1);
            let piece = filter.clone().from_block(from).to_block(to);
            pieces.push(self.provider.get_logs(&piece).await.map_err(|error| self.error(error))?);
            end = from.checked_sub(1);
        }
        Ok(pieces.into_iter().rev().flatten().collect())
    }
}

#[async_trait]
impl Auditing for Reader {
    async fn holds(&self, id: B256) -> Result<bool, LedgerError> {
        self.ask(self.attestations()?.holds(id)).await
    }

    async fn audit(&self, id: B256) -> Result<Option<Audit>, LedgerError> {
        // An endpoint may answer with logs that nobody asked for.
        let found = self.attested(Filter::new().topic1(id)).await?;
        Ok(found.into_iter().find(|audit| audit.id() == id))
    }

    async fn audits(
        &self,
        subject: B256,
        schema: B256,
        issuers: &[Address],
    ) -> Result<Vec<Audit>, LedgerError> {
        let mut filter = Filter::new().topic3(subject);
        if !issuers.is_empty() {
            filter = filter.topic2(issuers.iter().map(|issuer| issuer.into_word()).collect::<Vec<_>>());
        }
        let mut found = self.attested(filter).await?;
        found.retain(|audit| {
            let by = issuers.is_empty() || issuers.contains(&audit.issuer);
            by && audit.subject == subject && audit.schema == schema
        });
        found.truncate(MOST_AUDITS);
        Ok(found)
    }
}
