//! From `tradewind run` to the first line of the job's log, beside a bare `docker run` of the same image and command.
//!
//! The image is there already on both sides, and so is the runtime: the engine's usual one, or gVisor. Ours plans, negotiates,
//! opens a lease on the embedded ledger, starts the container and carries its log through the mesh, with every part in a process
//! of its own. The `process` runtime does the same without an image; its peer is the command itself. On `slurm` the lease is a
//! job of a cluster of this one machine; its peer is `srun`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::figure::{Figure, median, millis};
use crate::market::{GVISOR, Market, Runtime};
use crate::progress::say;

const ROUNDS: usize = 11;
pub(crate) const IMAGE: &str = "tradewind-bench:present";
const LINE: &str = "the first line";
pub(crate) const BUSYBOX: &str = "/bin/busybox";
const SLOWEST: Duration = Duration::from_secs(60);
/// The budget: milliseconds over a bare `docker run`.
const OVERHEAD: f64 = 150.0;

pub(crate) async fn measure(program: &Path) -> anyhow::Result<Vec<Figure>> {
    ensure!(Path::new(BUSYBOX).is_file(), "{BUSYBOX} is missing; `scripts/tools bench` installs it");
    import()?;
    let (ours, bare) = docker(program, Runtime::Docker).await?;
    let (guarded, guard) = docker(program, Runtime::Gvisor).await?;
    let (process, command) = process(program).await?;
    let (slurm, srun) = slurm(program).await?;
    Ok(vec![
        Figure::new("start: over a bare docker run", ours - bare, "ms").at_most(OVERHEAD),
        Figure::new("start: run to first log line, docker", ours, "ms").beside("docker run", bare),
        Figure::new("start: run to first log line, docker with gVisor", guarded, "ms")
            .beside("docker run with gVisor", guard),
        Figure::new("start: run to first log line, process", process, "ms")
            .beside("the command itself", command),
        Figure::new("start: run to first log line, slurm", slurm, "ms").beside("srun", srun),
    ])
}

async fn docker(program: &Path, runtime: Runtime) -> anyhow::Result<(f64, f64)> {
    let market = Market::start(program, runtime).await?;
    let job = format!(
        "name: first-line\nimage: {IMAGE}\nrun: [{BUSYBOX}, echo, {LINE}]\n\
         resources: {{memory: 32MiB, disk: 32MiB}}\ntimeout: 1m\n"
    );
    let taken = rounds(&market, &job, || {
        let mut bare = Command::new("docker");
        bare.args(["run", "--rm", "--network", "none"]);
        if matches!(runtime, Runtime::Gvisor) {
            bare.args(["--runtime", GVISOR]);
        }
        bare.args([IMAGE, BUSYBOX, "echo", LINE]);
        bare
    })
    .await;
    market.end().await;
    taken
}

async fn process(program: &Path) -> anyhow::Result<(f64, f64)> {
    let market = Market::start(program, Runtime::Process).await?;
    let job = format!(
        "name: first-line\nrun: [{BUSYBOX}, echo, {LINE}]\nresources: {{memory: 32MiB, disk: 32MiB}}\ntimeout: 1m\n"
    );
    let taken = rounds(&market, &job, || {
        let mut bare = Command::new(BUSYBOX);
        bare.args(["echo", LINE]);
        bare
    })
    .await;
    market.end().await;
    taken
}

async fn slurm(program: &Path) -> anyhow::Result<(f64, f64)> {
    ensure!(
        std::env::var_os("SLURM_CONF").is_some(),
        "no Slurm cluster is up; `scripts/with-slurm` starts one"
    );
    let market = Market::start(program, Runtime::Slurm).await?;
    let job = format!(
        "name: first-line\nrun: [{BUSYBOX}, echo, {LINE}]\nmarket: spot\n\
         resources: {{memory: 32MiB, disk: 32MiB}}\ntimeout: 1m\n"
    );
    let taken = rounds(&market, &job, || {
        let mut bare = Command::new("srun");
        bare.args(["--partition=lent", "--ntasks=1", "--mem=32", BUSYBOX, "echo", LINE]);
        bare
    })
    .await;
    market.end().await;
    taken
}

/// Medians of ours and the bare command, in turns. The first round warms both up and does not count.
async fn rounds(market: &Market, job: &str, bare: impl Fn() -> Command) -> anyhow::Result<(f64, f64)> {
    let file = market.dir().join("job.yaml");
    std::fs::write(&file, job)?;
    let file = file.display().to_string();
    let (mut ours, mut bares) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let our =
            first_line(market.command("buyer", &["run", &file, "--yes", "--output", "outputs"])).await?;
        let theirs = first_line(bare()).await?;
        say(format_args!("  {:.0} ms against {:.0} ms", millis(our), millis(theirs)));
        if round > 0 {
            ours.push(millis(our));
            bares.push(millis(theirs));
        }
    }
    Ok((median(ours), median(bares)))
}

/// How long until a command prints the line. It goes on to its end, which has to be a good one.
async fn first_line(mut command: Command) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("the command cannot be started")?;
    let mut lines = BufReader::new(child.stdout.take().context("the command has no output")?).lines();
    let reading = async {
        while let Some(line) = lines.next_line().await? {
            if line == LINE {
                return Ok(began.elapsed());
            }
        }
        bail!("the command ended without its line")
    };
    let taken = tokio::time::timeout(SLOWEST, reading).await.context("the line does not come")?;
    let rest = async { while matches!(lines.next_line().await, Ok(Some(_))) {} };
    let ((), output) = tokio::join!(rest, child.wait_with_output());
    let output = output?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the command failed: {}", said.trim_end());
    taken
}

/// Makes an image of nothing but a static busybox.
pub(crate) fn import() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let place: PathBuf = root.path().join("bin");
    std::fs::create_dir(&place)?;
    std::fs::copy(BUSYBOX, place.join("busybox"))?;
    let tar =
        std::process::Command::new("tar").arg("-C").arg(root.path()).args(["-cf", "-", "bin"]).output()?;
    ensure!(tar.status.success(), "tar failed: {}", String::from_utf8_lossy(&tar.stderr));
    let mut docker = std::process::Command::new("docker")
        .args(["import", "-", IMAGE])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("docker cannot be started; `scripts/tools bench` installs it")?;
    docker.stdin.take().context("docker has no input")?.write_all(&tar.stdout)?;
    let output = docker.wait_with_output()?;
    ensure!(
        output.status.success(),
        "the image cannot be made: {}; is Docker's engine up? `scripts/with-dockerd` starts one",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(())
}
