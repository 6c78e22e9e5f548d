//! The engine's API, with a limit on every wait.
//!
//! An engine that is down, restarts or hangs is [`CallError::Unavailable`], never an answer about a workload.

use std::path::Path;
use std::time::Duration;

use bollard::models::SystemInfo;
use bollard::{API_DEFAULT_VERSION, Docker, errors::Error};
use tokio::sync::OnceCell;
use tradewind_proto::ids::LeaseId;

use crate::runtime::RuntimeError;

/// The oldest API that has what a lease needs: private cgroup namespaces and one-shot statistics (engine 20.10).
pub(super) const OLDEST_API: (usize, usize) = (1, 41);

/// A connection to one engine. Made without contact; the first call connects and agrees on the API's version.
#[derive(Debug)]
pub(super) struct Engine {
    host: String,
    patience: Duration,
    client: OnceCell<Docker>,
    architecture: OnceCell<String>,
}

/// Why a call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CallError {
    /// The engine answered and refused.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its reason.
        message: String,
    },
    /// No answer, or none in time.
    Unavailable(String),
}

impl CallError {
    /// The engine says that there is no such thing.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// The engine says that it is already so, or that another call is at it.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409 | 304, .. })
    }

    /// As a failure about a lease that was expected to exist.
    pub(super) fn about(self, lease: LeaseId) -> RuntimeError {
        match self {
            Self::Refused { status: 404, .. } => RuntimeError::Absent(lease),
            other @ (Self::Refused { .. } | Self::Unavailable(_)) => other.into(),
        }
    }
}

impl From<CallError> for RuntimeError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { status, message } => {
                Self::Unavailable(format!("it refused ({status}): {message}"))
            }
            CallError::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        if let Error::DockerResponseServerError { status_code, message } = error {
            return Self::Refused { status: status_code, message };
        }
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Self::Unavailable(text)
    }
}

impl Engine {
    /// An engine at `host` (`unix:///…`); `patience` bounds each call.
    pub(super) fn new(host: String, patience: Duration) -> Self {
        Self { host, patience, client: OnceCell::new(), architecture: OnceCell::new() }
    }

    /// Where it listens.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The path of its socket.
    pub(super) fn socket(&self) -> Result<&str, CallError> {
        self.host
            .strip_prefix("unix://")
            .filter(|path| Path::new(path).is_absolute())
            .ok_or_else(|| CallError::Unavailable(format!("`{}` is not unix:///path/to/socket", self.host)))
    }

    /// The client; connects when it is not connected yet.
    pub(super) async fn client(&self) -> Result<&Docker, CallError> {
        self.client.get_or_try_init(|| self.connect()).await
    }

    /// The API that both sides speak, as (major, minor).
    pub(super) async fn api(&self) -> Result<(usize, usize), CallError> {
        let version = self.client().await?.client_version();
        Ok((version.major_version, version.minor_version))
    }

    /// What it says of itself.
    pub(super) async fn info(&self) -> Result<SystemInfo, CallError> {
        self.call("describe itself", |docker| async move { docker.info().await }).await
    }

    /// Of the machine, in the words of images: `amd64`.
    pub(super) async fn architecture(&self) -> Result<&str, CallError> {
        let asking = async || {
            let told = self.call("tell its version", |docker| async move { docker.version().await }).await?;
            Ok::<_, CallError>(told.arch.unwrap_or_default())
        };
        self.architecture.get_or_try_init(asking).await.map(String::as_str)
    }

    async fn connect(&self) -> Result<Docker, CallError> {
        let path = self.socket()?;
        let client = Docker::connect_with_unix(path, self.patience.as_secs().max(1), API_DEFAULT_VERSION)?;
        bounded(self.patience, "agree on a version", client.negotiate_version()).await
    }

    /// Makes one call within the usual patience.
    pub(super) async fn call<T, F>(&self, doing: &str, make: impl FnOnce(Docker) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.call_within(self.patience, doing, make).await
    }

    /// Makes one call within `limit`, for what takes long by its nature.
    pub(super) async fn call_within<T, F>(
        &self,
        limit: Duration,
        doing: &str,
        make: impl FnOnce(Docker) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut client = self.client().await?.clone();
        client.set_timeout(limit);
        bounded(limit, doing, make(client)).await
    }
}

async fn bounded<T>(
    limit: Duration,
    doing: &str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(outcome) => outcome.map_err(CallError::from),
        Err(_) => Err(CallError::Unavailable(format!("no answer within {} s to: {doing}", limit.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_unavailable() {
        let engine = Engine::new("unix:///nowhere/engine.sock".into(), Duration::from_secs(1));
        let error =
            engine.call("ping", |docker| async move { docker.ping().await }).await.expect_err("no engine");
        assert!(matches!(error, CallError::Unavailable(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_remote_engine_is_refused() {
        let engine = Engine::new("tcp://192.0.2.1:2375".into(), Duration::from_secs(1));
        let error = engine.client().await.expect_err("only local engines share our directories");
        assert!(matches!(error, CallError::Unavailable(why) if why.contains("tcp://192.0.2.1")));
    }

    #[test]
    fn only_a_missing_thing_is_absent() {
        let lease = LeaseId::default();
        let refused = |status| CallError::Refused { status, message: "no".into() };
        assert!(matches!(refused(404).about(lease), RuntimeError::Absent(_)));
        for status in [400, 409, 500, 503] {
            assert!(matches!(refused(status).about(lease), RuntimeError::Unavailable(_)), "{status}");
        }
    }
}
