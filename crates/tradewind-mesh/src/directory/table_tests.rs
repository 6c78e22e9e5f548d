//! The table's claims, and a model it is compared with.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const START: u64 = 1_000_000;

fn at(second: u64) -> Timestamp {
    Timestamp::from_unix(START + second)
}

fn provider(number: u8) -> ProviderId {
    ProviderId::new([number; 20].into())
}

fn record(writer: u8, slot: u32, sequence: u64, ends: u64, body: &'static [u8]) -> Arc<Record> {
    Arc::new(Record {
        id: RecordId { provider: provider(writer), slot },
        sequence,
        expires_at: at(ends),
        body: Bytes::from_static(body),
        signature: Bytes::new(),
    })
}

fn limits() -> TableLimits {
    TableLimits {
        records: 1000,
        records_per_writer: 4,
        lifetime: Seconds::new(100),
        ..TableLimits::default()
    }
}

fn rejection(verdict: Verdict) -> Rejection {
    match verdict {
        Verdict::Rejected(rejection) => rejection,
        Verdict::Stored { .. } => panic!("stored"),
    }
}

fn is_stored(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Stored { .. })
}

#[test]
fn the_newest_sequence_wins_and_a_replay_changes_nothing() {
    let mut table = Table::new(limits());
    assert!(is_stored(&table.insert(at(0), record(1, 0, 5, 50, b"five"))));
    let replay = rejection(table.insert(at(1), record(1, 0, 5, 50, b"five")));
    assert_eq!(replay, Rejection::Stale { got: 5, known: 5 });
    let older = rejection(table.insert(at(1), record(1, 0, 4, 90, b"four")));
    assert_eq!(older.to_string(), "sequence 4 is not newer than 5");
    assert!(is_stored(&table.insert(at(1), record(1, 0, 6, 40, b"six"))));
    assert_eq!(table.len(), 1);
    assert_eq!(table.iter().next().expect("one").body, &b"six"[..]);
}

#[test]
fn an_older_record_does_not_return_when_the_newest_one_ended() {
    let mut table = Table::new(limits());
    table.insert(at(0), record(1, 0, 5, 90, b"old, long"));
    table.insert(at(0), record(1, 0, 6, 10, b"new, short"));
    assert_eq!(table.purge(at(10)).len(), 1);
    assert!(table.is_empty());
    let replay = rejection(table.insert(at(11), record(1, 0, 5, 90, b"old, long")));
    assert_eq!(replay, Rejection::Stale { got: 5, known: 6 });
    let same = rejection(table.insert(at(11), record(1, 0, 6, 90, b"another body")));
    assert_eq!(same, Rejection::Stale { got: 6, known: 6 });
}

#[test]
fn a_sequence_is_forgotten_once_no_older_record_can_be_alive() {
    let mut table = Table::new(limits());
    table.insert(at(0), record(1, 0, 6, 10, b"x"));
    table.purge(at(10));
    table.purge(at(110));
    assert!(is_stored(&table.insert(at(110), record(1, 0, 1, 120, b"a new life"))));
}

#[test]
fn every_record_ends_and_none_lives_longer_than_allowed() {
    let mut table = Table::new(limits());
    let late = rejection(table.insert(at(20), record(1, 0, 1, 20, b"x")));
    assert_eq!(late, Rejection::Expired { expires_at: at(20) });
    let far = rejection(table.insert(at(20), record(1, 0, 1, 121, b"x")));
    assert_eq!(far, Rejection::TooFar { expires_at: at(121), latest: at(120) });
}

#[test]
fn one_writer_cannot_fill_the_table() {
    let mut table = Table::new(limits());
    for slot in 0..4 {
        assert!(is_stored(&table.insert(at(0), record(1, slot, 1, 50, b"x"))));
    }
    let fifth = rejection(table.insert(at(0), record(1, 4, 1, 50, b"x")));
    assert_eq!(fifth, Rejection::WriterFull { limit: 4 });
    assert!(is_stored(&table.insert(at(0), record(2, 0, 1, 50, b"x"))), "another writer has its own quota");
    assert!(is_stored(&table.insert(at(0), record(1, 3, 2, 50, b"y"))), "an update needs no room");
}

#[test]
fn one_writer_cannot_burn_through_slots() {
    let mut table = Table::new(limits());
    let mut stored = 0;
    for slot in 0..100 {
        let now = u64::from(slot);
        stored += u32::from(is_stored(&table.insert(at(now), record(1, slot, 1, now + 1, b"x"))));
        table.purge(at(now + 1));
    }
    assert!(stored <= 8, "{stored} slots are remembered at once");
}

#[test]
fn one_writer_cannot_update_without_end() {
    let mut table = Table::new(TableLimits { update_burst: 10, updates_per_second: 2, ..limits() });
    let stored =
        (1..=100).filter(|sequence| is_stored(&table.insert(at(0), record(1, 0, *sequence, 50, b"x"))));
    assert_eq!(stored.count(), 10);
    assert_eq!(rejection(table.insert(at(0), record(1, 0, 101, 50, b"x"))), Rejection::TooOften);
    assert!(is_stored(&table.insert(at(1), record(1, 0, 101, 50, b"x"))));
}

#[test]
fn two_bodies_under_one_sequence_are_reported_and_resolve_alike_everywhere() {
    let (a, b) = (record(1, 0, 7, 50, b"one price"), record(1, 0, 7, 50, b"another"));
    let (mut left, mut right) = (Table::new(limits()), Table::new(limits()));
    let mut reports = 0;
    for (table, order) in [(&mut left, [&a, &b]), (&mut right, [&b, &a])] {
        for record in order {
            if let Verdict::Stored { equivocation: Some(_) } = table.insert(at(0), record.clone()) {
                reports += 1;
            }
        }
    }
    assert_eq!(reports, 1, "the node that saw the smaller digest first holds the evidence");
    assert_eq!(left.digests(), right.digests());
}

#[test]
fn listing_goes_on_where_it_stopped() {
    let mut table = Table::new(TableLimits { records_per_writer: 1000, ..limits() });
    for slot in 0..600 {
        assert!(is_stored(&table.insert(at(u64::from(slot) / 32), record(1, slot, 1, 50, b"x"))));
    }
    let all = PartSet::of_differences(&[[0; 16]; PARTS], &[[1; 16]; PARTS]);
    let mut seen = Vec::new();
    while let Some(last) = {
        let page = table.list(&all, seen.last().copied(), None, 7);
        seen.extend(page.iter().map(|line| line.id));
        page.last().copied()
    } {
        assert_eq!(seen.last(), Some(&last.id));
    }
    assert_eq!(seen.len(), table.len());
    let middle = table.list(&all, Some(seen[9]), Some(seen[19]), usize::MAX);
    assert_eq!(middle.iter().map(|line| line.id).collect::<Vec<_>>(), seen[10..=19]);
    assert!(table.list(&PartSet::default(), None, None, 10).is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Insert { writer: u8, slot: u32, sequence: u64, life: u64, body: u8 },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..4, 0u32..3, 0u64..8, 0u64..110, 0u8..3)
            .prop_map(|(writer, slot, sequence, life, body)| Step::Insert { writer, slot, sequence, life, body }),
        2 => (1u64..60).prop_map(Step::Wait),
    ]
}

fn made(step: &Step, now: u64) -> Option<Arc<Record>> {
    const BODIES: [&[u8]; 3] = [b"a", b"bb", b"ccc"];
    match *step {
        Step::Insert { writer, slot, sequence, life, body } => {
            Some(record(writer, slot, sequence, now + life, BODIES[usize::from(body)]))
        }
        Step::Wait(_) => None,
    }
}

/// What one node knows after any history, said as plainly as possible.
#[derive(Default)]
struct Model {
    newest: BTreeMap<RecordId, Arc<Record>>,
    ended_at: BTreeMap<RecordId, u64>,
}

impl Model {
    fn insert(&mut self, now: u64, record: &Arc<Record>) {
        let ends = record.expires_at.unix() - START;
        if ends <= now || ends > now + 100 {
            return;
        }
        let wins = self.newest.get(&record.id).is_none_or(|known| {
            record.sequence > known.sequence
                || (record.sequence == known.sequence
                    && !self.ended_at.contains_key(&record.id)
                    && record.digest() > known.digest())
        });
        if wins {
            self.newest.insert(record.id, record.clone());
            self.ended_at.remove(&record.id);
        }
    }

    fn purge(&mut self, now: u64) {
        for (id, record) in &self.newest {
            let ends = record.expires_at.unix() - START;
            if ends <= now {
                self.ended_at.entry(*id).or_insert(ends);
            }
        }
        let forgotten: Vec<_> =
            self.ended_at.iter().filter(|(_, ended)| **ended + 100 <= now).map(|(id, _)| *id).collect();
        for id in forgotten {
            self.newest.remove(&id);
            self.ended_at.remove(&id);
        }
    }

    fn live(&self) -> Vec<Arc<Record>> {
        self.newest
            .iter()
            .filter(|(id, _)| !self.ended_at.contains_key(*id))
            .map(|(_, record)| record.clone())
            .collect()
    }
}

fn roomy() -> TableLimits {
    TableLimits { records_per_writer: 100, update_burst: 10_000, ..limits() }
}

proptest! {
    #[test]
    fn the_table_agrees_with_the_model(steps in prop::collection::vec(step(), 0..120)) {
        let (mut table, mut model, mut now) = (Table::new(roomy()), Model::default(), 0);
        for step in &steps {
            if let Step::Wait(seconds) = step { now += seconds; }
            table.purge(at(now));
            model.purge(now);
            if let Some(record) = made(step, now) {
                table.insert(at(now), record.clone());
                model.insert(now, &record);
            }
            let mut live: Vec<_> = table.iter().cloned().collect();
            live.sort_by_key(|record| record.id);
            prop_assert_eq!(live, model.live());
            prop_assert_eq!(table.len(), model.live().len());
        }
    }

    #[test]
    fn tables_that_exchange_what_they_want_agree(
        left in prop::collection::vec(step(), 0..60),
        right in prop::collection::vec(step(), 0..60),
    ) {
        let mut tables = [Table::new(roomy()), Table::new(roomy())];
        for (table, steps) in tables.iter_mut().zip([&left, &right]) {
            for record in steps.iter().filter_map(|step| made(step, 0)) {
                table.insert(at(0), record);
            }
        }
        let [left, right] = &mut tables;
        pull(left, right);
        pull(right, left);
        prop_assert_eq!(left.digests(), right.digests());
    }
}

/// Anti-entropy, in memory: `to` takes from `from` what it lacks.
fn pull(to: &mut Table, from: &mut Table) {
    let differing = PartSet::of_differences(&to.digests(), &from.digests());
    for summary in from.list(&differing, None, None, usize::MAX) {
        if to.wants(&summary) {
            to.insert(at(0), from.get(summary.id).expect("listed"));
        }
    }
}
