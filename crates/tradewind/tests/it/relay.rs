//! Buyer and provider that can reach nothing but the node with relay and ledger.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tradewind_testbed::net::{MIDDLE, Net};

use crate::digits;
use crate::market::{BUYER, Market, PROVIDER};

#[test]
fn two_nodes_that_share_only_a_relay_train_digits() {
    let net = Net::new();
    for (place, other) in [("left", "10.71.2.2"), ("right", "10.71.1.2")] {
        assert!(net.reaches(place, MIDDLE), "{place} reaches the relay's machine");
        assert!(!net.reaches(place, other), "{place} must not reach {other}");
        let other: SocketAddr = format!("{other}:9").parse().expect("an address");
        let connecting = net.run(place, move || async move {
            TcpStream::connect_timeout(&other, Duration::from_secs(1)).err().map(|error| error.kind())
        });
        let refused = connecting.blocking_recv().expect("tried").expect("no connection");
        assert_ne!(refused, std::io::ErrorKind::ConnectionRefused, "{place} met the host {other}");
    }
    let before = (net.traffic("middle", "m1"), net.traffic("middle", "m2"));
    let mut market = Market::on(net);
    let listen = format!("{MIDDLE}:0");
    let roles =
        format!("[ledger]\ntimings = \"tests\"\nrelayer = \"{listen}\"\n[relay]\nlisten = \"{listen}\"\n");
    market.start_in("middle", "ledger", &listen, &roles);
    let mut profile = market.profile();
    assert_eq!(profile.relays.len(), 1, "the profile names the relay");
    profile.chain.rpc = vec![format!("http://{}", lend_out(&market, &profile.chain.rpc[0]))];
    market.publish(&profile);
    market.start_in("right", "provider", "0.0.0.0:0", PROVIDER);
    market.start_in("left", "buyer", "0.0.0.0:0", BUYER);
    market.hears_of(1);
    let job = digits::lay_out(&market);
    digits::run(&market, &job);

    // Nothing is forwarded in the middle: what crossed both of its links went through the relay's process.
    let program = std::fs::metadata(digits::program()).expect("the program").len();
    let after = (market.net().traffic("middle", "m1"), market.net().traffic("middle", "m2"));
    let (from_buyer, to_provider) = (after.0.0 - before.0.0, after.1.1 - before.1.1);
    assert!(from_buyer > program && to_provider > program, "{from_buyer} and {to_provider} bytes");
    assert!(!market.net().reaches("left", "10.71.2.2") && !market.net().reaches("right", "10.71.1.2"));
}

/// The ledger answers on its machine's loopback only; what an operator puts before it to serve others.
fn lend_out(market: &Market, rpc: &str) -> SocketAddr {
    let ledger: SocketAddr = rpc.trim_start_matches("http://").parse().expect("an address");
    let (told, listening) = tokio::sync::oneshot::channel();
    let _serving = market.net().run("middle", move || async move {
        let listener = tokio::net::TcpListener::bind((MIDDLE, 0)).await.expect("bound");
        told.send(listener.local_addr().expect("an address")).expect("told");
        while let Ok((mut theirs, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut ours) = tokio::net::TcpStream::connect(ledger).await {
                    let _ = tokio::io::copy_bidirectional(&mut theirs, &mut ours).await;
                }
            });
        }
    });
    listening.blocking_recv().expect("it listens")
}
