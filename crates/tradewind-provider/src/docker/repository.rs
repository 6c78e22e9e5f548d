//! What the agent itself asks of a registry: small documents, by the rules of the distribution API.
//!
//! ```text
//!  GET ─► 200 the document                              404 it has none
//!     └─► 401 Bearer realm, service ─► the realm gives a token, to the lease's user or to anybody ─► GET with it
//!     └─► 401 Basic ─► GET with the lease's login
//! ```
//!
//! Images are the engine's to pull, which asks the same hosts. As with engines, one on the loopback is asked without TLS.

use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;

use super::login::{Login, home};
use crate::runtime::RuntimeError;

/// The registry behind the usual name.
const USUAL: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// The largest manifest or index, as the distribution specification has it.
pub(super) const MOST_MANIFEST: u64 = 4 << 20;
/// The largest answer with a token.
const MOST_TOKEN: u64 = 64 << 10;
/// How long one request may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// What a manifest may be.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// A repository of a registry.
pub(super) struct Repository<'a> {
    client: Client,
    base: Url,
    host: String,
    path: String,
    login: Option<&'a Login>,
    /// What it wants to be told.
    authorization: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl<'a> Repository<'a> {
    /// The one that a reference names.
    pub(super) fn of(reference: &str, login: Option<&'a Login>) -> Result<Self, RuntimeError> {
        let (host, path) = home(reference);
        let at = if host == USUAL.0 { USUAL.1 } else { &host };
        let scheme = if is_loopback(at) { "http" } else { "https" };
        let malformed =
            |_| RuntimeError::Start(format!("`{}` names no registry", reference.escape_default()));
        let base = Url::parse(&format!("{scheme}://{at}/v2/{path}/")).map_err(malformed)?;
        let client = Client::builder().timeout(ANSWERS_WITHIN).https_only(scheme == "https").build();
        let client = client.map_err(|error| RuntimeError::Unavailable(error.to_string()))?;
        Ok(Self { client, base, host, path, login, authorization: None })
    }

    /// The manifest under a tag or digest.
    pub(super) async fn manifest(&mut self, key: &str) -> Result<Option<Vec<u8>>, RuntimeError> {
        self.get(&format!("manifests/{key}"), MOST_MANIFEST).await
    }

    /// The blob with a digest.
    pub(super) async fn blob(&mut self, digest: &str, most: u64) -> Result<Option<Vec<u8>>, RuntimeError> {
        self.get(&format!("blobs/{digest}"), most).await
    }

    async fn get(&mut self, what: &str, most: u64) -> Result<Option<Vec<u8>>, RuntimeError> {
        let url = self.base.join(what).map_err(|error| self.unavailable(&error))?;
        let mut answer = self.ask(&url).await?;
        if answer.status() == StatusCode::UNAUTHORIZED && self.authorization.is_none() {
            let wanted = answer.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
            self.authorization = self.authorize(wanted.unwrap_or_default()).await?;
            if self.authorization.is_some() {
                answer = self.ask(&url).await?;
            }
        }
        match answer.status() {
            StatusCode::OK => Ok(Some(self.read(answer, most).await?)),
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.refused()),
            status => Err(self.unavailable(&format!("it answers {status}"))),
        }
    }

    async fn ask(&self, url: &Url) -> Result<Response, RuntimeError> {
        let mut request = self.client.get(url.clone()).header(ACCEPT, MANIFESTS);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.send().await.map_err(|error| self.unavailable(&error.without_url()))
    }

    /// What the registry wants to be told, after it said how.
    async fn authorize(&self, wanted: &str) -> Result<Option<HeaderValue>, RuntimeError> {
        match wanted.split_once(' ') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => {
                let token = self.token(rest).await?;
                Ok(HeaderValue::from_str(&format!("Bearer {token}")).ok().map(secret))
            }
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("basic") => {
                Ok(self.login.and_then(|login| HeaderValue::from_str(&login.basic()).ok()).map(secret))
            }
            Some(_) | None => Ok(None),
        }
    }

    async fn token(&self, challenge: &str) -> Result<String, RuntimeError> {
        let realm = parameter(challenge, "realm").unwrap_or_default();
        let mut url = Url::parse(&realm).map_err(|error| self.unavailable(&error))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let is_local = is_loopback(&self.host) && is_loopback(&host);
        if url.scheme() != "https" && !is_local {
            return Err(self.unavailable(&"it sends for tokens where there is no TLS"));
        }
        let scope = format!("repository:{}:pull", self.path);
        url.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = parameter(challenge, "service") {
            url.query_pairs_mut().append_pair("service", &service);
        }
        let mut request = self.client.get(url);
        if let Some(basic) = self.login.and_then(|login| HeaderValue::from_str(&login.basic()).ok()) {
            request = request.header(AUTHORIZATION, secret(basic));
        }
        let answer = request.send().await.map_err(|error| self.unavailable(&error.without_url()))?;
        if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(self.refused());
        }
        let told = self.read(answer, MOST_TOKEN).await?;
        let told: Option<Token> = serde_json::from_slice(&told).ok();
        let token = told.and_then(|told| told.token.or(told.access_token));
        token.ok_or_else(|| self.unavailable(&"it gives no token"))
    }

    async fn read(&self, answer: Response, most: u64) -> Result<Vec<u8>, RuntimeError> {
        let (mut parts, mut bytes) = (answer.bytes_stream(), Vec::new());
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| self.unavailable(&error.without_url()))?;
            bytes.extend_from_slice(&part);
            if bytes.len() as u64 > most {
                return Err(RuntimeError::Start(format!(
                    "the registry {} shows a document of more than {most} bytes",
                    self.host
                )));
            }
        }
        Ok(bytes)
    }

    fn unavailable(&self, why: &dyn std::fmt::Display) -> RuntimeError {
        RuntimeError::Unavailable(format!("the registry {} cannot be asked for signatures: {why}", self.host))
    }

    /// The registry's "no".
    fn refused(&self) -> RuntimeError {
        let name = format!("{}/{}", self.host, self.path);
        match self.login {
            Some(login) => login.refused(&name),
            None => RuntimeError::Start(format!(
                "the registry refused to show {name}: a private image needs `registry` in the job file"
            )),
        }
    }
}

fn secret(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// Whether a host, with its port or without, is this machine's loopback.
fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A quoted parameter of a challenge.
fn parameter(challenge: &str, name: &str) -> Option<String> {
    challenge.split(',').find_map(|part| {
        let (key, value) = part.trim().split_once('=')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_names_its_realm_and_service() {
        let challenge =
            r#"realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b:c,d""#;
        assert_eq!(parameter(challenge, "realm").as_deref(), Some("https://auth.docker.io/token"));
        assert_eq!(parameter(challenge, "SERVICE").as_deref(), Some("registry.docker.io"));
        assert_eq!(parameter(challenge, "error"), None);
    }

    #[test]
    fn only_the_loopback_is_asked_without_tls() {
        for host in ["127.0.0.1:5000", "localhost", "localhost:5000", "127.9.9.9"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.evil.example", "10.0.0.1:5000", "127.0.0.1.evil.example", "registry"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
