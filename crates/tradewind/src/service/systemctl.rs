//! The service manager, by its own command. The first `systemctl` on the path is called, so it may be another.

use std::ffi::OsStr;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::Command;

use super::{NAME, Scope, Unit};
use crate::client::Told;

/// How long a command may take: stopping waits for the node, which has a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// What becomes of a user's services when nobody of them is logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linger {
    /// They go on.
    Yes,
    /// They end.
    No,
    /// Nobody says.
    Unknown,
}

impl Unit {
    /// Refuses where no service manager answers.
    pub(crate) async fn refuse_without_systemd(scope: Scope) -> anyhow::Result<()> {
        let said = run("systemctl", &with_scope(scope, &["is-system-running"])).await;
        let state = said.as_ref().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        match state.as_deref() {
            Ok("" | "offline" | "unknown") | Err(_) => {
                let (error, hint) = match scope {
                    Scope::System => (
                        "systemd does not run here",
                        "`tradewind node start` starts a node in the background; have it called when the machine starts",
                    ),
                    Scope::User => (
                        "no systemd of this user answers",
                        "log in as this user without sudo or su, or install a unit of the system: --system",
                    ),
                };
                Err(Told::error(error, hint))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Has systemd read its units again.
    pub(crate) async fn reload(&self) -> anyhow::Result<()> {
        self.must(&["daemon-reload"]).await
    }

    /// Has it started with the machine, or with the user's session.
    pub(crate) async fn enable(&self) -> anyhow::Result<()> {
        self.must(&["enable", NAME]).await
    }

    /// The reverse.
    pub(crate) async fn disable(&self) -> anyhow::Result<()> {
        self.must(&["disable", NAME]).await
    }

    /// Starts it, also where it had failed too often. Whether the node answers is another question.
    pub(crate) async fn start(&self) -> anyhow::Result<()> {
        // Fails where there is nothing to forget.
        let _ = self.ask(&["reset-failed", NAME]).await;
        self.must(&["start", NAME]).await
    }

    /// Ends the node's process.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        self.must(&["stop", NAME]).await
    }

    /// `active`, `failed` and so on; `unknown` where nobody says.
    pub(crate) async fn state(&self) -> String {
        let said = self.ask(&["is-active", NAME]).await.ok();
        let state = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        state.filter(|state| !state.is_empty()).unwrap_or_else(|| "unknown".into())
    }

    async fn ask(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        run("systemctl", &with_scope(self.scope, arguments)).await
    }

    async fn must(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = self.ask(arguments).await?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let error = format!("`systemctl {}` failed: {said}", with_scope(self.scope, arguments).join(" "));
        let hint = match self.scope {
            Scope::System if !rustix::process::geteuid().is_root() => {
                "a unit of the system is root's: use sudo"
            }
            Scope::System | Scope::User => self.scope.journal(),
        };
        Err(Told::error(error, hint))
    }
}

/// Whether this user's services go on without a session.
pub(crate) async fn linger() -> Linger {
    let user = rustix::process::getuid().as_raw().to_string();
    match run("loginctl", &["show-user", &user, "--property=Linger", "--value"]).await {
        Ok(output) => match String::from_utf8_lossy(&output.stdout).trim() {
            "yes" => Linger::Yes,
            "no" => Linger::No,
            _ => Linger::Unknown,
        },
        Err(_) => Linger::Unknown,
    }
}

fn with_scope<'a>(scope: Scope, arguments: &[&'a str]) -> Vec<&'a str> {
    let user = (scope == Scope::User).then_some("--user");
    user.into_iter().chain(arguments.iter().copied()).collect()
}

/// Runs a program of the path, which is asked nothing and told nothing but its arguments.
async fn run(program: &str, arguments: &[impl AsRef<OsStr>]) -> anyhow::Result<Output> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command.env_remove(crate::node::keys::PASSWORD_VARIABLE);
    match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(output) => output.with_context(|| format!("`{program}` cannot be run")),
        Err(_) => bail!("`{program}` does not answer after {} s", PATIENCE.as_secs()),
    }
}
