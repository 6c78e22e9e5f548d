//! The providers' page, followed word for word on an empty machine.

use std::path::Path;
use std::process::{Command, Output};

use tradewind_proto::supervision::Outcome;
use tradewind_proto::units::Money;

use crate::market::{BUYER, LEDGER, Market};

const PAGE: &str = include_str!("../../../../docs/provider.md");

/// A machine with the program and nothing else. Whatever its owner started ends with this value.
struct Machine<'a>(&'a Path);

impl Machine<'_> {
    fn types(&self, script: &str) -> Output {
        let program = Path::new(env!("CARGO_BIN_EXE_tradewind")).parent().expect("a directory");
        let path = std::env::var("PATH").unwrap_or_default();
        Command::new("/bin/sh")
            .args(["-e", "-u", "-c", script])
            .current_dir(self.0)
            .env("PATH", format!("{}:{path}", program.display()))
            .env("TRADEWIND_HOME", self.0.join("home"))
            .env_remove("TRADEWIND_SOCKET")
            .env_remove("TRADEWIND_PASSWORD")
            .output()
            .expect("a shell")
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        let _ = self.types("tradewind node stop");
    }
}

/// The first commands of a page.
fn commands(page: &str) -> &str {
    let (_, block) = page.split_once("```sh\n").expect("commands");
    block.split_once("```").expect("their end").0
}

#[test]
fn who_follows_the_providers_page_word_for_word_is_paid() {
    let mut market = Market::new();
    market.start_ledger(LEDGER);
    market.start("buyer", BUYER);
    let place = market.path("machine");
    std::fs::create_dir(&place).expect("made");
    std::fs::copy(market.path("network.toml"), place.join("network.toml")).expect("copied");
    let machine = Machine(&place);
    let script = commands(PAGE);
    assert!(script.contains("provider join"), "{script}");
    let said = machine.types(script);
    let text = [said.stdout, said.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(said.status.success(), "{text}");
    assert!(text.contains("you are live"), "{text}");
    println!("{text}");

    market.hears_of(1);
    let job = market.submit("run: sleep 3; echo done\nresources: {cpus: 1, memory: 64MiB, disk: 64MiB}\n");
    let attempt = market.settled(&job);
    assert_eq!(attempt.outcome, Some(Outcome::Finished { code: 0 }), "{attempt:?}");
    let paid = attempt.settled.expect("settled").paid;
    assert!(paid > Money::ZERO, "the lease was paid");
    let status = machine.types("tradewind --json provider status");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["leases"], 0, "and is over: {status}");
}
