//! The device's side: products of every round, checked by the device itself, then signed once.

use alloy_primitives::B256;
use tradewind_proto::challenge::{Challenge, OpeningError, RowOpening, Size, next_seed};
use tradewind_proto::evidence::{ProductRoots, RootsError, Sworn};
use tradewind_proto::signature::SigningKey;

use crate::threads::Threads;
use crate::verifier::{Projection, Secret};

/// What multiplies. Nothing is uploaded: a seed is enough, and the product stays where it was computed, except for the rows that
/// are opened.
pub trait Engine {
    /// What can go wrong on the device.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Rows and columns of the matrices.
    fn size(&self) -> Size;

    /// Computes the product of `round` from its seed, keeps it, and returns the root of its tree. Round zero forgets what was kept.
    ///
    /// # Errors
    /// The device's own.
    fn multiply(&mut self, round: usize, seed: B256) -> Result<B256, Self::Error>;

    /// Opens a row of a product that is kept.
    ///
    /// # Errors
    /// The device's own; also for a product or a row that is not there.
    fn open(&mut self, round: usize, row: u32) -> Result<RowOpening, Self::Error>;
}

/// How a device checks its own products before it signs.
#[derive(Debug, Clone)]
pub struct SelfCheck {
    /// Picks the rows.
    pub secret: Secret,
    /// Rows of each round; the whole product with as many as it has.
    pub rows: usize,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError<E: std::error::Error + 'static> {
    /// No round, or too many.
    #[error("nothing can be signed")]
    Rounds(#[from] RootsError),
    /// The device failed.
    #[error("the device failed in round {round}")]
    Engine {
        /// In which round.
        round: usize,
        /// How.
        #[source]
        error: E,
    },
    /// The device does not open what it committed to.
    #[error("the device opens row {row} of round {round} wrongly")]
    Opening {
        /// In which round.
        round: usize,
        /// Which row.
        row: u32,
        /// How.
        #[source]
        error: OpeningError,
    },
    /// A bit flipped: signing this would cost stake.
    #[error(
        "row {row} of round {round} is wrong; hint: the device computes wrongly, check its memory and clocks"
    )]
    Flipped {
        /// In which round.
        round: usize,
        /// Which row.
        row: u32,
    },
}

/// Answers a challenge of so many rounds. Nothing is signed that did not pass the device's own check.
///
/// # Errors
/// The [`AnswerError`] that says why nothing was signed.
pub fn answer<E: Engine>(
    engine: &mut E,
    challenge: &Challenge,
    rounds: usize,
    check: &SelfCheck,
    key: &SigningKey,
) -> Result<Sworn<ProductRoots>, AnswerError<E::Error>> {
    let size = engine.size();
    let list = |roots| ProductRoots::new(challenge.device, challenge.epoch, size, roots);
    list(vec![B256::ZERO; rounds])?;
    let mut roots = Vec::with_capacity(rounds);
    let mut seed = challenge.seed();
    for round in 0..rounds {
        let root = engine.multiply(round, seed).map_err(|error| AnswerError::Engine { round, error })?;
        check_round(engine, (round, seed, root), check)?;
        roots.push(root);
        seed = next_seed(seed, root);
    }
    Ok(Sworn::sign(list(roots)?, &challenge.court, key))
}

fn check_round<E: Engine>(
    engine: &mut E,
    (round, seed, root): (usize, B256, B256),
    check: &SelfCheck,
) -> Result<(), AnswerError<E::Error>> {
    if check.rows == 0 {
        return Ok(());
    }
    let size = engine.size();
    let projection = Projection::new(seed, root, size, &check.secret, Threads::available());
    for row in check.secret.pick("rows", root, size.get(), check.rows) {
        let opening = engine.open(round, row).map_err(|error| AnswerError::Engine { round, error })?;
        opening.check(row, size, root).map_err(|error| AnswerError::Opening { round, row, error })?;
        if !projection.holds(&opening) {
            return Err(AnswerError::Flipped { round, row });
        }
    }
    Ok(())
}
