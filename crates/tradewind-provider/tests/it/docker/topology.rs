//! Networks for the tests: namespaces that play the Internet, the local network and a metadata service.

use std::process::{Child, Command, Stdio};

use crate::conformance::BUSYBOX;

/// Runs a program that must succeed.
pub(super) fn run(line: &str) {
    let output = shell(line);
    assert!(
        output.status.success(),
        "{line}: {}\nhint: network tests need root, iproute2 and nftables",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Whether a program succeeds.
pub(super) fn shows(line: &str) -> bool {
    shell(line).status.success()
}

fn shell(line: &str) -> std::process::Output {
    let path = std::env::var("PATH").unwrap_or_default();
    Command::new("sh")
        .args(["-c", line])
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .output()
        .expect("start a shell")
}

/// A network namespace of a test's own; it ends with its value.
pub(super) struct Namespace {
    pub(super) name: String,
    servers: Vec<Child>,
}

impl Namespace {
    pub(super) fn new(role: &str) -> Self {
        let name = format!("tw-{role}-{}", hex::encode(rand::random::<[u8; 4]>()));
        run(&format!("ip netns add {name} && ip -n {name} link set lo up"));
        Self { name, servers: Vec::new() }
    }

    /// Runs a line inside.
    pub(super) fn run(&self, line: &str) {
        run(&format!("ip netns exec {} sh -ec '{line}'", self.name));
    }

    /// Serves `hello` by HTTP on every address inside.
    pub(super) fn serve(&mut self, directory: &std::path::Path) {
        std::fs::write(directory.join("index.html"), "hello\n").expect("write");
        let server = Command::new("ip")
            .args(["netns", "exec", &self.name, BUSYBOX, "httpd", "-f", "-p", "[::]:80", "-h"])
            .arg(directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("start a server");
        self.servers.push(server);
    }

    /// Takes whatever comes to `port`, and keeps none of it.
    pub(super) fn swallow(&mut self, port: u16) {
        let sink = Command::new("ip")
            .args(["netns", "exec", &self.name, BUSYBOX, "nc", "-ll", "-p", &port.to_string()])
            .args(["-e", BUSYBOX, "dd", "of=/dev/null", "bs=64k"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start a sink");
        self.servers.push(sink);
    }

    /// Bytes that came in by the interface `far`.
    pub(super) fn received(&self) -> u64 {
        let said = shell(&format!("ip netns exec {} cat /sys/class/net/far/statistics/rx_bytes", self.name));
        String::from_utf8_lossy(&said.stdout).trim().parse().expect("a number")
    }

    /// Whether `hello` comes from `address` to a program inside.
    pub(super) fn reaches(&self, address: &str) -> bool {
        answers(&format!("ip netns exec {}", self.name), address)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = shell(&format!("ip netns delete {}", self.name));
    }
}

/// Whether `hello` comes from `address` to the host.
pub(super) fn host_reaches(address: &str) -> bool {
    answers("", address)
}

fn answers(within: &str, address: &str) -> bool {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let output = shell(&format!("{within} {BUSYBOX} timeout 2 {BUSYBOX} wget -q -O - http://{host}/"));
    output.stdout == b"hello\n"
}
