//! Which walk a network asks for, and a seat's order for one.
//!
//! Filling memory costs a device more than a signature, so that it walks only for seats that are drawn to watch it, once an epoch for each: the
//! order is signed by the seat's key.

use std::fmt;

use alloy_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

use super::memory::{BLOCK_BYTES, Walk, WalkError};
use super::{Bounds, Measured, Placed};
use crate::evidence::{Body, Court, Epoch, Seat, digest, word};
use crate::ids::DeviceId;
use crate::offer::Gpus;

/// Blocks of a lane: what a verifier rebuilds for each step that it repeats.
const LANE_BLOCKS: u32 = 1_024;
/// Of 64 KiB each.
const LANES_PER_MIB: u32 = 16;
const _: () = assert!(LANES_PER_MIB as u64 * LANE_BLOCKS as u64 * BLOCK_BYTES == 1 << 20);

/// How devices' memory is measured, once an epoch by each sentinel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalkProfile {
    /// What is filled, in MiB, where the device's class says nothing else.
    pub memory: u32,
    /// Walkers at once.
    pub walkers: u32,
    /// Stretches of each; all checkpoints together are at most 2^16.
    pub stretches: u32,
    /// Steps of a stretch.
    pub stride: u32,
    /// Stretches that a watcher repeats, 1 to 64.
    pub opened: u32,
    /// Classes of devices, by the model that an offer names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassProfile>,
}

/// What a class of devices can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassProfile {
    /// As offers are matched by: [`Gpus::canonical_model`].
    pub model: String,
    /// What is filled, in MiB: most of what the device has.
    pub memory: u32,
    /// How fast an honest device of the class walks, in MB a second: measured on one, since no maker states it.
    pub rate: u32,
}

impl WalkProfile {
    const MOST_CHECKPOINTS: usize = 1 << 16;
    const MOST_OPENED: u32 = 64;
    const MOST_CLASSES: usize = 64;

    /// Whether every walk can be asked for.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let sizes = self.sizes().map(|mib| self.through(B256::ZERO, mib));
        let walks =
            sizes.into_iter().all(|walk| walk.is_ok_and(|it| it.checkpoints() <= Self::MOST_CHECKPOINTS));
        let classes = self.classes.len() <= Self::MOST_CLASSES
            && self.classes.iter().all(|it| it.rate > 0 && Gpus::canonical_model(&it.model) == it.model);
        walks && classes && (1..=Self::MOST_OPENED).contains(&self.opened)
    }

    /// What a device fills whose offer names `model`, in MiB.
    #[must_use]
    pub fn filled(&self, model: Option<&str>) -> u32 {
        model.and_then(|model| self.class(model)).map_or(self.memory, |class| class.memory)
    }

    fn sizes(&self) -> impl Iterator<Item = u32> + '_ {
        std::iter::once(self.memory).chain(self.classes.iter().map(|class| class.memory))
    }

    fn through(&self, seed: B256, mib: u32) -> Result<Walk, WalkError> {
        let lanes = mib.checked_mul(LANES_PER_MIB).ok_or(WalkError)?;
        Walk::new(seed, [lanes, LANE_BLOCKS], [self.walkers, self.stretches, self.stride])
    }

    /// The class of a model as an offer names it.
    #[must_use]
    pub fn class(&self, model: &str) -> Option<&ClassProfile> {
        let model = Gpus::canonical_model(model);
        self.classes.iter().find(|class| class.model == model)
    }

    /// The walk of a device whose offer names `model`.
    ///
    /// # Errors
    /// [`WalkError`] where the profile is not sound.
    pub fn walk(&self, seed: B256, model: Option<&str>) -> Result<Walk, WalkError> {
        self.through(seed, self.filled(model))
    }

    /// Whether this is one of the network's walks, whatever its seed.
    #[must_use]
    pub fn asks_for(&self, walk: &Walk) -> bool {
        self.sizes().any(|mib| self.through(walk.seed(), mib).is_ok_and(|known| known == *walk))
    }
}

/// How fast a device's memory is, and whether that fits what its offer says that it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryRate {
    /// Bytes a second at least.
    pub at_least: u64,
    /// At most; unknown where the network may have taken all the time.
    pub at_most: Option<u64>,
    /// The class of what is offered, where the network has one.
    pub class: Option<String>,
    /// Whether it fits the class.
    pub placed: Option<Placed>,
}

impl MemoryRate {
    /// Of a measurement, for a device whose live offer names `model`.
    #[must_use]
    pub fn new(measured: Measured, profile: Option<&WalkProfile>, model: Option<&str>) -> Self {
        let (at_least, at_most) = measured.rates();
        let class = profile.zip(model).and_then(|(profile, model)| profile.class(model));
        let placed = class.map(|class| class.place(measured));
        Self { at_least, at_most, class: class.map(|class| class.model.clone()), placed }
    }
}

impl fmt::Display for MemoryRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = |rate: u64| rate.div_ceil(100_000_000);
        let (least, most) = (self.at_least / 100_000_000, self.at_most.map(tenths));
        write!(f, "{}.{}", least / 10, least % 10)?;
        match most {
            Some(most) => write!(f, " to {}.{} GB/s", most / 10, most % 10)?,
            None => f.write_str(" GB/s or more")?,
        }
        match (self.placed, &self.class) {
            (Some(Placed::InClass), Some(class)) => write!(f, ", as {class}"),
            (Some(Placed::Below { .. }), Some(class)) => write!(f, ", slower than {class}"),
            (Some(Placed::Unknown) | None, _) | (Some(_), None) => Ok(()),
        }
    }
}

impl ClassProfile {
    /// Whether a measurement fits the class.
    #[must_use]
    pub fn place(&self, measured: Measured) -> Placed {
        Bounds::default().place(measured, u64::from(self.rate) * 1_000_000)
    }
}

/// A seat's order that a device walk now. Whoever watches picks the seed, so that nobody can have walked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkOrder {
    /// Who should walk.
    pub device: DeviceId,
    /// In which epoch.
    pub epoch: Epoch,
    /// Who asks.
    pub seat: Seat,
    /// Through what.
    pub walk: Walk,
}

impl Body for WalkOrder {
    type Slot = (Epoch, DeviceId, Seat);

    fn slot(&self) -> Self::Slot {
        (self.epoch, self.device, self.seat)
    }

    fn digest(&self, court: &Court) -> B256 {
        let [chain, contract] = court.words();
        let numbers = self.walk.numbers().map(|number| word(number.into()));
        let way = keccak256(numbers.map(|number| number.0).as_flattened());
        let (epoch, seat) = (word(self.epoch.get()), word(self.seat.get().into()));
        let name = keccak256("tradewind/walk");
        digest([name, chain, contract, self.device.get(), epoch, seat, self.walk.seed(), way])
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use alloy_primitives::Address;

    use super::*;
    use crate::evidence::Sworn;
    use crate::signature::SigningKey;

    fn profile() -> WalkProfile {
        let class = ClassProfile { model: "H100".into(), memory: 70_000, rate: 1_000_000 };
        WalkProfile { memory: 1, walkers: 4, stretches: 8, stride: 64, opened: 2, classes: vec![class] }
    }

    #[test]
    fn a_device_fills_what_its_class_says() {
        let walk = |model| profile().walk(B256::ZERO, model).unwrap().blocks() * BLOCK_BYTES;
        assert_eq!(walk(None), 1 << 20);
        assert_eq!(walk(Some("RTX4090")), 1 << 20);
        assert_eq!(walk(Some("NVIDIA H100 80GB HBM3")), 70_000 << 20);
    }

    #[test]
    fn a_walk_of_another_size_or_way_is_not_the_networks() {
        let known = profile();
        let seed = B256::repeat_byte(7);
        assert!(known.asks_for(&known.walk(seed, None).unwrap()));
        assert!(known.asks_for(&known.walk(seed, Some("h100")).unwrap()));
        for other in [
            WalkProfile { memory: 2, ..profile() },
            WalkProfile { walkers: 5, ..profile() },
            WalkProfile { stretches: 7, ..profile() },
            WalkProfile { stride: 65, ..profile() },
        ] {
            assert!(!known.asks_for(&other.walk(seed, None).unwrap()));
        }
    }

    #[test]
    fn a_profile_that_no_device_could_answer_is_unsound() {
        assert!(profile().is_sound());
        let class = |model: &str, memory, rate| ClassProfile { model: model.into(), memory, rate };
        for bad in [
            WalkProfile { memory: 0, ..profile() },
            WalkProfile { memory: u32::MAX, ..profile() },
            WalkProfile { walkers: 1 << 13, ..profile() },
            WalkProfile { opened: 0, ..profile() },
            WalkProfile { opened: 65, ..profile() },
            WalkProfile { classes: vec![class("H100", 0, 1)], ..profile() },
            WalkProfile { classes: vec![class("H100", 1, 0)], ..profile() },
            WalkProfile { classes: vec![class("NVIDIA H100", 1, 1)], ..profile() },
            WalkProfile { classes: vec![class("H100", 1, 1); 65], ..profile() },
        ] {
            assert!(!bad.is_sound(), "{bad:?}");
        }
    }

    #[test]
    fn a_measurement_is_placed_in_its_class() {
        let known = profile();
        let class = known.class("H100").unwrap();
        let took = |millis: u64| {
            let elapsed = NonZeroU64::new(millis * 1_000).unwrap();
            class.place(Measured { work: 4_000_000_000_000, elapsed, network: 1_000 })
        };
        assert_eq!(took(4_000), Placed::InClass);
        assert!(matches!(took(8_000), Placed::Below { .. }));
    }

    #[test]
    fn a_rate_says_in_words_whether_it_fits() {
        let said = |millis: u64, model| {
            let elapsed = NonZeroU64::new(millis * 1_000).unwrap();
            let measured = Measured { work: 4_000_000_000_000, elapsed, network: 100_000 };
            MemoryRate::new(measured, Some(&profile()), model).to_string()
        };
        assert_eq!(said(4_000, Some("h100")), "1000.0 to 1025.7 GB/s, as H100");
        assert_eq!(said(8_000, Some("h100")), "500.0 to 506.4 GB/s, slower than H100");
        assert_eq!(said(6_100, Some("h100")), "655.7 to 666.7 GB/s, as H100");
        assert_eq!(said(6_200, Some("h100")), "645.1 to 655.8 GB/s");
        assert_eq!(said(4_000, Some("RTX4090")), "1000.0 to 1025.7 GB/s");
        assert_eq!(said(90, None), "44444.4 GB/s or more");
    }

    #[test]
    fn an_order_counts_for_one_court_device_epoch_seat_and_walk() {
        let key = SigningKey::from_bytes([7; 32]).unwrap();
        let court = Court { chain_id: 1, contract: Address::repeat_byte(9) };
        let walk = profile().walk(B256::repeat_byte(3), None).unwrap();
        let order = WalkOrder { device: DeviceId::NONE, epoch: Epoch::new(4), seat: Seat::new(5), walk };
        let sworn = Sworn::sign(order, &court, &key);
        assert!(sworn.verify(&court, key.address()).is_ok());
        for other in [
            WalkOrder { device: DeviceId::new(B256::repeat_byte(1)), ..order },
            WalkOrder { epoch: Epoch::new(5), ..order },
            WalkOrder { seat: Seat::new(4), ..order },
            WalkOrder { walk: profile().walk(B256::repeat_byte(4), None).unwrap(), ..order },
            WalkOrder { walk: profile().walk(B256::repeat_byte(3), Some("H100")).unwrap(), ..order },
        ] {
            let moved = Sworn { body: other, signature: sworn.signature };
            assert!(moved.verify(&court, key.address()).is_err(), "{other:?}");
        }
        let elsewhere = Court { chain_id: 2, ..court };
        assert!(sworn.verify(&elsewhere, key.address()).is_err());
    }
}
