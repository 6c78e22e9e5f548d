//! A node as a service of systemd: `tradewind.service`, one of the system's and one of each user's.
//!
//! ```text
//! none ──write, daemon-reload, enable, start──► installed, active ──start, stop, restart: by systemctl──► installed
//!   ▲                                              │ ends by a fault: started again, five times in five minutes at most
//!   └──────── disable, stop, remove ───────────────┘ workloads go on and are adopted, as with a node in the background
//! ```
//!
//! A unit belongs to the node whose configuration its `ExecStart` names. One of another home is never touched.

mod systemctl;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use etcetera::BaseStrategy;

use crate::client::Told;
pub(crate) use systemctl::{Linger, linger};

/// The unit's name.
pub(crate) const NAME: &str = "tradewind.service";
/// Where an administrator's units stand.
const SYSTEM_UNITS: &str = "/etc/systemd/system";
/// The largest unit file that is read.
const MAX_UNIT: u64 = 64 << 10;
/// What a node that is root never needs. Jobs have capabilities of their own user namespace, which this does not touch.
const NEVER_NEEDED: &str = "CAP_SYS_MODULE CAP_SYS_BOOT CAP_SYS_TIME CAP_WAKE_ALARM CAP_SYS_TTY_CONFIG CAP_SYS_PACCT \
                            CAP_AUDIT_CONTROL CAP_MAC_ADMIN CAP_MAC_OVERRIDE";

/// Whose service manager runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The machine's.
    System,
    /// The user's own.
    User,
}

impl Scope {
    /// The file of the unit.
    fn file(self) -> anyhow::Result<PathBuf> {
        let dir = match self {
            Self::System => PathBuf::from(SYSTEM_UNITS),
            Self::User => etcetera::choose_base_strategy()
                .context("there is no home directory for a user's unit")?
                .config_dir()
                .join("systemd/user"),
        };
        Ok(dir.join(NAME))
    }

    /// What a person reads the service's log with.
    pub(crate) const fn journal(self) -> &'static str {
        match self {
            Self::System => "journalctl -u tradewind",
            Self::User => "journalctl --user -u tradewind",
        }
    }
}

/// The unit of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Whose.
    pub(crate) scope: Scope,
    /// Its file.
    pub(crate) file: PathBuf,
    /// What it runs.
    pub(crate) program: PathBuf,
    /// The node's configuration.
    pub(crate) config: PathBuf,
}

impl Unit {
    /// The unit that would run `program` with `config`; nothing is written yet.
    pub(crate) fn planned(scope: Scope, program: &Path, config: &Path) -> anyhow::Result<Self> {
        for path in [program, config] {
            if !path.is_absolute() || quoted(path).is_none() {
                bail!("{} cannot be named in a unit; use a plain absolute path", path.display());
            }
        }
        Ok(Self { scope, file: scope.file()?, program: program.into(), config: config.into() })
    }

    /// The unit that runs the node of `config`, where one is installed.
    pub(crate) fn of(config: &Path) -> Option<Self> {
        let mut found = [Scope::User, Scope::System].into_iter().filter_map(|scope| Self::at(scope).ok()?);
        found.find(|unit| unit.config == config)
    }

    /// The unit that stands in `scope`, whosever it is.
    pub(crate) fn at(scope: Scope) -> anyhow::Result<Option<Self>> {
        let file = scope.file()?;
        let shown = file.display();
        match std::fs::metadata(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            metadata => {
                let length = metadata.with_context(|| format!("cannot read {shown}"))?.len();
                if length > MAX_UNIT {
                    bail!("{shown} is no unit of ours: it has {length} bytes");
                }
            }
        }
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {shown}"))?;
        let Some((program, config)) = command(&text) else {
            let hint = format!("look at {shown}; move it away if nobody needs it");
            return Err(Told::error(format!("{shown} was not written by this program"), hint));
        };
        Ok(Some(Self { scope, file, program, config }))
    }

    /// The unit's text. `user` is who runs it, for a unit of the system that is not root's.
    pub(crate) fn text(&self, user: Option<u32>) -> String {
        let (wanted_by, after) = match self.scope {
            Scope::System => (
                "multi-user.target",
                "Wants=network-online.target\nAfter=network-online.target docker.service\n",
            ),
            Scope::User => ("default.target", ""),
        };
        let user = user.filter(|_| self.scope == Scope::System);
        let user = user.map_or_else(String::new, |uid| format!("User={uid}\n"));
        let bounds = match self.scope {
            Scope::System => format!("CapabilityBoundingSet=~{NEVER_NEEDED}\n"),
            Scope::User => String::new(),
        };
        let [program, config] = [&self.program, &self.config].map(|path| quoted(path).unwrap_or_default());
        format!(
            "# Written by `tradewind node install`; `tradewind node uninstall` removes it.\n\
             [Unit]\nDescription=Tradewind node\n{after}StartLimitIntervalSec=300\nStartLimitBurst=5\n\n\
             [Service]\nType=exec\n{user}ExecStart={program} node --config {config}\nRestart=on-failure\nRestartSec=5\n\
             TimeoutStopSec=60\n\n\
             # Workloads outlive the node: only its own process is ended, and their control groups are left to it.\n\
             KillMode=process\nDelegate=yes\nDelegateSubgroup=tradewind-agent\nOOMPolicy=continue\nTasksMax=infinity\n\
             LimitNOFILE=65536\n\n\
             # docs/provider.md, \"Staying up\", says why there is no more of this.\n\
             LimitCORE=0\n{bounds}\n\
             [Install]\nWantedBy={wanted_by}\n"
        )
    }

    /// Writes the unit, whole or not at all.
    pub(crate) fn write(&self, text: &str) -> anyhow::Result<()> {
        let shown = self.file.display();
        let refused = || {
            let hint = match self.scope {
                Scope::System => "run it as root, or install a unit of your own: --user",
                Scope::User => "look at the owner of that directory",
            };
            Told::error(format!("{shown} cannot be written"), hint)
        };
        let written = || {
            std::fs::create_dir_all(self.file.parent().unwrap_or(Path::new("/")))?;
            let fresh = self.file.with_extension("service.new");
            std::fs::write(&fresh, text)?;
            std::fs::rename(&fresh, &self.file)
        };
        written().map_err(|error: std::io::Error| {
            if error.kind() == std::io::ErrorKind::PermissionDenied {
                return refused();
            }
            anyhow::Error::new(error).context(format!("cannot write {shown}"))
        })
    }

    /// Removes the unit's file.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        std::fs::remove_file(&self.file).with_context(|| format!("cannot remove {}", self.file.display()))
    }
}

/// The program and the configuration of a unit's text.
fn command(text: &str) -> Option<(PathBuf, PathBuf)> {
    let mut lines = text.lines().filter_map(|line| line.trim().strip_prefix("ExecStart="));
    let words = words(lines.next()?)?;
    match words.as_slice() {
        [program, node, flag, config] if node == "node" && flag == "--config" => {
            Some((program.into(), config.into()))
        }
        _ => None,
    }
}

/// A path as a word of `ExecStart`. `None` for what systemd would expand, or could not read back.
fn quoted(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    if text.chars().any(|letter| letter.is_control() || letter == '$') {
        return None;
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    Some(format!("\"{escaped}\""))
}

/// The words of a command line that is quoted as [`quoted`] does, or not at all.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut letters) = (Vec::new(), line.trim().chars().peekable());
    while letters.peek().is_some() {
        let mut word = String::new();
        let is_quoted = letters.next_if_eq(&'"').is_some();
        loop {
            match letters.next() {
                Some('"') if is_quoted => break,
                Some('\\') => word.push(letters.next()?),
                Some('%') => word.push(letters.next_if_eq(&'%')?),
                Some(letter) if !is_quoted && letter.is_whitespace() => break,
                Some(letter) => word.push(letter),
                None if is_quoted => return None,
                None => break,
            }
        }
        words.push(word);
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
    }
    Some(words)
}

/// Why a program at this path may be gone when systemd looks for it.
pub(crate) fn vanishes(program: &Path) -> Option<String> {
    let names: Vec<&str> = program.iter().filter_map(|name| name.to_str()).collect();
    let temporary = ["/tmp", "/var/tmp", "/dev/shm", "/run"].iter().find(|dir| program.starts_with(dir));
    let built = program.parent().is_some_and(|dir| dir.join("deps").is_dir())
        || names
            .windows(2)
            .any(|pair| pair[0] == "target" && matches!(pair[1], "debug" | "release" | "dist"));
    let why = match (temporary, built) {
        (Some(dir), _) => format!("{dir} is emptied when the machine starts"),
        (None, true) => "Cargo replaces it at the next build, and `cargo clean` removes it".to_owned(),
        (None, false) => return None,
    };
    Some(format!(
        "{}: {why}; copy it (`install -m 755 {} /usr/local/bin/tradewind`) and install the service with the copy",
        program.display(),
        program.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(scope: Scope) -> Unit {
        let file = PathBuf::from("/nowhere").join(NAME);
        let config = "/srv/ann/100% \"mine\"/node.toml".into();
        Unit { scope, file, program: "/usr/local/bin/tradewind".into(), config }
    }

    #[test]
    fn a_unit_survives_the_agent_s_death_and_names_its_node_by_absolute_paths() {
        insta::assert_snapshot!("system", unit(Scope::System).text(Some(1000)));
        insta::assert_snapshot!("user", unit(Scope::User).text(Some(1000)));
    }

    #[test]
    fn a_unit_s_own_text_says_whose_it_is() {
        let unit = unit(Scope::System);
        let expected = (unit.program.clone(), unit.config.clone());
        assert_eq!(command(&unit.text(None)), Some(expected));
        let plain = command("ExecStart=/bin/tradewind node --config /etc/node.toml\n");
        assert_eq!(plain, Some(("/bin/tradewind".into(), "/etc/node.toml".into())));
        for foreign in
            ["", "ExecStart=/bin/tradewind node", "ExecStart=\"/bin/x node --config y", "ExecStart=%h/x"]
        {
            assert_eq!(command(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn what_systemd_would_expand_is_refused() {
        for path in ["/srv/$USER/node.toml", "/srv/a\nExecStartPre=/bin/sh", "node.toml"] {
            assert!(
                Unit::planned(Scope::System, Path::new("/bin/tradewind"), Path::new(path)).is_err(),
                "{path}"
            );
        }
    }

    #[test]
    fn programs_in_build_and_temporary_directories_are_told_of() {
        assert_eq!(vanishes(Path::new("/usr/local/bin/tradewind")), None);
        assert!(vanishes(Path::new("/tmp/tradewind")).unwrap().contains("/tmp is emptied"));
        let built = vanishes(Path::new("/srv/ann/tradewind/target/release/tradewind")).unwrap();
        assert!(built.contains("install -m 755"), "{built}");
    }
}
