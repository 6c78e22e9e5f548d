//! Signals for a command in a sandbox, whose processes the host does not see: a shell of the image sends them.
//!
//! A command of ours is the process with its mark in the environment and with no parent in the sandbox; the rest of its session
//! follows by its number. What the job makes of marks or of the shell harms nobody beside it: all of it is inside.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::models::ExecConfig;
use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout};
use tradewind_proto::ids::LeaseId;

use super::{Exec, HANGUP_GRACE, KILL_PATIENCE, SETTLES, Shared, create};

/// The variable that marks a command.
const MARK: &str = "TRADEWIND_SESSION";
/// How long one look into the sandbox may take.
const LOOKS_WITHIN: Duration = Duration::from_secs(10);
/// The most that it says.
const SAID_MAX: u64 = 1 << 10;

/// `$1` is the signal, `$2` the mark, `$3` the session's number once it is known. Says the number and how many processes there were.
const SHELL: &str = r#"
session=$3
if [ -z "$session" ]; then
    for dir in /proc/[0-9]*; do
        { IFS= read -r stat <"$dir/stat"; } 2>/dev/null || continue
        set -- "$1" "$2" ${stat##*") "}
        [ "$4" = 0 ] || continue
        while IFS= read -r line || [ -n "$line" ]; do
            case $line in *"$2"*) session=$6; break 2 ;; esac
        done 2>/dev/null <"$dir/environ"
    done
fi
count=0
for dir in /proc/[0-9]*; do
    [ -n "$session" ] || break
    { IFS= read -r stat <"$dir/stat"; } 2>/dev/null || continue
    set -- "$1" "$2" ${stat##*") "}
    [ "$6" = "$session" ] && [ "$3" != Z ] || continue
    kill -"$1" "${dir##*/}" 2>/dev/null
    count=$((count + 1))
done
echo "${session:-0} $count"
"#;

/// A command that is found from inside.
pub(super) struct Inside {
    lease: LeaseId,
    mark: String,
    /// Its session, once it was found.
    session: Mutex<Option<u32>>,
}

impl Inside {
    /// One with a mark of its own.
    pub(super) fn new(lease: LeaseId) -> Self {
        let mark = format!("{MARK}={}", hex::encode(rand::random::<[u8; 16]>()));
        Self { lease, mark, session: Mutex::default() }
    }

    /// Whose sandbox it is in.
    pub(super) fn lease(&self) -> LeaseId {
        self.lease
    }

    /// The variable that it has to be given.
    pub(super) fn mark(&self) -> String {
        self.mark.clone()
    }

    /// Signals every process of the session; how many there were, or why that is not known.
    pub(super) async fn signal(&self, shared: &Arc<Shared>, signal: Signal) -> Result<u32, String> {
        let known = *self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.map(|session| session.to_string()).unwrap_or_default();
        let words = ["/bin/sh", "-c", SHELL, "sh", &signal.as_raw().to_string(), &self.mark, &known]
            .map(String::from);
        let looked = timeout(LOOKS_WITHIN, self.say(shared, words.into())).await;
        let said = looked.map_err(|_| "no answer in time".to_owned())??;
        let (session, count) =
            read(&said).ok_or_else(|| format!("the image's /bin/sh says: {}", said.escape_debug()))?;
        if session > 0 {
            *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
        }
        Ok(count)
    }

    /// Ends the session: a hangup first, and a kill for what ignores it.
    pub(super) async fn hang_up(&self, shared: &Arc<Shared>) -> Result<(), String> {
        let begin = Instant::now();
        let mut signal = Signal::HUP;
        while self.signal(shared, signal).await? > 0 {
            if begin.elapsed() > HANGUP_GRACE {
                signal = Signal::KILL;
            }
            if begin.elapsed() > KILL_PATIENCE {
                return Err("it does not end".into());
            }
            tokio::time::sleep(SETTLES.1).await;
        }
        Ok(())
    }

    /// Runs a command beside and returns what it says.
    async fn say(&self, shared: &Arc<Shared>, words: Vec<String>) -> Result<String, String> {
        let config = ExecConfig {
            attach_stdout: Some(true),
            tty: Some(true),
            cmd: Some(words),
            ..ExecConfig::default()
        };
        let id = create(shared, self.lease, config).await.map_err(|error| format!("{error:?}"))?;
        let exec = Exec { shared: Arc::clone(shared), id, tty: true, inside: None };
        let stream = exec.start().await.map_err(|error| error.to_string())??;
        let mut said = Vec::new();
        stream.take(SAID_MAX).read_to_end(&mut said).await.map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    }
}

/// The session's number and how many processes it had.
fn read(said: &str) -> Option<(u32, u32)> {
    let (session, count) = said.split_once(' ')?;
    Some((session.parse().ok()?, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_the_shell_says_is_two_numbers_or_nothing() {
        assert_eq!(read("17 3"), Some((17, 3)));
        for said in ["", "17", "17 3 4", "a b", "-1 2", "sh: not found"] {
            assert_eq!(read(said), None, "{said}");
        }
    }

    /// The shell's words to this machine's own processes, without a signal; the mark is nobody's.
    #[test]
    fn every_shell_reads_the_script() {
        for shell in [vec!["sh"], vec!["busybox", "sh"], vec!["bash"]] {
            let mut command = Command::new(shell[0]);
            command.args(&shell[1..]).args(["-c", SHELL, "sh", "0", "TRADEWIND_SESSION=nobodys"]);
            let mut child = command.stdout(Stdio::piped()).spawn().expect("a shell");
            let mut said = String::new();
            child.stdout.take().expect("a pipe").read_to_string(&mut said).expect("text");
            child.wait().expect("its end");
            assert_eq!(read(said.trim()), Some((0, 0)), "{shell:?} says {said}");
        }
    }
}
