//! Books to measure with: a seed makes the same million offers everywhere.

use alloy_primitives::{Address, B256};

use super::{OfferBook, Stake, Standing};
use crate::attestation::Tees;
use crate::ids::{DeviceId, MeshKey, ProviderId};
use crate::offer::{
    Conditions, Gpus, Interconnect, MAX_OFFER_LIFETIME, Offer, PortRange, Prices, Region, Resources,
    Runtimes, TrustTier, Vendor,
};
use crate::units::{Bytes, Money, RatePerSecond, Seconds, Timestamp};
use crate::workload::Network;

/// Model, memory in GB, price of an hour in cents, weight.
const MODELS: [(&str, u64, u64, u64); 9] = [
    ("RTX3090", 24, 20, 14),
    ("RTX4090", 24, 35, 24),
    ("RTX5090", 32, 60, 8),
    ("L40S", 48, 90, 8),
    ("A6000", 48, 50, 8),
    ("A100", 80, 130, 12),
    ("H100", 80, 250, 10),
    ("H200", 141, 340, 4),
    ("MI300X", 192, 300, 2),
];
const COUNTRIES: [&str; 16] =
    ["US", "DE", "FR", "NL", "FI", "SE", "GB", "CA", "JP", "SG", "IN", "BR", "PL", "NO", "IS", "AU"];

/// The token that synthetic offers are priced in, with 6 decimals.
pub const TOKEN: Address = Address::repeat_byte(0x55);

/// A book of `n` offers that live until a day after the epoch. The same seed makes the same book.
#[must_use]
pub fn synthetic(seed: u64, n: u32) -> OfferBook {
    let mut book = OfferBook::new();
    let mut dice = Dice(seed);
    for index in 0..n {
        let offer = dice.offer(index);
        let stake = if dice.chance(98) { Stake::Confirmed } else { Stake::Missing };
        let reliability = dice.chance(85).then(|| 10_000 - dice.skewed(2_000));
        let standing = Standing { stake, jailed: dice.chance(1), reliability };
        book.set_standing(offer.key(), standing);
        book.insert(offer);
    }
    book
}

/// SplitMix64: enough for a market, nothing for a secret.
struct Dice(u64);

impl Dice {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Small values are likelier.
    fn skewed(&mut self, limit: u64) -> u16 {
        let roll = self.below(limit) * self.below(limit) / limit;
        u16::try_from(roll).unwrap_or(u16::MAX)
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        let length = u64::try_from(list.len()).unwrap_or(1);
        list[usize::try_from(self.below(length)).unwrap_or(0)]
    }

    fn offer(&mut self, index: u32) -> Offer {
        let mut account = [0u8; 20];
        account[..4].copy_from_slice(&(index / 4 + 1).to_be_bytes());
        let mut device = B256::ZERO;
        device.0[..4].copy_from_slice(&(index + 1).to_be_bytes());
        let (unit, units, cents) = if self.chance(30) { self.plain() } else { self.accelerated() };
        // Prices spread by a third around the model's, to a hundredth of a cent.
        let hourly = cents * 10_000 * (70 + self.below(90)) / 100 + self.below(10_000);
        let on_demand = RatePerSecond::per_hour(Money::from_base_units(hourly));
        let spot_percent = 30 + self.below(50);
        let spot = self
            .chance(50)
            .then(|| RatePerSecond::per_hour(Money::from_base_units(hourly * spot_percent / 100)));
        let expires_at = Timestamp::from_unix(86_400 + u64::from(index % 3_600));
        let mut conditions = Conditions::standard();
        conditions.max_duration = Seconds::new(self.pick(&[21_600, 86_400, 604_800, 2_592_000]));
        Offer {
            provider: ProviderId::new(Address::new(account)),
            device: DeviceId::new(device),
            mesh_key: MeshKey::from_bytes(device.0),
            sequence: 1,
            issued_at: expires_at.before(MAX_OFFER_LIFETIME),
            expires_at,
            runtimes: self.pick(&[
                Runtimes::PROCESS,
                Runtimes::DOCKER,
                Runtimes::PROCESS.with(Runtimes::DOCKER),
                Runtimes::DOCKER.with(Runtimes::KUBERNETES),
            ]),
            unit,
            units,
            free_units: u8::try_from(self.below(u64::from(units) + 1)).unwrap_or(0),
            region: Region { country: self.pick(&COUNTRIES).into(), label: None },
            prices: Prices {
                egress: None,
                token: TOKEN,
                on_demand,
                spot,
                reserved_discount: self.chance(20).then_some(2_000),
            },
            conditions,
            network: if self.chance(80) { Network::Internet } else { Network::None },
            ports: vec![PortRange { first: 1024, last: 65_535 }],
            trust: TrustTier::Staked,
            terms_of_service: B256::repeat_byte(1),
            version: 1,
            address: None,
            tees: Tees::NONE,
            encrypted: false,
            attested: Vec::new(),
        }
    }

    fn plain(&mut self) -> (Resources, u8, u64) {
        let cpus = self.pick(&[1u32, 2, 4, 8]);
        let memory = Bytes::gib(u64::from(cpus) * self.pick(&[2, 4, 8]));
        let disk = Bytes::gib(self.pick(&[20, 50, 100, 500]));
        let unit = Resources { cpu_millis: cpus * 1000, memory, disk, gpus: None };
        (unit, self.pick(&[1, 4, 16, 64]), u64::from(cpus) * 3)
    }

    fn accelerated(&mut self) -> (Resources, u8, u64) {
        let total: u64 = MODELS.iter().map(|model| model.3).sum();
        let mut roll = self.below(total);
        let mut chosen = MODELS[0];
        for model in MODELS {
            if roll < model.3 {
                chosen = model;
                break;
            }
            roll -= model.3;
        }
        let (model, vram, cents, _) = chosen;
        let units = self.pick(&[1u8, 1, 2, 4, 8]);
        let cpus = self.pick(&[4u32, 8, 16, 24]);
        let gpus = Gpus {
            count: 1,
            vendor: if model == "MI300X" { Vendor::Amd } else { Vendor::Nvidia },
            model: model.into(),
            vram: Bytes::new(vram * 1_000_000_000),
            compute_capability: None,
            driver: None,
            interconnect: (units > 1)
                .then(|| self.pick(&[Interconnect::Pcie, Interconnect::NvLink, Interconnect::NvSwitch])),
        };
        let memory = Bytes::gib(self.pick(&[16, 32, 64, 128, 256]));
        let disk = Bytes::gib(self.pick(&[50, 100, 500, 2_000]));
        (Resources { cpu_millis: cpus * 1000, memory, disk, gpus: Some(gpus) }, units, cents)
    }
}
