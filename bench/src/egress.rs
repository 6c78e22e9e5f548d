//! What a lease's way to the Internet, its table of addresses and its meter cost: bytes from a container through the host's network
//! to a sink in a namespace that plays the Internet, beside the same bytes from `docker run` on a bridge of the engine's. Both in the
//! engine's usual runtime: gVisor's network would be what is measured.

use std::io::Read as _;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::figure::{Figure, median, number};
use crate::market::{Market, Runtime};
use crate::progress::say;
use crate::start::{BUSYBOX, IMAGE, import};

const ROUNDS: usize = 5;
/// Plays an address of the Internet: one of those kept for documentation.
const INTERNET: &str = "203.0.113.77";
const PORT: u16 = 9_000;
/// Some seconds' worth: what a lease's begin costs the node is none of its network's.
const BYTES: u64 = 8 << 30;
const SLOWEST: Duration = Duration::from_secs(120);
/// The budget: of what the bare engine's bridge carries.
const LEAST: f64 = 0.9;

pub(crate) async fn measure(program: &Path) -> anyhow::Result<Vec<Figure>> {
    import()?;
    let mut sink = Sink::open()?;
    let market = Market::start(program, Runtime::Docker).await?;
    let taken = rounds(&market, &mut sink).await;
    market.end().await;
    let (ours, bare) = taken?;
    Ok(vec![
        Figure::new("egress: a lease's upload, docker", ours, "MB/s").beside("docker run", bare),
        Figure::new("egress: of what docker run uploads", ours / bare, "").at_least(LEAST),
    ])
}

/// Medians in MB/s of a lease and of `docker run`, in turns. The first round warms both up and does not count.
async fn rounds(market: &Market, sink: &mut Sink) -> anyhow::Result<(f64, f64)> {
    let blocks = BYTES / (64 << 10);
    // What `-e` starts writes into the socket itself: nc's own buffer would be what is measured.
    let words = format!("{BUSYBOX} nc {INTERNET} {PORT} -e {BUSYBOX} dd if=/dev/zero bs=64k count={blocks}");
    let words: Vec<&str> = words.split(' ').collect();
    let job = format!(
        "name: upload\nimage: {IMAGE}\nrun: [{}]\nnetwork: internet\n\
         resources: {{memory: 32MiB, disk: 32MiB}}\ntimeout: 2m\n",
        words.join(", ")
    );
    let file = market.dir().join("upload.yaml");
    std::fs::write(&file, job)?;
    let file = file.display().to_string();
    let others = [market.pid("ledger")?, market.pid("buyer")?];
    let (mut ours, mut bares) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let lease = market.command("buyer", &["run", &file, "--yes", "--output", "outputs"]);
        let our = sink.takes(lease, &others).await?;
        let mut bare = Command::new("docker");
        bare.args(["run", "--rm", "--cpus=1", "--memory=32m", "--memory-swap=32m", "--network"]);
        bare.args([&sink.namespace, IMAGE]).args(&words);
        let theirs = sink.takes(bare, &others).await?;
        say(format_args!("  {our:.0} MB/s against {theirs:.0} MB/s"));
        if round > 0 {
            ours.push(our);
            bares.push(theirs);
        }
    }
    Ok((median(ours), median(bares)))
}

/// A namespace beyond the host, what arrives there, and a bridge of the engine's own by the same name.
struct Sink {
    namespace: String,
    arrived: mpsc::UnboundedReceiver<Arrival>,
}

/// What is told of a connection.
#[derive(Debug)]
enum Arrival {
    Begun,
    /// The bytes, and how long they took.
    Ended(std::io::Result<(u64, Duration)>),
}

impl Sink {
    fn open() -> anyhow::Result<Self> {
        let id = std::process::id();
        let [a, b] = [id / 64 % 256, id % 64 * 4];
        let (namespace, link) = (format!("tw-bench-{id}"), format!("twb{id}"));
        let (host, far) = (format!("10.{a}.{b}.1"), format!("10.{a}.{b}.2"));
        run(&format!("ip netns add {namespace}"))?;
        let (announce, arrived) = mpsc::unbounded_channel();
        let sink = Self { namespace: namespace.clone(), arrived };
        run(&format!("ip link add {link} type veth peer name far netns {namespace}"))?;
        run(&format!("ip addr add {host}/30 dev {link}"))?;
        run(&format!("ip link set {link} up"))?;
        let inside = format!("ip -n {namespace}");
        run(&format!("{inside} addr add {far}/30 dev far"))?;
        run(&format!("{inside} link set far up"))?;
        run(&format!("{inside} link set lo up"))?;
        run(&format!("{inside} addr add {INTERNET}/32 dev lo"))?;
        run(&format!("{inside} route add default via {host}"))?;
        run(&format!("ip route replace {INTERNET}/32 via {far}"))?;
        run(&format!("docker network create {namespace}"))?;
        let (bound, is_bound) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let listener = listen(&format!("/run/netns/{namespace}"));
            let (listener, told) = match listener {
                Ok(listener) => (Some(listener), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // The receiver waits for just this.
            let _ = bound.send(told);
            for stream in listener.iter().flat_map(TcpListener::incoming) {
                let begun = announce.send(Arrival::Begun);
                let ended = announce.send(Arrival::Ended(stream.and_then(drain)));
                if begun.and(ended).is_err() {
                    return;
                }
            }
        });
        is_bound.recv()?.context("nothing can listen in the namespace")?;
        Ok(sink)
    }

    /// MB a second that a command sends here until its good end. While bytes flow, the command and the `others` stand still: a
    /// provider shares its cores with no buyer and no ledger.
    async fn takes(&mut self, mut command: Command, others: &[u32]) -> anyhow::Result<f64> {
        let run = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = run.kill_on_drop(true).spawn().context("the command cannot be started")?;
        let still: Vec<u32> = others.iter().copied().chain(child.id()).collect();
        let flow = async {
            let Some(Arrival::Begun) = self.arrived.recv().await else { bail!("the sink is gone") };
            let held = Held::new(&still)?;
            let ended = self.arrived.recv().await;
            drop(held);
            let Some(Arrival::Ended(taken)) = ended else { bail!("the sink is gone") };
            Ok(taken?)
        };
        let run = tokio::time::timeout(SLOWEST, child.wait_with_output());
        let (output, taken) = tokio::join!(run, tokio::time::timeout(SLOWEST, flow));
        let output = output.context("the upload does not end")??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the upload failed: {}", said.trim_end());
        let (bytes, span) = taken.context("nothing arrived")??;
        if bytes != BYTES {
            bail!("{bytes} of {BYTES} bytes arrived");
        }
        Ok(number(bytes) / span.as_secs_f64() / 1e6)
    }
}

/// Processes that stand still until this value ends.
struct Held(Vec<Pid>);

impl Held {
    fn new(processes: &[u32]) -> anyhow::Result<Self> {
        let mut held = Self(Vec::new());
        for id in processes {
            let pid = i32::try_from(*id).ok().and_then(Pid::from_raw).context("a process has no number")?;
            kill_process(pid, Signal::STOP).context("a process cannot be held")?;
            held.0.push(pid);
        }
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for pid in &self.0 {
            // One that is gone needs nothing more.
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // The link and its route go with the namespace.
        for gone in ["ip netns del", "docker network rm"] {
            if let Err(error) = run(&format!("{gone} {}", self.namespace)) {
                say(format_args!("  {error:#}"));
            }
        }
    }
}

/// Listens in a namespace, on a thread that stays there.
fn listen(namespace: &str) -> anyhow::Result<TcpListener> {
    let file = std::fs::File::open(namespace)?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(TcpListener::bind((INTERNET, PORT))?)
}

/// Reads all that comes.
fn drain(mut stream: std::net::TcpStream) -> std::io::Result<(u64, Duration)> {
    let (began, mut bytes, mut buffer) = (Instant::now(), 0, vec![0; 256 << 10]);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok((bytes, began.elapsed()));
        }
        bytes += count as u64;
    }
}

fn run(line: &str) -> anyhow::Result<()> {
    let mut words = line.split(' ');
    let program = words.next().context("no program")?;
    let output = std::process::Command::new(program).args(words).output();
    let output = output.with_context(|| format!("{line}: hint: `scripts/tools bench` installs iproute2"))?;
    ensure!(
        output.status.success(),
        "{line}: {}; hint: this group needs root",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(())
}
