use alloy_primitives::keccak256;
use proptest::prelude::*;

use super::*;
use crate::evidence::Finding;
use crate::ids::CaseId;

const WINDOW: u64 = 2_000;

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes([byte; 32]).unwrap()
}

fn watch() -> Watch {
    Watch {
        court: Court { chain_id: 1, contract: Address::repeat_byte(9) },
        device: DeviceId::new(B256::repeat_byte(0xd0)),
        key: key(7).address(),
        watcher: Seat::new(3),
    }
}

fn prober() -> Prober {
    Prober::new(watch(), WINDOW, NonZeroUsize::new(8).unwrap())
}

fn nonce(number: u64) -> B256 {
    keccak256(number.to_be_bytes())
}

fn speaking(mark: u64) -> Pulse {
    let mut pulse = Pulse::resume(mark);
    pulse.stored(pulse.wants().unwrap());
    pulse
}

fn reply(pulse: &mut Pulse, ask: Ask) -> Reply {
    pulse.reply(ask, 5, watch().device, &watch().court, &key(7)).unwrap()
}

fn case() -> CaseId {
    CaseId::new(B256::repeat_byte(1))
}

#[test]
fn an_answer_in_time_is_kept_with_its_proof() {
    let (mut prober, mut pulse) = (prober(), speaking(0));
    let ask = prober.ask(100, nonce(1)).unwrap();
    assert_eq!((prober.ask(101, nonce(2)), prober.deadline()), (Err(StillAsked), Some(2_100)));
    let Heard { entry, equivocation } = prober.hear(150, &reply(&mut pulse, ask)).unwrap();
    assert_eq!((equivocation, entry.asked_at), (None, 100));
    assert_eq!(entry.statement(&watch()).unwrap().verify(&watch().court, watch().key), Ok(()));
    assert_eq!(prober.expire(10_000), None);
}

#[test]
fn a_reply_that_is_late_foreign_or_not_asked_for_changes_nothing() {
    let (mut prober, mut pulse) = (prober(), speaking(0));
    let stray = reply(&mut pulse, Ask { nonce: nonce(1), watcher: watch().watcher });
    assert_eq!(prober.hear(100, &stray), Err(ReplyError::NotAsked));
    let ask = prober.ask(100, nonce(1)).unwrap();
    let good = reply(&mut pulse, ask);
    let foreign = [
        reply(&mut pulse, Ask { nonce: nonce(2), ..ask }),
        reply(&mut pulse, Ask { watcher: Seat::new(4), ..ask }),
        Reply { sequence: good.sequence + 1, ..good },
        Reply { unix_millis: 6, ..good },
        speaking(9).reply(ask, 5, watch().device, &watch().court, &key(8)).unwrap(),
        speaking(9).reply(ask, 5, DeviceId::NONE, &watch().court, &key(7)).unwrap(),
        speaking(9).reply(ask, 5, watch().device, &Court { chain_id: 2, ..watch().court }, &key(7)).unwrap(),
    ];
    for reply in foreign {
        assert!(matches!(prober.hear(101, &reply), Err(ReplyError::Signature(_))));
    }
    assert_eq!(prober.hear(2_101, &good), Err(ReplyError::Late { late: 1 }));
    assert!(prober.hear(2_100, &good).is_ok(), "the question was still open");
}

#[test]
fn silence_is_an_entry_without_an_answer() {
    let mut prober = prober();
    prober.ask(100, nonce(1)).unwrap();
    assert_eq!(prober.expire(2_100), None);
    let entry = prober.expire(2_101).unwrap();
    assert_eq!((entry.answer, entry.statement(&watch())), (None, None));
    assert!(prober.ask(2_102, nonce(2)).is_ok());
}

#[test]
fn a_number_used_twice_is_equivocation() {
    let mut prober = prober();
    let ask = prober.ask(100, nonce(1)).unwrap();
    prober.hear(101, &reply(&mut speaking(0), ask)).unwrap();
    let ask = prober.ask(200, nonce(2)).unwrap();
    let heard = prober.hear(201, &reply(&mut speaking(0), ask)).unwrap();
    let [first, second] = heard.equivocation.as_ref().unwrap().bodies();
    let proved = Equivocation::prove(first.clone(), second.clone(), &watch().court, watch().key);
    assert_eq!(proved.ok(), heard.equivocation);
}

#[test]
fn a_transcript_finds_what_its_entries_show() {
    let silence = |number| Entry { asked_at: number, nonce: nonce(number), answer: None };
    let mut transcript = Transcript::new(case());
    assert_eq!(transcript.finding(&watch(), 3), Finding::Unknown);
    for number in 0..3 {
        transcript.push(silence(number)).unwrap();
    }
    assert_eq!(
        (transcript.finding(&watch(), 4), transcript.finding(&watch(), 3)),
        (Finding::Unknown, Finding::Guilty)
    );
    let mut prober = prober();
    let ask = prober.ask(9, nonce(9)).unwrap();
    let Heard { entry, .. } = prober.hear(10, &reply(&mut speaking(0), ask)).unwrap();
    let invented = Entry { nonce: nonce(10), ..entry };
    transcript.push(invented).unwrap();
    assert_eq!(
        transcript.finding(&watch(), 3),
        Finding::Guilty,
        "a signature for another nonce is no answer"
    );
    transcript.push(entry).unwrap();
    assert_eq!(transcript.finding(&watch(), 3), Finding::Clear);
}

fn written(count: u64) -> (Transcript, Vec<u8>, Vec<usize>) {
    let (mut prober, mut pulse) = (prober(), speaking(0));
    let (mut transcript, mut bytes, mut ends) = (Transcript::new(case()), Vec::new(), vec![0]);
    for number in 0..count {
        let ask = prober.ask(number * 10_000, nonce(number)).unwrap();
        let entry = if number % 3 == 1 {
            prober.expire(number * 10_000 + WINDOW + 1).unwrap()
        } else {
            prober.hear(number * 10_000 + 7, &reply(&mut pulse, ask)).unwrap().entry
        };
        bytes.extend(transcript.push(entry).unwrap());
        ends.push(bytes.len());
    }
    (transcript, bytes, ends)
}

#[test]
fn a_transcript_is_read_as_it_was_written_wherever_the_writing_was_cut_off() {
    let (transcript, bytes, ends) = written(5);
    assert_eq!(Transcript::read(case(), &bytes), Ok((transcript, bytes.len())));
    for cut in 0..bytes.len() {
        let (read, whole) = Transcript::read(case(), &bytes[..cut]).unwrap();
        let entries = ends.iter().filter(|end| **end <= cut).count() - 1;
        assert_eq!((read.entries().len(), whole), (entries, ends[entries]));
    }
}

#[test]
fn a_transcript_that_was_altered_or_is_another_cases_is_refused() {
    let (_, bytes, _) = written(4);
    let other = CaseId::new(B256::repeat_byte(2));
    assert_eq!(Transcript::read(other, &bytes), Err(TranscriptError::Altered(0)));
    // A length that grew may look like the end of a file that was cut off; what is read is then a part, never something else.
    let (whole, _) = Transcript::read(case(), &bytes).unwrap();
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 0x10;
        if let Ok((read, _)) = Transcript::read(case(), &altered) {
            assert!(read.entries().len() < whole.entries().len(), "{at}");
            assert_eq!(read.entries(), &whole.entries()[..read.entries().len()]);
        }
    }
}

#[test]
fn a_transcript_keeps_to_its_limit() {
    let mut transcript = Transcript::new(case());
    for number in 0..u64::try_from(MAX_ENTRIES).unwrap() {
        transcript.push(Entry { asked_at: number, nonce: B256::ZERO, answer: None }).unwrap();
    }
    let one_more = Entry { asked_at: 0, nonce: B256::ZERO, answer: None };
    assert_eq!(transcript.push(one_more), Err(TranscriptError::Full));
}

proptest! {
    /// A device is killed at any point: before its mark is stored, after, and between statements.
    #[test]
    fn a_device_that_is_killed_never_uses_a_number_twice(steps in proptest::collection::vec(0u8..4, 1..60)) {
        let (mut disk, mut pulse) = (0, Pulse::resume(0));
        let mut used = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                0 => pulse = Pulse::resume(disk),
                1 => if let Some(mark) = pulse.wants() {
                    disk = mark;
                    pulse.stored(mark);
                },
                // The mark reaches the disk, and the process dies before it hears of it.
                2 => if let Some(mark) = pulse.wants() {
                    disk = mark;
                    pulse = Pulse::resume(disk);
                },
                _ => {
                    let ask = Ask { nonce: nonce(used.len() as u64), watcher: watch().watcher };
                    let said = pulse.reply(ask, 5, watch().device, &watch().court, &key(7));
                    if let Some(reply) = said {
                        prop_assert!(reply.sequence < disk);
                        prop_assert!(used.insert(reply.sequence));
                    }
                }
            }
        }
    }
}
