//! Repositories on the Hugging Face hub: a revision becomes a commit when a job is submitted, and stays that commit.
//!
//! ```text
//! public:  GET …/revision/main ─► commit ─► GET …/tree/commit ─► https://hub/org/name/resolve/commit/path, pulled by the provider
//! private: the same with the token ─► small files are fetched here; large ones by the address that `resolve` redirects to, anew
//!          for every attempt
//! ```

use std::time::Duration;

use bytes::Bytes as Content;
use reqwest::header::{LINK, LOCATION};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tradewind_proto::job::{self, HUB_TOKEN, InputHashes};
use tradewind_proto::manifest::{MAX_INPUTS, WebFile};
use tradewind_proto::units::Bytes;
use tradewind_proto::workload::Secrets;

use super::{InputError, beneath};

/// The public hub.
const ENDPOINT: &str = "https://huggingface.co";
/// The largest answer of the hub's API.
const MAX_ANSWER: usize = 8 << 20;
/// Pages of a listing.
const MAX_PAGES: usize = 64;
/// Redirects within the hub.
const MAX_REDIRECTS: usize = 5;
/// The largest file of a private repository that is fetched here.
const MAX_SMALL: usize = 64 << 20;

/// A hub, and the token that it is asked with.
pub(super) struct Hub<'a> {
    endpoint: &'a str,
    token: Option<&'a str>,
}

/// A repository at a commit.
#[derive(Debug)]
pub(super) struct Repo {
    pub(super) commit: String,
    /// Anybody may read it.
    pub(super) is_public: bool,
}

/// A file in it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) target: String,
    pub(super) size: Bytes,
    /// Of large files.
    pub(super) sha256: Option<[u8; 32]>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    private: bool,
    /// `false`, or how access is granted.
    #[serde(default)]
    gated: serde_json::Value,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    oid: String,
}

/// A client that shows redirects instead of following them.
pub(super) fn without_redirects() -> Result<Client, InputError> {
    let client = Client::builder()
        .https_only(true)
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(30))
        .redirect(redirect::Policy::none());
    client.build().map_err(|_| InputError::Client)
}

impl<'a> Hub<'a> {
    pub(super) fn new(spec: Option<&'a job::Hub>, secrets: &'a Secrets) -> Result<Self, InputError> {
        let endpoint = spec.and_then(|spec| spec.endpoint.as_deref()).unwrap_or(ENDPOINT);
        let asks = spec.is_some_and(|spec| spec.token.is_some());
        let token = asks.then(|| super::secret(secrets, HUB_TOKEN)).transpose()?;
        Ok(Self { endpoint, token })
    }

    /// The commit that a revision is now.
    pub(super) async fn repo(&self, client: &Client, repo: &str, revision: &str) -> Result<Repo, InputError> {
        let url = format!("{}/{}/revision/{revision}", self.endpoint, api(repo));
        let (info, _): (Info, _) = self.ask(client, repo, &url).await?;
        let is_commit =
            (40..=64).contains(&info.sha.len()) && info.sha.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_commit {
            return Err(refused(repo, "the hub names no commit"));
        }
        let is_gated = !matches!(info.gated, serde_json::Value::Null | serde_json::Value::Bool(false));
        Ok(Repo { commit: info.sha, is_public: !info.private && !is_gated })
    }

    /// The file at a path, or all beneath a path that is empty or ends with a slash.
    pub(super) async fn list(
        &self,
        client: &Client,
        (repo, commit): (&str, &str),
        path: &str,
        target: &str,
        hashes: InputHashes,
    ) -> Result<Vec<Entry>, InputError> {
        let is_directory = path.is_empty() || path.ends_with('/');
        let dir = if is_directory {
            path.trim_end_matches('/')
        } else {
            path.rsplit_once('/').map_or("", |(dir, _)| dir)
        };
        let mut url = self.url(&format!("{}/tree/{commit}", api(repo)), dir)?;
        url.query_pairs_mut().append_pair("recursive", if is_directory { "true" } else { "false" });
        let mut next = Some(String::from(url));
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let Some(url) = next.take() else { break };
            let (page, more): (Vec<Listed>, _) = self.ask(client, repo, &url).await?;
            for listed in page.into_iter().filter(|listed| listed.kind == "file") {
                let target = if is_directory {
                    let rest = listed.path.strip_prefix(dir).unwrap_or_default();
                    beneath(target, rest.trim_start_matches('/'))?
                } else {
                    (listed.path == path).then(|| target.to_owned())
                };
                let Some(target) = target else { continue };
                found.push(entry(repo, listed, target, hashes)?);
                if found.len() > MAX_INPUTS {
                    return Err(InputError::TooMany(format!("hf://{repo}/{path}").into()));
                }
            }
            next = more;
        }
        if next.is_some() {
            return Err(refused(repo, "its listing does not end"));
        }
        if found.is_empty() {
            return Err(refused(
                repo,
                &format!("there is no `{path}` at {commit}; a directory ends with `/`"),
            ));
        }
        Ok(found)
    }

    /// A file of a public repository.
    pub(super) fn public(&self, repo: &str, commit: &str, path: &str) -> Result<WebFile, InputError> {
        let url = self.url(&format!("{repo}/resolve/{commit}"), path)?;
        Ok(WebFile { url: url.into(), public: true, ..WebFile::default() })
    }

    /// A small file of a private repository.
    pub(super) async fn fetch(
        &self,
        client: &Client,
        repo: &str,
        commit: &str,
        path: &str,
    ) -> Result<Content, InputError> {
        match self.resolve(client, repo, commit, path).await? {
            Resolved::Here(response) => read(response, MAX_SMALL).await.ok_or_else(|| {
                refused(repo, &format!("`{path}` breaks off, or is larger than {MAX_SMALL} bytes"))
            }),
            Resolved::At(_) => {
                Err(refused(repo, &format!("`{path}` is said to be small, and lies elsewhere")))
            }
        }
    }

    /// Where a large file of a private repository may be read for a while.
    pub(super) async fn address(
        &self,
        client: &Client,
        repo: &str,
        commit: &str,
        path: &str,
    ) -> Result<String, InputError> {
        match self.resolve(client, repo, commit, path).await? {
            Resolved::At(url) => Ok(url.into()),
            Resolved::Here(_) => Err(refused(
                repo,
                &format!("the hub has no address of `{path}` that could be handed on without the token"),
            )),
        }
    }

    /// Follows the hub's redirects to itself. The token goes nowhere else.
    async fn resolve(
        &self,
        client: &Client,
        repo: &str,
        commit: &str,
        path: &str,
    ) -> Result<Resolved, InputError> {
        let mut url = self.url(&format!("{repo}/resolve/{commit}"), path)?;
        for _ in 0..MAX_REDIRECTS {
            let response = self.send(client, repo, url.clone()).await?;
            if !response.status().is_redirection() {
                return good(repo, response).map(Resolved::Here);
            }
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let to = to.and_then(|to| url.join(to).ok()).filter(|to| to.scheme() == "https");
            let to = to.ok_or_else(|| refused(repo, "the hub redirects to no https address"))?;
            if to.origin() != url.origin() {
                return Ok(Resolved::At(to));
            }
            url = to;
        }
        Err(refused(repo, "the hub redirects too often"))
    }

    fn url(&self, base: &str, path: &str) -> Result<Url, InputError> {
        let malformed = || refused(base, "the hub's endpoint is no address");
        let mut url = Url::parse(&format!("{}/{base}", self.endpoint)).map_err(|_| malformed())?;
        if !path.is_empty() {
            url.path_segments_mut().map_err(|()| malformed())?.extend(path.split('/'));
        }
        Ok(url)
    }

    async fn send(&self, client: &Client, repo: &str, url: Url) -> Result<Response, InputError> {
        let mut request = client.get(url);
        if let Some(token) = self.token {
            request = request.bearer_auth(token);
        }
        request.send().await.map_err(|error| {
            let reason = super::silent("the hub", error);
            tracing::debug!(repo, reason, "a hub's error");
            refused(repo, &reason)
        })
    }

    /// An answer of the API, and the address of the next page.
    async fn ask<T: DeserializeOwned>(
        &self,
        client: &Client,
        repo: &str,
        url: &str,
    ) -> Result<(T, Option<String>), InputError> {
        let mut url = Url::parse(url).map_err(|_| refused(repo, "the hub's endpoint is no address"))?;
        for _ in 0..MAX_REDIRECTS {
            let response = self.send(client, repo, url.clone()).await?;
            if response.status().is_redirection() {
                let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                let to = to.and_then(|to| url.join(to).ok()).filter(|to| to.origin() == url.origin());
                url = to.ok_or_else(|| refused(repo, "the hub redirects to elsewhere"))?;
                continue;
            }
            let response = good(repo, response)?;
            let next = next_page(&response, &url);
            let body = read(response, MAX_ANSWER).await;
            let body = body.ok_or_else(|| refused(repo, "the hub's answer breaks off, or is too long"))?;
            let parsed = serde_json::from_slice(&body);
            return parsed
                .map(|parsed| (parsed, next))
                .map_err(|_| refused(repo, "the hub answers something else than was asked for"));
        }
        Err(refused(repo, "the hub redirects too often"))
    }
}

enum Resolved {
    Here(Response),
    At(Url),
}

fn api(repo: &str) -> String {
    match repo.strip_prefix("datasets/") {
        Some(repo) => format!("api/datasets/{repo}"),
        None => format!("api/models/{repo}"),
    }
}

fn entry(repo: &str, listed: Listed, target: String, hashes: InputHashes) -> Result<Entry, InputError> {
    let mut sha256 = hashes.sha256;
    if let Some(large) = listed.lfs {
        let mut hash = [0; 32];
        alloy_primitives::hex::decode_to_slice(large.oid.trim_start_matches("sha256:"), &mut hash)
            .map_err(|_| refused(repo, &format!("`{}` has no hash that can be read", listed.path)))?;
        if sha256.is_some_and(|named| named != hash) {
            return Err(refused(
                repo,
                &format!("`{}` has another SHA-256 hash than the job names", listed.path),
            ));
        }
        sha256 = Some(hash);
    }
    Ok(Entry { path: listed.path, target, size: Bytes::new(listed.size), sha256 })
}

fn next_page(response: &Response, url: &Url) -> Option<String> {
    let links = response.headers().get(LINK)?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let to = next.split_once('<')?.1.split_once('>')?.0;
    // The token goes to the hub alone.
    url.join(to).ok().filter(|to| to.origin() == url.origin()).map(String::from)
}

fn good(repo: &str, response: Response) -> Result<Response, InputError> {
    match response.status() {
        status if status.is_success() => Ok(response),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Err(refused(
            repo,
            "the hub does not show it: it or its revision does not exist, or not anybody may read it; \
             then name a token: `hf: {token: HF_TOKEN}`",
        )),
        status => Err(refused(repo, &format!("the hub answers {status}"))),
    }
}

/// The whole answer; `None` where it breaks off or is longer than `most`.
async fn read(mut response: Response, most: usize) -> Option<Content> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > most {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body.into())
}

fn refused(repo: &str, reason: &str) -> InputError {
    InputError::Store { what: format!("hf://{repo}"), reason: reason.into() }
}
