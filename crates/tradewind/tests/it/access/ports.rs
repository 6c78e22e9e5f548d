//! Ports of a job as ports of this machine.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Running, Standing, text, told};

/// What a command that goes on says first, as JSON, and the command.
pub(super) fn first_word(mut command: Command, lines: usize) -> (Vec<Value>, Running) {
    let mut running = Running(command.stdout(Stdio::piped()).spawn().expect("the program starts"));
    let out = BufReader::new(running.0.stdout.take().expect("a pipe"));
    let said = out.lines().take(lines).map(|line| {
        let line = line.expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))
    });
    let said: Vec<Value> = said.collect();
    assert_eq!(said.len(), lines, "it ended early");
    (said, running)
}

pub(super) fn curl(url: &str) -> String {
    let said = Command::new("curl").args(["--silent", "--show-error", "--max-time", "20", url]).output();
    let said = said.expect("curl is installed");
    assert!(said.status.success(), "{}", told(&said));
    text(&said.stdout)
}

#[test]
fn a_page_of_the_job_is_read_through_a_port_that_it_names_and_one_that_it_does_not() {
    let standing = Standing::begin();
    let forward = standing.command(&["--json", "port-forward", "stays", "0:8080", "0:8081"]);
    let (said, running) = first_word(forward, 2);
    for said in &said {
        let local = said["local"].as_str().expect("an address");
        assert!(local.starts_with("127.0.0.1:"), "on the loopback alone: {local}");
        for _ in 0..5 {
            assert_eq!(curl(&format!("http://{local}/")), "a page\n");
        }
    }
    drop(running);

    let nothing = standing.command(&["port-forward", "stays", "0:8082"]).output().expect("starts");
    assert_eq!(nothing.status.code(), Some(125), "{}", told(&nothing));
    assert!(text(&nothing.stderr).contains("port 8082 of the job does not answer"), "{}", told(&nothing));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let taken = standing.command(&["port-forward", "stays", &format!("{port}:8080")]).output();
    let taken = taken.expect("starts");
    assert_eq!(taken.status.code(), Some(125), "{}", told(&taken));
    assert!(text(&taken.stderr).contains("cannot listen on"), "{}", told(&taken));
}
