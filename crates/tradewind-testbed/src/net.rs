//! Two machines that cannot reach each other, and one that both reach.
//!
//! ```text
//!   left ── 10.71.1.2 ══ 10.71.1.1 ── middle ── 10.71.2.1 ══ 10.71.2.2 ── right
//!                              10.71.9.1 (relay, proxy)            no forwarding in the middle
//! ```

use std::future::Future;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

/// The address in the middle that both sides reach.
pub const MIDDLE: &str = "10.71.9.1";

/// Three network namespaces, removed with it.
#[derive(Debug)]
pub struct Net {
    prefix: String,
}

impl Net {
    /// Makes the namespaces and their links.
    ///
    /// # Panics
    /// Without root or iproute2.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it changes the machine")]
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let net = Self { prefix: format!("twm{}x{number}", std::process::id()) };
        for place in ["left", "middle", "right"] {
            net.ip(&["netns", "add", &net.name(place)]);
            net.inside(place, &["link", "set", "lo", "up"]);
        }
        net.inside("middle", &["addr", "add", &format!("{MIDDLE}/32"), "dev", "lo"]);
        // New namespaces take this over from the host, where container engines turn it on.
        net.sysctl("middle", "net.ipv4.ip_forward=0");
        for (number, place) in [(1, "left"), (2, "right")] {
            let (near, far) = (format!("v{number}"), format!("m{number}"));
            let (own, middle) = (net.name(place), net.name("middle"));
            net.ip(&[
                "link", "add", &near, "netns", &own, "type", "veth", "peer", "name", &far, "netns", &middle,
            ]);
            net.inside(place, &["addr", "add", &format!("10.71.{number}.2/24"), "dev", &near]);
            net.inside("middle", &["addr", "add", &format!("10.71.{number}.1/24"), "dev", &far]);
            net.inside(place, &["link", "set", &near, "up"]);
            net.inside("middle", &["link", "set", &far, "up"]);
            net.inside(place, &["route", "add", "default", "via", &format!("10.71.{number}.1")]);
        }
        net
    }

    /// The name of a namespace: `left`, `middle` or `right`.
    #[must_use]
    pub fn name(&self, place: &str) -> String {
        format!("{}{place}", self.prefix)
    }

    /// Sets a kernel parameter in `place`.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn sysctl(&self, place: &str, setting: &str) {
        self.ip(&["netns", "exec", &self.name(place), "sysctl", "-qw", setting]);
    }

    /// Runs `ip` on `place`.
    ///
    /// # Panics
    /// When it fails.
    pub fn inside(&self, place: &str, arguments: &[&str]) {
        let name = self.name(place);
        self.ip(&[&["-n", &name], arguments].concat());
    }

    /// A command that runs `program` in `place`.
    #[must_use]
    pub fn command(&self, place: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(place), program]);
        command
    }

    /// Whether a ping from `place` is answered by `address`.
    ///
    /// # Panics
    /// When `ping` is missing.
    #[must_use]
    pub fn reaches(&self, place: &str, address: &str) -> bool {
        let mut ping = self.command(place, "busybox");
        let output =
            ping.args(["ping", "-c", "1", "-W", "1", address]).output().expect("`busybox` is needed");
        output.status.success()
    }

    /// Bytes that a device in `place` has received and sent.
    ///
    /// # Panics
    /// When there is no such device.
    #[must_use]
    pub fn traffic(&self, place: &str, device: &str) -> (u64, u64) {
        let count = |name: &str| {
            let path = format!("/sys/class/net/{device}/statistics/{name}");
            let output = self.command(place, "cat").arg(path).output().expect("`cat` is needed");
            String::from_utf8_lossy(&output.stdout).trim().parse::<u64>().expect("a number")
        };
        (count("rx_bytes"), count("tx_bytes"))
    }

    /// Runs a future on a thread of its own inside `place`.
    ///
    /// # Panics
    /// On that thread, when the namespace cannot be entered.
    pub fn run<T: Send + 'static, F: Future<Output = T>>(
        &self,
        place: &str,
        future: impl FnOnce() -> F + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let path = format!("/var/run/netns/{}", self.name(place));
        let (done, result) = oneshot::channel();
        std::thread::spawn(move || {
            let namespace = std::fs::File::open(path).expect("the namespace");
            let network = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(network)).expect("entered");
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let _ = done.send(runtime.block_on(future()));
        });
        result
    }

    fn ip(&self, arguments: &[&str]) {
        let output = Command::new("ip").args(arguments).output().expect("`ip` of iproute2 is needed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`ip {}` failed (root is needed): {said}", arguments.join(" "));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for place in ["left", "middle", "right"] {
            let _ = Command::new("ip").args(["netns", "del", &self.name(place)]).status();
        }
    }
}
