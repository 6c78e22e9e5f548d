//! A sandbox that stays after its job ended by itself, for its buyer to go on in.

use std::io::{self, Write as _};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tradewind_proto::units::Seconds;

use super::session::Children;

/// How often ended processes are reaped meanwhile.
const REAP: Duration = Duration::from_millis(100);

/// Whether the job was asked to end.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<(Mutex<bool>, Condvar)>);

impl Told {
    /// It is now.
    pub(super) fn set(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether it is, after a wait for it.
    fn within(&self, wait: Duration) -> bool {
        let told = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(told, wait, |told| !*told);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// What the log says when a job ended that is kept.
pub(crate) fn notice(code: &str, keep: Seconds) -> String {
    format!("tradewind: the job ended, exit {code}; its sandbox stays for {keep} unless it is stopped")
}

/// Waits until the time is over or the job is asked to end.
pub(super) fn keep(keep: Seconds, code: u8, told: &Told, children: &Children) {
    if told.within(Duration::ZERO) {
        return;
    }
    // Whoever reads the log may be gone.
    let _ = writeln!(io::stderr(), "{}", notice(&code.to_string(), keep));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(keep.get()) && !told.within(REAP) {
        children.reap();
    }
}
