//! Whom a watcher's node asks for drand's rounds.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::UNIX_EPOCH;

use crate::market::Market;

const EVMNET: &str = "04f1e9062b8a81f848fded9c12306733282b2727ecced50032187751166ec8c3";
const GENESIS: u64 = 1_727_521_075;

fn now() -> u64 {
    UNIX_EPOCH.elapsed().expect("a clock").as_secs()
}

#[test]
fn a_watcher_asks_the_relay_that_it_was_told_of_for_the_rounds_of_its_epochs() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (heard, paths) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(&stream);
            let mut line = String::new();
            if reader.read_line(&mut line).is_err() || heard.send(line).is_err() {
                return;
            }
            // Nothing listens to what it says: the node asks again later.
            let _ = (&stream)
                .write_all(b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let begin = now();
    let mut market = Market::new();
    let roles = format!(
        "[ledger]\ntimings = \"tests\"\nbeacon = \"evmnet\"\n[watcher]\nseats = 1\ndrand = [\"{url}\"]\n"
    );
    market.start_ledger(&roles);
    market.start("watcher", "[watcher]\nseats = 1\n");
    market.until("the other watcher says what it lacks", || {
        let log = std::fs::read_to_string(market.path("watcher/log")).unwrap_or_default();
        log.contains("this node brings none of its rounds; hint: name relays")
    });

    let line = paths.recv_timeout(crate::market::LONG).expect("the relay is asked");
    let round = line
        .strip_prefix(&format!("GET /{EVMNET}/public/"))
        .and_then(|rest| rest.strip_suffix(" HTTP/1.1\r\n"));
    let round: u64 = round.and_then(|round| round.parse().ok()).unwrap_or_else(|| panic!("asked for {line}"));
    let published = GENESIS + 3 * (round - 1);
    assert!((begin..=now()).contains(&published), "round {round} is of {published}, asked since {begin}");
    market.until("the node says that the round is not to be had", || {
        let log = std::fs::read_to_string(market.path("ledger/log")).unwrap_or_default();
        log.contains(&format!(
            "round {round} of drand is not to be had: {}: it answered 503; hint:",
            &url[7..]
        ))
    });
}
