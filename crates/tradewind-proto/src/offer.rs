//! Offers: what one provider sells on one device, signed, short-lived and re-issued as its heartbeat.
//!
//! ```text
//! Offer ──CBOR, integer keys──► bytes ──provider's key, domain "offer"──► SignedOffer ──mesh──► verify(now) ──► Offer
//! ```
//!
//! One writer per [`OfferKey`]: the newest sequence wins, and an offer that is not renewed ends by itself. A reader checks
//! size, signature, signer, lifetime and every range before it believes a field; fields that it does not know are skipped.

pub(crate) mod codec;
mod hardware;
mod price;
mod proposal;

use alloy_primitives::{Address, B256, U256, keccak256};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

pub use self::hardware::{
    ComputeCapability, DriverVersion, Gpus, Interconnect, Resources, Runtimes, TrustTier, Vendor,
};
pub use self::price::{Asked, PriceList, Spot};
pub use self::proposal::{Follow, Proposal, power_cost, propose};
use crate::attestation::Tees;
use crate::ids::{DeviceId, MeshKey, ProviderId};
use crate::place::{MAX_WORDS, PlaceWord};
use crate::signature::{SignatureError, Signed, SigningKey};
use crate::terms::LeaseKind;
use crate::units::{Bytes, Money, RATE_SCALE, RatePerSecond, Seconds, Timestamp};
use crate::workload::Network;

/// The largest encoded offer.
pub const MAX_OFFER_BYTES: usize = 4096;
/// The longest time between issue and expiry.
pub const MAX_OFFER_LIFETIME: Seconds = Seconds::new(3600);
/// How far a provider's clock may run ahead.
pub const MAX_CLOCK_SKEW: Seconds = Seconds::new(60);
/// A device has at most as many units as a lease's mask has bits.
pub const MAX_UNITS: u8 = 64;
/// The highest price of a unit: 64 of them still fit a rate.
pub const MAX_UNIT_RATE: RatePerSecond = RatePerSecond::from_scaled(u128::MAX >> 7);

const DOMAIN: &str = "offer";
const MAX_TEXT: usize = 64;
const MAX_ADDRESS: usize = 512;
const MAX_PORT_RANGES: usize = 16;
const MAX_DURATION: Seconds = Seconds::new(366 * 86_400);
const BASIS_POINTS: u16 = 10_000;

/// Why an offer was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Larger than [`MAX_OFFER_BYTES`].
    #[error("the offer has {0} bytes, at most {MAX_OFFER_BYTES} are accepted")]
    Size(usize),
    /// Not signed by the provider that it names.
    #[error("the offer's signature does not count")]
    Signature(#[source] SignatureError),
    /// Not an offer, or bytes follow it.
    #[error("the offer is malformed")]
    Malformed,
    /// A value is out of range.
    #[error("the offer's {field} {problem}")]
    Range {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Its time is over.
    #[error("the offer expired at {}", .0.unix())]
    Expired(Timestamp),
    /// Its time has not come: the provider's clock is ahead.
    #[error("the offer was issued in the future, at {}", .0.unix())]
    Early(Timestamp),
}

/// Who writes an offer, and for which device. The newest sequence under a key wins.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
pub struct OfferKey {
    /// The seller.
    #[n(0)]
    pub provider: ProviderId,
    /// The device, or [`DeviceId::NONE`] for the provider's one unstaked offer.
    #[n(1)]
    pub device: DeviceId,
}

impl OfferKey {
    /// The directory slot of the offer among its provider's records.
    #[must_use]
    pub fn slot(&self) -> u32 {
        let id = self.device.get();
        u32::from_be_bytes([id[0], id[1], id[2], id[3]])
    }
}

/// Where a device stands.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Region {
    /// ISO 3166 code in upper case, such as `DE`; `ZZ` where the provider does not say.
    #[n(0)]
    pub country: String,
    /// The provider's own name for the place.
    #[n(1)]
    pub label: Option<String>,
}

/// What a unit costs, in base units of one token.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Prices {
    /// The payment token's contract.
    #[cbor(n(0), with = "codec::address")]
    pub token: Address,
    /// Of one unit until either side ends the lease.
    #[n(1)]
    pub on_demand: RatePerSecond,
    /// Of one unit that may be reclaimed; `None` sells no spot leases.
    #[n(2)]
    pub spot: Option<RatePerSecond>,
    /// Off the on-demand price for a committed term, in basis points; `None` sells no reserved leases.
    #[n(3)]
    pub reserved_discount: Option<u16>,
    /// Of each GiB that a workload may send; `None` does not count what is sent.
    #[n(4)]
    #[serde(default)]
    pub egress: Option<Money>,
}

/// What the provider puts into terms. Times stand for money: that much of the rate.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Conditions {
    /// The shortest lease.
    #[n(0)]
    pub min_duration: Seconds,
    /// The longest lease.
    #[n(1)]
    pub max_duration: Seconds,
    /// Warning before a spot lease is reclaimed.
    #[n(2)]
    pub notice: Seconds,
    /// The shortest slack between work and payment.
    #[n(3)]
    pub min_slack: Seconds,
    /// The longest slack.
    #[n(4)]
    pub max_slack: Seconds,
    /// The longest unbilled time for pulling data.
    #[n(5)]
    pub max_prepare: Seconds,
    /// Paid in advance; never more than a slack.
    #[n(6)]
    pub prepay: Seconds,
    /// Promised uptime in basis points.
    #[n(7)]
    pub uptime_promise: u16,
    /// Compensation cap of an on-demand or reserved lease.
    #[n(8)]
    pub compensation: Seconds,
    /// Compensation cap of a spot lease.
    #[n(9)]
    pub spot_compensation: Seconds,
    /// The provider's break fee on an on-demand lease (never more than what remains).
    #[n(10)]
    pub break_fee: Seconds,
    /// Break fee of both sides on a reserved lease, in basis points of its whole value.
    #[n(11)]
    pub reserved_break_fee: u16,
}

/// TCP ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct PortRange {
    /// The first.
    #[n(0)]
    pub first: u16,
    /// The last.
    #[n(1)]
    pub last: u16,
}

/// What one provider sells on one device, until it expires.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Offer {
    /// The seller, who also signs.
    #[n(0)]
    pub provider: ProviderId,
    /// The staked device, or [`DeviceId::NONE`] on the unstaked tier.
    #[n(1)]
    pub device: DeviceId,
    /// Where to ask for terms.
    #[n(2)]
    pub mesh_key: MeshKey,
    /// Larger than in every earlier offer for this device.
    #[n(3)]
    pub sequence: u64,
    /// When it was made.
    #[n(4)]
    pub issued_at: Timestamp,
    /// When it ends.
    #[n(5)]
    pub expires_at: Timestamp,
    /// What can start the workload.
    #[n(6)]
    pub runtimes: Runtimes,
    /// What one unit consists of.
    #[n(7)]
    pub unit: Resources,
    /// Units of the device.
    #[n(8)]
    pub units: u8,
    /// Units that are free now.
    #[n(9)]
    pub free_units: u8,
    /// Where.
    #[n(10)]
    pub region: Region,
    /// For how much.
    #[n(11)]
    pub prices: Prices,
    /// On which terms.
    #[n(12)]
    pub conditions: Conditions,
    /// The most that a workload may reach.
    #[n(13)]
    pub network: Network,
    /// Ports of a workload that a tunnel may reach.
    #[n(14)]
    pub ports: Vec<PortRange>,
    /// What stands behind the provider's word.
    #[n(15)]
    pub trust: TrustTier,
    /// Digest of the terms of service.
    #[cbor(n(16), with = "codec::digest")]
    pub terms_of_service: B256,
    /// The parameter version that leases would run under.
    #[n(17)]
    pub version: u32,
    /// Where the mesh reaches the provider's node, as the mesh writes it; by its key alone where absent.
    #[n(18)]
    pub address: Option<String>,
    /// The kinds of trusted execution that it claims. A claim: evidence is asked for before a lease is signed.
    #[cbor(n(19), default)]
    #[serde(default)]
    pub tees: Tees,
    /// A job's work directory is encrypted on disk, with a key that ends with its lease. A claim, and nobody can see from afar
    /// whether it holds.
    #[cbor(n(20), default)]
    #[serde(default)]
    pub encrypted: bool,
    /// Who attests on chain that the device stands in this region. A claim: the chain is asked before a lease is signed.
    #[cbor(n(21), default)]
    #[serde(default)]
    pub attested: Vec<PlaceWord>,
}

impl Offer {
    /// Who writes it, and for which device.
    #[must_use]
    pub const fn key(&self) -> OfferKey {
        OfferKey { provider: self.provider, device: self.device }
    }

    /// The price of so many units under `kind` with `egress` to be sent an hour, or `None` when that kind is not sold.
    #[must_use]
    pub fn rate(&self, kind: LeaseKind, units: u8, egress: Option<Bytes>) -> Option<RatePerSecond> {
        let units = self.unit_rate(kind)?.times(u32::from(units));
        let sent = self.prices.egress_rate(egress.unwrap_or(Bytes::ZERO));
        Some(RatePerSecond::from_scaled(units.scaled().saturating_add(sent.scaled())))
    }

    /// The price of one unit under `kind`, or `None` when that kind is not sold.
    #[must_use]
    pub fn unit_rate(&self, kind: LeaseKind) -> Option<RatePerSecond> {
        match kind {
            LeaseKind::OnDemand => Some(self.prices.on_demand),
            LeaseKind::Spot => self.prices.spot,
            LeaseKind::Reserved => self.prices.reserved_discount.map(|discount| {
                let scaled = self.prices.on_demand.scaled();
                let kept = u128::from(BASIS_POINTS.saturating_sub(discount));
                let (whole, rest) = (scaled / 10_000, scaled % 10_000);
                RatePerSecond::from_scaled(whole * kept + rest * kept / 10_000)
            }),
        }
    }

    /// Whether a tunnel may reach `port` of a workload.
    #[must_use]
    pub fn reaches(&self, port: u16) -> bool {
        self.ports.iter().any(|range| range.first <= port && port <= range.last)
    }

    /// Checks every range; decoding does it too.
    ///
    /// # Errors
    /// [`OfferError::Range`] naming the field.
    pub fn check(&self) -> Result<(), OfferError> {
        range(self.provider.account() != Address::ZERO, "provider", "is the zero account")?;
        range(self.expires_at > self.issued_at, "expiry", "is not after its issue")?;
        range(
            self.expires_at.since(self.issued_at) <= MAX_OFFER_LIFETIME,
            "lifetime",
            "is longer than an hour",
        )?;
        range(!self.runtimes.is_empty(), "runtimes", "are empty")?;
        range((1..=MAX_UNITS).contains(&self.units), "units", "are not 1 to 64")?;
        range(self.free_units <= self.units, "free units", "exceed its units")?;
        range(
            (self.device == DeviceId::NONE) == (self.trust == TrustTier::Unstaked),
            "trust tier",
            "must be unstaked without a device, and only then",
        )?;
        range(self.version != 0, "parameter version", "is zero")?;
        let printable = |text: &str| text.len() <= MAX_ADDRESS && text.bytes().all(|b| b.is_ascii_graphic());
        range(
            self.address.as_deref().is_none_or(printable),
            "address",
            "is not at most 512 printable characters",
        )?;
        range(self.ports.len() <= MAX_PORT_RANGES, "ports", "are more than 16 ranges")?;
        range(
            self.ports.iter().all(|p| p.first != 0 && p.first <= p.last),
            "ports",
            "hold an empty range or port 0",
        )?;
        range(self.attested.len() <= MAX_WORDS, "attestations", "are more than 4")?;
        range(self.attested.iter().all(PlaceWord::is_possible), "attestations", "cannot be on chain")?;
        range(self.attested.is_empty() || self.device != DeviceId::NONE, "attestations", "are of no device")?;
        self.region.check()?;
        self.unit.check()?;
        self.prices.check()?;
        self.conditions.check()
    }
}

fn is_text(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && text.chars().all(|c| !c.is_control())
}

const fn range(holds: bool, field: &'static str, problem: &'static str) -> Result<(), OfferError> {
    if holds { Ok(()) } else { Err(OfferError::Range { field, problem }) }
}

impl Region {
    /// Checks country and label.
    ///
    /// # Errors
    /// [`OfferError::Range`] naming which.
    pub fn check(&self) -> Result<(), OfferError> {
        let upper = self.country.len() == 2 && self.country.bytes().all(|b| b.is_ascii_uppercase());
        range(upper, "country", "is not two upper-case letters")?;
        range(
            self.label.as_deref().is_none_or(is_text),
            "region label",
            "is not 1 to 64 printable characters",
        )
    }
}

impl Resources {
    fn check(&self) -> Result<(), OfferError> {
        range(self.cpu_millis > 0, "CPU", "is zero")?;
        range(self.cpu_millis <= 4_096_000, "CPU", "exceeds 4,096 cores")?;
        range(self.memory > Bytes::ZERO, "memory", "is zero")?;
        range(self.memory <= Bytes::gib(1 << 16), "memory", "exceeds 64 TiB")?;
        range(self.disk <= Bytes::gib(1 << 20), "disk", "exceeds 1 PiB")?;
        let Some(gpus) = &self.gpus else { return Ok(()) };
        range((1..=64).contains(&gpus.count), "accelerators", "are not 1 to 64 a unit")?;
        range(is_text(&gpus.model), "accelerator model", "is not 1 to 64 printable characters")?;
        range(
            !Gpus::canonical_model(&gpus.model).is_empty(),
            "accelerator model",
            "has neither letters nor digits",
        )?;
        range(gpus.vram <= Bytes::gib(1 << 12), "accelerator memory", "exceeds 4 TiB")
    }
}

impl Prices {
    /// What it costs to be allowed to send so much an hour, rounded down (in the payer's favour): nothing where it is not counted.
    #[must_use]
    pub fn egress_rate(&self, hourly: Bytes) -> RatePerSecond {
        let price = U256::from(self.egress.unwrap_or(Money::ZERO).base_units());
        let hour_of_gib = U256::from(u128::from(Bytes::gib(1).get()) * 3_600);
        // Below 2^96 · 2^64 · 2^60: it fits.
        let scaled = price * U256::from(hourly.get()) * U256::from(RATE_SCALE) / hour_of_gib;
        RatePerSecond::from_scaled(u128::try_from(scaled).unwrap_or(u128::MAX))
    }

    fn check(&self) -> Result<(), OfferError> {
        range(self.token != Address::ZERO, "token", "is the zero account")?;
        range(self.on_demand <= MAX_UNIT_RATE, "price", "is too large")?;
        range(self.spot.is_none_or(|spot| spot <= MAX_UNIT_RATE), "spot price", "is too large")?;
        range(
            self.reserved_discount.is_none_or(|discount| discount < BASIS_POINTS),
            "reserved discount",
            "is 100 % or more",
        )?;
        let most = RatePerSecond::per_hour(self.egress.unwrap_or(Money::ZERO));
        range(most <= MAX_UNIT_RATE, "egress price", "is too large")
    }
}

impl Conditions {
    /// The starting values of PROTOCOL's table: compensation 6.5 h (spot 1 h), a break fee of 2 h, and 16.5 % on reserved terms.
    #[must_use]
    pub const fn standard() -> Self {
        Self {
            min_duration: Seconds::new(60),
            max_duration: Seconds::new(30 * 86_400),
            notice: Seconds::new(120),
            min_slack: Seconds::new(30),
            max_slack: Seconds::new(600),
            max_prepare: Seconds::new(1800),
            prepay: Seconds::new(60),
            uptime_promise: 9_900,
            compensation: Seconds::new(23_400),
            spot_compensation: Seconds::new(3600),
            break_fee: Seconds::new(7200),
            reserved_break_fee: 1650,
        }
    }

    fn check(&self) -> Result<(), OfferError> {
        range(self.min_duration > Seconds::ZERO, "minimum duration", "is zero")?;
        range(self.min_duration <= self.max_duration, "minimum duration", "exceeds the maximum")?;
        range(self.max_duration <= MAX_DURATION, "maximum duration", "exceeds 366 days")?;
        range(self.min_slack > Seconds::ZERO, "minimum slack", "is zero")?;
        range(self.min_slack <= self.max_slack, "minimum slack", "exceeds the maximum")?;
        let day = Seconds::new(86_400);
        range(self.max_slack <= day, "maximum slack", "exceeds a day")?;
        range(self.prepay <= self.max_slack, "prepayment", "exceeds the longest slack")?;
        range(self.notice <= day, "notice", "exceeds a day")?;
        range(self.max_prepare <= day, "time to prepare", "exceeds a day")?;
        range(self.uptime_promise <= BASIS_POINTS, "uptime promise", "exceeds 100 %")?;
        range(self.compensation <= MAX_DURATION, "compensation", "exceeds 366 days")?;
        range(self.spot_compensation <= MAX_DURATION, "spot compensation", "exceeds 366 days")?;
        range(self.break_fee <= MAX_DURATION, "break fee", "exceeds 366 days")?;
        range(self.reserved_break_fee <= BASIS_POINTS, "reserved break fee", "exceeds 100 %")
    }
}

/// An offer as it travels: the encoded bytes and the provider's signature over them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedOffer(Signed);

impl SignedOffer {
    /// Encodes and signs an offer.
    ///
    /// # Errors
    /// [`OfferError::Range`], [`OfferError::Size`], or [`OfferError::Signature`] when `key` is not the provider's.
    pub fn sign(offer: &Offer, key: &SigningKey) -> Result<Self, OfferError> {
        offer.check()?;
        let (signer, expected) = (key.address(), offer.provider.account());
        if signer != expected {
            return Err(OfferError::Signature(SignatureError::WrongSigner { signer, expected }));
        }
        let bytes = minicbor::to_vec(offer).map_err(|_| OfferError::Malformed)?;
        if bytes.len() > MAX_OFFER_BYTES {
            return Err(OfferError::Size(bytes.len()));
        }
        Ok(Self(Signed::new(DOMAIN, bytes, key)))
    }

    /// Takes an envelope from the mesh. Nothing is believed before [`SignedOffer::verify`].
    #[must_use]
    pub const fn from_signed(signed: Signed) -> Self {
        Self(signed)
    }

    /// The envelope.
    #[must_use]
    pub const fn signed(&self) -> &Signed {
        &self.0
    }

    /// Identifies these exact bytes, for anti-entropy.
    #[must_use]
    pub fn digest(&self) -> B256 {
        keccak256(&self.0.bytes)
    }

    /// The offer, if its size, ranges, lifetime and signature hold at `now`.
    ///
    /// # Errors
    /// The [`OfferError`] that names the rule.
    pub fn verify(&self, now: Timestamp) -> Result<Offer, OfferError> {
        if self.0.bytes.len() > MAX_OFFER_BYTES {
            return Err(OfferError::Size(self.0.bytes.len()));
        }
        let signer = self.0.signer(DOMAIN).map_err(OfferError::Signature)?;
        let mut decoder = minicbor::Decoder::new(&self.0.bytes);
        let offer: Offer = decoder.decode().map_err(|_| OfferError::Malformed)?;
        if decoder.position() != self.0.bytes.len() {
            return Err(OfferError::Malformed);
        }
        let expected = offer.provider.account();
        if signer != expected {
            return Err(OfferError::Signature(SignatureError::WrongSigner { signer, expected }));
        }
        offer.check()?;
        if offer.expires_at <= now {
            return Err(OfferError::Expired(offer.expires_at));
        }
        if offer.issued_at > now.after(MAX_CLOCK_SKEW) {
            return Err(OfferError::Early(offer.issued_at));
        }
        Ok(offer)
    }
}

#[cfg(test)]
pub(crate) mod tests;
