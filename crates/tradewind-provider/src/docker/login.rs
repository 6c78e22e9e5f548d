//! The login with which a lease's image is pulled, and whose registry and repository a reference names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use tradewind_proto::workload::{Secrets, WorkloadSpec};

use super::image::repository;
use crate::runtime::RuntimeError;

/// The registry of names that name none.
const DEFAULT: &str = "docker.io";
/// Its second name.
const DEFAULT_INDEX: &str = "index.docker.io";
/// As logins name it.
const DEFAULT_ADDRESS: &str = "https://index.docker.io/v1/";

/// A user of a registry and the password. It is in memory only and has no `Debug`.
pub(super) struct Login {
    username: String,
    /// The password's name among the job's secrets.
    secret: String,
    password: String,
}

impl Login {
    /// The login of a lease, if it has one.
    pub(super) fn of(spec: &WorkloadSpec, secrets: &Secrets) -> Result<Option<Self>, RuntimeError> {
        let Some(named) = &spec.registry else { return Ok(None) };
        let (username, secret) = (named.username.clone(), named.secret.clone());
        match secrets.0.get(&secret).cloned() {
            Some(password) => Ok(Some(Self { username, secret, password })),
            None => Err(RuntimeError::Start(format!(
                "the secret `{secret}`, a registry's password, did not come with the job"
            ))),
        }
    }

    /// For the registry of this reference and no other.
    pub(super) fn credentials(&self, reference: &str) -> Result<DockerCredentials, RuntimeError> {
        let (host, _) = home(reference);
        let address = if host == DEFAULT { DEFAULT_ADDRESS.to_owned() } else { host };
        let credentials = DockerCredentials {
            username: Some(self.username.clone()),
            password: Some(self.password.clone()),
            serveraddress: Some(address),
            ..DockerCredentials::default()
        };
        if arrives_whole(&credentials) {
            return Ok(credentials);
        }
        Err(RuntimeError::Start(format!(
            "the password in the secret `{}` cannot be told to the engine: use an access token of letters, digits, `-` and `_`",
            self.secret
        )))
    }

    /// As a registry is told it.
    pub(super) fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.username, self.password)))
    }

    /// The registry's "no". What it says itself is left out, as it may repeat the password.
    pub(super) fn refused(&self, reference: &str) -> RuntimeError {
        let ((host, _), Self { username, secret, .. }) = (home(reference), self);
        RuntimeError::Start(format!(
            "the registry {host} refused to give {reference} to `{username}`: check `registry.username`, that the secret `{secret}` holds the password, and that this user may pull the image"
        ))
    }
}

/// Whether an engine reads the credentials as they are. They go in a header in base64, which is written with `+` and `/` and read
/// with `-` and `_`; an engine that stumbles over one pulls without a login and says nothing.
fn arrives_whole(credentials: &DockerCredentials) -> bool {
    let text = serde_json::to_vec(credentials).unwrap_or_default();
    let is_plain = |(place, byte): (usize, &u8)| byte.is_ascii() && (place % 3 != 2 || byte & 0x3e != 0x3e);
    !text.is_empty() && text.iter().enumerate().all(is_plain)
}

/// The registry and the repository that a reference names, as engines understand it.
pub(super) fn home(reference: &str) -> (String, String) {
    let name = repository(reference);
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        _ => (DEFAULT, name),
    };
    if host != DEFAULT && host != DEFAULT_INDEX {
        return (host.to_owned(), path.to_owned());
    }
    let path = if path.contains('/') { path.to_owned() } else { format!("library/{path}") };
    (DEFAULT.to_owned(), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(password: &str) -> Login {
        Login { username: "ci-bot".into(), secret: "TOKEN".into(), password: password.into() }
    }

    #[test]
    fn a_reference_has_one_home_however_it_is_written() {
        for (reference, host, path) in [
            ("busybox", "docker.io", "library/busybox"),
            ("docker.io/busybox:1", "docker.io", "library/busybox"),
            ("index.docker.io/acme/a@sha256:00", "docker.io", "acme/a"),
            ("acme/a:1", "docker.io", "acme/a"),
            ("ghcr.io/acme/a:1", "ghcr.io", "acme/a"),
            ("evil.example/acme/a", "evil.example", "acme/a"),
            ("localhost/a", "localhost", "a"),
            ("host:5000/a/b:1", "host:5000", "a/b"),
        ] {
            assert_eq!(home(reference), (host.to_owned(), path.to_owned()), "{reference}");
        }
    }

    #[test]
    fn a_login_is_for_the_registry_that_the_reference_names() {
        for (reference, address) in
            [("acme/a", "https://index.docker.io/v1/"), ("ghcr.io/acme/a:1", "ghcr.io")]
        {
            let credentials = login("hunter2").credentials(reference).expect("plain");
            assert_eq!(credentials.serveraddress.as_deref(), Some(address));
            assert_eq!(credentials.password.as_deref(), Some("hunter2"));
        }
    }

    #[test]
    fn a_password_that_the_engine_would_not_read_is_refused() {
        assert!(login("ghp_0aZ-9.+/=!").credentials("ghcr.io/acme/a").is_ok());
        for odd in ["???", "~~~", ">>>", "\u{7f}\u{7f}\u{7f}", "pässword"] {
            let error = login(odd).credentials("ghcr.io/acme/a").expect_err(odd).to_string();
            assert!(error.contains("`TOKEN`") && !error.contains(odd), "{error}");
        }
    }
}
