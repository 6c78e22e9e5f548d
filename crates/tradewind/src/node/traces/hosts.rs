//! The leases that a provider hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::report::{Report, Stage};
use tradewind_proto::trace::Context;
use tradewind_provider::agent::Traced;

use super::timeline::{Timeline, What, amount, moment, number};
use crate::node::metrics::stage;

/// Those that are here; nothing of one that is over and only waits for its buyer.
#[derive(Debug, Default)]
pub(super) struct Hosts(BTreeMap<LeaseId, Option<Hosted>>);

#[derive(Debug)]
struct Hosted {
    timeline: Timeline,
    report: Report,
}

impl Hosts {
    /// Takes down what is hosted at `now`; returns the spans of what is over.
    pub(super) fn look(&mut self, hosted: Vec<Traced>, now: SystemTime) -> Vec<SpanData> {
        let here: BTreeSet<LeaseId> = hosted.iter().map(|traced| traced.report.lease).collect();
        let mut over = Vec::new();
        for traced in hosted {
            let is_over = traced.is_over;
            let known = self.0.entry(traced.report.lease).or_insert_with(|| Hosted::new(&traced));
            if let Some(known) = known {
                known.timeline.is_at(Some(stage(&traced.report.stage)), now);
                known.report = traced.report;
            }
            if is_over {
                over.extend(known.take());
            }
        }
        let gone = self.0.extract_if(.., |lease, _| !here.contains(lease)).filter_map(|(_, known)| known);
        over.extend(gone);
        over.into_iter().flat_map(|hosted| hosted.end(now)).collect()
    }
}

impl Hosted {
    fn new(traced: &Traced) -> Option<Self> {
        if traced.is_over {
            return None;
        }
        let Traced { report, start, parent, .. } = traced;
        let what = What {
            name: "hosting",
            kind: SpanKind::Server,
            place: Context::of_lease(report.lease, *parent),
            above: parent.map(|parent| (parent.span, true)),
        };
        Some(Self { timeline: Timeline::new(what, moment(*start)), report: report.clone() })
    }

    fn end(self, now: SystemTime) -> Vec<SpanData> {
        let Self { timeline, report } = self;
        let usage = report.usage;
        let mut attributes = vec![
            KeyValue::new("tradewind.lease", report.lease.to_string()),
            amount("tradewind.paid", report.paid),
            number("tradewind.cpu_ms", usage.cpu_ms),
            number("tradewind.memory_peak", usage.memory_peak.get()),
            number("tradewind.egress", usage.egress.get()),
            number("tradewind.ingress", usage.ingress.get()),
        ];
        let exit = report.exit.map(|exit| number("tradewind.exit_code", exit.code));
        attributes.extend(exit);
        let status = if let Stage::Failed { reason } = &report.stage {
            Status::error(reason.clone())
        } else {
            Status::Ok
        };
        timeline.end(attributes, status, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alloy::primitives::B256;
    use tradewind_proto::meter::Run;
    use tradewind_proto::units::{Money, Timestamp};
    use tradewind_proto::workload::Usage;

    use super::*;

    const START: Timestamp = Timestamp::from_unix(1_700_000_000);

    fn traced(lease: u8, stage: Stage, is_over: bool) -> Traced {
        let report = Report {
            lease: LeaseId::new(B256::repeat_byte(lease)),
            revision: 0,
            stage,
            run: Run::default(),
            exit: None,
            usage: Usage::default(),
            paid: Money::ZERO,
            voucher: None,
            reclaimed: None,
            outputs: Vec::new(),
            statement: None,
            saved: None,
            lent_until: None,
        };
        Traced {
            report,
            buyer: tradewind_proto::ids::BuyerId::default(),
            start: START,
            parent: None,
            is_over,
        }
    }

    fn names(spans: &[SpanData]) -> Vec<&str> {
        spans.iter().map(|span| &*span.name).collect()
    }

    #[test]
    fn a_lease_is_told_of_once_when_it_is_over_or_gone() {
        let (mut hosts, now) = (Hosts::default(), moment(START));
        let later = now + Duration::from_secs(9);
        let running = || vec![traced(1, Stage::Running, false), traced(2, Stage::Running, false)];
        assert_eq!(hosts.look(running(), now), []);
        let lost = Stage::Failed { reason: "the disk is full".into() };
        let over = || vec![traced(1, Stage::Finished, true), traced(2, lost.clone(), false)];
        assert_eq!(names(&hosts.look(over(), later)), ["hosting", "running", "finished"]);
        assert_eq!(hosts.look(over(), later), [], "it waits for its buyer");
        let spans = hosts.look(Vec::new(), later);
        assert_eq!(names(&spans), ["hosting", "running", "failed"]);
        assert_eq!(spans[0].status, Status::error("the disk is full"));
        assert_eq!((spans[0].start_time, spans[0].end_time), (now, later));
        assert_eq!(hosts.look(Vec::new(), later), []);
    }

    #[test]
    fn a_lease_that_was_over_before_is_none_of_this_life_s() {
        let mut hosts = Hosts::default();
        assert_eq!(hosts.look(vec![traced(1, Stage::Finished, true)], moment(START)), []);
        assert_eq!(hosts.look(Vec::new(), moment(START)), []);
    }
}
