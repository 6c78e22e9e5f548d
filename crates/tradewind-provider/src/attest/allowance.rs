//! How often one watcher may ask.

use std::collections::BTreeMap;

use tokio::time::Instant;
use tradewind_mesh::rate::Bucket;
use tradewind_proto::ids::MeshKey;
use tradewind_proto::probe::Question;

/// Askers that are remembered; the one that was silent longest makes room. Keys cost nothing, so that a full table must not keep
/// an honest watcher out: what a stranger gains by a new key is bounded by the mesh's handshakes.
const ASKERS: usize = 1_024;
/// Pings at once, and a second: a node may hold several seats.
const PINGS: (u32, u32) = (256, 64);
/// Lists and rows at once, and a second: 16 MiB a second with the largest rows.
const OPENINGS: (u32, u32) = (1_024, 256);

/// What each asker has left.
#[derive(Debug)]
pub(super) struct Allowances {
    since: Instant,
    askers: BTreeMap<MeshKey, Allowance>,
}

#[derive(Debug)]
struct Allowance {
    seen: u64,
    pings: Bucket,
    openings: Bucket,
}

impl Allowances {
    pub(super) const fn new(since: Instant) -> Self {
        Self { since, askers: BTreeMap::new() }
    }

    /// Takes one question from the asker's allowance, if it has one left. Openings never use up pings.
    pub(super) fn take(&mut self, asker: MeshKey, question: &Question, now: Instant) -> bool {
        let now = u64::try_from(now.duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        if self.askers.len() >= ASKERS && !self.askers.contains_key(&asker) {
            let silent = self.askers.iter().min_by_key(|(_, allowance)| allowance.seen);
            if let Some(key) = silent.map(|(key, _)| *key) {
                self.askers.remove(&key);
            }
        }
        let allowance = self.askers.entry(asker).or_insert_with(|| Allowance {
            seen: now,
            pings: Bucket::new(PINGS.0, PINGS.1),
            openings: Bucket::new(OPENINGS.0, OPENINGS.1),
        });
        allowance.seen = now;
        match question {
            Question::Ping { .. } => allowance.pings.take(now),
            Question::Roots { .. } | Question::Row { .. } | Question::Walk(_) | Question::Stretch { .. } => {
                allowance.openings.take(now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tradewind_proto::evidence::{Epoch, Seat};
    use tradewind_proto::ids::DeviceId;
    use tradewind_proto::probe::Ask;

    use super::*;

    fn asker(number: u64) -> MeshKey {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        MeshKey::from_bytes(bytes)
    }

    fn ping() -> Question {
        let ask = Ask { nonce: [1; 32].into(), watcher: Seat::new(1) };
        Question::Ping { device: DeviceId::NONE, ask }
    }

    fn row() -> Question {
        Question::Row { device: DeviceId::NONE, epoch: Epoch::new(1), round: 0, row: 0 }
    }

    #[test]
    fn an_asker_that_asks_too_often_costs_neither_others_nor_its_own_pings() {
        let start = Instant::now();
        let mut allowances = Allowances::new(start);
        let granted = (0..5_000).filter(|_| allowances.take(asker(1), &row(), start)).count();
        assert_eq!(granted, OPENINGS.0 as usize);
        assert!(allowances.take(asker(1), &ping(), start));
        assert!(allowances.take(asker(2), &row(), start));
        let later = start + Duration::from_secs(1);
        let granted = (0..5_000).filter(|_| allowances.take(asker(1), &row(), later)).count();
        assert_eq!(granted, OPENINGS.1 as usize);
    }

    #[test]
    fn a_crowd_of_new_keys_neither_grows_the_table_nor_keeps_a_watcher_out() {
        let start = Instant::now();
        let mut allowances = Allowances::new(start);
        for number in 0..3 * ASKERS as u64 {
            let now = start + Duration::from_millis(number);
            assert!(allowances.take(asker(number), &ping(), now));
            assert!(allowances.take(asker(u64::MAX), &ping(), now + Duration::from_millis(16 * number)));
        }
        assert_eq!(allowances.askers.len(), ASKERS);
        assert!(allowances.askers.contains_key(&asker(u64::MAX)), "it asked all the time");
    }
}
