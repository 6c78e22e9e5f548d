//! Bit planes: properties of an offer that a search tests for 64 offers at once.
//!
//! A plane may promise less than a job asks (memory of at least 96 GB where 100 are wanted), never more, so what passes is
//! checked exactly afterwards and nothing that fits is lost.

use crate::book::{Stake, Standing};
use crate::offer::{Interconnect, Offer, Runtimes, TrustTier, Vendor};
use crate::units::{Bytes, Seconds};
use crate::workload::Network;

/// How many planes there are at most: the bits of [`Planes`].
pub(super) const COUNT: usize = 128;

const RUNTIMES: usize = 0;
const INTERNET: usize = 4;
const TRUST: usize = 5;
const STANDING: usize = 8;
const INTERCONNECT: usize = 9;
const VENDORS: usize = 11;
const REGIONS: usize = 14;
const REGION_PLANES: usize = 32;
const CPUS: usize = REGIONS + REGION_PLANES;
const CPU_STEPS: [u64; 15] = [
    1_000, 2_000, 4_000, 6_000, 8_000, 12_000, 16_000, 24_000, 32_000, 48_000, 64_000, 96_000, 128_000,
    192_000, 256_000,
];
const MEMORY: usize = CPUS + CPU_STEPS.len();
const MEMORY_STEPS: [u64; 18] = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024];
const DISK: usize = MEMORY + MEMORY_STEPS.len();
const DISK_STEPS: [u64; 11] = [1, 10, 20, 50, 100, 200, 500, 1000, 2000, 4000, 8000];
const GPUS: usize = DISK + DISK_STEPS.len();
const GPU_STEPS: [u64; 5] = [1, 2, 4, 8, 16];
const VRAM: usize = GPUS + GPU_STEPS.len();
const VRAM_STEPS: [u64; 13] = [8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 128, 141, 180];
const RELIABILITY: usize = VRAM + VRAM_STEPS.len();
const RELIABILITY_STEPS: [u64; 8] = [5_000, 8_000, 9_000, 9_500, 9_800, 9_900, 9_950, 9_990];
const DURATION: usize = RELIABILITY + RELIABILITY_STEPS.len();
const DURATION_STEPS: [u64; 6] = [3_600, 21_600, 86_400, 259_200, 604_800, 2_592_000];
const GIGABYTE: u64 = 1_000_000_000;

const _: () = assert!(DURATION + DURATION_STEPS.len() <= COUNT);

/// The planes that one offer is in, or that a search demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Planes(pub(super) u128);

/// What a search demands of every offer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) network: Network,
    pub(crate) trust: TrustTier,
    pub(crate) interconnect: Option<Interconnect>,
    pub(crate) vendor: Option<Vendor>,
    pub(crate) cpu_millis: u64,
    pub(crate) memory: Bytes,
    pub(crate) disk: Bytes,
    pub(crate) gpus: u64,
    pub(crate) vram: Bytes,
    pub(crate) reliability: Option<u16>,
    pub(crate) duration: Seconds,
}

impl Planes {
    /// The planes that `offer` is in.
    pub(super) fn of(offer: &Offer, standing: &Standing) -> Self {
        let mut planes = Self::default();
        let unit = &offer.unit;
        let free = u64::from(offer.free_units);
        for (index, runtime) in RUNTIME_SETS.into_iter().enumerate() {
            planes.set(RUNTIMES + index, offer.runtimes.intersects(runtime));
        }
        planes.set(INTERNET, offer.network == Network::Internet);
        planes.set(TRUST, offer.trust >= TrustTier::Staked);
        planes.set(TRUST + 1, offer.trust >= TrustTier::Attested);
        planes.set(TRUST + 2, offer.trust >= TrustTier::Confidential);
        planes.set(STANDING, is_in_good_standing(offer, standing));
        planes.set(REGIONS + region(&offer.region.country), true);
        planes.steps(CPUS, &CPU_STEPS, u64::from(unit.cpu_millis) * free);
        planes.steps(MEMORY, &MEMORY_STEPS, unit.memory.get().saturating_mul(free) / GIGABYTE);
        planes.steps(DISK, &DISK_STEPS, unit.disk.get().saturating_mul(free) / GIGABYTE);
        if let Some(gpus) = &unit.gpus {
            planes.set(INTERCONNECT, gpus.interconnect >= Some(Interconnect::NvLink));
            planes.set(INTERCONNECT + 1, gpus.interconnect >= Some(Interconnect::NvSwitch));
            for (index, vendor) in VENDOR_LIST.into_iter().enumerate() {
                planes.set(VENDORS + index, gpus.vendor == vendor);
            }
            planes.steps(GPUS, &GPU_STEPS, u64::from(gpus.count) * free);
            planes.steps(VRAM, &VRAM_STEPS, gpus.vram.get() / GIGABYTE);
        }
        planes.steps(RELIABILITY, &RELIABILITY_STEPS, standing.reliability.map_or(0, u64::from));
        planes.steps(DURATION, &DURATION_STEPS, offer.conditions.max_duration.get());
        planes
    }

    /// The planes that every offer for `wish` must be in.
    pub(crate) fn wanted(wish: &Wish) -> Self {
        let mut planes = Self::default();
        planes.set(INTERNET, wish.network == Network::Internet);
        planes.set(TRUST, wish.trust >= TrustTier::Staked);
        planes.set(TRUST + 1, wish.trust >= TrustTier::Attested);
        planes.set(TRUST + 2, wish.trust >= TrustTier::Confidential);
        planes.set(STANDING, true);
        planes.set(INTERCONNECT, wish.interconnect >= Some(Interconnect::NvLink));
        planes.set(INTERCONNECT + 1, wish.interconnect >= Some(Interconnect::NvSwitch));
        for (index, vendor) in VENDOR_LIST.into_iter().enumerate() {
            planes.set(VENDORS + index, wish.vendor == Some(vendor));
        }
        planes.step(CPUS, &CPU_STEPS, wish.cpu_millis);
        planes.step(MEMORY, &MEMORY_STEPS, wish.memory.get() / GIGABYTE);
        planes.step(DISK, &DISK_STEPS, wish.disk.get() / GIGABYTE);
        planes.step(GPUS, &GPU_STEPS, wish.gpus);
        planes.step(VRAM, &VRAM_STEPS, wish.vram.get() / GIGABYTE);
        planes.step(RELIABILITY, &RELIABILITY_STEPS, wish.reliability.map_or(0, u64::from));
        planes.step(DURATION, &DURATION_STEPS, wish.duration.get());
        planes
    }

    /// The planes of which one will do: runtimes.
    pub(crate) fn any_runtime(runtimes: Runtimes) -> Self {
        let mut planes = Self::default();
        for (index, runtime) in RUNTIME_SETS.into_iter().enumerate() {
            planes.set(RUNTIMES + index, runtimes.intersects(runtime));
        }
        planes
    }

    /// The planes of which one will do: countries. Empty means anywhere.
    pub(crate) fn any_country<'a>(countries: impl Iterator<Item = &'a str>) -> Self {
        let mut planes = Self::default();
        countries.for_each(|country| planes.set(REGIONS + region(country), true));
        planes
    }

    /// The indices of the planes in it.
    pub(super) fn indices(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let index = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (index < COUNT).then_some(index)
        })
    }

    const fn set(&mut self, plane: usize, holds: bool) {
        if holds {
            self.0 |= 1 << plane;
        }
    }

    /// Every step up to `value`.
    fn steps(&mut self, base: usize, steps: &[u64], value: u64) {
        for (index, step) in steps.iter().enumerate() {
            self.set(base + index, value >= *step);
        }
    }

    /// The highest step up to `value`.
    fn step(&mut self, base: usize, steps: &[u64], value: u64) {
        if let Some(index) = steps.partition_point(|step| *step <= value).checked_sub(1) {
            self.set(base + index, true);
        }
    }
}

const RUNTIME_SETS: [Runtimes; 4] =
    [Runtimes::PROCESS, Runtimes::DOCKER, Runtimes::SLURM, Runtimes::KUBERNETES];
const VENDOR_LIST: [Vendor; 3] = [Vendor::Nvidia, Vendor::Amd, Vendor::Intel];

/// Whether a lease on the offer could open, as far as the chain has said.
pub(crate) fn is_in_good_standing(offer: &Offer, standing: &Standing) -> bool {
    offer.trust == TrustTier::Unstaked || (!standing.jailed && standing.stake != Stake::Missing)
}

/// Countries share planes; the exact check tells them apart.
fn region(country: &str) -> usize {
    let letters =
        country.bytes().fold(0usize, |sum, letter| sum * 26 + usize::from(letter.saturating_sub(b'A')));
    letters % REGION_PLANES
}
