//! A real Jupyter server as a job.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::ports::{curl, first_word};
use super::{text, told};
use crate::market::{Job, Market};

const JOB: &str = r#"name: notebook
secrets: {JUPYTER_TOKEN: {generated: true}}
envs: {JUPYTER_RUNTIME_DIR: /tmp/jupyter}
inputs: [jupyter.tar]
setup: tar xf jupyter.tar
run: PYTHONPATH=/work/jupyter exec python3 -m jupyter_server --no-browser --ip=127.0.0.1 --port=8888
resources: {cpus: 1, memory: 400MiB, disk: 512MiB}
ports: [8888]
max_price: 0.50
max_cost: 0.20
timeout: 20m
"#;

/// The archive that `scripts/tools` makes.
fn archive() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let pinned = include_str!("../../../../../scripts/jupyter.txt");
    let version = pinned.lines().find_map(|line| line.strip_prefix("jupyter-server==")).expect("a version");
    let version = version.split(' ').next().expect("a version");
    let archive = cache.expect("a cache").join(format!("tradewind-tools/jupyter-{version}.tar"));
    assert!(archive.is_file(), "{} is not there: run scripts/tools", archive.display());
    archive
}

fn submit(market: &Market) -> Job {
    let file = market.lay_out(JOB, &[("jupyter.tar", &archive())]);
    let output = file.with_file_name("outputs");
    let (job, outputs) = (file.to_str().expect("a path"), output.to_str().expect("a path"));
    let run = ["--json", "run", "--yes", "--detach", "--output", outputs, job];
    let said = market.command("buyer", &run).output().expect("the program starts");
    let answer: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", told(&said)));
    Job { id: answer["job"].as_str().expect("an id").into(), output }
}

#[test]
fn a_jupyter_server_opens_with_the_token_of_its_url_and_with_no_other() {
    let market = Market::of_two();
    let job = submit(&market);
    let (said, _running) =
        first_word(market.command("buyer", &["--json", "jupyter", "notebook", "--port", "0"]), 1);
    let url = said[0]["url"].as_str().expect("a URL");
    let (place, token) = url.split_once("/?token=").expect("the server alone has no lab");
    assert!(place.starts_with("http://127.0.0.1:") && token.len() == 64, "{url}");
    let status: Value =
        serde_json::from_str(&curl(&format!("{place}/api/status?token={token}"))).expect("JSON");
    assert!(status["started"].is_string(), "{status}");
    let contents = curl(&format!("{place}/api/contents?token={token}"));
    assert!(contents.contains("jupyter.tar"), "{contents}");
    let mut stranger = Command::new("curl");
    stranger.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]).arg(format!("{place}/api/contents"));
    let said = stranger.output().expect("curl is installed");
    assert_eq!(text(&said.stdout), "403");
    // The provider keeps it nowhere: neither in what is said of the job, nor in any file.
    assert!(!market.log(&job).contains(token), "Jupyter itself says it not");
    for place in ["provider", "buyer"] {
        let found =
            Command::new("grep").args(["-rlF", token]).arg(market.path(place)).output().expect("grep");
        assert_eq!(text(&found.stdout), "", "a token on the disk of the {place}");
    }
}
