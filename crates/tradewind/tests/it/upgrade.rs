//! A provider's program is replaced under a running lease.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tradewind_proto::units::Money;

use crate::fault::{counting, finished_whole};
use crate::market::{BUYER, Job, LEDGER, Market, PROVIDER};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tradewind");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A provider that keeps its own program, with a node in the background.
struct Installed {
    home: PathBuf,
    program: PathBuf,
}

impl Installed {
    /// In a market of its own, where a buyer hears of it.
    fn in_a_market() -> (Market, Self) {
        let mut market = Market::new();
        market.start_ledger(LEDGER);
        market.start("buyer", BUYER);
        let home = market.path("home-of-the-provider");
        let installed = Self { program: home.join("bin/tradewind"), home };
        std::fs::create_dir_all(installed.home.join("bin")).unwrap();
        std::fs::copy(PROGRAM, &installed.program).unwrap();
        let config = format!(
            "data_dir = \".\"\nprofile = \"../network.toml\"\npassword_file = \"password\"\n\
             [mesh]\nbind = \"127.0.0.1:0\"\n{PROVIDER}"
        );
        std::fs::write(installed.home.join("node.toml"), config).unwrap();
        let password = installed.home.join("password");
        std::fs::write(&password, "correct horse").unwrap();
        std::fs::set_permissions(&password, PermissionsExt::from_mode(0o600)).unwrap();
        let started = installed.run(&["node", "start"]);
        assert!(started.status.success(), "{}", said(&started));
        market.hears_of(1);
        (market, installed)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(&self.program)
            .args(arguments)
            .env("TRADEWIND_HOME", &self.home)
            .env_remove("TRADEWIND_SOCKET")
            .env_remove("TRADEWIND_PASSWORD")
            .output()
            .unwrap()
    }

    fn upgrade(&self, file: &Path) -> Output {
        self.run(&["upgrade", "--json", "--wait", "20", file.to_str().unwrap()])
    }

    /// The process that the node is, and the program that it runs.
    fn node(&self) -> (u64, PathBuf) {
        let status: Value = serde_json::from_slice(&self.run(&["status", "--json"]).stdout).unwrap();
        let pid = status["pid"].as_u64().unwrap();
        (pid, std::fs::read_link(format!("/proc/{pid}/exe")).unwrap())
    }

    /// The process that holds the one workload.
    fn shim(&self) -> i64 {
        let jobs: Vec<PathBuf> = std::fs::read_dir(self.home.join("runtime/process/jobs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|dir| dir.join("shim.json").exists())
            .collect();
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        let shim: Value = serde_json::from_slice(&std::fs::read(jobs[0].join("shim.json")).unwrap()).unwrap();
        shim["pid"].as_i64().unwrap()
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        self.run(&["node", "stop"]);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn signed(market: &Market, job: &Job) -> Money {
    market.attempt(job).map_or(Money::ZERO, |attempt| attempt.supervision.signed)
}

/// A program that says it is one, and then does this.
fn impostor(market: &Market, then: &str) -> PathBuf {
    let path = market.path("impostor");
    let text =
        format!("#!/bin/sh\n[ \"$1\" != --version ] || {{ echo tradewind {VERSION}; exit; }}\n{then}\n");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

#[test]
fn an_upgrade_leaves_workload_and_vouchers_going_on() {
    const TICKS: u32 = 30;
    let (market, provider) = Installed::in_a_market();
    let job = market.submit(&counting(TICKS));
    market.said(&job, "tick 3");
    let (shim, (before, _)) = (provider.shim(), provider.node());

    let upgraded = provider.upgrade(Path::new(PROGRAM));
    assert!(upgraded.status.success(), "{}", said(&upgraded));
    let told: Value = serde_json::from_slice(&upgraded.stdout).unwrap();
    assert_eq!(
        (&told["restarted"], &told["leases"], &told["to"]),
        (&true.into(), &1.into(), &VERSION.into()),
        "{told}"
    );
    let (after, program) = provider.node();
    assert_ne!(after, before);
    assert_eq!(program, provider.program, "the new program runs, in the old one's place");
    assert!(provider.home.join("bin/tradewind.old").exists());
    assert_eq!(provider.shim(), shim, "the workload is the same process");
    let paid = signed(&market, &job);
    market.until("vouchers go on", || signed(&market, &job) > paid);
    finished_whole(&market, &job, TICKS);
}

#[test]
fn a_program_that_is_no_good_gives_way_to_the_old_one_and_the_workload_goes_on() {
    const TICKS: u32 = 60;
    let (market, provider) = Installed::in_a_market();
    let job = market.submit(&counting(TICKS));
    market.said(&job, "tick 3");
    let shim = provider.shim();

    let broken = market.path("broken");
    std::fs::write(&broken, "#!/bin/sh\nexit 1\n").unwrap();
    let (before, _) = provider.node();
    let refused = provider.upgrade(&broken);
    assert!(said(&refused).contains("does not run here; nothing was changed"), "{}", said(&refused));
    assert_eq!(provider.node().0, before, "the node was not even ended");

    for (then, why) in
        [("echo no such luck >&2; exit 1", "no such luck"), ("exec sleep 600", "does not answer after 20 s")]
    {
        let returned = provider.upgrade(&impostor(&market, then));
        assert_eq!(returned.status.code(), Some(125));
        let told = said(&returned);
        assert!(told.contains("the old one runs again") && told.contains(why), "{told}");
        let (now, program) = provider.node();
        assert_ne!(now, before);
        assert_eq!(program, provider.program);
        assert!(!provider.home.join("bin/tradewind.old").exists(), "it is back in its place");
        assert_eq!(provider.shim(), shim, "the workload is the same process");
    }
    let paid = signed(&market, &job);
    market.until("vouchers go on", || signed(&market, &job) > paid);
    finished_whole(&market, &job, TICKS);
}
