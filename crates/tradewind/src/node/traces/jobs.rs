//! The jobs that a buyer runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;
use tradewind_buyer::job::record::{Attempt, JobRecord, JobState};
use tradewind_proto::ids::JobId;
use tradewind_proto::supervision::Outcome;
use tradewind_proto::trace;

use super::timeline::{Timeline, What, amount, moment, number};
use crate::node::metrics::stage;

/// While a provider is looked for.
const PLACING: Option<&str> = Some("placing");

/// Those that are not over.
#[derive(Debug, Default)]
pub(super) struct Jobs(BTreeMap<JobId, Course>);

#[derive(Debug)]
struct Course {
    job: Timeline,
    /// Nothing of those that are over.
    attempts: Vec<Option<Timeline>>,
}

impl Jobs {
    /// Takes down how `unfinished` jobs stand at `now`; `last` says how one ended. Returns the spans of what is over.
    pub(super) fn look(
        &mut self,
        unfinished: &[JobRecord],
        last: impl Fn(JobId) -> Option<JobRecord>,
        now: SystemTime,
    ) -> Vec<SpanData> {
        let mut spans = Vec::new();
        for record in unfinished {
            let course = self.0.entry(record.id).or_insert_with(|| Course::new(record));
            spans.extend(course.see(record, now));
        }
        let unfinished: BTreeSet<JobId> = unfinished.iter().map(|record| record.id).collect();
        for (id, mut course) in self.0.extract_if(.., |id, _| !unfinished.contains(id)) {
            let Some(record) = last(id) else { continue };
            spans.extend(course.see(&record, now));
            spans.extend(course.end(&record, now));
        }
        spans
    }
}

impl Course {
    fn new(record: &JobRecord) -> Self {
        let caller =
            record.spec.envs.get(trace::VARIABLE).and_then(|text| text.parse::<trace::Context>().ok());
        let what = What {
            name: "job",
            kind: SpanKind::Internal,
            place: record.trace(),
            above: caller.map(|caller| (caller.span, true)),
        };
        let since = moment(record.submitted_at);
        let mut job = Timeline::new(what, since);
        // An earlier life of this node has told of those that are over.
        let told = record.attempts.iter().take_while(|attempt| is_over(attempt));
        let attempts: Vec<_> = told.map(|_| None).collect();
        if attempts.is_empty() {
            job.is_at(PLACING, since);
        }
        Self { job, attempts }
    }

    fn see(&mut self, record: &JobRecord, now: SystemTime) -> Vec<SpanData> {
        let mut spans = Vec::new();
        for (index, attempt) in record.attempts.iter().enumerate() {
            if index == self.attempts.len() {
                self.attempts.push(Some(begin(record, index, attempt)));
                self.job.is_at(None, moment(attempt.supervision.terms.start));
            }
            let Some(known) = self.attempts.get_mut(index) else { continue };
            if let Some(timeline) = known {
                let report = attempt.supervision.report.as_ref();
                timeline.is_at(Some(report.map_or("opening", |report| stage(&report.stage))), now);
            }
            if is_over(attempt) {
                let ended = known.take().map(|timeline| end(timeline, index, attempt, now));
                spans.extend(ended.into_iter().flatten());
            }
        }
        let is_placing = matches!(record.state, JobState::Placing { .. });
        if is_placing && self.attempts.iter().all(Option::is_none) {
            self.job.is_at(PLACING, now);
        }
        spans
    }

    fn end(self, record: &JobRecord, now: SystemTime) -> Vec<SpanData> {
        let mut attributes = vec![
            KeyValue::new("tradewind.job", record.id.to_string()),
            KeyValue::new("tradewind.job.name", record.spec.name.clone()),
            number("tradewind.attempts", record.attempts.len()),
        ];
        let mut status = Status::Ok;
        if let JobState::Ended { code, reason } = &record.state {
            attributes.extend(code.map(|code| number("tradewind.exit_code", code)));
            if *code != Some(0) {
                status = Status::error(reason.clone());
            }
        }
        self.job.end(attributes, status, now)
    }
}

fn is_over(attempt: &Attempt) -> bool {
    attempt.outcome.is_some()
}

fn begin(record: &JobRecord, index: usize, attempt: &Attempt) -> Timeline {
    let (place, above) = (record.trace_of(index), Some((record.trace().span, false)));
    let what = What { name: "lease", kind: SpanKind::Client, place, above };
    Timeline::new(what, moment(attempt.supervision.terms.start))
}

fn end(timeline: Timeline, index: usize, attempt: &Attempt, now: SystemTime) -> Vec<SpanData> {
    let attributes = vec![
        KeyValue::new("tradewind.lease", attempt.supervision.id.to_string()),
        KeyValue::new("tradewind.provider", attempt.provider.to_string()),
        number("tradewind.attempt", index.saturating_add(1)),
        amount("tradewind.signed", attempt.supervision.signed),
    ];
    let status = match (&attempt.refused, attempt.outcome) {
        (Some(reason), _) => Status::error(reason.clone()),
        (None, Some(Outcome::Finished { code: 0 }) | None) => Status::Ok,
        (None, Some(outcome)) => Status::error(outcome.to_string()),
    };
    timeline.end(attributes, status, now)
}
