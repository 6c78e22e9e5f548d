//! Git repositories on loopback, made by the `git` program and served by its own `git http-backend`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::AsyncWriteExt;

/// What a request may hold.
const MAX_REQUEST: usize = 1 << 20;

/// A directory of repositories. Those beneath `private/` are for who has the token.
#[derive(Debug, Clone)]
pub struct Forge {
    root: PathBuf,
    token: String,
}

/// A repository of a forge, and a work tree that pushes to it.
#[derive(Debug)]
pub struct Repository {
    work: PathBuf,
}

impl Forge {
    /// An empty one in a directory.
    #[must_use]
    pub fn new(root: &Path, token: &str) -> Self {
        std::fs::create_dir_all(root.join("served")).expect("made");
        Self { root: root.to_owned(), token: token.to_owned() }
    }

    /// A new repository, served as `/name`.
    ///
    /// # Panics
    /// Where the `git` program is not there.
    #[must_use]
    pub fn repository(&self, name: &str) -> Repository {
        self.make(name, "sha1")
    }

    /// A new repository whose ids are SHA-256 hashes.
    ///
    /// # Panics
    /// Where the `git` program is not there.
    #[must_use]
    pub fn repository_of_sha256(&self, name: &str) -> Repository {
        self.make(name, "sha256")
    }

    fn make(&self, name: &str, hash: &str) -> Repository {
        let (bare, work) = (self.root.join("served").join(name), self.root.join("work").join(name));
        std::fs::create_dir_all(&work).expect("made");
        let repository = Repository { work };
        let init = ["init", "--quiet", "--initial-branch=main", "--object-format", hash];
        repository.git(&[&init[..], &["--bare", path(&bare)]].concat());
        repository.git(&init);
        repository.git(&["remote", "add", "origin", path(&bare)]);
        repository
    }

    /// What serves them.
    pub fn router(&self) -> axum::Router {
        axum::Router::new().fallback(serve).with_state(self.clone())
    }
}

impl Repository {
    /// The work tree.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.work
    }

    /// Runs git in the work tree; what it says.
    ///
    /// # Panics
    /// Where it fails.
    #[must_use]
    pub fn ask(&self, arguments: &[&str]) -> String {
        let done = git().args(arguments).current_dir(&self.work).output().expect("git is there");
        assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("text").trim().to_owned()
    }

    /// Runs git in the work tree.
    pub fn git(&self, arguments: &[&str]) {
        let _said = self.ask(arguments);
    }

    /// Commits all that lies in the work tree, and pushes it to a branch. Returns the commit's id.
    #[must_use]
    pub fn push(&self, branch: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "as it is now"]);
        self.git(&["push", "--quiet", "origin", &format!("HEAD:refs/heads/{branch}")]);
        self.ask(&["rev-parse", "HEAD"])
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// Git as it is for everybody, whatever is configured for whom the tests run as.
fn git() -> Command {
    let mut git = Command::new("git");
    git.envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")]);
    for who in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{who}_NAME"), "Test").env(format!("GIT_{who}_EMAIL"), "test@example.org");
    }
    git
}

async fn serve(State(forge): State<Forge>, request: Request) -> Response {
    let (request, body) = request.into_parts();
    let header = |name: &HeaderName| request.headers.get(name).and_then(|value| value.to_str().ok());
    let known = format!("Basic {}", BASE64_STANDARD.encode(format!("x-access-token:{}", forge.token)));
    if request.uri.path().starts_with("/private/") && header(&AUTHORIZATION) != Some(&known) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let mut backend = git();
    backend
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", forge.root.join("served"))
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROTOCOL", header(&HeaderName::from_static("git-protocol")).unwrap_or_default())
        .env("REQUEST_METHOD", request.method.as_str())
        .env("PATH_INFO", request.uri.path())
        .env("QUERY_STRING", request.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header(&CONTENT_TYPE).unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let body = to_bytes(body, MAX_REQUEST).await.expect("a request");
    backend.env("CONTENT_LENGTH", body.len().to_string());
    let mut child = tokio::process::Command::from(backend).spawn().expect("git is there");
    let mut input = child.stdin.take().expect("piped");
    // What it does not read it does not need.
    let _ = input.write_all(&body).await;
    drop(input);
    answer(&child.wait_with_output().await.expect("an answer").stdout)
}

/// What a program of the Common Gateway Interface says.
fn answer(said: &[u8]) -> Response {
    let end = said.windows(4).position(|four| four == b"\r\n\r\n").expect("headers");
    let (head, body) = (String::from_utf8_lossy(&said[..end]), said[end + 4..].to_vec());
    let mut response = Response::new(Body::from(body));
    for line in head.lines() {
        let (name, value) = line.split_once(": ").expect("a header");
        if name == "Status" {
            let code = value.split(' ').next().and_then(|code| code.parse().ok());
            *response.status_mut() = code.expect("a status");
        } else {
            let name: HeaderName = name.parse().expect("a header's name");
            response.headers_mut().insert(name, HeaderValue::from_str(value).expect("a header's value"));
        }
    }
    response
}
