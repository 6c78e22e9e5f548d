//! One node: its configuration, its process, its local API.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tradewind_chain::client::keystore;
use tradewind_proto::signature::SigningKey;
use zeroize::Zeroizing;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tradewind");
const PASSWORD: &str = "correct horse";

pub(super) struct Node {
    pub(super) name: String,
    /// Its sections of `node.toml`.
    pub(super) roles: String,
    /// Where its mesh endpoint listens.
    pub(super) bind: String,
    /// The program's command and its arguments before the configuration.
    pub(super) command: &'static [&'static str],
    /// The network namespace that it stands in.
    pub(super) namespace: Option<String>,
    /// The certificate of whoever it trusts on the web.
    pub(super) authority: Option<PathBuf>,
    dir: PathBuf,
    child: Option<Child>,
}

impl Node {
    pub(super) fn new(market: &Path, name: &str, roles: &str) -> Self {
        let dir = market.join(name);
        std::fs::create_dir_all(&dir).expect("made");
        let mut password = File::options();
        let password =
            password.write(true).create(true).truncate(true).mode(0o600).open(dir.join("password"));
        password.and_then(|mut file| file.write_all(PASSWORD.as_bytes())).expect("a password");
        let bind = "127.0.0.1:0".into();
        let command = &["node", "--config"];
        let (name, roles) = (name.into(), roles.into());
        Self { name, roles, bind, command, namespace: None, authority: None, dir, child: None }
    }

    /// Gives the node this wallet before its first start.
    pub(super) fn keep(&self, key: &SigningKey) {
        let password = || Ok(Zeroizing::new(PASSWORD.to_owned()));
        keystore::save(&self.dir.join("wallet.json"), key, password).expect("saved");
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.join("node.sock")
    }

    /// The program, where the node stands.
    pub(super) fn program(&self) -> Command {
        let Some(namespace) = &self.namespace else { return Command::new(PROGRAM) };
        // Not `ip netns exec`: that hides the control groups, which sandboxes need.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/var/run/netns/{namespace}")).arg(PROGRAM);
        command
    }

    /// Starts the process.
    pub(super) fn run(&mut self) {
        let config = format!(
            "data_dir = \".\"\nprofile = \"../network.toml\"\npassword_file = \"password\"\n[mesh]\nbind = \"{}\"\n{}",
            self.bind, self.roles
        );
        let file = self.dir.join("node.toml");
        std::fs::write(&file, config).expect("written");
        let log = File::options().create(true).append(true).open(self.dir.join("log")).expect("a log");
        let mut program = self.program();
        if let Some(authority) = &self.authority {
            program.env("SSL_CERT_FILE", authority);
        }
        let child = program
            .args(self.command)
            .arg(&file)
            .env("TRADEWIND_LOG", "warn,tradewind=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("the program starts"));
    }

    /// Waits until it answers.
    pub(super) fn up(&mut self, within: Duration) {
        let begin = Instant::now();
        while self.ask::<Value>("/v1/status").is_none() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || begin.elapsed() > within {
                self.last_words();
                panic!("{} does not come up: {ended:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
    }

    /// The process's number while it runs.
    pub(super) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    /// Waits for a process that was asked to end, and kills what is left of it.
    pub(super) fn end(&mut self) {
        let begin = Instant::now();
        if let Some(child) = &mut self.child {
            while matches!(child.try_wait(), Ok(None)) && begin.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.kill();
        self.kill_workloads();
    }

    /// Kills the sandboxes that outlive the node.
    pub(super) fn kill_workloads(&self) {
        let jobs = std::fs::read_dir(self.dir.join("runtime/process/jobs"));
        for job in jobs.into_iter().flatten().flatten() {
            let shim = std::fs::read(job.path().join("shim.json")).ok();
            let shim = shim.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            let pid =
                shim.as_ref().and_then(|shim| shim["pid"].as_i64()?.try_into().ok()).and_then(Pid::from_raw);
            let Some(pid) = pid else { continue };
            // Another process may have the number by now.
            let program = std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero()));
            if program.is_ok_and(|program| program == Path::new(PROGRAM)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// A JSON answer of the local API; `None` while it does not answer, or says no.
    pub(super) fn ask<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| serde_json::from_str(body).expect("the API's own types"))
    }

    /// What it logged.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub(super) fn last_words(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(40);
        for line in &lines[from..] {
            eprintln!("{}: {line}", self.name);
        }
    }
}
