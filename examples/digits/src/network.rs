//! A network of one hidden layer: 64 pixels → ReLU units → softmax over 10 digits.
//!
//! Sums run in a fixed order and `exp` and `ln` come from `libm`, so the same weights give the same bits
//! on every machine.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::dataset::{CLASSES, Digit, PIXELS};

const MAGIC: &[u8; 8] = b"DIGITS01";

/// The weights, in one block: pixel → hidden, hidden biases, hidden → class, class biases.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Network {
    hidden: u16,
    parameters: Vec<f32>,
}

/// What one image did to the network: kept between images to spare allocations.
#[derive(Debug)]
pub(crate) struct Activations {
    hidden: Vec<f32>,
    classes: [f32; CLASSES],
    hidden_error: Vec<f32>,
}

/// How many of the digits were recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Score {
    pub(crate) correct: u32,
    pub(crate) total: u32,
}

/// Why bytes are not a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ModelError {
    #[error("it does not begin with a digits model's mark")]
    Magic,
    #[error(
        "a network with {hidden} hidden units has {expected} parameters, the file holds {found} bytes of them"
    )]
    Length { hidden: u16, expected: usize, found: usize },
    #[error("parameter {0} is not a finite number")]
    NotFinite(usize),
}

impl Score {
    /// The share recognised; 0 of nothing.
    pub(crate) fn accuracy(self) -> f64 {
        if self.total == 0 { 0.0 } else { f64::from(self.correct) / f64::from(self.total) }
    }
}

impl Network {
    /// Weights drawn by the seed, as wide as keeps the variance from layer to layer (He).
    pub(crate) fn new(hidden: u16, seed: u64) -> Self {
        let units = usize::from(hidden);
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x6e65_7477_6f72_6b00);
        let mut parameters = Vec::with_capacity(parameter_count(hidden));
        let mut draw = |count: usize, fan_in: f32, parameters: &mut Vec<f32>| {
            let reach = (6.0 / fan_in).sqrt();
            parameters.extend((0..count).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * reach));
        };
        draw(PIXELS * units, 64.0, &mut parameters);
        parameters.extend(std::iter::repeat_n(0.0, units));
        draw(units * CLASSES, f32::from(hidden), &mut parameters);
        parameters.extend([0.0; CLASSES]);
        Self { hidden, parameters }
    }

    /// Takes weights from elsewhere if there are as many as the width needs and each is finite.
    pub(crate) fn from_parameters(hidden: u16, parameters: Vec<f32>) -> Result<Self, ModelError> {
        let expected = parameter_count(hidden);
        if parameters.len() != expected {
            return Err(ModelError::Length { hidden, expected, found: parameters.len() * 4 });
        }
        match parameters.iter().position(|parameter| !parameter.is_finite()) {
            Some(at) => Err(ModelError::NotFinite(at)),
            None => Ok(Self { hidden, parameters }),
        }
    }

    /// Every weight and bias.
    pub(crate) fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// Every weight and bias, to be changed by training.
    pub(crate) fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.parameters
    }

    /// The file `model.bin`: a mark, the width, the parameters; little-endian.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(u32::from(self.hidden).to_le_bytes());
        bytes.extend(self.parameters.iter().flat_map(|parameter| parameter.to_le_bytes()));
        bytes
    }

    /// Reads `model.bin`.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(ModelError::Magic)?;
        let (width, rest) = rest.split_first_chunk().ok_or(ModelError::Magic)?;
        let hidden = u16::try_from(u32::from_le_bytes(*width)).map_err(|_| ModelError::Magic)?;
        let (chunks, ragged) = rest.as_chunks::<4>();
        let expected = parameter_count(hidden);
        if !ragged.is_empty() || chunks.len() != expected {
            return Err(ModelError::Length { hidden, expected, found: rest.len() });
        }
        Self::from_parameters(hidden, chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect())
    }

    /// Room for one image's way through a network of this width.
    pub(crate) fn activations(&self) -> Activations {
        let units = usize::from(self.hidden);
        Activations { hidden: vec![0.0; units], classes: [0.0; CLASSES], hidden_error: vec![0.0; units] }
    }

    /// How many digits the network recognises.
    pub(crate) fn score(&self, digits: &[Digit]) -> Score {
        let mut activations = self.activations();
        let mut score = Score { correct: 0, total: 0 };
        for digit in digits {
            self.forward(digit, &mut activations);
            let best = (0..CLASSES).fold(0, |best, class| {
                if activations.classes[class] > activations.classes[best] { class } else { best }
            });
            score.correct += u32::from(best == usize::from(digit.label));
            score.total += 1;
        }
        score
    }

    /// Mean cross-entropy over the digits, in nats.
    pub(crate) fn loss(&self, digits: &[Digit]) -> f32 {
        let mut activations = self.activations();
        let mut mean = Mean::default();
        for digit in digits {
            self.forward(digit, &mut activations);
            mean.add(activations.surprise(digit.label));
        }
        mean.value()
    }

    /// Adds one digit's gradient to `gradient` (laid out as the parameters) and returns its loss.
    pub(crate) fn learn(&self, digit: &Digit, activations: &mut Activations, gradient: &mut [f32]) -> f32 {
        self.forward(digit, activations);
        let loss = activations.surprise(digit.label);
        activations.classes[usize::from(digit.label)] -= 1.0;
        let (_, _, weights_out, _) = layers(self.hidden, &self.parameters);
        let (grad_in, grad_hidden, grad_out, grad_classes) = layers_mut(self.hidden, gradient);
        let errors = &activations.classes;
        for (gradient, error) in grad_classes.iter_mut().zip(errors) {
            *gradient += error;
        }
        let (outgoing, _) = weights_out.as_chunks::<CLASSES>();
        let (grad_outgoing, _) = grad_out.as_chunks_mut::<CLASSES>();
        for (unit, level) in activations.hidden.iter().enumerate() {
            let mut error = 0.0;
            if *level > 0.0 {
                for class in 0..CLASSES {
                    error += errors[class] * outgoing[unit][class];
                    grad_outgoing[unit][class] += level * errors[class];
                }
            }
            activations.hidden_error[unit] = error;
            grad_hidden[unit] += error;
        }
        for (row, pixel) in grad_in.chunks_exact_mut(usize::from(self.hidden)).zip(&digit.pixels) {
            if *pixel != 0.0 {
                add_scaled(row, *pixel, &activations.hidden_error);
            }
        }
        loss
    }

    fn forward(&self, digit: &Digit, activations: &mut Activations) {
        let (weights_in, hidden_biases, weights_out, class_biases) = layers(self.hidden, &self.parameters);
        activations.hidden.copy_from_slice(hidden_biases);
        for (row, pixel) in weights_in.chunks_exact(usize::from(self.hidden)).zip(&digit.pixels) {
            if *pixel != 0.0 {
                add_scaled(&mut activations.hidden, *pixel, row);
            }
        }
        activations.classes.copy_from_slice(class_biases);
        for (level, row) in activations.hidden.iter_mut().zip(weights_out.chunks_exact(CLASSES)) {
            *level = level.max(0.0);
            add_scaled(&mut activations.classes, *level, row);
        }
        softmax(&mut activations.classes);
    }
}

impl Activations {
    fn surprise(&self, label: u8) -> f32 {
        -libm::logf(self.classes[usize::from(label)].max(f32::MIN_POSITIVE))
    }
}

/// A running mean, exact enough for counts that fit a `u16` times a `u16`.
#[derive(Debug, Default)]
pub(crate) struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    /// Takes one more value in.
    pub(crate) fn add(&mut self, value: f32) {
        self.sum += f64::from(value);
        self.count += 1;
    }

    /// The mean of what was added; 0 of nothing.
    pub(crate) fn value(&self) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "a loss is shown with four digits")]
        let mean = (self.sum / f64::from(self.count.max(1))) as f32;
        mean
    }
}

fn parameter_count(hidden: u16) -> usize {
    usize::from(hidden) * (PIXELS + 1 + CLASSES) + CLASSES
}

fn layers(hidden: u16, block: &[f32]) -> (&[f32], &[f32], &[f32], &[f32]) {
    let units = usize::from(hidden);
    let (weights_in, rest) = block.split_at(PIXELS * units);
    let (hidden_biases, rest) = rest.split_at(units);
    let (weights_out, class_biases) = rest.split_at(units * CLASSES);
    (weights_in, hidden_biases, weights_out, class_biases)
}

fn layers_mut(hidden: u16, block: &mut [f32]) -> (&mut [f32], &mut [f32], &mut [f32], &mut [f32]) {
    let units = usize::from(hidden);
    let (weights_in, rest) = block.split_at_mut(PIXELS * units);
    let (hidden_biases, rest) = rest.split_at_mut(units);
    let (weights_out, class_biases) = rest.split_at_mut(units * CLASSES);
    (weights_in, hidden_biases, weights_out, class_biases)
}

fn add_scaled(into: &mut [f32], scale: f32, row: &[f32]) {
    for (value, addend) in into.iter_mut().zip(row) {
        *value += scale * addend;
    }
}

fn softmax(classes: &mut [f32; CLASSES]) {
    let top = classes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for class in classes.iter_mut() {
        *class = libm::expf(*class - top);
        sum += *class;
    }
    for class in classes.iter_mut() {
        *class /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Dataset;

    #[test]
    fn a_gradient_agrees_with_the_slope_of_the_loss() {
        let digit = Dataset::embedded().unwrap().split(1).train[0].clone();
        let network = Network::new(8, 3);
        let mut gradient = vec![0.0; network.parameters.len()];
        network.learn(&digit, &mut network.activations(), &mut gradient);
        let loss_at = |at: usize, step: f32| {
            let mut moved = network.clone();
            moved.parameters[at] += step;
            moved.loss(std::slice::from_ref(&digit))
        };
        for at in (0..gradient.len()).step_by(7).chain([gradient.len() - 1]) {
            let slope = (loss_at(at, 1e-2) - loss_at(at, -1e-2)) / 2e-2;
            assert!((slope - gradient[at]).abs() < 2e-3, "parameter {at}: {slope} and {}", gradient[at]);
        }
    }

    #[test]
    fn a_model_survives_its_file() {
        let network = Network::new(16, 3);
        assert_eq!(Network::from_bytes(&network.to_bytes()), Ok(network));
    }

    #[test]
    fn a_broken_model_file_is_refused() {
        let bytes = Network::new(2, 3).to_bytes();
        assert_eq!(Network::from_bytes(b"DIGITS0"), Err(ModelError::Magic));
        assert_eq!(Network::from_bytes(&bytes[..10]), Err(ModelError::Magic));
        assert_eq!(
            Network::from_bytes(&bytes[..bytes.len() - 1]),
            Err(ModelError::Length { hidden: 2, expected: 160, found: 639 })
        );
        let mut unbounded = bytes;
        unbounded[12..16].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(Network::from_bytes(&unbounded), Err(ModelError::NotFinite(0)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_model_or_an_error(bytes: Vec<u8>) {
            let marked = [MAGIC.as_slice(), &bytes].concat();
            for bytes in [bytes, marked] {
                if let Ok(network) = Network::from_bytes(&bytes) {
                    proptest::prop_assert_eq!(network.to_bytes(), bytes);
                }
            }
        }
    }
}
