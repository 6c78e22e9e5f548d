//! How long a lease can last by what schedules above the runtimes, followed while the agent runs: it goes into the next offer.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tradewind_proto::units::Seconds;

use super::Inner;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(30);

/// Follows until the agent shuts down.
pub(super) async fn follow(inner: Arc<Inner>) {
    loop {
        inner.look_ahead().await;
        tokio::select! {
            biased;
            () = inner.cancel.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

impl Inner {
    /// Asks every runtime. While one does not answer, what was last known holds.
    async fn look_ahead(&self) {
        let mut answers = Vec::new();
        for runtime in self.parts.runtimes.values() {
            match runtime.longest().await {
                Ok(longest) => answers.push(longest),
                Err(error) => {
                    tracing::debug!(runtime = runtime.name(), %error, "how long a lease can last is not known");
                    return;
                }
            }
        }
        let longest = loosest(&answers);
        let before = {
            let mut now = self.longest.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *now, longest)
        };
        if Kind::of(before) == Kind::of(longest) {
            return;
        }
        match longest {
            Some(longest) => {
                tracing::info!(seconds = longest.get(), "the cluster bounds how long a lease can last")
            }
            None => tracing::info!("nothing bounds how long a lease can last any more"),
        }
        self.republish.notify_one();
    }
}

/// What of a bound is news: the time until a reservation shrinks with every look.
#[derive(PartialEq, Eq)]
enum Kind {
    Unbounded,
    Bounded,
    Closed,
}

impl Kind {
    fn of(longest: Option<Seconds>) -> Self {
        match longest {
            None => Self::Unbounded,
            Some(Seconds::ZERO) => Self::Closed,
            Some(_) => Self::Bounded,
        }
    }
}

/// The offer is for all runtimes together: the one that lets a lease last longest bounds it.
fn loosest(answers: &[Option<Seconds>]) -> Option<Seconds> {
    answers.iter().copied().collect::<Option<Vec<Seconds>>>()?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_runtime_without_a_bound_frees_the_offer() {
        let (hour, day) = (Some(Seconds::new(3600)), Some(Seconds::new(86_400)));
        assert_eq!((loosest(&[hour, day]), loosest(&[hour, None]), loosest(&[])), (day, None, None));
    }
}
