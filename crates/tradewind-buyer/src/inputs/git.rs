//! Git repositories: a revision becomes a commit when a job is submitted, and stays that commit. The provider pulls it.
//!
//! ```text
//! GET …/info/refs ─► does it speak version 2? ─► POST ls-refs, which commit is the revision?
//!                                             └► POST fetch, is a commit there that was named? Its files are not read here.
//! ```

use std::time::Duration;

use gix_packetline::PacketLineRef;
use gix_packetline::decode::{Stream, streaming};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tradewind_proto::git;
use tradewind_proto::job::{self, GIT_TOKEN};
use tradewind_proto::manifest::{GitCommit, is_commit};
use tradewind_proto::workload::Secrets;

use super::{InputError, hub};

/// What a server says of itself, of some names, or before it sends a commit.
const MAX_ANSWER: usize = 1 << 20;
/// All that is asked of one repository.
const PATIENCE: Duration = Duration::from_secs(60);

/// A repository, and the token that it is asked with.
pub(super) struct Repository<'a> {
    url: &'a str,
    token: Option<&'a str>,
}

/// A line of an answer, or what stands between lines.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Text(String),
    Break,
}

impl<'a> Repository<'a> {
    pub(super) fn new(
        url: &'a str,
        spec: Option<&job::Git>,
        secrets: &'a Secrets,
    ) -> Result<Self, InputError> {
        let token = spec.map(|_| super::secret(secrets, GIT_TOKEN)).transpose()?;
        Ok(Self { url, token })
    }

    /// The commit that a revision is now.
    pub(super) async fn at(&self, revision: Option<&str>) -> Result<GitCommit, InputError> {
        let client = hub::without_redirects()?;
        let found = tokio::time::timeout(PATIENCE, self.find(&client, revision)).await;
        let commit = found.unwrap_or_else(|_| Err(self.refused("its server does not answer in time")))?;
        Ok(GitCommit { url: self.url.into(), commit, private: self.token.is_some() })
    }

    async fn find(&self, client: &Client, revision: Option<&str>) -> Result<String, InputError> {
        let digits = self.digits(client).await?;
        if let Some(commit) = revision.filter(|revision| is_commit(revision)) {
            self.see(client, commit).await?;
            return Ok(commit.into());
        }
        let answer = self.send(self.post(client, git::refs(revision, digits))).await?;
        let lines = self.lines(answer, |_| false).await?;
        let wanted = git::names(revision);
        let found = wanted.iter().find_map(|name| lines.iter().find_map(|line| commit_of(line, name)));
        let commit = found.ok_or_else(|| match revision {
            None => self.refused("it is empty: its `HEAD` names no commit"),
            Some(name) => self
                .refused(&format!("it has no branch and no tag `{name}`; a commit is named by its whole id")),
        })?;
        if commit.len() == digits && is_commit(&commit) {
            Ok(commit)
        } else {
            Err(self.refused("its server names no commit"))
        }
    }

    /// How many digits its ids have. A server of another protocol is found out here.
    async fn digits(&self, client: &Client) -> Result<usize, InputError> {
        let about = client.get(format!("{}/info/refs?service=git-upload-pack", self.url));
        let lines = self.lines(self.send(about).await?, |_| false).await?;
        if !lines.contains(&Line::Text("version 2".into())) {
            return Err(self.refused("its server does not speak version 2 of git's protocol"));
        }
        let is_long = lines.contains(&Line::Text("object-format=sha256".into()));
        Ok(if is_long { 64 } else { 40 })
    }

    /// Sees that a commit is there, by asking for it as a provider will. Nothing that it holds is read.
    async fn see(&self, client: &Client, commit: &str) -> Result<(), InputError> {
        let answer = self.send(self.post(client, git::fetch(commit))).await?;
        let pack = Line::Text("packfile".into());
        let lines = self.lines(answer, |line| *line == pack).await?;
        if lines.contains(&pack) { Ok(()) } else { Err(self.refused("its server does not send that commit")) }
    }

    fn post(&self, client: &Client, body: Vec<u8>) -> RequestBuilder {
        let to = format!("{}/{}", self.url, git::UPLOAD_PACK);
        client.post(to).header(CONTENT_TYPE, git::REQUEST).body(body)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, InputError> {
        let (version, number) = git::VERSION;
        let mut request = request.header(version, number);
        if let Some(token) = self.token {
            request = request.basic_auth(git::USER, Some(token));
        }
        let response = request.send().await.map_err(|error| {
            let reason = super::silent("its server", error);
            tracing::debug!(url = self.url, reason, "a git server's error");
            self.refused(&reason)
        })?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status if status.is_redirection() => Err(self
                .refused("it has moved; name the address that it has now, perhaps one that ends in `.git`")),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Err(self.refused(
                "its server does not show it: it does not exist, or not anybody may read it; \
                 then name a token: `git: {token: GIT_TOKEN}`",
            )),
            status => Err(self.refused(&format!("its server answers {status}"))),
        }
    }

    /// The lines of an answer, up to one that is the last of interest.
    async fn lines(
        &self,
        mut answer: Response,
        is_last: impl Fn(&Line) -> bool,
    ) -> Result<Vec<Line>, InputError> {
        let (mut lines, mut buffer, mut total) = (Vec::new(), Vec::new(), 0usize);
        loop {
            let chunk = answer.chunk().await.map_err(|_| self.refused("its server breaks off"))?;
            let Some(chunk) = chunk else { break };
            total = total.saturating_add(chunk.len());
            buffer.extend_from_slice(&chunk);
            while let Some(line) = self.line(&mut buffer)? {
                let ends = is_last(&line);
                lines.push(line);
                if ends {
                    return Ok(lines);
                }
            }
            if total > MAX_ANSWER {
                return Err(self.refused("its server says too much"));
            }
        }
        if buffer.is_empty() { Ok(lines) } else { Err(self.refused("its server breaks off")) }
    }

    /// Takes the first line off a buffer, once it is whole.
    fn line(&self, buffer: &mut Vec<u8>) -> Result<Option<Line>, InputError> {
        let foreign = || self.refused("what answers there is no git server");
        let (line, length) = match streaming(buffer).map_err(|_| foreign())? {
            Stream::Incomplete { .. } => return Ok(None),
            Stream::Complete { line, bytes_consumed } => {
                if let Some(error) = line.check_error() {
                    return Err(self.refused(&format!(
                        "its server says: {}",
                        super::said(&String::from_utf8_lossy(error.0))
                    )));
                }
                let line = match line {
                    PacketLineRef::Data(text) => {
                        Line::Text(String::from_utf8_lossy(text.trim_ascii_end()).into())
                    }
                    PacketLineRef::Flush | PacketLineRef::Delimiter | PacketLineRef::ResponseEnd => {
                        Line::Break
                    }
                };
                (line, bytes_consumed)
            }
        };
        buffer.drain(..length);
        Ok(Some(line))
    }

    fn refused(&self, reason: &str) -> InputError {
        InputError::Store { what: format!("git+{}", self.url), reason: reason.into() }
    }
}

/// The commit that a line of `ls-refs` gives a name: `<id> <name> …`, with `peeled:<id>` where the id is a tag's own.
fn commit_of(line: &Line, name: &str) -> Option<String> {
    let Line::Text(text) = line else { return None };
    let mut words = text.split(' ');
    let (id, named) = (words.next()?, words.next()?);
    let peeled = words.find_map(|word| word.strip_prefix("peeled:"));
    (named == name).then(|| peeled.unwrap_or(id).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_its_own_means_the_commit_that_it_was_put_on() {
        let line = |text: &str| Line::Text(text.into());
        let (tag, commit) = ("a".repeat(40), "b".repeat(40));
        let own = line(&format!("{tag} refs/tags/v1 peeled:{commit}"));
        assert_eq!(commit_of(&own, "refs/tags/v1"), Some(commit.clone()));
        assert_eq!(
            commit_of(&own, "refs/tags/v"),
            None,
            "a prefix is asked for, and the whole name is meant"
        );
        let plain = line(&format!("{commit} refs/heads/main"));
        assert_eq!(commit_of(&plain, "refs/heads/main"), Some(commit));
        assert_eq!(commit_of(&Line::Break, "HEAD"), None);
    }

    #[tokio::test]
    async fn a_server_that_is_not_reached_is_told_with_the_cause_and_what_to_check() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Nobody listens on a port that was just given back.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("https://127.0.0.1:{port}/x");
        let repository = Repository { url: &url, token: None };
        let refused = repository.at(None).await.unwrap_err().to_string();
        let told = format!("git+{url}: its server cannot be reached: Connection refused");
        assert!(refused.starts_with(&told) && refused.contains("; check its address"), "{refused}");
    }

    #[test]
    fn lines_are_taken_off_one_by_one_and_rubbish_is_no_git_server() {
        let repository = Repository { url: "https://git.example/x", token: Some("hunter2") };
        let mut buffer = b"000eversion 2\n0000000".to_vec();
        assert_eq!(repository.line(&mut buffer).unwrap(), Some(Line::Text("version 2".into())));
        assert_eq!(repository.line(&mut buffer).unwrap(), Some(Line::Break));
        assert_eq!(repository.line(&mut buffer).unwrap(), None);
        assert_eq!(buffer, b"000");
        for (text, reason) in [("<!doctype html>", "no git server"), ("000eERR gone\x07\x1b", "says: gone")] {
            let refused = repository.line(&mut text.as_bytes().to_vec()).unwrap_err().to_string();
            assert!(
                refused.starts_with("git+https://git.example/x: ") && refused.ends_with(reason),
                "{refused:?}"
            );
        }
    }
}
