//! A network that stakes its own token: what devices stand for burns, and everything else stays in dollars.

use alloy::primitives::U256;
use tradewind_proto::profile::AssetKind;
use tradewind_proto::units::Money;

use crate::market::{BUYER, LEDGER, Market, PROVIDER};

fn twd(whole: &str) -> Money {
    Money::parse(whole, 18).expect("an amount")
}

#[test]
fn a_provider_without_gas_stakes_the_networks_own_token_and_earns_dollars() {
    let mut market = Market::new();
    market.start_ledger(&format!("{LEDGER}stake = \"network-token\"\n"));
    let profile = market.profile();
    let staked = profile.staked().expect("an asset").clone();
    assert_eq!((staked.symbol.as_str(), staked.decimals, staked.kind), ("TWD", 18, AssetKind::Erc2612));
    assert_eq!(profile.contracts.network_token, Some(staked.address));
    market.start("provider", PROVIDER);
    market.start("buyer", BUYER);
    market.hears_of(1);

    let account = market.account("provider");
    {
        let chain = market.chain();
        assert_eq!(chain.staked(staked.address), twd("50"), "the device's stake, in whole network tokens");
        assert_eq!(chain.gas(account), U256::ZERO);
    }
    let said = market.command("provider", &["provider", "status"]).output().expect("the program starts");
    let screen = String::from_utf8_lossy(&said.stdout);
    assert!(screen.contains("50 TWD") && screen.contains("ready"), "{screen}");
    assert!(screen.contains(" tUSD"), "bonds stay in dollars: {screen}");

    let job =
        market.submit("name: short\nrun: echo done\nresources: {cpus: 1, memory: 128MiB, disk: 64MiB}\n");
    let attempt = market.settled(&job);
    assert!(attempt.settled.is_some_and(|settled| settled.paid > Money::ZERO), "{attempt:?}");

    market.kill("provider");
    market.again("provider");
    assert_eq!(market.chain().staked(staked.address), twd("50"), "a restart stakes nothing twice");
}
