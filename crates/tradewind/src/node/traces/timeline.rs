//! One piece of work with the steps that it goes through, and the spans that it becomes.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tradewind_proto::trace::Context;
use tradewind_proto::units::{Money, Timestamp};

/// Work that was first seen so soon after its beginning was in its first step from there on.
const SOON: Duration = Duration::from_secs(3);
/// The most steps that are kept; a job that is paused again and again has more.
const MAX_STEPS: usize = 256;

/// Work that goes on.
#[derive(Debug)]
pub(super) struct Timeline {
    what: What,
    since: SystemTime,
    steps: Vec<Step>,
}

/// What a span is of.
#[derive(Debug)]
pub(super) struct What {
    pub(super) name: &'static str,
    pub(super) kind: SpanKind,
    pub(super) place: Context,
    /// The span above, and whether another node may have made it.
    pub(super) above: Option<([u8; 8], bool)>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    since: SystemTime,
    until: Option<SystemTime>,
}

impl Timeline {
    pub(super) const fn new(what: What, since: SystemTime) -> Self {
        Self { what, since, steps: Vec::new() }
    }

    /// Takes down what it is at, as it was seen at `now`.
    pub(super) fn is_at(&mut self, name: Option<&'static str>, now: SystemTime) {
        let last = self.steps.last_mut().filter(|step| step.until.is_none());
        if last.as_ref().map(|step| step.name) == name {
            return;
        }
        if let Some(step) = last {
            step.until = Some(now);
        }
        let Some(name) = name.filter(|_| self.steps.len() < MAX_STEPS) else { return };
        let is_first =
            self.steps.is_empty() && now.duration_since(self.since).is_ok_and(|since| since < SOON);
        let since = if is_first { self.since } else { now };
        self.steps.push(Step { name, since, until: None });
    }

    /// It is over.
    pub(super) fn end(self, attributes: Vec<KeyValue>, status: Status, now: SystemTime) -> Vec<SpanData> {
        let Self { what, since, steps } = self;
        if !what.place.sampled {
            return Vec::new();
        }
        let own = what.place;
        let whole = SpanData { attributes, status, ..span(what, since, now) };
        let steps = (0..).zip(steps).map(|(number, step)| {
            let (place, above) = (own.step(number), Some((own.span, false)));
            let what = What { name: step.name, kind: SpanKind::Internal, place, above };
            span(what, step.since, step.until.unwrap_or(now))
        });
        std::iter::once(whole).chain(steps).collect()
    }
}

fn span(what: What, since: SystemTime, until: SystemTime) -> SpanData {
    let (trace, own) = (TraceId::from_bytes(what.place.trace), SpanId::from_bytes(what.place.span));
    let (above, is_remote) = what
        .above
        .map_or((SpanId::INVALID, false), |(span, is_remote)| (SpanId::from_bytes(span), is_remote));
    SpanData {
        span_context: SpanContext::new(trace, own, TraceFlags::SAMPLED, false, TraceState::NONE),
        parent_span_id: above,
        parent_span_is_remote: is_remote,
        span_kind: what.kind,
        name: what.name.into(),
        start_time: since,
        // A clock that was set back makes no span that ends before it begins.
        end_time: until.max(since),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("tradewind").build(),
    }
}

/// The moment, as OpenTelemetry has it.
pub(super) fn moment(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at.unix())).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A number, as OpenTelemetry has it.
pub(super) fn number(name: &'static str, value: impl TryInto<i64>) -> KeyValue {
    KeyValue::new(name, value.try_into().unwrap_or(i64::MAX))
}

/// An amount, in base units.
pub(super) fn amount(name: &'static str, money: Money) -> KeyValue {
    number(name, money.base_units())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Timestamp = Timestamp::from_unix(1_700_000_000);

    fn at(seconds: u64) -> SystemTime {
        moment(BEGIN) + Duration::from_secs(seconds)
    }

    fn timeline(sampled: bool) -> Timeline {
        let place = Context { trace: [1; 16], span: [2; 8], sampled };
        Timeline::new(
            What { name: "work", kind: SpanKind::Internal, place, above: Some(([3; 8], true)) },
            at(0),
        )
    }

    #[test]
    fn steps_follow_each_other_inside_the_whole() {
        let mut work = timeline(true);
        for (name, seconds) in [("waiting", 1), ("waiting", 2), ("running", 5), ("running", 8), ("done", 9)] {
            work.is_at(Some(name), at(seconds));
        }
        work.is_at(None, at(10));
        let spans = work.end(vec![number("size", u64::MAX)], Status::Ok, at(12));
        let told: Vec<_> = spans.iter().map(|span| (&*span.name, span.start_time, span.end_time)).collect();
        let whole = ("work", at(0), at(12));
        let steps = [("waiting", at(0), at(5)), ("running", at(5), at(9)), ("done", at(9), at(10))];
        assert_eq!(told, [[whole].as_slice(), &steps].concat());
        assert_eq!(spans[0].attributes, [KeyValue::new("size", i64::MAX)]);
        let below = SpanId::from_bytes([2; 8]);
        assert_eq!(
            (spans[0].parent_span_id, spans[0].parent_span_is_remote),
            (SpanId::from_bytes([3; 8]), true)
        );
        assert!(spans[1..].iter().all(|span| span.parent_span_id == below && !span.parent_span_is_remote));
        let mut ids: Vec<_> = spans.iter().map(|span| span.span_context.span_id()).collect();
        ids.dedup();
        assert_eq!(ids.len(), spans.len());
    }

    #[test]
    fn work_that_is_found_under_way_begins_with_itself_and_its_step_with_the_sight_of_it() {
        let mut work = timeline(true);
        work.is_at(Some("running"), at(60));
        let spans = work.end(Vec::new(), Status::Ok, at(70));
        assert_eq!((spans[0].start_time, spans[1].start_time), (at(0), at(60)));
    }

    #[test]
    fn what_its_caller_does_not_record_is_not_sent_and_endless_work_has_an_end() {
        assert_eq!(timeline(false).end(Vec::new(), Status::Ok, at(1)), []);
        let mut work = timeline(true);
        for second in 0..2_000 {
            work.is_at(Some(if second % 2 == 0 { "running" } else { "paused" }), at(second));
        }
        assert_eq!(work.end(Vec::new(), Status::Ok, at(2_000)).len(), MAX_STEPS + 1);
    }

    #[test]
    fn a_clock_that_is_set_back_ends_nothing_before_its_beginning() {
        let mut work = timeline(true);
        work.is_at(Some("running"), at(5));
        let spans = work.end(Vec::new(), Status::Ok, moment(Timestamp::from_unix(1)));
        assert!(spans.iter().all(|span| span.end_time == span.start_time));
    }
}
