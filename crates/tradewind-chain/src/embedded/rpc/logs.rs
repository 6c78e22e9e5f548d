//! Logs and filters.

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{B256, U256};
use alloy::rpc::types::{Filter, FilterBlockOption, Log};

use super::super::engine::lock;
use super::super::fault::Fault;
use super::super::filters::{Installed, Subject};
use super::super::store::View;
use super::{Answer, Params, Rpc, raw};

/// Logs that one answer may hold.
const LOGS: usize = 20_000;
/// Blocks that one query may span.
const SPAN: u64 = 500_000;

impl Rpc {
    pub(super) fn logs(&self, params: &Params) -> Answer {
        let filter: Filter = params.required(0)?;
        let view = self.shared.store.view()?;
        raw(&self.matching(&view, &filter)?)
    }

    fn matching(&self, view: &View, filter: &Filter) -> Result<Vec<Log>, Fault> {
        let (from, to) = match filter.block_option {
            FilterBlockOption::AtBlockHash(hash) => {
                let number = view.number_of(hash)?.ok_or_else(|| Fault::server("unknown block"))?;
                (number, number)
            }
            FilterBlockOption::Range { from_block, to_block } => {
                let head = view.head()?.unwrap_or(0);
                let number = |tag: Option<BlockNumberOrTag>| match tag {
                    Some(BlockNumberOrTag::Number(number)) => Ok(number),
                    tag => Ok::<_, Fault>(
                        self.block_number(view, tag.unwrap_or_default().into())?.unwrap_or(head),
                    ),
                };
                (number(from_block)?, number(to_block)?.min(head))
            }
        };
        self.matching_between(view, filter, from, to)
    }

    fn matching_between(&self, view: &View, filter: &Filter, from: u64, to: u64) -> Result<Vec<Log>, Fault> {
        if to.saturating_sub(from) >= SPAN {
            return Err(Fault::limit(format!("query spans more than {SPAN} blocks")));
        }
        let mut logs = Vec::new();
        for number in from..=to {
            let Some((_, header)) = view.header(number)? else { break };
            if header.logs_bloom.is_zero() || !filter.matches_bloom(header.logs_bloom) {
                continue;
            }
            let Some(block) = self.block(view, number)? else { break };
            logs.extend(block.rpc_logs().filter(|log| filter.matches(&log.inner)));
            if logs.len() > LOGS {
                return Err(Fault::limit(format!("query returned more than {LOGS} results")));
            }
        }
        Ok(logs)
    }

    pub(super) fn new_log_filter(&self, params: &Params) -> Answer {
        let filter: Filter = params.required(0)?;
        if matches!(filter.block_option, FilterBlockOption::AtBlockHash(_)) {
            return Err(Fault::params("a filter cannot be bound to a block hash"));
        }
        self.install(Subject::Logs(Box::new(filter)))
    }

    pub(super) fn new_block_filter(&self) -> Answer {
        self.install(Subject::Blocks)
    }

    pub(super) fn new_pending_filter(&self) -> Answer {
        let known = lock(&self.shared.pool).iter().map(|pooled| pooled.hash).collect();
        self.install(Subject::Pending(known))
    }

    fn install(&self, subject: Subject) -> Answer {
        let seen = self.tip().header.number;
        let id = lock(&self.shared.filters).install(subject, seen);
        raw(&id.ok_or_else(|| Fault::limit("too many filters"))?)
    }

    pub(super) fn uninstall_filter(&self, params: &Params) -> Answer {
        let id: U256 = params.required(0)?;
        raw(&lock(&self.shared.filters).uninstall(id))
    }

    pub(super) fn filter_logs(&self, params: &Params) -> Answer {
        let Installed { subject: Subject::Logs(filter), .. } = self.installed(params.required(0)?, false)?
        else {
            return Err(Fault::server("filter not found"));
        };
        let view = self.shared.store.view()?;
        raw(&self.matching(&view, &filter)?)
    }

    pub(super) fn filter_changes(&self, params: &Params) -> Answer {
        let id: U256 = params.required(0)?;
        let Installed { subject, seen, removed, .. } = self.installed(id, true)?;
        let view = self.shared.store.view()?;
        let head = view.head()?.unwrap_or(0);
        let fresh = seen.saturating_add(1)..=head;
        let answer = match &subject {
            Subject::Logs(filter) => {
                let mut logs = removed;
                let (from, to) = filter.extract_block_range();
                let first = from.unwrap_or(0).max(seen.saturating_add(1));
                logs.extend(self.matching_between(&view, filter, first, to.unwrap_or(head).min(head))?);
                raw(&logs)
            }
            Subject::Blocks => {
                let hashes = fresh.filter_map(|number| view.block_hash(number).transpose());
                raw(&hashes.collect::<Result<Vec<B256>, _>>()?)
            }
            Subject::Pending(known) => {
                let waiting: Vec<B256> = lock(&self.shared.pool).iter().map(|pooled| pooled.hash).collect();
                let new: Vec<_> = waiting.iter().filter(|hash| !known.contains(hash)).copied().collect();
                lock(&self.shared.filters).advance(id, head, Some(waiting));
                return raw(&new);
            }
        };
        lock(&self.shared.filters).advance(id, head, None);
        answer
    }

    fn installed(&self, id: U256, hand_over: bool) -> Result<Installed, Fault> {
        let mut filters = lock(&self.shared.filters);
        let filter = if hand_over { filters.poll(id) } else { filters.peek(id) };
        filter.ok_or_else(|| Fault::server("filter not found"))
    }
}
