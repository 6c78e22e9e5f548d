//! The digits: 8 × 8 images with 17 levels of grey, and the digit that each one shows.
//!
//! On disk a record is 65 bytes: 64 pixels, row by row, each 0 to 16, then the label, 0 to 9.

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

/// Pixels in an image.
pub(crate) const PIXELS: usize = 64;
/// Digits that an image may show.
pub(crate) const CLASSES: usize = 10;

const SIDE: usize = 8;
const RECORD: usize = PIXELS + 1;
const MAX_LEVEL: u8 = 16;
/// One image in so many is held out.
const HELD_OUT: usize = 5;

/// One image and what it shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Digit {
    /// Grey from 0 to 1.
    pub(crate) pixels: [f32; PIXELS],
    /// Below [`CLASSES`].
    pub(crate) label: u8,
}

impl Digit {
    /// The same digit moved by so many pixels right and down; what leaves the frame is gone.
    pub(crate) fn moved(&self, right: i8, down: i8) -> Self {
        let mut pixels = [0.0; PIXELS];
        for (from, pixel) in self.pixels.iter().enumerate() {
            let column = (from % SIDE).checked_add_signed(right.into()).filter(|column| *column < SIDE);
            let row = (from / SIDE).checked_add_signed(down.into()).filter(|row| *row < SIDE);
            if let (Some(column), Some(row)) = (column, row) {
                pixels[row * SIDE + column] = *pixel;
            }
        }
        Self { pixels, label: self.label }
    }
}

/// All digits, checked.
#[derive(Debug, Clone)]
pub(crate) struct Dataset {
    digits: Vec<Digit>,
    digest: [u8; 32],
}

/// The digits to learn from and those that only measure.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    pub(crate) train: Vec<Digit>,
    pub(crate) held_out: Vec<Digit>,
}

/// Why bytes are not digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DataError {
    #[error("{0} bytes are not a whole number of {RECORD}-byte records")]
    Ragged(usize),
    #[error("{0} records are too few to train on; at least {HELD_OUT} are needed")]
    TooFew(usize),
    #[error("record {record}: pixel {pixel} is {value}, above {MAX_LEVEL}")]
    Pixel { record: usize, pixel: usize, value: u8 },
    #[error("record {record}: label {value} is no digit")]
    Label { record: usize, value: u8 },
}

impl Dataset {
    /// The copy inside the program.
    pub(crate) fn embedded() -> Result<Self, DataError> {
        Self::parse(include_bytes!("../data/digits.bin"))
    }

    /// Reads records, refusing any that is no digit.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, DataError> {
        let (records, rest) = bytes.as_chunks::<RECORD>();
        if !rest.is_empty() {
            return Err(DataError::Ragged(bytes.len()));
        }
        if records.len() < HELD_OUT {
            return Err(DataError::TooFew(records.len()));
        }
        let digits = records
            .iter()
            .enumerate()
            .map(|(record, [levels @ .., label])| digit(record, levels, *label))
            .collect::<Result<_, _>>()?;
        Ok(Self { digits, digest: *blake3::hash(bytes).as_bytes() })
    }

    /// BLAKE3 of the bytes that were read.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Shuffles by the seed and holds out a fifth.
    pub(crate) fn split(&self, seed: u64) -> Split {
        let mut digits = self.digits.clone();
        digits.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let train = digits.split_off(digits.len() / HELD_OUT);
        Split { train, held_out: digits }
    }
}

fn digit(record: usize, levels: &[u8; PIXELS], label: u8) -> Result<Digit, DataError> {
    if usize::from(label) >= CLASSES {
        return Err(DataError::Label { record, value: label });
    }
    if let Some((pixel, value)) = levels.iter().enumerate().find(|(_, level)| **level > MAX_LEVEL) {
        return Err(DataError::Pixel { record, pixel, value: *value });
    }
    Ok(Digit { pixels: levels.map(|level| f32::from(level) / f32::from(MAX_LEVEL)), label })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_copy_holds_every_digit_of_the_source() {
        let data = Dataset::embedded().unwrap();
        assert_eq!(data.digits.len(), 1797);
        let mut counts = [0; CLASSES];
        for digit in &data.digits {
            counts[usize::from(digit.label)] += 1;
        }
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    }

    #[test]
    fn a_split_keeps_every_digit_once_and_repeats_by_its_seed() {
        let data = Dataset::embedded().unwrap();
        let split = data.split(7);
        assert_eq!((split.train.len(), split.held_out.len()), (1438, 359));
        assert_eq!(data.split(7).held_out, split.held_out);
        assert_ne!(data.split(8).held_out, split.held_out);
        let total = |digits: &[Digit]| digits.iter().map(|digit| u32::from(digit.label)).sum::<u32>();
        assert_eq!(total(&split.train) + total(&split.held_out), total(&data.digits));
    }

    #[test]
    fn a_moved_digit_keeps_what_stays_in_the_frame() {
        let mut digit = Digit { pixels: [0.0; PIXELS], label: 3 };
        digit.pixels[0] = 0.25;
        digit.pixels[63] = 1.0;
        let moved = digit.moved(1, 1);
        assert_eq!((moved.pixels[9], moved.label), (0.25, 3));
        assert_eq!(moved.pixels.iter().filter(|pixel| **pixel > 0.0).count(), 1);
        assert_eq!(digit.moved(-1, 0).pixels[62], 1.0);
        assert_eq!(digit.moved(0, 0), digit);
    }

    #[test]
    fn bytes_that_are_no_digits_are_refused_with_the_place() {
        let mut bytes = vec![0; RECORD * 5];
        assert!(Dataset::parse(&bytes).is_ok());
        assert_eq!(Dataset::parse(&bytes[1..]).unwrap_err(), DataError::Ragged(RECORD * 5 - 1));
        assert_eq!(Dataset::parse(&bytes[..RECORD]).unwrap_err(), DataError::TooFew(1));
        assert_eq!(Dataset::parse(&[]).unwrap_err(), DataError::TooFew(0));
        bytes[RECORD + 3] = 17;
        assert_eq!(Dataset::parse(&bytes).unwrap_err(), DataError::Pixel { record: 1, pixel: 3, value: 17 });
        bytes[RECORD + 3] = 16;
        bytes[RECORD * 2 + PIXELS] = 10;
        assert_eq!(Dataset::parse(&bytes).unwrap_err(), DataError::Label { record: 2, value: 10 });
    }
}
