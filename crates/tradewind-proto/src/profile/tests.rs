use proptest::prelude::*;

use super::*;

fn key() -> SigningKey {
    SigningKey::from_bytes([7; 32]).unwrap()
}

fn sample() -> NetworkProfile {
    NetworkProfile {
        name: "dev".into(),
        development: true,
        relayers: vec!["http://127.0.0.1:8600".into()],
        faucet: Some("http://127.0.0.1:8600/faucet".into()),
        relays: vec!["https://relay.example.org".into()],
        explorer: None,
        sponsor: Some(Address::repeat_byte(7)),
        chain: ChainProfile { id: 31_337, rpc: vec!["http://127.0.0.1:8545".into()], finality: 0 },
        contracts: Contracts {
            leases: Address::repeat_byte(1),
            registry: Address::repeat_byte(2),
            court: None,
            network_token: None,
            multicall: Some(Address::repeat_byte(3)),
            attestations: None,
        },
        challenge: None,
        walk: None,
        stake: Some(Asset {
            symbol: "TWD".into(),
            address: Address::repeat_byte(6),
            decimals: 18,
            kind: AssetKind::Erc2612,
        }),
        assets: vec![Asset {
            symbol: "USDX".into(),
            address: Address::repeat_byte(4),
            decimals: 6,
            kind: AssetKind::Erc3009,
        }],
        bootstrap: vec![Bootstrap {
            key: MeshKey::from_bytes([5; 32]),
            addresses: vec!["127.0.0.1:4433".parse().unwrap()],
        }],
    }
}

#[test]
fn a_profile_reads_what_it_writes() {
    let text = sample().encode().unwrap();
    insta::assert_snapshot!(text);
    assert_eq!(NetworkProfile::parse("network.toml", &text).unwrap(), sample());
}

#[test]
fn a_signed_profile_names_its_publisher() {
    let text = sample().sign(&key()).unwrap();
    let verified = VerifiedProfile::parse("network.toml", &text, Some(key().address())).unwrap();
    assert_eq!(verified.profile, sample());
    assert_eq!(verified.publisher, key().address());
    assert_eq!(
        NetworkProfile::parse("network.toml", &text).unwrap(),
        sample(),
        "others read past the signature"
    );
}

#[test]
fn a_changed_profile_is_no_longer_its_publishers() {
    let text = sample().sign(&key()).unwrap().replace("31337", "1");
    let error = VerifiedProfile::parse("network.toml", &text, Some(key().address())).unwrap_err();
    assert!(matches!(error, ProfileError::Signature(_)), "{error}");
    let unsigned = sample().encode().unwrap();
    let error = VerifiedProfile::parse("network.toml", &unsigned, None).unwrap_err();
    assert_eq!(error, ProfileError::Unsigned);
}

#[test]
fn errors_name_the_line() {
    let text = sample().encode().unwrap();
    let broken = [
        ("unknown field", text.replace("decimals", "decimal")),
        ("duplicate key", text.replace("id = 31337", "id = 1\nid = 2")),
        ("not TOML", text.replace("id = 31337", "id = = 1")),
        ("wrong type", text.replace("31337", "\"x\"")),
        ("bad address", text.replace(&Address::repeat_byte(1).to_string(), "0x12")),
        ("bad kind", text.replace("erc3009", "erc20")),
        ("bad mesh key", text.replace("0505", "05zz")),
    ];
    let mut out = String::new();
    for (name, text) in broken {
        let error = NetworkProfile::parse("network.toml", &text).unwrap_err();
        assert!(matches!(error, ProfileError::Syntax { .. }), "{name}: {error}");
        out.push_str(&format!("{name}: {error}\n"));
    }
    insta::assert_snapshot!(out);
}

#[test]
fn values_that_make_no_sense_are_refused() {
    type Break = (&'static str, fn(&mut NetworkProfile));
    let broken: [Break; 8] = [
        ("name", |p| p.name = "\u{1b}[2J".into()),
        ("chain.id", |p| p.chain.id = 0),
        ("chain.rpc", |p| p.chain.rpc.clear()),
        ("chain.rpc", |p| p.chain.rpc[0] = "file:///etc/passwd".into()),
        ("contracts", |p| p.contracts.registry = p.contracts.leases),
        ("assets", |p| p.assets.clear()),
        ("assets", |p| p.assets.push(p.assets[0].clone())),
        ("faucet", |p| p.development = false),
    ];
    for (name, breaks) in broken {
        let mut profile = sample();
        breaks(&mut profile);
        match profile.encode() {
            Err(ProfileError::Value { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn the_digest_is_the_networks_and_not_the_texts() {
    let renamed = NetworkProfile { name: "other".into(), ..sample() };
    assert_eq!(renamed.digest(), sample().digest());
    let mut elsewhere = sample();
    elsewhere.chain.id = 1;
    assert_ne!(elsewhere.digest(), sample().digest());
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}", tail in "[\\PC\n#: 0x]{0,40}") {
        let _ = VerifiedProfile::parse("network.toml", &format!("{text}\n# signature: {tail}"), None);
        let _ = NetworkProfile::parse("network.toml", &text);
    }
}
