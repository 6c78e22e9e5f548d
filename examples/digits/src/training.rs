//! Stochastic gradient descent with momentum, on images that are moved by up to a pixel each time.
//!
//! The order and the moves of the images in an epoch come from the seed and the epoch's number alone, so a trainer that
//! was resumed goes on exactly as the one that was killed would have.

use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::dataset::Digit;
use crate::network::{Mean, ModelError, Network};

const BATCH: usize = 32;
const RATE: f32 = 0.05;
const MOMENTUM: f32 = 0.9;
const WEIGHT_DECAY: f32 = 1e-4;
/// The rate halves in so many epochs, then falls as one over their number.
const HALVING_EPOCHS: f32 = 20.0;

/// What a run depends on, beside its length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Decides the split, the first weights and the order of the images.
    pub(crate) seed: u64,
    /// Width of the hidden layer.
    pub(crate) hidden: u16,
    /// BLAKE3 of the data.
    pub(crate) data: [u8; 32],
}

/// A network on its way.
#[derive(Debug, Clone)]
pub(crate) struct Trainer {
    settings: Settings,
    network: Network,
    velocity: Vec<f32>,
    epoch: u32,
}

/// Why a checkpoint cannot be gone on from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResumeError {
    #[error("its run had another seed, width or data; use those, or name another directory")]
    OtherRun,
    #[error("its weights do not fit the network")]
    Weights(#[source] ModelError),
}

impl Trainer {
    /// A run at its start.
    pub(crate) fn new(settings: Settings) -> Self {
        let network = Network::new(settings.hidden, settings.seed);
        let velocity = vec![0.0; network.parameters().len()];
        Self { settings, network, velocity, epoch: 0 }
    }

    /// Goes on where `checkpoint` was taken.
    pub(crate) fn resume(checkpoint: Checkpoint, settings: Settings) -> Result<Self, ResumeError> {
        if checkpoint.settings != settings {
            return Err(ResumeError::OtherRun);
        }
        let network =
            Network::from_parameters(settings.hidden, checkpoint.parameters).map_err(ResumeError::Weights)?;
        let velocity = Network::from_parameters(settings.hidden, checkpoint.velocity)
            .map_err(ResumeError::Weights)?
            .parameters()
            .to_vec();
        Ok(Self { settings, network, velocity, epoch: checkpoint.epoch })
    }

    /// What a later process needs to go on from here.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            settings: self.settings.clone(),
            epoch: self.epoch,
            parameters: self.network.parameters().to_vec(),
            velocity: self.velocity.clone(),
        }
    }

    /// Epochs done.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The network as it stands.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// Shows the network every digit once; returns the mean loss met on the way.
    pub(crate) fn run_epoch(&mut self, digits: &[Digit]) -> f32 {
        let mut order: Vec<&Digit> = digits.iter().collect();
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.seed);
        rng.set_stream(u64::from(self.epoch) + 1);
        order.shuffle(&mut rng);
        let rate = RATE / (1.0 + epochs_as_float(self.epoch) / HALVING_EPOCHS);
        let mut activations = self.network.activations();
        let mut gradient = vec![0.0; self.velocity.len()];
        let mut mean = Mean::default();
        for batch in order.chunks(BATCH) {
            gradient.fill(0.0);
            for digit in batch {
                let moved = digit.moved(rng.random_range(-1..=1), rng.random_range(-1..=1));
                mean.add(self.network.learn(&moved, &mut activations, &mut gradient));
            }
            let share = 1.0 / f32::from(u16::try_from(batch.len()).unwrap_or(u16::MAX));
            self.step(&gradient, share, rate);
        }
        self.epoch += 1;
        mean.value()
    }

    fn step(&mut self, gradient: &[f32], share: f32, rate: f32) {
        let parameters = self.network.parameters_mut().iter_mut();
        for ((parameter, velocity), gradient) in parameters.zip(&mut self.velocity).zip(gradient) {
            *velocity = MOMENTUM * *velocity + share * gradient + WEIGHT_DECAY * *parameter;
            *parameter -= rate * *velocity;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "the command line allows 100,000 epochs at most")]
fn epochs_as_float(epoch: u32) -> f32 {
    epoch as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Dataset;

    fn settings() -> Settings {
        Settings { seed: 7, hidden: 32, data: Dataset::embedded().unwrap().digest() }
    }

    #[test]
    fn a_resumed_run_is_the_run_that_was_not_interrupted() {
        let train = Dataset::embedded().unwrap().split(7).train;
        let mut whole = Trainer::new(settings());
        let mut first = Trainer::new(settings());
        for _ in 0..4 {
            whole.run_epoch(&train);
        }
        for _ in 0..2 {
            first.run_epoch(&train);
        }
        let mut second = Trainer::resume(first.checkpoint(), settings()).unwrap();
        for _ in 0..2 {
            second.run_epoch(&train);
        }
        assert_eq!(second.network(), whole.network());
        assert_eq!(second.epoch(), 4);
    }

    #[test]
    fn a_checkpoint_of_another_run_is_refused() {
        let checkpoint = Trainer::new(settings()).checkpoint();
        let other = Settings { seed: 8, ..settings() };
        assert_eq!(Trainer::resume(checkpoint, other).unwrap_err(), ResumeError::OtherRun);
    }

    #[test]
    fn a_checkpoint_with_too_few_weights_is_refused() {
        let mut checkpoint = Trainer::new(settings()).checkpoint();
        checkpoint.velocity.pop();
        assert!(matches!(Trainer::resume(checkpoint, settings()), Err(ResumeError::Weights(_))));
    }

    #[test]
    fn training_recognises_digits_it_never_saw() {
        let split = Dataset::embedded().unwrap().split(7);
        let mut trainer = Trainer::new(settings());
        let before = trainer.network().score(&split.held_out).accuracy();
        for _ in 0..20 {
            trainer.run_epoch(&split.train);
        }
        let after = trainer.network().score(&split.held_out).accuracy();
        assert!(before < 0.4, "an untrained network scored {before}");
        assert!(after >= 0.85, "a trained network scored {after}");
    }
}
