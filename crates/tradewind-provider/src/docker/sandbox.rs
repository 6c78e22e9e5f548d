//! Containers with a kernel of their own: gVisor's or Kata's runtime, where the engine has one.
//!
//! ```text
//!  a lease ─► what does the engine list?
//!               off       ─► the engine's usual runtime
//!               auto      ─► no accelerators, and a sandboxed one is listed? that one; else the usual
//!               required  ─► a sandboxed one, or no lease
//!               a name    ─► that one, or no lease
//! ```
//!
//! A container stays with the runtime that it was made with. What the host shows of such a container are its sandbox's processes, not
//! the job's: commands in it are signalled from inside, and what its files take is found by its control group.

use std::fmt;
use std::str::FromStr;

use bollard::models::SystemInfo;
use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::{DockerConfig, NAME};
use crate::runtime::{Finding, RuntimeError};

/// The names under which these runtimes are usually registered, the preferred one first.
const KNOWN: [&str; 11] = [
    "runsc",
    "gvisor",
    "runsc-kvm",
    "runsc-systrap",
    "io.containerd.runsc.v1",
    "kata",
    "kata-runtime",
    "kata-qemu",
    "kata-clh",
    "kata-fc",
    "io.containerd.kata.v2",
];
/// The longest name that a runtime may have.
const LONGEST_NAME: usize = 128;
/// Processes and threads of the host that a sandbox needs for itself, beside the job's.
pub(super) const OWN_PROCESSES: i64 = 512;
/// How to come by one.
const INSTALL: &str = "install gVisor (https://gvisor.dev; Debian: apt-get install runsc) or Kata Containers, register it under \
    `runtimes` in /etc/docker/daemon.json (gVisor: `runsc install`), and restart the engine";

/// Which leases get a kernel of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sandbox {
    /// None, unless the engine's usual runtime gives one.
    Off,
    /// Those without accelerators, where the engine lists a runtime that is known to give one.
    #[default]
    Auto,
    /// All of them; a lease that cannot have one is refused.
    Required,
    /// All of them, by the runtime that the engine lists under this name.
    Named(String),
}

/// What is no choice of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sandbox is `auto`, `required`, `off`, or the name under which the engine knows a runtime")]
pub struct SandboxError;

impl FromStr for Sandbox {
    type Err = SandboxError;

    fn from_str(text: &str) -> Result<Self, SandboxError> {
        let named = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        match text {
            "off" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            "required" => Ok(Self::Required),
            name if !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(named) => {
                Ok(Self::Named(name.into()))
            }
            _ => Err(SandboxError),
        }
    }
}

impl TryFrom<String> for Sandbox {
    type Error = SandboxError;

    fn try_from(text: String) -> Result<Self, SandboxError> {
        text.parse()
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Auto => "auto",
            Self::Required => "required",
            Self::Named(name) => name,
        })
    }
}

impl From<Sandbox> for String {
    fn from(sandbox: Sandbox) -> Self {
        sandbox.to_string()
    }
}

/// What the engine has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Listed {
    names: Vec<String>,
    usual: String,
}

/// What a container is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The runtime's name; the engine's usual one where absent.
    pub(super) runtime: Option<String>,
    /// It gives the container a kernel of its own.
    pub(super) is_sandbox: bool,
}

impl Listed {
    pub(super) fn read(info: &SystemInfo) -> Self {
        let mut names: Vec<String> = info.runtimes.iter().flat_map(|all| all.keys().cloned()).collect();
        names.sort();
        Self { names, usual: info.default_runtime.clone().unwrap_or_default() }
    }

    fn has(&self, name: &str) -> bool {
        self.usual == name || self.names.iter().any(|listed| listed == name)
    }

    /// The one to take: what the owner made the usual one goes first.
    fn known(&self) -> Option<&str> {
        let usual = Some(self.usual.as_str()).filter(|usual| KNOWN.contains(usual));
        usual.or_else(|| KNOWN.into_iter().find(|name| self.has(name)))
    }
}

impl Sandbox {
    /// What a lease's container is made with; else why there can be none.
    pub(super) fn choose(&self, listed: &Listed, has_gpus: bool) -> Result<Chosen, String> {
        let usual = || Chosen { runtime: None, is_sandbox: KNOWN.contains(&listed.usual.as_str()) };
        let sandbox = |name: &str| Chosen { runtime: Some(name.into()), is_sandbox: true };
        match self {
            Self::Off => Ok(usual()),
            Self::Auto if has_gpus => Ok(usual()),
            Self::Auto => Ok(listed.known().map_or_else(usual, sandbox)),
            Self::Required if has_gpus => {
                Err("accelerators in a sandbox: whether its runtime lets a job use them is not known; \
                 the owner can name the runtime as `provider.sandbox`"
                    .into())
            }
            Self::Required => {
                listed.known().map(sandbox).ok_or_else(|| "the engine lists no sandboxed runtime".into())
            }
            Self::Named(name) if listed.has(name) => Ok(sandbox(name)),
            Self::Named(name) => Err(format!("the engine lists no runtime `{name}`")),
        }
    }

    /// Whether there are leases, or engines, with which it gives none.
    pub(super) fn may_refuse(&self) -> bool {
        match self {
            Self::Off | Self::Auto => false,
            Self::Required | Self::Named(_) => true,
        }
    }

    /// What the owner should know.
    pub(super) fn finding(&self, listed: &Listed) -> Option<Finding> {
        let fix = match self {
            Self::Named(_) => {
                let names = listed.names.join(", ");
                format!("it lists {names}: name one of them as `provider.sandbox` in node.toml; or {INSTALL}")
            }
            Self::Off | Self::Auto | Self::Required => INSTALL.to_owned(),
        };
        match self.choose(listed, false) {
            Err(why) => Some(Finding { grave: true, problem: format!("no lease is taken: {why}"), fix }),
            Ok(chosen) if chosen.is_sandbox || *self == Self::Off => None,
            Ok(_) => Some(Finding {
                grave: false,
                problem: "leases share this machine's kernel: the engine lists no sandboxed runtime".into(),
                fix,
            }),
        }
    }
}

/// The runtime that gives leases without accelerators a kernel of their own; none where they share this machine's.
///
/// # Errors
/// [`RuntimeError::Unsupported`] where the engine lists none and one must be, [`RuntimeError::Unavailable`] where it does not answer.
pub async fn sandboxed_by(config: &DockerConfig) -> Result<Option<String>, RuntimeError> {
    let engine = Engine::new(config.host.clone(), config.call_within);
    let listed = Listed::read(&engine.info().await?);
    if let Some(Finding { grave: true, problem, fix }) = config.sandbox.finding(&listed) {
        return Err(RuntimeError::Unsupported {
            runtime: NAME,
            what: format!("a lease here: {problem}; {fix}"),
        });
    }
    let chosen = config.sandbox.choose(&listed, false).map_err(unsupported)?;
    Ok(chosen.is_sandbox.then(|| chosen.runtime.unwrap_or(listed.usual)))
}

/// A lease that cannot have the sandbox that it must have.
pub(super) fn unsupported(what: String) -> RuntimeError {
    RuntimeError::Unsupported { runtime: NAME, what }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bollard::models::Runtime;

    use super::*;

    fn engine(names: &[&str], usual: &str) -> Listed {
        let runtimes: HashMap<_, _> =
            names.iter().map(|name| ((*name).to_owned(), Runtime::default())).collect();
        let default_runtime = Some(usual.to_owned());
        Listed::read(&SystemInfo { runtimes: Some(runtimes), default_runtime, ..SystemInfo::default() })
    }

    /// The runtime that is named to the engine, and whether the container has a kernel of its own.
    fn chosen(sandbox: &str, listed: &Listed, has_gpus: bool) -> Result<(Option<String>, bool), String> {
        let sandbox: Sandbox = sandbox.parse().unwrap();
        sandbox.choose(listed, has_gpus).map(|chosen| (chosen.runtime, chosen.is_sandbox))
    }

    fn named(name: &str) -> Result<(Option<String>, bool), String> {
        Ok((Some(name.into()), true))
    }

    #[test]
    fn a_lease_without_accelerators_gets_the_sandbox_that_is_there() {
        for (names, expected) in [
            (vec!["runc", "runsc"], "runsc"),
            (vec!["runc", "kata", "io.containerd.runsc.v1"], "io.containerd.runsc.v1"),
            (vec!["io.containerd.runc.v2", "io.containerd.kata.v2", "runc"], "io.containerd.kata.v2"),
        ] {
            assert_eq!(chosen("auto", &engine(&names, "runc"), false), named(expected));
            assert_eq!(chosen("auto", &engine(&names, "runc"), true), Ok((None, false)), "with accelerators");
            assert_eq!(chosen("required", &engine(&names, "runc"), false), named(expected));
            assert_eq!(chosen("off", &engine(&names, "runc"), false), Ok((None, false)));
        }
        assert_eq!(chosen("auto", &engine(&["nvidia", "runc", "youki"], "runc"), false), Ok((None, false)));
    }

    #[test]
    fn what_the_owner_made_the_usual_runtime_goes_first() {
        let both = engine(&["kata", "runc", "runsc"], "kata");
        assert_eq!(chosen("auto", &both, false), named("kata"));
        for (sandbox, has_gpus) in [("off", false), ("off", true), ("auto", true)] {
            assert_eq!(
                chosen(sandbox, &both, has_gpus),
                Ok((None, true)),
                "{sandbox}: it is a sandbox still"
            );
        }
        assert_eq!(chosen("runsc", &both, false), named("runsc"), "a name says more");
    }

    #[test]
    fn a_sandbox_that_must_be_and_is_not_there_is_a_grave_finding() {
        let plain = engine(&["runc", "youki"], "runc");
        for (sandbox, word) in [("required", "no sandboxed runtime"), ("runsc", "no runtime `runsc`")] {
            assert!(chosen(sandbox, &plain, false).unwrap_err().contains(word));
            let finding = sandbox.parse::<Sandbox>().unwrap().finding(&plain).unwrap();
            assert!(finding.grave && finding.problem.contains(word) && finding.fix.contains("daemon.json"));
        }
        let finding = Sandbox::Named("runsc".into()).finding(&plain).unwrap();
        assert!(finding.fix.contains("it lists runc, youki"), "{finding:?}");
        let advice = Sandbox::Auto.finding(&plain).unwrap();
        assert!(!advice.grave && advice.fix.contains("runsc install"), "{advice:?}");
        assert_eq!(Sandbox::Off.finding(&plain), None);
        assert_eq!(chosen("youki", &plain, true), named("youki"), "who names one knows it");
    }

    #[test]
    fn accelerators_in_a_required_sandbox_need_its_name() {
        let listed = engine(&["runc", "runsc"], "runc");
        let refused = chosen("required", &listed, true).unwrap_err();
        assert!(refused.contains("provider.sandbox"), "{refused}");
        assert_eq!(chosen("runsc", &listed, true), named("runsc"));
    }

    #[test]
    fn a_choice_is_written_as_it_is_read() {
        for text in ["off", "auto", "required", "io.containerd.kata.v2"] {
            assert_eq!(text.parse::<Sandbox>().unwrap().to_string(), text);
        }
        for text in ["", "a b", "../runc", "a/b", &"x".repeat(LONGEST_NAME + 1)] {
            assert_eq!(text.parse::<Sandbox>(), Err(SandboxError), "{text}");
        }
    }
}
