//! What every part of a run shares: seed, time, trace, and the weather.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tradewind_proto::units::{Clock, Timestamp};

use crate::network::Post;
use crate::seed::Seed;

/// When every run begins: the year 2100, so that nothing that glances at the machine's own clock can ever be ahead.
const EPOCH: u64 = 4_102_444_800;

/// The faults of the moment. Numbers are chances in a thousand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weather {
    /// Nobody's JSON-RPC endpoint accepts connections.
    pub rpc_down: bool,
    /// Requests to the chain that hang.
    pub rpc_hangs: u64,
    /// Requests to the chain that are answered with nonsense.
    pub rpc_nonsense: u64,
    /// Transactions that are accepted and never seen again.
    pub rpc_swallows: u64,
    /// Transactions that are taken and reported as failed.
    pub rpc_denies: u64,
    /// Messages that are lost, either way.
    pub loss: u64,
    /// Requests that arrive twice.
    pub duplicates: u64,
    /// Answers that arrive as other bytes.
    pub garbled: u64,
    /// Requests that a stranger repeats, as they were or with a byte changed.
    pub replays: u64,
    /// The longest that a message travels; zero for a good line.
    pub lag: Duration,
}

/// One run's world.
pub struct World {
    /// Its randomness.
    pub seed: Seed,
    started: Instant,
    is_detailed: bool,
    trace: Mutex<Vec<String>>,
    weather: Mutex<Weather>,
    cuts: Mutex<BTreeSet<(String, String)>>,
    pub(crate) post: Mutex<Post>,
    broken: Mutex<Vec<String>>,
    pub(crate) counts: Mutex<BTreeMap<String, u64>>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            seed: Seed::new(seed),
            started: Instant::now(),
            is_detailed: std::env::var_os("TRADEWIND_SIM_TRACE").is_some(),
            trace: Mutex::default(),
            weather: Mutex::default(),
            cuts: Mutex::default(),
            post: Mutex::default(),
            broken: Mutex::default(),
            counts: Mutex::default(),
        })
    }

    /// The time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_unix(EPOCH + self.elapsed().as_secs())
    }

    /// The time of day, for the parties.
    #[must_use]
    pub fn clock(self: &Arc<Self>) -> Clock {
        let world = self.clone();
        Arc::new(move || world.now())
    }

    /// Writes down what happened.
    pub fn note(&self, who: &str, what: &str) {
        let at = self.elapsed().as_micros();
        lock(&self.trace).push(format!("{at:>12} {who:<10} {what}"));
    }

    /// Writes down what only somebody wants to know who looks for the reason of a failure.
    pub(crate) fn detail(&self, who: &str, what: impl FnOnce() -> String) {
        if self.is_detailed {
            self.note(who, &what());
        }
    }

    /// Counts something.
    pub fn count(&self, what: &str) {
        *lock(&self.counts).entry(what.to_owned()).or_default() += 1;
    }

    /// How often something was counted.
    #[must_use]
    pub fn counted(&self, what: &str) -> u64 {
        lock(&self.counts).get(what).copied().unwrap_or_default()
    }

    /// A rule was broken; the run goes on and fails at its end.
    pub fn broke(&self, rule: String) {
        self.note("!", &rule);
        lock(&self.broken).push(rule);
    }

    /// The rules that were broken.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        lock(&self.broken).clone()
    }

    /// The faults of the moment.
    #[must_use]
    pub fn weather(&self) -> Weather {
        lock(&self.weather).clone()
    }

    /// Changes the weather.
    pub fn turn(&self, weather: Weather) {
        self.note("weather", &format!("{weather:?}"));
        *lock(&self.weather) = weather;
    }

    /// Cuts or mends the line between two nodes, both ways.
    pub fn cut(&self, one: &str, other: &str, cut: bool) {
        self.note("line", &format!("{one} - {other} {}", if cut { "cut" } else { "mended" }));
        let mut cuts = lock(&self.cuts);
        for pair in [(one, other), (other, one)] {
            let pair = (pair.0.to_owned(), pair.1.to_owned());
            if cut {
                cuts.insert(pair)
            } else {
                cuts.remove(&pair)
            };
        }
    }

    pub(crate) fn is_cut(&self, from: &str, to: &str) -> bool {
        lock(&self.cuts).contains(&(from.to_owned(), to.to_owned()))
    }

    /// The trace's digest: the same seed gives the same.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for line in lock(&self.trace).iter() {
            hasher.update(line.as_bytes()).update(b"\n");
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The trace as text, oldest first.
    #[must_use]
    pub fn trace(&self) -> String {
        lock(&self.trace).iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("seed", &self.seed.value()).finish_non_exhaustive()
    }
}
