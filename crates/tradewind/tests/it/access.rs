//! Getting into running jobs with the programs that people use, on a real market.

mod hostile;
mod jupyter;
mod ports;
mod ssh;
mod warm;

use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::market::{Job, LONG, Market};

/// A market with a job that stays, serves a page on port 8080, which it names, and one on 8081, which it does not.
struct Standing {
    market: Market,
    job: Job,
}

/// Ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const JOB: &str = r#"name: stays
secrets: {TOKEN: {generated: true}}
envs: {PLAIN: plain}
run: |
  mkdir -p pages && echo "a page" > pages/index.html
  python3 -m http.server 8080 --bind 127.0.0.1 --directory pages >/dev/null 2>&1 &
  python3 -m http.server 8081 --bind 127.0.0.1 --directory pages >/dev/null 2>&1 &
  until python3 -c 'import socket; [socket.create_connection(("127.0.0.1", port)) for port in (8080, 8081)]' 2>/dev/null
  do sleep 0.1; done
  echo up
  sleep 600
resources: {cpus: 1, memory: 256MiB, disk: 256MiB}
ports: [8080]
max_price: 0.50
max_cost: 0.20
timeout: 20m
"#;

impl Standing {
    fn begin() -> Self {
        let market = Market::of_two();
        let job = market.submit(JOB);
        market.said(&job, "up");
        Self { market, job }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.market.command("buyer", arguments)
    }

    /// `tradewind exec JOB -- sh -c script`.
    fn exec(&self, script: &str) -> Output {
        let arguments = ["exec", &self.job.id, "--", "sh", "-c", script];
        self.command(&arguments).output().expect("the program starts")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn told(output: &Output) -> String {
    format!("{:?}\n{}\n{}", output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs a command with `input`.
fn fed(mut command: Command, input: &[u8]) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("the program starts");
    let (mut stdin, input) = (child.stdin.take().expect("a pipe"), input.to_vec());
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    writing.join().expect("joined").expect("it takes all of its input");
    output
}

/// Whether a process of this machine has `word` in its command.
fn is_there(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let own = std::process::id().to_string();
    processes.filter(|process| process.file_name() != own.as_str()).any(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        // The shell or the client that asked for it names it too.
        line.starts_with(b"sleep") && text(&line).contains(word)
    })
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LONG, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_command_runs_beside_the_job_and_its_code_is_ours() {
    let mut standing = Standing::begin();
    let said = standing.exec("echo $PLAIN ${#TOKEN}; pwd; echo wrong >&2; exit 7");
    let wanted = (Some(7), "plain 64\n/work\n".to_owned(), "wrong\n".to_owned());
    assert_eq!((said.status.code(), text(&said.stdout), text(&said.stderr)), wanted);

    let named =
        standing.command(&["exec", "-i", "-e", "MORE=more", "stays", "--", "sh", "-c", "echo $MORE; md5sum"]);
    let said = fed(named, &[b'x'; 3 << 20]);
    assert_eq!(
        (said.status.code(), text(&said.stdout)),
        (Some(0), "more\nc1887f0c970afa48194adf7f5c504696  -\n".into())
    );
    let shell = fed(
        standing.command(&["exec", standing.job.id.get(..10).expect("an id")]),
        b"echo in a shell; exit 4\n",
    );
    assert_eq!(
        (shell.status.code(), text(&shell.stdout)),
        (Some(4), "in a shell\n".into()),
        "{}",
        told(&shell)
    );

    let missing = standing.command(&["exec", "stays", "--", "no-such-program"]).output().expect("starts");
    assert_eq!(missing.status.code(), Some(127), "{}", told(&missing));
    let nobody = standing.command(&["exec", "no-such-job", "--", "true"]).output().expect("starts");
    assert_eq!(nobody.status.code(), Some(125), "{}", told(&nobody));
    assert!(text(&nobody.stderr).contains("hint: `tradewind ps --all`"), "{}", told(&nobody));

    // The provider's agent is not needed for the job to go on, and its next life serves new sessions.
    standing.market.kill("provider");
    standing.market.again("provider");
    until("a session in an adopted job", || standing.exec("echo again").stdout == b"again\n");
}

#[test]
fn nothing_is_left_of_a_session_whose_buyer_vanished_or_whose_job_ended() {
    let mut standing = Standing::begin();
    let begin = |standing: &Standing, seconds: &str| {
        let script = format!("sleep {seconds} & sleep {seconds}");
        let mut command = standing.command(&["exec", &standing.job.id, "--", "sh", "-c", &script]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the program starts");
        until("the command runs", || {
            let ended = child.try_wait().expect("a child").is_some();
            if ended {
                let mut said = String::new();
                let _ = std::io::Read::read_to_string(child.stderr.as_mut().expect("a pipe"), &mut said);
                panic!("the session did not last: {said}");
            }
            is_there(seconds)
        });
        child
    };
    let mut vanished = begin(&standing, "98761");
    vanished.kill().expect("killed");
    vanished.wait().expect("reaped");
    until("nothing is left of a client that was killed", || !is_there("98761"));

    let mut orphan = begin(&standing, "98762");
    standing.market.kill("buyer");
    orphan.wait().expect("it notices");
    // Back before the job is paused for want of payment: a paused sandbox ends nothing until it goes on.
    standing.market.again("buyer");
    until("nothing is left of a buyer whose node was killed", || !is_there("98762"));

    let ended = begin(&standing, "98763");
    let stopped = standing.command(&["stop", &standing.job.id]).output().expect("starts");
    assert!(stopped.status.success(), "{}", told(&stopped));
    let said = ended.wait_with_output().expect("it ends with the job");
    assert_eq!(said.status.code(), Some(125), "{}", told(&said));
    assert!(text(&said.stderr).contains("the session was cut off"), "{}", told(&said));
    // The client hears of the end a moment before the last of the job's processes is gone.
    until("nothing is left of a session whose job ended", || !is_there("98763"));
    standing.market.settled(&standing.job);
    let late = standing.exec("true");
    assert_eq!(late.status.code(), Some(125), "{}", told(&late));
    assert!(text(&late.stderr).contains("the job does not run"), "{}", told(&late));
}
