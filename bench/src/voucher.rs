//! Vouchers signed and verified on one core, beside the same work with pure-Rust k256.
//!
//! Both sides hash the same EIP-712 structs; ours also checks lease, cap and order, as a provider does before it stores one.

use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256};
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolStruct as _;
use anyhow::ensure;
use tradewind_proto::ids::{BuyerId, DeviceId, LeaseId, ProviderId};
use tradewind_proto::signature::SigningKey;
use tradewind_proto::terms::{Domain, LeaseKind, LeaseTerms};
use tradewind_proto::units::{Money, RatePerSecond, Seconds, Timestamp};
use tradewind_proto::voucher::{SignedVoucher, Voucher};

use crate::figure::{Figure, median, per_second};
use crate::progress::say;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(400);
/// Work between two looks at the clock.
const BATCH: u64 = 64;
/// The budget: verified a second on one core.
const VERIFIED: f64 = 18_000.0;
const PEER: &str = "k256";
const SECRET: [u8; 32] = [7; 32];
const DOMAIN: Domain = Domain { chain_id: 31_337, contract: Address::repeat_byte(0x1e) };

pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let key = SigningKey::from_bytes(SECRET)?;
    let peer = PrivateKeySigner::from_slice(&SECRET)?;
    let terms = terms(key.address());
    let lease = terms.id(&DOMAIN)?;
    let now = Timestamp::from_unix(2_000);
    let sample = voucher(lease, 1).sign(&DOMAIN, &key)?;
    ensure!(sample.signature.as_bytes() == &theirs_sign(&peer, &sample.voucher)?, "k256 signs otherwise");
    let compact = alloy::primitives::Signature::from_raw_array(sample.signature.as_bytes())?;
    let mut rates = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        rates[0].push(rate(|number| {
            voucher(lease, number).sign(&DOMAIN, &key)?;
            Ok(())
        })?);
        rates[1].push(rate(|number| theirs_sign(&peer, &voucher(lease, number)).map(drop))?);
        rates[2].push(rate(|_| verify(&sample, &terms, lease, now))?);
        rates[3].push(rate(|_| {
            let signer = compact.recover_from_prehash(&digest(&sample.voucher)?)?;
            ensure!(Address::from_public_key(&signer) == key.address(), "another signer");
            Ok(())
        })?);
    }
    let [sign, their_sign, verify, their_verify] = rates.map(median);
    say(format_args!("  signed {sign:.0}/s, verified {verify:.0}/s"));
    Ok(vec![
        Figure::new("voucher: signed on one core", sign, "1/s").beside(PEER, their_sign),
        Figure::new("voucher: verified on one core", verify, "1/s")
            .at_least(VERIFIED)
            .beside(PEER, their_verify),
    ])
}

/// How often `work` is done a second.
fn rate(mut work: impl FnMut(u64) -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut done = 0;
    while began.elapsed() < ROUND {
        for _ in 0..BATCH {
            done += 1;
            work(done)?;
        }
    }
    Ok(per_second(done, began.elapsed()))
}

fn voucher(lease: LeaseId, cumulative: u64) -> Voucher {
    let cumulative = Money::from_base_units(100_000 + cumulative);
    Voucher { lease, cumulative, not_before: Timestamp::default(), last: false }
}

fn verify(signed: &SignedVoucher, terms: &LeaseTerms, lease: LeaseId, now: Timestamp) -> anyhow::Result<()> {
    Ok(std::hint::black_box(signed).verify(terms, lease, &DOMAIN, Money::ZERO, now)?)
}

fn digest(voucher: &Voucher) -> anyhow::Result<B256> {
    Ok(std::hint::black_box(voucher).to_sol()?.eip712_signing_hash(&DOMAIN.eip712()))
}

fn theirs_sign(peer: &PrivateKeySigner, voucher: &Voucher) -> anyhow::Result<[u8; 65]> {
    Ok(peer.sign_hash_sync(&digest(voucher)?)?.as_bytes())
}

fn terms(meter: Address) -> LeaseTerms {
    let money = Money::from_base_units;
    LeaseTerms {
        buyer: BuyerId::new(Address::repeat_byte(1)),
        provider: ProviderId::new(Address::repeat_byte(2)),
        device: DeviceId::NONE,
        units: 0,
        unstaked: true,
        meter,
        meter_may_sign_last: true,
        token: Address::repeat_byte(3),
        rate: RatePerSecond::per_hour(money(3_600_000)),
        deposit: money(3_600_000),
        prepay: money(60_000),
        bond: money(4_600_000),
        compensation_cap: money(3_600_000),
        provider_break_fee: money(1_000_000),
        buyer_break_fee: Money::ZERO,
        kind: LeaseKind::OnDemand,
        start: Timestamp::from_unix(1_000),
        end: Timestamp::from_unix(4_600),
        open_by: Timestamp::from_unix(1_030),
        prepare: Seconds::ZERO,
        notice: Seconds::new(300),
        slack: Seconds::new(60),
        uptime_promise: 9_900,
        version: 1,
        job: B256::ZERO,
        terms_of_service: B256::ZERO,
        parent: B256::ZERO,
    }
}
