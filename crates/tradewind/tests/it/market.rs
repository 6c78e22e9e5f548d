//! A market of real nodes, as their operators would start it: a configuration each, one network profile, the program.
//!
//! ```text
//! start("ledger", "[ledger] …") ─► network.toml ─► start("provider", …), start("buyer", …) ─► submit(job) ─► until(…)
//!                                        kill · freeze · thaw · again
//! ```
//!
//! What a test asserts it reads where a person would: from the nodes' local APIs, the outputs, and the chain itself.

mod chain;
mod leaks;
mod node;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;
use tradewind_buyer::job::record::{Attempt, JobRecord};
use tradewind_proto::ids::LeaseId;
use tradewind_proto::profile::NetworkProfile;
use tradewind_proto::signature::SigningKey;
use tradewind_testbed::net::Net;

pub(crate) use chain::{Chain, Closed};
use node::Node;

/// A node's roles as they stand in `node.toml`.
pub(crate) const LEDGER: &str = "[ledger]\ntimings = \"tests\"\n";
/// A seller of sandboxes.
pub(crate) const PROVIDER: &str = "[provider]\nprice = \"0.36\"\ncpus = 1\nmemory = \"512MiB\"\ndisk = \"1GiB\"\nstake = \"50\"\nbonds = \"100\"\nheartbeat = 2\n";
/// A buyer that pays often and waits for whoever is started again.
pub(crate) const BUYER: &str = "[buyer]\nslack = 6\nprepare = 2\npatience = 150\nfaucet = \"100\"\n";
/// How long anything may take on a machine that does much else.
pub(crate) const LONG: Duration = Duration::from_secs(160);

/// Nodes that end with this value.
pub(crate) struct Market {
    dir: TempDir,
    nodes: BTreeMap<String, Node>,
    net: Option<Net>,
    authority: Option<PathBuf>,
    runtime: tokio::runtime::Runtime,
}

/// A job that was handed over.
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) output: PathBuf,
}

impl Market {
    /// Nobody is there yet.
    pub(crate) fn new() -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        Self { dir, nodes: BTreeMap::new(), net: None, authority: None, runtime }
    }

    /// All nodes from now on trust who has this certificate.
    pub(crate) fn trust(&mut self, authority: PathBuf) {
        self.authority = Some(authority);
    }

    /// Nodes that are [placed](Self::start_in) stand in these namespaces.
    pub(crate) fn on(net: Net) -> Self {
        let mut market = Self::new();
        market.net = Some(net);
        market
    }

    /// A ledger with windows of seconds, one provider, and a buyer that hears of it.
    pub(crate) fn of_two() -> Self {
        let mut market = Self::new();
        market.start_ledger(LEDGER);
        market.start("provider", PROVIDER);
        market.start("buyer", BUYER);
        market.hears_of(1);
        market
    }

    /// Starts the node that hosts the ledger, and gives it the same ports for its whole life.
    pub(crate) fn start_ledger(&mut self, roles: &str) {
        self.start("ledger", roles);
        let profile = self.profile();
        let port =
            |url: &str| url.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).expect("a port");
        let (rpc, relayer) = (port(&profile.chain.rpc[0]), port(&profile.relayers[0]));
        let mesh = profile.bootstrap[0].addresses[0];
        let ports = format!("rpc = \"127.0.0.1:{rpc}\"\nrelayer = \"127.0.0.1:{relayer}\"\n");
        let node = self.node_mut("ledger");
        node.bind = mesh.to_string();
        node.roles = roles.replacen("[ledger]\n", &format!("[ledger]\n{ports}"), 1);
    }

    /// Starts a node with these roles and waits until it answers.
    pub(crate) fn start(&mut self, name: &str, roles: &str) {
        self.launch(Node::new(self.dir.path(), name, roles));
    }

    /// The same, with one mesh port for its whole life, as an operator gives it.
    pub(crate) fn start_at_one_port(&mut self, name: &str, roles: &str) {
        let port = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let mut node = Node::new(self.dir.path(), name, roles);
        node.bind = port.expect("a port").to_string();
        self.launch(node);
    }

    /// Starts a provider by a command of its own. It has no local API.
    pub(crate) fn start_hostile(&mut self, name: &str, command: &'static [&'static str], roles: &str) {
        let mut node = Node::new(self.dir.path(), name, roles);
        node.command = command;
        node.run();
        self.nodes.insert(name.into(), node);
    }

    /// Whether a node's log says this.
    pub(crate) fn logged(&self, name: &str, text: &str) -> bool {
        self.nodes[name].log().contains(text)
    }

    /// The same with a wallet that is there already.
    pub(crate) fn start_as(&mut self, key: &SigningKey, name: &str, roles: &str) {
        let node = Node::new(self.dir.path(), name, roles);
        node.keep(key);
        self.launch(node);
    }

    /// The same inside a namespace of [`Net`], where the node may use every address.
    pub(crate) fn start_in(&mut self, place: &str, name: &str, bind: &str, roles: &str) {
        let namespace = self.net().name(place);
        let mut node = Node::new(self.dir.path(), name, roles);
        (node.namespace, node.bind) = (Some(namespace), bind.into());
        self.launch(node);
    }

    /// The namespaces that nodes were placed in.
    pub(crate) fn net(&self) -> &Net {
        self.net.as_ref().expect("a net")
    }

    fn launch(&mut self, mut node: Node) {
        node.authority.clone_from(&self.authority);
        node.run();
        node.up(LONG);
        self.nodes.insert(node.name.clone(), node);
    }

    /// `kill -9`: the node's process alone, what it started lives on.
    pub(crate) fn kill(&mut self, name: &str) {
        self.node_mut(name).kill();
    }

    /// Starts a killed node again, with what it left on disk.
    pub(crate) fn again(&mut self, name: &str) {
        let node = self.node_mut(name);
        node.run();
        node.up(LONG);
    }

    /// Kills the node and everything that it started: the machine is gone.
    pub(crate) fn destroy(&mut self, name: &str) {
        let node = self.node_mut(name);
        node.kill();
        node.kill_workloads();
    }

    /// What a node that runs has left on this machine of leases that are over; a line each.
    pub(crate) fn left_behind(&self, name: &str, leases: &[LeaseId]) -> Vec<String> {
        let node = &self.nodes[name];
        leaks::left_behind(&self.path(name), node.pid(), leases)
    }

    /// SIGTERM: it is told to end, as by its service.
    pub(crate) fn dismiss(&self, name: &str) {
        self.nodes[name].signal(rustix::process::Signal::TERM);
    }

    /// SIGSTOP: it holds its connections and answers nothing.
    pub(crate) fn freeze(&self, name: &str) {
        self.nodes[name].signal(rustix::process::Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self, name: &str) {
        self.nodes[name].signal(rustix::process::Signal::CONT);
    }

    /// Tells everybody of a network that no ledger of ours makes.
    pub(crate) fn publish(&self, profile: &NetworkProfile) {
        std::fs::write(self.path("network.toml"), profile.encode().expect("a profile")).expect("written");
    }

    /// Runs what a test does beside the nodes.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// What everybody knows of the network.
    pub(crate) fn profile(&self) -> NetworkProfile {
        let path = self.dir.path().join("network.toml");
        let text = std::fs::read_to_string(&path).expect("the profile");
        NetworkProfile::parse("network.toml", &text).expect("a profile")
    }

    /// A place for a test's own files, beside the nodes'.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The network's chain, as a bystander reads it.
    pub(crate) fn chain(&self) -> Chain<'_> {
        let store = self.path(&format!("bystander-{}.redb", hex::encode(rand::random::<[u8; 4]>())));
        Chain::open(&self.runtime, &self.profile(), &store)
    }

    /// What a node's local API says; `None` while it does not answer.
    pub(crate) fn ask<T: DeserializeOwned>(&self, name: &str, path: &str) -> Option<T> {
        self.nodes[name].ask(path)
    }

    /// A node's account.
    pub(crate) fn account(&self, name: &str) -> alloy::primitives::Address {
        let status: Value = self.ask(name, "/v1/status").expect("an answer");
        status["account"].as_str().and_then(|text| text.parse().ok()).expect("an account")
    }

    /// Waits until the buyer hears of so many offers.
    pub(crate) fn hears_of(&self, offers: usize) {
        let heard = || self.ask::<Vec<Value>>("buyer", "/v1/offers").unwrap_or_default().len();
        self.until("the buyer hears of the offers", || heard() >= offers);
    }

    /// The socket of a node's local API.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.nodes[name].socket()
    }

    /// A command of a person at a node.
    pub(crate) fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.nodes[name].program();
        command.env("TRADEWIND_HOME", self.dir.path().join("home"));
        command.arg("--socket").arg(self.nodes[name].socket()).args(arguments);
        command
    }

    /// Writes a job file, with `files` beside it.
    pub(crate) fn lay_out(&self, yaml: &str, files: &[(&str, &Path)]) -> PathBuf {
        let dir = tempfile::tempdir_in(self.dir.path()).expect("a directory").keep();
        for (name, source) in files {
            let target = dir.join(name);
            std::fs::create_dir_all(target.parent().expect("a parent")).expect("made");
            std::fs::copy(source, target).expect("copied");
        }
        let file = dir.join("job.yaml");
        std::fs::write(&file, yaml).expect("written");
        file
    }

    /// Hands a job to the buyer and comes back at once.
    pub(crate) fn submit(&self, yaml: &str) -> Job {
        self.submit_with(yaml, &[])
    }

    /// The same, with more arguments.
    pub(crate) fn submit_with(&self, yaml: &str, more: &[&str]) -> Job {
        let file = self.lay_out(yaml, &[]);
        let output = file.with_file_name("outputs");
        let (job, outputs) = (file.to_str().expect("a path"), output.to_str().expect("a path"));
        let arguments = [&["--json", "run", "--yes", "--detach", "--output", outputs, job], more].concat();
        let said = self.command("buyer", &arguments).output().expect("the program starts");
        let text = String::from_utf8_lossy(&said.stdout);
        let answer: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
            .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&said.stderr)));
        Job { id: answer["job"].as_str().expect("an id").into(), output }
    }

    /// The buyer's record of a job; `None` while the buyer does not answer.
    pub(crate) fn record(&self, job: &Job) -> Option<JobRecord> {
        self.ask("buyer", &format!("/v1/jobs/{}", job.id))
    }

    /// The job's newest lease, as its buyer sees it.
    pub(crate) fn attempt(&self, job: &Job) -> Option<Attempt> {
        self.record(job)?.attempts.last().cloned()
    }

    /// The job's log so far, as its buyer has it.
    pub(crate) fn log(&self, job: &Job) -> String {
        let piece: Option<Value> = self.ask("buyer", &format!("/v1/jobs/{}/logs?attempt=0&from=0", job.id));
        piece.and_then(|piece| piece["text"].as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Waits until the job has said `line`.
    pub(crate) fn said(&self, job: &Job, line: &str) {
        self.until(&format!("the job says `{line}`"), || self.log(job).lines().any(|said| said == line));
    }

    /// Waits until the job is over and its lease is settled; returns the lease.
    pub(crate) fn settled(&self, job: &Job) -> Attempt {
        let over = |record: &JobRecord| {
            record.is_over() && record.attempts.iter().all(|attempt| attempt.settled.is_some())
        };
        self.until("the job is over and settled", || self.record(job).is_some_and(|record| over(&record)));
        self.attempt(job).expect("a lease")
    }

    /// Waits until `holds`; a node's last words are printed when it never does.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begin = Instant::now();
        while !holds() {
            assert!(begin.elapsed() < LONG, "never: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).expect("a node of that name")
    }
}

impl Drop for Market {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.nodes.values().for_each(Node::last_words);
        }
        // Buyers first and the ledger last, so that nobody waits for who is gone.
        let order =
            |name: &str| ["buyer", "provider", "ledger"].iter().position(|known| name.starts_with(known));
        let mut nodes: Vec<&mut Node> = self.nodes.values_mut().collect();
        nodes.sort_by_key(|node| order(&node.name));
        for node in &nodes {
            node.signal(rustix::process::Signal::CONT);
            node.signal(rustix::process::Signal::TERM);
        }
        for node in nodes {
            node.end();
        }
    }
}
