use proptest::prelude::*;

use super::*;

fn key() -> SigningKey {
    SigningKey::from_bytes([7; 32]).unwrap()
}

/// An offer of one 8×H100 host, sold by the GPU, signed by [`key`].
pub(crate) fn sample() -> Offer {
    Offer {
        provider: ProviderId::new(key().address()),
        device: DeviceId::new(B256::repeat_byte(3)),
        mesh_key: MeshKey::from_bytes([9; 32]),
        sequence: 1,
        issued_at: Timestamp::from_unix(1_000),
        expires_at: Timestamp::from_unix(1_060),
        runtimes: Runtimes::PROCESS.with(Runtimes::DOCKER),
        unit: Resources {
            cpu_millis: 16_000,
            memory: Bytes::gib(128),
            disk: Bytes::gib(500),
            gpus: Some(Gpus {
                count: 1,
                vendor: Vendor::Nvidia,
                model: "H100".into(),
                vram: Bytes::gib(80),
                compute_capability: Some("9.0".parse().unwrap()),
                driver: Some("570.86.15".parse().unwrap()),
                interconnect: Some(Interconnect::NvSwitch),
            }),
        },
        units: 8,
        free_units: 8,
        region: Region { country: "DE".into(), label: Some("fra-1".into()) },
        prices: Prices {
            token: Address::repeat_byte(5),
            on_demand: RatePerSecond::per_hour(Money::parse("2.5", 6).unwrap()),
            spot: Some(RatePerSecond::per_hour(Money::parse("1.2", 6).unwrap())),
            reserved_discount: Some(2_000),
            egress: None,
        },
        conditions: Conditions::standard(),
        network: Network::Internet,
        ports: vec![PortRange { first: 1024, last: 65_535 }],
        trust: TrustTier::Staked,
        terms_of_service: B256::repeat_byte(8),
        version: 1,
        address: None,
        tees: Tees::NONE,
        encrypted: false,
        attested: Vec::new(),
    }
}

fn at(unix: u64) -> Timestamp {
    Timestamp::from_unix(unix)
}

fn word(expires: Timestamp) -> PlaceWord {
    PlaceWord { issuer: Address::repeat_byte(6), expires }
}

fn signed_bytes(bytes: Vec<u8>) -> SignedOffer {
    SignedOffer::from_signed(Signed::new(DOMAIN, bytes, &key()))
}

#[test]
fn an_offer_reads_what_its_provider_signed() {
    let signed = SignedOffer::sign(&sample(), &key()).unwrap();
    assert_eq!(signed.verify(at(1_010)).unwrap(), sample());
    assert!(signed.signed().bytes.len() < 400, "{} bytes", signed.signed().bytes.len());
}

#[test]
fn an_offer_ends_by_itself_and_does_not_begin_early() {
    let signed = SignedOffer::sign(&sample(), &key()).unwrap();
    assert_eq!(signed.verify(at(1_060)), Err(OfferError::Expired(at(1_060))));
    assert_eq!(signed.verify(at(939)), Err(OfferError::Early(at(1_000))));
    assert!(signed.verify(at(940)).is_ok());
}

#[test]
fn nobody_else_signs_for_a_provider() {
    let other = SigningKey::from_bytes([8; 32]).unwrap();
    assert!(matches!(SignedOffer::sign(&sample(), &other), Err(OfferError::Signature(_))));
    let bytes = minicbor::to_vec(sample()).unwrap();
    let forged = SignedOffer::from_signed(Signed::new(DOMAIN, bytes.clone(), &other));
    assert!(matches!(forged.verify(at(1_010)), Err(OfferError::Signature(_))));
    let other_domain = SignedOffer::from_signed(Signed::new("usage", bytes, &key()));
    assert!(matches!(other_domain.verify(at(1_010)), Err(OfferError::Signature(_))));
}

#[test]
fn a_field_of_a_later_version_is_skipped() {
    let mut bytes = minicbor::to_vec(sample()).unwrap();
    assert_eq!(bytes[0], 0xb5, "a map of 21 entries");
    bytes[0] = 0xb6;
    bytes.extend(minicbor::to_vec((99u32, "from the future")).unwrap()[1..].iter());
    assert_eq!(signed_bytes(bytes).verify(at(1_010)).unwrap(), sample());
}

#[test]
fn an_offer_of_an_earlier_version_claims_nothing_of_what_came_later() {
    let mut bytes = minicbor::to_vec(Offer { encrypted: true, ..sample() }).unwrap();
    assert_eq!(bytes.split_off(bytes.len() - 6), [19, 0, 20, 0xf5, 21, 0x80], "the last fields");
    bytes[0] = 0xb2;
    let offer = signed_bytes(bytes).verify(at(1_010)).unwrap();
    assert_eq!((offer.tees, offer.encrypted, offer.attested), (Tees::NONE, false, Vec::new()));
}

#[test]
fn an_offer_repeats_who_attests_its_place() {
    let offer = Offer { attested: vec![word(crate::place::LAST_EXPIRY); MAX_WORDS], ..sample() };
    let signed = SignedOffer::sign(&offer, &key()).unwrap();
    assert_eq!(signed.verify(at(1_010)).unwrap(), offer);
}

#[test]
fn trailing_bytes_and_oversized_offers_are_refused() {
    let mut bytes = minicbor::to_vec(sample()).unwrap();
    bytes.push(0);
    assert_eq!(signed_bytes(bytes.clone()).verify(at(1_010)), Err(OfferError::Malformed));
    bytes.resize(MAX_OFFER_BYTES + 1, 0);
    assert_eq!(signed_bytes(bytes).verify(at(1_010)), Err(OfferError::Size(MAX_OFFER_BYTES + 1)));
}

#[test]
fn every_range_is_checked() {
    type Break = (&'static str, fn(&mut Offer));
    let broken: [Break; 17] = [
        ("lifetime", |o| o.expires_at = at(1_000 + 3_601)),
        ("expiry", |o| o.expires_at = o.issued_at),
        ("runtimes", |o| o.runtimes = Runtimes::NONE),
        ("units", |o| o.units = 65),
        ("free units", |o| o.free_units = 9),
        ("trust tier", |o| o.device = DeviceId::NONE),
        ("ports", |o| o.ports = vec![PortRange { first: 9, last: 8 }]),
        ("country", |o| o.region.country = "de".into()),
        ("region label", |o| o.region.label = Some("\u{1b}[2J".into())),
        ("CPU", |o| o.unit.cpu_millis = 0),
        ("price", |o| o.prices.on_demand = RatePerSecond::from_scaled(u128::MAX)),
        ("reserved discount", |o| o.prices.reserved_discount = Some(10_000)),
        ("prepayment", |o| o.conditions.prepay = Seconds::new(601)),
        ("attestations", |o| o.attested = vec![word(at(1_100)); MAX_WORDS + 1]),
        ("attestations", |o| o.attested = vec![word(at(1 << 40))]),
        ("attestations", |o| {
            (o.device, o.trust) = (DeviceId::NONE, TrustTier::Unstaked);
            o.attested = vec![word(at(1_100))];
        }),
        ("uptime promise", |o| o.conditions.uptime_promise = 10_001),
    ];
    for (name, breaks) in broken {
        let mut offer = sample();
        breaks(&mut offer);
        let bytes = minicbor::to_vec(&offer).unwrap();
        match signed_bytes(bytes).verify(at(1_010)) {
            Err(OfferError::Range { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
        assert!(SignedOffer::sign(&offer, &key()).is_err());
    }
}

#[test]
fn models_are_matched_however_they_are_written() {
    for text in ["NVIDIA H100 80GB HBM3", "h100", "H100-80GB", "Nvidia H100"] {
        assert_eq!(Gpus::canonical_model(text), "H100", "{text}");
    }
    assert_eq!(Gpus::canonical_model("NVIDIA GeForce RTX 4090"), "RTX4090");
    assert_eq!(Gpus::canonical_model("A100-SXM4-40GB"), "A100SXM4");
    assert_eq!(Gpus::canonical_model("AMD Instinct MI300X"), "MI300X");
}

#[test]
fn a_slice_of_a_card_is_another_model_for_each_profile() {
    for text in ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "H100-1G.10GB", "h100 1g.10gb", "H1001G10GB"] {
        assert_eq!(Gpus::canonical_model(text), "H1001G10GB", "{text}");
    }
    assert_eq!(Gpus::canonical_model("NVIDIA H100 80GB HBM3 MIG 1g.20gb"), "H1001G20GB");
    assert_eq!(Gpus::canonical_model("NVIDIA A100-SXM4-40GB MIG 1c.3g.20gb"), "A100SXM41C3G20GB");
    assert_eq!(Gpus::canonical_model("NVIDIA A100-SXM4-40GB MIG 1g.5gb+me"), "A100SXM41G5GBME");
    assert_eq!(Gpus::canonical_model("H100 80GB 80GB"), "H100");
}

#[test]
fn a_reserved_unit_costs_less_by_the_discount() {
    let offer = sample();
    let hourly = |kind| offer.unit_rate(kind).unwrap().hourly().base_units();
    assert_eq!(hourly(LeaseKind::OnDemand), 2_500_000);
    assert_eq!(hourly(LeaseKind::Spot), 1_200_000);
    assert_eq!(hourly(LeaseKind::Reserved), 2_000_000);
}

proptest! {
    #[test]
    fn no_bytes_at_all_make_verification_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(signed_bytes(bytes).verify(at(1_010)).is_err());
    }

    #[test]
    fn a_flipped_byte_is_an_error_or_another_valid_offer(index in 0usize..300, flip in 1u8..) {
        let mut bytes = minicbor::to_vec(sample()).unwrap();
        let index = index % bytes.len();
        bytes[index] ^= flip;
        if let Ok(offer) = signed_bytes(bytes).verify(at(1_010)) {
            prop_assert_eq!(offer.check(), Ok(()));
        }
    }
}
