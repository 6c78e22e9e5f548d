//! The node in the background, as the commands start, find, lose and end it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tradewind_proto::profile::NetworkProfile;

use super::tradewind;

/// A machine of its own, whose node ends with it.
struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    /// Without a configuration.
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// With a ledger of its own, and these roles beside it.
    fn with_ledger(roles: &str) -> Self {
        use std::os::unix::fs::OpenOptionsExt;
        let machine = Self::new();
        let mut password = std::fs::File::options();
        let mut password =
            password.write(true).create_new(true).mode(0o600).open(machine.path("password")).unwrap();
        password.write_all(b"correct horse").unwrap();
        let config = format!(
            "data_dir = \".\"\nprofile = \"network.toml\"\npassword_file = \"password\"\n\
             [mesh]\nbind = \"127.0.0.1:0\"\n[ledger]\n{roles}"
        );
        std::fs::write(machine.path("node.toml"), config).unwrap();
        machine
    }

    /// Gives a ledger that runs the ports that it has for its whole life.
    fn keep_ports(&self) {
        let text = std::fs::read_to_string(self.path("network.toml")).unwrap();
        let profile = NetworkProfile::parse("network.toml", &text).unwrap();
        let place = |url: &str| url.trim_start_matches("http://").to_owned();
        let (rpc, relayer) = (place(&profile.chain.rpc[0]), place(&profile.relayers[0]));
        let mesh = profile.bootstrap[0].addresses[0];
        let config = std::fs::read_to_string(self.path("node.toml")).unwrap();
        let config = config.replace("bind = \"127.0.0.1:0\"", &format!("bind = \"{mesh}\""));
        let ports = format!("[ledger]\nrpc = \"{rpc}\"\nrelayer = \"{relayer}\"\n");
        std::fs::write(self.path("node.toml"), config.replace("[ledger]\n", &ports)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        tradewind(self.dir.path(), arguments)
    }

    /// What a command that must succeed printed last, as JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{said}{}", self.log());
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    }

    /// What a command that must fail by our own fault said.
    fn failure(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(125), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("node.log")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.run(&["node", "stop"]);
    }
}

fn kill_9(pid: u64) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    ends(pid);
}

fn ends(pid: u64) {
    let began = Instant::now();
    while alive(pid) {
        assert!(began.elapsed() < Duration::from_secs(30), "the process {pid} does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs, and is not merely waiting to be reaped.
fn alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

/// One HTTP exchange, and the JSON that it brings.
fn ask(mut stream: impl Read + Write, what: &str, body: &str) -> Value {
    let head = "host: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json";
    write!(stream, "{what} HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).unwrap()
}

#[test]
fn kill_9_of_a_background_node_leaves_nothing_in_the_way() {
    let machine = Machine::with_ledger("[buyer]\nfaucet = \"100\"\n");
    let started = machine.json(&["node", "start"]);
    let pid = started["pid"].as_u64().unwrap();
    assert_eq!(machine.json(&["node", "start"])["pid"], pid, "a second start finds the first");
    let status = machine.json(&["status"]);
    assert_eq!((&status["background"], &status["pid"]), (&Value::Bool(true), &Value::from(pid)));

    let refused = machine.failure(&["node"]);
    assert!(refused.contains("a node already runs on") && refused.contains(&pid.to_string()), "{refused}");
    assert_eq!(machine.json(&["status"])["pid"], pid, "the refused node harmed nothing");

    kill_9(pid);
    assert!(machine.path("node.sock").exists(), "it had no time to tidy up");
    let lost = machine.failure(&["ps"]);
    assert!(lost.contains("no node answers on") && lost.contains("hint: `tradewind node start`"), "{lost}");
    let again = machine.json(&["node", "start"])["pid"].as_u64().unwrap();
    assert_ne!(again, pid);

    machine.json(&["node", "stop"]);
    assert!(!machine.path("node.sock").exists());
    ends(again);
    assert_eq!(machine.json(&["node", "stop"])["running"], false, "stopping twice is stopping once");
}

#[test]
fn money_moves_into_the_contract_and_out_again() {
    let machine = Machine::with_ledger("[buyer]\nfaucet = \"100\"\n");
    machine.json(&["node", "start"]);
    let before = machine.json(&["wallet"]);
    let total = |view: &Value| view["wallet"].as_u64().unwrap() + view["free"].as_u64().unwrap();
    assert_eq!(machine.json(&["wallet", "address"])["account"], before["account"]);
    assert!(total(&before) >= 100_000_000);
    let (elsewhere, socket) = (tempfile::tempdir().unwrap(), machine.path("node.sock"));
    let by_socket = ["--socket", socket.to_str().unwrap(), "wallet", "address"];
    let told = tradewind(elsewhere.path(), &by_socket).stdout;
    assert_eq!(String::from_utf8_lossy(&told).trim(), before["account"], "the socket says whose wallet");
    let others = elsewhere.path().join("node.sock");
    let copy = elsewhere.path().join("copy.json");
    let export = ["--socket", others.to_str().unwrap(), "wallet", "export", copy.to_str().unwrap()];
    let refused = machine.failure(&export);
    assert!(refused.contains("is not of the node that") && !copy.exists(), "{refused}");

    let deposited = machine.json(&["wallet", "deposit", "12.5"]);
    let free = deposited["free"].as_u64().unwrap();
    assert!((12_000_000..=12_500_000).contains(&free), "{deposited}");
    let refused = machine.failure(&["wallet", "withdraw", "13"]);
    assert!(refused.contains("only 12.") && refused.contains("hint:"), "{refused}");
    let refused = machine.failure(&["wallet", "deposit", "twelve"]);
    assert!(refused.contains("an amount such as 1.25"), "{refused}");

    let withdrawn = machine.json(&["wallet", "withdraw", "--all"]);
    assert!(withdrawn["free"].as_u64().unwrap() <= 20_000, "{withdrawn}");
    assert!(total(&before) - total(&withdrawn) < 100_000, "only fees were lost: {before} {withdrawn}");
}

#[test]
fn the_socket_serves_the_document_that_the_command_prints() {
    let machine = Machine::with_ledger("");
    machine.json(&["node", "start"]);
    let printed = machine.json(&["node", "openapi"]);
    let stream = std::os::unix::net::UnixStream::connect(machine.path("node.sock")).unwrap();
    let served = ask(stream, "GET /openapi.json", "");
    assert_eq!(served, printed);
    assert!(served["paths"]["/v1/jobs/{id}/wait"]["get"].is_object(), "{served}");
}

#[test]
fn an_idle_ledger_goes_on_making_blocks() {
    let machine = Machine::with_ledger("heartbeat = 1\n[explorer]\n");
    machine.json(&["node", "start"]);
    let rpc = machine.json(&["status"])["rpc"].as_str().unwrap().to_owned();
    let block = || -> u64 {
        let request = r#"{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}"#;
        let stream = std::net::TcpStream::connect(rpc.trim_start_matches("http://")).unwrap();
        let answer = ask(stream, "POST /", request);
        u64::from_str_radix(answer["result"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    };
    let (first, began) = (block(), Instant::now());
    while block() < first + 3 {
        assert!(began.elapsed() < Duration::from_secs(60), "the ledger stands still at block {first}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn run_starts_a_node_where_none_runs_and_detach_leaves_the_job_with_it() {
    let market = Machine::with_ledger(
        "[provider]\nprice = \"0.20\"\ncpus = 1\nmemory = \"256MiB\"\ndisk = \"256MiB\"\nheartbeat = 2\n",
    );
    market.json(&["node", "start"]);
    let buyer = Machine::new();
    let profile = market.path("network.toml");
    let set_up = buyer.json(&["setup", "--yes", profile.to_str().unwrap()]);
    assert_eq!(set_up["enough"], true, "the faucet filled the wallet: {set_up}");
    let job = buyer.path("job.yaml");
    let text = "run: echo it ran; exit 7\nresources: {cpus: 1, memory: 64MiB, disk: 64MiB}\ntimeout: 5m\n";
    std::fs::write(&job, text).unwrap();
    let run = ["run", "--yes", "--detach", job.to_str().unwrap()];
    let id = buyer.json(&run)["job"].as_str().unwrap().to_owned();
    assert_eq!(buyer.json(&["status"])["background"], true);
    let ended = buyer.run(&["wait", &id]);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(7), "the job's own code: {said}{}", buyer.log());
    let log = buyer.run(&["logs", &id]);
    assert_eq!(String::from_utf8_lossy(&log.stdout), "it ran\n");
}

#[test]
fn a_machine_is_examined_priced_by_the_market_and_live() {
    let market = Machine::with_ledger("");
    market.json(&["node", "start"]);
    let alone = Machine::new();
    let stranger = alone.run(&["--json", "provider", "doctor"]);
    assert_eq!(stranger.status.code(), Some(125), "in no network, it cannot lend");
    let found: Value = serde_json::from_slice(&stranger.stdout).unwrap();
    let of = |found: &Value, area: &str| {
        found
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["area"] == area)
            .unwrap_or_else(|| panic!("{area}: {found}"))
            .clone()
    };
    assert_eq!(of(&found, "network")["verdict"], "bad");
    assert!(of(&found, "network")["fix"].as_str().unwrap().contains("tradewind setup"), "{found}");
    assert_eq!(of(&found, "process")["verdict"], "good");

    let size = ["--memory", "64MiB", "--disk", "64MiB", "--cpus", "1"];
    let profile = market.path("network.toml");
    let [first, second] = [Machine::new(), Machine::new()];
    for machine in [&first, &second] {
        machine.json(&["setup", "--yes", profile.to_str().unwrap()]);
    }
    first.json(&[&["provider", "join", "--price", "0.2"], &size[..]].concat());
    let asked = second.failure(&[&["provider", "join"], &size[..]].concat());
    assert!(asked.contains("the market proposes 0.2 tUSD") && asked.contains("--yes"), "{asked}");
    let joined = second.json(&[&["provider", "join", "--yes"], &size[..]].concat());
    assert_eq!((&joined["hourly"], &joined["offered"]), (&200_000.into(), &Value::Bool(true)), "{joined}");
    assert!(
        joined["heard_by"].as_u64() > Some(0) && joined["speed"]["products"].as_u64() > Some(0),
        "{joined}"
    );
    let network = &joined["speed"]["network"];
    let flows = ["received", "sent"].map(|way| network[way].as_u64() > Some(0));
    assert_eq!(flows, [true, true], "{network}");
    let again = second.json(&["provider", "speed"]);
    assert!(again["read"].as_u64() > Some(0), "{again}");
    let problem = again["network"]["problem"].as_str().unwrap_or_default();
    let first_node = network["peer"].as_str().unwrap();
    assert!(
        problem.starts_with(&format!("{first_node}: the peer refused: you were measured just now")),
        "{again}"
    );

    let found = second.json(&["provider", "doctor"]);
    assert_eq!(of(&found, "chain")["verdict"], "good", "{found}");
    assert_ne!(of(&found, "mesh")["verdict"], "bad", "{found}");
    let file = second.path("node.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("price = \"0.2\"\n", "heartbeat = 2\n");
    let follow = "[provider.follow]\npercent = 90\nfloor = \"0.05\"\nceiling = \"0.5\"\n";
    std::fs::write(&file, format!("{text}{follow}")).unwrap();
    second.json(&["node", "restart"]);
    let offers = || String::from_utf8_lossy(&first.run(&["offers"]).stdout).into_owned();
    let until = Instant::now() + Duration::from_secs(60);
    while !offers().contains(" 0.18 ") {
        assert!(Instant::now() < until, "never nine tenths of 0.2: {}", offers());
        std::thread::sleep(Duration::from_millis(200));
    }

    let crowded = second.failure(&["provider", "join", "--yes", "--memory", "900TiB"]);
    assert!(crowded.contains("`provider.memory`") && crowded.contains("cannot lend yet"), "{crowded}");
    assert_eq!(second.json(&["provider", "status"])["serving"], true, "what was refused changed nothing");
}

/// On the engine that `scripts/with-dockerd` starts.
#[test]
fn docker_without_the_sandbox_that_its_owner_names_lends_nothing_and_says_why() {
    let engine = super::digits::engine();
    let machine = Machine::with_ledger(&format!(
        "[provider]\nprice = \"0.2\"\ncpus = 1\nmemory = \"64MiB\"\ndisk = \"64MiB\"\nruntimes = [\"docker\"]\n\
         docker_host = \"{engine}\"\nsandbox = \"no-such-runtime\"\n"
    ));
    let refused = machine.failure(&["node", "start"]);
    assert!(refused.contains("`provider.sandbox` in node.toml is `no-such-runtime`"), "{refused}");
    let doctor = || {
        let said = machine.run(&["--json", "provider", "doctor"]);
        serde_json::from_slice::<Vec<Value>>(&said.stdout).unwrap()
    };
    let found = doctor();
    let missing = found.iter().find(|one| one["found"].as_str().unwrap().contains("`no-such-runtime`"));
    assert!(missing.is_some_and(|one| one["area"] == "docker" && one["verdict"] == "bad"), "{found:?}");

    let file = machine.path("node.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("no-such-runtime", "runsc")).unwrap();
    let found = doctor();
    let used = found.iter().find(|one| one["area"] == "sandbox");
    assert!(
        used.is_some_and(|one| one["verdict"] == "good" && one["found"] == "leases run in `runsc`"),
        "{found:?}"
    );
}

#[test]
fn each_new_device_serves_one_test_job_that_the_network_s_sponsor_pays() {
    let sponsor = Machine::with_ledger("[buyer]\nfaucet = \"100\"\n[sponsor]\neach = \"0.05\"\n");
    let started = sponsor.json(&["node", "start"]);
    sponsor.keep_ports();
    let profile = sponsor.path("network.toml");
    let set_up = || {
        let machine = Machine::new();
        machine.json(&["setup", "--yes", profile.to_str().unwrap()]);
        machine
    };
    let size = ["--memory", "64MiB", "--disk", "64MiB", "--cpus", "1"];
    let join = [&["provider", "join", "--price", "0.2"], &size[..]].concat();
    let tests = || {
        let jobs = sponsor.json(&["ps", "--all"]).as_array().unwrap().clone();
        jobs.into_iter().filter(|job| job["name"] == "test-job").count()
    };
    let first = set_up();
    let joined = first.json(&join);
    let (passed, paid) = (&joined["test_job"]["passed"], joined["test_job"]["paid"].as_u64());
    assert!(*passed == true && (1..=50_000).contains(&paid.unwrap()), "{joined}");
    assert_eq!(tests(), 1);

    // What was tested once is not tested again, whatever befalls the sponsor.
    kill_9(started["pid"].as_u64().unwrap());
    sponsor.json(&["node", "start"]);
    let dear = set_up();
    let file = dear.path("node.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let section = "[provider]\nprice = \"1000\"\ncpus = 1\nmemory = \"64MiB\"\ndisk = \"64MiB\"\n";
    std::fs::write(&file, format!("{text}{section}")).unwrap();
    dear.json(&["node", "restart"]);
    let until = Instant::now() + Duration::from_secs(60);
    while !sponsor.log().contains("no test job for a device that does not suit it") {
        assert!(Instant::now() < until, "the dear one is never looked at: {}", sponsor.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    let second = set_up();
    let joined = second.json(&join);
    assert_eq!(joined["test_job"]["passed"], true, "{joined}");
    assert_eq!(tests(), 2, "one for each that has a price");
    let again = first.json(&join);
    assert_eq!(again["test_job"], Value::Null, "who is known waits for none: {again}");
}

#[test]
fn a_sponsor_without_a_wallet_or_with_nonsense_for_money_does_not_start() {
    let poor = Machine::with_ledger("[sponsor]\n");
    let refused = poor.failure(&["node", "start"]);
    assert!(refused.contains("`[sponsor]` in node.toml needs a `[buyer]`"), "{refused}");
    let odd = Machine::with_ledger("[buyer]\n[sponsor]\neach = \"much\"\n");
    let refused = odd.failure(&["node", "start"]);
    assert!(refused.contains("`sponsor.each` in node.toml"), "{refused}");
}

#[test]
fn who_joins_without_a_stake_or_by_a_sponsor_is_told_what_that_means() {
    let market = Machine::with_ledger("[buyer]\nfaucet = \"100\"\n");
    market.json(&["node", "start"]);
    let profile = market.path("network.toml");
    let sponsor = market.json(&["status"])["account"].as_str().unwrap().to_owned();
    let [bold, poor] = [Machine::new(), Machine::new()];
    for machine in [&bold, &poor] {
        machine.json(&["setup", "--yes", profile.to_str().unwrap()]);
    }
    let join = ["provider", "join", "--price", "0.2", "--memory", "64MiB", "--disk", "64MiB", "--cpus", "1"];
    let joined = bold.json(&[&join[..], &["--stake", "0"]].concat());
    assert_eq!(
        (&joined["unstaked"], &joined["device"]["stake"]),
        (&Value::Bool(true), &0.into()),
        "{joined}"
    );
    let joining = [&join[..], &["--sponsor", &sponsor]].concat();
    let waiting = poor.failure(&joining);
    assert!(waiting.contains(&sponsor) && waiting.contains("tradewind wallet stake 0x"), "{waiting}");
    let device = poor.json(&["provider", "status"])["device"]["id"].as_str().unwrap().to_owned();
    market.json(&["wallet", "stake", &device, "50"]);
    let joined = poor.json(&joining);
    assert_eq!(
        (&joined["device"]["state"], &joined["device"]["stake"]),
        (&"ready".into(), &50_000_000.into())
    );
}

#[test]
fn a_sponsor_of_nothing_or_of_what_another_stakes_is_refused() {
    let section = |more: &str| {
        format!("[provider]\nprice = \"0.2\"\ncpus = 1\nmemory = \"64MiB\"\ndisk = \"64MiB\"\n{more}")
    };
    let named = "sponsor = \"0x1111111111111111111111111111111111111111\"\n";
    let machine = Machine::with_ledger(&section(&format!("{named}stake = \"0\"\n")));
    let file = machine.path("node.toml");
    let change = |from: &str, to: &str| {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
    };
    let refused = machine.failure(&["node", "start"]);
    assert!(refused.contains("`provider.stake` is 0"), "{refused}");
    change("0x1111111111111111111111111111111111111111", "bob");
    let refused = machine.failure(&["node", "start"]);
    assert!(refused.contains("`bob` is no account"), "{refused}");
    change("sponsor = \"bob\"\nstake = \"0\"\n", "");
    machine.json(&["node", "start"]);
    machine.json(&["node", "stop"]);
    change("[provider]\n", &format!("[provider]\n{named}"));
    let refused = machine.failure(&["node", "start"]);
    assert!(refused.contains("was added for") && refused.contains("sponsor = \"0x"), "{refused}");
}

#[test]
fn a_machine_joins_as_a_provider_and_leaves_with_its_stake_unbonding() {
    let market = Machine::with_ledger("");
    market.json(&["node", "start"]);
    let machine = Machine::new();
    machine.json(&["setup", "--yes", market.path("network.toml").to_str().unwrap()]);
    let file = machine.path("node.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("# the owner's own words\n{text}")).unwrap();

    let refused = machine.failure(&["provider", "join", "--price", "a lot"]);
    assert!(refused.contains("`provider.price` in node.toml"), "{refused}");
    let join = ["provider", "join", "--price", "0.2", "--memory", "64MiB", "--disk", "64MiB"];
    let joined = machine.json(&join);
    assert_eq!((&joined["serving"], &joined["accepting"]), (&Value::Bool(true), &Value::Bool(true)));
    assert_eq!(joined["device"]["state"], "ready");
    assert_eq!(joined["device"]["stake"], 50_000_000);
    machine.json(&["provider", "pause"]);
    assert_eq!(machine.json(&["provider", "status"])["accepting"], false);

    let left = machine.json(&["provider", "leave"]);
    assert_eq!(left["device"]["state"], "unbonding");
    assert!(left["device"]["unbonds_at"].as_u64().is_some(), "{left}");
    let remains = left["remains"].to_string();
    assert!(
        remains.contains("keep it until the stake is back") && remains.contains("tradewind node stop"),
        "{left}"
    );
    assert!(
        left["remains"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["path"] == machine.path("provider").to_str().unwrap())
    );
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# the owner's own words\n") && !text.contains("[provider]"), "{text}");
    assert_eq!(machine.json(&["status"])["roles"], serde_json::json!(["buyer"]));
    let again = machine.json(&["provider", "leave"]);
    assert_eq!(again["device"]["stake"], 50_000_000, "the stake is not out before its time: {again}");
}
